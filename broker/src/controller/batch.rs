//! ControllerBrokerRequestBatch: what brokers must be told after a round of state changes,
//! gathered so that each broker gets at most one LeaderAndIsr, one UpdateMetadata and one
//! StopReplica, in that order. Core.
//!
//! Whoever gets LeaderAndIsr for a partition, every live broker gets UpdateMetadata for it.
//! Versions are those of IBP 3.9: LeaderAndIsr 7, UpdateMetadata 8, StopReplica 4.
//! Source: `ControllerChannelManager.scala`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::messages::leader_and_isr_request::{
    LeaderAndIsrLiveLeader, LeaderAndIsrPartitionState, LeaderAndIsrTopicState,
};
use kafka_protocol::messages::stop_replica_request::{
    StopReplicaPartitionState, StopReplicaTopicState,
};
use kafka_protocol::messages::update_metadata_request::{
    UpdateMetadataBroker, UpdateMetadataEndpoint, UpdateMetadataPartitionState,
    UpdateMetadataTopicState,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, LeaderAndIsrRequest, StopReplicaRequest, TopicName as WireTopicName,
    UpdateMetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use tracing::{info, trace};

use crate::types::{BrokerId, LeaderEpoch, TopicName, TopicPartition, Uuid};

use super::event::{ControlRequest, Effect};
use super::state::{ControllerContext, LEADER_DURING_DELETE, Leadership, PartitionEntry};

const STATE_CHANGE: &str = "state.change.logger";

#[derive(Debug, Default)]
pub struct RequestBatch {
    /// Broker → partition → is the replica new to the broker.
    leader_and_isr: BTreeMap<BrokerId, BTreeMap<TopicPartition, bool>>,
    /// Broker → partition → (leader epoch, delete the log).
    stop_replica: BTreeMap<BrokerId, BTreeMap<TopicPartition, (LeaderEpoch, bool)>>,
    update_metadata_brokers: BTreeSet<BrokerId>,
    update_metadata_partitions: BTreeSet<TopicPartition>,
}

impl RequestBatch {
    /// The leadership that goes out is the one the context holds at [`Self::flush`].
    pub fn add_leader_and_isr(
        &mut self,
        context: &ControllerContext,
        brokers: &[BrokerId],
        partition: &TopicPartition,
        is_new: bool,
    ) {
        for broker in brokers.iter().filter(|id| **id >= 0) {
            let known = self
                .leader_and_isr
                .entry(*broker)
                .or_default()
                .entry(partition.clone())
                .or_default();
            *known |= is_new;
        }
        self.update_metadata_brokers.extend(context.brokers.keys());
        self.update_metadata_partitions.insert(partition.clone());
    }

    /// The leader epoch is the one at this moment, before the replica leaves the ISR.
    pub fn add_stop_replica(
        &mut self,
        context: &ControllerContext,
        broker: BrokerId,
        partition: &TopicPartition,
        delete: bool,
    ) {
        if broker < 0 {
            return;
        }
        let epoch = context.stop_replica_epoch(partition);
        let known = self
            .stop_replica
            .entry(broker)
            .or_default()
            .entry(partition.clone())
            .or_insert((epoch, false));
        *known = (epoch, known.1 || delete);
    }

    /// With no partitions: only the list of live brokers is news.
    pub fn add_update_metadata(
        &mut self,
        brokers: impl IntoIterator<Item = BrokerId>,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) {
        self.update_metadata_brokers
            .extend(brokers.into_iter().filter(|id| *id >= 0));
        self.update_metadata_partitions.extend(partitions);
    }

    /// Turns what was gathered into requests. Brokers that are not live get nothing.
    pub fn flush(&mut self, context: &ControllerContext, sender: &Sender, out: &mut Vec<Effect>) {
        self.flush_leader_and_isr(context, sender, out);
        self.flush_update_metadata(context, sender, out);
        self.flush_stop_replica(context, sender, out);
    }

    fn flush_leader_and_isr(
        &mut self,
        context: &ControllerContext,
        sender: &Sender,
        out: &mut Vec<Effect>,
    ) {
        for (id, partitions) in std::mem::take(&mut self.leader_and_isr) {
            let Some(broker) = context.brokers.get(&id) else {
                continue;
            };
            let mut leaders = BTreeSet::new();
            let mut become_leader = 0;
            let mut topics: Vec<LeaderAndIsrTopicState> = Vec::new();
            let mut current: Option<TopicName> = None;
            let mut count = 0;
            for (partition, is_new) in &partitions {
                let Some((entry, known)) = known(context, partition) else {
                    continue;
                };
                count += 1;
                leaders.insert(known.state.leader);
                become_leader += usize::from(known.state.leader == id);
                trace!(
                    target: STATE_CHANGE,
                    "{sender} Sending become-{} LeaderAndIsr request {} to broker {id} for partition {partition}",
                    if known.state.leader == id { "leader" } else { "follower" },
                    known.state
                );
                if current.as_ref() != Some(&partition.topic) {
                    current = Some(partition.topic.clone());
                    topics.push(
                        LeaderAndIsrTopicState::default()
                            .with_topic_name(wire_topic(&partition.topic))
                            .with_topic_id(topic_id(context, &partition.topic)),
                    );
                }
                if let Some(topic) = topics.last_mut() {
                    topic
                        .partition_states
                        .push(leader_and_isr_state(partition, entry, known, *is_new));
                }
            }
            if count == 0 {
                continue;
            }
            info!(
                target: STATE_CHANGE,
                "{sender} Sending LeaderAndIsr request to broker {id} with {become_leader} become-leader and {} become-follower partitions",
                count - become_leader
            );
            let live_leaders = leaders
                .iter()
                .filter_map(|leader| context.brokers.get(leader))
                .filter_map(|leader| {
                    let endpoint = leader.info.endpoint(&sender.inter_broker_listener)?;
                    Some(
                        LeaderAndIsrLiveLeader::default()
                            .with_broker_id(WireBrokerId(leader.info.id))
                            .with_host_name(text(&endpoint.host))
                            .with_port(endpoint.port),
                    )
                })
                .collect();
            let request = LeaderAndIsrRequest::default()
                .with_controller_id(WireBrokerId(sender.controller_id))
                .with_controller_epoch(context.epoch)
                .with_broker_epoch(broker.epoch)
                .with_topic_states(topics)
                .with_live_leaders(live_leaders);
            out.push(Effect::Send {
                broker: id,
                request: ControlRequest::LeaderAndIsr(request),
            });
        }
    }

    fn flush_update_metadata(
        &mut self,
        context: &ControllerContext,
        sender: &Sender,
        out: &mut Vec<Effect>,
    ) {
        let brokers = std::mem::take(&mut self.update_metadata_brokers);
        let partitions = std::mem::take(&mut self.update_metadata_partitions);
        if brokers.is_empty() {
            return;
        }
        info!(
            target: STATE_CHANGE,
            "{sender} Sending UpdateMetadata request to brokers {brokers:?} for {} partitions",
            partitions.len()
        );
        let mut topics: Vec<UpdateMetadataTopicState> = Vec::new();
        let mut current: Option<TopicName> = None;
        for partition in &partitions {
            let Some((entry, known)) = known(context, partition) else {
                info!(
                    target: STATE_CHANGE,
                    "{sender} Leader not yet assigned for partition {partition}. Skip sending UpdateMetadataRequest."
                );
                continue;
            };
            if current.as_ref() != Some(&partition.topic) {
                current = Some(partition.topic.clone());
                topics.push(
                    UpdateMetadataTopicState::default()
                        .with_topic_name(wire_topic(&partition.topic))
                        .with_topic_id(topic_id(context, &partition.topic)),
                );
            }
            if let Some(topic) = topics.last_mut() {
                topic
                    .partition_states
                    .push(update_metadata_state(context, partition, entry, known));
            }
        }
        let request = UpdateMetadataRequest::default()
            .with_controller_id(WireBrokerId(sender.controller_id))
            .with_controller_epoch(context.epoch)
            .with_topic_states(topics)
            .with_live_brokers(live_brokers(context));
        for id in brokers {
            let Some(broker) = context.brokers.get(&id) else {
                continue;
            };
            out.push(Effect::Send {
                broker: id,
                request: ControlRequest::UpdateMetadata(
                    request.clone().with_broker_epoch(broker.epoch),
                ),
            });
        }
    }

    fn flush_stop_replica(
        &mut self,
        context: &ControllerContext,
        sender: &Sender,
        out: &mut Vec<Effect>,
    ) {
        for (id, partitions) in std::mem::take(&mut self.stop_replica) {
            let Some(broker) = context.brokers.get(&id) else {
                continue;
            };
            info!(
                target: STATE_CHANGE,
                "{sender} Sending StopReplica request for {} replicas to broker {id}",
                partitions.len()
            );
            let mut topics: Vec<StopReplicaTopicState> = Vec::new();
            let mut current: Option<&TopicName> = None;
            for (partition, (leader_epoch, delete)) in &partitions {
                if current != Some(&partition.topic) {
                    current = Some(&partition.topic);
                    topics.push(
                        StopReplicaTopicState::default()
                            .with_topic_name(wire_topic(&partition.topic)),
                    );
                }
                if let Some(topic) = topics.last_mut() {
                    topic.partition_states.push(
                        StopReplicaPartitionState::default()
                            .with_partition_index(partition.partition)
                            .with_leader_epoch(*leader_epoch)
                            .with_delete_partition(*delete),
                    );
                }
            }
            let request = StopReplicaRequest::default()
                .with_controller_id(WireBrokerId(sender.controller_id))
                .with_controller_epoch(context.epoch)
                .with_broker_epoch(broker.epoch)
                .with_topic_states(topics);
            out.push(Effect::Send {
                broker: id,
                request: ControlRequest::StopReplica(request),
            });
        }
    }
}

/// Who sends, as requests and log lines name it.
#[derive(Debug, Clone)]
pub struct Sender {
    pub controller_id: BrokerId,
    pub epoch: i32,
    pub inter_broker_listener: String,
}

impl std::fmt::Display for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[Controller id={} epoch={}]",
            self.controller_id, self.epoch
        )
    }
}

fn known<'a>(
    context: &'a ControllerContext,
    partition: &TopicPartition,
) -> Option<(&'a PartitionEntry, &'a Leadership)> {
    let entry = context.partition(partition)?;
    Some((entry, entry.leadership.as_ref()?))
}

fn leader_and_isr_state(
    partition: &TopicPartition,
    entry: &PartitionEntry,
    known: &Leadership,
    is_new: bool,
) -> LeaderAndIsrPartitionState {
    LeaderAndIsrPartitionState::default()
        .with_partition_index(partition.partition)
        .with_controller_epoch(known.controller_epoch)
        .with_leader(WireBrokerId(known.state.leader))
        .with_leader_epoch(known.state.leader_epoch)
        .with_isr(ids(&known.state.isr))
        .with_partition_epoch(known.state.partition_epoch)
        .with_replicas(ids(&entry.assignment.replicas))
        .with_adding_replicas(ids(&entry.assignment.adding))
        .with_removing_replicas(ids(&entry.assignment.removing))
        .with_is_new(is_new)
        .with_leader_recovery_state(i8::from(known.state.recovering))
}

fn update_metadata_state(
    context: &ControllerContext,
    partition: &TopicPartition,
    entry: &PartitionEntry,
    known: &Leadership,
) -> UpdateMetadataPartitionState {
    let deleted = context.is_queued_for_deletion(&partition.topic);
    let (leader, leader_epoch, partition_epoch) = if deleted {
        // `LeaderAndIsr.duringDelete`: both epochs are 0.
        (LEADER_DURING_DELETE, 0, 0)
    } else {
        let state = &known.state;
        (state.leader, state.leader_epoch, state.partition_epoch)
    };
    let offline: Vec<BrokerId> = entry
        .assignment
        .replicas
        .iter()
        .copied()
        .filter(|replica| !context.is_replica_online(*replica, partition))
        .collect();
    UpdateMetadataPartitionState::default()
        .with_partition_index(partition.partition)
        .with_controller_epoch(known.controller_epoch)
        .with_leader(WireBrokerId(leader))
        .with_leader_epoch(leader_epoch)
        .with_isr(ids(&known.state.isr))
        .with_zk_version(partition_epoch)
        .with_replicas(ids(&entry.assignment.replicas))
        .with_offline_replicas(ids(&offline))
}

fn live_brokers(context: &ControllerContext) -> Vec<UpdateMetadataBroker> {
    context
        .brokers
        .values()
        .map(|broker| {
            let endpoints = broker
                .info
                .endpoints
                .iter()
                .map(|endpoint| {
                    UpdateMetadataEndpoint::default()
                        .with_host(text(&endpoint.host))
                        .with_port(endpoint.port)
                        .with_listener(text(&endpoint.listener))
                        .with_security_protocol(endpoint.security_protocol)
                })
                .collect();
            UpdateMetadataBroker::default()
                .with_id(WireBrokerId(broker.info.id))
                .with_endpoints(endpoints)
                .with_rack(broker.info.rack.as_deref().map(text))
        })
        .collect()
}

fn topic_id(context: &ControllerContext, topic: &TopicName) -> Uuid {
    context
        .topics
        .get(topic)
        .and_then(|entry| entry.id)
        .unwrap_or(Uuid::nil())
}

fn ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().copied().map(WireBrokerId).collect()
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn wire_topic(topic: &TopicName) -> WireTopicName {
    WireTopicName(text(topic))
}

/// Partitions a StopReplica asks to delete; its answer concerns topic deletion only for those.
pub fn deleted_partitions(request: &StopReplicaRequest) -> Vec<TopicPartition> {
    // One name is shared by the partitions of a topic.
    let mut names: HashMap<&str, TopicName> = HashMap::new();
    let mut deleted = Vec::new();
    for topic in &request.topic_states {
        let name = names
            .entry(topic.topic_name.as_str())
            .or_insert_with(|| TopicName::new(&topic.topic_name))
            .clone();
        deleted.extend(
            topic
                .partition_states
                .iter()
                .filter(|state| state.delete_partition)
                .map(|state| TopicPartition::new(name.clone(), state.partition_index)),
        );
    }
    deleted
}
