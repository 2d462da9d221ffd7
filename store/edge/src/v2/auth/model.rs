//! Users, roles and patterns, and their JSON on the wire and in the tree.
//!
//! Go distinguishes a nil list (`null`) from an empty one, both in what it writes and in whether
//! it counts as a change; so does this module.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Map, Value};

use super::AuthError;
use crate::v2::json;

/// The user with all permissions, and its role, which cannot be changed.
pub(super) const ROOT: &str = "root";

/// The role of requests without a password.
pub(super) const GUEST: &str = "guest";

type List = Option<Vec<String>>;

/// A user with a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    /// A password from clients, its hash in the tree.
    pub(super) password: String,
    pub(super) roles: List,
    pub(super) grant: List,
    pub(super) revoke: List,
}

/// A role with its permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) permissions: Permissions,
    pub(super) grant: Option<Permissions>,
    pub(super) revoke: Option<Permissions>,
}

/// Patterns: a key, or a prefix of keys and an asterisk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) read: List,
    pub(super) write: List,
}

impl User {
    /// Parses the first JSON value of a text. `None` if it is not a user.
    pub(super) fn parse(text: &[u8]) -> Option<User> {
        let mut user = User::default();
        for (name, value) in fields(first_value(text)?)? {
            match &*name.to_ascii_lowercase() {
                "user" => user.name = string(value)?,
                "password" => user.password = string(value)?,
                "roles" => user.roles = list(value)?,
                "grant" => user.grant = list(value)?,
                "revoke" => user.revoke = list(value)?,
                _ => {}
            }
        }
        Some(user)
    }

    /// The JSON for the tree; without its password, the JSON for clients.
    pub(super) fn to_json(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.extend_from_slice(b"{\"user\":");
        json::string(&mut out, self.name.as_bytes());
        if !self.password.is_empty() {
            out.extend_from_slice(b",\"password\":");
            json::string(&mut out, self.password.as_bytes());
        }
        out.extend_from_slice(b",\"roles\":");
        json::strings(&mut out, self.roles.as_deref());
        for (name, list) in [("grant", &self.grant), ("revoke", &self.revoke)] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                json::strings(&mut out, Some(list));
            }
        }
        out.put_u8(b'}');
        out.freeze()
    }

    pub(super) fn has_role(&self, name: &str) -> bool {
        self.roles.iter().flatten().any(|role| role == name)
    }

    /// Adds the role root to the user root.
    pub(super) fn with_root_role(mut self) -> User {
        if self.name == ROOT && !self.has_role(ROOT) {
            self.roles.get_or_insert_default().push(ROOT.to_owned());
        }
        self
    }

    /// Whether the request grants or revokes roles.
    pub(super) fn changes_roles(&self) -> bool {
        [&self.grant, &self.revoke]
            .iter()
            .any(|list| list.iter().flatten().next().is_some())
    }

    /// This user after a change; `hash` is the hash of a new password.
    pub(super) fn changed(&self, change: &User, hash: Option<String>) -> Result<User, AuthError> {
        let mut roles: BTreeSet<String> = self.roles.iter().flatten().cloned().collect();
        let conflict = |what: &str, role: &str| {
            let text = format!("{what} role {role} for user {}", change.name);
            AuthError::refused(StatusCode::CONFLICT, text)
        };
        for role in change.grant.iter().flatten() {
            if !roles.insert(role.clone()) {
                return Err(conflict("Granting duplicate", role));
            }
        }
        for role in change.revoke.iter().flatten() {
            if !roles.remove(role) {
                return Err(conflict("Revoking ungranted", role));
            }
        }
        Ok(User {
            name: self.name.clone(),
            password: hash.unwrap_or_else(|| self.password.clone()),
            roles: Some(roles.into_iter().collect()),
            ..User::default()
        })
    }
}

impl Role {
    /// A role with all permissions for keys: root, and guest until it is changed.
    pub(super) fn of_all(name: &str) -> Role {
        let all = || Some(vec!["/*".to_owned()]);
        Role {
            name: name.to_owned(),
            permissions: Permissions {
                read: all(),
                write: all(),
            },
            ..Role::default()
        }
    }

    /// Parses the first JSON value of a text. `None` if it is not a role.
    pub(super) fn parse(text: &[u8]) -> Option<Role> {
        let mut role = Role::default();
        for (name, value) in fields(first_value(text)?)? {
            match &*name.to_ascii_lowercase() {
                "role" => role.name = string(value)?,
                "permissions" => role.permissions = Permissions::parse(value)?.unwrap_or_default(),
                "grant" => role.grant = Permissions::parse(value)?,
                "revoke" => role.revoke = Permissions::parse(value)?,
                _ => {}
            }
        }
        Some(role)
    }

    pub(super) fn to_json(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        self.write(&mut out);
        out.freeze()
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"{\"role\":");
        json::string(out, self.name.as_bytes());
        out.extend_from_slice(b",\"permissions\":");
        self.permissions.write(out);
        for (name, permissions) in [("grant", &self.grant), ("revoke", &self.revoke)] {
            if let Some(permissions) = permissions {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                permissions.write(out);
            }
        }
        out.put_u8(b'}');
    }

    /// Whether the request grants or revokes permissions.
    pub(super) fn changes_permissions(&self) -> bool {
        let is_something = |patterns: &Option<Permissions>| {
            patterns
                .as_ref()
                .is_some_and(|patterns| !patterns.is_empty())
        };
        is_something(&self.grant) || is_something(&self.revoke)
    }

    /// This role after a change.
    pub(super) fn changed(&self, change: &Role) -> Result<Role, AuthError> {
        let mut permissions = self.permissions.clone();
        if let Some(grant) = &change.grant {
            permissions = permissions.with(grant)?;
        }
        if let Some(revoke) = &change.revoke {
            permissions = permissions.without(revoke);
        }
        Ok(Role {
            name: self.name.clone(),
            permissions,
            ..Role::default()
        })
    }

    /// Whether the role permits a read or a write of a key.
    pub(super) fn allows(&self, key: &[u8], write: bool) -> bool {
        self.name == ROOT || self.patterns(write).any(|pattern| matches(pattern, key))
    }

    /// Whether the role permits it for a key and its subtree: only patterns that end in an
    /// asterisk.
    pub(super) fn allows_below(&self, key: &[u8], write: bool) -> bool {
        let mut patterns = self.patterns(write);
        self.name == ROOT || patterns.any(|pattern| pattern.ends_with('*') && matches(pattern, key))
    }

    fn patterns(&self, write: bool) -> impl Iterator<Item = &str> {
        let patterns = match write {
            true => &self.permissions.write,
            false => &self.permissions.read,
        };
        patterns.iter().flatten().map(String::as_str)
    }
}

fn matches(pattern: &str, key: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => key.starts_with(prefix.as_bytes()),
        None => !pattern.is_empty() && key == pattern.as_bytes(),
    }
}

impl Permissions {
    /// `Some(None)` for null, `None` for a wrong type.
    fn parse(value: Value) -> Option<Option<Permissions>> {
        if value.is_null() {
            return Some(None);
        }
        let mut permissions = Permissions::default();
        for (name, value) in fields(value)? {
            if !name.eq_ignore_ascii_case("kv") {
                continue;
            }
            for (name, value) in fields(value)? {
                match &*name.to_ascii_lowercase() {
                    "read" => permissions.read = list(value)?,
                    "write" => permissions.write = list(value)?,
                    _ => {}
                }
            }
        }
        Some(Some(permissions))
    }

    fn write(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"{\"kv\":{\"read\":");
        json::strings(out, self.read.as_deref());
        out.extend_from_slice(b",\"write\":");
        json::strings(out, self.write.as_deref());
        out.extend_from_slice(b"}}");
    }

    pub(super) fn is_empty(&self) -> bool {
        let mut patterns = self.read.iter().chain(&self.write).flatten();
        patterns.next().is_none()
    }

    fn with(&self, granted: &Permissions) -> Result<Permissions, AuthError> {
        Ok(Permissions {
            read: joined(&self.read, &granted.read, "read")?,
            write: joined(&self.write, &granted.write, "write")?,
        })
    }

    /// Removes the revoked patterns. Unlike with users, a pattern that was not granted is ignored.
    fn without(&self, revoked: &Permissions) -> Permissions {
        let left = |had: &List, revoked: &List| {
            let revoked: BTreeSet<&String> = revoked.iter().flatten().collect();
            let had: BTreeSet<&String> = had.iter().flatten().collect();
            Some(had.difference(&revoked).copied().cloned().collect())
        };
        Permissions {
            read: left(&self.read, &revoked.read),
            write: left(&self.write, &revoked.write),
        }
    }
}

fn joined(had: &List, granted: &List, what: &str) -> Result<List, AuthError> {
    let mut patterns: BTreeSet<String> = had.iter().flatten().cloned().collect();
    for pattern in granted.iter().flatten() {
        if !patterns.insert(pattern.clone()) {
            let text = format!("Granting duplicate {what} permission {pattern}");
            return Err(AuthError::refused(StatusCode::CONFLICT, text));
        }
    }
    Ok(Some(patterns.into_iter().collect()))
}

/// Parses the first value, and ignores the rest as Go's decoder does.
fn first_value(text: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(text);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter();
    values.next()?.ok()
}

/// The fields of an object; null counts as an empty one.
fn fields(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

fn string(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

fn list(value: Value) -> Option<List> {
    match value {
        Value::Array(values) => values.into_iter().map(string).collect::<List>().map(Some),
        Value::Null => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_etcds() {
        for (pattern, key, is_match, is_match_below) in [
            ("/*", "/foo", true, true),
            ("/*", "", false, false),
            ("*", "", true, true),
            ("/foo", "/foo", true, false),
            ("/foo", "/foo/", false, false),
            ("/foo*", "/foobar", true, true),
            ("/foo/*", "/foo", false, false),
            ("", "", false, false),
        ] {
            let mut role = Role::of_all("r");
            role.permissions.read = Some(vec![pattern.to_owned()]);
            let key = key.as_bytes();
            assert_eq!(role.allows(key, false), is_match, "{pattern}");
            assert_eq!(role.allows_below(key, false), is_match_below, "{pattern}");
        }
    }

    #[test]
    fn names_of_fields_are_compared_as_go_does() {
        let text = br#"{"USER":"x","Roles":null,"unknown":[1],"grant":["a",null]} trailing"#;
        let user = User::parse(text).unwrap();
        assert_eq!(user.name, "x");
        assert_eq!(user.grant, Some(vec!["a".to_owned(), String::new()]));
        assert_eq!(user.roles, None);
        for refused in ["", "x", "[]", "1", r#"{"user":1}"#, r#"{"roles":"a"}"#] {
            assert_eq!(User::parse(refused.as_bytes()), None, "{refused}");
        }
        assert_eq!(User::parse(b"null"), Some(User::default()));
    }
}
