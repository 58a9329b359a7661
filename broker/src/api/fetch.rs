//! Fetch (key 1), v0–17. v3 max bytes (KIP-74), v4 isolation, v5 log start offset, v7 sessions
//! (KIP-227), v9 leader epoch, v10 zstd, v11 rack, v12 flexible and diverging epoch, v13 topic ids,
//! v15 replica state, v16 current leader (KIP-951), v17 directory id (KRaft; tolerated).
//!
//! Records are answered as regions of segment files, or, for v0–3, converted to the old formats.

mod wire;

use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;

use self::wire::{BY_ID, Entry, Records, Request, Response};
use super::context::Context;
use super::dispatch::{Answered, caught, log_failure};
use super::endpoint::{self, Node, current_leader};
use crate::cluster::image::MetadataImage;
use crate::config::topic::BrokerCompression;
use crate::error::ErrorCode;
use crate::hash::IndexMap;
use crate::log::FileRegion;
use crate::net::Outcome;
use crate::record;
use crate::record::batch::BatchIter;
use crate::record::downconvert::down_convert;
use crate::replica::manager::Isolation;
use crate::replica::selector::{RACK_AWARE, Reader};
use crate::replica::session::{Found, PartitionKey, TopicKey, Wanted};
use crate::replica::{FetchParams, Fetched, Reading, SessionRequest, ToFetch};
use crate::types::{BrokerId, Offset, TopicPartition};

const CONSUMER: BrokerId = -1;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;
/// What an old client gets when the conversion leaves nothing: the head of a message that claims
/// to go on, which it cannot mistake for the end of the partition (`LazyDownConversionRecords`).
const OVERFLOW_MESSAGE: [u8; 12] = [255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 61];

/// A partition that is refused before it is read: such answers look a little different in Kafka.
struct Refused {
    key: PartitionKey,
    wanted: Wanted,
    code: ErrorCode,
}

pub(super) fn answer<'a>(cx: &'a Context<'_>, body: &'a [u8]) -> Answered<'a> {
    Answered::Later(Box::pin(read(cx, body)))
}

async fn read(cx: &Context<'_>, body: &[u8]) -> Outcome {
    let request = match Request::read(cx.version, body) {
        Ok(request) => request,
        Err(error) => {
            return Outcome::Close(format!("Fetch v{} cannot be read: {error}", cx.version));
        }
    };
    let reading = pin!(respond(cx, request));
    let response = caught(reading).await.unwrap_or_else(|| {
        log_failure(cx);
        None
    });
    let response = response.unwrap_or_else(|| refuse(cx.version, body));
    let out = response.write(cx.version, cx.correlation_id);
    Outcome::Respond(out.finish())
}

/// `None`: the request is refused as a whole.
async fn respond(cx: &Context<'_>, mut request: Request<'_>) -> Option<Response> {
    let opened = cx.rooms.replicas.open_fetch(SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        uses_topic_ids: cx.version >= BY_ID,
        is_follower: request.replica_id >= 0,
        partitions: each_once(std::mem::take(&mut request.partitions)),
        forgotten: std::mem::take(&mut request.forgotten),
    });
    let (context, partitions) = match opened {
        Ok(opened) => opened,
        Err(code) => return Some(Response::empty(code, 0)),
    };
    let (mut readings, refused) = readings(cx, partitions);
    if !readings.is_empty() {
        let params = params(cx, &request);
        cx.rooms.replicas.fetch(&params, &mut readings).await;
        // Kafka fails on a level it does not know, once there is something to read.
        if !matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED) {
            return None;
        }
    }
    let (read, size) = (readings.len(), readings.len() + refused.len());
    let found = readings.iter().map(|reading| {
        let ToFetch { key, wanted, .. } = &reading.to_fetch;
        (key, *wanted, found_of(&reading.fetched))
    });
    let found = found.chain(refused.iter().map(|refused| {
        let nothing = Fetched::failed(refused.code);
        (&refused.key, refused.wanted, found_of(&nothing))
    }));
    let (session_id, told) = match cx.rooms.replicas.close_fetch(context, size, found) {
        Ok(closed) => closed,
        Err(code) => return Some(Response::empty(code, request.session_id)),
    };
    let mut nodes = Vec::new();
    let mut entries = Vec::with_capacity(told.count(size));
    for (at, reading) in readings.into_iter().enumerate() {
        if told.includes(at) {
            entries.push(entry(cx, reading, request.replica_id, &mut nodes));
        }
    }
    for (at, refused) in refused.into_iter().enumerate() {
        if told.includes(read + at) {
            entries.push(Entry::failed(refused.key, refused.code));
        }
    }
    if request.replica_id >= 0 {
        count_throttled(cx, &entries);
    }
    Some(Response {
        error: ErrorCode::None,
        session_id,
        entries,
        nodes,
    })
}

/// What a follower gets of throttled partitions counts against the leader's quota, by its size on
/// the wire.
fn count_throttled(cx: &Context<'_>, entries: &[Entry]) {
    let quota = &cx.rooms.replicas.throttles().leader;
    if !quota.is_in_use() {
        return;
    }
    let image = cx.rooms.cluster.image();
    let is_throttled = |entry: &&Entry| {
        resolve(&image, &entry.key).is_some_and(|partition| quota.is_throttled(&partition))
    };
    let throttled = Response {
        entries: entries.iter().filter(is_throttled).cloned().collect(),
        ..Response::empty(ErrorCode::None, 0)
    };
    let size = throttled.write(cx.version, 0).len();
    quota.record(cx.rooms.clock.now(), size);
}

/// UNKNOWN_SERVER_ERROR, for the partitions too where the request names them by name.
fn refuse(version: i16, body: &[u8]) -> Response {
    let mut response = Response::empty(ErrorCode::UnknownServerError, 0);
    if let Ok(request) = Request::read(version, body) {
        response.session_id = request.session_id;
        let by_name = request
            .partitions
            .into_iter()
            .filter(|(key, _)| matches!(&key.topic, TopicKey::Name(name) if !name.is_empty()));
        response.entries = by_name
            .map(|(key, _)| Entry::failed(key, ErrorCode::UnknownServerError))
            .collect();
    }
    response
}

/// Each partition once; the last mention counts.
fn each_once(partitions: Vec<(PartitionKey, Wanted)>) -> Vec<(PartitionKey, Wanted)> {
    if partitions.len() < 2 {
        return partitions;
    }
    let once: IndexMap<_, _> = partitions.into_iter().collect();
    once.into_iter().collect()
}

fn params(cx: &Context<'_>, request: &Request<'_>) -> FetchParams {
    let replica_id = request.replica_id;
    let unsigned = |number: i32| usize::try_from(number).unwrap_or(0);
    let max_bytes =
        unsigned(request.max_bytes).min(unsigned(cx.rooms.config.load().fetch_max_bytes()));
    FetchParams {
        replica_id,
        max_wait: Duration::from_millis(unsigned(request.max_wait_ms) as u64),
        min_bytes: unsigned(request.min_bytes).min(max_bytes) as u64,
        max_bytes,
        replica_epoch: request.replica_epoch,
        reader: reader(cx, request),
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
fn reader(cx: &Context<'_>, request: &Request<'_>) -> Option<Reader> {
    if request.replica_id >= 0 || request.rack.is_empty() {
        return None;
    }
    let config = cx.rooms.config.load();
    (config.replica_selector_class() == Some(RACK_AWARE)).then(|| Reader {
        rack: request.rack.to_owned(),
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

/// What is to be read, and what cannot be: it follows after that.
fn readings(
    cx: &Context<'_>,
    partitions: Vec<(PartitionKey, Wanted)>,
) -> (Vec<Reading>, Vec<Refused>) {
    let image = cx.rooms.cluster.image();
    let mut readings = Vec::with_capacity(partitions.len());
    let mut refused = Vec::new();
    for (key, wanted) in partitions {
        let code = match resolve(&image, &key) {
            Some(partition) if image.contains(&partition) => {
                readings.push(Reading::of(ToFetch {
                    key,
                    partition,
                    wanted,
                }));
                continue;
            }
            Some(_) => ErrorCode::UnknownTopicOrPartition,
            None => ErrorCode::UnknownTopicId,
        };
        refused.push(Refused { key, wanted, code });
    }
    (readings, refused)
}

fn found_of(fetched: &Fetched) -> Found {
    Found {
        has_records: !fetched.is_empty(),
        has_error: fetched.error != ErrorCode::None,
        is_redirected: fetched.diverging_epoch.is_some()
            || fetched.preferred_read_replica.is_some(),
        high_watermark: fetched.high_watermark,
        log_start_offset: fetched.log_start_offset,
    }
}

/// What the fetcher is told; `nodes` gets the leader of a partition that has moved.
fn entry(cx: &Context<'_>, reading: Reading, replica_id: BrokerId, nodes: &mut Vec<Node>) -> Entry {
    let Reading {
        to_fetch, fetched, ..
    } = reading;
    let mut leader = None;
    if cx.version >= 16
        && matches!(
            fetched.error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        )
    {
        let (known, node) = current_leader(cx, &to_fetch.partition);
        leader = known;
        endpoint::add_node(nodes, node);
    }
    let records = fetched
        .region
        .map_or_else(|| Records::Bytes(Bytes::new()), Records::Stored);
    match for_version(cx, replica_id, &to_fetch, records) {
        Ok(records) => Entry {
            key: to_fetch.key,
            error: code(cx.version, fetched.error),
            high_watermark: fetched.high_watermark,
            last_stable_offset: fetched.last_stable_offset,
            log_start_offset: fetched.log_start_offset,
            diverging_epoch: fetched.diverging_epoch,
            leader,
            aborted: fetched.aborted,
            preferred_read_replica: fetched.preferred_read_replica.unwrap_or(-1),
            records,
        },
        Err(code) => Entry::failed(to_fetch.key, code),
    }
}

/// Clients of old do not know all codes.
fn code(version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::KafkaStorageError if version <= 5 => ErrorCode::NotLeaderOrFollower,
        error => error,
    }
}

/// What stands in `records`: to an old version not zstd, and to a very old one another format.
fn for_version(
    cx: &Context<'_>,
    replica_id: BrokerId,
    to_fetch: &ToFetch,
    records: Records,
) -> Result<Records, ErrorCode> {
    if cx.version >= 10 {
        return Ok(records);
    }
    let partition = &to_fetch.partition;
    let partition = cx.rooms.replicas.online_partition(partition).ok();
    let Some(log) = partition.and_then(|partition| partition.log()) else {
        return Ok(records);
    };
    let config = log.config();
    if config.compression_type == BrokerCompression::Zstd {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if cx.version > 3 {
        return Ok(records);
    }
    if replica_id < 0 && !config.message_downconversion_enable {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let magic = if cx.version <= 1 { 0 } else { 1 };
    match records {
        Records::Stored(region) => {
            converted(&region, magic, to_fetch.wanted.fetch_offset).map(Records::Bytes)
        }
        records => Ok(records),
    }
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

#[cfg(test)]
mod tests;
