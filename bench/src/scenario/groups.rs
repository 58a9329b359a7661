//! Consumer groups: many members that join, and many commits.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    ResponseHeader, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable as _, HeaderVersion as _, StrBytes};

use super::{Bar, Run, Scenario, Work, figures, target};
use crate::figure::{Figure, Figures};
use crate::load::{Paced, Watch, latencies};
use crate::records::Totals;
use crate::system::{Kind, System};
use crate::wire::{Connection, frame};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;
const COMMIT: i16 = 8;
const OFFSETS: i16 = 7;
/// Of a member that has joined, until all have; Java's client takes 3 s, which would hide the broker.
const BETWEEN_HEARTBEATS: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(120);

fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// Waits until the coordinator of the group serves.
fn find_coordinator(system: &System, group: &str) -> Result<()> {
    let request =
        FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = system.connect()?.call(&request, 3)?;
        if answer.error_code == 0 && is_loaded(system, group)? {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "no coordinator: error {}",
            answer.error_code
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_loaded(system: &System, group: &str) -> Result<bool> {
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(None);
    Ok(system.connect()?.call(&request, OFFSETS)?.error_code == 0)
}

/// Members that all come at once to a group that is not there yet.
struct Joining {
    members: usize,
}

/// One member until the group is whole; answers its id.
struct Member<'a> {
    connection: Connection,
    group: &'a str,
    member_id: StrBytes,
    generation: i32,
    members: usize,
    /// The generation in which all are members; 0 before.
    whole: &'a AtomicI32,
}

impl Member<'_> {
    fn run(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            ensure!(Instant::now() < deadline, "the group is not whole");
            let joined = self.join()?;
            if !self.sync(&joined)? {
                continue;
            }
            loop {
                if self.whole.load(Ordering::Acquire) == self.generation {
                    return Ok(());
                }
                thread::sleep(BETWEEN_HEARTBEATS);
                if self.whole.load(Ordering::Acquire) == self.generation {
                    return Ok(());
                }
                if !self.heartbeat()? {
                    break;
                }
            }
        }
    }

    fn join(&mut self) -> Result<JoinGroupResponse> {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str("range"))
                .with_metadata(Bytes::from_static(&[0; 32]));
            let request = JoinGroupRequest::default()
                .with_group_id(group_id(self.group))
                .with_session_timeout_ms(45_000)
                .with_rebalance_timeout_ms(60_000)
                .with_member_id(self.member_id.clone())
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_protocols(vec![protocol]);
            let joined = self.connection.call(&request, JOIN)?;
            self.member_id = joined.member_id.clone();
            match ResponseError::try_from_code(joined.error_code) {
                None => {
                    self.generation = joined.generation_id;
                    if joined.members.len() == self.members {
                        self.whole.store(self.generation, Ordering::Release);
                    }
                    return Ok(joined);
                }
                // The id it asks for is in the answer.
                Some(ResponseError::MemberIdRequired) => {}
                Some(other) => return Err(anyhow!("JoinGroup: {other}")),
            }
        }
    }

    /// False: join again.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Result<bool> {
        let assignments = joined
            .members
            .iter()
            .map(|member| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(Bytes::from_static(&[0; 64]))
            })
            .collect();
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.member_id.clone())
            .with_protocol_type(joined.protocol_type.clone())
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(assignments);
        let answer = self.connection.call(&request, SYNC)?;
        ensure!(
            answer.error_code != 0 || answer.assignment.len() == 64,
            "an assignment of {} bytes",
            answer.assignment.len()
        );
        goes_on("SyncGroup", answer.error_code)
    }

    fn heartbeat(&mut self) -> Result<bool> {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(self.group))
            .with_generation_id(self.generation)
            .with_member_id(self.member_id.clone());
        let answer = self.connection.call(&request, HEARTBEAT)?;
        goes_on("Heartbeat", answer.error_code)
    }
}

/// False when the group rebalances.
fn goes_on(what: &str, error_code: i16) -> Result<bool> {
    match ResponseError::try_from_code(error_code) {
        None => Ok(true),
        Some(ResponseError::RebalanceInProgress) => Ok(false),
        Some(other) => Err(anyhow!("{what}: {other}")),
    }
}

impl Work for Joining {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let group = format!("joining-{}", run.number);
        find_coordinator(system, &group)?;
        let members = usize::try_from(run.scale.of(self.members as u64))?;
        let whole = AtomicI32::new(0);
        let barrier = Barrier::new(members + 1);
        let system = &*system;
        let mut found = Figures::new();
        let ids: Vec<StrBytes> = thread::scope(|scope| {
            // All are connected before the first begins, or none does.
            let mut connected = Vec::new();
            for _ in 0..members {
                let member = Member {
                    connection: system.connect()?,
                    group: &group,
                    member_id: StrBytes::default(),
                    generation: -1,
                    members,
                    whole: &whole,
                };
                member.connection.set_patience(PATIENCE)?;
                connected.push(member);
            }
            let mut threads = Vec::new();
            for mut member in connected {
                let barrier = &barrier;
                let builder = thread::Builder::new().stack_size(256 * 1024);
                threads.push(builder.spawn_scoped(scope, move || {
                    barrier.wait();
                    member.run().map(|()| member.member_id)
                })?);
            }
            barrier.wait();
            let watch = Watch::start(system)?;
            let ids = threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a member panicked"))?)
                .collect::<Result<_>>()?;
            let (seconds, broker_cpu, _) = watch.stop()?;
            found.insert(Figure::Stable, seconds * 1e3);
            if let Some(cpu) = broker_cpu {
                found.insert(Figure::CpuMillis, cpu * 1e3);
            }
            Ok::<_, anyhow::Error>(ids)
        })?;
        let leave = LeaveGroupRequest::default()
            .with_group_id(group_id(&group))
            .with_members(
                ids.into_iter()
                    .map(|id| MemberIdentity::default().with_member_id(id))
                    .collect(),
            );
        let left = system.connect()?.call(&leave, LEAVE)?;
        ensure!(
            left.error_code == 0,
            "LeaveGroup: error {}",
            left.error_code
        );
        Ok(found)
    }
}

/// Commits of one partition each, at a fixed rate.
struct Commits {
    rate: u64,
    seconds: u64,
    topics: BTreeMap<Kind, String>,
}

const COMMITTERS: usize = 10;

impl Commits {
    fn request(group: &str, topic: &str, number: u64) -> Result<Vec<u8>> {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index((number % COMMITTERS as u64) as i32)
            .with_committed_offset(i64::try_from(number)?)
            .with_committed_metadata(Some(StrBytes::default()));
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                    .with_partitions(vec![partition]),
            ]);
        frame(&request, COMMIT)
    }

    /// The last commit of each partition is what is stored.
    fn verify(system: &System, group: &str, topic: &str, commits: u64) -> Result<()> {
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(Some(vec![
                OffsetFetchRequestTopic::default()
                    .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
                    .with_partition_indexes((0..COMMITTERS as i32).collect()),
            ]));
        let answer = system.connect()?.call(&request, OFFSETS)?;
        let topic = answer.topics.first().context("no topic in OffsetFetch")?;
        for partition in &topic.partitions {
            let index = i64::from(partition.partition_index);
            let last = i64::try_from(commits)? - 1;
            let expected = last - (last - index).rem_euclid(COMMITTERS as i64);
            ensure!(
                partition.committed_offset == expected,
                "partition {index}: offset {} is committed, not {expected}",
                partition.committed_offset
            );
        }
        Ok(())
    }
}

fn check_commit(response: &[u8]) -> Result<()> {
    let mut body = Bytes::copy_from_slice(response);
    ResponseHeader::decode(&mut body, OffsetCommitResponse::header_version(COMMIT))?;
    let answer = OffsetCommitResponse::decode(&mut body, COMMIT)?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    for partition in partitions {
        ensure!(
            partition.error_code == 0,
            "OffsetCommit: error {}",
            partition.error_code
        );
    }
    Ok(())
}

impl Work for Commits {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let topic = format!("committed-{}", run.number);
        system.create_topic(&topic, COMMITTERS as i32)?;
        self.topics.insert(system.kind, topic);
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = &self.topics[&system.kind];
        let group = format!("committing-{}", run.number);
        find_coordinator(system, &group)?;
        let paced = Paced {
            rate: self.rate,
            connections: COMMITTERS,
            requests: run.scale.of(self.rate * self.seconds),
        };
        let (measured, ()) = paced.run(
            system,
            &|number| Self::request(&group, topic, number),
            &check_commit,
            |_| Ok(()),
        )?;
        Self::verify(system, &group, topic, paced.requests)?;
        let mut figures = figures(&measured);
        figures.remove(&Figure::RequestsPerSecond);
        Ok(figures)
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.topics.remove(&system.kind) {
            Some(topic) => system.delete_topic(&topic),
            None => Ok(()),
        }
    }
}

/// Heartbeats of one member that is alone in its group.
struct Heartbeats;

impl Work for Heartbeats {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let group = format!("beating-{}", run.number);
        find_coordinator(system, &group)?;
        let whole = AtomicI32::new(0);
        let mut member = Member {
            connection: system.connect()?,
            group: &group,
            member_id: StrBytes::default(),
            generation: -1,
            members: 1,
            whole: &whole,
        };
        member.run()?;
        let requests = run.scale.of(10_000);
        let mut latencies = latencies()?;
        let watch = Watch::start(system)?;
        for _ in 0..requests {
            let sent = Instant::now();
            ensure!(member.heartbeat()?, "a rebalance of one member");
            latencies.record(u64::try_from(sent.elapsed().as_nanos())?)?;
        }
        let measured = watch.measured(requests, Totals::default(), latencies)?;
        let leave = LeaveGroupRequest::default()
            .with_group_id(group_id(&group))
            .with_members(vec![
                MemberIdentity::default().with_member_id(member.member_id.clone()),
            ]);
        member.connection.call(&leave, LEAVE)?;
        Ok(figures(&measured))
    }
}

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "group-500",
            "500 members that join a new group at once, until all have their assignment",
            Joining { members: 500 },
        )
        .targets(&[target("P7", Figure::Stable, Bar::OfKafka(1.0 / 3.0))])
        .without_floor(),
        Scenario::shared(
            "commits-10000",
            "10,000 OffsetCommit requests of one partition per second over 10 connections",
            Commits {
                rate: 10_000,
                seconds: 2,
                topics: BTreeMap::new(),
            },
        )
        .targets(&[target("P7", Figure::CpuPerRequest, Bar::OfKafka(0.25))])
        .without_floor(),
        Scenario::shared(
            "heartbeats",
            "heartbeats of one member, one at a time",
            Heartbeats,
        )
        .without_floor()
        .at_most_pairs(5),
    ]
}
