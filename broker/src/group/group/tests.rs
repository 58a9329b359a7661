use std::collections::BTreeMap;

use super::super::event::{JoinRequest, SyncRequest};
use super::*;
use crate::types::{TopicName, Uuid};

mod members;
mod offsets;
mod sequences;

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
