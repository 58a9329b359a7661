//! AlterPartition: the leader of a partition asks for another ISR (KIP-497, KIP-841), the
//! controller writes it and everybody hears of it by UpdateMetadata. [core]
//!
//! The leader epoch stays; the partition epoch grows with the write, which is what fences two
//! changes made from the same knowledge. Source: `KafkaController.tryProcessAlterPartition`.
//!
//! Beyond Kafka, as KRaft's controller does: who does not lead, or asks for an ISR without itself or
//! with brokers that are not assigned, gets INVALID_REQUEST; no honest broker asks for that.

use tracing::{error, info};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicName, TopicPartition};
use crate::zk;

use super::bug::{Bug, seeded};
use super::core::{CONTROLLER, Core, Task, Waiting};
use super::event::{Answer, Effect, IsrAnswers, IsrChange, Proposal, StoreReply, Ticket, TopicRef};
use super::state::{LeaderAndIsr, Leadership};

/// One change that passed the checks, and where its answer goes.
#[derive(Debug)]
pub(super) struct Accepted {
    pub proposal: Proposal,
    topic: usize,
    partition: usize,
}

impl Core {
    pub(super) fn alter_partition(
        &mut self,
        ticket: Ticket,
        (broker, broker_epoch): (BrokerId, i64),
        topics: Vec<(TopicRef, Vec<IsrChange>)>,
        out: &mut Vec<Effect>,
    ) {
        let known = self.context.brokers.get(&broker).map(|known| known.epoch);
        if known != Some(broker_epoch) {
            info!(
                target: CONTROLLER,
                "{self} Ignoring AlterPartition due to stale broker epoch {broker_epoch} and local broker epoch {known:?} for broker {broker}"
            );
            out.push(Effect::Answer {
                ticket,
                answer: Answer::AlterPartition(Err(ErrorCode::StaleBrokerEpoch)),
            });
            return;
        }
        let mut answers: IsrAnswers = Vec::with_capacity(topics.len());
        let mut accepted = Vec::new();
        let mut named = Vec::new();
        let mut done = Vec::new();
        for (topic, changes) in topics {
            let name = match &topic {
                TopicRef::Name(name) => Some(name.clone()),
                TopicRef::Id(id) => self.context.topic_names.get(id).cloned(),
            };
            let mut results = Vec::with_capacity(changes.len());
            for change in changes {
                let index = change.partition;
                let result = match &name {
                    None => Err(ErrorCode::UnknownTopicId),
                    Some(name) => {
                        named.push(TopicPartition::new(name.clone(), index));
                        self.check_isr_change(broker, name, change)
                            .map(|checked| match checked {
                                Checked::Already(state) => {
                                    done.push(TopicPartition::new(name.clone(), index));
                                    state
                                }
                                Checked::Write(proposal) => {
                                    let state = proposal.state.clone();
                                    accepted.push(Accepted {
                                        proposal,
                                        topic: answers.len(),
                                        partition: results.len(),
                                    });
                                    state
                                }
                            })
                    }
                };
                results.push((index, result));
            }
            answers.push((topic, results));
        }
        let ops = self.set_states(accepted.iter().map(|accepted| &accepted.proposal));
        let waiting = Waiting::AlterPartition {
            ticket,
            accepted,
            answers,
            named,
            done,
        };
        self.ask(ops, waiting, out);
    }

    /// The checks in Kafka's order.
    fn check_isr_change(
        &self,
        broker: BrokerId,
        topic: &TopicName,
        change: IsrChange,
    ) -> Result<Checked, ErrorCode> {
        let partition = TopicPartition::new(topic.clone(), change.partition);
        let entry = self
            .context
            .partition(&partition)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let current = &entry
            .leadership
            .as_ref()
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
            .state;
        let wanted = LeaderAndIsr {
            leader: broker,
            leader_epoch: change.leader_epoch,
            isr: change.isr,
            recovering: change.recovering,
            partition_epoch: change.partition_epoch,
        };
        if wanted.partition_epoch > current.partition_epoch
            || wanted.leader_epoch > current.leader_epoch
        {
            // The leader knows more than we: another controller is active, let it look for that.
            return Err(ErrorCode::NotController);
        }
        if wanted.leader_epoch < current.leader_epoch {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        let same = LeaderAndIsr {
            partition_epoch: current.partition_epoch,
            ..wanted.clone()
        };
        if same == *current {
            // The answer to the first attempt was lost.
            return Ok(Checked::Already(same));
        }
        if wanted.partition_epoch < current.partition_epoch {
            return Err(ErrorCode::InvalidUpdateVersion);
        }
        let replicas = &entry.assignment.replicas;
        let refused = if seeded(Bug::AnybodyAltersIsr) {
            None
        } else if wanted.recovering && wanted.isr.len() > 1 {
            Some("the leader is recovering and the ISR is greater than 1")
        } else if wanted.recovering && !current.recovering {
            Some("the leader recovery state cannot change from RECOVERED to RECOVERING")
        } else if current.leader != broker || !wanted.isr.contains(&broker) {
            Some("it does not lead the partition, or leaves itself out of the ISR")
        } else if wanted.isr.iter().any(|id| !replicas.contains(id)) {
            Some("the ISR has a broker that holds no replica")
        } else {
            None
        };
        if let Some(reason) = refused {
            info!(
                target: CONTROLLER,
                "{self} Rejecting AlterPartition from node {broker} for {partition} because {reason}: {wanted}"
            );
            return Err(ErrorCode::InvalidRequest);
        }
        let ineligible: Vec<BrokerId> = wanted
            .isr
            .iter()
            .copied()
            .filter(|id| !self.context.is_live(*id))
            .collect();
        if !ineligible.is_empty() {
            info!(
                target: CONTROLLER,
                "{self} Rejecting AlterPartition request from node {broker} for {partition} because it specified ineligible replicas {ineligible:?} in the new ISR {:?}.",
                wanted.isr
            );
            return Err(ErrorCode::IneligibleReplica);
        }
        Ok(Checked::Write(Proposal {
            partition,
            state: wanted,
            recipients: Vec::new(),
        }))
    }

    pub(super) fn on_isrs_written(
        &mut self,
        ticket: Ticket,
        accepted: Vec<Accepted>,
        mut answers: IsrAnswers,
        (named, mut done): (Vec<TopicPartition>, Vec<TopicPartition>),
        replies: Vec<StoreReply>,
        out: &mut Vec<Effect>,
    ) {
        for (accepted, reply) in accepted.into_iter().zip(replies) {
            let Proposal {
                partition,
                mut state,
                ..
            } = accepted.proposal;
            let result = match reply {
                StoreReply::Written { partition_epoch } => {
                    state.partition_epoch = partition_epoch;
                    let leadership = Leadership {
                        state: state.clone(),
                        controller_epoch: self.context.epoch,
                    };
                    self.context.put_leadership(&partition, leadership);
                    done.push(partition);
                    Ok(state)
                }
                StoreReply::Failed(zk::Error::BadVersion { .. }) => {
                    info!(
                        target: CONTROLLER,
                        "{self} Failed to update ISR to {state} for partition {partition}, bad ZK version."
                    );
                    Err(ErrorCode::InvalidUpdateVersion)
                }
                other => {
                    error!(
                        target: CONTROLLER,
                        "{self} Failed to update ISR for partition {partition}: {other:?}"
                    );
                    Err(ErrorCode::UnknownServerError)
                }
            };
            if let Some((_, answer)) = answers
                .get_mut(accepted.topic)
                .and_then(|(_, results)| results.get_mut(accepted.partition))
            {
                *answer = result;
            }
        }
        if !seeded(Bug::IsrChangeIsNotTold) {
            self.batch
                .add_update_metadata(self.context.broker_ids(), named);
        }
        out.push(Effect::Answer {
            ticket,
            answer: Answer::AlterPartition(Ok(answers)),
        });
        self.before_others(vec![Task::Flush, Task::CompleteReassignments(done)]);
    }
}

enum Checked {
    /// As it is already; the state with its present partition epoch.
    Already(LeaderAndIsr),
    Write(Proposal),
}
