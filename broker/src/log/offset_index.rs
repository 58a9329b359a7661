//! `.index`: sparse map from offset to byte position of one segment (`OffsetIndex`).
//!
//! Entry, 8 bytes: int32 offset − base offset, int32 position. The offset is the **last** one of
//! the chunk appended at that position, so the batch that holds an offset starts at the position
//! of the last entry at or below it, or after.

use super::fs::FsResult;
use super::index_file::{IndexFile, Location};
use crate::types::Offset;

const ENTRY: usize = 8;

/// An entry: offset and byte position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetPosition {
    pub(super) offset: Offset,
    pub(super) position: u64,
}

#[derive(Debug)]
pub(super) struct OffsetIndex {
    base_offset: Offset,
    file: IndexFile<ENTRY>,
}

fn relative(entry: &[u8; ENTRY]) -> i32 {
    i32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])
}

fn position(entry: &[u8; ENTRY]) -> i32 {
    i32::from_be_bytes([entry[4], entry[5], entry[6], entry[7]])
}

impl OffsetIndex {
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
        self.file.entries() >= self.file.max_entries()
    }

    fn parse(&self, entry: &[u8; ENTRY]) -> OffsetPosition {
        OffsetPosition {
            offset: self.base_offset + i64::from(relative(entry)),
            position: u64::try_from(position(entry)).unwrap_or(0),
        }
    }

    fn start(&self) -> OffsetPosition {
        OffsetPosition {
            offset: self.base_offset,
            position: 0,
        }
    }

    /// The last entry, or (base offset, 0).
    pub(super) fn last(&self, at: &Location<'_>) -> FsResult<OffsetPosition> {
        match self.file.entries().checked_sub(1) {
            Some(n) => Ok(self.parse(&self.file.entry(at, n)?)),
            None => Ok(self.start()),
        }
    }

    /// The last entry at or below `offset`, or (base offset, 0).
    pub(super) fn lookup(&self, at: &Location<'_>, offset: Offset) -> FsResult<OffsetPosition> {
        Ok(self.lookup_both(at, offset)?.0)
    }

    /// As [`Self::lookup`], and the entry after it when it is at hand.
    pub(super) fn lookup_both(
        &self,
        at: &Location<'_>,
        offset: Offset,
    ) -> FsResult<(OffsetPosition, Option<OffsetPosition>)> {
        let target = offset - self.base_offset;
        let found = self
            .file
            .search(at, |entry| i64::from(relative(entry)) <= target)?;
        Ok(found.map_or((self.start(), None), |found| {
            (
                self.parse(&found.entry),
                found.next.map(|next| self.parse(&next)),
            )
        }))
    }

    /// The first entry at or beyond byte `end`: an offset that a read up to there does not hold.
    pub(super) fn first_beyond(
        &self,
        at: &Location<'_>,
        end: u64,
    ) -> FsResult<Option<OffsetPosition>> {
        let below = self
            .file
            .search(at, |entry| i64::from(position(entry)) < end as i64)?;
        let n = below.map_or(0, |found| found.n + 1);
        if n < self.file.entries() {
            Ok(Some(self.parse(&self.file.entry(at, n)?)))
        } else {
            Ok(None)
        }
    }

    /// Appends an entry for the batch at `position` whose last offset is `offset`. Offsets that
    /// do not fit 31 bits, or do not grow, get none.
    pub(super) fn append(
        &mut self,
        at: &Location<'_>,
        offset: Offset,
        position: u64,
    ) -> FsResult<()> {
        self.file.load(at)?;
        let last = self.last(at)?;
        if self.file.entries() > 0 && offset <= last.offset {
            return Ok(());
        }
        let (Ok(relative), Ok(position)) = (
            i32::try_from(offset - self.base_offset),
            i32::try_from(position),
        ) else {
            return Ok(());
        };
        let mut entry = [0; ENTRY];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&position.to_be_bytes());
        self.file.append(at, &entry)
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

    /// What the ends of the file tell about its health; `log_size` is the segment's, in bytes.
    pub(super) fn looks_right(&mut self, at: &Location<'_>, log_size: u64) -> FsResult<bool> {
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
            && position(&first) > 0
            && i64::from(position(&last)) < log_size as i64
            && (entries == 1
                || (relative(&last) > relative(&first) && position(&last) > position(&first))))
    }
}
