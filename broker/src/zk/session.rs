//! A broker's place in the coordination store: the nodes every cluster has, the cluster's id, a
//! generated broker id, and the broker's own registration.
//!
//! The registration is ephemeral. Its czxid is the broker epoch by which the controller and the
//! broker tell this life of the broker from an earlier one; after the session expired, a new
//! session registers anew and has a new epoch.
//!
//! Source: `KafkaServer.startup`, `KafkaZkClient` (`createTopLevelPaths`, `CheckedEphemeral`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::data::{
    BrokerRegistration, DataError, connection_string, decode_cluster_id, encode_cluster_id,
};
use super::window::in_window;
use super::{
    BoxFuture, CreateMode, Error, MultiError, Op, OpResult, SessionState, Stat, Store, paths,
};
use crate::clock::Clock;
use crate::types::{BrokerId, format_uuid, random_uuid};

/// Between two attempts when there was no answer.
const RETRY: Duration = Duration::from_millis(100);

/// Why a broker cannot take its place.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("{path}: {source}")]
    Data { path: String, source: DataError },
    #[error(
        "broker.id={id} is registered already, by {other} (session 0x{session:x}); its registration did not expire within {} ms. Stop that broker or choose another broker.id",
        waited.as_millis()
    )]
    Registered {
        id: BrokerId,
        /// The other broker's addresses.
        other: String,
        session: i64,
        waited: Duration,
    },
    #[error(
        "Configured end points {endpoints} in advertised listeners are already registered by broker {other}"
    )]
    EndpointTaken { endpoints: String, other: BrokerId },
}

/// Creates what every cluster has, where it is missing; all at once, for ZooKeeper writes to its disk
/// once for what comes together.
///
/// `/latest_producer_id_block` is left to whoever writes the first block: a Kafka controller takes
/// a node without data for "none yet", but cannot read empty data, which is all we can write.
pub async fn create_persistent_paths(store: &dyn Store) -> Result<(), Error> {
    let mut wanted = Vec::new();
    for path in paths::persistent().filter(|path| path != paths::PRODUCER_ID_BLOCK) {
        // Parents first: the store carries out requests in their order.
        let parents: Vec<_> = std::iter::successors(Some(&*path), |path| paths::parent(path))
            .map(str::to_owned)
            .collect();
        for path in parents.into_iter().rev() {
            if !wanted.contains(&path) {
                wanted.push(path);
            }
        }
    }
    let creations = wanted
        .iter()
        .map(|path| -> BoxFuture<'_, _> { Box::pin(ensure_path(store, path)) })
        .collect();
    in_window(creations).await.into_iter().collect()
}

/// Creates a node without data, and its parents, where they are missing.
pub async fn ensure_path(store: &dyn Store, path: &str) -> Result<(), Error> {
    create_recursive(store, path, Bytes::new()).await.map(drop)
}

/// Creates a persistent node, and its parents where they are missing. `false`: it was there.
pub async fn create_recursive(store: &dyn Store, path: &str, data: Bytes) -> Result<bool, Error> {
    let mut missing: Vec<&str> = vec![path];
    let mut created = false;
    while let Some(next) = missing.last().copied() {
        let data = if next == path {
            data.clone()
        } else {
            Bytes::new()
        };
        match store.create(next, data, CreateMode::Persistent).await {
            Ok(_) => {
                created = next == path;
                missing.pop();
            }
            Err(Error::NodeExists { .. }) => {
                created = false;
                missing.pop();
            }
            Err(Error::NoNode { .. }) if paths::parent(next).is_some() => {
                missing.extend(paths::parent(next));
            }
            // Creating again is harmless, whatever became of the first attempt.
            Err(Error::Unknown { .. }) => sleep(RETRY).await,
            Err(error) => return Err(error),
        }
    }
    Ok(created)
}

/// The cluster's id; made up by the first broker that starts.
pub async fn cluster_id(store: &dyn Store) -> Result<String, SessionError> {
    loop {
        match store.get(paths::CLUSTER_ID).await {
            Ok((data, _)) => {
                return decode_cluster_id(&data).map_err(|source| SessionError::Data {
                    path: paths::CLUSTER_ID.to_owned(),
                    source,
                });
            }
            Err(Error::NoNode { .. }) => {
                let id = format_uuid(random_uuid());
                // Both are on their way at once; another broker may be faster.
                let (parent, created) = tokio::join!(
                    ensure_path(store, paths::CLUSTER),
                    create_recursive(store, paths::CLUSTER_ID, encode_cluster_id(&id))
                );
                parent?;
                if created? {
                    return Ok(id);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A broker id that no broker had: above `reserved.broker.max.id`.
pub async fn generate_broker_id(
    store: &dyn Store,
    reserved_max: BrokerId,
) -> Result<BrokerId, Error> {
    loop {
        match store.set(paths::BROKER_SEQUENCE, Bytes::new(), None).await {
            Ok(stat) => return Ok(stat.version.saturating_add(reserved_max)),
            Err(Error::NoNode { .. }) => ensure_path(store, paths::BROKER_SEQUENCE).await?,
            // One number is lost.
            Err(Error::Unknown { .. }) => sleep(RETRY).await,
            Err(error) => return Err(error),
        }
    }
}

/// Keeps one broker registered.
pub struct Registrar {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    id: BrokerId,
    /// How long a registration of another session may take to expire.
    session_timeout: Duration,
    info: Mutex<BrokerRegistration>,
    /// The session of the last registration, to know our own leftovers by.
    registered_in: Mutex<Option<i64>>,
    epoch: watch::Sender<i64>,
}

impl Registrar {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        id: BrokerId,
        info: BrokerRegistration,
        session_timeout: Duration,
    ) -> Self {
        Self {
            store,
            clock,
            id,
            session_timeout,
            info: Mutex::new(info),
            registered_in: Mutex::new(None),
            epoch: watch::Sender::new(-1),
        }
    }

    /// The broker epoch: czxid of the registration, −1 before the first.
    pub fn epoch(&self) -> i64 {
        *self.epoch.borrow()
    }

    /// Changes with every registration.
    pub fn epochs(&self) -> watch::Receiver<i64> {
        self.epoch.subscribe()
    }

    /// The session that holds the registration.
    pub fn registered_in(&self) -> Option<i64> {
        *self.registered_in.lock()
    }

    /// Refuses when another registered broker advertises one of our addresses. Registrations that
    /// cannot be read are passed over.
    pub async fn check_endpoints(&self) -> Result<(), SessionError> {
        let address = |endpoint: &crate::cluster::image::Endpoint| {
            format!("{}:{}", endpoint.host, endpoint.port)
        };
        let ours: Vec<_> = self.info.lock().endpoints.iter().map(address).collect();
        for name in self.store.children(paths::BROKER_IDS).await? {
            let Some(other) = name.parse().ok().filter(|other| *other != self.id) else {
                continue;
            };
            let path = paths::broker(other);
            let data = match self.store.get(&path).await {
                Ok((data, _)) => data,
                Err(Error::NoNode { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            match BrokerRegistration::decode(&data) {
                Ok(info) => {
                    let taken: Vec<_> = info
                        .endpoints
                        .iter()
                        .map(address)
                        .filter(|address| ours.contains(address))
                        .collect();
                    if !taken.is_empty() {
                        return Err(SessionError::EndpointTaken {
                            endpoints: taken.join(","),
                            other,
                        });
                    }
                }
                Err(error) => tracing::error!("{path}: {error}"),
            }
        }
        Ok(())
    }

    /// Registers the broker in the current session, and returns its epoch. Waits for the
    /// registration of an earlier process to expire: ZooKeeper does that in steps of its tick, which
    /// is at most half a session timeout, and a busy one is late, so two session timeouts.
    pub async fn register(&self) -> Result<i64, SessionError> {
        let path = paths::broker(self.id);
        let begun = Instant::now();
        let patience = self.session_timeout * 2;
        let deadline = begun + patience;
        let mut waiting = false;
        loop {
            let info = self.info.lock().clone();
            let ops = vec![
                Op::Create {
                    path: path.clone(),
                    data: Bytes::new(),
                    mode: CreateMode::Ephemeral,
                },
                // The stat of a create is not to be had from a multi; that of this is, and holds
                // the czxid.
                Op::Set {
                    path: path.clone(),
                    data: info.encode(self.clock.now()),
                    version: Some(0),
                },
            ];
            let session = self.store.session_id();
            match self.store.multi(ops).await {
                Ok(results) => {
                    let stat = match results.last() {
                        Some(OpResult::Set(stat)) => *stat,
                        other => unreachable!("a set answered {other:?}"),
                    };
                    return Ok(self.registered(&path, &info, &stat));
                }
                Err(MultiError {
                    error: Error::NodeExists { .. },
                    ..
                }) => {}
                // It may have been carried out: then the node is ours.
                Err(MultiError {
                    error: Error::Unknown { .. },
                    ..
                }) => sleep(RETRY).await,
                Err(error) => return Err(error.error.into()),
            }
            let (data, stat, gone) = match self.store.get_and_watch(&path).await {
                Ok(found) => found,
                Err(Error::NoNode { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let owner = stat.ephemeral_owner;
            if owner == self.store.session_id() {
                return Ok(self.registered(&path, &info, &stat));
            }
            if self.registered_in() == Some(owner) && owner != session {
                // ZOOKEEPER-2985: an expired session's node may outlive it.
                info!("{path}: deleting the registration of our expired session 0x{owner:x}");
                match self.store.delete(&path, Some(stat.version)).await {
                    Ok(())
                    | Err(
                        Error::NoNode { .. } | Error::BadVersion { .. } | Error::Unknown { .. },
                    ) => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            if !waiting {
                waiting = true;
                warn!(
                    "{path} is held by session 0x{owner:x} ({}); waiting up to {} ms for it to expire",
                    addresses(&data),
                    patience.as_millis()
                );
            }
            if timeout_at(deadline, gone).await.is_err() {
                return Err(SessionError::Registered {
                    id: self.id,
                    other: addresses(&data),
                    session: owner,
                    waited: begun.elapsed(),
                });
            }
        }
    }

    /// Advertises other listeners, without a new epoch (`updateBrokerInfo`).
    pub async fn update(&self, info: BrokerRegistration) -> Result<(), Error> {
        let data = info.encode(self.clock.now());
        *self.info.lock() = info;
        loop {
            match self
                .store
                .set(&paths::broker(self.id), data.clone(), None)
                .await
            {
                Ok(_) => return Ok(()),
                Err(Error::Unknown { .. }) => sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the store has a session that the broker is not registered in: it must call
    /// [`Registrar::register`] again, and stand for controller again. `false`: the store is closed.
    pub async fn session_lost(&self) -> bool {
        let mut states = self.store.session_states();
        let registered = self.registered_in();
        let state = states
            .wait_for(|state| match state {
                SessionState::Connected { session_id } => Some(*session_id) != registered,
                SessionState::Closed => true,
                SessionState::Disconnected { .. }
                | SessionState::Expired
                | SessionState::AuthFailed => false,
            })
            .await;
        state.is_ok_and(|state| *state != SessionState::Closed)
    }

    fn registered(&self, path: &str, info: &BrokerRegistration, stat: &Stat) -> i64 {
        *self.registered_in.lock() = Some(stat.ephemeral_owner);
        let endpoints: Vec<_> = info.endpoints.iter().map(connection_string).collect();
        info!(
            target: "kafka.zk.KafkaZkClient",
            "Registered broker {} at path {path} with addresses: {}, czxid (broker epoch): {}",
            self.id,
            endpoints.join(","),
            stat.czxid
        );
        self.epoch.send_replace(stat.czxid);
        stat.czxid
    }
}

/// Where a registered broker is, for people.
fn addresses(data: &[u8]) -> String {
    match BrokerRegistration::decode(data) {
        Ok(info) => {
            let endpoints: Vec<_> = info.endpoints.iter().map(connection_string).collect();
            endpoints.join(",")
        }
        Err(error) => format!("an unreadable registration: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SystemClock};
    use crate::cluster::image::Endpoint;
    use crate::zk::embedded::{Embedded, EmbeddedStore};

    fn server() -> Arc<Embedded> {
        Embedded::in_memory(Arc::new(SystemClock))
    }

    fn info(port: i32) -> BrokerRegistration {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            security_protocol: 0,
            host: "h".to_owned(),
            port,
        };
        BrokerRegistration::new(vec![endpoint], None)
    }

    async fn broker(server: &Arc<Embedded>, id: BrokerId) -> (Arc<EmbeddedStore>, Registrar) {
        let store = Arc::new(server.connect());
        create_persistent_paths(&*store).await.expect("creates");
        let clock = Arc::new(ManualClock::at(7));
        let patience = Duration::from_secs(20);
        let registrar = Registrar::new(store.clone(), clock, id, info(id + 9092), patience);
        (store, registrar)
    }

    #[tokio::test]
    async fn paths_and_cluster_id_are_made_once() {
        let server = server();
        let store = server.connect();
        create_persistent_paths(&store).await.expect("creates");
        create_persistent_paths(&store).await.expect("finds");
        assert_eq!(
            store.children("/config").await.map(|names| names.len()),
            Ok(6)
        );
        let id = cluster_id(&store).await.expect("makes one");
        assert_eq!(id.len(), 22);
        assert_eq!(cluster_id(&server.connect()).await.expect("reads it"), id);
        assert_eq!(generate_broker_id(&store, 1000).await, Ok(1001));
        assert_eq!(generate_broker_id(&store, 1000).await, Ok(1002));
    }

    #[tokio::test]
    async fn unreadable_cluster_id_names_the_node() {
        let store = server().connect();
        create_recursive(&store, paths::CLUSTER_ID, Bytes::from_static(b"{"))
            .await
            .expect("creates");
        let error = cluster_id(&store).await.expect_err("refuses").to_string();
        assert!(error.starts_with("/cluster/id: not JSON"), "{error}");
    }

    #[tokio::test]
    async fn registration_takes_the_czxid_and_survives_expiry() {
        let server = server();
        let (store, registrar) = broker(&server, 1).await;
        let first = registrar.register().await.expect("registers");
        let (data, stat) = store.get("/brokers/ids/1").await.expect("there");
        assert_eq!((stat.czxid, stat.version), (first, 1));
        assert_eq!(BrokerRegistration::decode(&data), Ok(info(9093)));
        // Registering twice in a session keeps the epoch.
        assert_eq!(registrar.register().await.expect("is there"), first);
        store.expire();
        assert!(registrar.session_lost().await);
        let second = registrar.register().await.expect("registers again");
        assert!(second > first);
        assert_eq!(registrar.epoch(), second);
        store.close().await;
        assert!(!registrar.session_lost().await);
    }

    /// KAFKA-7165: the expired session's node is still there.
    #[tokio::test]
    async fn leftover_of_our_expired_session_is_replaced() {
        let server = server();
        let (store, registrar) = broker(&server, 1).await;
        let (old_owner, _) = broker(&server, 1).await;
        let data = info(1).encode(0);
        old_owner
            .create("/brokers/ids/1", data, CreateMode::Ephemeral)
            .await
            .expect("creates");
        *registrar.registered_in.lock() = Some(old_owner.session_id());
        let epoch = registrar.register().await.expect("replaces it");
        let (_, stat) = store.get("/brokers/ids/1").await.expect("there");
        assert_eq!(
            (stat.czxid, stat.ephemeral_owner),
            (epoch, store.session_id())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn registration_waits_for_a_predecessor_and_then_names_it() {
        let server = server();
        let (_, registrar) = broker(&server, 1).await;
        let (predecessor, other) = broker(&server, 1).await;
        other.register().await.expect("registers");
        let error = registrar.register().await.expect_err("refuses").to_string();
        assert!(
            error.contains("registered already, by PLAINTEXT://h:9093"),
            "{error}"
        );
        let (registered, ()) = tokio::join!(registrar.register(), async {
            sleep(Duration::from_secs(5)).await;
            predecessor.expire();
        });
        registered.expect("takes over");
    }

    #[tokio::test]
    async fn advertised_address_of_another_broker_is_refused() {
        let server = server();
        let (_, first) = broker(&server, 1).await;
        first.check_endpoints().await.expect("alone");
        first.register().await.expect("registers");
        first
            .check_endpoints()
            .await
            .expect("our own does not count");
        let (_, second) = broker(&server, 2).await;
        second.check_endpoints().await.expect("another port");
        *second.info.lock() = info(9093);
        let error = second.check_endpoints().await.expect_err("refuses");
        assert_eq!(
            error.to_string(),
            "Configured end points h:9093 in advertised listeners are already registered by broker 1"
        );
        second.register().await.expect("registers");
        second.update(info(9999)).await.expect("updates");
    }
}
