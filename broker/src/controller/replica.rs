//! ZkReplicaStateMachine: what a broker is told of each replica it holds. Core.
//!
//! Entering Online (but not from New) sends LeaderAndIsr; entering Offline sends StopReplica,
//! takes the replica out of the ISR and tells the others; entering DeletionStarted sends
//! StopReplica with deletion.

use std::collections::BTreeMap;

use tracing::{debug, error, info, trace};

use crate::types::{BrokerId, TopicPartition};
use crate::zk;

use super::bug::{Bug, seeded};
use super::core::{Core, Task, Waiting};
use super::event::{Effect, Proposal, StoreReply};
use super::state::{Leadership, NO_LEADER, PartitionAndReplica, PartitionState, ReplicaState};

const STATE_CHANGE: &str = "state.change.logger";

impl Core {
    /// Fail-over: live replicas are Online and told so; the others cannot be deleted for now, and
    /// leave the ISR.
    pub(super) fn start_replicas(&mut self) {
        let mut online = Vec::new();
        let mut offline = Vec::new();
        for (partition, entry) in self.context.all_partitions() {
            for replica in &entry.assignment.replicas {
                let is_online = self.context.is_replica_online(*replica, &partition);
                let replica = PartitionAndReplica {
                    partition: partition.clone(),
                    replica: *replica,
                };
                if is_online {
                    online.push(replica);
                } else {
                    offline.push(replica);
                }
            }
        }
        for replica in &online {
            self.context
                .put_replica_state(replica, ReplicaState::Online);
        }
        for replica in &offline {
            self.context
                .put_replica_state(replica, ReplicaState::DeletionIneligible);
        }
        self.push(Task::Replicas {
            replicas: online,
            target: ReplicaState::Online,
        });
        self.push(Task::Replicas {
            replicas: offline,
            target: ReplicaState::Offline,
        });
    }

    pub(super) fn change_replicas(
        &mut self,
        replicas: Vec<PartitionAndReplica>,
        target: ReplicaState,
    ) {
        let mut valid = Vec::with_capacity(replicas.len());
        for replica in replicas {
            if self.context.partition(&replica.partition).is_none() {
                continue;
            }
            let previous = self.context.replica_state(&replica);
            if target.may_follow(previous) {
                valid.push((replica, previous));
            } else {
                error!(
                    target: STATE_CHANGE,
                    "{} initiated state change of replica {} for partition {} from {previous} to {target} failed: not a valid transition",
                    self.sender, replica.replica, replica.partition
                );
            }
        }
        if valid.is_empty() {
            return;
        }
        if target == ReplicaState::Offline {
            self.stop_and_take_offline(valid);
            return;
        }
        for (replica, previous) in valid {
            if !self.enter(&replica, previous, target) {
                continue;
            }
            trace!(
                target: STATE_CHANGE,
                "{} Changed state of replica {} for partition {} from {previous} to {target}",
                self.sender, replica.replica, replica.partition
            );
            if target == ReplicaState::NonExistent {
                self.context.remove_replica(&replica);
            } else {
                self.context.put_replica_state(&replica, target);
            }
        }
        self.before_others(vec![Task::Flush]);
    }

    /// What entering a state sends; false when the replica must stay where it is.
    fn enter(
        &mut self,
        replica: &PartitionAndReplica,
        previous: ReplicaState,
        target: ReplicaState,
    ) -> bool {
        let id = replica.replica;
        let partition = &replica.partition;
        let leader = self
            .context
            .leadership(partition)
            .map(|known| known.state.leader);
        match target {
            ReplicaState::New => match leader {
                Some(leader) if leader == id => {
                    error!(
                        target: STATE_CHANGE,
                        "{} Replica {id} for partition {partition} cannot be moved to {target} state as it is being requested to become leader",
                        self.sender
                    );
                    return false;
                }
                Some(_) => {
                    self.batch
                        .add_leader_and_isr(&self.context, &[id], partition, true);
                }
                None => {}
            },
            ReplicaState::Online => {
                if previous != ReplicaState::New && leader.is_some() {
                    self.batch
                        .add_leader_and_isr(&self.context, &[id], partition, false);
                }
            }
            ReplicaState::DeletionStarted => {
                self.batch
                    .add_stop_replica(&self.context, id, partition, true);
            }
            ReplicaState::Offline
            | ReplicaState::DeletionIneligible
            | ReplicaState::DeletionSuccessful
            | ReplicaState::NonExistent => {}
        }
        true
    }

    fn stop_and_take_offline(&mut self, replicas: Vec<(PartitionAndReplica, ReplicaState)>) {
        let mut by_broker: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        for (replica, _) in replicas {
            let PartitionAndReplica { partition, replica } = replica;
            self.batch
                .add_stop_replica(&self.context, replica, &partition, false);
            by_broker.entry(replica).or_default().push(partition);
        }
        let mut tasks: Vec<Task> = by_broker
            .into_iter()
            .map(|(broker, partitions)| Task::TakeOffline { broker, partitions })
            .collect();
        tasks.push(Task::Flush);
        self.before_others(tasks);
    }

    /// Takes the replicas of one broker out of their ISRs. The last member of an ISR stays in it,
    /// so that a later clean election knows where the data is; leader it is no longer.
    pub(super) fn take_offline(
        &mut self,
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
        out: &mut Vec<Effect>,
    ) {
        let mut proposals = Vec::new();
        for partition in partitions {
            let Some(known) = self.context.leadership(&partition) else {
                self.batch
                    .add_update_metadata(self.context.broker_ids(), [partition.clone()]);
                self.context.put_replica_state(
                    &PartitionAndReplica {
                        partition,
                        replica: broker,
                    },
                    ReplicaState::Offline,
                );
                continue;
            };
            if !known.state.isr.contains(&broker) {
                let known = known.clone();
                self.enter_offline(broker, partition, known);
                continue;
            }
            let state = &known.state;
            let leader = if state.leader == broker && !seeded(Bug::DeadLeaderStays) {
                NO_LEADER
            } else {
                state.leader
            };
            let isr = if state.isr.len() == 1 && !seeded(Bug::LastMemberLeavesIsr) {
                state.isr.clone()
            } else {
                state
                    .isr
                    .iter()
                    .copied()
                    .filter(|id| *id != broker)
                    .collect()
            };
            proposals.push(Proposal {
                state: state.next(leader, isr),
                partition,
                recipients: Vec::new(),
            });
        }
        let ops = self.set_states(&proposals);
        self.ask(ops, Waiting::TakeOffline { broker, proposals }, out);
    }

    pub(super) fn on_taken_offline(
        &mut self,
        broker: BrokerId,
        proposals: Vec<Proposal>,
        replies: Vec<StoreReply>,
    ) {
        let mut refused = Vec::new();
        for (proposal, reply) in proposals.into_iter().zip(replies) {
            match reply {
                StoreReply::Written { partition_epoch } => {
                    let mut state = proposal.state;
                    state.partition_epoch = partition_epoch;
                    let leadership = Leadership {
                        state,
                        controller_epoch: self.context.epoch,
                    };
                    self.enter_offline(broker, proposal.partition, leadership);
                }
                StoreReply::Failed(zk::Error::BadVersion { .. }) => {
                    refused.push(proposal.partition);
                }
                other => error!(
                    target: STATE_CHANGE,
                    "{} initiated state change of replica {broker} for partition {} to {} failed: {other:?}",
                    self.sender,
                    proposal.partition,
                    ReplicaState::Offline
                ),
            }
        }
        if !refused.is_empty() {
            debug!(
                target: STATE_CHANGE,
                "{} Controller failed to remove replica {broker} from ISR of partitions {refused:?}, will be retried",
                self.sender
            );
            self.before_others(vec![Task::RereadToTakeOffline {
                broker,
                partitions: refused,
            }]);
        }
    }

    fn enter_offline(
        &mut self,
        broker: BrokerId,
        partition: TopicPartition,
        mut leadership: Leadership,
    ) {
        leadership.controller_epoch = self.context.epoch;
        info!(
            target: STATE_CHANGE,
            "{} Partition {partition} state changed to {} after removing replica {broker} from the ISR as part of transition to {}",
            self.sender,
            leadership.state,
            ReplicaState::Offline
        );
        if leadership.state.leader == NO_LEADER
            && self.context.partition_state(&partition) == PartitionState::Online
        {
            // So that it is elected again when somebody who can lead is back.
            self.context
                .put_partition_state(&partition, PartitionState::Offline);
        }
        self.context.put_leadership(&partition, leadership);
        if !self.context.is_queued_for_deletion(&partition.topic) {
            let others: Vec<BrokerId> = self
                .context
                .replicas(&partition)
                .iter()
                .copied()
                .filter(|id| *id != broker)
                .collect();
            self.batch
                .add_leader_and_isr(&self.context, &others, &partition, false);
        }
        self.context.put_replica_state(
            &PartitionAndReplica {
                partition,
                replica: broker,
            },
            ReplicaState::Offline,
        );
    }
}
