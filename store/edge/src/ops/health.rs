//! `/health`, `/livez` and `/readyz`, by the rules of etcd v3.7.1 `api/etcdhttp/health.go`.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::{Method, StatusCode};
use keelson_core::MemberId;
use keelson_proto::etcdserverpb::{AlarmType, RangeRequest};
use serde::Serialize;

use crate::Error;
use crate::backend::Backend;
use crate::calls::CallMetrics;
use crate::go;
use crate::v3::alarm_name;

pub(super) fn router<B: Backend>(backend: B, calls: CallMetrics) -> Router {
    Router::new()
        .route("/health", any(health::<B>))
        .route("/livez", any(livez::<B>))
        .route("/livez/{check}", any(livez_one::<B>))
        .route("/readyz", any(readyz::<B>))
        .route("/readyz/{check}", any(readyz_one::<B>))
        .with_state((backend, calls))
}

/// The query's fields in order; a name may be repeated.
type Fields = Query<Vec<(String, String)>>;

fn values<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = fields.iter().filter(move |(field, _)| field == name);
    named.map(|(_, value)| value.as_str())
}

#[derive(Serialize)]
struct HealthBody {
    health: &'static str,
    reason: String,
}

async fn health<B: Backend>(
    method: Method,
    fields: Fields,
    State((backend, calls)): State<(B, CallMetrics)>,
) -> Response {
    if let Err(refused) = go::only(&Method::GET, &method) {
        return refused;
    }
    let excluded: Vec<&str> = values(&fields, "exclude").collect();
    let serializable = values(&fields, "serializable").next() == Some("true");
    let trouble = trouble(&backend, &excluded, serializable).await;
    calls.probed(trouble.is_none());
    let health = HealthBody {
        health: if trouble.is_none() { "true" } else { "false" },
        reason: trouble.unwrap_or_default(),
    };
    let body = serde_json::to_string(&health).expect("strings are JSON");
    match health.health {
        "true" => go::text(body),
        _ => go::plain(StatusCode::SERVICE_UNAVAILABLE, &body),
    }
}

/// The first problem: alarms, then the leader, then a read.
async fn trouble<B: Backend>(backend: &B, excluded: &[&str], serializable: bool) -> Option<String> {
    let mut alarms = backend.alarms().into_iter();
    if let Some(alarm) = alarms.find(|alarm| !excluded.contains(&&*alarm_name(alarm))) {
        return Some(match AlarmType::try_from(alarm.alarm) {
            Ok(AlarmType::Nospace) => "ALARM NOSPACE".to_owned(),
            Ok(AlarmType::Corrupt) => "ALARM CORRUPT".to_owned(),
            _ => "ALARM UNKNOWN".to_owned(),
        });
    }
    if !serializable && backend.leader() == MemberId::NONE {
        return Some("RAFT NO LEADER".to_owned());
    }
    let failed = read(backend, serializable).await.err()?;
    Some(format!("RANGE ERROR:{failed}"))
}

/// The timeout of a probe's linearizable read. A leader without a quorum has usually stepped down
/// by then, while a client's read would wait seven seconds for the next leader.
const READ_TIMEOUT: Duration = Duration::from_millis(800);

/// Reads a missing key: cheap, but through the whole read path.
async fn read<B: Backend>(backend: &B, serializable: bool) -> Result<(), Error> {
    // etcd's error after seven seconds, without the wait.
    if !serializable && backend.leader() == MemberId::NONE {
        return Err(Error::Timeout);
    }
    let request = RangeRequest {
        key: Bytes::from_static(b"\0"),
        keys_only: true,
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    match tokio::time::timeout(READ_TIMEOUT, backend.range(request)).await {
        Ok(read) => read.map(drop),
        Err(_) => Err(Error::Timeout),
    }
}

/// A check, with etcd's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVEZ: Probe = Probe {
    kind: "livez",
    checks: &[Check::SerializableRead],
};
const READYZ: Probe = Probe {
    kind: "readyz",
    checks: &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ],
};

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run<B: Backend>(self, backend: &B) -> Result<(), String> {
        match self {
            Check::DataCorruption => {
                let corrupt = AlarmType::Corrupt as i32;
                let raised = backend.alarms().iter().any(|alarm| alarm.alarm == corrupt);
                fail_if(raised, "alarm activated: CORRUPT")?;
                let why = "the state of this member differs from the majority's";
                fail_if(backend.is_fenced(), why)
            }
            Check::SerializableRead => read(backend, true).await.map_err(|e| e.to_string()),
            Check::LinearizableRead => read(backend, false).await.map_err(|e| e.to_string()),
            Check::NonLearner => fail_if(backend.is_learner(), "not supported for learner"),
        }
    }
}

fn fail_if(failed: bool, why: &str) -> Result<(), String> {
    if failed { Err(why.to_owned()) } else { Ok(()) }
}

/// One of the probes.
#[derive(Clone, Copy, Debug)]
struct Probe {
    kind: &'static str,
    checks: &'static [Check],
}

type Member<B> = State<(B, CallMetrics)>;

async fn livez<B: Backend>(method: Method, fields: Fields, state: Member<B>) -> Response {
    all(method, fields, state, LIVEZ).await
}

async fn readyz<B: Backend>(method: Method, fields: Fields, state: Member<B>) -> Response {
    all(method, fields, state, READYZ).await
}

async fn livez_one<B: Backend>(
    method: Method,
    Path(name): Path<String>,
    fields: Fields,
    state: Member<B>,
) -> Response {
    one(method, &name, fields, state, LIVEZ).await
}

async fn readyz_one<B: Backend>(
    method: Method,
    Path(name): Path<String>,
    fields: Fields,
    state: Member<B>,
) -> Response {
    one(method, &name, fields, state, READYZ).await
}

/// Runs all checks except the excluded ones.
async fn all<B: Backend>(
    method: Method,
    fields: Fields,
    state: Member<B>,
    probe: Probe,
) -> Response {
    let included = |check: &&Check| !values(&fields, "exclude").any(|name| name == check.name());
    let checks: Vec<Check> = probe.checks.iter().filter(included).copied().collect();
    report(method, &fields, state, probe.kind, &checks).await
}

/// Runs the check of that name; the query cannot exclude it.
async fn one<B: Backend>(
    method: Method,
    name: &str,
    fields: Fields,
    state: Member<B>,
    probe: Probe,
) -> Response {
    match probe.checks.iter().find(|check| check.name() == name) {
        Some(check) => report(method, &fields, state, probe.kind, &[*check]).await,
        None => go::plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn report<B: Backend>(
    method: Method,
    fields: &Fields,
    State((backend, calls)): Member<B>,
    kind: &'static str,
    checks: &[Check],
) -> Response {
    if let Err(refused) = go::only(&Method::GET, &method) {
        return refused;
    }
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        let outcome = check.run(&backend).await;
        calls.checked(kind, check.name(), outcome.is_ok());
        match outcome {
            Ok(()) => lines += &format!("[+]{} ok\n", check.name()),
            Err(why) => {
                failed = true;
                lines += &format!("[-]{} failed: {why}\n", check.name());
            }
        }
    }
    if failed {
        return go::plain(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    if values(fields, "verbose").next().is_none() {
        lines.clear();
    }
    go::plain(StatusCode::OK, &(lines + "ok"))
}
