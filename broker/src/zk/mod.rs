//! Coordination: Kafka's znodes, in a real ZooKeeper ensemble or in the embedded store.

pub mod config_changes;
pub mod configs;
pub mod connect;
pub mod data;
pub mod embedded;
pub mod ensemble;
pub mod features;
mod journal;
mod json;
pub mod machine;
pub mod paths;
pub mod session;
pub mod window;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

/// A boxed future, so that [`Store`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// ZooKeeper's `Stat`, as far as Kafka uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// zxid of the creation; the broker epoch of `/brokers/ids/<id>`.
    pub czxid: i64,
    pub mzxid: i64,
    /// Creation time, milliseconds since the epoch.
    pub ctime: i64,
    pub mtime: i64,
    /// Data version ("zkVersion").
    pub version: i32,
    /// Children version.
    pub cversion: i32,
    /// Session that owns the node; 0 when persistent.
    pub ephemeral_owner: i64,
    pub num_children: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    Persistent,
    Ephemeral,
    /// ZooKeeper appends ten digits to the path.
    PersistentSequential,
}

/// One operation of a [`Store::multi`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Check {
        path: String,
        version: i32,
    },
    Create {
        path: String,
        data: Bytes,
        mode: CreateMode,
    },
    /// `None`: any version.
    Set {
        path: String,
        data: Bytes,
        version: Option<i32>,
    },
    Delete {
        path: String,
        version: Option<i32>,
    },
}

impl Op {
    pub fn path(&self) -> &str {
        match self {
            Self::Check { path, .. }
            | Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. } => path,
        }
    }
}

/// Result of one operation of a successful multi. The stat of a create is not available there
/// (ZooKeeper 3.8 returns garbage).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    Check,
    /// The final path.
    Create(String),
    Set(Stat),
    Delete,
}

/// What happened to a watched node; the watch is then spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEvent {
    Created,
    Deleted,
    DataChanged,
    ChildrenChanged,
    /// The session that held the watch is gone, or the connection was lost in a way that may have
    /// missed a change: read again and watch again.
    Lost,
}

/// A one-shot watch. A dropped sender reads as [`WatchEvent::Lost`].
pub type Watch = oneshot::Receiver<WatchEvent>;

/// The session as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    Connected {
        session_id: i64,
    },
    /// Connection lost, session perhaps alive.
    Disconnected {
        session_id: i64,
    },
    /// Gone with its ephemerals and watches; the store is making a new one.
    Expired,
    AuthFailed,
    Closed,
}

/// A node's data and stat.
pub type Node = (Bytes, Stat);

/// Failures of a store. Semantic ones are ZooKeeper's; `Unknown` means the outcome is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{path}: no such node")]
    NoNode { path: String },
    #[error("{path}: node exists")]
    NodeExists { path: String },
    #[error("{path}: version is not the expected one")]
    BadVersion { path: String },
    #[error("{path}: has children")]
    NotEmpty { path: String },
    #[error("{path}: not authorised")]
    NoAuth { path: String },
    #[error("{path}: ephemeral nodes have no children")]
    NoChildrenForEphemerals { path: String },
    #[error("{path}: not a valid path")]
    InvalidPath { path: String },
    #[error("the ZooKeeper session has expired")]
    SessionExpired,
    #[error("authentication with ZooKeeper failed")]
    AuthFailed,
    #[error("the coordination store is closed")]
    Closed,
    #[error("no answer from ZooKeeper: {reason}; the outcome is not known")]
    Unknown { reason: String },
}

/// A failed multi: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operation {index:?} of a multi: {error}")]
pub struct MultiError {
    /// Index of the operation that failed; `None` when the whole request did.
    pub index: Option<usize>,
    pub error: Error,
}

/// What Kafka needs of ZooKeeper. Two implementations, one conformance suite. Paths are below the
/// chroot. Calls may be pipelined: the order of calls is the order of their effects.
pub trait Store: Send + Sync + 'static {
    fn get(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat), Error>>;
    /// Many nodes, in the order of `paths`; `None` where there is none. Not one moment's view of them,
    /// and calls that follow may take effect before the last was read.
    fn get_many(&self, paths: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Node>>, Error>> {
        Box::pin(async move { window::get_each(self, &paths).await })
    }
    /// The watch is set only when the node exists.
    fn get_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat, Watch), Error>>;
    fn exists(&self, path: &str) -> BoxFuture<'_, Result<Option<Stat>, Error>>;
    /// Fires on creation, deletion and change of data.
    fn exists_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Option<Stat>, Watch), Error>>;
    /// Names, not paths; sorted.
    fn children(&self, path: &str) -> BoxFuture<'_, Result<Vec<String>, Error>>;
    fn children_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Vec<String>, Watch), Error>>;
    /// Returns the final path and its stat.
    fn create(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'_, Result<(String, Stat), Error>>;
    fn set(
        &self,
        path: &str,
        data: Bytes,
        version: Option<i32>,
    ) -> BoxFuture<'_, Result<Stat, Error>>;
    fn delete(&self, path: &str, version: Option<i32>) -> BoxFuture<'_, Result<(), Error>>;
    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>>;
    /// The current session's id.
    fn session_id(&self) -> i64;
    fn session_states(&self) -> watch::Receiver<SessionState>;
    /// Ends the session: its ephemerals go at once.
    fn close(&self) -> BoxFuture<'_, ()>;
}
