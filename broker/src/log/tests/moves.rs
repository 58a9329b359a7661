//! Moves between log dirs: the swap, and a crash or a failure at each of its steps.

use super::*;
use crate::log::fs::tests::faulty;
use crate::log::fs::{Op, Verdict};

/// Two log dirs and the manager that is open on them. The partition is in the first.
struct Moving {
    dirs: [tempfile::TempDir; 2],
    clock: Arc<ManualClock>,
    config: LogConfig,
    manager: Option<Arc<LogManager>>,
}

impl Moving {
    /// With 6 records in 3 batches of epochs 1, 1 and 2, none below 2, all below the high watermark.
    fn new() -> Self {
        let mut moving = Self {
            dirs: [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
            clock: Arc::new(ManualClock::at(NOW)),
            config: LogConfig::default(),
            manager: None,
        };
        moving.open(&fs::Fs::default());
        moving
            .manager()
            .prefer_dir(&partition(), &moving.path_text(0));
        let log = moving
            .manager()
            .get_or_create(&partition(), None, true, moving.config.clone())
            .unwrap();
        for epoch in [1, 1, 2] {
            log.append_as_leader(&batch(2), epoch).unwrap();
        }
        log.advance_high_watermark(6);
        log.advance_log_start_offset(2).unwrap();
        moving
    }

    fn path(&self, dir: usize) -> &Path {
        self.dirs[dir].path()
    }

    fn path_text(&self, dir: usize) -> String {
        self.path(dir).display().to_string()
    }

    fn try_open(&mut self, fs: &fs::Fs) -> Result<(), Error> {
        self.manager = None;
        self.manager = Some(LogManager::open_on(
            manager_config(&[self.path(0), self.path(1)], &self.config),
            self.clock.clone(),
            &|_| self.config.clone(),
            fs,
        )?);
        Ok(())
    }

    /// Also after a crash: what was written is there, nothing was tidied.
    fn open(&mut self, fs: &fs::Fs) {
        self.try_open(fs).unwrap();
    }

    fn manager(&self) -> &Arc<LogManager> {
        self.manager.as_ref().unwrap()
    }

    fn current(&self) -> Arc<Log> {
        self.manager().log(&partition()).unwrap()
    }

    /// The future log in the second dir, with everything copied.
    fn copied(&self) -> Arc<Log> {
        let future = self
            .manager()
            .get_or_create_future(&partition(), &self.path_text(1), None, self.config.clone())
            .unwrap()
            .unwrap();
        let current = self.current();
        let (from, end) = (current.log_start_offset(), current.log_end_offset());
        if future.log_end_offset() < from {
            future.truncate_fully_and_start_at(from).unwrap();
        }
        if future.log_end_offset() < end {
            let region = current
                .read(request(future.log_end_offset(), end))
                .unwrap()
                .region
                .unwrap();
            future.append_as_follower(&bytes_of(&region), 9).unwrap();
        }
        let manager = self.manager();
        manager.prepare_replacement(&current, &future).unwrap();
        assert!(future.has_caught_up_with(&current));
        future
    }

    /// All steps of the swap; whether the future log took the place.
    fn swap(&self) -> Result<(), Error> {
        let (manager, current) = (self.manager(), self.current());
        let future = manager.future_log(&partition()).unwrap();
        manager.prepare_replacement(&current, &future)?;
        let old = manager.replace_current_with_future(&partition())?;
        assert!(Arc::ptr_eq(&old, &current));
        assert!(Arc::ptr_eq(&future, &self.current()));
        manager.finish_replacement(&old, &future)
    }

    /// Folders of the partition in a dir, by what follows its name.
    fn folders(&self, dir: usize) -> Vec<String> {
        fs::Fs::default()
            .list(self.path(dir), true)
            .unwrap()
            .iter()
            .map(|name| match name.rsplit_once('-') {
                Some((_, suffix)) => suffix.to_owned(),
                None => name.clone(),
            })
            .collect()
    }

    /// One log with all records, which goes on, also after the next start.
    fn is_whole_in(&mut self, dir: usize) {
        for round in 0..2 {
            let log = self.current();
            assert_eq!(log.log_dir(), self.path(dir));
            assert!(!log.is_future());
            assert_eq!(offsets_from(&log, 2)[..2], [(2, 3), (4, 5)]);
            assert_eq!(log.latest_epoch(), Some(2 + round));
            assert!(!log.path().join("moved-from").exists());
            let expect = 6 + i64::from(round);
            let info = log.append_as_leader(&batch(1), 3).unwrap();
            assert_eq!(info.base_offset, expect);
            self.manager().shutdown();
            self.open(&fs::Fs::default());
            self.run_jobs();
            assert_eq!(self.folders(dir), ["0"]);
        }
    }

    fn run_jobs(&self) {
        for dir in &self.manager().dirs {
            dir.run_due(self.clock.now() + 120_000);
        }
    }
}

#[test]
fn a_swap_puts_the_copy_in_the_place_of_the_log() {
    let mut moving = Moving::new();
    let future = moving.copied();
    let old = moving.current();
    assert!(future.is_future() && !old.is_future());
    assert_eq!(moving.manager().logs().len(), 2);
    assert_eq!(moving.folders(1), ["future"]);
    moving.swap().unwrap();
    let new = moving.current();
    assert!(moving.manager().future_log(&partition()).is_none());
    assert_eq!((new.log_start_offset(), new.high_watermark()), (2, 6));
    assert_eq!(
        [moving.folders(0), moving.folders(1)],
        [["delete"], ["0"]].map(|names| names.map(str::to_owned).to_vec())
    );
    // Readers that hold the old log go on; writers do not.
    assert_eq!(offsets_from(&old, 2).len(), 2);
    assert!(old.append_as_leader(&batch(1), 3).is_err());
    let checkpoint =
        |dir: usize, file: &str| std::fs::read_to_string(moving.path(dir).join(file)).unwrap();
    assert_eq!(
        checkpoint(0, "recovery-point-offset-checkpoint"),
        "0\n0\n",
        "the old dir forgets the partition"
    );
    assert_eq!(
        checkpoint(1, "log-start-offset-checkpoint"),
        "0\n0\n",
        "the copy begins there"
    );
    assert_eq!(
        checkpoint(1, "replication-offset-checkpoint"),
        "0\n1\ntopic 0 6\n"
    );
    moving.run_jobs();
    assert!(moving.folders(0).is_empty());
    drop((old, new, future));
    moving.is_whole_in(1);
}

#[test]
fn a_crash_at_any_step_of_the_swap_leaves_one_good_log() {
    // Every operation of the swap fails once, as if the machine had stopped there: what follows fails
    // too, and the next start finds what was done before.
    for step in 0.. {
        let mut moving = Moving::new();
        moving.copied().flush().unwrap();
        moving.manager().checkpoint_high_watermarks();
        let armed = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicI64::new(0));
        let fs = {
            let (armed, done) = (Arc::clone(&armed), Arc::clone(&done));
            faulty(move |op, _| {
                let counts = armed.load(Ordering::Relaxed)
                    && matches!(
                        op,
                        Op::Write | Op::Rename | Op::Sync | Op::SyncDir | Op::Remove
                    );
                if counts && done.fetch_add(1, Ordering::Relaxed) >= step {
                    Verdict::Fail(5)
                } else {
                    Verdict::Proceed
                }
            })
        };
        moving.open(&fs);
        moving.copied();
        armed.store(true, Ordering::Relaxed);
        let swapped = moving.swap();
        let is_over = done.load(Ordering::Relaxed) <= step;
        assert!(swapped.is_ok() || !is_over);
        drop(swapped);
        moving.open(&fs::Fs::default());
        let is_moved = moving.current().log_dir() == moving.path(1);
        if !is_moved {
            // The copy is taken up where it was.
            moving.copied();
            moving.swap().unwrap();
        }
        moving.is_whole_in(1);
        if is_over {
            assert!(step > 10, "{step} operations");
            return;
        }
    }
}

#[test]
fn of_two_folders_that_know_of_each_other_the_further_log_stays() {
    // The name reaches the target's disk and then the target fails, so that the old log goes on.
    let mut moving = Moving::new();
    moving.copied();
    let target = moving.path(1).to_path_buf();
    let renamed = Arc::new(AtomicBool::new(false));
    let fs = faulty(move |op, path| {
        if op == Op::Rename
            && path.parent() == Some(&target)
            && path.to_string_lossy().ends_with("-future")
        {
            renamed.store(true, Ordering::Relaxed);
        }
        if op == Op::SyncDir && path == target && renamed.load(Ordering::Relaxed) {
            Verdict::Fail(5)
        } else {
            Verdict::Proceed
        }
    });
    moving.open(&fs);
    moving.copied();
    assert!(moving.swap().is_err());
    moving.current().append_as_leader(&batch(1), 2).unwrap();
    assert_eq!([moving.folders(0), moving.folders(1)], [["0"], ["0"]]);
    moving.open(&fs::Fs::default());
    let log = moving.current();
    assert_eq!(log.log_dir(), moving.path(0));
    assert_eq!(log.log_end_offset(), 7);
    moving.run_jobs();
    assert!(moving.folders(1).is_empty());
}

#[test]
fn two_folders_that_do_not_know_of_each_other_are_refused() {
    let mut moving = Moving::new();
    moving.manager().shutdown();
    std::fs::create_dir(moving.path(1).join("topic-0")).unwrap();
    assert!(matches!(
        moving.try_open(&fs::Fs::default()),
        Err(Error::Layout { .. })
    ));
}

#[test]
fn a_copy_is_found_again_after_either_stop_and_goes_with_the_topic() {
    let mut moving = Moving::new();
    moving.copied();
    moving.manager().checkpoint_high_watermarks();
    for clean in [true, false] {
        if clean {
            moving.manager().shutdown();
        }
        moving.open(&fs::Fs::default());
        let future = moving.manager().future_log(&partition()).unwrap();
        assert_eq!(future.log_dir(), moving.path(1));
        assert_eq!(future.log_end_offset(), 6);
        assert_eq!(moving.manager().checkpointed_high_watermark(&future), 6);
        assert_eq!(moving.manager().logs().len(), 2);
    }
    moving.manager().delete(&partition()).unwrap();
    assert!(moving.manager().logs().is_empty());
    assert_eq!(
        [moving.folders(0), moving.folders(1)],
        [["delete"], ["delete"]]
    );
    moving.run_jobs();
    assert!(moving.folders(1).is_empty());
}

#[test]
fn a_copy_that_lost_its_dir_is_forgotten_and_none_begins_meanwhile() {
    let moving = Moving::new();
    moving.copied();
    let failure = moving.manager().fail_dir(moving.path(1));
    assert_eq!(failure.future_partitions, [partition()]);
    assert!(failure.partitions.is_empty() && !failure.none_left);
    assert!(moving.manager().future_log(&partition()).is_none());
    assert!(moving.manager().check_dir(&moving.path_text(0)).is_ok());
    for (dir, expect) in [
        (moving.path_text(1), ErrorCode::KafkaStorageError),
        ("/nowhere".to_owned(), ErrorCode::LogDirNotFound),
    ] {
        assert_eq!(moving.manager().check_dir(&dir).unwrap_err().code(), expect);
    }
    let begun = moving.manager().get_or_create_future(
        &partition(),
        &moving.path_text(1),
        None,
        moving.config.clone(),
    );
    assert!(matches!(begun, Err(Error::Offline { .. })));
}

#[test]
fn a_wish_counts_for_the_next_log_of_the_partition_only() {
    let moving = Moving::new();
    let manager = moving.manager();
    let other = TopicPartition::new("topic", 1);
    for dir in [0, 1, 0] {
        manager.prefer_dir(&other, &moving.path_text(dir));
        let log = manager
            .get_or_create(&other, None, true, moving.config.clone())
            .unwrap();
        assert_eq!(log.log_dir(), moving.path(dir));
        manager.delete(&other).unwrap();
    }
    // No wish: the dir with fewer logs.
    let log = manager
        .get_or_create(&other, None, true, moving.config.clone())
        .unwrap();
    assert_eq!(log.log_dir(), moving.path(1));
}

#[test]
fn an_epoch_without_a_record_is_taken_over() {
    let moving = Moving::new();
    moving.current().assign_epoch_start(5).unwrap();
    let future = moving.copied();
    moving.swap().unwrap();
    assert_eq!(future.latest_epoch(), Some(5));
    assert_eq!(
        future.end_offset_for_epoch(2),
        EpochEndOffset {
            epoch: 2,
            end_offset: 6
        }
    );
}

#[test]
fn a_log_of_the_same_length_has_not_caught_up_when_its_end_is_another() {
    let moving = Moving::new();
    let future = moving.copied();
    moving.current().truncate_to(4).unwrap();
    moving.current().append_as_leader(&batch(2), 7).unwrap();
    assert_eq!(moving.current().log_end_offset(), 6);
    assert!(!future.has_caught_up_with(&moving.current()));
}

#[test]
fn moves_and_rounds_write_checkpoints_at_once() {
    let moving = Moving::new();
    moving.copied();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    moving.manager().checkpoint_recovery_points();
                    moving.manager().checkpoint_high_watermarks();
                }
            });
        }
    });
    assert!(moving.manager().dirs().iter().all(|dir| !dir.offline));
    moving.swap().unwrap();
}
