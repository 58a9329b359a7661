//! Interleavings of the real core: several controllers (one in office, others that have not noticed
//! yet that they are not), a store that fences writes as ZooKeeper does, four brokers behind
//! queues, and a random order of everything that can happen next. Messages are lost with their
//! answers (and sent again), doubled, late; brokers go, come back and come back before anybody
//! looked; leaders shrink and grow ISRs from what they know; administrators create, grow, delete,
//! reassign, cancel and elect.
//!
//! After each step: what I17 and I19 ask for, and that nothing is told before it is stored. At the
//! end faults stop, and everything must come to rest as the administrators wanted it. A failure
//! names its seed; `OTTLA_EXPLORE_SEEDS=<first>..<end>` explores others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_protocol::messages::leader_and_isr_response::{
    LeaderAndIsrPartitionError, LeaderAndIsrTopicError,
};
use kafka_protocol::messages::stop_replica_response::StopReplicaPartitionError;
use kafka_protocol::messages::{
    LeaderAndIsrRequest, LeaderAndIsrResponse, StopReplicaRequest, StopReplicaResponse,
    UpdateMetadataResponse,
};

use crate::cluster::image::Cluster;
use crate::cluster::update::{ControllerEpochGate, update_metadata};
use crate::controller::batch::deleted_partitions;
use crate::controller::bug::{self, Bug};
use crate::controller::core::*;
use crate::controller::event::{ControlRequest, IsrChange, TopicRef};
use crate::controller::state::{EPOCH_DURING_DELETE, LeaderAndIsr, NO_LEADER};
use crate::types::Uuid;
use crate::zk;

use super::{live, settings};

const BROKERS: i32 = 4;
const STEPS: usize = 220;

/// splitmix64: the same sequence for a seed on every machine and with every version of a crate.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).expect("fits")).expect("fits")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn broker(&mut self) -> BrokerId {
        i32::try_from(self.below(4)).expect("small")
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// Distinct brokers, at least one.
    fn replicas(&mut self) -> Vec<BrokerId> {
        let count = 1 + self.below(3);
        let mut ids: Vec<BrokerId> = (0..BROKERS).collect();
        while ids.len() > count {
            ids.remove(self.below(ids.len()));
        }
        let turn = self.below(ids.len());
        ids.rotate_left(turn);
        ids
    }
}

/// What a broker was told of a replica, or has learnt since as its leader.
#[derive(Debug, Clone)]
struct Replica {
    topic_id: Uuid,
    state: LeaderAndIsr,
    /// The ISR it has asked for and not heard of.
    pending: bool,
}

/// A broker's process.
struct Broker {
    czxid: i64,
    gate: ControllerEpochGate,
    cluster: Cluster,
    replicas: BTreeMap<TopicPartition, Replica>,
    highest_epoch: i32,
}

impl Broker {
    fn new(czxid: i64) -> Self {
        let gate = ControllerEpochGate::default();
        gate.set_broker_epoch(czxid);
        Self {
            czxid,
            gate,
            cluster: Cluster::new("c".to_owned()),
            replicas: BTreeMap::new(),
            highest_epoch: 0,
        }
    }
}

/// A controller that was elected; it is in office, or thinks so until the store tells it otherwise.
struct Term {
    core: Core,
    epoch: i32,
    /// Operations the core waits for, and the replies there are.
    asked: VecDeque<StoreOp>,
    replies: Vec<StoreReply>,
    queues: BTreeMap<BrokerId, VecDeque<ControlRequest>>,
    answers: BTreeMap<BrokerId, VecDeque<Event>>,
    questions: VecDeque<Event>,
    brokers_changed: bool,
    topics_changed: bool,
    deletions_changed: bool,
    topic_changed: BTreeSet<TopicName>,
}

type Asker = (BrokerId, i64, Vec<TopicPartition>);

struct World {
    dice: Dice,
    epoch: i32,
    terms: Vec<Term>,
    next_czxid: i64,
    next_id: u128,
    next_ticket: u64,
    /// Registered and running.
    brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<TopicName, TopicAssignment>,
    states: BTreeMap<TopicPartition, Leadership>,
    marks: BTreeSet<TopicName>,
    /// Every state that was stored: topic id, partition, leader epoch, partition epoch → leader.
    history: BTreeMap<(u128, TopicPartition, i32, i32), LeaderAndIsr>,
    /// Who leads in a leader epoch.
    leaders: BTreeMap<(u128, TopicPartition, i32), BrokerId>,
    /// Who asked for ISRs, by epoch of the term and ticket.
    askers: BTreeMap<(i32, u64), Asker>,
    /// Partitions of which an administrator wants an unclean leader.
    unclean_asked: bool,
    fence_writes: bool,
}

impl World {
    fn new(seed: u64, fence_writes: bool) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            epoch: 0,
            terms: Vec::new(),
            next_czxid: 1,
            next_id: 10,
            next_ticket: 0,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            states: BTreeMap::new(),
            marks: BTreeSet::new(),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
            askers: BTreeMap::new(),
            unclean_asked: false,
            fence_writes,
        };
        for id in 0..3 {
            world.start_broker(id);
        }
        world.elect();
        world
    }

    fn start_broker(&mut self, id: BrokerId) {
        self.brokers.insert(id, Broker::new(self.next_czxid));
        self.next_czxid += 1;
        self.notify(|term| term.brokers_changed = true);
    }

    fn notify(&mut self, what: impl Fn(&mut Term)) {
        self.terms.iter_mut().for_each(what);
    }

    fn registered(&self) -> Vec<LiveBroker> {
        self.brokers
            .iter()
            .map(|(id, broker)| live(*id, broker.czxid))
            .collect()
    }

    /// Another controller; the one before does not know yet.
    fn elect(&mut self) {
        self.epoch += 1;
        // Older ones were deposed twice over; one that lags is enough.
        if self.terms.len() > 1 {
            self.terms.remove(0);
        }
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
        self.terms.push(Term {
            core: Core::new(settings()),
            epoch: self.epoch,
            asked: VecDeque::new(),
            replies: Vec::new(),
            queues: BTreeMap::new(),
            answers: BTreeMap::new(),
            questions: VecDeque::new(),
            brokers_changed: false,
            topics_changed: false,
            deletions_changed: false,
            topic_changed: BTreeSet::new(),
        });
        let epoch = self.epoch;
        self.feed(self.terms.len() - 1, Event::Elected { epoch, snapshot });
    }

    fn feed(&mut self, index: usize, event: Event) {
        let mut effects = Vec::new();
        self.terms[index].core.step(event, &mut effects);
        self.carry_out(index, effects);
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Store(ops) => {
                    assert!(self.terms[index].asked.is_empty(), "one question at a time");
                    self.terms[index].asked = ops.into();
                }
                Effect::Send { broker, request } => {
                    self.check_told(&request);
                    if let Some(queue) = self.terms[index].queues.get_mut(&broker) {
                        queue.push_back(request);
                    }
                }
                Effect::AddBroker(broker) => {
                    let queues = &mut self.terms[index].queues;
                    queues.insert(broker.info.id, VecDeque::new());
                }
                Effect::RemoveBroker(broker) => {
                    self.terms[index].queues.remove(&broker);
                }
                Effect::ForgetTopic(_) => {}
                Effect::Answer { ticket, answer } => self.answered(index, ticket, answer),
            }
        }
        if !self.terms[index].core.is_waiting() {
            self.check_core(index);
        }
    }

    /// Nothing is told that was not stored.
    fn check_told(&self, request: &ControlRequest) {
        if let ControlRequest::UpdateMetadata(request) = request {
            for topic in &request.topic_states {
                for state in topic.partition_states.iter().filter(|s| s.leader.0 != -2) {
                    let key = (
                        topic.topic_id.as_u128(),
                        TopicPartition::new(topic.topic_name.as_str(), state.partition_index),
                        state.leader_epoch,
                        state.zk_version,
                    );
                    let stored = self.history.get(&key);
                    assert!(
                        stored.is_some_and(|stored| stored.leader == state.leader.0),
                        "published before it is stored: {key:?}, stored {stored:?}"
                    );
                }
            }
        }
        let ControlRequest::LeaderAndIsr(request) = request else {
            return;
        };
        for topic in &request.topic_states {
            for state in &topic.partition_states {
                let key = (
                    topic.topic_id.as_u128(),
                    TopicPartition::new(topic.topic_name.as_str(), state.partition_index),
                    state.leader_epoch,
                    state.partition_epoch,
                );
                let stored = self.history.get(&key);
                assert!(
                    stored.is_some_and(|stored| stored.leader == state.leader.0),
                    "told before it is stored: {key:?} leader {}, stored {stored:?}",
                    state.leader.0
                );
            }
        }
    }

    /// Between two events: ISR ⊆ assignment, of the one controller in office.
    fn check_core(&self, index: usize) {
        let term = &self.terms[index];
        if term.epoch != self.epoch {
            return;
        }
        for (partition, entry) in term.core.context().all_partitions() {
            let Some(known) = &entry.leadership else {
                continue;
            };
            let isr = &known.state.isr;
            let replicas = &entry.assignment.replicas;
            assert!(
                isr.iter().all(|id| replicas.contains(id)),
                "{partition}: {} of {}",
                known.state,
                entry.assignment
            );
        }
    }

    fn answered(&mut self, index: usize, ticket: u64, answer: Answer) {
        let epoch = self.terms[index].epoch;
        let Some((asker, czxid, asked)) = self.askers.remove(&(epoch, ticket)) else {
            return;
        };
        // The answer may be lost.
        let lost = self.dice.one_in(6);
        let Some(broker) = self.brokers.get_mut(&asker) else {
            return;
        };
        if broker.czxid != czxid {
            return;
        }
        for partition in &asked {
            if let Some(replica) = broker.replicas.get_mut(partition) {
                replica.pending = false;
            }
        }
        let Answer::AlterPartition(Ok(topics)) = answer else {
            return;
        };
        if lost {
            return;
        }
        for (topic, results) in topics {
            let TopicRef::Name(name) = topic else {
                continue;
            };
            for (partition, result) in results {
                let partition = TopicPartition::new(name.clone(), partition);
                if let (Ok(state), Some(replica)) = (result, broker.replicas.get_mut(&partition))
                    && state.leader_epoch == replica.state.leader_epoch
                    && state.partition_epoch >= replica.state.partition_epoch
                {
                    replica.state = state;
                }
            }
        }
    }

    /// One operation of a term; `false` when the store says that it is no longer in office.
    fn perform(&mut self, index: usize) -> bool {
        let in_office = self.terms[index].epoch == self.epoch;
        let Some(op) = self.terms[index].asked.pop_front() else {
            return true;
        };
        let reads = matches!(op, StoreOp::GetState(_) | StoreOp::GetTopicConfig(_));
        if !in_office && !reads {
            if self.fence_writes {
                return false;
            }
            panic!("a controller that was replaced has written: {op:?}");
        }
        let reply = self.apply(op);
        let term = &mut self.terms[index];
        term.replies.push(reply);
        if term.asked.is_empty() {
            let replies = std::mem::take(&mut term.replies);
            self.feed(index, Event::StoreReplies(replies));
        }
        true
    }

    fn topic_id(&self, topic: &TopicName) -> Option<u128> {
        Some(self.topics.get(topic)?.id?.as_u128())
    }

    fn remember(&mut self, partition: &TopicPartition, leadership: &Leadership) {
        let state = &leadership.state;
        assert!(
            !state.isr.is_empty(),
            "{partition}: nobody has the data: {state}"
        );
        assert!(
            state.leader == NO_LEADER || state.isr.contains(&state.leader),
            "{partition}: the leader is in the ISR: {state}"
        );
        let id = self.topic_id(&partition.topic).expect("the topic is there");
        if state.leader != NO_LEADER {
            let before = self
                .leaders
                .insert((id, partition.clone(), state.leader_epoch), state.leader);
            assert!(
                before.is_none_or(|before| before == state.leader),
                "{partition}: two leaders in epoch {}: {before:?} and {}",
                state.leader_epoch,
                state.leader
            );
        }
        let key = (
            id,
            partition.clone(),
            state.leader_epoch,
            state.partition_epoch,
        );
        self.history.insert(key, state.clone());
    }

    fn apply(&mut self, op: StoreOp) -> StoreReply {
        let path = String::new();
        match op {
            StoreOp::CreatePartitionsNode(_) => StoreReply::Done,
            StoreOp::CreateState {
                partition,
                leadership,
            } => {
                if self.topic_id(&partition.topic).is_none() {
                    return StoreReply::Failed(zk::Error::NoNode { path });
                }
                if self.states.contains_key(&partition) {
                    return StoreReply::Failed(zk::Error::NodeExists { path });
                }
                self.remember(&partition, &leadership);
                self.states.insert(partition, leadership);
                StoreReply::Done
            }
            StoreOp::SetState {
                partition,
                mut leadership,
            } => {
                let Some(known) = self.states.get(&partition) else {
                    return StoreReply::Failed(zk::Error::NoNode { path });
                };
                let version = known.state.partition_epoch;
                if version != leadership.state.partition_epoch {
                    return StoreReply::Failed(zk::Error::BadVersion { path });
                }
                let (old, new) = (&known.state, &leadership.state);
                assert!(new.leader_epoch >= old.leader_epoch, "{old} to {new}");
                assert!(
                    new.leader == old.leader || new.leader_epoch > old.leader_epoch,
                    "{partition}: another leader in the same epoch: {old} to {new}"
                );
                assert!(
                    new.leader == NO_LEADER || old.isr.contains(&new.leader) || self.unclean_asked,
                    "{partition}: a leader from outside the ISR: {old} to {new}"
                );
                leadership.state.partition_epoch = version + 1;
                self.remember(&partition, &leadership);
                self.states.insert(partition, leadership);
                StoreReply::Written {
                    partition_epoch: version + 1,
                }
            }
            StoreOp::GetState(partition) => StoreReply::State(self.states.get(&partition).cloned()),
            StoreOp::GetTopicConfig(_) => StoreReply::Config(HashMap::new()),
            StoreOp::SetTopic(topic) => {
                if !self.topics.contains_key(&topic.name) {
                    return StoreReply::Failed(zk::Error::NoNode { path });
                }
                let name = topic.name.clone();
                // Partitions that were added meanwhile are kept: this is not about that race, which
                // brokers and controllers have by design.
                let known = self.topics.get_mut(&name).expect("just seen");
                known.partitions.extend(topic.partitions);
                StoreReply::Done
            }
            StoreOp::DeleteTopic(topic) => {
                self.states.retain(|partition, _| partition.topic != topic);
                self.topics.remove(&topic);
                self.marks.remove(&topic);
                self.notify(|term| term.topics_changed = true);
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

    /// The request at the head of a queue arrives; its answer may be lost, then it stays there.
    fn deliver(&mut self, index: usize, id: BrokerId, loses: bool) {
        let term = &mut self.terms[index];
        let Some(queue) = term.queues.get_mut(&id) else {
            return;
        };
        let Some(request) = queue.front().cloned() else {
            return;
        };
        let Some(broker) = self.brokers.get_mut(&id) else {
            return;
        };
        let answer = match request {
            ControlRequest::LeaderAndIsr(request) => Event::LeaderAndIsrAnswered {
                broker: id,
                response: become_leader_or_follower(id, broker, &request),
            },
            ControlRequest::UpdateMetadata(request) => {
                let code = update_metadata(&broker.cluster, &broker.gate, &request)
                    .map_or_else(|code| code.value(), |_| 0);
                Event::UpdateMetadataAnswered {
                    broker: id,
                    response: UpdateMetadataResponse::default().with_error_code(code),
                }
            }
            ControlRequest::StopReplica(request) => Event::StopReplicaAnswered {
                broker: id,
                deleted: deleted_partitions(&request),
                response: stop_replicas(broker, &request),
            },
        };
        let seen = broker.gate.controller_epoch();
        assert!(
            seen >= broker.highest_epoch,
            "an older controller is obeyed"
        );
        broker.highest_epoch = seen;
        if !loses {
            term.queues.get_mut(&id).expect("just seen").pop_front();
            term.answers.entry(id).or_default().push_back(answer);
        }
    }

    fn hear(&mut self, index: usize) -> bool {
        let term = &mut self.terms[index];
        if term.core.is_waiting() {
            return false;
        }
        let heard: Vec<BrokerId> = term
            .answers
            .iter()
            .filter(|(_, answers)| !answers.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.dice.pick(&heard).copied() else {
            return false;
        };
        let answers = self.terms[index].answers.get_mut(&id);
        let Some(answer) = answers.and_then(VecDeque::pop_front) else {
            return false;
        };
        self.feed(index, answer);
        true
    }

    /// A watch that fired: what is there now.
    fn look(&mut self, index: usize) -> bool {
        let term = &mut self.terms[index];
        if term.core.is_waiting() {
            return false;
        }
        let event = if term.brokers_changed {
            term.brokers_changed = false;
            Event::BrokersChanged(self.registered())
        } else if term.topics_changed {
            term.topics_changed = false;
            let known = &self.terms[index].core.context().topics;
            let new = self
                .topics
                .values()
                .filter(|topic| !known.contains_key(&topic.name))
                .cloned()
                .collect();
            let all = self.topics.keys().cloned().collect();
            Event::TopicsChanged { all, new }
        } else if term.deletions_changed {
            term.deletions_changed = false;
            Event::DeletionsChanged(self.marks.iter().cloned().collect())
        } else if let Some(name) = term.topic_changed.pop_first() {
            let Some(topic) = self.topics.get(&name).cloned() else {
                return true;
            };
            let created = self
                .states
                .keys()
                .filter(|partition| partition.topic == name)
                .map(|partition| partition.partition)
                .collect();
            Event::TopicModified { topic, created }
        } else if let Some(question) = term.questions.pop_front() {
            question
        } else {
            return false;
        };
        self.feed(index, event);
        true
    }

    /// One of the things that can happen next.
    fn step(&mut self) {
        let index = self.dice.below(self.terms.len());
        let id = self.dice.broker();
        match self.dice.below(100) {
            0..30 => {
                if !self.perform(index) {
                    self.terms.remove(index);
                }
            }
            30..55 => {
                let loses = self.dice.one_in(5);
                self.deliver(index, id, loses);
            }
            55..68 => {
                self.hear(index);
            }
            68..78 => {
                self.look(index);
            }
            78..84 => self.leader_speaks(id),
            84..87 => {
                if self.brokers.remove(&id).is_some() {
                    self.notify(|term| term.brokers_changed = true);
                }
            }
            87..90 => {
                // Of a live one: gone and back before anybody looked.
                self.start_broker(id);
            }
            90 => self.elect(),
            _ => self.administer(id),
        }
    }

    fn ask(&mut self, index: usize, question: Question) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let event = Event::Asked { ticket, question };
        self.terms[index].questions.push_back(event);
        ticket
    }

    /// A broker that thinks it leads asks for another ISR, from what it knows; now and then one
    /// asks that does not lead.
    fn leader_speaks(&mut self, id: BrokerId) {
        let rogue = self.dice.one_in(10);
        let Some(broker) = self.brokers.get(&id) else {
            return;
        };
        let led: Vec<TopicPartition> = broker
            .replicas
            .iter()
            .filter(|(_, replica)| (replica.state.leader == id || rogue) && !replica.pending)
            .map(|(partition, _)| partition.clone())
            .collect();
        let czxid = broker.czxid;
        let Some(partition) = self.dice.pick(&led).cloned() else {
            return;
        };
        let replica = &self.brokers[&id].replicas[&partition];
        let state = replica.state.clone();
        let assigned = self
            .topics
            .get(&partition.topic)
            .and_then(|topic| topic.partitions.get(&partition.partition))
            .map(|assignment| assignment.replicas.clone())
            .unwrap_or_default();
        let mut isr = state.isr.clone();
        let other = self.dice.broker();
        if rogue {
            isr = vec![id];
        } else if other != id && isr.contains(&other) && self.dice.one_in(2) {
            isr.retain(|member| *member != other);
        } else if let Some(joining) = assigned.iter().find(|id| !isr.contains(id)) {
            isr.push(*joining);
        } else {
            return;
        }
        let partition_epoch = if self.dice.one_in(8) {
            // An answer it has missed.
            state.partition_epoch.saturating_sub(1)
        } else {
            state.partition_epoch
        };
        let change = IsrChange {
            partition: partition.partition,
            leader_epoch: state.leader_epoch,
            isr,
            recovering: state.recovering && !rogue,
            partition_epoch,
        };
        let topic = TopicRef::Name(partition.topic.clone());
        // Also to one that is not in office any more.
        let index = self.dice.below(self.terms.len());
        let question = Question::AlterPartition {
            broker: id,
            broker_epoch: czxid,
            topics: vec![(topic, vec![change])],
        };
        let ticket = self.ask(index, question);
        let epoch = self.terms[index].epoch;
        if let Some(replica) = self
            .brokers
            .get_mut(&id)
            .and_then(|broker| broker.replicas.get_mut(&partition))
        {
            replica.pending = true;
        }
        self.askers
            .insert((epoch, ticket), (id, czxid, vec![partition]));
    }

    /// A leader of before IBP 2.7 shrinks its ISR in the store, and says so by a notification.
    fn leader_writes_itself(&mut self) {
        let Some(partition) = self.some_partition() else {
            return;
        };
        let Some(known) = self.states.get(&partition) else {
            return;
        };
        let mut leadership = known.clone();
        let state = &mut leadership.state;
        let leader = state.leader;
        let Some(last) = state.isr.iter().rposition(|id| *id != leader) else {
            return;
        };
        if leader == NO_LEADER || !self.brokers.contains_key(&leader) {
            return;
        }
        state.isr.remove(last);
        state.partition_epoch += 1;
        self.remember(&partition, &leadership);
        self.states.insert(partition.clone(), leadership);
        self.notify(|term| {
            let event = Event::IsrChanged(vec![partition.clone()]);
            term.questions.push_back(event);
        });
    }

    fn some_partition(&mut self) -> Option<TopicPartition> {
        let all: Vec<TopicPartition> = self
            .topics
            .values()
            .flat_map(|topic| {
                let ids = topic.partitions.keys();
                ids.map(|partition| TopicPartition::new(topic.name.clone(), *partition))
            })
            .collect();
        self.dice.pick(&all).cloned()
    }

    fn administer(&mut self, id: BrokerId) {
        let name = TopicName::new(&format!("t{}", self.dice.below(3)));
        let office = self.terms.len() - 1;
        match self.dice.below(10) {
            9 => self.leader_writes_itself(),
            0 | 1 => {
                if self.topics.contains_key(&name) || self.marks.contains(&name) {
                    return;
                }
                self.next_id += 1;
                let count = 1 + i32::try_from(self.dice.below(2)).expect("small");
                let partitions = (0..count)
                    .map(|partition| (partition, ReplicaAssignment::of(self.dice.replicas())))
                    .collect();
                let id = Some(Uuid::from_u128(self.next_id));
                let topic = TopicAssignment {
                    name: name.clone(),
                    id,
                    partitions,
                };
                self.topics.insert(name, topic);
                self.notify(|term| term.topics_changed = true);
            }
            2 => {
                let replicas = self.dice.replicas();
                let Some(topic) = self.topics.get_mut(&name) else {
                    return;
                };
                let next = i32::try_from(topic.partitions.len()).expect("few");
                if next < 4 {
                    let assignment = ReplicaAssignment::of(replicas);
                    topic.partitions.insert(next, assignment);
                    self.notify(|term| {
                        term.topic_changed.insert(name.clone());
                    });
                }
            }
            3 => {
                if self.topics.contains_key(&name) && self.dice.one_in(2) {
                    self.marks.insert(name);
                    self.notify(|term| term.deletions_changed = true);
                }
            }
            4 | 5 => {
                let Some(partition) = self.some_partition() else {
                    return;
                };
                let target = (!self.dice.one_in(4)).then(|| self.dice.replicas());
                self.ask(office, Question::Reassign(vec![(partition, target)]));
            }
            6 => {
                let Some(partition) = self.some_partition() else {
                    return;
                };
                let unclean = self.dice.one_in(6);
                self.unclean_asked |= unclean;
                let question = Question::ElectLeaders {
                    unclean,
                    partitions: vec![partition],
                };
                self.ask(office, question);
            }
            7 => {
                let epoch = self.brokers.get(&id).map_or(-1, |broker| broker.czxid);
                let question = Question::ControlledShutdown {
                    broker: id,
                    broker_epoch: epoch,
                };
                self.ask(office, question);
            }
            _ => {
                if !self.terms[office].core.is_waiting() {
                    self.feed(office, Event::AutoLeaderRebalance);
                }
            }
        }
    }

    /// Until the controller in office has nothing to do and nothing to hear.
    fn settle(&mut self) {
        let office = 0;
        for _ in 0..200_000 {
            if self.terms[office].core.is_waiting() {
                assert!(self.perform(office), "it is in office");
                continue;
            }
            let ids: Vec<BrokerId> = self.terms[office].queues.keys().copied().collect();
            let mut delivered = false;
            for id in ids {
                // That to a broker that is gone goes when the controller looks.
                if !self.terms[office].queues[&id].is_empty() && self.brokers.contains_key(&id) {
                    self.deliver(office, id, false);
                    delivered = true;
                }
            }
            if self.hear(office) || self.look(office) || delivered {
                continue;
            }
            return;
        }
        panic!("controller and brokers never fall silent");
    }

    /// Faults are over: all brokers come back, everything is heard, leaders take in who has caught
    /// up. Everything must be as wanted.
    fn heal(&mut self) {
        self.terms.drain(..self.terms.len() - 1);
        self.settle();
        // Those in controlled shutdown do stop.
        let stopping = self.terms[0].core.context().shutting_down.clone();
        for id in stopping {
            if self.brokers.remove(&id).is_some() {
                self.notify(|term| term.brokers_changed = true);
            }
        }
        self.settle();
        for id in 0..BROKERS {
            if !self.brokers.contains_key(&id) {
                self.start_broker(id);
                self.settle();
            }
        }
        for _ in 0..12 {
            self.catch_up();
            self.settle();
        }
        self.check_rest();
    }

    /// Each leader asks for the whole assignment.
    fn catch_up(&mut self) {
        let mut wanted = Vec::new();
        for (id, broker) in &self.brokers {
            for (partition, replica) in &broker.replicas {
                let stored = self.states.get(partition);
                let Some(stored) = stored.filter(|stored| stored.state.leader == *id) else {
                    continue;
                };
                let assigned = &self.topics[&partition.topic].partitions[&partition.partition];
                let mut isr = assigned.replicas.clone();
                isr.sort_unstable();
                let mut now = stored.state.isr.clone();
                now.sort_unstable();
                assert_eq!(
                    replica.state.leader_epoch, stored.state.leader_epoch,
                    "{partition}: the leader {id} knows its epoch"
                );
                if isr != now || stored.state.recovering {
                    let change = IsrChange {
                        partition: partition.partition,
                        leader_epoch: stored.state.leader_epoch,
                        isr: assigned.replicas.clone(),
                        recovering: false,
                        partition_epoch: stored.state.partition_epoch,
                    };
                    let topic = TopicRef::Name(partition.topic.clone());
                    wanted.push((*id, broker.czxid, topic, change));
                }
            }
        }
        for (broker, broker_epoch, topic, change) in wanted {
            let topics = vec![(topic, vec![change])];
            self.ask(
                0,
                Question::AlterPartition {
                    broker,
                    broker_epoch,
                    topics,
                },
            );
        }
    }

    fn check_rest(&self) {
        assert!(
            self.marks.is_empty(),
            "deletions are not completed: {:?}",
            self.marks
        );
        let context = self.terms[0].core.context();
        assert_eq!(context.topics.len(), self.topics.len());
        assert!(
            context.reassigning.is_empty(),
            "reassignments are not completed: {:?}",
            context.reassigning
        );
        for (name, topic) in &self.topics {
            for (partition, assignment) in &topic.partitions {
                let partition = TopicPartition::new(name.clone(), *partition);
                assert!(
                    !assignment.is_being_reassigned(),
                    "{partition}: {assignment} is how the store has it"
                );
                let known = &context.partition(&partition).expect("known").assignment;
                assert_eq!(known, assignment, "{partition}");
                let state = &self.states.get(&partition).expect("stored").state;
                assert!(
                    self.brokers.contains_key(&state.leader),
                    "{partition} has no leader: {state} of {assignment}"
                );
                let isr: BTreeSet<BrokerId> = state.isr.iter().copied().collect();
                let replicas: BTreeSet<BrokerId> = assignment.replicas.iter().copied().collect();
                assert_eq!(isr, replicas, "{partition}: all have caught up");
                for id in &assignment.replicas {
                    let told = self.brokers[id].replicas.get(&partition);
                    let told = told.unwrap_or_else(|| panic!("{partition}: {id} was told nothing"));
                    assert_eq!(
                        (told.state.leader, told.state.leader_epoch),
                        (state.leader, state.leader_epoch),
                        "{partition}: {id} knows who leads"
                    );
                }
                for (id, broker) in &self.brokers {
                    let image = broker.cluster.image();
                    let seen = image.partition(&partition);
                    let seen = seen.unwrap_or_else(|| panic!("{partition} is unknown to {id}"));
                    assert_eq!(
                        (seen.leader, seen.leader_epoch, &seen.isr),
                        (state.leader, state.leader_epoch, &state.isr),
                        "{partition}: the image of {id}"
                    );
                    assert_eq!(seen.replicas, assignment.replicas, "{partition}: of {id}");
                }
            }
        }
        for (id, broker) in &self.brokers {
            let image = broker.cluster.image();
            assert_eq!(image.brokers.len(), self.brokers.len(), "live to {id}");
            let seen: Vec<&TopicName> = image.topics.keys().collect();
            let stored: Vec<&TopicName> = self.topics.keys().collect();
            assert_eq!(seen, stored, "topics of {id}");
        }
    }
}

fn become_leader_or_follower(
    id: BrokerId,
    broker: &mut Broker,
    request: &LeaderAndIsrRequest,
) -> LeaderAndIsrResponse {
    let passage = broker.gate.enter(
        request.controller_id.0,
        request.controller_epoch,
        request.broker_epoch,
    );
    if let Err(code) = passage {
        return LeaderAndIsrResponse::default().with_error_code(code.value());
    }
    drop(passage);
    let mut topics = Vec::new();
    for topic in &request.topic_states {
        let mut errors = Vec::new();
        for state in &topic.partition_states {
            let partition = TopicPartition::new(topic.topic_name.as_str(), state.partition_index);
            let known = broker.replicas.get(&partition);
            // Of a topic of this name that is no more: its StopReplica was lost with the controller
            // that sent it. A real broker needs a restart to forget it.
            let known = known.filter(|known| known.topic_id == topic.topic_id);
            let code = if !state.replicas.iter().any(|replica| replica.0 == id) {
                ErrorCode::UnknownTopicOrPartition
            } else if known.is_some_and(|known| known.state.leader_epoch >= state.leader_epoch) {
                ErrorCode::StaleControllerEpoch
            } else {
                let told = LeaderAndIsr {
                    leader: state.leader.0,
                    leader_epoch: state.leader_epoch,
                    isr: state.isr.iter().map(|id| id.0).collect(),
                    recovering: state.leader_recovery_state == 1,
                    partition_epoch: state.partition_epoch,
                };
                let replica = Replica {
                    topic_id: topic.topic_id,
                    state: told,
                    pending: false,
                };
                broker.replicas.insert(partition, replica);
                ErrorCode::None
            };
            errors.push(
                LeaderAndIsrPartitionError::default()
                    .with_partition_index(state.partition_index)
                    .with_error_code(code.value()),
            );
        }
        topics.push(
            LeaderAndIsrTopicError::default()
                .with_topic_id(topic.topic_id)
                .with_partition_errors(errors),
        );
    }
    LeaderAndIsrResponse::default().with_topics(topics)
}

fn stop_replicas(broker: &mut Broker, request: &StopReplicaRequest) -> StopReplicaResponse {
    let passage = broker.gate.enter(
        request.controller_id.0,
        request.controller_epoch,
        request.broker_epoch,
    );
    if let Err(code) = passage {
        return StopReplicaResponse::default().with_error_code(code.value());
    }
    drop(passage);
    let mut errors = Vec::new();
    for topic in &request.topic_states {
        for state in &topic.partition_states {
            let partition = TopicPartition::new(topic.topic_name.as_str(), state.partition_index);
            let known = broker.replicas.get(&partition);
            let fenced = state.leader_epoch != EPOCH_DURING_DELETE
                && state.leader_epoch != -1
                && known.is_some_and(|known| known.state.leader_epoch > state.leader_epoch);
            let code = if fenced {
                ErrorCode::FencedLeaderEpoch
            } else {
                if state.delete_partition {
                    broker.replicas.remove(&partition);
                }
                ErrorCode::None
            };
            errors.push(
                StopReplicaPartitionError::default()
                    .with_topic_name(topic.topic_name.clone())
                    .with_partition_index(state.partition_index)
                    .with_error_code(code.value()),
            );
        }
    }
    StopReplicaResponse::default().with_partition_errors(errors)
}

/// What went wrong with this seed, if anything.
fn explore(seed: u64, fence_writes: bool) -> Result<(), String> {
    let run = || {
        let mut world = World::new(seed, fence_writes);
        for _ in 0..STEPS {
            world.step();
        }
        world.heal();
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

#[test]
fn whatever_the_order_states_stay_sound_and_all_comes_to_rest() {
    let (first, end) = std::env::var("OTTLA_EXPLORE_SEEDS")
        .ok()
        .and_then(|range| {
            let (first, end) = range.split_once("..")?;
            Some((first.parse().ok()?, end.parse().ok()?))
        })
        .unwrap_or((0, 400));
    for seed in first..end {
        if let Err(failure) = explore(seed, true) {
            panic!("seed {seed}: {failure}");
        }
    }
}

#[test]
fn each_seeded_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        bug::seed(Some(bug));
        match (0..1000).find_map(|seed| Some((seed, explore(seed, true).err()?))) {
            Some((seed, failure)) => println!("{bug:?}: seed {seed}: {failure}"),
            None => missed.push(bug),
        }
        bug::seed(None);
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    let unfenced = (0..1000).find_map(|seed| Some((seed, explore(seed, false).err()?)));
    let (seed, failure) = unfenced.expect("writes without the check of the controller epoch");
    println!("no check of the controller epoch: seed {seed}: {failure}");
}
