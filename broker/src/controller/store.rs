//! What the controller does with the coordination store, in znodes: election, the store's content
//! at fail-over, watches, and the core's operations. Edge; decides nothing.
//!
//! Every write of a term is a `multi` of the check of `/controller_epoch` at the version of our
//! election and the operation itself; a failed check means that another controller was elected
//! ([`Lost::Moved`]). Reads and writes of one round are pipelined with a window.
//!
//! Source: `KafkaZkClient.scala`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use crate::types::{BrokerId, Millis, TopicName, TopicPartition, random_uuid};
use crate::zk::data::{self, ControllerRegistration, Feature, ProducerIdBlock};
use crate::zk::window::in_window;
use crate::zk::{
    self, BoxFuture, CreateMode, MultiError, Op, OpResult, Stat, Store, Watch, configs, paths,
};

use super::core::CONTROLLER;
use super::event::{PRODUCER_ID_BLOCK_SIZE, Snapshot, StoreOp, StoreReply};
use super::state::{Leadership, LiveBroker, TopicAssignment};
use super::znode;

/// Why a term, or standing for one, is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("another broker was elected controller")]
    Moved,
    #[error("the session with the coordination store is lost")]
    Session,
    #[error("the coordination store is closed")]
    Closed,
    #[error("{0}")]
    Store(zk::Error),
}

impl From<zk::Error> for Lost {
    fn from(error: zk::Error) -> Self {
        match error {
            zk::Error::SessionExpired => Self::Session,
            zk::Error::Closed => Self::Closed,
            zk::Error::NoNode { .. }
            | zk::Error::NodeExists { .. }
            | zk::Error::BadVersion { .. }
            | zk::Error::NotEmpty { .. }
            | zk::Error::NoAuth { .. }
            | zk::Error::NoChildrenForEphemerals { .. }
            | zk::Error::InvalidPath { .. }
            | zk::Error::AuthFailed
            | zk::Error::Unknown { .. } => Self::Store(error),
        }
    }
}

/// A term of office: the controller epoch, and the version of its znode that fences our writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    pub epoch: i32,
    pub zk_version: i32,
}

/// The store's content at fail-over, with watches on all of it.
pub(super) struct Loaded {
    pub snapshot: Snapshot,
    pub brokers_watch: Watch,
    pub broker_watches: Vec<(BrokerId, Watch)>,
    pub topics_watch: Watch,
    pub topic_watches: Vec<(TopicName, Watch)>,
    pub deletions_watch: Watch,
    pub reassignments: FoundNode,
    pub preferred_elections: FoundNode,
}

/// A node that tools create to ask for something: when it was created (czxid), if it is there, and
/// a watch on it either way.
pub(super) struct FoundNode {
    pub created: Option<i64>,
    pub watch: Watch,
}

/// The topics in the store, and the content of those that were asked for.
pub(super) struct FoundTopics {
    pub all: Vec<TopicName>,
    pub watch: Watch,
    pub read: Vec<TopicAssignment>,
    pub topic_watches: Vec<(TopicName, Watch)>,
}

pub(super) struct ControllerStore {
    store: Arc<dyn Store>,
    id: BrokerId,
}

impl ControllerStore {
    pub(super) fn new(store: Arc<dyn Store>, id: BrokerId) -> Self {
        Self { store, id }
    }

    pub(super) async fn watch_controller(&self) -> Result<(bool, Watch), Lost> {
        let (stat, watch) = self.store.exists_and_watch(paths::CONTROLLER).await?;
        Ok((stat.is_some(), watch))
    }

    pub(super) async fn controller_id(&self) -> Result<Option<BrokerId>, Lost> {
        Ok(self
            .get(paths::CONTROLLER)
            .await?
            .and_then(|(data, _)| ControllerRegistration::decode(&data).ok())
            .map(|registration| registration.broker))
    }

    /// Stands for election once. `None`: another was faster.
    pub(super) async fn elect(&self, now: Millis) -> Result<Option<Term>, Lost> {
        let (epoch, version) = match self.controller_epoch().await? {
            Some(found) => found,
            None => {
                let zero = Bytes::from_static(b"0");
                let created = self
                    .store
                    .create(paths::CONTROLLER_EPOCH, zero, CreateMode::Persistent)
                    .await;
                match created {
                    Ok(_) => (0, 0),
                    Err(zk::Error::NodeExists { .. }) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let epoch = epoch + 1;
        let ops = vec![
            Op::Create {
                path: paths::CONTROLLER.to_owned(),
                data: ControllerRegistration::encode(self.id, now),
                mode: CreateMode::Ephemeral,
            },
            Op::Set {
                path: paths::CONTROLLER_EPOCH.to_owned(),
                data: data::encode_controller_epoch(epoch),
                version: Some(version),
            },
        ];
        match self.store.multi(ops).await {
            Ok(results) => {
                let zk_version = match results.get(1) {
                    Some(OpResult::Set(stat)) => stat.version,
                    _ => version + 1,
                };
                Ok(Some(Term { epoch, zk_version }))
            }
            Err(MultiError {
                error:
                    zk::Error::NodeExists { .. }
                    | zk::Error::BadVersion { .. }
                    | zk::Error::Unknown { .. },
                ..
            }) => self.was_elected(epoch).await,
            Err(MultiError { error, .. }) => Err(error.into()),
        }
    }

    /// The answer to our own successful attempt may have been lost.
    async fn was_elected(&self, epoch: i32) -> Result<Option<Term>, Lost> {
        if self.controller_id().await? != Some(self.id) {
            return Ok(None);
        }
        Ok(self
            .controller_epoch()
            .await?
            .filter(|(found, _)| *found == epoch)
            .map(|(epoch, zk_version)| Term { epoch, zk_version }))
    }

    async fn controller_epoch(&self) -> Result<Option<(i32, i32)>, Lost> {
        let Some((data, stat)) = self.get(paths::CONTROLLER_EPOCH).await? else {
            return Ok(None);
        };
        match data::decode_controller_epoch(&data) {
            Ok(epoch) => Ok(Some((epoch, stat.version))),
            Err(error) => Err(Lost::Store(zk::Error::Unknown {
                reason: format!("{}: {error}", paths::CONTROLLER_EPOCH),
            })),
        }
    }

    /// Gives the office back.
    pub(super) async fn delete_controller(&self, term: Term) -> Result<(), Lost> {
        let op = Op::Delete {
            path: paths::CONTROLLER.to_owned(),
            version: None,
        };
        match self.write(term, op).await? {
            Ok(_) | Err(zk::Error::NoNode { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// `/feature`: enabled, with the features it has; a broker of 3.9 with ZooKeeper adds none.
    pub(super) async fn ensure_feature_node(&self) -> Result<(), Lost> {
        let fresh = Feature {
            enabled: true,
            features: BTreeMap::new(),
        };
        let written = match self.get(paths::FEATURE).await? {
            None => {
                info!(target: CONTROLLER, "[Controller id={}] Creating FeatureZNode at path: {}", self.id, paths::FEATURE);
                let create =
                    self.store
                        .create(paths::FEATURE, fresh.encode(), CreateMode::Persistent);
                create.await.map(drop)
            }
            Some((data, _)) => match Feature::decode(&data) {
                Ok(feature) if feature.enabled => Ok(()),
                _ => {
                    info!(target: CONTROLLER, "[Controller id={}] Updating FeatureZNode at path: {}", self.id, paths::FEATURE);
                    let set = self.store.set(paths::FEATURE, fresh.encode(), None);
                    set.await.map(drop)
                }
            },
        };
        match written {
            Err(zk::Error::NodeExists { .. }) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Notifications written before our term: fail-over looks at everything anyway.
    pub(super) async fn delete_notifications(&self, term: Term) -> Result<(), Lost> {
        let of = async |parent| {
            let names = self.children(parent).await?;
            self.delete_children(term, parent, &names).await
        };
        tokio::try_join!(of(paths::LOG_DIR_EVENTS), of(paths::ISR_CHANGES))?;
        Ok(())
    }

    pub(super) async fn log_dir_events(&self) -> Result<(Vec<String>, Watch), Lost> {
        Ok(self.store.children_and_watch(paths::LOG_DIR_EVENTS).await?)
    }

    /// The brokers named by these notifications, which are then deleted.
    pub(super) async fn take_log_dir_events(
        &self,
        term: Term,
        names: &[String],
    ) -> Result<Vec<BrokerId>, Lost> {
        let reads = names
            .iter()
            .map(|name| self.get_owned(format!("{}/{name}", paths::LOG_DIR_EVENTS)))
            .collect();
        let mut brokers: Vec<BrokerId> = Vec::new();
        for read in in_window(reads).await {
            if let Some((data, _)) = read?
                && let Ok(broker) = data::decode_log_dir_event(&data)
            {
                brokers.push(broker);
            }
        }
        brokers.sort_unstable();
        brokers.dedup();
        self.delete_children(term, paths::LOG_DIR_EVENTS, names)
            .await?;
        Ok(brokers)
    }

    pub(super) async fn isr_changes(&self) -> Result<(Vec<String>, Watch), Lost> {
        Ok(self.store.children_and_watch(paths::ISR_CHANGES).await?)
    }

    /// The partitions named by these notifications.
    pub(super) async fn read_isr_changes(
        &self,
        names: &[String],
    ) -> Result<Vec<TopicPartition>, Lost> {
        let reads = names
            .iter()
            .map(|name| self.get_owned(format!("{}/{name}", paths::ISR_CHANGES)))
            .collect();
        let mut partitions = BTreeSet::new();
        for read in in_window(reads).await {
            let Some((data, _)) = read? else { continue };
            match data::decode_partitions(&data) {
                Ok(named) => partitions.extend(named),
                Err(error) => warn!(
                    target: CONTROLLER,
                    "[Controller id={}] A notification below {} is not readable, ignoring it: {error}",
                    self.id,
                    paths::ISR_CHANGES
                ),
            }
        }
        Ok(partitions.into_iter().collect())
    }

    pub(super) async fn delete_isr_changes(
        &self,
        term: Term,
        names: &[String],
    ) -> Result<(), Lost> {
        self.delete_children(term, paths::ISR_CHANGES, names).await
    }

    pub(super) async fn watch_node(&self, path: &str) -> Result<FoundNode, Lost> {
        let (stat, watch) = self.store.exists_and_watch(path).await?;
        Ok(FoundNode {
            created: stat.map(|stat| stat.czxid),
            watch,
        })
    }

    /// What `/admin/reassign_partitions` asks for; nothing when it is absent or not readable.
    pub(super) async fn reassignments(&self) -> Result<Vec<(TopicPartition, Vec<BrokerId>)>, Lost> {
        let Some((data, _)) = self.get(paths::REASSIGN_PARTITIONS).await? else {
            return Ok(Vec::new());
        };
        Ok(data::decode_reassignments(&data).unwrap_or_else(|error| {
            warn!(
                target: CONTROLLER,
                "[Controller id={}] Ignoring partition reassignment due to invalid json: {error}",
                self.id
            );
            Vec::new()
        }))
    }

    /// What `/admin/preferred_replica_election` asks for, `None` when it is absent.
    pub(super) async fn preferred_elections(&self) -> Result<Option<Vec<TopicPartition>>, Lost> {
        let found = self.get(paths::PREFERRED_REPLICA_ELECTION).await?;
        Ok(found.map(|(data, _)| {
            data::decode_partitions(&data).unwrap_or_else(|error| {
                warn!(
                    target: CONTROLLER,
                    "[Controller id={}] {} is not readable, nobody is elected: {error}",
                    self.id,
                    paths::PREFERRED_REPLICA_ELECTION
                );
                Vec::new()
            })
        }))
    }

    async fn delete_children(
        &self,
        term: Term,
        parent: &str,
        names: &[String],
    ) -> Result<(), Lost> {
        let writes = names
            .iter()
            .map(|name| {
                self.boxed_write(
                    term,
                    vec![Op::Delete {
                        path: format!("{parent}/{name}"),
                        version: None,
                    }],
                )
            })
            .collect();
        for result in in_window(writes).await {
            match result? {
                Ok(_) | Err(zk::Error::NoNode { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Everything at once, watched.
    pub(super) async fn load(&self, term: Term) -> Result<Loaded, Lost> {
        let (brokers, brokers_watch, broker_watches) = self.brokers(|_| true).await?;
        let topics = self.topics(term, |_| true).await?;
        let partitions: Vec<TopicPartition> = topics
            .read
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .keys()
                    .map(|partition| TopicPartition::new(topic.name.clone(), *partition))
            })
            .collect();
        let states = partitions.iter().map(paths::partition_state).collect();
        let states = self.store.get_many(states).await?;
        let mut leadership = Vec::with_capacity(partitions.len());
        for (partition, state) in partitions.iter().zip(states) {
            if let Some((data, stat)) = state {
                match znode::decode_state(&data, &stat) {
                    Ok(found) => leadership.push((partition.clone(), found)),
                    Err(error) => warn!(
                        target: CONTROLLER,
                        "[Controller id={}] The state znode of partition {partition} is not readable, treating the partition as new: {error}",
                        self.id
                    ),
                }
            }
        }
        let ((deletions, deletions_watch), reassignments, preferred) = tokio::try_join!(
            self.deletions(),
            self.watch_node(paths::REASSIGN_PARTITIONS),
            self.watch_node(paths::PREFERRED_REPLICA_ELECTION)
        )?;
        // Only now that a change would be noticed.
        let (reassigned, elected) =
            tokio::try_join!(self.reassignments(), self.preferred_elections())?;
        Ok(Loaded {
            snapshot: Snapshot {
                brokers,
                topics: topics.read,
                leadership,
                deletions,
                reassignments: reassigned,
                preferred_elections: elected,
            },
            reassignments,
            preferred_elections: preferred,
            brokers_watch,
            broker_watches,
            topics_watch: topics.watch,
            topic_watches: topics.topic_watches,
            deletions_watch,
        })
    }

    /// All registered brokers; those for which `watch` holds are watched.
    pub(super) async fn brokers(
        &self,
        watch: impl Fn(BrokerId) -> bool,
    ) -> Result<(Vec<LiveBroker>, Watch, Vec<(BrokerId, Watch)>), Lost> {
        let (names, list_watch) = self.store.children_and_watch(paths::BROKER_IDS).await?;
        let ids: Vec<BrokerId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let reads = ids.iter().map(|id| self.boxed_broker(*id)).collect();
        let mut brokers = Vec::with_capacity(ids.len());
        let mut watches = Vec::new();
        for read in in_window(reads).await {
            if let Some((broker, broker_watch)) = read? {
                if watch(broker.info.id) {
                    watches.push((broker.info.id, broker_watch));
                }
                brokers.push(broker);
            }
        }
        Ok((brokers, list_watch, watches))
    }

    pub(super) async fn broker(&self, id: BrokerId) -> Result<Option<(LiveBroker, Watch)>, Lost> {
        let path = paths::broker(id);
        let (data, stat, watch) = match self.store.get_and_watch(&path).await {
            Ok(found) => found,
            Err(zk::Error::NoNode { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match znode::decode_broker(id, &data, &stat) {
            Ok(broker) => Ok(Some((broker, watch))),
            Err(error) => {
                warn!(target: CONTROLLER, "[Controller id={}] {path} is not readable, ignoring the broker: {error}", self.id);
                Ok(None)
            }
        }
    }

    fn boxed_broker(
        &self,
        id: BrokerId,
    ) -> BoxFuture<'_, Result<Option<(LiveBroker, Watch)>, Lost>> {
        Box::pin(self.broker(id))
    }

    /// The list of topics, and the content of those that `wanted` names, watched. Topics without
    /// an id get one.
    pub(super) async fn topics(
        &self,
        term: Term,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<FoundTopics, Lost> {
        let (names, watch) = self.store.children_and_watch(paths::TOPICS).await?;
        let all: Vec<TopicName> = names.iter().map(|name| TopicName::new(name)).collect();
        let reads = all
            .iter()
            .filter(|name| wanted(name))
            .map(|name| self.boxed_topic(name))
            .collect();
        let mut read = Vec::new();
        let mut topic_watches = Vec::new();
        for found in in_window(reads).await {
            if let Some((topic, topic_watch)) = found? {
                topic_watches.push((topic.name.clone(), topic_watch));
                read.push(topic);
            }
        }
        self.give_ids(term, &mut read).await?;
        Ok(FoundTopics {
            all,
            watch,
            read,
            topic_watches,
        })
    }

    /// Topics made by brokers or tools from before 2.8 have no id.
    async fn give_ids(&self, term: Term, topics: &mut [TopicAssignment]) -> Result<(), Lost> {
        let mut writes = Vec::new();
        for topic in topics.iter_mut().filter(|topic| topic.id.is_none()) {
            topic.id = Some(random_uuid());
            writes.push(self.boxed_write(
                term,
                vec![Op::Set {
                    path: paths::topic(&topic.name),
                    data: znode::encode_topic(topic),
                    version: None,
                }],
            ));
        }
        for result in in_window(writes).await {
            result?.map_err(Lost::from)?;
        }
        Ok(())
    }

    pub(super) async fn topic(
        &self,
        name: &TopicName,
    ) -> Result<Option<(TopicAssignment, Watch)>, Lost> {
        let path = paths::topic(name);
        let (data, _, watch) = match self.store.get_and_watch(&path).await {
            Ok(found) => found,
            Err(zk::Error::NoNode { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match znode::decode_topic(name, &data) {
            Ok(topic) => Ok(Some((topic, watch))),
            Err(error) => {
                warn!(target: CONTROLLER, "[Controller id={}] {path} is not readable, ignoring the topic: {error}", self.id);
                Ok(None)
            }
        }
    }

    fn boxed_topic<'a>(
        &'a self,
        name: &'a TopicName,
    ) -> BoxFuture<'a, Result<Option<(TopicAssignment, Watch)>, Lost>> {
        Box::pin(self.topic(name))
    }

    /// Partitions that have a znode.
    pub(super) async fn created_partitions(&self, topic: &str) -> Result<Vec<i32>, Lost> {
        let names = self.children(&paths::partitions(topic)).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) async fn deletions(&self) -> Result<(Vec<TopicName>, Watch), Lost> {
        let (names, watch) = self.store.children_and_watch(paths::DELETE_TOPICS).await?;
        Ok((
            names.iter().map(|name| TopicName::new(name)).collect(),
            watch,
        ))
    }

    /// Carries out the core's operations; replies in their order.
    pub(super) async fn perform(
        &self,
        term: Term,
        ops: Vec<StoreOp>,
    ) -> Result<Vec<StoreReply>, Lost> {
        let futures = ops.into_iter().map(|op| self.boxed_op(term, op)).collect();
        in_window(futures).await.into_iter().collect()
    }

    fn boxed_op(&self, term: Term, op: StoreOp) -> BoxFuture<'_, Result<StoreReply, Lost>> {
        match op {
            StoreOp::CreatePartitionsNode(topic) => Box::pin(async move {
                let created = self.write(term, create(paths::partitions(&topic), Bytes::new()));
                Ok(done_or_exists(created.await?))
            }),
            StoreOp::CreateState {
                partition,
                leadership,
            } => Box::pin(self.create_state(term, partition, leadership)),
            StoreOp::SetState {
                partition,
                leadership,
            } => Box::pin(async move {
                let set = Op::Set {
                    path: paths::partition_state(&partition),
                    data: znode::encode_state(&leadership),
                    version: Some(leadership.state.partition_epoch),
                };
                Ok(match self.write(term, set).await? {
                    Ok(results) => match results.last() {
                        Some(OpResult::Set(stat)) => StoreReply::Written {
                            partition_epoch: stat.version,
                        },
                        _ => StoreReply::Done,
                    },
                    Err(error) => StoreReply::Failed(error),
                })
            }),
            StoreOp::GetState(partition) => Box::pin(async move {
                let found = self.get(&paths::partition_state(&partition)).await?;
                Ok(StoreReply::State(found.and_then(|(data, stat)| {
                    znode::decode_state(&data, &stat).ok()
                })))
            }),
            StoreOp::GetTopicConfig(topic) => Box::pin(async move {
                let config = configs::read_config(&*self.store, configs::TOPICS, &topic).await?;
                Ok(StoreReply::Config(config.into_iter().collect()))
            }),
            StoreOp::SetTopic(topic) => Box::pin(async move {
                let set = Op::Set {
                    path: paths::topic(&topic.name),
                    data: znode::encode_topic(&topic),
                    version: None,
                };
                Ok(done(self.write(term, set).await?))
            }),
            StoreOp::DeleteTopic(topic) => Box::pin(self.delete_topic(term, topic)),
            StoreOp::DeleteDeletionMark(topic) => Box::pin(async move {
                Ok(done_or_gone(
                    self.write(term, delete(paths::delete_topic(&topic)))
                        .await?,
                ))
            }),
            StoreOp::ForgetReassignments(partitions) => {
                Box::pin(async move { self.forget_reassignments(term, &partitions).await })
            }
            StoreOp::DeletePreferredElections => Box::pin(async move {
                let path = paths::PREFERRED_REPLICA_ELECTION.to_owned();
                Ok(done_or_gone(self.write(term, delete(path)).await?))
            }),
            StoreOp::ClaimProducerIds(broker) => Box::pin(self.claim_producer_ids(broker)),
        }
    }

    async fn forget_reassignments(
        &self,
        term: Term,
        gone: &[(TopicPartition, Option<Vec<BrokerId>>)],
    ) -> Result<StoreReply, Lost> {
        let path = paths::REASSIGN_PARTITIONS;
        let Some((data, _)) = self.get(path).await? else {
            return Ok(StoreReply::Done);
        };
        // Not readable: whoever wrote it may correct it.
        let Ok(asked) = data::decode_reassignments(&data) else {
            return Ok(StoreReply::Done);
        };
        let before = asked.len();
        let kept: Vec<_> = asked
            .into_iter()
            .filter(|(partition, replicas)| {
                !gone.iter().any(|(gone, those)| {
                    gone == partition && those.as_ref().is_none_or(|those| those == replicas)
                })
            })
            .collect();
        if kept.is_empty() {
            info!(
                target: CONTROLLER,
                "[Controller id={}] No more partitions need to be reassigned. Deleting zk path {path}",
                self.id
            );
            return Ok(done_or_gone(
                self.write(term, delete(path.to_owned())).await?,
            ));
        }
        if kept.len() == before {
            return Ok(StoreReply::Done);
        }
        let kept = kept
            .iter()
            .map(|(partition, replicas)| (partition, replicas.as_slice()));
        let set = Op::Set {
            path: path.to_owned(),
            data: data::encode_reassignments(kept),
            version: None,
        };
        Ok(done_or_gone(self.write(term, set).await?))
    }

    /// A block is given once `/latest_producer_id_block` says so, written against the version that
    /// was read. The check of our term is not part of that, as in Kafka: the version fences enough.
    async fn claim_producer_ids(&self, broker: BrokerId) -> Result<StoreReply, Lost> {
        let path = paths::PRODUCER_ID_BLOCK;
        let unusable = |reason: String| {
            Ok(StoreReply::Failed(zk::Error::Unknown {
                reason: format!(
                    "{path}: {reason}; no producer id can be given until it is repaired"
                ),
            }))
        };
        loop {
            let found = self.get(path).await?;
            let (data, version) = match found {
                Some((data, stat)) => (data, Some(stat.version)),
                None => (Bytes::new(), None),
            };
            let last = match ProducerIdBlock::decode(&data) {
                Ok(block) => block.map_or(-1, |block| block.last),
                Err(error) => return unusable(error.to_string()),
            };
            let (Some(first), Some(next_last)) = (
                last.checked_add(1),
                last.checked_add(PRODUCER_ID_BLOCK_SIZE),
            ) else {
                return unusable(format!(
                    "the ids after {last} would pass the largest there is"
                ));
            };
            let block = ProducerIdBlock {
                broker,
                first,
                last: next_last,
            };
            let written = match version {
                Some(version) => {
                    let set = self.store.set(path, block.encode(), Some(version));
                    set.await.map(drop)
                }
                None => {
                    let create = self
                        .store
                        .create(path, block.encode(), CreateMode::Persistent);
                    create.await.map(drop)
                }
            };
            match written {
                Ok(()) => return Ok(StoreReply::ProducerIds(first)),
                // Another was faster, or the answer to our own write was lost: read again.
                Err(
                    zk::Error::BadVersion { .. }
                    | zk::Error::NodeExists { .. }
                    | zk::Error::NoNode { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// `…/partitions/<n>` and its state in one go; a partition's node without a state is what a
    /// controller left that died between the two.
    async fn create_state(
        &self,
        term: Term,
        partition: TopicPartition,
        leadership: Leadership,
    ) -> Result<StoreReply, Lost> {
        let state = create(
            paths::partition_state(&partition),
            znode::encode_state(&leadership),
        );
        let node = create(paths::partition(&partition), Bytes::new());
        match self.write_all(term, vec![node, state.clone()]).await? {
            Err(zk::Error::NodeExists { .. }) => Ok(done(self.write(term, state).await?)),
            other => Ok(done(other)),
        }
    }

    /// The tree from its leaves up, then the config, then the mark.
    async fn delete_topic(&self, term: Term, topic: TopicName) -> Result<StoreReply, Lost> {
        let mut paths = vec![paths::topic(&topic)];
        let mut next = 0;
        while next < paths.len() {
            let level = next..paths.len();
            next = paths.len();
            let reads: Vec<_> = paths[level.clone()]
                .iter()
                .map(|path| self.boxed_children(path.clone()))
                .collect();
            let found = in_window(reads).await;
            for (index, names) in level.zip(found) {
                let parent = paths[index].clone();
                paths.extend(names?.iter().map(|name| format!("{parent}/{name}")));
            }
        }
        let mut order: Vec<String> = paths.into_iter().rev().collect();
        order.push(paths::config_entity(configs::TOPICS, &topic));
        order.push(paths::delete_topic(&topic));
        let writes = order
            .into_iter()
            .map(|path| self.boxed_write(term, vec![delete(path)]))
            .collect();
        for result in in_window(writes).await {
            match result? {
                Ok(_) | Err(zk::Error::NoNode { .. }) => {}
                Err(error) => return Ok(StoreReply::Failed(error)),
            }
        }
        Ok(StoreReply::Done)
    }

    fn boxed_children(&self, path: String) -> BoxFuture<'_, Result<Vec<String>, Lost>> {
        Box::pin(async move { self.children(&path).await })
    }

    /// Empty when there is no such node.
    async fn children(&self, path: &str) -> Result<Vec<String>, Lost> {
        match self.store.children(path).await {
            Ok(names) => Ok(names),
            Err(zk::Error::NoNode { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, path: &str) -> Result<Option<(Bytes, Stat)>, Lost> {
        match self.store.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(zk::Error::NoNode { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn get_owned(&self, path: String) -> BoxFuture<'_, Result<Option<(Bytes, Stat)>, Lost>> {
        Box::pin(async move { self.get(&path).await })
    }

    async fn write(&self, term: Term, op: Op) -> Result<Result<Vec<OpResult>, zk::Error>, Lost> {
        self.write_all(term, vec![op]).await
    }

    fn boxed_write(
        &self,
        term: Term,
        ops: Vec<Op>,
    ) -> BoxFuture<'_, Result<Result<Vec<OpResult>, zk::Error>, Lost>> {
        Box::pin(self.write_all(term, ops))
    }

    /// The operations under the check of our term. The inner error is that of an operation, and
    /// leaves the term alone.
    async fn write_all(
        &self,
        term: Term,
        ops: Vec<Op>,
    ) -> Result<Result<Vec<OpResult>, zk::Error>, Lost> {
        let mut checked = Vec::with_capacity(ops.len() + 1);
        checked.push(Op::Check {
            path: paths::CONTROLLER_EPOCH.to_owned(),
            version: term.zk_version,
        });
        checked.extend(ops);
        match self.store.multi(checked).await {
            Ok(results) => Ok(Ok(results)),
            Err(MultiError {
                index: Some(0),
                error: zk::Error::BadVersion { .. } | zk::Error::NoNode { .. },
            }) => Err(Lost::Moved),
            Err(MultiError {
                index: Some(_),
                error,
            }) => Ok(Err(error)),
            Err(MultiError { index: None, error }) => Err(error.into()),
        }
    }
}

fn create(path: String, data: Bytes) -> Op {
    Op::Create {
        path,
        data,
        mode: CreateMode::Persistent,
    }
}

fn delete(path: String) -> Op {
    Op::Delete {
        path,
        version: None,
    }
}

fn done(result: Result<Vec<OpResult>, zk::Error>) -> StoreReply {
    match result {
        Ok(_) => StoreReply::Done,
        Err(error) => StoreReply::Failed(error),
    }
}

fn done_or_exists(result: Result<Vec<OpResult>, zk::Error>) -> StoreReply {
    match result {
        Err(zk::Error::NodeExists { .. }) => StoreReply::Done,
        other => done(other),
    }
}

fn done_or_gone(result: Result<Vec<OpResult>, zk::Error>) -> StoreReply {
    match result {
        Err(zk::Error::NoNode { .. }) => StoreReply::Done,
        other => done(other),
    }
}
