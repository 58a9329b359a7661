//! One segment: `<base offset>.log` with its `.index`, `.timeindex` and `.txnindex`
//! (`LogSegment`).
//!
//! 1. `size` is the end of the last whole batch; what lies beyond it in the file is no data.
//! 2. Only the log appends, under its lock; readers see `size` and the indexes at any time.
//! 3. An index is a hint: a position from it is believed only if a batch header is there. One
//!    that turns out wrong is rebuilt from the log file.
//! 4. No file is opened before it is needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};

use super::fs::{Fs, FsResult};
use super::index_file::{Location, segment_file};
use super::offset_index::OffsetIndex;
use super::time_index::{TimeIndex, TimestampPosition};
use super::txn_index::{AbortedTxn, TxnIndex};
use super::walk::{BatchAt, Source, Step, WINDOW, Walk, batch_at};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::types::{Millis, Offset};

pub(super) const LOG_SUFFIX: &str = ".log";
pub(super) const INDEX_SUFFIX: &str = ".index";
pub(super) const TIME_INDEX_SUFFIX: &str = ".timeindex";
pub(super) const TXN_INDEX_SUFFIX: &str = ".txnindex";
pub(super) const DELETED_SUFFIX: &str = ".deleted";
/// All files of a segment.
pub(super) const SEGMENT_SUFFIXES: [&str; 4] = [
    LOG_SUFFIX,
    INDEX_SUFFIX,
    TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
];

/// Nothing is reserved before a segment has taken so many bytes.
const RESERVE_FROM: u64 = 1 << 20;
/// Largest reservation ahead of the end, in bytes.
const RESERVE_MAX: u64 = 16 << 20;

/// The folder of a partition; renamed when the partition is deleted.
pub(super) struct Place {
    pub(super) fs: Fs,
    pub(super) dir: ArcSwap<PathBuf>,
}

impl Place {
    pub(super) fn file(&self, offset: Offset, suffix: &str) -> PathBuf {
        segment_file(&self.dir.load(), offset, suffix)
    }
}

/// What only the appending side needs.
#[derive(Debug, Default)]
struct Tail {
    bytes_since_index_entry: u64,
    /// Largest timestamp so far and the last offset of the batch that has it; `None` until asked.
    max_timestamp: Option<TimestampPosition>,
    /// Max timestamp of the first batch; `None` until asked, or in an empty segment.
    first_timestamp: Option<Millis>,
    /// Bytes up to which blocks are reserved; 0 when none are.
    reserved_to: u64,
    reserve_ahead: u64,
    /// Both indexes were seen not to be full, and nothing was added to them since.
    index_has_room: bool,
}

/// Made once and not at every look into an index, which is at every append and fetch.
struct IndexPaths {
    /// The folder they are in; another one once the partition is renamed.
    dir: Arc<PathBuf>,
    offset_index: Arc<Path>,
    time_index: Arc<Path>,
}

pub(super) struct Segment {
    base_offset: Offset,
    place: Arc<Place>,
    /// For messages; the folder may have another name by now.
    log_path: PathBuf,
    index_paths: ArcSwapOption<IndexPaths>,
    index_interval_bytes: u64,
    /// Something was written since the files were last trimmed.
    dirty: AtomicBool,
    size: AtomicU64,
    /// Milliseconds; when the (still empty) segment was created or opened.
    created: AtomicI64,
    roll_jitter_ms: Millis,
    file: OnceLock<Arc<File>>,
    offset_index: RwLock<OffsetIndex>,
    time_index: RwLock<TimeIndex>,
    txn_index: Mutex<TxnIndex>,
    tail: Mutex<Tail>,
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let timestamp = self.tail.lock().max_timestamp.map_or(-1, |m| m.timestamp);
        write!(
            f,
            "LogSegment(baseOffset={}, size={}, largestRecordTimestamp={timestamp})",
            self.base_offset,
            self.size()
        )
    }
}

fn jitter(config: &LogConfig) -> Millis {
    let range = config.segment_jitter_ms.min(config.segment_ms);
    if range > 0 {
        rand::random_range(0..range)
    } else {
        0
    }
}

fn interval(config: &LogConfig) -> u64 {
    u64::try_from(config.index_interval_bytes).unwrap_or(0)
}

impl Segment {
    /// Creates an empty segment with its index files.
    pub(super) fn create(
        place: &Arc<Place>,
        base_offset: Offset,
        config: &LogConfig,
        now: Millis,
    ) -> FsResult<Self> {
        let path = place.file(base_offset, LOG_SUFFIX);
        let file = place.fs.open_or_create(&path)?;
        place.fs.set_len(&file, &path, 0)?;
        let mut tail = Tail::default();
        let whole = u64::try_from(config.segment_bytes).unwrap_or(0);
        if config.preallocate && place.fs.reserve(&file, 0, whole) {
            tail.reserved_to = whole;
        }
        let max_index = config.segment_index_bytes;
        let segment = Self {
            base_offset,
            place: Arc::clone(place),
            log_path: path,
            index_paths: ArcSwapOption::empty(),
            index_interval_bytes: interval(config),
            dirty: AtomicBool::new(true),
            size: AtomicU64::new(0),
            created: AtomicI64::new(now),
            roll_jitter_ms: jitter(config),
            // Let go until the first append: partitions at rest hold no descriptor.
            file: OnceLock::new(),
            offset_index: RwLock::new(OffsetIndex::new_empty(base_offset, max_index)),
            time_index: RwLock::new(TimeIndex::new_empty(base_offset, max_index)),
            txn_index: Mutex::new(TxnIndex::new_empty()),
            tail: Mutex::new(tail),
        };
        segment.extend_indexes()?;
        Ok(segment)
    }

    /// Takes over a segment found on disk, `size` bytes long. Opens nothing.
    pub(super) fn existing(
        place: &Arc<Place>,
        base_offset: Offset,
        size: u64,
        config: &LogConfig,
        now: Millis,
    ) -> Self {
        let max_index = config.segment_index_bytes;
        Self {
            base_offset,
            place: Arc::clone(place),
            log_path: place.file(base_offset, LOG_SUFFIX),
            index_paths: ArcSwapOption::empty(),
            index_interval_bytes: interval(config),
            dirty: AtomicBool::new(false),
            size: AtomicU64::new(size),
            created: AtomicI64::new(now),
            roll_jitter_ms: jitter(config),
            file: OnceLock::new(),
            offset_index: RwLock::new(OffsetIndex::new(base_offset, max_index)),
            time_index: RwLock::new(TimeIndex::new(base_offset, max_index)),
            txn_index: Mutex::default(),
            tail: Mutex::default(),
        }
    }

    pub(super) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn fs(&self) -> &Fs {
        &self.place.fs
    }

    /// Where the offset index or, for [`TIME_INDEX_SUFFIX`], the time index is.
    fn at(&self, suffix: &str) -> Location<'_> {
        let dir = self.place.dir.load();
        let known = self.index_paths.load();
        let paths = match &*known {
            Some(paths) if Arc::ptr_eq(&paths.dir, &dir) => Arc::clone(paths),
            _ => {
                let path = |suffix: &str| segment_file(&dir, self.base_offset, suffix).into();
                let made = Arc::new(IndexPaths {
                    offset_index: path(INDEX_SUFFIX),
                    time_index: path(TIME_INDEX_SUFFIX),
                    dir: Arc::clone(&dir),
                });
                self.index_paths.store(Some(Arc::clone(&made)));
                made
            }
        };
        let path = if suffix == TIME_INDEX_SUFFIX {
            &paths.time_index
        } else {
            &paths.offset_index
        };
        Location {
            fs: &self.place.fs,
            path: Arc::clone(path),
        }
    }

    /// The `.log` file, opened at the first call.
    pub(super) fn file(&self) -> FsResult<&Arc<File>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let path = self.place.file(self.base_offset, LOG_SUFFIX);
        let opened = self.fs().open(&path);
        // Who renamed it meanwhile opened it before.
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = Arc::new(opened?);
        Ok(self.file.get_or_init(|| file))
    }

    fn source(&self) -> FsResult<Source<'_>> {
        Ok(Source {
            fs: self.fs(),
            file: self.file()?,
            path: &self.log_path,
        })
    }

    /// Whether `offset` can be stored relative to the base offset.
    pub(super) fn can_hold(&self, offset: Offset) -> bool {
        (0..=i64::from(i32::MAX)).contains(&offset.saturating_sub(self.base_offset))
    }

    /// Calls `walk` with the log file from `position` on until it answers `Some`.
    fn walk<T>(
        &self,
        position: u64,
        end: u64,
        mut visit: impl FnMut(&BatchAt) -> Option<T>,
    ) -> FsResult<Option<T>> {
        let mut walk = Walk::new(self.source()?, position, end);
        while let Step::Batch(batch) = walk.next()? {
            if let Some(found) = visit(&batch) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Visits the batches from `position` to the end, with the open file.
    pub(super) fn for_each_batch<T>(
        &self,
        position: u64,
        mut visit: impl FnMut(Source<'_>, &BatchAt) -> FsResult<Option<T>>,
    ) -> FsResult<Option<T>> {
        let source = self.source()?;
        let mut walk = Walk::new(source, position, self.size());
        while let Step::Batch(batch) = walk.next()? {
            if let Some(found) = visit(source, &batch)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Loads the offset index; one whose ends look wrong is rebuilt (keeps 3).
    fn load_offset_index(&self) -> FsResult<()> {
        if self.offset_index.read().is_loaded() {
            return Ok(());
        }
        let at = self.at(INDEX_SUFFIX);
        let looks_right = self.offset_index.write().looks_right(&at, self.size())?;
        if !looks_right {
            tracing::warn!(
                target: "kafka.log.LogLoader",
                "Found a corrupted index file {}, rebuilding index files from {}",
                at.path.display(),
                self.place.file(self.base_offset, LOG_SUFFIX).display()
            );
            self.rebuild_indexes()?;
        }
        Ok(())
    }

    fn load_time_index(&self) -> FsResult<()> {
        if self.time_index.read().is_loaded() {
            return Ok(());
        }
        let at = self.at(TIME_INDEX_SUFFIX);
        if !self.time_index.write().looks_right(&at)? {
            tracing::warn!(
                target: "kafka.log.LogLoader",
                "Found a corrupted time index file {}, rebuilding index files",
                at.path.display()
            );
            self.rebuild_indexes()?;
        }
        Ok(())
    }

    /// Writes `.index` and `.timeindex` anew from the batch headers.
    pub(super) fn rebuild_indexes(&self) -> FsResult<()> {
        let (at_offset, at_time) = (self.at(INDEX_SUFFIX), self.at(TIME_INDEX_SUFFIX));
        let mut offsets = self.offset_index.write();
        let mut times = self.time_index.write();
        offsets.file().reset(&at_offset)?;
        times.file().reset(&at_time)?;
        let mut max = TimestampPosition {
            timestamp: -1,
            offset: -1,
        };
        let mut indexed_at = 0;
        let mut failed = None;
        self.walk(0, self.size(), |batch| {
            if batch.max_timestamp > max.timestamp {
                max = TimestampPosition {
                    timestamp: batch.max_timestamp,
                    offset: batch.last_offset,
                };
            }
            if batch.position - indexed_at > self.index_interval_bytes {
                let result = offsets
                    .append(&at_offset, batch.last_offset, batch.position)
                    .and_then(|()| times.append(&at_time, max, false));
                if let Err(error) = result {
                    failed = Some(error);
                    return Some(());
                }
                indexed_at = batch.position;
            }
            None
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        times.append(&at_time, max, true)?;
        offsets.file().trim(&at_offset)?;
        times.file().trim(&at_time)
    }

    /// The first batch whose last offset is at or beyond `offset`, looking below byte `end`.
    pub(super) fn find_batch(&self, offset: Offset, end: u64) -> FsResult<Option<BatchAt>> {
        self.load_offset_index()?;
        let (hint, next) = self
            .offset_index
            .read()
            .lookup_both(&self.at(INDEX_SUFFIX), offset)?;
        // Large batches each have an entry, and the one after what a consumer has read is the next.
        if let Some(next) = next
            && hint.offset + 1 == offset
            && next.position < end
            && next.position - hint.position > WINDOW as u64
            && let Some(batch) = batch_at(self.source()?, next.position, end)?
            && (batch.base_offset..=batch.last_offset).contains(&offset)
        {
            return Ok(Some(batch));
        }
        if hint.position > 0 {
            let mut seen = false;
            let found = self.walk(hint.position, end, |batch| {
                if !seen {
                    seen = true;
                    let plausible = batch.base_offset >= self.base_offset
                        && batch.base_offset <= offset
                        && batch.last_offset >= batch.base_offset;
                    if !plausible {
                        return Some(None);
                    }
                }
                (batch.last_offset >= offset).then_some(Some(*batch))
            })?;
            match found {
                Some(Some(batch)) => return Ok(Some(batch)),
                None if seen => return Ok(None),
                // The index is wrong (keeps 3): walk the whole segment.
                Some(None) | None => {}
            }
        }
        self.walk(0, end, |batch| {
            (batch.last_offset >= offset).then_some(*batch)
        })
    }

    /// Appends one or more whole batches, given in parts, with one write. An index entry for them
    /// has the last offset of the first one, which is what its position holds (Kafka's followers
    /// write that of the last one, and kafka-dump-log calls it a mismatch). `largest` are the
    /// largest timestamp among them and the last offset of the batch that has it. Returns the
    /// position they begin at.
    pub(super) fn append(
        &self,
        parts: &[&[u8]],
        first_batch_end: Offset,
        largest: TimestampPosition,
    ) -> FsResult<u64> {
        let file = self.file()?;
        let position = self.size();
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let mut tail = self.tail.lock();
        if position == 0 {
            tail.first_timestamp = Some(largest.timestamp);
            // They were cut if it was closed, or truncated, while it was empty.
            self.extend_indexes()?;
        }
        self.reserve(&mut tail, file, position, len);
        self.dirty.store(true, Ordering::Relaxed);
        self.fs()
            .write_all_at(file, &self.log_path, parts, position)?;
        if largest.timestamp > self.max_timestamp_in(&mut tail)?.timestamp {
            tail.max_timestamp = Some(largest);
        }
        if tail.bytes_since_index_entry > self.index_interval_bytes {
            self.load_offset_index()?;
            self.load_time_index()?;
            self.offset_index
                .write()
                .append(&self.at(INDEX_SUFFIX), first_batch_end, position)?;
            let max = self.max_timestamp_in(&mut tail)?;
            self.time_index
                .write()
                .append(&self.at(TIME_INDEX_SUFFIX), max, false)?;
            tail.bytes_since_index_entry = 0;
            tail.index_has_room = false;
        }
        tail.bytes_since_index_entry += len;
        self.size.store(position + len, Ordering::Release);
        Ok(position)
    }

    fn extend_indexes(&self) -> FsResult<()> {
        self.offset_index
            .write()
            .file()
            .extend(&self.at(INDEX_SUFFIX))?;
        self.time_index
            .write()
            .file()
            .extend(&self.at(TIME_INDEX_SUFFIX))
    }

    /// Reserves blocks ahead of a segment that grows, more the more it grows: writes into
    /// reserved blocks are cheaper, yet an idle partition must not hold space.
    fn reserve(&self, tail: &mut Tail, file: &File, position: u64, len: u64) {
        let end = position + len;
        if end < RESERVE_FROM || end <= tail.reserved_to {
            return;
        }
        tail.reserve_ahead = (tail.reserve_ahead * 2).clamp(RESERVE_FROM, RESERVE_MAX);
        let to = end + tail.reserve_ahead;
        if self.fs().reserve(file, position, to - position) {
            tail.reserved_to = to;
        } else {
            // Not supported here: do not ask again.
            tail.reserved_to = u64::MAX;
        }
    }

    /// Gives back blocks that were reserved beyond the end.
    fn release(&self, tail: &mut Tail) -> FsResult<()> {
        if tail.reserved_to > 0 && tail.reserved_to < u64::MAX {
            self.fs()
                .set_len(self.file()?, &self.log_path, self.size())?;
        }
        tail.reserved_to = 0;
        tail.reserve_ahead = 0;
        Ok(())
    }

    fn max_timestamp_in(&self, tail: &mut Tail) -> FsResult<TimestampPosition> {
        if let Some(max) = tail.max_timestamp {
            return Ok(max);
        }
        self.load_time_index()?;
        let last = self.time_index.read().last(&self.at(TIME_INDEX_SUFFIX))?;
        tail.max_timestamp = Some(last);
        Ok(last)
    }

    /// Largest timestamp and the last offset of the batch that has it; (−1, _) when unknown.
    pub(super) fn max_timestamp(&self) -> FsResult<TimestampPosition> {
        self.max_timestamp_in(&mut self.tail.lock())
    }

    /// Largest record timestamp, else the file's modification time. Milliseconds.
    pub(super) fn largest_timestamp(&self) -> FsResult<Millis> {
        let max = self.max_timestamp()?.timestamp;
        if max >= 0 { Ok(max) } else { self.modified() }
    }

    /// When the `.log` file was last written.
    pub(super) fn modified(&self) -> FsResult<Millis> {
        self.fs()
            .modified(&self.place.file(self.base_offset, LOG_SUFFIX))
    }

    /// Whether the log must roll before it appends `bytes` whose largest timestamp and last
    /// offset are given. Contract §5.7.
    pub(super) fn should_roll(
        &self,
        config: &LogConfig,
        bytes: u64,
        max_timestamp: Millis,
        last_offset: Offset,
        clock: &dyn Clock,
    ) -> FsResult<bool> {
        let size = self.size();
        let limit = u64::try_from(config.segment_bytes).unwrap_or(0);
        if size + bytes > limit || !self.can_hold(last_offset) {
            return Ok(true);
        }
        if size == 0 {
            return Ok(false);
        }
        let mut tail = self.tail.lock();
        let waited = match self.first_timestamp_in(&mut tail)? {
            // A client may send any timestamp.
            Some(first) if first >= 0 => max_timestamp.saturating_sub(first),
            _ => clock.now() - self.created.load(Ordering::Relaxed),
        };
        if waited > config.segment_ms - self.roll_jitter_ms {
            return Ok(true);
        }
        if !tail.index_has_room {
            tail.index_has_room = !self.is_an_index_full()?;
        }
        Ok(!tail.index_has_room)
    }

    fn is_an_index_full(&self) -> FsResult<bool> {
        self.load_offset_index()?;
        self.load_time_index()?;
        Ok(self.offset_index.read().is_full() || self.time_index.read().is_full())
    }

    fn first_timestamp_in(&self, tail: &mut Tail) -> FsResult<Option<Millis>> {
        if tail.first_timestamp.is_none() {
            tail.first_timestamp = self.walk(0, self.size(), |batch| Some(batch.max_timestamp))?;
        }
        Ok(tail.first_timestamp)
    }

    /// No more appends: final time index entry, files cut to their content.
    pub(super) fn become_inactive(&self) -> FsResult<()> {
        if !self.dirty.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut tail = self.tail.lock();
        tail.index_has_room = false;
        let max = self.max_timestamp_in(&mut tail)?;
        self.load_offset_index()?;
        {
            let at = self.at(TIME_INDEX_SUFFIX);
            let mut index = self.time_index.write();
            if max.timestamp >= 0 {
                index.append(&at, max, true)?;
            }
            index.file().trim(&at)?;
        }
        self.offset_index
            .write()
            .file()
            .trim(&self.at(INDEX_SUFFIX))?;
        self.release(&mut tail)?;
        self.dirty.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// fsync of the log file and its indexes.
    pub(super) fn flush(&self) -> FsResult<()> {
        match self.file.get() {
            Some(file) => self.fs().sync(file, &self.log_path)?,
            None => self
                .fs()
                .sync_path_if_exists(&self.place.file(self.base_offset, LOG_SUFFIX))?,
        }
        self.offset_index
            .write()
            .file()
            .sync(&self.at(INDEX_SUFFIX))?;
        self.time_index
            .write()
            .file()
            .sync(&self.at(TIME_INDEX_SUFFIX))?;
        let txn = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.fs().sync_path_if_exists(&txn)
    }

    /// Cuts the segment before the batch that holds `offset`.
    pub(super) fn truncate_to(&self, offset: Offset, now: Millis) -> FsResult<()> {
        self.dirty.store(true, Ordering::Relaxed);
        let found = self.find_batch(offset, self.size())?;
        let txn_path = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.load_time_index()?;
        self.offset_index
            .write()
            .truncate_to(&self.at(INDEX_SUFFIX), offset)?;
        self.time_index
            .write()
            .truncate_to(&self.at(TIME_INDEX_SUFFIX), offset)?;
        self.txn_index
            .lock()
            .truncate_to(self.fs(), &txn_path, offset)?;
        if let Some(batch) = found {
            self.set_size(batch.position)?;
        }
        let mut tail = self.tail.lock();
        if self.size() == 0 {
            self.created.store(now, Ordering::Relaxed);
            tail.first_timestamp = None;
        }
        tail.bytes_since_index_entry = 0;
        let last = self.time_index.read().last(&self.at(TIME_INDEX_SUFFIX))?;
        let from = self
            .offset_index
            .read()
            .lookup(&self.at(INDEX_SUFFIX), last.offset)?;
        let mut max = last;
        self.walk(from.position, self.size(), |batch| -> Option<()> {
            if batch.max_timestamp > max.timestamp {
                max = TimestampPosition {
                    timestamp: batch.max_timestamp,
                    offset: batch.last_offset,
                };
            }
            None
        })?;
        tail.max_timestamp = Some(max);
        Ok(())
    }

    /// Cuts the file at byte `size`.
    pub(super) fn set_size(&self, size: u64) -> FsResult<()> {
        // Readers must not be sent beyond the cut, so it shows before it is made.
        self.size.store(size, Ordering::Release);
        self.fs().set_len(self.file()?, &self.log_path, size)?;
        self.tail.lock().reserved_to = 0;
        Ok(())
    }

    /// The next offset and the end of the last whole batch, from the index and what follows it.
    pub(super) fn next_offset(&self) -> FsResult<(Offset, u64)> {
        if self.size() == 0 {
            // Without a look at the files: a partition at rest would keep its log open from here on.
            return Ok((self.base_offset, 0));
        }
        self.load_offset_index()?;
        let last = self.offset_index.read().last(&self.at(INDEX_SUFFIX))?;
        let size = self.size();
        let walk_from = |position: u64| -> FsResult<Option<(Offset, u64)>> {
            let mut end = None;
            self.walk(position, size, |batch| -> Option<()> {
                end = Some((batch.last_offset + 1, batch.end()));
                None
            })?;
            Ok(end)
        };
        let found = match walk_from(last.position)? {
            // The entry does not point at its batch: believe the log only.
            Some((next, _)) if next <= last.offset => walk_from(0)?,
            None if last.position > 0 => walk_from(0)?,
            found => found,
        };
        Ok(found.unwrap_or((self.base_offset, 0)))
    }

    /// Where to begin looking for a record with `timestamp` or later at or after `offset`.
    pub(super) fn position_for_timestamp(
        &self,
        timestamp: Millis,
        offset: Offset,
    ) -> FsResult<u64> {
        self.load_time_index()?;
        self.load_offset_index()?;
        let entry = self
            .time_index
            .read()
            .lookup(&self.at(TIME_INDEX_SUFFIX), timestamp)?;
        let target = entry.offset.max(offset);
        Ok(self
            .offset_index
            .read()
            .lookup(&self.at(INDEX_SUFFIX), target)?
            .position)
    }

    /// Where the batch that ends with `last_offset` may begin, or an earlier one.
    pub(super) fn position_for_offset(&self, last_offset: Offset) -> FsResult<u64> {
        self.load_offset_index()?;
        Ok(self
            .offset_index
            .read()
            .lookup(&self.at(INDEX_SUFFIX), last_offset)?
            .position)
    }

    /// An offset that no read up to byte `end` holds, if the index knows one.
    pub(super) fn offset_beyond(&self, end: u64) -> FsResult<Option<Offset>> {
        self.load_offset_index()?;
        let entry = self
            .offset_index
            .read()
            .first_beyond(&self.at(INDEX_SUFFIX), end)?;
        Ok(entry.map(|entry| entry.offset))
    }

    pub(super) fn append_aborted(&self, txn: AbortedTxn) -> FsResult<()> {
        let path = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.txn_index.lock().append(self.fs(), &path, txn)
    }

    /// See [`TxnIndex::collect`].
    pub(super) fn collect_aborted(
        &self,
        range: (Offset, Offset),
        out: &mut Vec<AbortedTxn>,
    ) -> FsResult<bool> {
        let path = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.txn_index.lock().collect(self.fs(), &path, range, out)
    }

    pub(super) fn txn_index_looks_right(&self) -> FsResult<bool> {
        let path = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.txn_index
            .lock()
            .looks_right(self.fs(), &path, self.base_offset)
    }

    /// Empties all three indexes, before a recovery fills them.
    pub(super) fn reset_indexes(&self) -> FsResult<()> {
        self.dirty.store(true, Ordering::Relaxed);
        let txn = self.place.file(self.base_offset, TXN_INDEX_SUFFIX);
        self.offset_index
            .write()
            .file()
            .reset(&self.at(INDEX_SUFFIX))?;
        self.time_index
            .write()
            .file()
            .reset(&self.at(TIME_INDEX_SUFFIX))?;
        self.txn_index.lock().reset(self.fs(), &txn)?;
        *self.tail.lock() = Tail::default();
        Ok(())
    }

    /// Notes a batch that a recovery found whole, and indexes it when `index` is set.
    pub(super) fn recovered(&self, batch: &BatchAt, index: bool) -> FsResult<()> {
        let mut tail = self.tail.lock();
        let seen = tail.max_timestamp.unwrap_or(TimestampPosition {
            timestamp: -1,
            offset: self.base_offset,
        });
        let max = if batch.max_timestamp > seen.timestamp {
            TimestampPosition {
                timestamp: batch.max_timestamp,
                offset: batch.last_offset,
            }
        } else {
            seen
        };
        tail.max_timestamp = Some(max);
        if index {
            tail.index_has_room = false;
            self.offset_index.write().append(
                &self.at(INDEX_SUFFIX),
                batch.last_offset,
                batch.position,
            )?;
            self.time_index
                .write()
                .append(&self.at(TIME_INDEX_SUFFIX), max, false)?;
        }
        Ok(())
    }

    /// Renames all files of the segment to `.deleted`; returns their new paths. Open descriptors
    /// stay good.
    pub(super) fn mark_deleted(&self) -> FsResult<Vec<PathBuf>> {
        let mut renamed = Vec::new();
        for suffix in SEGMENT_SUFFIXES {
            let from = self.place.file(self.base_offset, suffix);
            let to = self
                .place
                .file(self.base_offset, &format!("{suffix}{DELETED_SUFFIX}"));
            if suffix == LOG_SUFFIX {
                // A reader that holds this segment may open the file only now.
                let _ = self.file();
            }
            match self.fs().rename(&from, &to) {
                Ok(()) => renamed.push(to),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        self.offset_index.write().file().unload();
        self.time_index.write().file().unload();
        Ok(renamed)
    }
}
