//! The work on v2 keys beside that on v3 keys, which go on meanwhile: one piece at a time.

use std::pin::Pin;

use super::settle::SettledTree;
use super::{TreeFollowError, TreeFollower};

/// What came of the comparison before a cut-over.
type Settled = Result<Option<SettledTree>, TreeFollowError>;
/// A piece of work, which returns the follower.
type Work<'a> = Pin<Box<dyn Future<Output = (TreeFollower<'a>, Option<Settled>)> + Send + 'a>>;

/// A follower of v2 keys, at rest or at work.
pub(in crate::commands::follow) struct TreeTask<'a> {
    at_rest: Option<TreeFollower<'a>>,
    work: Option<Work<'a>>,
    /// Whether the next piece is that of a poll.
    is_poll_due: bool,
    /// Whether the next piece is the comparison before a cut-over.
    is_settling_due: bool,
}

impl<'a> TreeTask<'a> {
    pub(in crate::commands::follow) fn new(follower: TreeFollower<'a>) -> TreeTask<'a> {
        TreeTask {
            at_rest: Some(follower),
            work: None,
            is_poll_due: false,
            is_settling_due: false,
        }
    }

    /// Requests a poll, behind what is under way.
    pub(in crate::commands::follow) fn poll(&mut self) {
        self.is_poll_due = true;
    }

    /// Requests the comparison before a cut-over, behind what is under way; or withdraws that.
    pub(in crate::commands::follow) fn settle_next(&mut self, is_due: bool) {
        self.is_settling_due = is_due;
    }

    /// The follower, unless it is at work. It begins none by itself.
    pub(in crate::commands::follow) fn at_rest(&mut self) -> Option<&mut TreeFollower<'a>> {
        self.at_rest.as_mut()
    }

    /// Waits for work, and does one piece. Returns what came of the comparison before a cut-over,
    /// if it was that. Nothing is lost if the future is dropped.
    pub(in crate::commands::follow) async fn run(&mut self) -> Option<Settled> {
        let is_due = self.is_poll_due || self.is_settling_due;
        if let Some(follower) = self.at_rest.as_mut().filter(|_| !is_due) {
            follower.woken().await;
        }
        if let Some(follower) = self.at_rest.take() {
            self.work = Some(self.next(follower));
        }
        match &mut self.work {
            Some(work) => {
                let (follower, settled) = work.as_mut().await;
                (self.at_rest, self.work) = (Some(follower), None);
                settled
            }
            None => std::future::pending().await,
        }
    }

    fn next(&mut self, mut follower: TreeFollower<'a>) -> Work<'a> {
        if std::mem::take(&mut self.is_settling_due) {
            return Box::pin(async move {
                let settled = follower.settle(false).await;
                (follower, Some(settled))
            });
        }
        let is_poll = std::mem::take(&mut self.is_poll_due);
        Box::pin(async move {
            follower.step(is_poll).await;
            (follower, None)
        })
    }
}
