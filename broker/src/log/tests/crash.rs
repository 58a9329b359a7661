//! Damage of every kind, found at the start or while running. No damage prevents a start, and
//! what was whole before it is there afterwards.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::log::fs::tests::faulty;
use crate::log::fs::{Op, Verdict};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A broker's disk at some moment, to start from again and again.
struct Disk {
    dir: tempfile::TempDir,
    config: LogConfig,
}

impl Disk {
    /// Runs `fill` on a new log; the disk is as it was when it stopped.
    fn new(config: LogConfig, clean: bool, fill: impl Fn(&Log)) -> Self {
        let bench = Bench::new(config.clone());
        fill(&bench.log());
        bench.run_jobs();
        if clean {
            bench.manager().shutdown();
        } else {
            bench.manager().checkpoint_recovery_points();
        }
        let dir = tempfile::tempdir().unwrap();
        copy(bench.dir.path(), dir.path());
        Self { dir, config }
    }

    /// A start on a copy, after `damage` (given the partition's folder).
    fn start_after(&self, damage: impl FnOnce(&Path)) -> Bench {
        let mut bench = Bench {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at(NOW)),
            config: self.config.clone(),
            manager: None,
        };
        copy(self.dir.path(), bench.dir.path());
        damage(&bench.partition_dir());
        bench.open();
        bench
    }
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("00000000000000000000.log")
}

/// Appending and reading go on as if nothing had been.
fn works_from(bench: &mut Bench, end: Offset) {
    let log = bench.log();
    assert_eq!(log.log_end_offset(), end);
    let before = offsets_from(&log, log.log_start_offset());
    assert_eq!(before.last().map_or(end, |last| last.1 + 1), end);
    assert_eq!(log.append_as_leader(&batch(2), 9).unwrap().base_offset, end);
    let after = offsets_from(&log, log.log_start_offset());
    assert_eq!(after.len(), before.len() + 1);
    drop(log);
    bench.restart();
    assert_eq!(bench.log().log_end_offset(), end + 2);
    assert_eq!(
        offsets_from(&bench.log(), bench.log().log_start_offset()),
        after
    );
}

fn three_batches(clean: bool) -> Disk {
    Disk::new(LogConfig::default(), clean, |log| {
        for n in 1..=3 {
            log.append_as_leader(&idempotent(7, 0, n * (n - 1) / 2, n as usize), 0)
                .unwrap();
        }
    })
}

#[test]
fn a_last_batch_torn_at_any_byte_is_cut() {
    for clean in [false, true] {
        let disk = three_batches(clean);
        let bytes = std::fs::read(log_file(&disk.dir.path().join("topic-0"))).unwrap();
        let last = idempotent(7, 0, 3, 3).bytes.len();
        for lost in 1..=last {
            let mut bench = disk.start_after(|dir| {
                std::fs::write(log_file(dir), &bytes[..bytes.len() - lost]).unwrap();
            });
            if lost % 16 == 1 {
                works_from(&mut bench, 3);
            }
            assert_eq!(bench.log().log_start_offset(), 0);
            assert!(bench.log().log_end_offset() >= 3);
        }
        // Sectors that were never written read as zeros.
        for zeroed in (1..=last).step_by(7) {
            let mut zeros = bytes.clone();
            let from = zeros.len() - zeroed;
            zeros[from..].fill(0);
            zeros.extend_from_slice(&[0; 100]);
            // The record ends with a zero byte (no headers), which is lost without a trace.
            let expect = if zeros[..bytes.len()] == bytes { 6 } else { 3 };
            if clean && zeroed < last - 27 {
                // A clean stop is believed as long as the headers are whole.
                continue;
            }
            let bench = disk.start_after(|dir| std::fs::write(log_file(dir), &zeros).unwrap());
            assert_eq!(
                bench.log().log_end_offset(),
                expect,
                "{zeroed} bytes zeroed"
            );
        }
    }
}

#[test]
fn a_flipped_bit_cuts_the_log_before_its_batch() {
    let disk = three_batches(false);
    let bytes = std::fs::read(log_file(&disk.dir.path().join("topic-0"))).unwrap();
    let start = bytes.len() - idempotent(7, 0, 3, 3).bytes.len();
    for at in start..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let bench = disk.start_after(|dir| std::fs::write(log_file(dir), &flipped).unwrap());
        // Base offset and leader epoch are not covered by the CRC.
        let covered = !(start..start + 8).contains(&at) && !(start + 12..start + 16).contains(&at);
        if covered {
            assert_eq!(bench.log().log_end_offset(), 3, "byte {}", at - start);
        }
    }
}

/// Recovery reads through a window: batches that fit, that reach over its end, that are larger.
#[test]
fn damage_is_found_in_batches_of_every_size() {
    let sizes = [200_000, 10, 120_000, 600_000, 20, 262_000, 5];
    let disk = Disk::new(LogConfig::default(), false, |log| {
        for size in sizes {
            let batch = batch_at(NOW, 1, size);
            log.append_as_leader(&batch, 0).unwrap();
        }
    });
    let bytes = std::fs::read(log_file(&disk.dir.path().join("topic-0"))).unwrap();
    let whole = disk.start_after(|_| {});
    assert_eq!(whole.log().log_end_offset(), sizes.len() as i64);
    let mut end = 0;
    for (offset, size) in (0..).zip(sizes) {
        end += batch_at(NOW, 1, size).bytes.len();
        let mut flipped = bytes.clone();
        flipped[end - 2] ^= 1;
        let bench = disk.start_after(|dir| std::fs::write(log_file(dir), &flipped).unwrap());
        assert_eq!(bench.log().log_end_offset(), offset, "{size} bytes");
    }
}

#[test]
fn damage_in_the_middle_ends_the_log_there_and_later_segments_go() {
    let size = batch(1).bytes.len();
    let config = LogConfig {
        segment_bytes: 2 * size as i32,
        ..LogConfig::default()
    };
    let bench = Bench::new(config.clone());
    for _ in 0..8 {
        bench.log().append_as_leader(&batch(1), 0).unwrap();
    }
    let disk = Disk {
        dir: tempfile::tempdir().unwrap(),
        config,
    };
    // Nothing was flushed, so the recovery point is 0.
    copy(bench.dir.path(), disk.dir.path());
    let mut started = disk.start_after(|dir| {
        let path = dir.join("00000000000000000002.log");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[size + 70] ^= 4;
        std::fs::write(&path, bytes).unwrap();
    });
    assert_eq!(started.log().number_of_segments(), 2);
    works_from(&mut started, 3);
    // An orphaned index, a missing first segment: start where data are.
    let started = disk.start_after(|dir| {
        std::fs::remove_file(log_file(dir)).unwrap();
    });
    assert_eq!(started.log().log_start_offset(), 2);
    assert!(!started.file("00000000000000000000.index").exists());
}

#[test]
fn below_the_recovery_point_nothing_is_read() {
    let size = batch(1).bytes.len();
    let config = LogConfig {
        segment_bytes: 2 * size as i32,
        ..LogConfig::default()
    };
    let disk = Disk::new(config, false, |log| {
        for _ in 0..5 {
            log.append_as_leader(&batch(1), 0).unwrap();
        }
    });
    let started = disk.start_after(|dir| {
        let mut bytes = std::fs::read(log_file(dir)).unwrap();
        bytes[70] ^= 4;
        std::fs::write(log_file(dir), bytes).unwrap();
    });
    assert_eq!(started.log().recovery_point(), 4);
    assert_eq!(started.log().log_end_offset(), 5);
}

/// Replaces a file by each kind of rubbish; `None` is its absence.
fn rubbish(good: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut flipped = good.to_vec();
    if let Some(byte) = flipped.get_mut(good.len() / 2) {
        *byte ^= 0x40;
    }
    vec![
        None,
        Some(Vec::new()),
        Some(vec![0; good.len().max(24)]),
        Some(vec![0; 10_485_760]),
        Some(vec![0xff; good.len().max(24)]),
        Some(good[..good.len() / 2].to_vec()),
        Some(good[..good.len().saturating_sub(1)].to_vec()),
        Some(b"garbage\n\x80\xff in a file".to_vec()),
        Some(flipped),
    ]
}

#[test]
fn every_other_file_may_be_missing_or_rubbish() {
    let config = LogConfig {
        segment_bytes: 1600,
        index_interval_bytes: 200,
        ..LogConfig::default()
    };
    for clean in [true, false] {
        let disk = Disk::new(config.clone(), clean, |log| {
            for n in 0..60 {
                log.append_as_leader(&idempotent(5, 0, n, 1), n / 20)
                    .unwrap();
            }
            log.advance_high_watermark(60);
        });
        let folder = disk.dir.path().join("topic-0");
        let mut files: Vec<PathBuf> = Vec::new();
        for dir in [disk.dir.path(), &folder] {
            for name in fs::Fs::default().list(dir, false).unwrap() {
                if !name.ends_with(".log") && name != ".lock" {
                    files.push(dir.join(name));
                }
            }
        }
        assert!(files.len() > 9, "{files:?}");
        for file in files {
            let good = std::fs::read(&file).unwrap();
            // Before and after a crash the file may be full of zeros to its largest size.
            let good = &good[..good.len().min(5000)];
            for bad in rubbish(good) {
                let name = file.strip_prefix(disk.dir.path()).unwrap();
                let bench = disk.start_after(|dir| {
                    let path = dir.parent().unwrap().join(name);
                    match &bad {
                        None => std::fs::remove_file(path).unwrap(),
                        Some(bytes) => std::fs::write(path, bytes).unwrap(),
                    }
                });
                let log = bench.log();
                let what = format!(
                    "{} clean={clean} {:?}",
                    name.display(),
                    bad.as_ref().map(Vec::len)
                );
                assert_eq!(log.log_end_offset(), 60, "{what}");
                assert_eq!(offsets_from(&log, 0).len(), 60, "{what}");
                for offset in [0, 17, 33, 59] {
                    assert_eq!(offsets_from(&log, offset)[0].0, offset, "{what}");
                }
                assert!(log.offset_for_timestamp(NOW).is_ok(), "{what}");
                if !name.ends_with("leader-epoch-checkpoint") {
                    assert_eq!(log.epoch_for_offset(25), Some(1), "{what}");
                }
                // The producer goes on where it was, and a retry is a duplicate.
                let again = log.append_as_leader(&idempotent(5, 0, 59, 1), 2).unwrap();
                assert!(again.duplicate, "{what}");
                assert_eq!(again.base_offset, 59, "{what}");
                log.append_as_leader(&idempotent(5, 0, 60, 1), 2).unwrap();
            }
        }
    }
}

#[test]
fn interrupted_swaps_are_completed() {
    let disk = Disk::new(LogConfig::default(), true, |log| {
        for _ in 0..4 {
            log.append_as_leader(&batch(1), 0).unwrap();
        }
    });
    let bytes = std::fs::read(log_file(&disk.dir.path().join("topic-0"))).unwrap();
    let size = bytes.len() / 4;
    // The cleaner kept the first and the last batch.
    let kept = [&bytes[..size], &bytes[3 * size..]].concat();
    let started = disk.start_after(|dir| {
        std::fs::write(dir.join("00000000000000000000.log.swap"), &kept).unwrap();
        std::fs::write(dir.join("00000000000000000000.index.swap"), b"").unwrap();
    });
    assert_eq!(offsets_from(&started.log(), 0), [(0, 0), (3, 3)]);
    assert_eq!(offsets_from(&started.log(), 1), [(3, 3)]);
    // A cleaning that did not get so far never was.
    let started = disk.start_after(|dir| {
        std::fs::write(dir.join("00000000000000000000.log.cleaned"), &kept).unwrap();
        std::fs::write(dir.join("00000000000000000002.log.swap"), &kept).unwrap();
        std::fs::write(dir.join("00000000000000000007.log.deleted"), b"x").unwrap();
    });
    assert_eq!(offsets_from(&started.log(), 0).len(), 4);
    assert!(
        started
            .file_names()
            .iter()
            .all(|name| !name.ends_with("swap") && !name.ends_with("deleted"))
    );
}

#[test]
fn a_log_that_ends_before_its_start_begins_anew_there() {
    let disk = Disk::new(LogConfig::default(), false, |log| {
        log.append_as_leader(&batch(5), 0).unwrap();
    });
    let mut started = disk.start_after(|dir| {
        let path = dir.parent().unwrap().join("log-start-offset-checkpoint");
        std::fs::write(path, "0\n1\ntopic 0 9\n").unwrap();
    });
    assert_eq!(started.log().log_start_offset(), 9);
    works_from(&mut started, 9);
}

#[test]
fn zero_filled_indexes_of_a_crash_are_made_anew() {
    let mut bench = Bench::new(LogConfig {
        index_interval_bytes: 100,
        ..LogConfig::default()
    });
    for _ in 0..50 {
        bench.log().append_as_leader(&batch(3), 0).unwrap();
    }
    let index = bench.file("00000000000000000000.index");
    assert_eq!(std::fs::metadata(&index).unwrap().len(), 10_485_760);
    bench.crash();
    let len = std::fs::metadata(&index).unwrap().len();
    assert!(len > 0 && len < 1000, "{len}");
    works_from(&mut bench, 150);
}

fn eio_on(op: Op, suffix: &'static str, from: usize) -> fs::Fs {
    let seen = AtomicUsize::new(0);
    faulty(move |asked, path| {
        let hit = asked == op && path.to_string_lossy().ends_with(suffix);
        if hit && seen.fetch_add(1, Ordering::Relaxed) >= from {
            Verdict::Fail(5)
        } else {
            Verdict::Proceed
        }
    })
}

#[test]
fn a_failed_write_takes_the_dir_offline_and_is_never_tried_again() {
    let mut bench = Bench::new(LogConfig::default());
    bench.log().append_as_leader(&batch(3), 0).unwrap();
    bench.manager().shutdown();
    bench.open_on(&eio_on(Op::Write, ".log", 1));
    let (told, failure) = std::sync::mpsc::channel();
    bench.manager().on_dir_failure(move |failure| {
        let _ = told.send(failure);
    });
    bench.manager().start();
    let log = bench.log();
    log.append_as_leader(&batch(1), 0).unwrap();
    let error = log.append_as_leader(&batch(1), 0).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::KafkaStorageError);
    for result in [
        log.append_as_leader(&batch(1), 0).map(|_| ()),
        log.read(request(0, 4)).map(|_| ()),
        log.flush(),
        log.truncate_to(1),
        log.offset_for_timestamp(0).map(|_| ()),
    ] {
        assert!(matches!(result, Err(Error::Offline { .. })));
    }
    let failure = failure
        .recv_timeout(std::time::Duration::from_secs(10))
        .unwrap();
    assert_eq!(failure.partitions, [partition()]);
    assert!(failure.none_left);
    assert!(bench.manager().dirs()[0].offline);
    drop(log);
    bench.manager().shutdown();
    assert!(!bench.dir.path().join(".kafka_cleanshutdown").exists());
    bench.crash();
    works_from(&mut bench, 4);
}

#[test]
fn short_writes_lose_nothing_and_a_full_disk_nothing_that_was_acknowledged() {
    let mut bench = Bench::new(LogConfig::default());
    bench.manager().shutdown();
    bench.open_on(&faulty(|op, _| match op {
        Op::Write => Verdict::Short(13),
        _ => Verdict::Proceed,
    }));
    for _ in 0..3 {
        bench.log().append_as_leader(&batch(2), 0).unwrap();
    }
    assert_eq!(offsets_from(&bench.log(), 0).len(), 3);
    bench.restart();
    assert_eq!(offsets_from(&bench.log(), 0).len(), 3);
    bench.manager().shutdown();
    // The third piece of a batch does not fit any more.
    let pieces = AtomicUsize::new(0);
    bench.open_on(&faulty(move |op, path| {
        if op != Op::Write || !path.to_string_lossy().ends_with(".log") {
            Verdict::Proceed
        } else if pieces.fetch_add(1, Ordering::Relaxed) < 2 {
            Verdict::Short(20)
        } else {
            Verdict::Fail(28)
        }
    }));
    assert!(bench.log().append_as_leader(&batch(2), 0).is_err());
    assert_eq!(bench.log().log_end_offset(), 6);
    bench.crash();
    works_from(&mut bench, 6);
}

#[test]
fn a_failed_fsync_takes_the_dir_offline() {
    let mut bench = Bench::new(LogConfig::default());
    bench.manager().shutdown();
    bench.open_on(&eio_on(Op::Sync, ".log", 0));
    let log = bench.log();
    log.append_as_leader(&batch(3), 0).unwrap();
    assert!(matches!(log.flush(), Err(Error::Io { .. })));
    assert_eq!(log.recovery_point(), 0);
    assert!(matches!(log.flush(), Err(Error::Offline { .. })));
}

#[test]
fn a_dir_that_fails_at_the_start_leaves_the_others() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let bad = dirs[0].path().to_path_buf();
    let fs = faulty(move |op, path| {
        if op == Op::List && path == bad {
            Verdict::Fail(5)
        } else {
            Verdict::Proceed
        }
    });
    let config = LogConfig::default();
    let open = |paths: &[&Path]| {
        LogManager::open_on(
            manager_config(paths, &config),
            Arc::new(ManualClock::at(NOW)),
            &|_| config.clone(),
            &fs,
        )
    };
    assert!(open(&[dirs[0].path()]).is_err());
    let manager = open(&[dirs[0].path(), dirs[1].path()]).unwrap();
    let offline: Vec<_> = manager.dirs().iter().map(|dir| dir.offline).collect();
    assert_eq!(offline, [true, false]);
    let log = manager
        .get_or_create(&partition(), None, true, config.clone())
        .unwrap();
    assert_eq!(log.log_dir(), dirs[1].path());
}
