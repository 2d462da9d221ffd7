//! A storage engine that cannot be read any more: every kind of read ends the member, as the
//! applier does.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use keelson_core::engine::{Engine, EngineError, EngineSize, MemoryEngine, Table, WriteBatch};
use keelson_proto::etcdserverpb::{PutRequest, RangeRequest, TxnRequest, WatchCreateRequest};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine::MovableEngine;
use crate::{Config, Error, StateError, Store};

/// An engine whose revisions cannot be read from some moment on.
#[derive(Default)]
struct Failing {
    rows: MemoryEngine,
    fails: AtomicBool,
}

impl Failing {
    fn check(&self, table: Table) -> Result<(), EngineError> {
        match table == Table::Key && self.fails.load(Ordering::SeqCst) {
            true => Err(EngineError("a page is damaged".to_owned())),
            false => Ok(()),
        }
    }
}

impl Engine for Failing {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.check(table)?;
        self.rows.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        self.check(table)?;
        self.rows.range(table, from, to, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.rows.write(batch)
    }

    fn size(&self) -> EngineSize {
        self.rows.size()
    }
}

/// Only a hang takes longer.
const LIMIT: Duration = Duration::from_secs(60);

fn range() -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        serializable: true,
        ..RangeRequest::default()
    }
}

/// A kind of read that has to reach the engine.
#[derive(Clone, Copy, Debug)]
enum Read {
    Range,
    Stream,
    Txn,
    Hash,
    Watch,
}

impl Read {
    async fn of(self, store: &Store) -> Result<(), Error> {
        match self {
            Read::Range => store.range(range()).await.map(drop),
            Read::Stream => {
                let mut pieces = Box::pin(store.range_stream(range()));
                pieces.next().await.expect("a piece").map(drop)
            }
            Read::Txn => {
                use keelson_proto::etcdserverpb::{RequestOp, request_op::Request};
                let request = Some(Request::RequestRange(range()));
                let success = vec![RequestOp { request }];
                let txn = TxnRequest {
                    success,
                    ..TxnRequest::default()
                };
                store.txn(txn).await.map(drop)
            }
            Read::Hash => store.hash_kv(0).await.map(drop),
            Read::Watch => {
                let mut watch = store.watch(WatchCreateRequest {
                    key: "a".into(),
                    range_end: "b".into(),
                    start_revision: 1,
                    ..WatchCreateRequest::default()
                });
                assert!(watch.next().await?.created);
                watch.next().await.map(drop)
            }
        }
    }
}

/// The member answered errors from then on, and went on.
#[tokio::test(flavor = "multi_thread")]
async fn every_read_of_a_damaged_engine_ends_the_member() {
    let reads = [
        Read::Range,
        Read::Stream,
        Read::Txn,
        Read::Hash,
        Read::Watch,
    ];
    for read in reads {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            flush_interval_ms: 1,
            flush_records: 1,
            ..Config::single("alone", dir.path())
        };
        let (ends, mut ended) = mpsc::unbounded_channel();
        let handler = move |text: &str| drop(ends.send(text.to_owned()));
        let store = Store::open_with(config, Arc::new(handler)).await.unwrap();
        store.ready().await;
        let failing = Arc::new(Failing::default());
        let engine = store.view().engine();
        let movable: &MovableEngine = engine.as_any().unwrap().downcast_ref().unwrap();
        movable.begin(failing.clone(), movable.dir());
        while movable.copy_step(1 << 20).unwrap() {}
        movable.finish(|| Ok::<_, EngineError>(())).unwrap();
        let put = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        store.put(put).await.unwrap();
        read.of(&store).await.unwrap();
        failing.fails.store(true, Ordering::SeqCst);
        // Until the row has left the memory for the engine.
        let failed = timeout(LIMIT, async {
            loop {
                if let Err(error) = read.of(&store).await {
                    break error;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let failed = failed.await.unwrap();
        let is_engine = matches!(&failed, Error::State(StateError::Engine(_)));
        assert!(is_engine, "{read:?}: {failed:?}");
        let text = ended.try_recv().unwrap();
        assert!(text.starts_with("reading "), "{read:?}: {text}");
        assert!(text.contains("a page is damaged"), "{read:?}: {text}");
        // The handler has returned: nothing is answered any more.
        let after = store.range(range()).await;
        assert!(matches!(after, Err(Error::Stopped)), "{read:?}: {after:?}");
        store.shutdown().await;
    }
}
