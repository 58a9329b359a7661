//! The replica manager over real logs and the embedded store; the controller is played by hand.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::leader_and_isr_request::{
    LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use kafka_protocol::messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaTopicState,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, LeaderAndIsrRequest, StopReplicaRequest};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tokio::time::Instant;

use super::manager::{Isolation, LeadershipChange, Parts, ReplicaManager};
use super::session::{PartitionKey, TopicKey, Wanted};
use super::{Appended, Appends, FetchParams, Fetched, Reading, ToAppend, ToFetch};
use crate::clock::{Clock, SystemClock};
use crate::cluster::image::{BrokerImage, Cluster, MetadataImage, PartitionImage, TopicImage};
use crate::cluster::update::ControllerEpochGate;
use crate::config::{Config, LiveConfig, Properties};
use crate::error::ErrorCode;
use crate::log::manager::{DirFailure, LogManager, ManagerConfig};
use crate::record::batch::{Batch, BatchIter};
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::types::{BrokerId, LeaderEpoch, Offset, PartitionRef, TopicName, TopicPartition, Uuid};
use crate::zk::embedded::Embedded;
use crate::zk::session::create_persistent_paths;
use crate::zk::{CreateMode, Store, data, paths};

mod exploration;
pub(super) mod memory;
mod moves;

const ME: BrokerId = 1;
const OTHER: BrokerId = 2;
const TOPIC_ID: Uuid = Uuid::from_u128(0xabcdef);
/// Longer than any test may take.
const LONG: Duration = Duration::from_secs(30);

struct Fixture {
    dir: TempDir,
    cluster: Arc<Cluster>,
    store: Arc<dyn Store>,
    logs: Arc<LogManager>,
    replicas: Arc<ReplicaManager>,
}

fn open_logs(dir: &TempDir) -> Arc<LogManager> {
    open_logs_in(&[dir.path()])
}

fn open_logs_in(dirs: &[&std::path::Path]) -> Arc<LogManager> {
    let config = Config::from_pairs(&[]).unwrap();
    let default_log_config = config.log_config(&Properties::new());
    LogManager::open(
        ManagerConfig {
            log_dirs: dirs.iter().map(|dir| dir.to_path_buf()).collect(),
            num_recovery_threads_per_data_dir: 1,
            default_log_config: default_log_config.clone(),
            retention_check_interval_ms: 300_000,
            flush_scheduler_interval_ms: i64::MAX,
            flush_offset_checkpoint_interval_ms: 60_000,
            flush_start_offset_checkpoint_interval_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
        },
        Arc::new(SystemClock),
        &|_| default_log_config.clone(),
    )
    .unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory(clock).connect());
        create_persistent_paths(&*store).await.unwrap();
        let dir = TempDir::new().unwrap();
        let logs = open_logs(&dir);
        let cluster = Arc::new(Cluster::new("cluster".to_owned()));
        cluster.publish(image(&[ME]));
        let replicas = manager(&store, &cluster, &logs);
        Self {
            dir,
            cluster,
            store,
            logs,
            replicas,
        }
    }

    /// Stops the logs and opens all anew on the same folder.
    fn restart(self) -> Self {
        self.replicas.checkpoint_high_watermarks();
        self.logs.shutdown();
        let logs = open_logs(&self.dir);
        let replicas = manager(&self.store, &self.cluster, &logs);
        Self {
            logs,
            replicas,
            ..self
        }
    }

    /// Writes an override of `t` to the store, and tells nobody.
    async fn override_topic(&self, key: &str, value: &str) {
        self.store
            .create(
                &paths::config_entity("topics", "t"),
                data::encode_config([(key, value)]),
                CreateMode::Persistent,
            )
            .await
            .unwrap();
    }

    async fn decide(&self, order: Order) -> ErrorCode {
        let response = self
            .replicas
            .become_leader_or_follower(order.request())
            .await;
        if response.error_code != 0 {
            return ErrorCode::from_value(response.error_code);
        }
        ErrorCode::from_value(response.topics[0].partition_errors[0].error_code)
    }

    /// This broker leads partition 0 of `t`, alone.
    async fn leading() -> Self {
        let fixture = Self::new().await;
        assert_eq!(fixture.decide(Order::default()).await, ErrorCode::None);
        fixture
    }

    /// This broker leads, and replica `OTHER` is in the ISR.
    async fn leading_two() -> Self {
        let fixture = Self::new().await;
        let order = Order {
            isr: vec![ME, OTHER],
            replicas: vec![ME, OTHER],
            ..Order::default()
        };
        assert_eq!(fixture.decide(order).await, ErrorCode::None);
        fixture
    }

    async fn produce(&self, partition: i32, acks: i16, timeout: Duration) -> Appended {
        self.replicas
            .append_records(&[to_append(partition, 1, 10)], |_| None, acks, timeout)
            .await
            .remove(0)
    }

    async fn produced(&self, partition: i32) -> Offset {
        let appended = self.produce(partition, 1, LONG).await;
        assert_eq!(appended.failure, None);
        appended.info.unwrap().base_offset
    }

    async fn fetch(&self, params: &FetchParams, partitions: Vec<ToFetch>) -> Vec<Fetched> {
        let mut readings: Vec<_> = partitions.into_iter().map(Reading::of).collect();
        self.replicas.fetch(params, &mut readings).await;
        readings
            .into_iter()
            .map(|reading| reading.fetched)
            .collect()
    }

    async fn fetch_one(&self, params: &FetchParams, offset: Offset) -> Fetched {
        self.fetch(params, vec![to_fetch(0, offset)])
            .await
            .remove(0)
    }

    async fn follower_fetches(&self, offset: Offset) -> Fetched {
        let params = FetchParams {
            replica_id: OTHER,
            isolation: Isolation::LogEnd,
            only_leader: true,
            ..at_once()
        };
        self.fetch_one(&params, offset).await
    }
}

fn manager(
    store: &Arc<dyn Store>,
    cluster: &Arc<Cluster>,
    logs: &Arc<LogManager>,
) -> Arc<ReplicaManager> {
    ReplicaManager::new(Parts {
        broker_id: ME,
        config: Arc::new(LiveConfig::new(Config::from_pairs(&[]).unwrap())),
        clock: Arc::new(SystemClock),
        cluster: Arc::clone(cluster),
        store: Arc::clone(store),
        logs: Arc::clone(logs),
        gate: Arc::new(ControllerEpochGate::default()),
    })
}

/// Topics `t` and `__consumer_offsets` of 500 partitions, and `brokers` alive.
fn image(brokers: &[BrokerId]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for &id in brokers {
        let broker = BrokerImage {
            id,
            endpoints: Vec::new(),
            rack: None,
        };
        image.brokers.insert(id, Arc::new(broker));
    }
    for name in ["t", "__consumer_offsets"] {
        let partitions = (0..500).map(|partition| {
            let one = PartitionImage {
                partition,
                leader: ME,
                leader_epoch: 0,
                controller_epoch: 1,
                partition_epoch: 0,
                isr: vec![ME],
                replicas: vec![ME],
                offline_replicas: Vec::new(),
            };
            (partition, one)
        });
        let topic = TopicImage {
            name: TopicName::new(name),
            id: Some(TOPIC_ID),
            partitions: partitions.collect(),
        };
        image.topics.insert(TopicName::new(name), Arc::new(topic));
    }
    image
}

/// A LeaderAndIsr request for one partition.
#[derive(Clone)]
struct Order {
    topic: &'static str,
    partitions: std::ops::Range<i32>,
    controller_epoch: i32,
    topic_id: Uuid,
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    isr: Vec<BrokerId>,
    replicas: Vec<BrokerId>,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            topic: "t",
            partitions: 0..1,
            controller_epoch: 1,
            topic_id: TOPIC_ID,
            leader: ME,
            leader_epoch: 0,
            isr: vec![ME],
            replicas: vec![ME],
        }
    }
}

impl Order {
    fn request(&self) -> LeaderAndIsrRequest {
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| WireBrokerId(*id)).collect::<Vec<_>>();
        let states = self
            .partitions
            .clone()
            .map(|partition| {
                LeaderAndIsrPartitionState::default()
                    .with_partition_index(partition)
                    .with_controller_epoch(self.controller_epoch)
                    .with_leader(WireBrokerId(self.leader))
                    .with_leader_epoch(self.leader_epoch)
                    .with_partition_epoch(self.leader_epoch)
                    .with_isr(ids(&self.isr))
                    .with_replicas(ids(&self.replicas))
                    .with_is_new(true)
            })
            .collect();
        LeaderAndIsrRequest::default()
            .with_controller_id(WireBrokerId(ME))
            .with_controller_epoch(self.controller_epoch)
            .with_broker_epoch(-1)
            .with_topic_states(vec![
                LeaderAndIsrTopicState::default()
                    .with_topic_name(StrBytes::from_static_str(self.topic).into())
                    .with_topic_id(self.topic_id)
                    .with_partition_states(states),
            ])
    }
}

fn stop(leader_epoch: LeaderEpoch, delete: bool) -> StopReplicaRequest {
    StopReplicaRequest::default()
        .with_controller_id(WireBrokerId(ME))
        .with_controller_epoch(1)
        .with_broker_epoch(-1)
        .with_topic_states(vec![
            StopReplicaTopicState::default()
                .with_topic_name(StrBytes::from_static_str("t").into())
                .with_partition_states(vec![
                    StopReplicaPartitionState::default()
                        .with_partition_index(0)
                        .with_leader_epoch(leader_epoch)
                        .with_delete_partition(delete),
                ]),
        ])
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn named(partition: i32) -> PartitionRef<'static> {
    PartitionRef {
        topic: "t",
        partition,
    }
}

fn batch(records: usize, value_bytes: usize) -> Bytes {
    let record = NewRecord {
        timestamp: SystemClock.now(),
        value: Some(vec![7; value_bytes].into()),
        ..NewRecord::default()
    };
    build_batch(&vec![record; records], &BatchOptions::default())
}

fn to_append(index: i32, records: usize, value_bytes: usize) -> ToAppend<'static> {
    ToAppend {
        partition: named(index),
        records: Vec::from(batch(records, value_bytes)).leak(),
    }
}

fn wanted(fetch_offset: Offset) -> Wanted {
    Wanted {
        fetch_offset,
        max_bytes: 1 << 20,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        log_start_offset: -1,
    }
}

fn to_fetch(index: i32, offset: Offset) -> ToFetch {
    ToFetch {
        key: PartitionKey {
            topic: TopicKey::Name(TopicName::new("t")),
            partition: index,
        },
        partition: partition(index),
        wanted: wanted(offset),
    }
}

/// A consumer that does not wait.
fn at_once() -> FetchParams {
    FetchParams {
        replica_id: -1,
        replica_epoch: -1,
        reader: None,
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 50 << 20,
        has_hard_limit: false,
        isolation: Isolation::HighWatermark,
        only_leader: false,
    }
}

fn long_poll(min_bytes: u64) -> FetchParams {
    FetchParams {
        max_wait: LONG,
        min_bytes,
        ..at_once()
    }
}

/// Offsets of the batches in what was fetched, read from the file.
fn base_offsets(fetched: &Fetched) -> Vec<Offset> {
    let Some(region) = &fetched.region else {
        return Vec::new();
    };
    let mut bytes = vec![0; region.len];
    region
        .file
        .read_exact_at(&mut bytes, region.position)
        .unwrap();
    BatchIter::new(&bytes)
        .map(|frame| {
            Batch::parse(frame.unwrap().bytes)
                .unwrap()
                .header()
                .base_offset
        })
        .collect()
}

#[tokio::test]
async fn what_was_produced_is_fetched() {
    let fixture = Fixture::leading().await;
    for expected in 0..3 {
        assert_eq!(fixture.produced(0).await, expected);
    }
    let fetched = fixture.fetch_one(&at_once(), 1).await;
    assert_eq!(fetched.error, ErrorCode::None);
    assert_eq!(base_offsets(&fetched), [1, 2]);
    assert_eq!(
        (
            fetched.high_watermark,
            fetched.last_stable_offset,
            fetched.log_start_offset
        ),
        (3, 3, 0)
    );
    assert_eq!(fetched.aborted, None);
    assert_eq!(
        fixture.fetch_one(&at_once(), 4).await.error,
        ErrorCode::OffsetOutOfRange
    );
}

#[tokio::test]
async fn a_decision_is_taken_by_the_rules_of_epochs_and_ids() {
    let fixture = Fixture::leading().await;
    let order = Order {
        leader_epoch: 5,
        ..Order::default()
    };
    assert_eq!(fixture.decide(order.clone()).await, ErrorCode::None);
    let same = fixture.decide(order.clone()).await;
    assert_eq!(same, ErrorCode::StaleControllerEpoch);
    let older = Order {
        leader_epoch: 4,
        ..order.clone()
    };
    assert_eq!(fixture.decide(older).await, ErrorCode::StaleControllerEpoch);
    let another_topic = Order {
        topic_id: Uuid::from_u128(99),
        leader_epoch: 6,
        ..order.clone()
    };
    assert_eq!(
        fixture.decide(another_topic).await,
        ErrorCode::InconsistentTopicId
    );
    let elsewhere = Order {
        leader_epoch: 6,
        replicas: vec![OTHER],
        ..order.clone()
    };
    assert_eq!(
        fixture.decide(elsewhere).await,
        ErrorCode::UnknownTopicOrPartition
    );
    let new_controller = Order {
        controller_epoch: 2,
        leader_epoch: 6,
        ..order.clone()
    };
    assert_eq!(fixture.decide(new_controller).await, ErrorCode::None);
    let old_controller = Order {
        leader_epoch: 7,
        ..order
    };
    assert_eq!(
        fixture.decide(old_controller).await,
        ErrorCode::StaleControllerEpoch
    );
    assert_eq!(
        fixture.replicas.current_leader(&partition(0)),
        (ME, 6),
        "the refused decisions left no trace"
    );
}

#[tokio::test]
async fn coordinators_are_told_of_leadership_won_and_lost() {
    let fixture = Fixture::new().await;
    let mut changes = fixture.replicas.leadership_changes();
    fixture.cluster.publish(image(&[ME, OTHER]));
    let both = Order {
        replicas: vec![ME, OTHER],
        ..Order::default()
    };
    for (leader, leader_epoch) in [(ME, 0), (ME, 1), (OTHER, 2), (ME, 3)] {
        let order = Order {
            leader,
            leader_epoch,
            ..both.clone()
        };
        assert_eq!(fixture.decide(order).await, ErrorCode::None);
    }
    fixture.replicas.stop_replicas(stop(-2, true)).await;
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push(change);
    }
    let became = |leader_epoch| LeadershipChange::BecameLeader {
        partition: partition(0),
        leader_epoch,
    };
    let resigned = |leader_epoch| LeadershipChange::ResignedLeader {
        partition: partition(0),
        leader_epoch,
    };
    // A new epoch of a leader that stays one is no news.
    assert_eq!(
        told,
        [became(0), resigned(Some(2)), became(3), resigned(None)]
    );
}

#[tokio::test]
async fn unknown_and_foreign_partitions_have_their_codes() {
    let fixture = Fixture::new().await;
    let code = |name: &str, index| {
        fixture
            .replicas
            .leader_log(&TopicPartition::new(name, index), None)
            .map(drop)
    };
    assert_eq!(code("t", 0), Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(code("gone", 0), Err(ErrorCode::UnknownTopicOrPartition));
    fixture.decide(Order::default()).await;
    assert_eq!(code("t", 0), Ok(()));
    let with_epoch = |epoch| {
        fixture
            .replicas
            .leader_log(&partition(0), Some(epoch))
            .map(drop)
    };
    assert_eq!(with_epoch(0), Ok(()));
    assert_eq!(with_epoch(-1), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(with_epoch(1), Err(ErrorCode::UnknownLeaderEpoch));
}

#[tokio::test]
async fn a_long_poll_is_woken_by_the_append_that_completes_it() {
    let fixture = Arc::new(Fixture::leading().await);
    let poll = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.fetch_one(&long_poll(1), 0).await }
    });
    until_waiting(&fixture, 0).await;
    let begun = Instant::now();
    fixture.produced(0).await;
    let fetched = poll.await.unwrap();
    assert_eq!(base_offsets(&fetched), [0]);
    assert_eq!(fetched.high_watermark, 1);
    assert!(begun.elapsed() < LONG / 2);
    let waiting = &fixture
        .replicas
        .online_partition(&partition(0))
        .unwrap()
        .waiting;
    assert!(waiting.committed.is_empty(), "nobody is left behind");
}

/// Until a consumer waits for partition `index`.
async fn until_waiting(fixture: &Fixture, index: i32) {
    let partition = fixture
        .replicas
        .online_partition(&partition(index))
        .unwrap();
    while partition.waiting.committed.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_long_poll_waits_for_min_bytes_over_its_partitions() {
    let fixture = Arc::new(Fixture::new().await);
    let order = Order {
        partitions: 0..3,
        ..Order::default()
    };
    fixture.decide(order).await;
    let size = batch(1, 10).len() as u64;
    let poll = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move {
            let partitions = (0..3).map(|index| to_fetch(index, 0)).collect();
            fixture.fetch(&long_poll(2 * size), partitions).await
        }
    });
    until_waiting(&fixture, 2).await;
    fixture.produced(2).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!poll.is_finished());
    fixture.produced(0).await;
    let fetched = poll.await.unwrap();
    assert_eq!(
        fetched.iter().map(base_offsets).collect::<Vec<_>>(),
        [vec![0], vec![], vec![0]]
    );
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time_and_with_what_there_is() {
    let fixture = Fixture::leading().await;
    fixture.produced(0).await;
    let params = FetchParams {
        max_wait: Duration::from_millis(30),
        min_bytes: 1 << 20,
        ..at_once()
    };
    let begun = Instant::now();
    let fetched = fixture.fetch_one(&params, 0).await;
    assert!(begun.elapsed() >= params.max_wait);
    assert_eq!(base_offsets(&fetched), [0]);
}

#[tokio::test]
async fn a_long_poll_ends_when_leadership_is_lost_or_the_partition_goes() {
    for deleted in [false, true] {
        let fixture = Arc::new(Fixture::leading().await);
        fixture.cluster.publish(image(&[ME, OTHER]));
        let poll = tokio::spawn({
            let fixture = Arc::clone(&fixture);
            async move {
                let params = FetchParams {
                    only_leader: true,
                    ..long_poll(1)
                };
                fixture.fetch_one(&params, 0).await
            }
        });
        until_waiting(&fixture, 0).await;
        if deleted {
            fixture.replicas.stop_replicas(stop(-2, true)).await;
        } else {
            let order = Order {
                leader: OTHER,
                leader_epoch: 1,
                replicas: vec![ME, OTHER],
                ..Order::default()
            };
            fixture.decide(order).await;
        }
        assert_eq!(
            poll.await.unwrap().error,
            ErrorCode::NotLeaderOrFollower,
            "deleted: {deleted}"
        );
    }
}

#[tokio::test]
async fn limits_give_the_first_batch_whole_and_cut_nothing_in_two() {
    let fixture = Fixture::new().await;
    let order = Order {
        partitions: 0..3,
        ..Order::default()
    };
    fixture.decide(order).await;
    for index in 0..3 {
        fixture.produced(index).await;
        fixture.produced(index).await;
    }
    let size = batch(1, 10).len();
    let lens = |limit: usize, has_hard_limit: bool| {
        let fixture = &fixture;
        async move {
            let params = FetchParams {
                max_bytes: limit,
                has_hard_limit,
                ..at_once()
            };
            let partitions = (0..3).map(|index| to_fetch(index, 0)).collect();
            let fetched = fixture.fetch(&params, partitions).await;
            fetched.iter().map(Fetched::len).collect::<Vec<_>>()
        }
    };
    assert_eq!(lens(1, false).await, [size, 0, 0]);
    assert_eq!(lens(2 * size + 1, false).await, [2 * size, 0, 0]);
    assert_eq!(lens(3 * size, false).await, [2 * size, size, 0]);
    // Fetch v0–2: a hard limit, at the price of a cut batch.
    assert_eq!(lens(5, true).await, [5, 0, 0]);
}

#[tokio::test]
async fn acks_all_waits_for_the_isr_and_is_woken_by_the_follower() {
    let fixture = Arc::new(Fixture::leading_two().await);
    let produce = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.produce(0, -1, LONG).await }
    });
    let partition = fixture.replicas.online_partition(&partition(0)).unwrap();
    while partition.waiting.high_watermark.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        base_offsets(&fixture.fetch_one(&at_once(), 0).await),
        [] as [Offset; 0],
        "consumers see nothing beyond the high watermark"
    );
    assert_eq!(base_offsets(&fixture.follower_fetches(0).await), [0]);
    assert!(!produce.is_finished());
    fixture.follower_fetches(1).await;
    let appended = produce.await.unwrap();
    assert_eq!(appended.failure, None);
    assert_eq!(appended.info.unwrap().base_offset, 0);
    assert!(partition.waiting.high_watermark.is_empty());
    assert_eq!(base_offsets(&fixture.fetch_one(&at_once(), 0).await), [0]);
}

#[tokio::test]
async fn acks_all_fails_with_time_or_with_leadership() {
    let fixture = Arc::new(Fixture::leading_two().await);
    let appended = fixture.produce(0, -1, Duration::from_millis(20)).await;
    assert_eq!(appended.info.unwrap().base_offset, 0, "it was appended");
    assert_eq!(appended.failure.unwrap().code, ErrorCode::RequestTimedOut);

    let produce = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.produce(0, -1, LONG).await }
    });
    let partition = fixture.replicas.online_partition(&partition(0)).unwrap();
    while partition.waiting.high_watermark.is_empty() {
        tokio::task::yield_now().await;
    }
    fixture.cluster.publish(image(&[ME, OTHER]));
    let order = Order {
        leader: OTHER,
        leader_epoch: 1,
        replicas: vec![ME, OTHER],
        ..Order::default()
    };
    fixture.decide(order).await;
    assert_eq!(
        produce.await.unwrap().failure.unwrap().code,
        ErrorCode::NotLeaderOrFollower
    );
}

#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_all_and_hold_the_high_watermark() {
    let fixture = Fixture::new().await;
    fixture.override_topic("min.insync.replicas", "2").await;
    let order = Order {
        replicas: vec![ME, OTHER],
        ..Order::default()
    };
    fixture.decide(order).await;
    let refused = fixture.produce(0, -1, LONG).await;
    assert_eq!(refused.info, None);
    let failure = refused.failure.unwrap();
    assert_eq!(failure.code, ErrorCode::NotEnoughReplicas);
    assert_eq!(failure.log_start_offset, 0);
    assert_eq!(fixture.produced(0).await, 0, "acks=1 is not concerned");
    let latest = fixture
        .replicas
        .latest_offset(&partition(0), Isolation::HighWatermark);
    assert_eq!(latest, Ok(0));
}

#[tokio::test]
async fn a_topic_override_takes_effect_when_it_changes() {
    let fixture = Fixture::leading().await;
    fixture.override_topic("max.message.bytes", "50").await;
    fixture.replicas.update_topic_config("t").await;
    let refused = fixture.produce(0, 1, LONG).await.failure.unwrap();
    assert_eq!(refused.code, ErrorCode::MessageTooLarge);
    assert_eq!(refused.log_start_offset, -1);
    fixture.replicas.apply_default_log_config();
    assert_eq!(
        fixture.produce(0, 1, LONG).await.failure.unwrap().code,
        ErrorCode::MessageTooLarge,
        "changed defaults leave overrides alone"
    );
    fixture.replicas.apply_topic_config("t", &Properties::new());
    assert_eq!(fixture.produced(0).await, 0);
}

#[tokio::test]
async fn records_are_deleted_up_to_the_high_watermark() {
    let fixture = Fixture::leading().await;
    for _ in 0..4 {
        fixture.produced(0).await;
    }
    let delete = |offset| {
        fixture
            .replicas
            .delete_records(vec![(partition(0), offset)], LONG)
    };
    assert_eq!(delete(2).await, [Ok(2)]);
    assert_eq!(delete(1).await, [Ok(2)], "it never goes back");
    assert_eq!(delete(5).await, [Err(ErrorCode::OffsetOutOfRange)]);
    assert_eq!(delete(-2).await, [Err(ErrorCode::OffsetOutOfRange)]);
    assert_eq!(
        fixture.fetch_one(&at_once(), 1).await.error,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(delete(-1).await, [Ok(4)]);
    let internal = TopicPartition::new("__consumer_offsets", 0);
    assert_eq!(
        fixture
            .replicas
            .delete_records(vec![(internal, 0)], LONG)
            .await,
        [Err(ErrorCode::InvalidTopicException)]
    );
    let compacted: Properties = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    fixture.replicas.apply_topic_config("t", &compacted);
    assert_eq!(delete(-1).await, [Err(ErrorCode::PolicyViolation)]);
}

#[tokio::test]
async fn delete_records_waits_for_replicas_that_live() {
    let fixture = Arc::new(Fixture::leading_two().await);
    fixture.cluster.publish(image(&[ME, OTHER]));
    fixture.produced(0).await;
    fixture.follower_fetches(1).await;
    let deleting = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move {
            fixture
                .replicas
                .delete_records(vec![(partition(0), 1)], LONG)
                .await
        }
    });
    let hosted = fixture.replicas.online_partition(&partition(0)).unwrap();
    while hosted.waiting.low_watermark.is_empty() {
        tokio::task::yield_now().await;
    }
    let params = FetchParams {
        replica_id: OTHER,
        isolation: Isolation::LogEnd,
        only_leader: true,
        ..at_once()
    };
    let followed = ToFetch {
        wanted: Wanted {
            log_start_offset: 1,
            ..wanted(1)
        },
        ..to_fetch(0, 1)
    };
    fixture.fetch(&params, vec![followed]).await;
    assert_eq!(deleting.await.unwrap(), [Ok(1)]);
}

#[tokio::test]
async fn high_watermarks_survive_a_restart() {
    let fixture = Fixture::leading_two().await;
    fixture.produced(0).await;
    fixture.produced(0).await;
    fixture.follower_fetches(1).await;
    let fixture = fixture.restart();
    let order = Order {
        isr: vec![ME, OTHER],
        replicas: vec![ME, OTHER],
        leader_epoch: 1,
        ..Order::default()
    };
    assert_eq!(fixture.decide(order).await, ErrorCode::None);
    let offset = |isolation| fixture.replicas.latest_offset(&partition(0), isolation);
    assert_eq!(offset(Isolation::HighWatermark), Ok(1));
    assert_eq!(offset(Isolation::LogEnd), Ok(2));
    // The leader's epoch begins beyond its high watermark: clients ask again.
    let latest = |isolation| {
        fixture
            .replicas
            .offset_for_timestamp(&partition(0), -1, isolation, None, true)
            .map(|found| found.map(|found| found.offset))
    };
    assert_eq!(
        latest(Some(Isolation::HighWatermark)),
        Err(ErrorCode::OffsetNotAvailable)
    );
    assert_eq!(latest(None), Ok(Some(2)));
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let fixture = Fixture::leading().await;
    let at = |timestamp| NewRecord {
        timestamp,
        value: Some(Bytes::from_static(b"v")),
        ..NewRecord::default()
    };
    let now = SystemClock.now();
    for (first, second) in [(10, 30), (20, 25)] {
        let records = build_batch(
            &[at(now + first), at(now + second)],
            &BatchOptions::default(),
        );
        let entry = ToAppend {
            partition: named(0),
            records: &records,
        };
        fixture
            .replicas
            .append_records(&[entry], |_| None, 1, LONG)
            .await;
    }
    let find = |timestamp| {
        fixture
            .replicas
            .offset_for_timestamp(
                &partition(0),
                timestamp,
                Some(Isolation::HighWatermark),
                Some(0),
                true,
            )
            .map(|found| found.map(|found| (found.offset, found.timestamp, found.leader_epoch)))
    };
    assert_eq!(find(-1), Ok(Some((4, -1, Some(0)))));
    assert_eq!(find(-2), Ok(Some((0, -1, Some(0)))));
    assert_eq!(find(-3), Ok(Some((1, now + 30, Some(0)))));
    assert_eq!(find(-4), Ok(Some((0, -1, Some(0)))));
    assert_eq!(find(-5), Ok(Some((-1, -1, Some(-1)))));
    assert_eq!(find(now + 15), Ok(Some((1, now + 30, Some(0)))));
    assert_eq!(find(now + 31), Ok(None));
    let legacy = |max| {
        fixture
            .replicas
            .legacy_offsets(&partition(0), -1, max, true, true)
    };
    assert_eq!(legacy(5), Ok(vec![4, 0]));
    assert_eq!(legacy(1), Ok(vec![4]));
}

#[tokio::test]
async fn v0_consumers_see_the_high_watermark_instead_of_what_lies_beyond() {
    let fixture = Fixture::leading_two().await;
    fixture.produced(0).await;
    let legacy = |is_consumer| {
        fixture
            .replicas
            .legacy_offsets(&partition(0), -1, 5, is_consumer, true)
    };
    assert_eq!(legacy(false), Ok(vec![1, 0]));
    assert_eq!(legacy(true), Ok(vec![0, 0]));
}

#[tokio::test]
async fn a_fetcher_from_another_history_is_told_where_it_parts() {
    let fixture = Fixture::leading().await;
    fixture.produced(0).await;
    let order = Order {
        leader_epoch: 5,
        ..Order::default()
    };
    fixture.decide(order).await;
    fixture.produced(0).await;
    let fetch = |last_fetched_epoch, offset| {
        let one = ToFetch {
            wanted: Wanted {
                last_fetched_epoch: Some(last_fetched_epoch),
                ..wanted(offset)
            },
            ..to_fetch(0, offset)
        };
        let fixture = &fixture;
        async move { fixture.fetch(&at_once(), vec![one]).await.remove(0) }
    };
    assert_eq!(fetch(5, 2).await.diverging_epoch, None);
    let parted = fetch(0, 2).await;
    let end = parted.diverging_epoch.unwrap();
    assert_eq!((end.epoch, end.end_offset), (0, 1));
    assert!(parted.is_empty());
    assert_eq!(fetch(6, 2).await.error, ErrorCode::OffsetOutOfRange);
}

#[tokio::test]
async fn a_stopped_replica_is_deleted_only_at_its_epoch() {
    let fixture = Fixture::leading().await;
    let order = Order {
        leader_epoch: 3,
        ..Order::default()
    };
    fixture.decide(order).await;
    let code = |request| {
        let replicas = Arc::clone(&fixture.replicas);
        async move { replicas.stop_replicas(request).await.partition_errors[0].error_code }
    };
    assert_eq!(
        code(stop(2, true)).await,
        ErrorCode::FencedLeaderEpoch.value()
    );
    assert_eq!(code(stop(3, false)).await, 0);
    assert!(fixture.logs.log(&partition(0)).is_some());
    assert_eq!(code(stop(3, true)).await, 0);
    assert!(fixture.logs.log(&partition(0)).is_none());
    assert_eq!(code(stop(3, true)).await, 0, "unknown is fine");
    assert!(fixture.replicas.online_partition(&partition(0)).is_err());
}

#[tokio::test]
async fn a_failed_log_dir_takes_its_partitions_offline() {
    let fixture = Fixture::leading().await;
    let mut changes = fixture.replicas.leadership_changes();
    let failure = DirFailure {
        dir: fixture.dir.path().to_path_buf(),
        partitions: vec![partition(0)],
        future_partitions: Vec::new(),
        none_left: false,
    };
    fixture
        .replicas
        .on_log_dir_failure(&failure, &tokio::runtime::Handle::current());
    assert_eq!(
        fixture.produce(0, 1, LONG).await.failure.unwrap().code,
        ErrorCode::KafkaStorageError
    );
    let order = Order {
        leader_epoch: 1,
        ..Order::default()
    };
    assert_eq!(fixture.decide(order).await, ErrorCode::KafkaStorageError);
    assert!(matches!(
        changes.try_recv(),
        Ok(LeadershipChange::ResignedLeader { .. })
    ));
    let events = paths::LOG_DIR_EVENTS;
    while fixture.store.children(events).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_fetch_of_many_partitions_leaves_no_watchers_when_it_is_dropped() {
    let fixture = Fixture::new().await;
    let order = Order {
        partitions: 0..100,
        ..Order::default()
    };
    fixture.decide(order).await;
    let partitions: Vec<_> = (0..100).map(|index| to_fetch(index, 0)).collect();
    let params = long_poll(1);
    let poll = fixture.fetch(&params, partitions);
    // The connection went away while the request was waiting.
    assert!(
        tokio::time::timeout(Duration::from_millis(20), poll)
            .await
            .is_err()
    );
    for partition in fixture.replicas.online_partitions() {
        assert!(partition.waiting.committed.is_empty());
    }
}

#[tokio::test]
async fn a_duplicate_of_an_idempotent_producer_is_answered_and_not_appended() {
    let fixture = Fixture::leading().await;
    let records = build_batch(
        &[NewRecord {
            timestamp: SystemClock.now(),
            value: Some(Bytes::from_static(b"v")),
            ..NewRecord::default()
        }],
        &BatchOptions {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: 0,
            ..BatchOptions::default()
        },
    );
    let mut offsets = Vec::new();
    for _ in 0..2 {
        let entry = ToAppend {
            partition: named(0),
            records: &records,
        };
        let appended = fixture
            .replicas
            .append_records(&[entry], |_| None, -1, LONG)
            .await
            .remove(0);
        assert_eq!(appended.failure, None);
        offsets.push(appended.info.unwrap().base_offset);
    }
    assert_eq!(offsets, [0, 0]);
    assert_eq!(
        fixture
            .replicas
            .latest_offset(&partition(0), Isolation::LogEnd),
        Ok(1)
    );
}

/// What a request brings is not appended in one go when it is much, and yet each entry is answered at
/// its place.
#[tokio::test]
async fn after_a_mebibyte_the_rest_of_a_request_waits_for_its_turn() {
    let fixture = Fixture::leading().await;
    let large = |index| to_append(index, 1, 700_000);
    let entries = [large(7), large(8), large(9), to_append(0, 1, 10)];
    let refuse = |entry: &ToAppend<'_>| {
        (entry.partition.partition == 9).then_some(ErrorCode::InvalidTopicException)
    };
    let replicas = &fixture.replicas;
    let appends = replicas.append_some(&entries, refuse, 1, Appends::default());
    let Err(appends) = appends.done() else {
        panic!("all of it at once");
    };
    let end = || replicas.latest_offset(&partition(0), Isolation::LogEnd);
    assert_eq!(end(), Ok(0));
    let answers = replicas
        .append_rest(&entries, refuse, 1, LONG, appends)
        .await;
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.failure.as_ref().map(|failure| failure.code))
        .collect();
    let elsewhere = Some(ErrorCode::NotLeaderOrFollower);
    let refused = Some(ErrorCode::InvalidTopicException);
    assert_eq!(codes, [elsewhere, elsewhere, refused, None]);
    assert_eq!(end(), Ok(1));
}

#[tokio::test]
async fn an_append_to_a_lone_replica_is_done_at_once_and_one_that_waits_is_not() {
    let alone = Fixture::leading().await;
    let entries = [to_append(0, 1, 10)];
    let begin = |replicas: &ReplicaManager| {
        let appends = replicas.append_some(&entries, |_| None, -1, Appends::default());
        appends.done().is_ok()
    };
    assert!(begin(&alone.replicas));
    let two = Fixture::leading_two().await;
    assert!(!begin(&two.replicas));
}
