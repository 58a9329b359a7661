//! What a leader checks, and if need be changes, before it appends (`LogValidator`).

use bytes::Bytes;

use super::batch::BatchHeader;
use crate::config::topic::LogConfig;
use crate::types::Millis;

/// Where a batch comes from: what clients may not send, coordinators may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A Produce request of this version.
    Client { produce_version: i16 },
    /// The group or transaction coordinator of this broker (control batches allowed).
    Coordinator,
}

/// Exactly one checked v2 batch, ready to be appended: base offset 0, deltas 0..n−1, CRC right.
/// The log patches base offset and leader epoch (outside the CRC) as it writes.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The whole batch; a slice of the request's frame when nothing had to change.
    pub bytes: Bytes,
    /// The header of `bytes`.
    pub header: BatchHeader,
    /// Offset delta of the (first) record that has the max timestamp, when known; else the last
    /// record's delta, as Kafka takes for compressed batches it did not walk.
    pub max_timestamp_offset_delta: i32,
    /// −1 under CreateTime, else the append time (milliseconds) to tell the producer.
    pub log_append_time: Millis,
}

/// Checks the records of one partition of a Produce request (contract §7.1 rows 4, 5, 12–19,
/// H13–H22) and converts them where Kafka's rules demand it. Takes no lock and no offset.
pub fn prepare(
    records: Bytes,
    origin: Origin,
    config: &LogConfig,
    now: Millis,
) -> Result<Prepared, super::validate::Rejected> {
    let _ = (records, origin, config, now);
    todo!()
}

/// Why a set of records was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub code: crate::error::ErrorCode,
    /// `error_message` of Produce v8+.
    pub message: Option<String>,
    /// `record_errors` of Produce v8+: index of the record in the batch, message.
    pub record_errors: Vec<(i32, Option<String>)>,
}
