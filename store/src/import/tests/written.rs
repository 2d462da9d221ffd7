//! Files of an etcd, as it writes them.

use std::cell::Cell;
use std::path::Path;

use bytes::Bytes;
use keelson_bolt::Builder;
use keelson_proto::etcdserverpb::PutRequest;
use keelson_proto::mvccpb::KeyValue;
use prost::Message;
use tempfile::TempDir;

use crate::import::messages::{
    InternalRequest, RaftEntry, RaftSnapshot, Record, SnapshotEnvelope, SnapshotMetadata,
    StoredHardState,
};

/// A segment of a log.
#[derive(Default)]
pub(super) struct LogBuilder {
    pub(super) bytes: Vec<u8>,
    /// Where the frames begin.
    pub(super) begins: Vec<usize>,
    sum: u32,
}

impl LogBuilder {
    /// An entry that puts one key.
    pub(super) fn entry(&mut self, index: u64) {
        let put = PutRequest {
            key: Bytes::from(format!("key-{index:05}")),
            value: Bytes::from_static(b"a value"),
            ..PutRequest::default()
        };
        let request = InternalRequest {
            put: Some(put),
            ..InternalRequest::default()
        };
        let entry = RaftEntry {
            kind: 0,
            term: 2,
            index,
            data: Some(request.encode_to_vec().into()),
        };
        self.record(2, &entry.encode_to_vec());
    }

    /// A hard state with this commit.
    pub(super) fn state(&mut self, commit: u64) {
        let state = StoredHardState { term: 2, commit };
        self.record(3, &state.encode_to_vec());
    }

    /// Frames have padding up to a multiple of eight bytes.
    fn record(&mut self, kind: i64, data: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, data);
        let record = Record {
            kind,
            crc: self.sum,
            data: Some(Bytes::copy_from_slice(data)),
        };
        let record = record.encode_to_vec();
        let padding = record.len().next_multiple_of(8) - record.len();
        let mut word = record.len() as u64;
        if padding != 0 {
            word |= (0x80 | padding as u64) << 56;
        }
        self.begins.push(self.bytes.len());
        self.bytes.extend_from_slice(&word.to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.resize(self.bytes.len() + padding, 0);
    }
}

/// A data directory.
pub(super) struct EtcdDirectory {
    dir: TempDir,
    /// The members in its databases: one at first.
    pub(super) members: Cell<u64>,
}

impl EtcdDirectory {
    pub(super) fn new() -> EtcdDirectory {
        let dir = tempfile::tempdir().unwrap();
        for name in ["member/snap", "member/wal"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        EtcdDirectory {
            dir,
            members: Cell::new(1),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join("member").join(name), bytes).unwrap();
    }

    /// The log's only segment.
    pub(super) fn log(&self, bytes: &[u8]) {
        self.write("wal/0000000000000000-0000000000000000.wal", bytes);
    }

    /// A database at this entry, with one pair of this revision.
    pub(super) fn database(&self, name: &str, index: u64, revision: i64) {
        let pair = KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            ..KeyValue::default()
        };
        let key = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
        let fill = |builder: &mut Builder| {
            builder.bucket(b"key").unwrap();
            builder.row(&key, &pair.encode_to_vec()).unwrap();
            builder.bucket(b"members").unwrap();
            for id in 1..=self.members.get() {
                let row = format!("{{\"id\":{id},\"name\":\"m{id}\"}}");
                builder
                    .row(id.to_string().as_bytes(), row.as_bytes())
                    .unwrap();
            }
            builder.bucket(b"meta").unwrap();
            let index = index.to_be_bytes();
            builder.row(b"consistent_index", &index).unwrap();
            builder.row(b"term", &2_u64.to_be_bytes()).unwrap();
        };
        let mut plan = Builder::plan();
        fill(&mut plan);
        let mut builder = Builder::write(plan.finish().unwrap().layout);
        fill(&mut builder);
        let file = builder.finish().unwrap().rest;
        self.write(&format!("snap/{name}"), &file);
    }

    /// A snapshot of an empty v2 store at this entry, in a cluster of this version.
    pub(super) fn v2(&self, index: u64, version: &str) {
        let node = |value: &str, children: &str| {
            format!(
                "{{\"CreatedIndex\":0,\"ModifiedIndex\":0,\
                 \"ExpireTime\":\"0001-01-01T00:00:00Z\",\"Value\":\"{value}\",\
                 \"Children\":{children}}}"
            )
        };
        let version = format!("{{\"version\":{}}}", node(version, "null"));
        let parts = format!("{{\"0\":{},\"1\":{}}}", node("", &version), node("", "{}"));
        let root = node("", &parts);
        let store = format!("{{\"Root\":{root},\"CurrentIndex\":{index},\"WatcherHub\":null}}");
        let snapshot = RaftSnapshot {
            data: store.into(),
            metadata: Some(SnapshotMetadata { index, term: 2 }),
        };
        let data = Bytes::from(snapshot.encode_to_vec());
        let crc = crc32c::crc32c(&data);
        let envelope = SnapshotEnvelope { crc, data }.encode_to_vec();
        self.write(&format!("snap/{:016x}-{index:016x}.snap", 2), &envelope);
    }
}
