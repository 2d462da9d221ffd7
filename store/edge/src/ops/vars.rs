//! `/debug/vars`: Go's expvar, without the variables that only a Go process has.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::{Value, json};

use crate::backend::{Backend, RaftStatus};

/// etcd's `raft.Status`, without the leader's progress of its followers.
#[derive(Serialize)]
struct Raft {
    id: String,
    term: u64,
    commit: u64,
    lead: String,
    #[serde(rename = "raftState")]
    raft_state: &'static str,
    applied: u64,
}

impl From<RaftStatus> for Raft {
    fn from(status: RaftStatus) -> Raft {
        Raft {
            id: status.id.to_string(),
            term: status.term,
            commit: status.committed,
            lead: status.leader.to_string(),
            raft_state: status.role,
            applied: status.applied,
        }
    }
}

/// Any method is allowed, as by expvar's handler.
pub(super) async fn vars<B: Backend>(State(backend): State<B>) -> Response {
    let variables = [
        ("cmdline", json!(backend.command_line())),
        (
            "file_descriptor_limit",
            json!(keelson_port::descriptor_limit()),
        ),
        ("memstats", memory()),
        ("raft.status", json!(Raft::from(backend.raft_status()))),
    ];
    let lines = variables.map(|(name, value)| format!("\"{name}\": {value}"));
    let body = format!("{{\n{}\n}}\n", lines.join(",\n"));
    let kind = [(CONTENT_TYPE, "application/json; charset=utf-8")];
    (kind, body).into_response()
}

/// The part of Go's `MemStats` that the kernel provides, in bytes: `Sys` is the resident memory.
/// `VirtualSys`, which Go does not have, is the address space. Empty without `/proc`.
fn memory() -> Value {
    match keelson_port::memory() {
        Some(memory) => json!({"Sys": memory.resident, "VirtualSys": memory.address_space}),
        None => json!({}),
    }
}
