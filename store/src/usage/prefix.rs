//! The prefix of a key.

/// Directories that make a prefix.
pub(super) const DEPTH: usize = 2;

/// Longer prefixes are cut.
const BYTES_MAX: usize = 128;

/// The first two directories of a key, with the slash at their end. A slash at the beginning of a
/// key is no directory. Keys without a directory have an empty prefix, or `/`.
pub(crate) fn of(key: &[u8]) -> &[u8] {
    let mut end = usize::from(key.first() == Some(&b'/'));
    for _ in 0..DEPTH {
        match key[end..].iter().position(|byte| *byte == b'/') {
            Some(slash) => end += slash + 1,
            None => break,
        }
    }
    &key[..end.min(BYTES_MAX)]
}

/// The directory of the tree with the keys of the v2 API.
pub(super) const V2_KEYS: &[u8] = b"/1";

/// The key of a path in the tree.
pub(super) fn v2_key(path: &[u8]) -> &[u8] {
    path.strip_prefix(V2_KEYS).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories() {
        for (key, prefix) in [
            ("/registry/pods/default/web", "/registry/pods/"),
            ("/registry/pods/", "/registry/pods/"),
            ("/registry/pods", "/registry/"),
            ("/registry", "/"),
            ("/", "/"),
            ("service/web/leader", "service/web/"),
            ("user:1", ""),
            ("", ""),
            ("//a/b", "//a/"),
        ] {
            assert_eq!(of(key.as_bytes()), prefix.as_bytes(), "{key}");
        }
        let long = [b"/".as_slice(), &[b'x'; 200], b"/"].concat();
        assert_eq!(of(&long).len(), BYTES_MAX);
    }
}
