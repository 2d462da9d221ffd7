//! The accepted differences, which `golden/differences_auth.md` explains.

use keelson_proto::authpb::Permission;
use keelson_proto::etcdserverpb::TxnRequest;
use tonic::Code;

use super::call::Call;
use super::subject::is_refused;
use crate::differential::accepted as pairs;
use crate::differential::answer::Answer;
use crate::differential::generate::Operation;

/// The explanations; a rule without its line there is not accepted.
pub const GOLDEN: &str = include_str!("../../../golden/differences_auth.md");

/// The name of the rule for transactions, of which `unexecuted` finds the part that is refused.
pub const UNCHECKED_TXN: &str = "unchecked-txn";

/// The name of the rule for leases, of which a key is found that the caller may not read.
pub const UNCHECKED_KEYS: &str = "unchecked-keys";

/// The name of the rule for open watches, whose range the caller may not read.
pub const UNCHECKED_WATCH: &str = "unchecked-watch";

const BAD_TOKEN: &str = "etcdserver: invalid auth token";

/// One accepted difference.
struct Rule {
    /// Its name: the first column of its line in the golden file.
    name: &'static str,
    /// Whether it explains why the answers are not the same.
    explains: fn(&Call, &Answer, &Answer) -> bool,
}

const RULES: [Rule; 9] = [
    Rule {
        name: "unchecked",
        explains: unchecked,
    },
    Rule {
        name: "empty-txn",
        explains: empty_txn,
    },
    Rule {
        name: "empty-range",
        explains: empty_range,
    },
    Rule {
        name: "auth-status",
        explains: auth_status,
    },
    Rule {
        name: "login-token",
        explains: login_token,
    },
    Rule {
        name: "token-first",
        explains: token_first,
    },
    Rule {
        name: "raw-denial",
        explains: raw_denial,
    },
    Rule {
        name: "watch-denial",
        explains: watch_denial,
    },
    Rule {
        name: "alarm-header",
        explains: alarm_header,
    },
];

/// The name of the accepted difference between the two answers, if it is one.
pub fn accepted(call: &Call, ours: &Answer, theirs: &Answer) -> Option<&'static str> {
    let rule = RULES
        .iter()
        .find(|rule| (rule.explains)(call, ours, theirs));
    match (rule, call) {
        (Some(rule), _) => Some(rule.name),
        (None, Call::Kv(operation)) => pairs::accepted(operation, ours, theirs),
        (None, _) => None,
    }
}

/// What etcd answers without a token, or with any.
fn unchecked(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let is_open = match call {
        Call::Members | Call::Status | Call::Alarm(_) | Call::MoveLeader(_) => true,
        Call::Kv(operation) => matches!(
            operation,
            Operation::Compact(_) | Operation::Grant(_) | Operation::Revoke(_)
        ),
        _ => false,
    };
    let of_users = match call {
        Call::Kv(operation) => matches!(
            operation,
            Operation::KeepAlive(_) | Operation::Leases | Operation::TimeToLive(_)
        ),
        _ => false,
    };
    let is_denied = matches!(ours, Answer::Error(Code::PermissionDenied, _));
    is_refused(ours) && !is_refused(theirs) && (is_open || of_users && !is_denied)
}

fn empty_txn(call: &Call, ours: &Answer, _: &Answer) -> bool {
    let Call::Kv(Operation::Txn(txn)) = call else {
        return false;
    };
    *txn == TxnRequest::default() && is_refused(ours)
}

/// The generator has such a permission granted to no role.
fn empty_range(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let Call::GrantPermission(request) = call else {
        return false;
    };
    request.perm.as_ref().is_some_and(is_empty)
        && text(ours) == "etcdserver: invalid auth management"
        && text(theirs) == "etcdserver: role name not found"
}

/// Whether no key is in the range of the permission.
pub fn is_empty(permission: &Permission) -> bool {
    match &permission.range_end[..] {
        [] => permission.key.is_empty(),
        [0] => false,
        end => *end <= permission.key[..],
    }
}

fn auth_status(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let is_unknown = matches!(theirs, Answer::Error(Code::Unimplemented, _));
    let is_open = matches!(ours, Answer::Text(_)) && is_refused(theirs);
    matches!(call, Call::AuthStatus) && (is_unknown || is_open)
}

/// The generator has such a login fail.
fn login_token(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let failed = "etcdserver: authentication failed, invalid user ID or password";
    matches!(call, Call::Login(..)) && text(ours) == failed && text(theirs) == BAD_TOKEN
}

fn token_first(_: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let is_invalid = matches!(
        theirs,
        Answer::Error(Code::InvalidArgument | Code::OutOfRange, _)
    );
    text(ours) == BAD_TOKEN && is_invalid && !is_refused(theirs)
}

fn raw_denial(_: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let Answer::Error(Code::Unknown, raw) = theirs else {
        return false;
    };
    let own = text(ours).strip_prefix("etcdserver: ");
    is_refused(ours) && own.is_some() && raw.strip_prefix("auth: ") == own
}

fn watch_denial(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let (Call::Watch(_), Answer::Text(ours), Answer::Text(theirs)) = (call, ours, theirs) else {
        return false;
    };
    let is_created = "created: true, canceled: true";
    let any = [
        "PermissionDenied desc",
        "user name is empty",
        "invalid auth token",
    ];
    let (id, denied) = ("watch_id: 0, ", "PermissionDenied desc");
    ours.contains(is_created)
        && any.iter().any(|reason| ours.contains(reason))
        && [id, is_created, denied]
            .iter()
            .all(|part| theirs.contains(part))
}

fn alarm_header(call: &Call, ours: &Answer, theirs: &Answer) -> bool {
    let (Call::Alarm(_), Answer::Text(ours), Answer::Text(theirs)) = (call, ours, theirs) else {
        return false;
    };
    let alarms = |text: &str| text.split("alarms: ").nth(1).map(str::to_owned);
    theirs.contains("header: None") && alarms(ours) == alarms(theirs)
}

/// An error's text; empty for another answer.
fn text(answer: &Answer) -> &str {
    match answer {
        Answer::Error(_, text) => text,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_line_and_every_line_its_rule() {
        let rules = RULES.iter().map(|rule| rule.name);
        let rules: Vec<&str> = rules
            .chain([UNCHECKED_TXN, UNCHECKED_KEYS, UNCHECKED_WATCH])
            .collect();
        assert_eq!(rules, pairs::named_in(GOLDEN));
    }
}
