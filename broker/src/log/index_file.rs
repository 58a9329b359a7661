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
//! 4. Entries reach the file some at a time, at the latest when it is synced or cut: what a crash
//!    loses of them recovery makes again (Kafka's are in a mapping, which needs no calls).
//!
//! The last entries stay in memory, so that readers near the end of the log ask no file. Nothing
//! is opened before it is needed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fs::{Fs, FsResult};
use super::recent_block;

/// Entries read at once when a search has come near.
const BLOCK: usize = 512;

/// Entries in memory are cut to [`BLOCK`] when they reach twice that.
const TAIL_MAX: usize = 2 * BLOCK;

/// Entries that wait to be written together at most; far fewer than [`BLOCK`], so that they are in
/// memory. A write for each would be a tenth of what a batch of 16 KiB costs.
const UNWRITTEN_MAX: usize = 64;

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

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<const N: usize> {
    /// Number of the entry.
    pub(super) n: usize,
    pub(super) entry: [u8; N],
    /// The entry after it, when it was at hand.
    pub(super) next: Option<[u8; N]>,
}

/// The last of `entries`, the first of which has number `from`, among the first `count`.
fn last_of<const N: usize>(entries: &[[u8; N]], from: usize, count: usize) -> Option<Found<N>> {
    let n = count.checked_sub(1)?;
    Some(Found {
        n: from + n,
        entry: entries[n],
        next: entries.get(count).copied(),
    })
}

#[derive(Debug)]
struct Loaded {
    /// For [`recent_block`].
    id: u64,
    entries: usize,
    /// How many of them are in the file.
    written: usize,
    /// Length of the file.
    file_len: u64,
    /// The last entries, from `tail_from` on; all that are not in it are in the file.
    tail: Vec<u8>,
    tail_from: usize,
    /// Kept open while entries are appended, if there is room.
    file: Option<KeptOpen>,
}

/// Index files that are kept open, over all logs.
static KEPT_OPEN: AtomicUsize = AtomicUsize::new(0);

/// Thousands of partitions that each take two descriptors beside that of the log would use them up
/// (Kafka maps its indexes, which takes none). Those above are opened for each entry, which comes
/// once in `index.interval.bytes`.
const KEPT_OPEN_MAX: usize = if cfg!(test) { 16 } else { 2048 };

/// A file that counts in [`KEPT_OPEN`].
#[derive(Debug)]
struct KeptOpen(File);

impl KeptOpen {
    /// `None`, and the file is closed, when there are too many.
    fn new(file: File) -> Option<Self> {
        let kept = KEPT_OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            (kept < KEPT_OPEN_MAX).then_some(kept + 1)
        });
        kept.is_ok().then(|| Self(file))
    }
}

impl Drop for KeptOpen {
    fn drop(&mut self) {
        KEPT_OPEN.fetch_sub(1, Ordering::Relaxed);
    }
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
                id: recent_block::new_id(),
                entries: 0,
                written: 0,
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
                id: recent_block::new_id(),
                entries,
                written: entries,
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
            Some(file) => &file.0,
            None => {
                opened = at.fs.open(&at.path)?;
                &opened
            }
        };
        at.fs.read_at(file, &at.path, buffer, (n * N) as u64)?;
        Ok(())
    }

    /// The last entry for which `is_below_or_at` holds; it must hold for a prefix.
    pub(super) fn search(
        &self,
        at: &Location<'_>,
        is_below_or_at: impl Fn(&[u8; N]) -> bool,
    ) -> FsResult<Option<Found<N>>> {
        let Some(loaded) = &self.loaded else {
            return Ok(None);
        };
        let (tail, _) = loaded.tail.as_chunks::<N>();
        let count = tail.partition_point(&is_below_or_at);
        if count > 0 || loaded.tail_from == 0 {
            return Ok(last_of(tail, loaded.tail_from, count));
        }
        let remembered = recent_block::look(loaded.id, |from, block| {
            let (entries, _) = block.as_chunks::<N>();
            let count = entries.partition_point(&is_below_or_at);
            // Else the block before or after may hold it.
            let is_inside = (count > 0 || from == 0)
                && (count < entries.len() || from + count == loaded.tail_from);
            is_inside.then(|| last_of(entries, from, count))
        });
        if let Some(found) = remembered {
            return Ok(found);
        }
        let opened;
        let file = match &loaded.file {
            Some(file) => &file.0,
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
        block.truncate(read - read % N);
        let (entries, _) = block.as_chunks::<N>();
        let found = last_of(entries, low, entries.partition_point(&is_below_or_at));
        recent_block::remember(loaded.id, low, block);
        Ok(found)
    }

    /// Appends an entry; a full index stays as it is, lookups then walk further.
    pub(super) fn append(&mut self, at: &Location<'_>, entry: &[u8; N]) -> FsResult<()> {
        self.load(at)?;
        if self.entries() >= self.max_entries() {
            return Ok(());
        }
        let max_bytes = self.max_bytes;
        if self
            .loaded
            .as_ref()
            .is_some_and(|it| it.file_len != max_bytes)
        {
            self.resize(at, max_bytes)?;
        }
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        loaded.tail.extend_from_slice(entry);
        loaded.entries += 1;
        // The first one at once: `kafka-dump-log` takes zeros at the beginning for an entry.
        if loaded.written == 0 || loaded.entries - loaded.written >= UNWRITTEN_MAX {
            self.write(at)?;
        }
        if let Some(loaded) = &mut self.loaded
            && loaded.tail.len() >= TAIL_MAX * N
        {
            loaded.tail.drain(..BLOCK * N);
            loaded.tail_from += BLOCK;
        }
        Ok(())
    }

    /// Writes what is in memory only (keeps 4).
    fn write(&mut self, at: &Location<'_>) -> FsResult<()> {
        let Some(loaded) = &mut self.loaded else {
            return Ok(());
        };
        if loaded.written == loaded.entries {
            return Ok(());
        }
        let opened = match loaded.file {
            Some(_) => None,
            None => Some(at.fs.open_or_create(&at.path)?),
        };
        if let Some(file) = opened.as_ref().or(loaded.file.as_ref().map(|kept| &kept.0)) {
            let unwritten = &loaded.tail[(loaded.written - loaded.tail_from) * N..];
            let position = (loaded.written * N) as u64;
            at.fs.write_all_at(file, &at.path, &[unwritten], position)?;
            loaded.written = loaded.entries;
        }
        if let Some(opened) = opened {
            loaded.file = KeptOpen::new(opened);
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
            loaded.written = loaded.written.min(entries);
            loaded.id = recent_block::new_id();
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
        self.write(at)?;
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
        match &loaded.file {
            Some(file) => at.fs.set_len(&file.0, &at.path, len)?,
            None => {
                let file = at.fs.open_or_create(&at.path)?;
                at.fs.set_len(&file, &at.path, len)?;
            }
        }
        loaded.file_len = len;
        Ok(())
    }

    /// Removes all entries.
    pub(super) fn reset(&mut self, at: &Location<'_>) -> FsResult<()> {
        self.load(at)?;
        self.truncate_to_entries(at, 0)?;
        self.resize(at, 0)
    }

    pub(super) fn sync(&mut self, at: &Location<'_>) -> FsResult<()> {
        self.write(at)?;
        match self.loaded.as_ref().and_then(|loaded| loaded.file.as_ref()) {
            Some(file) => at.fs.sync(&file.0, &at.path),
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
                .map(|found| found.n)
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
    fn what_is_remembered_of_a_file_is_what_stands_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let at = location(&fs, dir.path());
        let mut index = IndexFile::<8>::new(1 << 20);
        for n in 0..3000u64 {
            index.append(&at, &(n * 10).to_be_bytes()).unwrap();
        }
        index.trim(&at).unwrap();
        let find = |index: &IndexFile<8>, target: u64| {
            let found = index.search(&at, |entry| u64::from_be_bytes(*entry) <= target);
            let number = |entry| u64::from_be_bytes(entry);
            let found = found.unwrap();
            found.map(|found| (found.n, number(found.entry), found.next.map(number)))
        };
        // Forwards, backwards and here and there.
        let targets = (0..3000)
            .chain((0..3000).rev())
            .chain((0..3000).map(|n| n * 1237 % 3000));
        for n in targets {
            let (at, entry, next) = find(&index, n * 10 + 5).unwrap();
            assert_eq!((at as u64, entry), (n, n * 10));
            assert!(next.is_none_or(|next| next == entry + 10));
        }
        // Cut and written anew: the same places hold other entries.
        assert_eq!(find(&index, 25_005).unwrap().1, 25_000);
        index.truncate_to_entries(&at, 2400).unwrap();
        for n in 2400..3000u64 {
            index.append(&at, &(n * 10 + 7).to_be_bytes()).unwrap();
        }
        index.trim(&at).unwrap();
        assert_eq!(find(&index, 25_005).unwrap().1, 24_997);
        index.reset(&at).unwrap();
        assert_eq!(find(&index, 25_005), None);
    }

    #[test]
    fn entries_are_found_before_they_are_written_and_are_written_before_the_file_is_synced_or_cut()
    {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let at = location(&fs, dir.path());
        let mut index = IndexFile::<8>::new(1 << 20);
        let entry = |n: u64| (n + 1).to_be_bytes();
        let in_file = |count: u64| {
            let bytes = std::fs::read(&at.path).unwrap_or_default();
            let (entries, _) = bytes.as_chunks::<8>();
            let written = entries.iter().take_while(|entry| **entry != [0; 8]);
            written.copied().eq((0..count).map(entry))
        };
        for n in 0..100 {
            index.append(&at, &entry(n)).unwrap();
            let found = index.search(&at, |_| true).unwrap().unwrap();
            assert_eq!((found.n as u64, found.entry), (n, entry(n)));
            assert!(in_file(1 + n / 64 * 64), "after entry {n}");
        }
        index.sync(&at).unwrap();
        assert!(in_file(100));
        for n in 100..110 {
            index.append(&at, &entry(n)).unwrap();
        }
        // One end lies among those that are in memory only, the other among those in the file.
        index.truncate_to_entries(&at, 105).unwrap();
        assert_eq!(index.entry(&at, 104).unwrap(), entry(104));
        index.sync(&at).unwrap();
        assert!(in_file(105));
        index.truncate_to_entries(&at, 90).unwrap();
        index.append(&at, &entry(90)).unwrap();
        index.trim(&at).unwrap();
        assert!(in_file(91));
        assert_eq!(fs.len(&at.path).unwrap(), Some(91 * 8));
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

    #[test]
    fn more_indexes_than_may_be_open_are_written_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let locations: Vec<_> = (0..KEPT_OPEN_MAX as i64 + 10)
            .map(|offset| Location {
                fs: &fs,
                path: segment_file(dir.path(), offset, ".index").into(),
            })
            .collect();
        let mut indexes: Vec<_> = locations.iter().map(|_| IndexFile::<8>::new(64)).collect();
        for turn in 1..3 {
            for (index, at) in indexes.iter_mut().zip(&locations) {
                index.append(at, &[turn; 8]).unwrap();
            }
        }
        let kept = |index: &&IndexFile<8>| {
            let loaded = index.loaded.as_ref();
            loaded.is_some_and(|loaded| loaded.file.is_some())
        };
        assert!(indexes.iter().filter(kept).count() <= KEPT_OPEN_MAX);
        for (index, at) in indexes.iter_mut().zip(&locations) {
            index.trim(at).unwrap();
            assert_eq!(std::fs::read(&at.path).unwrap(), [[1; 8], [2; 8]].concat());
        }
    }
}
