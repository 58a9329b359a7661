//! A file of fixed-width entries that only grows at its end: what `.index` and `.timeindex` share
//! (`AbstractIndex`).
//!
//! 1. The file of an active segment is set to its largest size (`segment.index.bytes`, rounded
//!    down to whole entries) before the first entry is written: a sparse file, the rest reads as
//!    zeros. It is cut to its entries when the segment rolls or closes.
//! 2. Of a file found on disk every slot counts as an entry: after a crash the zeros count too,
//!    which is why recovery rebuilds it.
//! 3. Plain writes, no mapping: a full disk is an error, not a signal.
//!
//! The last entries stay in memory, so that readers near the end of the log ask no file. Nothing
//! is opened before it is needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fs::{Fs, FsResult};

/// Entries read at once when a search has come near.
const BLOCK: usize = 512;

/// Entries in memory are cut to [`BLOCK`] when they reach twice that.
const TAIL_MAX: usize = 2 * BLOCK;

/// Where a segment's files are; the folder changes when the partition is renamed.
pub(super) struct Location<'a> {
    pub(super) fs: &'a Fs,
    pub(super) path: Arc<Path>,
}

#[derive(Debug)]
pub(super) struct IndexFile<const N: usize> {
    /// Bytes, a multiple of the entry size.
    max_bytes: u64,
    /// `None` until the file was looked at.
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    entries: usize,
    /// Length of the file.
    file_len: u64,
    /// The last entries, from `tail_from` on; all that are not in it are in the file.
    tail: Vec<u8>,
    tail_from: usize,
    /// Kept open while entries are appended.
    file: Option<File>,
}

impl<const N: usize> IndexFile<N> {
    pub(super) fn new(max_index_bytes: i32) -> Self {
        let max = u64::try_from(max_index_bytes).unwrap_or(0);
        Self {
            max_bytes: max - max % N as u64,
            loaded: None,
        }
    }

    /// An index whose file does not exist yet.
    pub(super) fn new_empty(max_index_bytes: i32) -> Self {
        Self {
            loaded: Some(Loaded {
                entries: 0,
                file_len: 0,
                tail: Vec::new(),
                tail_from: 0,
                file: None,
            }),
            ..Self::new(max_index_bytes)
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.is_some()
    }

    /// Looks at the file (keeps 2). An absent file has no entries.
    pub(super) fn load(&mut self, at: &Location<'_>) -> FsResult<()> {
        if self.loaded.is_none() {
            let file_len = at.fs.len(&at.path)?.unwrap_or(0);
            let entries = (file_len / N as u64) as usize;
            self.loaded = Some(Loaded {
                entries,
                file_len,
                tail: Vec::new(),
                tail_from: entries,
                file: None,
            });
        }
        Ok(())
    }

    /// Number of entries; 0 before [`Self::load`].
    pub(super) fn entries(&self) -> usize {
        self.loaded.as_ref().map_or(0, |loaded| loaded.entries)
    }

    /// Entries that fit into the largest size.
    pub(super) fn max_entries(&self) -> usize {
        (self.max_bytes / N as u64) as usize
    }

    /// Length of the file is no multiple of the entry size: it was damaged.
    pub(super) fn has_partial_entry(&self) -> bool {
        self.loaded
            .as_ref()
            .is_some_and(|loaded| loaded.file_len % N as u64 != 0)
    }

    /// The entry at `n`.
    pub(super) fn entry(&self, at: &Location<'_>, n: usize) -> FsResult<[u8; N]> {
        let mut entry = [0; N];
        self.read_entries(at, n, &mut entry)?;
        Ok(entry)
    }

    fn read_entries(&self, at: &Location<'_>, n: usize, buffer: &mut [u8]) -> FsResult<()> {
        let Some(loaded) = &self.loaded else {
            return Ok(());
        };
        if n >= loaded.tail_from {
            let from = (n - loaded.tail_from) * N;
            buffer.copy_from_slice(&loaded.tail[from..from + buffer.len()]);
            return Ok(());
        }
        let opened;
        let file = match &loaded.file {
            Some(file) => file,
            None => {
                opened = at.fs.open(&at.path)?;
                &opened
            }
        };
        at.fs.read_at(file, &at.path, buffer, (n * N) as u64)?;
        Ok(())
    }

    /// Index of the last entry for which `is_below_or_at` holds; it must hold for a prefix.
    pub(super) fn search(
        &self,
        at: &Location<'_>,
        is_below_or_at: impl Fn(&[u8; N]) -> bool,
    ) -> FsResult<Option<(usize, [u8; N])>> {
        let Some(loaded) = &self.loaded else {
            return Ok(None);
        };
        let in_block = |block: &[u8], from: usize| {
            let (entries, _) = block.as_chunks::<N>();
            let count = entries.partition_point(&is_below_or_at);
            count.checked_sub(1).map(|n| (from + n, entries[n]))
        };
        if let Some(found) = in_block(&loaded.tail, loaded.tail_from) {
            return Ok(Some(found));
        }
        if loaded.tail_from == 0 {
            return Ok(None);
        }
        let opened;
        let file = match &loaded.file {
            Some(file) => file,
            None => {
                opened = at.fs.open(&at.path)?;
                &opened
            }
        };
        let (mut low, mut high) = (0, loaded.tail_from);
        while high - low > BLOCK {
            let middle = low + (high - low) / 2;
            let mut entry = [0; N];
            at.fs
                .read_at(file, &at.path, &mut entry, (middle * N) as u64)?;
            if is_below_or_at(&entry) {
                low = middle;
            } else {
                high = middle;
            }
        }
        let mut block = vec![0; (high - low) * N];
        let read = at
            .fs
            .read_at(file, &at.path, &mut block, (low * N) as u64)?;
        Ok(in_block(&block[..read - read % N], low))
    }

    /// Appends an entry; a full index stays as it is, lookups then walk further.
    pub(super) fn append(&mut self, at: &Location<'_>, entry: &[u8; N]) -> FsResult<()> {
        self.load(at)?;
        let max_bytes = self.max_bytes;
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        let position = (loaded.entries * N) as u64;
        if position + N as u64 > max_bytes {
            return Ok(());
        }
        if loaded.file.is_none() {
            loaded.file = Some(at.fs.open_or_create(&at.path)?);
        }
        if let Some(file) = &loaded.file {
            if loaded.file_len != max_bytes {
                at.fs.set_len(file, &at.path, max_bytes)?;
                loaded.file_len = max_bytes;
            }
            at.fs.write_all_at(file, &at.path, &[entry], position)?;
        }
        loaded.tail.extend_from_slice(entry);
        loaded.entries += 1;
        if loaded.tail.len() >= TAIL_MAX * N {
            loaded.tail.drain(..BLOCK * N);
            loaded.tail_from += BLOCK;
        }
        Ok(())
    }

    /// Creates the file at its largest size, as Kafka has it for the active segment.
    pub(super) fn extend(&mut self, at: &Location<'_>) -> FsResult<()> {
        self.load(at)?;
        self.resize(at, self.max_bytes)
    }

    /// Keeps the first `entries`.
    pub(super) fn truncate_to_entries(
        &mut self,
        at: &Location<'_>,
        entries: usize,
    ) -> FsResult<()> {
        self.load(at)?;
        let file_len = (entries * N) as u64;
        if let Some(loaded) = &mut self.loaded
            && entries < loaded.entries
        {
            loaded.entries = entries;
            if entries < loaded.tail_from {
                loaded.tail.clear();
                loaded.tail_from = entries;
            } else {
                loaded.tail.truncate((entries - loaded.tail_from) * N);
            }
            // What follows must read as zeros again, should the file be extended.
            self.resize(at, file_len)?;
        }
        Ok(())
    }

    /// Cuts the file to its entries and lets go of it (keeps 1). Creates it when absent: Kafka
    /// takes a segment without `.index` for damaged.
    pub(super) fn trim(&mut self, at: &Location<'_>) -> FsResult<()> {
        self.load(at)?;
        let len = (self.entries() * N) as u64;
        self.resize(at, len)?;
        if let Some(loaded) = &mut self.loaded {
            loaded.file = None;
            loaded.tail = Vec::new();
            loaded.tail_from = loaded.entries;
        }
        Ok(())
    }

    fn resize(&mut self, at: &Location<'_>, len: u64) -> FsResult<()> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        let exists = loaded.file.is_some() || at.fs.len(&at.path)?.is_some();
        if exists && loaded.file_len == len {
            return Ok(());
        }
        if loaded.file.is_none() {
            loaded.file = Some(at.fs.open_or_create(&at.path)?);
        }
        if let Some(file) = &loaded.file {
            at.fs.set_len(file, &at.path, len)?;
            loaded.file_len = len;
        }
        Ok(())
    }

    /// Removes all entries.
    pub(super) fn reset(&mut self, at: &Location<'_>) -> FsResult<()> {
        self.load(at)?;
        self.truncate_to_entries(at, 0)?;
        self.resize(at, 0)
    }

    pub(super) fn sync(&self, at: &Location<'_>) -> FsResult<()> {
        match self.loaded.as_ref().and_then(|loaded| loaded.file.as_ref()) {
            Some(file) => at.fs.sync(file, &at.path),
            None => at.fs.sync_path_if_exists(&at.path),
        }
    }

    /// Forgets what is known of the file, so that the next use looks again.
    pub(super) fn unload(&mut self) {
        self.loaded = None;
    }
}

/// `<dir>/<offset as 20 digits><suffix>`.
pub(super) fn segment_file(dir: &Path, offset: i64, suffix: &str) -> PathBuf {
    dir.join(format!("{offset:020}{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location<'a>(fs: &'a Fs, dir: &Path) -> Location<'a> {
        Location {
            fs,
            path: segment_file(dir, 7, ".index").into(),
        }
    }

    #[test]
    fn active_file_is_sparse_at_its_largest_size_and_trimmed_after() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let at = location(&fs, dir.path());
        let mut index = IndexFile::<8>::new(1 << 20);
        index.append(&at, &[1; 8]).unwrap();
        assert_eq!(fs.len(&at.path).unwrap(), Some(1 << 20));
        index.trim(&at).unwrap();
        assert_eq!(std::fs::read(&at.path).unwrap(), [1; 8]);
        let mut index = IndexFile::<8>::new(1 << 20);
        index.load(&at).unwrap();
        assert_eq!(index.entries(), 1);
        index.append(&at, &[2; 8]).unwrap();
        assert_eq!(index.entry(&at, 0).unwrap(), [1; 8]);
        assert_eq!(index.entry(&at, 1).unwrap(), [2; 8]);
    }

    #[test]
    fn search_finds_the_same_in_memory_and_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let at = location(&fs, dir.path());
        let mut index = IndexFile::<8>::new(1 << 20);
        for n in 0..3000u64 {
            index.append(&at, &(n * 10).to_be_bytes()).unwrap();
        }
        let mut from_disk = IndexFile::<8>::new(1 << 20);
        let find = |index: &IndexFile<8>, target: u64| {
            index
                .search(&at, |entry| u64::from_be_bytes(*entry) <= target)
                .unwrap()
                .map(|(n, _)| n)
        };
        index.trim(&at).unwrap();
        from_disk.load(&at).unwrap();
        for n in 3000..4000u64 {
            index.append(&at, &(n * 10).to_be_bytes()).unwrap();
            from_disk.append(&at, &(n * 10).to_be_bytes()).unwrap();
        }
        for target in [0, 5, 10, 5119, 5120, 29_989, 29_990, 30_001, 39_990, 99_999] {
            let expect = Some((target / 10).min(3999) as usize);
            assert_eq!(find(&index, target), expect);
            assert_eq!(find(&from_disk, target), expect);
        }
        index.truncate_to_entries(&at, 100).unwrap();
        assert_eq!(find(&index, 99_999), Some(99));
        index.reset(&at).unwrap();
        assert_eq!(find(&index, 99_999), None);
    }

    #[test]
    fn a_full_index_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let at = location(&fs, dir.path());
        let mut index = IndexFile::<8>::new(20);
        assert_eq!(index.max_entries(), 2);
        for n in 0..5u64 {
            index.append(&at, &n.to_be_bytes()).unwrap();
        }
        assert_eq!(index.entries(), 2);
    }
}
