//! Fair admission. A bounded number of requests is in work at a time, and of each account fewer.
//! The others wait in a queue of their account, and the accounts take turns: one that sends without
//! a pause delays another by a turn, and not by its queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Error;

/// How long a request waits for its turn before it is refused: etcd's timeout of a request.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The cause of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Account {
    /// A user with a valid token.
    User(String),
    /// A client without one; `None` outside of a port, as in tests.
    Connection(Option<SocketAddr>),
}

/// The bounds of an admission, in requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnLimits {
    /// In work at a time.
    pub(crate) in_work: usize,
    /// Of these, of one account.
    pub(crate) of_one: usize,
    /// That wait. Those of one account are at most half as many as it leaves free.
    pub(crate) waiting: usize,
}

/// An admission.
#[derive(Debug)]
pub(crate) struct Turns {
    limits: TurnLimits,
    accounts: Mutex<TurnState>,
}

#[derive(Debug, Default)]
struct TurnState {
    in_work: usize,
    waiting: usize,
    /// The number of the next request that waits.
    next: u64,
    /// Those with requests.
    queues: HashMap<Account, AccountQueue>,
    /// Those with a request that waits and that may have one more in work, each once.
    turns: VecDeque<Account>,
}

#[derive(Debug, Default)]
struct AccountQueue {
    in_work: usize,
    /// In the order of their arrival.
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    has_turn: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It is begun.
    Begun(Turn),
    /// It waits.
    Waits(WaitingTurn),
    /// Too many wait.
    Refused,
}

/// The place of a request in work; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    account: Account,
}

/// A request that waits; it leaves the queue when it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingTurn {
    /// The account and the request's number in its queue; `None` once it is begun.
    place: Option<(Account, u64)>,
    turns: Arc<Turns>,
    begins: oneshot::Receiver<()>,
}

impl Turns {
    pub(crate) fn new(limits: TurnLimits) -> Arc<Turns> {
        Arc::new(Turns {
            limits,
            accounts: Mutex::default(),
        })
    }

    /// Begins a request, or puts it in its account's queue.
    pub(crate) fn enter(self: &Arc<Turns>, account: Account) -> Entry {
        let mut accounts = self.accounts.lock();
        let TurnState {
            in_work,
            waiting,
            next,
            queues,
            turns,
        } = &mut *accounts;
        let queue = queues.entry(account.clone()).or_default();
        let has_room = queue.in_work < self.limits.of_one;
        if has_room && *in_work < self.limits.in_work {
            *in_work += 1;
            queue.in_work += 1;
            let turns = Arc::clone(self);
            return Entry::Begun(Turn { turns, account });
        }
        let free = self.limits.waiting.saturating_sub(*waiting);
        if free <= 2 * queue.waiting.len() {
            accounts.forget_idle(&account);
            return Entry::Refused;
        }
        let (begin, begins) = oneshot::channel();
        let number = *next;
        *next += 1;
        *waiting += 1;
        queue.waiting.insert(number, begin);
        if has_room && !std::mem::replace(&mut queue.has_turn, true) {
            turns.push_back(account.clone());
        }
        Entry::Waits(WaitingTurn {
            place: Some((account, number)),
            turns: Arc::clone(self),
            begins,
        })
    }

    /// [`Turns::enter`], with the wait.
    ///
    /// # Errors
    /// `TooManyRequests`, at once or after the longest wait.
    pub(crate) async fn turn(self: &Arc<Turns>, account: Account) -> Result<Turn, Error> {
        match self.enter(account) {
            Entry::Begun(turn) => Ok(turn),
            Entry::Waits(waiting) => waiting.turn().await,
            Entry::Refused => Err(Error::TooManyRequests),
        }
    }

    /// The number of requests in work.
    #[cfg(test)]
    pub(crate) fn in_work(&self) -> usize {
        self.accounts.lock().in_work
    }

    /// The number of requests that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.accounts.lock().waiting
    }

    /// A request in work has ended: another one is begun.
    fn end(&self, account: &Account) {
        let mut accounts = self.accounts.lock();
        accounts.in_work -= 1;
        if let Some(queue) = accounts.queues.get_mut(account) {
            queue.in_work -= 1;
            if !queue.waiting.is_empty() && !std::mem::replace(&mut queue.has_turn, true) {
                accounts.turns.push_back(account.clone());
            }
        }
        accounts.forget_idle(account);
        accounts.begin(self.limits);
    }
}

impl TurnState {
    /// Begins requests that wait, one of each account in turn.
    fn begin(&mut self, limits: TurnLimits) {
        while self.in_work < limits.in_work
            && let Some(account) = self.turns.pop_front()
        {
            let Some(queue) = self.queues.get_mut(&account) else {
                continue;
            };
            queue.has_turn = false;
            // Its receiver is alive: one that is dropped has left the queue before.
            if let Some((_, begin)) = queue.waiting.pop_first() {
                let _ = begin.send(());
                self.waiting -= 1;
                self.in_work += 1;
                queue.in_work += 1;
            }
            if !queue.waiting.is_empty() && queue.in_work < limits.of_one {
                queue.has_turn = true;
                self.turns.push_back(account);
            } else {
                self.forget_idle(&account);
            }
        }
    }

    /// Forgets an account without requests. One that has a turn is forgotten at its turn.
    fn forget_idle(&mut self, account: &Account) {
        let is_idle = |queue: &AccountQueue| {
            queue.in_work == 0 && queue.waiting.is_empty() && !queue.has_turn
        };
        if self.queues.get(account).is_some_and(is_idle) {
            self.queues.remove(account);
        }
    }
}

impl WaitingTurn {
    /// Waits for the request's turn.
    ///
    /// # Errors
    /// `TooManyRequests` after the longest wait.
    pub(crate) async fn turn(mut self) -> Result<Turn, Error> {
        match timeout(WAIT_MAX, &mut self.begins).await {
            Ok(Ok(())) => {}
            _ => return Err(Error::TooManyRequests),
        }
        let (account, _) = self.place.take().ok_or(Error::Stopped)?;
        let turns = Arc::clone(&self.turns);
        Ok(Turn { turns, account })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.end(&self.account);
    }
}

impl Drop for WaitingTurn {
    fn drop(&mut self) {
        let Some((account, number)) = self.place.take() else {
            return;
        };
        let mut accounts = self.turns.accounts.lock();
        let queue = accounts.queues.get_mut(&account);
        let left = queue.and_then(|queue| queue.waiting.remove(&number));
        match left {
            Some(_) => {
                accounts.waiting -= 1;
                accounts.forget_idle(&account);
            }
            // It was begun a moment before.
            None => {
                drop(accounts);
                self.turns.end(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const LIMITS: TurnLimits = TurnLimits {
        in_work: 4,
        of_one: 3,
        waiting: 30,
    };

    fn user(name: &str) -> Account {
        Account::User(name.to_owned())
    }

    /// Enters as many as are not refused, up to a hundred.
    fn flood(turns: &Arc<Turns>, name: &str) -> (Vec<Turn>, VecDeque<WaitingTurn>) {
        let (mut begun, mut waiting) = (Vec::new(), VecDeque::new());
        for _ in 0..100 {
            match turns.enter(user(name)) {
                Entry::Begun(turn) => begun.push(turn),
                Entry::Waits(one) => waiting.push_back(one),
                Entry::Refused => break,
            }
        }
        (begun, waiting)
    }

    fn begun(turns: &Arc<Turns>, name: &str) -> Turn {
        match turns.enter(user(name)) {
            Entry::Begun(turn) => turn,
            other => panic!("{other:?}"),
        }
    }

    fn waits(turns: &Arc<Turns>, name: &str) -> WaitingTurn {
        match turns.enter(user(name)) {
            Entry::Waits(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flood_of_one_account_leaves_room_for_others() {
        let turns = Turns::new(LIMITS);
        let (in_work, waiting) = flood(&turns, "a");
        assert_eq!((in_work.len(), waiting.len()), (3, 10), "a third may wait");
        let other = begun(&turns, "b");
        // The account's own requests do not take the place of another's.
        drop(other);
        let other = begun(&turns, "b");
        drop((in_work, waiting, other));
        let accounts = turns.accounts.lock();
        assert_eq!((accounts.in_work, accounts.waiting), (0, 0));
        assert!(accounts.queues.is_empty());
    }

    #[tokio::test]
    async fn accounts_take_turns_whatever_the_lengths_of_their_queues() {
        let turns = Turns::new(LIMITS);
        let (mut in_work, mut waiting) = flood(&turns, "a");
        let other = begun(&turns, "b");
        let (second, third) = (waits(&turns, "b"), waits(&turns, "c"));
        let mut second = Box::pin(second.turn());
        let mut third = Box::pin(third.turn());
        drop(in_work.pop());
        let second = second.as_mut().now_or_never().expect("the first to wait");
        assert!(third.as_mut().now_or_never().is_none());
        drop(other);
        let _third = third.as_mut().now_or_never().expect("its turn");
        let first = waiting.pop_front().expect("ten wait");
        let mut first = Box::pin(first.turn());
        assert!(first.as_mut().now_or_never().is_none());
        drop(second);
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn requests_that_are_given_up_keep_no_place() {
        let turns = Turns::new(LIMITS);
        let (mut in_work, waiting) = flood(&turns, "a");
        drop(waiting);
        assert_eq!(turns.accounts.lock().waiting, 0);
        let (given_up, next) = (waits(&turns, "a"), waits(&turns, "a"));
        drop(in_work.pop());
        // It was begun, but not polled since.
        drop(given_up);
        let next = Box::pin(next.turn()).as_mut().now_or_never();
        assert!(next.expect("it is its turn").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_a_bounded_time() {
        let turns = Turns::new(LIMITS);
        let _in_work = flood(&turns, "a").0;
        let refused = turns.turn(user("a")).await.map(drop);
        assert_eq!(refused, Err(Error::TooManyRequests));
        assert_eq!(turns.accounts.lock().waiting, 0);
    }
}
