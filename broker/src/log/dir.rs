//! One entry of `log.dirs`: its lock, its `meta.properties`, the clean-shutdown marker, the names
//! of partition folders, and whether it still works.
//!
//! 1. After one failed operation a dir is offline until the process ends: nothing is tried again,
//!    nothing more is read or written.
//! 2. One process uses a dir at a time. Kafka takes a POSIX lock on `.lock`; we take that one
//!    and, for other brokers in this process, a `flock`.
//! 3. What may take long (fsync, deletion) is a job of the dir, run by its thread.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use parking_lot::{Condvar, Mutex};
use rustix::fs::FlockOperation;

use super::Error;
use super::fs::{Fs, FsError, FsResult};
use crate::types::{BrokerId, Millis, TopicPartition, Uuid};

/// Locked while a broker uses the dir.
pub const LOCK_FILE: &str = ".lock";
/// Identity of broker and cluster.
pub const META_PROPERTIES_FILE: &str = "meta.properties";
/// Present from a clean stop to the next start.
pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";

const DELETE_SUFFIX: &str = "-delete";
const FUTURE_SUFFIX: &str = "-future";
const STRAY_SUFFIX: &str = "-stray";
/// Folders that are no partitions: tiered storage's cache and KRaft's metadata log.
const NOT_LOGS: [&str; 2] = ["remote-log-index-cache", "__cluster_metadata-0"];
/// Bytes in a name of a folder, at most.
pub const MAX_NAME: usize = 255;

/// What a folder in a log dir is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Folder {
    /// `<topic>-<partition>`.
    Partition(TopicPartition),
    /// `<topic>-<partition>.<uuid>-delete`: to be removed.
    Deleted,
    /// `…-future`: target of a move between log dirs.
    Future(TopicPartition),
    /// `…-stray`: does not belong to this broker; kept, never served.
    Stray,
    /// Not ours to load.
    Ignored,
}

/// Tells what the folder `name` is; `None` when the name has no meaning in a log dir.
pub(super) fn parse_folder(name: &str) -> Option<Folder> {
    if NOT_LOGS.contains(&name) {
        return Some(Folder::Ignored);
    }
    let special = [DELETE_SUFFIX, FUTURE_SUFFIX, STRAY_SUFFIX]
        .into_iter()
        .find(|suffix| name.ends_with(suffix));
    let plain = match special {
        // `<topic>-<partition>.<unique id>-<suffix>`
        Some(suffix) => {
            let (plain, id) = name.strip_suffix(suffix)?.rsplit_once('.')?;
            if id.is_empty() {
                return None;
            }
            plain
        }
        None => name,
    };
    let (topic, partition) = plain.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok()?;
    if topic.is_empty() || partition < 0 {
        return None;
    }
    let partition = TopicPartition::new(topic, partition);
    Some(match special {
        Some(DELETE_SUFFIX) => Folder::Deleted,
        Some(FUTURE_SUFFIX) => Folder::Future(partition),
        Some(_) => Folder::Stray,
        None => Folder::Partition(partition),
    })
}

/// Name of the folder of a partition scheduled for deletion: at most 255 bytes, the topic is cut.
pub(super) fn delete_name(partition: &TopicPartition) -> String {
    let id = Uuid::new_v4().simple();
    let suffix = format!("-{}.{id}{DELETE_SUFFIX}", partition.partition);
    let keep = partition.topic.len().min(MAX_NAME - suffix.len());
    // Topic names are ASCII.
    format!(
        "{}{suffix}",
        partition.topic.get(..keep).unwrap_or_default()
    )
}

/// Name of the folder that a log is copied to when it moves to another dir. May be longer than a file
/// system takes: [`MAX_NAME`].
pub fn future_name(partition: &TopicPartition) -> String {
    format!("{partition}.{}{FUTURE_SUFFIX}", Uuid::new_v4().simple())
}

pub(super) fn is_future_name(name: &str) -> bool {
    name.ends_with(FUTURE_SUFFIX)
}

/// Something to do later, off the hot path.
type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Jobs {
    /// By due time, then by order of arrival.
    queue: BTreeMap<(Millis, u64), Job>,
    next: u64,
    closed: bool,
}

/// One entry of `log.dirs`.
pub(super) struct LogDir {
    path: PathBuf,
    pub(super) fs: Fs,
    offline: AtomicBool,
    failures: Mutex<Option<Sender<PathBuf>>>,
    jobs: Mutex<Jobs>,
    jobs_changed: Condvar,
    lock: Mutex<Option<File>>,
    /// Held while one of the checkpoints of the dir is replaced.
    pub(super) checkpoints: Mutex<()>,
}

impl LogDir {
    pub(super) fn new(path: PathBuf, fs: Fs) -> Arc<Self> {
        Arc::new(Self {
            path,
            fs,
            offline: AtomicBool::new(false),
            failures: Mutex::new(None),
            jobs: Mutex::default(),
            jobs_changed: Condvar::new(),
            lock: Mutex::new(None),
            checkpoints: Mutex::new(()),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Where to send the path of this dir when it fails.
    pub(super) fn report_to(&self, failures: Sender<PathBuf>) {
        *self.failures.lock() = Some(failures);
    }

    /// Takes the dir offline (keeps 1); returns whether it was online.
    pub(super) fn take_offline(&self) -> bool {
        !self.offline.swap(true, Ordering::AcqRel)
    }

    /// Notes a failed operation: the dir is offline from now on.
    pub(super) fn fail(&self, error: FsError) -> Error {
        if self.take_offline() {
            tracing::error!(
                target: "org.apache.kafka.storage.internals.log.LogDirFailureChannel",
                "Error on log dir {}: {error}; nothing more is read from or written to it",
                self.path.display()
            );
            if let Some(failures) = &*self.failures.lock() {
                // Nobody listens any more only when the broker is going down.
                let _ = failures.send(self.path.clone());
            }
        }
        Error::Io {
            path: error.path.display().to_string(),
            source: error.source,
        }
    }

    pub(super) fn check_online(&self) -> Result<(), Error> {
        if self.is_offline() {
            Err(Error::Offline {
                dir: self.path.display().to_string(),
            })
        } else {
            Ok(())
        }
    }

    /// Creates the dir when absent and takes its lock (keeps 2).
    pub(super) fn prepare(&self) -> Result<(), Error> {
        let prepared = || -> FsResult<File> {
            if !self.path.is_dir() {
                tracing::info!(
                    target: "kafka.log.LogManager",
                    "Log directory {} not found, creating it.",
                    self.path.display()
                );
                self.fs.create_dir_all(&self.path)?;
                if let Some(parent) = self.path.parent() {
                    self.fs.sync_dir(parent)?;
                }
            }
            self.fs.open_or_create(&self.path.join(LOCK_FILE))
        };
        let file = prepared().map_err(|error| self.fail(error))?;
        let free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !free {
            return Err(Error::Locked {
                dir: self.path.display().to_string(),
            });
        }
        *self.lock.lock() = Some(file);
        Ok(())
    }

    pub(super) fn unlock(&self) {
        *self.lock.lock() = None;
    }

    /// Whether the last stop was clean. Removes the marker, so that a crash from here on is seen.
    pub(super) fn take_clean_shutdown_marker(&self) -> FsResult<bool> {
        self.fs.remove(&self.path.join(CLEAN_SHUTDOWN_FILE))
    }

    /// Writes the marker; last thing of a clean stop.
    pub(super) fn write_clean_shutdown_marker(&self) -> FsResult<()> {
        self.fs.replace(
            &self.path.join(CLEAN_SHUTDOWN_FILE),
            br#"{"version":0,"brokerEpoch":-1}"#,
        )
    }

    /// Queues a job for `due` (milliseconds of the log's clock).
    pub(super) fn submit(&self, due: Millis, job: impl FnOnce() + Send + 'static) {
        let mut jobs = self.jobs.lock();
        if jobs.closed {
            return;
        }
        let key = (due, jobs.next);
        jobs.next += 1;
        jobs.queue.insert(key, Box::new(job));
        self.jobs_changed.notify_one();
    }

    /// Runs what is due at `now`; returns the due time of the next job.
    pub(super) fn run_due(&self, now: Millis) -> Option<Millis> {
        loop {
            let job = {
                let mut jobs = self.jobs.lock();
                match jobs.queue.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    Some(first) => return Some(first.key().0),
                    None => return None,
                }
            };
            if !self.is_offline() {
                job();
            }
        }
    }

    /// Waits until a job may be due or `timeout_ms` passed; false when no more jobs come.
    pub(super) fn wait_for_jobs(&self, now: Millis, timeout_ms: Millis) -> bool {
        let mut jobs = self.jobs.lock();
        if jobs.closed {
            return false;
        }
        if jobs
            .queue
            .first_key_value()
            .is_none_or(|(key, _)| key.0 > now)
        {
            let timeout = std::time::Duration::from_millis(timeout_ms.max(1) as u64);
            self.jobs_changed.wait_for(&mut jobs, timeout);
        }
        !jobs.closed
    }

    /// No more jobs: those not due yet are dropped, the next start completes them.
    pub(super) fn close_jobs(&self) {
        let mut jobs = self.jobs.lock();
        jobs.closed = true;
        jobs.queue.clear();
        self.jobs_changed.notify_all();
    }
}

/// `meta.properties` of a log dir.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: Option<String>,
    pub broker_id: Option<BrokerId>,
    /// Only after a migration towards KRaft began; kept as it is.
    pub directory_id: Option<String>,
}

/// Why the identity in the log dirs cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetaError {
    #[error("{path}: {problem}; remove the file if the dir belongs to this broker")]
    Malformed { path: String, problem: String },
    #[error(
        "{path}: version=1 was written in KRaft mode; this broker works with ZooKeeper. Set log.dirs to another dir"
    )]
    Kraft { path: String },
    #[error(
        "The Cluster ID {ours} doesn't match stored clusterId {stored} in {path}. The broker is trying to join the wrong cluster. Configured zookeeper.connect may be wrong."
    )]
    ClusterId {
        path: String,
        stored: String,
        ours: String,
    },
    #[error(
        "Configured broker.id {ours} doesn't match stored broker.id {stored} in {path}. If you moved your data, make sure your configured broker.id matches. If you intend to create a new broker, you should remove all data in your data directories (log.dirs)."
    )]
    BrokerId {
        path: String,
        stored: BrokerId,
        ours: BrokerId,
    },
    #[error("{path}: {problem}")]
    Io { path: String, problem: String },
}

impl From<FsError> for MetaError {
    fn from(error: FsError) -> Self {
        Self::Io {
            path: error.path.display().to_string(),
            problem: error.source.to_string(),
        }
    }
}

impl MetaProperties {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, MetaError> {
        let malformed = |problem: String| MetaError::Malformed {
            path: path.display().to_string(),
            problem,
        };
        let map = java_properties::read(bytes)
            .map_err(|error| malformed(format!("unreadable: {error}")))?;
        match map.get("version").map(|version| version.trim()) {
            Some("0") => {}
            Some("1") => {
                return Err(MetaError::Kraft {
                    path: path.display().to_string(),
                });
            }
            Some(other) => return Err(malformed(format!("unknown version {other:?}"))),
            None => return Err(malformed("no version".to_owned())),
        }
        let broker_id = match map.get("broker.id") {
            None => None,
            Some(text) => Some(
                text.trim()
                    .parse()
                    .map_err(|_| malformed(format!("broker.id={text} is no number")))?,
            ),
        };
        Ok(Self {
            cluster_id: map.get("cluster.id").cloned(),
            broker_id,
            directory_id: map.get("directory.id").cloned(),
        })
    }

    fn text(&self) -> String {
        let mut text = String::from("#\n");
        if let Some(id) = &self.directory_id {
            text += &format!("directory.id={id}\n");
        }
        if let Some(id) = &self.cluster_id {
            text += &format!("cluster.id={id}\n");
        }
        text += "version=0\n";
        if let Some(id) = self.broker_id {
            text += &format!("broker.id={id}\n");
        }
        text
    }
}

/// Reads `meta.properties` of one log dir; `None` when it has none.
pub fn read_meta_properties(dir: &Path) -> Result<Option<MetaProperties>, MetaError> {
    let path = dir.join(META_PROPERTIES_FILE);
    match Fs::default().read(&path)? {
        None => Ok(None),
        Some(bytes) => MetaProperties::parse(&path, &bytes).map(Some),
    }
}

/// The identity that the log dirs agree on: the broker id stored in any of them, for
/// `broker.id=-1`, and the cluster id.
pub fn stored_identity(dirs: &[PathBuf]) -> Result<MetaProperties, MetaError> {
    let mut found = MetaProperties::default();
    for dir in dirs {
        let Some(meta) = read_meta_properties(dir)? else {
            continue;
        };
        let path = || dir.join(META_PROPERTIES_FILE).display().to_string();
        match (&found.cluster_id, &meta.cluster_id) {
            (Some(ours), Some(stored)) if ours != stored => {
                return Err(MetaError::ClusterId {
                    path: path(),
                    stored: stored.clone(),
                    ours: ours.clone(),
                });
            }
            (None, stored) => found.cluster_id.clone_from(stored),
            _ => {}
        }
        match (found.broker_id, meta.broker_id) {
            (Some(ours), Some(stored)) if ours != stored => {
                return Err(MetaError::BrokerId {
                    path: path(),
                    stored,
                    ours,
                });
            }
            (None, stored) => found.broker_id = stored,
            _ => {}
        }
    }
    Ok(found)
}

/// Checks that every dir belongs to this broker and cluster, and writes `meta.properties` (v0)
/// where there is none.
pub fn verify_identity(
    dirs: &[PathBuf],
    cluster_id: &str,
    broker_id: BrokerId,
) -> Result<(), MetaError> {
    let stored = stored_identity(dirs)?;
    let first = || {
        dirs.first()
            .map(|dir| dir.join(META_PROPERTIES_FILE).display().to_string())
            .unwrap_or_default()
    };
    if let Some(stored) = stored.cluster_id.filter(|stored| stored != cluster_id) {
        return Err(MetaError::ClusterId {
            path: first(),
            stored,
            ours: cluster_id.to_owned(),
        });
    }
    if let Some(stored) = stored.broker_id.filter(|&stored| stored != broker_id) {
        return Err(MetaError::BrokerId {
            path: first(),
            stored,
            ours: broker_id,
        });
    }
    for dir in dirs {
        let present = read_meta_properties(dir)?;
        let wanted = MetaProperties {
            cluster_id: Some(cluster_id.to_owned()),
            broker_id: Some(broker_id),
            directory_id: present.as_ref().and_then(|meta| meta.directory_id.clone()),
        };
        if present.as_ref() != Some(&wanted) {
            Fs::default().replace(&dir.join(META_PROPERTIES_FILE), wanted.text().as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names() {
        let partition = |topic: &str, n| TopicPartition::new(topic, n);
        let check = |name: &str, expect: Option<Folder>| {
            assert_eq!(parse_folder(name), expect, "{name}");
        };
        check("t-0", Some(Folder::Partition(partition("t", 0))));
        check(
            "a-b.c_d-12",
            Some(Folder::Partition(partition("a-b.c_d", 12))),
        );
        check("t-0.0123abcd-delete", Some(Folder::Deleted));
        check(
            "t.x-7.0123abcd-future",
            Some(Folder::Future(partition("t.x", 7))),
        );
        check("t-0.0123abcd-stray", Some(Folder::Stray));
        check("remote-log-index-cache", Some(Folder::Ignored));
        check("__cluster_metadata-0", Some(Folder::Ignored));
        for bad in [
            "t",
            "-0",
            "t-",
            "t-x",
            "t-0-delete",
            "lost+found",
            "t-0.-delete",
        ] {
            check(bad, None);
        }
        let long = "x".repeat(249);
        let name = delete_name(&partition(&long, 100));
        assert_eq!(name.len(), 255);
        check(&name, Some(Folder::Deleted));
        assert!(delete_name(&partition("t", 0)).starts_with("t-0."));
    }

    #[test]
    fn identity_is_written_once_and_then_verified() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        let dirs = [first.path().to_path_buf(), second.path().to_path_buf()];
        verify_identity(&dirs[..1], "abc", 3).unwrap();
        assert_eq!(
            std::fs::read_to_string(dirs[0].join(META_PROPERTIES_FILE)).unwrap(),
            "#\ncluster.id=abc\nversion=0\nbroker.id=3\n"
        );
        verify_identity(&dirs, "abc", 3).unwrap();
        let stored = stored_identity(&dirs).unwrap();
        assert_eq!(stored.broker_id, Some(3));
        assert!(matches!(
            verify_identity(&dirs, "xyz", 3),
            Err(MetaError::ClusterId { .. })
        ));
        assert!(matches!(
            verify_identity(&dirs, "abc", 4),
            Err(MetaError::BrokerId { .. })
        ));
        std::fs::write(
            dirs[1].join(META_PROPERTIES_FILE),
            "#\n#Mon Jun 10 12:00:00 UTC 2024\nnode.id=1\nversion=1\n",
        )
        .unwrap();
        assert!(matches!(
            verify_identity(&dirs, "abc", 3),
            Err(MetaError::Kraft { .. })
        ));
        for garbage in ["", "version=0\nbroker.id=x\n", "version=9\n"] {
            std::fs::write(dirs[1].join(META_PROPERTIES_FILE), garbage).unwrap();
            assert!(matches!(
                stored_identity(&dirs),
                Err(MetaError::Malformed { .. })
            ));
        }
    }

    #[test]
    fn a_locked_dir_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = LogDir::new(dir.path().to_path_buf(), Fs::default());
        first.prepare().unwrap();
        let second = LogDir::new(dir.path().to_path_buf(), Fs::default());
        assert!(matches!(second.prepare(), Err(Error::Locked { .. })));
        first.unlock();
        second.prepare().unwrap();
    }

    #[test]
    fn jobs_run_in_order_of_due_time() {
        let dir = LogDir::new(PathBuf::from("/nowhere"), Fs::default());
        let ran = Arc::new(Mutex::new(Vec::new()));
        for (due, name) in [(20, "c"), (10, "a"), (10, "b"), (30, "d")] {
            let ran = Arc::clone(&ran);
            dir.submit(due, move || ran.lock().push(name));
        }
        assert_eq!(dir.run_due(20), Some(30));
        assert_eq!(*ran.lock(), ["a", "b", "c"]);
    }
}
