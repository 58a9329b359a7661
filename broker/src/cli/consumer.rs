//! The consumer of our tools: a member of a group, or a reader of named partitions; one fetch at a
//! time over blocking connections.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    FetchRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::admin::{Admin, ApiError, check, is_lost_connection, text, topic_name};
use super::get_offsets::list_offsets;
use crate::config::topic::TimestampType;
use crate::error::ErrorCode;
use crate::record::batch::BatchIter;
use crate::record::compress::Limits;
use crate::record::records::for_each_record;
use crate::types::{BrokerId, Millis, Offset, TopicPartition};

const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// Topic names go with partitions up to this version; later ones need topic ids.
const FETCH_VERSION: i16 = 12;
/// What a batch may unpack to before we refuse it.
const LIMITS: Limits = Limits {
    record_bytes: 1 << 30,
    batch_bytes: 1 << 31,
    zstd_window_log: 27,
};
const PROTOCOL: &str = "range";

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) timestamp: Millis,
    pub(crate) timestamp_type: Option<TimestampType>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where to begin in a partition without a committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Earliest,
    Latest,
    At(Offset),
}

struct Membership {
    group: String,
    coordinator: BrokerId,
    member_id: StrBytes,
    generation: i32,
    last_heartbeat: Instant,
    last_commit: Instant,
}

pub(crate) struct Consumer {
    admin: Admin,
    topics: Vec<String>,
    start: Start,
    read_committed: bool,
    membership: Option<Membership>,
    /// Next offset to fetch, by partition.
    positions: BTreeMap<TopicPartition, Offset>,
    leaders: BTreeMap<TopicPartition, BrokerId>,
    /// Fetched and not yet handed out.
    ready: VecDeque<Message>,
    /// Next offset to commit: after what was handed out.
    consumed: BTreeMap<TopicPartition, Offset>,
}

impl Consumer {
    /// Reads given partitions, without a group.
    pub(crate) fn assign(
        admin: Admin,
        partitions: Vec<TopicPartition>,
        start: Start,
        read_committed: bool,
    ) -> Result<Self> {
        let mut consumer = Self::new(admin, Vec::new(), start, read_committed);
        consumer.take(partitions, BTreeMap::new())?;
        Ok(consumer)
    }

    /// Joins a group for some topics.
    pub(crate) fn subscribe(
        admin: Admin,
        topics: Vec<String>,
        group: &str,
        start: Start,
        read_committed: bool,
    ) -> Result<Self> {
        let mut consumer = Self::new(admin, topics, start, read_committed);
        let coordinator = consumer.admin.coordinator(group)?;
        consumer.membership = Some(Membership {
            group: group.to_owned(),
            coordinator,
            member_id: StrBytes::default(),
            generation: -1,
            last_heartbeat: Instant::now(),
            last_commit: Instant::now(),
        });
        consumer.join()?;
        Ok(consumer)
    }

    fn new(admin: Admin, topics: Vec<String>, start: Start, read_committed: bool) -> Self {
        Self {
            admin,
            topics,
            start,
            read_committed,
            membership: None,
            positions: BTreeMap::new(),
            leaders: BTreeMap::new(),
            ready: VecDeque::new(),
            consumed: BTreeMap::new(),
        }
    }

    /// The next record, or `None` when there was none for `wait`. A broker that goes away is waited
    /// for.
    pub(crate) fn next(&mut self, wait: Duration) -> Result<Option<Message>> {
        let deadline = Instant::now() + wait;
        loop {
            match self.next_before(deadline) {
                Err(error) if is_lost_connection(&error) => {}
                outcome => return outcome,
            }
            if let Err(error) = self.recover() {
                let passes = is_lost_connection(&error)
                    || error
                        .downcast_ref::<ApiError>()
                        .is_some_and(|api| api.code == ErrorCode::RequestTimedOut);
                if !passes {
                    return Err(error);
                }
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    fn next_before(&mut self, deadline: Instant) -> Result<Option<Message>> {
        loop {
            self.keep_membership()?;
            if let Some(message) = self.ready.pop_front() {
                self.consumed
                    .insert(message.partition.clone(), message.offset + 1);
                return Ok(Some(message));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            self.fetch((deadline - now).min(Duration::from_millis(500)))?;
        }
    }

    /// New connections, to brokers that may lead other partitions and coordinate other groups now.
    fn recover(&mut self) -> Result<()> {
        self.admin
            .recover(Instant::now() + Duration::from_secs(1))?;
        self.find_coordinator()?;
        let partitions: Vec<_> = self.positions.keys().cloned().collect();
        self.find_leaders(&partitions)
    }

    fn find_coordinator(&mut self) -> Result<()> {
        if let Some(membership) = &mut self.membership {
            membership.coordinator = self.admin.coordinator(&membership.group)?;
        }
        Ok(())
    }

    /// Commits what was handed out and leaves the group.
    pub(crate) fn close(mut self) -> Result<()> {
        self.commit()?;
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        let connection = self.admin.broker(membership.coordinator)?;
        let group = GroupId(text(&membership.group));
        let request = if connection.version::<LeaveGroupRequest>()? >= 3 {
            LeaveGroupRequest::default()
                .with_group_id(group)
                .with_members(vec![
                    MemberIdentity::default().with_member_id(membership.member_id.clone()),
                ])
        } else {
            LeaveGroupRequest::default()
                .with_group_id(group)
                .with_member_id(membership.member_id.clone())
        };
        check(connection.send(&request)?.error_code, None)?;
        Ok(())
    }

    /// Partitions that are ours from now on, with the offsets the group has committed.
    fn take(
        &mut self,
        partitions: Vec<TopicPartition>,
        committed: BTreeMap<TopicPartition, Offset>,
    ) -> Result<()> {
        self.ready.clear();
        self.consumed.clear();
        self.positions.clear();
        self.find_leaders(&partitions)?;
        let mut unset = BTreeMap::new();
        for partition in partitions {
            let known = match (committed.get(&partition), self.start) {
                (Some(offset), _) => Some(*offset),
                (None, Start::At(offset)) => Some(offset),
                (None, Start::Earliest | Start::Latest) => None,
            };
            match known {
                Some(offset) => {
                    self.positions.insert(partition, offset);
                }
                None => {
                    let leader = self.leaders.get(&partition).copied().unwrap_or(-1);
                    unset.insert(partition, leader);
                }
            }
        }
        self.reset(&unset)
    }

    fn reset(&mut self, partitions: &BTreeMap<TopicPartition, BrokerId>) -> Result<()> {
        let timestamp = if self.start == Start::Earliest {
            -2
        } else {
            -1
        };
        for (partition, offset) in list_offsets(&mut self.admin, partitions, timestamp)? {
            let offset = offset.map_err(|code| anyhow!("{partition}: {code}"))?;
            self.positions.insert(partition, offset);
        }
        Ok(())
    }

    fn find_leaders(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            self.leaders.clear();
            for topic in self.admin.topics()? {
                let Some(name) = topic.name else { continue };
                for partition in topic.partitions {
                    self.leaders.insert(
                        TopicPartition::new(name.0.as_str(), partition.partition_index),
                        partition.leader_id.0,
                    );
                }
            }
            let led = |partition: &TopicPartition| {
                self.leaders
                    .get(partition)
                    .is_some_and(|leader| *leader >= 0)
            };
            if partitions.iter().all(led) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not all partitions have a leader: {partitions:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn fetch(&mut self, wait: Duration) -> Result<()> {
        let mut by_leader: BTreeMap<BrokerId, BTreeMap<String, Vec<FetchPartition>>> =
            BTreeMap::new();
        for (partition, offset) in &self.positions {
            let leader = self.leaders.get(partition).copied().unwrap_or(-1);
            by_leader
                .entry(leader)
                .or_default()
                .entry(partition.topic.to_string())
                .or_default()
                .push(
                    FetchPartition::default()
                        .with_partition(partition.partition)
                        .with_fetch_offset(*offset)
                        .with_current_leader_epoch(-1)
                        .with_last_fetched_epoch(-1)
                        .with_log_start_offset(-1)
                        .with_partition_max_bytes(1 << 20),
                );
        }
        if by_leader.is_empty() {
            // Nothing is assigned to us; heartbeats go on.
            std::thread::sleep(wait.min(Duration::from_millis(100)));
        }
        let mut failed = false;
        for (leader, topics) in by_leader {
            let request = FetchRequest::default()
                .with_replica_id(WireBrokerId(-1))
                .with_max_wait_ms(i32::try_from(wait.as_millis())?)
                .with_min_bytes(1)
                .with_max_bytes(50 << 20)
                .with_isolation_level(i8::from(self.read_committed))
                .with_session_epoch(-1)
                .with_topics(
                    topics
                        .into_iter()
                        .map(|(topic, partitions)| {
                            FetchTopic::default()
                                .with_topic(topic_name(&topic))
                                .with_partitions(partitions)
                        })
                        .collect(),
                );
            let connection = self.admin.broker(leader)?;
            let version = connection.version::<FetchRequest>()?.min(FETCH_VERSION);
            let response = connection.send_version(&request, version)?;
            check(response.error_code, None)?;
            for topic in response.responses {
                for data in topic.partitions {
                    let partition =
                        TopicPartition::new(topic.topic.0.as_str(), data.partition_index);
                    match ErrorCode::from_value(data.error_code) {
                        ErrorCode::None => self.read(
                            &partition,
                            data.records.as_deref().unwrap_or_default(),
                            &aborted(&data),
                        )?,
                        ErrorCode::OffsetOutOfRange => {
                            let one = BTreeMap::from([(partition, leader)]);
                            self.reset(&one)?;
                        }
                        ErrorCode::NotLeaderOrFollower
                        | ErrorCode::LeaderNotAvailable
                        | ErrorCode::UnknownTopicOrPartition => failed = true,
                        code => bail!("{partition}: {code}: {}", code.message()),
                    }
                }
            }
        }
        if failed {
            std::thread::sleep(Duration::from_millis(100));
            let partitions: Vec<_> = self.positions.keys().cloned().collect();
            self.find_leaders(&partitions)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        records: &[u8],
        aborted: &[(i64, Offset)],
    ) -> Result<()> {
        let from = self.positions.get(partition).copied().unwrap_or(0);
        let mut next = from;
        for frame in BatchIter::new(records) {
            // The last batch may be cut by the size limit.
            let Ok(frame) = frame else { break };
            let last = frame.last_offset()?;
            let mut timestamp_type = None;
            let mut skip = false;
            if frame.prefix.magic >= 2 {
                let batch = frame.batch()?;
                let header = batch.header();
                timestamp_type = Some(header.timestamp_type());
                skip = header.is_control()
                    || (header.is_transactional()
                        && aborted.iter().any(|(id, first)| {
                            *id == header.producer_id && *first <= header.base_offset
                        }));
            }
            if !skip {
                for_each_record::<crate::record::Error>(&frame, &LIMITS, |record| {
                    if record.offset >= from {
                        let mut headers = Vec::new();
                        for header in record.headers.iter() {
                            headers.push((
                                Bytes::copy_from_slice(header.0),
                                header.1.map(Bytes::copy_from_slice),
                            ));
                        }
                        self.ready.push_back(Message {
                            partition: partition.clone(),
                            offset: record.offset,
                            timestamp: record.timestamp,
                            timestamp_type: timestamp_type
                                .or((record.timestamp >= 0).then_some(TimestampType::CreateTime)),
                            key: record.key.map(Bytes::copy_from_slice),
                            value: record.value.map(Bytes::copy_from_slice),
                            headers,
                        });
                    }
                    Ok(())
                })?;
            }
            next = last + 1;
        }
        self.positions.insert(partition.clone(), next);
        Ok(())
    }

    fn keep_membership(&mut self) -> Result<()> {
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        let commit_due = membership.last_commit.elapsed() >= COMMIT_INTERVAL;
        if membership.last_heartbeat.elapsed() >= HEARTBEAT_INTERVAL {
            let request = HeartbeatRequest::default()
                .with_group_id(GroupId(text(&membership.group)))
                .with_generation_id(membership.generation)
                .with_member_id(membership.member_id.clone());
            let coordinator = membership.coordinator;
            membership.last_heartbeat = Instant::now();
            let code = self.admin.broker(coordinator)?.send(&request)?.error_code;
            match ErrorCode::from_value(code) {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress => {
                    self.commit()?;
                    self.join()?;
                }
                ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                    self.forget_member();
                    self.join()?;
                }
                ErrorCode::CoordinatorLoadInProgress => {}
                ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                    self.find_coordinator()?;
                }
                _ => check(code, None)?,
            }
        }
        if commit_due {
            self.commit()?;
        }
        Ok(())
    }

    fn forget_member(&mut self) {
        if let Some(membership) = &mut self.membership {
            membership.member_id = StrBytes::default();
            membership.generation = -1;
        }
    }

    fn membership(&mut self) -> Result<&mut Membership> {
        self.membership
            .as_mut()
            .ok_or_else(|| anyhow!("this consumer has no group"))
    }

    fn join(&mut self) -> Result<()> {
        loop {
            let joined = self.join_phase()?;
            let mut assignments = Vec::new();
            if joined.leader == joined.member_id && !joined.skip_assignment {
                assignments = self.range_assignment(&joined)?;
            }
            let membership = self.membership()?;
            membership.member_id = joined.member_id.clone();
            membership.generation = joined.generation_id;
            let coordinator = membership.coordinator;
            let mut request = SyncGroupRequest::default()
                .with_group_id(GroupId(text(&membership.group)))
                .with_generation_id(joined.generation_id)
                .with_member_id(joined.member_id)
                .with_assignments(assignments);
            let connection = self.admin.broker(coordinator)?;
            if connection.version::<SyncGroupRequest>()? >= 5 {
                request = request
                    .with_protocol_type(Some(text("consumer")))
                    .with_protocol_name(Some(text(PROTOCOL)));
            }
            let synced = connection.send(&request)?;
            match ErrorCode::from_value(synced.error_code) {
                ErrorCode::None => {
                    self.membership()?.last_heartbeat = Instant::now();
                    let partitions = decode_assignment(synced.assignment)?;
                    let committed = self.committed(&partitions)?;
                    return self.take(partitions, committed);
                }
                ErrorCode::RebalanceInProgress => {}
                ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => self.forget_member(),
                _ => check(synced.error_code, None)?,
            }
        }
    }

    fn join_phase(&mut self) -> Result<JoinGroupResponse> {
        let metadata = encode_subscription(&self.topics)?;
        loop {
            let membership = self.membership()?;
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(text(&membership.group)))
                .with_session_timeout_ms(SESSION_TIMEOUT_MS)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(membership.member_id.clone())
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![
                    JoinGroupRequestProtocol::default()
                        .with_name(text(PROTOCOL))
                        .with_metadata(metadata.clone()),
                ]);
            let coordinator = membership.coordinator;
            let joined = self.admin.broker(coordinator)?.send(&request)?;
            match ErrorCode::from_value(joined.error_code) {
                ErrorCode::None => return Ok(joined),
                ErrorCode::MemberIdRequired => self.membership()?.member_id = joined.member_id,
                ErrorCode::UnknownMemberId => self.forget_member(),
                ErrorCode::CoordinatorLoadInProgress => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                    std::thread::sleep(Duration::from_millis(100));
                    self.find_coordinator()?;
                }
                _ => check(joined.error_code, None)?,
            }
        }
    }

    /// The range assignor: per topic, members in id order get neighbouring partitions.
    fn range_assignment(
        &mut self,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>> {
        let mut interested: BTreeMap<String, Vec<StrBytes>> = BTreeMap::new();
        for member in &joined.members {
            for topic in decode_subscription(member.metadata.clone())? {
                interested
                    .entry(topic)
                    .or_default()
                    .push(member.member_id.clone());
            }
        }
        let mut given: BTreeMap<StrBytes, Vec<(String, Vec<i32>)>> = BTreeMap::new();
        for topic in self.admin.topics()? {
            let Some(name) = topic.name.as_ref().map(|name| name.0.to_string()) else {
                continue;
            };
            let Some(members) = interested.get_mut(&name) else {
                continue;
            };
            members.sort();
            let count = i32::try_from(topic.partitions.len())?;
            for (member, range) in members
                .iter()
                .zip(ranges(count, i32::try_from(members.len())?))
            {
                given
                    .entry(member.clone())
                    .or_default()
                    .push((name.clone(), range.collect()));
            }
        }
        joined
            .members
            .iter()
            .map(|member| {
                let topics = given.remove(&member.member_id).unwrap_or_default();
                Ok(SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(encode_assignment(topics)?))
            })
            .collect()
    }

    fn committed(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let group = self.membership()?.group.clone();
        let mut committed = self.admin.committed_offsets(&group)?;
        committed.retain(|partition, _| partitions.contains(partition));
        Ok(committed)
    }

    fn commit(&mut self) -> Result<()> {
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        membership.last_commit = Instant::now();
        if self.consumed.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, offset) in &self.consumed {
            topics.entry(&partition.topic).or_default().push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition.partition)
                    .with_committed_offset(*offset)
                    .with_committed_metadata(Some(StrBytes::default())),
            );
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&membership.group)))
            .with_generation_id_or_member_epoch(membership.generation)
            .with_member_id(membership.member_id.clone())
            .with_topics(
                topics
                    .into_iter()
                    .map(|(topic, partitions)| {
                        OffsetCommitRequestTopic::default()
                            .with_name(topic_name(topic))
                            .with_partitions(partitions)
                    })
                    .collect(),
            );
        let response = self.admin.broker(membership.coordinator)?.send(&request)?;
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            match ErrorCode::from_value(partition.error_code) {
                // The next heartbeat brings the new generation or finds the new coordinator.
                ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator => {}
                _ => check(partition.error_code, None)?,
            }
        }
        self.consumed.clear();
        Ok(())
    }
}

fn aborted(data: &kafka_protocol::messages::fetch_response::PartitionData) -> Vec<(i64, Offset)> {
    data.aborted_transactions
        .iter()
        .flatten()
        .map(|transaction| (transaction.producer_id.0, transaction.first_offset))
        .collect()
}

/// `count` partitions over `members`: the first ones get one more where it does not divide.
fn ranges(count: i32, members: i32) -> impl Iterator<Item = std::ops::Range<i32>> {
    let (each, more) = (count / members, count % members);
    (0..members).map(move |member| {
        let from = member * each + member.min(more);
        from..from + each + i32::from(member < more)
    })
}

/// What consumers tell each other: an int16 version, then the message.
fn encode_subscription(topics: &[String]) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| text(topic)).collect())
        .encode(&mut bytes, 0)?;
    Ok(bytes.freeze())
}

fn decode_subscription(mut bytes: Bytes) -> Result<Vec<String>> {
    if bytes.remaining() < 2 {
        bail!("a member's subscription is too short");
    }
    let version = bytes.get_i16().clamp(0, 3);
    let subscription = ConsumerProtocolSubscription::decode(&mut bytes, version)?;
    Ok(subscription
        .topics
        .iter()
        .map(|topic| topic.to_string())
        .collect())
}

fn encode_assignment(topics: Vec<(String, Vec<i32>)>) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    ConsumerProtocolAssignment::default()
        .with_assigned_partitions(
            topics
                .into_iter()
                .map(|(topic, partitions)| {
                    AssignedTopic::default()
                        .with_topic(topic_name(&topic))
                        .with_partitions(partitions)
                })
                .collect(),
        )
        .encode(&mut bytes, 0)?;
    Ok(bytes.freeze())
}

/// The partitions of an assignment, ours or one that DescribeGroups shows.
pub(crate) fn decode_assignment(mut bytes: Bytes) -> Result<Vec<TopicPartition>> {
    if bytes.remaining() < 2 {
        return Ok(Vec::new());
    }
    let version = bytes.get_i16().clamp(0, 3);
    let assignment = ConsumerProtocolAssignment::decode(&mut bytes, version)?;
    Ok(assignment
        .assigned_partitions
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| TopicPartition::new(topic.topic.0.as_str(), *partition))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_give_the_first_members_one_more() {
        let given: Vec<_> = ranges(7, 3).collect();
        assert_eq!(given, [0..3, 3..5, 5..7]);
        assert_eq!(ranges(1, 3).collect::<Vec<_>>(), [0..1, 1..1, 1..1]);
    }

    #[test]
    fn assignments_round_trip() {
        let bytes = encode_assignment(vec![("t".to_owned(), vec![0, 2])]).unwrap();
        assert_eq!(
            decode_assignment(bytes).unwrap(),
            [TopicPartition::new("t", 0), TopicPartition::new("t", 2)]
        );
        assert_eq!(decode_assignment(Bytes::new()).unwrap(), []);
        let bytes = encode_subscription(&["a".to_owned()]).unwrap();
        assert_eq!(decode_subscription(bytes).unwrap(), ["a"]);
    }
}
