//! What the playground shows: one screen at the start, then the members' states - live on a
//! terminal, and where output is piped one line for each change.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::member::{Answer, Member, State};

/// Endpoints, leader, and what to type next.
pub(super) fn introduction(members: &[Member], data: &Path, is_temporary: bool) -> String {
    let spare = members.len().saturating_sub(1) / 2;
    let fate = if is_temporary {
        "removed at the end"
    } else {
        "kept"
    };
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nKeelson playground: {}. Any {spare} may die.",
        count(members.len())
    );
    let _ = writeln!(text, "Data and logs: {} ({fate})\n", data.display());
    let _ = writeln!(
        text,
        "  member  clients          peers            process  log"
    );
    for member in members {
        let plan = &member.plan;
        let _ = writeln!(
            text,
            "  {:<6}  127.0.0.1:{:<5}  127.0.0.1:{:<5}  {:<7}  {}",
            plan.name,
            plan.client_port,
            plan.peer_port,
            member.process().unwrap_or(0),
            plan.log.display(),
        );
    }
    text.push_str(&what_next(members));
    text
}

fn what_next(members: &[Member]) -> String {
    let all: Vec<String> = members
        .iter()
        .map(|member| format!("127.0.0.1:{}", member.plan.client_port))
        .collect();
    let (first, last) = (&all[0], &all[all.len() - 1]);
    let mut text = String::new();
    let leader = members.iter().find(|member| role(member) == "leader");
    if let Some(leader) = leader {
        let _ = writeln!(text, "\n  leader: {}", leader.plan.name);
    }
    let _ = write!(
        text,
        "\nNext, in another terminal:\n\n  \
         export ETCDCTL_API=3 ENDPOINTS={}\n  \
         etcdctl --endpoints {first} put greeting hello\n  \
         etcdctl --endpoints {last} get greeting\n  \
         etcdctl --endpoints $ENDPOINTS endpoint status -w table\n  \
         curl http://{first}/health\n  \
         curl http://{first}/v3/kv/range -d '{{\"key\":\"Z3JlZXRpbmc=\"}}'    # the same key\n",
        all.join(","),
    );
    if let Some(process) = leader
        .and_then(Member::process)
        .filter(|_| 1 < members.len())
    {
        let _ = writeln!(
            text,
            "  kill -9 {process}    # the leader; another takes over"
        );
    }
    text.push_str("\nCtrl-C ends all members.\n\n");
    text
}

fn count(members: usize) -> String {
    if members == 1 {
        "1 member".to_owned()
    } else {
        format!("{members} members")
    }
}

fn role(member: &Member) -> &'static str {
    match &member.state {
        State::Up(answer) => answer.role(),
        State::Starting => "starting",
        State::Silent => "no answer",
        State::Down(_) => "down",
    }
}

/// Shows states as they change.
pub(super) enum Screen {
    /// A line a member, redrawn in place.
    Live(Vec<ProgressBar>),
    /// A line a change; what was said last of each member.
    Plain(Vec<String>),
}

impl Screen {
    pub(super) fn new(members: &[Member]) -> Screen {
        if !std::io::stdout().is_terminal() {
            return Screen::Plain(members.iter().map(change).collect());
        }
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("{msg}")
            .expect("the template is a constant and names a known key");
        let bars = members
            .iter()
            .map(|_| lines.add(ProgressBar::new_spinner().with_style(style.clone())))
            .collect();
        Screen::Live(bars)
    }

    pub(super) fn show(&mut self, members: &[Member]) {
        match self {
            Screen::Live(bars) => {
                for (bar, member) in bars.iter().zip(members) {
                    bar.set_message(line(member));
                }
            }
            Screen::Plain(said) => {
                for (said, member) in said.iter_mut().zip(members) {
                    let now = change(member);
                    if *said != now {
                        println!("{}: {now}", member.plan.name);
                        *said = now;
                    }
                }
            }
        }
    }
}

/// Everything about a member, in columns that fit a terminal of eighty.
fn line(member: &Member) -> String {
    let name = &member.plan.name;
    let port = member.plan.client_port;
    let start = format!("  {name:<3} :{port:<5}");
    match &member.state {
        State::Up(answer) => format!("{start}  up    {}", columns(answer)),
        State::Starting => format!("{start}  up    starting"),
        State::Silent => format!("{start}  up    does not answer"),
        State::Down(how) => format!("{start}  DOWN  {how}"),
    }
}

fn columns(answer: &Answer) -> String {
    format!(
        "{:<16x} {:<9} term {:<3} rev {:<8} {}",
        answer.id,
        answer.role(),
        answer.term,
        answer.revision,
        bytes(answer.db_bytes),
    )
}

/// What is worth a line when it changes: not the revision, which always does.
fn change(member: &Member) -> String {
    match &member.state {
        State::Up(answer) if answer.role() == "leader" => {
            format!("leads, term {}", answer.term)
        }
        State::Up(answer) => format!("up, {}", answer.role()),
        State::Starting => "starting".to_owned(),
        State::Silent => "does not answer".to_owned(),
        State::Down(how) => format!("down, {how}"),
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
    fn roles_follow_from_ids() {
        let answer = |id, leader, is_learner| Answer {
            id,
            leader,
            is_learner,
            term: 2,
            revision: 1,
            db_bytes: 20_480,
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
