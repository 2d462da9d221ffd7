//! What changed since an earlier build of ours.
//!
//! Both builds take turns in every round, on the same machine and within the same minute. Each figure is
//! compared within its round, and the median of the rounds' ratios is what counts: a slow minute is
//! then slow for both.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::measure::Measure;
use crate::table::Table;

/// One cell of this build over the same one of the earlier build.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What was measured.
    what: String,
    /// Requests a second.
    rate: Spread,
    /// Server CPU a request.
    cpu: Spread,
}

/// Ratios of all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Nothing without a round that both have measured.
    fn of(new: &[f64], old: &[f64]) -> Option<Spread> {
        let both = new.iter().zip(old);
        let mut ratios: Vec<f64> = both
            .map(|(new, old)| new / old)
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.len() / 2;
        let median = match ratios.len() % 2 {
            0 => f64::midpoint(*ratios.get(middle.checked_sub(1)?)?, ratios[middle]),
            _ => ratios[middle],
        };
        Some(Spread {
            least: *ratios.first()?,
            median,
            most: *ratios.last()?,
        })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread {
            least,
            median,
            most,
        } = self;
        write!(f, "**{median:.3}** ({least:.2}-{most:.2})")
    }
}

impl Change {
    /// Compares a cell; nothing if it was not measured for both.
    pub fn new(what: String, new: &Measure, old: &Measure) -> Option<Change> {
        Some(Change {
            what,
            rate: Spread::of(&new.rates, &old.rates)?,
            cpu: Spread::of(&new.cpu_micros, &old.cpu_micros)?,
        })
    }

    /// Slower, or dearer, by more than `tolerance` of 1.
    fn is_worse(&self, tolerance: f64) -> bool {
        1.0 + tolerance < self.cpu.median || self.rate.median < 1.0 - tolerance
    }
}

/// The table.
pub fn markdown(changes: &[Change], tolerance: f64) -> String {
    let columns = [
        "this build / the earlier one",
        "req/s",
        "server CPU/req",
        "worse",
    ];
    let mut table = Table::new(1, &columns);
    for change in changes {
        let worse = match change.is_worse(tolerance) {
            true => "yes",
            false => "",
        };
        let figures = [change.rate, change.cpu].map(|spread| spread.to_string());
        table.row(&[&change.what], figures.into_iter().chain([worse.into()]));
    }
    let mut text = table.finish();
    let cpu = geometric_mean(changes.iter().map(|change| change.cpu.median));
    let rate = geometric_mean(changes.iter().map(|change| change.rate.median));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nMedians of the rounds (least-most). All cells: req/s {rate:.3}, server CPU/req {cpu:.3}."
    );
    text
}

/// The verdict.
///
/// # Errors
/// All cells together are slower or dearer than `tolerance` allows, or one is by more than three times
/// that: a single cell's noise is larger than the tolerance.
pub fn judge(changes: &[Change], tolerance: f64) -> Result<()> {
    let cpu = geometric_mean(changes.iter().map(|change| change.cpu.median));
    let rate = geometric_mean(changes.iter().map(|change| change.rate.median));
    if changes.is_empty() || 1.0 + tolerance < cpu || rate < 1.0 - tolerance {
        bail!("slower than the earlier build: req/s {rate:.3}, server CPU/req {cpu:.3} of its");
    }
    let mut worse = changes
        .iter()
        .filter(|change| change.is_worse(3.0 * tolerance));
    match worse.next() {
        Some(change) => bail!("slower than the earlier build: {}", change.what),
        None => Ok(()),
    }
}

fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for ratio in ratios {
        sum += ratio.ln();
        count += 1.0;
    }
    (sum / f64::max(count, 1.0)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(rates: &[f64], cpu_micros: &[f64]) -> Measure {
        Measure {
            rates: rates.to_vec(),
            cpu_micros: cpu_micros.to_vec(),
            ..Measure::default()
        }
    }

    fn change(rates: &[f64], cpu_micros: &[f64]) -> Change {
        let count = rates.len();
        let old = measure(&vec![100.0; count], &vec![10.0; count]);
        Change::new("put".into(), &measure(rates, cpu_micros), &old).expect("rounds")
    }

    #[test]
    fn one_slow_round_of_three_does_not_count() {
        let noisy = change(&[100.0, 50.0, 101.0], &[10.0, 30.0, 10.1]);
        assert!(judge(&[noisy], 0.03).is_ok());
        let slower = change(&[100.0, 100.0, 100.0], &[10.5, 10.4, 10.6]);
        assert!(judge(std::slice::from_ref(&slower), 0.03).is_err());
        assert!(markdown(&[slower], 0.03).contains("**1.050** (1.04-1.06) | yes |"));
    }

    #[test]
    fn one_cell_that_is_much_worse_counts_among_many() {
        let same = change(&[100.0], &[10.0]);
        let worse = change(&[100.0], &[11.0]);
        let mut all = vec![same; 9];
        assert!(judge(&all, 0.03).is_ok());
        all.push(worse);
        assert!(judge(&all, 0.03).is_err());
        assert!(judge(&[], 0.03).is_err());
    }
}
