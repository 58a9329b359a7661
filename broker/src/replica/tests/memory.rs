//! Logs in memory, as a fetcher's core writes them.

use std::collections::HashMap;

use crate::log::EpochEndOffset;
use crate::log::leader_epochs::LeaderEpochs;
use crate::replica::fetcher::core::{Followed, FollowerLogs, LeaderData, LogFailure};
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// Bytes of one entry: offset, epoch, value.
const ENTRY: usize = 20;

/// One record; each is a batch of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replica) struct Entry {
    pub(in crate::replica) epoch: LeaderEpoch,
    pub(in crate::replica) value: u64,
}

/// A log in memory.
#[derive(Debug, Clone, Default)]
pub(in crate::replica) struct MemoryLog {
    pub(in crate::replica) start: Offset,
    pub(in crate::replica) entries: Vec<Entry>,
    pub(in crate::replica) high_watermark: Offset,
    pub(in crate::replica) epochs: LeaderEpochs,
    /// A known bug (KAFKA-10706), on purpose: a cut leaves the epochs beyond it.
    pub(in crate::replica) keeps_epochs: bool,
}

impl MemoryLog {
    /// With entries of these epochs from offset 0; the value is the offset.
    pub(in crate::replica) fn of(epochs: &[LeaderEpoch]) -> Self {
        let mut log = Self::default();
        for (value, &epoch) in epochs.iter().enumerate() {
            log.append(Entry {
                epoch,
                value: value as u64,
            });
        }
        log
    }

    pub(in crate::replica) fn end(&self) -> Offset {
        self.start + self.entries.len() as Offset
    }

    pub(in crate::replica) fn get(&self, offset: Offset) -> Option<Entry> {
        let index = usize::try_from(offset - self.start).ok()?;
        self.entries.get(index).copied()
    }

    pub(in crate::replica) fn append(&mut self, entry: Entry) {
        self.epochs.assign(entry.epoch, self.end());
        self.entries.push(entry);
    }

    pub(in crate::replica) fn end_of(&self, epoch: LeaderEpoch) -> EpochEndOffset {
        self.epochs.end_offset_for(epoch, self.end())
    }

    pub(in crate::replica) fn truncate_to(&mut self, offset: Offset) {
        let keep = usize::try_from(offset - self.start).unwrap_or(0);
        self.entries.truncate(keep);
        self.high_watermark = self.high_watermark.min(self.end());
        if !self.keeps_epochs {
            self.epochs.truncate_from_end(self.end());
        }
    }

    pub(in crate::replica) fn advance_high_watermark(&mut self, to: Offset) {
        self.high_watermark = self.high_watermark.max(to.min(self.end()));
    }

    /// What a Fetch answers from `offset` up to `end`.
    pub(in crate::replica) fn read(&self, offset: Offset, max_entries: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for offset in (offset..self.end()).take(max_entries) {
            let entry = self.get(offset).unwrap();
            bytes.extend(offset.to_be_bytes());
            bytes.extend(entry.epoch.to_be_bytes());
            bytes.extend(entry.value.to_be_bytes());
        }
        bytes
    }
}

/// Logs by partition. A damaged batch is one whose bytes do not divide.
#[derive(Debug, Clone, Default)]
pub(in crate::replica) struct MemoryLogs(pub(in crate::replica) HashMap<TopicPartition, MemoryLog>);

impl MemoryLogs {
    fn log(&mut self, partition: &TopicPartition) -> Result<&mut MemoryLog, LogFailure> {
        self.0.get_mut(partition).ok_or(LogFailure::Failed)
    }
}

impl FollowerLogs for MemoryLogs {
    fn bounds(&self, partition: &TopicPartition) -> Option<(Offset, Offset)> {
        self.0.get(partition).map(|log| (log.start, log.end()))
    }

    fn latest_epoch(&self, partition: &TopicPartition) -> Option<LeaderEpoch> {
        self.0.get(partition)?.epochs.latest()
    }

    fn end_offset_for_epoch(
        &self,
        partition: &TopicPartition,
        epoch: LeaderEpoch,
    ) -> EpochEndOffset {
        self.0[partition].end_of(epoch)
    }

    fn truncate_to(
        &mut self,
        partition: &TopicPartition,
        _: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        self.log(partition)?.truncate_to(offset);
        Ok(())
    }

    fn truncate_fully_and_start_at(
        &mut self,
        partition: &TopicPartition,
        _: LeaderEpoch,
        offset: Offset,
    ) -> Result<(), LogFailure> {
        let log = self.log(partition)?;
        *log = MemoryLog {
            start: offset,
            high_watermark: offset,
            keeps_epochs: log.keeps_epochs,
            ..MemoryLog::default()
        };
        Ok(())
    }

    fn append(
        &mut self,
        partition: &TopicPartition,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        data: LeaderData<'_>,
    ) -> Result<Followed, LogFailure> {
        let log = self.log(partition)?;
        if log.end() != fetch_offset {
            return Err(LogFailure::Failed);
        }
        if !data.records.len().is_multiple_of(ENTRY) {
            return Err(LogFailure::Corrupt);
        }
        for bytes in data.records.chunks(ENTRY) {
            let offset = i64::from_be_bytes(bytes[..8].try_into().unwrap());
            let epoch = i32::from_be_bytes(bytes[8..12].try_into().unwrap());
            let value = u64::from_be_bytes(bytes[12..].try_into().unwrap());
            if offset != log.end() {
                return Err(LogFailure::Failed);
            }
            if epoch > leader_epoch {
                break;
            }
            log.append(Entry { epoch, value });
        }
        log.advance_high_watermark(data.high_watermark);
        if data.log_start_offset > log.start && data.log_start_offset <= log.high_watermark {
            let gone = (data.log_start_offset - log.start) as usize;
            log.entries.drain(..gone);
            log.start = data.log_start_offset;
            log.epochs.truncate_from_start(log.start);
        }
        Ok(Followed {
            log_end_offset: log.end(),
            last_epoch: log.epochs.latest(),
        })
    }
}
