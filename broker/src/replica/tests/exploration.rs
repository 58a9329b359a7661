//! Three replicas of one partition, a controller and a network that loses, delays and reorders: the
//! real cores ([`State`], [`Fetcher`], `truncation`) in one process, one random step at a time, with
//! the invariants asserted after each.
//!
//! - I1, I9: what was acknowledged is in the log of every member of the ISR that the controller holds.
//! - I2, I6: below the high watermark one offset has one record, on every replica, for ever.
//! - I8: log start ≤ high watermark ≤ LEO; on one life of a replica the high watermark never falls.
//! - I19: leader ∈ ISR ⊆ assignment; epochs grow; who enters the ISR has all that is committed.
//!
//! Every bug of [`Bug`] is put in by the test, and must be found. A failure prints its seed;
//! `EXPLORATION_SEED` runs that one, `EXPLORATION_ROUNDS` more of them.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::memory::{Entry, MemoryLog, MemoryLogs};
use crate::error::ErrorCode;
use crate::replica::fetcher::core::{
    Ask, Fetcher, LeaderData, Next, OffsetKind, PartitionAnswer, Settings, Start,
};
use crate::replica::session::{PartitionKey, TopicKey, Wanted};
use crate::replica::state::{
    Committed, Decision, FollowerFetch, IsrOutcome, IsrProposal, RECOVERED, State,
};
use crate::replica::truncation::{Fetching, divergence};
use crate::types::{BrokerId, LeaderEpoch, Millis, Offset, TopicPartition, Uuid};

const BROKERS: [BrokerId; 3] = [1, 2, 3];
const ID: Uuid = Uuid::from_u128(7);
const LAG: Millis = 50;
const BACKOFF: Millis = 5;
const STEPS: usize = 400;
/// Seeds for the cores as they are, and at most for each bug.
const ROUNDS: u64 = 300;
const ROUNDS_FOR_A_BUG: u64 = 3000;

/// A mistake that others made, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// The high watermark is the leader's end, whatever the ISR has.
    HighWatermarkIgnoresIsr,
    /// B1: a new follower cuts at its high watermark, and no epoch is compared.
    CutAtHighWatermark,
    /// Nothing is ever cut.
    NoCut,
    /// B11 (KAFKA-10706): the epochs beyond a cut are kept.
    CutKeepsEpochs,
    /// A replica enters the ISR below the start of the leader's epoch.
    JoinsBelowEpochStart,
    /// B9 (KAFKA-13091): a shrink counts before the controller has agreed.
    ShrinkCountsAtOnce,
    /// An expansion does not count until the leader has heard that it was agreed.
    ExpansionCountsLate,
    /// B3 (KIP-320): the leader serves a follower of another epoch.
    LeaderIgnoresEpochs,
    /// A follower takes an answer to what it asked in another epoch.
    FollowerTakesLateAnswers,
    /// An append is acknowledged when it is in the leader's log.
    AcknowledgesAtOnce,
    /// The leader does not note its epoch before it writes.
    LeaderStartsWithoutEpoch,
    /// The controller elects a replica that is not in the ISR.
    ElectsAnybody,
    /// The controller takes a proposal without comparing epochs.
    ControllerIgnoresEpochs,
    /// An expansion that was not agreed to still counts as the ISR.
    KeepsRefusedExpansion,
}

const BUGS: [Bug; 14] = [
    Bug::HighWatermarkIgnoresIsr,
    Bug::CutAtHighWatermark,
    Bug::NoCut,
    Bug::CutKeepsEpochs,
    Bug::JoinsBelowEpochStart,
    Bug::ShrinkCountsAtOnce,
    Bug::ExpansionCountsLate,
    Bug::LeaderIgnoresEpochs,
    Bug::FollowerTakesLateAnswers,
    Bug::AcknowledgesAtOnce,
    Bug::LeaderStartsWithoutEpoch,
    Bug::ElectsAnybody,
    Bug::ControllerIgnoresEpochs,
    Bug::KeepsRefusedExpansion,
];

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Produce,
    Fetch,
    Deliver,
    Obey,
    Lose,
    Shrink,
    ProposeAgain,
    Wait,
    Crash,
    Notice,
    Elect,
}

/// How often, in the mean over all seeds.
const STEPS_OF_A_WORLD: [(Step, u32); 11] = [
    (Step::Produce, 14),
    (Step::Fetch, 26),
    (Step::Deliver, 35),
    (Step::Obey, 10),
    (Step::Lose, 3),
    (Step::Shrink, 3),
    (Step::ProposeAgain, 2),
    (Step::Wait, 2),
    (Step::Crash, 1),
    (Step::Notice, 3),
    (Step::Elect, 2),
];

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A fetch answer on its way back.
#[derive(Debug, Clone)]
struct Answer {
    error: ErrorCode,
    diverging: Option<crate::log::EpochEndOffset>,
    records: Vec<u8>,
    high_watermark: Offset,
    offset: Offset,
}

#[derive(Debug, Clone)]
enum Message {
    Asked {
        from: BrokerId,
        to: BrokerId,
        number: u64,
        ask: Ask,
    },
    Answered {
        to: BrokerId,
        number: u64,
        ask: Ask,
        answer: Answer,
    },
    Proposed {
        from: BrokerId,
        proposal: IsrProposal,
    },
    Decided {
        to: BrokerId,
        proposal: IsrProposal,
        answer: Result<Committed, ErrorCode>,
    },
}

/// A life of a broker, and its log, which outlives it.
struct Broker {
    is_up: bool,
    state: State,
    logs: MemoryLogs,
    fetcher: Fetcher,
    /// The request that the fetcher waits for.
    waits_for: Option<u64>,
    /// Decisions of the controller, in order.
    orders: VecDeque<Decision>,
    proposal: Option<IsrProposal>,
    /// Offset and value of appends that wait to be acknowledged.
    unacknowledged: Vec<(Offset, u64)>,
    /// Of this life.
    highest_watermark: Offset,
}

impl Broker {
    fn log(&self) -> &MemoryLog {
        &self.logs.0[&partition()]
    }

    fn log_mut(&mut self) -> &mut MemoryLog {
        self.logs.0.get_mut(&partition()).unwrap()
    }
}

/// What the controller holds.
struct Controller {
    leader: BrokerId,
    leader_epoch: LeaderEpoch,
    partition_epoch: i32,
    isr: Vec<BrokerId>,
    live: Vec<BrokerId>,
}

struct World {
    bug: Bug,
    rng: StdRng,
    now: Millis,
    brokers: BTreeMap<BrokerId, Broker>,
    controller: Controller,
    network: Vec<Message>,
    numbers: u64,
    values: u64,
    min_isr: i32,
    acknowledged: BTreeMap<Offset, u64>,
    /// What a reader may have seen: below some high watermark.
    seen: Vec<Entry>,
    is_traced: bool,
    trace: Vec<String>,
    weights: Vec<u32>,
    violation: Option<String>,
}

fn fetcher() -> Fetcher {
    Fetcher::new(Settings {
        backoff_ms: BACKOFF,
        max_bytes: 100,
        one_at_a_time: false,
    })
}

impl World {
    fn new(seed: u64, bug: Bug, is_traced: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Each seed has a temper of its own: much crashes in one, decisions are slow in another.
        let weights = STEPS_OF_A_WORLD
            .iter()
            .map(|(_, usual)| rng.random_range(1..=usual * 2))
            .collect();
        let brokers = BROKERS.map(|id| {
            let log = MemoryLog {
                keeps_epochs: bug == Bug::CutKeepsEpochs,
                ..MemoryLog::default()
            };
            let broker = Broker {
                is_up: true,
                state: State::new(id),
                logs: MemoryLogs([(partition(), log)].into()),
                fetcher: fetcher(),
                waits_for: None,
                orders: VecDeque::new(),
                proposal: None,
                unacknowledged: Vec::new(),
                highest_watermark: 0,
            };
            (id, broker)
        });
        let min_isr = rng.random_range(1..=2);
        let mut world = Self {
            bug,
            rng,
            now: 1000,
            brokers: brokers.into(),
            controller: Controller {
                leader: 1,
                leader_epoch: 0,
                partition_epoch: 0,
                isr: BROKERS.to_vec(),
                live: BROKERS.to_vec(),
            },
            network: Vec::new(),
            numbers: 0,
            values: 0,
            min_isr,
            acknowledged: BTreeMap::new(),
            seen: Vec::new(),
            is_traced,
            trace: Vec::new(),
            weights,
            violation: None,
        };
        world.order();
        world
    }

    /// Traced only when a run that failed is made again: lines cost more than steps.
    fn say(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.is_traced {
            let line = line(self);
            self.trace.push(line);
        }
    }

    /// Notes the first violation of an invariant.
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Tells every live replica what was decided.
    fn order(&mut self) {
        let decision = Decision {
            controller_epoch: 1,
            leader: self.controller.leader,
            leader_epoch: self.controller.leader_epoch,
            partition_epoch: self.controller.partition_epoch,
            isr: self.controller.isr.clone(),
            replicas: BROKERS.to_vec(),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            leader_recovery_state: RECOVERED,
        };
        for &id in &self.controller.live {
            if let Some(broker) = self.brokers.get_mut(&id) {
                broker.orders.push_back(decision.clone());
            }
        }
    }

    fn elect(&mut self) {
        let is_candidate = |id: &&BrokerId| {
            self.controller.live.contains(id)
                && (self.controller.isr.contains(id) || self.bug == Bug::ElectsAnybody)
        };
        let candidates: Vec<BrokerId> = BROKERS.iter().filter(is_candidate).copied().collect();
        let leader = candidates.choose(&mut self.rng).copied();
        let controller = &mut self.controller;
        controller.leader_epoch += 1;
        controller.partition_epoch += 1;
        match leader {
            Some(leader) => {
                controller.leader = leader;
                let live = controller.live.clone();
                controller.isr.retain(|id| live.contains(id));
                if !controller.isr.contains(&leader) {
                    controller.isr = vec![leader];
                }
            }
            None => controller.leader = -1,
        }
        self.say(|world| {
            let controller = &world.controller;
            format!(
                "elected {} in {}, ISR {:?}",
                controller.leader, controller.leader_epoch, controller.isr
            )
        });
        self.order();
    }

    fn any_broker(&mut self) -> BrokerId {
        *BROKERS.choose(&mut self.rng).unwrap()
    }

    fn step(&mut self) {
        let id = self.any_broker();
        let total: u32 = self.weights.iter().sum();
        let mut drawn = self.rng.random_range(0..total);
        let mut chosen = 0;
        while drawn >= self.weights[chosen] {
            drawn -= self.weights[chosen];
            chosen += 1;
        }
        match STEPS_OF_A_WORLD[chosen].0 {
            Step::Produce => self.produce(id),
            Step::Fetch => self.fetch(id),
            Step::Deliver => self.deliver(),
            Step::Obey => self.obey(id),
            Step::Lose => self.lose(id),
            Step::Shrink => self.shrink(id),
            Step::ProposeAgain => self.propose_again(id),
            Step::Wait => self.now += self.rng.random_range(1..LAG * 2),
            Step::Crash => self.crash(id),
            Step::Notice => self.notice(id),
            Step::Elect => self.elect(),
        }
        self.advance();
        self.check();
    }

    fn produce(&mut self, id: BrokerId) {
        let min_isr = self.min_isr;
        let broker = self.brokers.get_mut(&id).unwrap();
        if !broker.is_up || !broker.state.is_leader() || !broker.state.has_min_isr(min_isr) {
            return;
        }
        self.values += 1;
        let (epoch, value) = (broker.state.leader_epoch(), self.values);
        let log = broker.log_mut();
        let offset = log.end();
        log.append(Entry { epoch, value });
        broker.unacknowledged.push((offset, value));
        self.say(|_| format!("{id} appends {value} at {offset} in epoch {epoch}"));
    }

    /// The fetcher's next request goes out.
    fn fetch(&mut self, id: BrokerId) {
        let now = self.now;
        let broker = self.brokers.get_mut(&id).unwrap();
        if !broker.is_up || broker.waits_for.is_some() {
            return;
        }
        let Some(leader) = broker.state.leader().filter(|leader| *leader != id) else {
            return;
        };
        if let Next::Ask(ask) = broker.fetcher.next(now, &mut broker.logs) {
            self.numbers += 1;
            broker.waits_for = Some(self.numbers);
            self.network.push(Message::Asked {
                from: id,
                to: leader,
                number: self.numbers,
                ask,
            });
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.network.len());
        match self.network.swap_remove(at) {
            Message::Asked {
                from,
                to,
                number,
                ask,
            } => self.serve(from, to, number, ask),
            Message::Answered {
                to,
                number,
                ask,
                answer,
            } => self.answered(to, number, &ask, &answer),
            Message::Proposed { from, proposal } => self.decide(from, proposal),
            Message::Decided {
                to,
                proposal,
                answer,
            } => self.decided(to, &proposal, answer),
        }
    }

    /// The leader's side of a request (`ReplicaManager::try_read`).
    fn serve(&mut self, from: BrokerId, to: BrokerId, number: u64, ask: Ask) {
        let (now, bug, controller) = (self.now, self.bug, self.controller.live.clone());
        let broker = self.brokers.get_mut(&to).unwrap();
        if !broker.is_up {
            return;
        }
        let mut answer = Answer {
            error: ErrorCode::None,
            diverging: None,
            records: Vec::new(),
            high_watermark: broker.log().high_watermark,
            offset: -1,
        };
        let epoch = match &ask {
            Ask::EpochEnds(asks) => asks[0].current_leader_epoch,
            Ask::Offsets(_, asks) => asks[0].current_leader_epoch,
            Ask::Fetch(ask) => ask.partitions[0].1.wanted.current_leader_epoch.unwrap(),
        };
        let is_allowed = if bug == Bug::LeaderIgnoresEpochs {
            Ok(())
        } else {
            broker.state.check_leader_epoch(Some(epoch))
        };
        if let Err(code) = is_allowed {
            answer.error = code;
        } else if !broker.state.is_leader() && bug != Bug::LeaderIgnoresEpochs {
            answer.error = ErrorCode::NotLeaderOrFollower;
        } else {
            match &ask {
                Ask::EpochEnds(asks) => answer.diverging = Some(broker.log().end_of(asks[0].epoch)),
                Ask::Offsets(OffsetKind::Latest, _) => answer.offset = broker.log().end(),
                Ask::Offsets(OffsetKind::Earliest, _) => answer.offset = broker.log().start,
                Ask::Fetch(ask) => {
                    let wanted = ask.partitions[0].1.wanted;
                    let proposal =
                        serve_fetch(broker, from, wanted, now, bug, &controller, &mut answer);
                    if let Some(proposal) = proposal {
                        self.propose(to, proposal);
                    }
                }
            }
        }
        self.network.push(Message::Answered {
            to: from,
            number,
            ask,
            answer,
        });
    }

    fn answered(&mut self, to: BrokerId, number: u64, ask: &Ask, answer: &Answer) {
        let (now, bug) = (self.now, self.bug);
        let broker = self.brokers.get_mut(&to).unwrap();
        if !broker.is_up || broker.waits_for != Some(number) {
            if bug == Bug::FollowerTakesLateAnswers && broker.is_up && !broker.state.is_leader() {
                take_late(broker.log_mut(), answer);
            }
            return;
        }
        broker.waits_for = None;
        match ask {
            Ask::EpochEnds(_) => {
                let end = match answer.error {
                    ErrorCode::None => Ok(answer.diverging.unwrap()),
                    code => Err(code),
                };
                broker
                    .fetcher
                    .on_epoch_ends(now, [(partition(), end)], &mut broker.logs);
            }
            Ask::Offsets(..) => {
                let offset = match answer.error {
                    ErrorCode::None => Ok(answer.offset),
                    code => Err(code),
                };
                broker
                    .fetcher
                    .on_offsets(now, [(partition(), offset)], &mut broker.logs);
            }
            Ask::Fetch(_) => {
                let one = PartitionAnswer {
                    key: PartitionKey {
                        topic: TopicKey::Id(ID),
                        partition: 0,
                    },
                    error: answer.error,
                    diverging_epoch: answer.diverging,
                    data: LeaderData {
                        records: &answer.records,
                        high_watermark: answer.high_watermark,
                        log_start_offset: 0,
                    },
                };
                broker
                    .fetcher
                    .on_fetched(now, ErrorCode::None, 0, vec![one], &mut broker.logs);
            }
        }
        self.say(|_| format!("{to} gets {ask:?}: {answer:?}"));
    }

    /// A request or an answer is lost, or late: the follower gives up waiting.
    fn lose(&mut self, id: BrokerId) {
        let now = self.now;
        let broker = self.brokers.get_mut(&id).unwrap();
        if let Some(number) = broker.waits_for.take() {
            broker.fetcher.on_failure(now);
            // Half of them arrive all the same, later.
            if self.rng.random_bool(0.5) {
                self.network.retain(|message| match message {
                    Message::Asked { number: n, .. } | Message::Answered { number: n, .. } => {
                        *n != number
                    }
                    _ => true,
                });
            }
        }
        let is_proposal = |message: &Message| {
            matches!(message, Message::Proposed { .. } | Message::Decided { .. })
        };
        if let Some(at) = self.network.iter().position(is_proposal)
            && self.rng.random_bool(0.5)
        {
            self.network.swap_remove(at);
        }
    }

    fn propose(&mut self, from: BrokerId, proposal: IsrProposal) {
        self.say(|_| format!("{from} proposes {proposal:?}"));
        self.brokers.get_mut(&from).unwrap().proposal = Some(proposal.clone());
        self.network.push(Message::Proposed { from, proposal });
    }

    /// A proposal without an answer is made again.
    fn propose_again(&mut self, id: BrokerId) {
        let broker = self.brokers.get(&id).unwrap();
        if broker.is_up
            && let Some(proposal) = broker.proposal.clone()
        {
            self.network.push(Message::Proposed { from: id, proposal });
        }
    }

    fn shrink(&mut self, id: BrokerId) {
        let now = self.now;
        let broker = self.brokers.get_mut(&id).unwrap();
        let end = broker.log().end();
        if broker.is_up
            && let Some(proposal) = broker.state.propose_shrink(end, LAG, now)
        {
            self.propose(id, proposal);
        }
    }

    /// The controller decides on a proposal (contract §3.7).
    fn decide(&mut self, from: BrokerId, proposal: IsrProposal) {
        let controller = &mut self.controller;
        let committed = |controller: &Controller| Committed {
            leader_epoch: controller.leader_epoch,
            partition_epoch: controller.partition_epoch,
            isr: controller.isr.clone(),
            leader_recovery_state: RECOVERED,
        };
        let is_checked = self.bug != Bug::ControllerIgnoresEpochs;
        let answer = if is_checked && proposal.leader_epoch != controller.leader_epoch {
            Err(ErrorCode::FencedLeaderEpoch)
        } else if is_checked && proposal.isr == controller.isr {
            Ok(committed(controller))
        } else if is_checked && proposal.partition_epoch != controller.partition_epoch {
            Err(ErrorCode::InvalidUpdateVersion)
        } else if !proposal.isr.iter().all(|id| controller.live.contains(id)) {
            Err(ErrorCode::IneligibleReplica)
        } else {
            let joined: Vec<BrokerId> = proposal
                .isr
                .iter()
                .filter(|id| !controller.isr.contains(id))
                .copied()
                .collect();
            controller.isr = proposal.isr.clone();
            controller.partition_epoch += 1;
            let answer = Ok(committed(controller));
            self.check_joined(from, &joined);
            answer
        };
        self.say(|_| format!("the controller answers {from}: {answer:?}"));
        self.network.push(Message::Decided {
            to: from,
            proposal,
            answer,
        });
    }

    /// I19, when a replica enters the ISR.
    fn check_joined(&mut self, leader: BrokerId, joined: &[BrokerId]) {
        for id in joined {
            let end = self.brokers[id].log().end();
            let leader = &self.brokers[&leader];
            let start = leader.state.leader_epoch_start().unwrap_or(0);
            let high_watermark = leader.log().high_watermark;
            self.expect(end >= start && end >= high_watermark, || {
                format!(
                    "I19: {id} joins at {end}; the epoch began at {start}, the high watermark is {high_watermark}"
                )
            });
        }
    }

    fn decided(
        &mut self,
        to: BrokerId,
        proposal: &IsrProposal,
        answer: Result<Committed, ErrorCode>,
    ) {
        let bug = self.bug;
        let broker = self.brokers.get_mut(&to).unwrap();
        if !broker.is_up {
            return;
        }
        let answer = match answer {
            Err(ErrorCode::IneligibleReplica | ErrorCode::FencedLeaderEpoch)
                if bug == Bug::KeepsRefusedExpansion =>
            {
                Ok(Committed {
                    leader_epoch: proposal.leader_epoch,
                    partition_epoch: proposal.partition_epoch + 1,
                    isr: proposal.isr.clone(),
                    leader_recovery_state: RECOVERED,
                })
            }
            answer => answer,
        };
        match broker.state.on_isr_answer(proposal, answer) {
            IsrOutcome::Retry => {}
            IsrOutcome::Committed | IsrOutcome::Reverted | IsrOutcome::Waits => {
                broker.proposal = None;
            }
            IsrOutcome::Outdated => {}
        }
    }

    /// A broker takes the next decision.
    fn obey(&mut self, id: BrokerId) {
        let (now, bug) = (self.now, self.bug);
        let broker = self.brokers.get_mut(&id).unwrap();
        if !broker.is_up {
            return;
        }
        let Some(decision) = broker.orders.pop_front() else {
            return;
        };
        if decision.leader_epoch <= broker.state.leader_epoch()
            || broker.state.is_outdated(&decision)
        {
            return;
        }
        let said = self.is_traced.then(|| format!("{id} obeys {decision:?}"));
        let leader_epoch = decision.leader_epoch;
        broker.fetcher.remove(&partition());
        broker.proposal = None;
        if decision.leader == id {
            let end = broker.log().end();
            if bug != Bug::LeaderStartsWithoutEpoch {
                broker.log_mut().epochs.assign(leader_epoch, end);
            }
            broker.state.become_leader(decision, end, now);
        } else if decision.leader >= 0 {
            broker.state.become_follower(decision);
            if bug == Bug::CutAtHighWatermark {
                let high_watermark = broker.log().high_watermark;
                broker.log_mut().truncate_to(high_watermark);
            }
            let log = broker.log();
            let start = Start {
                topic_id: Some(ID),
                leader_epoch,
                fetch_offset: match log.epochs.latest() {
                    Some(_) => log.end(),
                    None => log.high_watermark,
                },
            };
            // One fetcher for each leader: another leader's has its own session and requests.
            broker.fetcher = fetcher();
            broker.waits_for = None;
            broker.fetcher.add(partition(), start, &broker.logs);
        }
        // Whoever waited is told that this broker leads no more.
        if !broker.state.is_leader() {
            broker.unacknowledged.clear();
        }
        self.trace.extend(said);
    }

    /// kill −9, and a new start: what was written stays, the checkpoint of the high watermark is old.
    fn crash(&mut self, id: BrokerId) {
        let broker = self.brokers.get_mut(&id).unwrap();
        if !broker.is_up {
            return;
        }
        let checkpoint = self.rng.random_range(0..=broker.log().high_watermark);
        broker.log_mut().high_watermark = checkpoint;
        broker.highest_watermark = checkpoint;
        broker.is_up = false;
        broker.state = State::new(id);
        broker.fetcher = fetcher();
        broker.waits_for = None;
        broker.orders.clear();
        broker.proposal = None;
        broker.unacknowledged.clear();
        self.say(|_| format!("{id} crashes, high watermark {checkpoint}"));
    }

    /// The controller notices that a broker is gone, or is back.
    fn notice(&mut self, id: BrokerId) {
        let is_live = self.controller.live.contains(&id);
        let broker = self.brokers.get_mut(&id).unwrap();
        match (broker.is_up, is_live) {
            (false, true) => {
                self.controller.live.retain(|live| *live != id);
                self.say(|_| format!("the controller misses {id}"));
                if self.controller.leader == id {
                    self.elect();
                } else if self.controller.isr.contains(&id) && self.controller.isr.len() > 1 {
                    self.controller.isr.retain(|member| *member != id);
                    self.controller.leader_epoch += 1;
                    self.controller.partition_epoch += 1;
                    self.order();
                }
            }
            (false, false) => {
                broker.is_up = true;
                self.controller.live.push(id);
                self.say(|_| format!("{id} is back"));
                if self.controller.leader == -1 {
                    self.elect();
                } else {
                    self.order();
                }
            }
            (true, _) => {}
        }
    }

    /// High watermarks follow at once, and those who wait for them are answered.
    fn advance(&mut self) {
        for id in BROKERS {
            let (now, min_isr, bug) = (self.now, self.min_isr, self.bug);
            let live = &self.controller.live;
            let broker = self.brokers.get_mut(&id).unwrap();
            if !broker.is_up || !broker.state.is_leader() {
                continue;
            }
            let end = broker.log().end();
            let candidate = match bug {
                Bug::HighWatermarkIgnoresIsr => Some(end),
                Bug::ShrinkCountsAtOnce | Bug::ExpansionCountsLate
                    if broker.state.is_isr_pending() =>
                {
                    let proposed = broker.proposal.as_ref().map(|proposal| &proposal.isr);
                    let committed = broker.state.isr();
                    let counted = match proposed {
                        Some(proposed)
                            if bug == Bug::ShrinkCountsAtOnce
                                && proposed.len() < committed.len() =>
                        {
                            proposed
                        }
                        _ => committed,
                    };
                    broker.state.least_end_of(counted, end)
                }
                _ => broker.state.high_watermark_candidate(
                    end,
                    || min_isr,
                    LAG,
                    now,
                    |id| live.contains(&id),
                ),
            };
            if let Some(candidate) = candidate {
                broker.log_mut().advance_high_watermark(candidate);
            }
            let high_watermark = broker.log().high_watermark;
            for (offset, value) in std::mem::take(&mut broker.unacknowledged) {
                let broker = self.brokers.get_mut(&id).unwrap();
                let answer = if bug == Bug::AcknowledgesAtOnce {
                    Some(Ok(()))
                } else {
                    broker
                        .state
                        .acknowledged(offset + 1, high_watermark, min_isr)
                };
                match answer {
                    None => broker.unacknowledged.push((offset, value)),
                    Some(Err(_)) => {}
                    Some(Ok(())) => {
                        let before = self.acknowledged.insert(offset, value);
                        self.expect(before.is_none() || before == Some(value), || {
                            format!("I1: {value} and {before:?} were both acknowledged at {offset}")
                        });
                    }
                }
            }
        }
    }

    fn check(&mut self) {
        let controller = &self.controller;
        let is_sound = (controller.leader == -1 || controller.isr.contains(&controller.leader))
            && !controller.isr.is_empty()
            && controller.isr.iter().all(|id| BROKERS.contains(id));
        let what = format!(
            "I19: leader {}, ISR {:?}",
            controller.leader, controller.isr
        );
        self.expect(is_sound, || what);
        for id in BROKERS {
            let broker = self.brokers.get_mut(&id).unwrap();
            let log = broker.log();
            let (start, end, high_watermark) = (log.start, log.end(), log.high_watermark);
            // Logs start at 0 here.
            let readable = &log.entries[..usize::try_from(high_watermark.min(end)).unwrap()];
            let known = readable.len().min(self.seen.len());
            let changed = (0..known).find(|&offset| readable[offset] != self.seen[offset]);
            let changed = changed.map(|offset| (offset, readable[offset], self.seen[offset]));
            self.seen.extend_from_slice(&readable[known..]);
            let before = broker.highest_watermark;
            broker.highest_watermark = high_watermark;
            self.expect(
                start == 0 && start <= high_watermark && high_watermark <= end,
                || {
                    format!(
                        "I8: {id} has start {start}, high watermark {high_watermark}, end {end}"
                    )
                },
            );
            self.expect(before <= high_watermark, || {
                format!("I8: the high watermark of {id} fell from {before} to {high_watermark}")
            });
            self.expect(changed.is_none(), || {
                format!("I2, I6: on {id} an offset has another record than before: {changed:?}")
            });
        }
        for (&offset, &value) in &self.acknowledged {
            for id in &self.controller.isr {
                let found = self.brokers[id].log().get(offset).map(|entry| entry.value);
                if found != Some(value) && self.violation.is_none() {
                    self.violation = Some(format!(
                        "I1, I9: {value} was acknowledged at {offset}, where {id} of the ISR has {found:?}"
                    ));
                }
            }
        }
    }

    /// Everything heals: all come back, all messages arrive; then every replica is the same.
    fn heal(&mut self) {
        for id in BROKERS {
            self.notice(id);
            self.notice(id);
        }
        self.elect();
        for _ in 0..3000 {
            for id in BROKERS {
                self.obey(id);
                self.fetch(id);
                self.propose_again(id);
            }
            self.deliver();
            self.now += 1;
            self.advance();
            self.check();
            if self.violation.is_some() || self.is_whole() {
                return;
            }
        }
        let ends: Vec<_> = self
            .brokers
            .values()
            .map(|broker| (broker.log().high_watermark, broker.log().end()))
            .collect();
        let isr = self.controller.isr.clone();
        self.expect(false, || {
            format!("I9: it does not heal: {ends:?}, ISR {isr:?}")
        });
    }

    /// One log, all of it committed, on every member of a whole ISR.
    fn is_whole(&self) -> bool {
        let leader = self.brokers[&self.controller.leader].log();
        self.controller.isr.len() == 3
            && self.brokers.values().all(|broker| {
                broker.orders.is_empty()
                    && broker.log().entries == leader.entries
                    && broker.log().high_watermark == leader.end()
            })
    }
}

/// `ReplicaManager::try_read` for a follower.
fn serve_fetch(
    broker: &mut Broker,
    from: BrokerId,
    wanted: Wanted,
    now: Millis,
    bug: Bug,
    live: &[BrokerId],
    answer: &mut Answer,
) -> Option<IsrProposal> {
    let end = broker.log().end();
    let compares = !matches!(bug, Bug::CutAtHighWatermark | Bug::NoCut);
    if let Some(last_fetched_epoch) = wanted.last_fetched_epoch.filter(|_| compares) {
        let fetching = Fetching {
            fetch_offset: wanted.fetch_offset,
            last_fetched_epoch,
        };
        match divergence(
            fetching,
            broker.log().end_of(last_fetched_epoch),
            broker.log().start,
        ) {
            Err(code) => {
                answer.error = code;
                return None;
            }
            Ok(Some(end)) => {
                answer.diverging = Some(end);
                return None;
            }
            Ok(None) => {}
        }
    }
    if wanted.fetch_offset > end {
        if bug == Bug::NoCut {
            return None;
        }
        answer.error = ErrorCode::OffsetOutOfRange;
        return None;
    }
    answer.records = broker.log().read(wanted.fetch_offset, 2);
    let fetch = FollowerFetch {
        fetch_offset: wanted.fetch_offset,
        log_start_offset: wanted.log_start_offset,
        leader_end_offset: end,
        broker_epoch: -1,
        now,
    };
    if !broker.state.is_leader() || !broker.state.on_follower_fetch(from, fetch) {
        return None;
    }
    let high_watermark = broker.log().high_watermark;
    if bug == Bug::JoinsBelowEpochStart {
        return broker.state.propose_expansion_at(from, high_watermark);
    }
    broker
        .state
        .propose_expansion(from, high_watermark, |id| live.contains(&id))
}

/// What a follower without checks would do with an answer of the past.
fn take_late(log: &mut MemoryLog, answer: &Answer) {
    for bytes in answer.records.chunks(20) {
        let offset = i64::from_be_bytes(bytes[..8].try_into().unwrap());
        if offset == log.end() {
            log.append(Entry {
                epoch: i32::from_be_bytes(bytes[8..12].try_into().unwrap()),
                value: u64::from_be_bytes(bytes[12..].try_into().unwrap()),
            });
        }
    }
    log.advance_high_watermark(answer.high_watermark);
}

/// One run: how many records were acknowledged, or what was violated, with the last steps.
fn run(seed: u64, bug: Bug) -> Result<usize, String> {
    let world = world_after(seed, bug, false);
    match world.violation {
        None => Ok(world.acknowledged.len()),
        Some(what) => {
            let trace = world_after(seed, bug, true).trace;
            let from = trace.len().saturating_sub(40);
            Err(format!("{what}\n{}", trace[from..].join("\n")))
        }
    }
}

fn world_after(seed: u64, bug: Bug, is_traced: bool) -> World {
    let mut world = World::new(seed, bug, is_traced);
    for _ in 0..STEPS {
        world.step();
        if world.violation.is_some() {
            return world;
        }
    }
    world.heal();
    world
}

fn from_environment(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}

#[test]
fn no_interleaving_breaks_an_invariant() {
    let seeds = match from_environment("EXPLORATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("EXPLORATION_ROUNDS").unwrap_or(ROUNDS),
    };
    let mut acknowledged = 0;
    for seed in seeds {
        match run(seed, Bug::None) {
            Ok(count) => acknowledged += count,
            Err(what) => panic!("EXPLORATION_SEED={seed}: {what}"),
        }
    }
    assert!(acknowledged > 0, "nothing was ever acknowledged");
}

#[test]
fn every_known_bug_is_found() {
    let found: Vec<(Bug, Option<(u64, String)>)> = BUGS
        .iter()
        .map(|&bug| {
            let caught = (0..ROUNDS_FOR_A_BUG)
                .find_map(|seed| run(seed, bug).err().map(|what| (seed, what)));
            (bug, caught)
        })
        .collect();
    for (bug, caught) in &found {
        match caught {
            Some((seed, what)) => {
                println!(
                    "{bug:?}: seed {seed}: {}",
                    what.lines().next().unwrap_or_default()
                );
            }
            None => println!("{bug:?}: not found"),
        }
    }
    let missed: Vec<Bug> = found
        .iter()
        .filter(|(_, caught)| caught.is_none())
        .map(|(bug, _)| *bug)
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
