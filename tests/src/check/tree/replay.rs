//! Checks that every change has the model's answer for its place in the log, and that this place is
//! after everything that was known before the call.

use std::collections::BTreeMap;
use std::sync::Arc;

use keelson_core::tree::{Event, TreeError};

use super::{TreeAnswer, TreeCall, TreeHistory, TreeOperation, complain};
use crate::history::Outcome;

/// The model's answers to the committed requests, by operation.
pub type Agreed = BTreeMap<usize, Result<Arc<Event>, TreeError>>;

/// Checks all changes, and the order of everything but local reads, which may see older state. The
/// contents of reads must have been compared with the model already.
///
/// # Errors
/// An answer that is not possible.
pub fn check(history: &TreeHistory, agreed: &Agreed) -> Result<(), String> {
    for (number, operation) in history.operations.iter().enumerate() {
        change(operation, agreed.get(&number))
            .map_err(|problem| complain(operation, number, &problem))?;
    }
    real_time(history, agreed)
}

fn change(
    operation: &TreeOperation,
    agreed: Option<&Result<Arc<Event>, TreeError>>,
) -> Result<(), String> {
    match (&operation.outcome, agreed) {
        (Outcome::Ok(TreeAnswer::Changed(answer)), Some(expected)) if answer == expected => Ok(()),
        (Outcome::Ok(TreeAnswer::Changed(answer)), Some(expected)) => Err(format!(
            "was answered\n  {answer:?}\ninstead of\n  {expected:?}"
        )),
        (Outcome::Ok(TreeAnswer::Changed(answer)), None) => {
            Err(format!("was answered {answer:?} and is not in the log"))
        }
        (Outcome::Refused(why), Some(done)) => Err(format!(
            "was refused ({why}), and yet is in the log: {done:?}"
        )),
        _ => Ok(()),
    }
}

/// Checks real-time order: an operation that began after another had returned comes after it.
fn real_time(history: &TreeHistory, agreed: &Agreed) -> Result<(), String> {
    let operations = &history.operations;
    let answers = operations.iter().filter_map(|operation| operation.answer());
    let mut returns: Vec<(u64, u64)> = answers
        .map(|(answer, returned)| (returned.number, answer.index()))
        .collect();
    returns.sort_unstable();
    let mut returned = returns.into_iter().peekable();
    let mut highest = 0;
    // Operations are recorded in the order of their calls.
    for (number, operation) in operations.iter().enumerate() {
        while let Some((_, index)) = returned.next_if(|(at, _)| *at < operation.call.number) {
            highest = highest.max(index);
        }
        if matches!(operation.request, TreeCall::Get { quorum: false, .. }) {
            continue;
        }
        let (index, writes) = match (operation.answer(), agreed.get(&number)) {
            (Some((answer, _)), _) => {
                (answer.index(), matches!(answer, TreeAnswer::Changed(Ok(_))))
            }
            (None, Some(Ok(event))) => (event.index, true),
            (None, Some(Err(error))) => (error.index, false),
            (None, None) => continue,
        };
        if index < highest || (writes && index == highest) {
            let problem = format!("is at index {index}, but {highest} was known before its call");
            return Err(complain(operation, number, &problem));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Moment;
    use crate::model::Tree;
    use keelson_proto::internal::TreeRequest;

    #[derive(Default)]
    struct Run {
        history: TreeHistory,
        tree: Tree,
        agreed: Agreed,
    }

    impl Run {
        fn set(&mut self, value: &'static str) -> usize {
            let request = TreeRequest {
                path: "/1/a".into(),
                value: value.into(),
                ..TreeRequest::default()
            };
            let number = self
                .history
                .call(0, 1, TreeCall::Change(request.clone()), 0);
            self.agreed.insert(number, self.tree.apply(&request));
            number
        }

        fn answer(&mut self, number: usize) {
            let outcome = Outcome::Ok(TreeAnswer::Changed(self.agreed[&number].clone()));
            self.history.finish(number, outcome, 0);
        }

        fn get(&mut self, index: u64, quorum: bool) {
            let request = TreeCall::Get {
                path: "/1/a".into(),
                recursive: false,
                quorum,
            };
            let number = self.history.call(0, 1, request, 0);
            let node = self.tree.get(b"/1/a", false, index, 0);
            let answer = TreeAnswer::Got(node.map(|node| (node, index)));
            self.history.finish(number, Outcome::Ok(answer), 0);
        }

        fn check(&self) -> Result<(), String> {
            check(&self.history, &self.agreed)
        }
    }

    #[test]
    fn only_a_local_read_may_look_back() {
        for (quorum, right) in [(false, true), (true, false)] {
            let mut run = Run::default();
            for value in ["1", "2"] {
                let number = run.set(value);
                run.answer(number);
            }
            run.get(1, quorum);
            assert_eq!(run.check().is_ok(), right, "{:?}", run.check());
        }
    }

    #[test]
    fn an_answer_that_the_log_does_not_explain_is_found() {
        let mut run = Run::default();
        let number = run.set("1");
        run.answer(number);
        let real = run.agreed.remove(&number);
        assert!(run.check().unwrap_err().contains("not in the log"));
        run.set("2");
        run.agreed = [(number, run.agreed[&1].clone())].into();
        assert!(run.check().unwrap_err().contains("instead of"));
        run.agreed = [(number, real.expect("it was there"))].into();
        assert_eq!(run.check(), Ok(()));
    }

    #[test]
    fn a_change_that_was_refused_and_done_is_found() {
        let mut run = Run::default();
        let number = run.set("1");
        let refused = Outcome::Refused("no leader".to_owned());
        run.history.finish(number, refused, 0);
        assert!(run.check().unwrap_err().contains("in the log"));
    }

    #[test]
    fn a_change_of_unknown_outcome_cannot_take_effect_before_its_call() {
        let mut run = Run::default();
        let early = run.set("1");
        let late = run.set("2");
        run.answer(late);
        let call = Moment {
            number: 100,
            at_ms: 0,
        };
        run.history.operations[early].call = call;
        run.history.operations.reverse();
        run.agreed = run
            .agreed
            .into_iter()
            .map(|(number, done)| (1 - number, done))
            .collect();
        assert!(run.check().unwrap_err().contains("known before its call"));
    }
}
