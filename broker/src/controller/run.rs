//! The controller's single event loop over coordination store and brokers. Edge.
//!
//! ```text
//! stand by ─/controller created by us─▶ lead ─resigned, moved, session lost─▶ stand by
//! ```
//! Standing by watches `/controller` and tries to create it when it is absent; leading takes over
//! the store's content, then turns watches, answers and commands into events for the core, one at
//! a time. Everything of a term (core, watches, queues to brokers) is dropped with it.
//!
//! Invariants:
//! 1. `is_active` is true only between a won election and the end of that term.
//! 2. Watches are set before what they watch is read, so no change is missed.
//! 3. A new session registers the broker before it stands for election.
//!
//! Source: `KafkaController.scala`, `ControllerEventManager.scala`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::config::Config;
use crate::error::ErrorCode;
use crate::types::{BrokerId, ProducerId, TopicName, TopicPartition};
use crate::zk::{self, BoxFuture, SessionState, Store, Watch, paths};

use super::channel::{ChannelSettings, Channels, LocalBroker};
use super::core::{CONTROLLER, Core, Settings};
use super::event::{
    Answer, ByPartition, Effect, Event, IsrAnswers, IsrChange, Question, Ticket, TopicRef,
};
use super::state::ReplicaAssignment;
use super::store::{ControllerStore, Lost, Term};

/// Nobody is controller, as far as we know.
const NOBODY: BrokerId = -1;
/// Kafka tries the first preferred-leader round this long after fail-over.
const FIRST_REBALANCE: Duration = Duration::from_secs(5);
/// Between attempts when the store fails in a way it should not.
const RETRY: Duration = Duration::from_secs(1);

/// Registers this broker in the store again, after its session was lost.
pub type Register = Arc<dyn Fn() -> BoxFuture<'static, Result<(), zk::Error>> + Send + Sync>;

/// What a controller needs.
pub struct ControllerParts {
    pub settings: Settings,
    pub channel: ChannelSettings,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub local: Arc<dyn LocalBroker>,
    /// Called in every session but the first, in which the broker registers before it starts us.
    pub register: Register,
    /// `leader.imbalance.check.interval.seconds`; `None` without `auto.leader.rebalance.enable`.
    pub rebalance_interval: Option<Duration>,
}

impl Settings {
    /// What the configuration says.
    pub fn from_config(config: &Config) -> Self {
        Self {
            controller_id: config.broker_id(),
            inter_broker_listener: config.inter_broker_listener_name().to_owned(),
            delete_topic_enable: config.delete_topic_enable(),
            unclean_leader_election_enable: config.unclean_leader_election_enable(),
            leader_imbalance_per_broker_percentage: config.leader_imbalance_per_broker_percentage(),
        }
    }
}

/// The interval of automatic preferred-leader elections, when they are enabled.
pub fn rebalance_interval(config: &Config) -> Option<Duration> {
    let seconds = u64::try_from(config.leader_imbalance_check_interval_seconds()).ok()?;
    config
        .auto_leader_rebalance_enable()
        .then(|| Duration::from_secs(seconds))
}

/// The handle by which APIs reach the controller of this broker (active or not).
pub struct Controller {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the loop publishes.
struct Shared {
    id: BrokerId,
    active_id: AtomicI32,
    epoch: AtomicI32,
    /// Topics queued for deletion by the active controller; empty on others.
    deletions: ArcSwap<BTreeSet<TopicName>>,
}

#[derive(Debug)]
enum Command {
    UncleanDefault(bool),
    UncleanTopic(TopicName),
    Ask {
        question: Question,
        reply: oneshot::Sender<Answer>,
    },
}

impl Controller {
    /// Starts standing by. Needs the tokio runtime it is to live on (the control runtime).
    pub fn start(parts: ControllerParts) -> Arc<Self> {
        let (commands, received) = mpsc::unbounded_channel();
        let stop = watch::Sender::new(false);
        let shared = Arc::new(Shared {
            id: parts.settings.controller_id,
            active_id: AtomicI32::new(NOBODY),
            epoch: AtomicI32::new(0),
            deletions: ArcSwap::default(),
        });
        info!(target: CONTROLLER, "[Controller id={}] Controller starting up", shared.id);
        let candidate = Candidate {
            store: ControllerStore::new(Arc::clone(&parts.store), parts.settings.controller_id),
            states: parts.store.session_states(),
            parts,
            shared: Arc::clone(&shared),
            commands: received,
            session: None,
        };
        let task = tokio::spawn(candidate.run(stop.subscribe()));
        Arc::new(Self {
            shared,
            commands,
            stop,
            task: Mutex::new(Some(task)),
        })
    }

    /// True while this broker is the active controller.
    pub fn is_active(&self) -> bool {
        self.active_controller_id() == Some(self.shared.id)
    }

    /// Who is controller, as far as this broker has heard.
    pub fn active_controller_id(&self) -> Option<BrokerId> {
        Some(self.shared.active_id.load(Ordering::Acquire)).filter(|id| *id != NOBODY)
    }

    /// The epoch of our last term; 0 before the first.
    pub fn epoch(&self) -> i32 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    /// Active controller only: the topic is on its way out.
    pub fn is_queued_for_deletion(&self, topic: &str) -> bool {
        self.shared.deletions.load().contains(topic)
    }

    /// The broker's default of `unclean.leader.election.enable` changed.
    pub fn set_unclean_leader_election_enable(&self, enable: bool) {
        // A stopped controller needs no news.
        let _ = self.commands.send(Command::UncleanDefault(enable));
    }

    /// A topic's `unclean.leader.election.enable` became true.
    pub fn enable_topic_unclean_leader_election(&self, topic: TopicName) {
        let _ = self.commands.send(Command::UncleanTopic(topic));
    }

    /// Puts a question to the active controller, if it is this one. NOT_CONTROLLER also when the
    /// term ends before the answer: what was asked may have been done all the same.
    async fn ask(&self, question: Question) -> Result<Answer, ErrorCode> {
        if !self.is_active() {
            return Err(ErrorCode::NotController);
        }
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Ask { question, reply })
            .map_err(|_| ErrorCode::NotController)?;
        answer.await.map_err(|_| ErrorCode::NotController)
    }

    /// A broker is about to stop; the partitions it leads all the same. `broker_epoch` −1 is not
    /// checked.
    pub async fn controlled_shutdown(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
    ) -> Result<Vec<TopicPartition>, ErrorCode> {
        let question = Question::ControlledShutdown {
            broker,
            broker_epoch,
        };
        match self.ask(question).await? {
            Answer::ControlledShutdown(result) => result,
            other => Err(unexpected(&other)),
        }
    }

    /// ISRs that the leader `broker` wants.
    pub async fn alter_partition(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
        topics: Vec<(TopicRef, Vec<IsrChange>)>,
    ) -> Result<IsrAnswers, ErrorCode> {
        let question = Question::AlterPartition {
            broker,
            broker_epoch,
            topics,
        };
        match self.ask(question).await? {
            Answer::AlterPartition(result) => result,
            other => Err(unexpected(&other)),
        }
    }

    /// The first of the next [`super::event::PRODUCER_ID_BLOCK_SIZE`] producer ids, for `broker`.
    pub async fn allocate_producer_ids(
        &self,
        broker: BrokerId,
        broker_epoch: i64,
    ) -> Result<ProducerId, ErrorCode> {
        let question = Question::AllocateProducerIds {
            broker,
            broker_epoch,
        };
        match self.ask(question).await? {
            Answer::AllocateProducerIds(result) => result,
            other => Err(unexpected(&other)),
        }
    }

    /// Elects the preferred leaders of these partitions, or any live replica (`unclean`) of those
    /// without a live leader.
    pub async fn elect_leaders(
        &self,
        unclean: bool,
        partitions: Vec<TopicPartition>,
    ) -> Result<ByPartition<BrokerId>, ErrorCode> {
        let question = Question::ElectLeaders {
            unclean,
            partitions,
        };
        match self.ask(question).await? {
            Answer::ElectLeaders(results) => Ok(results),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins, replaces or (`None`) cancels reassignments.
    pub async fn reassign(
        &self,
        partitions: Vec<(TopicPartition, Option<Vec<BrokerId>>)>,
    ) -> Result<ByPartition<()>, ErrorCode> {
        match self.ask(Question::Reassign(partitions)).await? {
            Answer::Reassign(results) => Ok(results),
            other => Err(unexpected(&other)),
        }
    }

    /// Reassignments that go on, of these partitions or of all.
    pub async fn list_reassignments(
        &self,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Result<Vec<(TopicPartition, ReplicaAssignment)>, ErrorCode> {
        match self.ask(Question::ListReassignments(partitions)).await? {
            Answer::ListReassignments(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// Resigns and ends the loop. `/controller` goes with the session, as in Kafka.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(failure) = task.await
        {
            error!(target: CONTROLLER, "[Controller id={}] The event loop failed: {failure}", self.shared.id);
        }
    }
}

/// The core answers a question in its own shape; anything else is a mistake of ours.
fn unexpected(answer: &Answer) -> ErrorCode {
    error!(target: CONTROLLER, "The controller's answer is to another question: {answer:?}");
    ErrorCode::UnknownServerError
}

/// This broker, standing by or leading.
struct Candidate {
    parts: ControllerParts,
    store: ControllerStore,
    states: watch::Receiver<SessionState>,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// The session in which the broker is registered.
    session: Option<i64>,
}

impl Candidate {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.stand_and_lead() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        shared.resign();
        info!(target: CONTROLLER, "[Controller id={}] Resigned", shared.id);
    }

    async fn stand_and_lead(&mut self) {
        loop {
            match self.stand_by().await {
                Ok(term) => {
                    let end = self.lead(term).await;
                    self.shared.resign();
                    info!(target: CONTROLLER, "{self} Resigned");
                    self.after_term(term, end).await;
                }
                Err(Lost::Closed) => return,
                Err(lost) => {
                    self.shared.resign();
                    debug!(target: CONTROLLER, "{self} Election interrupted: {lost}");
                    if !matches!(lost, Lost::Session | Lost::Moved) {
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
    }

    async fn after_term(&mut self, term: Term, end: Lost) {
        match end {
            Lost::Moved | Lost::Session | Lost::Closed => {
                warn!(target: CONTROLLER, "{self} No longer controller: {end}");
            }
            Lost::Store(failure) => {
                error!(
                    target: CONTROLLER,
                    "{self} Error while electing or becoming controller on broker {}. Trigger controller movement immediately: {failure}",
                    self.shared.id
                );
                if let Err(failure) = self.store.delete_controller(term).await {
                    warn!(
                        target: CONTROLLER,
                        "{self} Controller has already moved when trying to trigger controller movement: {failure}"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Waits for a session with our registration in it; keeps invariant 3.
    async fn connected(&mut self) -> Result<i64, Lost> {
        let session = loop {
            match *self.states.borrow_and_update() {
                SessionState::Connected { session_id } => break session_id,
                SessionState::Closed => return Err(Lost::Closed),
                SessionState::Disconnected { .. }
                | SessionState::Expired
                | SessionState::AuthFailed => {}
            }
            if self.states.changed().await.is_err() {
                return Err(Lost::Closed);
            }
        };
        if self.session.is_some_and(|known| known != session) {
            (self.parts.register)().await.map_err(Lost::from)?;
        }
        self.session = Some(session);
        Ok(session)
    }

    /// Until `/controller` is ours.
    async fn stand_by(&mut self) -> Result<Term, Lost> {
        loop {
            let session = self.connected().await?;
            let (exists, watch) = self.store.watch_controller().await?;
            if !exists {
                if let Some(term) = self.store.elect(self.parts.clock.now()).await? {
                    return Ok(term);
                }
                continue;
            }
            let Some(active) = self.store.controller_id().await? else {
                continue;
            };
            self.shared.active_id.store(active, Ordering::Release);
            debug!(
                target: CONTROLLER,
                "{self} Broker {active} has been elected as the controller, so stopping the election process."
            );
            tokio::select! {
                _ = watch => {}
                () = other_session(&mut self.states, session) => {}
                () = drain(&mut self.commands) => {}
            }
            self.shared.active_id.store(NOBODY, Ordering::Release);
        }
    }

    /// One term of office, to its end.
    async fn lead(&mut self, term: Term) -> Lost {
        let Some(session) = self.session else {
            return Lost::Session;
        };
        info!(
            target: CONTROLLER,
            "{self} {} successfully elected as the controller. Epoch incremented to {} and epoch zk version is now {}",
            self.shared.id, term.epoch, term.zk_version
        );
        let (answers, answered) = mpsc::unbounded_channel();
        let (signals, signalled) = mpsc::unbounded_channel();
        let mut office = Office {
            core: Core::new(self.parts.settings.clone()),
            store: &self.store,
            term,
            channels: Channels::new(
                self.parts.channel.clone(),
                Arc::clone(&self.parts.local),
                answers,
            ),
            asked: HashMap::new(),
            next_ticket: 0,
            seen_reassignments: None,
            seen_preferred_elections: None,
            signals,
            watched_brokers: HashSet::new(),
            watched_topics: HashSet::new(),
            shared: &self.shared,
            unclean_default: &mut self.parts.settings.unclean_leader_election_enable,
        };
        let rebalance = self.parts.rebalance_interval;
        let work = office.work(answered, signalled, &mut self.commands, rebalance);
        tokio::select! {
            lost = work => lost,
            () = other_session(&mut self.states, session) => Lost::Session,
        }
    }
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[Controller id={}]", self.shared.id)
    }
}

impl Shared {
    fn resign(&self) {
        self.active_id.store(NOBODY, Ordering::Release);
        self.deletions.store(Arc::default());
    }
}

/// Commands concern the active controller; a broker that stands by ignores them.
async fn drain(commands: &mut mpsc::UnboundedReceiver<Command>) {
    while commands.recv().await.is_some() {}
    std::future::pending().await
}

/// Returns when `session` is over, or never.
async fn other_session(states: &mut watch::Receiver<SessionState>, session: i64) {
    loop {
        match *states.borrow_and_update() {
            SessionState::Connected { session_id } | SessionState::Disconnected { session_id }
                if session_id == session => {}
            _ => return,
        }
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// What has changed in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Watched {
    Controller,
    Brokers,
    Broker(BrokerId),
    Topics,
    Topic(TopicName),
    Deletions,
    LogDirEvents,
    IsrChanges,
    Reassignments,
    PreferredElections,
}

/// The active controller at work.
struct Office<'a> {
    core: Core,
    store: &'a ControllerStore,
    term: Term,
    channels: Channels,
    /// Who waits for an answer; who still does at the end of the term learns that it is over.
    asked: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: Ticket,
    /// czxid of the node that was last worked off: it is looked at once, when it is created.
    seen_reassignments: Option<i64>,
    seen_preferred_elections: Option<i64>,
    signals: mpsc::UnboundedSender<Watched>,
    watched_brokers: HashSet<BrokerId>,
    watched_topics: HashSet<TopicName>,
    shared: &'a Shared,
    unclean_default: &'a mut bool,
}

impl Office<'_> {
    async fn work(
        &mut self,
        answered: mpsc::UnboundedReceiver<Event>,
        signalled: mpsc::UnboundedReceiver<Watched>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        rebalance: Option<Duration>,
    ) -> Lost {
        match self.serve(answered, signalled, commands, rebalance).await {
            Ok(never) => match never {},
            Err(lost) => lost,
        }
    }

    async fn serve(
        &mut self,
        mut answered: mpsc::UnboundedReceiver<Event>,
        mut signalled: mpsc::UnboundedReceiver<Watched>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        rebalance: Option<Duration>,
    ) -> Result<std::convert::Infallible, Lost> {
        // Whatever was promised for a term before this one is over.
        self.core
            .set_unclean_leader_election_enable(*self.unclean_default);
        self.shared.epoch.store(self.term.epoch, Ordering::Release);
        self.shared
            .active_id
            .store(self.shared.id, Ordering::Release);
        self.fail_over().await?;
        let mut next_rebalance = rebalance.map(|_| Instant::now() + FIRST_REBALANCE);
        loop {
            tokio::select! {
                Some(event) = answered.recv() => self.drive(event).await?,
                Some(what) = signalled.recv() => self.reread(what).await?,
                Some(command) = commands.recv() => self.obey(command).await?,
                () = at(next_rebalance) => {
                    self.drive(Event::AutoLeaderRebalance).await?;
                    next_rebalance = rebalance.map(|interval| Instant::now() + interval);
                }
            }
        }
    }

    /// Takes over the store's content.
    async fn fail_over(&mut self) -> Result<(), Lost> {
        self.store.ensure_feature_node().await?;
        info!(target: CONTROLLER, "{} Registering handlers", self.core);
        // Nothing may have happened to `/controller` between the election and this watch.
        self.reread_controller().await?;
        let ((_, of_log_dirs), (_, of_isrs)) =
            tokio::try_join!(self.store.log_dir_events(), self.store.isr_changes())?;
        self.watch(of_log_dirs, Watched::LogDirEvents);
        self.watch(of_isrs, Watched::IsrChanges);
        info!(target: CONTROLLER, "{} Deleting log dir event notifications", self.core);
        info!(target: CONTROLLER, "{} Deleting isr change notifications", self.core);
        self.store.delete_notifications(self.term).await?;
        info!(target: CONTROLLER, "{} Initializing controller context", self.core);
        let loaded = self.store.load(self.term).await?;
        self.watch(loaded.brokers_watch, Watched::Brokers);
        self.watch(loaded.topics_watch, Watched::Topics);
        self.watch(loaded.deletions_watch, Watched::Deletions);
        self.seen_reassignments = loaded.reassignments.created;
        self.watch(loaded.reassignments.watch, Watched::Reassignments);
        self.seen_preferred_elections = loaded.preferred_elections.created;
        self.watch(
            loaded.preferred_elections.watch,
            Watched::PreferredElections,
        );
        for (broker, watch) in loaded.broker_watches {
            self.watched_brokers.insert(broker);
            self.watch(watch, Watched::Broker(broker));
        }
        for (topic, watch) in loaded.topic_watches {
            self.watched_topics.insert(topic.clone());
            self.watch(watch, Watched::Topic(topic));
        }
        self.drive(Event::Elected {
            epoch: self.term.epoch,
            snapshot: loaded.snapshot,
        })
        .await
    }

    fn watch(&self, watch: Watch, what: Watched) {
        let signals = self.signals.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = watch => {
                    // The term may be over; then nobody listens.
                    let _ = signals.send(what);
                }
                () = signals.closed() => {}
            }
        });
    }

    /// Feeds one event and carries out what follows from it.
    async fn drive(&mut self, event: Event) -> Result<(), Lost> {
        let mut effects = Vec::new();
        self.core.step(event, &mut effects);
        loop {
            let mut asked = None;
            for effect in effects.drain(..) {
                match effect {
                    Effect::Store(ops) => asked = Some(ops),
                    Effect::Send { broker, request } => self.channels.send(broker, request),
                    Effect::AddBroker(broker) => self.channels.add(&broker),
                    Effect::RemoveBroker(broker) => self.channels.remove(broker),
                    Effect::ForgetTopic(topic) => {
                        self.watched_topics.remove(&topic);
                    }
                    Effect::Answer { ticket, answer } => {
                        if let Some(reply) = self.asked.remove(&ticket) {
                            // Who asked may have given up.
                            let _ = reply.send(answer);
                        }
                    }
                }
            }
            self.publish_deletions();
            let Some(ops) = asked else {
                return Ok(());
            };
            let replies = self.store.perform(self.term, ops).await?;
            self.core.step(Event::StoreReplies(replies), &mut effects);
        }
    }

    fn publish_deletions(&self) {
        let queued = &self.core.context().topics_to_be_deleted;
        if **self.shared.deletions.load() != *queued {
            self.shared.deletions.store(Arc::new(queued.clone()));
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Lost> {
        match command {
            Command::UncleanDefault(enable) => {
                *self.unclean_default = enable;
                self.core.set_unclean_leader_election_enable(enable);
                if enable {
                    self.drive(Event::UncleanElectionEnabled(None)).await?;
                }
                Ok(())
            }
            Command::UncleanTopic(topic) => {
                self.drive(Event::UncleanElectionEnabled(Some(topic))).await
            }
            Command::Ask { question, reply } => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.asked.insert(ticket, reply);
                self.drive(Event::Asked { ticket, question }).await
            }
        }
    }

    async fn reread_controller(&mut self) -> Result<(), Lost> {
        let (_, watch) = self.store.watch_controller().await?;
        if self.store.controller_id().await? != Some(self.shared.id) {
            return Err(Lost::Moved);
        }
        self.watch(watch, Watched::Controller);
        Ok(())
    }

    /// Sets the watch again and reads what it watches.
    async fn reread(&mut self, what: Watched) -> Result<(), Lost> {
        match what {
            Watched::Controller => self.reread_controller().await,
            Watched::Brokers => {
                let watched = &self.watched_brokers;
                let (brokers, watch, broker_watches) =
                    self.store.brokers(|id| !watched.contains(&id)).await?;
                self.watch(watch, Watched::Brokers);
                for (id, watch) in broker_watches {
                    self.watched_brokers.insert(id);
                    self.watch(watch, Watched::Broker(id));
                }
                self.drive(Event::BrokersChanged(brokers)).await
            }
            Watched::Broker(id) => {
                // A broker that is gone shows up in the list of brokers.
                let Some((broker, watch)) = self.store.broker(id).await? else {
                    self.watched_brokers.remove(&id);
                    return Ok(());
                };
                self.watch(watch, Watched::Broker(id));
                self.drive(Event::BrokerModified(broker)).await
            }
            Watched::Topics => {
                let known = &self.core.context().topics;
                let found = self
                    .store
                    .topics(self.term, |name| !known.contains_key(name))
                    .await?;
                self.watch(found.watch, Watched::Topics);
                for (topic, watch) in found.topic_watches {
                    if self.watched_topics.insert(topic.clone()) {
                        self.watch(watch, Watched::Topic(topic));
                    }
                }
                self.drive(Event::TopicsChanged {
                    all: found.all,
                    new: found.read,
                })
                .await
            }
            Watched::Topic(name) => {
                if !self.watched_topics.contains(&name) {
                    return Ok(());
                }
                let Some((topic, watch)) = self.store.topic(&name).await? else {
                    self.watched_topics.remove(&name);
                    return Ok(());
                };
                self.watch(watch, Watched::Topic(name.clone()));
                let created = if self.core.context().is_queued_for_deletion(&name) {
                    self.store.created_partitions(&name).await?
                } else {
                    Vec::new()
                };
                self.drive(Event::TopicModified { topic, created }).await
            }
            Watched::Deletions => {
                let (marked, watch) = self.store.deletions().await?;
                self.watch(watch, Watched::Deletions);
                self.drive(Event::DeletionsChanged(marked)).await
            }
            Watched::LogDirEvents => {
                let (events, watch) = self.store.log_dir_events().await?;
                self.watch(watch, Watched::LogDirEvents);
                let brokers = self.store.take_log_dir_events(self.term, &events).await?;
                if brokers.is_empty() {
                    return Ok(());
                }
                self.drive(Event::LogDirFailure(brokers)).await
            }
            Watched::IsrChanges => {
                let (names, watch) = self.store.isr_changes().await?;
                self.watch(watch, Watched::IsrChanges);
                if names.is_empty() {
                    return Ok(());
                }
                let partitions = self.store.read_isr_changes(&names).await?;
                if !partitions.is_empty() {
                    self.drive(Event::IsrChanged(partitions)).await?;
                }
                self.store.delete_isr_changes(self.term, &names).await
            }
            Watched::Reassignments => {
                let found = self.store.watch_node(paths::REASSIGN_PARTITIONS).await?;
                self.watch(found.watch, Watched::Reassignments);
                if found.created.is_none() || found.created == self.seen_reassignments {
                    return Ok(());
                }
                self.seen_reassignments = found.created;
                let asked = self.store.reassignments().await?;
                self.drive(Event::ReassignmentsRequested(asked)).await
            }
            Watched::PreferredElections => {
                let path = paths::PREFERRED_REPLICA_ELECTION;
                let found = self.store.watch_node(path).await?;
                self.watch(found.watch, Watched::PreferredElections);
                if found.created.is_none() || found.created == self.seen_preferred_elections {
                    return Ok(());
                }
                self.seen_preferred_elections = found.created;
                match self.store.preferred_elections().await? {
                    Some(asked) => self.drive(Event::PreferredElectionsRequested(asked)).await,
                    None => Ok(()),
                }
            }
        }
    }
}

/// At that moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
