//! Fetch v0–17 on the wire. Read where it stands and written by hand: a consumer of many partitions,
//! and every follower, asks for hundreds of them at a time.

use bytes::Bytes;

use crate::api::endpoint::{self, Leader, Node};
use crate::error::ErrorCode;
use crate::log::{AbortedTransaction, EpochEndOffset, FileRegion};
use crate::net::guard::{Error, Fields};
use crate::net::out::Out;
use crate::replica::session::{FINAL_EPOCH, NO_SESSION, PartitionKey, TopicKey, Wanted};
use crate::types::{BrokerId, Offset, TopicName};

/// Versions with compact lengths and tag sections.
const FLEXIBLE: i16 = 12;
/// Versions that name topics by id.
pub(super) const BY_ID: i16 = 13;
/// Tags of the request.
const CLUSTER_ID: u32 = 0;
const REPLICA_STATE: u32 = 1;
/// Tag of a partition of the request.
const DIRECTORY_ID: u32 = 0;
/// Tags of a partition of the response, in the order in which they are written.
const DIVERGING_EPOCH: usize = 0;
const CURRENT_LEADER: usize = 1;
/// Tag of the response.
const NODE_ENDPOINTS: usize = 0;
/// Bytes of a partition of the response without records, about.
const ENTRY_BYTES: usize = 64;

/// A request, with Kafka's defaults for what its version does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// −1: a consumer.
    pub(super) replica_id: BrokerId,
    pub(super) replica_epoch: i64,
    /// Milliseconds.
    pub(super) max_wait_ms: i32,
    /// Bytes.
    pub(super) min_bytes: i32,
    /// Bytes.
    pub(super) max_bytes: i32,
    pub(super) isolation_level: i8,
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    /// As they come: one may be named twice.
    pub(super) partitions: Vec<(PartitionKey, Wanted)>,
    pub(super) forgotten: Vec<PartitionKey>,
    pub(super) rack: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn read(version: i16, body: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Fields::of_request(body, version >= FLEXIBLE);
        let fields = &mut fields;
        let mut request = Self {
            replica_id: if version < 15 { fields.i32()? } else { -1 },
            replica_epoch: -1,
            max_wait_ms: fields.i32()?,
            min_bytes: fields.i32()?,
            max_bytes: if version >= 3 {
                fields.i32()?
            } else {
                i32::MAX
            },
            isolation_level: if version >= 4 { fields.i8()? } else { 0 },
            session_id: if version >= 7 {
                fields.i32()?
            } else {
                NO_SESSION
            },
            session_epoch: if version >= 7 {
                fields.i32()?
            } else {
                FINAL_EPOCH
            },
            partitions: partitions(version, fields)?,
            forgotten: if version >= 7 {
                forgotten(version, fields)?
            } else {
                Vec::new()
            },
            rack: if version >= 11 { fields.text()? } else { "" },
        };
        fields.tags(|fields, tag| match tag {
            CLUSTER_ID => fields.nullable_text().map(|_| true),
            REPLICA_STATE if version >= 15 => {
                request.replica_id = fields.i32()?;
                request.replica_epoch = fields.i64()?;
                fields.no_tags()?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        Ok(request)
    }
}

/// Least bytes of an element of the two arrays of topics.
fn least_topic(version: i16) -> usize {
    match version {
        ..FLEXIBLE => 6,
        FLEXIBLE..BY_ID => 3,
        BY_ID.. => 18,
    }
}

fn topic(version: i16, fields: &mut Fields<'_>) -> Result<TopicKey, Error> {
    Ok(if version >= BY_ID {
        TopicKey::Id(fields.uuid()?)
    } else {
        TopicKey::Name(TopicName::new(fields.text()?))
    })
}

fn partitions(version: i16, fields: &mut Fields<'_>) -> Result<Vec<(PartitionKey, Wanted)>, Error> {
    let least = match version {
        ..5 => 16,
        5..9 => 24,
        9..FLEXIBLE => 28,
        FLEXIBLE.. => 33,
    };
    let mut partitions = Vec::new();
    for _ in 0..fields.count(least_topic(version))? {
        let topic = topic(version, fields)?;
        let count = fields.count(least)?;
        fields.charge(count * size_of::<(PartitionKey, Wanted)>())?;
        partitions.reserve_exact(count);
        for _ in 0..count {
            let key = PartitionKey {
                topic: topic.clone(),
                partition: fields.i32()?,
            };
            partitions.push((key, wanted(version, fields)?));
        }
        fields.no_tags()?;
    }
    Ok(partitions)
}

fn wanted(version: i16, fields: &mut Fields<'_>) -> Result<Wanted, Error> {
    let known = |epoch: i32| (epoch >= 0).then_some(epoch);
    let wanted = Wanted {
        current_leader_epoch: if version >= 9 {
            known(fields.i32()?)
        } else {
            None
        },
        fetch_offset: fields.i64()?,
        last_fetched_epoch: if version >= FLEXIBLE {
            known(fields.i32()?)
        } else {
            None
        },
        log_start_offset: if version >= 5 { fields.i64()? } else { -1 },
        max_bytes: fields.i32()?,
    };
    fields.tags(|fields, tag| match tag {
        DIRECTORY_ID if version >= 17 => fields.uuid().map(|_| true),
        _ => Ok(false),
    })?;
    Ok(wanted)
}

fn forgotten(version: i16, fields: &mut Fields<'_>) -> Result<Vec<PartitionKey>, Error> {
    let mut forgotten = Vec::new();
    for _ in 0..fields.count(least_topic(version))? {
        let topic = topic(version, fields)?;
        let count = fields.count(size_of::<i32>())?;
        fields.charge(count * size_of::<PartitionKey>())?;
        forgotten.reserve_exact(count);
        for _ in 0..count {
            forgotten.push(PartitionKey {
                topic: topic.clone(),
                partition: fields.i32()?,
            });
        }
        fields.no_tags()?;
    }
    Ok(forgotten)
}

/// A response. Partitions of a topic stand side by side.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) error: ErrorCode,
    pub(super) session_id: i32,
    pub(super) entries: Vec<Entry>,
    /// v16+, of the leaders that partitions have moved to.
    pub(super) nodes: Vec<Node>,
}

/// One partition of a response.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: PartitionKey,
    pub(super) error: ErrorCode,
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
    pub(super) log_start_offset: Offset,
    /// v12+.
    pub(super) diverging_epoch: Option<EpochEndOffset>,
    /// v12+.
    pub(super) leader: Option<Leader>,
    /// `None` is null.
    pub(super) aborted: Option<Vec<AbortedTransaction>>,
    /// −1 for none.
    pub(super) preferred_read_replica: BrokerId,
    pub(super) records: Records,
}

#[derive(Debug, Clone)]
pub(super) enum Records {
    Bytes(Bytes),
    Stored(FileRegion),
}

impl Entry {
    /// Of a partition that was not read.
    pub(super) fn failed(key: PartitionKey, error: ErrorCode) -> Self {
        Self {
            key,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            leader: None,
            aborted: Some(Vec::new()),
            preferred_read_replica: -1,
            records: Records::Bytes(Bytes::new()),
        }
    }
}

impl Response {
    /// To the session as a whole.
    pub(super) fn empty(error: ErrorCode, session_id: i32) -> Self {
        Self {
            error,
            session_id,
            entries: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// With the header.
    pub(super) fn write(&self, version: i16, correlation_id: i32) -> Out {
        let mut out = Out::new(version >= FLEXIBLE, 64 + ENTRY_BYTES * self.entries.len());
        out.i32(correlation_id);
        out.no_tags();
        if version >= 1 {
            // Throttle time: clients have no quotas.
            out.i32(0);
        }
        if version >= 7 {
            out.i16(self.error.value());
            out.i32(self.session_id);
        }
        let topics = || {
            self.entries
                .chunk_by(|one, next| one.key.topic == next.key.topic)
        };
        out.length(Some(topics().count()));
        for topic in topics() {
            match &topic[0].key.topic {
                TopicKey::Id(id) => out.raw(id.as_bytes()),
                TopicKey::Name(name) => out.text(Some(name)),
            }
            out.length(Some(topic.len()));
            for entry in topic {
                entry.write(&mut out, version);
            }
            out.no_tags();
        }
        if version >= 16 && !self.nodes.is_empty() {
            out.tags(1);
            out.tag(NODE_ENDPOINTS, |out| {
                endpoint::write_nodes(out, &self.nodes);
            });
        } else {
            out.no_tags();
        }
        out
    }
}

impl Entry {
    fn write(&self, out: &mut Out, version: i16) {
        out.i32(self.key.partition);
        out.i16(self.error.value());
        out.i64(self.high_watermark);
        if version >= 4 {
            out.i64(self.last_stable_offset);
        }
        if version >= 5 {
            out.i64(self.log_start_offset);
        }
        if version >= 4 {
            out.length(self.aborted.as_ref().map(Vec::len));
            for transaction in self.aborted.iter().flatten() {
                out.i64(transaction.producer_id);
                out.i64(transaction.first_offset);
                out.no_tags();
            }
        }
        if version >= 11 {
            out.i32(self.preferred_read_replica);
        }
        match &self.records {
            Records::Bytes(bytes) => {
                out.length(Some(bytes.len()));
                out.raw(bytes);
            }
            Records::Stored(region) => out.region(region.clone()),
        }
        if version < FLEXIBLE {
            return;
        }
        out.tags(usize::from(self.diverging_epoch.is_some()) + usize::from(self.leader.is_some()));
        if let Some(end) = &self.diverging_epoch {
            out.tag(DIVERGING_EPOCH, |out| {
                out.i32(end.epoch);
                out.i64(end.end_offset);
                out.no_tags();
            });
        }
        if let Some(leader) = self.leader {
            out.tag(CURRENT_LEADER, |out| leader.write(out));
        }
    }
}
