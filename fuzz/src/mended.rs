//! Any bytes as a client's connection: what the port mends before hyper reads it depends on no
//! piece, and is mended once.

use keelson_port::fuzzing::{mended_authority, mended_heads};

/// The target. The first byte is the size of the pieces.
pub fn run(bytes: &[u8]) {
    let Some((piece, bytes)) = bytes.split_first() else {
        return;
    };
    let pieces = [usize::from(*piece), bytes.len()];
    for mended in [mended_heads, mended_authority] {
        let [small, whole] = pieces.map(|piece| mended(bytes, piece));
        assert!(small == whole, "what is mended depends on the pieces");
        assert!(mended(&whole, whole.len()) == whole, "mended twice");
    }
    let plain = !bytes.iter().any(|byte| b"\"<>` \t".contains(byte));
    assert!(!plain || mended_heads(bytes, 1) == bytes, "nothing to mend");
}
