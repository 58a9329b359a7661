use super::*;
use crate::record::build::{BatchBuilder, BatchOptions, NewRecord};
use crate::record::control::end_txn_marker;
use bytes::Bytes;

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

fn run_on(dir: &Path, file: &str, flags: &[&str]) -> Outcome {
    let path = dir.join(file).display().to_string();
    let args = ["kafka-dump-log", "--files", &path];
    let options = Options::parse_from(args.iter().chain(flags));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run_with(&options, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code,
        out: text(out),
        err: text(err),
    }
}

/// Two batches: offsets 0–1 at 0, offset 5 after it; then a commit marker at 6.
fn segment(dir: &Path) -> u64 {
    let mut bytes = Vec::new();
    let mut second_at = 0;
    for (base, count) in [(0, 2), (5, 1)] {
        let options = BatchOptions {
            producer_id: 7,
            producer_epoch: 0,
            base_sequence: base as i32,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::new(&options).unwrap().placed_at(base, 3);
        for i in 0..count {
            builder
                .append(&NewRecord {
                    timestamp: 100 + base + i,
                    key: (i == 0).then(|| Bytes::from_static(b"k")),
                    value: Some(Bytes::from_static(b"hello")),
                    headers: vec![("h".into(), None)],
                })
                .unwrap();
        }
        second_at = bytes.len();
        bytes.extend_from_slice(&builder.finish().unwrap().0);
    }
    let mut marker = end_txn_marker(7, 0, EndTxn::Commit, 4, 200).to_vec();
    marker[..8].copy_from_slice(&6i64.to_be_bytes());
    bytes.extend_from_slice(&marker);
    bytes.extend_from_slice(&[0, 1, 2]);
    std::fs::write(dir.join("00000000000000000000.log"), &bytes).unwrap();
    second_at as u64
}

#[test]
fn a_log_is_dumped_in_kafkas_words() {
    let dir = tempfile::tempdir().unwrap();
    segment(dir.path());
    let file = "00000000000000000000.log";
    let outcome = run_on(dir.path(), file, &["--print-data-log"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(
        lines[0],
        format!("Dumping {}", dir.path().join(file).display())
    );
    assert_eq!(lines[1], "Log starting offset: 0");
    assert!(lines[2].starts_with(
        "baseOffset: 0 lastOffset: 1 count: 2 baseSequence: 0 lastSequence: 1 producerId: 7 \
         producerEpoch: 0 partitionLeaderEpoch: 3 isTransactional: false isControl: false \
         deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 101 size: "
    ));
    assert!(lines[2].contains(" magic: 2 compresscodec: none crc: "));
    assert!(lines[2].ends_with(" isvalid: true"));
    assert_eq!(
        lines[3],
        "| offset: 0 CreateTime: 100 keySize: 1 valueSize: 5 sequence: 0 headerKeys: [h] key: k \
         payload: hello"
    );
    assert_eq!(
        lines[4],
        "| offset: 1 CreateTime: 101 keySize: -1 valueSize: 5 sequence: 1 headerKeys: [h] \
         payload: hello"
    );
    assert!(lines[8].ends_with(" headerKeys: [] endTxnMarker: COMMIT coordinatorEpoch: 4"));
    assert_eq!(
        lines[9],
        format!("Found 3 invalid bytes at the end of {file}")
    );
    assert!(outcome.err.starts_with("Non-consecutive offsets in "));
    assert!(outcome.err.ends_with("\n  1 is followed by 5\n"));
}

/// The lines are what Kafka's own tool printed for this file.
#[test]
fn old_messages_show_their_crc() {
    let dir = tempfile::tempdir().unwrap();
    let file = "00000000000000000000.log";
    let bytes = include_bytes!("../../record/testdata/java-v1-gzip.bin");
    std::fs::write(dir.path().join(file), bytes).unwrap();
    let outcome = run_on(dir.path(), file, &["--print-data-log"]);
    assert_eq!(
        outcome.out.lines().nth(3),
        Some(
            "| offset: 0 CreateTime: 1000 keySize: 5 valueSize: 8 isValid: true crc: 3722875998} \
             key: key-0 payload: value-0-"
        )
    );
}

#[test]
fn a_shallow_dump_shows_batches_only() {
    let dir = tempfile::tempdir().unwrap();
    segment(dir.path());
    let outcome = run_on(dir.path(), "00000000000000000000.log", &[]);
    assert_eq!(
        outcome
            .out
            .lines()
            .filter(|line| line.starts_with("base"))
            .count(),
        3
    );
    assert!(!outcome.out.contains("| offset"));
    assert_eq!(outcome.err, "");
}

#[test]
fn an_index_that_disagrees_with_its_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let second_at = segment(dir.path()) as i32;
    let mut index = Vec::new();
    for (offset, position) in [(1i32, 0i32), (4, second_at)] {
        index.extend_from_slice(&offset.to_be_bytes());
        index.extend_from_slice(&position.to_be_bytes());
    }
    let file = "00000000000000000000.index";
    std::fs::write(dir.path().join(file), &index).unwrap();
    let outcome = run_on(dir.path(), file, &[]);
    assert!(outcome.out.ends_with(&format!(
        "offset: 1 position: 0\noffset: 4 position: {second_at}\n"
    )));
    assert!(outcome.err.ends_with("  Index offset: 4, log offset: 5\n"));
    let outcome = run_on(dir.path(), file, &["--verify-index-only"]);
    assert!(!outcome.out.contains("offset: 1"));
    let outcome = run_on(dir.path(), file, &["--index-sanity-check"]);
    assert!(outcome.out.ends_with(" passed sanity check.\n"));
    std::fs::write(dir.path().join(file), &index[..10]).unwrap();
    assert_eq!(run_on(dir.path(), file, &["--index-sanity-check"]).code, 1);
    std::fs::write(dir.path().join(file), []).unwrap();
    assert!(run_on(dir.path(), file, &[]).out.ends_with(" is empty.\n"));
}

#[test]
fn a_time_index_that_disagrees_with_its_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    segment(dir.path());
    std::fs::write(dir.path().join("00000000000000000000.index"), []).unwrap();
    let mut index = Vec::new();
    for (timestamp, offset) in [(101i64, 1i32), (104, 5), (103, 4)] {
        index.extend_from_slice(&timestamp.to_be_bytes());
        index.extend_from_slice(&offset.to_be_bytes());
    }
    let file = "00000000000000000000.timeindex";
    std::fs::write(dir.path().join(file), &index).unwrap();
    let outcome = run_on(dir.path(), file, &[]);
    assert!(
        outcome
            .out
            .contains("timestamp: 101 offset: 1\ntimestamp: 104 offset: 5\n")
    );
    assert!(
        outcome
            .err
            .contains("  Index timestamp: 104, log timestamp: 105\n")
    );
    assert!(
        outcome
            .err
            .contains("Indexed offset: 4, found log offset: 5\n")
    );
}

#[test]
fn transactions_and_producers_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut txn = 0i16.to_be_bytes().to_vec();
    for field in [7i64, 1, 5, 6] {
        txn.extend_from_slice(&field.to_be_bytes());
    }
    std::fs::write(dir.path().join("00000000000000000000.txnindex"), &txn).unwrap();
    let outcome = run_on(dir.path(), "00000000000000000000.txnindex", &[]);
    assert!(
        outcome.out.ends_with(
            "version: 0 producerId: 7 firstOffset: 1 lastOffset: 5 lastStableOffset: 6\n"
        )
    );

    let mut body = 1i32.to_be_bytes().to_vec();
    body.extend_from_slice(&7i64.to_be_bytes());
    body.extend_from_slice(&2i16.to_be_bytes());
    body.extend_from_slice(&9i32.to_be_bytes());
    body.extend_from_slice(&50i64.to_be_bytes());
    body.extend_from_slice(&4i32.to_be_bytes());
    body.extend_from_slice(&1234i64.to_be_bytes());
    body.extend_from_slice(&3i32.to_be_bytes());
    body.extend_from_slice(&(-1i64).to_be_bytes());
    let mut snapshot = 1i16.to_be_bytes().to_vec();
    snapshot.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    snapshot.extend_from_slice(&body);
    let file = "00000000000000000051.snapshot";
    std::fs::write(dir.path().join(file), &snapshot).unwrap();
    assert!(run_on(dir.path(), file, &[]).out.ends_with(
        "producerId: 7 producerEpoch: 2 coordinatorEpoch: 3 currentTxnFirstOffset: \
         OptionalLong.empty lastTimestamp: 1234 firstSequence: 5 lastSequence: 9 lastOffset: 50 \
         offsetDelta: 4 timestamp: 1234\n"
    ));
    let last = snapshot.len() - 1;
    snapshot[last] ^= 1;
    std::fs::write(dir.path().join(file), &snapshot).unwrap();
    assert!(
        run_on(dir.path(), file, &[])
            .err
            .contains("Snapshot is corrupt")
    );
}

#[test]
fn unknown_files_are_ignored_and_missing_files_fail() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = run_on(dir.path(), "leader-epoch-checkpoint", &[]);
    assert_eq!(outcome.code, 0);
    assert!(outcome.err.starts_with("Ignoring unknown file "));
    assert_eq!(run_on(dir.path(), "00000000000000000000.log", &[]).code, 1);
}
