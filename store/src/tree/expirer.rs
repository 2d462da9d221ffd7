//! Carries out the effects of the core's expirer, which decides what is proposed and when.

use std::pin::Pin;
use std::time::Duration;

use keelson_core::Millis;
use keelson_core::member::{Expirer, ExpirerEffects, ExpirerEvent};
use keelson_proto::internal::command::Op;
use tokio::time::Instant;

use super::requests::now_ns;
use crate::Store;

/// A pending answer to a request of the expirer.
type PendingEvent<'a> = Pin<Box<dyn Future<Output = ExpirerEvent> + Send + 'a>>;

/// Proposes expiries while this member is the leader, until it stops.
pub(crate) async fn run(store: Store, grace: Duration) {
    let began = Instant::now();
    let mut soft_state = store.inner.shared.watch_soft_state();
    let mut expirer = Expirer::new(millis(grace), millis(store.request_timeout()));
    let mut answer = nothing();
    let mut event = ExpirerEvent::Woken;
    while !store.is_stopping() {
        let now = millis(began.elapsed());
        let soft_state_now = *soft_state.borrow_and_update();
        let view = store.view();
        let effects = expirer.handle(Millis(now), now_ns(), soft_state_now, &view, event);
        drop(view);
        let wait = Duration::from_millis(effects.wake_at.0.saturating_sub(now));
        if let Some(started) = start_request(&store, effects) {
            answer = started;
        }
        event = tokio::select! {
            changed = soft_state.changed() => match changed {
                Ok(()) => ExpirerEvent::Woken,
                // The member has stopped.
                Err(_) => return,
            },
            answered = &mut answer => {
                answer = nothing();
                answered
            }
            () = tokio::time::sleep(wait) => ExpirerEvent::Woken,
        };
    }
}

/// Starts the request of the effects, if there is one.
fn start_request(store: &Store, effects: ExpirerEffects) -> Option<PendingEvent<'_>> {
    let number = effects.number;
    if let Some(request) = effects.propose {
        return Some(Box::pin(async move {
            match store.propose(Op::TreeExpire(request)).await {
                Ok(_) => ExpirerEvent::Done(number),
                Err(error) => {
                    tracing::debug!(%error, "could not expire overdue keys yet");
                    ExpirerEvent::Failed(number)
                }
            }
        }));
    }
    effects.read_index.then(|| -> PendingEvent<'_> {
        Box::pin(async move {
            match store.read_index().await {
                Ok(()) => ExpirerEvent::Done(number),
                Err(_) => ExpirerEvent::Failed(number),
            }
        })
    })
}

fn nothing() -> PendingEvent<'static> {
    Box::pin(std::future::pending())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
