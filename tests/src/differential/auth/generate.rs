//! Seeded calls of users, each with permissions on some keys.
//!
//! Some requests that etcd 3.4 does not check would set the two stores apart, because Keelson
//! refuses them. They are made so that they have no effect: compactions, grants and ends of leases,
//! alarms. Puts in transactions of other users than root attach no lease: etcd does not check that.

mod accounts;
mod ranges;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::*;
use rand::Rng;
use rand::seq::IndexedRandom;

use self::ranges::{detach, set_all_upright, set_upright};
use super::call::{Call, Caller, SESSIONS};
use crate::differential::answer::Answer;
use crate::differential::generate::{Generator, NO_LEASE, Operation};

/// Users; the last one is never added.
pub(super) const USERS: [&str; 7] = ["root", "alice", "bob", "carol", "dave", "r", "nobody"];

/// Tokens that no server has issued: of etcd's form, of Keelson's form, and of neither.
const TOKENS: [&str; 5] = [
    "",
    "x",
    "kEoVPkdyTFwoRgMV.17",
    "Bearer",
    "AAAAAAAAAAAAAAAA_-",
];

/// An id that belongs to no member.
const UNKNOWN: u64 = 0xdead_beef;

/// A time to live that is refused.
const TTL_TOO_LARGE: i64 = 9_000_000_001;

/// Generates calls. The same seed and the same answers give the same calls.
#[derive(Debug)]
pub struct AuthGenerator {
    /// Generates requests about pairs and leases, and has the random numbers.
    pub kv: Generator,
    /// Whether auth is enabled, from the last answers.
    pub enabled: bool,
    /// The user of each session's login.
    sessions: [Option<&'static str>; SESSIONS],
    /// Calls that come first.
    planned: VecDeque<(Caller, Call)>,
    /// The ends of the permissions' ranges, by their first keys. etcd mistakes permissions of one
    /// key for each other.
    ends: BTreeMap<Bytes, Bytes>,
}

impl AuthGenerator {
    /// A generator for an empty store: it begins with users and roles.
    pub fn new(seed: u64) -> AuthGenerator {
        let mut generator = AuthGenerator {
            kv: Generator::new(seed),
            enabled: false,
            sessions: [None; SESSIONS],
            planned: VecDeque::new(),
            ends: BTreeMap::new(),
        };
        generator.plan_accounts();
        generator
    }

    /// The next call.
    pub fn call(&mut self) -> (Caller, Call) {
        if let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        let caller = self.caller();
        let call = match self.kv.rng.random_range(0..1000) {
            0..70 => return self.login(caller),
            70..76 => Call::Disable,
            76..82 => Call::Enable,
            82..190 => return (self.rather_root(caller), self.change()),
            190..240 => self.account(),
            240..330 => self.operation(caller),
            330..400 => Call::Watch(self.watch()),
            _ if !self.enabled && self.kv.often(20) => Call::Enable,
            _ => Call::Kv(self.request(caller)),
        };
        (caller, call)
    }

    /// Updates the generator with an answer.
    pub fn learn(&mut self, caller: Caller, call: &Call, answer: &Answer) {
        let done = matches!(answer, Answer::Text(_));
        match call {
            Call::Enable if done => self.enabled = true,
            Call::Disable if done => self.enabled = false,
            // Root has lost its role, or its user, while auth was disabled.
            Call::Enable if !self.enabled => self.plan_root(),
            Call::Login(session, request) if done => {
                self.sessions[*session] = USERS.into_iter().find(|name| *name == request.name);
            }
            _ => {}
        }
        // A session whose token has ended logs in again, mostly.
        let ended =
            matches!(answer, Answer::Error(_, text) if text.ends_with("invalid auth token"));
        if let Caller::Session(session) = caller
            && ended
            && self.kv.often(60)
        {
            let name = self.sessions[session].unwrap_or("root");
            let login = self.login_of(name);
            self.planned
                .push_back((Caller::Nobody, Call::Login(session, login)));
        }
    }

    /// The user of each session's login.
    pub fn users(&self) -> &[Option<&'static str>] {
        &self.sessions
    }

    /// At the end: everything that can be seen.
    pub fn finale(&mut self) -> Vec<(Caller, Call)> {
        let session = self.sessions.iter().position(|user| *user == Some("root"));
        let session = session.filter(|_| self.enabled);
        let caller = session.map_or(Caller::Nobody, Caller::Session);
        let mut calls = vec![Call::UserList, Call::RoleList];
        for name in USERS {
            let name = name.to_owned();
            calls.push(Call::UserGet(AuthUserGetRequest { name: name.clone() }));
        }
        for role in accounts::ROLES {
            let role = role.to_owned();
            calls.push(Call::RoleGet(AuthRoleGetRequest { role }));
        }
        calls.push(Call::Kv(Operation::Range(RangeRequest {
            key: b"\0"[..].into(),
            range_end: b"\0"[..].into(),
            ..RangeRequest::default()
        })));
        calls.into_iter().map(|call| (caller, call)).collect()
    }

    fn caller(&mut self) -> Caller {
        if !self.enabled {
            // etcd 3.4 refuses most requests with an ended token, although auth is disabled.
            return Caller::Nobody;
        }
        match self.kv.rng.random_range(0..100) {
            0..6 => Caller::Nobody,
            6..9 => Caller::Token(TOKENS.choose(&mut self.kv.rng).expect("there are tokens")),
            _ => Caller::Session(self.kv.rng.random_range(0..SESSIONS)),
        }
    }

    fn rather_root(&mut self, caller: Caller) -> Caller {
        let root = self.sessions.iter().position(|user| *user == Some("root"));
        match root {
            Some(session) if self.enabled && self.kv.often(75) => Caller::Session(session),
            _ => caller,
        }
    }

    /// Whether all that the caller does is permitted by etcd and by Keelson.
    fn is_root(&self, caller: Caller) -> bool {
        let root = |session: usize| self.sessions[session] == Some("root");
        !self.enabled || matches!(caller, Caller::Session(session) if root(session))
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let mut request = self.kv.watcher();
        // Progress and events may come first on a stream; a compacted start ends it at any time.
        request.start_revision = 0;
        request.watch_id = 0;
        set_upright(&request.key, &mut request.range_end);
        request
    }

    /// A request about pairs or leases.
    fn request(&mut self, caller: Caller) -> Operation {
        let mut request = self.any_request(caller);
        match &mut request {
            Operation::Range(range) => set_upright(&range.key, &mut range.range_end),
            Operation::Delete(delete) => set_upright(&delete.key, &mut delete.range_end),
            Operation::Txn(txn) => set_all_upright(txn),
            _ => {}
        }
        request
    }

    fn any_request(&mut self, caller: Caller) -> Operation {
        let is_root = self.is_root(caller);
        match self.kv.rng.random_range(0..100) {
            0..30 => Operation::Range(self.kv.range()),
            30..58 => Operation::Put(self.kv.put()),
            58..66 => Operation::Delete(self.kv.delete()),
            66..86 => {
                let mut txn = self.kv.txn(0);
                if !is_root {
                    detach(&mut txn);
                }
                Operation::Txn(txn)
            }
            86..88 => {
                let mut compact = self.kv.compact();
                if !is_root {
                    compact.revision = self.kv.revision + 1_000;
                }
                Operation::Compact(compact)
            }
            88 => Operation::Hash(HashKvRequest { revision: 0 }),
            _ => self.lease(caller),
        }
    }

    fn lease(&mut self, caller: Caller) -> Operation {
        let mut operation = self.kv.lease();
        let user = |session: usize| self.sessions[session].is_some();
        let has_user = matches!(caller, Caller::Session(session) if user(session));
        let has_no_user = self.enabled && !has_user;
        match &mut operation {
            Operation::Grant(request) if has_no_user => request.ttl = TTL_TOO_LARGE,
            Operation::Revoke(request) if has_no_user => request.id = NO_LEASE,
            _ => {}
        }
        operation
    }

    /// Members and maintenance.
    fn operation(&mut self, caller: Caller) -> Call {
        match self.kv.rng.random_range(0..10) {
            0 | 1 => Call::Members,
            2 => Call::Status,
            3 => Call::Hash,
            4 => Call::Snapshot,
            5 => Call::MoveLeader(MoveLeaderRequest { target_id: UNKNOWN }),
            6 | 7 => self.alarm(caller),
            _ => self.member(),
        }
    }

    fn member(&mut self) -> Call {
        let url = "http://127.0.0.1:9".to_owned();
        match self.kv.rng.random_range(0..4) {
            0 => Call::MemberAdd(MemberAddRequest::default()),
            1 => Call::MemberRemove(MemberRemoveRequest { id: UNKNOWN }),
            2 => Call::MemberUpdate(MemberUpdateRequest {
                id: UNKNOWN,
                peer_ur_ls: vec![url],
            }),
            _ => Call::MemberPromote(MemberPromoteRequest { id: UNKNOWN }),
        }
    }

    /// An alarm that root raises ends two calls later.
    fn alarm(&mut self, caller: Caller) -> Call {
        let of = |action: AlarmAction| {
            Call::Alarm(AlarmRequest {
                action: action.into(),
                member_id: 0,
                alarm: AlarmType::Nospace.into(),
            })
        };
        match self.kv.rng.random_range(0..4) {
            0 | 1 => of(AlarmAction::Get),
            2 if self.is_root(caller) => {
                let put = Call::Kv(Operation::Put(self.kv.put()));
                let off = of(AlarmAction::Deactivate);
                self.planned.extend([(caller, put), (caller, off)]);
                of(AlarmAction::Activate)
            }
            _ => of(AlarmAction::Deactivate),
        }
    }
}
