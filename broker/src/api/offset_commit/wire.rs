//! OffsetCommit v0–9 on the wire. Read where it stands and written by hand: for a commit of one
//! partition the codec would cost as much as the append.

use smallvec::SmallVec;

use super::Few;
use crate::error::ErrorCode;
use crate::net::Response;
use crate::net::guard::{Error, Fields};
use crate::net::out::Out;
use crate::types::{LeaderEpoch, Millis, Offset};

/// Versions with compact lengths and tag sections.
const FLEXIBLE: i16 = 8;
/// What the guard charges for one entry (G5).
const ENTRY_MEMORY: usize = 64;

/// A request as it lies in its frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) group_id: &'a str,
    /// −1 without group management.
    pub(super) generation: i32,
    pub(super) member_id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    /// −1: that of the broker.
    pub(super) retention_ms: Millis,
    pub(super) entries: Few<Entry<'a>>,
}

/// One partition's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) offset: Offset,
    /// −1: the client does not know it.
    pub(super) leader_epoch: LeaderEpoch,
    /// −1: now.
    pub(super) timestamp: Millis,
    /// Empty for null, too.
    pub(super) metadata: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn read(version: i16, body: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Fields::of_request(body, version >= FLEXIBLE);
        let group_id = fields.text()?;
        let (generation, member_id) = if version >= 1 {
            (fields.i32()?, fields.text()?)
        } else {
            (-1, "")
        };
        let instance_id = if version >= 7 {
            fields.nullable_text()?
        } else {
            None
        };
        let retention_ms = if (2..=4).contains(&version) {
            fields.i64()?
        } else {
            -1
        };
        let entries = read_entries(&mut fields, version)?;
        fields.no_tags()?;
        Ok(Self {
            group_id,
            generation,
            member_id,
            instance_id,
            retention_ms,
            entries,
        })
    }
}

fn read_entries<'a>(fields: &mut Fields<'a>, version: i16) -> Result<Few<Entry<'a>>, Error> {
    let least_topic = if version >= FLEXIBLE { 3 } else { 6 };
    let least_partition = match version {
        1 => 22,
        6.. => 18,
        _ => 14,
    };
    let mut entries = SmallVec::new();
    for _ in 0..fields.count(least_topic)? {
        let topic = fields.text()?;
        let count = fields.count(least_partition)?;
        fields.charge(count * ENTRY_MEMORY)?;
        entries.reserve_exact(count);
        for _ in 0..count {
            let partition = fields.i32()?;
            let offset = fields.i64()?;
            let leader_epoch = if version >= 6 { fields.i32()? } else { -1 };
            let timestamp = if version == 1 { fields.i64()? } else { -1 };
            let metadata = fields.nullable_text()?.unwrap_or_default();
            fields.no_tags()?;
            entries.push(Entry {
                topic,
                partition,
                offset,
                leader_epoch,
                timestamp,
                metadata,
            });
        }
        fields.no_tags()?;
    }
    Ok(entries)
}

/// Header and body of the response. Entries of a topic stand side by side.
pub(super) fn response(
    version: i16,
    correlation_id: i32,
    entries: &[Entry<'_>],
    codes: &[ErrorCode],
) -> Response {
    let topics = || entries.chunk_by(|one, next| one.topic == next.topic);
    let names: usize = topics().map(|topic| topic[0].topic.len()).sum();
    let mut out = Out::new(version >= FLEXIBLE, 32 + 16 * entries.len() + names);
    out.i32(correlation_id);
    out.no_tags();
    if version >= 3 {
        out.i32(0);
    }
    let mut codes = codes.iter();
    out.length(Some(topics().count()));
    for topic in topics() {
        out.text(Some(topic[0].topic));
        out.length(Some(topic.len()));
        for (entry, code) in topic.iter().zip(&mut codes) {
            out.i32(entry.partition);
            out.i16(code.value());
            out.no_tags();
        }
        out.no_tags();
    }
    out.no_tags();
    out.finish()
}
