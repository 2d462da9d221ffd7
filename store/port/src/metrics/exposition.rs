//! Prometheus's text format, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::Histogram;

/// The content type of the text.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a series, in order.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text that is being written. A metric's series follow its first lines at once.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// The text so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    /// Writes a counter with one series.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, help, "counter");
        self.series(name, &[], value);
    }

    /// Writes a gauge with one series.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.begin(name, help, "gauge");
        self.series(name, &[], value);
    }

    /// Writes a gauge of value 1, whose label has the information.
    pub fn info(&mut self, name: &str, help: &str, label: (&str, &str)) {
        self.begin(name, help, "gauge");
        self.series(name, &[label], 1);
    }

    /// Writes a histogram with one series.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(name, help, "histogram");
        self.buckets(name, &[], histogram);
    }

    /// Writes the first lines of a metric of that kind: `counter`, `gauge` or `histogram`.
    pub fn begin(&mut self, name: &str, help: &str, kind: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, false);
        self.0.push_str("\n# TYPE ");
        self.0.push_str(name);
        self.0.push(' ');
        self.0.push_str(kind);
        self.0.push('\n');
    }

    /// Writes a series of the metric that was begun last.
    pub fn series(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        self.labels(labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// Writes the series of a histogram that was begun last. Durations are in seconds.
    pub fn buckets(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        self.buckets_in(Duration::from_secs(1), name, labels, histogram);
    }

    /// The same, with durations in that unit.
    pub fn buckets_in(
        &mut self,
        unit: Duration,
        name: &str,
        labels: Labels<'_>,
        histogram: &Histogram,
    ) {
        let read = histogram.read(unit);
        for (bound, count) in &read.cumulative {
            self.0.push_str(name);
            self.0.push_str("_bucket");
            self.labels(labels, Some(*bound));
            let _ = writeln!(self.0, " {count}");
        }
        for (suffix, value) in [("_sum", read.sum), ("_count", read.count as f64)] {
            self.0.push_str(name);
            self.0.push_str(suffix);
            self.labels(labels, None);
            let _ = writeln!(self.0, " {value}");
        }
    }

    /// Writes the labels, and `le` if there is a bound.
    fn labels(&mut self, labels: Labels<'_>, bound: Option<f64>) {
        if labels.is_empty() && bound.is_none() {
            return;
        }
        let text = &mut self.0;
        text.push('{');
        for (at, (label, value)) in labels.iter().enumerate() {
            if at != 0 {
                text.push(',');
            }
            let _ = write!(text, "{label}=\"");
            escape(text, value, true);
            text.push('"');
        }
        if let Some(bound) = bound {
            if !labels.is_empty() {
                text.push(',');
            }
            let _ = match bound.is_finite() {
                true => write!(text, "le=\"{bound}\""),
                false => write!(text, "le=\"+Inf\""),
            };
        }
        text.push('}');
    }
}

/// Appends a text with its backslashes and line feeds escaped, and its quotes in a label's value.
fn escape(text: &mut String, value: &str, quotes: bool) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_prometheus() {
        let mut out = Exposition::default();
        out.counter("a_total", "One\nline.", 3_u64);
        out.begin("b", "Labels.", "gauge");
        out.series("b", &[("To", "8e9e05c5"), ("x", "a\"\\")], 0.5);
        let histogram = Histogram::exponential(Duration::from_millis(1), 2);
        histogram.observe(Duration::from_millis(2));
        histogram.observe(Duration::from_millis(500));
        out.histogram("c_seconds", "Durations.", &histogram);
        let expected = "\
# HELP a_total One\\nline.
# TYPE a_total counter
a_total 3
# HELP b Labels.
# TYPE b gauge
b{To=\"8e9e05c5\",x=\"a\\\"\\\\\"} 0.5
# HELP c_seconds Durations.
# TYPE c_seconds histogram
c_seconds_bucket{le=\"0.001\"} 0
c_seconds_bucket{le=\"0.002\"} 1
c_seconds_bucket{le=\"+Inf\"} 2
c_seconds_sum 0.502
c_seconds_count 2
";
        assert_eq!(out.into_text(), expected);
    }
}
