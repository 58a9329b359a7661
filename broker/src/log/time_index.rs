//! `.timeindex`: sparse map from timestamp to offset of one segment (`TimeIndex`).
//!
//! Entry, 12 bytes: int64 timestamp, int32 offset − base offset: the largest timestamp up to
//! there, and the last offset of the batch that has it. Timestamps increase strictly. The last slot
//! is kept free for the entry that a roll or a close adds.

use super::fs::FsResult;
use super::index_file::{IndexFile, Location};
use crate::types::{Millis, Offset};

const ENTRY: usize = 12;

/// An entry: a timestamp and an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimestampPosition {
    pub(super) timestamp: Millis,
    pub(super) offset: Offset,
}

#[derive(Debug)]
pub(super) struct TimeIndex {
    base_offset: Offset,
    file: IndexFile<ENTRY>,
}

fn timestamp(entry: &[u8; ENTRY]) -> Millis {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&entry[..8]);
    i64::from_be_bytes(bytes)
}

fn relative(entry: &[u8; ENTRY]) -> i32 {
    i32::from_be_bytes([entry[8], entry[9], entry[10], entry[11]])
}

impl TimeIndex {
    pub(super) fn new(base_offset: Offset, max_index_bytes: i32) -> Self {
        Self {
            base_offset,
            file: IndexFile::new(max_index_bytes),
        }
    }

    pub(super) fn new_empty(base_offset: Offset, max_index_bytes: i32) -> Self {
        Self {
            base_offset,
            file: IndexFile::new_empty(max_index_bytes),
        }
    }

    pub(super) fn file(&mut self) -> &mut IndexFile<ENTRY> {
        &mut self.file
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.file.is_loaded()
    }

    pub(super) fn is_full(&self) -> bool {
        self.file.entries() + 1 >= self.file.max_entries()
    }

    fn parse(&self, entry: &[u8; ENTRY]) -> TimestampPosition {
        TimestampPosition {
            timestamp: timestamp(entry),
            offset: self.base_offset + i64::from(relative(entry)),
        }
    }

    fn start(&self) -> TimestampPosition {
        TimestampPosition {
            timestamp: -1,
            offset: self.base_offset,
        }
    }

    /// The last entry, or (−1, base offset).
    pub(super) fn last(&self, at: &Location<'_>) -> FsResult<TimestampPosition> {
        match self.file.entries().checked_sub(1) {
            Some(n) => Ok(self.parse(&self.file.entry(at, n)?)),
            None => Ok(self.start()),
        }
    }

    /// The last entry at or below `target`, or (−1, base offset).
    pub(super) fn lookup(&self, at: &Location<'_>, target: Millis) -> FsResult<TimestampPosition> {
        let found = self.file.search(at, |entry| timestamp(entry) <= target)?;
        Ok(found.map_or(self.start(), |found| self.parse(&found.entry)))
    }

    /// Appends an entry when its timestamp is larger than the last one's. `into_reserve` may use
    /// the slot kept free.
    pub(super) fn append(
        &mut self,
        at: &Location<'_>,
        entry: TimestampPosition,
        into_reserve: bool,
    ) -> FsResult<()> {
        self.file.load(at)?;
        let last = self.last(at)?;
        let Ok(relative) = i32::try_from(entry.offset - self.base_offset) else {
            return Ok(());
        };
        if entry.timestamp <= last.timestamp || (self.is_full() && !into_reserve) {
            return Ok(());
        }
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&relative.to_be_bytes());
        self.file.append(at, &bytes)
    }

    /// Removes the entries at or beyond `offset`.
    pub(super) fn truncate_to(&mut self, at: &Location<'_>, offset: Offset) -> FsResult<()> {
        self.file.load(at)?;
        let target = offset - self.base_offset;
        let below = self
            .file
            .search(at, |entry| i64::from(relative(entry)) < target)?;
        self.file
            .truncate_to_entries(at, below.map_or(0, |found| found.n + 1))
    }

    /// What the ends of the file tell about its health.
    pub(super) fn looks_right(&mut self, at: &Location<'_>) -> FsResult<bool> {
        self.file.load(at)?;
        let entries = self.file.entries();
        if self.file.has_partial_entry() {
            return Ok(false);
        }
        if entries == 0 {
            return Ok(true);
        }
        let first = self.file.entry(at, 0)?;
        let last = self.file.entry(at, entries - 1)?;
        Ok(relative(&first) >= 0
            && relative(&last) >= relative(&first)
            && timestamp(&first) >= 0
            && (entries == 1 || timestamp(&last) > timestamp(&first)))
    }
}
