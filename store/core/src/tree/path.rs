//! Paths: whole, in bytes, with a slash in front of each name.

use std::borrow::Cow;

/// The paths that no request can change: etcd's read-only set, the root and two of its directories.
const READ_ONLY: [&[u8]; 3] = [b"/", b"/0", b"/1"];

/// Whether the node at that clean path is read-only.
pub(super) fn is_read_only(path: &[u8]) -> bool {
    READ_ONLY.contains(&path)
}

/// The path with exactly one slash in front of each name. Callers pass such paths; damaged log
/// entries must give the same result on every member, too.
pub(super) fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    let doubled = || path.windows(2).any(|pair| pair == b"//");
    if path == b"/" || (path.starts_with(b"/") && !path.ends_with(b"/") && !doubled()) {
        return Cow::Borrowed(path);
    }
    let mut clean = Vec::with_capacity(path.len() + 1);
    for name in names(path) {
        push(&mut clean, name);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    Cow::Owned(clean)
}

/// The names of a path; none for the root.
pub(super) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let names = path.split(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty())
}

/// Appends a name to a path without a final slash: the root is the empty path here.
pub(super) fn push(path: &mut Vec<u8>, name: &[u8]) {
    path.push(b'/');
    path.extend_from_slice(name);
}

/// The path in the form that `push` takes.
pub(super) fn stem(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Whether listings omit the name.
pub(super) fn is_hidden(name: &[u8]) -> bool {
    name.starts_with(b"_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_leaves_one_slash_in_front_of_each_name() {
        for (path, expected) in [
            ("/1/foo", "/1/foo"),
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("a", "/a"),
            ("/a/", "/a"),
            ("/a//b", "/a/b"),
            ("a//b//", "/a/b"),
            ("/..", "/.."),
        ] {
            assert_eq!(&*clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
