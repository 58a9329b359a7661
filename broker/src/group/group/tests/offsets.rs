//! Commits, their expiry, and the end of offsets and groups.

use super::*;

#[test]
fn who_may_commit() {
    let mut bench = Bench::eager();
    assert_eq!(
        bench.commit(member("m", 0), 1),
        ErrorCode::IllegalGeneration,
        "of a group nobody knows"
    );
    assert!(bench.group.is_blank());
    assert_eq!(bench.commit(nobody(), 1), ErrorCode::None);
    assert!(!bench.group.is_blank());
    assert_eq!(bench.committed(), Some(1));
    assert_eq!(bench.commit(member("m", 0), 2), ErrorCode::UnknownMemberId);
    assert_eq!(bench.committed(), Some(1));

    let (mut bench, leader) = Bench::stable();
    let id = leader.member_id.as_str();
    let cases = [
        (leader.clone(), ErrorCode::None),
        (nobody(), ErrorCode::UnknownMemberId),
        (member(id, 0), ErrorCode::IllegalGeneration),
        (member(id, 2), ErrorCode::IllegalGeneration),
        (member(id, -1), ErrorCode::IllegalGeneration),
        (member("other", 1), ErrorCode::UnknownMemberId),
    ];
    for (who, expected) in cases {
        assert_eq!(bench.commit(who.clone(), 1), expected, "{who:?}");
    }
}

#[test]
fn a_commit_counts_when_it_is_in_the_log_and_its_error_is_translated() {
    let mapping = [
        (
            ErrorCode::NotEnoughReplicas,
            ErrorCode::CoordinatorNotAvailable,
        ),
        (
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::CoordinatorNotAvailable,
        ),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (
            ErrorCode::MessageTooLarge,
            ErrorCode::InvalidCommitOffsetSize,
        ),
        (ErrorCode::RequestTimedOut, ErrorCode::RequestTimedOut),
    ];
    for (append, expected) in mapping {
        let mut bench = Bench::eager();
        bench.commit(nobody(), 1);
        bench.hold();
        let token = bench.commit_from(nobody(), 2);
        assert_eq!(bench.committed(), Some(1));
        assert_eq!(
            bench.group.fetch(Some(&[partition("t", 0)]), true)[0].1,
            Fetched::Unstable
        );
        bench.release(Err(append));
        assert_eq!(bench.commit_answer(token), expected);
        assert_eq!(bench.committed(), Some(1));
    }
}

#[test]
fn too_large_metadata_is_refused_alone() {
    let mut bench = Bench::eager();
    let token = bench.token();
    let large = OffsetAndMetadata {
        metadata: "x".repeat(4_097).into(),
        ..value(1, 0)
    };
    bench.step(Event::Commit(CommitRequest {
        token,
        member: nobody(),
        producer: None,
        offsets: vec![(partition("t", 1), large), (partition("t", 0), value(5, 0))],
    }));
    let Answer::Commit(results) = &bench.answers[&token] else {
        panic!("a commit answer");
    };
    assert_eq!(
        results[..],
        [ErrorCode::OffsetMetadataTooLarge, ErrorCode::None]
    );
    assert_eq!(bench.committed(), Some(5));
}

#[test]
fn deleting_a_group() {
    let mut bench = Bench::eager();
    assert_eq!(bench.delete_group(), ErrorCode::GroupIdNotFound);
    let (mut bench, leader) = Bench::stable();
    bench.commit(leader.clone(), 4);
    assert_eq!(bench.delete_group(), ErrorCode::NonEmptyGroup);
    bench.leave(&leader.member_id, None);
    assert_eq!(bench.delete_group(), ErrorCode::None);
    assert!(bench.forgotten);
    assert!(replayed(&bench.log, Settings::default()).is_blank());
    let request = bench.join_request("");
    assert_eq!(
        bench.joined(request).error,
        ErrorCode::CoordinatorNotAvailable
    );
}

#[test]
fn deleting_offsets() {
    let mut bench = Bench::eager();
    assert_eq!(bench.delete_offsets("t"), Err(ErrorCode::GroupIdNotFound));
    let (mut bench, leader) = Bench::stable();
    bench.commit(leader, 4);
    assert_eq!(
        bench.delete_offsets("t"),
        Ok(ErrorCode::GroupSubscribedToTopic)
    );
    assert_eq!(bench.delete_offsets("unrelated"), Ok(ErrorCode::None));
    assert_eq!(bench.committed(), Some(4));

    let mut bench = Bench::eager();
    let request = JoinRequest {
        protocol_type: "connect".into(),
        ..bench.join_request("")
    };
    bench.join(request);
    assert_eq!(bench.delete_offsets("t"), Err(ErrorCode::NonEmptyGroup));

    let mut bench = Bench::eager();
    bench.commit(nobody(), 4);
    assert_eq!(bench.delete_offsets("t"), Ok(ErrorCode::None));
    assert_eq!(bench.committed(), None);
    assert!(bench.forgotten, "nothing is left of it");
}

#[test]
fn offsets_expire_by_the_state_of_the_group() {
    let retention = Settings::default().offsets_retention_ms;
    // A simple consumer: since the commit.
    let mut bench = Bench::eager();
    bench.commit(nobody(), 1);
    bench.advance(retention - 1);
    bench.step(Event::Expire);
    assert_eq!(bench.committed(), Some(1));
    bench.advance(1);
    bench.step(Event::Expire);
    assert!(bench.forgotten);
    assert!(
        bench
            .log
            .iter()
            .all(|record| !matches!(record, Record::Group { .. })),
        "a group of generation 0 has no record to delete"
    );

    // A group: since it became empty, however old the commit.
    let (mut bench, leader) = Bench::stable();
    bench.commit(leader.clone(), 1);
    for _ in 0..(retention / 9_000) {
        bench.advance(9_000);
        bench.heartbeat(leader.clone());
    }
    bench.step(Event::Expire);
    assert_eq!(bench.committed(), Some(1), "it subscribes to the topic");
    bench.leave(&leader.member_id, None);
    bench.advance(retention - 1);
    bench.step(Event::Expire);
    assert_eq!(bench.committed(), Some(1));
    bench.advance(1);
    bench.step(Event::Expire);
    assert!(bench.forgotten);
    assert!(replayed(&bench.log, Settings::default()).is_blank());
}

#[test]
fn offsets_of_deleted_topics_go() {
    let (mut bench, leader) = Bench::stable();
    bench.commit(leader, 1);
    bench.step(Event::PartitionsDeleted(vec![partition("t", 0)]));
    assert_eq!(bench.committed(), None);
    assert_eq!(bench.group.state(), State::Stable);
    assert_eq!(replayed(&bench.log, Settings::default()).offset_count(), 0);
}
