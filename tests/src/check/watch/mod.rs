//! What watchers must be sent: the nine checks of etcd's `tests/robustness/validate/watch.go`.
//!
//! [`EventLog`] has the events of every committed revision, as the model of KV makes them;
//! [`CheckedWatch`] compares what one watcher is sent with it, message by message. The simulator
//! checks while it runs, so an event of a revision that is not committed yet is detected; the tests
//! with real processes check what they have recorded.
//!
//! | check | what does not hold if it fails |
//! |---|---|
//! | filter | only events in the range, and of the kinds, of the watch are sent |
//! | ordered | revisions never decrease |
//! | unique | no event is sent twice |
//! | atomic | all events of a revision are in one response, or in its fragments |
//! | reliable | no event between two others is missing |
//! | resumable | a watch begins with the first event at its start revision or later |
//! | bookmarkable | a progress response at R is sent after all events up to R |
//! | previous pair | it is the pair of the revision before |
//! | event | create revision, version, lease and value are those of the commit |

mod checked;
mod event_log;
#[cfg(test)]
mod tests;

pub use checked::CheckedWatch;
pub use event_log::EventLog;
