//! Seeded requests of the v2 API: valid, invalid, and unusual ones.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::pools::{
    ASIDE, BAD_BOOLS, BAD_MEMBERS, BOOLS, CONTENT_TYPES, ENDED_TTLS, ODD_NUMBERS, ODD_PATHS, PATHS,
    RAW_VALUES, TTLS, VALUES,
};
use crate::http::{Reply, Request};

/// The size of a store's history, in events.
const HISTORY: u64 = 1000;

/// Bound on the watchers and writes of an episode.
const WATCHERS: usize = 6;
const WRITES: usize = 12;

/// Bound on the keys that the generator keeps.
const KNOWN: usize = 200;

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A request; the replies are compared.
    Ask(Request),
    /// Watchers that are registered before the writes; what each receives is compared.
    Watch {
        /// Waits, one-shot ones and streams.
        watchers: Vec<Request>,
        /// The writes meanwhile.
        writes: Vec<Request>,
    },
}

/// Generates operations. The same seed and the same replies give the same operations.
#[derive(Debug)]
pub struct Generator {
    rng: ChaCha8Rng,
    /// The store's index, from the last reply.
    index: u64,
    /// Known keys: their value and modifiedIndex.
    known: BTreeMap<String, (String, u64)>,
    /// Whether the next parameters may expire a key at once.
    may_end: bool,
}

impl Generator {
    /// A generator for a fresh store.
    pub fn new(seed: u64) -> Generator {
        Generator {
            rng: ChaCha8Rng::seed_from_u64(seed),
            index: 0,
            known: BTreeMap::new(),
            may_end: true,
        }
    }

    /// The next operation.
    pub fn operation(&mut self) -> Operation {
        let request = match self.rng.random_range(0..1000) {
            0..250 => self.get(),
            250..570 => self.put(),
            570..640 => self.post(),
            640..760 => self.delete(),
            760..790 => self.head(),
            790..850 => {
                let watchers = vec![self.history()];
                return Operation::Watch {
                    watchers,
                    writes: Vec::new(),
                };
            }
            850..895 => self.aside(),
            895..905 => self.members(),
            905..915 => self.odd_method(),
            915..990 => self.odd_path(),
            _ => return self.episode(),
        };
        Operation::Ask(request)
    }

    /// Updates the known keys and the index from a reply.
    pub fn learn(&mut self, reply: &Reply) {
        if let Some(index) = reply.number("x-etcd-index") {
            self.index = self.index.max(index);
        }
        let Some(json) = reply.json() else {
            return;
        };
        self.remember(&json["node"]);
    }

    fn remember(&mut self, node: &Value) {
        let (key, value) = (node["key"].as_str(), node["value"].as_str());
        if let (Some(key), Some(index)) = (key, node["modifiedIndex"].as_u64()) {
            let value = value.unwrap_or_default().to_string();
            self.known.insert(key.to_string(), (value, index));
            self.index = self.index.max(index);
        }
        if KNOWN < self.known.len() {
            self.known.pop_first();
        }
    }

    fn often(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one_of<'a>(&mut self, pool: &[&'a str]) -> &'a str {
        pool.choose(&mut self.rng).expect("no pool is empty")
    }

    /// A key, without escapes.
    fn key(&mut self) -> String {
        if self.often(12) && !self.known.is_empty() {
            let at = self.rng.random_range(0..self.known.len());
            return self.known.keys().nth(at).expect("it is below").clone();
        }
        if self.often(4) {
            let depth = self.rng.random_range(1..12);
            return (0..depth).map(|_| self.segment()).collect();
        }
        let mut key = self.one_of(&PATHS).to_string();
        if self.often(25) {
            key += self.one_of(&["/l1", "/l2", "/l3", "/_l"]);
        }
        key
    }

    fn segment(&mut self) -> String {
        format!(
            "/{}",
            self.one_of(&["a", "b", "_h", "x y", "z.1", "\u{e9}"])
        )
    }

    fn target(&mut self, key: &str) -> String {
        format!("/v2/keys{}", self.escape(key, b"/"))
    }

    /// Percent-encodes a text; the characters in `spare` stay as they are.
    fn escape(&mut self, text: &str, spare: &[u8]) -> String {
        let lower = self.often(20);
        let mut out = String::new();
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || spare.contains(&byte) {
                out.push(char::from(byte));
            } else if lower {
                out += &format!("%{byte:02x}");
            } else {
                out += &format!("%{byte:02X}");
            }
        }
        out
    }

    fn value(&mut self) -> String {
        if self.often(8) {
            return self.one_of(&RAW_VALUES).to_string();
        }
        if self.rng.random_range(0..60) == 0 {
            return "long".repeat(self.rng.random_range(100..4_000));
        }
        let value = self.one_of(&VALUES);
        let escaped = self.escape(value, b"");
        if self.often(50) {
            escaped.replace("%20", "+")
        } else {
            escaped
        }
    }

    fn flag(&mut self) -> String {
        let pool: &[&str] = if self.often(4) { &BAD_BOOLS } else { &BOOLS };
        self.one_of(pool).to_string()
    }

    fn ttl(&mut self) -> String {
        if self.may_end && self.rng.random_range(0..80) == 0 {
            return self.one_of(&ENDED_TTLS).to_string();
        }
        if self.often(6) {
            // The largest numbers overflow to TTLs that ended long ago.
            let odd = self.one_of(&ODD_NUMBERS);
            let over = odd.starts_with("18446744073709551615") || odd.starts_with("92233720368547");
            return if over || odd == "007" { "x" } else { odd }.to_string();
        }
        self.one_of(&TTLS).to_string()
    }

    /// An index for `waitIndex` or `prevIndex` on `key`.
    fn index_for(&mut self, key: &str) -> String {
        if self.often(5) {
            return self.one_of(&ODD_NUMBERS).to_string();
        }
        match self.known.get(key) {
            Some((_, index)) if self.rng.random_range(0..10) < 7 => index.to_string(),
            _ => self.rng.random_range(0..=self.index + 2).to_string(),
        }
    }

    fn value_for(&mut self, key: &str) -> String {
        match self.known.get(key).map(|(value, _)| value.clone()) {
            Some(value) if self.often(70) => self.escape(&value, b""),
            _ => self.value(),
        }
    }

    /// Spreads parameters over query and form.
    fn spread(&mut self, method: &str, key: &str, parameters: &[(&str, String)]) -> Request {
        let (mut query, mut form) = (Vec::new(), Vec::new());
        let in_form = self.rng.random_range(0..3);
        for (name, value) in parameters {
            let pair = format!("{name}={value}");
            match in_form {
                0 => query.push(pair),
                1 => form.push(pair),
                _ if self.often(50) => query.push(pair),
                _ => form.push(pair),
            }
        }
        // A parameter in both places, or twice in one.
        if self.often(3)
            && let Some((name, value)) = parameters.first()
            && *name != "ttl"
        {
            query.push(format!("{name}={}", self.value()));
            form.push(format!("{name}={value}"));
        }
        if self.often(3) {
            let stray = [
                "consistent=true",
                "noValueOnSuccess=true",
                "&&",
                "=",
                "x",
                "=",
            ];
            query.push(self.one_of(&stray).to_string());
        }
        let mut target = self.target(key);
        if !query.is_empty() {
            target = format!("{target}?{}", query.join("&"));
        }
        let request = Request::new(method, target);
        self.with_body(request, form.join("&"))
    }

    fn with_body(&mut self, request: Request, form: String) -> Request {
        match self.rng.random_range(0..100) {
            0..3 => {
                let content_type = self.one_of(&CONTENT_TYPES);
                request.header("Content-Type", content_type).body(form)
            }
            3 => request.body(form),
            _ if form.is_empty() && self.often(50) => request,
            _ => request.form(form),
        }
    }

    fn get(&mut self) -> Request {
        let key = self.key();
        let mut parameters = Vec::new();
        for (name, percent) in [("recursive", 45), ("sorted", 45), ("quorum", 15)] {
            if self.often(percent) {
                parameters.push((name, self.flag()));
            }
        }
        if self.rng.random_range(0..60) == 0 {
            let bad = self.one_of(&["wait", "stream", "waitIndex", "prevIndex", "ttl", "dir"]);
            parameters.push((bad, "bad".to_string()));
        }
        self.query("GET", &key, &parameters)
    }

    fn head(&mut self) -> Request {
        let key = self.key();
        let flag = self.flag();
        let parameters = [("recursive", flag.clone()), ("sorted", flag)];
        let some = self.rng.random_range(0..=2);
        self.query("HEAD", &key, &parameters[..some])
    }

    fn query(&mut self, method: &str, key: &str, parameters: &[(&str, String)]) -> Request {
        let mut target = self.target(key);
        for (number, (name, value)) in parameters.iter().enumerate() {
            let mark = if number == 0 { '?' } else { '&' };
            target += &format!("{mark}{name}={value}");
        }
        Request::new(method, target)
    }

    fn put(&mut self) -> Request {
        let key = self.key();
        let mut parameters = Vec::new();
        if self.often(80) {
            parameters.push(("value", self.value()));
        }
        for (name, percent) in [("dir", 14), ("prevExist", 25), ("refresh", 4)] {
            if self.often(percent) {
                parameters.push((name, self.flag()));
            }
        }
        if self.often(20) {
            parameters.push(("ttl", self.ttl()));
        }
        if self.often(10) {
            parameters.push(("prevIndex", self.index_for(&key)));
        }
        if self.often(10) {
            parameters.push(("prevValue", self.value_for(&key)));
        }
        self.stray(&mut parameters);
        if self.often(4) {
            // A refresh that may be valid.
            parameters.retain(|(name, _)| !["value", "refresh", "ttl"].contains(name));
            parameters.push(("refresh", "true".to_string()));
            parameters.push(("ttl", self.ttl()));
        }
        self.spread("PUT", &key, &parameters)
    }

    /// Parameters that belong to other methods.
    fn stray(&mut self, parameters: &mut Vec<(&'static str, String)>) {
        if self.often(2) {
            let name = self.one_of(&["wait", "stream", "recursive", "sorted", "quorum"]);
            parameters.push((name, self.flag()));
        }
        if self.often(2) {
            parameters.push(("noValueOnSuccess", self.flag()));
        }
        if self.often(1) {
            parameters.push(("waitIndex", self.one_of(&ODD_NUMBERS).to_string()));
        }
    }

    fn post(&mut self) -> Request {
        let key = self.key();
        let mut parameters = vec![("value", self.value())];
        if self.often(15) {
            parameters.push(("ttl", self.ttl()));
        }
        if self.often(10) {
            parameters.push(("dir", self.flag()));
        }
        if self.often(4) {
            parameters.push(("prevExist", self.flag()));
        }
        if self.often(4) {
            parameters.push(("prevIndex", self.index_for(&key)));
        }
        self.stray(&mut parameters);
        self.spread("POST", &key, &parameters)
    }

    fn delete(&mut self) -> Request {
        let key = self.key();
        let mut parameters = Vec::new();
        for (name, percent) in [("dir", 35), ("recursive", 50), ("prevExist", 4)] {
            if self.often(percent) {
                parameters.push((name, self.flag()));
            }
        }
        if self.often(12) {
            parameters.push(("prevIndex", self.index_for(&key)));
        }
        if self.often(12) {
            parameters.push(("prevValue", self.value_for(&key)));
        }
        self.stray(&mut parameters);
        if self.often(70) {
            return self.query("DELETE", &key, &parameters);
        }
        self.spread("DELETE", &key, &parameters)
    }

    /// A wait that the history answers, or that begins before the history.
    fn history(&mut self) -> Request {
        let key = self.key();
        let oldest = self.index.saturating_sub(HISTORY);
        let since = if self.often(15) {
            self.rng.random_range(0..=oldest).max(1)
        } else {
            self.rng.random_range(oldest..=self.index).max(1)
        };
        let mut parameters = vec![
            ("wait", "true".to_string()),
            ("waitIndex", since.to_string()),
        ];
        if self.often(60) {
            parameters.push(("recursive", self.flag()));
        }
        if self.often(5) {
            parameters.push(("quorum", "true".to_string()));
        }
        self.query("GET", &key, &parameters)
    }

    fn aside(&mut self) -> Request {
        let (method, target) = ASIDE.choose(&mut self.rng).expect("it is not empty");
        Request::new(method, target)
    }

    fn members(&mut self) -> Request {
        let body = self.one_of(&BAD_MEMBERS);
        // There is no member 1e240, and `zz` is not an id.
        let (method, target) = match self.rng.random_range(0..4) {
            0 => ("PUT", "/v2/members/1e240"),
            1 => ("PUT", "/v2/members/zz"),
            _ => ("POST", "/v2/members"),
        };
        let types = [
            "application/json",
            "application/json; charset=utf-8",
            "text/plain",
            "",
        ];
        let content_type = if self.often(80) {
            types[0]
        } else {
            self.one_of(&types)
        };
        Request::new(method, target)
            .header("Content-Type", content_type)
            .body(body)
    }

    fn odd_method(&mut self) -> Request {
        let methods = [
            "PATCH", "OPTIONS", "TRACE", "QUERY", "get", "PROPFIND", "LINK",
        ];
        let method = self.one_of(&methods);
        let key = self.key();
        let target = self.target(&key);
        let request = Request::new(method, target);
        if self.often(30) {
            return request
                .header("Origin", "http://example.com")
                .header("Access-Control-Request-Method", "PUT");
        }
        request
    }

    fn odd_path(&mut self) -> Request {
        let path = self.one_of(&ODD_PATHS);
        let target = format!("/v2/keys{path}");
        match self.rng.random_range(0..10) {
            0..4 => Request::get(target),
            4 => Request::get(format!("{target}?recursive=true&sorted=true")),
            5 => Request::new("POST", target).form("value=1"),
            6 => Request::new("DELETE", format!("{target}?recursive=true")),
            7 => Request::put(format!("{target}?dir=true"), ""),
            _ => Request::put(target, format!("value={}", self.value())),
        }
    }

    fn episode(&mut self) -> Operation {
        let watchers = self.rng.random_range(1..=WATCHERS);
        let watchers = (0..watchers).map(|_| self.watcher()).collect();
        // A key that expires by itself would write at an undetermined time.
        self.may_end = false;
        let mut writes = Vec::new();
        for _ in 0..self.rng.random_range(1..=WRITES) {
            let write = match self.rng.random_range(0..10) {
                0..6 => self.put(),
                6 => self.post(),
                _ => self.delete(),
            };
            writes.push(write);
        }
        self.may_end = true;
        Operation::Watch { watchers, writes }
    }

    /// A wait for future events; some begin in the history all the same.
    fn watcher(&mut self) -> Request {
        let key = self.key();
        let mut parameters = vec![("wait", "true".to_string())];
        if self.often(70) {
            parameters.push(("recursive", "true".to_string()));
        }
        if self.often(40) {
            parameters.push(("stream", "true".to_string()));
        }
        match self.rng.random_range(0..10) {
            0..5 => {}
            5 => parameters.push(("waitIndex", "0".to_string())),
            6 | 7 => parameters.push(("waitIndex", (self.index + 1).to_string())),
            8 => parameters.push(("waitIndex", (self.index + 4).to_string())),
            _ => parameters.push(("waitIndex", self.index.saturating_sub(5).to_string())),
        }
        self.query("GET", &key, &parameters)
    }
}
