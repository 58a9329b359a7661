//! Every log of the broker, over all log dirs: opening and recovery, creation, deletion, and the
//! rounds of flushing, retention and checkpoints.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Error, Log};
use crate::clock::Clock;
use crate::config::topic::LogConfig;
use crate::types::{Offset, TopicPartition, Uuid};

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

/// Owner of all logs. Background rounds run on threads it starts in [`LogManager::start`].
pub struct LogManager {
    _private: (),
}

impl LogManager {
    /// Locks the dirs, then loads (and after an unclean stop recovers) every log in them, in
    /// parallel. `topic_config` gives the effective config of a topic. Logs progress lines.
    pub fn open(
        config: ManagerConfig,
        clock: Arc<dyn Clock>,
        topic_config: &(dyn Fn(&str) -> LogConfig + Sync),
    ) -> Result<Arc<Self>, Error> {
        let _ = (config, clock, topic_config);
        todo!()
    }
    /// Starts retention, flush, checkpoint and delayed-deletion rounds.
    pub fn start(self: &Arc<Self>) {
        todo!()
    }
    pub fn log(&self, partition: &TopicPartition) -> Option<Arc<Log>> {
        let _ = partition;
        todo!()
    }
    pub fn logs(&self) -> Vec<Arc<Log>> {
        todo!()
    }
    /// The log, created in the dir with the fewest logs when absent. `is_new` false with an
    /// offline dir present: [`Error::Offline`], because the log may be there.
    pub fn get_or_create(
        &self,
        partition: &TopicPartition,
        topic_id: Option<Uuid>,
        is_new: bool,
        config: LogConfig,
    ) -> Result<Arc<Log>, Error> {
        let _ = (partition, topic_id, is_new, config);
        todo!()
    }
    /// Renames the log's folder to `-delete` and removes it after `file.delete.delay.ms`.
    pub fn delete(&self, partition: &TopicPartition) -> Result<(), Error> {
        let _ = partition;
        todo!()
    }
    /// `replication-offset-checkpoint` of all dirs, read at start.
    pub fn checkpointed_high_watermarks(&self) -> HashMap<TopicPartition, Offset> {
        todo!()
    }
    /// Writes `replication-offset-checkpoint` in every online dir from the logs' high watermarks.
    pub fn checkpoint_high_watermarks(&self) {
        todo!()
    }
    pub fn dirs(&self) -> Vec<LogDirInfo> {
        todo!()
    }
    /// Takes the dir that holds `partition` offline after an I/O error; returns its partitions.
    pub fn fail_dir(&self, dir: &std::path::Path) -> Vec<TopicPartition> {
        let _ = dir;
        todo!()
    }
    /// Flush, producer snapshots, checkpoints, then the clean-shutdown marker; in parallel.
    pub fn shutdown(&self) {
        todo!()
    }
}
