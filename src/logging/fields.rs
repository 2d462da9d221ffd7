//! Collects an event's fields.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};

/// The fields of an event: its message, and all others.
#[derive(Default)]
pub(super) struct Fields {
    /// The event's text.
    pub(super) message: String,
    /// The text for people, where etcd 3.4 had one that differs from zap's message and fields;
    /// scripts wait for both kinds.
    pub(super) plain: Option<String>,
    /// In the order in which they were recorded.
    pub(super) others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: Value) {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match field.name() {
            "message" => self.message = text(&value),
            "plain" => self.plain = Some(text(&value)),
            // Metadata that records of the `log` crate carry.
            name if name.starts_with("log.") => {}
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // A list of strings prints as JSON already; zap writes lists as lists.
        let list = if text.starts_with('[') {
            serde_json::from_str(&text).ok()
        } else {
            None
        };
        self.take(field, list.unwrap_or(Value::String(text)));
    }
}
