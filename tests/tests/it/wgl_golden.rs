//! The search compared with known verdicts: 102 histories that Jepsen recorded of etcd, with
//! porcupine's results.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use keelson_tests::check::wgl::{After, Before, Register, Step, Verdict, check};

const BUDGET: u64 = 50_000_000;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/jepsen-etcd-histories")
}

/// One line: `INFO jepsen.util - <process> :<what> :<operation> <value>`.
fn parse(log: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (at, line) in log.lines().enumerate() {
        let at = at as u64;
        let mut words = line.split_whitespace().skip(3);
        let mut word = || words.next().unwrap_or_default();
        let (process, what, operation) = (word(), word(), word());
        let value: Vec<Register> = words.filter(|w| !w.starts_with(':')).map(number).collect();
        if what == ":invoke" {
            open.insert(process, steps.len());
            steps.push(invoked(at, operation, &value));
        } else if let Some(number) = open.remove(process) {
            finish(&mut steps[number], at, what, operation, &value);
        }
    }
    // A read that never returned has no information.
    steps.retain(|step| step.returned.is_some() || step.after != After::Keep);
    steps
}

fn number(word: &str) -> Register {
    let digits = word.trim_matches(['[', ']']);
    (digits != "nil").then(|| digits.parse().expect("a number or nil"))
}

fn invoked(call: u64, operation: &str, value: &[Register]) -> Step {
    let after = match operation {
        ":read" => After::Keep,
        ":write" => After::Become(value[0]),
        ":cas" => After::Swap {
            from: value[0],
            to: value[1],
        },
        other => panic!("unknown operation {other}"),
    };
    Step {
        call,
        returned: None,
        before: Before::Any,
        after,
    }
}

fn finish(step: &mut Step, at: u64, what: &str, operation: &str, value: &[Register]) {
    let (before, after) = match (operation, what, step.after) {
        (":read", ":ok", after) => (Before::Is(value[0]), after),
        (":write", ":ok", after) => (Before::Any, after),
        (":cas", ":ok", After::Swap { from, to }) => (Before::Is(from), After::Become(to)),
        (":cas", ":fail", After::Swap { from, .. }) => (Before::Not(from), After::Keep),
        // Timed out: the outcome is unknown.
        _ => return,
    };
    *step = Step {
        returned: Some(at),
        before,
        after,
        ..*step
    };
}

#[test]
fn every_verdict_agrees_with_porcupines() {
    let verdicts = std::fs::read_to_string(data().join("verdicts.tsv")).unwrap();
    let (mut histories, mut operations, mut linearizable) = (0, 0, 0);
    for line in verdicts.lines() {
        let (file, expected) = line.split_once('\t').unwrap();
        let steps = parse(&std::fs::read_to_string(data().join(file)).unwrap());
        let found = match check(&steps, BUDGET) {
            Verdict::Linearizable => "linearizable",
            Verdict::NotLinearizable => "not-linearizable",
            Verdict::GaveUp => "gave up",
        };
        assert_eq!(found, expected, "{file}");
        histories += 1;
        operations += steps.len();
        linearizable += usize::from(found == "linearizable");
    }
    println!("{histories} histories, {operations} operations, {linearizable} linearizable");
    assert_eq!((histories, linearizable), (102, 23));
}
