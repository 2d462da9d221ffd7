//! Injected faults, and the operator that adds and removes members meanwhile.

use keelson_core::node::Input;
use keelson_core::{ConfOutcome, MemberId};
use keelson_proto::etcdserverpb;
use keelson_proto::internal::{MemberChange, member_change};
use prost::Message;

use super::event::Event;
use super::nodes::{self, Member};
use super::world::World;

/// The kinds of fault; the swarm decides which of them a run has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    CrashOne,
    CrashSome,
    CrashAll,
    Pause,
    StopForLong,
    HangEngine,
    StallDisk,
    Damage,
    DamageAll,
    LoseDisk,
    Partition,
    CutOne,
    Heal,
    FalseNotice,
    Transfer,
    Membership,
    Corrupt,
}

/// Voters are not removed below this number.
const VOTERS_LEAST: usize = 3;
/// Members are not added beyond this number.
const MEMBERS_MOST: usize = 9;

impl World {
    /// Injects one fault, and plans the next one.
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let (least, most) = self.swarm.fault_every_ms;
        let wait = self.dice.between(least, most);
        self.clock.after(wait, Event::Fault);
        let Some(fault) = self.draw_fault() else {
            return;
        };
        self.tally.faults += 1;
        self.note(fault as u64);
        match fault {
            Fault::CrashOne => self.crash_some(1),
            Fault::CrashSome => {
                let count = self.dice.between(1, self.members.len() as u64);
                self.crash_some(count);
            }
            Fault::CrashAll => self.crash_some(u64::MAX),
            Fault::Pause => self.pause(),
            Fault::StopForLong => self.stop_for_long(),
            Fault::HangEngine => self.hang_engine(),
            Fault::StallDisk => self.stall_disk(),
            Fault::Damage => self.damage_one(),
            Fault::DamageAll => self.damage_all(),
            Fault::LoseDisk => self.lose_disk(),
            Fault::Partition => self.partition(),
            Fault::CutOne => self.cut_one(),
            Fault::Heal => self.net.heal(),
            Fault::FalseNotice => self.false_notice(),
            Fault::Transfer => self.transfer(),
            Fault::Membership => self.change_membership(),
            Fault::Corrupt => self.plan_corruption(),
        }
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        let swarm = &self.swarm;
        let kinds = [
            (swarm.crashes, Fault::CrashOne),
            (swarm.crashes, Fault::CrashOne),
            (swarm.crashes, Fault::CrashSome),
            (swarm.crashes && swarm.crash_all, Fault::CrashAll),
            (swarm.pauses, Fault::Pause),
            (swarm.bounds.is_some(), Fault::StopForLong),
            (swarm.bounds.is_some(), Fault::HangEngine),
            (swarm.partitions, Fault::Partition),
            (swarm.partitions, Fault::CutOne),
            (swarm.partitions, Fault::Heal),
            (swarm.partitions, Fault::Heal),
            (swarm.false_notices, Fault::FalseNotice),
            (swarm.transfers, Fault::Transfer),
            (swarm.membership, Fault::Membership),
            (swarm.membership, Fault::Membership),
            (swarm.corruption, Fault::Corrupt),
            (swarm.corruption, Fault::Corrupt),
        ];
        let kinds = kinds.into_iter().chain(swarm.troubles.kinds());
        let present = kinds.filter(|(exists, _)| *exists);
        let present: Vec<Fault> = present.map(|(_, fault)| fault).collect();
        self.dice.pick(&present)
    }

    pub(super) fn running(&self) -> Vec<MemberId> {
        let now = self.clock.now_ms();
        let stands_still = |member: &Member| self.calm && now < member.paused_until;
        let running = self.members.values();
        let running = running.filter(|member| member.life.is_some() && !stands_still(member));
        running.map(|member| member.id).collect()
    }

    fn crash_some(&mut self, count: u64) {
        let power_fails = self.dice.chance(0.5);
        let mut running = self.running();
        for _ in 0..count {
            let Some(id) = self.dice.pick(&running) else {
                return;
            };
            running.retain(|other| *other != id);
            self.crash(id, power_fails);
            self.plan_replacement();
            let away = match self.dice.chance(0.5) {
                true => self.dice.between(50, 500),
                false => self.dice.between(50, 10_000),
            };
            self.clock.after(away, Event::Start(id));
        }
    }

    fn pause(&mut self) {
        let running = self.running();
        let Some(id) = self.dice.pick(&running) else {
            return;
        };
        let until = self.clock.now_ms() + self.dice.between(50, 5_000);
        self.stop_until(id, until);
    }

    /// Cuts the links between two groups, in both directions or in one.
    fn partition(&mut self) {
        let one_way = self.swarm.one_way && self.dice.chance(0.4);
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        let left: Vec<bool> = ids.iter().map(|_| self.dice.chance(0.5)).collect();
        for (a, a_left) in ids.iter().zip(&left) {
            for (b, b_left) in ids.iter().zip(&left) {
                if *a_left && !*b_left {
                    self.net.cut(*a, *b);
                    if !one_way {
                        self.net.cut(*b, *a);
                    }
                }
            }
        }
    }

    fn cut_one(&mut self) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        if let (Some(a), Some(b)) = (self.dice.pick(&ids), self.dice.pick(&ids)) {
            self.net.cut(a, b);
            if !self.swarm.one_way {
                self.net.cut(b, a);
            }
        }
    }

    fn false_notice(&mut self) {
        let running = self.running();
        if let (Some(to), Some(about)) = (self.dice.pick(&running), self.dice.pick(&running))
            && to != about
        {
            self.input(to, Input::PeerDown(about));
        }
    }

    fn transfer(&mut self) {
        let running = self.running();
        let target = self.dice.pick(&running).filter(|_| self.dice.chance(0.5));
        for id in running {
            self.input(id, Input::TransferLeader(target));
        }
    }

    // === membership ===

    pub(super) fn plan_replacement(&mut self) {
        if self.swarm.membership && self.dice.chance(0.5) {
            let delay = self.dice.between(500, 4_000);
            self.clock.after(delay, Event::Replace);
        }
    }

    /// The operator notices a silent machine and adds another one, perhaps too early.
    pub(super) fn replace(&mut self) {
        let conf = self.invariants.ledger().memberships().next();
        let members = conf.map_or(0, |conf| conf.voters.len() + conf.learners.len());
        if !self.calm && (1..MEMBERS_MOST).contains(&members) {
            let is_learner = self.dice.chance(0.2);
            let add = self.draw_add(is_learner);
            self.ask_for(add);
        }
    }

    pub(super) fn draw_add(&mut self, is_learner: bool) -> member_change::Op {
        self.next_member += 1;
        let id = MemberId(self.next_member);
        member_change::Op::Add(etcdserverpb::Member {
            id: id.0,
            peer_ur_ls: vec![nodes::url_of(id, 0)],
            is_learner,
            ..Default::default()
        })
    }

    fn change_membership(&mut self) {
        if let Some(op) = self.draw_change() {
            self.ask_for(op);
        }
    }

    pub(super) fn ask_for(&mut self, op: member_change::Op) {
        let running = self.running();
        let Some(asked) = self.dice.pick(&running) else {
            return;
        };
        let change = MemberChange { op: Some(op) }.encode_to_vec().into();
        if let Some(id) = self.name_proposal(asked) {
            self.input(asked, Input::ProposeMembership { id, change });
        }
    }

    fn draw_change(&mut self) -> Option<member_change::Op> {
        let conf = self.invariants.ledger().memberships().next()?.clone();
        let everybody = [&conf.voters[..], &conf.learners[..]].concat();
        match self.dice.between(0, 5) {
            0 | 1 if everybody.len() < MEMBERS_MOST => {
                let is_learner = self.dice.chance(0.5);
                Some(self.draw_add(is_learner))
            }
            2 => self
                .dice
                .pick(&conf.learners)
                .map(member_change::Op::Promote),
            3 => {
                let member = self.dice.pick(&everybody)?;
                // Sometimes a URL that another member has.
                let owner = match self.dice.chance(0.1) {
                    true => self.dice.pick(&everybody)?,
                    false => member,
                };
                let url = nodes::url_of(MemberId(owner), self.dice.between(0, 9));
                Some(member_change::Op::Update(etcdserverpb::Member {
                    id: member,
                    peer_ur_ls: vec![url],
                    ..Default::default()
                }))
            }
            _ if VOTERS_LEAST < conf.voters.len() => {
                self.dice.pick(&everybody).map(member_change::Op::Remove)
            }
            _ if self.swarm.members < 3 => self
                .dice
                .pick(&conf.learners)
                .map(member_change::Op::Remove),
            _ => None,
        }
    }

    /// The operator acts on a committed change: starts an added member, stops a removed one.
    pub(super) fn membership_changed(&mut self, conf: &ConfOutcome) {
        if !conf.accepted {
            return;
        }
        self.tally.changes += 1;
        match conf.change.as_ref().and_then(|change| change.op.as_ref()) {
            Some(member_change::Op::Add(member)) => {
                let id = MemberId(member.id);
                let mut joining = Member::new(id, None);
                joining.ghost = self.swarm.ghosts && !self.calm && self.dice.chance(0.5);
                let ghost = self.members.entry(id).or_insert(joining).ghost;
                if ghost {
                    return;
                }
                let delay = self.dice.between(1, 1_000);
                self.clock.after(delay, Event::Start(id));
            }
            Some(member_change::Op::Remove(id)) => {
                let delay = self.dice.between(0, 5_000);
                self.clock.after(delay, Event::Retire(MemberId(*id)));
            }
            _ => {}
        }
    }
}
