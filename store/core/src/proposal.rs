//! The frame of a command in the log: the proposal id, then the command.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{MemberId, ProposalId};

/// The size of the id in front of the command, in bytes.
pub const ID_BYTES: usize = 24;

/// Encodes id and command.
pub fn encode(id: ProposalId, command: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(ID_BYTES + command.len());
    framed.put_u64(id.member.0);
    framed.put_u64(id.incarnation);
    framed.put_u64(id.counter);
    framed.put_slice(command);
    framed.freeze()
}

/// Decodes id and command. `None` if the payload is too short for an id, as in the empty entry with
/// which a leader begins its term.
pub fn decode(framed: &Bytes) -> Option<(ProposalId, Bytes)> {
    let word = |at: usize| {
        let bytes = framed.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    };
    let id = ProposalId {
        member: MemberId(word(0)?),
        incarnation: word(8)?,
        counter: word(16)?,
    };
    Some((id, framed.slice(ID_BYTES..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_its_command_come_back() {
        let id = ProposalId {
            member: MemberId(7),
            incarnation: 3,
            counter: u64::MAX,
        };
        let framed = encode(id, b"command");
        assert_eq!(decode(&framed), Some((id, Bytes::from_static(b"command"))));
    }

    #[test]
    fn a_leaders_empty_entry_has_no_id() {
        assert_eq!(decode(&Bytes::new()), None);
        assert_eq!(decode(&Bytes::from_static(&[0; 23])), None);
    }
}
