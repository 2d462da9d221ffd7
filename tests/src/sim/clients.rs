//! The clients: each sends a request, waits, pauses, and sends the next one, to any member that
//! runs.
//!
//! Values are unique, so a value read identifies its write. Every answer that depends on a key's
//! value also contains that value, so that `check::wgl` can settle unknown writes.

use bytes::Bytes;
use keelson_core::member::{ApplierEvent, LessorEvent};
use keelson_core::node::{Append, Input, ReadReady};
use keelson_core::state::auth::Access;
use keelson_core::state::{self, Response as StateResponse};
use keelson_core::{Index, MemberId, ProposalId, proposal};
use keelson_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use keelson_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, PutResponse, RangeRequest,
    RequestOp, ResponseHeader, TxnRequest, request_op,
};
use keelson_proto::internal::{Command, command};
use prost::Message;

use super::event::{Event, Waiter};
use super::mutant::Mutant;
use super::nodes::Life;
use super::reads::{Read, ReadOrigin};
use super::swarm::Swarm;
use super::world::World;
use crate::history::{Outcome, Request, Response};

/// The state of all clients.
pub(super) struct Clients {
    keys: u64,
    /// The number of values written so far.
    values: u64,
    /// The last value seen of each key: the operand of compare-and-swaps.
    seen: Vec<Option<Bytes>>,
    /// The highest revision seen.
    revision: i64,
    /// No client sends further requests.
    pub(super) quiet: bool,
    /// Clients whose answer has come, by operation: all others wait.
    pub(super) open: std::collections::BTreeMap<usize, u64>,
}

impl Clients {
    pub(super) fn new(swarm: &Swarm) -> Clients {
        Clients {
            keys: swarm.keys,
            values: 0,
            seen: vec![None; usize::try_from(swarm.keys).expect("a few keys")],
            revision: 1,
            quiet: false,
            open: Default::default(),
        }
    }

    fn value(&mut self) -> Bytes {
        self.values += 1;
        Bytes::from(format!("v{}", self.values))
    }
}

impl World {
    /// A client's turn: it sends a request to a member.
    pub(super) fn client_acts(&mut self, client: u64) -> Result<(), String> {
        if self.clients.quiet {
            return Ok(());
        }
        let Some(member) = self.dice.pick(&self.running()) else {
            // No member runs: connection refused.
            self.clock.after(500, Event::Client(client));
            return Ok(());
        };
        if client < self.swarm.tree_clients {
            return self.tree_client_acts(client, member);
        }
        let request = self.draw_request();
        let now = self.clock.now_ms();
        let operation = self.history.call(client, member.0, request.clone(), now);
        if self.trace {
            let text = crate::history::request_text(&request);
            println!("{now:>8} operation {operation} on {member}: {text}");
        }
        self.clients.open.insert(operation, client);
        let patience = self.swarm.patience_ms;
        self.clock.after(patience, Event::GiveUp(operation));
        match self.auth_call(member, client, operation) {
            true => self.ask_to_read(member, ReadOrigin::Session(operation)),
            false => self.begin(member, operation),
        }
        Ok(())
    }

    /// The request's member knows its user.
    pub(super) fn begin(&mut self, member: MemberId, operation: usize) {
        match self.history.operations[operation].request.clone() {
            Request::Range(range) if range.serializable => self.serve(member, operation),
            Request::Range(_) => self.ask_client_read(member, operation),
            request => self.propose(member, operation, &request),
        }
    }

    /// The client's timeout: the outcome of its operation is unknown.
    pub(super) fn give_up(&mut self, operation: usize) {
        if !self.clients.open.contains_key(&operation) {
            return;
        }
        if self.mutant == Some(Mutant::RetrySilently) {
            let lost = &self.history.operations[operation];
            let (member, request) = (MemberId(lost.member), lost.request.clone());
            if request.is_write() {
                self.propose(member, operation, &request);
            }
        }
        self.leave(Waiter::Client(operation));
        let outcome = match self.mutant {
            Some(Mutant::UnknownIsRefused) => Outcome::Refused("given up".to_owned()),
            _ => Outcome::Unknown,
        };
        self.finish(operation, outcome);
    }

    /// An operation ends; its client goes on after a pause.
    pub(super) fn finish(&mut self, operation: usize, outcome: Outcome) {
        let Some(client) = self.clients.open.remove(&operation) else {
            return;
        };
        if let Outcome::Ok(response) = &outcome {
            self.remember(response);
            self.note(response.revision() as u64 ^ (operation as u64) << 24);
        }
        let now = self.clock.now_ms();
        if self.trace {
            println!("{now:>8} operation {operation} ends: {outcome:?}");
        }
        self.auth_answered(client, operation, &outcome);
        self.history.finish(operation, outcome, now);
        let pause = self.dice.between(0, self.swarm.think_ms);
        self.clock.after(pause, Event::Client(client));
    }

    fn remember(&mut self, response: &Response) {
        self.clients.revision = self.clients.revision.max(response.revision());
        if let Response::Range(range) = response {
            for kv in &range.kvs {
                let number = kv.key.get(1).map_or(0, |digit| usize::from(digit - b'0'));
                self.clients.seen[number] = Some(kv.value.clone());
            }
        }
    }

    // === sending ===

    /// Proposes a request, if its client may make it. A refusal counts only after a read: the right
    /// may have been granted at another member.
    fn propose(&mut self, member: MemberId, operation: usize, request: &Request) {
        let op = command_of(request.clone());
        match self.authorize_command(member, operation, &op) {
            Ok(()) => self.propose_command(member, operation, op),
            Err(_) => self.ask_to_read(member, ReadOrigin::Client(operation)),
        }
    }

    fn propose_command(&mut self, member: MemberId, operation: usize, op: command::Op) {
        let op = Some(self.sign(member, operation, op));
        let command = Command { op }.encode_to_vec();
        let Some(id) = self.name_proposal(member) else {
            return;
        };
        self.waiting.insert(id, Waiter::Client(operation));
        let command = command.into();
        self.input(member, Input::Propose { id, command });
    }

    pub(super) fn name_proposal(&mut self, member: MemberId) -> Option<ProposalId> {
        let life = self.life(member)?;
        life.proposals += 1;
        let id = ProposalId {
            member,
            incarnation: life.boot,
            counter: life.proposals,
        };
        // Every request has a timeout, also one that no client waits for.
        self.clock.after(self.swarm.patience_ms, Event::Forget(id));
        Some(id)
    }

    fn ask_client_read(&mut self, member: MemberId, operation: usize) {
        let without_quorum = self.mutant == Some(Mutant::ReadWithoutQuorum);
        let leads = |life: &mut Life| life.consensus.status().soft_state.leader == member;
        if without_quorum && self.life(member).is_some_and(leads) {
            return self.serve(member, operation);
        }
        self.ask_to_read(member, ReadOrigin::Client(operation));
    }

    pub(super) fn ask_to_read(&mut self, member: MemberId, asker: ReadOrigin) {
        let committed_at_call = Index(self.invariants.ledger().last_committed());
        let late = self.mutant == Some(Mutant::ReadersJoinLate);
        let Some(life) = self.life(member) else {
            return;
        };
        let read = Read {
            asker,
            committed_at_call,
        };
        if late && let Some((_, readers)) = life.late_readers.as_mut() {
            readers.push(read);
            return;
        }
        let (place, opens) = life.reads.join(read);
        life.readers.push((asker, place));
        if opens {
            let context = place.context;
            self.input(member, Input::Read { context });
        }
    }

    // === answering ===

    /// Consensus has confirmed the index of a batch of reads.
    pub(super) fn read_ready(&mut self, id: MemberId, ready: ReadReady) -> Result<(), String> {
        let ReadReady { context, index } = ready;
        let at_once = self.mutant == Some(Mutant::ReadBeforeApply);
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        // The latest call of the batch; none if its clients have left in this same turn.
        let calls = life
            .reads
            .readers(context)
            .map(|read| read.committed_at_call);
        let latest_call = calls.max();
        let index = if at_once { Index(0) } else { index };
        self.applier_takes(id, ApplierEvent::Read(ReadReady { context, index }))?;
        match latest_call.filter(|_| !at_once) {
            Some(committed_at_call) => self.fact(&crate::invariant::Fact::ReadReady {
                member: id,
                index,
                committed_at_call,
            }),
            None => Ok(()),
        }
    }

    /// The index of a read has been applied.
    pub(super) fn read_done(&mut self, id: MemberId, context: u64) -> Result<(), String> {
        let Some(life) = self.life(id) else {
            return Ok(());
        };
        let mut readers: Vec<Read> = life.reads.answer(context).collect();
        life.readers.retain(|(_, place)| place.context != context);
        let late = life.late_readers.take_if(|(taken, _)| *taken == context);
        readers.extend(late.into_iter().flat_map(|(_, readers)| readers));
        for read in readers {
            match read.asker {
                ReadOrigin::Client(operation) => self.client_may_read(id, operation),
                ReadOrigin::Session(operation) => self.session_begins(id, operation),
                ReadOrigin::Tree(operation) => self.serve_tree(id, operation)?,
                ReadOrigin::Expirer(term, number) => self.expirer_may_begin(id, term, number),
                ReadOrigin::LockCall(number, step) => self.call_may_read(number, step)?,
                ReadOrigin::Observer(number, step) => self.observer_may_read(id, number, step)?,
                ReadOrigin::Lessor(number) => {
                    self.lessor_takes(id, LessorEvent::Done(number))?;
                }
            }
        }
        Ok(())
    }

    /// Consensus takes a batch of reads. Returns whether it has readers.
    pub(super) fn close_reads(&mut self, id: MemberId, context: u64) -> bool {
        let late = self.mutant == Some(Mutant::ReadersJoinLate);
        let Some(life) = self.life(id) else {
            return false;
        };
        let has_readers = life.reads.close(context);
        if late && has_readers {
            life.late_readers = Some((context, Vec::new()));
        }
        has_readers
    }

    /// The index of a client's read has been applied: it is served, or its command checked again.
    fn client_may_read(&mut self, id: MemberId, operation: usize) {
        let request = self.history.operations[operation].request.clone();
        if let Request::Range(_) = request {
            return self.serve(id, operation);
        }
        let op = command_of(request);
        match self.authorize_command(id, operation, &op) {
            Ok(()) => self.propose_command(id, operation, op),
            Err(error) => self.finish(operation, Outcome::Refused(error.to_string())),
        }
    }

    /// Answers a read from the member's present state.
    fn serve(&mut self, id: MemberId, operation: usize) {
        let Request::Range(range) = &self.history.operations[operation].request else {
            return;
        };
        let range = range.clone();
        let machine = self.life(id).and_then(|life| life.machine());
        let Some(view) = machine.map(|machine| machine.view()) else {
            let why = "this member has no state yet".to_owned();
            return self.finish(operation, Outcome::Refused(why));
        };
        if self.wrong_read(id, operation, &view) {
            return;
        }
        let permitted = self.authorize(&view, operation, Access::Range(&range));
        self.check_served(id, operation, &range, permitted.is_ok());
        let outcome = match permitted.and_then(|()| view.range(&range)) {
            Ok(response) => Outcome::Ok(Response::Range(response)),
            Err(error) => Outcome::Refused(error.to_string()),
        };
        self.finish(operation, outcome);
    }

    /// The state machine has applied the request.
    pub(super) fn answer(
        &mut self,
        operation: usize,
        response: Result<StateResponse, state::Error>,
    ) {
        let outcome = match response {
            Ok(StateResponse::Put(mut put)) => {
                if self.mutant == Some(Mutant::PreviousPairLost) && operation.is_multiple_of(16) {
                    put.prev_kv = None;
                }
                Outcome::Ok(Response::Put(put))
            }
            Ok(StateResponse::DeleteRange(delete)) => Outcome::Ok(Response::DeleteRange(delete)),
            Ok(StateResponse::Txn(txn)) => Outcome::Ok(Response::Txn(txn)),
            Ok(StateResponse::Compaction(compact)) => Outcome::Ok(Response::Compact(compact)),
            Ok(other) => Outcome::Refused(format!("{other:?}")),
            Err(error) => Outcome::Refused(error.to_string()),
        };
        self.finish(operation, outcome);
    }

    /// A mutant: answers puts whose entry has only been appended.
    pub(super) fn acknowledge_early(&mut self, id: MemberId, append: &Append) {
        let revision = match self.life(id).and_then(|life| life.machine()) {
            Some(machine) => machine.view().revision(),
            None => return,
        };
        for (revision, entry) in (revision + 1..).zip(&append.entries) {
            let request = proposal::decode(&entry.data).map(|(request, _)| request);
            let waiting = request.and_then(|request| self.waiting.get(&request).copied());
            let Some(Waiter::Client(operation)) = waiting else {
                continue;
            };
            if let Request::Put(PutRequest { prev_kv: false, .. }) =
                self.history.operations[operation].request
            {
                let header = Some(ResponseHeader {
                    revision,
                    ..ResponseHeader::default()
                });
                let response = PutResponse {
                    header,
                    prev_kv: None,
                };
                self.finish(operation, Outcome::Ok(Response::Put(response)));
            }
        }
    }

    // === drawing requests ===

    fn draw_request(&mut self) -> Request {
        let number = self.dice.between(0, self.clients.keys - 1);
        let key = Bytes::from(format!("k{number}"));
        let drawn = self.dice.between(0, 99);
        if self.swarm.churn && drawn < 30 && self.dice.chance(0.5) {
            return self.draw_churn(key);
        }
        match drawn {
            0..30 => Request::Put(PutRequest {
                value: self.clients.value(),
                prev_kv: self.dice.chance(0.3),
                key,
                ..PutRequest::default()
            }),
            30..38 => Request::DeleteRange(DeleteRangeRequest {
                range_end: self.draw_range_end(0.2),
                prev_kv: true,
                key,
            }),
            38..53 => self.draw_swap(key, number),
            53..55 if self.swarm.compaction => Request::Compact(CompactionRequest {
                revision: self.clients.revision - self.dice.between(0, 20) as i64,
                physical: false,
            }),
            _ => self.draw_range(key),
        }
    }

    /// Deletes most of the keys, or compacts the revisions before.
    fn draw_churn(&mut self, key: Bytes) -> Request {
        match self.dice.chance(0.5) {
            true => Request::DeleteRange(DeleteRangeRequest {
                range_end: Bytes::from_static(b"l"),
                prev_kv: true,
                key,
            }),
            false => Request::Compact(CompactionRequest {
                revision: self.clients.revision,
                physical: false,
            }),
        }
    }

    fn draw_range_end(&mut self, probability: f64) -> Bytes {
        match self.dice.chance(probability) {
            true => Bytes::from(format!("k{}", self.dice.between(0, self.clients.keys))),
            false => Bytes::new(),
        }
    }

    fn draw_range(&mut self, key: Bytes) -> Request {
        let old = self.dice.chance(0.1);
        Request::Range(RangeRequest {
            key,
            range_end: self.draw_range_end(0.2),
            serializable: self.dice.chance(0.3),
            limit: if self.dice.chance(0.1) { 2 } else { 0 },
            revision: match old {
                true => (self.clients.revision - self.dice.between(0, 10) as i64).max(1),
                false => 0,
            },
            ..RangeRequest::default()
        })
    }

    /// A compare-and-swap with the last value seen of the key; if the compare fails, the key is
    /// read.
    fn draw_swap(&mut self, key: Bytes, number: u64) -> Request {
        let seen = self.clients.seen[usize::try_from(number).expect("a few keys")].clone();
        let (target, union) = match seen.filter(|_| self.dice.chance(0.8)) {
            Some(value) => (CompareTarget::Value, TargetUnion::Value(value)),
            None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        };
        let compare = Compare {
            key: key.clone(),
            target: target.into(),
            target_union: Some(union),
            ..Compare::default()
        };
        let put = PutRequest {
            key: key.clone(),
            value: self.clients.value(),
            ..PutRequest::default()
        };
        let read = RangeRequest {
            key,
            ..RangeRequest::default()
        };
        let op = |request| RequestOp {
            request: Some(request),
        };
        let swap = TxnRequest {
            compare: vec![compare],
            success: vec![op(request_op::Request::RequestPut(put))],
            failure: vec![op(request_op::Request::RequestRange(read))],
        };
        // Rights are checked in every depth. Keys in such transactions have no search.
        Request::Txn(match self.swarm.users != 0 && self.dice.chance(0.3) {
            true => TxnRequest {
                success: vec![op(request_op::Request::RequestTxn(swap))],
                ..TxnRequest::default()
            },
            false => swap,
        })
    }
}

fn command_of(request: Request) -> command::Op {
    match request {
        Request::Put(put) => command::Op::Put(put),
        Request::DeleteRange(delete) => command::Op::DeleteRange(delete),
        Request::Txn(txn) => command::Op::Txn(txn),
        Request::Compact(compact) => command::Op::Compaction(compact),
        Request::Range(_) => unreachable!("reads are not proposed"),
    }
}
