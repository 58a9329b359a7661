//! Joins, rebalances, sessions and static members.

use super::*;

#[test]
fn session_timeout_outside_the_allowed_range_is_refused() {
    for (timeout, expected) in [
        (5_999, ErrorCode::InvalidSessionTimeout),
        (6_000, ErrorCode::None),
        (1_800_000, ErrorCode::None),
        (1_800_001, ErrorCode::InvalidSessionTimeout),
    ] {
        let mut bench = Bench::eager();
        let request = JoinRequest {
            session_timeout_ms: timeout,
            ..bench.join_request("")
        };
        assert_eq!(bench.joined(request).error, expected, "{timeout}");
    }
}

#[test]
fn dynamic_member_of_v4_gets_an_id_and_joins_with_it() {
    let mut bench = Bench::eager();
    let request = JoinRequest {
        require_known_member_id: true,
        ..bench.join_request("")
    };
    let first = bench.joined(request);
    assert_eq!(first.error, ErrorCode::MemberIdRequired);
    assert!(first.member_id.starts_with("c-"), "{}", first.member_id);
    assert_eq!(first.generation, -1);
    assert!(!bench.group.is_blank(), "its id is remembered");
    let request = JoinRequest {
        require_known_member_id: true,
        ..bench.join_request(&first.member_id)
    };
    let second = bench.joined(request);
    assert_eq!((second.error, second.generation), (ErrorCode::None, 1));
    assert_eq!(second.leader, first.member_id);
}

#[test]
fn pending_member_that_never_joins_is_forgotten() {
    let mut bench = Bench::eager();
    let request = JoinRequest {
        require_known_member_id: true,
        ..bench.join_request("")
    };
    let id = bench.joined(request).member_id;
    bench.advance(10_000);
    assert!(bench.group.is_blank());
    let request = bench.join_request(&id);
    assert_eq!(bench.joined(request).error, ErrorCode::UnknownMemberId);
}

#[test]
fn protocols_must_have_one_in_common() {
    let cases: [(&str, &[&str], ErrorCode); 4] = [
        ("consumer", &["range"], ErrorCode::None),
        ("consumer", &["other", "range"], ErrorCode::None),
        ("consumer", &["other"], ErrorCode::InconsistentGroupProtocol),
        ("connect", &["range"], ErrorCode::InconsistentGroupProtocol),
    ];
    for (kind, protocols, expected) in cases {
        let (mut bench, _) = Bench::stable();
        let request = JoinRequest {
            protocol_type: kind.into(),
            protocols: protocols.iter().map(|name| protocol(name, "t")).collect(),
            ..bench.join_request("")
        };
        let token = bench.join(request);
        match bench.answers.get(&token) {
            None => assert_eq!(expected, ErrorCode::None, "parked"),
            Some(Answer::Join(answer)) => assert_eq!(answer.error, expected),
            Some(other) => panic!("{other:?}"),
        }
    }
    let mut bench = Bench::eager();
    let request = JoinRequest {
        protocols: Vec::new(),
        ..bench.join_request("")
    };
    assert_eq!(
        bench.joined(request).error,
        ErrorCode::InconsistentGroupProtocol
    );
    assert!(bench.group.is_blank());
}

#[test]
fn connect_and_schema_registry_groups_are_groups_like_any() {
    for kind in ["connect", "sr"] {
        let mut bench = Bench::eager();
        let request = JoinRequest {
            protocol_type: kind.into(),
            protocols: vec![Protocol {
                name: "v1".into(),
                metadata: Bytes::from_static(b"not a subscription"),
            }],
            ..bench.join_request("")
        };
        let joined = bench.joined(request);
        assert_eq!(joined.error, ErrorCode::None);
        assert_eq!(joined.protocol_type.as_deref(), Some(kind));
        assert_eq!(joined.protocol_name.as_deref(), Some("v1"));
    }
}

#[test]
fn the_protocol_most_members_prefer_wins() {
    let mut bench = Bench::new(Settings::default());
    let mut tokens = Vec::new();
    for order in [["a", "b"], ["b", "a"], ["b", "a"]] {
        let request = JoinRequest {
            protocols: order.iter().map(|name| protocol(name, "t")).collect(),
            ..bench.join_request("")
        };
        tokens.push(bench.join(request));
    }
    bench.advance(20_000);
    let answers: Vec<_> = tokens.iter().map(|it| bench.join_answer(*it)).collect();
    assert!(
        answers
            .iter()
            .all(|it| it.protocol_name.as_deref() == Some("b"))
    );
    assert!(answers.iter().all(|it| it.generation == 1));
    assert_eq!(answers[0].members.len(), 3, "the first joiner leads");
    assert!(answers[1].members.is_empty() && answers[2].members.is_empty());
}

#[test]
fn initial_delay_grows_while_members_keep_coming() {
    let mut bench = Bench::new(Settings::default());
    let request = bench.join_request("");
    let first = bench.join(request);
    bench.advance(2_999);
    assert!(!bench.answers.contains_key(&first));
    let request = bench.join_request("");
    let second = bench.join(request);
    bench.advance(1);
    assert!(!bench.answers.contains_key(&first), "another 3 s");
    bench.advance(3_000);
    assert_eq!(bench.join_answer(first).members.len(), 2);
    assert_eq!(bench.join_answer(second).generation, 1);
}

#[test]
fn group_over_its_size_refuses_and_an_old_member_stays() {
    let mut bench = Bench::new(Settings {
        initial_rebalance_delay_ms: 0,
        max_size: 1,
        ..Settings::default()
    });
    let request = bench.join_request("");
    let first = bench.joined(request);
    let request = bench.join_request("");
    let refused = bench.joined(request);
    assert_eq!(refused.error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(refused.member_id, "");
    assert_eq!(
        bench.heartbeat(member(&first.member_id, 1)),
        ErrorCode::None
    );
}

#[test]
fn a_new_member_makes_the_others_rejoin() {
    let (mut bench, leader) = Bench::stable();
    let request = bench.join_request("");
    let newcomer = bench.join(request);
    assert!(!bench.answers.contains_key(&newcomer), "parked");
    assert_eq!(
        bench.heartbeat(leader.clone()),
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(bench.commit(leader.clone(), 3), ErrorCode::None);
    let token = bench.sync(leader.clone(), &[]);
    assert_eq!(
        bench.sync_answer(token).error,
        ErrorCode::RebalanceInProgress
    );
    let request = bench.join_request(&leader.member_id);
    let rejoined = bench.joined(request);
    assert_eq!(rejoined.generation, 2);
    assert_eq!(rejoined.members.len(), 2);
    assert_eq!(bench.join_answer(newcomer).generation, 2);
}

#[test]
fn member_that_does_not_rejoin_in_time_is_removed_but_a_static_one_stays() {
    for is_static in [false, true] {
        let mut bench = Bench::eager();
        let mut request = bench.join_request("");
        if is_static {
            request.instance_id = Some("i".into());
        }
        request.session_timeout_ms = 100_000;
        let first = bench.joined(request);
        let id = first.member_id.as_str();
        let reference = MemberRef {
            instance_id: is_static.then(|| "i".to_owned()),
            ..member(id, 1)
        };
        bench.sync(reference, &[]);
        let request = bench.join_request("");
        let newcomer = bench.join(request);
        bench.advance(60_000);
        let answer = bench.join_answer(newcomer);
        assert_eq!(answer.generation, 2);
        assert_eq!(answer.leader, answer.member_id, "a joined member leads");
        assert_eq!(answer.members.len(), if is_static { 2 } else { 1 });
    }
}

#[test]
fn parked_join_of_a_new_member_ends_after_five_minutes() {
    let (mut bench, leader) = Bench::stable();
    let request = JoinRequest {
        rebalance_timeout_ms: 600_000,
        ..bench.join_request("")
    };
    let newcomer = bench.join(request);
    for _ in 0..310 {
        bench.advance(1_000);
        bench.heartbeat(leader.clone());
    }
    let answer = bench.join_answer(newcomer);
    assert_eq!(answer.error, ErrorCode::UnknownMemberId);
}

#[test]
fn member_without_heartbeats_is_removed_and_the_group_becomes_empty() {
    let (mut bench, leader) = Bench::stable();
    bench.advance(9_999);
    assert_eq!(bench.heartbeat(leader.clone()), ErrorCode::None);
    bench.advance(9_999);
    assert_eq!(bench.group.state(), State::Stable);
    bench.advance(1);
    assert_eq!(bench.group.state(), State::Empty);
    assert_eq!(bench.group.generation(), 2);
    assert_eq!(bench.heartbeat(leader), ErrorCode::UnknownMemberId);
    let Some(Record::Group {
        value: Some(value), ..
    }) = bench.log.last()
    else {
        panic!("the empty group is stored");
    };
    assert_eq!(value.protocol_type, "consumer");
    assert_eq!((&value.protocol, &value.leader), (&None, &None));
    assert!(value.members.is_empty());
}

#[test]
fn member_that_does_not_sync_in_time_is_removed() {
    let mut bench = Bench::new(Settings::default());
    let requests = [bench.join_request(""), bench.join_request("")];
    let tokens = requests.map(|request| bench.join(request));
    bench.advance(6_000);
    let [leader, follower] = tokens.map(|token| bench.join_answer(token));
    let synced = bench.sync(member(&leader.member_id, 1), &[]);
    assert_eq!(bench.sync_answer(synced).error, ErrorCode::None);
    // Heartbeats alone do not save the follower.
    for _ in 0..11 {
        bench.advance(5_000);
        assert_eq!(
            bench.heartbeat(member(&leader.member_id, 1)),
            ErrorCode::None
        );
        assert_eq!(
            bench.heartbeat(member(&follower.member_id, 1)),
            ErrorCode::None
        );
    }
    bench.advance(5_000);
    assert_eq!(
        bench.heartbeat(member(&leader.member_id, 1)),
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(
        bench.heartbeat(member(&follower.member_id, 1)),
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn followers_wait_for_the_assignment_to_be_in_the_log() {
    let mut bench = Bench::new(Settings::default());
    let requests = [bench.join_request(""), bench.join_request("")];
    let tokens = requests.map(|request| bench.join(request));
    bench.advance(6_000);
    let [leader, follower] = tokens.map(|token| bench.join_answer(token));
    bench.hold();
    let follows = bench.sync(member(&follower.member_id, 1), &[]);
    let leads = bench.sync(
        member(&leader.member_id, 1),
        &[(&leader.member_id, b"L"), (&follower.member_id, b"F")],
    );
    assert_eq!(bench.group.state(), State::CompletingRebalance);
    assert_eq!(
        bench.commit(member(&leader.member_id, 1), 1),
        ErrorCode::RebalanceInProgress
    );
    assert!(!bench.answers.contains_key(&leads) && !bench.answers.contains_key(&follows));
    bench.release(Ok(()));
    assert_eq!(bench.sync_answer(leads).assignment, &b"L"[..]);
    assert_eq!(bench.sync_answer(follows).assignment, &b"F"[..]);
    assert_eq!(bench.group.state(), State::Stable);
    let description = bench.group.describe();
    assert_eq!(description.protocol, "range");
    assert_eq!(description.members[1].assignment, &b"F"[..]);
}

#[test]
fn assignment_that_cannot_be_stored_starts_over() {
    let mapping = [
        (
            ErrorCode::NotEnoughReplicas,
            ErrorCode::CoordinatorNotAvailable,
        ),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::RequestTimedOut, ErrorCode::RebalanceInProgress),
        (ErrorCode::MessageTooLarge, ErrorCode::UnknownServerError),
    ];
    for (append, expected) in mapping {
        let mut bench = Bench::eager();
        let request = bench.join_request("");
        let id = bench.joined(request).member_id;
        bench.hold();
        let token = bench.sync(member(&id, 1), &[]);
        bench.release(Err(append));
        assert_eq!(bench.sync_answer(token).error, expected);
        assert_eq!(bench.group.state(), State::PreparingRebalance);
    }
}

#[test]
fn assignment_of_an_older_generation_is_dropped_when_its_append_ends_late() {
    let mut bench = Bench::eager();
    let request = bench.join_request("");
    let id = bench.joined(request).member_id;
    bench.hold();
    let token = bench.sync(member(&id, 1), &[(&id, b"old")]);
    let request = JoinRequest {
        protocols: vec![protocol("range", "other")],
        ..bench.join_request(&id)
    };
    let rejoined = bench.joined(request);
    assert_eq!(rejoined.generation, 2);
    assert_eq!(
        bench.sync_answer(token).error,
        ErrorCode::RebalanceInProgress
    );
    bench.release(Ok(()));
    assert_eq!(bench.group.state(), State::CompletingRebalance);
}

#[test]
fn rejoin_in_a_stable_group() {
    // A follower that says nothing new gets the current generation; a leader gets a rebalance.
    let mut bench = Bench::new(Settings::default());
    let requests = [bench.join_request(""), bench.join_request("")];
    let tokens = requests.map(|request| bench.join(request));
    bench.advance(6_000);
    let [leader, follower] = tokens.map(|token| bench.join_answer(token));
    bench.sync(member(&leader.member_id, 1), &[]);
    bench.sync(member(&follower.member_id, 1), &[]);
    let request = bench.join_request(&follower.member_id);
    let again = bench.joined(request);
    assert_eq!((again.error, again.generation), (ErrorCode::None, 1));
    assert_eq!(bench.group.state(), State::Stable);
    let request = JoinRequest {
        protocols: vec![protocol("range", "t2")],
        ..bench.join_request(&follower.member_id)
    };
    bench.join(request);
    assert_eq!(bench.group.state(), State::PreparingRebalance);
    let request = bench.join_request(&leader.member_id);
    assert_eq!(bench.joined(request).generation, 2);
    bench.sync(member(&leader.member_id, 2), &[]);
    let request = bench.join_request(&leader.member_id);
    bench.join(request);
    assert_eq!(bench.group.state(), State::PreparingRebalance);
}

#[test]
fn sync_checks_generation_and_protocol() {
    let (mut bench, leader) = Bench::stable();
    let stale = MemberRef {
        generation: 0,
        ..leader.clone()
    };
    let token = bench.sync(stale, &[]);
    assert_eq!(bench.sync_answer(token).error, ErrorCode::IllegalGeneration);
    for (kind, name, expected) in [
        ("consumer", "range", ErrorCode::None),
        ("connect", "range", ErrorCode::InconsistentGroupProtocol),
        ("consumer", "sticky", ErrorCode::InconsistentGroupProtocol),
    ] {
        let token = bench.token();
        bench.step(Event::Sync(SyncRequest {
            token,
            member: leader.clone(),
            protocol_type: Some(kind.into()),
            protocol_name: Some(name.into()),
            assignments: Vec::new(),
        }));
        assert_eq!(bench.sync_answer(token).error, expected);
    }
}

#[test]
fn static_member_comes_back_without_a_rebalance_and_fences_its_predecessor() {
    for v9 in [false, true] {
        let (mut bench, before) = Bench::stable_static(v9);
        let records = bench.log.len();
        let request = bench.static_join("i", v9);
        let back = bench.joined(request);
        assert_eq!((back.error, back.generation), (ErrorCode::None, 1));
        assert_ne!(back.member_id, before.member_id);
        assert!(back.member_id.starts_with("i-"));
        assert_eq!(bench.group.state(), State::Stable);
        assert_eq!(bench.log.len(), records + 1, "its new id is stored");
        assert_eq!(back.skip_assignment, v9);
        if v9 {
            assert_eq!(back.leader, back.member_id);
            assert_eq!(back.members.len(), 1);
        } else {
            assert_eq!(back.leader, before.member_id, "it must not assign");
        }
        assert_eq!(bench.heartbeat(before.clone()), ErrorCode::FencedInstanceId);
        assert_eq!(bench.commit(before.clone(), 1), ErrorCode::FencedInstanceId);
        let now = MemberRef {
            member_id: back.member_id,
            ..before
        };
        let token = bench.sync(now.clone(), &[]);
        assert_eq!(bench.sync_answer(token).assignment, &b"all"[..]);
        assert_eq!(bench.heartbeat(now), ErrorCode::None);
    }
}

#[test]
fn static_replacement_that_cannot_be_stored_is_undone() {
    let (mut bench, before) = Bench::stable_static(true);
    bench.hold();
    let request = JoinRequest {
        session_timeout_ms: 20_000,
        ..bench.static_join("i", true)
    };
    let token = bench.join(request);
    bench.release(Err(ErrorCode::NotEnoughReplicas));
    let answer = bench.join_answer(token);
    assert_eq!(answer.error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(answer.member_id, "");
    assert_eq!(bench.heartbeat(before), ErrorCode::None);
}

#[test]
fn parked_join_of_a_fenced_static_member_is_answered() {
    let mut bench = Bench::new(Settings::default());
    let request = bench.static_join("i", true);
    let first = bench.join(request);
    let request = bench.static_join("i", true);
    let second = bench.join(request);
    assert_eq!(bench.join_answer(first).error, ErrorCode::FencedInstanceId);
    bench.advance(6_000);
    assert_eq!(bench.join_answer(second).generation, 1);
}

#[test]
fn leaving() {
    let (mut bench, leader) = Bench::stable();
    assert_eq!(bench.leave("who", None), ErrorCode::UnknownMemberId);
    assert_eq!(bench.leave("", Some("who")), ErrorCode::UnknownMemberId);
    assert_eq!(bench.leave(&leader.member_id, None), ErrorCode::None);
    assert_eq!(bench.group.state(), State::Empty);

    let (mut bench, member) = Bench::stable_static(true);
    assert_eq!(bench.leave("old", Some("i")), ErrorCode::FencedInstanceId);
    assert_eq!(bench.leave("", Some("i")), ErrorCode::None);
    assert_eq!(bench.heartbeat(member), ErrorCode::UnknownMemberId);
}

#[test]
fn leaving_answers_what_the_member_has_parked() {
    let mut bench = Bench::new(Settings::default());
    let requests = [bench.join_request(""), bench.join_request("")];
    let tokens = requests.map(|request| bench.join(request));
    bench.advance(6_000);
    let follower = bench.join_answer(tokens[1]);
    let parked = bench.sync(member(&follower.member_id, 1), &[]);
    bench.leave(&follower.member_id, None);
    assert_eq!(bench.sync_answer(parked).error, ErrorCode::UnknownMemberId);
}
