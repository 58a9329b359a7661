//! Reassignment of replicas (KIP-455). [core]
//!
//! ```text
//! assignment      replicas        adding   removing   leader  ISR
//! before          1,2,3                               1       1,2,3
//! phase A         4,5,6,1,2,3     4,5,6    1,2,3      1       1,2,3
//! caught up       4,5,6,1,2,3     4,5,6    1,2,3      1       1,2,3,4,5,6
//! phase B         4,5,6                               4       4,5,6
//! ```
//! The topic's znode is where a reassignment lives: it is written before phase A and after phase B,
//! so that a controller that takes over goes on from there. Phase B begins when the target is a
//! subset of the ISR: after an AlterPartition, and whenever a reassignment is taken up again.
//!
//! Source: `KafkaController.onPartitionReassignment`.

use std::collections::BTreeSet;

use tracing::{error, info, warn};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicPartition};
use crate::zk;

use super::bug::{Bug, seeded};
use super::core::{CONTROLLER, Core, OFFLINE, Task, Waiting, join};
use super::election::ElectionStrategy;
use super::event::{Answer, ByPartition, Effect, Proposal, Refusal, StoreOp, StoreReply, Ticket};
use super::state::{
    Leadership, PartitionAndReplica, PartitionState, ReplicaAssignment, ReplicaState,
};

const STATE_CHANGE: &str = "state.change.logger";

impl Core {
    /// AlterPartitionReassignments: `None` goes back to the replicas of before.
    pub(super) fn begin_reassignments(
        &mut self,
        ticket: Ticket,
        asked: Vec<(TopicPartition, Option<Vec<BrokerId>>)>,
    ) {
        let mut results: ByPartition<()> = Vec::with_capacity(asked.len());
        let mut accepted = Vec::new();
        for (partition, target) in asked {
            match self.reassignment_of(&partition, target.as_deref()) {
                Ok(assignment) => {
                    results.push((partition.clone(), Ok(())));
                    accepted.push((partition, assignment));
                }
                Err(refusal) => results.push((partition, Err(refusal))),
            }
        }
        self.failed_reassignments.clear();
        if !accepted.is_empty() {
            // The latest word counts, whichever way it came.
            let forget = accepted
                .iter()
                .map(|(partition, _)| (partition.clone(), None))
                .collect();
            self.push(Task::Store {
                ops: vec![StoreOp::ForgetReassignments(forget)],
                what: "removing partitions from /admin/reassign_partitions",
            });
        }
        for (partition, assignment) in accepted {
            self.push(Task::Reassign {
                partition,
                assignment,
            });
        }
        self.push(Task::AnswerReassignments { ticket, results });
    }

    fn reassignment_of(
        &self,
        partition: &TopicPartition,
        target: Option<&[BrokerId]>,
    ) -> Result<ReplicaAssignment, Refusal> {
        let current = self
            .context
            .partition(partition)
            .map(|entry| entry.assignment.clone())
            .unwrap_or_default();
        let invalid = |message: String| Refusal::new(ErrorCode::InvalidReplicaAssignment, message);
        let target = match target {
            None if !current.is_being_reassigned() => {
                return Err(ErrorCode::NoReassignmentInProgress.into());
            }
            None => current.origin(),
            Some(target) => {
                if let Some(fault) = fault(target) {
                    return Err(invalid(fault));
                }
                let adding = current.reassign_to(target).adding;
                if !adding.iter().all(|id| self.context.is_live(*id)) {
                    let live: Vec<BrokerId> = self
                        .context
                        .broker_ids()
                        .into_iter()
                        .filter(|id| self.context.is_live(*id))
                        .collect();
                    return Err(invalid(format!(
                        "Replica assignment has brokers that are not alive. Replica list: {}, live broker list: Set({})",
                        scala_buffer(&adding),
                        join(&live).replace(',', ", ")
                    )));
                }
                target.to_vec()
            }
        };
        if current.replicas.is_empty() || self.context.is_queued_for_deletion(&partition.topic) {
            return Err(Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                "The partition does not exist.",
            ));
        }
        let assignment = current.reassign_to(&target);
        match self.lost_by(partition, &assignment) {
            None => Ok(assignment),
            Some(message) => Err(invalid(message)),
        }
    }

    /// Why this assignment would leave nobody who has all the data. Replicas that a reassignment
    /// was adding may by now be the only ones in sync; KRaft's controller refuses that as well.
    fn lost_by(&self, partition: &TopicPartition, new: &ReplicaAssignment) -> Option<String> {
        let known = self.context.leadership(partition)?;
        let kept = known.state.isr.iter().any(|id| new.replicas.contains(id));
        (!kept).then(|| {
            format!(
                "Unable to revert partition assignment for {partition} because it would require an unclean leader election."
            )
        })
    }

    pub(super) fn reassignments_answer(&mut self, results: ByPartition<()>) -> Answer {
        let failed = std::mem::take(&mut self.failed_reassignments);
        let results = results
            .into_iter()
            .map(|(partition, result)| {
                let result = if failed.contains(&partition) {
                    Err(ErrorCode::UnknownServerError.into())
                } else {
                    result
                };
                (partition, result)
            })
            .collect();
        Answer::Reassign(results)
    }

    pub(super) fn list_reassignments(&self, asked: Option<Vec<TopicPartition>>) -> Answer {
        let partitions =
            asked.unwrap_or_else(|| self.context.reassigning.iter().cloned().collect());
        Answer::ListReassignments(
            partitions
                .into_iter()
                .filter_map(|partition| {
                    let assignment = &self.context.partition(&partition)?.assignment;
                    let listed = assignment.is_being_reassigned();
                    listed.then(|| (partition, assignment.clone()))
                })
                .collect(),
        )
    }

    /// `/admin/reassign_partitions` asks for these. Unlike the API it may name brokers that are
    /// away: the reassignment waits for them.
    pub(super) fn reassign_by_znode(&mut self, asked: Vec<(TopicPartition, Vec<BrokerId>)>) {
        let mut tasks = Vec::new();
        let mut failed = Vec::new();
        for (partition, target) in asked {
            let current = self.context.partition(&partition);
            let current = current
                .filter(|entry| !entry.assignment.replicas.is_empty())
                .filter(|_| !self.context.is_queued_for_deletion(&partition.topic));
            let new = current.map(|entry| entry.assignment.reassign_to(&target));
            let fault = fault(&target)
                .or_else(|| new.as_ref().and_then(|new| self.lost_by(&partition, new)));
            match (new, fault) {
                (Some(assignment), None) => tasks.push(Task::Reassign {
                    partition,
                    assignment,
                }),
                (None, _) => {
                    warn!(target: CONTROLLER, "{self} Failed reassignment of {partition} through zk: the partition does not exist");
                    failed.push((partition, None));
                }
                (_, Some(fault)) => {
                    warn!(target: CONTROLLER, "{self} Failed reassignment of {partition} through zk: {fault}");
                    failed.push((partition, None));
                }
            }
        }
        if !failed.is_empty() {
            tasks.push(Task::Store {
                ops: vec![StoreOp::ForgetReassignments(failed)],
                what: "removing partitions from /admin/reassign_partitions",
            });
        }
        self.before_others(tasks);
    }

    /// Fail-over: members of an ISR that hold no replica by the topic's znode. The controller before
    /// us had dropped them from the assignment and came no further.
    pub(super) fn stop_strays(&mut self) {
        let mut strays = Vec::new();
        for (partition, entry) in self.context.all_partitions() {
            let Some(known) = &entry.leadership else {
                continue;
            };
            let assigned = |id: &&BrokerId| entry.assignment.replicas.contains(id);
            let isr = &known.state.isr;
            // Nobody else has the data: an administrator must decide.
            if isr.iter().any(|id| assigned(&id)) {
                let here: Vec<BrokerId> = isr.iter().filter(|id| !assigned(id)).copied().collect();
                if !here.is_empty() {
                    strays.push((partition, here));
                }
            }
        }
        for (partition, ids) in strays {
            for replica in replicas(&partition, &ids) {
                self.context
                    .put_replica_state(&replica, ReplicaState::Online);
            }
            for task in stop_removed(&partition, &ids) {
                self.push(task);
            }
        }
    }

    /// Takes up again what was begun, where `concerns` holds.
    pub(super) fn resume_reassignments(
        &mut self,
        concerns: impl Fn(&TopicPartition, &ReplicaAssignment) -> bool,
    ) {
        let tasks = self
            .context
            .reassigning
            .iter()
            .filter_map(|partition| {
                let assignment = &self.context.partition(partition)?.assignment;
                concerns(partition, assignment).then(|| Task::Reassign {
                    partition: partition.clone(),
                    assignment: assignment.clone(),
                })
            })
            .collect();
        self.before_others(tasks);
    }

    /// The assignment goes into the store first, then into memory, then to the brokers.
    pub(super) fn reassign(
        &mut self,
        partition: TopicPartition,
        assignment: ReplicaAssignment,
        out: &mut Vec<Effect>,
    ) {
        let topics = BTreeSet::from([partition.topic.clone()]);
        self.halt_deletion(&topics, "topic reassignment in progress");
        let Some(entry) = self.context.partition(&partition) else {
            return;
        };
        if entry.assignment == assignment {
            self.context.reassigning.insert(partition.clone());
            self.before_others(vec![Task::AdvanceReassignment(partition)]);
            return;
        }
        let op = self.store_assignment(&partition, assignment.clone());
        let waiting = Waiting::Reassign {
            partition,
            assignment,
        };
        self.ask(op, waiting, out);
    }

    fn store_assignment(
        &self,
        partition: &TopicPartition,
        assignment: ReplicaAssignment,
    ) -> Vec<StoreOp> {
        self.context
            .topic_assignment(&partition.topic)
            .map(|mut topic| {
                topic.partitions.insert(partition.partition, assignment);
                StoreOp::SetTopic(topic)
            })
            .into_iter()
            .collect()
    }

    pub(super) fn on_reassignment_stored(
        &mut self,
        partition: TopicPartition,
        assignment: ReplicaAssignment,
        replies: &[StoreReply],
    ) {
        if let Some(StoreReply::Failed(failure)) = replies.first() {
            error!(
                target: CONTROLLER,
                "{self} Error completing reassignment of partition {partition}: {failure}"
            );
            self.failed_reassignments.insert(partition);
            return;
        }
        info!(
            target: CONTROLLER,
            "{self} Successfully updated assignment of partition {partition} to {assignment}"
        );
        let unneeded: Vec<BrokerId> = self
            .context
            .replicas(&partition)
            .iter()
            .copied()
            .filter(|id| !assignment.replicas.contains(id))
            .collect();
        self.context.put_assignment(&partition, assignment);
        self.context.reassigning.insert(partition.clone());
        let mut tasks = Vec::new();
        let leader = self.context.leadership(&partition);
        if leader.is_some_and(|known| unneeded.contains(&known.state.leader)) {
            tasks.push(Task::Partitions {
                partitions: vec![partition.clone()],
                target: PartitionState::Online,
                strategy: OFFLINE,
            });
        }
        tasks.extend(stop_removed(&partition, &unneeded));
        tasks.push(Task::AdvanceReassignment(partition));
        self.before_others(tasks);
    }

    fn is_reassignment_complete(&self, partition: &TopicPartition) -> bool {
        self.context.partition(partition).is_some_and(|entry| {
            !entry.assignment.is_being_reassigned()
                || seeded(Bug::ConcludesReassignmentEarly)
                || entry.leadership.as_ref().is_some_and(|known| {
                    let target = entry.assignment.target();
                    target.iter().all(|id| known.state.isr.contains(id))
                })
        })
    }

    /// Those of `partitions` whose new replicas have caught up.
    pub(super) fn complete_reassignments(&mut self, partitions: Vec<TopicPartition>) {
        let complete: Vec<TopicPartition> = partitions
            .into_iter()
            .filter(|partition| {
                self.context.reassigning.contains(partition)
                    && self.is_reassignment_complete(partition)
            })
            .collect();
        for partition in &complete {
            info!(
                target: CONTROLLER,
                "{self} Target replicas have all caught up with the leader for reassigning partition {partition}"
            );
        }
        self.before_others(
            complete
                .into_iter()
                .map(Task::AdvanceReassignment)
                .collect(),
        );
    }

    pub(super) fn advance_reassignment(&mut self, partition: TopicPartition) {
        let Some(entry) = self.context.partition(&partition) else {
            return;
        };
        let adding = entry.assignment.adding.clone();
        if self.is_reassignment_complete(&partition) {
            self.before_others(vec![
                Task::Replicas {
                    replicas: replicas(&partition, &adding),
                    target: ReplicaState::Online,
                },
                Task::ConcludeReassignment(partition),
            ]);
            return;
        }
        // Replicas that are there since before a fail-over are not new any more.
        let new = replicas(&partition, &adding)
            .into_iter()
            .filter(|replica| self.context.replica_state(replica) == ReplicaState::NonExistent)
            .collect();
        self.before_others(vec![
            Task::BumpLeaderEpoch(partition),
            Task::Replicas {
                replicas: new,
                target: ReplicaState::New,
            },
            Task::Flush,
        ]);
    }

    /// The same leader and ISR under the next leader epoch: it brings the changed list of replicas.
    pub(super) fn bump_leader_epoch(&mut self, partition: TopicPartition, out: &mut Vec<Effect>) {
        let Some(known) = self.context.leadership(&partition) else {
            error!(
                target: STATE_CHANGE,
                "{} Failed to send LeaderAndIsr request with a new replica assignment for partition being reassigned {partition}: it has no state yet",
                self.sender
            );
            return;
        };
        let state = known
            .state
            .next(known.state.leader, known.state.isr.clone());
        let proposal = Proposal {
            partition,
            state,
            recipients: Vec::new(),
        };
        let ops = self.set_states([&proposal]);
        self.ask(ops, Waiting::BumpLeaderEpoch(proposal), out);
    }

    pub(super) fn on_leader_epoch_bumped(&mut self, proposal: Proposal, replies: Vec<StoreReply>) {
        let Proposal {
            partition,
            mut state,
            ..
        } = proposal;
        match replies.into_iter().next() {
            Some(StoreReply::Written { partition_epoch }) => {
                state.partition_epoch = partition_epoch;
                let assignment = self
                    .context
                    .partition(&partition)
                    .map(|entry| entry.assignment.clone())
                    .unwrap_or_default();
                info!(
                    target: STATE_CHANGE,
                    "{} Sent LeaderAndIsr request {state} with new replica assignment {assignment} for partition being reassigned {partition}",
                    self.sender
                );
                let leadership = Leadership {
                    state,
                    controller_epoch: self.context.epoch,
                };
                self.context.put_leadership(&partition, leadership);
                // A replica that may lie in a failed log dir is not made anew in another one; those
                // that are added are.
                let origin = assignment.origin();
                self.batch
                    .add_leader_and_isr(&self.context, &origin, &partition, false);
                self.batch
                    .add_leader_and_isr(&self.context, &assignment.adding, &partition, true);
            }
            Some(StoreReply::Failed(zk::Error::BadVersion { .. })) => {
                self.before_others(vec![Task::RereadToBumpLeaderEpoch(partition)]);
            }
            other => error!(
                target: STATE_CHANGE,
                "{} Failed to raise the leader epoch of partition being reassigned {partition}: {other:?}",
                self.sender
            ),
        }
    }

    /// Phase B, once the replicas that were added are online.
    pub(super) fn conclude_reassignment(&mut self, partition: TopicPartition) {
        let Some(entry) = self.context.partition(&partition) else {
            return;
        };
        let before = entry.assignment.clone();
        let target = before.target();
        let leader = entry.leadership.as_ref().map(|known| known.state.leader);
        self.context
            .put_assignment(&partition, ReplicaAssignment::of(target.clone()));
        let stays = leader.is_some_and(|leader| {
            target.contains(&leader) && self.context.is_replica_online(leader, &partition)
        });
        let mut tasks = if stays {
            vec![Task::BumpLeaderEpoch(partition.clone()), Task::Flush]
        } else {
            info!(
                target: CONTROLLER,
                "{self} Leader {leader:?} for partition {partition} being reassigned, is not in the new list of replicas {} or dead. Re-electing leader",
                join(&target)
            );
            vec![Task::Partitions {
                partitions: vec![partition.clone()],
                target: PartitionState::Online,
                strategy: ElectionStrategy::Reassign,
            }]
        };
        tasks.push(Task::DropRemovedReplicas { partition, before });
        self.before_others(tasks);
    }

    /// Phase B, once the state was written: only now is it certain that what we knew of the ISR was
    /// not of before, and nothing is deleted before it is.
    pub(super) fn drop_removed_replicas(
        &mut self,
        partition: TopicPartition,
        before: ReplicaAssignment,
    ) {
        let target = before.target();
        let Some(known) = self.context.leadership(&partition) else {
            return;
        };
        // What neither adds nor removes anything is complete whatever the ISR is.
        let caught_up = target.iter().all(|id| known.state.isr.contains(id));
        if before.is_being_reassigned() && !caught_up {
            info!(
                target: CONTROLLER,
                "{self} The ISR of partition {partition} changed while its reassignment was being completed: {}; going on with it",
                known.state
            );
            self.context.put_assignment(&partition, before);
            self.before_others(vec![Task::AdvanceReassignment(partition)]);
            return;
        }
        let mut tasks = stop_removed(&partition, &before.removing);
        tasks.push(Task::StoreReassigned { partition, target });
        self.before_others(tasks);
    }

    pub(super) fn store_reassigned(
        &mut self,
        partition: TopicPartition,
        target: Vec<BrokerId>,
        out: &mut Vec<Effect>,
    ) {
        let mut ops = self.store_assignment(&partition, ReplicaAssignment::of(target.clone()));
        let entry = (partition.clone(), Some(target));
        ops.push(StoreOp::ForgetReassignments(vec![entry]));
        self.ask(ops, Waiting::StoreReassigned(partition), out);
    }

    pub(super) fn on_reassigned_stored(
        &mut self,
        partition: TopicPartition,
        replies: &[StoreReply],
    ) {
        if let Some(StoreReply::Failed(failure)) = replies
            .iter()
            .find(|reply| matches!(reply, StoreReply::Failed(_)))
        {
            // It stays begun: the next fail-over concludes it again.
            error!(
                target: CONTROLLER,
                "{self} Error completing reassignment of partition {partition}: {failure}"
            );
            return;
        }
        info!(
            target: CONTROLLER,
            "{self} Successfully completed the reassignment of partition {partition}"
        );
        self.context.reassigning.remove(&partition);
        let topics = BTreeSet::from([partition.topic.clone()]);
        let mut tasks = vec![Task::UpdateMetadata {
            brokers: self.context.broker_ids(),
            partitions: vec![partition],
        }];
        if topics
            .iter()
            .any(|topic| self.context.is_queued_for_deletion(topic))
        {
            tasks.push(Task::ResumeDeletionOf(topics));
        }
        self.before_others(tasks);
    }
}

/// What is wrong with a list of replicas.
fn fault(target: &[BrokerId]) -> Option<String> {
    let distinct: BTreeSet<BrokerId> = target.iter().copied().collect();
    if target.is_empty() {
        Some("Empty replica list specified in partition reassignment.".to_owned())
    } else if distinct.len() != target.len() {
        Some(format!(
            "Duplicate replica ids in partition reassignment replica list: {}",
            scala_buffer(target)
        ))
    } else if target.iter().any(|id| *id < 0) {
        Some(format!(
            "Invalid broker id in replica list: {}",
            scala_buffer(target)
        ))
    } else {
        None
    }
}

/// As Scala prints a list.
fn scala_buffer(ids: &[BrokerId]) -> String {
    format!("ArrayBuffer({})", join(ids).replace(',', ", "))
}

fn replicas(partition: &TopicPartition, ids: &[BrokerId]) -> Vec<PartitionAndReplica> {
    ids.iter()
        .map(|replica| PartitionAndReplica {
            partition: partition.clone(),
            replica: *replica,
        })
        .collect()
}

/// Out of the ISR, stopped, deleted, forgotten; nobody waits for the broker to confirm.
fn stop_removed(partition: &TopicPartition, removed: &[BrokerId]) -> Vec<Task> {
    if removed.is_empty() {
        return Vec::new();
    }
    if seeded(Bug::RemovedReplicaStaysInIsr) {
        return Vec::new();
    }
    [
        ReplicaState::Offline,
        ReplicaState::DeletionStarted,
        ReplicaState::DeletionSuccessful,
        ReplicaState::NonExistent,
    ]
    .into_iter()
    .map(|target| Task::Replicas {
        replicas: replicas(partition, removed),
        target,
    })
    .collect()
}
