//! Creating, deleting and growing topics: what the broker that handles the request writes into
//! the store, where the controller then finds it (`ZkAdminManager`, `AdminZkClient`). Edge.
//!
//! Order of writes: `/config/topics/<t>`, then `/brokers/topics/<t>`: the controller acts on the
//! second and must find the first. Texts are Kafka's; tools print them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tracing::{debug, info};

use crate::cluster::image::Cluster;
use crate::config::{self, Config, Properties};
use crate::error::{ErrorCode, KafkaCode};
use crate::types::{
    BrokerId, GROUP_METADATA_TOPIC, TRANSACTION_STATE_TOPIC, TopicName, Uuid, random_uuid,
};
use crate::zk::{self, CreateMode, Store, paths};

use super::assignment::{Candidate, Wanted, assign};
use super::core::join;
use super::state::{NO_LEADER, ReplicaAssignment, TopicAssignment};
use super::{topic_name, znode};

/// "The broker's default" for the number of partitions and the replication factor.
pub const DEFAULT_COUNT: i32 = -1;

/// Why a topic is not created, deleted or grown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    #[error("Topic '{0}' is marked for deletion.")]
    MarkedForDeletion(String),
    #[error("Topic name is invalid: {0}")]
    InvalidName(String),
    #[error("Topic '{topic}' collides with existing topics: {existing}")]
    Collides { topic: String, existing: String },
    #[error("Null value not supported for topic configs: {0}")]
    NullConfig(String),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(
        "Both numPartitions or replicationFactor and replicasAssignments were set. Both cannot be used at the same time."
    )]
    BothCountsAndAssignment,
    #[error("Number of partitions must be larger than 0.")]
    NoPartitions,
    #[error("Replication factor must be larger than 0.")]
    NoReplicas,
    #[error("Replication factor: {replication_factor} larger than available brokers: {brokers}.")]
    TooFewBrokers {
        replication_factor: i32,
        brokers: usize,
    },
    #[error("Not all brokers have rack information for replica rack aware assignment.")]
    RackMissing,
    #[error("All partitions should have the same number of replicas")]
    UnequalReplicas,
    #[error("Duplicate replica assignment found: {0}")]
    DuplicateReplica(String),
    #[error("partitions should be a consecutive 0-based integer sequence")]
    NotConsecutive,
    #[error("Topic `{0}` to delete does not exist")]
    NothingToDelete(String),
    #[error("The topic '{0}' does not exist.")]
    UnknownTopic(String),
    #[error("A partition reassignment is in progress for the topic '{0}'.")]
    ReassignmentInProgress(String),
    #[error(
        "Topic currently has {current} partitions, which is higher than the requested {requested}."
    )]
    FewerPartitions { current: usize, requested: i32 },
    #[error("Topic already has {0} partitions.")]
    SamePartitions(usize),
    #[error("Unknown broker(s) in replica assignment: {0}.")]
    UnknownBrokers(String),
    #[error(
        "Increasing the number of partitions by {increase} but {provided} assignments provided."
    )]
    AssignmentCount { increase: i32, provided: usize },
    #[error("Cannot have replication factor of 0 for partition id {0}.")]
    EmptyReplicas(i32),
    #[error(
        "Duplicate brokers not allowed in replica assignment: {replicas} for partition id {partition}."
    )]
    DuplicateBrokers { replicas: String, partition: i32 },
    #[error(
        "Inconsistent replication factor between partitions, partition 0 has {expected} while partitions [{partitions}] have replication factors [{factors}], respectively."
    )]
    InconsistentReplicationFactor {
        expected: usize,
        partitions: String,
        factors: String,
    },
    #[error(transparent)]
    ConfigStore(#[from] zk::configs::Error),
    #[error(transparent)]
    Store(#[from] zk::Error),
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Exists(_) | Self::MarkedForDeletion(_) => ErrorCode::TopicAlreadyExists,
            Self::InvalidName(_) | Self::Collides { .. } => ErrorCode::InvalidTopicException,
            Self::NullConfig(_) => ErrorCode::InvalidConfig,
            Self::Config(error) => error.code(),
            Self::BothCountsAndAssignment => ErrorCode::InvalidRequest,
            Self::NoPartitions | Self::FewerPartitions { .. } | Self::SamePartitions(_) => {
                ErrorCode::InvalidPartitions
            }
            Self::NoReplicas | Self::TooFewBrokers { .. } => ErrorCode::InvalidReplicationFactor,
            Self::UnequalReplicas
            | Self::DuplicateReplica(_)
            | Self::NotConsecutive
            | Self::UnknownBrokers(_)
            | Self::AssignmentCount { .. }
            | Self::EmptyReplicas(_)
            | Self::DuplicateBrokers { .. }
            | Self::InconsistentReplicationFactor { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::NothingToDelete(_) | Self::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
            Self::ReassignmentInProgress(_) => ErrorCode::ReassignmentInProgress,
            Self::ConfigStore(error) => error.code(),
            // `AdminOperationException` and what ZooKeeper throws have no code of their own.
            Self::RackMissing | Self::Store(_) => ErrorCode::UnknownServerError,
        }
    }
}

impl Error {
    /// What a response carries: no text that repeats the code's, nor any for the unexpected.
    pub fn message(&self) -> Option<String> {
        let text = self.to_string();
        let code = self.code();
        (code != ErrorCode::UnknownServerError && text != code.message()).then_some(text)
    }
}

/// A topic to create.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    pub name: String,
    /// [`DEFAULT_COUNT`] or below 1 as the client sent it.
    pub partitions: i32,
    pub replication_factor: i32,
    /// Empty: assigned by us.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub configs: Vec<(String, Option<String>)>,
}

/// What was, or with `validate_only` would be, created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// `None` with `validate_only`.
    pub id: Option<Uuid>,
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub configs: Properties,
}

/// The rooms that topic administration needs.
#[derive(Clone, Copy)]
pub struct TopicAdmin<'a> {
    pub store: &'a dyn Store,
    pub cluster: &'a Cluster,
    pub config: &'a Config,
}

impl TopicAdmin<'_> {
    /// Writes the topic's znodes; its leaders come later, see [`Self::wait_for_leaders`].
    pub async fn create(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, Error> {
        let name = &topic.name;
        let image = self.cluster.image();
        if image.topic(name).is_some() {
            return Err(Error::Exists(name.clone()));
        }
        let null: Vec<&str> = topic
            .configs
            .iter()
            .filter(|(_, value)| value.is_none())
            .map(|(key, _)| key.as_str())
            .collect();
        if !null.is_empty() {
            return Err(Error::NullConfig(null.join(",")));
        }
        let has_counts =
            topic.partitions != DEFAULT_COUNT || topic.replication_factor != DEFAULT_COUNT;
        if has_counts && !topic.assignments.is_empty() {
            return Err(Error::BothCountsAndAssignment);
        }
        let assignments = if topic.assignments.is_empty() {
            self.assign(topic)?
        } else {
            topic.assignments.clone()
        };
        let configs: Properties = topic
            .configs
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)))
            .collect();
        self.validate(name, &assignments, &configs).await?;
        let id = if validate_only {
            None
        } else {
            Some(self.write_topic(name, &assignments, &configs).await?)
        };
        Ok(CreatedTopic {
            id,
            assignments,
            configs,
        })
    }

    fn assign(&self, topic: &NewTopic) -> Result<BTreeMap<i32, Vec<BrokerId>>, Error> {
        let or_default = |count: i32, default: i32| {
            if count == DEFAULT_COUNT {
                default
            } else {
                count
            }
        };
        let brokers = self.candidates();
        let random = || match brokers.len() {
            0 => 0,
            n => rand::random_range(0..n),
        };
        let wanted = Wanted {
            partitions: or_default(topic.partitions, self.config.num_partitions()),
            replication_factor: or_default(
                topic.replication_factor,
                self.config.default_replication_factor(),
            ),
            first_partition: 0,
            start: random(),
            shift: random(),
        };
        assign(&brokers, wanted)
    }

    fn candidates(&self) -> Vec<Candidate> {
        self.cluster
            .image()
            .brokers
            .values()
            .map(|broker| Candidate {
                id: broker.id,
                rack: broker.rack.clone(),
            })
            .collect()
    }

    /// `AdminZkClient.validateTopicCreate`, in its order.
    async fn validate(
        &self,
        name: &str,
        assignments: &BTreeMap<i32, Vec<BrokerId>>,
        configs: &Properties,
    ) -> Result<(), Error> {
        if let Some(reason) = topic_name::invalid_reason(name) {
            return Err(Error::InvalidName(reason));
        }
        if self
            .store
            .exists(&paths::delete_topic(name))
            .await?
            .is_some()
        {
            return Err(Error::MarkedForDeletion(name.to_owned()));
        }
        if self.store.exists(&paths::topic(name)).await?.is_some() {
            return Err(Error::Exists(name.to_owned()));
        }
        if topic_name::has_collision_chars(name) {
            let existing = self.store.children(paths::TOPICS).await?;
            if existing.iter().any(|other| other == name) {
                return Err(Error::Exists(name.to_owned()));
            }
            let colliding: Vec<String> = existing
                .into_iter()
                .filter(|other| topic_name::collide(name, other))
                .collect();
            if !colliding.is_empty() {
                return Err(Error::Collides {
                    topic: name.to_owned(),
                    existing: colliding.join(", "),
                });
            }
        }
        let factors: BTreeSet<usize> = assignments.values().map(Vec::len).collect();
        if factors.len() != 1 {
            return Err(Error::UnequalReplicas);
        }
        if assignments
            .values()
            .any(|replicas| has_duplicates(replicas))
        {
            let shown: Vec<String> = assignments
                .iter()
                .map(|(partition, replicas)| format!("{partition} -> {}", scala_buffer(replicas)))
                .collect();
            return Err(Error::DuplicateReplica(format!(
                "HashMap({})",
                shown.join(", ")
            )));
        }
        if !assignments
            .keys()
            .copied()
            .eq((0..).take(assignments.len()))
        {
            return Err(Error::NotConsecutive);
        }
        self.config.validate_topic_overrides(configs)?;
        Ok(())
    }

    async fn write_topic(
        &self,
        name: &str,
        assignments: &BTreeMap<i32, Vec<BrokerId>>,
        configs: &Properties,
    ) -> Result<Uuid, Error> {
        info!(
            target: "kafka.zk.AdminZkClient",
            "Creating topic {name} with configuration {configs:?} and initial partition assignment {assignments:?}"
        );
        zk::configs::write_config(self.store, zk::configs::TOPICS, name, configs).await?;
        let id = random_uuid();
        let topic = TopicAssignment {
            name: TopicName::new(name),
            id: Some(id),
            partitions: assignments
                .iter()
                .map(|(partition, replicas)| (*partition, ReplicaAssignment::of(replicas.clone())))
                .collect(),
        };
        let data = znode::encode_topic(&topic);
        match create_with_parents(self.store, &paths::topic(name), data).await {
            Ok(()) => Ok(id),
            Err(zk::Error::NodeExists { .. }) => Err(Error::Exists(name.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Marks the topic for deletion; the controller does the rest. Again for a topic that is
    /// marked already: the caller may wait for it too.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        if self.store.exists(&paths::topic(name)).await?.is_none() {
            return Err(Error::NothingToDelete(name.to_owned()));
        }
        match create_with_parents(self.store, &paths::delete_topic(name), Bytes::new()).await {
            Ok(()) | Err(zk::Error::NodeExists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Adds partitions up to `count`; answers how many the topic has, or with `validate_only`
    /// would have. `assignments` are those of the new ones in order.
    pub async fn add_partitions(
        &self,
        name: &str,
        count: i32,
        assignments: Option<&[Vec<BrokerId>]>,
        validate_only: bool,
    ) -> Result<i32, Error> {
        let topic_name = TopicName::new(name);
        let path = paths::topic(name);
        let found = match self.store.get(&path).await {
            Ok((data, _)) => znode::decode_topic(&topic_name, &data).ok(),
            Err(zk::Error::NoNode { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut topic = found
            .filter(|topic| !topic.partitions.is_empty())
            .ok_or_else(|| Error::UnknownTopic(name.to_owned()))?;
        if topic
            .partitions
            .values()
            .any(ReplicaAssignment::is_being_reassigned)
        {
            return Err(Error::ReassignmentInProgress(name.to_owned()));
        }
        let current = topic.partitions.len();
        let current_count = i32::try_from(current).unwrap_or(i32::MAX);
        if count < current_count {
            return Err(Error::FewerPartitions {
                current,
                requested: count,
            });
        }
        if count == current_count {
            return Err(Error::SamePartitions(current));
        }
        let increase = count - current_count;
        let brokers = self.candidates();
        let first: Vec<BrokerId> = topic
            .partitions
            .values()
            .next()
            .map(|assignment| assignment.replicas.clone())
            .unwrap_or_default();
        let added = match assignments {
            Some(given) => check_given(given, &brokers, current_count, increase, first.len())?,
            None => {
                let head = first.first().copied().unwrap_or(0);
                let mut ids: Vec<BrokerId> = brokers.iter().map(|broker| broker.id).collect();
                ids.sort_unstable();
                let start = ids.iter().position(|id| *id >= head).unwrap_or(0);
                let wanted = Wanted {
                    partitions: increase,
                    replication_factor: i32::try_from(first.len()).unwrap_or(i32::MAX),
                    first_partition: current_count,
                    start,
                    shift: start,
                };
                assign(&brokers, wanted)?
            }
        };
        if validate_only {
            return Ok(count);
        }
        info!(
            target: "kafka.zk.AdminZkClient",
            "Creating {increase} partitions for '{name}' with the following replica assignment: {added:?}."
        );
        topic.partitions.extend(
            added
                .into_iter()
                .map(|(partition, replicas)| (partition, ReplicaAssignment::of(replicas))),
        );
        self.store
            .set(&path, znode::encode_topic(&topic), None)
            .await?;
        Ok(count)
    }

    /// Until every partition of these topics has a leader in this broker's image, or the time is
    /// over; the topics that still lack one.
    pub async fn wait_for_leaders(
        &self,
        topics: &[(String, i32)],
        timeout: Duration,
    ) -> BTreeSet<String> {
        self.wait(timeout, || {
            let image = self.cluster.image();
            topics
                .iter()
                .filter(|(name, partitions)| {
                    let known = image.topic(name);
                    (0..*partitions).any(|partition| {
                        known
                            .and_then(|topic| topic.partitions.get(&partition))
                            .is_none_or(|state| state.leader == NO_LEADER)
                    })
                })
                .map(|(name, _)| name.clone())
                .collect()
        })
        .await
    }

    /// Until these topics are gone from this broker's image, or the time is over; the ones still
    /// there.
    pub async fn wait_for_deletion(
        &self,
        topics: &[String],
        timeout: Duration,
    ) -> BTreeSet<String> {
        self.wait(timeout, || {
            let image = self.cluster.image();
            topics
                .iter()
                .filter(|name| image.topic(name).is_some())
                .cloned()
                .collect()
        })
        .await
    }

    async fn wait(
        &self,
        timeout: Duration,
        pending: impl Fn() -> BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut changes = self.cluster.changes();
        let all_done = async {
            loop {
                changes.mark_unchanged();
                if pending().is_empty() || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whether in time or not is seen in what is pending now.
        let _ = tokio::time::timeout(timeout, all_done).await;
        pending()
    }

    /// Creates a topic that a client asked for by name, or an internal one with its own settings,
    /// and does not wait for it: LEADER_NOT_AVAILABLE says that it was created (or was there).
    pub async fn auto_create(&self, name: &str) -> ErrorCode {
        if topic_name::invalid_reason(name).is_some() {
            return ErrorCode::InvalidTopicException;
        }
        match self.create(&self.auto_topic(name), false).await {
            Ok(_) | Err(Error::Exists(_) | Error::MarkedForDeletion(_)) => {
                ErrorCode::LeaderNotAvailable
            }
            Err(error) => {
                debug!(target: "kafka.server.DefaultAutoTopicCreationManager", "Auto topic creation failed for {name}: {error}");
                error.code()
            }
        }
    }

    fn auto_topic(&self, name: &str) -> NewTopic {
        let config = self.config;
        let internal =
            |partitions, replication_factor: i32, configs: Vec<(&str, String)>| NewTopic {
                name: name.to_owned(),
                partitions,
                replication_factor,
                assignments: BTreeMap::new(),
                configs: configs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), Some(value)))
                    .collect(),
            };
        match name {
            GROUP_METADATA_TOPIC => internal(
                config.offsets_topic_num_partitions(),
                i32::from(config.offsets_topic_replication_factor()),
                vec![
                    ("cleanup.policy", "compact".to_owned()),
                    ("compression.type", "producer".to_owned()),
                    (
                        "segment.bytes",
                        config.offsets_topic_segment_bytes().to_string(),
                    ),
                ],
            ),
            TRANSACTION_STATE_TOPIC => internal(
                config.transaction_state_log_num_partitions(),
                i32::from(config.transaction_state_log_replication_factor()),
                vec![
                    ("unclean.leader.election.enable", "false".to_owned()),
                    ("compression.type", "uncompressed".to_owned()),
                    ("cleanup.policy", "compact".to_owned()),
                    (
                        "min.insync.replicas",
                        config.transaction_state_log_min_isr().to_string(),
                    ),
                    (
                        "segment.bytes",
                        config.transaction_state_log_segment_bytes().to_string(),
                    ),
                ],
            ),
            _ => internal(
                config.num_partitions(),
                config.default_replication_factor(),
                Vec::new(),
            ),
        }
    }
}

/// Checks the replicas a client gave for new partitions.
fn check_given(
    given: &[Vec<BrokerId>],
    brokers: &[Candidate],
    first_partition: i32,
    increase: i32,
    replication_factor: usize,
) -> Result<BTreeMap<i32, Vec<BrokerId>>, Error> {
    let live: BTreeSet<BrokerId> = brokers.iter().map(|broker| broker.id).collect();
    let unknown: BTreeSet<BrokerId> = given
        .iter()
        .flatten()
        .copied()
        .filter(|id| !live.contains(id))
        .collect();
    if !unknown.is_empty() {
        return Err(Error::UnknownBrokers(spaced(&unknown)));
    }
    if usize::try_from(increase).unwrap_or(0) != given.len() {
        return Err(Error::AssignmentCount {
            increase,
            provided: given.len(),
        });
    }
    let by_partition: BTreeMap<i32, Vec<BrokerId>> =
        (first_partition..).zip(given.iter().cloned()).collect();
    for (partition, replicas) in &by_partition {
        if replicas.is_empty() {
            return Err(Error::EmptyReplicas(*partition));
        }
        if has_duplicates(replicas) {
            return Err(Error::DuplicateBrokers {
                replicas: spaced(replicas),
                partition: *partition,
            });
        }
    }
    let odd: Vec<(&i32, usize)> = by_partition
        .iter()
        .map(|(partition, replicas)| (partition, replicas.len()))
        .filter(|(_, factor)| *factor != replication_factor)
        .collect();
    if !odd.is_empty() {
        return Err(Error::InconsistentReplicationFactor {
            expected: replication_factor,
            partitions: spaced(odd.iter().map(|(partition, _)| partition)),
            factors: spaced(odd.iter().map(|(_, factor)| factor)),
        });
    }
    Ok(by_partition)
}

fn has_duplicates(replicas: &[BrokerId]) -> bool {
    replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len()
}

fn spaced<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    join(items).replace(',', ", ")
}

/// As Scala prints the list in `HashMap(0 -> ArrayBuffer(1, 1))`.
fn scala_buffer(replicas: &[BrokerId]) -> String {
    format!("ArrayBuffer({})", spaced(replicas))
}

async fn create_with_parents(store: &dyn Store, path: &str, data: Bytes) -> Result<(), zk::Error> {
    match store
        .create(path, data.clone(), CreateMode::Persistent)
        .await
    {
        Ok(_) => return Ok(()),
        Err(zk::Error::NoNode { .. }) => {}
        Err(error) => return Err(error),
    }
    for (end, _) in path.match_indices('/').skip(1) {
        match store
            .create(&path[..end], Bytes::new(), CreateMode::Persistent)
            .await
        {
            Ok(_) | Err(zk::Error::NodeExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    store.create(path, data, CreateMode::Persistent).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
