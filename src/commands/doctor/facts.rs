//! The facts about a cluster that a diagnosis is made from.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The given endpoints, each with the reason why it did not list the members, if it did not.
    pub(super) endpoints: Vec<(String, Option<String>)>,
    /// The members that the first answering endpoint listed.
    pub(super) members: Vec<MemberFacts>,
    /// The endpoints that are proxies, each with the number of members that it can use.
    pub(super) proxies: Vec<(String, usize)>,
    /// The list was confirmed by a majority.
    pub(super) confirmed: bool,
}

/// A listed member.
#[derive(Debug, Default)]
pub(super) struct MemberFacts {
    pub(super) id: u64,
    /// Empty: it was never started.
    pub(super) name: String,
    pub(super) client_urls: Vec<String>,
    pub(super) is_learner: bool,
    pub(super) answer: Presence,
}

/// What answers at a member's client URLs.
#[derive(Debug, Default)]
pub(super) enum Presence {
    /// It has none: it was never started.
    #[default]
    NotStarted,
    /// No answer, and the reason at its last URL.
    None(String),
    /// Another member, with this id, at this URL.
    Other { url: String, id: u64 },
    /// A refusal of the status: the member runs.
    Refused(String),
    /// The member's status.
    Status(Box<MemberStatus>),
}

/// The status of a member.
#[derive(Debug, Default)]
pub(super) struct MemberStatus {
    pub(super) version: String,
    /// The leader's id; 0: it has none.
    pub(super) leader: u64,
    pub(super) term: u64,
    pub(super) applied: u64,
    /// Bytes of its database that are in use, and the quota (0: not stated).
    pub(super) db_in_use: i64,
    pub(super) quota: i64,
    /// What it states as wrong itself.
    pub(super) errors: Vec<String>,
    /// The time from the request to the answer.
    pub(super) took: Duration,
    /// How far its clock is ahead of this host's, in seconds, and the error of that.
    pub(super) skew: Option<(f64, f64)>,
    /// From its metrics.
    pub(super) metrics: MetricFacts,
}

/// The part of a member's metrics that a diagnosis uses.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct MetricFacts {
    /// The 99th percentile of `etcd_disk_wal_fsync_duration_seconds` since its start: the upper
    /// bound of the bucket, in seconds.
    pub(super) fsync_p99: Option<f64>,
    /// The open descriptors and their limit.
    pub(super) descriptors: Option<(f64, f64)>,
    /// Days until the first of its certificates expires.
    pub(super) certificate_days: Option<f64>,
    /// Its scheduled snapshots, if it takes any.
    pub(super) backup: Option<BackupFacts>,
}

/// The scheduled snapshots of a member. Times are in seconds.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct BackupFacts {
    pub(super) interval: f64,
    pub(super) newest: NewestBackup,
    /// The last one failed, or older ones were not removed.
    pub(super) has_failed: bool,
}

/// The newest scheduled snapshot of a member.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) enum NewestBackup {
    /// The member could not read its directory or bucket.
    #[default]
    Unknown,
    None,
    /// Its age in seconds, by this host's clock.
    Age(f64),
}

impl Facts {
    /// The members that vote.
    pub(super) fn voters(&self) -> impl Iterator<Item = &MemberFacts> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// The statuses of the members that answer, with their members.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (&MemberFacts, &MemberStatus)> {
        self.members
            .iter()
            .filter_map(|member| match &member.answer {
                Presence::Status(status) => Some((member, &**status)),
                _ => None,
            })
    }
}

impl MemberFacts {
    /// Its name, or its id if it was never started.
    pub(super) fn label(&self) -> String {
        match &*self.name {
            "" => format!("{:x}", self.id),
            name => name.to_owned(),
        }
    }

    /// Whether it runs, as far as can be seen from here.
    pub(super) fn runs(&self) -> bool {
        matches!(self.answer, Presence::Status(_) | Presence::Refused(_))
    }
}

impl MetricFacts {
    /// Reads the text of `/metrics`. What it lacks is left out.
    pub(super) fn read(text: &str, now: SystemTime) -> MetricFacts {
        let value = |name: &str| sample(text, name).next().map(|(_, value)| value);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = value("keelson_backup_last_success_timestamp_seconds");
        let backup = value("keelson_backup_interval_seconds").map(|interval| BackupFacts {
            interval,
            newest: match newest {
                None => NewestBackup::Unknown,
                Some(newest) if newest <= 0.0 => NewestBackup::None,
                Some(newest) => NewestBackup::Age(now.as_secs_f64() - newest),
            },
            has_failed: value("keelson_backup_successful") == Some(0.0),
        });
        let days = sample(text, "keelson_tls_certificate_days_left").map(|(_, value)| value);
        MetricFacts {
            fsync_p99: percentile_99(text, "etcd_disk_wal_fsync_duration_seconds"),
            descriptors: value("process_open_fds").zip(value("process_max_fds")),
            certificate_days: days.reduce(f64::min),
            backup,
        }
    }
}

/// The samples of a metric: the labels, and the value.
fn sample<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None if rest.starts_with(' ') => ("", rest),
            None => return None,
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

/// The upper bound of the first bucket that holds 99 of 100 observations.
fn percentile_99(text: &str, name: &str) -> Option<f64> {
    let count = sample(text, &format!("{name}_count")).next()?.1;
    if count < 1.0 {
        return None;
    }
    let name = format!("{name}_bucket");
    let mut buckets = sample(text, &name).filter_map(|(labels, reached)| {
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let bound = match bound {
            "+Inf" => f64::INFINITY,
            bound => bound.parse().ok()?,
        };
        Some((bound, reached))
    });
    let found = buckets.find(|(_, reached)| 0.99 * count <= *reached);
    found.map(|(bound, _)| bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_from_their_text() {
        let text = "\
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 50
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.016\"} 99
etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 100
etcd_disk_wal_fsync_duration_seconds_sum 1.5
etcd_disk_wal_fsync_duration_seconds_count 100
process_open_fds 12
process_max_fds 1024
keelson_tls_certificate_days_left{file=\"a\"} 30.5
keelson_tls_certificate_days_left{file=\"b\"} 7
keelson_backup_interval_seconds 60
keelson_backup_last_success_timestamp_seconds 1000
keelson_backup_successful 0
";
        let now = UNIX_EPOCH + Duration::from_secs(1090);
        let read = MetricFacts::read(text, now);
        let backup = BackupFacts {
            interval: 60.0,
            newest: NewestBackup::Age(90.0),
            has_failed: true,
        };
        assert_eq!(read.backup, Some(backup));
        let newest = |text: &str| MetricFacts::read(text, now).backup.unwrap().newest;
        let name = "keelson_backup_last_success_timestamp_seconds";
        let none = text.replace(&format!("{name} 1000"), &format!("{name} 0"));
        assert_eq!(newest(&none), NewestBackup::None);
        assert_eq!(newest(&text.replace(name, "other")), NewestBackup::Unknown);
        assert_eq!(read.fsync_p99, Some(0.016));
        assert_eq!(read.descriptors, Some((12.0, 1024.0)));
        assert_eq!(read.certificate_days, Some(7.0));
        let slow = text.replace("} 99\n", "} 98\n");
        assert_eq!(MetricFacts::read(&slow, now).fsync_p99, Some(f64::INFINITY));
    }

    #[test]
    fn text_that_is_no_metric_has_no_facts() {
        for text in [
            "",
            "404 page not found",
            "process_open_fds",
            "process_max_fds{ 1",
        ] {
            let read = MetricFacts::read(text, UNIX_EPOCH);
            assert_eq!(read, MetricFacts::default(), "{text}");
        }
    }
}
