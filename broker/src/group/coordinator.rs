//! The group coordinator of this broker (`GroupCoordinator`, `GroupMetadataManager`): which groups
//! are ours, their loading and unloading, timers and appends. Edge.
//!
//! A group is one [`Entry`]: its state machine behind a mutex that is held for one `step` and never
//! across an await. What a step wants appended goes into the entry's queue, which one driver at a
//! time empties in order (G5), feeding each result back. Deadlines of all groups are in one queue
//! with one task.
//!
//! A partition answers COORDINATOR_LOAD_IN_PROGRESS until everything in it is replayed. A load that
//! fails is tried again: a group that we only know in part is never served, so that no consumer
//! is told that nothing was committed (I16).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::LOG;
use super::event::{
    Acks, Answer, CommitRequest, Effect, Event, JoinAnswer, JoinRequest, LeavingMember, MemberRef,
    Now, Settings, SyncAnswer, SyncRequest, Token, TransactionalProducer, WriteId,
};
use super::group::{Description, Fetched, Group, State};
use super::loader::Loader;
use super::offsets::OffsetAndMetadata;
use super::offsets_topic::{Append, OffsetsTopic, topic_partition};
use super::record::Record;
use crate::clock::Clock;
use crate::cluster::image::{Cluster, MetadataImage};
use crate::config::Config;
use crate::error::{ErrorCode, KafkaCode};
use crate::hash::HashMap;
use crate::record::batch::BatchHeader;
use crate::record::build::{BatchBuilder, BatchOptions};
use crate::record::compress::Codec;
use crate::replica::manager::LeadershipChange;
use crate::types::{
    GROUP_METADATA_TOPIC, LeaderEpoch, Millis, Offset, ProducerId, TopicPartition,
    coordinator_partition,
};

/// Between attempts to load a partition that cannot be read.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub group_id: String,
    pub protocol_type: String,
    pub state: State,
}

/// How many groups are in each state, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub empty: usize,
    pub preparing_rebalance: usize,
    pub completing_rebalance: usize,
    pub stable: usize,
    pub dead: usize,
    pub offsets: usize,
}

/// The coordinator's handle, for the APIs. A request is fed to its group by the call; the future
/// waits for the answer.
#[derive(Clone)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Arc<Settings>,
    topic: Arc<dyn OffsetsTopic>,
    clock: Arc<dyn Clock>,
    cluster: Arc<Cluster>,
    started: Instant,
    configured_partitions: i32,
    /// Partitions of the topic, as first seen: Kafka, too, learns of more only by a restart.
    known_partitions: OnceLock<i32>,
    required_acks: i16,
    commit_timeout_ms: Millis,
    codec: Codec,
    load_buffer_bytes: usize,
    retention_check_interval: Duration,
    partitions: RwLock<HashMap<i32, Arc<Partition>>>,
    /// The highest leader epoch each partition was loaded or unloaded with.
    epochs: Mutex<HashMap<i32, LeaderEpoch>>,
    timers: Mutex<Timers>,
    timers_changed: Notify,
    next_token: AtomicU64,
    is_active: AtomicBool,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Timers {
    queue: BTreeMap<(Millis, u64), Weak<Entry>>,
    next: u64,
}

/// A partition of the topic that this broker leads.
struct Partition {
    index: i32,
    topic_partition: TopicPartition,
    is_loaded: AtomicBool,
    is_resigned: AtomicBool,
    /// Clients name groups as they like, hence the standard hash.
    groups: Mutex<std::collections::HashMap<Arc<str>, Arc<Entry>>>,
}

/// A group and those who wait for it.
struct Entry {
    partition: Weak<Partition>,
    core: Mutex<EntryCore>,
}

struct EntryCore {
    group: Group,
    waiters: HashMap<Token, oneshot::Sender<Answer>>,
    writes: VecDeque<Write>,
    /// Somebody empties `writes`.
    is_driven: bool,
    /// Dead, to be dropped once `writes` is empty.
    is_forgotten: bool,
    /// No longer in its partition's map: look again.
    is_removed: bool,
    /// The earliest deadline in the timer queue.
    armed: Option<Millis>,
}

struct Write {
    id: WriteId,
    records: Vec<Record>,
    acks: Acks,
    producer: Option<TransactionalProducer>,
}

impl GroupCoordinator {
    /// A coordinator that serves nothing until [`Self::start`].
    pub fn new(
        config: &Config,
        topic: Arc<dyn OffsetsTopic>,
        cluster: Arc<Cluster>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let settings = Settings {
            min_session_timeout_ms: config.group_min_session_timeout_ms(),
            max_session_timeout_ms: config.group_max_session_timeout_ms(),
            max_size: usize::try_from(config.group_max_size()).unwrap_or(usize::MAX),
            initial_rebalance_delay_ms: Millis::from(config.group_initial_rebalance_delay_ms())
                .max(0),
            offset_metadata_max_bytes: usize::try_from(config.offset_metadata_max_bytes())
                .unwrap_or(0),
            offsets_retention_ms: Millis::from(config.offsets_retention_minutes()) * 60_000,
        };
        let check_interval_ms = config.offsets_retention_check_interval_ms().max(1);
        Self {
            shared: Arc::new(Shared {
                settings: Arc::new(settings),
                topic,
                clock,
                cluster,
                started: Instant::now(),
                configured_partitions: config.offsets_topic_num_partitions().max(1),
                known_partitions: OnceLock::new(),
                required_acks: config.offsets_commit_required_acks(),
                commit_timeout_ms: Millis::from(config.offsets_commit_timeout_ms()),
                codec: u8::try_from(config.offsets_topic_compression_codec())
                    .ok()
                    .and_then(|id| Codec::from_id(id).ok())
                    .unwrap_or(Codec::None),
                load_buffer_bytes: usize::try_from(config.offsets_load_buffer_size())
                    .unwrap_or(1 << 20),
                retention_check_interval: Duration::from_millis(check_interval_ms.unsigned_abs()),
                partitions: RwLock::default(),
                epochs: Mutex::default(),
                timers: Mutex::default(),
                timers_changed: Notify::new(),
                next_token: AtomicU64::new(1),
                is_active: AtomicBool::new(false),
                stopped: watch::Sender::new(false),
            }),
        }
    }

    /// Starts serving. Must be called within the runtime its tasks shall run on; `leadership` are
    /// the changes of leadership since before this broker led anything.
    pub fn start(&self, leadership: UnboundedReceiver<LeadershipChange>) {
        tracing::info!(target: LOG, "[GroupCoordinator]: Starting up.");
        self.shared.is_active.store(true, Ordering::SeqCst);
        tokio::spawn(Arc::clone(&self.shared).follow_leadership(leadership));
        tokio::spawn(Arc::clone(&self.shared).run_timers());
        tokio::spawn(Arc::clone(&self.shared).run_expiry());
        tokio::spawn(Arc::clone(&self.shared).follow_deletions());
        tracing::info!(target: LOG, "[GroupCoordinator]: Startup complete.");
    }

    /// Stops serving; requests get COORDINATOR_NOT_AVAILABLE from now on, parked ones
    /// NOT_COORDINATOR.
    pub fn stop(&self) {
        tracing::info!(target: LOG, "[GroupCoordinator]: Shutting down.");
        self.shared.is_active.store(false, Ordering::SeqCst);
        self.shared.stopped.send_replace(true);
        let indexes: Vec<i32> = self.shared.partitions.read().keys().copied().collect();
        for index in indexes {
            self.shared.unload(index, None);
        }
        tracing::info!(target: LOG, "[GroupCoordinator]: Shutdown complete.");
    }

    /// The partition of `__consumer_offsets` a group lives in.
    pub fn partition_for(&self, group_id: &str) -> i32 {
        self.shared.partition_for(group_id)
    }

    pub fn join(
        &self,
        group_id: &str,
        request: JoinRequest,
    ) -> impl Future<Output = JoinAnswer> + use<> {
        let member_id = request.member_id.clone();
        let asked = self.ask(group_id, NeedsId::Yes, |token| {
            Event::Join(JoinRequest { token, ..request })
        });
        async move {
            match answered(asked).await {
                Ok(Answer::Join(answer)) => answer,
                Ok(_) => JoinAnswer::refusal(member_id, ErrorCode::UnknownServerError),
                Err(error) => JoinAnswer::refusal(member_id, error),
            }
        }
    }

    pub fn sync(
        &self,
        group_id: &str,
        request: SyncRequest,
    ) -> impl Future<Output = SyncAnswer> + use<> {
        let asked = self.ask(group_id, NeedsId::Yes, |token| {
            Event::Sync(SyncRequest { token, ..request })
        });
        async move {
            match answered(asked).await {
                Ok(Answer::Sync(answer)) => answer,
                Ok(_) => SyncAnswer::refusal(ErrorCode::UnknownServerError),
                // The rebalance that the member takes part in is lost. Old clients do not expect to
                // hear of loading here; they do join again.
                Err(ErrorCode::CoordinatorLoadInProgress) => {
                    SyncAnswer::refusal(ErrorCode::RebalanceInProgress)
                }
                Err(error) => SyncAnswer::refusal(error),
            }
        }
    }

    pub fn heartbeat(
        &self,
        group_id: &str,
        member: MemberRef,
    ) -> impl Future<Output = ErrorCode> + use<> {
        let asked = self.ask(group_id, NeedsId::Yes, |token| Event::Heartbeat {
            token,
            member,
        });
        async move {
            match answered(asked).await {
                Ok(Answer::Heartbeat(error)) | Err(error) => match error {
                    // A member may go on while we load.
                    ErrorCode::CoordinatorLoadInProgress => ErrorCode::None,
                    error => error,
                },
                Ok(_) => ErrorCode::UnknownServerError,
            }
        }
    }

    /// One result per member.
    pub async fn leave(
        &self,
        group_id: &str,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let event = |token| Event::Leave { token, members };
        match answered(self.ask(group_id, NeedsId::Yes, event)).await? {
            Answer::Leave(result) => result,
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    /// One result per offset, in their order.
    pub fn commit(
        &self,
        group_id: &str,
        member: MemberRef,
        producer: Option<TransactionalProducer>,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    ) -> impl Future<Output = Vec<ErrorCode>> + use<> {
        let count = offsets.len();
        let needs_id = if producer.is_some() {
            NeedsId::Yes
        } else {
            NeedsId::No
        };
        let asked = self.ask(group_id, needs_id, |token| {
            Event::Commit(CommitRequest {
                token,
                member,
                producer,
                offsets,
            })
        });
        async move {
            match answered(asked).await {
                Ok(Answer::Commit(results)) => results,
                Ok(_) => vec![ErrorCode::UnknownServerError; count],
                Err(error) => vec![error; count],
            }
        }
    }

    pub async fn delete_offsets(
        &self,
        group_id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<(TopicPartition, ErrorCode)>, ErrorCode> {
        let event = |token| Event::DeleteOffsets { token, partitions };
        match answered(self.ask(group_id, NeedsId::Yes, event)).await? {
            Answer::DeleteOffsets(result) => result,
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    pub async fn delete_group(&self, group_id: &str) -> ErrorCode {
        let event = |token| Event::DeleteGroup { token };
        match answered(self.ask(group_id, NeedsId::No, event)).await {
            Ok(Answer::DeleteGroup(error)) | Err(error) => error,
            Ok(_) => ErrorCode::UnknownServerError,
        }
    }

    /// What is committed; `None` asks for every partition.
    pub fn fetch_offsets(
        &self,
        group_id: &str,
        partitions: Option<&[TopicPartition]>,
        require_stable: bool,
    ) -> Result<Vec<(TopicPartition, Fetched)>, ErrorCode> {
        let partition = self.shared.partition_of(group_id, NeedsId::No)?;
        Ok(match partition.find(group_id) {
            Some(entry) => entry.core.lock().group.fetch(partitions, require_stable),
            None => partitions
                .unwrap_or_default()
                .iter()
                .map(|partition| (partition.clone(), Fetched::Nothing))
                .collect(),
        })
    }

    /// `None`: no such group, which Kafka shows as Dead.
    pub fn describe(&self, group_id: &str) -> Result<Option<Description>, ErrorCode> {
        let partition = self.shared.partition_of(group_id, NeedsId::No)?;
        Ok(partition
            .find(group_id)
            .map(|entry| entry.core.lock().group.describe()))
    }

    /// Every group of this broker, and COORDINATOR_LOAD_IN_PROGRESS when there may be more.
    pub fn list(&self) -> (ErrorCode, Vec<Listed>) {
        if !self.shared.is_active.load(Ordering::SeqCst) {
            return (ErrorCode::CoordinatorNotAvailable, Vec::new());
        }
        let partitions = self.shared.all_partitions();
        let is_loading = partitions
            .iter()
            .any(|partition| !partition.is_loaded.load(Ordering::SeqCst));
        let mut groups: Vec<Listed> = partitions
            .iter()
            .flat_map(|partition| partition.entries())
            .map(|entry| {
                let core = entry.core.lock();
                Listed {
                    group_id: core.group.id().to_string(),
                    protocol_type: core.group.protocol_type().to_owned(),
                    state: core.group.state(),
                }
            })
            .collect();
        groups.sort_by(|left, right| left.group_id.cmp(&right.group_id));
        let error = if is_loading {
            ErrorCode::CoordinatorLoadInProgress
        } else {
            ErrorCode::None
        };
        (error, groups)
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self
            .shared
            .all_partitions()
            .iter()
            .flat_map(|partition| partition.entries())
        {
            let core = entry.core.lock();
            counts.offsets += core.group.offset_count();
            match core.group.state() {
                State::Empty => counts.empty += 1,
                State::PreparingRebalance => counts.preparing_rebalance += 1,
                State::CompletingRebalance => counts.completing_rebalance += 1,
                State::Stable => counts.stable += 1,
                State::Dead => counts.dead += 1,
            }
        }
        counts
    }

    /// A transaction's marker was written to these partitions of `__consumer_offsets`.
    pub fn transaction_completed(
        &self,
        producer_id: ProducerId,
        partitions: &[i32],
        committed: bool,
    ) {
        for partition in self.shared.all_partitions() {
            if partitions.contains(&partition.index) {
                for entry in partition.entries() {
                    let event = Event::TransactionCompleted {
                        producer_id,
                        committed,
                    };
                    self.shared.step(&entry, event);
                }
            }
        }
    }

    /// Feeds one request to its group; the answer may be there already, or come much later.
    fn ask(&self, group_id: &str, needs_id: NeedsId, event: impl FnOnce(Token) -> Event) -> Asked {
        let shared = &self.shared;
        let token = shared.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        loop {
            let partition = shared.partition_of(group_id, needs_id)?;
            let entry = partition.find_or_insert(group_id, shared);
            let mut core = entry.core.lock();
            if core.is_removed {
                continue;
            }
            core.waiters.insert(token, sender);
            let next = shared.step_locked(&entry, &mut core, event(token));
            shared.after_step(&entry, core, next);
            return Ok(receiver);
        }
    }
}

/// A request that was fed to its group. What waits for the answer holds no more than this.
type Asked = Result<oneshot::Receiver<Answer>, ErrorCode>;

async fn answered(asked: Asked) -> Result<Answer, ErrorCode> {
    asked?.await.map_err(|_| ErrorCode::CoordinatorNotAvailable)
}

/// APIs that manage members refuse an empty group id; those about offsets and administration take
/// it, as they always did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NeedsId {
    Yes,
    No,
}

impl Shared {
    fn now(&self) -> Now {
        Now {
            wall: self.clock.now(),
            steady: Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX),
        }
    }

    fn partition_for(&self, group_id: &str) -> i32 {
        let count = self.known_partitions.get().copied().unwrap_or_else(|| {
            match self.cluster.image().topic(GROUP_METADATA_TOPIC) {
                Some(topic) if !topic.partitions.is_empty() => {
                    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                    *self.known_partitions.get_or_init(|| count)
                }
                _ => self.configured_partitions,
            }
        });
        coordinator_partition(group_id, count)
    }

    /// The loaded partition of a group, or why there is none.
    fn partition_of(&self, group_id: &str, needs_id: NeedsId) -> Result<Arc<Partition>, ErrorCode> {
        if group_id.is_empty() && needs_id == NeedsId::Yes {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !self.is_active.load(Ordering::SeqCst) {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let index = self.partition_for(group_id);
        let partitions = self.partitions.read();
        let partition = partitions.get(&index).ok_or(ErrorCode::NotCoordinator)?;
        if partition.is_loaded.load(Ordering::SeqCst) {
            Ok(Arc::clone(partition))
        } else {
            Err(ErrorCode::CoordinatorLoadInProgress)
        }
    }

    fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().values().cloned().collect()
    }

    fn step(self: &Arc<Self>, entry: &Arc<Entry>, event: Event) {
        let mut core = entry.core.lock();
        let next = self.step_locked(entry, &mut core, event);
        self.after_step(entry, core, next);
    }

    /// One step with its effects; answers the write that the caller must begin to drive.
    fn step_locked(&self, entry: &Arc<Entry>, core: &mut EntryCore, event: Event) -> Option<Write> {
        let mut effects = Vec::new();
        core.group.step(self.now(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Answer { token, answer } => {
                    if let Some(waiter) = core.waiters.remove(&token) {
                        // The connection may be gone; its member will time out.
                        let _ = waiter.send(answer);
                    }
                }
                Effect::Append {
                    write,
                    records,
                    acks,
                    producer,
                } => core.writes.push_back(Write {
                    id: write,
                    records,
                    acks,
                    producer,
                }),
                Effect::Forget => core.is_forgotten = true,
            }
        }
        if let Some(deadline) = core.group.next_deadline()
            && core.armed.is_none_or(|armed| deadline < armed)
        {
            core.armed = Some(deadline);
            self.arm(deadline, entry);
        }
        if core.is_driven {
            return None;
        }
        let next = core.writes.pop_front();
        core.is_driven = next.is_some();
        next
    }

    /// What a step leaves to be done without the lock.
    fn after_step(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        core: MutexGuard<'_, EntryCore>,
        next: Option<Write>,
    ) {
        let is_done = next.is_none() && core.is_done();
        drop(core);
        if let Some(write) = next {
            self.drive(entry, write);
        } else if is_done {
            self.drop_if_done(entry);
        }
    }

    /// Appends what is queued, in order, until the queue is empty. Most appends end at once: nobody
    /// else has to replicate them, or acks ask for less. After one that waits, a task goes on.
    fn drive(self: &Arc<Self>, entry: &Arc<Entry>, mut write: Write) {
        loop {
            let result = match self.append(entry, &write) {
                Append::Done(result) => result,
                Append::Waiting(replicated) => {
                    let (shared, entry) = (Arc::clone(self), Arc::clone(entry));
                    tokio::spawn(async move {
                        let result = replicated.await;
                        if let Some(next) = shared.appended(&entry, write.id, result) {
                            shared.drive(&entry, next);
                        }
                    });
                    return;
                }
            };
            match self.appended(entry, write.id, result) {
                Some(next) => write = next,
                None => return,
            }
        }
    }

    /// Feeds the end of an append back; answers the next one.
    fn appended(
        self: &Arc<Self>,
        entry: &Arc<Entry>,
        write: WriteId,
        result: Result<Offset, ErrorCode>,
    ) -> Option<Write> {
        let mut core = entry.core.lock();
        core.is_driven = false;
        let next = self.step_locked(entry, &mut core, Event::Appended { write, result });
        if next.is_none() {
            self.after_step(entry, core, None);
        }
        next
    }

    fn append(&self, entry: &Entry, write: &Write) -> Append {
        let Some(partition) = entry.partition.upgrade() else {
            return Append::Done(Err(ErrorCode::NotLeaderOrFollower));
        };
        let batch = match self.encode(write) {
            Ok(batch) => batch,
            Err(error) => return Append::Done(Err(error.code())),
        };
        let required_acks = match write.acks {
            Acks::Configured => self.required_acks,
            Acks::None => 0,
        };
        self.topic.append(
            &partition.topic_partition,
            batch,
            required_acks,
            self.commit_timeout_ms,
        )
    }

    fn encode(&self, write: &Write) -> Result<(bytes::Bytes, BatchHeader), super::record::Error> {
        let timestamp = self.clock.now();
        let mut options = BatchOptions {
            codec: self.codec,
            ..BatchOptions::default()
        };
        if let Some(producer) = write.producer {
            options.producer_id = producer.id;
            options.producer_epoch = producer.epoch;
            options.base_sequence = 0;
            options.transactional = true;
        }
        let mut batch = BatchBuilder::new(&options)?;
        for record in &write.records {
            let (key, value) = (record.encode_key()?, record.encode_value()?);
            batch.append_bare(timestamp, Some(&key), value.as_deref())?;
        }
        Ok(batch.finish()?)
    }

    /// Takes a dead or blank group out of its partition once nothing of it is on its way.
    fn drop_if_done(&self, entry: &Arc<Entry>) {
        let Some(partition) = entry.partition.upgrade() else {
            return;
        };
        // The map is locked before the entry, as everywhere.
        let mut groups = partition.groups.lock();
        let mut core = entry.core.lock();
        if core.is_done() {
            core.is_removed = true;
            groups.remove(core.group.id());
        }
    }

    fn arm(&self, deadline: Millis, entry: &Arc<Entry>) {
        let mut timers = self.timers.lock();
        let is_first = timers
            .queue
            .first_key_value()
            .is_none_or(|((first, _), _)| deadline < *first);
        timers.next += 1;
        let key = (deadline, timers.next);
        timers.queue.insert(key, Arc::downgrade(entry));
        drop(timers);
        if is_first {
            self.timers_changed.notify_one();
        }
    }

    async fn run_timers(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        loop {
            let now = self.now().steady;
            let (due, next) = {
                let mut timers = self.timers.lock();
                let later = timers.queue.split_off(&(now + 1, 0));
                let due = std::mem::replace(&mut timers.queue, later);
                let next = timers.queue.first_key_value().map(|((at, _), _)| *at);
                (due, next)
            };
            let has_fired = !due.is_empty();
            for entry in due.into_values().filter_map(|entry| entry.upgrade()) {
                let mut core = entry.core.lock();
                // An entry may be in the queue twice; the earlier one looks for both.
                core.armed = None;
                let next = self.step_locked(&entry, &mut core, Event::Timeout);
                self.after_step(&entry, core, next);
            }
            if has_fired {
                continue;
            }
            let wait = next.map(|at| Duration::from_millis((at - now).max(1).unsigned_abs()));
            tokio::select! {
                () = self.timers_changed.notified() => {}
                () = sleep_or_forever(wait) => {}
                _ = stopped.changed() => return,
            }
        }
    }

    async fn run_expiry(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut ticks = tokio::time::interval(self.retention_check_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.changed() => return,
            }
            let before = self.offset_count();
            for entry in self.loaded_entries() {
                self.step(&entry, Event::Expire);
            }
            let expired = before.saturating_sub(self.offset_count());
            if expired > 0 {
                tracing::info!(target: LOG, "Removed {expired} expired offsets.");
            }
        }
    }

    fn offset_count(&self) -> usize {
        self.loaded_entries()
            .iter()
            .map(|entry| entry.core.lock().group.offset_count())
            .sum()
    }

    fn loaded_entries(&self) -> Vec<Arc<Entry>> {
        self.all_partitions()
            .iter()
            .filter(|partition| partition.is_loaded.load(Ordering::SeqCst))
            .flat_map(|partition| partition.entries())
            .collect()
    }

    /// Forgets what was committed for partitions that are deleted.
    async fn follow_deletions(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut changes = self.cluster.changes();
        let mut before = self.cluster.image();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                _ = stopped.changed() => return,
            }
            let after = self.cluster.image();
            let deleted = deleted_partitions(&before, &after);
            before = after;
            if deleted.is_empty() {
                continue;
            }
            for entry in self.loaded_entries() {
                self.step(&entry, Event::PartitionsDeleted(deleted.clone()));
            }
        }
    }

    async fn follow_leadership(
        self: Arc<Self>,
        mut leadership: UnboundedReceiver<LeadershipChange>,
    ) {
        while let Some(change) = leadership.recv().await {
            match change {
                LeadershipChange::BecameLeader {
                    partition,
                    leader_epoch,
                } if &*partition.topic == GROUP_METADATA_TOPIC => {
                    self.load(partition.partition, leader_epoch);
                }
                LeadershipChange::ResignedLeader {
                    partition,
                    leader_epoch,
                } if &*partition.topic == GROUP_METADATA_TOPIC => {
                    self.unload(partition.partition, leader_epoch);
                }
                LeadershipChange::BecameLeader { .. } | LeadershipChange::ResignedLeader { .. } => {
                }
            }
        }
    }

    /// Notes the epoch; false for a change that a later one has overtaken.
    fn advance_epoch(&self, index: i32, epoch: Option<LeaderEpoch>) -> bool {
        let mut epochs = self.epochs.lock();
        match (epoch, epochs.get(&index).copied()) {
            (None, _) => true,
            (Some(epoch), Some(known)) if epoch < known => false,
            (Some(epoch), _) => {
                epochs.insert(index, epoch);
                true
            }
        }
    }

    fn load(self: &Arc<Self>, index: i32, epoch: LeaderEpoch) {
        tracing::info!(
            target: LOG,
            "Elected as the group coordinator for partition {index} in epoch {epoch}"
        );
        if !self.advance_epoch(index, Some(epoch)) {
            tracing::info!(
                target: LOG,
                "Not loading offsets and group metadata for {GROUP_METADATA_TOPIC}-{index} in \
                 epoch {epoch}, a later one is known"
            );
            return;
        }
        let partition = Arc::new(Partition {
            index,
            topic_partition: topic_partition(index),
            is_loaded: AtomicBool::new(false),
            is_resigned: AtomicBool::new(false),
            groups: Mutex::default(),
        });
        {
            let mut partitions = self.partitions.write();
            if partitions.contains_key(&index) {
                // Leader before and after: what we have in memory is what is in the log.
                return;
            }
            partitions.insert(index, Arc::clone(&partition));
        }
        tokio::spawn(Arc::clone(self).load_until_done(partition, epoch));
    }

    async fn load_until_done(self: Arc<Self>, partition: Arc<Partition>, epoch: LeaderEpoch) {
        let index = partition.index;
        loop {
            let begun = Instant::now();
            let reading = {
                let shared = Arc::clone(&self);
                let partition = Arc::clone(&partition);
                tokio::task::spawn_blocking(move || shared.read_groups(&partition))
            };
            match reading.await {
                Ok(Ok(groups)) => {
                    if !partition.is_resigned.load(Ordering::SeqCst) {
                        let count = groups.len();
                        self.install(&partition, groups);
                        tracing::info!(
                            target: LOG,
                            "Finished loading offsets and group metadata of {count} groups from \
                             {GROUP_METADATA_TOPIC}-{index} in {} milliseconds for epoch {epoch}.",
                            begun.elapsed().as_millis()
                        );
                    }
                    return;
                }
                Ok(Err(error)) => tracing::error!(
                    target: LOG,
                    "Error loading offsets from {GROUP_METADATA_TOPIC}-{index}: {error}; its \
                     groups are not served, trying again"
                ),
                Err(error) => tracing::error!(
                    target: LOG,
                    "The load of {GROUP_METADATA_TOPIC}-{index} broke off: {error}; trying again"
                ),
            }
            tokio::time::sleep(LOAD_RETRY).await;
            if partition.is_resigned.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Replays the whole partition. Blocks on the disk.
    fn read_groups(&self, partition: &Partition) -> Result<Vec<Group>, String> {
        let index = partition.index;
        let (start, _) = self.topic.bounds(index).map_err(|it| it.to_string())?;
        let mut loader = Loader::new(Arc::clone(&self.settings), self.now(), start);
        loop {
            if partition.is_resigned.load(Ordering::SeqCst) {
                return Ok(Vec::new());
            }
            let (_, end) = self.topic.bounds(index).map_err(|it| it.to_string())?;
            let offset = loader.next_offset();
            if offset >= end {
                return Ok(loader.finish());
            }
            let bytes = self
                .topic
                .read(index, offset, self.load_buffer_bytes)
                .map_err(|error| format!("reading at offset {offset}: {error}"))?;
            if bytes.is_empty() {
                // Compaction may leave the end of the log empty.
                return Ok(loader.finish());
            }
            loader.feed(&bytes).map_err(|error| error.to_string())?;
            if loader.next_offset() == offset {
                return Err(format!("offset {offset}: no whole batch is there"));
            }
        }
    }

    fn install(self: &Arc<Self>, partition: &Arc<Partition>, groups: Vec<Group>) {
        let mut entries = Vec::with_capacity(groups.len());
        {
            let mut map = partition.groups.lock();
            for group in groups {
                let id = Arc::clone(group.id());
                let entry = Arc::new(Entry::new(partition, group));
                map.insert(id, Arc::clone(&entry));
                entries.push(entry);
            }
        }
        for entry in entries {
            self.step(&entry, Event::Loaded);
        }
        partition.is_loaded.store(true, Ordering::SeqCst);
        // It may have been resigned between the check and here.
        if partition.is_resigned.load(Ordering::SeqCst) {
            self.drop_groups(partition);
        }
    }

    fn unload(self: &Arc<Self>, index: i32, epoch: Option<LeaderEpoch>) {
        if !self.advance_epoch(index, epoch) {
            return;
        }
        let Some(partition) = self.partitions.write().remove(&index) else {
            return;
        };
        tracing::info!(
            target: LOG,
            "Resigned as the group coordinator for partition {index} in epoch {epoch:?}"
        );
        partition.is_resigned.store(true, Ordering::SeqCst);
        let count = self.drop_groups(&partition);
        tracing::info!(
            target: LOG,
            "Finished unloading {GROUP_METADATA_TOPIC}-{index}. Removed {count} cached groups."
        );
    }

    fn drop_groups(self: &Arc<Self>, partition: &Partition) -> usize {
        let entries: Vec<Arc<Entry>> = partition.groups.lock().drain().map(|it| it.1).collect();
        for entry in &entries {
            let mut core = entry.core.lock();
            core.is_removed = true;
            let next = self.step_locked(entry, &mut core, Event::Unloaded);
            self.after_step(entry, core, next);
        }
        entries.len()
    }
}

impl Partition {
    fn find(&self, group_id: &str) -> Option<Arc<Entry>> {
        self.groups.lock().get(group_id).cloned()
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.groups.lock().values().cloned().collect()
    }

    fn find_or_insert(self: &Arc<Self>, group_id: &str, shared: &Shared) -> Arc<Entry> {
        let mut groups = self.groups.lock();
        if let Some(entry) = groups.get(group_id) {
            return Arc::clone(entry);
        }
        let group = Group::new(group_id, Arc::clone(&shared.settings), shared.now());
        let id = Arc::clone(group.id());
        let entry = Arc::new(Entry::new(self, group));
        // A partition that is being unloaded takes no one in any more.
        if self.is_resigned.load(Ordering::SeqCst) {
            entry.core.lock().is_removed = true;
        } else {
            groups.insert(id, Arc::clone(&entry));
        }
        entry
    }
}

impl Entry {
    fn new(partition: &Arc<Partition>, group: Group) -> Self {
        Self {
            partition: Arc::downgrade(partition),
            core: Mutex::new(EntryCore {
                group,
                waiters: HashMap::default(),
                writes: VecDeque::new(),
                is_driven: false,
                is_forgotten: false,
                is_removed: false,
                armed: None,
            }),
        }
    }
}

impl EntryCore {
    /// Dead or blank, and nothing of it is on its way.
    fn is_done(&self) -> bool {
        !self.is_removed
            && !self.is_driven
            && self.writes.is_empty()
            && (self.is_forgotten || self.group.is_blank())
    }
}

async fn sleep_or_forever(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Partitions of the earlier image that are not in the later one, or only under another topic id.
fn deleted_partitions(before: &MetadataImage, after: &MetadataImage) -> Vec<TopicPartition> {
    let mut deleted = Vec::new();
    for (name, topic) in &before.topics {
        let now = after.topics.get(name);
        if now.is_some_and(|now| Arc::ptr_eq(now, topic)) {
            continue;
        }
        let is_same =
            now.is_some_and(|now| now.id.is_none() || topic.id.is_none() || now.id == topic.id);
        for index in topic.partitions.keys() {
            if !is_same || now.is_some_and(|now| !now.partitions.contains_key(index)) {
                deleted.push(TopicPartition {
                    topic: name.clone(),
                    partition: *index,
                });
            }
        }
    }
    deleted
}

#[cfg(test)]
mod tests;
