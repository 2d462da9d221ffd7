//! Users, roles and their permissions: seeded requests, compared as in `run`.
//!
//! It is a sequence of its own, since with accounts enabled nearly all other requests are refused,
//! and since both servers need a tenth of a second to check a password.

use std::path::Path;

use anyhow::Result;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::report::Summary;
use super::run::Pair;
use super::subject::Through;
use crate::http::Request;

/// `Authorization` headers, with their accounts.
const CREDENTIALS: [&str; 14] = [
    "Basic cm9vdDpw", // root:p
    "Basic cm9vdDpw",
    "Basic cm9vdDpw",
    "Basic cm9vdDpx", // root:q
    "Basic dTE6cA==", // u1:p
    "Basic dTE6cA==",
    "Basic dTI6cA==",     // u2:p
    "Basic dTE6cQ==",     // u1:q
    "Basic dTM6cA==",     // u3:p
    "Basic bm9ib2R5OnA=", // nobody:p
    "Basic dTE=",         // u1, no colon
    "Basic Og==",         // an empty name
    "Basic !!!",
    "Bearer token",
];

const USERS: [&str; 7] = ["root", "u1", "u1", "u2", "u3", "nobody", "%C3%A9"];
const ROLES: [&str; 6] = ["root", "guest", "r1", "r2", "r3", "none"];

/// Bodies for `PUT /v2/auth/users/<name>`, `{NAME}` being the name.
const USER_BODIES: [&str; 18] = [
    r#"{"user":"{NAME}","password":"p"}"#,
    r#"{"user":"{NAME}","password":"p","roles":["r1"]}"#,
    r#"{"user":"{NAME}","password":"p","roles":["r2","r1","r1"]}"#,
    r#"{"user":"{NAME}","password":"q"}"#,
    r#"{"user":"{NAME}","password":""}"#,
    r#"{"user":"{NAME}"}"#,
    r#"{"user":"{NAME}","grant":["r1"]}"#,
    r#"{"user":"{NAME}","grant":["r2","guest"]}"#,
    r#"{"user":"{NAME}","grant":["root"]}"#,
    r#"{"user":"{NAME}","revoke":["r1"]}"#,
    r#"{"user":"{NAME}","revoke":["root"]}"#,
    r#"{"user":"{NAME}","grant":["r3"],"revoke":["r1"],"password":"p"}"#,
    r#"{"user":"{NAME}","roles":["r1"],"grant":["r2"]}"#,
    r#"{"user":"other","password":"p"}"#,
    r#"{"password":"p"}"#,
    r#"{"user":1}"#,
    "{",
    "",
];

/// Bodies for `PUT /v2/auth/roles/<name>`.
const ROLE_BODIES: [&str; 15] = [
    r#"{"role":"{NAME}","permissions":{"kv":{"read":["/a/*"],"write":["/a/b"]}}}"#,
    r#"{"role":"{NAME}","permissions":{"kv":{"read":["/b*","/a"],"write":["/*"]}}}"#,
    r#"{"role":"{NAME}","permissions":{"kv":{"read":["*"],"write":null}}}"#,
    r#"{"role":"{NAME}","permissions":{"kv":{"read":[],"write":[]}}}"#,
    r#"{"role":"{NAME}"}"#,
    r#"{"role":"{NAME}","grant":{"kv":{"read":["/c/*"],"write":["/c"]}}}"#,
    r#"{"role":"{NAME}","grant":{"kv":{"read":["/a/*"]}}}"#,
    r#"{"role":"{NAME}","revoke":{"kv":{"read":["/a/*"],"write":["/a/b"]}}}"#,
    r#"{"role":"{NAME}","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#,
    r#"{"role":"{NAME}","grant":{"kv":{"write":["/d/*"]}},"revoke":{"kv":{"read":["/c/*"]}}}"#,
    r#"{"role":"{NAME}","permissions":{"kv":{"read":["/x"]}},"grant":{"kv":{"read":["/y"]}}}"#,
    r#"{"role":"other"}"#,
    r#"{"permissions":{"kv":{"read":["/a"]}}}"#,
    "null",
    "{",
];

const KEYS: [&str; 12] = [
    "/a", "/a/b", "/a/c", "/b", "/bb/c", "/c", "/c/d", "/d/e", "/x", "/y", "/_h/x", "",
];

const ASIDE: [(&str, &str); 13] = [
    ("GET", "/v2/auth/enable"),
    ("PUT", "/v2/auth/enable"),
    ("GET", "/v2/members"),
    ("POST", "/v2/members"),
    ("DELETE", "/v2/members/1234"),
    ("GET", "/v2/members/leader"),
    ("GET", "/v2/machines"),
    ("GET", "/v2/stats/self"),
    ("GET", "/v2/stats/leader"),
    ("GET", "/version"),
    ("GET", "/health"),
    ("POST", "/v2/auth/users/u1"),
    ("PUT", "/v2/auth/roles"),
];

/// Runs `requests` requests generated from `seed` on both binaries.
///
/// # Errors
/// A server does not start, ends, or answers differ; the text contains the command to repeat it.
pub async fn run(
    ours: &Path,
    theirs: &Path,
    through: Through,
    seed: u64,
    requests: usize,
) -> Result<Summary> {
    let mut pair = Pair::start(ours, theirs, through).await?;
    let mut generator = Generator {
        rng: ChaCha8Rng::seed_from_u64(seed),
    };
    for request in opening() {
        let _ = pair.ask(&request).await;
    }
    while pair.report.summary.requests < requests && !pair.report.enough() {
        let request = generator.request();
        let _ = pair.ask(&request).await;
        pair.alive()?;
        pair.number += 1;
    }
    pair.finish(&format!("accounts, seed {seed}"))
}

/// The beginning of every run: creates and enables accounts.
fn opening() -> Vec<Request> {
    let put = |target: &str, body: &str| {
        Request::new("PUT", target)
            .header("Content-Type", "application/json")
            .body(body)
    };
    let name = |body: &str, name: &str| body.replace("{NAME}", name);
    vec![
        Request::new("PUT", "/v2/auth/enable"),
        put("/v2/auth/roles/r1", &name(ROLE_BODIES[0], "r1")),
        put("/v2/auth/roles/r2", &name(ROLE_BODIES[1], "r2")),
        put("/v2/auth/users/u1", &name(USER_BODIES[1], "u1")),
        put("/v2/auth/users/u2", &name(USER_BODIES[2], "u2")),
        put("/v2/auth/users/root", &name(USER_BODIES[0], "root")),
        Request::put("/v2/keys/a/b", "value=1"),
        Request::new("PUT", "/v2/auth/enable"),
    ]
}

struct Generator {
    rng: ChaCha8Rng,
}

impl Generator {
    fn one_of<'a>(&mut self, pool: &[&'a str]) -> &'a str {
        pool.choose(&mut self.rng).expect("no pool is empty")
    }

    fn request(&mut self) -> Request {
        let root = "Basic cm9vdDpw";
        let request = match self.rng.random_range(0..100) {
            0..38 => self.keys(),
            38..52 => self.put("users", &USERS, &USER_BODIES),
            52..66 => self.put("roles", &ROLES, &ROLE_BODIES),
            66..78 => self.look(),
            78..83 => self.delete(),
            83..93 => self.aside(),
            93..98 => {
                return Request::new("PUT", "/v2/auth/enable").header("Authorization", root);
            }
            _ => Request::new("DELETE", "/v2/auth/enable"),
        };
        match self.rng.random_range(0..10) {
            0 | 1 => request,
            _ => {
                let who = self.one_of(&CREDENTIALS);
                request.header("Authorization", who)
            }
        }
    }

    fn keys(&mut self) -> Request {
        let target = format!("/v2/keys{}", self.one_of(&KEYS));
        match self.rng.random_range(0..10) {
            0..3 => Request::get(target),
            3 => Request::get(format!("{target}?recursive=true&sorted=true")),
            4 => Request::get(format!(
                "{target}?wait=true&waitIndex=1&recursive=true&quorum=1"
            )),
            5..8 => Request::put(target, "value=1"),
            8 => Request::new("POST", target).form("value=1"),
            _ => Request::new("DELETE", format!("{target}?recursive=true")),
        }
    }

    fn put(&mut self, kind: &str, names: &[&str], bodies: &[&str]) -> Request {
        let name = self.one_of(names);
        let body = self.one_of(bodies).replace("{NAME}", name);
        Request::new("PUT", format!("/v2/auth/{kind}/{name}"))
            .header("Content-Type", "application/json")
            .body(body)
    }

    fn look(&mut self) -> Request {
        let target = match self.rng.random_range(0..4) {
            0 => "/v2/auth/users".to_string(),
            1 => "/v2/auth/roles".to_string(),
            2 => format!("/v2/auth/users/{}", self.one_of(&USERS)),
            _ => format!("/v2/auth/roles/{}", self.one_of(&ROLES)),
        };
        Request::get(target)
    }

    fn delete(&mut self) -> Request {
        let target = if self.rng.random_range(0..2) == 0 {
            format!("/v2/auth/users/{}", self.one_of(&USERS))
        } else {
            format!("/v2/auth/roles/{}", self.one_of(&ROLES))
        };
        Request::new("DELETE", target)
    }

    fn aside(&mut self) -> Request {
        let (method, target) = ASIDE.choose(&mut self.rng).expect("it is not empty");
        Request::new(method, target)
    }
}
