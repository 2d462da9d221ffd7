//! Watchers that are registered before the writes, on both servers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::subject::{Answer, Subject};
use crate::http::{Reply, Request};

/// Time limit for the events of the last write; after it one server is silent where the other is
/// not.
const LATE: Duration = Duration::from_secs(3);

/// Without new events for this long a watcher has received everything.
const QUIET: Duration = Duration::from_millis(12);

/// The interval at which progress is checked.
const POLL: Duration = Duration::from_millis(1);

/// A watcher on one server.
#[derive(Debug)]
pub struct Watcher {
    progress: Arc<Mutex<Progress>>,
    task: JoinHandle<()>,
}

/// What a watcher has received.
#[derive(Clone, Debug)]
struct Progress {
    /// Head and body so far, or the reason for their absence.
    answer: Answer,
    /// Whether the body has ended.
    ended: bool,
}

impl Progress {
    /// A value that changes with the state.
    fn mark(&self) -> (bool, usize) {
        let lines = |reply: &Reply| reply.body.iter().filter(|byte| **byte == b'\n').count();
        (self.ended, self.answer.as_ref().map_or(0, lines))
    }
}

impl Watcher {
    /// Starts the watch; returns when the head of the reply has come.
    pub async fn start(subject: &Subject, request: &Request) -> Watcher {
        let client = subject.another_client();
        let opened = client.open(&subject.addressed(request)).await;
        let (answer, open) = match opened {
            Ok(open) => (Ok(open.head.clone()), Some(open)),
            Err(error) => (Err(format!("{error:#}")), None),
        };
        let ended = open.is_none();
        let progress = Arc::new(Mutex::new(Progress { answer, ended }));
        let shared = progress.clone();
        let task = tokio::spawn(async move {
            let Some(mut open) = open else {
                return;
            };
            loop {
                let outcome = open.more().await;
                let mut progress = shared.lock().expect("no holder panics");
                match outcome {
                    Ok(ended) => {
                        progress.answer = Ok(open.head.clone());
                        progress.ended = ended;
                    }
                    Err(error) => {
                        progress.answer = Err(format!("{error:#} after {}", open.head));
                        progress.ended = true;
                    }
                }
                if progress.ended {
                    return;
                }
            }
        });
        Watcher { progress, task }
    }

    fn mark(&self) -> (bool, usize) {
        self.progress.lock().expect("no holder panics").mark()
    }

    /// What it has received, and whether the body has ended. Ends the watch.
    pub fn finish(self, subject: &Subject) -> (Answer, bool) {
        self.task.abort();
        let progress = self.progress.lock().expect("no holder panics").clone();
        (
            progress.answer.map(|reply| subject.masked(reply)),
            progress.ended,
        )
    }
}

/// Waits until both servers' watchers have received equally much, and nothing more comes.
pub async fn settle(ours: &[Watcher], theirs: &[Watcher]) {
    let begin = Instant::now();
    let marks = |watchers: &[Watcher]| watchers.iter().map(Watcher::mark).collect::<Vec<_>>();
    let mut last = (marks(ours), marks(theirs));
    let mut changed = Instant::now();
    while begin.elapsed() < LATE {
        let now = (marks(ours), marks(theirs));
        let all_ended = now.0.iter().chain(&now.1).all(|(ended, _)| *ended);
        let quiet = all_ended || QUIET < changed.elapsed();
        if now.0 == now.1 && quiet {
            return;
        }
        if now != last {
            last = now;
            changed = Instant::now();
        }
        tokio::time::sleep(POLL).await;
    }
}
