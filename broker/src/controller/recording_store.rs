//! The embedded store for the tests of this room, with the order of writes kept.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::ManualClock;
use crate::zk::embedded::{Embedded, EmbeddedStore};
use crate::zk::{
    BoxFuture, CreateMode, Error, MultiError, Op, OpResult, SessionState, Stat, Store, Watch, paths,
};

pub(super) struct RecordingStore {
    inner: EmbeddedStore,
    written: Mutex<Vec<String>>,
}

impl RecordingStore {
    /// With the nodes that a broker creates at start-up.
    pub(super) async fn new() -> Arc<Self> {
        let store = Self {
            inner: Embedded::in_memory(Arc::new(ManualClock::at(1))).connect(),
            written: Mutex::default(),
        };
        for path in paths::persistent() {
            for (end, _) in path.match_indices('/').skip(1) {
                // The parent may be there already.
                let _ = store
                    .create(&path[..end], Bytes::new(), CreateMode::Persistent)
                    .await;
            }
            store.put(&path, "").await;
        }
        store.written.lock().clear();
        Arc::new(store)
    }

    /// Creates a persistent node.
    pub(super) async fn put(&self, path: &str, data: &str) {
        let data = Bytes::from(data.to_owned());
        let created = self.create(path, data, CreateMode::Persistent).await;
        created.expect("can be created");
    }

    pub(super) async fn put_ephemeral(&self, path: &str, data: &str) {
        let data = Bytes::from(data.to_owned());
        let created = self.create(path, data, CreateMode::Ephemeral).await;
        created.expect("can be created");
    }

    pub(super) async fn change(&self, path: &str, data: &str) {
        let set = self.set(path, Bytes::from(data.to_owned()), None).await;
        set.expect("can be set");
    }

    pub(super) async fn text(&self, path: &str) -> Option<String> {
        let (data, _) = self.get(path).await.ok()?;
        Some(String::from_utf8_lossy(&data).into_owned())
    }

    pub(super) async fn json(&self, path: &str) -> serde_json::Value {
        let text = self.text(path).await.expect(path);
        serde_json::from_str(&text).expect(path)
    }

    /// `create`, `set` and `delete` with their paths, since the last call.
    pub(super) fn take_written(&self) -> Vec<String> {
        std::mem::take(&mut self.written.lock())
    }

    /// The session ends with its ephemerals and watches; a new one follows at once.
    pub(super) fn expire_session(&self) {
        self.inner.expire();
    }

    fn record(&self, ops: &[Op]) {
        self.written
            .lock()
            .extend(ops.iter().filter_map(|op| match op {
                Op::Check { .. } => None,
                Op::Create { path, .. } => Some(format!("create {path}")),
                Op::Set { path, .. } => Some(format!("set {path}")),
                Op::Delete { path, .. } => Some(format!("delete {path}")),
            }));
    }
}

impl Store for RecordingStore {
    fn get(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat), Error>> {
        self.inner.get(path)
    }

    fn get_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat, Watch), Error>> {
        self.inner.get_and_watch(path)
    }

    fn exists(&self, path: &str) -> BoxFuture<'_, Result<Option<Stat>, Error>> {
        self.inner.exists(path)
    }

    fn exists_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Option<Stat>, Watch), Error>> {
        self.inner.exists_and_watch(path)
    }

    fn children(&self, path: &str) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.inner.children(path)
    }

    fn children_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Vec<String>, Watch), Error>> {
        self.inner.children_and_watch(path)
    }

    fn create(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'_, Result<(String, Stat), Error>> {
        self.record(&[Op::Create {
            path: path.to_owned(),
            data: data.clone(),
            mode,
        }]);
        self.inner.create(path, data, mode)
    }

    fn set(
        &self,
        path: &str,
        data: Bytes,
        version: Option<i32>,
    ) -> BoxFuture<'_, Result<Stat, Error>> {
        self.record(&[Op::Set {
            path: path.to_owned(),
            data: data.clone(),
            version,
        }]);
        self.inner.set(path, data, version)
    }

    fn delete(&self, path: &str, version: Option<i32>) -> BoxFuture<'_, Result<(), Error>> {
        self.record(&[Op::Delete {
            path: path.to_owned(),
            version,
        }]);
        self.inner.delete(path, version)
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        Box::pin(async move {
            let done = self.inner.multi(ops.clone()).await;
            if done.is_ok() {
                self.record(&ops);
            }
            done
        })
    }

    fn session_id(&self) -> i64 {
        self.inner.session_id()
    }

    fn session_states(&self) -> watch::Receiver<SessionState> {
        self.inner.session_states()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
