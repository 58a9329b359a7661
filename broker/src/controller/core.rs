//! KafkaController: what each event means, as a sequence of tasks for the state machines. Core.
//!
//! An event puts tasks into a queue; tasks are worked off in order and may put others before the
//! rest. A task that needs the store pushes [`Effect::Store`] and leaves a [`Waiting`]; the next
//! event must then be the replies. So the machines read top-down as in Kafka, where each of these
//! steps blocks the controller's thread, and yet the core does no I/O.
//!
//! Invariants:
//! 1. Requests of a task are flushed only after what they say is in the store.
//! 2. Between two events no task is left and no request unsent.
//!
//! Source: `KafkaController.scala`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use kafka_protocol::messages::LeaderAndIsrResponse;
use tracing::{debug, error, info, trace, warn};

use crate::error::ErrorCode;
use crate::types::{BrokerId, TopicName, TopicPartition};

use super::alter_partition::Accepted;
use super::batch::{RequestBatch, Sender};
use super::bug::{Bug, seeded};
use super::election::ElectionStrategy;
use super::event::{
    Answer, ByPartition, Effect, Event, IsrAnswers, Proposal, Question, Snapshot, StoreOp,
    StoreReply, Ticket,
};
use super::state::{
    ControllerContext, Leadership, LiveBroker, PartitionAndReplica, PartitionState,
    ReplicaAssignment, ReplicaState, TopicAssignment,
};

pub(super) const CONTROLLER: &str = "kafka.controller.KafkaController";

/// What the core needs of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub controller_id: BrokerId,
    /// `inter.broker.listener.name` or its default.
    pub inter_broker_listener: String,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `unclean.leader.election.enable` of the broker, the default of topics.
    pub unclean_leader_election_enable: bool,
    /// `leader.imbalance.per.broker.percentage`.
    pub leader_imbalance_per_broker_percentage: i32,
}

/// A step of the work that an event asks for.
#[derive(Debug)]
pub(super) enum Task {
    Partitions {
        partitions: Vec<TopicPartition>,
        target: PartitionState,
        strategy: ElectionStrategy,
    },
    /// New and offline partitions, of one topic or of all, to Online.
    TriggerOnline(Option<TopicName>),
    Initialize(Vec<TopicPartition>),
    Elect {
        partitions: Vec<TopicPartition>,
        strategy: ElectionStrategy,
    },
    RereadToElect {
        partitions: Vec<TopicPartition>,
        strategy: ElectionStrategy,
    },
    Replicas {
        replicas: Vec<PartitionAndReplica>,
        target: ReplicaState,
    },
    RereadToTakeOffline {
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
    },
    /// Replicas of one broker to Offline.
    TakeOffline {
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
    },
    UpdateMetadata {
        brokers: Vec<BrokerId>,
        partitions: Vec<TopicPartition>,
    },
    /// Tell all brokers of the others, unless an election of this event has told them.
    UpdateMetadataUnlessElected,
    Flush,
    ResumeDeletions,
    RetryDeletion(BTreeSet<TopicName>),
    CompleteDeletion(Vec<TopicName>),
    BeginDeletion(BTreeSet<TopicName>),
    DeleteReplicas(BTreeSet<TopicName>),
    FailReplicaDeletion(Vec<PartitionAndReplica>),
    ResumeDeletionOf(BTreeSet<TopicName>),
    AddBrokers(Vec<LiveBroker>),
    RemoveBrokers(Vec<BrokerId>),
    StartBrokers(Vec<BrokerId>),
    FailBrokers(Vec<BrokerId>),
    Ready,
    StopReplicas {
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
    },
    AnswerControlledShutdown {
        ticket: Ticket,
        broker: BrokerId,
    },
    AnswerElections {
        ticket: Ticket,
        strategy: ElectionStrategy,
        electable: Vec<TopicPartition>,
        /// Of those that need no election.
        results: ByPartition<BrokerId>,
    },
    ElectPreferred(Vec<TopicPartition>),
    ReassignByZnode(Vec<(TopicPartition, Vec<BrokerId>)>),
    /// All that were begun but for these.
    ResumeReassignmentsBut(BTreeSet<TopicPartition>),
    /// Those that lead to one of these brokers.
    ResumeReassignmentsTo(Vec<BrokerId>),
    Reassign {
        partition: TopicPartition,
        assignment: ReplicaAssignment,
    },
    AdvanceReassignment(TopicPartition),
    /// Those of them that are being reassigned and have caught up.
    CompleteReassignments(Vec<TopicPartition>),
    BumpLeaderEpoch(TopicPartition),
    RereadToBumpLeaderEpoch(TopicPartition),
    ConcludeReassignment(TopicPartition),
    DropRemovedReplicas {
        partition: TopicPartition,
        /// With what is removed still in it.
        before: ReplicaAssignment,
    },
    StoreReassigned {
        partition: TopicPartition,
        target: Vec<BrokerId>,
    },
    AnswerReassignments {
        ticket: Ticket,
        results: ByPartition<()>,
    },
    /// Of interest only when it fails.
    Store {
        ops: Vec<StoreOp>,
        what: &'static str,
    },
}

/// What a task does with the replies it waits for.
#[derive(Debug)]
pub(super) enum Waiting {
    Initialize {
        /// How many topic-level operations come first.
        topics: usize,
        partitions: Vec<(TopicPartition, Leadership)>,
    },
    UncleanConfig {
        partitions: Vec<TopicPartition>,
        topics: Vec<TopicName>,
    },
    Elect {
        proposals: Vec<Proposal>,
        strategy: ElectionStrategy,
    },
    RereadToElect {
        partitions: Vec<TopicPartition>,
        strategy: ElectionStrategy,
    },
    TakeOffline {
        broker: BrokerId,
        proposals: Vec<Proposal>,
    },
    RereadToTakeOffline {
        broker: BrokerId,
        partitions: Vec<TopicPartition>,
    },
    CompleteDeletion(Vec<TopicName>),
    /// Only failures are of interest.
    Log(&'static str),
    AlterPartition {
        ticket: Ticket,
        accepted: Vec<Accepted>,
        answers: IsrAnswers,
        /// All partitions of the request.
        named: Vec<TopicPartition>,
        /// Those that are as the leader wants them.
        done: Vec<TopicPartition>,
    },
    ProducerIds(Ticket),
    IsrChanged(Vec<TopicPartition>),
    Reassign {
        partition: TopicPartition,
        assignment: ReplicaAssignment,
    },
    BumpLeaderEpoch(Proposal),
    RereadToBumpLeaderEpoch(TopicPartition),
    StoreReassigned(TopicPartition),
}

/// The active controller. One per term of office.
#[derive(Debug)]
pub struct Core {
    pub(super) settings: Settings,
    pub(super) context: ControllerContext,
    pub(super) batch: RequestBatch,
    pub(super) sender: Sender,
    tasks: VecDeque<Task>,
    pub(super) waiting: Option<Waiting>,
    /// Leaders elected in the course of the current event.
    pub(super) elected: usize,
    /// Who they are, while somebody waits to hear that.
    pub(super) elections: Option<BTreeMap<TopicPartition, BrokerId>>,
    /// Of the current event: the store did not take them.
    pub(super) failed_reassignments: BTreeSet<TopicPartition>,
}

impl Core {
    pub fn new(settings: Settings) -> Self {
        let sender = Sender {
            controller_id: settings.controller_id,
            epoch: 0,
            inter_broker_listener: settings.inter_broker_listener.clone(),
        };
        Self {
            settings,
            context: ControllerContext::default(),
            batch: RequestBatch::default(),
            sender,
            tasks: VecDeque::new(),
            waiting: None,
            elected: 0,
            elections: None,
            failed_reassignments: BTreeSet::new(),
        }
    }

    pub fn context(&self) -> &ControllerContext {
        &self.context
    }

    /// True while the core waits for [`Event::StoreReplies`].
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// A changed default of `unclean.leader.election.enable`; trigger elections with the event.
    pub fn set_unclean_leader_election_enable(&mut self, enable: bool) {
        self.settings.unclean_leader_election_enable = enable;
    }

    /// Feeds one event and works until it is done or waits for the store.
    pub fn step(&mut self, event: Event, out: &mut Vec<Effect>) {
        if let Event::StoreReplies(replies) = event {
            if let Some(waiting) = self.waiting.take() {
                self.resume(waiting, replies, out);
            }
        } else {
            assert!(
                self.waiting.is_none() && self.tasks.is_empty(),
                "one event is worked off before the next"
            );
            self.elected = 0;
            self.begin(event, out);
        }
        while self.waiting.is_none() {
            let Some(task) = self.tasks.pop_front() else {
                break;
            };
            self.perform(task, out);
        }
    }

    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push_back(task);
    }

    /// Puts tasks, in their order, before all others.
    pub(super) fn before_others(&mut self, tasks: Vec<Task>) {
        for task in tasks.into_iter().rev() {
            self.tasks.push_front(task);
        }
    }

    /// Asks the store; the replies arrive at [`Self::resume`] with `waiting`.
    pub(super) fn ask(&mut self, ops: Vec<StoreOp>, waiting: Waiting, out: &mut Vec<Effect>) {
        if ops.is_empty() {
            self.resume(waiting, Vec::new(), out);
            return;
        }
        self.waiting = Some(waiting);
        out.push(Effect::Store(ops));
    }

    fn flush(&mut self, out: &mut Vec<Effect>) {
        self.batch.flush(&self.context, &self.sender, out);
    }

    fn begin(&mut self, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Elected { epoch, snapshot } => self.on_elected(epoch, snapshot, out),
            Event::StoreReplies(_) => {}
            Event::BrokersChanged(brokers) => self.on_brokers_changed(brokers),
            Event::BrokerModified(broker) => self.on_broker_modified(broker),
            Event::TopicsChanged { all, new } => self.on_topics_changed(&all, new, out),
            Event::TopicModified { topic, created } => {
                self.on_topic_modified(topic, &created, out);
            }
            Event::DeletionsChanged(topics) => self.on_deletions_changed(topics, out),
            Event::LogDirFailure(brokers) => {
                info!(
                    target: CONTROLLER,
                    "{self} Handling log directory failure for brokers {}",
                    join(&brokers)
                );
                let replicas = self.context.replicas_on(&brokers);
                self.push(Task::Replicas {
                    replicas,
                    target: ReplicaState::Online,
                });
            }
            Event::LeaderAndIsrAnswered { broker, response } => {
                self.on_leader_and_isr_answered(broker, &response);
            }
            Event::UpdateMetadataAnswered { broker, response } => {
                if response.error_code != 0 {
                    error!(
                        target: "state.change.logger",
                        "{} Received error {} in UpdateMetadata response from broker {broker}",
                        self.sender,
                        ErrorCode::from_value(response.error_code)
                    );
                }
            }
            Event::StopReplicaAnswered {
                broker,
                deleted,
                response,
            } => self.on_stop_replica_answered(broker, &deleted, &response),
            Event::AutoLeaderRebalance => self.on_auto_leader_rebalance(),
            Event::UncleanElectionEnabled(topic) => {
                match &topic {
                    Some(topic) => info!(
                        target: CONTROLLER,
                        "{self} Unclean leader election has been enabled for topic {topic}"
                    ),
                    None => info!(
                        target: CONTROLLER,
                        "{self} Unclean leader election has been enabled by default"
                    ),
                }
                self.push(Task::TriggerOnline(topic));
            }
            Event::ReassignmentsRequested(asked) => self.push(Task::ReassignByZnode(asked)),
            Event::PreferredElectionsRequested(asked) => self.push(Task::ElectPreferred(asked)),
            Event::IsrChanged(partitions) => {
                let known: Vec<TopicPartition> = partitions
                    .into_iter()
                    .filter(|partition| self.context.partition(partition).is_some())
                    .collect();
                let ops = known.iter().cloned().map(StoreOp::GetState).collect();
                self.ask(ops, Waiting::IsrChanged(known), out);
            }
            Event::Asked { ticket, question } => self.on_asked(ticket, question, out),
        }
    }

    fn on_asked(&mut self, ticket: Ticket, question: Question, out: &mut Vec<Effect>) {
        let answer = match question {
            Question::ControlledShutdown {
                broker,
                broker_epoch,
            } => match self.begin_controlled_shutdown(ticket, broker, broker_epoch) {
                Ok(()) => return,
                Err(code) => Answer::ControlledShutdown(Err(code)),
            },
            Question::AlterPartition {
                broker,
                broker_epoch,
                topics,
            } => return self.alter_partition(ticket, (broker, broker_epoch), topics, out),
            Question::AllocateProducerIds {
                broker,
                broker_epoch,
            } => match self.context.brokers.get(&broker) {
                Some(known) if known.epoch == broker_epoch => {
                    let ops = vec![StoreOp::ClaimProducerIds(broker)];
                    return self.ask(ops, Waiting::ProducerIds(ticket), out);
                }
                known => {
                    warn!(
                        target: CONTROLLER,
                        "{self} Ignoring AllocateProducerIds due to unknown or stale broker epoch {broker_epoch} for broker {broker}"
                    );
                    Answer::AllocateProducerIds(Err(match known {
                        None => ErrorCode::BrokerIdNotRegistered,
                        Some(_) => ErrorCode::StaleBrokerEpoch,
                    }))
                }
            },
            Question::ElectLeaders {
                unclean,
                partitions,
            } => return self.begin_elections(ticket, unclean, partitions),
            Question::Reassign(asked) => return self.begin_reassignments(ticket, asked),
            Question::ListReassignments(asked) => self.list_reassignments(asked),
        };
        out.push(Effect::Answer { ticket, answer });
    }

    fn perform(&mut self, task: Task, out: &mut Vec<Effect>) {
        match task {
            Task::Partitions {
                partitions,
                target,
                strategy,
            } => self.change_partitions(partitions, target, strategy),
            Task::TriggerOnline(topic) => self.trigger_online(topic.as_ref()),
            Task::Initialize(partitions) => self.initialize(partitions, out),
            Task::Elect {
                partitions,
                strategy,
            } => self.elect(partitions, strategy, out),
            Task::Replicas { replicas, target } => self.change_replicas(replicas, target),
            Task::TakeOffline { broker, partitions } => self.take_offline(broker, partitions, out),
            Task::RereadToElect {
                partitions,
                strategy,
            } => {
                let ops = partitions.iter().cloned().map(StoreOp::GetState).collect();
                let waiting = Waiting::RereadToElect {
                    partitions,
                    strategy,
                };
                self.ask(ops, waiting, out);
            }
            Task::RereadToTakeOffline { broker, partitions } => {
                let ops = partitions.iter().cloned().map(StoreOp::GetState).collect();
                let waiting = Waiting::RereadToTakeOffline { broker, partitions };
                self.ask(ops, waiting, out);
            }
            Task::UpdateMetadata {
                brokers,
                partitions,
            } => {
                self.batch.add_update_metadata(brokers, partitions);
                self.flush(out);
            }
            Task::UpdateMetadataUnlessElected => {
                if self.elected == 0 {
                    self.batch
                        .add_update_metadata(self.context.broker_ids(), []);
                    self.flush(out);
                }
            }
            Task::Flush => self.flush(out),
            Task::ResumeDeletions => self.resume_deletions(),
            Task::RetryDeletion(topics) => self.retry_deletion(&topics),
            Task::CompleteDeletion(topics) => self.complete_deletion(topics, out),
            Task::BeginDeletion(topics) => self.begin_deletion(topics),
            Task::DeleteReplicas(topics) => self.delete_replicas(&topics),
            Task::FailReplicaDeletion(replicas) => self.fail_replica_deletion(replicas),
            Task::ResumeDeletionOf(topics) => self.resume_deletion_of(&topics),
            Task::AddBrokers(brokers) => {
                for broker in brokers {
                    out.push(Effect::AddBroker(broker.clone()));
                    self.context.brokers.insert(broker.info.id, broker);
                }
            }
            Task::RemoveBrokers(brokers) => {
                for broker in brokers {
                    out.push(Effect::RemoveBroker(broker));
                    self.context.brokers.remove(&broker);
                }
            }
            Task::StartBrokers(brokers) => self.on_broker_startup(&brokers),
            Task::FailBrokers(brokers) => self.on_broker_failure(&brokers),
            Task::Ready => info!(
                target: CONTROLLER,
                "{self} Ready to serve as the new controller with epoch {}",
                self.context.epoch
            ),
            Task::StopReplicas { broker, partitions } => {
                for partition in &partitions {
                    self.batch
                        .add_stop_replica(&self.context, broker, partition, false);
                }
                self.flush(out);
            }
            Task::AnswerControlledShutdown { ticket, broker } => {
                let answer = self.controlled_shutdown_answer(broker);
                out.push(Effect::Answer { ticket, answer });
            }
            Task::AnswerElections {
                ticket,
                strategy,
                electable,
                results,
            } => {
                let answer = self.elections_answer(strategy, electable, results);
                out.push(Effect::Answer { ticket, answer });
            }
            Task::ElectPreferred(asked) => self.elect_preferred(&asked),
            Task::ReassignByZnode(asked) => self.reassign_by_znode(asked),
            Task::ResumeReassignmentsBut(others) => {
                self.resume_reassignments(|partition, _| !others.contains(partition));
            }
            Task::ResumeReassignmentsTo(brokers) => self.resume_reassignments(|_, assignment| {
                assignment.target().iter().any(|id| brokers.contains(id))
            }),
            Task::Reassign {
                partition,
                assignment,
            } => self.reassign(partition, assignment, out),
            Task::AdvanceReassignment(partition) => self.advance_reassignment(partition),
            Task::CompleteReassignments(partitions) => self.complete_reassignments(partitions),
            Task::BumpLeaderEpoch(partition) => self.bump_leader_epoch(partition, out),
            Task::RereadToBumpLeaderEpoch(partition) => {
                let ops = vec![StoreOp::GetState(partition.clone())];
                self.ask(ops, Waiting::RereadToBumpLeaderEpoch(partition), out);
            }
            Task::ConcludeReassignment(partition) => self.conclude_reassignment(partition),
            Task::DropRemovedReplicas { partition, before } => {
                self.drop_removed_replicas(partition, before);
            }
            Task::StoreReassigned { partition, target } => {
                self.store_reassigned(partition, target, out);
            }
            Task::AnswerReassignments { ticket, results } => {
                let answer = self.reassignments_answer(results);
                out.push(Effect::Answer { ticket, answer });
            }
            Task::Store { ops, what } => self.ask(ops, Waiting::Log(what), out),
        }
    }

    fn resume(&mut self, waiting: Waiting, replies: Vec<StoreReply>, out: &mut Vec<Effect>) {
        match waiting {
            Waiting::Initialize { topics, partitions } => {
                self.on_initialized(topics, partitions, replies);
            }
            Waiting::UncleanConfig { partitions, topics } => {
                self.on_unclean_config(partitions, &topics, replies);
            }
            Waiting::Elect {
                proposals,
                strategy,
            } => self.on_elections_written(proposals, strategy, replies),
            Waiting::RereadToElect {
                partitions,
                strategy,
            } => {
                let partitions = self.on_reread(partitions, replies);
                self.before_others(vec![Task::Elect {
                    partitions,
                    strategy,
                }]);
            }
            Waiting::TakeOffline { broker, proposals } => {
                self.on_taken_offline(broker, proposals, replies);
            }
            Waiting::RereadToTakeOffline { broker, partitions } => {
                let partitions = self.on_reread(partitions, replies);
                self.before_others(vec![Task::TakeOffline { broker, partitions }]);
            }
            Waiting::CompleteDeletion(topics) => self.on_deletion_completed(topics, replies),
            Waiting::Log(what) => {
                for reply in replies {
                    if let StoreReply::Failed(error) = reply {
                        error!(target: CONTROLLER, "{self} Error while {what}: {error}");
                    }
                }
            }
            Waiting::AlterPartition {
                ticket,
                accepted,
                answers,
                named,
                done,
            } => self.on_isrs_written(ticket, accepted, answers, (named, done), replies, out),
            Waiting::ProducerIds(ticket) => {
                let result = match replies.into_iter().next() {
                    Some(StoreReply::ProducerIds(first)) => Ok(first),
                    other => {
                        error!(target: CONTROLLER, "{self} No block of producer ids: {other:?}");
                        Err(ErrorCode::UnknownServerError)
                    }
                };
                let answer = Answer::AllocateProducerIds(result);
                out.push(Effect::Answer { ticket, answer });
            }
            Waiting::IsrChanged(partitions) => {
                let known = self.on_reread(partitions, replies);
                self.before_others(vec![
                    Task::UpdateMetadata {
                        brokers: self.context.broker_ids(),
                        partitions: known.clone(),
                    },
                    Task::CompleteReassignments(known),
                ]);
            }
            Waiting::Reassign {
                partition,
                assignment,
            } => self.on_reassignment_stored(partition, assignment, &replies),
            Waiting::BumpLeaderEpoch(proposal) => self.on_leader_epoch_bumped(proposal, replies),
            Waiting::RereadToBumpLeaderEpoch(partition) => {
                let tasks = self
                    .on_reread(vec![partition], replies)
                    .into_iter()
                    .map(Task::BumpLeaderEpoch)
                    .collect();
                self.before_others(tasks);
            }
            Waiting::StoreReassigned(partition) => self.on_reassigned_stored(partition, &replies),
        }
    }

    /// The store holds a state we do not know: takes it over. Partitions that another controller
    /// has written under a later epoch, or that are gone, are left out.
    fn on_reread(
        &mut self,
        partitions: Vec<TopicPartition>,
        replies: Vec<StoreReply>,
    ) -> Vec<TopicPartition> {
        let mut known = Vec::with_capacity(partitions.len());
        for (partition, reply) in partitions.into_iter().zip(replies) {
            match reply {
                StoreReply::State(Some(found)) if found.controller_epoch <= self.context.epoch => {
                    self.context.load_leadership(&partition, found);
                    known.push(partition);
                }
                StoreReply::State(Some(found)) => error!(
                    target: "state.change.logger",
                    "{} Aborted state change of partition {partition} since the LeaderAndIsr path was already written by another controller with epoch {}",
                    self.sender,
                    found.controller_epoch
                ),
                _ => error!(
                    target: "state.change.logger",
                    "{} LeaderAndIsr information doesn't exist for partition {partition}",
                    self.sender
                ),
            }
        }
        known
    }

    /// Fail-over. Brokers hear of live brokers before the machines start, because they need the
    /// leaders' endpoints to follow LeaderAndIsr.
    fn on_elected(&mut self, epoch: i32, snapshot: Snapshot, out: &mut Vec<Effect>) {
        let context = &mut self.context;
        context.epoch = epoch;
        self.sender.epoch = epoch;
        for broker in snapshot.brokers {
            out.push(Effect::AddBroker(broker.clone()));
            context.brokers.insert(broker.info.id, broker);
        }
        for topic in &snapshot.topics {
            context.add_topic(topic);
            for (partition, assignment) in &topic.partitions {
                if assignment.is_being_reassigned() {
                    let partition = TopicPartition::new(topic.name.clone(), *partition);
                    context.reassigning.insert(partition);
                }
            }
        }
        for (partition, leadership) in snapshot.leadership {
            context.load_leadership(&partition, leadership);
        }
        info!(
            target: CONTROLLER,
            "{self} Currently active brokers in the cluster: {}",
            join(self.context.broker_ids())
        );
        info!(
            target: CONTROLLER,
            "{self} Currently shutting brokers in the cluster: {}",
            join(&self.context.shutting_down)
        );
        info!(
            target: CONTROLLER,
            "{self} Current list of topics in the cluster: {}",
            join(self.context.topics.keys())
        );
        self.start_deletions(snapshot.deletions, out);
        let brokers = self.context.broker_ids();
        self.push(Task::UpdateMetadata {
            brokers,
            partitions: Vec::new(),
        });
        self.start_replicas();
        self.start_partitions();
        self.stop_strays();
        self.push(Task::TriggerOnline(None));
        self.push(Task::Ready);
        let by_znode = snapshot
            .reassignments
            .iter()
            .map(|(partition, _)| partition.clone())
            .collect();
        self.push(Task::ReassignByZnode(snapshot.reassignments));
        self.push(Task::ResumeReassignmentsBut(by_znode));
        self.push(Task::ResumeDeletions);
        if let Some(asked) = snapshot.preferred_elections {
            self.push(Task::ElectPreferred(asked));
        }
    }

    fn on_brokers_changed(&mut self, registered: Vec<LiveBroker>) {
        let registered: HashMap<BrokerId, LiveBroker> = registered
            .into_iter()
            .map(|broker| (broker.info.id, broker))
            .collect();
        let mut new = Vec::new();
        let mut bounced = Vec::new();
        for broker in registered.values() {
            match self.context.brokers.get(&broker.info.id) {
                None => new.push(broker.clone()),
                Some(_) if seeded(Bug::OverlooksBouncedBroker) => {}
                Some(known) if broker.epoch > known.epoch => bounced.push(broker.clone()),
                Some(_) => {}
            }
        }
        new.sort_by_key(|broker| broker.info.id);
        bounced.sort_by_key(|broker| broker.info.id);
        let dead: Vec<BrokerId> = self
            .context
            .brokers
            .keys()
            .copied()
            .filter(|id| !registered.contains_key(id))
            .collect();
        let new_ids = broker_ids(&new);
        let bounced_ids = broker_ids(&bounced);
        let mut live: Vec<BrokerId> = registered.keys().copied().collect();
        live.sort_unstable();
        info!(
            target: CONTROLLER,
            "{self} Newly added brokers: {}, deleted brokers: {}, bounced brokers: {}, all live brokers: {}",
            join(&new_ids),
            join(&dead),
            join(&bounced_ids),
            join(&live)
        );
        if !new.is_empty() {
            self.push(Task::AddBrokers(new));
            self.push(Task::StartBrokers(new_ids));
        }
        if !bounced.is_empty() {
            self.push(Task::RemoveBrokers(bounced_ids.clone()));
            self.push(Task::FailBrokers(bounced_ids.clone()));
            self.push(Task::AddBrokers(bounced));
            self.push(Task::StartBrokers(bounced_ids));
        }
        if !dead.is_empty() {
            self.push(Task::RemoveBrokers(dead.clone()));
            self.push(Task::FailBrokers(dead));
        }
    }

    fn on_broker_startup(&mut self, started: &[BrokerId]) {
        info!(
            target: CONTROLLER,
            "{self} New broker startup callback for {}",
            join(started)
        );
        for broker in started {
            self.context.offline_dirs.remove(broker);
        }
        let others = self
            .context
            .broker_ids()
            .into_iter()
            .filter(|id| !started.contains(id))
            .collect();
        let mut replicas = self.context.replicas_on(started);
        if seeded(Bug::NewBrokerIsNotTold) {
            replicas.clear();
        }
        let to_resume: BTreeSet<TopicName> = replicas
            .iter()
            .map(|replica| &replica.partition.topic)
            .filter(|topic| self.context.is_queued_for_deletion(topic))
            .cloned()
            .collect();
        let partitions = self.context.partitions_with_leadership();
        let mut tasks = vec![
            Task::UpdateMetadata {
                brokers: others,
                partitions: Vec::new(),
            },
            Task::UpdateMetadata {
                brokers: started.to_vec(),
                partitions,
            },
            Task::Replicas {
                replicas,
                target: ReplicaState::Online,
            },
            Task::TriggerOnline(None),
            Task::ResumeReassignmentsTo(started.to_vec()),
        ];
        if !to_resume.is_empty() && !seeded(Bug::DeletionStaysHalted) {
            tasks.push(Task::ResumeDeletionOf(to_resume));
        }
        self.before_others(tasks);
    }

    fn on_broker_failure(&mut self, dead: &[BrokerId]) {
        info!(
            target: CONTROLLER,
            "{self} Broker failure callback for {}",
            join(dead)
        );
        for broker in dead {
            self.context.offline_dirs.remove(broker);
            if !seeded(Bug::ShuttingDownForEver) && self.context.shutting_down.remove(broker) {
                info!(
                    target: CONTROLLER,
                    "{self} Removed {broker} from list of shutting down brokers."
                );
            }
        }
        let replicas = self.context.replicas_on(dead);
        self.on_replicas_become_offline(replicas);
    }

    fn on_replicas_become_offline(&mut self, replicas: Vec<PartitionAndReplica>) {
        let (for_deletion, others): (Vec<_>, Vec<_>) = replicas.into_iter().partition(|replica| {
            self.context
                .is_queued_for_deletion(&replica.partition.topic)
        });
        let mut tasks = vec![
            Task::Partitions {
                partitions: self.context.partitions_with_offline_leader(),
                target: PartitionState::Offline,
                strategy: OFFLINE,
            },
            Task::TriggerOnline(None),
        ];
        let nothing_else = others.is_empty();
        tasks.push(Task::Replicas {
            replicas: others,
            target: ReplicaState::Offline,
        });
        if !for_deletion.is_empty() {
            tasks.push(Task::FailReplicaDeletion(for_deletion));
        }
        if nothing_else {
            tasks.push(Task::UpdateMetadataUnlessElected);
        }
        self.before_others(tasks);
    }

    fn on_broker_modified(&mut self, broker: LiveBroker) {
        let Some(known) = self.context.brokers.get_mut(&broker.info.id) else {
            return;
        };
        if known.info.endpoints == broker.info.endpoints {
            return;
        }
        let id = broker.info.id;
        let before = std::mem::replace(&mut known.info, broker.info);
        info!(
            target: CONTROLLER,
            "{self} Updated broker metadata: {before:?} -> {:?}",
            self.context.brokers.get(&id).map(|broker| &broker.info)
        );
        info!(target: CONTROLLER, "{self} Broker info update callback for {id}");
        let brokers = self.context.broker_ids();
        self.push(Task::UpdateMetadata {
            brokers,
            partitions: Vec::new(),
        });
    }

    fn on_topics_changed(
        &mut self,
        all: &[TopicName],
        new: Vec<TopicAssignment>,
        out: &mut Vec<Effect>,
    ) {
        let existing: HashSet<&TopicName> = all.iter().collect();
        let deleted: Vec<TopicName> = self
            .context
            .topics
            .keys()
            .filter(|topic| !existing.contains(topic))
            .cloned()
            .collect();
        for topic in &deleted {
            self.context.remove_topic(topic);
            out.push(Effect::ForgetTopic(topic.clone()));
        }
        let mut created = Vec::new();
        for topic in &new {
            if self.context.topics.contains_key(&topic.name) {
                continue;
            }
            self.context.add_topic(topic);
            created.extend(
                topic
                    .partitions
                    .keys()
                    .map(|partition| TopicPartition::new(topic.name.clone(), *partition)),
            );
        }
        info!(
            target: CONTROLLER,
            "{self} New topics: [{}], deleted topics: [{}], new partition replica assignment [{}]",
            join(new.iter().map(|topic| &topic.name)),
            join(&deleted),
            join(&created)
        );
        self.on_new_partitions(created);
    }

    fn on_topic_modified(
        &mut self,
        topic: TopicAssignment,
        created: &[i32],
        out: &mut Vec<Effect>,
    ) {
        let Some(known) = self.context.topics.get(&topic.name) else {
            return;
        };
        let added: Vec<TopicPartition> = topic
            .partitions
            .keys()
            .filter(|partition| !known.partitions.contains_key(partition))
            .map(|partition| TopicPartition::new(topic.name.clone(), *partition))
            .collect();
        if self.context.is_queued_for_deletion(&topic.name) {
            if added.is_empty() {
                info!(
                    target: CONTROLLER,
                    "{self} Ignoring partition change during topic deletion as no new partitions are added"
                );
                return;
            }
            warn!(
                target: CONTROLLER,
                "{self} Skipping adding partitions {} for topic {} since it is currently being deleted",
                join(added.iter().map(|partition| partition.partition)),
                topic.name
            );
            info!(
                target: CONTROLLER,
                "{self} Restoring the partition replica assignment for topic {}",
                topic.name
            );
            let partitions = known
                .partitions
                .iter()
                .filter(|(partition, _)| created.contains(partition))
                .map(|(partition, entry)| (*partition, entry.assignment.clone()))
                .collect();
            let restored = TopicAssignment {
                id: known.id,
                name: topic.name,
                partitions,
            };
            self.ask(
                vec![StoreOp::SetTopic(restored)],
                Waiting::Log("restoring a topic's assignment"),
                out,
            );
            return;
        }
        if !added.is_empty() {
            info!(
                target: CONTROLLER,
                "{self} New partitions to be added {}",
                join(&added)
            );
            self.context.add_topic(&topic);
            self.on_new_partitions(added);
        }
    }

    fn on_new_partitions(&mut self, partitions: Vec<TopicPartition>) {
        if partitions.is_empty() {
            return;
        }
        info!(
            target: CONTROLLER,
            "{self} New partition creation callback for {}",
            join(&partitions)
        );
        let replicas: Vec<PartitionAndReplica> = partitions
            .iter()
            .flat_map(|partition| self.context.replicas_of_partition(partition))
            .collect();
        self.push(Task::Partitions {
            partitions: partitions.clone(),
            target: PartitionState::New,
            strategy: OFFLINE,
        });
        self.push(Task::Replicas {
            replicas: replicas.clone(),
            target: ReplicaState::New,
        });
        self.push(Task::Partitions {
            partitions,
            target: PartitionState::Online,
            strategy: OFFLINE,
        });
        self.push(Task::Replicas {
            replicas,
            target: ReplicaState::Online,
        });
    }

    /// KAFKA_STORAGE_ERROR of a partition says that the replica's log dir has failed.
    fn on_leader_and_isr_answered(&mut self, broker: BrokerId, response: &LeaderAndIsrResponse) {
        if response.error_code != 0 {
            error!(
                target: "state.change.logger",
                "{} Received error {} in LeaderAndIsr response from broker {broker}",
                self.sender,
                ErrorCode::from_value(response.error_code)
            );
            return;
        }
        let mut newly_offline = Vec::new();
        for topic in &response.topics {
            let Some(name) = self.context.topic_names.get(&topic.topic_id).cloned() else {
                continue;
            };
            for answer in &topic.partition_errors {
                let partition = TopicPartition::new(name.clone(), answer.partition_index);
                let offline = self.context.offline_dirs.entry(broker).or_default();
                if answer.error_code == ErrorCode::KafkaStorageError.value() {
                    if offline.insert(partition.clone()) {
                        newly_offline.push(partition);
                    }
                } else if answer.error_code == 0 && !offline.is_empty() {
                    offline.remove(&partition);
                }
            }
        }
        if !newly_offline.is_empty() {
            info!(
                target: "state.change.logger",
                "{} Mark replicas {} on broker {broker} as offline",
                self.sender,
                join(&newly_offline)
            );
            let replicas = newly_offline
                .into_iter()
                .map(|partition| PartitionAndReplica {
                    partition,
                    replica: broker,
                })
                .collect();
            self.on_replicas_become_offline(replicas);
        }
    }

    fn on_auto_leader_rebalance(&mut self) {
        info!(
            target: CONTROLLER,
            "{self} Processing automatic preferred replica leader election"
        );
        trace!(
            target: CONTROLLER,
            "{self} Checking need to trigger auto leader balancing"
        );
        // Preferred leader → (how many partitions prefer it, those led by another).
        let mut preferred: HashMap<BrokerId, (usize, Vec<TopicPartition>)> = HashMap::new();
        for (partition, entry) in self.context.all_partitions() {
            let Some(head) = entry.assignment.replicas.first() else {
                continue;
            };
            if self.context.is_queued_for_deletion(&partition.topic) {
                continue;
            }
            let (count, elsewhere) = preferred.entry(*head).or_default();
            *count += 1;
            if entry
                .leadership
                .as_ref()
                .is_some_and(|known| known.state.leader != *head)
            {
                elsewhere.push(partition);
            }
        }
        let limit = f64::from(self.settings.leader_imbalance_per_broker_percentage) / 100.0;
        for (broker, (count, elsewhere)) in preferred {
            let ratio = elsewhere.len() as f64 / count as f64;
            debug!(
                target: CONTROLLER,
                "{self} Topics not in preferred replica for broker {broker} {elsewhere:?}"
            );
            trace!(
                target: CONTROLLER,
                "{self} Leader imbalance ratio for broker {broker} is {ratio}"
            );
            if ratio <= limit {
                continue;
            }
            let partitions: Vec<TopicPartition> = elsewhere
                .into_iter()
                .filter(|partition| {
                    self.context.is_replica_online(broker, partition)
                        && self
                            .context
                            .leadership(partition)
                            .is_some_and(|known| known.state.isr.contains(&broker))
                })
                .collect();
            info!(
                target: CONTROLLER,
                "{self} Starting replica leader election (PREFERRED) for partitions {} triggered by AutoTriggered",
                join(&partitions)
            );
            self.push(Task::Partitions {
                partitions,
                target: PartitionState::Online,
                strategy: ElectionStrategy::Preferred,
            });
        }
    }
}

impl std::fmt::Display for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[Controller id={}]", self.settings.controller_id)
    }
}

/// The election of partitions that are new or whose leader is gone.
pub(super) const OFFLINE: ElectionStrategy = ElectionStrategy::Offline {
    force_unclean: false,
};

fn broker_ids(brokers: &[LiveBroker]) -> Vec<BrokerId> {
    brokers.iter().map(|broker| broker.info.id).collect()
}

/// `1,2,3`, as Kafka's log lines list things.
pub(super) fn join<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{item}");
    }
    text
}

#[cfg(test)]
mod tests;
