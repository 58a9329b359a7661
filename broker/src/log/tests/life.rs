//! Append, read, roll, retention, deletion, restart.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Condvar;

use super::*;
use crate::config::topic::CleanupPolicy;
use crate::log::fs::{Faults, Op, Verdict};

fn small_segments(segment_bytes: i32) -> LogConfig {
    LogConfig {
        segment_bytes,
        ..LogConfig::default()
    }
}

#[test]
fn what_is_appended_is_read_and_survives_a_clean_restart() {
    let mut bench = Bench::new(LogConfig::default());
    let log = bench.log();
    for n in 1..=5 {
        let info = log.append_as_leader(&batch(n), 3).unwrap();
        assert_eq!(info.last_offset, info.base_offset + n as i64 - 1);
    }
    let expect = [(0, 0), (1, 2), (3, 5), (6, 9), (10, 14)];
    assert_eq!(log.log_end_offset(), 15);
    assert_eq!(offsets_from(&log, 0), expect);
    assert_eq!(offsets_from(&log, 4), expect[2..]);
    let bytes = bytes_of(&log.read(request(10, 15)).unwrap().region.unwrap());
    assert_eq!(
        Batch::parse(&bytes)
            .unwrap()
            .header()
            .partition_leader_epoch,
        3
    );
    drop(log);
    bench.restart();
    let log = bench.log();
    assert_eq!(log.log_end_offset(), 15);
    assert_eq!(log.recovery_point(), 15);
    assert_eq!(log.latest_epoch(), Some(3));
    assert_eq!(offsets_from(&log, 0), expect);
    assert_eq!(log.append_as_leader(&batch(1), 4).unwrap().base_offset, 15);
    assert_eq!(
        log.end_offset_for_epoch(3),
        EpochEndOffset {
            epoch: 3,
            end_offset: 15
        }
    );
}

#[test]
fn a_partition_holds_no_descriptor_before_its_first_record() {
    let mut bench = Bench::new(LogConfig::default());
    let log = bench.log();
    let file = bench.file("00000000000000000000.log");
    let opened = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = links.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        names.filter(|name| *name == file).count()
    };
    assert!(file.exists());
    assert!(log.read(request(0, 0)).unwrap().region.is_none());
    log.flush().unwrap();
    assert_eq!(opened(), 0);
    drop(log);
    bench.restart();
    let log = bench.log();
    assert_eq!(opened(), 0);
    log.append_as_leader(&batch(1), 0).unwrap();
    assert_eq!(opened(), 1);
    assert_eq!(offsets_from(&log, 0), [(0, 0)]);
}

/// Whoever looks into a partition's folder waits for others, until as many as expected do.
struct Looking {
    dir: std::path::PathBuf,
    expected: usize,
    seen: Mutex<HashSet<std::thread::ThreadId>>,
    changed: Condvar,
}

impl Faults for Looking {
    fn verdict(&self, op: Op, path: &Path) -> Verdict {
        if op == Op::List && path != self.dir {
            let mut seen = self.seen.lock();
            seen.insert(std::thread::current().id());
            self.changed.notify_all();
            let alone = |seen: &mut HashSet<_>| seen.len() < self.expected;
            let patience = Duration::from_secs(10);
            self.changed.wait_while_for(&mut seen, alone, patience);
        }
        Verdict::Proceed
    }
}

/// `num.recovery.threads.per.data.dir` is for recoveries.
#[test]
fn logs_closed_cleanly_are_loaded_by_all_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    for (clean, threads) in [(true, processors.min(2)), (false, 1)] {
        let mut bench = Bench::new(LogConfig::default());
        for n in 0..8 {
            let partition = TopicPartition::new("topic", n);
            let config = bench.config.clone();
            let made = bench
                .manager()
                .get_or_create(&partition, None, true, config);
            made.unwrap();
        }
        if clean {
            bench.manager().shutdown();
        }
        drop(bench.manager.take());
        let looking = Arc::new(Looking {
            dir: bench.dir.path().to_owned(),
            expected: threads,
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
        let fs = fs::Fs::with_faults(looking.clone());
        let mut config = manager_config(&[bench.dir.path()], &bench.config);
        config.num_recovery_threads_per_data_dir = 1;
        let of_topic = |_: &str| bench.config.clone();
        LogManager::open_on(config, bench.clock.clone(), &of_topic, &fs).unwrap();
        let seen = looking.seen.lock().len();
        assert!(
            if clean { seen >= threads } else { seen == 1 },
            "{clean} {seen}"
        );
    }
}

#[test]
fn files_are_kafkas_while_running_and_after_a_clean_stop() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    let id = crate::types::random_uuid();
    log.assign_topic_id(id).unwrap();
    let len = |name: &str| std::fs::metadata(bench.file(name)).unwrap().len();
    let index_lens = || ["index", "timeindex"].map(|name| len(&format!("{:020}.{name}", 0)));
    let largest = [10_485_760, 10_485_756];
    assert_eq!(index_lens(), largest, "before the first record");
    for _ in 0..3 {
        log.append_as_leader(&batch_at(NOW, 1, 5000), 0).unwrap();
    }
    assert_eq!(index_lens(), largest);
    assert_eq!(
        std::fs::read_to_string(bench.file("partition.metadata")).unwrap(),
        format!("version: 0\ntopic_id: {}", format_uuid(id))
    );
    assert_eq!(
        std::fs::read_to_string(bench.file("leader-epoch-checkpoint")).unwrap(),
        "0\n1\n0 0\n"
    );
    bench.manager().shutdown();
    assert_eq!(
        bench.file_names(),
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000003.snapshot",
            "leader-epoch-checkpoint",
            "partition.metadata",
        ]
    );
    let batch_len = len("00000000000000000000.log") / 3;
    let mut index = Vec::new();
    // The check comes before the batch is counted: the first entry is the second batch's.
    for (offset, position) in [(1i32, batch_len), (2, 2 * batch_len)] {
        index.extend_from_slice(&offset.to_be_bytes());
        index.extend_from_slice(&(position as i32).to_be_bytes());
    }
    assert_eq!(
        std::fs::read(bench.file("00000000000000000000.index")).unwrap(),
        index
    );
    // One timestamp only: the first entry of it stays the only one.
    let time = std::fs::read(bench.file("00000000000000000000.timeindex")).unwrap();
    assert_eq!(time[..8], NOW.to_be_bytes());
    assert_eq!(time[8..], [0, 0, 0, 0]);
    let marker = std::fs::read_to_string(bench.dir.path().join(".kafka_cleanshutdown")).unwrap();
    assert_eq!(marker, r#"{"version":0,"brokerEpoch":-1}"#);
    let points =
        std::fs::read_to_string(bench.dir.path().join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(points, "0\n1\ntopic 0 3\n");
}

#[test]
fn reads_obey_bounds_and_sizes() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    for _ in 0..20 {
        log.append_as_leader(&batch(2), 0).unwrap();
    }
    let size = log.size() as usize / 20;
    let read = |offset, upper_bound, max_bytes, min_one_message| {
        let info = log
            .read(ReadRequest {
                offset,
                max_bytes,
                upper_bound,
                min_one_message,
                with_aborted: false,
            })
            .unwrap();
        (
            info.region.map_or(0, |region| region.len),
            info.first_batch_incomplete,
        )
    };
    assert_eq!(read(0, 40, 1 << 20, true), (20 * size, false));
    // Both of a recent end of the log and of one long gone by.
    assert_eq!(read(0, 38, 1 << 20, true), (19 * size, false));
    assert_eq!(read(0, 2, 1 << 20, true), (size, false));
    assert_eq!(read(38, 40, 1 << 20, true), (size, false));
    assert_eq!(read(39, 40, 1 << 20, true), (size, false));
    assert_eq!(read(40, 40, 1 << 20, true), (0, false));
    assert_eq!(read(30, 10, 1 << 20, true), (0, false));
    // A bound within a batch excludes it.
    assert_eq!(read(0, 3, 1 << 20, true), (size, false));
    assert_eq!(read(0, 40, 10, true), (size, false));
    assert_eq!(read(0, 40, 10, false), (10, true));
    assert_eq!(read(0, 40, size + 10, false), (size + 10, false));
    assert_eq!(read(0, 40, 0, false), (0, true));
    assert!(matches!(
        log.read(request(41, 41)),
        Err(Error::OffsetOutOfRange { log_end: 40, .. })
    ));
    assert!(matches!(
        log.read(request(-1, 41)),
        Err(Error::OffsetOutOfRange { .. })
    ));
}

#[test]
fn every_offset_is_found_among_batches_of_any_size() {
    let mut bench = Bench::new(LogConfig::default());
    let log = bench.log();
    let mut starts = Vec::new();
    for n in 0..60 {
        let size = [9000, 100, 20_000, 5000, 30][n % 5];
        let info = log.append_as_leader(&batch_at(1000, 1 + n % 3, size), 0);
        let info = info.unwrap();
        starts.extend((info.base_offset..=info.last_offset).map(|_| info.base_offset));
    }
    let end = log.log_end_offset();
    let check = |log: &Log, offset: Offset| {
        let read = ReadRequest {
            offset,
            max_bytes: 1,
            upper_bound: end,
            min_one_message: true,
            with_aborted: false,
        };
        let region = log.read(read).unwrap().region.unwrap();
        let bytes = bytes_of(&region);
        let found = Batch::parse(&bytes).unwrap().header().base_offset;
        assert_eq!(found, starts[offset as usize], "offset {offset}");
    };
    (0..end).for_each(|offset| check(&log, offset));
    drop(log);
    // Now of the index only what is in its file is known.
    bench.restart();
    let log = bench.log();
    (0..end).for_each(|offset| check(&log, offset));
    (0..end).rev().for_each(|offset| check(&log, offset));
}

#[test]
fn an_epoch_is_on_disk_soon_and_before_its_first_record() {
    let mut bench = Bench::new(LogConfig::default());
    let epochs = |bench: &Bench| std::fs::read_to_string(bench.file("leader-epoch-checkpoint"));
    let log = bench.log();
    log.append_as_leader(&batch(1), 0).unwrap();
    log.assign_epoch_start(3).unwrap();
    log.assign_epoch_start(4).unwrap();
    assert_eq!(log.latest_epoch(), Some(4));
    assert_eq!(epochs(&bench).unwrap(), "0\n1\n0 0\n");
    bench.run_jobs();
    assert_eq!(epochs(&bench).unwrap(), "0\n2\n0 0\n4 1\n");
    log.assign_epoch_start(5).unwrap();
    log.append_as_leader(&batch(1), 5).unwrap();
    assert_eq!(epochs(&bench).unwrap(), "0\n2\n0 0\n5 1\n");
    log.assign_epoch_start(6).unwrap();
    bench.run_jobs();
    assert_eq!(epochs(&bench).unwrap(), "0\n3\n0 0\n5 1\n6 2\n");
    drop(log);
    bench.restart();
    // What has no records is forgotten at load, as in Kafka.
    assert_eq!(bench.log().latest_epoch(), Some(5));
}

/// What the next start would cut off is not written, and what it would cut off is not needed: with and
/// without the file it finds the same epochs.
#[test]
fn a_stop_does_not_wait_for_epochs_without_records() {
    let mut bench = Bench::new(LogConfig::default());
    let epochs = |bench: &Bench| std::fs::read_to_string(bench.file("leader-epoch-checkpoint"));
    let log = bench.log();
    log.append_as_leader(&batch(2), 3).unwrap();
    log.append_as_leader(&batch(2), 4).unwrap();
    log.assign_epoch_start(7).unwrap();
    drop(log);
    bench.restart();
    assert_eq!(epochs(&bench).unwrap(), "0\n2\n3 0\n4 2\n");
    assert_eq!(bench.log().latest_epoch(), Some(4));
    // The file has more than the log: cut at the next start, and before the next record.
    let log = bench.log();
    log.truncate_to(2).unwrap();
    log.assign_epoch_start(9).unwrap();
    drop(log);
    bench.restart();
    assert_eq!(epochs(&bench).unwrap(), "0\n2\n3 0\n4 2\n");
    let log = bench.log();
    assert_eq!(log.latest_epoch(), Some(3));
    log.append_as_leader(&batch(1), 3).unwrap();
    assert_eq!(epochs(&bench).unwrap(), "0\n1\n3 0\n");
}

#[test]
fn rolls_by_size_time_and_full_index() {
    let bases = |log: &Log| -> Vec<Offset> {
        log.segments
            .load()
            .iter()
            .map(|s| s.base_offset())
            .collect()
    };
    let size = batch(1).bytes.len() as i32;

    let bench = Bench::new(small_segments(2 * size));
    let log = bench.log();
    for _ in 0..5 {
        log.append_as_leader(&batch(1), 0).unwrap();
    }
    assert_eq!(bases(&log), [0, 2, 4]);
    assert_eq!(offsets_from(&log, 0).len(), 5);
    assert!(bench.file("00000000000000000002.snapshot").exists());
    assert!(matches!(
        log.append_as_leader(&batch_at(NOW, 1, 500), 0),
        Err(Error::Refused {
            code: ErrorCode::RecordListTooLarge,
            ..
        })
    ));

    // By the records' time when they have one.
    let bench = Bench::new(LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    });
    let log = bench.log();
    for timestamp in [NOW, NOW + 1000, NOW + 1001] {
        log.append_as_leader(&batch_at(timestamp, 1, 10), 0)
            .unwrap();
    }
    bench.clock.advance(5000);
    log.append_as_leader(&batch_at(NOW + 1002, 1, 10), 0)
        .unwrap();
    assert_eq!(bases(&log), [0, 2]);

    // However far apart the times are that a client writes into its batches.
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&batch_at(i64::MAX, 1, 10), 0).unwrap();
    let mut odd = batch_at(NOW, 1, 10);
    odd.header.max_timestamp = i64::MIN;
    log.append_as_leader(&odd, 0).unwrap();
    assert_eq!(bases(&log), [0]);

    // An offset index of two entries.
    let bench = Bench::new(LogConfig {
        segment_index_bytes: 24,
        index_interval_bytes: 1,
        ..LogConfig::default()
    });
    let log = bench.log();
    for _ in 0..6 {
        log.append_as_leader(&batch(1), 0).unwrap();
    }
    assert!(bases(&log).len() > 1);
    assert_eq!(offsets_from(&log, 0).len(), 6);
}

#[test]
fn a_changed_configuration_is_that_of_the_next_append() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&batch(1), 0).unwrap();
    log.append_as_leader(&batch(1), 0).unwrap();
    assert_eq!(log.number_of_segments(), 1);
    log.update_config(small_segments(100));
    log.append_as_leader(&batch(1), 0).unwrap();
    assert_eq!(log.number_of_segments(), 2);
    assert_eq!(log.active_segment_base_offset(), 2);
    log.update_config(small_segments(10));
    let refused = log.append_as_leader(&batch(1), 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::RecordListTooLarge);
}

/// Appends go to the last segment, whatever it was before.
#[test]
fn appends_follow_the_active_segment_through_roll_truncation_and_deletion() {
    let bench = Bench::new(small_segments(200));
    let log = bench.log();
    let append = || log.append_as_leader(&batch(1), 0).unwrap().base_offset;
    for offset in 0..6 {
        assert_eq!(append(), offset);
    }
    let segments = log.number_of_segments();
    assert!(segments > 1, "{segments}");
    log.truncate_to(1).unwrap();
    assert_eq!((append(), log.number_of_segments()), (1, 1));
    assert_eq!(offsets_from(&log, 0), [(0, 0), (1, 1)]);
    log.truncate_fully_and_start_at(9).unwrap();
    assert_eq!(append(), 9);
    assert_eq!(offsets_from(&log, 9), [(9, 9)]);
    assert_eq!(log.active_segment_base_offset(), 9);
}

#[test]
fn offsets_by_time() {
    let mut bench = Bench::new(LogConfig {
        index_interval_bytes: 100,
        segment_bytes: 1000,
        ..LogConfig::default()
    });
    let log = bench.log();
    for n in 0..20 {
        let records = [record(NOW + n * 10, b"a"), record(NOW + n * 10 + 5, b"b")];
        log.append_as_leader(&prepare(&records, &BatchOptions::default()), 2)
            .unwrap();
    }
    let check = |log: &Log| {
        let at = |timestamp| {
            log.offset_for_timestamp(timestamp)
                .unwrap()
                .map(|found| (found.offset, found.timestamp - NOW))
        };
        assert_eq!(at(0), Some((0, 0)));
        assert_eq!(at(NOW + 1), Some((1, 5)));
        assert_eq!(at(NOW + 100), Some((20, 100)));
        assert_eq!(at(NOW + 101), Some((21, 105)));
        assert_eq!(at(NOW + 195), Some((39, 195)));
        assert_eq!(at(NOW + 196), None);
        assert_eq!(
            log.max_timestamp().unwrap(),
            Some(TimestampOffset {
                timestamp: NOW + 195,
                offset: 39,
                leader_epoch: Some(2)
            })
        );
    };
    check(&log);
    log.advance_high_watermark(40);
    log.advance_log_start_offset(11).unwrap();
    let found = log.offset_for_timestamp(NOW).unwrap().unwrap();
    assert_eq!(found.offset, 11);
    drop(log);
    bench.restart();
    assert_eq!(bench.log().log_start_offset(), 11);
    let found = bench.log().offset_for_timestamp(NOW + 100).unwrap();
    assert_eq!(found.unwrap().offset, 20);
    assert_eq!(bench.log().max_timestamp().unwrap().unwrap().offset, 39);
}

/// As kafka-dump-log compares: an entry has the last offset of the batch at its position.
#[test]
fn index_entries_of_a_follower_are_of_the_batch_they_point_at() {
    let config = LogConfig {
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let (leader, follower) = (Bench::new(config.clone()), Bench::new(config));
    for count in [3, 2, 4, 1, 5, 2] {
        leader.log().append_as_leader(&batch(count), 0).unwrap();
    }
    let read = leader.log().read(request(0, 17)).unwrap();
    let bytes = bytes_of(&read.region.unwrap());
    // Two batches at a time.
    let ends: Vec<_> = BatchIter::new(&bytes)
        .scan(0, |end, frame| {
            *end += frame.unwrap().bytes.len();
            Some(*end)
        })
        .collect();
    let mut begin = 0;
    for end in ends.iter().skip(1).step_by(2) {
        follower
            .log()
            .append_as_follower(&bytes[begin..*end], 0)
            .unwrap();
        begin = *end;
    }
    assert_eq!(follower.log().log_end_offset(), 17);
    follower.log().flush().unwrap();
    let entries: Vec<_> = std::fs::read(follower.file("00000000000000000000.index"))
        .unwrap()
        .chunks(8)
        .map(|entry| {
            let number = |at: usize| u32::from_be_bytes(entry[at..at + 4].try_into().unwrap());
            (number(0), number(4) as usize)
        })
        .filter(|entry| *entry != (0, 0))
        .collect();
    assert_eq!(entries, [(8, ends[1]), (14, ends[3])]);
}

#[test]
fn high_watermark_is_clamped_and_only_rises() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&batch(10), 0).unwrap();
    assert!(log.advance_high_watermark(4));
    assert!(!log.advance_high_watermark(3));
    assert_eq!(log.high_watermark(), 4);
    assert!(log.advance_high_watermark(99));
    assert_eq!(log.high_watermark(), 10);
    assert_eq!(log.last_stable_offset(), 10);
    log.reset_high_watermark(2);
    assert_eq!(log.high_watermark(), 2);
    assert!(matches!(
        log.advance_log_start_offset(3),
        Err(Error::Refused {
            code: ErrorCode::OffsetOutOfRange,
            ..
        })
    ));
    log.advance_log_start_offset(2).unwrap();
    log.reset_high_watermark(0);
    assert_eq!(log.high_watermark(), 2);
    bench.manager().checkpoint_high_watermarks();
    let text =
        std::fs::read_to_string(bench.dir.path().join("replication-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\ntopic 0 2\n");
}

#[test]
fn retention_by_size_time_and_log_start() {
    let size = batch(1).bytes.len() as i64;
    let run = |config: LogConfig, high_watermark: Offset, advance: Millis| {
        let bench = Bench::new(LogConfig {
            segment_bytes: 2 * size as i32,
            ..config
        });
        let log = bench.log();
        for n in 0..7 {
            log.append_as_leader(&batch_at(NOW + n * 100, 1, 10), 0)
                .unwrap();
        }
        log.advance_high_watermark(high_watermark);
        bench.clock.advance(advance);
        log.delete_old_segments().unwrap();
        let bases: Vec<_> = log
            .segments
            .load()
            .iter()
            .map(|s| s.base_offset())
            .collect();
        assert_eq!(log.log_start_offset(), bases[0]);
        assert_eq!(log.log_end_offset(), 7);
        bases
    };
    let by_size = |bytes| LogConfig {
        retention_bytes: bytes,
        ..LogConfig::default()
    };
    let by_time = |ms| LogConfig {
        retention_ms: ms,
        ..LogConfig::default()
    };
    assert_eq!(run(by_size(7 * size), 7, 0), [0, 2, 4, 6]);
    assert_eq!(run(by_size(5 * size), 7, 0), [2, 4, 6]);
    assert_eq!(run(by_size(5 * size + 1), 7, 0), [0, 2, 4, 6]);
    assert_eq!(run(by_size(0), 7, 0), [7]);
    assert_eq!(run(by_size(0), 5, 0), [4, 6]);
    assert_eq!(run(by_time(500), 7, 600), [0, 2, 4, 6]);
    assert_eq!(run(by_time(500), 7, 601), [2, 4, 6]);
    assert_eq!(run(by_time(0), 7, 10_000), [7]);
    let compacted = LogConfig {
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..by_time(0)
    };
    assert_eq!(run(compacted, 7, 10_000), [0, 2, 4, 6]);
}

/// A machine whose clock is not set yet, and records from the end of time: nothing is that old.
#[test]
fn a_clock_before_the_epoch_deletes_nothing() {
    let bench = Bench::new(LogConfig {
        retention_ms: 1000,
        ..LogConfig::default()
    });
    bench.clock.advance(-NOW - 2);
    let log = bench.log();
    log.append_as_leader(&batch_at(i64::MAX, 2, 10), 0).unwrap();
    log.advance_high_watermark(2);
    assert_eq!(log.delete_old_segments().unwrap(), 0);
    assert_eq!(log.log_start_offset(), 0);
}

#[test]
fn deleted_segments_leave_their_files_for_a_while() {
    let size = batch(1).bytes.len() as i32;
    let bench = Bench::new(LogConfig {
        segment_bytes: 2 * size,
        ..LogConfig::default()
    });
    let log = bench.log();
    for _ in 0..6 {
        log.append_as_leader(&batch(1), 0).unwrap();
    }
    log.advance_high_watermark(6);
    let held = log.read(request(0, 6)).unwrap().region.unwrap();
    log.advance_log_start_offset(4).unwrap();
    assert_eq!(log.delete_old_segments().unwrap(), 2);
    assert!(bench.file("00000000000000000000.log.deleted").exists());
    assert!(bench.file("00000000000000000002.snapshot.deleted").exists());
    bench.clock.advance(60_000);
    bench.run_jobs();
    assert!(!bench.file_names().iter().any(|n| n.ends_with(".deleted")));
    // Who reads already may finish.
    assert_eq!(bytes_of(&held).len(), 2 * size as usize);
    assert!(matches!(
        log.read(request(0, 6)),
        Err(Error::OffsetOutOfRange { log_start: 4, .. })
    ));
}

#[test]
fn a_deleted_partition_is_renamed_then_removed_and_may_come_back() {
    let bench = Bench::new(LogConfig::default());
    let old = bench.log();
    old.append_as_leader(&batch(3), 0).unwrap();
    bench.manager().delete(&partition()).unwrap();
    assert!(bench.manager().log(&partition()).is_none());
    let folders = || fs::Fs::default().list(bench.dir.path(), true).unwrap();
    assert_eq!(folders().len(), 1);
    assert!(folders()[0].starts_with("topic-0.") && folders()[0].ends_with("-delete"));
    assert!(old.append_as_leader(&batch(1), 0).is_err());
    let new = bench.log();
    assert_eq!(new.log_end_offset(), 0);
    new.append_as_leader(&batch(1), 0).unwrap();
    bench.clock.advance(60_000);
    bench.run_jobs();
    assert_eq!(folders(), ["topic-0"]);
    bench
        .manager()
        .delete(&TopicPartition::new("absent", 1))
        .unwrap();
}

#[test]
fn topic_id_is_kept_and_an_other_one_refused() {
    let mut bench = Bench::new(LogConfig::default());
    let id = crate::types::random_uuid();
    bench.log().assign_topic_id(id).unwrap();
    bench.run_jobs();
    bench.crash();
    assert_eq!(bench.log().topic_id(), Some(id));
    let other = bench.log().assign_topic_id(crate::types::random_uuid());
    assert_eq!(other.unwrap_err().code(), ErrorCode::InconsistentTopicId);
    std::fs::write(bench.file("partition.metadata"), "version: 0\ntopic").unwrap();
    bench.crash();
    assert_eq!(bench.log().topic_id(), None);
    bench.log().assign_topic_id(id).unwrap();
}

#[test]
fn a_stop_writes_the_topic_ids_that_have_records() {
    for records in [0, 1] {
        let mut bench = Bench::new(LogConfig::default());
        let log = bench.log();
        if records > 0 {
            log.append_as_leader(&batch(records), 0).unwrap();
        }
        let id = crate::types::random_uuid();
        log.assign_topic_id(id).unwrap();
        assert!(!bench.file("partition.metadata").exists());
        drop(log);
        bench.restart();
        let log = bench.log();
        assert_eq!(log.topic_id(), Some(id).filter(|_| records > 0));
        // The controller names it again.
        log.assign_topic_id(id).unwrap();
        assert_eq!(log.topic_id(), Some(id));
    }
}

#[test]
fn new_logs_go_where_fewest_are_and_are_found_again() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let paths = [dirs[0].path(), dirs[1].path()];
    let config = LogConfig::default();
    let open = || {
        LogManager::open(
            manager_config(&paths, &config),
            Arc::new(ManualClock::at(NOW)),
            &|_| config.clone(),
        )
    };
    let manager = open().unwrap();
    for n in 0..4 {
        manager
            .get_or_create(&TopicPartition::new("t", n), None, true, config.clone())
            .unwrap();
    }
    for path in paths {
        assert_eq!(fs::Fs::default().list(path, true).unwrap().len(), 2);
    }
    manager.shutdown();
    let manager = open().unwrap();
    assert_eq!(manager.logs().len(), 4);
    assert!(manager.dirs().iter().all(|dir| dir.total_bytes > 0));
    // While a dir is offline, a log that is not new may be in it.
    let lost = manager.fail_dir(paths[0]).partitions;
    assert_eq!(lost.len(), 2);
    assert!(matches!(
        manager.get_or_create(&lost[0], None, false, config.clone()),
        Err(Error::Offline { .. })
    ));
    manager.shutdown();
    drop(manager);
    std::fs::create_dir(dirs[1].path().join(lost[0].to_string())).unwrap();
    assert!(matches!(open(), Err(Error::Layout { .. })));
    std::fs::remove_dir_all(dirs[1].path().join(lost[0].to_string())).unwrap();
    std::fs::create_dir(dirs[1].path().join("nonsense")).unwrap();
    assert!(matches!(open(), Err(Error::Layout { .. })));
}

#[test]
fn follower_appends_keep_offsets_and_epochs() {
    let leader = Bench::new(LogConfig::default());
    let follower = Bench::new(LogConfig::default());
    for (count, epoch) in [(2, 1), (3, 1), (1, 4)] {
        leader.log().append_as_leader(&batch(count), epoch).unwrap();
    }
    let info = leader.log().read(request(0, 6)).unwrap();
    let bytes = bytes_of(&info.region.unwrap());
    let log = follower.log();
    // Cut within the last batch, then fetched again from there.
    let done = log
        .append_as_follower(&bytes[..bytes.len() - 1], 4)
        .unwrap();
    assert_eq!((done.base_offset, done.last_offset), (0, 4));
    let rest = bytes_of(&leader.log().read(request(5, 6)).unwrap().region.unwrap());
    log.append_as_follower(&rest, 4).unwrap();
    assert_eq!(offsets_from(&log, 0), offsets_from(&leader.log(), 0));
    assert_eq!(log.epoch_for_offset(4), Some(1));
    assert_eq!(log.epoch_for_offset(5), Some(4));
    assert!(matches!(
        log.append_as_follower(&bytes, 4),
        Err(Error::UnexpectedOffset { next_offset: 6, .. })
    ));
    let mut damaged = bytes_of(&leader.log().read(request(0, 6)).unwrap().region.unwrap());
    damaged[70] ^= 1;
    assert_eq!(
        follower
            .log()
            .append_as_follower(&damaged, 4)
            .unwrap_err()
            .code(),
        ErrorCode::CorruptMessage
    );
}

#[test]
fn a_follower_takes_nothing_of_a_later_epoch_than_its_leaders() {
    let leader = Bench::new(LogConfig::default());
    for (count, epoch) in [(2, 1), (3, 4)] {
        leader.log().append_as_leader(&batch(count), epoch).unwrap();
    }
    let bytes = bytes_of(&leader.log().read(request(0, 5)).unwrap().region.unwrap());
    let follower = Bench::new(LogConfig::default());
    let log = follower.log();
    log.append_as_follower(&bytes, 3).unwrap();
    assert_eq!((log.log_end_offset(), log.latest_epoch()), (2, Some(1)));
    let rest = bytes_of(&leader.log().read(request(2, 5)).unwrap().region.unwrap());
    assert_eq!(
        log.append_as_follower(&rest, 3).unwrap_err().code(),
        ErrorCode::UnknownLeaderEpoch
    );
    log.append_as_follower(&rest, 4).unwrap();
    assert_eq!(log.log_end_offset(), 5);
}

#[test]
fn offsets_that_cannot_be_are_refused() {
    let leader = Bench::new(LogConfig::default());
    leader.log().append_as_leader(&batch(2), 1).unwrap();
    let bytes = bytes_of(&leader.log().read(request(0, 2)).unwrap().region.unwrap());
    let follower = Bench::new(LogConfig::default());
    // The base offset is not covered by the CRC.
    for base in [-1, i64::MIN, i64::MAX - 1, i64::MAX] {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let refused = follower.log().append_as_follower(&bytes, 1);
        assert_eq!(
            refused.unwrap_err().code(),
            ErrorCode::CorruptMessage,
            "{base}"
        );
    }
    let twice = [bytes.clone(), bytes].concat();
    assert!(follower.log().append_as_follower(&twice, 1).is_err());
    assert_eq!(follower.log().log_end_offset(), 0);
}

#[test]
fn a_follower_raises_its_log_start_no_further_than_its_high_watermark() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&batch(5), 0).unwrap();
    log.advance_high_watermark(3);
    log.follow_log_start_offset(4).unwrap();
    assert_eq!(log.log_start_offset(), 0);
    log.follow_log_start_offset(3).unwrap();
    assert_eq!(log.log_start_offset(), 3);
    log.follow_log_start_offset(1).unwrap();
    assert_eq!(log.log_start_offset(), 3);
}

#[test]
fn rounds_run_in_the_background_and_end_with_shutdown() {
    let bench = Bench::new(LogConfig {
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    });
    bench.manager().start();
    bench.log().append_as_leader(&batch(1), 0).unwrap();
    bench.manager().delete(&partition()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !fs::Fs::default()
        .list(bench.dir.path(), true)
        .unwrap()
        .is_empty()
    {
        assert!(std::time::Instant::now() < deadline, "not deleted in time");
        std::thread::yield_now();
    }
    bench.manager().shutdown();
    assert!(bench.manager().threads.lock().is_empty());
}
