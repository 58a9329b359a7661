//! Whole logs on a temporary disk: what is written is read, also after a stop of either kind.

use std::borrow::Cow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::manager::{LogManager, ManagerConfig};
use super::*;
use crate::clock::ManualClock;
use crate::record::batch::{Batch, BatchIter};
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::record::validate::Prepared;

mod crash;
mod life;
mod model;
mod moves;
mod transactions;

/// Start of the manual clock.
const NOW: Millis = 1_700_000_000_000;

/// A log dir, a clock, and the manager that is open on it.
struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    config: LogConfig,
    manager: Option<Arc<LogManager>>,
}

fn partition() -> TopicPartition {
    TopicPartition::new("topic", 0)
}

fn manager_config(dirs: &[&Path], config: &LogConfig) -> ManagerConfig {
    ManagerConfig {
        log_dirs: dirs.iter().map(|dir| dir.to_path_buf()).collect(),
        num_recovery_threads_per_data_dir: 2,
        default_log_config: config.clone(),
        retention_check_interval_ms: 300_000,
        flush_scheduler_interval_ms: i64::MAX,
        flush_offset_checkpoint_interval_ms: 60_000,
        flush_start_offset_checkpoint_interval_ms: 60_000,
        producer_id_expiration_ms: 86_400_000,
        producer_id_expiration_check_interval_ms: 600_000,
    }
}

impl Bench {
    fn new(config: LogConfig) -> Self {
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(NOW)),
            config,
            manager: None,
        };
        bench.open();
        bench
    }

    fn try_open(&self, fs: &fs::Fs) -> Result<Arc<LogManager>, Error> {
        LogManager::open_on(
            manager_config(&[self.dir.path()], &self.config),
            self.clock.clone(),
            &|_| self.config.clone(),
            fs,
        )
    }

    fn open(&mut self) {
        self.open_on(&fs::Fs::default());
    }

    fn open_on(&mut self, fs: &fs::Fs) {
        self.manager = Some(self.try_open(fs).unwrap());
    }

    fn manager(&self) -> &Arc<LogManager> {
        self.manager.as_ref().unwrap()
    }

    fn log(&self) -> Arc<Log> {
        self.manager()
            .get_or_create(&partition(), None, true, self.config.clone())
            .unwrap()
    }

    /// Clean stop and start.
    fn restart(&mut self) {
        self.manager().shutdown();
        self.manager = None;
        self.open();
    }

    /// Start after a crash of the process: what was written is there, nothing was tidied.
    fn crash(&mut self) {
        self.manager = None;
        self.open();
    }

    fn partition_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("topic-0")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.partition_dir().join(name)
    }

    /// Runs the jobs that are due.
    fn run_jobs(&self) {
        let log = self.log();
        log.home.run_due(self.clock.now());
    }

    fn file_names(&self) -> Vec<String> {
        fs::Fs::default()
            .list(&self.partition_dir(), false)
            .unwrap()
    }
}

fn prepare(records: &[NewRecord], options: &BatchOptions) -> Prepared<'static> {
    let bytes = build_batch(records, options);
    let header = *Batch::parse(&bytes).unwrap().header();
    Prepared {
        bytes: Cow::Owned(bytes.into()),
        header,
        log_append_time: -1,
    }
}

fn record(timestamp: Millis, value: &[u8]) -> NewRecord {
    NewRecord {
        timestamp,
        value: Some(Bytes::copy_from_slice(value)),
        ..NewRecord::default()
    }
}

/// A batch of `count` records of about `size` bytes, all with one timestamp.
fn batch_at(timestamp: Millis, count: usize, size: usize) -> Prepared<'static> {
    let records: Vec<_> = (0..count)
        .map(|_| record(timestamp, &vec![b'x'; size]))
        .collect();
    prepare(&records, &BatchOptions::default())
}

fn batch(count: usize) -> Prepared<'static> {
    batch_at(NOW, count, 10)
}

fn idempotent(
    id: ProducerId,
    epoch: ProducerEpoch,
    sequence: i32,
    count: usize,
) -> Prepared<'static> {
    let records: Vec<_> = (0..count).map(|_| record(NOW, b"v")).collect();
    prepare(
        &records,
        &BatchOptions {
            producer_id: id,
            producer_epoch: epoch,
            base_sequence: sequence,
            ..BatchOptions::default()
        },
    )
}

fn request(offset: Offset, upper_bound: Offset) -> ReadRequest {
    ReadRequest {
        offset,
        max_bytes: 1 << 20,
        upper_bound,
        min_one_message: true,
        with_aborted: false,
    }
}

fn bytes_of(region: &FileRegion) -> Vec<u8> {
    let mut bytes = vec![0; region.len];
    region
        .file
        .read_exact_at(&mut bytes, region.position)
        .unwrap();
    bytes
}

/// Base and last offset of each batch from `offset` up to the LEO, over all segments.
fn offsets_from(log: &Log, offset: Offset) -> Vec<(Offset, Offset)> {
    let mut at = offset;
    let mut found = Vec::new();
    while at < log.log_end_offset() {
        let info = log.read(request(at, log.log_end_offset())).unwrap();
        let Some(region) = info.region else { break };
        let bytes = bytes_of(&region);
        let before = found.len();
        for frame in BatchIter::new(&bytes) {
            let frame = frame.unwrap();
            frame.ensure_valid().unwrap();
            found.push((frame.prefix.base_offset, frame.last_offset().unwrap()));
        }
        assert!(found.len() > before, "a read returned no whole batch");
        at = found.last().unwrap().1 + 1;
    }
    found
}
