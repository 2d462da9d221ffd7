//! Carries out the effects of the core's lessor, which decides what is answered, proposed and sent.

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use keelson_core::Millis;
use keelson_core::member::{Lessor, LessorEffects, LessorEvent};
use keelson_proto::internal::command::Op;
use tokio::time::Instant;

use crate::Store;

/// A pending answer to a read or a proposal of the lessor.
type LessorOutcome<'a> = Pin<Box<dyn Future<Output = LessorEvent> + Send + 'a>>;

/// Keeps the times of leases while this member leads, and forwards requests while it does not,
/// until it stops.
pub(crate) async fn run(store: Store) {
    let began = Instant::now();
    let inbox = &store.inner.lessor;
    let mut soft_state = store.inner.shared.watch_soft_state();
    let extension = 2 * store.config().election_ms;
    let mut lessor = Lessor::new(
        inbox.incarnation,
        extension,
        millis(store.request_timeout()),
    );
    let mut pending: FuturesUnordered<LessorOutcome<'_>> = FuturesUnordered::new();
    let mut ended = LessorEvent::Woken;
    while !store.is_stopping() {
        let mut events = inbox.take();
        // After the changes: an expiry that is done has its leases among them.
        events.push(ended);
        let now = millis(began.elapsed());
        // Read after the event: a read that is done confirms the leadership of now.
        let state = *soft_state.borrow_and_update();
        let view = store.view();
        let effects = lessor.handle(Millis(now), state, &view, events);
        drop(view);
        let wait = Duration::from_millis(effects.wake_at.0.saturating_sub(now));
        carry_out(&store, effects, &pending);
        ended = tokio::select! {
            changed = soft_state.changed() => match changed {
                Ok(()) => LessorEvent::Woken,
                // The member has stopped.
                Err(_) => return,
            },
            Some(event) = pending.next() => event,
            () = inbox.filled() => LessorEvent::Woken,
            () = tokio::time::sleep(wait) => LessorEvent::Woken,
        };
    }
}

fn carry_out<'a>(
    store: &'a Store,
    effects: LessorEffects,
    pending: &FuturesUnordered<LessorOutcome<'a>>,
) {
    for (to, message) in effects.send {
        // The lessor sends a lost request again.
        let _ = store.inner.links.send(to, message);
    }
    store.inner.lessor.answer(effects.answers);
    if let Some(number) = effects.read {
        pending.push(Box::pin(async move {
            match store.read_index().await {
                Ok(()) => LessorEvent::Done(number),
                Err(_) => LessorEvent::Failed(number),
            }
        }));
    }
    for (number, op) in effects.propose {
        pending.push(Box::pin(async move {
            let expiring = match &op {
                Op::LeaseExpire(expire) => expire.leases.len() as u64,
                _ => 0,
            };
            match store.propose(op).await {
                Ok(_) => {
                    store.inner.metrics.leases_expired.add(expiring);
                    LessorEvent::Done(number)
                }
                Err(error) => {
                    tracing::debug!(%error, "a proposal about leases failed");
                    LessorEvent::Failed(number)
                }
            }
        }));
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
