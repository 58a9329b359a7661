//! A ZooKeeper ensemble as a [`Store`], over the `zookeeper-client` crate.
//!
//! The crate's client reconnects by itself, but gives up at 1.4 session timeouts without contact,
//! where Kafka waits for the servers' word. So a client that gave up is replaced by one that asks
//! for the same session: the state stays `Disconnected` meanwhile, watches are `Lost`, ephemerals
//! live on if the session does. Only when the servers refuse the session is it `Expired`, and a
//! new one is begun, for as long as it takes.
//!
//! 1. A call puts its request on the wire's queue before it returns: the order of calls is the
//!    order of effects.
//! 2. A read whose connection was lost is repeated once there is a connection; a write is
//!    `Unknown` then.
//! 3. A call made in a session that has ended is `SessionExpired`.
//!
//! Many nodes are read with ZooKeeper's multi-read, for most of the cost of a read is the request's. A
//! server before 3.6 answers that it does not know it, and closes the connection; so the first one goes
//! alone, and whatever was not read that way, for whichever reason, is read one by one.
//!
//! Nodes are created open to the world, and connections are in plain text: `zookeeper.set.acl` and
//! TLS or SASL to ZooKeeper are not supported. The crate cannot write "no data": what Kafka
//! creates with null has empty data here.
//!
//! Source: `ZooKeeperClient.scala`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};
use zookeeper_client as zk;

use super::connect::ConnectString;
use super::window::{get_each, in_window_of};
use super::{
    BoxFuture, CreateMode, Error, MultiError, Node, Op, OpResult, SessionState, Stat, Store, Watch,
    WatchEvent,
};

const TARGET: &str = "kafka.zookeeper.ZooKeeperClient";
/// Between two attempts to reach the ensemble.
const RETRY: Duration = Duration::from_millis(250);
/// Between two log lines about the same trouble.
const REPORT: Duration = Duration::from_secs(5);
/// Nodes of one multi-read. The servers take no request of more than 1 MB (`jute.maxbuffer`), of which
/// paths of 300 bytes are a twentieth; answers they do not measure, nor does the crate.
const MULTI_READ: usize = 128;
/// Multi-reads in flight at once: enough to hide the round trip.
const MULTI_READS: usize = 8;
/// How long `close` waits for the ensemble to take leave.
const CLOSE: Duration = Duration::from_secs(3);

/// How to reach an ensemble.
#[derive(Debug, Clone)]
pub struct EnsembleConfig {
    pub connect: ConnectString,
    /// `zookeeper.session.timeout.ms`.
    pub session_timeout: Duration,
    /// How long to try at start: `zookeeper.connection.timeout.ms`, and what is granted on top to
    /// an ensemble that starts together with the broker.
    pub connection_timeout: Duration,
}

/// Why there is no connection at start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("zookeeper.connect={hosts}: no connection within {} ms: {reason}", waited.as_millis())]
    Timeout {
        hosts: String,
        waited: Duration,
        reason: String,
    },
    #[error("the chroot {chroot} cannot be created in ZooKeeper: {source}")]
    Chroot { chroot: String, source: zk::Error },
}

/// A session with an ensemble, renewed when it expires.
pub struct Ensemble {
    shared: Arc<Shared>,
}

struct Shared {
    config: EnsembleConfig,
    runtime: Handle,
    /// `None` once closed.
    current: ArcSwapOption<Connection>,
    states: watch::Sender<SessionState>,
    /// The servers do not know multi-reads.
    without_multi_read: AtomicBool,
}

/// One client of the crate.
struct Connection {
    client: zk::Client,
}

impl Connection {
    fn session_id(&self) -> i64 {
        self.client.session_id().0
    }
}

impl Ensemble {
    /// Connects, trying until the connection timeout; creates the chroot when it is missing.
    pub async fn connect(config: EnsembleConfig) -> Result<Self, ConnectError> {
        info!(target: TARGET, "[ZooKeeperClient Kafka server] Initializing a new session to {}.", config.connect);
        let client = first_client(&config).await?;
        let session_id = client.session_id().0;
        info!(target: TARGET, "[ZooKeeperClient Kafka server] Connected.");
        let shared = Arc::new(Shared {
            config,
            runtime: Handle::current(),
            states: watch::Sender::new(SessionState::Connected { session_id }),
            without_multi_read: AtomicBool::new(false),
            current: ArcSwapOption::from_pointee(Connection {
                client: client.clone(),
            }),
        });
        tokio::spawn(Arc::clone(&shared).keep(client.session().clone(), client.state_watcher()));
        Ok(Self { shared })
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.shared.states.send_replace(SessionState::Closed);
        self.shared.current.store(None);
    }
}

fn connector(config: &EnsembleConfig) -> zk::Connector {
    zk::Client::connector()
        .with_session_timeout(config.session_timeout)
        .with_fail_eagerly()
}

async fn first_client(config: &EnsembleConfig) -> Result<zk::Client, ConnectError> {
    let hosts = config.connect.to_string();
    let begun = Instant::now();
    let deadline = begun + config.connection_timeout;
    let mut report_at = begun;
    let client = loop {
        let attempt = connector(config).connect(&hosts);
        let error = match tokio::time::timeout_at(deadline, attempt).await {
            Ok(Ok(client)) => break client,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let now = Instant::now();
        if now >= deadline || now >= report_at {
            let reason = match unreachable_hosts(config).await {
                reasons if !reasons.is_empty() => reasons.join(", "),
                _ => error.map_or("no answer".to_owned(), |error| error.to_string()),
            };
            if now >= deadline {
                return Err(ConnectError::Timeout {
                    hosts,
                    waited: now - begun,
                    reason,
                });
            }
            warn!(
                target: TARGET,
                "[ZooKeeperClient Kafka server] Waiting for ZooKeeper: {reason}; trying for another {} s",
                (deadline - now).as_secs()
            );
            report_at = now + REPORT;
        }
        sleep(RETRY).await;
    };
    match &config.connect.chroot {
        None => Ok(client),
        Some(chroot) => enter(client, chroot)
            .await
            .map_err(|source| ConnectError::Chroot {
                chroot: chroot.clone(),
                source,
            }),
    }
}

/// Makes a client's paths relative to the chroot, which is created when it is missing.
async fn enter(client: zk::Client, chroot: &str) -> Result<zk::Client, zk::Error> {
    if client.check_stat(chroot).await?.is_none() {
        client
            .mkdir(chroot, &options(CreateMode::Persistent))
            .await?;
    }
    Ok(relative(client, chroot))
}

fn relative(client: zk::Client, chroot: &str) -> zk::Client {
    client
        .chroot(chroot.to_owned())
        .expect("the chroot was validated when zookeeper.connect was parsed")
}

/// One reason for each host that takes no connection.
async fn unreachable_hosts(config: &EnsembleConfig) -> Vec<String> {
    let mut reasons = Vec::new();
    for (host, port) in &config.connect.hosts {
        let attempt = tokio::net::TcpStream::connect((host.as_str(), *port));
        match timeout(Duration::from_secs(1), attempt).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => reasons.push(format!("{host}:{port}: {error}")),
            Err(_) => reasons.push(format!("{host}:{port}: connection timed out")),
        }
    }
    reasons
}

impl Shared {
    /// Follows the session's state, and replaces clients that have ended.
    async fn keep(self: Arc<Self>, mut session: zk::SessionInfo, mut watcher: zk::StateWatcher) {
        let mut states = self.states.subscribe();
        loop {
            let state = tokio::select! {
                state = watcher.changed() => state,
                _ = states.wait_for(|state| *state == SessionState::Closed) => return,
            };
            let session_id = session.id().0;
            match state {
                zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => {
                    info!(target: TARGET, "[ZooKeeperClient Kafka server] Connected.");
                    self.publish(SessionState::Connected { session_id });
                    continue;
                }
                zk::SessionState::Disconnected => {
                    warn!(target: TARGET, "[ZooKeeperClient Kafka server] Disconnected from ZooKeeper; session 0x{session_id:x}");
                    self.publish(SessionState::Disconnected { session_id });
                    continue;
                }
                zk::SessionState::AuthFailed => {
                    error!(target: TARGET, "[ZooKeeperClient Kafka server] Auth failed.");
                    self.publish(SessionState::AuthFailed);
                }
                zk::SessionState::Expired | zk::SessionState::Closed => {
                    self.publish(SessionState::Disconnected { session_id });
                }
            }
            let client = tokio::select! {
                client = self.next_client(session) => client,
                _ = states.wait_for(|state| *state == SessionState::Closed) => return,
            };
            session = client.session().clone();
            watcher = client.state_watcher();
            info!(target: TARGET, "[ZooKeeperClient Kafka server] Connected.");
            let session_id = session.id().0;
            // Not when it was closed meanwhile: a client left here would keep the session alive.
            self.states.send_if_modified(|state| {
                if *state == SessionState::Closed {
                    return false;
                }
                self.current.store(Some(Arc::new(Connection { client })));
                *state = SessionState::Connected { session_id };
                true
            });
        }
    }

    /// A client of the same session if the ensemble still has it, else of a new one.
    async fn next_client(&self, old: zk::SessionInfo) -> zk::Client {
        let mut session = Some(old);
        let hosts = self.config.connect.to_string();
        let mut report_at = Instant::now() + REPORT;
        loop {
            let mut connector = connector(&self.config);
            if let Some(session) = &session {
                connector = connector.with_session(session.clone());
            }
            match connector.connect(&hosts).await {
                Ok(client) => match &self.config.connect.chroot {
                    None => return client,
                    Some(chroot) => return relative(client, chroot),
                },
                Err(
                    zk::Error::SessionExpired | zk::Error::SessionMoved | zk::Error::AuthFailed,
                ) if session.is_some() => {
                    session = None;
                    info!(target: TARGET, "[ZooKeeperClient Kafka server] Session expired.");
                    self.publish(SessionState::Expired);
                    info!(target: TARGET, "[ZooKeeperClient Kafka server] Initializing a new session to {hosts}.");
                    continue;
                }
                Err(error) if Instant::now() >= report_at => {
                    let mut reasons = unreachable_hosts(&self.config).await;
                    if reasons.is_empty() {
                        reasons.push(error.to_string());
                    }
                    warn!(target: TARGET, "[ZooKeeperClient Kafka server] No connection to ZooKeeper: {}", reasons.join(", "));
                    report_at = Instant::now() + REPORT;
                }
                Err(_) => {}
            }
            sleep(RETRY).await;
        }
    }

    /// Nothing follows `Closed`.
    fn publish(&self, next: SessionState) {
        self.states.send_if_modified(|state| {
            let change = *state != SessionState::Closed && *state != next;
            if change {
                *state = next;
            }
            change
        });
    }

    /// Waits until requests can be answered again after one of `lost` was not. Fails when the
    /// session of that request has ended.
    async fn reconnected(&self, lost: &Connection) -> Result<Arc<Connection>, Error> {
        let mut states = self.states.subscribe();
        loop {
            let state = *states.borrow_and_update();
            let current = self.current.load_full().ok_or(Error::Closed)?;
            match state {
                SessionState::Closed => return Err(Error::Closed),
                SessionState::AuthFailed => return Err(Error::AuthFailed),
                SessionState::Expired => return Err(Error::SessionExpired),
                SessionState::Connected { .. } if current.session_id() != lost.session_id() => {
                    return Err(Error::SessionExpired);
                }
                SessionState::Connected { .. } if !current.client.state().is_terminated() => {
                    return Ok(current);
                }
                // A client that has ended, or one that looks for a server: its state will change.
                SessionState::Connected { .. } | SessionState::Disconnected { .. } => {}
            }
            states.changed().await.map_err(|_| Error::Closed)?;
        }
    }
}

/// Whether a failed request may have been carried out, or was never looked at.
enum Failure {
    /// The ensemble's answer.
    Answer(Error),
    /// No answer will come on this connection.
    Lost(String),
}

fn failure(error: zk::Error, path: &str) -> Failure {
    let path = || path.to_owned();
    Failure::Answer(match error {
        zk::Error::NoNode => Error::NoNode { path: path() },
        zk::Error::NodeExists => Error::NodeExists { path: path() },
        zk::Error::BadVersion => Error::BadVersion { path: path() },
        zk::Error::NotEmpty => Error::NotEmpty { path: path() },
        zk::Error::NoAuth => Error::NoAuth { path: path() },
        zk::Error::NoChildrenForEphemerals => Error::NoChildrenForEphemerals { path: path() },
        zk::Error::BadArguments(_) => Error::InvalidPath { path: path() },
        zk::Error::AuthFailed => Error::AuthFailed,
        zk::Error::ConnectionLoss
        | zk::Error::Custom(_)
        | zk::Error::Timeout
        | zk::Error::NoHosts
        | zk::Error::SessionMoved
        | zk::Error::SessionExpired
        | zk::Error::ClientClosed => return Failure::Lost(error.to_string()),
        other => Error::Unknown {
            reason: other.to_string(),
        },
    })
}

/// Whether a lost request may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

type Request<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Runs a future up to its first wait, which for the crate's requests is after they were queued.
fn begin<T: Send + 'static, E: Send + 'static>(mut request: Request<T, E>) -> Request<T, E> {
    match request
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => Box::pin(std::future::ready(result)),
        Poll::Pending => request,
    }
}

impl Ensemble {
    /// Sends a request now. `make` is called once for each time it is sent; `fail` judges its
    /// error.
    fn send<T: Send + 'static, E: Send + 'static>(
        &self,
        again: Again,
        make: impl Fn(zk::Client) -> Request<T, E> + Send + Sync + 'static,
        fail: impl Fn(E) -> (Option<usize>, Failure) + Send + Sync + 'static,
    ) -> BoxFuture<'_, Result<T, MultiError>> {
        let whole = |error| MultiError { index: None, error };
        let Some(mut connection) = self.shared.current.load_full() else {
            return Box::pin(std::future::ready(Err(whole(Error::Closed))));
        };
        let mut request = begin(make(connection.client.clone()));
        Box::pin(async move {
            loop {
                let reason = match request.await {
                    Ok(result) => return Ok(result),
                    Err(error) => match fail(error) {
                        (index, Failure::Answer(error)) => return Err(MultiError { index, error }),
                        (_, Failure::Lost(reason)) => reason,
                    },
                };
                connection = self.shared.reconnected(&connection).await.map_err(whole)?;
                if again == Again::No {
                    return Err(whole(Error::Unknown { reason }));
                }
                request = begin(make(connection.client.clone()));
            }
        })
    }

    fn send_one<T: Send + 'static>(
        &self,
        again: Again,
        path: &str,
        make: impl Fn(zk::Client, String) -> Request<T, zk::Error> + Send + Sync + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let path: Arc<str> = Arc::from(path);
        let judged = Arc::clone(&path);
        let sent = self.send(
            again,
            move |client| make(client, path.to_string()),
            move |error| (None, failure(error, &judged)),
        );
        Box::pin(async move { sent.await.map_err(|error| error.error) })
    }

    /// One multi-read. `None`: it was not answered, or not all of it as a single read would be.
    async fn multi_read(&self, paths: &[String]) -> Result<Option<Vec<Option<Node>>>, Error> {
        let asked: Arc<[String]> = Arc::from(paths);
        let shared = Arc::clone(&self.shared);
        let sent = self.send(
            // What a server answers by closing the connection would close the next one as well.
            Again::No,
            move |client| {
                let asked = Arc::clone(&asked);
                Box::pin(async move { read_all(&client, &asked).await })
            },
            move |error| {
                if error == zk::Error::Unimplemented
                    && !shared.without_multi_read.swap(true, Ordering::Relaxed)
                {
                    info!(target: TARGET, "[ZooKeeperClient Kafka server] ZooKeeper is older than 3.6 and knows no multi-read; nodes are read one by one");
                }
                (None, failure(error, "a multi-read"))
            },
        );
        match sent.await.map_err(|error| error.error) {
            Ok(found) => Ok(Some(found).filter(|found| found.len() == paths.len())),
            Err(error @ (Error::Closed | Error::SessionExpired | Error::AuthFailed)) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// One multi-read, or as many single ones.
    async fn read_chunk(&self, paths: &[String]) -> Result<Vec<Option<Node>>, Error> {
        match self.multi_read(paths).await? {
            Some(found) => Ok(found),
            None => get_each(self, paths).await,
        }
    }

    /// Hands a watch of the crate on.
    fn forward(&self, watcher: zk::OneshotWatcher) -> Watch {
        let (mut sender, receiver) = oneshot::channel();
        self.shared.runtime.spawn(async move {
            let event = tokio::select! {
                event = watcher.changed() => event.event_type,
                () = sender.closed() => return,
            };
            let event = match event {
                zk::EventType::NodeCreated => WatchEvent::Created,
                zk::EventType::NodeDeleted => WatchEvent::Deleted,
                zk::EventType::NodeDataChanged => WatchEvent::DataChanged,
                zk::EventType::NodeChildrenChanged => WatchEvent::ChildrenChanged,
                zk::EventType::Session => WatchEvent::Lost,
            };
            // Dropped meanwhile: nobody to tell.
            let _ = sender.send(event);
        });
        receiver
    }
}

fn stat(stat: zk::Stat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        ctime: stat.ctime,
        mtime: stat.mtime,
        version: stat.version,
        cversion: stat.cversion,
        ephemeral_owner: stat.ephemeral_owner,
        num_children: stat.num_children,
    }
}

fn options(mode: CreateMode) -> zk::CreateOptions<'static> {
    let mode = match mode {
        CreateMode::Persistent => zk::CreateMode::Persistent,
        CreateMode::Ephemeral => zk::CreateMode::Ephemeral,
        CreateMode::PersistentSequential => zk::CreateMode::PersistentSequential,
    };
    mode.with_acls(zk::Acls::anyone_all())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

impl Store for Ensemble {
    fn get(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat), Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.get_data(&path).await })
        });
        Box::pin(async move {
            let (data, found) = sent.await?;
            Ok((Bytes::from(data), stat(found)))
        })
    }

    fn get_many(&self, paths: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Node>>, Error>> {
        Box::pin(async move {
            let (first, rest) = paths.split_at(paths.len().min(MULTI_READ));
            if first.len() < 2 || self.shared.without_multi_read.load(Ordering::Relaxed) {
                return get_each(self, &paths).await;
            }
            let Some(mut found) = self.multi_read(first).await? else {
                return get_each(self, &paths).await;
            };
            let chunks = rest
                .chunks(MULTI_READ)
                .map(|chunk| -> BoxFuture<'_, _> { Box::pin(self.read_chunk(chunk)) })
                .collect();
            for chunk in in_window_of(MULTI_READS, chunks).await {
                found.extend(chunk?);
            }
            Ok(found)
        })
    }

    fn get_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Bytes, Stat, Watch), Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.get_and_watch_data(&path).await })
        });
        Box::pin(async move {
            let (data, found, watcher) = sent.await?;
            Ok((Bytes::from(data), stat(found), self.forward(watcher)))
        })
    }

    fn exists(&self, path: &str) -> BoxFuture<'_, Result<Option<Stat>, Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.check_stat(&path).await })
        });
        Box::pin(async move { Ok(sent.await?.map(stat)) })
    }

    fn exists_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Option<Stat>, Watch), Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.check_and_watch_stat(&path).await })
        });
        Box::pin(async move {
            let (found, watcher) = sent.await?;
            Ok((found.map(stat), self.forward(watcher)))
        })
    }

    fn children(&self, path: &str) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.list_children(&path).await })
        });
        Box::pin(async move { Ok(sorted(sent.await?)) })
    }

    fn children_and_watch(&self, path: &str) -> BoxFuture<'_, Result<(Vec<String>, Watch), Error>> {
        let sent = self.send_one(Again::Yes, path, |client, path| {
            Box::pin(async move { client.list_and_watch_children(&path).await })
        });
        Box::pin(async move {
            let (names, watcher) = sent.await?;
            Ok((sorted(names), self.forward(watcher)))
        })
    }

    fn create(
        &self,
        path: &str,
        data: Bytes,
        mode: CreateMode,
    ) -> BoxFuture<'_, Result<(String, Stat), Error>> {
        self.send_one(Again::No, path, move |client, path| {
            let data = data.clone();
            Box::pin(async move {
                let (created, sequence) = client.create(&path, &data, &options(mode)).await?;
                let path = match mode {
                    CreateMode::PersistentSequential => format!("{path}{sequence}"),
                    CreateMode::Persistent | CreateMode::Ephemeral => path,
                };
                Ok((path, stat(created)))
            })
        })
    }

    fn set(
        &self,
        path: &str,
        data: Bytes,
        version: Option<i32>,
    ) -> BoxFuture<'_, Result<Stat, Error>> {
        self.send_one(Again::No, path, move |client, path| {
            let data = data.clone();
            Box::pin(async move { client.set_data(&path, &data, version).await.map(stat) })
        })
    }

    fn delete(&self, path: &str, version: Option<i32>) -> BoxFuture<'_, Result<(), Error>> {
        self.send_one(Again::No, path, move |client, path| {
            Box::pin(async move { client.delete(&path, version).await })
        })
    }

    fn multi(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<Vec<OpResult>, MultiError>> {
        let ops: Arc<[Op]> = Arc::from(ops);
        let judged = Arc::clone(&ops);
        self.send(
            Again::No,
            move |client| {
                let ops = Arc::clone(&ops);
                Box::pin(async move { commit(&client, &ops).await })
            },
            move |error| match error {
                zk::MultiWriteError::RequestFailed { source } => (None, failure(source, "a multi")),
                zk::MultiWriteError::OperationFailed { index, source } => {
                    let path = judged.get(index).map_or("", |op| op.path());
                    (Some(index), failure(source, path))
                }
            },
        )
    }

    fn session_id(&self) -> i64 {
        self.shared
            .current
            .load()
            .as_ref()
            .map_or(0, |connection| connection.session_id())
    }

    fn session_states(&self) -> watch::Receiver<SessionState> {
        self.shared.states.subscribe()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.shared.states.send_replace(SessionState::Closed);
        let connection = self.shared.current.swap(None);
        Box::pin(async move {
            let Some(connection) = connection else {
                return;
            };
            let mut watcher = connection.client.state_watcher();
            // With its last handle the client ends the session.
            drop(connection);
            let ended = async {
                while !watcher.peek_state().is_terminated() {
                    watcher.changed().await;
                }
            };
            if timeout(CLOSE, ended).await.is_err() {
                warn!(target: TARGET, "[ZooKeeperClient Kafka server] ZooKeeper did not confirm the end of the session; it will expire");
            }
        })
    }
}

async fn commit(client: &zk::Client, ops: &[Op]) -> Result<Vec<OpResult>, zk::MultiWriteError> {
    let mut writer = client.new_multi_writer();
    for (index, op) in ops.iter().enumerate() {
        match op {
            Op::Check { path, version } => writer.add_check_version(path, *version),
            Op::Create { path, data, mode } => writer.add_create(path, data, &options(*mode)),
            Op::Set {
                path,
                data,
                version,
            } => writer.add_set_data(path, data, *version),
            Op::Delete { path, version } => writer.add_delete(path, *version),
        }
        .map_err(|source| zk::MultiWriteError::OperationFailed { index, source })?;
    }
    let results = writer.commit().await?;
    Ok(results
        .into_iter()
        .map(|result| match result {
            zk::MultiWriteResult::Create { path, .. } => OpResult::Create(path),
            zk::MultiWriteResult::SetData { stat: found } => OpResult::Set(stat(found)),
            zk::MultiWriteResult::Delete => OpResult::Delete,
            // The crate may learn of more results, but answers what was asked.
            _ => OpResult::Check,
        })
        .collect())
}

async fn read_all(client: &zk::Client, paths: &[String]) -> Result<Vec<Option<Node>>, zk::Error> {
    let mut reader = client.new_multi_reader();
    for path in paths {
        reader.add_get_data(path)?;
    }
    let mut found = Vec::with_capacity(paths.len());
    for result in reader.commit().await? {
        found.push(match result {
            zk::MultiReadResult::Data { data, stat: of } => Some((Bytes::from(data), stat(of))),
            zk::MultiReadResult::Error {
                err: zk::Error::NoNode,
            } => None,
            zk::MultiReadResult::Error { err } => return Err(err),
            // Nothing else was asked for.
            _ => return Err(zk::Error::UnexpectedErrorCode(0)),
        });
    }
    Ok(found)
}
