//! The log of an etcd that begins with a snapshot, and that snapshot's file.

use bytes::Bytes;
use prost::Message;

use super::messages::{
    ConfState, HardState, Metadata, SnapshotMark, WrittenEnvelope, WrittenMetadata, WrittenRecord,
    WrittenSnapshot,
};
use crate::wal::Identity;

/// The name of a log's first segment.
pub(super) const FIRST_SEGMENT: &str = "0000000000000000-0000000000000000.wal";

const METADATA: i64 = 1;
const STATE: i64 = 3;
const CHECKSUM: i64 = 4;
const SNAPSHOT: i64 = 5;

/// A place in Raft's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPlace {
    pub(super) index: u64,
    pub(super) term: u64,
}

/// The bytes of a log without entries, whose state is the snapshot at that place.
pub(super) fn segment(identity: Identity, place: LogPlace, voters: &[u64]) -> Vec<u8> {
    let metadata = Metadata {
        node: identity.member.0,
        cluster: identity.cluster.0,
    };
    let state = HardState {
        term: place.term,
        commit: place.index,
    };
    let mark = SnapshotMark {
        index: place.index,
        term: place.term,
        conf_state: Some(conf_state(voters)),
    };
    let mut writer = RecordWriter::default();
    writer.record(CHECKSUM, None);
    writer.record(METADATA, Some(metadata.encode_to_vec()));
    writer.record(SNAPSHOT, Some(SnapshotMark::default().encode_to_vec()));
    writer.record(STATE, Some(state.encode_to_vec()));
    writer.record(SNAPSHOT, Some(mark.encode_to_vec()));
    writer.bytes
}

fn conf_state(voters: &[u64]) -> ConfState {
    ConfState {
        voters: voters.to_vec(),
    }
}

/// Frames of records whose checksums are a chain.
#[derive(Default)]
struct RecordWriter {
    bytes: Vec<u8>,
    sum: u32,
}

impl RecordWriter {
    fn record(&mut self, kind: i64, data: Option<Vec<u8>>) {
        self.sum = crc32c::crc32c_append(self.sum, data.as_deref().unwrap_or_default());
        let record = WrittenRecord {
            kind,
            crc: self.sum,
            data: data.map(Bytes::from),
        };
        let record = record.encode_to_vec();
        let padding = record.len().next_multiple_of(8) - record.len();
        let mut word = record.len() as u64;
        if padding != 0 {
            word |= (0x80 | padding as u64) << 56;
        }
        self.bytes.extend_from_slice(&word.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// The name of the file of the snapshot at that place.
pub(super) fn snapshot_name(place: LogPlace) -> String {
    format!("{:016x}-{:016x}.snap", place.term, place.index)
}

/// The file of a snapshot of the v2 store.
pub(super) fn snapshot(place: LogPlace, voters: &[u64], store: Vec<u8>) -> Vec<u8> {
    let snapshot = WrittenSnapshot {
        data: store.into(),
        metadata: Some(WrittenMetadata {
            conf_state: Some(conf_state(voters)),
            index: place.index,
            term: place.term,
        }),
    };
    let data = Bytes::from(snapshot.encode_to_vec());
    let crc = crc32c::crc32c(&data);
    WrittenEnvelope { crc, data }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelson_core::{ClusterId, MemberId};

    /// As etcd 3.4.23 begins a log: four bytes of a record, and as many of padding.
    #[test]
    fn a_segment_begins_as_etcds_do() {
        let identity = Identity {
            cluster: ClusterId(1),
            member: MemberId(2),
        };
        let bytes = segment(identity, LogPlace { index: 7, term: 3 }, &[2]);
        assert_eq!(
            bytes[..16],
            [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes.len() % 8, 0);
    }
}
