//! The core against a model of the store and of three brokers, under random sequences of broker
//! failures, topics made and deleted, log dirs failing, and states changed behind its back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{LeaderAndIsrRequest, StopReplicaResponse};
use proptest::prelude::*;

use crate::cluster::image::{BrokerImage, Endpoint};
use crate::controller::batch::deleted_partitions;
use crate::controller::event::ControlRequest;
use crate::controller::state::{LeaderAndIsr, NO_LEADER, ReplicaAssignment};
use crate::types::Uuid;
use crate::zk;

use super::*;

mod exploration;

fn settings() -> Settings {
    Settings {
        controller_id: 0,
        inter_broker_listener: "PLAINTEXT".to_owned(),
        delete_topic_enable: true,
        unclean_leader_election_enable: false,
        leader_imbalance_per_broker_percentage: 10,
    }
}

fn live(id: BrokerId, epoch: i64) -> LiveBroker {
    let endpoint = Endpoint {
        listener: "PLAINTEXT".to_owned(),
        security_protocol: 0,
        host: "h".to_owned(),
        port: 9092 + id,
    };
    LiveBroker {
        info: Arc::new(BrokerImage {
            id,
            endpoints: vec![endpoint],
            rack: None,
        }),
        epoch,
    }
}

/// What random tests do.
#[derive(Debug, Clone)]
enum Step {
    Create {
        topic: u8,
        partitions: u8,
        first: u8,
        replicas: u8,
    },
    Grow {
        topic: u8,
    },
    Delete {
        topic: u8,
    },
    Fail {
        broker: u8,
    },
    Return {
        broker: u8,
    },
    FailDir {
        broker: u8,
        topic: u8,
    },
    /// A leader changed its ISR and the controller did not hear of it.
    Behind {
        topic: u8,
    },
    Rebalance,
    FailOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..4u8, 1..4u8, 0..3u8, 1..4u8).prop_map(|(topic, partitions, first, replicas)| {
            Step::Create { topic, partitions, first, replicas }
        }),
        1 => (0..4u8).prop_map(|topic| Step::Grow { topic }),
        2 => (0..4u8).prop_map(|topic| Step::Delete { topic }),
        3 => (0..3u8).prop_map(|broker| Step::Fail { broker }),
        3 => (0..3u8).prop_map(|broker| Step::Return { broker }),
        1 => (0..3u8, 0..4u8).prop_map(|(broker, topic)| Step::FailDir { broker, topic }),
        1 => (0..4u8).prop_map(|topic| Step::Behind { topic }),
        1 => Just(Step::Rebalance),
        1 => Just(Step::FailOver),
    ];
    proptest::collection::vec(step, 1..40)
}

struct World {
    core: Core,
    epoch: i32,
    next_id: u128,
    next_czxid: i64,
    brokers: BTreeMap<BrokerId, i64>,
    topics: BTreeMap<TopicName, TopicAssignment>,
    states: BTreeMap<TopicPartition, Leadership>,
    marks: BTreeSet<TopicName>,
    /// Answers on their way to the controller.
    answers: VecDeque<Event>,
    failed_dirs: BTreeSet<(BrokerId, TopicPartition)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            core: Core::new(settings()),
            epoch: 0,
            next_id: 10,
            next_czxid: 1,
            brokers: BTreeMap::from([(0, 1), (1, 2), (2, 3)]),
            topics: BTreeMap::new(),
            states: BTreeMap::new(),
            marks: BTreeSet::new(),
            answers: VecDeque::new(),
            failed_dirs: BTreeSet::new(),
        };
        world.next_czxid = 4;
        world.fail_over();
        world
    }

    fn registered(&self) -> Vec<LiveBroker> {
        self.brokers
            .iter()
            .map(|(id, epoch)| live(*id, *epoch))
            .collect()
    }

    fn fail_over(&mut self) {
        self.epoch += 1;
        self.core = Core::new(settings());
        self.answers.clear();
        let snapshot = Snapshot {
            brokers: self.registered(),
            topics: self.topics.values().cloned().collect(),
            leadership: self
                .states
                .iter()
                .map(|(partition, state)| (partition.clone(), state.clone()))
                .collect(),
            deletions: self.marks.iter().cloned().collect(),
            ..Snapshot::default()
        };
        let epoch = self.epoch;
        self.feed(Event::Elected { epoch, snapshot });
    }

    fn feed(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.core.step(event, &mut effects);
        let mut rounds = 0;
        loop {
            let mut asked = None;
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Store(ops) => {
                        assert!(asked.is_none(), "one question at a time");
                        asked = Some(ops);
                    }
                    Effect::Send { broker, request } => self.receive(broker, request),
                    Effect::AddBroker(_)
                    | Effect::RemoveBroker(_)
                    | Effect::ForgetTopic(_)
                    | Effect::Answer { .. } => {}
                }
            }
            let Some(ops) = asked else {
                break;
            };
            rounds += 1;
            assert!(rounds < 100, "the core does not come to an end");
            let replies = ops.into_iter().map(|op| self.apply(op)).collect();
            self.core.step(Event::StoreReplies(replies), &mut effects);
        }
        assert!(!self.core.is_waiting());
        self.check();
    }

    fn apply(&mut self, op: StoreOp) -> StoreReply {
        let path = String::new();
        match op {
            StoreOp::CreatePartitionsNode(_) => StoreReply::Done,
            StoreOp::CreateState {
                partition,
                leadership,
            } => {
                if self.states.contains_key(&partition) {
                    return StoreReply::Failed(zk::Error::NodeExists { path });
                }
                self.states.insert(partition, leadership);
                StoreReply::Done
            }
            StoreOp::SetState {
                partition,
                mut leadership,
            } => {
                let Some(known) = self.states.get_mut(&partition) else {
                    return StoreReply::Failed(zk::Error::NoNode { path });
                };
                let version = known.state.partition_epoch;
                if version != leadership.state.partition_epoch {
                    return StoreReply::Failed(zk::Error::BadVersion { path });
                }
                assert!(leadership.state.leader_epoch > known.state.leader_epoch);
                leadership.state.partition_epoch = version + 1;
                *known = leadership;
                StoreReply::Written {
                    partition_epoch: version + 1,
                }
            }
            StoreOp::GetState(partition) => StoreReply::State(self.states.get(&partition).cloned()),
            StoreOp::GetTopicConfig(_) => StoreReply::Config(HashMap::new()),
            StoreOp::SetTopic(topic) => {
                self.topics.insert(topic.name.clone(), topic);
                StoreReply::Done
            }
            StoreOp::DeleteTopic(topic) => {
                self.states.retain(|partition, _| partition.topic != topic);
                self.topics.remove(&topic);
                self.marks.remove(&topic);
                StoreReply::Done
            }
            StoreOp::DeleteDeletionMark(topic) => {
                self.marks.remove(&topic);
                StoreReply::Done
            }
            StoreOp::ForgetReassignments(_) | StoreOp::DeletePreferredElections => StoreReply::Done,
            StoreOp::ClaimProducerIds(_) => StoreReply::ProducerIds(0),
        }
    }

    /// A broker answers at once; its answer is heard later.
    fn receive(&mut self, broker: BrokerId, request: ControlRequest) {
        let Some(epoch) = self.brokers.get(&broker) else {
            return;
        };
        match request {
            ControlRequest::LeaderAndIsr(request) => {
                assert_eq!(request.broker_epoch, *epoch, "the broker's present life");
                let response = self.answer(broker, &request);
                self.answers
                    .push_back(Event::LeaderAndIsrAnswered { broker, response });
            }
            ControlRequest::UpdateMetadata(request) => {
                assert!(request.live_brokers.iter().any(|live| live.id.0 == broker));
            }
            ControlRequest::StopReplica(request) => {
                let deleted = deleted_partitions(&request);
                let errors = request
                    .topic_states
                    .iter()
                    .flat_map(|topic| {
                        topic.partition_states.iter().map(|state| {
                            StopReplicaPartitionError::default()
                                .with_topic_name(topic.topic_name.clone())
                                .with_partition_index(state.partition_index)
                        })
                    })
                    .collect();
                let response = StopReplicaResponse::default().with_partition_errors(errors);
                self.answers.push_back(Event::StopReplicaAnswered {
                    broker,
                    deleted,
                    response,
                });
            }
        }
    }

    fn answer(&self, broker: BrokerId, request: &LeaderAndIsrRequest) -> LeaderAndIsrResponse {
        let topics = request.topic_states.iter().map(|topic| {
            let name = TopicName::new(&topic.topic_name);
            let errors = topic.partition_states.iter().map(|state| {
                // What a broker is told is in the store, or was before it changed again.
                let partition = TopicPartition::new(name.clone(), state.partition_index);
                let stored = self
                    .states
                    .get(&partition)
                    .expect("stored before it is told");
                assert!(state.leader_epoch <= stored.state.leader_epoch);
                let failed = self.failed_dirs.contains(&(broker, partition));
                let code = if failed {
                    ErrorCode::KafkaStorageError
                } else {
                    ErrorCode::None
                };
                LeaderAndIsrPartitionError::default()
                    .with_partition_index(state.partition_index)
                    .with_error_code(code.value())
            });
            LeaderAndIsrTopicError::default()
                .with_topic_id(topic.topic_id)
                .with_partition_errors(errors.collect())
        });
        LeaderAndIsrResponse::default().with_topics(topics.collect())
    }

    fn check(&self) {
        let context = self.core.context();
        for (partition, entry) in context.all_partitions() {
            let Some(known) = &entry.leadership else {
                continue;
            };
            let state = &known.state;
            assert!(
                state.leader == NO_LEADER || state.isr.contains(&state.leader),
                "{partition}: {state}"
            );
            assert!(!state.isr.is_empty(), "{partition}: {state}");
            assert!(
                state
                    .isr
                    .iter()
                    .all(|id| entry.assignment.replicas.contains(id)),
                "{partition}: {state}"
            );
            let stored = self
                .states
                .get(&partition)
                .expect("a known state is stored");
            assert!(state.partition_epoch <= stored.state.partition_epoch);
            if state.partition_epoch == stored.state.partition_epoch {
                assert_eq!(state, &stored.state, "{partition}");
            }
            if entry.state == PartitionState::Online
                && !context.is_queued_for_deletion(&partition.topic)
            {
                assert!(state.leader != NO_LEADER, "{partition} is online");
            }
        }
    }

    fn name(topic: u8) -> TopicName {
        TopicName::new(&format!("t{topic}"))
    }

    fn topics_changed(&mut self) {
        let known = &self.core.context().topics;
        let new = self
            .topics
            .values()
            .filter(|topic| !known.contains_key(&topic.name))
            .cloned()
            .collect();
        let all = self.topics.keys().cloned().collect();
        self.feed(Event::TopicsChanged { all, new });
    }

    fn brokers_changed(&mut self) {
        let brokers = self.registered();
        self.feed(Event::BrokersChanged(brokers));
    }

    fn hear_answers(&mut self) {
        let mut heard = 0;
        while let Some(answer) = self.answers.pop_front() {
            self.feed(answer);
            heard += 1;
            assert!(heard < 1000, "controller and brokers never fall silent");
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Create {
                topic,
                partitions,
                first,
                replicas,
            } => {
                let name = Self::name(topic);
                if self.topics.contains_key(&name) || self.marks.contains(&name) {
                    return;
                }
                self.next_id += 1;
                let assignment = |partition: u8| {
                    (0..replicas)
                        .map(|j| i32::from((first + partition + j) % 3))
                        .collect()
                };
                let created = TopicAssignment {
                    name: name.clone(),
                    id: Some(Uuid::from_u128(self.next_id)),
                    partitions: (0..partitions)
                        .map(|p| (i32::from(p), ReplicaAssignment::of(assignment(p))))
                        .collect(),
                };
                self.topics.insert(name, created);
                self.topics_changed();
            }
            Step::Grow { topic } => {
                let Some(known) = self.topics.get_mut(&Self::name(topic)) else {
                    return;
                };
                let next = i32::try_from(known.partitions.len()).expect("few");
                known
                    .partitions
                    .insert(next, ReplicaAssignment::of(vec![0, 1]));
                let topic = known.clone();
                let created = (0..next).collect();
                self.feed(Event::TopicModified { topic, created });
            }
            Step::Delete { topic } => {
                if self.topics.contains_key(&Self::name(topic)) {
                    self.marks.insert(Self::name(topic));
                    let marked = self.marks.iter().cloned().collect();
                    self.feed(Event::DeletionsChanged(marked));
                }
            }
            Step::Fail { broker } => {
                if self.brokers.remove(&i32::from(broker)).is_some() {
                    self.brokers_changed();
                }
            }
            // Of a live broker: it was gone and came back before the controller looked.
            Step::Return { broker } => {
                self.brokers.insert(i32::from(broker), self.next_czxid);
                self.next_czxid += 1;
                self.failed_dirs.retain(|(id, _)| *id != i32::from(broker));
                self.brokers_changed();
            }
            Step::FailDir { broker, topic } => {
                let id = i32::from(broker);
                self.failed_dirs
                    .insert((id, TopicPartition::new(Self::name(topic), 0)));
                if self.brokers.contains_key(&id) {
                    self.feed(Event::LogDirFailure(vec![id]));
                }
            }
            Step::Behind { topic } => {
                if let Some(known) = self
                    .states
                    .get_mut(&TopicPartition::new(Self::name(topic), 0))
                {
                    known.state.partition_epoch += 1;
                }
            }
            Step::Rebalance => self.feed(Event::AutoLeaderRebalance),
            Step::FailOver => self.fail_over(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_happens_states_stay_sound_and_all_is_well_once_brokers_are_back(
        steps in steps(),
        deaf in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut world = World::new();
        for (step, deaf) in steps.into_iter().zip(deaf) {
            world.take(step);
            if !deaf {
                world.hear_answers();
            }
        }
        world.hear_answers();
        for broker in 0..3 {
            world.take(Step::Return { broker });
            world.hear_answers();
        }
        prop_assert!(world.marks.is_empty(), "deletions are completed: {:?}", world.marks);
        let context = world.core.context();
        prop_assert_eq!(context.topics.len(), world.topics.len());
        for (partition, entry) in context.all_partitions() {
            prop_assert_eq!(entry.state, PartitionState::Online, "{}", partition);
            let stored = &world.states[&partition];
            prop_assert!(world.brokers.contains_key(&stored.state.leader));
        }
    }
}

fn one_partition(isr: Vec<BrokerId>, leader: BrokerId) -> Snapshot {
    let name = TopicName::new("t");
    Snapshot {
        brokers: vec![live(1, 5)],
        topics: vec![TopicAssignment {
            name: name.clone(),
            id: Some(Uuid::from_u128(7)),
            partitions: BTreeMap::from([(0, ReplicaAssignment::of(vec![0, 1]))]),
        }],
        leadership: vec![(
            TopicPartition::new(name, 0),
            Leadership {
                state: LeaderAndIsr {
                    leader,
                    leader_epoch: 4,
                    isr,
                    recovering: false,
                    partition_epoch: 6,
                },
                controller_epoch: 2,
            },
        )],
        ..Snapshot::default()
    }
}

/// Runs fail-over; answers to questions come from `reply`.
fn elected(snapshot: Snapshot, mut reply: impl FnMut(&StoreOp) -> StoreReply) -> Core {
    let mut core = Core::new(settings());
    let mut effects = Vec::new();
    core.step(Event::Elected { epoch: 3, snapshot }, &mut effects);
    loop {
        let asked = std::mem::take(&mut effects)
            .into_iter()
            .find_map(|effect| match effect {
                Effect::Store(ops) => Some(ops),
                _ => None,
            });
        let Some(ops) = asked else {
            return core;
        };
        let replies = ops.iter().map(&mut reply).collect();
        core.step(Event::StoreReplies(replies), &mut effects);
    }
}

#[test]
fn unclean_election_asks_the_topics_configuration() {
    let check = |value: Option<&str>, expect: (BrokerId, bool)| {
        let core = elected(one_partition(vec![0], 0), |op| match op {
            StoreOp::GetTopicConfig(_) => StoreReply::Config(
                value
                    .map(|value| {
                        let key = "unclean.leader.election.enable";
                        (key.to_owned(), value.to_owned())
                    })
                    .into_iter()
                    .collect(),
            ),
            StoreOp::SetState { leadership, .. } => StoreReply::Written {
                partition_epoch: leadership.state.partition_epoch + 1,
            },
            _ => StoreReply::Done,
        });
        let partition = TopicPartition::new("t", 0);
        let state = &core.context().leadership(&partition).expect("known").state;
        assert_eq!((state.leader, state.recovering), expect, "{value:?}");
    };
    check(Some("true"), (1, true));
    check(Some("false"), (NO_LEADER, false));
    check(None, (NO_LEADER, false));
}

#[test]
fn a_state_written_by_a_later_controller_is_left_alone() {
    let mut written = 0;
    let core = elected(one_partition(vec![0, 1], 0), |op| match op {
        StoreOp::SetState { .. } => {
            written += 1;
            StoreReply::Failed(zk::Error::BadVersion {
                path: String::new(),
            })
        }
        StoreOp::GetState(_) => StoreReply::State(Some(Leadership {
            state: LeaderAndIsr::initial(0, vec![0]),
            controller_epoch: 9,
        })),
        _ => StoreReply::Done,
    });
    // Once for the replica that is gone, once for the leader; never again after the re-read.
    assert_eq!(written, 2);
    assert_eq!(
        core.context().partition_state(&TopicPartition::new("t", 0)),
        PartitionState::Offline
    );
}
