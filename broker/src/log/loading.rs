//! Loading every log at start: what each log dir holds, then all logs of it in parallel.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;

use super::checkpoint::{
    HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE, read_offsets,
};
use super::dir::{Folder, LogDir, parse_folder};
use super::fs::FsResult;
use super::future::{decide, discard};
use super::manager::{ManagerConfig, TARGET};
use super::recovery::{self, Opening};
use super::{Error, Log};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::hash::DashMap;
use crate::types::{Millis, Offset, TopicPartition};

/// A line about a long recovery at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Threads that load logs which were closed cleanly, at most: that is a handful of system calls for each,
/// which wait for no disk when its caches are warm.
const THREADS_WHEN_CLEAN: usize = 8;

/// What was read from one log dir before its logs are loaded.
pub(super) struct DirContents {
    pub(super) dir: Arc<LogDir>,
    pub(super) clean: bool,
    recovery_points: HashMap<TopicPartition, Offset>,
    log_starts: HashMap<TopicPartition, Offset>,
    pub(super) high_watermarks: HashMap<TopicPartition, Offset>,
    pub(super) partitions: Vec<(String, TopicPartition)>,
}

fn read_checkpoint(
    dir: &LogDir,
    file: &str,
    instead: &str,
) -> FsResult<HashMap<TopicPartition, Offset>> {
    Ok(
        read_offsets(&dir.fs, &dir.path().join(file))?.unwrap_or_else(|problem| {
            tracing::warn!(
                target: TARGET,
                "Error occurred while reading {file} file of directory {}, {instead}: {problem}",
                dir.path().display()
            );
            HashMap::new()
        }),
    )
}

impl DirContents {
    pub(super) fn read(
        dir: &Arc<LogDir>,
        now: Millis,
        config: &ManagerConfig,
    ) -> Result<Self, Error> {
        let io = |error| dir.fail(error);
        let clean = dir.take_clean_shutdown_marker().map_err(io)?;
        let recovery_points = read_checkpoint(
            dir,
            RECOVERY_POINT_FILE,
            "resetting the recovery checkpoint to 0",
        )
        .map_err(io)?;
        let log_starts = read_checkpoint(
            dir,
            LOG_START_OFFSET_FILE,
            "resetting to the base offset of the first segment",
        )
        .map_err(io)?;
        let high_watermarks = read_checkpoint(
            dir,
            HIGH_WATERMARK_FILE,
            "starting with the log start offsets as high watermarks",
        )
        .map_err(io)?;
        let mut partitions = Vec::new();
        for name in dir.fs.list(dir.path(), true).map_err(io)? {
            match parse_folder(&name) {
                Some(Folder::Partition(partition) | Folder::Future(partition)) => {
                    partitions.push((name, partition));
                }
                Some(Folder::Deleted) => {
                    let (home, path) = (Arc::clone(dir), dir.path().join(&name));
                    let due = now + config.default_log_config.file_delete_delay_ms;
                    dir.submit(due, move || {
                        if let Err(error) = home.fs.remove_dir(&path) {
                            home.fail(error);
                        }
                    });
                }
                Some(Folder::Stray) => tracing::warn!(
                    target: TARGET,
                    "Loaded stray log: {}",
                    dir.path().join(&name).display()
                ),
                Some(Folder::Ignored) => {}
                // The embedded store keeps its journal beside the logs.
                None if name == "embedded-zookeeper" => {}
                None => {
                    return Err(Error::Layout {
                        message: format!(
                            "Found directory {}, '{name}' is not in the form of topic-partition or topic-partition.uniqueId-delete (if marked for deletion).\nKafka's log directories (and children) should only contain Kafka topic data.",
                            dir.path().join(&name).display()
                        ),
                    });
                }
            }
        }
        Ok(Self {
            dir: Arc::clone(dir),
            clean,
            recovery_points,
            log_starts,
            high_watermarks,
            partitions,
        })
    }
}

impl DirContents {
    /// `num.recovery.threads.per.data.dir` bounds how much of a broker's start its recoveries take.
    /// Where there is nothing to recover, as many as there are processors.
    fn threads(&self, config: &ManagerConfig) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let when_clean = processors.min(THREADS_WHEN_CLEAN);
        let configured = config.num_recovery_threads_per_data_dir;
        if self.clean {
            configured.max(when_clean)
        } else {
            configured
        }
    }
}

/// What has been loaded.
#[derive(Clone, Copy)]
pub(super) struct Loaded<'a> {
    pub(super) logs: &'a DashMap<TopicPartition, Arc<Log>>,
    /// Copies of logs in the dirs they move to.
    pub(super) futures: &'a DashMap<TopicPartition, Arc<Log>>,
}

pub(super) fn load_all(
    config: &ManagerConfig,
    clock: &Arc<dyn Clock>,
    topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    contents: &[DirContents],
    loaded: Loaded<'_>,
) -> Result<(), Error> {
    let first_error: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for dir in contents {
            let path = dir.dir.path().display();
            let count = dir.partitions.len();
            if count == 0 {
                tracing::info!(target: TARGET, "No logs found to be loaded in {path}");
                continue;
            }
            if dir.clean {
                tracing::info!(
                    target: TARGET,
                    "Skipping recovery of {count} logs from {path} since clean shutdown file was found"
                );
            } else {
                tracing::info!(
                    target: TARGET,
                    "Recovering {count} logs from {path} since no clean shutdown file was found"
                );
            }
            let next = Arc::new(AtomicUsize::new(0));
            let done = Arc::new(AtomicUsize::new(0));
            let reported = Arc::new(Mutex::new(Instant::now()));
            for _ in 0..dir.threads(config).clamp(1, count) {
                let (next, done) = (Arc::clone(&next), Arc::clone(&done));
                let reported = Arc::clone(&reported);
                let first_error = &first_error;
                scope.spawn(move || {
                    let mut known: Option<(&str, LogConfig)> = None;
                    while let Some((name, partition)) =
                        dir.partitions.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if first_error.lock().is_some() || dir.dir.is_offline() {
                            return;
                        }
                        // The partitions of a topic follow one another.
                        let of_topic = match known.take() {
                            Some((topic, known)) if *topic == *partition.topic => known,
                            _ => topic_config(&partition.topic),
                        };
                        known = Some((&partition.topic, of_topic.clone()));
                        let opening = Opening {
                            home: Arc::clone(&dir.dir),
                            dir: dir.dir.path().join(name),
                            partition: partition.clone(),
                            config: of_topic,
                            clock: Arc::clone(clock),
                            log_start: dir.log_starts.get(partition).copied().unwrap_or(0),
                            recovery_point: dir
                                .recovery_points
                                .get(partition)
                                .copied()
                                .unwrap_or(0),
                            clean: dir.clean,
                            producer_id_expiration_ms: config.producer_id_expiration_ms,
                        };
                        if let Err(error) = loaded.load(opening) {
                            first_error.lock().get_or_insert(error);
                        }
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        let mut reported = reported.lock();
                        if reported.elapsed() >= PROGRESS_EVERY {
                            *reported = Instant::now();
                            tracing::info!(
                                target: TARGET,
                                "Loading logs: {done}/{count} completed in {}",
                                dir.dir.path().display()
                            );
                        }
                    }
                });
            }
        }
    });
    match first_error.into_inner() {
        Some(error) => Err(error),
        None => {
            loaded.settle(contents);
            Ok(())
        }
    }
}

impl Loaded<'_> {
    /// Loads one log. An I/O error takes its dir offline and is no error here.
    fn load(&self, opening: Opening) -> Result<(), Error> {
        let started = Instant::now();
        let home = Arc::clone(&opening.home);
        let log = match recovery::open(opening) {
            Ok(log) => log,
            Err(error) => {
                home.fail(error);
                return Ok(());
            }
        };
        tracing::debug!(
            target: TARGET,
            "Completed load of {log} with {} segments and log-end-offset {} in {}ms",
            log.number_of_segments(),
            log.log_end_offset(),
            started.elapsed().as_millis()
        );
        let logs = if log.is_future() {
            self.futures
        } else {
            self.logs
        };
        match logs.entry(log.topic_partition().clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(log);
            }
            Entry::Occupied(mut known) => {
                let (kept, dropped) = decide(log, Arc::clone(known.get()))?;
                known.insert(kept);
                discard_now(dropped);
            }
        }
        Ok(())
    }

    /// Ends moves that are over.
    fn settle(&self, contents: &[DirContents]) {
        if contents.len() < 2 {
            return;
        }
        let is_read = |path: &Path| contents.iter().any(|dir| dir.dir.path() == path);
        for log in self.logs {
            // The checkpoints of a dir have one entry for each partition.
            let is_beside = |_: &_, future: &Arc<Log>| future.log_dir() == log.log_dir();
            if let Some((_, future)) = self.futures.remove_if(log.key(), is_beside) {
                discard_now(future);
            }
            // A dir that is offline now may come back with the old log.
            if log.moved_from().is_some_and(|from| is_read(&from)) {
                // An error takes the dir offline and is logged there.
                let _ = log.forget_moved_from();
            }
        }
    }
}

/// Deletes a log that nobody has used yet.
fn discard_now(log: Arc<Log>) {
    let due = log.clock.now();
    // An error took its dir offline and was logged there.
    let _ = discard(log, due);
}
