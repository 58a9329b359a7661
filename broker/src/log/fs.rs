//! The one door to the file system for everything that is data. Tests open the same door with a
//! [`Faults`] behind it, which makes any operation fail, or a write stop short.
//!
//! 1. A write either wrote every byte or is an error: short writes are continued.
//! 2. Every error carries the path it is about.
//! 3. A replaced file is complete: temp file, fsync, rename, fsync of the directory.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FallocateFlags;

/// Parts of one write: what changes of a batch, and what is written as it came.
const MAX_PARTS: usize = 2;

/// Bytes of parts that are copied together: cheaper than to hand the kernel a vector.
const GATHER_MAX: usize = 512;

/// What is asked of the file system; a [`Faults`] decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Open,
    Read,
    Write,
    SetLen,
    Sync,
    SyncDir,
    Rename,
    Remove,
    List,
    CreateDir,
}

/// What becomes of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// Fails with this `errno`.
    Fail(i32),
    /// A write of which the kernel takes only so many bytes at once.
    Short(usize),
}

/// Injects failures. Without one (`Fs::default`) everything proceeds.
pub trait Faults: Send + Sync {
    fn verdict(&self, op: Op, path: &Path) -> Verdict;
}

/// An I/O error and the path it is about.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct FsError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl FsError {
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

pub(super) type FsResult<T> = Result<T, FsError>;

/// Handle on the file system.
#[derive(Clone, Default)]
pub struct Fs {
    faults: Option<Arc<dyn Faults>>,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fs(faults: {})", self.faults.is_some())
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> FsResult<T> {
    result.map_err(|source| FsError {
        path: path.to_path_buf(),
        source,
    })
}

impl Fs {
    /// The faulty twin.
    pub fn with_faults(faults: Arc<dyn Faults>) -> Self {
        Self {
            faults: Some(faults),
        }
    }

    /// The bytes a write may take at once; `usize::MAX` normally.
    fn ask(&self, op: Op, path: &Path) -> FsResult<usize> {
        match self.faults.as_ref().map(|faults| faults.verdict(op, path)) {
            None | Some(Verdict::Proceed) => Ok(usize::MAX),
            Some(Verdict::Short(bytes)) => Ok(bytes.max(1)),
            Some(Verdict::Fail(errno)) => at(path, Err(io::Error::from_raw_os_error(errno))),
        }
    }

    pub(super) fn open(&self, path: &Path) -> FsResult<File> {
        self.ask(Op::Open, path)?;
        at(path, OpenOptions::new().read(true).write(true).open(path))
    }

    /// Opens for reading and writing, creating it empty when absent.
    pub(super) fn open_or_create(&self, path: &Path) -> FsResult<File> {
        self.ask(Op::Open, path)?;
        at(
            path,
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path),
        )
    }

    /// Length in bytes, or `None` when there is no such file.
    pub(super) fn len(&self, path: &Path) -> FsResult<Option<u64>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => at(path, Err(error)),
        }
    }

    pub(super) fn file_len(&self, file: &File, path: &Path) -> FsResult<u64> {
        at(path, file.metadata().map(|metadata| metadata.len()))
    }

    /// Milliseconds since the epoch of the last modification.
    pub(super) fn modified(&self, path: &Path) -> FsResult<i64> {
        let time = at(path, std::fs::metadata(path).and_then(|m| m.modified()))?;
        Ok(time
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }))
    }

    /// Fills `buffer` from `position` as far as the file goes; returns the bytes read.
    pub(super) fn read_at(
        &self,
        file: &File,
        path: &Path,
        buffer: &mut [u8],
        position: u64,
    ) -> FsResult<usize> {
        self.ask(Op::Read, path)?;
        let mut done = 0;
        while done < buffer.len() {
            let read = rustix::io::pread(file, &mut buffer[done..], position + done as u64);
            match read.map_err(io::Error::from) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return at(path, Err(error)),
            }
        }
        Ok(done)
    }

    /// The whole file, or `None` when there is no such file.
    pub(super) fn read(&self, path: &Path) -> FsResult<Option<Vec<u8>>> {
        self.ask(Op::Read, path)?;
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => at(path, Err(error)),
        }
    }

    /// Writes all parts, at most [`MAX_PARTS`] and one after the other, from `position` on: normally one
    /// `pwrite`, or one `pwritev` when they are more than a little.
    pub(super) fn write_all_at(
        &self,
        file: &File,
        path: &Path,
        parts: &[&[u8]],
        position: u64,
    ) -> FsResult<()> {
        if let [part] = parts {
            return self.write_part_at(file, path, part, position);
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > GATHER_MAX {
            return self.write_parts_at(file, path, parts, position);
        }
        let mut gathered = [0; GATHER_MAX];
        let mut at = 0;
        for part in parts {
            gathered[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.write_part_at(file, path, &gathered[..len], position)
    }

    fn write_part_at(
        &self,
        file: &File,
        path: &Path,
        mut part: &[u8],
        mut position: u64,
    ) -> FsResult<()> {
        while !part.is_empty() {
            let limit = self.ask(Op::Write, path)?;
            let once = &part[..part.len().min(limit)];
            match rustix::io::pwrite(file, once, position).map_err(io::Error::from) {
                Ok(0) => return at(path, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    position += n as u64;
                    part = &part[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return at(path, Err(error)),
            }
        }
        Ok(())
    }

    fn write_parts_at(
        &self,
        file: &File,
        path: &Path,
        parts: &[&[u8]],
        mut position: u64,
    ) -> FsResult<()> {
        let mut slices = [IoSlice::new(&[]); MAX_PARTS];
        assert!(parts.len() <= MAX_PARTS, "{} parts", parts.len());
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let mut rest = &mut slices[..parts.len()];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let limit = self.ask(Op::Write, path)?;
            let result = if limit == usize::MAX {
                rustix::io::pwritev(file, rest, position).map_err(io::Error::from)
            } else {
                let first = &rest[0][..rest[0].len().min(limit)];
                rustix::io::pwrite(file, first, position).map_err(io::Error::from)
            };
            match result {
                Ok(0) => return at(path, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    position += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return at(path, Err(error)),
            }
        }
        Ok(())
    }

    pub(super) fn set_len(&self, file: &File, path: &Path, len: u64) -> FsResult<()> {
        self.ask(Op::SetLen, path)?;
        at(path, file.set_len(len))
    }

    /// Reserves blocks without changing the length. A file system that cannot is no error: the
    /// reservation only saves work later.
    pub(super) fn reserve(&self, file: &File, position: u64, len: u64) -> bool {
        rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, position, len).is_ok()
    }

    pub(super) fn sync(&self, file: &File, path: &Path) -> FsResult<()> {
        self.ask(Op::Sync, path)?;
        at(path, file.sync_all())
    }

    /// fsync of a file by name; an absent file is fine (it was deleted meanwhile).
    pub(super) fn sync_path_if_exists(&self, path: &Path) -> FsResult<()> {
        self.ask(Op::Sync, path)?;
        match File::open(path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => at(path, result),
        }
    }

    /// fsync of a directory, so that names in it survive; absent is fine, as above.
    pub(super) fn sync_dir(&self, path: &Path) -> FsResult<()> {
        self.ask(Op::SyncDir, path)?;
        match File::open(path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => at(path, result),
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> FsResult<()> {
        self.ask(Op::Rename, from)?;
        at(from, std::fs::rename(from, to))
    }

    /// Removes a file; returns whether it was there.
    pub(super) fn remove(&self, path: &Path) -> FsResult<bool> {
        self.ask(Op::Remove, path)?;
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => at(path, Err(error)),
        }
    }

    /// Removes a directory and what is in it; absent is fine.
    pub(super) fn remove_dir(&self, path: &Path) -> FsResult<()> {
        self.ask(Op::Remove, path)?;
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => at(path, result),
        }
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> FsResult<()> {
        self.ask(Op::CreateDir, path)?;
        at(path, std::fs::create_dir_all(path))
    }

    /// Names in a directory, sorted; with `dirs` the sub-directories, else the plain files.
    /// Names that are not UTF-8 cannot be ours and are left out.
    pub(super) fn list(&self, path: &Path, dirs: bool) -> FsResult<Vec<String>> {
        self.ask(Op::List, path)?;
        let mut names = Vec::new();
        for entry in at(path, std::fs::read_dir(path))? {
            let entry = at(path, entry)?;
            let kind = at(&entry.path(), entry.file_type())?;
            // A symbolic link to a directory is a partition moved by hand; Kafka follows it too.
            let is_dir = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
            if is_dir == dirs
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Puts `bytes` in place of the file at `path` (keeps 3).
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> FsResult<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temp = PathBuf::from(name);
        let file = self.open_or_create(&temp)?;
        self.set_len(&file, &temp, 0)?;
        self.write_all_at(&file, &temp, &[bytes], 0)?;
        self.sync(&file, &temp)?;
        self.rename(&temp, path)?;
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use parking_lot::Mutex;

    type Pick = Box<dyn FnMut(Op, &Path) -> Verdict + Send>;

    /// Fails the operations that a predicate picks.
    struct Picked(Mutex<Pick>);

    impl Faults for Picked {
        fn verdict(&self, op: Op, path: &Path) -> Verdict {
            (self.0.lock())(op, path)
        }
    }

    pub(in crate::log) fn faulty(pick: impl FnMut(Op, &Path) -> Verdict + Send + 'static) -> Fs {
        Fs::with_faults(Arc::new(Picked(Mutex::new(Box::new(pick)))))
    }

    #[test]
    fn short_writes_are_continued_to_the_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let fs = faulty(|op, _| match op {
            Op::Write => Verdict::Short(3),
            _ => Verdict::Proceed,
        });
        let file = fs.open_or_create(&path).unwrap();
        fs.write_all_at(&file, &path, &[b"", b"hello world"], 2)
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0hello world");
    }

    #[test]
    fn a_failed_replace_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint");
        std::fs::write(&path, "old").unwrap();
        for failing in [Op::Write, Op::Sync, Op::Rename] {
            let fs = faulty(move |op, _| {
                if op == failing {
                    Verdict::Fail(5)
                } else {
                    Verdict::Proceed
                }
            });
            assert!(fs.replace(&path, b"new").is_err());
            assert_eq!(std::fs::read(&path).unwrap(), b"old");
        }
        Fs::default().replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
