//! One partition's log on disk, and all of them. Synchronous; knows no socket, no tokio, no
//! ZooKeeper, no replica.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use crate::config::topic::LogConfig;
use crate::error::{ErrorCode, KafkaCode};
use crate::record::validate::Prepared;
use crate::types::{LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid};

pub mod manager;

/// A stretch of a segment file: what Fetch answers instead of bytes. Holding it keeps the file's
/// descriptor (not its name) alive.
#[derive(Debug, Clone)]
pub struct FileRegion {
    pub file: Arc<File>,
    /// Byte position in the file.
    pub position: u64,
    /// Bytes.
    pub len: usize,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record; for a duplicate, of the original batch.
    pub base_offset: Offset,
    /// Offset of the last record, inclusive.
    pub last_offset: Offset,
    pub log_start_offset: Offset,
    /// −1 under CreateTime.
    pub log_append_time: Millis,
    /// True when an idempotent producer's batch was there already; nothing was written.
    pub duplicate: bool,
}

/// The answer to a read.
#[derive(Debug, Clone, Default)]
pub struct ReadInfo {
    /// In log order; a read stays within one segment, so this is at most one region.
    pub region: Option<FileRegion>,
    /// Offset at which the read began; the region starts at the batch that holds it.
    pub fetch_offset: Offset,
    /// True when the first batch is larger than the limit and was cut (Fetch v0–2 semantics).
    pub first_batch_incomplete: bool,
    /// Transactions aborted in the range, when asked for.
    pub aborted: Option<Vec<AbortedTransaction>>,
}

/// Entry of a `.txnindex`, as Fetch returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    pub offset: Offset,
    /// Bytes.
    pub max_bytes: usize,
    /// Exclusive: nothing at or beyond it is returned (HW, LSO or LEO).
    pub upper_bound: Offset,
    /// Return the first batch whole even when it is larger than `max_bytes` (KIP-74).
    pub min_one_message: bool,
    /// Fill [`ReadInfo::aborted`].
    pub with_aborted: bool,
}

/// Answer of OffsetForLeaderEpoch: (−1, −1) when undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    pub timestamp: Millis,
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
}

/// One producer's state, as DescribeProducers shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub last_sequence: i32,
    pub last_timestamp: Millis,
    pub coordinator_epoch: i32,
    /// −1 when no transaction is open.
    pub current_txn_first_offset: Offset,
}

/// What can go wrong in a log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("offset {requested} is not within {log_start}..{log_end}")]
    OffsetOutOfRange {
        requested: Offset,
        log_start: Offset,
        log_end: Offset,
    },
    #[error("{path}: {source}; the log dir goes offline")]
    Io {
        path: String,
        source: std::io::Error,
    },
    /// The log dir is offline; nothing is read from or written to it any more.
    #[error("{dir}: the log dir is offline")]
    Offline { dir: String },
    /// A refusal with its code (sequence and epoch checks, size limits): nothing was written.
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Io { .. } | Self::Offline { .. } => ErrorCode::KafkaStorageError,
            Self::Refused { code, .. } => *code,
        }
    }
}

/// One partition's log: segments, indexes, epochs, producer state. One writer at a time (an
/// inner mutex); readers see atomics and an `arc-swap`ped segment list.
pub struct Log {
    _private: (),
}

impl Log {
    pub fn topic_partition(&self) -> &TopicPartition {
        todo!()
    }
    /// The id in `partition.metadata`.
    pub fn topic_id(&self) -> Option<Uuid> {
        todo!()
    }
    /// Writes `partition.metadata` when there is none yet; an other id is an error.
    pub fn assign_topic_id(&self, id: Uuid) -> Result<(), Error> {
        let _ = id;
        todo!()
    }
    pub fn config(&self) -> Arc<LogConfig> {
        todo!()
    }
    pub fn update_config(&self, config: LogConfig) {
        let _ = config;
        todo!()
    }
    /// The entry of `log.dirs` it lives in.
    pub fn log_dir(&self) -> &Path {
        todo!()
    }
    pub fn log_start_offset(&self) -> Offset {
        todo!()
    }
    /// The next offset (LEO).
    pub fn log_end_offset(&self) -> Offset {
        todo!()
    }
    pub fn high_watermark(&self) -> Offset {
        todo!()
    }
    /// min(first unstable offset, high watermark).
    pub fn last_stable_offset(&self) -> Offset {
        todo!()
    }
    /// Sum of the segment files, in bytes.
    pub fn size(&self) -> u64 {
        todo!()
    }
    /// Raises the high watermark to `offset` clamped to [log start, LEO]; returns whether it moved.
    pub fn advance_high_watermark(&self, offset: Offset) -> bool {
        let _ = offset;
        todo!()
    }
    /// Sets the high watermark at start (from the checkpoint) or after a truncation, clamped.
    pub fn reset_high_watermark(&self, offset: Offset) {
        let _ = offset;
        todo!()
    }
    /// Sequence checks, roll if needed, then one write. Offsets are given here.
    pub fn append_as_leader(
        &self,
        batch: &Prepared,
        leader_epoch: LeaderEpoch,
    ) -> Result<AppendInfo, Error> {
        let _ = (batch, leader_epoch);
        todo!()
    }
    /// Appends batches of the leader unchanged: offsets and epochs are kept.
    pub fn append_as_follower(&self, records: &[u8]) -> Result<AppendInfo, Error> {
        let _ = records;
        todo!()
    }
    pub fn read(&self, request: ReadRequest) -> Result<ReadInfo, Error> {
        let _ = request;
        todo!()
    }
    /// The first record with a timestamp ≥ `timestamp`.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Millis,
    ) -> Result<Option<TimestampOffset>, Error> {
        let _ = timestamp;
        todo!()
    }
    /// The record with the largest timestamp (ListOffsets −3).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, Error> {
        todo!()
    }
    /// Base offsets of segments, newest first, for ListOffsets v0 (`legacyFetchOffsetsBefore`).
    pub fn legacy_offsets_before(&self, timestamp: Millis, max: usize) -> Vec<Offset> {
        let _ = (timestamp, max);
        todo!()
    }
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }
    /// Epoch that `offset` was written in, from the epoch cache.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let _ = offset;
        todo!()
    }
    /// Notes that `epoch` starts at the LEO (on becoming leader).
    pub fn assign_epoch_start(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        let _ = epoch;
        todo!()
    }
    /// Contract §4.2, `endOffsetForEpoch`.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> EpochEndOffset {
        let _ = epoch;
        todo!()
    }
    pub fn truncate_to(&self, offset: Offset) -> Result<(), Error> {
        let _ = offset;
        todo!()
    }
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), Error> {
        let _ = offset;
        todo!()
    }
    /// DeleteRecords: raises the log start offset (never beyond the high watermark).
    pub fn advance_log_start_offset(&self, offset: Offset) -> Result<(), Error> {
        let _ = offset;
        todo!()
    }
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        todo!()
    }
    /// fsync everything below the LEO and move the recovery point there.
    pub fn flush(&self) -> Result<(), Error> {
        todo!()
    }
}
