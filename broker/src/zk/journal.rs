//! The files of the embedded store: a snapshot of the znode machine and a journal of the commands
//! since, in `<first log dir>/embedded-zookeeper/`.
//!
//! ```text
//! snapshot          "OTTLAZS1", then one record: the whole machine
//! journal.<zxid>    "OTTLAZJ1", then one record per command; <zxid>: sixteen hex digits, the
//!                   machine's zxid when the file was begun
//! lock              held while the store is open
//!
//! record            length of the payload u32 | CRC-32C of the payload u32 | payload
//! payload           (journal) zxid after it i64 | time i64 | command
//! ```
//!
//! All little-endian. Invariants:
//!
//! - J1: a snapshot is complete or not there (temporary file, fsync, rename, fsync of the folder).
//! - J2: journals are deleted only after a snapshot that covers them is durable.
//! - J3: a journal is synced before the next one begins, so only the last one may end torn.
//! - J4: what follows a torn record was never acknowledged; it is cut off. A broken record with a
//!   whole one behind it is damage, and opening refuses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use rustix::fs::{FlockOperation, flock};

use super::machine::{Command, Machine, NodeImage};
use super::{CreateMode, Op};
use crate::types::Millis;

const SNAPSHOT_MAGIC: &[u8; 8] = b"OTTLAZS1";
const JOURNAL_MAGIC: &[u8; 8] = b"OTTLAZJ1";
const SNAPSHOT: &str = "snapshot";
const JOURNAL_PREFIX: &str = "journal.";
const RECORD_HEADER: usize = 8;

/// A journal is compacted once it is this long and longer than twice the snapshot. Bytes.
const COMPACT_BYTES: u64 = 4 << 20;

/// Why the embedded store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: held by another process; stop it, or give this broker its own log.dirs", path = path.display())]
    Locked { path: PathBuf },
    #[error("{path}: damaged at byte {offset}: {what}; restore the folder from a backup", path = path.display())]
    Damaged {
        path: PathBuf,
        offset: usize,
        what: &'static str,
    },
}

/// The open files. Appends go to the last journal.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
    snapshot_bytes: u64,
    _lock: File,
}

/// A machine encoded at one moment, and the journals it makes unnecessary.
pub(super) struct Compaction {
    folder: PathBuf,
    snapshot: Vec<u8>,
    covered: Vec<PathBuf>,
}

impl Journal {
    /// Opens the folder, creating it when absent, and rebuilds the machine from it.
    pub(super) fn open(folder: &Path) -> Result<(Self, Machine), OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| OpenError::Locked { path: lock_path })?;

        let snapshot_path = folder.join(SNAPSHOT);
        let (mut machine, snapshot_bytes) = match fs::read(&snapshot_path) {
            Ok(bytes) => {
                let machine = read_snapshot(&bytes).map_err(|what| OpenError::Damaged {
                    path: snapshot_path,
                    offset: 0,
                    what,
                })?;
                (machine, bytes.len() as u64)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Machine::new(), 0),
            Err(error) => return Err(io(&snapshot_path)(error)),
        };

        let mut journals = journals(folder).map_err(io(folder))?;
        let last = journals.pop();
        for path in &journals {
            let bytes = fs::read(path).map_err(io(path))?;
            let end = replay(path, &bytes, &mut machine)?;
            if end != bytes.len() {
                return Err(OpenError::Damaged {
                    path: path.clone(),
                    offset: end,
                    what: "the file ends torn, and a later one exists",
                });
            }
        }
        let (file, path, end) = match last {
            Some(path) => {
                let bytes = fs::read(&path).map_err(io(&path))?;
                let end = replay(&path, &bytes, &mut machine)?;
                if end == 0 {
                    begin(folder, machine.zxid()).map_err(io(&path))?
                } else {
                    let mut file = OpenOptions::new()
                        .write(true)
                        .open(&path)
                        .map_err(io(&path))?;
                    if end != bytes.len() {
                        tracing::warn!(
                            "{}: cutting off {} bytes of a change that was not acknowledged",
                            path.display(),
                            bytes.len() - end
                        );
                        file.set_len(end as u64)
                            .and_then(|()| file.sync_data())
                            .map_err(io(&path))?;
                    }
                    file.seek(SeekFrom::Start(end as u64)).map_err(io(&path))?;
                    (file, path, end as u64)
                }
            }
            None => begin(folder, machine.zxid()).map_err(io(folder))?,
        };
        let journal = Self {
            folder: folder.to_owned(),
            file: Arc::new(file),
            path,
            bytes: end,
            snapshot_bytes,
            _lock: lock,
        };
        Ok((journal, machine))
    }

    /// Writes one command to the page cache. After an error the file's end is not known, and
    /// nothing may be appended any more.
    pub(super) fn append(&mut self, zxid: i64, now: Millis, command: &Command) -> io::Result<()> {
        let mut payload = Vec::with_capacity(128);
        payload.put_i64_le(zxid);
        payload.put_i64_le(now);
        put_command(&mut payload, command);
        let record = record(&payload)?;
        (&*self.file).write_all(&record)?;
        self.bytes += record.len() as u64;
        Ok(())
    }

    /// The file to sync for what was appended so far.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(super) fn wants_compaction(&self) -> bool {
        self.bytes > COMPACT_BYTES && self.bytes > 2 * self.snapshot_bytes
    }

    /// Begins a new journal and takes the machine's picture for [`Compaction::finish`].
    pub(super) fn compact(&mut self, machine: &Machine) -> io::Result<Compaction> {
        self.file.sync_data()?;
        let covered = journals(&self.folder)?;
        let snapshot = write_snapshot(machine)?;
        let (file, path, bytes) = begin(&self.folder, machine.zxid())?;
        let covered = covered.into_iter().filter(|old| *old != path).collect();
        self.file = Arc::new(file);
        self.path = path;
        self.bytes = bytes;
        self.snapshot_bytes = snapshot.len() as u64;
        Ok(Compaction {
            folder: self.folder.clone(),
            snapshot,
            covered,
        })
    }
}

impl Compaction {
    /// Makes the snapshot durable, then deletes what it covers.
    pub(super) fn finish(self) -> io::Result<()> {
        let temporary = self.folder.join("snapshot.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&self.snapshot)?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(SNAPSHOT))?;
        sync_folder(&self.folder)?;
        for path in self.covered {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Journal files, oldest first.
fn journals(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && let Some(digits) = name.strip_prefix(JOURNAL_PREFIX)
            && let Ok(zxid) = u64::from_str_radix(digits, 16)
        {
            found.push((zxid, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Begins a journal. One of the same name holds nothing: its zxid is the machine's.
fn begin(folder: &Path, zxid: i64) -> io::Result<(File, PathBuf, u64)> {
    let path = folder.join(format!("{JOURNAL_PREFIX}{zxid:016x}"));
    let mut file = File::create(&path)?;
    file.write_all(JOURNAL_MAGIC)?;
    file.sync_all()?;
    sync_folder(folder)?;
    Ok((file, path, JOURNAL_MAGIC.len() as u64))
}

/// Applies a journal's commands that the machine has not seen. Returns where the whole records
/// end; 0 when not even the magic is whole.
fn replay(path: &Path, bytes: &[u8], machine: &mut Machine) -> Result<usize, OpenError> {
    let damaged = |offset, what| OpenError::Damaged {
        path: path.to_owned(),
        offset,
        what,
    };
    let Some(magic) = bytes.get(..JOURNAL_MAGIC.len()) else {
        return Ok(0);
    };
    if magic != JOURNAL_MAGIC {
        return Err(damaged(0, "not a journal of the embedded store"));
    }
    let mut offset = magic.len();
    let mut fired = Vec::new();
    while offset < bytes.len() {
        let Some((payload, next)) = read_record(bytes, offset) else {
            return match skipped(bytes, offset).and_then(|next| read_record(bytes, next)) {
                Some(_) => Err(damaged(
                    offset,
                    "a broken record with a whole one behind it",
                )),
                None => Ok(offset),
            };
        };
        let (zxid, now, command) =
            get_entry(payload).ok_or_else(|| damaged(offset, "not a command"))?;
        if zxid > machine.zxid() {
            if zxid != machine.zxid() + 1 {
                return Err(damaged(offset, "changes before this one are missing"));
            }
            if machine.apply(&command, now, &mut fired).is_err() || machine.zxid() != zxid {
                return Err(damaged(offset, "does not follow from what is before it"));
            }
        }
        offset = next;
    }
    Ok(offset)
}

fn record(payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a record above 4 GiB"))?;
    let mut record = Vec::with_capacity(RECORD_HEADER + payload.len());
    record.put_u32_le(length);
    record.put_u32_le(crc32c::crc32c(payload));
    record.put_slice(payload);
    Ok(record)
}

/// The payload of a whole record and where the next one begins.
fn read_record(bytes: &[u8], offset: usize) -> Option<(&[u8], usize)> {
    let mut header = bytes.get(offset..offset + RECORD_HEADER)?;
    let length = header.get_u32_le() as usize;
    let crc = header.get_u32_le();
    let start = offset + RECORD_HEADER;
    let payload = bytes.get(start..start.checked_add(length)?)?;
    // A file's tail that was never written reads as zeros, whose CRC would be right.
    (length > 0 && crc32c::crc32c(payload) == crc).then_some((payload, start + length))
}

/// Where the record behind a broken one would begin.
fn skipped(bytes: &[u8], offset: usize) -> Option<usize> {
    let length = bytes.get(offset..offset + 4)?.get_u32_le() as usize;
    (length > 0).then_some(offset.checked_add(RECORD_HEADER)?.checked_add(length)?)
}

fn write_snapshot(machine: &Machine) -> io::Result<Vec<u8>> {
    let mut payload = Vec::with_capacity(machine.node_count() * 160);
    payload.put_i64_le(machine.zxid());
    let sessions: Vec<_> = machine.sessions().collect();
    payload.put_u32_le(sessions.len() as u32);
    for session in sessions {
        payload.put_i64_le(session);
    }
    payload.put_u32_le(machine.node_count() as u32);
    for node in machine.images() {
        put_bytes(&mut payload, node.path.as_bytes());
        put_bytes(&mut payload, &node.data);
        payload.put_i64_le(node.czxid);
        payload.put_i64_le(node.mzxid);
        payload.put_i64_le(node.ctime);
        payload.put_i64_le(node.mtime);
        payload.put_i32_le(node.version);
        payload.put_i32_le(node.creations);
        payload.put_i64_le(node.owner);
    }
    let mut snapshot = SNAPSHOT_MAGIC.to_vec();
    snapshot.extend(record(&payload)?);
    Ok(snapshot)
}

fn read_snapshot(bytes: &[u8]) -> Result<Machine, &'static str> {
    if bytes.get(..SNAPSHOT_MAGIC.len()) != Some(SNAPSHOT_MAGIC) {
        return Err("not a snapshot of the embedded store");
    }
    let (payload, end) = read_record(bytes, SNAPSHOT_MAGIC.len()).ok_or("its checksum is wrong")?;
    if end != bytes.len() {
        return Err("bytes behind its end");
    }
    let mut input = payload;
    get_machine(&mut input)
        .filter(|_| input.is_empty())
        .ok_or("its content makes no tree")
}

fn get_machine(input: &mut &[u8]) -> Option<Machine> {
    let zxid = input.try_get_i64_le().ok()?;
    let mut sessions = Vec::new();
    for _ in 0..input.try_get_u32_le().ok()? {
        sessions.push(input.try_get_i64_le().ok()?);
    }
    let mut images = Vec::new();
    for _ in 0..input.try_get_u32_le().ok()? {
        images.push(NodeImage {
            path: get_string(input)?,
            data: get_bytes(input)?,
            czxid: input.try_get_i64_le().ok()?,
            mzxid: input.try_get_i64_le().ok()?,
            ctime: input.try_get_i64_le().ok()?,
            mtime: input.try_get_i64_le().ok()?,
            version: input.try_get_i32_le().ok()?,
            creations: input.try_get_i32_le().ok()?,
            owner: input.try_get_i64_le().ok()?,
        });
    }
    Machine::restore(zxid, sessions, images)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn get_bytes(input: &mut &[u8]) -> Option<Bytes> {
    let length = input.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(Bytes::copy_from_slice(bytes))
}

fn get_string(input: &mut &[u8]) -> Option<String> {
    String::from_utf8(get_bytes(input)?.to_vec()).ok()
}

fn put_version(out: &mut Vec<u8>, version: Option<i32>) {
    // ZooKeeper's own spelling of "any".
    out.put_i32_le(version.unwrap_or(-1));
}

fn get_version(input: &mut &[u8]) -> Option<Option<i32>> {
    let version = input.try_get_i32_le().ok()?;
    Some((version != -1).then_some(version))
}

fn put_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Open => out.put_u8(0),
        Command::Close(session) => {
            out.put_u8(1);
            out.put_i64_le(*session);
        }
        Command::Write(session, ops) => {
            out.put_u8(2);
            out.put_i64_le(*session);
            out.put_u32_le(ops.len() as u32);
            for op in ops {
                put_op(out, op);
            }
        }
    }
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Check { path, version } => {
            out.put_u8(0);
            put_bytes(out, path.as_bytes());
            out.put_i32_le(*version);
        }
        Op::Create { path, data, mode } => {
            out.put_u8(match mode {
                CreateMode::Persistent => 1,
                CreateMode::Ephemeral => 2,
                CreateMode::PersistentSequential => 3,
            });
            put_bytes(out, path.as_bytes());
            put_bytes(out, data);
        }
        Op::Set {
            path,
            data,
            version,
        } => {
            out.put_u8(4);
            put_bytes(out, path.as_bytes());
            put_bytes(out, data);
            put_version(out, *version);
        }
        Op::Delete { path, version } => {
            out.put_u8(5);
            put_bytes(out, path.as_bytes());
            put_version(out, *version);
        }
    }
}

/// `None` when the payload is not exactly one entry.
fn get_entry(payload: &[u8]) -> Option<(i64, Millis, Command)> {
    let mut input = payload;
    let zxid = input.try_get_i64_le().ok()?;
    let now = input.try_get_i64_le().ok()?;
    let command = match input.try_get_u8().ok()? {
        0 => Command::Open,
        1 => Command::Close(input.try_get_i64_le().ok()?),
        2 => {
            let session = input.try_get_i64_le().ok()?;
            let mut ops = Vec::new();
            for _ in 0..input.try_get_u32_le().ok()? {
                ops.push(get_op(&mut input)?);
            }
            Command::Write(session, ops)
        }
        _ => return None,
    };
    input.is_empty().then_some((zxid, now, command))
}

fn get_op(input: &mut &[u8]) -> Option<Op> {
    let tag = input.try_get_u8().ok()?;
    let path = get_string(input)?;
    Some(match tag {
        0 => Op::Check {
            path,
            version: input.try_get_i32_le().ok()?,
        },
        1..=3 => Op::Create {
            path,
            data: get_bytes(input)?,
            mode: match tag {
                1 => CreateMode::Persistent,
                2 => CreateMode::Ephemeral,
                _ => CreateMode::PersistentSequential,
            },
        },
        4 => Op::Set {
            path,
            data: get_bytes(input)?,
            version: get_version(input)?,
        },
        5 => Op::Delete {
            path,
            version: get_version(input)?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
