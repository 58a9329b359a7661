//! Builds every part of a broker once, in the order Kafka starts them (contract §2.1), and stops
//! them in reverse. No logic of its own.
//!
//! Two runtimes: `control` (coordination session, controller, groups, timers) never touches log
//! files, so that a slow disk cannot expire a session; `data` (connections, produce, fetch) appends
//! to and reads from the page cache inline.

mod listeners;
mod to_controller;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataRequest, UpdateMetadataResponse,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::context::Rooms;
use crate::api::{Dispatcher, update_metadata};
use crate::clock::{Clock, SystemClock};
use crate::cluster::image::Cluster;
use crate::cluster::update::ControllerEpochGate;
use crate::config::environment::TopicToCreate;
use crate::config::sources::Loaded;
use crate::config::{Config, LiveConfig, Properties};
use crate::controller::admin::{self, NewTopic, TopicAdmin};
use crate::controller::channel::{ChannelSettings, LocalBroker};
use crate::controller::core::Settings as ControllerSettings;
use crate::controller::run::{Controller, ControllerParts, Register, rebalance_interval};
use crate::group::coordinator::GroupCoordinator;
use crate::group::offsets_topic::ReplicatedOffsetsTopic;
use crate::log::dir::{MetaError, stored_identity, verify_identity};
use crate::log::manager::{LogManager, ManagerConfig};
use crate::net::Connections;
use crate::replica::manager::{Parts, ReplicaManager};
use crate::txn::producer_id::ProducerIds;
use crate::types::BrokerId;
use crate::zk::connect::ConnectString;
use crate::zk::embedded::{Embedded, FOLDER};
use crate::zk::ensemble::{Ensemble, EnsembleConfig};
use crate::zk::session::{
    Registrar, SessionError, cluster_id, create_persistent_paths, generate_broker_id,
};
use crate::zk::{self, BoxFuture, Store, config_changes, configs, features, paths};
use to_controller::ToController;

const SERVER: &str = "kafka.server.KafkaServer";
/// What an ensemble that starts together with the broker is granted beyond
/// `zookeeper.connection.timeout.ms`, unless `KAFKA_CUB_ZK_TIMEOUT` says otherwise: compose files
/// rarely order things.
const ENSEMBLE_GRACE: Duration = Duration::from_secs(40);
/// How long to wait for the controller's first word before serving clients all the same.
const FIRST_METADATA: Duration = Duration::from_secs(30);
/// How long to wait for the topics after that.
const FIRST_TOPICS: Duration = Duration::from_secs(10);
/// Connections get this long to end by themselves.
const DISCONNECT: Duration = Duration::from_secs(5);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Store(#[from] zk::Error),
    #[error(transparent)]
    ConnectString(#[from] zk::connect::ConnectStringError),
    #[error(transparent)]
    Connect(#[from] zk::ensemble::ConnectError),
    #[error(transparent)]
    Embedded(#[from] zk::embedded::OpenError),
    #[error(transparent)]
    Identity(#[from] MetaError),
    #[error("Invalid cluster.id in: {path}. Expected {expected}, but read {read}. {advice}")]
    OtherCluster {
        path: String,
        /// The id in the coordination store.
        expected: String,
        /// The id in the log dir.
        read: String,
        advice: String,
    },
    #[error(transparent)]
    Log(#[from] crate::log::Error),
    #[error("{path}: {source}; create it, or change log.dirs")]
    LogDir {
        path: String,
        source: std::io::Error,
    },
    #[error("listener {listener}: cannot bind: {source}")]
    Bind {
        listener: String,
        source: std::io::Error,
    },
    #[error(
        "listener {listener}: {protocol} is not supported by this version, and it is never replaced by less; use PLAINTEXT on a network you trust"
    )]
    Security {
        listener: String,
        protocol: &'static str,
    },
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
    #[error(
        "broker.id is not set, meta.properties has none, and broker.id.generation.enable is false; set broker.id"
    )]
    NoBrokerId,
}

/// A broker that runs.
pub struct Broker {
    rooms: Arc<Rooms>,
    connections: Arc<Connections>,
    registrar: Arc<Registrar>,
    to_controller: Arc<ToController>,
    stop: CancellationToken,
    data: DataRuntime,
    /// Listens at, as the start-up line says it.
    addresses: Vec<String>,
    failed: watch::Receiver<bool>,
}

impl Broker {
    /// Starts a broker and returns when clients can use it. Runs on the control runtime.
    pub async fn start(loaded: Loaded) -> Result<Self, StartError> {
        let begun = Instant::now();
        let Loaded {
            config,
            environment,
            from_kraft,
        } = loaded;
        info!(target: SERVER, "starting");
        raise_file_limit();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        for dir in config.log_dirs() {
            create_log_dir(dir)?;
        }
        let listeners = listeners::bind(&config)?;

        let store = {
            let grace = environment
                .ensemble_grace_seconds
                .map_or(ENSEMBLE_GRACE, Duration::from_secs);
            open_store(&config, grace, Arc::clone(&clock)).await?
        };
        create_persistent_paths(&*store).await?;
        if let Some(id) = &environment.cluster_id {
            let data = zk::data::encode_cluster_id(id);
            zk::session::create_recursive(&*store, paths::CLUSTER_ID, data).await?;
        }
        let cluster_id = cluster_id(&*store).await?;
        info!(target: SERVER, "Cluster ID = {cluster_id}");
        let broker_id = broker_id(&config, &*store).await?;
        match verify_identity(config.log_dirs(), &cluster_id, broker_id) {
            Ok(_) => {}
            Err(MetaError::ClusterId { path, stored, ours }) => {
                return Err(other_cluster(&config, &*store, path, stored, ours).await);
            }
            Err(error) => return Err(error.into()),
        }
        let live = Arc::new(LiveConfig::new(config.with_broker_id(broker_id)));
        configs::load_broker_configs(&*store, &live).await?;
        let config = live.load();

        let logs = open_logs(&config, &live, &store, Arc::clone(&clock)).await?;
        let (failure, failed) = watch::channel(false);
        let cluster = Arc::new(Cluster::new(cluster_id));
        let gate = Arc::new(ControllerEpochGate::default());
        let stop = CancellationToken::new();
        let replicas = ReplicaManager::new(Parts {
            broker_id,
            config: Arc::clone(&live),
            clock: Arc::clone(&clock),
            cluster: Arc::clone(&cluster),
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            gate: Arc::clone(&gate),
        });
        let leadership = replicas.leadership_changes();
        follow_dir_failures(&logs, &replicas, failure);
        logs.start();
        let data = DataRuntime::new()?;
        replicas.start(data.handle(), stop.clone());

        let ports = listeners::ports(&listeners);
        let registration = listeners::registration(&config, &ports);
        let registrar = Arc::new(Registrar::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            broker_id,
            registration,
            Duration::from_millis(
                u64::try_from(config.zookeeper_session_timeout_ms()).unwrap_or(0),
            ),
        ));
        registrar.check_endpoints().await?;
        gate.set_broker_epoch(registrar.register().await?);

        let groups = Arc::new(GroupCoordinator::new(
            &config,
            Arc::new(ReplicatedOffsetsTopic {
                replicas: Arc::clone(&replicas),
            }),
            Arc::clone(&cluster),
            Arc::clone(&clock),
        ));
        {
            // Its appends touch log files.
            let _entered = data.enter();
            groups.start(leadership);
        }
        let controller = Controller::start(ControllerParts {
            settings: ControllerSettings::from_config(&config),
            channel: ChannelSettings::from_config(&config),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            local: Arc::new(InProcess {
                cluster: Arc::clone(&cluster),
                gate: Arc::clone(&gate),
                replicas: Arc::clone(&replicas),
            }),
            register: registering(&registrar, &gate),
            rebalance_interval: rebalance_interval(&config),
        });
        let to_controller = Arc::new(ToController {
            broker_id,
            config: Arc::clone(&live),
            cluster: Arc::clone(&cluster),
            gate: Arc::clone(&gate),
            controller: Arc::clone(&controller),
            store: Arc::clone(&store),
        });
        let rooms = Arc::new(Rooms {
            broker_id,
            config: Arc::clone(&live),
            clock: Arc::clone(&clock),
            cluster: Arc::clone(&cluster),
            gate: Arc::clone(&gate),
            producer_ids: Arc::new(ProducerIds::new(to_controller.clone())),
            store: Arc::clone(&store),
            logs,
            replicas,
            groups,
            controller,
        });
        let (changing, config_changed) = watch::channel(());
        follow_config_changes(&rooms, changing, &stop);
        let known = Arc::clone(&cluster);
        tokio::spawn(features::follow(
            Arc::clone(&store),
            move |epoch| known.set_features_epoch(epoch),
            stop.clone(),
        ));
        let connections = Connections::new();
        let (shared, limits) = watch::channel(Arc::new(listeners::limits(&config)));
        tokio::spawn(listeners::follow(
            Arc::clone(&live),
            ports,
            Arc::clone(&registrar),
            shared,
            config_changed,
        ));
        // Other brokers are served from here on, clients once there is something to tell them.
        let handler = Arc::new(Dispatcher::closed(Arc::clone(&rooms)));
        let mut addresses = Vec::new();
        {
            let _entered = data.enter();
            for listener in listeners {
                let shown = format!("{}://{}", listener.name(), listener.local_addr());
                listener
                    .accept(Arc::clone(&handler), limits.clone(), &connections)
                    .map_err(|source| StartError::Bind {
                        listener: shown.clone(),
                        source,
                    })?;
                addresses.push(shown);
            }
        }
        wait_for_metadata(&cluster, &*store, broker_id).await;
        if !environment.topics.is_empty() {
            create_topics(&rooms, &environment.topics).await;
            wait_for_metadata(&cluster, &*store, broker_id).await;
        }
        handler.admit_clients();
        info!(target: "org.apache.kafka.common.utils.AppInfoParser", "Kafka version: 3.9.1");
        info!(target: SERVER, "[KafkaServer id={broker_id}] started");
        if from_kraft {
            info!(target: "kafka.server.BrokerLifecycleManager", "[BrokerLifecycleManager id={broker_id}] The broker is in RUNNING: Transitioning from RECOVERY to RUNNING.");
            info!(target: "kafka.server.KafkaRaftServer", "[KafkaRaftServer nodeId={broker_id}] Kafka Server started");
        }
        tracing::debug!(target: SERVER, "started in {} ms", begun.elapsed().as_millis());
        Ok(Self {
            rooms,
            connections,
            registrar,
            to_controller,
            stop,
            data,
            addresses,
            failed,
        })
    }

    pub fn id(&self) -> BrokerId {
        self.rooms.broker_id
    }

    /// Where it listens: `PLAINTEXT://127.0.0.1:9092`, one for each listener.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub fn log_dirs(&self) -> Vec<PathBuf> {
        self.rooms.config.load().log_dirs().to_vec()
    }

    /// Returns when the broker cannot go on: its last log dir failed.
    pub async fn failed(&self) {
        let mut failed = self.failed.clone();
        if failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Controlled shutdown, in the order of Kafka: clients first, logs closed cleanly before the
    /// registration goes.
    pub async fn stop(self) {
        let id = self.rooms.broker_id;
        info!(target: SERVER, "[KafkaServer id={id}] shutting down");
        self.to_controller.controlled_shutdown().await;
        self.stop.cancel();
        if tokio::time::timeout(DISCONNECT, self.connections.stop())
            .await
            .is_err()
        {
            warn!(target: SERVER, "{} connections did not end in {} s", self.connections.count(), DISCONNECT.as_secs());
        }
        self.rooms.groups.stop();
        self.rooms.replicas.stop_fetchers();
        self.rooms.replicas.checkpoint_high_watermarks();
        let logs = Arc::clone(&self.rooms.logs);
        // A panic there was logged; the rest is stopped all the same.
        let _ = tokio::task::spawn_blocking(move || logs.shutdown()).await;
        self.rooms.controller.shutdown().await;
        self.rooms.store.close().await;
        drop(self.registrar);
        drop(self.data);
        info!(target: SERVER, "[KafkaServer id={id}] shut down completed");
    }
}

/// Connections, produce, fetch, and the fetchers of followers. Dropping it waits for nothing, as
/// an async function must not.
struct DataRuntime(Option<Runtime>);

impl DataRuntime {
    fn new() -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, usize::from))
            .thread_name("data")
            .enable_all()
            .build()
            .map_err(|source| StartError::Io {
                what: "the data runtime",
                source,
            })?;
        Ok(Self(Some(runtime)))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("there until it is dropped")
    }

    fn handle(&self) -> tokio::runtime::Handle {
        self.runtime().handle().clone()
    }

    fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime().enter()
    }
}

impl Drop for DataRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The soft limit of open files up to the hard one: each partition and connection takes some.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if now.current != now.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        warn!(target: SERVER, "the limit of open files stays at {:?}: {error}", now.current);
    }
}

fn create_log_dir(dir: &PathBuf) -> Result<(), StartError> {
    std::fs::create_dir_all(dir).map_err(|source| StartError::LogDir {
        path: dir.display().to_string(),
        source,
    })
}

async fn open_store(
    config: &Config,
    grace: Duration,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StartError> {
    let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    if let Some(connect) = config.zookeeper_connect() {
        info!(target: SERVER, "Connecting to zookeeper on {connect}");
        let store = Ensemble::connect(EnsembleConfig {
            connect: ConnectString::parse(connect)?,
            session_timeout: millis(config.zookeeper_session_timeout_ms()),
            connection_timeout: millis(config.zookeeper_connection_timeout_ms()) + grace,
        })
        .await?;
        return Ok(Arc::new(store));
    }
    let first = config.log_dirs().first().cloned().unwrap_or_default();
    let folder = first.join(FOLDER);
    info!(target: SERVER, "zookeeper.connect is not set: coordination data is kept in {}", folder.display());
    Ok(Arc::new(Embedded::open(&folder, clock)?.connect()))
}

async fn broker_id(config: &Config, store: &dyn Store) -> Result<BrokerId, StartError> {
    if config.broker_id() >= 0 {
        return Ok(config.broker_id());
    }
    if let Some(id) = stored_identity(config.log_dirs())?.broker_id {
        return Ok(id);
    }
    if !config.broker_id_generation_enable() {
        return Err(StartError::NoBrokerId);
    }
    Ok(generate_broker_id(store, config.reserved_broker_max_id()).await?)
}

/// Loads every log, with the overrides its topic has in the store.
async fn open_logs(
    config: &Config,
    live: &Arc<LiveConfig>,
    store: &Arc<dyn Store>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<LogManager>, StartError> {
    let topics = configs::entities(&**store, configs::TOPICS).await?;
    let overrides = configs::read_configs(&**store, configs::TOPICS, &topics).await?;
    let overrides: BTreeMap<String, Properties> = topics
        .into_iter()
        .zip(overrides)
        .filter_map(|(topic, found)| Some((topic, found?)))
        .collect();
    let manager = ManagerConfig {
        log_dirs: config.log_dirs().to_vec(),
        num_recovery_threads_per_data_dir: config.recovery_threads(),
        default_log_config: config.log_config(&Properties::new()),
        retention_check_interval_ms: config.log_retention_check_interval_ms(),
        flush_scheduler_interval_ms: config.log_flush_scheduler_interval_ms(),
        flush_offset_checkpoint_interval_ms: i64::from(
            config.log_flush_offset_checkpoint_interval_ms(),
        ),
        flush_start_offset_checkpoint_interval_ms: i64::from(
            config.log_flush_start_offset_checkpoint_interval_ms(),
        ),
        producer_id_expiration_ms: i64::from(config.producer_id_expiration_ms()),
        producer_id_expiration_check_interval_ms: i64::from(
            config.producer_id_expiration_check_interval_ms(),
        ),
    };
    let live = Arc::clone(live);
    let opened = tokio::task::spawn_blocking(move || {
        LogManager::open(manager, clock, &|topic| {
            let none = Properties::new();
            live.load()
                .log_config(overrides.get(topic).unwrap_or(&none))
        })
    });
    match opened.await {
        Ok(logs) => Ok(logs?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A failed log dir: its partitions go offline, the controller is told, and without any dir left
/// the broker ends.
fn follow_dir_failures(
    logs: &Arc<LogManager>,
    replicas: &Arc<ReplicaManager>,
    failure: watch::Sender<bool>,
) {
    let replicas = Arc::clone(replicas);
    let runtime = tokio::runtime::Handle::current();
    logs.on_dir_failure(move |dir| {
        replicas.on_log_dir_failure(&dir, &runtime);
        if dir.none_left {
            error!(target: SERVER, "{}: the last log dir failed; the broker ends", dir.dir.display());
            failure.send_replace(true);
        }
    });
}

fn registering(registrar: &Arc<Registrar>, gate: &Arc<ControllerEpochGate>) -> Register {
    let (registrar, gate) = (Arc::clone(registrar), Arc::clone(gate));
    Arc::new(move || {
        let (registrar, gate) = (Arc::clone(&registrar), Arc::clone(&gate));
        Box::pin(async move {
            match registrar.register().await {
                Ok(epoch) => {
                    gate.set_broker_epoch(epoch);
                    Ok(())
                }
                Err(SessionError::Store(error)) => Err(error),
                Err(error) => {
                    error!(target: SERVER, "{error}");
                    Err(zk::Error::Unknown {
                        reason: error.to_string(),
                    })
                }
            }
        })
    })
}

fn follow_config_changes(rooms: &Arc<Rooms>, changed: watch::Sender<()>, stop: &CancellationToken) {
    let (store, clock) = (Arc::clone(&rooms.store), Arc::clone(&rooms.clock));
    let (rooms, stop) = (Arc::clone(rooms), stop.clone());
    tokio::spawn(async move {
        let handle = move |change: config_changes::ConfigChange| match change.entity_type.as_str() {
            configs::BROKERS => {
                let unclean = rooms.config.load().unclean_leader_election_enable();
                rooms
                    .config
                    .apply_entity(&change.entity_name, &change.config);
                let now = rooms.config.load().unclean_leader_election_enable();
                if now != unclean {
                    rooms.controller.set_unclean_leader_election_enable(now);
                }
                changed.send_replace(());
            }
            configs::TOPICS => {
                rooms
                    .replicas
                    .apply_topic_config(&change.entity_name, &change.config);
                let unclean = change.config.get("unclean.leader.election.enable");
                if unclean.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
                    let topic = change.entity_name.as_str().into();
                    rooms.controller.enable_topic_unclean_leader_election(topic);
                }
            }
            // Users, clients and ips belong to security and quotas.
            _ => {}
        };
        config_changes::run(store, clock, handle, stop).await;
    });
}

/// Clients take an answer for a broker that can be used, so they get one only when the controller
/// has told us of ourselves and of the topics there are: before that every topic would be unknown.
async fn wait_for_metadata(cluster: &Cluster, store: &dyn Store, id: BrokerId) {
    let mut changes = cluster.changes();
    let told_of_us = async {
        while !cluster.image().brokers.contains_key(&id) && changes.changed().await.is_ok() {}
    };
    if tokio::time::timeout(FIRST_METADATA, told_of_us)
        .await
        .is_err()
    {
        warn!(target: SERVER, "no controller has sent metadata within {} s; serving clients without", FIRST_METADATA.as_secs());
        return;
    }
    let expected = match topics_in_store(store).await {
        Ok(topics) => topics,
        Err(error) => {
            warn!(target: SERVER, "{}: {error}; serving clients without waiting for topics", paths::TOPICS);
            return;
        }
    };
    let mut changes = cluster.changes();
    let told_of_topics = async {
        while !expected
            .iter()
            .all(|topic| cluster.image().topic(topic).is_some())
            && changes.changed().await.is_ok()
        {}
    };
    // A topic whose replicas are all away may never come.
    if tokio::time::timeout(FIRST_TOPICS, told_of_topics)
        .await
        .is_err()
    {
        warn!(target: SERVER, "the controller has not told of all {} topics within {} s; serving clients without", expected.len(), FIRST_TOPICS.as_secs());
    }
}

/// Kafka's refusal, and what people need to get out of it: which of the two is new.
async fn other_cluster(
    config: &Config,
    store: &dyn Store,
    path: String,
    read: String,
    expected: String,
) -> StartError {
    let created = store.exists(paths::CLUSTER_ID).await.ok().flatten();
    let written = std::fs::metadata(&path)
        .and_then(|found| found.modified())
        .ok();
    let written = written
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|age| i64::try_from(age.as_millis()).ok());
    let connect = config.zookeeper_connect().unwrap_or_default();
    let newer = match (created, written) {
        (Some(stat), Some(written)) if stat.ctime > written => {
            "ZooKeeper's /cluster/id is the new one: its data was lost, or zookeeper.connect names another ensemble"
        }
        (Some(_), Some(_)) => {
            "The log dir is the new one: it comes from another cluster than the one in ZooKeeper"
        }
        _ => "One of the two belongs to another cluster",
    };
    let dirs: Vec<_> = config
        .log_dirs()
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    let dirs = dirs.join(", ");
    StartError::OtherCluster {
        path,
        expected,
        read,
        advice: format!(
            "{newer}. Keep the records: restore ZooKeeper's data or correct zookeeper.connect={connect}. Or join the cluster of ZooKeeper without them: empty {dirs}"
        ),
    }
}

/// Topics that exist and are not being deleted.
async fn topics_in_store(store: &dyn Store) -> Result<Vec<String>, zk::Error> {
    let deleting = store.children(paths::DELETE_TOPICS).await?;
    let mut topics = store.children(paths::TOPICS).await?;
    topics.retain(|topic| !deleting.contains(topic));
    Ok(topics)
}

/// `KAFKA_CREATE_TOPICS`: those that are missing.
async fn create_topics(rooms: &Rooms, topics: &[TopicToCreate]) {
    let config = rooms.config.load();
    let admin = TopicAdmin {
        store: &*rooms.store,
        cluster: &rooms.cluster,
        config: &config,
    };
    for topic in topics {
        let new = NewTopic {
            name: topic.name.clone(),
            partitions: topic.partitions.unwrap_or(admin::DEFAULT_COUNT),
            replication_factor: topic
                .replication_factor
                .map_or(admin::DEFAULT_COUNT, i32::from),
            assignments: BTreeMap::new(),
            configs: topic
                .cleanup_policy
                .iter()
                .map(|policy| ("cleanup.policy".to_owned(), Some(policy.clone())))
                .collect(),
        };
        match admin.create(&new, false).await {
            Ok(_) => info!(target: SERVER, "Created topic {}.", topic.name),
            Err(admin::Error::Exists(_)) => {}
            Err(error) => {
                error!(target: SERVER, "topic {} of KAFKA_CREATE_TOPICS: {error}", topic.name)
            }
        }
    }
}

/// The broker as the controller of the same process sees it.
struct InProcess {
    cluster: Arc<Cluster>,
    gate: Arc<ControllerEpochGate>,
    replicas: Arc<ReplicaManager>,
}

impl LocalBroker for InProcess {
    fn leader_and_isr(&self, request: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse> {
        Box::pin(async move { self.replicas.become_leader_or_follower(request).await })
    }

    fn update_metadata(
        &self,
        request: UpdateMetadataRequest,
    ) -> BoxFuture<'_, UpdateMetadataResponse> {
        let (cluster, gate) = (Arc::clone(&self.cluster), Arc::clone(&self.gate));
        Box::pin(update_metadata::apply(cluster, gate, request))
    }

    fn stop_replica(&self, request: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse> {
        Box::pin(async move { self.replicas.stop_replicas(request).await })
    }
}
