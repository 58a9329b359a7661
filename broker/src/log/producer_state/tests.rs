use super::*;
use crate::error::KafkaCode;

fn header(id: i64, epoch: i16, sequence: i32, offset: i64, records: i32) -> BatchHeader {
    BatchHeader {
        base_offset: offset,
        batch_length: 100,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: 1000,
        max_timestamp: 1000 + offset,
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: records,
    }
}

fn transactional(mut header: BatchHeader) -> BatchHeader {
    header.attributes |= 0x10;
    header
}

fn control(id: i64, epoch: i16, offset: i64) -> BatchHeader {
    BatchHeader {
        attributes: 0x30,
        ..header(id, epoch, -1, offset, 1)
    }
}

fn marker(commit: bool, coordinator_epoch: i32) -> Option<Marker> {
    Some(Marker {
        commit,
        coordinator_epoch,
    })
}

fn code(state: &ProducerState, batch: &BatchHeader, marker: Option<Marker>) -> ErrorCode {
    let partition = TopicPartition::new("t", 0);
    match state.check(&partition, batch, marker, batch.base_offset) {
        Ok(Check::Append) => ErrorCode::None,
        Ok(Check::Duplicate(_)) => ErrorCode::DuplicateSequenceNumber,
        Err(error) => error.code(),
    }
}

#[test]
fn sequence_rules() {
    use ErrorCode::{
        DuplicateSequenceNumber, InvalidProducerEpoch, None as Accepted, OutOfOrderSequenceNumber,
    };
    let mut state = ProducerState::default();
    // An unknown producer begins anywhere.
    assert_eq!(code(&state, &header(1, 5, 77, 0, 1), None), Accepted);
    for n in 0..6 {
        state.apply(&header(1, 5, n * 10, i64::from(n) * 10, 10), None);
    }
    let check = |epoch, sequence, records, expect| {
        assert_eq!(
            code(&state, &header(1, epoch, sequence, 60, records), None),
            expect,
            "epoch {epoch} sequence {sequence}"
        );
    };
    check(5, 60, 10, Accepted);
    check(5, 61, 1, OutOfOrderSequenceNumber);
    check(5, 59, 1, OutOfOrderSequenceNumber);
    // Exactly the last five, exactly the same range.
    for n in 1..6 {
        check(5, n * 10, 10, DuplicateSequenceNumber);
    }
    check(5, 0, 10, OutOfOrderSequenceNumber);
    check(5, 50, 9, OutOfOrderSequenceNumber);
    check(4, 60, 1, InvalidProducerEpoch);
    check(4, 50, 10, InvalidProducerEpoch);
    check(6, 0, 1, Accepted);
    check(6, 60, 1, OutOfOrderSequenceNumber);
    // Coordinators write without sequence.
    check(5, -1, 1, Accepted);
}

#[test]
fn sequence_wraps_to_zero() {
    let mut state = ProducerState::default();
    state.apply(&header(1, 0, i32::MAX - 1, 0, 2), None);
    assert_eq!(code(&state, &header(1, 0, 0, 2, 1), None), ErrorCode::None);
    state.apply(&header(1, 0, 0, 2, 1), None);
    assert_eq!(
        code(&state, &header(1, 0, i32::MAX - 1, 3, 2), None),
        ErrorCode::DuplicateSequenceNumber
    );
    let mut state = ProducerState::default();
    state.apply(&header(1, 0, i32::MAX, 0, 3), None);
    assert_eq!(code(&state, &header(1, 0, 2, 3, 1), None), ErrorCode::None);
}

#[test]
fn a_marker_bumps_the_epoch_and_the_next_batch_starts_at_zero() {
    let mut state = ProducerState::default();
    state.apply(&transactional(header(1, 0, 0, 0, 5)), None);
    let ended = state.apply(&control(1, 1, 5), marker(false, 3)).unwrap();
    state.complete(&ended);
    assert!(ended.aborted);
    // No batch of epoch 1 yet: −1 precedes 0 only.
    assert_eq!(
        code(&state, &transactional(header(1, 1, 0, 6, 1)), None),
        ErrorCode::None
    );
    assert_eq!(
        code(&state, &transactional(header(1, 1, 5, 6, 1)), None),
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(
        code(&state, &control(1, 1, 6), marker(true, 2)),
        ErrorCode::TransactionCoordinatorFenced
    );
    assert_eq!(
        code(&state, &control(1, 0, 6), marker(true, 3)),
        ErrorCode::InvalidProducerEpoch
    );
}

#[test]
fn unstable_until_the_marker_is_replicated() {
    let mut state = ProducerState::default();
    state.apply(&transactional(header(1, 0, 0, 10, 5)), None);
    state.apply(&transactional(header(2, 0, 0, 15, 5)), None);
    assert_eq!(state.first_unstable_offset(), Some(10));
    assert_eq!(
        code(&state, &header(1, 0, 5, 20, 1), None),
        ErrorCode::InvalidTxnState
    );
    let ended = state.apply(&control(1, 0, 20), marker(false, 0)).unwrap();
    assert_eq!(state.aborted(&ended).unwrap().last_stable_offset, 15);
    state.complete(&ended);
    assert_eq!(state.first_unstable_offset(), Some(10));
    state.on_high_watermark(20);
    assert_eq!(state.first_unstable_offset(), Some(10));
    state.on_high_watermark(21);
    assert_eq!(state.first_unstable_offset(), Some(15));
    let ended = state.apply(&control(2, 0, 21), marker(true, 0)).unwrap();
    assert_eq!(state.aborted(&ended), None);
    state.complete(&ended);
    state.on_high_watermark(22);
    assert_eq!(state.first_unstable_offset(), None);
    // A marker without data is no transaction.
    assert_eq!(state.apply(&control(3, 0, 22), marker(true, 0)), None);
}

#[test]
fn idle_producers_expire_but_not_with_an_open_transaction() {
    let mut state = ProducerState::default();
    state.apply(&header(1, 0, 0, 0, 1), None);
    state.apply(&transactional(header(2, 0, 0, 1, 1)), None);
    state.expire(1000 + 499, 500);
    assert_eq!(state.len(), 2);
    state.expire(1000 + 500, 500);
    assert_eq!(state.active().len(), 1);
    assert_eq!(state.active()[0].producer_id, 2);
    assert_eq!(state.active()[0].current_txn_first_offset, 1);
}

#[test]
fn snapshot_layout_is_kafkas() {
    let mut state = ProducerState::default();
    state.apply(&transactional(header(7, 3, 20, 100, 10)), None);
    let bytes = state.encode();
    assert_eq!(bytes.len(), 10 + 46);
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[2..6], crc32c::crc32c(&bytes[6..]).to_be_bytes());
    assert_eq!(bytes[6..10], [0, 0, 0, 1]);
    assert_eq!(bytes[10..18], 7i64.to_be_bytes());
    assert_eq!(bytes[18..20], 3i16.to_be_bytes());
    assert_eq!(bytes[20..24], 29i32.to_be_bytes());
    assert_eq!(bytes[24..32], 109i64.to_be_bytes());
    assert_eq!(bytes[32..36], 9i32.to_be_bytes());
    assert_eq!(bytes[36..44], 1100i64.to_be_bytes());
    assert_eq!(bytes[44..48], (-1i32).to_be_bytes());
    assert_eq!(bytes[48..56], 100i64.to_be_bytes());
}

#[test]
fn snapshot_round_trip_keeps_the_last_batch_and_any_damage_is_seen() {
    let mut state = ProducerState::default();
    state.apply(&header(1, 0, 0, 0, 10), None);
    state.apply(&header(1, 0, 10, 10, 10), None);
    state.apply(&transactional(header(2, 1, 0, 20, 1)), None);
    let bytes = state.encode();
    let mut loaded = ProducerState::default();
    loaded.decode(&bytes, 1000, i64::MAX).unwrap();
    assert_eq!(
        code(&loaded, &header(1, 0, 10, 21, 10), None),
        ErrorCode::DuplicateSequenceNumber
    );
    assert_eq!(
        code(&loaded, &header(1, 0, 20, 21, 1), None),
        ErrorCode::None
    );
    assert_eq!(loaded.first_unstable_offset(), Some(20));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(
            ProducerState::default()
                .decode(&flipped, 0, i64::MAX)
                .is_err()
        );
        assert!(
            ProducerState::default()
                .decode(&bytes[..at], 0, i64::MAX)
                .is_err()
        );
    }
    assert!(
        ProducerState::default()
            .decode(&[0; 200], 0, i64::MAX)
            .is_err()
    );
}

#[test]
fn stray_snapshots_go_but_the_one_of_a_clean_shutdown_stays() {
    let dir = tempfile::tempdir().unwrap();
    let fs = Fs::default();
    let check = |present: &[i64], segments: &[i64], expect: &[i64]| {
        for offset in present {
            std::fs::write(path(dir.path(), *offset), b"").unwrap();
        }
        let mut snapshots = ProducerSnapshots::new(present.iter().copied().collect());
        snapshots
            .remove_strays(&fs, dir.path(), &segments.iter().copied().collect())
            .unwrap();
        assert!(snapshots.offsets.iter().eq(expect.iter()));
        for offset in present {
            assert_eq!(
                path(dir.path(), *offset).exists(),
                expect.contains(offset),
                "{offset}"
            );
        }
    };
    check(&[0, 5, 10, 15, 20, 25], &[0, 10, 20], &[0, 10, 20, 25]);
    check(&[5, 10, 15], &[0, 10, 20], &[10]);
    check(&[5, 12, 15, 17], &[0, 10], &[17]);
}
