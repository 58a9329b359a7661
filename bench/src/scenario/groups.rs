//! Consumer groups: many members that join, and many commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
    FindCoordinatorRequest, GroupId, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, ResponseHeader, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable as _, HeaderVersion as _, StrBytes};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::tail::produce;
use super::{Bar, Run, Scenario, Work, figures, target};
use crate::figure::{Figure, Figures};
use crate::load::{Measured, Paced, Watch, latencies, verify};
use crate::records::Totals;
use crate::system::{Kind, System};
use crate::wire::{Connection, SharedConnection, frame};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;
const COMMIT: i16 = 8;
const OFFSETS: i16 = 7;
const PRODUCER_ID: i16 = 4;
/// Of a member that has joined, until all have; Java's client takes 3 s, which would hide the broker.
const BETWEEN_HEARTBEATS: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(120);

fn group_id(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// Waits until the coordinator of the group serves.
pub fn find_coordinator(connection: &mut Connection, group: &str) -> Result<()> {
    let request =
        FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = connection.call(&request, 3)?;
        if answer.error_code == 0 && is_loaded(connection, group)? {
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

fn is_loaded(connection: &mut Connection, group: &str) -> Result<bool> {
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(None);
    Ok(connection.call(&request, OFFSETS)?.error_code == 0)
}

/// Members that all come at once to a group that is not there yet.
struct Joining {
    members: usize,
    warm: BTreeSet<Kind>,
}

/// Groups that do not count: the load before the first scenario has none, and the first ones take
/// a Java virtual machine several times as long.
const WARM_UPS: usize = 10;

/// What the members of a group know of each other.
struct Company {
    group: String,
    members: usize,
    /// Nobody joins before everybody has an id. Members with an id whose JoinGroup is not there yet
    /// hold a generation open, so that the second one has all; else chance decides how many
    /// generations there are, and each is a round of heartbeats and joins.
    have_ids: Barrier,
    /// The generation in which all are members; 0 before.
    whole: AtomicI32,
}

/// One member until the group is whole.
struct Member {
    connection: SharedConnection,
    company: Arc<Company>,
    member_id: StrBytes,
    generation: i32,
}

impl Company {
    fn new(group: &str, members: usize) -> Arc<Self> {
        Arc::new(Self {
            group: group.to_owned(),
            members,
            have_ids: Barrier::new(members),
            whole: AtomicI32::new(0),
        })
    }

    fn is_whole(&self, generation: i32) -> bool {
        self.whole.load(Ordering::Acquire) == generation
    }

    /// Members that are connected; to be called within the runtime that they shall run on.
    fn connect(self: &Arc<Self>, system: &System) -> Result<Vec<Member>> {
        (0..self.members)
            .map(|_| {
                Ok(Member {
                    connection: SharedConnection::open(system.address)?,
                    company: Arc::clone(self),
                    member_id: StrBytes::default(),
                    generation: -1,
                })
            })
            .collect()
    }
}

/// Until each has its assignment in a group that is whole.
async fn gather(members: Vec<Member>) -> Result<Vec<Member>> {
    let mut joining = JoinSet::new();
    for mut member in members {
        joining.spawn(async move { member.run().await.map(|()| member) });
    }
    let gathered = async {
        let mut members = Vec::new();
        while let Some(member) = joining.join_next().await {
            members.push(member.context("a member panicked")??);
        }
        Ok(members)
    };
    tokio::time::timeout(PATIENCE, gathered)
        .await
        .context("the group is not whole")?
}

/// The floor has no groups: an id, a join and a sync are one small request each, and nobody sends the
/// next one before all have the answer to this one.
async fn exchange(connections: Vec<SharedConnection>) -> Result<()> {
    const ROUNDS: usize = 3;
    let all_answered = Arc::new(Barrier::new(connections.len()));
    let mut exchanging = JoinSet::new();
    for mut connection in connections {
        let all_answered = Arc::clone(&all_answered);
        exchanging.spawn(async move {
            for _ in 0..ROUNDS {
                let request = InitProducerIdRequest::default().with_transactional_id(None);
                let answer = connection.call(&request, PRODUCER_ID).await?;
                ensure!(answer.error_code == 0, "error {}", answer.error_code);
                all_answered.wait().await;
            }
            Ok(())
        });
    }
    while let Some(done) = exchanging.join_next().await {
        done.context("a member panicked")??;
    }
    Ok(())
}

/// Hundreds of threads would take the broker's cores.
fn one_thread() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

impl Member {
    async fn run(&mut self) -> Result<()> {
        let company = Arc::clone(&self.company);
        self.ask_for_id().await?;
        company.have_ids.wait().await;
        loop {
            let joined = self.join().await?;
            if !self.sync(&joined).await? {
                continue;
            }
            loop {
                if company.is_whole(self.generation) {
                    return Ok(());
                }
                tokio::time::sleep(BETWEEN_HEARTBEATS).await;
                if company.is_whole(self.generation) {
                    return Ok(());
                }
                let request = self.heartbeat();
                let answer = self.connection.call(&request, HEARTBEAT).await?;
                if !goes_on("Heartbeat", answer.error_code)? {
                    break;
                }
            }
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(&[0; 32]));
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.company.group))
            .with_session_timeout_ms(45_000)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(self.member_id.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol])
    }

    async fn ask_for_id(&mut self) -> Result<()> {
        let answer = self.connection.call(&self.join_request(), JOIN).await?;
        let error = ResponseError::try_from_code(answer.error_code);
        ensure!(
            error == Some(ResponseError::MemberIdRequired),
            "JoinGroup without an id: {error:?}"
        );
        self.member_id = answer.member_id;
        Ok(())
    }

    async fn join(&mut self) -> Result<JoinGroupResponse> {
        let joined = self.connection.call(&self.join_request(), JOIN).await?;
        if let Some(error) = ResponseError::try_from_code(joined.error_code) {
            return Err(anyhow!("JoinGroup: {error}"));
        }
        self.generation = joined.generation_id;
        if joined.members.len() == self.company.members {
            self.company.whole.store(self.generation, Ordering::Release);
        }
        Ok(joined)
    }

    /// False: join again.
    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<bool> {
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
            .with_group_id(group_id(&self.company.group))
            .with_generation_id(self.generation)
            .with_member_id(self.member_id.clone())
            .with_protocol_type(joined.protocol_type.clone())
            .with_protocol_name(joined.protocol_name.clone())
            .with_assignments(assignments);
        let answer = self.connection.call(&request, SYNC).await?;
        ensure!(
            answer.error_code != 0 || answer.assignment.len() == 64,
            "an assignment of {} bytes",
            answer.assignment.len()
        );
        goes_on("SyncGroup", answer.error_code)
    }

    fn heartbeat(&self) -> HeartbeatRequest {
        HeartbeatRequest::default()
            .with_group_id(group_id(&self.company.group))
            .with_generation_id(self.generation)
            .with_member_id(self.member_id.clone())
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

fn leave(system: &System, group: &str, members: Vec<Member>) -> Result<()> {
    let identities = members
        .into_iter()
        .map(|member| MemberIdentity::default().with_member_id(member.member_id))
        .collect();
    let request = LeaveGroupRequest::default()
        .with_group_id(group_id(group))
        .with_members(identities);
    let left = system.connect()?.call(&request, LEAVE)?;
    ensure!(
        left.error_code == 0,
        "LeaveGroup: error {}",
        left.error_code
    );
    Ok(())
}

impl Joining {
    /// One group, until it is whole; empty again afterwards.
    fn join(&self, run: &Run<'_>, system: &System, group: &str) -> Result<Figures> {
        let members = usize::try_from(run.scale.of(self.members as u64))?;
        let runtime = one_thread()?;
        let _entered = runtime.enter();
        let (seconds, broker_cpu, client_cpu) = if system.kind == Kind::Floor {
            let connections = (0..members).map(|_| SharedConnection::open(system.address));
            let connections = connections.collect::<Result<Vec<_>>>()?;
            let watch = Watch::start(system)?;
            runtime.block_on(exchange(connections))?;
            watch.stop()?
        } else {
            find_coordinator(&mut system.connect()?, group)?;
            let members = Company::new(group, members).connect(system)?;
            let watch = Watch::start(system)?;
            let gathered = runtime.block_on(gather(members))?;
            let spent = watch.stop()?;
            leave(system, group, gathered)?;
            spent
        };
        let mut found = Figures::new();
        found.insert(Figure::Stable, seconds * 1e3);
        found.insert(Figure::ClientCpuMillis, client_cpu * 1e3);
        if let Some(cpu) = broker_cpu {
            found.insert(Figure::CpuMillis, cpu * 1e3);
        }
        Ok(found)
    }
}

impl Work for Joining {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        if self.warm.insert(system.kind) {
            for number in 0..WARM_UPS {
                self.join(run, system, &format!("warming-up-{number}"))?;
            }
        }
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        self.join(run, system, &format!("joining-{}", run.number))
    }
}

/// Commits of one partition each, at a fixed rate.
struct Commits {
    rate: u64,
    seconds: u64,
    topics: BTreeMap<Kind, String>,
}

const COMMITTERS: usize = 10;

/// One that commits an offset without being a member.
pub fn commit(group: &str, topic: &str, partition: i32, offset: i64) -> Result<Vec<u8>> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
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

impl Commits {
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

/// The floor has no groups: it appends as many small records.
fn bare_appends(run: &Run<'_>, system: &mut System, paced: &Paced) -> Result<Measured> {
    let topic = format!("appended-{}", run.number);
    system.create_topic(&topic, COMMITTERS as i32)?;
    let (measured, sent, ()) = produce(system, &topic, COMMITTERS as i32, paced, |_| Ok(()))?;
    verify(system, &topic, &[0; COMMITTERS], &sent)?;
    system.delete_topic(&topic)?;
    Ok(measured)
}

pub fn check_commit(response: &[u8]) -> Result<()> {
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
        let paced = Paced {
            rate: self.rate,
            connections: COMMITTERS,
            requests: run.scale.of(self.rate * self.seconds),
        };
        let measured = if system.kind == Kind::Floor {
            bare_appends(run, system, &paced)?
        } else {
            let group = format!("committing-{}", run.number);
            find_coordinator(&mut system.connect()?, &group)?;
            let (measured, ()) = paced.run(
                system,
                &|number| {
                    let partition = (number % COMMITTERS as u64) as i32;
                    commit(&group, topic, partition, i64::try_from(number)?)
                },
                &check_commit,
                |_| Ok(()),
            )?;
            Self::verify(system, &group, topic, paced.requests)?;
            measured
        };
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
        find_coordinator(&mut system.connect()?, &group)?;
        let runtime = one_thread()?;
        let _entered = runtime.enter();
        let member = Company::new(&group, 1).connect(system)?;
        let members = runtime.block_on(gather(member))?;
        let heartbeat = members.first().context("no member")?.heartbeat();
        let mut connection = system.connect()?;
        let requests = run.scale.of(10_000);
        let mut latencies = latencies()?;
        let watch = Watch::start(system)?;
        for _ in 0..requests {
            let sent = Instant::now();
            let answer = connection.call(&heartbeat, HEARTBEAT)?;
            ensure!(
                goes_on("Heartbeat", answer.error_code)?,
                "a rebalance of one member"
            );
            latencies.record(u64::try_from(sent.elapsed().as_nanos())?)?;
        }
        let measured = watch.measured(requests, Totals::default(), latencies)?;
        leave(system, &group, members)?;
        Ok(figures(&measured))
    }
}

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "group-500",
            "500 members that come to a new group at once, until all have their assignment: each asks for an id, and joins when all have one",
            Joining {
                members: 500,
                warm: BTreeSet::new(),
            },
        )
        .targets(&[target("P7", Figure::Stable, Bar::OfKafka(1.0 / 3.0))]),
        Scenario::shared(
            "commits-10000",
            "10,000 OffsetCommit requests of one partition per second over 10 connections",
            Commits {
                rate: 10_000,
                seconds: 2,
                topics: BTreeMap::new(),
            },
        )
        .targets(&[target("P7", Figure::CpuPerRequest, Bar::OfKafka(0.25))]),
        Scenario::shared(
            "heartbeats",
            "heartbeats of one member, one at a time",
            Heartbeats,
        )
        .without_floor()
        .at_most_pairs(5),
    ]
}
