//! What the log knows of idempotent and transactional producers (`ProducerStateManager`,
//! `ProducerAppendInfo`). [`ProducerState`] decides and touches no file; [`ProducerSnapshots`] keeps
//! the files.
//!
//! 1. Of each producer the last five batches are known: one of them sent again is a duplicate and
//!    is answered with its first offset.
//! 2. Sequences of a producer epoch follow each other without a gap; 0 follows `i32::MAX`.
//! 3. A transaction is ongoing from its first data batch to its marker, and unreplicated until
//!    the high watermark is beyond the marker. The first offset of either bounds the last stable
//!    offset.
//! 4. `map_end_offset` is the log end offset that the state reflects.
//!
//! `<offset>.snapshot` holds all producers at that offset: int16 version 1, uint32 CRC-32C of what
//! follows, int32 count, then 46 bytes each: int64 producer id, int16 epoch, int32 last sequence,
//! int64 last offset, int32 offset delta, int64 timestamp, int32 coordinator epoch, int64 first
//! offset of the ongoing transaction (−1 for none).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use smallvec::SmallVec;

use super::fs::{Fs, FsResult};
use super::index_file::segment_file;
use super::txn_index::AbortedTxn;
use super::walk::decrement_sequence;
use super::{ActiveProducer, Error};
use crate::error::ErrorCode;
use crate::record::batch::BatchHeader;
use crate::types::{Millis, Offset, ProducerEpoch, ProducerId, TopicPartition};

/// Batches remembered per producer.
const BATCHES_RETAINED: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER: usize = 10;
const SNAPSHOT_ENTRY: usize = 46;
pub(super) const SNAPSHOT_SUFFIX: &str = ".snapshot";

/// A batch that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchMetadata {
    pub(super) last_sequence: i32,
    pub(super) last_offset: Offset,
    pub(super) offset_delta: i32,
    pub(super) timestamp: Millis,
}

impl BatchMetadata {
    pub(super) fn first_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    fn first_sequence(&self) -> i32 {
        decrement_sequence(self.last_sequence, self.offset_delta)
    }
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: Millis,
    txn_first_offset: Option<Offset>,
    batches: SmallVec<[BatchMetadata; BATCHES_RETAINED]>,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: -1,
            txn_first_offset: None,
            batches: SmallVec::new(),
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    fn change_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// What an end-of-transaction marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) commit: bool,
    pub(super) coordinator_epoch: i32,
}

/// A transaction that a marker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CompletedTxn {
    pub(super) producer_id: ProducerId,
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) aborted: bool,
}

/// Answer of [`ProducerState::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Append,
    /// The batch is there already.
    Duplicate(BatchMetadata),
}

/// All producers of one partition.
#[derive(Debug, Default)]
pub(super) struct ProducerState {
    producers: HashMap<ProducerId, Producer>,
    /// First offset → producer.
    ongoing: BTreeMap<Offset, ProducerId>,
    /// First offset → offset of the marker.
    unreplicated: BTreeMap<Offset, Offset>,
    map_end_offset: Offset,
}

fn in_sequence(last: i32, next: i32) -> bool {
    i64::from(next) == i64::from(last) + 1 || (next == 0 && last == i32::MAX)
}

fn refused(code: ErrorCode, message: String) -> Error {
    Error::Refused { code, message }
}

impl ProducerState {
    pub(super) fn map_end_offset(&self) -> Offset {
        self.map_end_offset
    }

    pub(super) fn set_map_end_offset(&mut self, offset: Offset) {
        self.map_end_offset = offset;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.unreplicated.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    /// Forgets everything; the state is that of a log which starts at `offset`.
    pub(super) fn clear(&mut self, offset: Offset) {
        *self = Self {
            map_end_offset: offset,
            ..Self::default()
        };
    }

    /// Checks one batch that a leader is about to append at `offset`. Batches without a sequence
    /// (of coordinators) are not checked for it.
    pub(super) fn check(
        &self,
        partition: &TopicPartition,
        batch: &BatchHeader,
        marker: Option<Marker>,
        offset: Offset,
    ) -> Result<Check, Error> {
        let id = batch.producer_id;
        let Some(producer) = self.producers.get(&id) else {
            // Nothing is known (new, expired, or its records were deleted): any sequence begins.
            return Ok(Check::Append);
        };
        let (first, last) = (batch.base_sequence, batch.last_sequence());
        let is_data = !batch.is_control();
        if is_data
            && first >= 0
            && producer.epoch == batch.producer_epoch
            && let Some(duplicate) = producer
                .batches
                .iter()
                .find(|known| known.first_sequence() == first && known.last_sequence == last)
        {
            return Ok(Check::Duplicate(*duplicate));
        }
        if batch.producer_epoch < producer.epoch {
            return Err(refused(
                ErrorCode::InvalidProducerEpoch,
                format!(
                    "Epoch of producer {id} at offset {offset} in {partition} is {}, which is smaller than the last seen epoch {}",
                    batch.producer_epoch, producer.epoch
                ),
            ));
        }
        if !is_data {
            return match marker {
                Some(marker) if marker.coordinator_epoch < producer.coordinator_epoch => {
                    Err(refused(
                        ErrorCode::TransactionCoordinatorFenced,
                        format!(
                            "Invalid coordinator epoch for producerId {id} at offset {offset} in partition {partition}: {} (zombie), {} (current)",
                            marker.coordinator_epoch, producer.coordinator_epoch
                        ),
                    ))
                }
                _ => Ok(Check::Append),
            };
        }
        if first >= 0 {
            if batch.producer_epoch != producer.epoch {
                if first != 0 {
                    return Err(refused(
                        ErrorCode::OutOfOrderSequenceNumber,
                        format!(
                            "Invalid sequence number for new epoch of producer {id} at offset {offset} in partition {partition}: {} (request epoch), {first} (seq. number), {} (current producer epoch)",
                            batch.producer_epoch, producer.epoch
                        ),
                    ));
                }
            } else if !in_sequence(producer.last_sequence(), first) {
                return Err(refused(
                    ErrorCode::OutOfOrderSequenceNumber,
                    format!(
                        "Out of order sequence number for producer {id} at offset {offset} in partition {partition}: {first} (incoming seq. number), {} (current end sequence number)",
                        producer.last_sequence()
                    ),
                ));
            }
        }
        if producer.txn_first_offset.is_some() && !batch.is_transactional() {
            return Err(refused(
                ErrorCode::InvalidTxnState,
                format!(
                    "Expected transactional write from producer {id} at offset {offset} in partition {partition}"
                ),
            ));
        }
        Ok(Check::Append)
    }

    /// Takes in a batch that is in the log: of a leader after [`Self::check`], of a follower or a
    /// recovery as it is. Batches without a producer id only move the end. A marker that ends a
    /// transaction with data returns it; it stays ongoing until [`Self::complete`].
    pub(super) fn apply(
        &mut self,
        batch: &BatchHeader,
        marker: Option<Marker>,
    ) -> Option<CompletedTxn> {
        let last_offset = batch.last_offset();
        self.map_end_offset = last_offset + 1;
        if batch.producer_id < 0 {
            return None;
        }
        let id = batch.producer_id;
        if batch.is_control() {
            // Without its record the whole transaction was compacted away.
            let marker = marker?;
            let producer = self
                .producers
                .entry(id)
                .or_insert_with(|| Producer::new(batch.producer_epoch));
            producer.change_epoch(batch.producer_epoch);
            producer.coordinator_epoch = marker.coordinator_epoch;
            producer.last_timestamp = batch.max_timestamp;
            return producer
                .txn_first_offset
                .take()
                .map(|first_offset| CompletedTxn {
                    producer_id: id,
                    first_offset,
                    last_offset: batch.base_offset,
                    aborted: !marker.commit,
                });
        }
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(batch.producer_epoch));
        producer.change_epoch(batch.producer_epoch);
        if producer.batches.len() == BATCHES_RETAINED {
            producer.batches.remove(0);
        }
        producer.batches.push(BatchMetadata {
            last_sequence: batch.last_sequence(),
            last_offset,
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
        producer.last_timestamp = batch.max_timestamp;
        if batch.is_transactional() && producer.txn_first_offset.is_none() {
            producer.txn_first_offset = Some(batch.base_offset);
            self.ongoing.insert(batch.base_offset, id);
        }
        None
    }

    /// The entry for `.txnindex` when `txn` was aborted.
    pub(super) fn aborted(&self, txn: &CompletedTxn) -> Option<AbortedTxn> {
        txn.aborted.then(|| AbortedTxn {
            producer_id: txn.producer_id,
            first_offset: txn.first_offset,
            last_offset: txn.last_offset,
            last_stable_offset: self
                .ongoing
                .iter()
                .find(|&(_, &id)| id != txn.producer_id)
                .map_or(txn.last_offset + 1, |(&first, _)| first),
        })
    }

    /// Moves `txn` from ongoing to unreplicated.
    pub(super) fn complete(&mut self, txn: &CompletedTxn) {
        self.ongoing.remove(&txn.first_offset);
        self.unreplicated.insert(txn.first_offset, txn.last_offset);
    }

    /// Keeps 3.
    pub(super) fn on_high_watermark(&mut self, high_watermark: Offset) {
        self.unreplicated
            .retain(|_, &mut marker| marker >= high_watermark);
    }

    /// The log start offset was raised.
    pub(super) fn on_log_start(&mut self, log_start: Offset) {
        self.on_high_watermark(log_start);
        self.map_end_offset = self.map_end_offset.max(log_start);
    }

    /// First offset of the earliest transaction that is ongoing or unreplicated.
    pub(super) fn first_unstable_offset(&self) -> Option<Offset> {
        let ongoing = self.ongoing.first_key_value().map(|(&first, _)| first);
        let unreplicated = self.unreplicated.first_key_value().map(|(&first, _)| first);
        match (ongoing, unreplicated) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn is_expired(producer: &Producer, now: Millis, expiration: Millis) -> bool {
        producer.txn_first_offset.is_none() && now - producer.last_timestamp >= expiration
    }

    /// Forgets producers idle for `expiration` milliseconds that have no open transaction.
    pub(super) fn expire(&mut self, now: Millis, expiration: Millis) {
        self.producers
            .retain(|_, producer| !Self::is_expired(producer, now, expiration));
    }

    pub(super) fn active(&self) -> Vec<ActiveProducer> {
        self.producers
            .iter()
            .map(|(&producer_id, producer)| ActiveProducer {
                producer_id,
                producer_epoch: producer.epoch,
                last_sequence: producer.last_sequence(),
                last_timestamp: producer.last_timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                current_txn_first_offset: producer.txn_first_offset.unwrap_or(-1),
            })
            .collect()
    }

    /// The bytes of a snapshot file.
    fn encode(&self) -> Vec<u8> {
        let count = self.producers.len();
        let mut bytes = Vec::with_capacity(SNAPSHOT_HEADER + count * SNAPSHOT_ENTRY);
        bytes.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(count as i32).to_be_bytes());
        for (id, producer) in &self.producers {
            let last = producer.batches.last();
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.last_sequence().to_be_bytes());
            bytes.extend_from_slice(&last.map_or(-1, |b| b.last_offset).to_be_bytes());
            bytes.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
            bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.txn_first_offset.unwrap_or(-1).to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Adds the producers of a snapshot file, without those that expired; the error says what is
    /// wrong with the file, and then nothing was added.
    fn decode(&mut self, bytes: &[u8], now: Millis, expiration: Millis) -> Result<(), String> {
        let Some((header, entries)) = bytes.split_first_chunk::<SNAPSHOT_HEADER>() else {
            return Err(format!("Snapshot has only {} bytes", bytes.len()));
        };
        let version = i16::from_be_bytes([header[0], header[1]]);
        if version != SNAPSHOT_VERSION {
            return Err(format!(
                "Snapshot contained an unknown file version {version}"
            ));
        }
        let stored = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let computed = crc32c::crc32c(&bytes[6..]);
        if stored != computed {
            return Err(format!(
                "Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}"
            ));
        }
        let count = i32::from_be_bytes([header[6], header[7], header[8], header[9]]);
        let (chunks, _) = entries.as_chunks::<SNAPSHOT_ENTRY>();
        if usize::try_from(count).ok().is_none_or(|n| n > chunks.len()) {
            return Err(format!(
                "Snapshot announces {count} producers but has {}",
                chunks.len()
            ));
        }
        for entry in &chunks[..count as usize] {
            let long = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&entry[at..at + 8]);
                i64::from_be_bytes(bytes)
            };
            let int = |at: usize| {
                i32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
            };
            let (last_offset, txn_first) = (long(14), long(38));
            let mut producer = Producer {
                epoch: i16::from_be_bytes([entry[8], entry[9]]),
                coordinator_epoch: int(34),
                last_timestamp: long(26),
                txn_first_offset: (txn_first >= 0).then_some(txn_first),
                batches: SmallVec::new(),
            };
            if last_offset >= 0 {
                producer.batches.push(BatchMetadata {
                    last_sequence: int(10),
                    last_offset,
                    offset_delta: int(22),
                    timestamp: producer.last_timestamp,
                });
            }
            if !Self::is_expired(&producer, now, expiration) {
                if let Some(first) = producer.txn_first_offset {
                    self.ongoing.insert(first, long(0));
                }
                self.producers.insert(long(0), producer);
            }
        }
        Ok(())
    }
}

/// The `.snapshot` files of one partition.
#[derive(Debug, Default)]
pub(super) struct ProducerSnapshots {
    offsets: BTreeSet<Offset>,
    /// Offset of the last snapshot that was taken or loaded.
    last: Offset,
}

fn path(dir: &Path, offset: Offset) -> PathBuf {
    segment_file(dir, offset, SNAPSHOT_SUFFIX)
}

impl ProducerSnapshots {
    pub(super) fn new(offsets: BTreeSet<Offset>) -> Self {
        Self { offsets, last: 0 }
    }

    pub(super) fn newest(&self) -> Option<Offset> {
        self.offsets.last().copied()
    }

    /// Removes the snapshots that belong to no segment; the newest of them stays when it is
    /// beyond the last segment's base offset, for then a clean shutdown wrote it.
    pub(super) fn remove_strays(
        &mut self,
        fs: &Fs,
        dir: &Path,
        segment_bases: &BTreeSet<Offset>,
    ) -> FsResult<()> {
        let strays: Vec<Offset> = self.offsets.difference(segment_bases).copied().collect();
        let kept = strays
            .last()
            .filter(|&&stray| segment_bases.last().is_none_or(|&base| stray >= base));
        for stray in &strays {
            if Some(stray) != kept {
                self.remove(fs, dir, *stray)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, fs: &Fs, dir: &Path, offset: Offset) -> FsResult<()> {
        if self.offsets.remove(&offset) {
            fs.remove(&path(dir, offset))?;
        }
        Ok(())
    }

    /// Renames the snapshot at `offset` to `.deleted`; returns the new path if there was one.
    pub(super) fn mark_deleted(
        &mut self,
        fs: &Fs,
        dir: &Path,
        offset: Offset,
    ) -> FsResult<Option<PathBuf>> {
        if !self.offsets.remove(&offset) {
            return Ok(None);
        }
        let deleted = segment_file(dir, offset, ".snapshot.deleted");
        match fs.rename(&path(dir, offset), &deleted) {
            Ok(()) => Ok(Some(deleted)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn remove_all(&mut self, fs: &Fs, dir: &Path) -> FsResult<()> {
        for offset in std::mem::take(&mut self.offsets) {
            fs.remove(&path(dir, offset))?;
        }
        self.last = 0;
        Ok(())
    }

    /// Writes a snapshot at the state's end, unless there is one; returns its path. Without
    /// `sync` the caller sees to the fsync later.
    pub(super) fn take(
        &mut self,
        fs: &Fs,
        dir: &Path,
        state: &ProducerState,
        sync: bool,
    ) -> FsResult<Option<PathBuf>> {
        let offset = state.map_end_offset();
        if offset <= self.last {
            return Ok(None);
        }
        let path = path(dir, offset);
        let file = fs.open_or_create(&path)?;
        let bytes = state.encode();
        fs.set_len(&file, &path, bytes.len() as u64)?;
        fs.write_all_at(&file, &path, &[&bytes], 0)?;
        if sync {
            fs.sync(&file, &path)?;
        }
        tracing::debug!(
            target: "org.apache.kafka.storage.internals.log.ProducerStateManager",
            "Wrote producer snapshot at offset {offset} with {} producer ids.",
            state.len()
        );
        self.offsets.insert(offset);
        self.last = offset;
        Ok(Some(path))
    }

    /// Sets `state` to what the newest usable snapshot within (`log_start`, `log_end`] says, or to
    /// nothing at `log_start`. Snapshots outside and damaged ones are removed.
    pub(super) fn load(
        &mut self,
        (fs, dir): (&Fs, &Path),
        partition: &TopicPartition,
        (log_start, log_end): (Offset, Offset),
        (now, expiration): (Millis, Millis),
        state: &mut ProducerState,
    ) -> FsResult<()> {
        let outside: Vec<Offset> = self
            .offsets
            .iter()
            .copied()
            .filter(|&offset| offset > log_end || offset <= log_start)
            .collect();
        for offset in outside {
            self.remove(fs, dir, offset)?;
        }
        if log_end == state.map_end_offset() {
            state.on_log_start(log_start);
            self.last = self.newest().unwrap_or(log_start);
            return Ok(());
        }
        state.clear(log_start);
        while let Some(offset) = self.newest() {
            let path = path(dir, offset);
            let bytes = fs.read(&path)?.unwrap_or_default();
            match state.decode(&bytes, now, expiration) {
                Ok(()) => {
                    tracing::debug!(
                        target: "org.apache.kafka.storage.internals.log.ProducerStateManager",
                        "[ProducerStateManager partition={partition}] Loading producer state from snapshot file '{}'",
                        path.display()
                    );
                    state.set_map_end_offset(offset);
                    self.last = offset;
                    return Ok(());
                }
                Err(problem) => {
                    tracing::warn!(
                        target: "org.apache.kafka.storage.internals.log.ProducerStateManager",
                        "[ProducerStateManager partition={partition}] Failed to load producer snapshot from '{}': {problem}",
                        path.display()
                    );
                    self.remove(fs, dir, offset)?;
                }
            }
        }
        self.last = log_start;
        Ok(())
    }

    /// After the log start offset was raised, see [`ProducerState::on_log_start`].
    pub(super) fn on_log_start(&mut self, log_start: Offset) {
        self.last = self.newest().unwrap_or(log_start);
    }
}

#[cfg(test)]
mod tests;
