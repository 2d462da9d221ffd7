//! Collects the facts: the list of members, then each member's answers, all members at once.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::DATE;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keelson_proto::etcdserverpb::{Member, MemberListRequest, StatusRequest, StatusResponse};
use tokio::task::JoinSet;
use tonic::Status;

use super::facts::{Facts, MemberFacts, MemberStatus, MetricFacts, Presence};
use crate::commands::access::{MemberAccess, remedy};
use crate::commands::channel::{self, CONNECT_MAX};

/// A cluster that is examined.
pub(super) struct Examined {
    pub(super) access: MemberAccess,
    /// The time for each answer.
    pub(super) answer_max: Duration,
}

/// The facts about the cluster behind these URLs.
pub(super) async fn facts(urls: &[String], examined: Examined) -> Facts {
    let mut facts = Facts::default();
    for url in urls {
        let failure = match examined.list(url).await {
            Ok((members, confirmed)) => {
                if facts.members.is_empty() || (confirmed && !facts.confirmed) {
                    facts.members = members.into_iter().map(listed).collect();
                    facts.confirmed = confirmed;
                }
                None
            }
            Err(status) => Some(reason(&status, url)),
        };
        facts.endpoints.push((url.clone(), failure));
        if let Some(usable) = examined.proxy(url).await {
            facts.proxies.push((url.clone(), usable));
        }
    }
    let examined = Arc::new(examined);
    let mut answers = JoinSet::new();
    for (at, member) in facts.members.iter().enumerate() {
        let (id, urls) = (member.id, member.client_urls.clone());
        let examined = Arc::clone(&examined);
        answers.spawn(async move { (at, examined.answer_of(id, &urls).await) });
    }
    while let Some(answer) = answers.join_next().await {
        if let Ok((at, answer)) = answer {
            facts.members[at].answer = answer;
        }
    }
    facts
}

fn listed(member: Member) -> MemberFacts {
    MemberFacts {
        id: member.id,
        name: member.name,
        client_urls: member.client_ur_ls,
        is_learner: member.is_learner,
        answer: Presence::NotStarted,
    }
}

impl Examined {
    /// The members that an endpoint lists, and whether a majority has confirmed them.
    async fn list(&self, url: &str) -> Result<(Vec<Member>, bool), Status> {
        let mut client = ClusterClient::new(self.access.connect(url, self.answer_max).await?);
        let request = |linearizable| MemberListRequest { linearizable };
        let confirmed = client.member_list(request(true)).await;
        let (list, is_confirmed) = match confirmed {
            Err(status) if remedy(&status).is_none() => {
                (client.member_list(request(false)).await, false)
            }
            confirmed => (confirmed, true),
        };
        Ok((list?.into_inner().members, is_confirmed))
    }

    /// The number of members that a proxy at the URL can use; `None` if it is no proxy, or does not
    /// answer. A member does not have the path.
    async fn proxy(&self, url: &str) -> Option<usize> {
        let url = format!("{}/v2/config/local/proxy", url.trim_end_matches('/'));
        let (_, body) = channel::get(&url, self.access.tls(), CONNECT_MAX)
            .await
            .ok()?;
        let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
        body.get("endpoints")?.as_array().map(Vec::len)
    }

    /// What answers at the client URLs of a member.
    async fn answer_of(&self, id: u64, urls: &[String]) -> Presence {
        let mut answer = Presence::NotStarted;
        for url in urls {
            let began = Instant::now();
            match self.status(url).await {
                Ok(status) => {
                    let took = began.elapsed();
                    let found = status.header.as_ref().map_or(0, |header| header.member_id);
                    if found == id {
                        let status = self.further(url, of_response(status, took)).await;
                        return Presence::Status(Box::new(status));
                    }
                    answer = Presence::Other {
                        url: url.clone(),
                        id: found,
                    };
                }
                Err(status) if remedy(&status).is_some() => {
                    return Presence::Refused(status.message().to_owned());
                }
                Err(status) => answer = Presence::None(reason(&status, url)),
            }
        }
        answer
    }

    async fn status(&self, url: &str) -> Result<StatusResponse, Status> {
        let channel = self.access.connect(url, self.answer_max).await?;
        let answer = MaintenanceClient::new(channel)
            .status(StatusRequest {})
            .await?;
        Ok(answer.into_inner())
    }

    /// Adds what HTTP has: the clock, and the metrics. A member without them is no fault.
    async fn further(&self, url: &str, mut status: MemberStatus) -> MemberStatus {
        let url = url.trim_end_matches('/');
        let tls = self.access.tls();
        let sent = SystemTime::now();
        if let Ok((headers, _)) = channel::get(&format!("{url}/version"), tls, CONNECT_MAX).await {
            let date = headers.get(DATE).and_then(|date| date.to_str().ok());
            status.skew = date.and_then(|date| skew(date, sent, SystemTime::now()));
        }
        if let Ok((_, text)) = channel::get(&format!("{url}/metrics"), tls, CONNECT_MAX).await {
            status.metrics = MetricFacts::read(&String::from_utf8_lossy(&text), SystemTime::now());
        }
        status
    }
}

/// Why a URL does not answer, without the URL.
fn reason(status: &Status, url: &str) -> String {
    let text = status.message();
    let short = text.strip_prefix(&format!("cannot connect to {url}: "));
    short.unwrap_or(text).to_owned()
}

fn of_response(response: StatusResponse, took: Duration) -> MemberStatus {
    MemberStatus {
        version: response.version,
        leader: response.leader,
        term: response.raft_term,
        applied: response.raft_applied_index,
        db_in_use: response.db_size_in_use,
        quota: response.db_size_quota,
        errors: response.errors,
        took,
        ..MemberStatus::default()
    }
}

/// How far a clock is ahead, in seconds, and the error: the header has whole seconds (RFC 9110
/// 6.6.1), and was written between the request and the answer.
fn skew(date: &str, sent: SystemTime, received: SystemTime) -> Option<(f64, f64)> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
    let theirs = seconds(httpdate::parse_http_date(date).ok()?)?.as_secs_f64() + 0.5;
    let (sent, received) = (
        seconds(sent)?.as_secs_f64(),
        seconds(received)?.as_secs_f64(),
    );
    let error = 0.5 + (received - sent).max(0.0) / 2.0;
    Some((theirs - f64::midpoint(sent, received), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_clock_is_half_the_round_trip_and_half_a_second() {
        let at = |seconds: f64| UNIX_EPOCH + Duration::from_secs_f64(seconds);
        let date = "Thu, 01 Jan 1970 00:01:40 GMT";
        let (ahead, error) = skew(date, at(100.0), at(101.0)).unwrap();
        assert!(
            ahead.abs() < 1e-6 && (error - 1.0).abs() < 1e-6,
            "{ahead} {error}"
        );
        let (ahead, _) = skew(date, at(90.0), at(90.0)).unwrap();
        assert!((ahead - 10.5).abs() < 1e-6, "{ahead}");
        assert_eq!(skew("yesterday", at(1.0), at(2.0)), None);
    }
}
