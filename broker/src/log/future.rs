//! Moving a log to another log dir of the broker (KIP-113): the copy, and how it takes the place of
//! the current log.
//!
//! The copy, the future log, grows in `<topic>-<partition>.<unique id>-future` of the target dir.
//! Who copies is not known here. When the copy has caught up:
//!
//! 1. `moved-from` in its folder is written: the log dir it was copied from.
//! 2. Target dir: `…-future` becomes `<topic>-<partition>`.
//! 3. Source dir: `<topic>-<partition>` becomes `…-delete`.
//! 4. `moved-from` is removed.
//!
//! In Kafka's order, and for its reason: at no step is the partition without a folder of its name,
//! else the next start would give it an empty log. So a crash between 2 and 3 leaves it in two dirs.
//! Kafka refuses to start then. Here `moved-from` says that both are one log, and the one that
//! reaches further stays: of the later leader epoch, then of the larger LEO; of equal ones the moved
//! one. Both hold all that was acknowledged, because nothing is appended between 2 and 3, unless
//! the machine lost power, which may have cost either its end, or one of the dirs failed between 2
//! and 3 and the partition went on in the other. Two folders that do not know of each other are for
//! the operator to decide, as in Kafka.
//!
//! Kafka takes no notice of `moved-from`, and starts on what any other crash leaves.
//!
//! Source: `LogManager.replaceCurrentWithFutureLog`, `LogManager.loadLog`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::{HIGH_WATERMARK_FILE, LOG_START_OFFSET_FILE, RECOVERY_POINT_FILE};
use super::dir::{LogDir, future_name};
use super::manager::{LogManager, TARGET, log_start_to_keep};
use super::{Error, Log};
use crate::config::topic::LogConfig;
use crate::types::{Millis, Offset, TopicPartition, Uuid};

/// In the folder of a log that takes the place of one in another dir; holds that dir's path.
pub(super) const MOVED_FROM_FILE: &str = "moved-from";
/// Wishes of partitions that are not here, at most: they come from requests.
const MAX_PREFERRED: usize = 100_000;

impl LogManager {
    /// The copy of a log in the dir it moves to.
    pub fn future_log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        self.futures.get(partition).map(|log| Arc::clone(&log))
    }

    fn configured_dir(&self, path: &str) -> Result<&Arc<LogDir>, Error> {
        self.dirs
            .iter()
            // As text, like Kafka: DescribeLogDirs says how each is spelled.
            .find(|dir| dir.path().as_os_str() == path)
            .ok_or_else(|| Error::UnknownDir {
                dir: path.to_owned(),
            })
    }

    /// Whether `path` is one of `log.dirs` and online.
    pub fn check_dir(&self, path: &str) -> Result<(), Error> {
        self.configured_dir(path)?.check_online()
    }

    /// The next log of the partition is to be created in `path`, unless there is one already.
    pub fn prefer_dir(&self, partition: &TopicPartition, path: &str) {
        let is_there = |log: Option<Arc<Log>>| log.is_some_and(|log| log.is_in(path));
        if !is_there(self.log(partition))
            && !is_there(self.future_log(partition))
            && self.preferred.len() < MAX_PREFERRED
        {
            self.preferred
                .insert(partition.clone(), PathBuf::from(path));
        }
    }

    /// The future log, created in `path` when absent; `None` when the log is there already. Not while
    /// any dir is offline: a future log may be there.
    pub fn get_or_create_future(
        &self,
        partition: &TopicPartition,
        path: &str,
        topic_id: Option<Uuid>,
        config: LogConfig,
    ) -> Result<Option<Arc<Log>>, Error> {
        let _creation = self.creation.lock();
        let log = match self.future_log(partition) {
            Some(log) => log,
            None if self.log(partition).is_some_and(|log| log.is_in(path)) => return Ok(None),
            None => {
                self.check_all_online()?;
                let home = self.configured_dir(path)?;
                let log = self.create_in(home, &future_name(partition), partition, config)?;
                self.futures.insert(partition.clone(), Arc::clone(&log));
                self.preferred.remove(partition);
                log
            }
        };
        if let Some(id) = topic_id {
            log.assign_topic_id(id)?;
        }
        Ok(Some(log))
    }

    /// Forgets the future log and deletes its files, as [`LogManager::delete`] does.
    pub fn delete_future(&self, partition: &TopicPartition) -> Result<(), Error> {
        let _creation = self.creation.lock();
        let Some((_, log)) = self.futures.remove(partition) else {
            return Ok(());
        };
        let home = Arc::clone(&log.home);
        discard(log, self.due_for_deletion())?;
        self.checkpoint_layout(&home)
    }

    /// Step 1, once, while the current log is still written. Also what the files of a log do not
    /// tell is in the target dir before the name is.
    pub fn prepare_replacement(&self, current: &Log, future: &Log) -> Result<(), Error> {
        future.flush()?;
        future.take_bounds_from(current)?;
        future.note_moved_from(current.log_dir())?;
        self.checkpoint_in(&future.home, HIGH_WATERMARK_FILE, |log| {
            Some(log.high_watermark())
        })?;
        self.checkpoint_layout(&future.home)
    }

    /// Steps 2 and 3: the future log takes the place of the current one. The caller has made sure
    /// that it has caught up, and lets nobody append until this returns.
    ///
    /// Answers the old log, for [`Self::finish_replacement`]. When the old log's dir fails in step 3
    /// the partition is moved all the same.
    pub fn replace_current_with_future(
        &self,
        partition: &TopicPartition,
    ) -> Result<Arc<Log>, Error> {
        let _creation = self.creation.lock();
        let gone = |which: &str| Error::Offline {
            dir: format!("the {which} log of {partition}"),
        };
        let future = self.future_log(partition).ok_or_else(|| gone("future"))?;
        let current = self.log(partition).ok_or_else(|| gone("current"))?;
        tracing::info!(
            target: TARGET,
            "Attempting to replace current log {current} with {future} for {partition}"
        );
        future.advance_high_watermark(current.high_watermark());
        if let Some(epoch) = current.latest_epoch()
            && future.latest_epoch().is_none_or(|ours| ours < epoch)
        {
            // It has no record yet.
            future.assign_epoch_start(epoch)?;
        }
        future.become_current()?;
        self.futures.remove(partition);
        self.logs.insert(partition.clone(), future);
        if let Err(error) = discard(Arc::clone(&current), self.due_for_deletion()) {
            tracing::error!(
                target: TARGET,
                "The old log of {partition} stays in {}: {error}",
                current.log_dir().display()
            );
        }
        tracing::info!(
            target: TARGET,
            "The current replica is successfully replaced with the future replica for {partition}"
        );
        Ok(current)
    }

    /// Step 4, in no hurry. Where step 3 failed, `moved-from` stays for the next start.
    pub fn finish_replacement(&self, old: &Log, new: &Log) -> Result<(), Error> {
        self.checkpoint_layout(&new.home)?;
        old.home.check_online()?;
        self.checkpoint_layout(&old.home)?;
        new.forget_moved_from()
    }

    /// Writes what is known of the logs in a dir after one came or went.
    fn checkpoint_layout(&self, dir: &LogDir) -> Result<(), Error> {
        self.checkpoint_in(dir, RECOVERY_POINT_FILE, |log| Some(log.recovery_point()))?;
        self.checkpoint_in(dir, LOG_START_OFFSET_FILE, log_start_to_keep)
    }
}

/// Renames a log's folder to `-delete` and removes it when `due`.
pub(super) fn discard(log: Arc<Log>, due: Millis) -> Result<(), Error> {
    let path = log.rename_for_deletion()?;
    tracing::info!(
        target: TARGET,
        "Log for partition {} is renamed to {} and is scheduled for deletion",
        log.topic_partition(),
        path.display()
    );
    let home = Arc::clone(&log.home);
    home.submit(due, move || {
        if log.delete_files().is_ok() {
            tracing::info!(
                target: TARGET,
                "Deleted log for partition {} in {}.",
                log.topic_partition(),
                log.path().display()
            );
        }
    });
    Ok(())
}

/// Of two logs of one partition that a start found: which stays, and which goes. See the head of the
/// file. Of two future logs, which are copies, the further one stays.
pub(super) fn decide(one: Arc<Log>, other: Arc<Log>) -> Result<(Arc<Log>, Arc<Log>), Error> {
    let is_moved = |log: &Log, from: &Log| {
        log.moved_from()
            .is_some_and(|dir| dir.as_path() == from.log_dir())
    };
    let (is_one_moved, is_other_moved) = (is_moved(&one, &other), is_moved(&other, &one));
    if !one.is_future() && !is_one_moved && !is_other_moved {
        return Err(Error::Layout {
            message: format!(
                "Duplicate log directories for {} are found in both {} and {}. Recover broker from this failure by manually deleting one of the two directories for this partition. It is recommended to delete the partition in the log directory that is known to have failed recently.",
                one.topic_partition(),
                one.path().display(),
                other.path().display()
            ),
        });
    }
    let reach = |log: &Log, is_moved: bool| (log.latest_epoch(), log.log_end_offset(), is_moved);
    let (kept, dropped) = if reach(&one, is_one_moved) >= reach(&other, is_other_moved) {
        (one, other)
    } else {
        (other, one)
    };
    tracing::warn!(
        target: TARGET,
        "{} is in two log dirs, because a move between them was interrupted: {kept} stays, {dropped} is deleted",
        kept.topic_partition()
    );
    Ok((kept, dropped))
}

impl Log {
    /// Whether it is the target of a move between log dirs, as its folder's name says.
    pub fn is_future(&self) -> bool {
        let dir = self.place.dir.load();
        dir.file_name()
            .is_some_and(|name| super::dir::is_future_name(&name.to_string_lossy()))
    }

    /// Whether its log dir is spelled `path`.
    pub fn is_in(&self, path: &str) -> bool {
        self.log_dir().as_os_str() == path
    }

    fn become_current(&self) -> Result<(), Error> {
        let name = self.topic_partition().to_string();
        self.rename(&name, false).map(drop)
    }

    fn note_moved_from(&self, dir: &Path) -> Result<(), Error> {
        use std::os::unix::ffi::OsStrExt;
        let path = self.path().join(MOVED_FROM_FILE);
        self.io(self.home.fs.replace(&path, dir.as_os_str().as_bytes()))
    }

    pub(super) fn moved_from(&self) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        // What cannot be read says nothing.
        let bytes = self.home.fs.read(&self.path().join(MOVED_FROM_FILE));
        let bytes = bytes.ok().flatten()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    pub(super) fn forget_moved_from(&self) -> Result<(), Error> {
        let path = self.path().join(MOVED_FROM_FILE);
        self.io(self.home.fs.remove(&path)).map(drop)
    }

    /// Whether it may take the place of `current`: it ends with the same record, in the same epoch,
    /// and begins no earlier.
    pub fn has_caught_up_with(&self, current: &Log) -> bool {
        let end: Offset = self.log_end_offset();
        if end != current.log_end_offset() || self.log_start_offset() < current.log_start_offset() {
            return false;
        }
        match self.latest_epoch() {
            // Empty, or records older than epochs.
            None => true,
            Some(epoch) => {
                let there = current.end_offset_for_epoch(epoch);
                // An empty log has nothing to differ in, and may know no epoch.
                (there.epoch == epoch && there.end_offset == end)
                    || current.log_start_offset() == end
            }
        }
    }

    /// Takes the high watermark and the log start offset of the log it is a copy of, as far as its
    /// own end allows.
    fn take_bounds_from(&self, current: &Log) -> Result<(), Error> {
        self.advance_high_watermark(current.high_watermark());
        self.follow_log_start_offset(current.log_start_offset())
    }
}
