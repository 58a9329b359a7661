//! `.txnindex`: the aborted transactions that end in one segment (`TransactionIndex`).
//!
//! Entry, 34 bytes: int16 version 0, int64 producer id, int64 first offset, int64 last offset (of
//! the abort marker), int64 last stable offset at the time; last offsets increase. The file
//! exists once a transaction was aborted.

use std::path::Path;

use super::fs::{Fs, FsResult};
use crate::types::{Offset, ProducerId};

const ENTRY: usize = 34;

/// One aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AbortedTxn {
    pub(super) producer_id: ProducerId,
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    pub(super) last_stable_offset: Offset,
}

impl AbortedTxn {
    fn encode(&self) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        entry[2..10].copy_from_slice(&self.producer_id.to_be_bytes());
        entry[10..18].copy_from_slice(&self.first_offset.to_be_bytes());
        entry[18..26].copy_from_slice(&self.last_offset.to_be_bytes());
        entry[26..].copy_from_slice(&self.last_stable_offset.to_be_bytes());
        entry
    }

    fn decode(entry: &[u8; ENTRY]) -> Option<Self> {
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            i64::from_be_bytes(bytes)
        };
        (i16::from_be_bytes([entry[0], entry[1]]) == 0).then(|| Self {
            producer_id: long(2),
            first_offset: long(10),
            last_offset: long(18),
            last_stable_offset: long(26),
        })
    }
}

/// The index of one segment. Entries are few, so they stay in memory once read.
#[derive(Debug, Default)]
pub(super) struct TxnIndex {
    /// `None` until the file was read.
    entries: Option<Vec<AbortedTxn>>,
}

impl TxnIndex {
    pub(super) fn new_empty() -> Self {
        Self {
            entries: Some(Vec::new()),
        }
    }

    /// All entries in order. A torn or unknown entry ends the list.
    pub(super) fn entries(&mut self, fs: &Fs, path: &Path) -> FsResult<&[AbortedTxn]> {
        if self.entries.is_none() {
            let bytes = fs.read(path)?.unwrap_or_default();
            let (chunks, _) = bytes.as_chunks::<ENTRY>();
            self.entries = Some(chunks.iter().map_while(AbortedTxn::decode).collect());
        }
        Ok(self.entries.as_deref().unwrap_or_default())
    }

    /// Every byte belongs to an entry, entries are in order and none ends before `base_offset`.
    pub(super) fn looks_right(
        &mut self,
        fs: &Fs,
        path: &Path,
        base_offset: Offset,
    ) -> FsResult<bool> {
        let Some(len) = fs.len(path)? else {
            return Ok(true);
        };
        let entries = self.entries(fs, path)?;
        Ok((entries.len() * ENTRY) as u64 == len
            && entries
                .iter()
                .all(|txn| txn.last_offset >= base_offset && txn.first_offset <= txn.last_offset)
            && entries.is_sorted_by(|a, b| a.last_offset < b.last_offset))
    }

    pub(super) fn append(&mut self, fs: &Fs, path: &Path, txn: AbortedTxn) -> FsResult<()> {
        let at = (self.entries(fs, path)?.len() * ENTRY) as u64;
        let file = fs.open_or_create(path)?;
        fs.write_all_at(&file, path, &[&txn.encode()], at)?;
        if let Some(entries) = &mut self.entries {
            entries.push(txn);
        }
        Ok(())
    }

    /// Removes the transactions that end at or beyond `offset`.
    pub(super) fn truncate_to(&mut self, fs: &Fs, path: &Path, offset: Offset) -> FsResult<()> {
        let entries = self.entries(fs, path)?;
        let keep = entries.partition_point(|txn| txn.last_offset < offset);
        if keep < entries.len() {
            let file = fs.open(path)?;
            fs.set_len(&file, path, (keep * ENTRY) as u64)?;
            if let Some(entries) = &mut self.entries {
                entries.truncate(keep);
            }
        }
        Ok(())
    }

    /// Removes everything; the file, if there is one, stays, empty.
    pub(super) fn reset(&mut self, fs: &Fs, path: &Path) -> FsResult<()> {
        if fs.len(path)?.is_some_and(|len| len > 0) {
            let file = fs.open(path)?;
            fs.set_len(&file, path, 0)?;
        }
        self.entries = Some(Vec::new());
        Ok(())
    }

    /// Adds to `out` the transactions that overlap [`from`, `to`). True when no later segment can
    /// hold another one.
    pub(super) fn collect(
        &mut self,
        fs: &Fs,
        path: &Path,
        (from, to): (Offset, Offset),
        out: &mut Vec<AbortedTxn>,
    ) -> FsResult<bool> {
        for txn in self.entries(fs, path)? {
            if txn.last_offset >= from && txn.first_offset < to {
                out.push(*txn);
            }
            if txn.last_stable_offset >= to {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(producer_id: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
        AbortedTxn {
            producer_id,
            first_offset: first,
            last_offset: last,
            last_stable_offset: stable,
        }
    }

    #[test]
    fn round_trip_truncate_and_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00000000000000000000.txnindex");
        let fs = Fs::default();
        let mut index = TxnIndex::new_empty();
        assert!(index.looks_right(&fs, &path, 0).unwrap());
        let all = [txn(1, 0, 10, 11), txn(2, 5, 20, 21), txn(3, 22, 30, 31)];
        for entry in all {
            index.append(&fs, &path, entry).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 * 34);
        assert_eq!(TxnIndex::default().entries(&fs, &path).unwrap(), all);
        for cut in 1..34 {
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            let mut torn = TxnIndex::default();
            assert!(!torn.looks_right(&fs, &path, 0).unwrap());
            assert_eq!(torn.entries(&fs, &path).unwrap(), &all[..2]);
        }
        std::fs::write(&path, &bytes).unwrap();
        let mut index = TxnIndex::default();
        index.truncate_to(&fs, &path, 20).unwrap();
        assert_eq!(TxnIndex::default().entries(&fs, &path).unwrap(), &all[..1]);
        index.reset(&fs, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 0);
    }

    #[test]
    fn collect_takes_overlaps_and_knows_when_it_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let fs = Fs::default();
        let mut index = TxnIndex::new_empty();
        for entry in [txn(1, 0, 10, 11), txn(2, 5, 20, 12), txn(3, 22, 30, 31)] {
            index.append(&fs, &path, entry).unwrap();
        }
        let mut check = |range, producers: &[i64], done| {
            let mut out = Vec::new();
            assert_eq!(index.collect(&fs, &path, range, &mut out).unwrap(), done);
            let found: Vec<_> = out.iter().map(|txn| txn.producer_id).collect();
            assert_eq!(found, producers, "{range:?}");
        };
        check((0, 5), &[1], true);
        check((0, 12), &[1, 2], true);
        check((11, 25), &[2, 3], true);
        check((0, 100), &[1, 2, 3], false);
        check((31, 100), &[], false);
    }
}
