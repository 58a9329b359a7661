//! A coordination store for the tests of this room: znodes in a map, one session at a time that
//! tests can expire. It records the order of writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::zk::{
    BoxFuture, CreateMode, Error, MultiError, Op, OpResult, SessionState, Stat, Store, Watch,
    WatchEvent,
};

#[derive(Clone, Default)]
struct Node {
    data: Bytes,
    stat: Stat,
}

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<String, Node>,
    zxid: i64,
    session: i64,
    data_watches: Vec<(String, oneshot::Sender<WatchEvent>)>,
    child_watches: Vec<(String, oneshot::Sender<WatchEvent>)>,
    written: Vec<String>,
}

pub(super) struct FakeStore {
    tree: Mutex<Tree>,
    states: watch::Sender<SessionState>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Tree {
    fn fire(&mut self, path: &str, event: WatchEvent) {
        let take = |watches: &mut Vec<(String, oneshot::Sender<WatchEvent>)>, path: &str| {
            let (fired, kept): (Vec<_>, Vec<_>) =
                watches.drain(..).partition(|(watched, _)| watched == path);
            *watches = kept;
            fired
        };
        let mut fired = take(&mut self.data_watches, path);
        if event != WatchEvent::DataChanged {
            fired.extend(take(&mut self.child_watches, parent(path)));
        }
        for (_, watch) in fired {
            let _ = watch.send(event);
        }
    }

    fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        if !path.is_empty() && !self.nodes.contains_key(path) {
            return Err(Error::NoNode {
                path: path.to_owned(),
            });
        }
        Ok(self
            .nodes
            .keys()
            .filter(|node| parent(node) == path && *node != path)
            .filter_map(|node| node.rsplit_once('/').map(|(_, name)| name.to_owned()))
            .collect())
    }

    fn apply(&mut self, op: &Op) -> Result<OpResult, Error> {
        let (Op::Check { path, .. }
        | Op::Create { path, .. }
        | Op::Set { path, .. }
        | Op::Delete { path, .. }) = op;
        let found = self.nodes.get(path).map(|node| node.stat.version);
        let gone = || Error::NoNode { path: path.clone() };
        let expect = |expected: Option<i32>| match (found, expected) {
            (None, _) => Err(gone()),
            (Some(version), Some(expected)) if version != expected => {
                Err(Error::BadVersion { path: path.clone() })
            }
            _ => Ok(()),
        };
        match op {
            Op::Check { version, .. } => {
                expect(Some(*version))?;
                return Ok(OpResult::Check);
            }
            Op::Create { data, mode, .. } => {
                if found.is_some() {
                    return Err(Error::NodeExists { path: path.clone() });
                }
                let up = parent(path);
                if !up.is_empty() && !self.nodes.contains_key(up) {
                    return Err(gone());
                }
                self.zxid += 1;
                let stat = Stat {
                    czxid: self.zxid,
                    ephemeral_owner: if *mode == CreateMode::Ephemeral {
                        self.session
                    } else {
                        0
                    },
                    ..Stat::default()
                };
                let data = data.clone();
                self.nodes.insert(path.clone(), Node { data, stat });
                self.written.push(format!("create {path}"));
                self.fire(path, WatchEvent::Created);
                Ok(OpResult::Create(path.clone()))
            }
            Op::Set { data, version, .. } => {
                expect(*version)?;
                self.written.push(format!("set {path}"));
                let node = self.nodes.get_mut(path).expect("found above");
                node.data = data.clone();
                node.stat.version += 1;
                let stat = node.stat;
                self.fire(path, WatchEvent::DataChanged);
                Ok(OpResult::Set(stat))
            }
            Op::Delete { version, .. } => {
                expect(*version)?;
                if !self.children(path)?.is_empty() {
                    return Err(Error::NotEmpty { path: path.clone() });
                }
                self.nodes.remove(path);
                self.written.push(format!("delete {path}"));
                self.fire(path, WatchEvent::Deleted);
                Ok(OpResult::Delete)
            }
        }
    }
}

impl FakeStore {
    /// With the nodes that a broker creates at start-up.
    pub(super) fn new() -> Arc<Self> {
        let store = Self {
            tree: Mutex::new(Tree {
                session: 1,
                ..Tree::default()
            }),
            states: watch::Sender::new(SessionState::Connected { session_id: 1 }),
        };
        for path in [
            "/brokers",
            "/brokers/ids",
            "/brokers/topics",
            "/admin",
            "/admin/delete_topics",
            "/config",
            "/config/topics",
            "/isr_change_notification",
            "/log_dir_event_notification",
        ] {
            store.create_now(path, "", CreateMode::Persistent);
        }
        store.tree.lock().written.clear();
        Arc::new(store)
    }

    pub(super) fn create_now(&self, path: &str, data: &str, mode: CreateMode) {
        let op = Op::Create {
            path: path.to_owned(),
            data: Bytes::from(data.to_owned()),
            mode,
        };
        self.tree.lock().apply(&op).expect("can be created");
    }

    pub(super) fn set_now(&self, path: &str, data: &str) {
        let op = Op::Set {
            path: path.to_owned(),
            data: Bytes::from(data.to_owned()),
            version: None,
        };
        self.tree.lock().apply(&op).expect("can be set");
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        let tree = self.tree.lock();
        let node = tree.nodes.get(path)?;
        Some(String::from_utf8_lossy(&node.data).into_owned())
    }

    /// `create`, `set` and `delete` with their paths, since the last call.
    pub(super) fn take_written(&self) -> Vec<String> {
        std::mem::take(&mut self.tree.lock().written)
    }

    /// The session ends with its ephemerals and watches; a new one follows at once.
    pub(super) fn expire_session(&self) {
        let session = {
            let mut tree = self.tree.lock();
            let owned: Vec<String> = tree
                .nodes
                .iter()
                .filter(|(_, node)| node.stat.ephemeral_owner == tree.session)
                .map(|(path, _)| path.clone())
                .collect();
            tree.data_watches.clear();
            tree.child_watches.clear();
            for path in owned {
                tree.nodes.remove(&path);
            }
            tree.session += 1;
            tree.session
        };
        self.states.send_replace(SessionState::Connected {
            session_id: session,
        });
    }

    fn now<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Tree) -> Result<T, Error>,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let result = f(&mut self.tree.lock());
        Box::pin(std::future::ready(result))
    }
}

impl Store for FakeStore {
    fn get(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat), Error>> {
        let path = path.to_owned();
        self.now(|tree| match tree.nodes.get(&path) {
            Some(node) => Ok((node.data.clone(), node.stat)),
            None => Err(Error::NoNode { path }),
        })
    }

    fn get_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat, Watch), Error>> {
        let path = path.to_owned();
        self.now(|tree| match tree.nodes.get(&path).cloned() {
            Some(node) => {
                let (sender, watch) = oneshot::channel();
                tree.data_watches.push((path, sender));
                Ok((node.data, node.stat, watch))
            }
            None => Err(Error::NoNode { path }),
        })
    }

    fn exists(&self, path: &str) -> BoxFuture<'_, Result<Option<Stat>, Error>> {
        let path = path.to_owned();
        self.now(move |tree| Ok(tree.nodes.get(&path).map(|node| node.stat)))
    }

    fn exists_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Option<Stat>, Watch), Error>> {
        let path = path.to_owned();
        self.now(|tree| {
            let stat = tree.nodes.get(&path).map(|node| node.stat);
            let (sender, watch) = oneshot::channel();
            tree.data_watches.push((path, sender));
            Ok((stat, watch))
        })
    }

    fn children(&self, path: &str) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        let path = path.to_owned();
        self.now(move |tree| tree.children(&path))
    }

    fn children_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Vec<String>, Watch), Error>> {
        let path = path.to_owned();
        self.now(|tree| {
            let children = tree.children(&path)?;
            let (sender, watch) = oneshot::channel();
            tree.child_watches.push((path, sender));
            Ok((children, watch))
        })
    }

    fn create(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'_, Result<(String, Stat), Error>> {
        let path = path.to_owned();
        self.now(|tree| {
            let op = Op::Create {
                path: path.clone(),
                data,
                mode,
            };
            tree.apply(&op)?;
            let stat = tree.nodes[&path].stat;
            Ok((path, stat))
        })
    }

    fn set(
        &self,
        path: &str,
        data: Bytes,
        version: Option<i32>,
    ) -> BoxFuture<'_, Result<Stat, Error>> {
        let op = Op::Set {
            path: path.to_owned(),
            data,
            version,
        };
        self.now(move |tree| match tree.apply(&op)? {
            OpResult::Set(stat) => Ok(stat),
            _ => Ok(Stat::default()),
        })
    }

    fn delete(&self, path: &str, version: Option<i32>) -> BoxFuture<'_, Result<(), Error>> {
        let op = Op::Delete {
            path: path.to_owned(),
            version,
        };
        self.now(move |tree| tree.apply(&op).map(drop))
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        let mut tree = self.tree.lock();
        // Tried on a copy without watches first: a multi happens whole or not at all.
        let mut trial = Tree {
            nodes: tree.nodes.clone(),
            zxid: tree.zxid,
            session: tree.session,
            ..Tree::default()
        };
        let refused = ops.iter().enumerate().find_map(|(index, op)| {
            let error = trial.apply(op).err()?;
            Some(MultiError {
                index: Some(index),
                error,
            })
        });
        let result = match refused {
            Some(error) => Err(error),
            None => Ok(ops
                .iter()
                .map(|op| tree.apply(op).expect("tried above"))
                .collect()),
        };
        drop(tree);
        Box::pin(std::future::ready(result))
    }

    fn session_id(&self) -> i64 {
        self.tree.lock().session
    }

    fn session_states(&self) -> watch::Receiver<SessionState> {
        self.states.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.states.send_replace(SessionState::Closed);
        Box::pin(std::future::ready(()))
    }
}
