//! A disk that is full when the memtable is flushed: the error has a name, nothing is lost, and the
//! member serves again once there is room.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keelson_core::engine::{Engine, EngineError, EngineSize, MemoryEngine, Table, WriteBatch};
use keelson_proto::etcdserverpb::PutRequest;
use tokio::sync::mpsc;

use crate::engine::MovableEngine;
use crate::{Config, Store};

/// An engine that has no room from some moment on.
#[derive(Default)]
pub(super) struct Filling {
    rows: MemoryEngine,
    pub(super) is_full: AtomicBool,
}

impl Engine for Filling {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.rows.get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), EngineError> {
        self.rows.range(table, from, to, visit)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        match self.is_full.load(Ordering::SeqCst) {
            true => Err(EngineError("no space left on the device".to_owned())),
            false => self.rows.write(batch),
        }
    }

    fn size(&self) -> EngineSize {
        self.rows.size()
    }
}

/// Lets the member write to an engine that fills up, in place of its file.
fn fill(store: &Store) -> Arc<Filling> {
    let filling = Arc::new(Filling::default());
    let engine = store.view().engine();
    let movable: &MovableEngine = engine.as_any().unwrap().downcast_ref().unwrap();
    movable.begin(filling.clone(), movable.dir());
    while movable.copy_step(1 << 20).unwrap() {}
    movable.finish(|| Ok::<_, EngineError>(())).unwrap();
    filling
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_at_a_flush_ends_the_member_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::single("alone", dir.path());
    let (ends, mut ended) = mpsc::unbounded_channel();
    let handler = move |text: &str| drop(ends.send(text.to_owned()));
    let store = Store::open_with(config.clone(), Arc::new(handler)).await;
    let store = store.unwrap();
    store.ready().await;
    let filling = fill(&store);
    let mut written = 0;
    let error = loop {
        if let Ok(text) = ended.try_recv() {
            break text;
        }
        let put = PutRequest {
            key: format!("k{written}").into(),
            ..PutRequest::default()
        };
        let answered = tokio::time::timeout(Duration::from_secs(60), store.put(put));
        tokio::select! {
            answer = answered => written += u32::from(answer.is_ok_and(|answer| answer.is_ok())),
            text = ended.recv() => break text.unwrap(),
        }
        filling.is_full.store(0 < written, Ordering::SeqCst);
    };
    assert!(
        error.contains("storage engine") && error.contains("no space left on the device"),
        "{error}"
    );
    store.shutdown().await;
    drop((store, filling));
    let store = Store::open(config).await.unwrap();
    store.ready().await;
    for number in 0..written {
        assert!(store.get(format!("k{number}")).await.unwrap().is_some());
    }
    assert!(0 < written);
    store
        .put(PutRequest {
            key: "after".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    store.shutdown().await;
}
