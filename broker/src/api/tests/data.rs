//! The data APIs as a client sees them: request bytes in, response bytes out, in every version
//! offered, over real logs and the embedded store.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::leader_and_isr_request::{
    LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{BrokerId as WireBrokerId, TopicName as WireTopicName, *};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tempfile::TempDir;

use crate::api::context::Rooms;
use crate::api::{Api, Dispatcher};
use crate::clock::{Clock, SystemClock};
use crate::cluster::image::{
    BrokerImage, Cluster, Endpoint, MetadataImage, PartitionImage, TopicImage,
};
use crate::cluster::update::ControllerEpochGate;
use crate::config::{Config, LiveConfig, Properties};
use crate::controller::channel::{ChannelSettings, LocalBroker};
use crate::controller::core::Settings;
use crate::controller::run::{Controller, ControllerParts};
use crate::error::ErrorCode;
use crate::group::coordinator::GroupCoordinator;
use crate::group::offsets_topic::ReplicatedOffsetsTopic;
use crate::log::manager::{LogManager, ManagerConfig};
use crate::net::{Handler, Outcome, Peer};
use crate::record::batch::BatchIter;
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::replica::manager::{Parts, ReplicaManager};
use crate::txn::producer_id::{BlockSource, ProducerIds};
use crate::types::{BrokerId, TopicName, Uuid};
use crate::zk::embedded::Embedded;
use crate::zk::session::create_persistent_paths;
use crate::zk::{BoxFuture, Store};

mod control;

const ME: BrokerId = 1;
const OTHER: BrokerId = 2;
const TOPIC_ID: Uuid = Uuid::from_u128(0xabcdef);

/// A controller that nobody obeys: the tests decide themselves.
pub(super) struct Deaf;

impl LocalBroker for Deaf {
    fn leader_and_isr(&self, _: LeaderAndIsrRequest) -> BoxFuture<'_, LeaderAndIsrResponse> {
        Box::pin(async { LeaderAndIsrResponse::default() })
    }
    fn update_metadata(&self, _: UpdateMetadataRequest) -> BoxFuture<'_, UpdateMetadataResponse> {
        Box::pin(async { UpdateMetadataResponse::default() })
    }
    fn stop_replica(&self, _: StopReplicaRequest) -> BoxFuture<'_, StopReplicaResponse> {
        Box::pin(async { StopReplicaResponse::default() })
    }
}

impl BlockSource for Deaf {
    fn next_block(&self) -> BoxFuture<'_, Result<std::ops::Range<i64>, String>> {
        Box::pin(async { Ok(0..1000) })
    }
}

/// All batches of a log.
pub(super) fn bytes_of_log(log: &crate::log::Log) -> Vec<u8> {
    let mut all = Vec::new();
    let mut offset = log.log_start_offset();
    while offset < log.log_end_offset() {
        let read = log
            .read(crate::log::ReadRequest {
                offset,
                max_bytes: 1 << 20,
                upper_bound: log.log_end_offset(),
                min_one_message: true,
                with_aborted: false,
            })
            .unwrap();
        let region = read.region.unwrap();
        let mut bytes = vec![0; region.len];
        let from = region.position;
        region.file.read_exact_at(&mut bytes, from).unwrap();
        for frame in BatchIter::new(&bytes) {
            let batch = crate::record::batch::Batch::parse(frame.unwrap().bytes).unwrap();
            offset = batch.header().last_offset() + 1;
        }
        all.extend_from_slice(&bytes);
    }
    all
}

/// A broker that leads `t` 0 to 3 and `__consumer_offsets` 0; `t` 9 is led by broker 2.
struct Served {
    _dir: TempDir,
    rooms: Arc<Rooms>,
    dispatcher: Dispatcher,
    client_id: &'static str,
}

impl Served {
    async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory(Arc::clone(&clock)).connect());
        create_persistent_paths(&*store).await.unwrap();
        let dir = TempDir::new().unwrap();
        let config = Config::from_pairs(&[("broker.id", "1")]).unwrap();
        let defaults = config.log_config(&Properties::new());
        let logs = LogManager::open(
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
            Arc::clone(&clock),
            &|_| defaults.clone(),
        )
        .unwrap();
        let cluster = Arc::new(Cluster::new("cluster".to_owned()));
        cluster.publish(image());
        let live = Arc::new(LiveConfig::new(config.clone()));
        let gate = Arc::new(ControllerEpochGate::default());
        let replicas = ReplicaManager::new(Parts {
            broker_id: ME,
            config: Arc::clone(&live),
            clock: Arc::clone(&clock),
            cluster: Arc::clone(&cluster),
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            gate: Arc::clone(&gate),
        });
        let response = replicas.become_leader_or_follower(decisions()).await;
        assert_eq!(response.error_code, 0);
        let groups = GroupCoordinator::new(
            &config,
            Arc::new(ReplicatedOffsetsTopic {
                replicas: Arc::clone(&replicas),
            }),
            Arc::clone(&cluster),
            Arc::clone(&clock),
        );
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
            broker_id: ME,
            config: live,
            clock,
            cluster,
            gate,
            producer_ids: Arc::new(ProducerIds::new(Arc::new(Deaf))),
            store,
            logs,
            replicas,
            groups: Arc::new(groups),
            controller,
        });
        Self {
            _dir: dir,
            dispatcher: Dispatcher::new(Arc::clone(&rooms)),
            rooms,
            client_id: "client",
        }
    }

    fn override_topic(&self, key: &str, value: &str) {
        let overrides = [(key.to_owned(), value.to_owned())].into();
        self.rooms.replicas.apply_topic_config("t", &overrides);
    }

    async fn outcome<R: Request>(&self, version: i16, request: &R) -> Outcome {
        let mut frame = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(77)
            .with_client_id(Some(StrBytes::from_static_str(self.client_id)))
            .encode(&mut frame, R::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let peer = Peer {
            connection_id: 1,
            address: "127.0.0.1:1".parse().unwrap(),
            listener: Arc::from("PLAINTEXT"),
            principal: Arc::from("User:ANONYMOUS"),
        };
        let mut connection = self.dispatcher.connect(&peer);
        self.dispatcher.handle(&mut connection, &peer, &frame).await
    }

    /// The response as a client decodes it, with file regions read.
    async fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        let Outcome::Respond(response) = self.outcome(version, request).await else {
            panic!("no response in version {version}");
        };
        let mut bytes = response.read();
        let header =
            ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 77);
        let response = R::Response::decode(&mut bytes, version).unwrap();
        assert!(!bytes.has_remaining(), "version {version}");
        response
    }

    async fn produce(
        &self,
        version: i16,
        partition: i32,
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce("t", &[(partition, records)]);
        let mut response = self.ask(version, &request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    async fn produced(&self, partition: i32) {
        let answer = self.produce(11, partition, one_record()).await;
        assert_eq!(answer.error_code, 0);
    }

    async fn fetch(
        &self,
        version: i16,
        partition: i32,
        offset: i64,
    ) -> fetch_response::PartitionData {
        let mut response = self
            .ask(version, &fetch(version, &[(partition, offset)]))
            .await;
        response.responses.remove(0).partitions.remove(0)
    }
}

fn image() -> MetadataImage {
    let mut image = MetadataImage::default();
    for id in [ME, OTHER] {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            security_protocol: 0,
            host: format!("host{id}"),
            port: 9092,
        };
        let broker = BrokerImage {
            id,
            endpoints: vec![endpoint],
            rack: Some("rack".to_owned()),
        };
        image.brokers.insert(id, Arc::new(broker));
    }
    let topics = [("t", Some(TOPIC_ID), 10), ("__consumer_offsets", None, 1)];
    for (name, id, partitions) in topics {
        let partitions = (0..partitions).map(|partition| {
            let one = PartitionImage {
                partition,
                leader: if partition == 9 { OTHER } else { ME },
                leader_epoch: 5,
                controller_epoch: 1,
                partition_epoch: 0,
                isr: vec![ME],
                replicas: vec![ME],
                offline_replicas: Vec::new(),
            };
            (partition, one)
        });
        let name = TopicName::new(name);
        let topic = TopicImage {
            name: name.clone(),
            id,
            partitions: partitions.collect(),
        };
        image.topics.insert(name.clone(), Arc::new(topic));
        image.topic_names.extend(id.map(|id| (id, name)));
    }
    image
}

fn decisions() -> LeaderAndIsrRequest {
    let topic = |name: &'static str, id, partitions: std::ops::Range<i32>| {
        let states = partitions.map(|partition| {
            LeaderAndIsrPartitionState::default()
                .with_partition_index(partition)
                .with_leader(WireBrokerId(ME))
                .with_leader_epoch(5)
                .with_isr(vec![WireBrokerId(ME)])
                .with_replicas(vec![WireBrokerId(ME)])
                .with_is_new(true)
        });
        LeaderAndIsrTopicState::default()
            .with_topic_name(topic_name(name))
            .with_topic_id(id)
            .with_partition_states(states.collect())
    };
    LeaderAndIsrRequest::default()
        .with_controller_epoch(1)
        .with_broker_epoch(-1)
        .with_topic_states(vec![
            topic("t", TOPIC_ID, 0..4),
            topic("__consumer_offsets", Uuid::nil(), 0..1),
        ])
}

fn topic_name(name: &'static str) -> WireTopicName {
    StrBytes::from_static_str(name).into()
}

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    let api = Api::of(R::KEY).expect("the API is offered");
    api.min_version..=api.max_version
}

fn records(options: &BatchOptions, with_key: bool) -> Bytes {
    let record = NewRecord {
        timestamp: SystemClock.now(),
        key: with_key.then(|| Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    };
    build_batch(&[record], options)
}

fn one_record() -> Bytes {
    records(&BatchOptions::default(), false)
}

fn produce(topic: &'static str, partitions: &[(i32, Bytes)]) -> ProduceRequest {
    let partitions = partitions
        .iter()
        .map(|(index, records)| {
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(Some(records.clone()))
        })
        .collect();
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(partitions),
        ])
}

/// A consumer's full request without a session.
fn fetch(version: i16, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions
        .iter()
        .map(|&(partition, offset)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_partition_max_bytes(1 << 20)
        })
        .collect();
    let topic = if version >= 13 {
        FetchTopic::default().with_topic_id(TOPIC_ID)
    } else {
        FetchTopic::default().with_topic(topic_name("t"))
    };
    let request = FetchRequest::default()
        .with_min_bytes(1)
        .with_topics(vec![topic.with_partitions(partitions)]);
    if version >= 15 {
        request.with_replica_state(ReplicaState::default())
    } else {
        request
    }
}

#[tokio::test]
async fn every_version_of_fetch_reads_what_every_version_of_produce_wrote() {
    let served = Served::new().await;
    for (offset, version) in versions::<ProduceRequest>().enumerate() {
        let answer = served.produce(version, 0, one_record()).await;
        assert_eq!(answer.error_code, 0, "Produce v{version}");
        assert_eq!(answer.base_offset, offset as i64);
        assert_eq!(answer.log_append_time_ms, -1);
        let start = if version >= 5 { 0 } else { -1 };
        assert_eq!(answer.log_start_offset, start, "Produce v{version}");
    }
    let end = versions::<ProduceRequest>().count();
    for version in versions::<FetchRequest>() {
        let data = served.fetch(version, 0, 0).await;
        assert_eq!(data.error_code, 0, "Fetch v{version}");
        assert_eq!(data.high_watermark, end as i64);
        let records = data.records.unwrap();
        let frames: Vec<_> = BatchIter::new(&records).map(Result::unwrap).collect();
        assert_eq!(frames.len(), end, "Fetch v{version}");
        let magic = match version {
            0..=1 => 0,
            2..=3 => 1,
            _ => 2,
        };
        for frame in &frames {
            assert_eq!(frame.prefix.magic, magic, "Fetch v{version}");
            frame.ensure_valid().unwrap();
        }
        // Beyond the end there is nothing, and further beyond is an error.
        let data = served.fetch(version, 0, end as i64).await;
        assert_eq!((data.error_code, data.records.unwrap().len()), (0, 0));
        let data = served.fetch(version, 0, 1000).await;
        assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange.value());
    }
}

#[tokio::test]
async fn errors_have_a_shape_in_every_version() {
    let served = Served::new().await;
    for version in versions::<ProduceRequest>() {
        let moved = served
            .ask(version, &produce("t", &[(9, one_record())]))
            .await;
        let answer = &moved.responses[0].partition_responses[0];
        assert_eq!(
            answer.error_code,
            ErrorCode::NotLeaderOrFollower.value(),
            "Produce v{version}"
        );
        assert_eq!(answer.base_offset, -1);
        let (leader, nodes) = if version >= 10 { (OTHER, 1) } else { (-1, 0) };
        assert_eq!(answer.current_leader.leader_id.0, leader);
        assert_eq!(moved.node_endpoints.len(), nodes);
        let unknown = served.produce(version, 99, one_record()).await;
        assert_eq!(
            unknown.error_code,
            ErrorCode::UnknownTopicOrPartition.value()
        );
    }
    for version in versions::<FetchRequest>() {
        let moved = served
            .ask(version, &fetch(version, &[(9, 0), (99, 0)]))
            .await;
        let partitions = &moved.responses[0].partitions;
        assert_eq!(
            partitions[0].error_code,
            ErrorCode::NotLeaderOrFollower.value(),
            "Fetch v{version}"
        );
        let (leader, epoch) = if version >= 16 { (OTHER, 5) } else { (-1, -1) };
        let current = &partitions[0].current_leader;
        assert_eq!((current.leader_id.0, current.leader_epoch), (leader, epoch));
        assert_eq!(moved.node_endpoints.len(), usize::from(version >= 16));
        assert_eq!(
            partitions[1].error_code,
            ErrorCode::UnknownTopicOrPartition.value()
        );
        assert_eq!(partitions[1].high_watermark, -1);
    }
}

#[tokio::test]
async fn without_acks_there_is_silence_or_the_end_of_the_connection() {
    let served = Served::new().await;
    let request = produce("t", &[(0, one_record())]).with_acks(0);
    assert!(matches!(
        served.outcome(11, &request).await,
        Outcome::Silent
    ));
    let request = produce("t", &[(9, one_record())]).with_acks(0);
    assert!(matches!(
        served.outcome(11, &request).await,
        Outcome::Close(_)
    ));
    assert_eq!(served.fetch(17, 0, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn only_the_admin_client_writes_internal_topics() {
    let mut served = Served::new().await;
    let request = produce(
        "__consumer_offsets",
        &[(0, records(&BatchOptions::default(), true))],
    );
    let code = |response: ProduceResponse| response.responses[0].partition_responses[0].error_code;
    assert_eq!(
        code(served.ask(11, &request).await),
        ErrorCode::InvalidTopicException.value()
    );
    served.client_id = "__admin_client";
    assert_eq!(code(served.ask(11, &request).await), 0);
}

#[tokio::test]
async fn a_partition_named_twice_is_appended_once() {
    let served = Served::new().await;
    let mut request = produce("t", &[(0, one_record()), (0, one_record())]);
    request
        .topic_data
        .extend(produce("t", &[(0, one_record()), (1, one_record())]).topic_data);
    let response = served.ask(11, &request).await;
    let answered: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|partition| (partition.index, partition.error_code, partition.base_offset))
        .collect();
    assert_eq!(answered, [(0, 0, 0), (1, 0, 0)]);
    assert_eq!(served.fetch(17, 0, 0).await.high_watermark, 1);
}

#[tokio::test]
async fn transactional_records_are_refused_and_not_appended() {
    let served = Served::new().await;
    let batch = records(
        &BatchOptions {
            producer_id: 1,
            producer_epoch: 0,
            base_sequence: 0,
            transactional: true,
            ..BatchOptions::default()
        },
        false,
    );
    let anonymous = produce("t", &[(0, batch)]);
    let named = anonymous
        .clone()
        .with_transactional_id(Some(StrBytes::from_static_str("id").into()));
    for (version, request, expected) in [
        (
            10,
            &anonymous,
            ErrorCode::TransactionalIdAuthorizationFailed,
        ),
        (10, &named, ErrorCode::InvalidTxnState),
        (11, &named, ErrorCode::TransactionAbortable),
    ] {
        let response = served.ask(version, request).await;
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(code, expected.value());
    }
    assert_eq!(served.fetch(17, 0, 0).await.high_watermark, 0);
}

#[tokio::test]
async fn invalid_acks_and_invalid_records_are_refused() {
    let served = Served::new().await;
    let request = produce("t", &[(0, one_record())]).with_acks(2);
    let response = served.ask(11, &request).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::InvalidRequiredAcks.value()
    );
    served.override_topic("cleanup.policy", "compact");
    for version in [7, 8, 11] {
        let answer = served.produce(version, 0, one_record()).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidRecord.value());
        assert_eq!(answer.log_start_offset, 0);
        let is_told = version >= 8;
        assert_eq!(answer.record_errors.len(), usize::from(is_told));
        assert_eq!(answer.error_message.is_some(), is_told);
    }
}

#[tokio::test]
async fn old_fetches_are_refused_what_they_cannot_read() {
    let served = Served::new().await;
    served.produced(0).await;
    served.override_topic("compression.type", "zstd");
    for (version, expected) in [
        (9, ErrorCode::UnsupportedCompressionType),
        (10, ErrorCode::None),
    ] {
        let data = served.fetch(version, 0, 0).await;
        assert_eq!(data.error_code, expected.value(), "v{version}");
    }
    served.override_topic("message.downconversion.enable", "false");
    for (version, expected) in [(3, ErrorCode::UnsupportedVersion), (4, ErrorCode::None)] {
        let data = served.fetch(version, 0, 0).await;
        assert_eq!(data.error_code, expected.value(), "v{version}");
    }
}

#[tokio::test]
async fn topic_ids_are_checked() {
    let served = Served::new().await;
    let mut request = fetch(13, &[(0, 0)]);
    request.topics[0].topic_id = Uuid::from_u128(1);
    let response = served.ask(13, &request).await;
    assert_eq!(response.responses[0].topic_id, Uuid::from_u128(1));
    assert_eq!(
        response.responses[0].partitions[0].error_code,
        ErrorCode::UnknownTopicId.value()
    );
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    for version in [7, 12, 17] {
        let served = Served::new().await;
        let full = fetch(version, &[(0, 0), (1, 0), (2, 0)]).with_session_epoch(0);
        let opened = served.ask(version, &full).await;
        let session_id = opened.session_id;
        assert_ne!(session_id, 0);
        assert_eq!(opened.responses[0].partitions.len(), 3);

        let next = |epoch| {
            FetchRequest::default()
                .with_session_id(session_id)
                .with_session_epoch(epoch)
                .with_min_bytes(1)
        };
        let nothing = served.ask(version, &next(1)).await;
        assert_eq!((nothing.error_code, nothing.session_id), (0, session_id));
        assert!(nothing.responses.is_empty());

        served.produced(1).await;
        let news = served.ask(version, &next(2)).await;
        let told: Vec<_> = news.responses[0]
            .partitions
            .iter()
            .map(|partition| partition.partition_index)
            .collect();
        assert_eq!(told, [1]);

        let stale = served.ask(version, &next(2)).await;
        assert_eq!(
            (stale.error_code, stale.session_id),
            (ErrorCode::InvalidFetchSessionEpoch.value(), 0)
        );
        let forgotten = if version >= 13 {
            ForgottenTopic::default().with_topic_id(TOPIC_ID)
        } else {
            ForgottenTopic::default().with_topic(topic_name("t"))
        };
        let forgetting =
            next(3).with_forgotten_topics_data(vec![forgotten.with_partitions(vec![0, 1, 2])]);
        let closed = served.ask(version, &forgetting).await;
        assert_eq!((closed.error_code, closed.session_id), (0, 0));
        let gone = served.ask(version, &next(4)).await;
        assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.value());
    }
}

#[tokio::test]
async fn list_offsets_answers_in_every_version() {
    let served = Served::new().await;
    served.produced(0).await;
    for version in versions::<ListOffsetsRequest>() {
        let ask = |timestamp| {
            let partition = |index| {
                let partition = ListOffsetsPartition::default()
                    .with_partition_index(index)
                    .with_timestamp(timestamp);
                if version == 0 {
                    partition.with_max_num_offsets(5)
                } else {
                    partition
                }
            };
            let request = ListOffsetsRequest::default()
                .with_replica_id(WireBrokerId(-1))
                .with_topics(vec![
                    ListOffsetsTopic::default()
                        .with_name(topic_name("t"))
                        .with_partitions(vec![partition(0), partition(9)]),
                ]);
            let served = &served;
            async move {
                served
                    .ask(version, &request)
                    .await
                    .topics
                    .remove(0)
                    .partitions
            }
        };
        let latest = ask(-1).await;
        assert_eq!(latest[0].error_code, 0, "v{version}");
        assert_eq!(
            latest[1].error_code,
            ErrorCode::NotLeaderOrFollower.value(),
            "v{version}"
        );
        if version == 0 {
            assert_eq!(latest[0].old_style_offsets, [1, 0]);
            continue;
        }
        let epoch = if version >= 4 { 5 } else { -1 };
        assert_eq!((latest[0].offset, latest[0].leader_epoch), (1, epoch));
        for (timestamp, since, expected) in [(-3, 7, 0), (-4, 8, 0), (-5, 9, -1), (-6, 99, -1)] {
            let answer = &ask(timestamp).await[0];
            let code = if version >= since {
                ErrorCode::None
            } else {
                ErrorCode::UnsupportedVersion
            };
            assert_eq!(answer.error_code, code.value(), "v{version} of {timestamp}");
            if version >= since {
                assert_eq!(answer.offset, expected, "v{version} of {timestamp}");
            }
        }
    }
}

#[tokio::test]
async fn the_other_data_apis_answer_in_every_version() {
    let served = Served::new().await;
    served.produced(0).await;
    for version in versions::<OffsetForLeaderEpochRequest>() {
        let mut partition = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_leader_epoch(5);
        if version >= 2 {
            partition.current_leader_epoch = 5;
        }
        let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![
            OffsetForLeaderTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![partition]),
        ]);
        if version >= 3 {
            request.replica_id = WireBrokerId(-2);
        }
        let response = served.ask(version, &request).await;
        let end = &response.topics[0].partitions[0];
        assert_eq!((end.error_code, end.end_offset), (0, 1), "v{version}");
    }
    for version in versions::<DeleteRecordsRequest>() {
        let partitions = [0, 9, 99].map(|index| {
            DeleteRecordsPartition::default()
                .with_partition_index(index)
                .with_offset(-1)
        });
        let request = DeleteRecordsRequest::default()
            .with_timeout_ms(1000)
            .with_topics(vec![
                DeleteRecordsTopic::default()
                    .with_name(topic_name("t"))
                    .with_partitions(partitions.to_vec()),
            ]);
        let response = served.ask(version, &request).await;
        let answers: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.error_code, partition.low_watermark))
            .collect();
        assert_eq!(
            answers,
            [
                (0, 1),
                (ErrorCode::NotLeaderOrFollower.value(), -1),
                (ErrorCode::UnknownTopicOrPartition.value(), -1)
            ],
            "v{version}"
        );
    }
    for version in versions::<DescribeLogDirsRequest>() {
        let some = vec![
            DescribableLogDirTopic::default()
                .with_topic(topic_name("t"))
                .with_partitions(vec![0, 1]),
        ];
        for (topics, expected) in [(None, 5), (Some(some), 2)] {
            let request = DescribeLogDirsRequest::default().with_topics(topics);
            let response = served.ask(version, &request).await;
            let found: usize = response.results[0]
                .topics
                .iter()
                .map(|topic| topic.partitions.len())
                .sum();
            assert_eq!(found, expected, "v{version}");
        }
    }
    for version in versions::<DescribeProducersRequest>() {
        let request = DescribeProducersRequest::default().with_topics(vec![
            TopicRequest::default()
                .with_name(topic_name("t"))
                .with_partition_indexes(vec![0, 9]),
        ]);
        let response = served.ask(version, &request).await;
        let codes: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.error_code)
            .collect();
        assert_eq!(codes, [0, ErrorCode::NotLeaderOrFollower.value()]);
    }
    let mut last = -1;
    for version in versions::<InitProducerIdRequest>() {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(-1);
        let response = served.ask(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(response.producer_id.0 > last, "no id is given twice");
        last = response.producer_id.0;
        request.transactional_id = Some(StrBytes::from_static_str("id").into());
        let response = served.ask(version, &request).await;
        assert_eq!(
            response.error_code,
            ErrorCode::UnsupportedVersion.value(),
            "v{version}"
        );
    }
}
