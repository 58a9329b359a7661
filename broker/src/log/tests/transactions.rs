//! Idempotent and transactional producers through a whole log.

use super::*;
use crate::record::control::{EndTxn, end_txn_marker};

fn transactional(id: ProducerId, sequence: i32, count: usize) -> Prepared<'static> {
    let records: Vec<_> = (0..count).map(|_| record(NOW, b"t")).collect();
    prepare(
        &records,
        &BatchOptions {
            producer_id: id,
            producer_epoch: 0,
            base_sequence: sequence,
            transactional: true,
            ..BatchOptions::default()
        },
    )
}

fn marker(id: ProducerId, end: EndTxn) -> Prepared<'static> {
    let bytes = end_txn_marker(id, 0, end, 0, NOW);
    let header = *Batch::parse(&bytes).unwrap().header();
    Prepared {
        bytes: Cow::Owned(bytes.into()),
        header,
        log_append_time: -1,
    }
}

fn aborted(log: &Log, offset: Offset, upper_bound: Offset) -> Vec<(ProducerId, Offset)> {
    let info = log
        .read(ReadRequest {
            with_aborted: true,
            ..request(offset, upper_bound)
        })
        .unwrap();
    info.aborted
        .unwrap()
        .iter()
        .map(|txn| (txn.producer_id, txn.first_offset))
        .collect()
}

#[test]
fn a_retry_is_answered_with_the_first_offset_also_after_restarts() {
    let mut bench = Bench::new(LogConfig::default());
    let first = bench
        .log()
        .append_as_leader(&idempotent(1, 0, 0, 3), 0)
        .unwrap();
    bench
        .log()
        .append_as_leader(&idempotent(1, 0, 3, 2), 0)
        .unwrap();
    let check = |bench: &Bench| {
        let again = bench
            .log()
            .append_as_leader(&idempotent(1, 0, 3, 2), 0)
            .unwrap();
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.last_offset), (3, 4));
        assert_eq!(bench.log().log_end_offset(), 5);
        let gap = bench.log().append_as_leader(&idempotent(1, 0, 6, 1), 0);
        assert_eq!(gap.unwrap_err().code(), ErrorCode::OutOfOrderSequenceNumber);
    };
    assert_eq!(first.base_offset, 0);
    check(&bench);
    bench.restart();
    check(&bench);
    bench.crash();
    check(&bench);
}

#[test]
fn the_last_stable_offset_waits_for_markers_and_aborts_are_told() {
    let mut bench = Bench::new(LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    });
    let log = bench.log();
    let append = |log: &Log, batch: &Prepared<'_>| {
        let info = log.append_as_leader(batch, 0).unwrap();
        log.advance_high_watermark(log.log_end_offset());
        info.base_offset
    };
    append(&log, &batch(2)); // 0–1
    append(&log, &transactional(1, 0, 2)); // 2–3
    append(&log, &transactional(2, 0, 1)); // 4
    append(&log, &batch(1)); // 5
    assert_eq!(log.last_stable_offset(), 2);
    append(&log, &marker(1, EndTxn::Abort)); // 6
    assert_eq!(log.last_stable_offset(), 4);
    append(&log, &marker(2, EndTxn::Commit)); // 7
    assert_eq!(log.last_stable_offset(), 8);
    assert!(log.number_of_segments() > 1);
    let check = |log: &Log| {
        assert_eq!(aborted(log, 0, 8), [(1, 2)]);
        assert_eq!(aborted(log, 3, 8), [(1, 2)]);
        assert_eq!(aborted(log, 7, 8), []);
        assert!(log.read(request(0, 8)).unwrap().aborted.is_none());
    };
    check(&log);
    // Open at the stop, and after it.
    append(&log, &transactional(3, 0, 1)); // 8
    append(&log, &batch(1)); // 9
    assert_eq!(log.last_stable_offset(), 8);
    drop(log);
    bench.restart();
    bench.log().advance_high_watermark(10);
    assert_eq!(bench.log().last_stable_offset(), 8);
    check(&bench.log());
    bench.crash();
    bench.log().advance_high_watermark(10);
    assert_eq!(bench.log().last_stable_offset(), 8);
    check(&bench.log());
    append(&bench.log(), &marker(3, EndTxn::Abort)); // 10
    assert_eq!(bench.log().last_stable_offset(), 11);
    assert_eq!(aborted(&bench.log(), 8, 11), [(3, 8)]);
    let producers = bench.log().active_producers();
    assert_eq!(producers.len(), 3);
    assert!(producers.iter().all(|p| p.current_txn_first_offset == -1));
}

#[test]
fn a_marker_above_the_high_watermark_keeps_its_transaction_unstable() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&transactional(1, 0, 2), 0).unwrap();
    log.append_as_leader(&marker(1, EndTxn::Commit), 0).unwrap();
    log.advance_high_watermark(2);
    assert_eq!(log.last_stable_offset(), 0);
    log.advance_high_watermark(3);
    assert_eq!(log.last_stable_offset(), 3);
}

#[test]
fn truncating_a_marker_opens_its_transaction_again() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&transactional(1, 0, 2), 0).unwrap();
    log.append_as_leader(&marker(1, EndTxn::Abort), 0).unwrap();
    log.append_as_leader(&batch(1), 0).unwrap();
    log.advance_high_watermark(4);
    assert_eq!(aborted(&log, 0, 4), [(1, 0)]);
    log.truncate_to(2).unwrap();
    assert_eq!(log.high_watermark(), 2);
    assert_eq!(log.last_stable_offset(), 0);
    assert_eq!(aborted(&log, 0, 2), []);
    log.append_as_leader(&marker(1, EndTxn::Commit), 0).unwrap();
    log.advance_high_watermark(3);
    assert_eq!(log.last_stable_offset(), 3);
    // And the sequence is where it was.
    log.append_as_leader(&transactional(1, 2, 1), 0).unwrap();
}

#[test]
fn idle_producers_are_forgotten_by_the_round() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.log();
    log.append_as_leader(&idempotent(1, 0, 0, 1), 0).unwrap();
    bench.clock.advance(86_400_000);
    log.expire_producers();
    assert!(log.active_producers().is_empty());
    log.append_as_leader(&idempotent(1, 0, 40, 1), 0).unwrap();
}
