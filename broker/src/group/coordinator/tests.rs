use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::tasks::deleted_partitions;
use super::*;
use crate::clock::SystemClock;
use crate::cluster::image::{MetadataImage, PartitionImage, TopicImage};
use crate::group::event::Protocol;
use crate::group::offsets_topic::Append;
use crate::record::batch::{BatchHeader, BatchIter};
use crate::types::{Offset, TopicName, Uuid};

/// The topic in memory. Appends wait while `gate` is closed; reads fail while `is_broken`.
struct MemoryTopic {
    logs: Mutex<HashMap<i32, Vec<Bytes>>>,
    gate: watch::Sender<bool>,
    is_broken: AtomicBool,
    refusal: Mutex<Option<ErrorCode>>,
}

impl MemoryTopic {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            logs: Mutex::default(),
            gate: watch::Sender::new(true),
            is_broken: AtomicBool::new(false),
            refusal: Mutex::default(),
        })
    }

    fn put(&self, partition: i32, batch: &[u8]) -> Offset {
        let mut logs = self.logs.lock();
        let log = logs.entry(partition).or_default();
        let base_offset = log.last().map_or(0, |last| end_of(last));
        let mut placed = batch.to_vec();
        placed[..8].copy_from_slice(&base_offset.to_be_bytes());
        log.push(placed.into());
        base_offset
    }
}

fn end_of(batch: &[u8]) -> Offset {
    let frame = BatchIter::new(batch).next().unwrap().unwrap();
    frame.last_offset().unwrap() + 1
}

struct MemoryHandle(Arc<MemoryTopic>);

impl OffsetsTopic for MemoryHandle {
    fn append(
        &self,
        partition: &TopicPartition,
        (batch, _): (&[u8], BatchHeader),
        _required_acks: i16,
        _timeout_ms: Millis,
    ) -> Append {
        let topic = Arc::clone(&self.0);
        let index = partition.partition;
        let batch = Bytes::copy_from_slice(batch);
        let append = move || match *topic.refusal.lock() {
            Some(error) => Err(error),
            None => Ok(topic.put(index, &batch)),
        };
        let mut gate = self.0.gate.subscribe();
        if *gate.borrow() {
            return Append::Done(append());
        }
        Append::Waiting(Box::pin(async move {
            let _ = gate.wait_for(|open| *open).await;
            append()
        }))
    }

    fn bounds(&self, partition: i32) -> Result<(Offset, Offset), ErrorCode> {
        let logs = self.0.logs.lock();
        let end = logs
            .get(&partition)
            .and_then(|log| log.last())
            .map_or(0, |last| end_of(last));
        Ok((0, end))
    }

    fn read(&self, partition: i32, offset: Offset, _max_bytes: usize) -> Result<Bytes, ErrorCode> {
        if self.0.is_broken.load(Ordering::SeqCst) {
            return Err(ErrorCode::KafkaStorageError);
        }
        let logs = self.0.logs.lock();
        let found = logs[&partition].iter().find(|batch| end_of(batch) > offset);
        Ok(found.cloned().unwrap_or_default())
    }
}

struct Bench {
    groups: GroupCoordinator,
    leadership: mpsc::UnboundedSender<LeadershipChange>,
    cluster: Arc<Cluster>,
}

impl Bench {
    fn new(topic: &Arc<MemoryTopic>) -> Self {
        let config = Config::from_pairs(&[
            ("zookeeper.connect", "localhost:2181"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("offsets.topic.num.partitions", "1"),
        ])
        .unwrap();
        let cluster = Arc::new(Cluster::new("cluster".into()));
        let groups = GroupCoordinator::new(
            &config,
            Arc::new(MemoryHandle(Arc::clone(topic))),
            Arc::clone(&cluster),
            Arc::new(SystemClock),
        );
        let (leadership, changes) = mpsc::unbounded_channel();
        groups.start(changes);
        Self {
            groups,
            leadership,
            cluster,
        }
    }

    async fn loaded(topic: &Arc<MemoryTopic>) -> Self {
        let bench = Self::new(topic);
        bench.lead(1);
        bench.wait_for(ErrorCode::None).await;
        bench
    }

    fn lead(&self, leader_epoch: LeaderEpoch) {
        self.leadership
            .send(LeadershipChange::BecameLeader {
                partition: TopicPartition::new(GROUP_METADATA_TOPIC, 0),
                leader_epoch,
            })
            .unwrap();
    }

    fn resign(&self, leader_epoch: LeaderEpoch) {
        self.leadership
            .send(LeadershipChange::ResignedLeader {
                partition: TopicPartition::new(GROUP_METADATA_TOPIC, 0),
                leader_epoch: Some(leader_epoch),
            })
            .unwrap();
    }

    fn status(&self) -> ErrorCode {
        match self.groups.fetch_offsets("g", None, false) {
            Ok(_) => ErrorCode::None,
            Err(error) => error,
        }
    }

    async fn wait_for(&self, status: ErrorCode) {
        within(async {
            while self.status() != status {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn commit(&self, member: MemberRef, offset: Offset) -> ErrorCode {
        let value = OffsetAndMetadata {
            offset,
            leader_epoch: None,
            metadata: "".into(),
            commit_timestamp: self.groups.shared.now().wall,
            expire_timestamp: None,
        };
        let offsets = vec![(TopicPartition::new("t", 0), value)];
        results(self.groups.commit("g", member, None, offsets)).await[0]
    }

    fn committed(&self) -> Option<Offset> {
        let partitions = [TopicPartition::new("t", 0)];
        let found = self.groups.fetch_offsets("g", Some(&partitions), false);
        match &found.unwrap()[0].1 {
            Fetched::Committed(value) => Some(value.offset),
            Fetched::Nothing | Fetched::Unstable => None,
        }
    }

    async fn join(&self, member_id: &str, session_timeout_ms: i32) -> JoinAnswer {
        let request = JoinRequest {
            token: 0,
            member_id: member_id.into(),
            instance_id: None,
            unique: Uuid::new_v4(),
            require_known_member_id: false,
            supports_skipping_assignment: false,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 10_000,
            session_timeout_ms,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            }],
            reason: None,
        };
        within(self.groups.join("g", request)).await
    }

    async fn sync(&self, member: MemberRef) -> SyncAnswer {
        let request = SyncRequest {
            token: 0,
            assignments: vec![(member.member_id.clone(), Bytes::from_static(b"all"))],
            member,
            protocol_type: None,
            protocol_name: None,
        };
        within(self.groups.sync("g", request)).await
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

fn nobody() -> MemberRef {
    MemberRef {
        member_id: String::new(),
        instance_id: None,
        generation: -1,
    }
}

#[tokio::test]
async fn answers_follow_leadership() {
    let topic = MemoryTopic::new();
    let bench = Bench::new(&topic);
    assert_eq!(bench.status(), ErrorCode::NotCoordinator);
    assert_eq!(bench.commit(nobody(), 1).await, ErrorCode::NotCoordinator);
    bench.lead(1);
    bench.wait_for(ErrorCode::None).await;
    assert_eq!(bench.commit(nobody(), 1).await, ErrorCode::None);
    bench.resign(2);
    bench.wait_for(ErrorCode::NotCoordinator).await;
    bench.lead(3);
    bench.wait_for(ErrorCode::None).await;
    assert_eq!(bench.committed(), Some(1));
    bench.groups.stop();
    assert_eq!(bench.status(), ErrorCode::CoordinatorNotAvailable);
}

#[tokio::test]
async fn group_ids_that_are_empty_commit_but_do_not_join() {
    let bench = Bench::loaded(&MemoryTopic::new()).await;
    assert_eq!(
        bench.groups.heartbeat("", nobody()).await,
        ErrorCode::InvalidGroupId
    );
    let value = OffsetAndMetadata {
        offset: 1,
        leader_epoch: None,
        metadata: "".into(),
        commit_timestamp: 0,
        expire_timestamp: None,
    };
    let offsets = vec![(TopicPartition::new("t", 0), value)];
    let committed = results(bench.groups.commit("", nobody(), None, offsets)).await;
    assert_eq!(committed, [ErrorCode::None]);
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_is_never_served_as_empty() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    assert_eq!(bench.commit(nobody(), 7).await, ErrorCode::None);
    bench.resign(2);
    bench.wait_for(ErrorCode::NotCoordinator).await;
    topic.is_broken.store(true, Ordering::SeqCst);
    bench.lead(3);
    bench.wait_for(ErrorCode::CoordinatorLoadInProgress).await;
    assert_eq!(
        bench.groups.heartbeat("g", nobody()).await,
        ErrorCode::None,
        "members may go on"
    );
    assert_eq!(
        bench.sync(nobody()).await.error,
        ErrorCode::RebalanceInProgress
    );
    assert_eq!(bench.groups.list().0, ErrorCode::CoordinatorLoadInProgress);
    topic.is_broken.store(false, Ordering::SeqCst);
    bench.wait_for(ErrorCode::None).await;
    assert_eq!(bench.committed(), Some(7));
}

#[tokio::test]
async fn a_group_survives_the_move_to_another_coordinator() {
    let topic = MemoryTopic::new();
    let first = Bench::loaded(&topic).await;
    let joined = first.join("", 30_000).await;
    let member = MemberRef {
        member_id: joined.member_id,
        instance_id: None,
        generation: joined.generation,
    };
    assert_eq!(first.sync(member.clone()).await.assignment, &b"all"[..]);
    assert_eq!(first.commit(member.clone(), 3).await, ErrorCode::None);
    assert_eq!(first.commit(nobody(), 4).await, ErrorCode::UnknownMemberId);
    let second = Bench::loaded(&topic).await;
    assert_eq!(
        second.groups.heartbeat("g", member.clone()).await,
        ErrorCode::None
    );
    assert_eq!(second.committed(), Some(3));
    assert_eq!(second.sync(member.clone()).await.assignment, &b"all"[..]);
    let description = second.groups.describe("g").unwrap().unwrap();
    assert_eq!(description.state, State::Stable);
    assert_eq!(description.members[0].client_host, "/127.0.0.1");
    assert_eq!(second.groups.counts().stable, 1);
}

#[tokio::test]
async fn parked_requests_are_answered_when_the_partition_moves() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    let joined = bench.join("", 30_000).await;
    let member = MemberRef {
        member_id: joined.member_id,
        instance_id: None,
        generation: 1,
    };
    topic.gate.send_replace(false);
    let (synced, ()) = tokio::join!(bench.sync(member), async {
        tokio::task::yield_now().await;
        bench.resign(2);
    });
    assert_eq!(synced.error, ErrorCode::NotCoordinator);
}

#[tokio::test]
async fn commits_of_a_group_reach_the_log_in_order() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    topic.gate.send_replace(false);
    let all = async {
        tokio::join!(
            bench.commit(nobody(), 1),
            bench.commit(nobody(), 2),
            bench.commit(nobody(), 3),
            async {
                tokio::task::yield_now().await;
                assert_eq!(bench.committed(), None);
                topic.gate.send_replace(true);
            }
        )
    };
    let (first, second, third, ()) = within(all).await;
    assert!([first, second, third].iter().all(|it| it.is_none()));
    assert_eq!(bench.committed(), Some(3));
    assert_eq!(topic.logs.lock()[&0].len(), 3);
    let reloaded = Bench::loaded(&topic).await;
    assert_eq!(reloaded.committed(), Some(3));
}

async fn results<T, F: Future<Output = T>>(reply: Reply<T, F>) -> T {
    match reply {
        Reply::Now(results) => results,
        Reply::Later(results) => results.await,
    }
}

#[tokio::test]
async fn a_commit_is_answered_by_the_call_unless_its_append_waits() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    let commit = || {
        let value = OffsetAndMetadata {
            offset: 1,
            leader_epoch: None,
            metadata: "".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
        };
        let offsets = vec![(TopicPartition::new("t", 0), value)];
        bench.groups.commit("g", nobody(), None, offsets)
    };
    assert!(matches!(commit(), Reply::Now(codes) if codes == [ErrorCode::None]));
    topic.gate.send_replace(false);
    let (first, second) = (commit(), commit());
    assert!(matches!(
        (&first, &second),
        (Reply::Later(_), Reply::Later(_))
    ));
    topic.gate.send_replace(true);
    for waiting in [first, second] {
        assert_eq!(within(results(waiting)).await, [ErrorCode::None]);
    }
    topic.refusal.lock().replace(ErrorCode::KafkaStorageError);
    assert!(matches!(commit(), Reply::Now(codes) if codes != [ErrorCode::None]));
}

#[tokio::test]
async fn an_answer_that_comes_while_its_request_is_still_in_the_call_is_not_lost() {
    let bench = Bench::loaded(&MemoryTopic::new()).await;
    let entry = bench.groups.shared.partitions.read()[&0].find_or_insert("g", &bench.groups.shared);
    let mut core = entry.core.lock();
    let answer = || Answer::Heartbeat(ErrorCode::None);
    core.waiters.insert(1, Waiter::Asking(None));
    core.answer(1, answer());
    assert!(matches!(core.take_or_park(1), Asked::Answered(_)));
    core.waiters.insert(2, Waiter::Asking(None));
    let Asked::Parked(mut parked) = core.take_or_park(2) else {
        panic!("there is no answer yet");
    };
    core.answer(2, answer());
    assert_eq!(parked.try_recv(), Ok(answer()));
    assert!(core.waiters.is_empty());
}

#[tokio::test]
async fn sessions_end_by_the_clock() {
    let bench = Bench::loaded(&MemoryTopic::new()).await;
    let joined = bench.join("", 6_000).await;
    let member = MemberRef {
        member_id: joined.member_id,
        instance_id: None,
        generation: 1,
    };
    bench.sync(member.clone()).await;
    within(async {
        while bench.groups.counts().empty == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(
        bench.groups.heartbeat("g", member).await,
        ErrorCode::UnknownMemberId
    );
}

#[tokio::test]
async fn refused_appends_reach_the_client_translated() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    *topic.refusal.lock() = Some(ErrorCode::NotEnoughReplicas);
    assert_eq!(
        bench.commit(nobody(), 1).await,
        ErrorCode::CoordinatorNotAvailable
    );
    *topic.refusal.lock() = None;
    assert_eq!(bench.committed(), None);
}

#[tokio::test]
async fn deleted_groups_leave_memory_and_log_and_may_come_again() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    assert_eq!(
        bench.groups.delete_group("g").await,
        ErrorCode::GroupIdNotFound
    );
    assert!(bench.groups.list().1.is_empty(), "asking leaves no trace");
    bench.commit(nobody(), 1).await;
    assert_eq!(bench.groups.list().1.len(), 1);
    assert_eq!(bench.groups.delete_group("g").await, ErrorCode::None);
    assert!(bench.groups.list().1.is_empty());
    assert_eq!(bench.commit(nobody(), 9).await, ErrorCode::None);
    let reloaded = Bench::loaded(&topic).await;
    assert_eq!(reloaded.committed(), Some(9));
}

#[tokio::test]
async fn offsets_of_deleted_topics_are_dropped() {
    let topic = MemoryTopic::new();
    let bench = Bench::loaded(&topic).await;
    let image = |id: u128| {
        let partition = PartitionImage {
            partition: 0,
            leader: 1,
            leader_epoch: 0,
            controller_epoch: 1,
            partition_epoch: 0,
            isr: vec![1],
            replicas: vec![1],
            offline_replicas: Vec::new(),
        };
        let topic = TopicImage {
            name: TopicName::new("t"),
            id: Some(Uuid::from_u128(id)),
            partitions: BTreeMap::from([(0, partition)]),
        };
        MetadataImage {
            topics: BTreeMap::from([(TopicName::new("t"), Arc::new(topic))]),
            ..MetadataImage::default()
        }
    };
    let before = image(1);
    assert!(deleted_partitions(&before, &image(1)).is_empty());
    assert_eq!(deleted_partitions(&before, &image(2)).len(), 1);
    bench.commit(nobody(), 1).await;
    within(async {
        while bench.groups.counts().offsets > 0 {
            // Of two images that follow each other at once, only the later one is looked at.
            for image in [before.clone(), MetadataImage::default()] {
                bench.cluster.publish(image);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
    let reloaded = Bench::loaded(&topic).await;
    assert_eq!(reloaded.committed(), None);
}
