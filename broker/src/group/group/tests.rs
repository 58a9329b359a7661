use std::collections::BTreeMap;

use super::super::event::{JoinRequest, SyncRequest};
use super::*;
use crate::types::{TopicName, Uuid};

/// A group with its log beside it. Appends succeed at once unless `held`.
struct Bench {
    group: Group,
    now: Now,
    next_token: Token,
    answers: BTreeMap<Token, Answer>,
    log: Vec<Record>,
    held: Option<Vec<(WriteId, Vec<Record>)>>,
    forgotten: bool,
    /// The record of an empty group or a tombstone could not be written. Nobody is told, as in
    /// Kafka: a load gives what was before it, until it times out or is deleted again.
    lost_silently: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Now {
            wall: 1_000_000,
            steady: 0,
        };
        Self {
            group: Group::new("g", Arc::new(settings), now),
            now,
            next_token: 1,
            answers: BTreeMap::new(),
            log: Vec::new(),
            held: None,
            forgotten: false,
            lost_silently: false,
        }
    }

    /// No initial delay: a first member is in generation 1 at once.
    fn eager() -> Self {
        Self::new(Settings {
            initial_rebalance_delay_ms: 0,
            ..Settings::default()
        })
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    fn step(&mut self, event: Event) {
        let mut out = Vec::new();
        self.group.step(self.now, event, &mut out);
        for effect in out {
            match effect {
                Effect::Answer { token, answer } => {
                    let before = self.answers.insert(token, answer);
                    assert!(before.is_none(), "token {token} is answered twice (G3)");
                }
                Effect::Append { write, records, .. } => match &mut self.held {
                    Some(held) => held.push((write, records)),
                    None => self.appended(write, records, Ok(())),
                },
                Effect::Forget => self.forgotten = true,
            }
        }
    }

    fn appended(&mut self, write: WriteId, records: Vec<Record>, result: Result<(), ErrorCode>) {
        let base_offset = Offset::try_from(self.log.len()).unwrap();
        if result.is_ok() {
            self.log.extend(records);
        } else {
            self.lost_silently |= records.iter().any(|record| match record {
                Record::Group {
                    value: Some(value), ..
                } => value.members.is_empty(),
                Record::Group { value: None, .. } | Record::Offset { value: None, .. } => true,
                Record::Offset { .. } | Record::Unknown { .. } => false,
            });
        }
        self.step(Event::Appended {
            write,
            result: result.map(|()| base_offset),
        });
    }

    fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    fn release(&mut self, result: Result<(), ErrorCode>) {
        for (write, records) in self.held.take().unwrap_or_default() {
            self.appended(write, records, result);
        }
    }

    /// Moves both clocks, firing timers when they are due.
    fn advance(&mut self, by: Millis) {
        let end = self.now.steady + by;
        while let Some(deadline) = self.group.next_deadline()
            && deadline <= end
        {
            let step = (deadline - self.now.steady).max(0);
            self.now.steady += step;
            self.now.wall += step;
            self.step(Event::Timeout);
        }
        self.now.wall += end - self.now.steady;
        self.now.steady = end;
    }

    fn join_request(&mut self, member_id: &str) -> JoinRequest {
        let token = self.token();
        JoinRequest {
            token,
            member_id: member_id.into(),
            instance_id: None,
            unique: Uuid::from_u128(u128::from(token)),
            require_known_member_id: false,
            supports_skipping_assignment: false,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol("range", "t")],
            reason: None,
        }
    }

    fn join(&mut self, request: JoinRequest) -> Token {
        let token = request.token;
        self.step(Event::Join(request));
        token
    }

    fn joined(&mut self, request: JoinRequest) -> JoinAnswer {
        let token = self.join(request);
        self.join_answer(token)
    }

    fn join_answer(&self, token: Token) -> JoinAnswer {
        match &self.answers[&token] {
            Answer::Join(answer) => answer.clone(),
            other => panic!("not a join answer: {other:?}"),
        }
    }

    fn sync(&mut self, member: MemberRef, assignments: &[(&str, &'static [u8])]) -> Token {
        let token = self.token();
        self.step(Event::Sync(SyncRequest {
            token,
            member,
            protocol_type: None,
            protocol_name: None,
            assignments: assignments
                .iter()
                .map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes)))
                .collect(),
        }));
        token
    }

    fn sync_answer(&self, token: Token) -> SyncAnswer {
        match &self.answers[&token] {
            Answer::Sync(answer) => answer.clone(),
            other => panic!("not a sync answer: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member: MemberRef) -> ErrorCode {
        let token = self.token();
        self.step(Event::Heartbeat { token, member });
        match self.answers[&token] {
            Answer::Heartbeat(error) => error,
            ref other => panic!("not a heartbeat answer: {other:?}"),
        }
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> ErrorCode {
        let token = self.token();
        self.step(Event::Leave {
            token,
            members: vec![LeavingMember {
                member_id: member_id.into(),
                instance_id: instance_id.map(str::to_owned),
                reason: None,
            }],
        });
        match &self.answers[&token] {
            Answer::Leave(Ok(results)) => results[0],
            Answer::Leave(Err(error)) => *error,
            other => panic!("not a leave answer: {other:?}"),
        }
    }

    fn commit_from(&mut self, member: MemberRef, offset: Offset) -> Token {
        let token = self.token();
        let value = value(offset, self.now.wall);
        self.step(Event::Commit(CommitRequest {
            token,
            member,
            producer: None,
            offsets: vec![(partition("t", 0), value)],
        }));
        token
    }

    fn commit(&mut self, member: MemberRef, offset: Offset) -> ErrorCode {
        let token = self.commit_from(member, offset);
        self.commit_answer(token)
    }

    fn commit_answer(&self, token: Token) -> ErrorCode {
        match &self.answers[&token] {
            Answer::Commit(results) => results[0],
            other => panic!("not a commit answer: {other:?}"),
        }
    }

    fn delete_group(&mut self) -> ErrorCode {
        let token = self.token();
        self.step(Event::DeleteGroup { token });
        match self.answers[&token] {
            Answer::DeleteGroup(error) => error,
            ref other => panic!("not a delete answer: {other:?}"),
        }
    }

    fn delete_offsets(&mut self, topic: &str) -> Result<ErrorCode, ErrorCode> {
        let token = self.token();
        self.step(Event::DeleteOffsets {
            token,
            partitions: vec![partition(topic, 0)],
        });
        match &self.answers[&token] {
            Answer::DeleteOffsets(result) => result.as_ref().map(|it| it[0].1).map_err(|e| *e),
            other => panic!("not a delete answer: {other:?}"),
        }
    }

    fn committed(&self) -> Option<Offset> {
        match &self.group.fetch(Some(&[partition("t", 0)]), false)[0].1 {
            Fetched::Committed(value) => Some(value.offset),
            Fetched::Nothing | Fetched::Unstable => None,
        }
    }

    /// A group of one member in generation 1, stable.
    fn stable() -> (Self, MemberRef) {
        let mut bench = Self::eager();
        let request = bench.join_request("");
        let joined = bench.joined(request);
        let leader = member(&joined.member_id, joined.generation);
        let token = bench.sync(leader.clone(), &[(&joined.member_id, b"all")]);
        assert_eq!(bench.sync_answer(token).assignment, &b"all"[..]);
        assert_eq!(bench.group.state(), State::Stable);
        (bench, leader)
    }

    /// A stable group whose only member is static, with its instance id `i`.
    fn stable_static(require_v9: bool) -> (Self, MemberRef) {
        let mut bench = Self::eager();
        let request = bench.static_join("i", require_v9);
        let joined = bench.joined(request);
        let leader = MemberRef {
            instance_id: Some("i".into()),
            ..member(&joined.member_id, 1)
        };
        bench.sync(leader.clone(), &[(&joined.member_id, b"all")]);
        (bench, leader)
    }

    fn static_join(
        &mut self,
        instance_id: &str,
        supports_skipping_assignment: bool,
    ) -> JoinRequest {
        JoinRequest {
            instance_id: Some(instance_id.into()),
            supports_skipping_assignment,
            ..self.join_request("")
        }
    }
}

fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(topic),
        partition,
    }
}

fn value(offset: Offset, commit_timestamp: Millis) -> OffsetAndMetadata {
    OffsetAndMetadata {
        offset,
        leader_epoch: None,
        metadata: "".into(),
        commit_timestamp,
        expire_timestamp: None,
    }
}

/// A subscription of version 0 to one topic.
fn protocol(name: &str, topic: &str) -> Protocol {
    let mut metadata = vec![0, 0, 0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()];
    metadata.extend(topic.as_bytes());
    metadata.extend([0xff; 4]);
    Protocol {
        name: name.into(),
        metadata: metadata.into(),
    }
}

fn member(member_id: &str, generation: i32) -> MemberRef {
    MemberRef {
        member_id: member_id.into(),
        instance_id: None,
        generation,
    }
}

fn nobody() -> MemberRef {
    member("", -1)
}

/// What a load would give.
fn replayed(log: &[Record], settings: Settings) -> Group {
    let now = Now { wall: 0, steady: 0 };
    let mut group = Group::new("g", Arc::new(settings), now);
    for (offset, record) in (0..).zip(log) {
        group.replay(record.clone(), offset, None);
    }
    group
}

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

#[test]
fn unloading_answers_everything_that_is_parked() {
    let (mut bench, leader) = Bench::stable();
    let request = bench.join_request("");
    let parked = bench.join(request);
    bench.hold();
    let commit = bench.commit_from(leader, 1);
    bench.step(Event::Unloaded);
    assert_eq!(bench.join_answer(parked).error, ErrorCode::NotCoordinator);
    bench.release(Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(bench.commit_answer(commit), ErrorCode::NotCoordinator);
    assert_eq!(bench.group.next_deadline(), None);
}

#[test]
fn loaded_group_goes_on_where_it_was_and_its_members_have_a_session_to_show_up() {
    let (mut bench, leader) = Bench::stable();
    bench.commit(leader.clone(), 9);
    let mut group = replayed(&bench.log, Settings::default());
    let now = Now {
        wall: 2_000_000,
        steady: 500,
    };
    let mut out = Vec::new();
    group.step(now, Event::Loaded, &mut out);
    assert!(out.is_empty());
    assert_eq!(group.next_deadline(), Some(10_500));
    bench.group = group;
    bench.now = now;
    assert_eq!(bench.heartbeat(leader.clone()), ErrorCode::None);
    assert_eq!(bench.committed(), Some(9));
    assert_eq!(bench.commit(leader, 10), ErrorCode::None);
}

#[test]
fn loaded_group_over_its_size_rebalances() {
    let mut bench = Bench::new(Settings::default());
    let requests = [bench.join_request(""), bench.join_request("")];
    let tokens = requests.map(|request| bench.join(request));
    bench.advance(6_000);
    let leader = bench.join_answer(tokens[0]);
    bench.sync(member(&leader.member_id, 1), &[]);
    let settings = Settings {
        max_size: 1,
        ..Settings::default()
    };
    let mut group = replayed(&bench.log, settings);
    group.step(bench.now, Event::Loaded, &mut Vec::new());
    assert_eq!(group.state(), State::PreparingRebalance);
}

mod sequences {
    use proptest::prelude::*;

    use super::*;

    /// What a client or the machine does next. Numbers choose among those there are.
    #[derive(Debug, Clone)]
    enum Act {
        Join {
            who: usize,
            is_static: bool,
            other_topic: bool,
        },
        Sync {
            who: usize,
        },
        Heartbeat {
            who: usize,
            stale: bool,
        },
        Commit {
            who: usize,
            stale: bool,
        },
        Leave {
            who: usize,
        },
        Advance(Millis),
        Hold,
        Release {
            fail: bool,
        },
        Expire,
        DeleteOffsets,
    }

    fn any_act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0usize..5, any::<bool>(), any::<bool>())
                .prop_map(|(who, is_static, other_topic)| Act::Join { who, is_static, other_topic }),
            4 => (0usize..5).prop_map(|who| Act::Sync { who }),
            2 => (0usize..5, any::<bool>()).prop_map(|(who, stale)| Act::Heartbeat { who, stale }),
            2 => (0usize..5, any::<bool>()).prop_map(|(who, stale)| Act::Commit { who, stale }),
            1 => (0usize..5).prop_map(|who| Act::Leave { who }),
            2 => (0i64..12_000).prop_map(Act::Advance),
            1 => Just(Act::Hold),
            1 => any::<bool>().prop_map(|fail| Act::Release { fail }),
            1 => Just(Act::Expire),
            1 => Just(Act::DeleteOffsets),
        ]
    }

    /// A client as it knows itself.
    #[derive(Debug, Clone, Default)]
    struct Client {
        id: String,
        instance: Option<String>,
        generation: i32,
    }

    struct World {
        bench: Bench,
        clients: Vec<Client>,
        asked: Vec<Token>,
        joins: HashMap<Token, usize>,
        /// Assignments handed out: by generation, the member that has each.
        owners: BTreeMap<(i32, Bytes), String>,
        syncs: HashMap<Token, (i32, String)>,
        last_generation: i32,
    }

    impl World {
        fn act(&mut self, act: Act) {
            match act {
                Act::Join {
                    who,
                    is_static,
                    other_topic,
                } => {
                    let client = self.clients[who].clone();
                    let mut request = self.bench.join_request(&client.id);
                    request.instance_id = if client.id.is_empty() {
                        is_static.then(|| format!("i{who}"))
                    } else {
                        client.instance
                    };
                    if other_topic {
                        request.protocols = vec![protocol("range", "other")];
                    }
                    self.clients[who].instance.clone_from(&request.instance_id);
                    request.require_known_member_id = request.instance_id.is_none();
                    self.joins.insert(request.token, who);
                    self.asked.push(request.token);
                    self.bench.join(request);
                }
                Act::Sync { who } => {
                    let reference = self.reference(who, false);
                    let plan: Vec<(String, Bytes)> = self
                        .bench
                        .group
                        .members
                        .keys()
                        .enumerate()
                        .map(|(index, id)| (id.clone(), Bytes::from(format!("p{index}"))))
                        .collect();
                    let token = self.bench.token();
                    self.syncs
                        .insert(token, (reference.generation, reference.member_id.clone()));
                    self.asked.push(token);
                    self.bench.step(Event::Sync(SyncRequest {
                        token,
                        member: reference,
                        protocol_type: None,
                        protocol_name: None,
                        assignments: plan,
                    }));
                }
                Act::Heartbeat { who, stale } => {
                    let reference = self.reference(who, stale);
                    let is_old = reference.generation != self.bench.group.generation();
                    let error = self.bench.heartbeat(reference);
                    assert!(!is_old || !error.is_none(), "G1");
                }
                Act::Commit { who, stale } => {
                    let reference = self.reference(who, stale);
                    let is_old = reference.generation != self.bench.group.generation();
                    let token = self.bench.commit_from(reference, 1);
                    self.asked.push(token);
                    if is_old {
                        assert!(!self.bench.commit_answer(token).is_none(), "G1");
                    }
                }
                Act::Leave { who } => {
                    let client = self.clients[who].clone();
                    if !client.id.is_empty() {
                        self.bench.leave(&client.id, client.instance.as_deref());
                    }
                }
                Act::Advance(by) => self.bench.advance(by),
                Act::Hold => {
                    if self.bench.held.is_none() {
                        self.bench.hold();
                    }
                }
                Act::Release { fail } => {
                    self.bench.release(if fail {
                        Err(ErrorCode::NotEnoughReplicas)
                    } else {
                        Ok(())
                    });
                }
                Act::Expire => self.bench.step(Event::Expire),
                Act::DeleteOffsets => {
                    let _ = self.bench.delete_offsets("t");
                }
            }
            self.learn();
            self.check();
        }

        fn reference(&self, who: usize, stale: bool) -> MemberRef {
            let client = &self.clients[who];
            MemberRef {
                member_id: client.id.clone(),
                instance_id: client.instance.clone(),
                // A generation the group has left, or never had.
                generation: if stale {
                    self.bench.group.generation() - 1
                } else {
                    client.generation
                }
                .max(0),
            }
        }

        /// Clients read their answers.
        fn learn(&mut self) {
            let joins: Vec<_> = self.joins.iter().map(|(t, w)| (*t, *w)).collect();
            for (token, who) in joins {
                if let Some(Answer::Join(answer)) = self.bench.answers.get(&token) {
                    let client = &mut self.clients[who];
                    match answer.error {
                        ErrorCode::None => {
                            client.id.clone_from(&answer.member_id);
                            client.generation = answer.generation;
                        }
                        ErrorCode::MemberIdRequired => client.id.clone_from(&answer.member_id),
                        ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                            client.id.clear();
                        }
                        _ => {}
                    }
                    self.joins.remove(&token);
                }
            }
            let syncs: Vec<_> = self.syncs.keys().copied().collect();
            for token in syncs {
                if let Some(Answer::Sync(answer)) = self.bench.answers.get(&token) {
                    let (generation, id) = self.syncs.remove(&token).unwrap();
                    if answer.error.is_none() && !answer.assignment.is_empty() {
                        let key = (generation, answer.assignment.clone());
                        let owner = self.owners.entry(key).or_insert_with(|| id.clone());
                        let is_successor = owner.split('-').next() == id.split('-').next()
                            && owner.starts_with('i');
                        assert!(*owner == id || is_successor, "two owners in one generation");
                    }
                }
            }
        }

        fn check(&mut self) {
            let group = &self.bench.group;
            assert!(group.generation() >= self.last_generation, "G2");
            self.last_generation = group.generation();
            if let Some(leader) = &group.leader {
                assert!(group.members.contains_key(leader));
            } else {
                assert!(group.members.is_empty());
            }
            for (instance, id) in &group.static_members {
                assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
            }
            if group.state() == State::Empty {
                assert!(group.members.is_empty());
            }
            if matches!(group.state(), State::Stable | State::CompletingRebalance) {
                assert!(!group.members.is_empty() && group.protocol_name.is_some());
            }
        }
    }

    /// Generation, protocol, members with their assignments, offsets.
    type Durable = (i32, Option<String>, Vec<(String, Bytes)>, Vec<Offset>);

    fn durable(group: &Group) -> Durable {
        let offsets = group
            .fetch(None, false)
            .into_iter()
            .map(|(_, found)| match found {
                Fetched::Committed(value) => value.offset,
                Fetched::Unstable | Fetched::Nothing => -1,
            })
            .collect();
        let members = group
            .members
            .values()
            .map(|member| (member.member_id.clone(), member.assignment.clone()))
            .collect();
        (
            group.generation(),
            group.protocol_name.clone(),
            members,
            offsets,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_sequence_keeps_the_invariants(
            acts in proptest::collection::vec(any_act(), 1..120),
            delay in prop_oneof![Just(0i64), Just(3_000)],
        ) {
            let settings = Settings { initial_rebalance_delay_ms: delay, ..Settings::default() };
            let mut world = World {
                bench: Bench::new(settings.clone()),
                clients: vec![Client::default(); 5],
                asked: Vec::new(),
                joins: HashMap::new(),
                owners: BTreeMap::new(),
                syncs: HashMap::new(),
                last_generation: 0,
            };
            for act in acts {
                if world.bench.forgotten {
                    break;
                }
                world.act(act);
            }
            world.bench.release(Ok(()));
            // G4: whenever the group is stable or empty, a load gives the same.
            let group = &world.bench.group;
            if matches!(group.state(), State::Stable | State::Empty)
                && !world.bench.forgotten
                && !world.bench.lost_silently
            {
                let loaded = replayed(&world.bench.log, settings);
                prop_assert_eq!(durable(group), durable(&loaded));
            }
            // G3: after every timer has run out, nobody waits.
            world.bench.advance(3_600_000);
            for token in &world.asked {
                prop_assert!(world.bench.answers.contains_key(token), "token {} is lost", token);
            }
            prop_assert!(matches!(world.bench.group.state(), State::Empty | State::Dead));
        }
    }
}
