//! The clients as users: their tokens, the check before a proposal, the log's name of them, and
//! the check of every answer by the rights that were in force between call and answer.
//!
//! Half of the clients have tokens, the others have certificates. As in the product, a member that
//! has not applied yet that auth is enabled takes one with a certificate for a client without a
//! user: its request may then be refused, although its user has the right. Where the login of a
//! token is not applied, the member first applies what is committed.

use keelson_core::MemberId;
use keelson_core::state::auth::{Access, Caller};
use keelson_core::state::{Error, ReadView};
use keelson_model::auth::{Asked, Denial};
use keelson_proto::etcdserverpb::RangeRequest;
use keelson_proto::internal::command::Op;

use crate::history::{Outcome, Request};
use crate::sim::mutant::Mutant;
use crate::sim::world::World;

/// In place of a token, or of a user that does not exist.
const NO_TOKEN: u64 = u64::MAX;

/// A client's token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    /// The entry since which its user has its password.
    since: u64,
    /// The last entry that the member of the login had applied. Auth was enabled there.
    applied: u64,
}

/// A client's call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Its origin, as its member has resolved it.
    caller: Caller,
    client: u64,
    token: Option<Token>,
    /// The last acknowledged change of rights when it was sent.
    from: u64,
    /// The log does not name its user: auth was disabled at its member when it was proposed.
    is_unsigned: bool,
}

/// A user's name.
pub(super) fn user_name(number: u64) -> String {
    format!("u{number}")
}

/// Whether an answer refuses a request for a lack of rights.
pub(in crate::sim) fn is_denial(why: &str) -> bool {
    denial_of(why).is_some()
}

/// Whether a client has a token, and not a certificate.
fn has_token(client: u64) -> bool {
    client % 2 == 1
}

fn denial_of(why: &str) -> Option<Denial> {
    let errors = [
        (Error::UserEmpty, Denial::NoUser),
        (Error::InvalidAuthToken, Denial::BadToken),
        (Error::PermissionDenied, Denial::NoPermission),
    ];
    let found = errors.iter().find(|(error, _)| error.to_string() == why);
    found.map(|(_, denial)| *denial)
}

impl World {
    fn applied_view(&self, member: MemberId) -> Option<ReadView> {
        let life = self.members.get(&member)?.life.as_ref()?;
        Some(life.applier.view().clone())
    }

    pub(super) fn auth_enabled(&self, member: MemberId) -> bool {
        let view = self.applied_view(member);
        view.is_some_and(|view| view.auth_enabled())
    }

    /// The origin of a client's requests to a member: half of the clients have tokens.
    pub(super) fn caller_at(&self, member: MemberId, client: u64) -> Caller {
        if !self.auth_enabled(member) {
            return Caller::Anonymous;
        }
        let token = self.auth.tokens.get(&client);
        let since = token.map_or(NO_TOKEN, |token| token.since);
        Caller::User {
            name: user_name(client % self.swarm.users),
            since: if has_token(client) { since } else { 0 },
        }
    }

    /// The origin of the requests to a member of a holder of a lease, and of its calls for locks: a
    /// user with a certificate.
    pub(in crate::sim) fn holder_at(&self, member: MemberId, number: usize) -> Caller {
        match self.swarm.users {
            0 => Caller::Member,
            users if self.auth_enabled(member) => Caller::User {
                name: user_name(number as u64 % users),
                since: 0,
            },
            _ => Caller::Anonymous,
        }
    }

    /// A command of that caller, as its member proposes it.
    pub(in crate::sim) fn signed(&self, member: MemberId, caller: &Caller, op: Op) -> Op {
        match self.swarm.users != 0 && self.auth_enabled(member) {
            true => caller.signed(op),
            false => op,
        }
    }

    /// A client logs in at a member that may lag behind.
    pub(super) fn log_in(&mut self, client: u64) {
        let Some(member) = self.dice.pick(&self.running()) else {
            return;
        };
        let name = user_name(client % self.swarm.users);
        let Some(view) = self.applied_view(member) else {
            return;
        };
        let user = view.auth().user(&name).cloned();
        let token = Token {
            since: user.map_or(NO_TOKEN, |user| user.since),
            applied: view.applied_index().0,
        };
        if view.auth_enabled() {
            self.auth.tokens.insert(client, token);
        }
    }

    /// A client sends a request to a member. Returns whether the member lacks the user's entries,
    /// and has to apply what is committed first.
    pub(in crate::sim) fn auth_call(
        &mut self,
        member: MemberId,
        client: u64,
        operation: usize,
    ) -> bool {
        if self.swarm.users == 0 {
            return false;
        }
        let token = self.auth.tokens.get(&client).copied();
        let token = token.filter(|_| has_token(client));
        let call = Call {
            caller: self.caller_at(member, client),
            client,
            token,
            from: self.auth.agreed.acknowledged,
            is_unsigned: false,
        };
        self.auth.calls.insert(operation, call);
        let here = self
            .applied_view(member)
            .map_or(0, |view| view.applied_index().0);
        let is_ahead = token.is_some_and(|token| here < token.applied);
        is_ahead && !self.auth_enabled(member) && self.mutant != Some(Mutant::LoginUnseen)
    }

    /// A member has applied what was committed when a call came.
    pub(in crate::sim) fn session_begins(&mut self, member: MemberId, operation: usize) {
        let Some(client) = self.auth.calls.get(&operation).map(|call| call.client) else {
            return;
        };
        let caller = self.caller_at(member, client);
        if let Some(call) = self.auth.calls.get_mut(&operation) {
            call.caller = caller;
        }
        self.begin(member, operation);
    }

    /// Checks a client's request at its member.
    pub(in crate::sim) fn authorize(
        &self,
        view: &ReadView,
        operation: usize,
        access: Access<'_>,
    ) -> Result<(), Error> {
        match self.auth.calls.get(&operation) {
            Some(call) => view.authorize(&call.caller, access),
            None => Ok(()),
        }
    }

    /// The check of a command before it is proposed. Its refusal counts only with everything that
    /// was committed before.
    pub(in crate::sim) fn authorize_command(
        &self,
        member: MemberId,
        operation: usize,
        op: &Op,
    ) -> Result<(), Error> {
        let outermost = self.mistake_nested(op);
        let op = outermost.as_ref().unwrap_or(op);
        match self.applied_view(member).filter(|_| self.swarm.users != 0) {
            Some(view) => self.authorize(&view, operation, Access::Command(op)),
            None => Ok(()),
        }
    }

    /// A command as it is proposed: while auth is enabled the log names its user.
    pub(in crate::sim) fn sign(&mut self, member: MemberId, operation: usize, op: Op) -> Op {
        let enabled = self.swarm.users != 0 && self.auth_enabled(member);
        let is_unchecked = self.is_unchecked(&op);
        let Some(call) = self.auth.calls.get_mut(&operation) else {
            return op;
        };
        call.is_unsigned = !enabled;
        match enabled {
            true if is_unchecked => Caller::Member.signed(op),
            true => call.caller.signed(op),
            false => op,
        }
    }

    /// A client's operation ends: some rights that were in force since its call explain that.
    pub(in crate::sim) fn auth_answered(
        &mut self,
        client: u64,
        operation: usize,
        outcome: &Outcome,
    ) {
        let Some(call) = self.auth.calls.remove(&operation) else {
            return;
        };
        let problem = match outcome {
            Outcome::Unknown => None,
            Outcome::Ok(_) => self.is_unexplained(operation, &call, Ok(())),
            Outcome::Refused(why) => match denial_of(why) {
                Some(denial) => self.is_unexplained(operation, &call, Err(denial)),
                None => None,
            },
        };
        if let Some(problem) = problem {
            self.auth.violation.get_or_insert(problem);
        }
        if matches!(outcome, Outcome::Refused(why) if is_denial(why)) {
            self.tally.denied += 1;
            self.log_in(client);
        }
    }

    /// The violation, if no rights that were in force since a call give that answer.
    fn is_unexplained(
        &self,
        operation: usize,
        call: &Call,
        answer: Result<(), Denial>,
    ) -> Option<String> {
        let operation = &self.history.operations[operation];
        let request = match &operation.request {
            // Its member may lag behind: it is checked when it is served.
            Request::Range(range) if range.serializable => return None,
            Request::Range(range) => Asked::Range(range),
            Request::Put(put) => Asked::Put(put),
            Request::DeleteRange(delete) => Asked::Delete(delete),
            Request::Txn(txn) => Asked::Txn(txn),
            Request::Compact(_) => Asked::Compact,
        };
        let agreed = &self.auth.agreed;
        if let (Some(token), Err(Denial::NoUser)) = (call.token, answer)
            && agreed
                .between(token.applied, u64::MAX)
                .all(|rights| rights.enabled)
        {
            return Some(format!(
                "auth: {operation:?} of {call:?} has no user, and auth is enabled since its login"
            ));
        }
        let mut rights = agreed.between(call.from, u64::MAX);
        let mut callers = vec![&call.caller];
        if call.is_unsigned {
            callers.push(&Caller::Anonymous);
        }
        let explains = |rights: &keelson_model::auth::Auth| {
            let mut callers = callers.iter();
            callers.any(|caller| self.auth.check(rights, caller, &request) == answer)
        };
        if rights.any(explains) {
            return None;
        }
        Some(format!(
            "auth: {operation:?} of {call:?} ends with {answer:?}, and no rights since its call \
             explain that; now {:?}",
            agreed.last()
        ))
    }

    /// A member has permitted a read from its state, or refused it.
    ///
    /// # Errors
    /// The rights there are others.
    pub(in crate::sim) fn check_permitted(
        &self,
        member: MemberId,
        caller: &Caller,
        range: &RangeRequest,
        is_permitted: bool,
    ) -> Result<(), String> {
        let life = self.members.get(&member).and_then(|it| it.life.as_ref());
        let Some(life) = life.filter(|_| self.swarm.users != 0) else {
            return Ok(());
        };
        let rights = self.auth.agreed.at(life.applied().0);
        let expected = self.auth.check(rights, caller, &Asked::Range(range));
        match expected.is_ok() == is_permitted {
            true => Ok(()),
            false => Err(format!(
                "auth: {member} permits {range:?} of {caller:?}: {is_permitted}"
            )),
        }
    }

    /// A member serves a read from its state: its answer is that of the rights there.
    pub(in crate::sim) fn check_served(
        &mut self,
        member: MemberId,
        operation: usize,
        range: &RangeRequest,
        is_permitted: bool,
    ) {
        let Some(caller) = self.auth.calls.get(&operation).map(|call| &call.caller) else {
            return;
        };
        if let Err(problem) = self.check_permitted(member, caller, range, is_permitted) {
            self.auth.violation.get_or_insert(problem);
        }
    }
}
