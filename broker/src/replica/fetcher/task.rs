//! Carries out what a fetcher's core asks for, over one connection to the leader's inter-broker
//! listener. [edge]
//!
//! Versions are fixed by `inter.broker.protocol.version` 3.9, there is no ApiVersions: Fetch 17 (12
//! without topic ids), ListOffsets 9, OffsetForLeaderEpoch 4.

use std::sync::{Arc, Weak};
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName as WireTopicName,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::FetcherKey;
use super::core::{
    Ask, EpochAsk, Fetcher, Followed, FollowerLogs, LeaderData, LogFailure, Next, OffsetAsk,
    OffsetKind, PartitionAnswer,
};
use super::session::FetchAsk;
use crate::error::ErrorCode;
use crate::log::EpochEndOffset;
use crate::net::client::{Client, Error, Options};
use crate::replica::isr::port;
use crate::replica::manager::ReplicaManager;
use crate::replica::offsets::{EARLIEST, LATEST};
use crate::replica::partition::Partition;
use crate::replica::session::{PartitionKey, TopicKey};
use crate::types::{LeaderEpoch, Offset, TopicName, TopicPartition, Uuid};

const LOGGER: &str = "kafka.server.ReplicaFetcherThread";
const FETCH: i16 = 17;
/// The newest that names topics.
const FETCH_BY_NAME: i16 = 12;
/// Says the replica's broker epoch beside its id.
const FIRST_WITH_REPLICA_STATE: i16 = 15;
const LIST_OFFSETS: i16 = 9;
const OFFSET_FOR_LEADER_EPOCH: i16 = 4;

/// The logs behind a fetcher's core.
#[derive(Clone)]
pub(super) struct Logs(pub(super) Weak<ReplicaManager>);

impl Logs {
    fn partition(&self, partition: &TopicPartition) -> Option<Arc<Partition>> {
        self.0.upgrade()?.online_partition(partition).ok()
    }
}

impl FollowerLogs for Logs {
    fn bounds(&self, partition: &TopicPartition) -> Option<(Offset, Offset)> {
        let log = self.partition(partition)?.log()?;
        Some((log.log_start_offset(), log.log_end_offset()))
    }

    fn latest_epoch(&self, partition: &TopicPartition) -> Option<LeaderEpoch> {
        self.partition(partition)?.log()?.latest_epoch()
    }

    fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> EpochEndOffset {
        self.partition(partition)
            .and_then(|partition| partition.log())
            .map_or(
                EpochEndOffset {
                    epoch: -1,
                    end_offset: -1,
                },
                |log| log.end_offset_for_epoch(epoch),
            )
    }

    fn truncate_to(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        self.partition(partition)
            .ok_or(LogFailure::Failed)?
            .truncate_to(leader_epoch, offset)
    }

    fn truncate_fully_and_start_at(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        self.partition(partition)
            .ok_or(LogFailure::Failed)?
            .truncate_fully_and_start_at(leader_epoch, offset)
    }

    fn append(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure> {
        let manager = self.0.upgrade().ok_or(LogFailure::Failed)?;
        let followed = manager
            .online_partition(partition)
            .map_err(|_| LogFailure::Failed)?
            .append_as_follower(leader_epoch, fetch_offset, data)?;
        // Replicas in sync count too, so that all traffic together keeps to the rate.
        let quota = &manager.throttles().follower;
        if quota.is_throttled(partition) {
            quota.record(manager.clock().now(), data.records.len());
        }
        Ok(followed)
    }
}

/// What the leader answered.
enum Answer {
    EpochEnds(OffsetForLeaderEpochResponse),
    Offsets(ListOffsetsResponse),
    Fetched(FetchResponse),
}

/// One fetcher at work.
pub(super) struct Task {
    manager: Weak<ReplicaManager>,
    key: FetcherKey,
    fetcher: Arc<Mutex<Fetcher>>,
    wake: Arc<Notify>,
    client: Option<Client>,
}

impl Task {
    pub(super) fn new(
        manager: Weak<ReplicaManager>,
        key: FetcherKey,
        fetcher: Arc<Mutex<Fetcher>>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            manager,
            key,
            fetcher,
            wake,
            client: None,
        }
    }

    /// Until the manager is gone, or the future is dropped.
    pub(super) async fn run(mut self) {
        while let Some(manager) = self.manager.upgrade() {
            match self.next(&manager).await {
                Next::Idle(until) => {
                    let now = manager.clock().now();
                    drop(manager);
                    self.idle(until.map(|until| until - now)).await;
                }
                Next::Ask(ask) => match self.ask(&manager, ask).await {
                    Ok(answer) => self.answer(&manager, answer).await,
                    Err(error) => {
                        self.client = None;
                        tracing::warn!(
                            target: LOGGER,
                            "[ReplicaFetcher replicaId={}, leaderId={}, fetcherId={}] Error in response for fetch request: {error}",
                            manager.broker_id(),
                            self.key.0,
                            self.key.1
                        );
                        self.fetcher.lock().on_failure(manager.clock().now());
                    }
                },
            }
        }
    }

    /// May cut a log whose epochs are not known, so not on a worker that serves connections.
    async fn next(&self, manager: &Arc<ReplicaManager>) -> Next {
        let now = manager.clock().now();
        let mut logs = Logs(Weak::clone(&self.manager));
        let quota = &manager.throttles().follower;
        let is_exceeded = quota.is_in_use() && quota.is_exceeded(now);
        let is_slow = {
            let mut fetcher = self.fetcher.lock();
            fetcher.throttle(
                is_exceeded.then_some(|partition: &TopicPartition| quota.is_throttled(partition)),
            );
            fetcher.may_truncate()
        };
        if !is_slow {
            return self.fetcher.lock().next(now, &mut logs);
        }
        let fetcher = Arc::clone(&self.fetcher);
        spawn_blocking(move || fetcher.lock().next(now, &mut logs))
            .await
            .unwrap_or(Next::Idle(Some(now)))
    }

    async fn idle(&self, for_ms: Option<i64>) {
        let woken = self.wake.notified();
        match for_ms {
            None => woken.await,
            Some(ms) => {
                let pause = Duration::from_millis(ms.max(1).unsigned_abs());
                // Either way there is something to do.
                let _ = tokio::time::timeout(pause, woken).await;
            }
        }
    }

    async fn ask(&mut self, manager: &ReplicaManager, ask: Ask) -> Result<Answer, Error> {
        let replica = manager.broker_id();
        if self.client.is_none() {
            self.client = Some(self.connect(manager).await?);
        }
        let client = self.client.as_mut().expect("connected above");
        Ok(match ask {
            Ask::EpochEnds(asks) => {
                let request = epoch_ends_request(replica, asks);
                Answer::EpochEnds(client.send(&request, OFFSET_FOR_LEADER_EPOCH).await?)
            }
            Ask::Offsets(kind, asks) => {
                let request = offsets_request(replica, kind, asks);
                Answer::Offsets(client.send(&request, LIST_OFFSETS).await?)
            }
            Ask::Fetch(ask) => {
                let version = if ask.uses_topic_ids {
                    FETCH
                } else {
                    FETCH_BY_NAME
                };
                let request = fetch_request(manager, ask, version);
                Answer::Fetched(client.send(&request, version).await?)
            }
        })
    }

    async fn connect(&self, manager: &ReplicaManager) -> Result<Client, Error> {
        let (leader, number) = self.key;
        let config = manager.config().load();
        let listener = config.inter_broker_listener_name();
        let image = manager.cluster().image();
        let endpoint = image
            .brokers
            .get(&leader)
            .and_then(|broker| broker.endpoint(listener))
            .ok_or_else(|| {
                std::io::Error::other(format!(
                    "broker {leader} is not alive, or has no listener {listener}"
                ))
            })?;
        let connect_timeout = config.socket_connection_setup_timeout_ms();
        let request_timeout = i64::from(config.replica_socket_timeout_ms());
        Client::connect(
            (endpoint.host.as_str(), port(endpoint.port)),
            Options {
                client_id: format!("broker-{}-fetcher-{number}", manager.broker_id()),
                connect_timeout: Duration::from_millis(connect_timeout.max(0).unsigned_abs()),
                request_timeout: Duration::from_millis(request_timeout.max(0).unsigned_abs()),
                ..Options::default()
            },
        )
        .await
    }

    async fn answer(&self, manager: &ReplicaManager, answer: Answer) {
        let now = manager.clock().now();
        let mut logs = Logs(Weak::clone(&self.manager));
        let fetcher = Arc::clone(&self.fetcher);
        // Appends go to the page cache, like a client's; cuts may read segments.
        let is_slow = match &answer {
            Answer::EpochEnds(_) | Answer::Offsets(_) => true,
            Answer::Fetched(response) => response
                .responses
                .iter()
                .flat_map(|topic| &topic.partitions)
                .any(|partition| partition.diverging_epoch.epoch >= 0),
        };
        let mut work = move || take(&mut fetcher.lock(), now, &answer, &mut logs);
        if is_slow {
            if let Err(panic) = spawn_blocking(work).await {
                tracing::error!(target: LOGGER, "Taking an answer of the leader failed: {panic}");
            }
        } else {
            work();
        }
    }
}

/// Hands an answer to the core.
fn take(fetcher: &mut Fetcher, now: i64, answer: &Answer, logs: &mut Logs) {
    match answer {
        Answer::EpochEnds(response) => {
            let answers = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|one| {
                    let end = match ErrorCode::from_value(one.error_code) {
                        ErrorCode::None => Ok(EpochEndOffset {
                            epoch: one.leader_epoch,
                            end_offset: one.end_offset,
                        }),
                        code => Err(code),
                    };
                    (
                        TopicPartition::new(&*topic.topic.to_string(), one.partition),
                        end,
                    )
                })
            });
            fetcher.on_epoch_ends(now, answers, logs);
        }
        Answer::Offsets(response) => {
            let answers = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|one| {
                    let offset = match ErrorCode::from_value(one.error_code) {
                        ErrorCode::None => Ok(one.offset),
                        code => Err(code),
                    };
                    (
                        TopicPartition::new(&*topic.name.to_string(), one.partition_index),
                        offset,
                    )
                })
            });
            fetcher.on_offsets(now, answers, logs);
        }
        Answer::Fetched(response) => {
            let answers = partition_answers(response);
            let error = ErrorCode::from_value(response.error_code);
            fetcher.on_fetched(now, error, response.session_id, answers, logs);
        }
    }
}

fn partition_answers(response: &FetchResponse) -> Vec<PartitionAnswer<'_>> {
    let mut answers = Vec::new();
    for topic in &response.responses {
        let key = if topic.topic.is_empty() {
            TopicKey::Id(topic.topic_id)
        } else {
            TopicKey::Name(TopicName::new(&topic.topic))
        };
        for data in &topic.partitions {
            let diverging = &data.diverging_epoch;
            answers.push(PartitionAnswer {
                key: PartitionKey {
                    topic: key.clone(),
                    partition: data.partition_index,
                },
                error: ErrorCode::from_value(data.error_code),
                diverging_epoch: (diverging.epoch >= 0).then_some(EpochEndOffset {
                    epoch: diverging.epoch,
                    end_offset: diverging.end_offset,
                }),
                data: LeaderData {
                    records: data.records.as_deref().unwrap_or_default(),
                    high_watermark: data.high_watermark,
                    log_start_offset: data.log_start_offset,
                },
            });
        }
    }
    answers
}

fn wire_name(topic: &TopicName) -> WireTopicName {
    WireTopicName(StrBytes::from_string(topic.to_string()))
}

/// Neighbours with the same key together.
fn runs<K: PartialEq, T>(items: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut runs: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in items {
        match runs.last_mut() {
            Some((last, items)) if *last == key => items.push(item),
            _ => runs.push((key, vec![item])),
        }
    }
    runs
}

fn epoch_ends_request(replica: i32, asks: Vec<EpochAsk>) -> OffsetForLeaderEpochRequest {
    let partitions = asks.into_iter().map(|ask| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(ask.partition.partition)
            .with_current_leader_epoch(ask.current_leader_epoch)
            .with_leader_epoch(ask.epoch);
        (ask.partition.topic, partition)
    });
    let topics = runs(partitions).into_iter().map(|(topic, partitions)| {
        OffsetForLeaderTopic::default()
            .with_topic(wire_name(&topic))
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(WireBrokerId(replica))
        .with_topics(topics.collect())
}

fn offsets_request(replica: i32, kind: OffsetKind, asks: Vec<OffsetAsk>) -> ListOffsetsRequest {
    let timestamp = match kind {
        OffsetKind::Latest => LATEST,
        OffsetKind::Earliest => EARLIEST,
    };
    let partitions = asks.into_iter().map(|ask| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(ask.partition.partition)
            .with_current_leader_epoch(ask.current_leader_epoch)
            .with_timestamp(timestamp);
        (ask.partition.topic, partition)
    });
    let topics = runs(partitions).into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default()
            .with_name(wire_name(&topic))
            .with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id(WireBrokerId(replica))
        .with_topics(topics.collect())
}

/// Name and id of a topic as the version of the request takes them.
fn named(uses_topic_ids: bool, topic: &TopicName, id: Option<Uuid>) -> (WireTopicName, Uuid) {
    if uses_topic_ids {
        (WireTopicName::default(), id.unwrap_or_default())
    } else {
        (wire_name(topic), Uuid::nil())
    }
}

fn fetch_request(manager: &ReplicaManager, ask: FetchAsk, version: i16) -> FetchRequest {
    let config = manager.config().load();
    let uses_topic_ids = ask.uses_topic_ids;
    let partitions = ask.partitions.into_iter().map(|(partition, sent)| {
        let wanted = sent.wanted;
        let one = FetchPartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(wanted.current_leader_epoch.unwrap_or(-1))
            .with_fetch_offset(wanted.fetch_offset)
            .with_last_fetched_epoch(wanted.last_fetched_epoch.unwrap_or(-1))
            .with_log_start_offset(wanted.log_start_offset)
            .with_partition_max_bytes(wanted.max_bytes);
        ((partition.topic, sent.topic_id), one)
    });
    let topics = runs(partitions)
        .into_iter()
        .map(|((topic, id), partitions)| {
            let (name, id) = named(uses_topic_ids, &topic, id);
            FetchTopic::default()
                .with_topic(name)
                .with_topic_id(id)
                .with_partitions(partitions)
        });
    let forgotten = ask
        .forgotten
        .into_iter()
        .map(|(partition, id)| ((partition.topic, id), partition.partition));
    let forgotten = runs(forgotten)
        .into_iter()
        .map(|((topic, id), partitions)| {
            let (name, id) = named(uses_topic_ids, &topic, id);
            ForgottenTopic::default()
                .with_topic(name)
                .with_topic_id(id)
                .with_partitions(partitions)
        });
    let request = FetchRequest::default()
        .with_max_wait_ms(config.replica_fetch_wait_max_ms())
        .with_min_bytes(config.replica_fetch_min_bytes())
        .with_max_bytes(config.replica_fetch_response_max_bytes())
        .with_session_id(ask.session_id)
        .with_session_epoch(ask.session_epoch)
        .with_topics(topics.collect())
        .with_forgotten_topics_data(forgotten.collect());
    let replica = WireBrokerId(manager.broker_id());
    if version >= FIRST_WITH_REPLICA_STATE {
        request.with_replica_state(
            ReplicaState::default()
                .with_replica_id(replica)
                .with_replica_epoch(manager.broker_epoch()),
        )
    } else {
        request.with_replica_id(replica)
    }
}
