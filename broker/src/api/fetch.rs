//! Fetch (key 1), v0–17. v3 max bytes (KIP-74), v4 isolation, v5 log start offset, v7 sessions
//! (KIP-227), v9 leader epoch, v10 zstd, v11 rack, v12 flexible and diverging epoch, v13 topic ids,
//! v15 replica state, v16 current leader (KIP-951), v17 directory id (KRaft; tolerated).
//!
//! Records are answered as regions of segment files, or, for v0–3, converted to the old formats.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, FetchRequest, FetchResponse, ProducerId as WireProducerId,
    TopicName as WireTopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::context::Context;
use super::dispatch::{self, Answer};
use super::endpoint::{Node, current_leader};
use crate::cluster::image::MetadataImage;
use crate::config::topic::BrokerCompression;
use crate::error::ErrorCode;
use crate::log::FileRegion;
use crate::net::{Outcome, regions};
use crate::record;
use crate::record::batch::BatchIter;
use crate::record::downconvert::down_convert;
use crate::replica::manager::Isolation;
use crate::replica::selector::{RACK_AWARE, Reader};
use crate::replica::session::{Found, PartitionKey, TopicKey, Wanted};
use crate::replica::{FetchParams, Fetched, SessionRequest, ToFetch};
use crate::types::{BrokerId, Offset, TopicName, TopicPartition};

const CONSUMER: BrokerId = -1;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// What an old client gets when the conversion leaves nothing: the head of a message that claims
/// to go on, which it cannot mistake for the end of the partition (`LazyDownConversionRecords`).
const OVERFLOW_MESSAGE: [u8; 12] = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 61];

/// A response and the file regions that its placeholders stand for, in encoding order.
#[derive(Debug)]
pub struct FetchAnswer {
    pub response: FetchResponse,
    pub regions: Vec<FileRegion>,
}

impl Answer for FetchAnswer {
    fn outcome(self, cx: &Context<'_>) -> Outcome {
        dispatch::respond(cx, &self.response, self.regions)
    }
}

/// A partition of the request with what was found.
struct Read {
    key: PartitionKey,
    wanted: Wanted,
    /// `None`: no topic has the id.
    partition: Option<TopicPartition>,
    fetched: Fetched,
    /// Refused before it was read: such answers look a little different in Kafka.
    is_unread: bool,
}

pub async fn handle(cx: &Context<'_>, request: FetchRequest) -> FetchAnswer {
    let replica_id = if cx.version >= 15 {
        request.replica_state.replica_id.0
    } else {
        request.replica_id.0
    };
    let opened = cx.rooms.replicas.open_fetch(SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        uses_topic_ids: cx.version >= 13,
        is_follower: replica_id >= 0,
        partitions: partitions(cx.version, &request),
        forgotten: forgotten(cx.version, &request),
    });
    let (context, partitions) = match opened {
        Ok(opened) => opened,
        Err(code) => return empty(code, 0),
    };
    let reads = read(cx, &params(cx, &request, replica_id), partitions).await;
    // Kafka fails on a level it does not know, once there is something to read.
    if !matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED)
        && reads.iter().any(|read| !read.is_unread)
    {
        return FetchAnswer {
            response: refuse(&request, ErrorCode::UnknownServerError),
            regions: Vec::new(),
        };
    }
    let told: Vec<_> = reads
        .iter()
        .map(|read| (read.key.clone(), read.wanted, read.found()))
        .collect();
    match cx.rooms.replicas.close_fetch(context, &told) {
        Err(code) => empty(code, request.session_id),
        Ok((session_id, is_told)) => {
            let reads = reads
                .into_iter()
                .zip(is_told)
                .filter_map(|(read, is_told)| is_told.then_some(read));
            let answer = Answering::new(cx, replica_id).respond(session_id, reads);
            if replica_id >= 0 {
                count_throttled(cx, &answer.response);
            }
            answer
        }
    }
}

/// What a follower gets of throttled partitions counts against the leader's quota, by its size on
/// the wire.
fn count_throttled(cx: &Context<'_>, response: &FetchResponse) {
    let quota = &cx.rooms.replicas.throttles().leader;
    if !quota.is_in_use() {
        return;
    }
    let image = cx.rooms.cluster.image();
    let topics = response.responses.iter().filter_map(|topic| {
        let key = topic_key(cx.version, &topic.topic, topic.topic_id);
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .filter(|data| {
                let key = PartitionKey {
                    topic: key.clone(),
                    partition: data.partition_index,
                };
                resolve(&image, &key).is_some_and(|partition| quota.is_throttled(&partition))
            })
            .cloned()
            .collect();
        (!partitions.is_empty()).then(|| topic_entry(&key).with_partitions(partitions))
    });
    let throttled = FetchResponse::default().with_responses(topics.collect());
    // What cannot be measured cannot be sent either.
    if let Ok(size) = throttled.compute_size(cx.version) {
        quota.record(cx.rooms.clock.now(), size);
    }
}

/// Names the partitions too where the request did so by name.
pub fn refuse(request: &FetchRequest, code: ErrorCode) -> FetchResponse {
    let by_name = request
        .topics
        .iter()
        .filter(|topic| topic.topic_id.is_nil() && !topic.topic.is_empty());
    let topics = by_name.map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            PartitionData::default()
                .with_partition_index(asked.partition)
                .with_error_code(code.value())
                .with_high_watermark(-1)
                .with_aborted_transactions(Some(Vec::new()))
        });
        FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    FetchResponse::default()
        .with_error_code(code.value())
        .with_session_id(request.session_id)
        .with_responses(topics.collect())
}

/// An answer to the session as a whole.
fn empty(code: ErrorCode, session_id: i32) -> FetchAnswer {
    FetchAnswer {
        response: FetchResponse::default()
            .with_error_code(code.value())
            .with_session_id(session_id),
        regions: Vec::new(),
    }
}

fn topic_key(version: i16, name: &WireTopicName, id: uuid::Uuid) -> TopicKey {
    if version >= 13 {
        TopicKey::Id(id)
    } else {
        TopicKey::Name(TopicName::new(name))
    }
}

/// Each partition once; the last mention counts.
fn partitions(version: i16, request: &FetchRequest) -> Vec<(PartitionKey, Wanted)> {
    let mut partitions = IndexMap::new();
    for topic in &request.topics {
        let key = topic_key(version, &topic.topic, topic.topic_id);
        for partition in &topic.partitions {
            partitions.insert(
                PartitionKey {
                    topic: key.clone(),
                    partition: partition.partition,
                },
                wanted(partition),
            );
        }
    }
    partitions.into_iter().collect()
}

fn wanted(partition: &FetchPartition) -> Wanted {
    let known = |epoch: i32| (epoch >= 0).then_some(epoch);
    Wanted {
        fetch_offset: partition.fetch_offset,
        max_bytes: partition.partition_max_bytes,
        current_leader_epoch: known(partition.current_leader_epoch),
        last_fetched_epoch: known(partition.last_fetched_epoch),
        log_start_offset: partition.log_start_offset,
    }
}

fn forgotten(version: i16, request: &FetchRequest) -> Vec<PartitionKey> {
    request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let key = topic_key(version, &topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |&partition| PartitionKey {
                topic: key.clone(),
                partition,
            })
        })
        .collect()
}

fn params(cx: &Context<'_>, request: &FetchRequest, replica_id: BrokerId) -> FetchParams {
    let unsigned = |number: i32| usize::try_from(number).unwrap_or(0);
    let max_bytes =
        unsigned(request.max_bytes).min(unsigned(cx.rooms.config.load().fetch_max_bytes()));
    FetchParams {
        replica_id,
        max_wait: Duration::from_millis(unsigned(request.max_wait_ms) as u64),
        min_bytes: unsigned(request.min_bytes).min(max_bytes) as u64,
        max_bytes,
        replica_epoch: if cx.version >= 15 {
            request.replica_state.replica_epoch
        } else {
            -1
        },
        reader: reader(cx, request, replica_id),
        has_hard_limit: cx.version <= 2,
        isolation: match (replica_id, request.isolation_level) {
            (CONSUMER, READ_COMMITTED) => Isolation::TxnCommitted,
            (CONSUMER, _) => Isolation::HighWatermark,
            _ => Isolation::LogEnd,
        },
        only_leader: replica_id >= 0 || (replica_id == CONSUMER && cx.version < 11),
    }
}

/// A consumer that says its rack, where a rack decides.
fn reader(cx: &Context<'_>, request: &FetchRequest, replica_id: BrokerId) -> Option<Reader> {
    if replica_id >= 0 || cx.version < 11 || request.rack_id.is_empty() {
        return None;
    }
    let config = cx.rooms.config.load();
    (config.replica_selector_class() == Some(RACK_AWARE)).then(|| Reader {
        rack: request.rack_id.to_string(),
        listener: cx.peer.listener.to_string(),
    })
}

fn resolve(image: &MetadataImage, key: &PartitionKey) -> Option<TopicPartition> {
    let topic = match &key.topic {
        TopicKey::Name(name) => name.clone(),
        TopicKey::Id(id) => image.topic_names.get(id)?.clone(),
    };
    Some(TopicPartition {
        topic,
        partition: key.partition,
    })
}

/// Reads what can be read; what cannot follows after it.
async fn read(
    cx: &Context<'_>,
    params: &FetchParams,
    partitions: Vec<(PartitionKey, Wanted)>,
) -> Vec<Read> {
    let image = cx.rooms.cluster.image();
    let mut reads = Vec::with_capacity(partitions.len());
    let mut unread = Vec::new();
    let mut to_fetch = Vec::with_capacity(partitions.len());
    for (key, wanted) in partitions {
        let partition = resolve(&image, &key);
        let refusal = match &partition {
            None => Some(ErrorCode::UnknownTopicId),
            Some(partition) if !image.contains(partition) => {
                Some(ErrorCode::UnknownTopicOrPartition)
            }
            Some(partition) => {
                to_fetch.push(ToFetch {
                    partition: partition.clone(),
                    topic_id: match &key.topic {
                        TopicKey::Id(id) => Some(*id),
                        TopicKey::Name(_) => None,
                    },
                    wanted,
                });
                None
            }
        };
        let read = Read {
            key,
            wanted,
            partition,
            fetched: Fetched::failed(refusal.unwrap_or(ErrorCode::None)),
            is_unread: refusal.is_some(),
        };
        if read.is_unread {
            unread.push(read);
        } else {
            reads.push(read);
        }
    }
    drop(image);
    if !to_fetch.is_empty() {
        let fetched = cx.rooms.replicas.fetch(params, to_fetch).await;
        for (read, fetched) in reads.iter_mut().zip(fetched) {
            read.fetched = fetched;
        }
    }
    reads.append(&mut unread);
    reads
}

impl Read {
    fn found(&self) -> Found {
        Found {
            has_records: !self.fetched.is_empty(),
            has_error: self.fetched.error != ErrorCode::None,
            is_redirected: self.fetched.diverging_epoch.is_some()
                || self.fetched.preferred_read_replica.is_some(),
            high_watermark: self.fetched.high_watermark,
            log_start_offset: self.fetched.log_start_offset,
        }
    }
}

/// Collects the response.
struct Answering<'a> {
    cx: &'a Context<'a>,
    replica_id: BrokerId,
    nodes: HashMap<BrokerId, Node>,
    topics: Vec<FetchableTopicResponse>,
    regions: Vec<FileRegion>,
}

impl<'a> Answering<'a> {
    fn new(cx: &'a Context<'a>, replica_id: BrokerId) -> Self {
        Self {
            cx,
            replica_id,
            nodes: HashMap::new(),
            topics: Vec::new(),
            regions: Vec::new(),
        }
    }

    fn respond(mut self, session_id: i32, reads: impl Iterator<Item = Read>) -> FetchAnswer {
        let mut last_topic: Option<TopicKey> = None;
        for read in reads {
            let topic = read.key.topic.clone();
            let data = self.partition(read);
            // Neighbours of one topic share an entry.
            match (self.topics.last_mut(), last_topic == Some(topic.clone())) {
                (Some(entry), true) => entry.partitions.push(data),
                _ => self
                    .topics
                    .push(topic_entry(&topic).with_partitions(vec![data])),
            }
            last_topic = Some(topic);
        }
        let endpoints = self
            .nodes
            .into_values()
            .map(|node| {
                NodeEndpoint::default()
                    .with_node_id(WireBrokerId(node.id))
                    .with_host(node.host)
                    .with_port(node.port)
                    .with_rack(node.rack)
            })
            .collect();
        FetchAnswer {
            response: FetchResponse::default()
                .with_session_id(session_id)
                .with_responses(self.topics)
                .with_node_endpoints(endpoints),
            regions: self.regions,
        }
    }

    fn partition(&mut self, read: Read) -> PartitionData {
        let index = read.key.partition;
        let Read {
            partition: Some(partition),
            fetched,
            wanted,
            is_unread: false,
            ..
        } = read
        else {
            return failed(index, read.fetched.error);
        };
        let mut data = PartitionData::default()
            .with_partition_index(index)
            .with_error_code(self.code(fetched.error).value())
            .with_high_watermark(fetched.high_watermark)
            .with_last_stable_offset(fetched.last_stable_offset)
            .with_log_start_offset(fetched.log_start_offset)
            .with_preferred_read_replica(WireBrokerId(fetched.preferred_read_replica.unwrap_or(-1)))
            .with_aborted_transactions(fetched.aborted.map(|aborted| {
                aborted
                    .into_iter()
                    .map(|transaction| {
                        AbortedTransaction::default()
                            .with_producer_id(WireProducerId(transaction.producer_id))
                            .with_first_offset(transaction.first_offset)
                    })
                    .collect()
            }));
        let has_moved = matches!(
            fetched.error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        );
        if self.cx.version >= 16 && has_moved {
            let (leader, leader_epoch, node) = current_leader(self.cx, &partition);
            data.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(WireBrokerId(leader))
                .with_leader_epoch(leader_epoch);
            self.nodes.extend(node.map(|node| (leader, node)));
        }
        if self.cx.version >= 12
            && let Some(end) = fetched.diverging_epoch
        {
            data.diverging_epoch = EpochEndOffset::default()
                .with_epoch(end.epoch)
                .with_end_offset(end.end_offset);
        }
        match self.records(&partition, fetched.region, wanted.fetch_offset) {
            Ok(records) => data.with_records(Some(records)),
            Err(code) => failed(index, code),
        }
    }

    /// Clients of old do not know all codes.
    fn code(&self, error: ErrorCode) -> ErrorCode {
        match error {
            ErrorCode::KafkaStorageError if self.cx.version <= 5 => ErrorCode::NotLeaderOrFollower,
            error => error,
        }
    }

    /// What stands in `records`.
    fn records(
        &mut self,
        partition: &TopicPartition,
        region: Option<FileRegion>,
        fetch_offset: Offset,
    ) -> Result<Bytes, ErrorCode> {
        if self.cx.version < 10 {
            let config = self
                .cx
                .rooms
                .replicas
                .online_partition(partition)
                .ok()
                .and_then(|partition| partition.log())
                .map(|log| log.config());
            if let Some(config) = config {
                if config.compression_type == BrokerCompression::Zstd {
                    return Err(ErrorCode::UnsupportedCompressionType);
                }
                if self.cx.version <= 3 {
                    if self.replica_id < 0 && !config.message_downconversion_enable {
                        return Err(ErrorCode::UnsupportedVersion);
                    }
                    let magic = if self.cx.version <= 1 { 0 } else { 1 };
                    return region.map_or(Ok(Bytes::new()), |region| {
                        converted(&region, magic, fetch_offset)
                    });
                }
            }
        }
        Ok(match region {
            None => Bytes::new(),
            Some(region) => {
                let placeholder = regions::placeholder(region.len);
                self.regions.push(region);
                placeholder
            }
        })
    }
}

fn topic_entry(key: &TopicKey) -> FetchableTopicResponse {
    match key {
        TopicKey::Id(id) => FetchableTopicResponse::default().with_topic_id(*id),
        TopicKey::Name(name) => FetchableTopicResponse::default()
            .with_topic(WireTopicName(StrBytes::from_string(name.to_string()))),
    }
}

fn failed(index: i32, code: ErrorCode) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(code.value())
        .with_high_watermark(-1)
}

/// The whole batches of a region in an old format.
fn converted(region: &FileRegion, magic: i8, fetch_offset: Offset) -> Result<Bytes, ErrorCode> {
    let mut stored = vec![0; region.len];
    region
        .file
        .read_exact_at(&mut stored, region.position)
        .map_err(|_| ErrorCode::KafkaStorageError)?;
    match down_convert(&stored, magic, fetch_offset) {
        Ok(converted) if !converted.is_empty() => Ok(converted.into()),
        Ok(_) if BatchIter::new(&stored).next().is_some() => {
            Ok(Bytes::from_static(&OVERFLOW_MESSAGE))
        }
        Ok(_) => Ok(Bytes::new()),
        Err(record::Error::ZstdDownConversion) => Err(ErrorCode::UnsupportedCompressionType),
        Err(_) => Err(ErrorCode::CorruptMessage),
    }
}
