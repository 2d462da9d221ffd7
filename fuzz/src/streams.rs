//! Any bytes as the messages of a watch or keepalive stream through a proxy, in parts of any size:
//! they pass unchanged.

use keelson_proxy::fuzzing::pass;

/// The target. Each part is preceded by its length in one byte.
pub fn run(mut bytes: &[u8]) {
    let mut parts = vec![];
    while let Some((length, rest)) = bytes.split_first() {
        let (part, after) = rest.split_at(rest.len().min(usize::from(*length)));
        parts.push(part);
        bytes = after;
    }
    let [requests, responses] = pass(&parts);
    assert!(requests == parts.concat());
    assert!(responses == parts.concat());
}
