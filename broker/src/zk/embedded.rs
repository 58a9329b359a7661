//! The embedded store: the znode machine in this process, with its journal, in place of a
//! ZooKeeper ensemble.
//!
//! A change is applied and written to the page cache when it is called, and acknowledged once it
//! is synced; concurrent changes share one sync. What a read shows has been written, so nothing
//! seen is lost with the process. Opening closes every session the journal left open: their
//! process is gone, and its ephemerals go with it. After a failed write or sync the store answers
//! no more.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{oneshot, watch};

use super::journal::Journal;
pub use super::journal::OpenError;
use super::machine::{Applied, Command, Fired, Machine, SessionId, WatchId, WatchKind};
use super::{
    BoxFuture, CreateMode, Error, MultiError, Op, OpResult, SessionState, Stat, Store, Watch,
    WatchEvent,
};
use crate::clock::Clock;

/// Name of the folder in the first log dir.
pub const FOLDER: &str = "embedded-zookeeper";

/// The machine and its files. Sessions are opened with [`Embedded::connect`].
pub struct Embedded {
    shared: Arc<Shared>,
    syncer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Wakes the syncing thread.
    appended: Condvar,
    synced: watch::Sender<Synced>,
}

struct State {
    machine: Machine,
    journal: Option<Journal>,
    waiting: HashMap<WatchId, (WatchKind, String, oneshot::Sender<WatchEvent>)>,
    /// Sweep dropped watches when there are this many.
    sweep_at: usize,
    /// Records appended since the store was opened.
    appended: u64,
    failed: Option<String>,
    stopping: bool,
}

#[derive(Debug, Clone, Default)]
struct Synced {
    through: u64,
    failed: Option<String>,
}

/// One session's view of an [`Embedded`].
pub struct EmbeddedStore {
    server: Arc<Embedded>,
    states: watch::Sender<SessionState>,
}

impl Embedded {
    /// Opens the files in a folder; every session of an earlier process is closed.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OpenError> {
        let (journal, machine) = Journal::open(folder)?;
        let server = Self::start(machine, Some(journal), clock);
        let spawned = std::thread::Builder::new()
            .name("embedded-zookeeper".to_owned())
            .spawn({
                let shared = Arc::clone(&server.shared);
                move || shared.sync_loop()
            })
            .map_err(|source| OpenError::Io {
                path: folder.to_owned(),
                source,
            })?;
        *server.syncer.lock() = Some(spawned);
        Ok(server)
    }

    /// A store without files, for tests.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::start(Machine::new(), None, clock)
    }

    fn start(machine: Machine, journal: Option<Journal>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let mut state = State {
            machine,
            journal,
            waiting: HashMap::new(),
            sweep_at: 1024,
            appended: 0,
            failed: None,
            stopping: false,
        };
        let now = clock.now();
        let left_open: Vec<_> = state.machine.sessions().collect();
        for session in left_open {
            // A failure is kept in the state, and every later call answers with it.
            let _ = state.change(&Command::Close(session), now);
        }
        Arc::new(Self {
            shared: Arc::new(Shared {
                clock,
                state: Mutex::new(state),
                appended: Condvar::new(),
                synced: watch::Sender::new(Synced::default()),
            }),
            syncer: Mutex::new(None),
        })
    }

    /// Opens a session.
    pub fn connect(self: &Arc<Self>) -> EmbeddedStore {
        let session_id = self.shared.open_session();
        EmbeddedStore {
            server: Arc::clone(self),
            states: watch::Sender::new(SessionState::Connected { session_id }),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.appended.notify_all();
        if let Some(syncer) = self.syncer.lock().take() {
            // A panic there has been reported by the panic hook.
            let _ = syncer.join();
        }
    }
}

impl State {
    /// Applies a command and writes it to the journal. Returns the ticket to wait for.
    fn change(
        &mut self,
        command: &Command,
        now: i64,
    ) -> Result<(Vec<Applied>, Option<u64>), MultiError> {
        self.check_alive()
            .map_err(|error| MultiError { index: None, error })?;
        let before = self.machine.zxid();
        let mut fired = Vec::new();
        let applied = self.machine.apply(command, now, &mut fired)?;
        let mut ticket = None;
        if self.machine.zxid() != before
            && let Some(journal) = &mut self.journal
        {
            if let Err(error) = journal.append(self.machine.zxid(), now, command) {
                let error = self.fail("writing its journal", &error);
                return Err(MultiError { index: None, error });
            }
            self.appended += 1;
            ticket = Some(self.appended);
        }
        for Fired { watch, event } in fired {
            if let Some((_, _, sender)) = self.waiting.remove(&watch) {
                // Nobody waits for it any more: nothing to tell.
                let _ = sender.send(event);
            }
        }
        Ok((applied, ticket))
    }

    fn check_alive(&self) -> Result<(), Error> {
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(Error::Unknown {
                reason: reason.clone(),
            }),
        }
    }

    fn fail(&mut self, doing: &str, error: &io::Error) -> Error {
        let reason = format!("the embedded store failed {doing}: {error}");
        tracing::error!("{reason}; it answers no more until the broker is restarted");
        self.failed = Some(reason.clone());
        Error::Unknown { reason }
    }

    fn watch(&mut self, session: SessionId, kind: WatchKind, path: &str) -> Watch {
        if self.waiting.len() >= self.sweep_at {
            let machine = &mut self.machine;
            self.waiting.retain(|id, (kind, path, sender)| {
                let keep = !sender.is_closed();
                if !keep {
                    machine.unwatch(*kind, path, *id);
                }
                keep
            });
            self.sweep_at = 1024 + 2 * self.waiting.len();
        }
        let (sender, receiver) = oneshot::channel();
        let id = self.machine.watch(session, kind, path);
        self.waiting.insert(id, (kind, path.to_owned(), sender));
        receiver
    }
}

impl Shared {
    fn open_session(&self) -> SessionId {
        let mut state = self.state.lock();
        // A failure is kept in the state, and every later call answers with it.
        let _ = state.change(&Command::Open, self.clock.now());
        self.appended.notify_one();
        state.machine.zxid()
    }

    /// Waits until a change is on the disk.
    async fn durable(&self, ticket: Option<u64>) -> Result<(), Error> {
        let Some(ticket) = ticket else {
            return Ok(());
        };
        let mut synced = self.synced.subscribe();
        let reached = synced
            .wait_for(|synced| synced.through >= ticket || synced.failed.is_some())
            .await
            .map_err(|_| Error::Closed)?;
        match &reached.failed {
            Some(reason) if reached.through < ticket => Err(Error::Unknown {
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Syncs what was appended, as one for all that came meanwhile; compacts when it is time.
    fn sync_loop(&self) {
        let mut through = 0;
        let mut state = self.state.lock();
        loop {
            while state.appended == through && !state.stopping {
                self.appended.wait(&mut state);
            }
            let Some(journal) = state.journal.as_ref().filter(|_| state.appended > through) else {
                return;
            };
            let (file, target) = (journal.file(), state.appended);
            drop(state);
            let result = file.sync_data();
            state = self.state.lock();
            if result.is_ok() {
                through = target;
                self.synced.send_modify(|synced| synced.through = target);
            }
            let result = result.and_then(|()| self.maybe_compact(&mut state));
            if let Err(error) = result {
                // Which changes are on the disk is not known any more.
                state.fail("syncing its journal", &error);
                let failed = state.failed.clone();
                self.synced.send_modify(|synced| synced.failed = failed);
                return;
            }
        }
    }

    fn maybe_compact(&self, state: &mut parking_lot::MutexGuard<'_, State>) -> io::Result<()> {
        let State {
            machine, journal, ..
        } = &mut **state;
        let Some(journal) = journal
            .as_mut()
            .filter(|journal| journal.wants_compaction())
        else {
            return Ok(());
        };
        let compaction = journal.compact(machine)?;
        parking_lot::MutexGuard::unlocked(state, || compaction.finish())
    }
}

impl EmbeddedStore {
    /// Ends the session as ZooKeeper does when it hears nothing for too long, and begins another.
    pub fn expire(&self) {
        let shared = &self.server.shared;
        let Some(session) = self.current() else {
            return;
        };
        let _ = shared
            .state
            .lock()
            .change(&Command::Close(session), shared.clock.now());
        shared.appended.notify_one();
        self.states.send_replace(SessionState::Expired);
        let session_id = shared.open_session();
        self.states
            .send_replace(SessionState::Connected { session_id });
    }

    fn current(&self) -> Option<SessionId> {
        match *self.states.borrow() {
            SessionState::Connected { session_id } | SessionState::Disconnected { session_id } => {
                Some(session_id)
            }
            SessionState::Expired | SessionState::AuthFailed | SessionState::Closed => None,
        }
    }

    fn session(&self) -> Result<SessionId, Error> {
        self.current().ok_or(Error::Closed)
    }

    /// Answers a read from the machine as it is now.
    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut State, SessionId) -> Result<T, Error>,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let result = self.session().and_then(|session| {
            let mut state = self.server.shared.state.lock();
            state.check_alive()?;
            if !state.machine.is_open(session) {
                return Err(Error::SessionExpired);
            }
            read(&mut state, session)
        });
        Box::pin(std::future::ready(result))
    }

    /// Makes a change now; the future waits for the disk.
    fn write(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<Applied>, MultiError>> {
        let shared = &self.server.shared;
        let whole = |error| MultiError { index: None, error };
        let result = self.session().map_err(whole).and_then(|session| {
            let command = Command::Write(session, ops);
            shared.state.lock().change(&command, shared.clock.now())
        });
        shared.appended.notify_one();
        Box::pin(async move {
            let (applied, ticket) = result?;
            shared.durable(ticket).await.map_err(whole)?;
            Ok(applied)
        })
    }

    /// Makes a change of one operation.
    fn write_one(&self, op: Op) -> BoxFuture<'_, Result<Applied, Error>> {
        let written = self.write(vec![op]);
        Box::pin(async move {
            let applied = written.await.map_err(|error| error.error)?;
            Ok(applied
                .into_iter()
                .next()
                .expect("a write answers once for each operation"))
        })
    }
}

impl Store for EmbeddedStore {
    fn get(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat), Error>> {
        self.read(|state, _| state.machine.get(path))
    }

    fn get_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat, Watch), Error>> {
        self.read(|state, session| {
            let (data, stat) = state.machine.get(path)?;
            Ok((data, stat, state.watch(session, WatchKind::Data, path)))
        })
    }

    fn exists(&self, path: &str) -> BoxFuture<'_, Result<Option<Stat>, Error>> {
        self.read(|state, _| state.machine.exists(path))
    }

    fn exists_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Option<Stat>, Watch), Error>> {
        self.read(|state, session| {
            let stat = state.machine.exists(path)?;
            Ok((stat, state.watch(session, WatchKind::Data, path)))
        })
    }

    fn children(&self, path: &str) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        self.read(|state, _| state.machine.children(path))
    }

    fn children_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Vec<String>, Watch), Error>> {
        self.read(|state, session| {
            let names = state.machine.children(path)?;
            Ok((names, state.watch(session, WatchKind::Children, path)))
        })
    }

    fn create(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'_, Result<(String, Stat), Error>> {
        let path = path.to_owned();
        let written = self.write_one(Op::Create { path, data, mode });
        Box::pin(async move {
            match written.await? {
                Applied::Create(path, stat) => Ok((path, stat)),
                Applied::Check | Applied::Set(_) | Applied::Delete => {
                    unreachable!("a create answers a create")
                }
            }
        })
    }

    fn set(
        &self,
        path: &str,
        data: Bytes,
        version: Option<i32>,
    ) -> BoxFuture<'_, Result<Stat, Error>> {
        let path = path.to_owned();
        let written = self.write_one(Op::Set {
            path,
            data,
            version,
        });
        Box::pin(async move {
            match written.await? {
                Applied::Set(stat) => Ok(stat),
                Applied::Check | Applied::Create(..) | Applied::Delete => {
                    unreachable!("a set answers a set")
                }
            }
        })
    }

    fn delete(&self, path: &str, version: Option<i32>) -> BoxFuture<'_, Result<(), Error>> {
        let path = path.to_owned();
        let written = self.write_one(Op::Delete { path, version });
        Box::pin(async move { written.await.map(|_| ()) })
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        let written = self.write(ops);
        Box::pin(async move {
            let applied = written.await?;
            Ok(applied
                .into_iter()
                .map(|applied| match applied {
                    Applied::Check => OpResult::Check,
                    Applied::Create(path, _) => OpResult::Create(path),
                    Applied::Set(stat) => OpResult::Set(stat),
                    Applied::Delete => OpResult::Delete,
                })
                .collect())
        })
    }

    fn session_id(&self) -> i64 {
        self.current().unwrap_or(0)
    }

    fn session_states(&self) -> watch::Receiver<SessionState> {
        self.states.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let shared = &self.server.shared;
        let session = self.current();
        self.states.send_replace(SessionState::Closed);
        let closed = session.map(|session| {
            shared
                .state
                .lock()
                .change(&Command::Close(session), shared.clock.now())
        });
        shared.appended.notify_one();
        Box::pin(async move {
            if let Some(Ok((_, ticket))) = closed {
                // A failure has been reported; the next start closes the session.
                let _ = shared.durable(ticket).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn open(folder: &Path) -> Arc<Embedded> {
        Embedded::open(folder, Arc::new(SystemClock)).expect("opens")
    }

    #[tokio::test]
    async fn restart_keeps_what_was_acknowledged_and_drops_ephemerals() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = {
            let store = open(folder.path()).connect();
            let create = |path, mode| store.create(path, Bytes::from_static(b"x"), mode);
            create("/a", CreateMode::Persistent).await.expect("creates");
            create("/e", CreateMode::Ephemeral).await.expect("creates");
            store.session_id()
        };
        let store = open(folder.path()).connect();
        let (data, stat) = store.get("/a").await.expect("there");
        assert_eq!((&data[..], stat.version), (&b"x"[..], 0));
        assert_eq!(store.exists("/e").await, Ok(None));
        assert!(store.session_id() > first);
    }

    #[tokio::test]
    async fn compaction_happens_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let value = Bytes::from(vec![7; 512 << 10]);
        {
            let store = open(folder.path()).connect();
            for round in 0..12 {
                let path = format!("/{round}");
                store
                    .create(&path, value.clone(), CreateMode::Persistent)
                    .await
                    .expect("creates");
            }
        }
        assert!(folder.path().join("snapshot").exists());
        let store = open(folder.path()).connect();
        assert_eq!(store.children("/").await.map(|names| names.len()), Ok(12));
        assert_eq!(store.get("/11").await.map(|found| found.0), Ok(value));
    }

    #[tokio::test]
    async fn expiry_ends_ephemerals_and_watches_and_begins_a_session() {
        let server = Embedded::in_memory(Arc::new(SystemClock));
        let (store, other) = (server.connect(), server.connect());
        let old = store.session_id();
        store
            .create("/e", Bytes::new(), CreateMode::Ephemeral)
            .await
            .expect("creates");
        let (_, _, own) = store.get_and_watch("/e").await.expect("there");
        let (_, foreign) = other.exists_and_watch("/e").await.expect("reads");
        let mut states = store.session_states();
        store.expire();
        assert_eq!(own.await, Ok(WatchEvent::Lost));
        assert_eq!(foreign.await, Ok(WatchEvent::Deleted));
        let state = *states.borrow_and_update();
        let session_id = store.session_id();
        assert_eq!(state, SessionState::Connected { session_id });
        assert_ne!(session_id, old);
        store.close().await;
        assert_eq!(store.exists("/").await, Err(Error::Closed));
    }
}
