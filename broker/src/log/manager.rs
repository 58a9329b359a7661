//! Every log of the broker, over all log dirs: opening and recovery, creation, deletion, and the
//! rounds of flushing, retention and checkpoints.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::checkpoint::{
    HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, write_offsets,
};
use super::dir::LogDir;
use super::fs::Fs;
use super::future::discard;
use super::loading::{DirContents, Loaded, load_all};
use super::recovery::{self, Opening};
use super::{Error, Log};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::hash::DashMap;
use crate::types::{Millis, Offset, TopicPartition, Uuid};

pub(super) const TARGET: &str = "kafka.log.LogManager";
/// The rounds begin this long after the start (`log.initial.task.delay.ms`).
const INITIAL_TASK_DELAY_MS: Millis = 30_000;
/// Longest sleep of a thread that has nothing due.
const IDLE_MS: Millis = 60_000;

/// Broker-level settings of the log manager.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    pub log_dirs: Vec<PathBuf>,
    pub num_recovery_threads_per_data_dir: usize,
    /// Defaults for topics without overrides.
    pub default_log_config: LogConfig,
    pub retention_check_interval_ms: i64,
    pub flush_scheduler_interval_ms: i64,
    pub flush_offset_checkpoint_interval_ms: i64,
    pub flush_start_offset_checkpoint_interval_ms: i64,
    pub producer_id_expiration_ms: i64,
    pub producer_id_expiration_check_interval_ms: i64,
}

/// State of one log dir, for DescribeLogDirs.
#[derive(Debug, Clone)]
pub struct LogDirInfo {
    pub path: PathBuf,
    pub offline: bool,
    /// Bytes of the file system; −1 when unknown.
    pub total_bytes: i64,
    pub usable_bytes: i64,
}

/// Tells that a log dir failed.
#[derive(Debug, Clone)]
pub struct DirFailure {
    pub dir: PathBuf,
    /// The partitions that were in it; their logs are gone from the manager.
    pub partitions: Vec<TopicPartition>,
    /// The partitions that were moving into it.
    pub future_partitions: Vec<TopicPartition>,
    /// No log dir is left: the broker cannot go on and must halt.
    pub none_left: bool,
}

type FailureHandler = Box<dyn Fn(DirFailure) + Send + Sync>;

/// Owner of all logs. Background rounds run on threads it starts in [`LogManager::start`].
pub struct LogManager {
    config: ManagerConfig,
    clock: Arc<dyn Clock>,
    pub(super) dirs: Vec<Arc<LogDir>>,
    pub(super) logs: DashMap<TopicPartition, Arc<Log>>,
    /// Copies of some of `logs` in the dirs they move to.
    pub(super) futures: DashMap<TopicPartition, Arc<Log>>,
    /// Where logs are to be created that are asked for elsewhere than they are.
    pub(super) preferred: DashMap<TopicPartition, PathBuf>,
    /// Held while a log is created, deleted or put in the place of another.
    pub(super) creation: Mutex<()>,
    /// By log dir.
    high_watermarks: HashMap<PathBuf, HashMap<TopicPartition, Offset>>,
    failures: Sender<PathBuf>,
    failed: Mutex<Option<Receiver<PathBuf>>>,
    on_failure: Mutex<Option<FailureHandler>>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    stopped: AtomicBool,
}

impl LogManager {
    /// Locks the dirs, then loads (and after an unclean stop recovers) every log in them, in
    /// parallel. `topic_config` gives the effective config of a topic. Logs progress lines.
    pub fn open(
        config: ManagerConfig,
        clock: Arc<dyn Clock>,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    ) -> Result<Arc<Self>, Error> {
        Self::open_on(config, clock, topic_config, &Fs::default())
    }

    /// [`Self::open`] on a file system that may fail.
    pub fn open_on(
        config: ManagerConfig,
        clock: Arc<dyn Clock>,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
        fs: &Fs,
    ) -> Result<Arc<Self>, Error> {
        let (failures, failed) = channel();
        let dirs = Self::prepare_dirs(&config, fs, &failures)?;
        let started = Instant::now();
        let names: Vec<String> = dirs
            .iter()
            .filter(|dir| !dir.is_offline())
            .map(|dir| dir.path().display().to_string())
            .collect();
        tracing::info!(
            target: TARGET,
            "Loading logs from log dirs ArrayBuffer({})",
            names.join(", ")
        );
        let mut contents = Vec::new();
        for dir in dirs.iter().filter(|dir| !dir.is_offline()) {
            match DirContents::read(dir, clock.now(), &config) {
                Ok(read) => contents.push(read),
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let (logs, futures) = (DashMap::default(), DashMap::default());
        let total: usize = contents.iter().map(|dir| dir.partitions.len()).sum();
        load_all(
            &config,
            &clock,
            topic_config,
            &contents,
            Loaded {
                logs: &logs,
                futures: &futures,
            },
        )?;
        let unclean: Vec<String> = contents
            .iter()
            .filter(|dir| !dir.clean && !dir.partitions.is_empty())
            .map(|dir| dir.dir.path().display().to_string())
            .collect();
        let unclean = if unclean.is_empty() {
            String::new()
        } else {
            format!(" (unclean log dirs = ArrayBuffer({}))", unclean.join(", "))
        };
        tracing::info!(
            target: TARGET,
            "Loaded {total} logs in {}ms{unclean}",
            started.elapsed().as_millis()
        );
        Self::some_online(&dirs)?;
        let high_watermarks = contents
            .into_iter()
            .map(|dir| (dir.dir.path().to_path_buf(), dir.high_watermarks))
            .collect();
        Ok(Arc::new(Self {
            config,
            clock,
            dirs,
            logs,
            futures,
            preferred: DashMap::default(),
            creation: Mutex::new(()),
            high_watermarks,
            failures,
            failed: Mutex::new(Some(failed)),
            on_failure: Mutex::new(None),
            threads: Mutex::default(),
            stopped: AtomicBool::new(false),
        }))
    }

    fn some_online(dirs: &[Arc<LogDir>]) -> Result<(), Error> {
        if dirs.iter().any(|dir| !dir.is_offline()) {
            return Ok(());
        }
        let names: Vec<String> = dirs
            .iter()
            .map(|dir| dir.path().display().to_string())
            .collect();
        Err(Error::Layout {
            message: format!(
                "none of the log dirs {} can be used; see the errors above",
                names.join(", ")
            ),
        })
    }

    fn prepare_dirs(
        config: &ManagerConfig,
        fs: &Fs,
        failures: &Sender<PathBuf>,
    ) -> Result<Vec<Arc<LogDir>>, Error> {
        let mut dirs = Vec::new();
        let mut seen = HashSet::new();
        for path in &config.log_dirs {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            // Without a slash at the end, as Kafka names it to clients.
            let path: PathBuf = path.components().collect();
            let dir = LogDir::new(path.clone(), fs.clone());
            dir.report_to(failures.clone());
            match dir.prepare() {
                Ok(()) => {
                    let canonical = path.canonicalize().unwrap_or(path);
                    if !seen.insert(canonical) {
                        return Err(Error::Layout {
                            message: format!(
                                "Duplicate log directory found: {}",
                                dir.path().display()
                            ),
                        });
                    }
                }
                // Logged where it happened; the broker goes on with the others.
                Err(Error::Io { .. }) => {}
                Err(error) => return Err(error),
            }
            dirs.push(dir);
        }
        Self::some_online(&dirs)?;
        Ok(dirs)
    }

    /// Who is told when a log dir fails; called on a thread of the manager.
    pub fn on_dir_failure(&self, handler: impl Fn(DirFailure) + Send + Sync + 'static) {
        *self.on_failure.lock() = Some(Box::new(handler));
    }

    /// Starts retention, flush, checkpoint and delayed-deletion rounds.
    pub fn start(self: &Arc<Self>) {
        let Some(failed) = self.failed.lock().take() else {
            return;
        };
        let mut threads = self.threads.lock();
        let spawn = |name: String, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name)
                .spawn(body)
                .inspect_err(|error| {
                    tracing::error!(target: TARGET, "Cannot start a background thread: {error}");
                })
                .ok()
        };
        for (n, dir) in self.dirs.iter().enumerate() {
            let (dir, clock) = (Arc::clone(dir), Arc::clone(&self.clock));
            threads.extend(spawn(
                format!("log-dir-{n}"),
                Box::new(move || {
                    loop {
                        let now = clock.now();
                        let wait = dir.run_due(now).map_or(IDLE_MS, |due| due - clock.now());
                        if !dir.wait_for_jobs(clock.now(), wait.min(IDLE_MS)) {
                            return;
                        }
                    }
                }),
            ));
        }
        let manager = Arc::downgrade(self);
        threads.extend(spawn(
            "log-rounds".to_owned(),
            Box::new(move || Self::run_rounds(&manager, &failed)),
        ));
        tracing::info!(
            target: TARGET,
            "Starting log cleanup with a period of {} ms.",
            self.config.retention_check_interval_ms
        );
        tracing::info!(
            target: TARGET,
            "Starting log flusher with a default period of {} ms.",
            self.config.flush_scheduler_interval_ms
        );
    }

    /// The periodic rounds, and what to do when a dir fails. Ends with the manager.
    fn run_rounds(manager: &Weak<Self>, failed: &Receiver<PathBuf>) {
        type Round = (fn(&LogManager), fn(&ManagerConfig) -> i64);
        const ROUNDS: [Round; 5] = [
            (LogManager::delete_old_segments, |c| {
                c.retention_check_interval_ms
            }),
            (LogManager::flush_dirty_logs, |c| {
                c.flush_scheduler_interval_ms
            }),
            (LogManager::checkpoint_recovery_points, |c| {
                c.flush_offset_checkpoint_interval_ms
            }),
            (LogManager::checkpoint_log_starts, |c| {
                c.flush_start_offset_checkpoint_interval_ms
            }),
            (LogManager::expire_producers, |c| {
                c.producer_id_expiration_check_interval_ms
            }),
        ];
        let Some(clock) = manager.upgrade().map(|manager| Arc::clone(&manager.clock)) else {
            return;
        };
        let begin = clock.now();
        let mut due = [begin.saturating_add(INITIAL_TASK_DELAY_MS); ROUNDS.len()];
        loop {
            let next = due.iter().min().copied().unwrap_or(i64::MAX);
            let wait = next.saturating_sub(clock.now()).clamp(0, IDLE_MS);
            let failure = failed.recv_timeout(Duration::from_millis(wait as u64));
            let Some(manager) = manager.upgrade() else {
                return;
            };
            if manager.stopped.load(Ordering::Acquire) {
                return;
            }
            match failure {
                Ok(dir) => manager.handle_failure(&dir),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for (due, (round, interval)) in due.iter_mut().zip(ROUNDS) {
                let now = clock.now();
                if *due <= now {
                    round(&manager);
                    *due = now.saturating_add(interval(&manager.config).max(1));
                }
            }
        }
    }

    fn handle_failure(&self, dir: &Path) {
        let failure = self.fail_dir(dir);
        if failure.none_left {
            tracing::error!(
                target: TARGET,
                "Shutdown broker because all log dirs have failed"
            );
        }
        if let Some(handler) = &*self.on_failure.lock() {
            handler(failure);
        }
    }

    /// Deletes what retention allows, in all logs.
    pub fn delete_old_segments(&self) {
        let mut deleted = 0;
        for log in self.logs() {
            // An error took the dir offline and was logged there.
            deleted += log.delete_old_segments().unwrap_or(0);
        }
        tracing::debug!(target: TARGET, "Log cleanup completed. {deleted} files deleted");
    }

    fn flush_dirty_logs(&self) {
        for log in self.logs() {
            let _ = log.flush_if_old();
        }
    }

    fn expire_producers(&self) {
        for log in self.logs() {
            log.expire_producers();
        }
    }

    /// The current log of a partition.
    pub fn log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.logs.get(partition).map(|log| Arc::clone(&log))
    }

    /// All logs, also those that are copies on their way to another dir.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        let current = self.logs.iter().map(|log| Arc::clone(&log));
        let futures = self.futures.iter().map(|log| Arc::clone(&log));
        current.chain(futures).collect()
    }

    fn logs_in(&self, dir: &LogDir) -> Vec<Arc<Log>> {
        let mut logs = self.logs();
        logs.retain(|log| log.log_dir() == dir.path());
        logs
    }

    /// Online dirs, the one with the fewest logs first.
    fn dirs_by_load(&self) -> Vec<&Arc<LogDir>> {
        let mut counted: Vec<(usize, &Arc<LogDir>)> = self
            .dirs
            .iter()
            .filter(|dir| !dir.is_offline())
            .map(|dir| {
                let count = if self.dirs.len() == 1 {
                    0
                } else {
                    self.logs_in(dir).len()
                };
                (count, dir)
            })
            .collect();
        counted.sort_by_key(|&(count, _)| count);
        counted.into_iter().map(|(_, dir)| dir).collect()
    }

    /// The log, created when absent: in the dir that was asked for ([`Self::prefer_dir`]), else in
    /// the one with the fewest logs. `is_new` false with an
    /// offline dir present: [`Error::Offline`], because the log may be there.
    pub fn get_or_create(
        &self,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        is_new: bool,
        config: LogConfig,
    ) -> Result<Arc<Log>, Error> {
        let log = match self.log(partition) {
            Some(log) => log,
            None => self.create(partition, is_new, config)?,
        };
        if let Some(id) = topic_id {
            log.assign_topic_id(id)?;
        }
        Ok(log)
    }

    fn create(
        &self,
        partition: &TopicPartition,
        is_new: bool,
        config: LogConfig,
    ) -> Result<Arc<Log>, Error> {
        let _creation = self.creation.lock();
        if let Some(log) = self.log(partition) {
            return Ok(log);
        }
        if !is_new {
            self.check_all_online()?;
        }
        let preferred = self.preferred.get(partition).map(|dir| dir.clone());
        let mut last_error = Error::Offline {
            dir: "all log dirs".to_owned(),
        };
        for home in self.dirs_by_load() {
            if preferred.as_ref().is_some_and(|dir| dir != home.path()) {
                continue;
            }
            match self.create_in(home, &partition.to_string(), partition, config.clone()) {
                Ok(log) => {
                    self.logs.insert(partition.clone(), Arc::clone(&log));
                    self.preferred.remove(partition);
                    return Ok(log);
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    pub(super) fn check_all_online(&self) -> Result<(), Error> {
        self.dirs.iter().try_for_each(|dir| dir.check_online())
    }

    /// Creates an empty log in the folder `name` of `home`.
    pub(super) fn create_in(
        &self,
        home: &Arc<LogDir>,
        name: &str,
        partition: &TopicPartition,
        config: LogConfig,
    ) -> Result<Arc<Log>, Error> {
        home.check_online()?;
        let dir = home.path().join(name);
        let opened = home.fs.create_dir_all(&dir).and_then(|()| {
            recovery::open(Opening {
                home: Arc::clone(home),
                dir: dir.clone(),
                partition: partition.clone(),
                config,
                clock: Arc::clone(&self.clock),
                log_start: 0,
                recovery_point: 0,
                clean: true,
                producer_id_expiration_ms: self.config.producer_id_expiration_ms,
            })
        });
        let log = opened.map_err(|error| home.fail(error))?;
        tracing::info!(
            target: TARGET,
            "Created log for partition {partition} in {} with properties {{}}",
            dir.display()
        );
        Ok(log)
    }

    /// Renames the log's folder to `-delete` and removes it after `file.delete.delay.ms`; that of a
    /// copy on its way to another dir likewise.
    pub fn delete(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.delete_future(partition)?;
        let _creation = self.creation.lock();
        let Some((_, log)) = self.logs.remove(partition) else {
            return match self.dirs.iter().find(|dir| dir.is_offline()) {
                Some(offline) => Err(Error::Offline {
                    dir: offline.path().display().to_string(),
                }),
                None => Ok(()),
            };
        };
        discard(log, self.due_for_deletion())
    }

    pub(super) fn due_for_deletion(&self) -> Millis {
        self.clock.now() + self.config.default_log_config.file_delete_delay_ms
    }

    /// What `replication-offset-checkpoint` of the log's dir said at start; 0 when nothing.
    pub fn checkpointed_high_watermark(&self, log: &Log) -> Offset {
        self.high_watermarks
            .get(log.log_dir())
            .and_then(|offsets| offsets.get(log.topic_partition()))
            .copied()
            .unwrap_or(0)
    }

    /// Writes `file` in every online dir with what `entry` says of its logs.
    fn checkpoint(&self, file: &str, entry: impl Fn(&Log) -> Option<Offset>) {
        for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
            // An error took the dir offline and was logged there.
            let _ = self.checkpoint_in(dir, file, &entry);
        }
    }

    /// [`Self::checkpoint`] of one dir.
    pub(super) fn checkpoint_in(
        &self,
        dir: &LogDir,
        file: &str,
        entry: impl Fn(&Log) -> Option<Offset>,
    ) -> Result<(), Error> {
        // Rounds, moves and the stop all write them; the last to look is the last to write.
        let _alone = dir.checkpoints.lock();
        let entries: Vec<(TopicPartition, Offset)> = self
            .logs_in(dir)
            .iter()
            .filter_map(|log| Some((log.topic_partition().clone(), entry(log)?)))
            .collect();
        write_offsets(&dir.fs, &dir.path().join(file), &entries).map_err(|error| dir.fail(error))
    }

    /// Writes `replication-offset-checkpoint` in every online dir from the logs' high watermarks.
    pub fn checkpoint_high_watermarks(&self) {
        self.checkpoint(HIGH_WATERMARK_FILE, |log| Some(log.high_watermark()));
    }

    /// Writes `recovery-point-offset-checkpoint`; a truncation asks for it at once.
    pub fn checkpoint_recovery_points(&self) {
        self.checkpoint(RECOVERY_POINT_FILE, |log| Some(log.recovery_point()));
    }

    fn checkpoint_log_starts(&self) {
        self.checkpoint(LOG_START_OFFSET_FILE, log_start_to_keep);
    }

    /// State of every configured dir, online or not.
    pub fn dirs(&self) -> Vec<LogDirInfo> {
        self.dirs
            .iter()
            .map(|dir| {
                let bytes = rustix::fs::statvfs(dir.path())
                    .ok()
                    .filter(|_| !dir.is_offline());
                let size = |blocks: u64, unit: u64| {
                    i64::try_from(blocks.saturating_mul(unit)).unwrap_or(i64::MAX)
                };
                LogDirInfo {
                    path: dir.path().to_path_buf(),
                    offline: dir.is_offline(),
                    total_bytes: bytes.as_ref().map_or(-1, |s| size(s.f_blocks, s.f_frsize)),
                    usable_bytes: bytes.as_ref().map_or(-1, |s| size(s.f_bavail, s.f_frsize)),
                }
            })
            .collect()
    }

    /// Takes `dir` offline after an I/O error; its logs are gone from the manager.
    pub fn fail_dir(&self, dir: &Path) -> DirFailure {
        let _creation = self.creation.lock();
        let mut failure = DirFailure {
            dir: dir.to_path_buf(),
            partitions: Vec::new(),
            future_partitions: Vec::new(),
            none_left: false,
        };
        if let Some(home) = self.dirs.iter().find(|known| known.path() == dir) {
            home.take_offline();
            for (logs, gone) in [
                (&self.logs, &mut failure.partitions),
                (&self.futures, &mut failure.future_partitions),
            ] {
                logs.retain(|partition, log| {
                    let stays = log.log_dir() != dir;
                    if !stays {
                        gone.push(partition.clone());
                    }
                    stays
                });
            }
            home.unlock();
            let names = |partitions: &[TopicPartition]| {
                let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
                names.join(",")
            };
            tracing::warn!(
                target: TARGET,
                "Logs for partitions {} are offline and logs for future partitions {} are offline due to failure on log directory {}",
                names(&failure.partitions),
                names(&failure.future_partitions),
                dir.display()
            );
        }
        failure.none_left = self.dirs.iter().all(|dir| dir.is_offline());
        failure
    }

    /// Flush, producer snapshots, checkpoints, then the clean-shutdown marker; in parallel. A
    /// second call does nothing.
    pub fn shutdown(&self) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::info!(target: TARGET, "Shutting down.");
        self.stop_threads();
        std::thread::scope(|scope| {
            for dir in self.dirs.iter().filter(|dir| !dir.is_offline()) {
                scope.spawn(|| self.shut_dir(dir));
            }
        });
        tracing::info!(target: TARGET, "Shutdown complete.");
    }

    fn stop_threads(&self) {
        for dir in &self.dirs {
            dir.close_jobs();
        }
        // Wakes the rounds' thread, which sees that it is to stop.
        let _ = self.failures.send(PathBuf::new());
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != std::thread::current().id() {
                // A panic in it was reported when it happened.
                let _ = thread.join();
            }
        }
    }

    fn shut_dir(&self, dir: &LogDir) {
        let logs = self.logs_in(dir);
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.config.num_recovery_threads_per_data_dir.max(1) {
                scope.spawn(|| {
                    while let Some(log) = logs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = log.close() {
                            tracing::warn!(
                                target: TARGET,
                                "There was an error in one of the threads during LogManager shutdown: {error}"
                            );
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let checkpoints = [
            self.checkpoint_in(dir, RECOVERY_POINT_FILE, |log| Some(log.recovery_point())),
            self.checkpoint_in(dir, LOG_START_OFFSET_FILE, log_start_to_keep),
            self.checkpoint_in(dir, HIGH_WATERMARK_FILE, |log| Some(log.high_watermark())),
        ];
        if !failed.into_inner()
            && checkpoints.iter().all(Result::is_ok)
            && let Err(error) = dir.write_clean_shutdown_marker()
        {
            dir.fail(error);
        }
        dir.unlock();
    }
}

/// The log start offset, when the name of the first segment does not tell it.
pub(super) fn log_start_to_keep(log: &Log) -> Option<Offset> {
    let first = log.segments.load().first().map_or(0, |s| s.base_offset());
    let start = log.log_start_offset();
    (start > first).then_some(start)
}

impl Drop for LogManager {
    /// Without [`LogManager::shutdown`] this is an unclean stop: only the threads are ended.
    fn drop(&mut self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.stop_threads();
        }
    }
}
