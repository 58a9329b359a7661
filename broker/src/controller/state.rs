//! ControllerContext: what the active controller knows of brokers, topics, partitions and
//! replicas, and the states its machines move them through. Core.
//!
//! ```text
//! partition  NonExistent ─▶ New ─▶ Online ◀─▶ Offline ─▶ NonExistent
//! replica    NonExistent ─▶ New ─▶ Online ◀─▶ Offline ─▶ DeletionStarted ─▶ DeletionSuccessful ─▶ (gone)
//!                                               ▲  └──▶ DeletionIneligible ◀──┘
//!                                               └─────────────┘
//! ```
//!
//! Invariants:
//! 1. A partition's cached leadership equals the last state this controller read from or wrote to
//!    its state znode; `partition_epoch` is that znode's version.
//! 2. Leader epoch and partition epoch of a partition never go back while it exists.
//! 3. The leader of a partition is a member of its ISR, or there is none.
//!
//! Source: `ControllerContext.scala`, `PartitionStateMachine.scala`, `ReplicaStateMachine.scala`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::cluster::image::BrokerImage;
use crate::types::{BrokerId, LeaderEpoch, TopicName, TopicPartition, Uuid};

use super::bug::{Bug, seeded};

/// The leader of a partition that has none.
pub const NO_LEADER: BrokerId = -1;
/// The "leader" by which UpdateMetadata says that a partition is being deleted.
pub const LEADER_DURING_DELETE: BrokerId = -2;
/// The leader epoch of StopReplica for a topic queued for deletion: it overrides any other.
pub const EPOCH_DURING_DELETE: LeaderEpoch = -2;
/// The leader epoch of StopReplica when none is known.
pub const NO_EPOCH: LeaderEpoch = -1;

/// State of a partition in the partition state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartitionState {
    NonExistent,
    New,
    Online,
    Offline,
}

impl PartitionState {
    /// True when a partition in `previous` may move to `self`.
    pub fn may_follow(self, previous: Self) -> bool {
        match self {
            Self::New => previous == Self::NonExistent,
            Self::Online | Self::Offline => {
                matches!(previous, Self::New | Self::Online | Self::Offline)
            }
            Self::NonExistent => previous == Self::Offline,
        }
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}Partition")
    }
}

/// State of one replica in the replica state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReplicaState {
    NonExistent,
    New,
    Online,
    Offline,
    DeletionStarted,
    DeletionSuccessful,
    DeletionIneligible,
}

impl ReplicaState {
    /// True when a replica in `previous` may move to `self`.
    pub fn may_follow(self, previous: Self) -> bool {
        match self {
            Self::New => previous == Self::NonExistent,
            Self::Online | Self::Offline => matches!(
                previous,
                Self::New | Self::Online | Self::Offline | Self::DeletionIneligible
            ),
            Self::DeletionStarted => previous == Self::Offline,
            Self::DeletionSuccessful => previous == Self::DeletionStarted,
            Self::DeletionIneligible => {
                matches!(previous, Self::Offline | Self::DeletionStarted)
            }
            Self::NonExistent => previous == Self::DeletionSuccessful,
        }
    }
}

impl fmt::Display for ReplicaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NonExistent => "NonExistentReplica",
            Self::New => "NewReplica",
            Self::Online => "OnlineReplica",
            Self::Offline => "OfflineReplica",
            Self::DeletionStarted => "ReplicaDeletionStarted",
            Self::DeletionSuccessful => "ReplicaDeletionSuccessful",
            Self::DeletionIneligible => "ReplicaDeletionIneligible",
        })
    }
}

/// Leader, ISR and epochs of a partition, as the state znode holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAndIsr {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub isr: Vec<BrokerId>,
    /// True after an unclean election, until the new leader says it has recovered (KIP-704).
    pub recovering: bool,
    /// zkVersion of the state znode.
    pub partition_epoch: i32,
}

impl LeaderAndIsr {
    /// The first state of a partition.
    pub fn initial(leader: BrokerId, isr: Vec<BrokerId>) -> Self {
        Self {
            leader,
            leader_epoch: 0,
            isr,
            recovering: false,
            partition_epoch: 0,
        }
    }

    /// A new leader and ISR under the next leader epoch.
    pub fn next(&self, leader: BrokerId, isr: Vec<BrokerId>) -> Self {
        Self {
            leader,
            leader_epoch: self.leader_epoch + i32::from(!seeded(Bug::LeaderEpochStands)),
            isr,
            recovering: self.recovering,
            partition_epoch: self.partition_epoch,
        }
    }
}

impl fmt::Display for LeaderAndIsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LeaderAndIsr(leader={}, leaderEpoch={}, isr={:?}, leaderRecoveryState={}, partitionEpoch={})",
            self.leader,
            self.leader_epoch,
            self.isr,
            if self.recovering {
                "RECOVERING"
            } else {
                "RECOVERED"
            },
            self.partition_epoch
        )
    }
}

/// [`LeaderAndIsr`] with the epoch of the controller that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    pub state: LeaderAndIsr,
    pub controller_epoch: i32,
}

/// Replicas of a partition; `adding` and `removing` are subsets of `replicas` during a
/// reassignment (KIP-455), else empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplicaAssignment {
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

impl ReplicaAssignment {
    pub fn of(replicas: Vec<BrokerId>) -> Self {
        Self {
            replicas,
            ..Self::default()
        }
    }

    pub fn is_being_reassigned(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Where a reassignment leads: the replicas but for those that are removed.
    pub fn target(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.removing)
    }

    /// Where it came from: the replicas but for those that are added.
    pub fn origin(&self) -> Vec<BrokerId> {
        without(&self.replicas, &self.adding)
    }

    /// This assignment on its way to `target`, whatever way it was on before.
    pub fn reassign_to(&self, target: &[BrokerId]) -> Self {
        let origin = self.origin();
        let mut replicas = target.to_vec();
        replicas.extend(without(&origin, target));
        Self {
            adding: without(target, &origin),
            removing: without(&origin, target),
            replicas,
        }
    }
}

impl fmt::Display for ReplicaAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[BrokerId]| {
            let ids: Vec<String> = ids.iter().map(BrokerId::to_string).collect();
            ids.join(",")
        };
        write!(
            f,
            "ReplicaAssignment(replicas={}, addingReplicas={}, removingReplicas={})",
            list(&self.replicas),
            list(&self.adding),
            list(&self.removing)
        )
    }
}

fn without(all: &[BrokerId], gone: &[BrokerId]) -> Vec<BrokerId> {
    all.iter()
        .copied()
        .filter(|id| !gone.contains(id))
        .collect()
}

/// One replica of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionAndReplica {
    pub partition: TopicPartition,
    pub replica: BrokerId,
}

/// A registered broker and its epoch (czxid of its registration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveBroker {
    pub info: Arc<BrokerImage>,
    pub epoch: i64,
}

/// A topic as its znode describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAssignment {
    pub name: TopicName,
    pub id: Option<Uuid>,
    pub partitions: BTreeMap<i32, ReplicaAssignment>,
}

/// What is known of one partition.
#[derive(Debug, Clone)]
pub struct PartitionEntry {
    pub assignment: ReplicaAssignment,
    pub leadership: Option<Leadership>,
    pub state: PartitionState,
    replica_states: Vec<(BrokerId, ReplicaState)>,
}

impl PartitionEntry {
    fn new(assignment: ReplicaAssignment) -> Self {
        Self {
            assignment,
            leadership: None,
            state: PartitionState::NonExistent,
            replica_states: Vec::new(),
        }
    }

    pub fn replica_state(&self, replica: BrokerId) -> ReplicaState {
        self.replica_states
            .iter()
            .find(|(id, _)| *id == replica)
            .map_or(ReplicaState::NonExistent, |(_, state)| *state)
    }
}

/// What is known of one topic.
#[derive(Debug, Clone, Default)]
pub struct TopicEntry {
    pub id: Option<Uuid>,
    pub partitions: BTreeMap<i32, PartitionEntry>,
}

/// Everything the active controller knows. Made at election, dropped at resignation.
#[derive(Debug, Clone, Default)]
pub struct ControllerContext {
    pub epoch: i32,
    pub brokers: BTreeMap<BrokerId, LiveBroker>,
    /// In controlled shutdown: still served, no longer a candidate for leadership.
    pub shutting_down: BTreeSet<BrokerId>,
    pub topics: BTreeMap<TopicName, TopicEntry>,
    pub topic_names: HashMap<Uuid, TopicName>,
    /// Replicas in failed log dirs, by broker.
    pub offline_dirs: HashMap<BrokerId, HashSet<TopicPartition>>,
    pub topics_to_be_deleted: BTreeSet<TopicName>,
    pub topics_with_deletion_started: BTreeSet<TopicName>,
    pub topics_ineligible_for_deletion: BTreeSet<TopicName>,
    /// Partitions whose reassignment was begun and is not complete.
    pub reassigning: BTreeSet<TopicPartition>,
}

impl ControllerContext {
    pub fn partition(&self, partition: &TopicPartition) -> Option<&PartitionEntry> {
        self.topics
            .get(&partition.topic)?
            .partitions
            .get(&partition.partition)
    }

    fn partition_mut(&mut self, partition: &TopicPartition) -> Option<&mut PartitionEntry> {
        self.topics
            .get_mut(&partition.topic)?
            .partitions
            .get_mut(&partition.partition)
    }

    pub fn leadership(&self, partition: &TopicPartition) -> Option<&Leadership> {
        self.partition(partition)?.leadership.as_ref()
    }

    pub fn replicas(&self, partition: &TopicPartition) -> &[BrokerId] {
        self.partition(partition)
            .map_or(&[], |entry| &entry.assignment.replicas)
    }

    pub fn partition_state(&self, partition: &TopicPartition) -> PartitionState {
        self.partition(partition)
            .map_or(PartitionState::NonExistent, |entry| entry.state)
    }

    pub fn replica_state(&self, replica: &PartitionAndReplica) -> ReplicaState {
        self.partition(&replica.partition)
            .map_or(ReplicaState::NonExistent, |entry| {
                entry.replica_state(replica.replica)
            })
    }

    /// Adds a topic, or partitions to one that is known. Known partitions keep their entry.
    pub fn add_topic(&mut self, topic: &TopicAssignment) {
        let entry = self.topics.entry(topic.name.clone()).or_default();
        if let Some(id) = topic.id {
            entry.id = Some(id);
            self.topic_names.insert(id, topic.name.clone());
        }
        for (partition, assignment) in &topic.partitions {
            entry
                .partitions
                .entry(*partition)
                .or_insert_with(|| PartitionEntry::new(assignment.clone()));
        }
    }

    /// Forgets a topic and everything about its deletion.
    pub fn remove_topic(&mut self, topic: &str) {
        self.topics_to_be_deleted.remove(topic);
        self.topics_with_deletion_started.remove(topic);
        self.topics_ineligible_for_deletion.remove(topic);
        self.reassigning
            .retain(|partition| *partition.topic != *topic);
        if let Some(TopicEntry { id: Some(id), .. }) = self.topics.remove(topic) {
            self.topic_names.remove(&id);
        }
    }

    pub fn put_partition_state(&mut self, partition: &TopicPartition, state: PartitionState) {
        if let Some(entry) = self.partition_mut(partition) {
            entry.state = state;
        }
    }

    pub fn put_replica_state(&mut self, replica: &PartitionAndReplica, state: ReplicaState) {
        if let Some(entry) = self.partition_mut(&replica.partition) {
            match entry
                .replica_states
                .iter_mut()
                .find(|(id, _)| *id == replica.replica)
            {
                Some((_, current)) => *current = state,
                None => entry.replica_states.push((replica.replica, state)),
            }
        }
    }

    /// States of replicas that are no longer assigned are kept until those replicas are gone.
    pub fn put_assignment(&mut self, partition: &TopicPartition, assignment: ReplicaAssignment) {
        if let Some(entry) = self.partition_mut(partition) {
            entry.assignment = assignment;
        }
    }

    /// The topic with all its partitions, as its znode is to hold it.
    pub fn topic_assignment(&self, topic: &TopicName) -> Option<TopicAssignment> {
        let entry = self.topics.get(topic)?;
        Some(TopicAssignment {
            name: topic.clone(),
            id: entry.id,
            partitions: entry
                .partitions
                .iter()
                .map(|(partition, entry)| (*partition, entry.assignment.clone()))
                .collect(),
        })
    }

    /// A replica that is gone leaves the assignment too.
    pub fn remove_replica(&mut self, replica: &PartitionAndReplica) {
        if let Some(entry) = self.partition_mut(&replica.partition) {
            let gone = replica.replica;
            entry.replica_states.retain(|(id, _)| *id != gone);
            entry.assignment.replicas.retain(|id| *id != gone);
            entry.assignment.adding.retain(|id| *id != gone);
            entry.assignment.removing.retain(|id| *id != gone);
        }
    }

    /// What the store says; the store is believed even where it breaks our invariants.
    pub fn load_leadership(&mut self, partition: &TopicPartition, leadership: Leadership) {
        if let Some(entry) = self.partition_mut(partition) {
            entry.leadership = Some(leadership);
        }
    }

    /// What this controller wrote. Keeps invariants 2 and 3.
    pub fn put_leadership(&mut self, partition: &TopicPartition, leadership: Leadership) {
        let Some(entry) = self.partition_mut(partition) else {
            return;
        };
        let new = &leadership.state;
        debug_assert!(
            new.leader == NO_LEADER || new.isr.contains(&new.leader),
            "{partition}: the leader is in the ISR: {new}"
        );
        debug_assert!(
            entry.leadership.as_ref().is_none_or(|old| {
                old.state.leader_epoch <= new.leader_epoch
                    && old.state.partition_epoch <= new.partition_epoch
            }),
            "{partition}: epochs only grow: {:?} to {new}",
            entry.leadership
        );
        entry.leadership = Some(leadership);
    }

    pub fn is_live(&self, broker: BrokerId) -> bool {
        self.brokers.contains_key(&broker) && !self.shutting_down.contains(&broker)
    }

    /// Broker live and the replica not in a failed log dir.
    pub fn is_replica_online(&self, broker: BrokerId, partition: &TopicPartition) -> bool {
        self.is_live(broker) && !self.is_in_offline_dir(broker, partition)
    }

    pub fn is_in_offline_dir(&self, broker: BrokerId, partition: &TopicPartition) -> bool {
        self.offline_dirs
            .get(&broker)
            .is_some_and(|partitions| partitions.contains(partition))
    }

    /// Live replicas of a partition in assignment order.
    pub fn live_replicas(&self, partition: &TopicPartition) -> Vec<BrokerId> {
        self.replicas(partition)
            .iter()
            .copied()
            .filter(|replica| self.is_replica_online(*replica, partition))
            .collect()
    }

    /// Live brokers and those in controlled shutdown.
    pub fn broker_ids(&self) -> Vec<BrokerId> {
        self.brokers.keys().copied().collect()
    }

    pub fn is_queued_for_deletion(&self, topic: &str) -> bool {
        self.topics_to_be_deleted.contains(topic)
    }

    /// The leader epoch StopReplica carries.
    pub fn stop_replica_epoch(&self, partition: &TopicPartition) -> LeaderEpoch {
        if self.is_queued_for_deletion(&partition.topic) {
            EPOCH_DURING_DELETE
        } else {
            self.leadership(partition)
                .map_or(NO_EPOCH, |known| known.state.leader_epoch)
        }
    }

    pub fn all_partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionEntry)> {
        self.topics.iter().flat_map(|(topic, entry)| {
            entry.partitions.iter().map(move |(partition, entry)| {
                (TopicPartition::new(topic.clone(), *partition), entry)
            })
        })
    }

    pub fn partitions_of(&self, topic: &TopicName) -> Vec<TopicPartition> {
        self.topics.get(topic).map_or_else(Vec::new, |entry| {
            entry
                .partitions
                .keys()
                .map(|partition| TopicPartition::new(topic.clone(), *partition))
                .collect()
        })
    }

    pub fn replicas_of_partition(&self, partition: &TopicPartition) -> Vec<PartitionAndReplica> {
        self.replicas(partition)
            .iter()
            .map(|replica| PartitionAndReplica {
                partition: partition.clone(),
                replica: *replica,
            })
            .collect()
    }

    pub fn replicas_of_topic(&self, topic: &TopicName) -> Vec<PartitionAndReplica> {
        self.partitions_of(topic)
            .iter()
            .flat_map(|partition| self.replicas_of_partition(partition))
            .collect()
    }

    pub fn replicas_on(&self, brokers: &[BrokerId]) -> Vec<PartitionAndReplica> {
        self.all_partitions()
            .flat_map(|(partition, entry)| {
                entry
                    .assignment
                    .replicas
                    .iter()
                    .filter(|replica| brokers.contains(replica))
                    .map(move |replica| PartitionAndReplica {
                        partition: partition.clone(),
                        replica: *replica,
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Partitions with known leadership whose topic is not on its way out.
    pub fn partitions_with_leadership(&self) -> Vec<TopicPartition> {
        self.all_partitions()
            .filter(|(partition, entry)| {
                entry.leadership.is_some() && !self.is_queued_for_deletion(&partition.topic)
            })
            .map(|(partition, _)| partition)
            .collect()
    }

    /// Partitions whose leader is gone and whose topic is not on its way out.
    pub fn partitions_with_offline_leader(&self) -> Vec<TopicPartition> {
        self.all_partitions()
            .filter(|(partition, entry)| {
                entry.leadership.as_ref().is_some_and(|known| {
                    !self.is_replica_online(known.state.leader, partition)
                        && !self.is_queued_for_deletion(&partition.topic)
                })
            })
            .map(|(partition, _)| partition)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(current: &ReplicaAssignment, target: &[BrokerId], expect: [&[BrokerId]; 3]) {
        let next = current.reassign_to(target);
        let lists = [&next.replicas[..], &next.adding, &next.removing];
        assert_eq!(lists, expect, "{current} to {target:?}");
    }

    #[test]
    fn a_reassignment_holds_both_ends_of_its_way() {
        let plain = ReplicaAssignment::of(vec![1, 2, 3]);
        check(&plain, &[4, 5], [&[4, 5, 1, 2, 3], &[4, 5], &[1, 2, 3]]);
        check(&plain, &[3, 4, 2], [&[3, 4, 2, 1], &[4], &[1]]);
        check(&plain, &[2, 1, 3], [&[2, 1, 3], &[], &[]]);
        // Replaced on its way, and cancelled: where it came from counts, not where it was going.
        let moving = plain.reassign_to(&[4, 5]);
        check(&moving, &[1, 6], [&[1, 6, 2, 3], &[6], &[2, 3]]);
        check(&moving, &moving.origin(), [&[1, 2, 3], &[], &[]]);
    }

    fn ids() -> impl Strategy<Value = Vec<BrokerId>> {
        proptest::sample::subsequence(vec![0, 1, 2, 3, 4, 5], 1..=4).prop_shuffle()
    }

    proptest! {
        #[test]
        fn whatever_is_replaced_origin_and_target_are_kept(
            origin in ids(), first in ids(), second in ids(),
        ) {
            let moving = ReplicaAssignment::of(origin.clone()).reassign_to(&first);
            prop_assert_eq!(moving.target(), first.clone());
            let replaced = moving.reassign_to(&second);
            prop_assert_eq!(replaced.target(), second);
            for assignment in [&moving, &replaced] {
                let mut back = assignment.origin();
                back.sort_unstable();
                let mut from = origin.clone();
                from.sort_unstable();
                prop_assert_eq!(back, from);
            }
        }
    }
}
