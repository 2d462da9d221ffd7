//! The verdict, from made-up rounds.

use super::*;

fn measure(rates: &[f64], cpu_micros: &[f64]) -> Measure {
    Measure {
        rates: rates.to_vec(),
        cpu_micros: cpu_micros.to_vec(),
        requests: 1000,
        ..Measure::default()
    }
}

/// Against 100 requests a second of 10 us each.
fn change(rates: &[f64], cpu_micros: &[f64]) -> Change {
    let count = rates.len();
    let old = measure(&vec![100.0; count], &vec![10.0; count]);
    let new = measure(rates, cpu_micros);
    Change::new("put".into(), Some(&new), Some(&old), count).expect("all rounds")
}

fn outcome(changes: Vec<Change>) -> Result<()> {
    Verdict::of(changes, 0.03)?.outcome()
}

const EVEN: [f64; 8] = [10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9];

#[test]
fn noise_beyond_the_tolerance_is_no_slowdown() {
    let rates = [90.0, 110.0, 92.0, 112.0, 93.0, 111.0, 95.0, 96.0];
    let noisy = vec![change(&rates, &EVEN)];
    assert!(outcome(noisy.clone()).is_ok());
    let text = Verdict::of(noisy, 0.03).expect("a verdict").markdown();
    assert!(text.contains("The noise of all cells together"), "{text}");
}

#[test]
fn a_small_slowdown_in_every_round_counts() {
    let slower = EVEN.map(|micros| micros * 1.05);
    let verdict = Verdict::of(vec![change(&[100.0; 8], &slower)], 0.03).expect("a verdict");
    let error = verdict.outcome().expect_err("5 % more CPU").to_string();
    assert!(error.contains("put: CPU"), "{error}");
    let text = verdict.markdown();
    assert!(text.contains("**1.050** (1.03-1.07) | CPU |"), "{text}");
    assert!(!text.contains("The noise of all cells"), "{text}");
}

#[test]
fn one_cell_that_is_worse_counts_among_many_and_is_named() {
    let mut all = vec![change(&[100.0; 8], &EVEN); 9];
    assert!(outcome(all.clone()).is_ok());
    let mut worse = change(&[95.0; 8], &EVEN);
    worse.what = "range".into();
    all.push(worse);
    let error = outcome(all).expect_err("5 % fewer requests").to_string();
    assert_eq!(error, "worse than the earlier build: range: rate");
}

#[test]
fn a_cell_that_was_not_measured_in_every_round_is_an_error() {
    let whole = measure(&[100.0; 8], &EVEN);
    let gap = measure(&[0.0; 8], &EVEN);
    let short = measure(&[100.0; 7], &EVEN[..7]);
    for new in [None, Some(&gap), Some(&short)] {
        let error = Change::new("put".into(), new, Some(&whole), 8).expect_err("a gap");
        assert!(error.to_string().starts_with("put: "), "{error}");
    }
    assert!(outcome(vec![]).is_err());
}

#[test]
fn few_or_odd_rounds_have_no_verdict() {
    for rounds in [1, 4, 7, 9] {
        assert!(check_rounds(rounds).is_err(), "{rounds}");
    }
    assert!(outcome(vec![change(&[100.0; 4], &EVEN[..4])]).is_err());
}

#[test]
fn a_build_that_fails_more_is_worse_however_fast() {
    let old = measure(&[100.0; 8], &EVEN);
    let mut new = old.clone();
    new.tally.errors = 10;
    let change = Change::new("put".into(), Some(&new), Some(&old), 8).expect("all rounds");
    let error = outcome(vec![change]).expect_err("errors").to_string();
    assert!(error.contains("put: errors"), "{error}");
}
