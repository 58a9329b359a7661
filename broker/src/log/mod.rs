//! One partition's log on disk (`UnifiedLog`, `LocalLog`), and all of them. Synchronous; knows no
//! socket, no tokio, no ZooKeeper, no replica.
//!
//! Invariants of a [`Log`]:
//! 1. log start offset ≤ last stable offset ≤ high watermark ≤ log end offset (LEO).
//! 2. There is always an active segment, the last one; only it is appended to.
//! 3. One writer at a time, under `writer`. Readers take no lock that an append holds across I/O:
//!    they see atomics and an `arc-swap`ped list of segments.
//! 4. Bytes become visible (segment size, then LEO) after they were written as a whole.
//! 5. Everything below the recovery point was fsynced.
//! 6. After one I/O error the log dir is offline, and every call here answers so.
//!
//! Files: `segment.rs` with its three indexes; `append.rs`, `read.rs`, `truncate.rs`,
//! `retention.rs` what a log does; `recovery.rs` how one is opened; `dir.rs`, `loading.rs`,
//! `manager.rs` all of them; `future.rs` moves one to another dir.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, Cache, Guard};
use parking_lot::{Mutex, MutexGuard, RwLock};

use self::checkpoint::LEADER_EPOCH_FILE;
use self::dir::LogDir;
use self::fs::FsResult;
use self::leader_epochs::LeaderEpochs;
use self::producer_state::{ProducerSnapshots, ProducerState};
use self::segment::{Place, Segment};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::error::{ErrorCode, KafkaCode};
use crate::types::{
    LeaderEpoch, Millis, Offset, ProducerEpoch, ProducerId, TopicPartition, Uuid, format_uuid,
    parse_uuid,
};

mod append;
mod checkpoint;
pub mod dir;
pub mod fs;
mod future;
mod index_file;
pub(crate) mod leader_epochs;
mod loading;
pub mod manager;
mod offset_index;
mod producer_state;
mod read;
mod recent_block;
mod recovery;
mod retention;
mod segment;
mod time_index;
mod truncate;
mod txn_index;
mod walk;

#[cfg(test)]
mod tests;

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
    /// Not one of `log.dirs`.
    #[error("Log dir {dir} is not found in the config.")]
    UnknownDir { dir: String },
    /// Another process or broker uses the dir.
    #[error(
        "Failed to acquire lock on file .lock in {dir}. A Kafka instance in another process or thread is using this directory."
    )]
    Locked { dir: String },
    /// A folder in a log dir that is no partition, or a partition that is in two log dirs.
    #[error("{message}")]
    Layout { message: String },
    /// The same partition with another topic id: a topic of the same name created anew.
    #[error(
        "Tried to assign topic ID {ours} to log for topic partition {partition}, but log already contained topic ID {stored}"
    )]
    InconsistentTopicId {
        partition: TopicPartition,
        ours: String,
        stored: String,
    },
    /// A follower's append that does not begin at or after the LEO.
    #[error(
        "Unexpected offset in append to {partition}: first offset {first_offset} is less than the next offset {next_offset}"
    )]
    UnexpectedOffset {
        partition: TopicPartition,
        first_offset: Offset,
        last_offset: Offset,
        next_offset: Offset,
    },
    /// A refusal with its code (sequence and epoch checks, size limits): nothing was written.
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Io { .. } | Self::Offline { .. } => ErrorCode::KafkaStorageError,
            Self::UnknownDir { .. } => ErrorCode::LogDirNotFound,
            Self::Locked { .. } | Self::Layout { .. } | Self::UnexpectedOffset { .. } => {
                ErrorCode::UnknownServerError
            }
            Self::InconsistentTopicId { .. } => ErrorCode::InconsistentTopicId,
            Self::Refused { code, .. } => *code,
        }
    }
}

/// "No unstable offset" in an atomic.
const NONE: Offset = Offset::MAX;
/// Name of the file with the topic id.
const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// What an append needs alone.
struct Writer {
    /// The last of the log's segments. This and the configuration are asked for by every append, and
    /// cost less here than where readers find them.
    active: Arc<Segment>,
    config: Cache<Arc<ArcSwap<LogConfig>>, Arc<LogConfig>>,
    producers: ProducerState,
    snapshots: ProducerSnapshots,
    /// No more appends: the log was closed or deleted.
    closed: bool,
}

/// Where an offset that ended an append is: consumers at the tail ask for just these.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: Offset,
    segment_base: Offset,
    position: u64,
}

/// The last marks, newest anywhere.
#[derive(Debug)]
struct Marks {
    ring: [Mark; 8],
    next: usize,
}

impl Marks {
    fn new() -> Self {
        let none = Mark {
            offset: -1,
            segment_base: -1,
            position: 0,
        };
        Self {
            ring: [none; 8],
            next: 0,
        }
    }

    fn push(&mut self, mark: Mark) {
        self.ring[self.next] = mark;
        self.next = (self.next + 1) % self.ring.len();
    }

    fn position(&self, segment_base: Offset, offset: Offset) -> Option<u64> {
        self.ring
            .iter()
            .find(|mark| mark.offset == offset && mark.segment_base == segment_base)
            .map(|mark| mark.position)
    }
}

/// One partition's log: segments, indexes, epochs, producer state. One writer at a time (an
/// inner mutex); readers see atomics and an `arc-swap`ped segment list.
pub struct Log {
    me: Weak<Log>,
    topic_partition: TopicPartition,
    home: Arc<LogDir>,
    place: Arc<Place>,
    clock: Arc<dyn Clock>,
    config: Arc<ArcSwap<LogConfig>>,
    producer_id_expiration_ms: Millis,
    topic_id: Mutex<Option<Uuid>>,
    /// `topic_id` is not in `partition.metadata` yet.
    topic_id_dirty: AtomicBool,
    /// Ascending, never empty. Changes by [`Log::set_segments`] alone.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    epochs: RwLock<LeaderEpochs>,
    /// The file of `epochs` is behind them. Changes while they are locked for writing.
    has_unwritten_epochs: AtomicBool,
    writer: Mutex<Writer>,
    marks: Mutex<Marks>,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    high_watermark: AtomicI64,
    /// First offset of the earliest unstable transaction, or [`NONE`].
    first_unstable_offset: AtomicI64,
    recovery_point: AtomicI64,
    /// Milliseconds.
    last_flush: AtomicI64,
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log(dir={}", self.place.dir.load().display())?;
        if let Some(id) = self.topic_id() {
            write!(f, ", topicId={}", format_uuid(id))?;
        }
        write!(
            f,
            ", topic={}, partition={}, highWatermark={}, lastStableOffset={}, logStartOffset={}, logEndOffset={})",
            self.topic_partition.topic,
            self.topic_partition.partition,
            self.high_watermark(),
            self.last_stable_offset(),
            self.log_start_offset(),
            self.log_end_offset()
        )
    }
}

impl Log {
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The id in `partition.metadata`.
    pub fn topic_id(&self) -> Option<Uuid> {
        *self.topic_id.lock()
    }

    /// Takes `id` as the topic's when there is none yet; an other id is an error. The file
    /// `partition.metadata` is written soon, and always before the first append.
    pub fn assign_topic_id(&self, id: Uuid) -> Result<(), Error> {
        self.home.check_online()?;
        let mut topic_id = self.topic_id.lock();
        match *topic_id {
            Some(stored) if stored == id => Ok(()),
            Some(stored) => Err(Error::InconsistentTopicId {
                partition: self.topic_partition.clone(),
                ours: format_uuid(id),
                stored: format_uuid(stored),
            }),
            None => {
                *topic_id = Some(id);
                self.topic_id_dirty.store(true, Ordering::Release);
                self.later(0, |log| log.flush_topic_id());
                Ok(())
            }
        }
    }

    /// Writes `partition.metadata` if it is due.
    fn flush_topic_id(&self) -> Result<(), Error> {
        if !self.topic_id_dirty.load(Ordering::Acquire) {
            return Ok(());
        }
        let topic_id = self.topic_id.lock();
        if let Some(id) = *topic_id
            && self.topic_id_dirty.load(Ordering::Acquire)
        {
            let text = format!("version: 0\ntopic_id: {}", format_uuid(id));
            let path = self.place.dir.load().join(PARTITION_METADATA_FILE);
            self.io(self.home.fs.replace(&path, text.as_bytes()))?;
            self.topic_id_dirty.store(false, Ordering::Release);
        }
        Ok(())
    }

    pub fn config(&self) -> Guard<Arc<LogConfig>> {
        self.config.load()
    }

    pub fn update_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    /// The entry of `log.dirs` it lives in.
    pub fn log_dir(&self) -> &Path {
        self.home.path()
    }

    /// The partition's folder.
    pub fn path(&self) -> PathBuf {
        self.place.dir.load().as_ref().clone()
    }

    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset.load(Ordering::Acquire)
    }

    /// The next offset (LEO).
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset.load(Ordering::Acquire)
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// min(first unstable offset, high watermark).
    pub fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        self.first_unstable_offset
            .load(Ordering::Acquire)
            .min(high_watermark)
    }

    /// The first offset that is not fsynced.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point.load(Ordering::Acquire)
    }

    /// Sum of the segment files, in bytes.
    pub fn size(&self) -> u64 {
        self.segments.load().iter().map(|s| s.size()).sum()
    }

    /// Where the segment that is appended to begins.
    pub fn active_segment_base_offset(&self) -> Offset {
        self.segments
            .load()
            .last()
            .map_or(0, |segment| segment.base_offset())
    }

    pub fn number_of_segments(&self) -> usize {
        self.segments.load().len()
    }

    /// Raises the high watermark to `offset` clamped to [log start, LEO]; returns whether it moved.
    pub fn advance_high_watermark(&self, offset: Offset) -> bool {
        let offset = offset
            .max(self.log_start_offset())
            .min(self.log_end_offset());
        let before = self.high_watermark.fetch_max(offset, Ordering::AcqRel);
        if before >= offset {
            return false;
        }
        self.on_high_watermark();
        true
    }

    /// Sets the high watermark at start (from the checkpoint) or after a truncation, clamped.
    pub fn reset_high_watermark(&self, offset: Offset) {
        let offset = offset
            .max(self.log_start_offset())
            .min(self.log_end_offset());
        self.high_watermark.store(offset, Ordering::Release);
        self.on_high_watermark();
    }

    /// Transactions whose marker is below the high watermark now are stable.
    fn on_high_watermark(&self) {
        if self.first_unstable_offset.load(Ordering::Acquire) == NONE {
            return;
        }
        let mut writer = self.writer.lock();
        writer.producers.on_high_watermark(self.high_watermark());
        self.update_first_unstable(&writer);
    }

    fn update_first_unstable(&self, writer: &Writer) {
        let first = writer
            .producers
            .first_unstable_offset()
            .map_or(NONE, |first| first.max(self.log_start_offset()));
        self.first_unstable_offset.store(first, Ordering::Release);
    }

    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.read().latest()
    }

    /// The first known epoch and its start offset.
    pub fn earliest_epoch(&self) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.read().earliest()
    }

    /// Epoch that `offset` was written in, from the epoch cache.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.read().epoch_for_offset(offset)
    }

    /// Notes that `epoch` starts at the LEO (on becoming leader). On disk soon, for a broker becomes
    /// leader of thousands of partitions at a time; nothing is lost with an epoch without records.
    pub fn assign_epoch_start(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        self.home.check_online()?;
        let _writer = self.writer()?;
        if self.epochs.write().assign(epoch, self.log_end_offset()) {
            self.write_epochs_later();
        }
        Ok(())
    }

    /// Contract §4.2, `endOffsetForEpoch`.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> EpochEndOffset {
        self.epochs
            .read()
            .end_offset_for(epoch, self.log_end_offset())
    }

    /// Notes where an epoch starts, on disk before the first record of it is.
    fn assign_epoch(&self, epoch: LeaderEpoch, start: Offset) -> Result<(), Error> {
        if self.epochs.read().latest() != Some(epoch) && self.epochs.write().assign(epoch, start) {
            self.has_unwritten_epochs.store(true, Ordering::Release);
        }
        self.write_new_epochs()
    }

    fn write_epochs(&self, epochs: &LeaderEpochs) -> FsResult<()> {
        let path = self.place.dir.load().join(LEADER_EPOCH_FILE);
        checkpoint::write_epochs(&self.home.fs, &path, epochs.entries())
    }

    fn write_new_epochs(&self) -> Result<(), Error> {
        if !self.has_unwritten_epochs.load(Ordering::Acquire) {
            return Ok(());
        }
        // Exclusively: two writers would share the temporary file.
        let epochs = self.epochs.write();
        if self.has_unwritten_epochs.load(Ordering::Acquire) {
            self.io(self.write_epochs(&epochs))?;
            self.has_unwritten_epochs.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Writes the epoch cache soon, or with the next append: a stale file with too many entries is
    /// cut at load.
    fn write_epochs_later(&self) {
        self.has_unwritten_epochs.store(true, Ordering::Release);
        self.later(0, Self::write_new_epochs);
    }

    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.writer.lock().producers.active()
    }

    /// Forgets producers that were idle for `producer.id.expiration.ms`.
    fn expire_producers(&self) {
        self.writer
            .lock()
            .producers
            .expire(self.clock.now(), self.producer_id_expiration_ms);
    }

    /// Locks out other writers; fails when the log is closed.
    fn writer(&self) -> Result<MutexGuard<'_, Writer>, Error> {
        let writer = self.writer.lock();
        if writer.closed {
            return Err(Error::Offline {
                dir: self.place.dir.load().display().to_string(),
            });
        }
        Ok(writer)
    }

    /// Keeps 6.
    fn io<T>(&self, result: FsResult<T>) -> Result<T, Error> {
        result.map_err(|error| self.home.fail(error))
    }

    /// Like [`Self::io`], for what opens files by name and may meet a rename of the folder: then once
    /// more, under the new name.
    fn io_by_name<T>(&self, mut attempt: impl FnMut() -> FsResult<T>) -> Result<T, Error> {
        match attempt() {
            Err(error) if error.is_not_found() && self.is_renamed(&error.path) => {
                self.io(attempt())
            }
            done => self.io(done),
        }
    }

    /// Whether `path` was in the folder under another name than it has now.
    fn is_renamed(&self, path: &Path) -> bool {
        // A rename under way is over then.
        let _writer = self.writer.lock();
        path.parent() != Some(self.place.dir.load().as_path())
    }

    /// Runs `job` on the dir's thread in `delay_ms`, if the log still exists then.
    fn later(
        &self,
        delay_ms: Millis,
        job: impl FnOnce(&Log) -> Result<(), Error> + Send + 'static,
    ) {
        let me = self.me.clone();
        self.home.submit(self.clock.now() + delay_ms, move || {
            if let Some(log) = me.upgrade() {
                // The error took the dir offline and was logged there.
                let _ = job(&log);
            }
        });
    }

    /// Index of the segment that holds `offset`, or would.
    fn floor_segment(segments: &[Arc<Segment>], offset: Offset) -> Option<usize> {
        segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .checked_sub(1)
    }

    fn set_segments(&self, writer: &mut Writer, segments: Vec<Arc<Segment>>) {
        let active = segments.last().expect("keeps 2: never empty");
        writer.active = Arc::clone(active);
        self.segments.store(Arc::new(segments));
    }

    /// Forgets where offsets are, and notes where the LEO is.
    fn reset_marks(&self, writer: &Writer) {
        let active = &writer.active;
        let mut marks = self.marks.lock();
        *marks = Marks::new();
        marks.push(Mark {
            offset: self.log_end_offset(),
            segment_base: active.base_offset(),
            position: active.size(),
        });
    }

    /// Snapshots, trims and flushes, so that the next start need not read data. No use
    /// afterwards.
    ///
    /// Epochs and a topic id that wait for their turn are left unwritten where they have no records: the
    /// next start would cut the epochs off, and the controller names the id again. There may be one
    /// of each for every partition of the broker, and each takes two waits for the disk.
    fn close(&self) -> Result<(), Error> {
        self.home.check_online()?;
        if self.log_end_offset() > 0 {
            self.flush_topic_id()?;
        }
        {
            let mut writer = self.writer()?;
            let Writer {
                producers,
                snapshots,
                closed,
                active,
                ..
            } = &mut *writer;
            let dir = self.place.dir.load();
            self.io(snapshots.take(&self.home.fs, &dir, producers, true))?;
            self.io(active.become_inactive())?;
            *closed = true;
        }
        // After the trim: the clean-shutdown marker will vouch for the indexes too.
        self.flush()
    }
}

/// Reads the topic id from the text of `partition.metadata`.
fn parse_partition_metadata(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let version = lines.next()?.strip_prefix("version:")?.trim();
    let id = lines.next()?.strip_prefix("topic_id:")?.trim();
    (version == "0").then(|| parse_uuid(id)).flatten()
}
