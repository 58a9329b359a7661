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

mod driving;
mod loading;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use self::tasks::Timers;
use super::LOG;
use super::event::{
    Acks, Answer, CommitRequest, Effect, Event, JoinAnswer, JoinRequest, LeavingMember, MemberRef,
    Now, Settings, SyncAnswer, SyncRequest, Token, TransactionalProducer, WriteId,
};
use super::group::{Description, Fetched, Group, State};
use super::offsets::OffsetAndMetadata;
use super::offsets_topic::OffsetsTopic;
use super::record::Record;
use crate::clock::Clock;
use crate::cluster::image::Cluster;
use crate::config::Config;
use crate::error::ErrorCode;
use crate::hash::HashMap;
use crate::record::compress::Codec;
use crate::replica::manager::LeadershipChange;
use crate::types::{
    GROUP_METADATA_TOPIC, LeaderEpoch, Millis, ProducerId, TopicPartition, coordinator_partition,
};

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

/// The answer to a request: there already, or to be waited for.
pub enum Reply<T, F: Future<Output = T>> {
    Now(T),
    Later(F),
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
    waiters: HashMap<Token, Waiter>,
    writes: VecDeque<Write>,
    /// Somebody empties `writes`.
    is_driven: bool,
    /// Dead, to be dropped once `writes` is empty.
    is_forgotten: bool,
    /// No longer in its partition's map: look again.
    is_removed: bool,
    /// The earliest deadline in the timer queue.
    armed: Option<Millis>,
    /// Empty between steps; its memory is used again.
    effects: Vec<Effect>,
}

/// Who asked, until the answer is taken.
enum Waiter {
    /// Is still in the call that asked, driving an append, and looks here before it leaves.
    Asking(Option<Answer>),
    Parked(oneshot::Sender<Answer>),
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

    /// One result per offset, in their order: at once, unless the commit has to be replicated.
    pub fn commit(
        &self,
        group_id: &str,
        member: MemberRef,
        producer: Option<TransactionalProducer>,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    ) -> Reply<Vec<ErrorCode>, impl Future<Output = Vec<ErrorCode>> + use<>> {
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
        let results = move |answer| match answer {
            Ok(Answer::Commit(results)) => results,
            Ok(_) => vec![ErrorCode::UnknownServerError; count],
            Err(error) => vec![error; count],
        };
        match asked {
            Ok(Asked::Answered(answer)) => Reply::Now(results(Ok(answer))),
            Err(error) => Reply::Now(results(Err(error))),
            asked => Reply::Later(async move { results(answered(asked).await) }),
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
    fn ask(
        &self,
        group_id: &str,
        needs_id: NeedsId,
        event: impl FnOnce(Token) -> Event,
    ) -> Result<Asked, ErrorCode> {
        let shared = &self.shared;
        let token = shared.next_token.fetch_add(1, Ordering::Relaxed);
        loop {
            let partition = shared.partition_of(group_id, needs_id)?;
            let entry = partition.find_or_insert(group_id, shared);
            let mut core = entry.core.lock();
            if core.is_removed {
                continue;
            }
            let now = shared.now();
            let stepped = shared.step_locked(&entry, &mut core, now, event(token), Some(token));
            if let Some(answer) = stepped.answer {
                shared.after_step(&entry, core, stepped.write, now);
                return Ok(Asked::Answered(answer));
            }
            if let Some(write) = stepped.write {
                core.waiters.insert(token, Waiter::Asking(None));
                drop(core);
                // Mostly the answer comes with the end of this append.
                shared.drive(&entry, write, now);
                core = entry.core.lock();
            }
            return Ok(core.take_or_park(token));
        }
    }
}

/// A request that was fed to its group.
enum Asked {
    Answered(Answer),
    /// What waits for the answer holds no more than this.
    Parked(oneshot::Receiver<Answer>),
}

async fn answered(asked: Result<Asked, ErrorCode>) -> Result<Answer, ErrorCode> {
    match asked? {
        Asked::Answered(answer) => Ok(answer),
        Asked::Parked(answer) => answer.await.map_err(|_| ErrorCode::CoordinatorNotAvailable),
    }
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
                effects: Vec::new(),
            }),
        }
    }
}

impl EntryCore {
    fn answer(&mut self, token: Token, answer: Answer) {
        match self.waiters.get_mut(&token) {
            Some(Waiter::Asking(place)) => *place = Some(answer),
            Some(Waiter::Parked(_)) => {
                if let Some(Waiter::Parked(waiter)) = self.waiters.remove(&token) {
                    // The connection may be gone; its member will time out.
                    let _ = waiter.send(answer);
                }
            }
            None => {}
        }
    }

    /// The answer that came while its request was still in the call, or where it will come.
    fn take_or_park(&mut self, token: Token) -> Asked {
        if let Some(Waiter::Asking(Some(answer))) = self.waiters.remove(&token) {
            return Asked::Answered(answer);
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters.insert(token, Waiter::Parked(sender));
        Asked::Parked(receiver)
    }

    /// Dead or blank, and nothing of it is on its way.
    fn is_done(&self) -> bool {
        !self.is_removed
            && !self.is_driven
            && self.writes.is_empty()
            && (self.is_forgotten || self.group.is_blank())
    }
}
