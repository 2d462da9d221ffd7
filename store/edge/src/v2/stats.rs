//! `/v2/stats`: the statistics of a member.
//!
//! `/v2/stats/store` counts the requests of this member's clients since it started. etcd counts
//! all requests that a member has applied.

use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode};
use keelson_core::MemberId;

use super::backend::{LeaderStats, SelfStats, TreeBackend};
use super::{Api, answer, json};
use crate::calls::COUNTED;

/// `what` is the path after "/v2/stats/"; `None` if no such resource exists.
pub(super) fn serve<B: TreeBackend>(
    inner: &Api<B>,
    what: &str,
    method: &Method,
) -> Option<Response> {
    if !matches!(what, "self" | "store" | "leader") {
        return None;
    }
    if *method != Method::GET {
        return Some(answer::not_allowed("GET"));
    }
    Some(match what {
        "self" => answer::json(of_self(&inner.backend.self_stats(), inner.backend.now_ns())),
        "store" => answer::json(of_store(inner)),
        _ => match inner.backend.leader_stats() {
            Some(stats) => answer::json(of_leader(&stats)),
            None => answer::message(StatusCode::FORBIDDEN, "not current leader"),
        },
    })
}

fn of_store<B: TreeBackend>(inner: &Api<B>) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    let mut field = |name: &str, more: &str, count| {
        out.put_u8(if out.is_empty() { b'{' } else { b',' });
        json::string(&mut out, format!("{name}{more}").as_bytes());
        out.put_u8(b':');
        json::number(&mut out, count);
    };
    for (counted, name) in COUNTED {
        let [failed, succeeded] = inner.calls.keys().of(counted);
        field(name, "Success", succeeded);
        field(name, "Fail", failed);
    }
    field("expireCount", "", inner.backend.tree_expired());
    field("watchers", "", inner.backend.tree_watchers());
    out.put_u8(b'}');
    out.freeze()
}

fn of_self(stats: &SelfStats, now_ns: i64) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    out.extend_from_slice(b"{\"name\":");
    json::string(&mut out, stats.name.as_bytes());
    out.extend_from_slice(format!(",\"id\":\"{}\",\"state\":\"", stats.id).as_bytes());
    out.extend_from_slice(match stats.leads {
        true => b"StateLeader",
        false => b"StateFollower",
    });
    out.extend_from_slice(b"\",\"startTime\":\"");
    json::time(&mut out, stats.started_ns);
    let leader = match stats.leader {
        MemberId::NONE => String::new(),
        leader => leader.to_string(),
    };
    let uptime = duration(
        now_ns
            .saturating_sub(stats.led_since_ns)
            .max(0)
            .unsigned_abs(),
    );
    let leader = format!(
        "\",\"leaderInfo\":{{\"leader\":\"{leader}\",\"uptime\":\"{uptime}\",\"startTime\":\""
    );
    out.extend_from_slice(leader.as_bytes());
    json::time(&mut out, stats.led_since_ns);
    out.extend_from_slice(b"\"}");
    let received = (stats.append_requests_received, stats.received_rate);
    let sent = (stats.append_requests_sent, stats.sent_rate);
    for (name, (count, rate)) in [("recv", received), ("send", sent)] {
        out.extend_from_slice(format!(",\"{name}AppendRequestCnt\":{count}").as_bytes());
        for (what, rate) in [("Pkg", rate.appends), ("Bandwidth", rate.bytes)] {
            if rate != 0.0 {
                out.extend_from_slice(format!(",\"{name}{what}Rate\":{rate}").as_bytes());
            }
        }
    }
    out.put_u8(b'}');
    out.freeze()
}

fn of_leader(stats: &LeaderStats) -> Bytes {
    let mut out = format!("{{\"leader\":\"{}\",\"followers\":{{", stats.leader);
    for (at, follower) in stats.followers.iter().enumerate() {
        if at != 0 {
            out.push(',');
        }
        out.push_str(&format!(
            "\"{}\":{{\"latency\":{{\"current\":{},\"average\":{},\"standardDeviation\":{},\
             \"minimum\":{},\"maximum\":{}}},\"counts\":{{\"fail\":{},\"success\":{}}}}}",
            follower.id,
            follower.latency_current,
            follower.latency_average,
            follower.latency_deviation,
            follower.latency_min,
            follower.latency_max,
            follower.failed,
            follower.succeeded,
        ));
    }
    out.push_str("}}");
    out.into()
}

/// A duration as Go prints a `time.Duration`: "1h2m3.5s", "1.140408499s", "2.5ms".
fn duration(ns: u64) -> String {
    let decimal = |whole: u64, unit: u64, name: &str| {
        let fraction = format!("{:0width$}", whole % unit, width = unit.ilog10() as usize);
        match fraction.trim_end_matches('0') {
            "" => format!("{}{name}", whole / unit),
            fraction => format!("{}.{fraction}{name}", whole / unit),
        }
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => decimal(ns, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => decimal(ns, 1_000_000, "ms"),
        _ => {
            let minutes = ns / 60_000_000_000;
            let seconds = decimal(ns % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::FollowerStats;

    #[test]
    fn durations_are_gos() {
        for (ns, expected) in [
            (0, "0s"),
            (999, "999ns"),
            (1_500, "1.5\u{b5}s"),
            (2_000_000, "2ms"),
            (1_140_408_499, "1.140408499s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ] {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn stats_have_etcds_shape() {
        let stats = SelfStats {
            name: "m1".to_owned(),
            id: MemberId(0x9b75),
            leads: true,
            started_ns: 1_000_000_000,
            leader: MemberId(0x9b75),
            led_since_ns: 2_000_000_000,
            ..SelfStats::default()
        };
        let expected = concat!(
            r#"{"name":"m1","id":"9b75","state":"StateLeader","#,
            r#""startTime":"1970-01-01T00:00:01Z","leaderInfo":{"leader":"9b75","#,
            r#""uptime":"1.5s","startTime":"1970-01-01T00:00:02Z"},"#,
            r#""recvAppendRequestCnt":0,"sendAppendRequestCnt":0}"#
        );
        assert_eq!(of_self(&stats, 3_500_000_000), expected);
        let follower = FollowerStats {
            id: MemberId(2),
            latency_current: 0.25,
            succeeded: 7,
            ..FollowerStats::default()
        };
        let stats = LeaderStats {
            leader: MemberId(1),
            followers: vec![follower],
        };
        let expected = concat!(
            r#"{"leader":"1","followers":{"2":{"latency":{"current":0.25,"average":0,"#,
            r#""standardDeviation":0,"minimum":0,"maximum":0},"#,
            r#""counts":{"fail":0,"success":7}}}}"#
        );
        assert_eq!(of_leader(&stats), expected);
    }
}
