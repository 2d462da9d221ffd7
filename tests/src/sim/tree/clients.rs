//! The clients of the v2 API: like the others, they send, wait, pause, and send again.

use keelson_core::node::Input;
use keelson_core::state::{self, Response as StateResponse};
use keelson_core::{Index, MemberId, ProposalId};
use keelson_proto::internal::command::Op;
use keelson_proto::internal::{Command, TreeRequest};
use prost::Message;

use crate::check::tree::{TreeAnswer, TreeCall, text};
use crate::history::Outcome;
use crate::sim::event::{Event, Waiter};
use crate::sim::mutant::Mutant;
use crate::sim::reads::ReadOrigin;
use crate::sim::world::World;

impl World {
    /// A client's turn: it sends a request to a member.
    pub(in crate::sim) fn tree_client_acts(
        &mut self,
        client: u64,
        member: MemberId,
    ) -> Result<(), String> {
        if self.swarm.bursts && self.dice.chance(0.03) {
            self.burst(member);
        }
        let request = self.draw_tree_request(member);
        let now = self.clock.now_ms();
        let history = &mut self.tree.history;
        let operation = history.call(client, member.0, request.clone(), now);
        if self.trace {
            let text = text(&request);
            println!("{now:>8} v2 operation {operation} on {member}: {text}");
        }
        self.tree.open.insert(operation, client);
        let patience = self.swarm.patience_ms;
        self.clock.after(patience, Event::TreeGiveUp(operation));
        match request {
            TreeCall::Get { quorum: true, .. } => {
                self.ask_to_read(member, ReadOrigin::Tree(operation));
                Ok(())
            }
            TreeCall::Get { .. } => self.serve_tree(member, operation),
            TreeCall::Change(change) => {
                self.propose_tree(member, operation, change);
                Ok(())
            }
        }
    }

    fn propose_tree(&mut self, member: MemberId, operation: usize, change: TreeRequest) {
        if let Some(id) = self.propose_unasked(member, change) {
            self.tree.log.asks(id, operation);
            self.waiting.insert(id, Waiter::Tree(operation));
        }
    }

    fn propose_unasked(&mut self, member: MemberId, change: TreeRequest) -> Option<ProposalId> {
        let op = Some(Op::Tree(change));
        let command = Command { op }.encode_to_vec().into();
        let id = self.name_proposal(member)?;
        self.input(member, Input::Propose { id, command });
        Some(id)
    }

    /// Fills the history: many changes without a client that waits for their answers.
    fn burst(&mut self, member: MemberId) {
        for number in 0..self.dice.between(50, 250) {
            let path = format!("/1/s/{}", number % 20);
            let change = TreeRequest {
                path: path.into(),
                value: format!("s{number}").into(),
                time_ns: self.clock_ns(member),
                ..TreeRequest::default()
            };
            self.propose_unasked(member, change);
        }
    }

    /// The client's timeout: the outcome of its operation is unknown.
    pub(in crate::sim) fn tree_give_up(&mut self, operation: usize) {
        if self.tree.open.contains_key(&operation) {
            self.leave(Waiter::Tree(operation));
        }
        self.finish_tree(operation, Outcome::Unknown);
    }

    /// An operation ends; its client goes on after a pause.
    pub(in crate::sim) fn finish_tree(&mut self, operation: usize, outcome: Outcome<TreeAnswer>) {
        let Some(client) = self.tree.open.remove(&operation) else {
            return;
        };
        if let Outcome::Ok(answer) = &outcome {
            self.note(answer.index() ^ (operation as u64) << 28);
            self.remember_node(answer);
        }
        let now = self.clock.now_ms();
        if self.trace {
            println!("{now:>8} v2 operation {operation} ends: {outcome:?}");
        }
        self.tree.history.finish(operation, outcome, now);
        let pause = self.dice.between(0, self.swarm.think_ms);
        self.clock.after(pause, Event::Client(client));
    }

    fn remember_node(&mut self, answer: &TreeAnswer) {
        let node = match answer {
            TreeAnswer::Changed(Ok(event)) => &event.node,
            TreeAnswer::Got(Ok((node, _))) => node,
            _ => return,
        };
        self.tree.seen.insert(node.key.clone(), node.clone());
    }

    // === answering ===

    /// Answers a read from the member's present state. Every answer must be as the agreed tree was
    /// at the index in it.
    pub(in crate::sim) fn serve_tree(
        &mut self,
        id: MemberId,
        operation: usize,
    ) -> Result<(), String> {
        if !self.tree.open.contains_key(&operation) {
            return Ok(());
        }
        let TreeCall::Get {
            path,
            recursive,
            quorum,
        } = self.tree.history.operations[operation].request.clone()
        else {
            return Err("only reads are served".to_owned());
        };
        let now_ns = self.clock_ns(id);
        let Some(machine) = self.life(id).and_then(|life| life.machine()) else {
            let why = "this member has no state yet".to_owned();
            self.finish_tree(operation, Outcome::Refused(why));
            return Ok(());
        };
        let mut answer = machine.view().tree_get(&path, recursive, now_ns);
        if self.mutant == Some(Mutant::LocalReadOld) && !quorum && operation.is_multiple_of(8) {
            answer = self.read_of_the_past(&path, recursive, now_ns);
        }
        let answer = TreeAnswer::Got(answer);
        self.check_read(id, operation, &answer, now_ns)?;
        self.shows(id, answer.index())?;
        self.finish_tree(operation, Outcome::Ok(answer));
        Ok(())
    }

    fn check_read(
        &self,
        id: MemberId,
        operation: usize,
        answer: &TreeAnswer,
        now_ns: i64,
    ) -> Result<(), String> {
        let request = &self.tree.history.operations[operation].request;
        let TreeCall::Get {
            path, recursive, ..
        } = request
        else {
            return Err("only reads are served".to_owned());
        };
        let (model, index) = (&self.tree.log.model, answer.index());
        let expected = model.get(path, *recursive, index, now_ns);
        let expected = TreeAnswer::Got(expected.map(|node| (node, index)));
        match *answer == expected {
            true => Ok(()),
            false => Err(format!(
                "v2 reads: {id} answers {} with\n  {answer:?}\ninstead of\n  {expected:?}",
                text(request)
            )),
        }
    }

    /// The state machine has applied the request.
    pub(in crate::sim) fn answer_tree(
        &mut self,
        id: MemberId,
        operation: usize,
        response: Result<StateResponse, state::Error>,
    ) -> Result<(), String> {
        let outcome = match response {
            Ok(StateResponse::Tree(event)) => Outcome::Ok(TreeAnswer::Changed(Ok(event))),
            Err(state::Error::Tree(error)) => Outcome::Ok(TreeAnswer::Changed(Err(error))),
            other => Outcome::Refused(format!("{other:?}")),
        };
        if let Outcome::Ok(answer) = &outcome {
            self.shows(id, answer.index())?;
        }
        self.finish_tree(operation, outcome);
        Ok(())
    }

    /// Checks all of a member's tree.
    pub(in crate::sim) fn check_tree(&self, id: MemberId, now_ns: i64) -> Result<(), String> {
        let life = self
            .members
            .get(&id)
            .and_then(|member| member.life.as_ref());
        let Some(machine) = life.and_then(|life| life.machine()) else {
            return Ok(());
        };
        // A member that is fenced shows nothing.
        if machine.divergence().is_some() {
            return Ok(());
        }
        let applied = Index(machine.applied().index);
        let log = &self.tree.log;
        log.compare_all(id, applied, &machine.view(), now_ns)
    }
}
