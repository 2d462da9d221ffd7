//! The table beside etcd's: `etcd_flags.txt` has for each flag of etcd 3.7.1 and 3.4.23 its
//! defaults in both, `-` where a version does not have it and `''` for an empty text.

use super::*;

/// Our defaults that are not those of the newest etcd with the flag.
const OTHER_DEFAULTS: &[(&str, &str)] = &[
    (
        "discovery-fallback",
        "as in 3.4: a late host becomes a proxy",
    ),
    ("enable-v2", "Deis uses the V2 API"),
    ("log-format", "it follows from --logger"),
    ("log-output", "empty: --log-outputs counts"),
    ("logger", "text on a terminal, JSON otherwise"),
];

/// The name, and the default of the newest etcd that has the flag.
fn reference() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("etcd_flags.txt").lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let [name, newest, oldest] = words[..] else {
            panic!("{line}")
        };
        let default = if newest == "-" { oldest } else { newest };
        (name, if default == "''" { "" } else { default })
    })
}

#[test]
fn every_flag_of_etcd_has_its_default() {
    assert_eq!(reference().count(), 134);
    for (name, default) in reference() {
        let flag = find(name).unwrap_or_else(|| panic!("--{name}"));
        let same = match flag.kind {
            Kind::Duration => parse_duration(flag.default) == parse_duration(default),
            _ => flag.default == default,
        };
        let is_excepted = OTHER_DEFAULTS.iter().any(|(other, _)| *other == name);
        assert_eq!(
            same, !is_excepted,
            "--{name}: {} and {default}",
            flag.default
        );
    }
}

#[test]
fn what_does_not_work_has_a_reason_or_a_remedy() {
    for flag in all() {
        let text = match flag.effect {
            Effect::Works | Effect::Ignored => continue,
            Effect::Inert(text) | Effect::Unsupported(text) => text,
        };
        assert!(
            5 < text.len() && !text.ends_with('.'),
            "--{}: {text}",
            flag.name
        );
    }
}

/// `--experimental-snapshot-catchup-entries` had no effect, though the flag that it is works.
#[test]
fn an_old_name_does_what_its_new_name_does() {
    let old = all().filter_map(|flag| Some((flag, flag.doc.strip_prefix("Now --")?)));
    let mut count = 0;
    for (flag, rest) in old.filter(|(flag, _)| flag.name.starts_with("experimental-")) {
        let new = rest.split(['.', ',']).next().and_then(find);
        let new = new.unwrap_or_else(|| panic!("--{}", flag.name));
        let effects = [flag.effect, new.effect].map(|effect| std::mem::discriminant(&effect));
        assert_eq!(effects[0], effects[1], "--{}", flag.name);
        count += 1;
    }
    assert!(15 < count, "{count}");
}
