//! Brokers that replicate over sockets, each with its own logs. The tests play the controller:
//! decisions go to each broker by hand, AlterPartition is answered from a table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::alter_partition_response::{
    PartitionData as AlteredPartition, TopicData as AlteredTopic,
};
use kafka_protocol::messages::fetch_response::PartitionData as ConsumedPartition;
use kafka_protocol::messages::leader_and_isr_request::{
    LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use kafka_protocol::messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaTopicState,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, *};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::data::{Deaf, bytes_of_log};
use crate::api::Dispatcher;
use crate::api::context::Rooms;
use crate::clock::{Clock, SystemClock};
use crate::cluster::image::{
    BrokerImage, Cluster, Endpoint, MetadataImage, PartitionImage, TopicImage,
};
use crate::cluster::update::ControllerEpochGate;
use crate::config::{Config, LiveConfig, Properties};
use crate::controller::channel::ChannelSettings;
use crate::controller::core::Settings;
use crate::controller::run::{Controller, ControllerParts};
use crate::error::ErrorCode;
use crate::group::coordinator::GroupCoordinator;
use crate::group::offsets_topic::ReplicatedOffsetsTopic;
use crate::log::Log;
use crate::log::manager::{DirFailure, LogManager, ManagerConfig};
use crate::net::client::{Client, Options};
use crate::net::out::encode;
use crate::net::{Connections, Handler, Limits, Listener, Outcome, Peer, guard};
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::replica::manager::{Parts, ReplicaManager};
use crate::replica::{Appended, ToAppend};
use crate::txn::producer_id::ProducerIds;
use crate::types::{
    AsPartition as _, BrokerId, LeaderEpoch, Offset, TopicName, TopicPartition, Uuid,
};
use crate::zk::Store;
use crate::zk::embedded::Embedded;
use crate::zk::session::create_persistent_paths;

const TOPIC_ID: Uuid = Uuid::from_u128(0xabcdef);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(60);

/// The state that the controller would hold, and what it answers to AlterPartition.
#[derive(Default)]
struct Decided {
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    isr: Vec<BrokerId>,
    /// Answered instead, once each.
    refusals: Vec<ErrorCode>,
    /// Version and proposed ISR of every request.
    proposed: Vec<(i16, Vec<BrokerId>)>,
}

/// Answers AlterPartition from the table, and all else as a broker does.
struct WithController {
    decided: Arc<Mutex<Decided>>,
    dispatcher: Dispatcher,
}

impl Handler for WithController {
    type Connection = <Dispatcher as Handler>::Connection;

    fn connect(&self, peer: &Peer) -> Self::Connection {
        self.dispatcher.connect(peer)
    }

    async fn handle(
        &self,
        connection: &mut Self::Connection,
        peer: &Peer,
        frame: &[u8],
    ) -> Outcome {
        let (key, version) = guard::peek(frame).unwrap();
        match key {
            AlterPartitionRequest::KEY => self.alter(version, Bytes::copy_from_slice(frame)),
            ApiVersionsRequest::KEY => {
                let header =
                    guard::request_header(frame, ApiVersionsRequest::header_version(version))
                        .unwrap();
                let offered = api_versions_response::ApiVersion::default()
                    .with_api_key(AlterPartitionRequest::KEY)
                    .with_max_version(3);
                let answer = ApiVersionsResponse::default().with_api_keys(vec![offered]);
                let chunks = encode(header.correlation_id, 0, &answer, version);
                Outcome::Respond(chunks.unwrap())
            }
            _ => self.dispatcher.handle(connection, peer, frame).await,
        }
    }
}

impl WithController {
    fn alter(&self, version: i16, frame: Bytes) -> Outcome {
        let header_version = AlterPartitionRequest::header_version(version);
        let header = guard::request_header(&frame, header_version).unwrap();
        let request =
            AlterPartitionRequest::decode(&mut frame.slice(header.len..), version).unwrap();
        let topic = &request.topics[0];
        let asked = &topic.partitions[0];
        let isr: Vec<BrokerId> = if version >= 3 {
            let with_epochs = asked.new_isr_with_epochs.iter();
            with_epochs.map(|state| state.broker_id.0).collect()
        } else {
            asked.new_isr.iter().map(|id| id.0).collect()
        };
        let mut decided = self.decided.lock();
        decided.proposed.push((version, isr.clone()));
        let refusal = decided.refusals.pop();
        let mut partition = AlteredPartition::default().with_partition_index(asked.partition_index);
        match refusal {
            Some(code) => partition.error_code = code.value(),
            None if asked.leader_epoch != decided.leader_epoch => {
                partition.error_code = ErrorCode::FencedLeaderEpoch.value();
            }
            None if asked.partition_epoch != decided.partition_epoch => {
                partition.error_code = ErrorCode::InvalidUpdateVersion.value();
            }
            None => {
                decided.partition_epoch += 1;
                decided.isr = isr;
                partition = partition
                    .with_leader_id(request.broker_id)
                    .with_leader_epoch(decided.leader_epoch)
                    .with_partition_epoch(decided.partition_epoch)
                    .with_isr(decided.isr.iter().map(|&id| WireBrokerId(id)).collect());
            }
        }
        let answered = AlteredTopic::default()
            .with_topic_id(topic.topic_id)
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(vec![partition]);
        let answer = AlterPartitionResponse::default().with_topics(vec![answered]);
        let header_version = AlterPartitionResponse::header_version(version);
        let chunks = encode(header.correlation_id, header_version, &answer, version);
        Outcome::Respond(chunks.unwrap())
    }
}

/// One broker with its listener.
struct Node {
    id: BrokerId,
    dir: TempDir,
    cluster: Arc<Cluster>,
    config: Arc<LiveConfig>,
    logs: Arc<LogManager>,
    replicas: Arc<ReplicaManager>,
    connections: Arc<Connections>,
    port: u16,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.replicas.stop_fetchers();
        self.logs.shutdown();
    }
}

fn open_logs(dir: &TempDir, config: &Config) -> Arc<LogManager> {
    let defaults = config.log_config(&Properties::new());
    LogManager::open(
        ManagerConfig {
            log_dirs: vec![dir.path().to_path_buf()],
            num_recovery_threads_per_data_dir: 1,
            default_log_config: defaults.clone(),
            retention_check_interval_ms: 300_000,
            flush_scheduler_interval_ms: i64::MAX,
            flush_offset_checkpoint_interval_ms: 60_000,
            flush_start_offset_checkpoint_interval_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
        },
        Arc::new(SystemClock),
        &|_| defaults.clone(),
    )
    .unwrap()
}

impl Node {
    async fn start(
        id: BrokerId,
        dir: TempDir,
        extra: &[(&str, &str)],
        decided: &Arc<Mutex<Decided>>,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory(Arc::clone(&clock)).connect());
        create_persistent_paths(&*store).await.unwrap();
        let id_text = id.to_string();
        let mut pairs = vec![
            ("broker.id", id_text.as_str()),
            ("replica.fetch.wait.max.ms", "50"),
            ("replica.fetch.backoff.ms", "20"),
        ];
        pairs.extend(extra);
        let config = Config::from_pairs(&pairs).unwrap();
        let logs = open_logs(&dir, &config);
        let cluster = Arc::new(Cluster::new("cluster".to_owned()));
        let live = Arc::new(LiveConfig::new(config.clone()));
        let gate = Arc::new(ControllerEpochGate::default());
        gate.set_broker_epoch(100 + i64::from(id));
        let replicas = ReplicaManager::new(Parts {
            broker_id: id,
            config: Arc::clone(&live),
            clock: Arc::clone(&clock),
            cluster: Arc::clone(&cluster),
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            gate: Arc::clone(&gate),
        });
        let stop = CancellationToken::new();
        replicas.start(tokio::runtime::Handle::current(), stop.clone());
        let controller = Controller::start(ControllerParts {
            settings: Settings::from_config(&config),
            channel: ChannelSettings::from_config(&config),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            local: Arc::new(Deaf),
            register: Arc::new(|| Box::pin(async { Ok(()) })),
            rebalance_interval: None,
        });
        let rooms = Arc::new(Rooms {
            broker_id: id,
            config: Arc::clone(&live),
            clock: Arc::clone(&clock),
            cluster: Arc::clone(&cluster),
            gate,
            producer_ids: Arc::new(ProducerIds::new(Arc::new(Deaf))),
            store,
            logs: Arc::clone(&logs),
            replicas: Arc::clone(&replicas),
            groups: Arc::new(GroupCoordinator::new(
                &config,
                Arc::new(ReplicatedOffsetsTopic {
                    replicas: Arc::clone(&replicas),
                }),
                Arc::clone(&cluster),
                clock,
            )),
            controller,
        });
        let handler = WithController {
            decided: Arc::clone(decided),
            dispatcher: Dispatcher::new(rooms),
        };
        let limits = Limits::default();
        let listener = Listener::bind("PLAINTEXT", Some("127.0.0.1"), 0, &limits).unwrap();
        let port = listener.local_addr().port();
        let connections = Connections::new();
        listener
            .accept(
                Arc::new(handler),
                watch::channel(Arc::new(limits)).1,
                &connections,
            )
            .unwrap();
        Self {
            id,
            dir,
            cluster,
            config: live,
            logs,
            replicas,
            connections,
            port,
            stop,
        }
    }

    fn log(&self) -> Option<Arc<Log>> {
        self.logs.log(&partition())
    }

    /// LEO and high watermark, −1 without a log.
    fn ends(&self) -> (Offset, Offset) {
        self.log()
            .map_or((-1, -1), |log| (log.log_end_offset(), log.high_watermark()))
    }

    async fn produce(&self, records: usize, acks: i16) -> Appended {
        let record = NewRecord {
            timestamp: SystemClock.now(),
            value: Some(vec![7; 100].into()),
            ..NewRecord::default()
        };
        let records = build_batch(&vec![record; records], &BatchOptions::default());
        self.replicas
            .append_records(
                &[ToAppend {
                    partition: partition().as_partition(),
                    records: &records,
                }],
                |_| None,
                acks,
                LONG,
            )
            .await
            .remove(0)
    }

    /// What a consumer with this rack gets from the broker.
    async fn consumed(&self, rack: &str, offset: Offset, max_wait_ms: i32) -> ConsumedPartition {
        let mut client = Client::connect(("127.0.0.1", self.port), Options::default())
            .await
            .unwrap();
        let wanted = fetch_request::FetchPartition::default()
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = fetch_request::FetchTopic::default()
            .with_topic(StrBytes::from_static_str("t").into())
            .with_partitions(vec![wanted]);
        let request = FetchRequest::default()
            .with_max_wait_ms(max_wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_session_epoch(-1)
            .with_rack_id(StrBytes::from_string(rack.to_owned()))
            .with_topics(vec![topic]);
        let mut response = client.send(&request, 12).await.unwrap();
        response.responses.remove(0).partitions.remove(0)
    }

    async fn produced(&self, records: usize, acks: i16) {
        let appended = self.produce(records, acks).await;
        assert_eq!(appended.failure, None);
    }
}

/// Brokers 1, 2, … of one cluster.
struct Brokers {
    decided: Arc<Mutex<Decided>>,
    nodes: HashMap<BrokerId, Node>,
    extra: Vec<(&'static str, &'static str)>,
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

impl Brokers {
    async fn new(ids: &[BrokerId], extra: &[(&'static str, &'static str)]) -> Self {
        let decided = Arc::new(Mutex::new(Decided::default()));
        let mut nodes = HashMap::new();
        for &id in ids {
            let dir = TempDir::new().unwrap();
            nodes.insert(id, Node::start(id, dir, extra, &decided).await);
        }
        let brokers = Self {
            decided,
            nodes,
            extra: extra.to_vec(),
        };
        brokers.publish();
        brokers
    }

    /// Everybody learns who is alive and where.
    fn publish(&self) {
        let mut image = MetadataImage {
            // The one with the lowest id plays the controller.
            controller_id: self.nodes.keys().min().copied(),
            ..MetadataImage::default()
        };
        for node in self.nodes.values() {
            let endpoint = Endpoint {
                listener: "PLAINTEXT".to_owned(),
                security_protocol: 0,
                host: "127.0.0.1".to_owned(),
                port: i32::from(node.port),
            };
            let broker = BrokerImage {
                id: node.id,
                endpoints: vec![endpoint],
                rack: Some(format!("rack-{}", node.id)),
            };
            image.brokers.insert(node.id, Arc::new(broker));
        }
        let one = PartitionImage {
            partition: 0,
            leader: -1,
            leader_epoch: 0,
            controller_epoch: 1,
            partition_epoch: 0,
            isr: Vec::new(),
            replicas: Vec::new(),
            offline_replicas: Vec::new(),
        };
        let topic = TopicImage {
            name: TopicName::new("t"),
            id: Some(TOPIC_ID),
            partitions: [(0, one)].into(),
        };
        image.topic_names.insert(TOPIC_ID, topic.name.clone());
        image.topics.insert(topic.name.clone(), Arc::new(topic));
        for node in self.nodes.values() {
            node.cluster.publish(image.clone());
        }
    }

    fn node(&self, id: BrokerId) -> &Node {
        &self.nodes[&id]
    }

    /// Elects a leader, and tells all replicas.
    async fn decide(&self, leader: BrokerId, isr: &[BrokerId], topic_id: Uuid) {
        let (leader_epoch, partition_epoch) = {
            let mut decided = self.decided.lock();
            decided.leader_epoch += 1;
            decided.partition_epoch += 1;
            decided.isr = isr.to_vec();
            (decided.leader_epoch, decided.partition_epoch)
        };
        let mut replicas: Vec<_> = self.nodes.keys().map(|&id| WireBrokerId(id)).collect();
        replicas.sort_by_key(|id| id.0);
        let state = LeaderAndIsrPartitionState::default()
            .with_controller_epoch(1)
            .with_leader(WireBrokerId(leader))
            .with_leader_epoch(leader_epoch)
            .with_partition_epoch(partition_epoch)
            .with_isr(isr.iter().map(|&id| WireBrokerId(id)).collect())
            .with_replicas(replicas)
            .with_is_new(true);
        let topic = LeaderAndIsrTopicState::default()
            .with_topic_name(StrBytes::from_static_str("t").into())
            .with_topic_id(topic_id)
            .with_partition_states(vec![state]);
        let request = LeaderAndIsrRequest::default()
            .with_controller_epoch(1)
            .with_broker_epoch(-1)
            .with_topic_states(vec![topic]);
        for node in self.nodes.values() {
            let response = node
                .replicas
                .become_leader_or_follower(request.clone())
                .await;
            assert_eq!(response.error_code, 0);
            let one = &response.topics[0].partition_errors[0];
            assert_eq!(one.error_code, 0, "broker {}", node.id);
        }
    }

    /// Until every broker has the same LEO and high watermark, and the leader this ISR.
    async fn in_sync(&self, leader: BrokerId, end: Offset, isr: &[BrokerId]) {
        let what = format!("{isr:?} at {end}");
        until(&what, || {
            let mut found = self
                .node(leader)
                .replicas
                .online_partition(&partition())
                .map(|partition| partition.isr())
                .unwrap_or_default();
            found.sort_unstable();
            found == isr && self.nodes.values().all(|node| node.ends() == (end, end))
        })
        .await;
    }

    /// Stops a broker and starts it on the same folder.
    async fn restart(&mut self, id: BrokerId) {
        let node = self.nodes.remove(&id).unwrap();
        let dir = {
            node.replicas.stop_fetchers();
            node.stop.cancel();
            node.connections.stop().await;
            node.replicas.checkpoint_high_watermarks();
            node.logs.shutdown();
            // The folder outlives the node.
            let mut node = node;
            std::mem::replace(&mut node.dir, TempDir::new().unwrap())
        };
        self.nodes
            .insert(id, Node::start(id, dir, &self.extra, &self.decided).await);
        self.publish();
    }

    fn same_bytes(&self) {
        let mut logs = self.nodes.values().map(|node| {
            let log = node.log().unwrap();
            (node.id, bytes_of_log(&log))
        });
        let (first, bytes) = logs.next().unwrap();
        for (id, other) in logs {
            assert!(bytes == other, "brokers {first} and {id} differ");
        }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_copies_the_leader_and_joins_the_isr() {
    for topic_id in [TOPIC_ID, Uuid::nil()] {
        let brokers = Brokers::new(&[1, 2], &[]).await;
        brokers.decide(1, &[1], topic_id).await;
        brokers.node(1).produced(3, 1).await;
        brokers.in_sync(1, 3, &[1, 2]).await;
        // Now acks=all waits for the follower.
        brokers.node(1).produced(2, -1).await;
        assert!(brokers.node(2).ends().0 >= 5);
        brokers.in_sync(1, 5, &[1, 2]).await;
        brokers.same_bytes();
        let version = if topic_id.is_nil() { 1 } else { 3 };
        assert_eq!(brokers.decided.lock().proposed, [(version, vec![1, 2])]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_new_leader_does_not_have_is_cut() {
    let brokers = Brokers::new(&[1, 2], &[]).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.node(1).produced(3, -1).await;
    brokers.in_sync(1, 3, &[1, 2]).await;
    // 2 stops following, 1 goes on by itself, and 2 is elected.
    brokers.node(2).replicas.stop_fetchers();
    brokers.node(1).produced(4, 1).await;
    assert_eq!(brokers.node(1).ends(), (7, 3));
    brokers.decide(2, &[1, 2], TOPIC_ID).await;
    brokers.node(2).produced(2, 1).await;
    brokers.in_sync(2, 5, &[1, 2]).await;
    brokers.same_bytes();
    // Who asked for all on the old leader is told.
    assert_eq!(
        brokers.node(1).produce(1, -1).await.failure.unwrap().code,
        ErrorCode::NotLeaderOrFollower
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_beyond_the_leaders_range_begins_where_the_leader_does() {
    let mut brokers = Brokers::new(&[1, 2], &[]).await;
    brokers.node(2).replicas.stop_fetchers();
    brokers.decide(1, &[1], TOPIC_ID).await;
    for _ in 0..5 {
        brokers.node(1).produced(2, 1).await;
    }
    brokers.restart(2).await;
    let log = brokers.node(1).log().unwrap();
    assert_eq!(log.high_watermark(), 10);
    // In the middle of a batch, which the follower gets whole.
    log.advance_log_start_offset(7).unwrap();
    brokers.decide(1, &[1], TOPIC_ID).await;
    brokers.in_sync(1, 10, &[1, 2]).await;
    until("the follower's log start", || {
        brokers.node(2).log().unwrap().log_start_offset() == 7
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laggard_leaves_the_isr_and_acks_all_goes_on() {
    let brokers = Brokers::new(&[1, 2], &[("replica.lag.time.max.ms", "300")]).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.node(1).produced(1, -1).await;
    brokers.in_sync(1, 1, &[1, 2]).await;
    brokers.node(2).replicas.stop_fetchers();
    // Answered once the ISR is the leader alone.
    brokers.node(1).produced(1, -1).await;
    assert_eq!(brokers.decided.lock().isr, [1]);
    assert_eq!(brokers.node(1).ends(), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_min_isr_nothing_is_acknowledged_and_the_high_watermark_stands() {
    let keys = [
        ("replica.lag.time.max.ms", "300"),
        ("min.insync.replicas", "2"),
    ];
    let brokers = Brokers::new(&[1, 2], &keys).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.node(1).produced(1, -1).await;
    brokers.in_sync(1, 1, &[1, 2]).await;
    brokers.node(2).replicas.stop_fetchers();
    brokers.node(1).produced(1, 1).await;
    until("the ISR shrinks", || brokers.decided.lock().isr == [1]).await;
    until("the leader knows", || {
        let partition = brokers.node(1).replicas.online_partition(&partition());
        partition.unwrap().isr() == [1]
    })
    .await;
    assert_eq!(
        brokers.node(1).produce(1, -1).await.failure.unwrap().code,
        ErrorCode::NotEnoughReplicas
    );
    brokers.node(1).produced(1, 1).await;
    assert_eq!(brokers.node(1).ends(), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_proposal_is_made_again_and_an_unanswerable_one_waits() {
    let brokers = Brokers::new(&[1, 2], &[]).await;
    // Popped from the end: first an odd code, then the revert.
    brokers.decided.lock().refusals =
        vec![ErrorCode::IneligibleReplica, ErrorCode::UnknownServerError];
    brokers.decide(1, &[1], TOPIC_ID).await;
    brokers.node(1).produced(1, 1).await;
    brokers.in_sync(1, 1, &[1, 2]).await;
    assert_eq!(brokers.decided.lock().proposed.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_follower_comes_back() {
    let mut brokers = Brokers::new(&[1, 2, 3], &[]).await;
    brokers.decide(1, &[1, 2, 3], TOPIC_ID).await;
    brokers.node(1).produced(3, -1).await;
    brokers.in_sync(1, 3, &[1, 2, 3]).await;
    brokers.restart(3).await;
    brokers.node(1).produced(2, 1).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.in_sync(1, 5, &[1, 2, 3]).await;
    brokers.same_bytes();
    // A restarted leader is found at its new port.
    brokers.restart(1).await;
    brokers.decide(1, &[1, 2, 3], TOPIC_ID).await;
    brokers.node(1).produced(1, -1).await;
    brokers.in_sync(1, 6, &[1, 2, 3]).await;
    brokers.same_bytes();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_is_sent_to_the_replica_in_its_rack_and_reads_there_up_to_the_high_watermark() {
    let keys = [(
        "replica.selector.class",
        "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    )];
    let brokers = Brokers::new(&[1, 2], &keys).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.node(1).produced(3, -1).await;
    brokers.in_sync(1, 3, &[1, 2]).await;
    for (rack, expect) in [("rack-2", 2), ("rack-1", -1), ("rack-9", -1), ("", -1)] {
        let told = brokers.node(1).consumed(rack, 0, 0).await;
        assert_eq!(told.error_code, 0, "{rack}");
        assert_eq!(told.preferred_read_replica.0, expect, "{rack}");
        let is_sent_away = expect >= 0;
        assert_eq!(
            told.records.unwrap_or_default().is_empty(),
            is_sent_away,
            "{rack}"
        );
    }
    let read = brokers.node(2).consumed("rack-2", 0, 0).await;
    assert_eq!((read.error_code, read.high_watermark), (0, 3));
    assert_eq!(read.preferred_read_replica.0, -1);
    assert!(!read.records.unwrap_or_default().is_empty());
    // One that waits at the follower's high watermark is woken when that moves.
    let waits = brokers.node(2).consumed("rack-2", 3, 60_000);
    let (read, ()) = tokio::join!(waits, brokers.node(1).produced(1, -1));
    assert_eq!((read.error_code, read.high_watermark), (0, 4));
    assert!(!read.records.unwrap_or_default().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_fetchers_takes_over_where_the_first_was() {
    let brokers = Brokers::new(&[1, 2], &[]).await;
    brokers.decide(1, &[1, 2], TOPIC_ID).await;
    brokers.node(1).produced(3, -1).await;
    let number = [("num.replica.fetchers".to_owned(), "3".to_owned())];
    let node = brokers.node(2);
    node.config.apply_entity("<default>", &number.into());
    brokers.node(1).produced(3, -1).await;
    brokers.in_sync(1, 6, &[1, 2]).await;
    assert_eq!(node.replicas.fetchers().len(), 1);
    brokers.same_bytes();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_offline_replicas_follow_no_more() {
    for is_offline in [false, true] {
        let brokers = Brokers::new(&[1, 2], &[("replica.lag.time.max.ms", "300")]).await;
        brokers.decide(1, &[1, 2], TOPIC_ID).await;
        brokers.node(1).produced(1, -1).await;
        brokers.in_sync(1, 1, &[1, 2]).await;
        let node = brokers.node(2);
        if is_offline {
            let failure = DirFailure {
                dir: node.dir.path().to_owned(),
                partitions: vec![partition()],
                future_partitions: Vec::new(),
                none_left: true,
            };
            let runtime = tokio::runtime::Handle::current();
            node.replicas.on_log_dir_failure(&failure, &runtime);
        } else {
            let stopped = StopReplicaPartitionState::default()
                .with_leader_epoch(brokers.decided.lock().leader_epoch);
            let topic = StopReplicaTopicState::default()
                .with_topic_name(StrBytes::from_static_str("t").into())
                .with_partition_states(vec![stopped]);
            let request = StopReplicaRequest::default()
                .with_controller_epoch(1)
                .with_broker_epoch(-1)
                .with_topic_states(vec![topic]);
            let response = node.replicas.stop_replicas(request).await;
            assert_eq!(response.partition_errors[0].error_code, 0);
            assert!(node.replicas.fetchers().is_empty());
        }
        brokers.node(1).produced(1, -1).await;
        assert_eq!(brokers.decided.lock().isr, [1]);
        assert_eq!(node.ends().0, 1, "offline: {is_offline}");
    }
}

/// Copied at this rate, what `throttled_replicas_keep_to_the_rate` produces takes a while.
const RATE: i64 = 50_000;

impl Node {
    /// Sets both throttles of this broker, as the controller's tools would, and waits for them.
    async fn throttle(&self, side: &str, rate: i64) {
        let rate_key = format!("{side}.replication.throttled.rate");
        self.config
            .apply_entity(&self.id.to_string(), &[(rate_key, rate.to_string())].into());
        let throttles = self.replicas.throttles();
        let quota = match side {
            "leader" => &throttles.leader,
            _ => &throttles.follower,
        };
        until("the rate", || quota.bound() == rate).await;
        let list_key = format!("{side}.replication.throttled.replicas");
        let list = format!("0:{}", self.id);
        self.replicas
            .apply_topic_config("t", &[(list_key, list)].into());
        assert!(quota.is_throttled(&partition()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_replicas_keep_to_the_rate_until_they_are_in_sync() {
    for (side, throttled) in [("leader", 1), ("follower", 2)] {
        // One batch at a time.
        let mut brokers = Brokers::new(&[1, 2], &[("replica.fetch.max.bytes", "12000")]).await;
        brokers.node(2).replicas.stop_fetchers();
        brokers.decide(1, &[1], TOPIC_ID).await;
        for _ in 0..10 {
            brokers.node(1).produced(100, 1).await;
        }
        brokers.restart(2).await;
        let node = brokers.node(throttled);
        node.throttle(side, RATE).await;
        let begun = Instant::now();
        brokers.decide(1, &[1], TOPIC_ID).await;
        brokers.in_sync(1, 1000, &[1, 2]).await;
        // The last batch is not copied before the nine others, of 10,000 bytes and more each, are
        // within the rate.
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1700), "{side}: {took:?}");
        brokers.same_bytes();
        // One in the ISR has to stay there.
        node.throttle(side, 0).await;
        for _ in 0..3 {
            brokers.node(1).produced(1, -1).await;
        }
        assert_eq!(brokers.decided.lock().isr, [1, 2]);
    }
}
