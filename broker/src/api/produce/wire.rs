//! Produce v0–11 on the wire. Read where it stands and written by hand: with small batches the codec
//! would cost more than the append.

use smallvec::SmallVec;

use super::{Answer, Few, Node, endpoint};
use crate::error::ErrorCode;
use crate::net::Response;
use crate::net::guard::{Error, Fields};
use crate::net::out::Out;
use crate::replica::ToAppend;
use crate::types::{Millis, Offset, PartitionRef};

/// Versions with compact lengths and tag sections.
const FLEXIBLE: i16 = 9;
/// What the guard charges for one entry (G5).
const ENTRY_MEMORY: usize = 64;

/// A request as it lies in its frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) head: Head,
    pub(super) entries: Few<ToAppend<'a>>,
}

/// What is asked for all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) is_transactional: bool,
    pub(super) acks: i16,
    /// Milliseconds.
    pub(super) timeout_ms: i32,
}

impl<'a> Request<'a> {
    pub(super) fn read(version: i16, body: &'a [u8]) -> Result<Self, Error> {
        let flexible = version >= FLEXIBLE;
        let mut fields = Fields::of_request(body, flexible);
        let is_transactional = version >= 3 && fields.nullable_text()?.is_some();
        let acks = fields.i16()?;
        let timeout_ms = fields.i32()?;
        let mut entries = SmallVec::new();
        let (least_topic, least_partition) = if flexible { (3, 6) } else { (6, 8) };
        for _ in 0..fields.count(least_topic)? {
            let topic = fields.text()?;
            let count = fields.count(least_partition)?;
            fields.charge(count * ENTRY_MEMORY)?;
            entries.reserve_exact(count);
            for _ in 0..count {
                let partition = fields.i32()?;
                let records = fields.nullable_data()?.unwrap_or_default();
                fields.no_tags()?;
                entries.push(ToAppend {
                    partition: PartitionRef { topic, partition },
                    records,
                });
            }
            fields.no_tags()?;
        }
        fields.no_tags()?;
        let head = Head {
            is_transactional,
            acks,
            timeout_ms,
        };
        Ok(Self { head, entries })
    }
}

/// Header and body of the response. Answers of a topic stand side by side.
pub(super) fn response(
    version: i16,
    correlation_id: i32,
    answers: &[Answer<'_>],
    nodes: &[Node],
) -> Response {
    let names: usize = answers
        .iter()
        .map(|answer| answer.partition.topic.len())
        .sum();
    let mut out = Out::new(version >= FLEXIBLE, 32 + 48 * answers.len() + names);
    out.i32(correlation_id);
    out.no_tags();
    let topics = || answers.chunk_by(|one, next| one.partition.topic == next.partition.topic);
    out.length(Some(topics().count()));
    for topic in topics() {
        out.text(Some(topic[0].partition.topic));
        out.length(Some(topic.len()));
        for answer in topic {
            partition(&mut out, version, answer);
        }
        out.no_tags();
    }
    if version >= 1 {
        out.i32(0);
    }
    if version >= 10 && !nodes.is_empty() {
        out.tags(1);
        out.tag(0, |out| endpoint::write_nodes(out, nodes));
    } else {
        out.no_tags();
    }
    out.finish()
}

fn partition(out: &mut Out, version: i16, answer: &Answer<'_>) {
    let (base_offset, log_append_time, log_start_offset) = offsets(answer);
    let failure = answer.appended.failure.as_ref();
    let code = failure.map_or(ErrorCode::None, |failure| failure.code);
    let mut fields = [0; 30];
    fields[..4].copy_from_slice(&answer.partition.partition.to_be_bytes());
    fields[4..6].copy_from_slice(&code.value().to_be_bytes());
    fields[6..14].copy_from_slice(&base_offset.to_be_bytes());
    fields[14..22].copy_from_slice(&log_append_time.to_be_bytes());
    fields[22..].copy_from_slice(&log_start_offset.to_be_bytes());
    out.raw(match version {
        ..2 => &fields[..14],
        2..5 => &fields[..22],
        5.. => &fields,
    });
    if version >= 8 {
        let errors = failure.map_or(&[][..], |failure| &failure.record_errors);
        out.length(Some(errors.len()));
        for (index, message) in errors {
            out.i32(*index);
            out.text(message.as_deref());
            out.no_tags();
        }
        out.text(failure.and_then(|failure| failure.message.as_deref()));
    }
    match answer.leader {
        Some(leader) if version >= 10 => {
            out.tags(1);
            out.tag(0, |out| leader.write(out));
        }
        _ => out.no_tags(),
    }
}

/// Base offset, log append time and log start offset; −1 where there is none to tell.
fn offsets(answer: &Answer<'_>) -> (Offset, Millis, Offset) {
    match (&answer.appended.info, &answer.appended.failure) {
        (Some(info), _) => (
            info.base_offset,
            info.log_append_time,
            info.log_start_offset,
        ),
        (None, Some(failure)) => (-1, -1, failure.log_start_offset),
        (None, None) => (-1, -1, -1),
    }
}
