//! Opening a log: what its files say, and what is true of them after a crash (`LogLoader`).
//! Contract §5.9.
//!
//! After a clean stop the files are believed: one look at the end of the last segment gives the
//! log end offset, a snapshot the producers. After an unclean one every segment from the recovery
//! point on is read, CRCs checked, indexes and epochs and producers rebuilt; at the first bad
//! batch the log ends. No damage prevents the start: an index, a snapshot or an epoch cache that
//! is missing or wrong is made anew from the batches.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use arc_swap::{ArcSwap, Cache};
use parking_lot::{Mutex, RwLock};

use super::append::parse_marker;
use super::checkpoint::{LEADER_EPOCH_FILE, read_epochs};
use super::dir::LogDir;
use super::fs::{Fs, FsResult};
use super::leader_epochs::LeaderEpochs;
use super::producer_state::{CompletedTxn, ProducerSnapshots, ProducerState, SNAPSHOT_SUFFIX};
use super::segment::{
    DELETED_SUFFIX, INDEX_SUFFIX, LOG_SUFFIX, Place, Segment, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
};
use super::walk::{BatchAt, Source, Step, Walk};
use super::{Log, Marks, NONE, PARTITION_METADATA_FILE, Writer, parse_partition_metadata};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::types::{Millis, Offset, TopicPartition};

const CLEANED_SUFFIX: &str = ".cleaned";
const SWAP_SUFFIX: &str = ".swap";
/// Larger control batches are not read: none exists.
const MAX_CONTROL_BATCH: u64 = 1 << 16;

/// What is needed to open one log.
pub(super) struct Opening {
    pub(super) home: Arc<LogDir>,
    /// The partition's folder; it exists.
    pub(super) dir: PathBuf,
    pub(super) partition: TopicPartition,
    pub(super) config: LogConfig,
    pub(super) clock: Arc<dyn Clock>,
    /// From `log-start-offset-checkpoint`, 0 when absent.
    pub(super) log_start: Offset,
    /// From `recovery-point-offset-checkpoint`, 0 when absent.
    pub(super) recovery_point: Offset,
    /// The last stop was clean.
    pub(super) clean: bool,
    pub(super) producer_id_expiration_ms: Millis,
}

/// The offset in a file's name: what is before the first dot.
fn offset_of(name: &str) -> Option<Offset> {
    name.split_once('.')?.0.parse().ok().filter(|&o| o >= 0)
}

/// Completes what a crash interrupted (deletions, swaps of the cleaner) and lists what remains.
fn clean_up_files(fs: &Fs, dir: &Path, ident: &str) -> FsResult<Vec<String>> {
    let names = fs.list(dir, false)?;
    let leftover = |suffix: &'static str| names.iter().filter(move |name| name.ends_with(suffix));
    let interrupted = [DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX]
        .iter()
        .any(|suffix| leftover(suffix).next().is_some());
    if !interrupted {
        return Ok(names);
    }
    for name in leftover(DELETED_SUFFIX) {
        fs.remove(&dir.join(name))?;
    }
    let lowest_cleaned = leftover(CLEANED_SUFFIX)
        .filter_map(|name| offset_of(name))
        .min();
    let mut swaps = Vec::new();
    for name in leftover(SWAP_SUFFIX) {
        if lowest_cleaned.is_some_and(|lowest| offset_of(name).is_some_and(|at| at >= lowest)) {
            // Part of a split that did not complete.
            fs.remove(&dir.join(name))?;
        } else {
            swaps.push(name);
        }
    }
    for name in leftover(CLEANED_SUFFIX) {
        fs.remove(&dir.join(name))?;
    }
    // Complete replacements: what they replace goes, then they take their places.
    let mut replaced: Option<(Offset, Offset)> = None;
    for name in swaps.iter().filter(|name| name.ends_with(".log.swap")) {
        let path = dir.join(name);
        let Some(base) = offset_of(name) else {
            continue;
        };
        let file = fs.open(&path)?;
        let end = fs.file_len(&file, &path)?;
        let source = Source {
            fs,
            file: &file,
            path: &path,
        };
        let mut next = base;
        let mut walk = Walk::new(source, 0, end);
        while let Step::Batch(batch) = walk.next()? {
            next = batch.last_offset + 1;
        }
        let (low, high) = replaced.unwrap_or((base, next));
        replaced = Some((low.min(base), high.max(next)));
        tracing::info!(
            target: "kafka.log.LogLoader",
            "{ident} Found log file {} from interrupted swap operation, which is recoverable from .swap files by renaming.",
            path.display()
        );
    }
    if let Some((low, high)) = replaced {
        for name in fs.list(dir, false)? {
            if !name.ends_with(SWAP_SUFFIX)
                && offset_of(&name).is_some_and(|offset| (low..high).contains(&offset))
            {
                tracing::info!(
                    target: "kafka.log.LogLoader",
                    "{ident} Deleting segment files {name} that is compacted but has not been deleted yet."
                );
                fs.remove(&dir.join(name))?;
            }
        }
    }
    for name in swaps {
        if let Some(plain) = name.strip_suffix(SWAP_SUFFIX) {
            tracing::info!(
                target: "kafka.log.LogLoader",
                "{ident} Recovering file {name} by renaming from .swap files."
            );
            fs.rename(&dir.join(name), &dir.join(plain))?;
        }
    }
    fs.list(dir, false)
}

/// A log while it is being opened.
struct Loader {
    opening: Opening,
    place: Arc<Place>,
    ident: String,
    segments: Vec<Arc<Segment>>,
    epochs: LeaderEpochs,
    snapshots: ProducerSnapshots,
    now: Millis,
}

/// Opens the log in a partition's folder; an empty folder becomes an empty log.
pub(super) fn open(opening: Opening) -> FsResult<Arc<Log>> {
    let place = Arc::new(Place {
        fs: opening.home.fs.clone(),
        dir: ArcSwap::from_pointee(opening.dir.clone()),
    });
    let ident = format!(
        "[LogLoader partition={}, dir={}]",
        opening.partition,
        opening.home.path().display()
    );
    let now = opening.clock.now();
    let loader = Loader {
        opening,
        place,
        ident,
        segments: Vec::new(),
        epochs: LeaderEpochs::default(),
        snapshots: ProducerSnapshots::default(),
        now,
    };
    loader.load()
}

impl Loader {
    fn fs(&self) -> &Fs {
        &self.place.fs
    }

    fn load(mut self) -> FsResult<Arc<Log>> {
        let names = clean_up_files(self.fs(), &self.opening.dir, &self.ident)?;
        self.snapshots = ProducerSnapshots::new(
            names
                .iter()
                .filter(|name| name.ends_with(SNAPSHOT_SUFFIX))
                .filter_map(|name| offset_of(name))
                .collect(),
        );
        let names: BTreeSet<String> = names.into_iter().collect();
        let epochs_lost = names.contains(LEADER_EPOCH_FILE) && self.load_epochs()?;
        self.load_segments(&names)?;
        if epochs_lost {
            self.rebuild_epochs()?;
        }
        let mut clean = self.opening.clean;
        if clean {
            clean = self.end_is_whole()?;
        }
        if !clean {
            self.recover()?;
        }
        let log_end = self.log_end()?;
        let recovery_point = if clean {
            log_end
        } else {
            self.opening.recovery_point.min(log_end)
        };
        let first_base = self.segments.first().map_or(0, |first| first.base_offset());
        let log_start = self.opening.log_start.max(first_base);

        let mut epochs_changed = self.epochs.truncate_from_end(log_end);
        epochs_changed |= self.epochs.truncate_from_start(self.opening.log_start);
        let bases = self.segments.iter().map(|s| s.base_offset()).collect();
        self.snapshots
            .remove_strays(&self.place.fs, &self.opening.dir, &bases)?;
        let mut producers = ProducerState::default();
        rebuild_producers(
            &ProducerRebuild {
                place: &self.place,
                partition: &self.opening.partition,
                segments: &self.segments,
                log_start,
                log_end,
                now: self.now,
                expiration: self.opening.producer_id_expiration_ms,
                clean,
            },
            &mut producers,
            &mut self.snapshots,
        )?;
        let metadata = self.opening.dir.join(PARTITION_METADATA_FILE);
        let topic_id = match names.contains(PARTITION_METADATA_FILE) {
            true => {
                let bytes = self.fs().read(&metadata)?.unwrap_or_default();
                let id = parse_partition_metadata(&bytes);
                if id.is_none() {
                    tracing::warn!(
                        target: "kafka.log.UnifiedLog",
                        "{} {} is damaged; it is written anew when the controller names the topic id",
                        self.ident,
                        metadata.display()
                    );
                }
                id
            }
            false => None,
        };

        let active = self.segments.last().map(Arc::clone);
        let active = active.expect("keeps 2: never empty");
        let config = Arc::new(ArcSwap::from_pointee(self.opening.config));
        let log = Arc::new_cyclic(|me| Log {
            me: me.clone(),
            topic_partition: self.opening.partition,
            home: self.opening.home,
            place: self.place,
            clock: self.opening.clock,
            config: Arc::clone(&config),
            producer_id_expiration_ms: self.opening.producer_id_expiration_ms,
            topic_id: Mutex::new(topic_id),
            topic_id_dirty: AtomicBool::new(false),
            segments: ArcSwap::from_pointee(self.segments),
            epochs: RwLock::new(self.epochs),
            // Not written before the next record is: thousands of partitions are loaded at a time.
            has_unwritten_epochs: AtomicBool::new(epochs_changed),
            writer: Mutex::new(Writer {
                active,
                config: Cache::new(config),
                producers,
                snapshots: self.snapshots,
                closed: false,
            }),
            marks: Mutex::new(Marks::new()),
            log_start_offset: AtomicI64::new(log_start),
            log_end_offset: AtomicI64::new(log_end),
            high_watermark: AtomicI64::new(log_start),
            first_unstable_offset: AtomicI64::new(NONE),
            recovery_point: AtomicI64::new(recovery_point),
            last_flush: AtomicI64::new(self.now),
        });
        {
            let writer = log.writer.lock();
            log.update_first_unstable(&writer);
            log.reset_marks(&writer);
        }
        Ok(log)
    }

    /// Reads the epoch cache; true when the file is damaged.
    fn load_epochs(&mut self) -> FsResult<bool> {
        let path = self.opening.dir.join(LEADER_EPOCH_FILE);
        match read_epochs(self.fs(), &path)? {
            Ok(entries) => {
                self.epochs = LeaderEpochs::from_entries(entries);
                Ok(false)
            }
            Err(problem) => {
                tracing::warn!(
                    target: "kafka.log.LogLoader",
                    "{} {}: {problem}; the leader epochs are read from the batches",
                    self.ident,
                    path.display()
                );
                Ok(true)
            }
        }
    }

    fn rebuild_epochs(&mut self) -> FsResult<()> {
        for segment in &self.segments {
            let epochs = &mut self.epochs;
            segment.for_each_batch(0, |_, batch| -> FsResult<Option<()>> {
                if epochs
                    .latest()
                    .is_none_or(|latest| batch.leader_epoch > latest)
                {
                    epochs.assign(batch.leader_epoch, batch.base_offset);
                }
                Ok(None)
            })?;
        }
        let path = self.opening.dir.join(LEADER_EPOCH_FILE);
        super::checkpoint::write_epochs(self.fs(), &path, self.epochs.entries())
    }

    fn load_segments(&mut self, names: &BTreeSet<String>) -> FsResult<()> {
        let dir = self.opening.dir.clone();
        for name in names {
            let Some(base) = offset_of(name) else {
                continue;
            };
            let is_index = [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX]
                .iter()
                .any(|suffix| name.ends_with(suffix));
            if is_index && !names.contains(&format!("{base:020}{LOG_SUFFIX}")) {
                tracing::warn!(
                    target: "kafka.log.LogLoader",
                    "{} Found an orphaned index file {}, with no corresponding log file.",
                    self.ident,
                    dir.join(name).display()
                );
                self.fs().remove(&dir.join(name))?;
            }
            if *name != format!("{base:020}{LOG_SUFFIX}") {
                continue;
            }
            let size = self.fs().len(&dir.join(name))?.unwrap_or(0);
            let segment =
                Segment::existing(&self.place, base, size, &self.opening.config, self.now);
            let below = self.opening.clean || base < self.opening.recovery_point;
            let txn_index_ok = !names.contains(&format!("{base:020}{TXN_INDEX_SUFFIX}"))
                || segment.txn_index_looks_right()?;
            if !txn_index_ok {
                tracing::warn!(
                    target: "kafka.log.LogLoader",
                    "{} Found a corrupted index file corresponding to log file {}, recovering segment and rebuilding index files...",
                    self.ident,
                    dir.join(name).display()
                );
                let mut producers = self.producers_at(base)?;
                self.recover_segment(&segment, &mut producers)?;
            } else if below && size > 0 && !names.contains(&format!("{base:020}{INDEX_SUFFIX}")) {
                tracing::error!(
                    target: "kafka.log.LogLoader",
                    "{} Could not find offset index file corresponding to log file {}, recovering segment and rebuilding index files...",
                    self.ident,
                    dir.join(name).display()
                );
                segment.rebuild_indexes()?;
            }
            self.segments.push(Arc::new(segment));
        }
        Ok(())
    }

    /// False when the last segment ends with something that is no whole batch, although the stop
    /// was clean: appending behind it would hide what follows.
    fn end_is_whole(&mut self) -> FsResult<bool> {
        let Some(last) = self.segments.last() else {
            return Ok(true);
        };
        let (next, end) = last.next_offset()?;
        if end == last.size() && next >= last.base_offset() {
            return Ok(true);
        }
        tracing::warn!(
            target: "kafka.log.LogLoader",
            "{} The last segment {} ends with {} bytes that are no batch, although the last shutdown was clean; recovering it",
            self.ident,
            last.base_offset(),
            last.size() - end
        );
        self.opening.recovery_point = self.opening.recovery_point.min(last.base_offset());
        Ok(false)
    }

    /// The producers as they were at `offset`, from the newest snapshot and what follows it.
    fn producers_at(&mut self, offset: Offset) -> FsResult<ProducerState> {
        let mut producers = ProducerState::default();
        rebuild_producers(
            &ProducerRebuild {
                place: &self.place,
                partition: &self.opening.partition,
                segments: &self.segments,
                log_start: self.opening.log_start,
                log_end: offset,
                now: self.now,
                expiration: self.opening.producer_id_expiration_ms,
                clean: false,
            },
            &mut producers,
            &mut self.snapshots,
        )?;
        Ok(producers)
    }

    /// Reads every segment from the recovery point on; the log ends at the first bad batch.
    fn recover(&mut self) -> FsResult<()> {
        let first = Log::floor_segment(&self.segments, self.opening.recovery_point).unwrap_or(0);
        let unflushed = self.segments.split_off(first.min(self.segments.len()));
        let count = unflushed.len();
        let mut producers: Option<ProducerState> = None;
        let mut remaining = unflushed.into_iter();
        let mut done = 0;
        while let Some(segment) = remaining.next() {
            tracing::info!(
                target: "kafka.log.LogLoader",
                "{} Recovering unflushed segment {}. {done}/{count} recovered for {}.",
                self.ident,
                segment.base_offset(),
                self.opening.partition
            );
            let mut state = match producers.take() {
                Some(state) => state,
                None => self.producers_at(segment.base_offset())?,
            };
            let truncated = self.recover_segment(&segment, &mut state)?;
            let end = segment.next_offset()?.0;
            self.segments.push(segment);
            producers = Some(state);
            if let Some(last_lost) = truncated {
                let rest: Vec<Arc<Segment>> = remaining.collect();
                self.drop_rest(end, last_lost, &rest)?;
                break;
            }
            done += 1;
        }
        Ok(())
    }

    /// Tells what was lost, and removes the segments behind the end.
    fn drop_rest(
        &mut self,
        end: Offset,
        last_lost: Option<Offset>,
        rest: &[Arc<Segment>],
    ) -> FsResult<()> {
        let mut last_lost = last_lost;
        for segment in rest {
            last_lost = last_lost.max(Some(segment.next_offset()?.0 - 1));
        }
        let upto = last_lost
            .filter(|&last| last >= end)
            .map_or_else(|| "unknown".to_owned(), |last| last.to_string());
        tracing::warn!(
            target: "kafka.log.LogLoader",
            "{} Corruption found, truncating to offset {end}: first lost offset {end}, last lost offset {upto}, {} later segments removed",
            self.ident,
            rest.len()
        );
        let mut files = Vec::new();
        for segment in rest {
            files.extend(segment.mark_deleted()?);
            files.extend(self.snapshots.mark_deleted(
                &self.place.fs,
                &self.opening.dir,
                segment.base_offset(),
            )?);
        }
        let home = Arc::clone(&self.opening.home);
        let due = self.now + self.opening.config.file_delete_delay_ms;
        self.opening.home.submit(due, move || {
            for file in &files {
                if let Err(error) = home.fs.remove(file) {
                    home.fail(error);
                }
            }
        });
        Ok(())
    }

    /// Reads one segment and rebuilds what depends on it. `Some` when it had to be cut: with the
    /// last offset that was in it, as far as that can be told.
    fn recover_segment(
        &mut self,
        segment: &Segment,
        producers: &mut ProducerState,
    ) -> FsResult<Option<Option<Offset>>> {
        segment.reset_indexes()?;
        let interval = u64::try_from(self.opening.config.index_interval_bytes).unwrap_or(0);
        let size = segment.size();
        let path = self.place.file(segment.base_offset(), LOG_SUFFIX);
        let file = Arc::clone(segment.file()?);
        let source = Source {
            fs: &self.place.fs,
            file: &file,
            path: &path,
        };
        let mut walk = Walk::whole(source, 0, size);
        let mut valid = 0;
        let mut indexed_at = 0;
        let mut last_offset = segment.base_offset() - 1;
        let mut bad: Option<BatchAt> = None;
        let problem = loop {
            let batch = match walk.next()? {
                Step::Batch(batch) => batch,
                Step::End => break None,
                Step::Corrupt(problem) => break Some(problem),
            };
            if !walk.crc_is_right(&batch)? {
                bad = Some(batch);
                break Some(format!("CRC mismatch at position {}", batch.position));
            }
            if batch.base_offset < segment.base_offset()
                || batch.last_offset < batch.base_offset
                || batch.last_offset <= last_offset
            {
                break Some(format!(
                    "offsets {}..={} after {last_offset} at position {}",
                    batch.base_offset, batch.last_offset, batch.position
                ));
            }
            last_offset = batch.last_offset;
            let index = valid - indexed_at > interval;
            segment.recovered(&batch, index)?;
            if index {
                indexed_at = valid;
            }
            valid = batch.end();
            if batch.magic < 2 {
                continue;
            }
            if batch.leader_epoch >= 0
                && self
                    .epochs
                    .latest()
                    .is_none_or(|latest| batch.leader_epoch > latest)
            {
                self.epochs.assign(batch.leader_epoch, batch.base_offset);
                let path = self.opening.dir.join(LEADER_EPOCH_FILE);
                super::checkpoint::write_epochs(&self.place.fs, &path, self.epochs.entries())?;
            }
            if let Some(completed) = replay(producers, source, &batch)? {
                if let Some(aborted) = producers.aborted(&completed) {
                    segment.append_aborted(aborted)?;
                }
                producers.complete(&completed);
            }
        };
        if let Some(problem) = &problem {
            tracing::warn!(
                target: "org.apache.kafka.storage.internals.log.LogSegment",
                "Found invalid messages in log segment {} at byte offset {valid}: {problem}.",
                path.display()
            );
        }
        let truncated = valid < size;
        let mut last_lost = None;
        if truncated {
            // What the bytes beyond claim to be, for the message only.
            let mut beyond = Walk::new(source, bad.map_or(valid, |batch| batch.end()), size);
            last_lost = bad.map(|batch| batch.last_offset);
            while let Step::Batch(batch) = beyond.next()? {
                last_lost = last_lost.max(Some(batch.last_offset));
            }
        }
        // Also when nothing is cut: blocks reserved before the crash go back.
        segment.set_size(valid)?;
        segment.become_inactive()?;
        producers.set_map_end_offset(last_offset + 1);
        self.snapshots
            .take(&self.place.fs, &self.opening.dir, producers, true)?;
        Ok(truncated.then_some(last_lost))
    }

    /// The log end offset; removes all segments when it is below the log start offset, and makes
    /// a first segment when there is none.
    fn log_end(&mut self) -> FsResult<Offset> {
        let log_start = self.opening.log_start;
        if let Some(last) = self.segments.last() {
            let end = last.next_offset()?.0;
            if end >= log_start {
                return Ok(end);
            }
            tracing::warn!(
                target: "kafka.log.LogLoader",
                "{} Deleting all segments because logEndOffset ({end}) is smaller than logStartOffset {log_start}. This could happen if segment files were deleted from the file system.",
                self.ident
            );
            for segment in std::mem::take(&mut self.segments) {
                for file in segment.mark_deleted()? {
                    self.fs().remove(&file)?;
                }
            }
            self.epochs.clear();
            let path = self.opening.dir.join(LEADER_EPOCH_FILE);
            super::checkpoint::write_epochs(self.fs(), &path, &[])?;
            self.snapshots
                .remove_all(&self.place.fs, &self.opening.dir)?;
        }
        let segment = Segment::create(&self.place, log_start, &self.opening.config, self.now)?;
        self.segments.push(Arc::new(segment));
        Ok(log_start)
    }
}

/// Takes one batch of a file into the producer state.
fn replay(
    producers: &mut ProducerState,
    source: Source<'_>,
    batch: &BatchAt,
) -> FsResult<Option<CompletedTxn>> {
    let Some(header) = &batch.header else {
        producers.set_map_end_offset(batch.last_offset + 1);
        return Ok(None);
    };
    let marker = if header.is_control() && batch.size <= MAX_CONTROL_BATCH {
        let mut bytes = vec![0; batch.size as usize];
        source
            .fs
            .read_at(source.file, source.path, &mut bytes, batch.position)?;
        parse_marker(&bytes)
    } else {
        None
    };
    Ok(producers.apply(header, marker))
}

/// What [`rebuild_producers`] works on.
pub(super) struct ProducerRebuild<'a> {
    pub(super) place: &'a Place,
    pub(super) partition: &'a TopicPartition,
    pub(super) segments: &'a [Arc<Segment>],
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) now: Millis,
    /// Milliseconds.
    pub(super) expiration: Millis,
    /// The last stop was clean.
    pub(super) clean: bool,
}

/// Makes `producers` what they were at `log_end`: from the newest usable snapshot, then from the
/// batches after it; and writes a snapshot there.
pub(super) fn rebuild_producers(
    task: &ProducerRebuild<'_>,
    producers: &mut ProducerState,
    snapshots: &mut ProducerSnapshots,
) -> FsResult<()> {
    let fs = &task.place.fs;
    let dir = task.place.dir.load();
    let last_two: Vec<Offset> = task
        .segments
        .iter()
        .rev()
        .take(2)
        .rev()
        .map(|segment| segment.base_offset())
        .collect();
    if task.clean && snapshots.newest().is_none() {
        // Written by a version that knew no producers: there are none. Empty snapshots spare a
        // truncation the scan of the whole log.
        for offset in last_two.into_iter().chain([task.log_end]) {
            producers.set_map_end_offset(offset);
            snapshots.take(fs, &dir, producers, true)?;
        }
        return Ok(());
    }
    let had_none = producers.is_empty() && producers.map_end_offset() >= task.log_end;
    snapshots.load(
        (fs, &dir),
        task.partition,
        (task.log_start, task.log_end),
        (task.now, task.expiration),
        producers,
    )?;
    if task.log_end > producers.map_end_offset() && !had_none {
        let first = Log::floor_segment(task.segments, producers.map_end_offset()).unwrap_or(0);
        for segment in task.segments[first..]
            .iter()
            .take_while(|segment| segment.base_offset() < task.log_end)
        {
            let start = segment
                .base_offset()
                .max(producers.map_end_offset())
                .max(task.log_start);
            producers.set_map_end_offset(start);
            if last_two.contains(&segment.base_offset()) {
                snapshots.take(fs, &dir, producers, true)?;
            }
            let position = segment.position_for_offset(start)?;
            segment.for_each_batch(position, |source, batch| {
                if batch.last_offset >= task.log_end {
                    return Ok(Some(()));
                }
                if batch.last_offset >= start
                    && let Some(completed) = replay(producers, source, batch)?
                {
                    producers.complete(&completed);
                }
                Ok(None)
            })?;
        }
    }
    producers.set_map_end_offset(task.log_end);
    snapshots.take(fs, &dir, producers, true)?;
    Ok(())
}
