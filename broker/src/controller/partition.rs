//! ZkPartitionStateMachine: partitions from New to Online and between Online and Offline. Core.
//!
//! ```text
//! NonExistent ─new topic─▶ New ─state znode created─▶ Online ◀─election─▶ Offline ─deletion─▶ NonExistent
//! ```
//! Where Kafka reads a partition's state from ZooKeeper before each election, we elect from the
//! cached state and let the version check of the write find out: only the controller writes
//! states, so the extra round is needed only after a BADVERSION.

use std::collections::{BTreeSet, HashSet};

use tracing::{debug, error, info, trace};

use crate::types::{TopicName, TopicPartition};
use crate::zk;

use super::bug::{Bug, seeded};
use super::core::{Core, OFFLINE, Task, Waiting, join};
use super::election::{ElectionStrategy, elect, needs_unclean};
use super::event::{Effect, Proposal, StoreOp, StoreReply};
use super::state::{LeaderAndIsr, Leadership, PartitionState};

const STATE_CHANGE: &str = "state.change.logger";

impl Core {
    /// The state of each partition as fail-over finds it.
    pub(super) fn start_partitions(&mut self) {
        let states: Vec<(TopicPartition, PartitionState)> = self
            .context
            .all_partitions()
            .map(|(partition, entry)| {
                let state = match &entry.leadership {
                    None => PartitionState::New,
                    Some(known)
                        if self
                            .context
                            .is_replica_online(known.state.leader, &partition) =>
                    {
                        PartitionState::Online
                    }
                    Some(_) => PartitionState::Offline,
                };
                (partition, state)
            })
            .collect();
        for (partition, state) in states {
            self.context.put_partition_state(&partition, state);
        }
    }

    /// Tries new and offline partitions again, but for topics on their way out.
    pub(super) fn trigger_online(&mut self, topic: Option<&TopicName>) {
        let partitions: Vec<TopicPartition> = self
            .context
            .all_partitions()
            .filter(|(partition, entry)| {
                matches!(entry.state, PartitionState::New | PartitionState::Offline)
                    && topic.is_none_or(|topic| *topic == partition.topic)
                    && !self.context.is_queued_for_deletion(&partition.topic)
            })
            .map(|(partition, _)| partition)
            .collect();
        self.before_others(vec![Task::Partitions {
            partitions,
            target: PartitionState::Online,
            strategy: OFFLINE,
        }]);
    }

    pub(super) fn change_partitions(
        &mut self,
        partitions: Vec<TopicPartition>,
        target: PartitionState,
        strategy: ElectionStrategy,
    ) {
        let (valid, invalid): (Vec<_>, Vec<_>) = partitions
            .into_iter()
            .partition(|partition| target.may_follow(self.context.partition_state(partition)));
        for partition in &invalid {
            error!(
                target: STATE_CHANGE,
                "{} failed to change state for partition {partition} from {} to {target}: not a valid transition",
                self.sender,
                self.context.partition_state(partition)
            );
        }
        if valid.is_empty() {
            return;
        }
        match target {
            PartitionState::New => {
                for partition in &valid {
                    info!(
                        target: STATE_CHANGE,
                        "{} Changed partition {partition} state from {} to {target} with assigned replicas {}",
                        self.sender,
                        self.context.partition_state(partition),
                        join(self.context.replicas(partition))
                    );
                    self.context.put_partition_state(partition, target);
                }
            }
            PartitionState::Online => {
                let (new, known): (Vec<_>, Vec<_>) = valid.into_iter().partition(|partition| {
                    self.context.partition_state(partition) == PartitionState::New
                });
                let mut tasks = Vec::with_capacity(3);
                if !new.is_empty() {
                    tasks.push(Task::Initialize(new));
                }
                if !known.is_empty() {
                    tasks.push(Task::Elect {
                        partitions: known,
                        strategy,
                    });
                }
                tasks.push(Task::Flush);
                self.before_others(tasks);
            }
            PartitionState::Offline | PartitionState::NonExistent => {
                for partition in &valid {
                    trace!(
                        target: STATE_CHANGE,
                        "{} Changed partition {partition} state from {} to {target}",
                        self.sender,
                        self.context.partition_state(partition)
                    );
                    self.context.put_partition_state(partition, target);
                }
            }
        }
    }

    /// First leader and ISR of new partitions: all live replicas, led by the first of them.
    pub(super) fn initialize(&mut self, partitions: Vec<TopicPartition>, out: &mut Vec<Effect>) {
        let mut topics = BTreeSet::new();
        let mut first = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let live = self.context.live_replicas(&partition);
            let Some(leader) = live.first() else {
                error!(
                    target: STATE_CHANGE,
                    "{} encountered error during state change of partition {partition} from New to Online, assigned replicas are [{}], live brokers are [{}]. No assigned replica is alive.",
                    self.sender,
                    join(self.context.replicas(&partition)),
                    join(self.context.broker_ids())
                );
                continue;
            };
            topics.insert(partition.topic.clone());
            let leadership = Leadership {
                state: LeaderAndIsr::initial(*leader, live),
                controller_epoch: self.context.epoch,
            };
            first.push((partition, leadership));
        }
        let mut ops: Vec<StoreOp> = topics
            .into_iter()
            .map(StoreOp::CreatePartitionsNode)
            .collect();
        let topics = ops.len();
        ops.extend(
            first
                .iter()
                .map(|(partition, leadership)| StoreOp::CreateState {
                    partition: partition.clone(),
                    leadership: leadership.clone(),
                }),
        );
        let waiting = Waiting::Initialize {
            topics,
            partitions: first,
        };
        self.ask(ops, waiting, out);
    }

    pub(super) fn on_initialized(
        &mut self,
        topics: usize,
        partitions: Vec<(TopicPartition, Leadership)>,
        replies: Vec<StoreReply>,
    ) {
        let mut reassigning = Vec::new();
        for ((partition, leadership), reply) in
            partitions.into_iter().zip(replies.into_iter().skip(topics))
        {
            if let StoreReply::Failed(error) = reply {
                error!(
                    target: STATE_CHANGE,
                    "{} failed to change state for partition {partition} from {} to {}: {error}",
                    self.sender,
                    PartitionState::New,
                    PartitionState::Online
                );
                continue;
            }
            let isr = leadership.state.isr.clone();
            info!(
                target: STATE_CHANGE,
                "{} Changed partition {partition} from {} to {} with state {}",
                self.sender,
                PartitionState::New,
                PartitionState::Online,
                leadership.state
            );
            self.context.put_leadership(&partition, leadership);
            self.context
                .put_partition_state(&partition, PartitionState::Online);
            self.batch
                .add_leader_and_isr(&self.context, &isr, &partition, true);
            if self.context.reassigning.contains(&partition) {
                reassigning.push(partition);
            }
        }
        // The first ISR may be all that is wanted.
        self.push(Task::CompleteReassignments(reassigning));
    }

    pub(super) fn elect(
        &mut self,
        partitions: Vec<TopicPartition>,
        strategy: ElectionStrategy,
        out: &mut Vec<Effect>,
    ) {
        if strategy == OFFLINE {
            let (doubtful, clean): (Vec<_>, Vec<_>) =
                partitions.into_iter().partition(|partition| {
                    self.context
                        .leadership(partition)
                        .is_some_and(|known| needs_unclean(&self.context, partition, &known.state))
                });
            if !doubtful.is_empty() {
                let topics: Vec<TopicName> = doubtful
                    .iter()
                    .map(|partition| partition.topic.clone())
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect();
                if !clean.is_empty() {
                    self.before_others(vec![Task::Elect {
                        partitions: clean,
                        strategy,
                    }]);
                }
                let ops = topics
                    .iter()
                    .cloned()
                    .map(StoreOp::GetTopicConfig)
                    .collect();
                let waiting = Waiting::UncleanConfig {
                    partitions: doubtful,
                    topics,
                };
                self.ask(ops, waiting, out);
                return;
            }
            self.propose(clean, strategy, out);
            return;
        }
        self.propose(partitions, strategy, out);
    }

    fn propose(
        &mut self,
        partitions: Vec<TopicPartition>,
        strategy: ElectionStrategy,
        out: &mut Vec<Effect>,
    ) {
        let mut proposals = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let proposal = self
                .context
                .leadership(&partition)
                .and_then(|known| elect(&self.context, &partition, &known.state, strategy, false));
            match proposal {
                Some(proposal) => proposals.push(proposal),
                None => error!(
                    target: STATE_CHANGE,
                    "{} failed to change state for partition {partition} from {} to {}: Failed to elect leader for partition {partition} under strategy {strategy}",
                    self.sender,
                    self.context.partition_state(&partition),
                    PartitionState::Online
                ),
            }
        }
        let ops = self.set_states(&proposals);
        let waiting = Waiting::Elect {
            proposals,
            strategy,
        };
        self.ask(ops, waiting, out);
    }

    pub(super) fn set_states<'a>(
        &self,
        proposals: impl IntoIterator<Item = &'a Proposal>,
    ) -> Vec<StoreOp> {
        proposals
            .into_iter()
            .map(|proposal| StoreOp::SetState {
                partition: proposal.partition.clone(),
                leadership: Leadership {
                    state: proposal.state.clone(),
                    controller_epoch: self.context.epoch,
                },
            })
            .collect()
    }

    /// Topics that allow it are elected uncleanly; the others stay without a leader.
    pub(super) fn on_unclean_config(
        &mut self,
        partitions: Vec<TopicPartition>,
        topics: &[TopicName],
        replies: Vec<StoreReply>,
    ) {
        let default = self.settings.unclean_leader_election_enable;
        let allowed: HashSet<&TopicName> = topics
            .iter()
            .zip(&replies)
            .filter(|(_, reply)| match reply {
                StoreReply::Config(config) => config
                    .get("unclean.leader.election.enable")
                    .map_or(default, |value| value.trim().eq_ignore_ascii_case("true")),
                StoreReply::Failed(zk::Error::NoNode { .. }) => default,
                _ => false,
            })
            .map(|(topic, _)| topic)
            .collect();
        let (allowed, refused): (Vec<_>, Vec<_>) = partitions
            .into_iter()
            .partition(|partition| allowed.contains(&partition.topic));
        for partition in &refused {
            error!(
                target: STATE_CHANGE,
                "{} failed to change state for partition {partition} from {} to {}: no replica of the ISR is live and unclean.leader.election.enable is false",
                self.sender,
                self.context.partition_state(partition),
                PartitionState::Online
            );
        }
        if !allowed.is_empty() {
            self.before_others(vec![Task::Elect {
                partitions: allowed,
                strategy: ElectionStrategy::Offline {
                    force_unclean: true,
                },
            }]);
        }
    }

    pub(super) fn on_elections_written(
        &mut self,
        proposals: Vec<Proposal>,
        strategy: ElectionStrategy,
        replies: Vec<StoreReply>,
    ) {
        let mut refused = Vec::new();
        for (proposal, reply) in proposals.into_iter().zip(replies) {
            let partition = proposal.partition;
            let reply = match reply {
                StoreReply::Failed(_) if seeded(Bug::BelievesRefusedWrite) => StoreReply::Written {
                    partition_epoch: proposal.state.partition_epoch + 1,
                },
                reply => reply,
            };
            match reply {
                StoreReply::Written { partition_epoch } => {
                    let mut state = proposal.state;
                    state.partition_epoch = partition_epoch;
                    info!(
                        target: STATE_CHANGE,
                        "{} Changed partition {partition} from {} to {} with state {state}",
                        self.sender,
                        self.context.partition_state(&partition),
                        PartitionState::Online
                    );
                    let leader = state.leader;
                    let leadership = Leadership {
                        state,
                        controller_epoch: self.context.epoch,
                    };
                    self.context.put_leadership(&partition, leadership);
                    self.context
                        .put_partition_state(&partition, PartitionState::Online);
                    self.batch.add_leader_and_isr(
                        &self.context,
                        &proposal.recipients,
                        &partition,
                        false,
                    );
                    self.elected += 1;
                    if let Some(elections) = &mut self.elections {
                        elections.insert(partition, leader);
                    }
                }
                StoreReply::Failed(zk::Error::BadVersion { .. }) => refused.push(partition),
                other => error!(
                    target: STATE_CHANGE,
                    "{} failed to change state for partition {partition} from {} to {}: {other:?}",
                    self.sender,
                    self.context.partition_state(&partition),
                    PartitionState::Online
                ),
            }
        }
        if !refused.is_empty() {
            debug!(
                target: STATE_CHANGE,
                "{} Retrying leader election with strategy {strategy} for partitions {refused:?}",
                self.sender
            );
            self.before_others(vec![Task::RereadToElect {
                partitions: refused,
                strategy,
            }]);
        }
    }
}
