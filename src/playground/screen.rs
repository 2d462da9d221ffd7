//! The playground's output: an introduction at the start, then the hosts' states - live on a
//! terminal, and one line for each change where output is piped.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::host::{Host, HostState, StatusAnswer};
use super::secure::Secure;
use super::service::Discovery;

/// The interval at which the reader of the output is checked.
const CLOSED_LOOK: Duration = Duration::from_millis(500);

/// The hosts' roles and endpoints, and commands to try next.
pub(super) fn introduction(
    hosts: &[Host],
    discovery: &Discovery,
    data: &Path,
    is_temporary: bool,
    secure: Option<&Secure>,
) -> String {
    let (members, proxies) = (count(hosts, Host::is_member), count(hosts, Host::is_proxy));
    let spare = match members.saturating_sub(1) / 2 {
        0 => "No member may die.".to_owned(),
        1 => "Any one of the members may die.".to_owned(),
        spare => format!("Any {spare} of the members may die."),
    };
    let fate = if is_temporary {
        "removed at the end"
    } else {
        "kept"
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nKeelson playground: {} and {}. {spare}",
        number(members, "member", "members"),
        number(proxies, "proxy", "proxies"),
    );
    let _ = writeln!(text, "Data and logs: {} ({fate})", data.display());
    let use_of_it = if discovery.is_running() {
        "the only thing that the hosts are given to find each other"
    } else {
        "not used: the role of every host is in its data"
    };
    let _ = writeln!(text, "Discovery URL: {} ({use_of_it})\n", discovery.url);
    text.push_str("  host  became    clients          peers            process  log\n");
    for host in hosts {
        let plan = &host.plan;
        // A proxy has no peers: it listens for clients only.
        let peers = match host.is_proxy() {
            true => "-".to_owned(),
            false => format!("127.0.0.1:{}", plan.peer_port),
        };
        let _ = writeln!(
            text,
            "  {:<4}  {:<8}  127.0.0.1:{:<5}  {peers:<15}  {:<7}  {}",
            plan.name,
            host.role(),
            plan.client_port,
            host.process().unwrap_or(0),
            plan.log.display(),
        );
    }
    match secure {
        Some(secure) => text.push_str(&what_next_with_tls(hosts, secure)),
        None => text.push_str(&what_next(hosts)),
    }
    text.push_str(&the_end(hosts));
    text
}

/// Commands with certificates and the user. Its password and token are in no process's arguments,
/// which every user of the machine can read.
fn what_next_with_tls(hosts: &[Host], secure: &Secure) -> String {
    let url = |host: &Host| host.plan.client_url.clone();
    let all: Vec<String> = hosts.iter().map(url).collect();
    let other = hosts.iter().find(|host| host.is_proxy());
    let (first, other) = (&all[0], other.or(hosts.last()).map_or(all[0].clone(), url));
    let [ca, cert, key, password] =
        ["ca.pem", "client.pem", "client-key.pem", "root.password"].map(|name| secure.file(name));
    let endpoints = all.join(",");
    format!(
        "\nAll ports need a certificate of {ca}, and requests the user root, whose password is in\n\
         {password}\n\nNext, in another terminal:\n\n  \
         export ETCDCTL_API=3 ETCDCTL_CACERT={ca}\n  \
         export ETCDCTL_CERT={cert} ETCDCTL_KEY={key}\n  \
         export ETCDCTL_USER=root:$(cat {password}) ENDPOINTS={endpoints}\n  \
         etcdctl --endpoints {first} put greeting hello\n  \
         etcdctl --endpoints {other} get greeting\n  \
         etcdctl --endpoints $ENDPOINTS endpoint status -w table\n  \
         CURL=\"curl -s --cacert {ca} --cert {cert} --key {key}\"\n  \
         $CURL {first}/health\n  \
         TOKEN=$(printf '{{\"name\":\"root\",\"password\":\"%s\"}}' $(cat {password}) | \\\n    \
         $CURL {first}/v3/auth/authenticate -d @- | \\\n    \
         sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')\n  \
         printf 'Authorization: %s' $TOKEN | $CURL {first}/v3/kv/range \\\n    \
         -H @- -d '{{\"key\":\"Z3JlZXRpbmc=\"}}'\n"
    )
}

fn what_next(hosts: &[Host]) -> String {
    let all: Vec<String> = hosts.iter().map(client_address).collect();
    let first = &all[0];
    // Through a proxy, if there is one: clients use it like a member.
    let other = hosts.iter().find(|host| host.is_proxy());
    let other = other.or(hosts.last()).map_or(first.clone(), client_address);
    let mut text = String::new();
    let _ = write!(
        text,
        "\nNext, in another terminal:\n\n  \
         export ETCDCTL_API=3 ENDPOINTS={}\n  \
         etcdctl --endpoints {first} put greeting hello\n  \
         etcdctl --endpoints {other} get greeting\n  \
         etcdctl --endpoints $ENDPOINTS endpoint status -w table\n  \
         curl http://{first}/health\n  \
         curl http://{first}/v3/kv/range -d '{{\"key\":\"Z3JlZXRpbmc=\"}}'    # the same key\n  \
         curl http://{other}/v2/keys/greeting -XPUT -d value=hello    # etcd 2's keys\n",
        all.join(","),
    );
    text
}

fn the_end(hosts: &[Host]) -> String {
    let mut text = String::new();
    let leader = hosts.iter().find(|host| host.role() == "leader");
    if let Some(process) = leader
        .and_then(Host::process)
        .filter(|_| 1 < count(hosts, Host::is_member))
    {
        let _ = writeln!(
            text,
            "  kill -9 {process}    # the leader; another member is elected"
        );
    }
    text.push_str("\nCtrl-C stops the cluster.\n\n");
    text
}

fn client_address(host: &Host) -> String {
    format!("127.0.0.1:{}", host.plan.client_port)
}

fn count(hosts: &[Host], what: impl Fn(&Host) -> bool) -> usize {
    hosts.iter().filter(|host| what(host)).count()
}

pub(super) fn number(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Writes to standard output. Errors are ignored: [`closed`] detects the end of the reader.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

/// Returns when the reader of standard output has ended: its pipe or terminal is closed.
pub(super) async fn closed() {
    let mut looks = tokio::time::interval(CLOSED_LOOK);
    let stdout = std::io::stdout();
    loop {
        looks.tick().await;
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        // Errors and hang-ups are always reported.
        let gone = poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| 0 < ready);
        if gone {
            return;
        }
    }
}

/// Shows states as they change.
pub(super) enum Screen {
    /// One line for each host, redrawn in place, and one for the majority.
    Live(Vec<ProgressBar>, ProgressBar),
    /// One line for each change; the fields are the last lines for each host, and for the majority.
    Plain(Vec<String>, Option<String>),
}

impl Screen {
    pub(super) fn new(hosts: &[Host]) -> Screen {
        if !std::io::stdout().is_terminal() {
            return Screen::Plain(hosts.iter().map(change).collect(), None);
        }
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{msg}")
            .expect("the template is a constant and has valid keys");
        let bar = || lines.add(ProgressBar::new_spinner().with_style(style.clone()));
        let bars = hosts.iter().map(|_| bar()).collect();
        Screen::Live(bars, bar())
    }

    pub(super) fn show(&mut self, hosts: &[Host]) {
        match self {
            Screen::Live(bars, majority) => {
                for (bar, host) in bars.iter().zip(hosts) {
                    bar.set_message(line(host, hosts));
                }
                majority.set_message(no_majority(hosts).unwrap_or_default());
            }
            Screen::Plain(shown, majority) => {
                for (shown, host) in shown.iter_mut().zip(hosts) {
                    let now = change(host);
                    if *shown != now {
                        print(&format!("{}: {now}\n", host.plan.name));
                        *shown = now;
                    }
                }
                let now = no_majority(hosts);
                if *majority != now {
                    let text = now.as_deref().unwrap_or("a majority is back");
                    print(&format!("{text}\n"));
                    *majority = now;
                }
            }
        }
    }
}

/// The line shown while too few members answer, with the hosts whose return would restore the
/// majority.
fn no_majority(hosts: &[Host]) -> Option<String> {
    let members = hosts.iter().filter(|host| host.is_member());
    let (up, away): (Vec<_>, Vec<_>) =
        members.partition(|host| matches!(host.state, HostState::Up(_)));
    let away: Vec<_> = away.iter().map(|host| host.plan.name.as_str()).collect();
    missing_for_majority(up.len(), &away)
}

fn missing_for_majority(up: usize, away: &[&str]) -> Option<String> {
    let majority = (up + away.len()) / 2 + 1;
    let names = away.join(", ");
    let who = match (majority.saturating_sub(up), away.len()) {
        (0, _) => return None,
        (1, 1) => format!("{names} is"),
        (1, _) => format!("one of {names} is"),
        (all, away) if all == away => format!("{names} are"),
        (some, _) => format!("{some} of {names} are"),
    };
    Some(format!("no majority: writes wait until {who} back"))
}

/// A host's state, in columns that fit a terminal of eighty.
fn line(host: &Host, hosts: &[Host]) -> String {
    let name = &host.plan.name;
    let port = host.plan.client_port;
    let start = format!("  {name:<3} :{port:<5}");
    match &host.state {
        HostState::Up(answer) if host.is_proxy() => {
            format!(
                "{start}  up    {:<16} proxy     through {}",
                "",
                member_named(answer, hosts)
            )
        }
        HostState::Up(answer) => format!("{start}  up    {}", columns(answer)),
        HostState::Starting => format!("{start}  up    starting"),
        HostState::Silent if host.is_proxy() => format!("{start}  up    cannot reach a member"),
        HostState::Silent => format!("{start}  up    does not answer"),
        HostState::Down(how) => format!("{start}  DOWN  {how}"),
    }
}

/// The member that the answer comes from.
fn member_named<'a>(answer: &StatusAnswer, hosts: &'a [Host]) -> &'a str {
    let is_it = |host: &&Host| match &host.state {
        HostState::Up(own) => host.is_member() && own.id == answer.id,
        _ => false,
    };
    let found = hosts.iter().find(is_it);
    found.map_or("a member", |host| &host.plan.name)
}

fn columns(answer: &StatusAnswer) -> String {
    let size = match answer.size {
        Some((revision, db_bytes)) => format!("rev {revision:<8} {}", bytes(db_bytes)),
        None => "needs a user".to_owned(),
    };
    format!(
        "{:<16x} {:<9} term {:<3} {size}",
        answer.id,
        answer.role(),
        answer.term,
    )
}

/// The part of a state whose change is worth a line: not the revision, which changes with every
/// write.
fn change(host: &Host) -> String {
    match &host.state {
        HostState::Up(answer) if host.role() == "leader" => {
            format!("leads, term {}", answer.term)
        }
        HostState::Up(_) => format!("up, {}", host.role()),
        HostState::Starting => "starting".to_owned(),
        HostState::Silent if host.is_proxy() => "cannot reach a member".to_owned(),
        HostState::Silent => "does not answer".to_owned(),
        HostState::Down(how) => format!("down, {how}"),
    }
}

fn bytes(size: i64) -> String {
    match size {
        ..10_240 => format!("{size} B"),
        10_240..10_485_760 => format!("{} KiB", size / 1024),
        _ => format!("{} MiB", size / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_when_the_majority_is_gone_and_who_could_bring_it_back() {
        let text = |up, away: &[&str]| missing_for_majority(up, away).unwrap_or_default();
        assert_eq!(text(3, &["h1", "h2"]), "");
        assert_eq!(
            text(2, &["h1", "h2", "h6"]),
            "no majority: writes wait until one of h1, h2, h6 is back"
        );
        assert_eq!(
            text(1, &["h1", "h2", "h3", "h4"]),
            "no majority: writes wait until 2 of h1, h2, h3, h4 are back"
        );
        assert_eq!(
            text(0, &["h1"]),
            "no majority: writes wait until h1 is back"
        );
        assert_eq!(
            text(0, &["h1", "h2"]),
            "no majority: writes wait until h1, h2 are back"
        );
    }

    #[test]
    fn roles_follow_from_ids() {
        let answer = |id, leader, is_learner| StatusAnswer {
            id,
            leader,
            is_learner,
            term: 2,
            size: Some((1, 20_480)),
        };
        assert_eq!(answer(1, 1, false).role(), "leader");
        assert_eq!(answer(2, 1, false).role(), "follower");
        assert_eq!(answer(2, 1, true).role(), "learner");
        assert_eq!(answer(2, 0, false).role(), "no leader");
        let text = columns(&answer(0x8e9e05c52164694d, 0, false));
        assert!(text.starts_with("8e9e05c52164694d no leader"), "{text}");
        assert!(text.ends_with(" 20 KiB"), "{text}");
    }
}
