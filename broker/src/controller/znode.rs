//! Between the znodes' contents (`zk::data`) and the controller's types.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{BrokerId, TopicName};
use crate::zk::Stat;
use crate::zk::data::{self, BrokerRegistration, DataError, PartitionReplicas, PartitionState};

use super::state::{LeaderAndIsr, Leadership, LiveBroker, ReplicaAssignment, TopicAssignment};

/// The broker epoch is the czxid of the registration.
pub(super) fn decode_broker(
    id: BrokerId,
    data: &[u8],
    stat: &Stat,
) -> Result<LiveBroker, DataError> {
    let registration = BrokerRegistration::decode(data)?;
    Ok(LiveBroker {
        info: Arc::new(registration.image(id)),
        epoch: stat.czxid,
    })
}

pub(super) fn encode_state(leadership: &Leadership) -> Bytes {
    let state = &leadership.state;
    PartitionState {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        controller_epoch: leadership.controller_epoch,
        isr: state.isr.clone(),
        recovering: state.recovering,
    }
    .encode()
}

/// The partition epoch is the version of the node.
pub(super) fn decode_state(data: &[u8], stat: &Stat) -> Result<Leadership, DataError> {
    let state = PartitionState::decode(data)?;
    Ok(Leadership {
        controller_epoch: state.controller_epoch,
        state: LeaderAndIsr {
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            isr: state.isr,
            recovering: state.recovering,
            partition_epoch: stat.version,
        },
    })
}

pub(super) fn encode_topic(topic: &TopicAssignment) -> Bytes {
    let partitions = topic
        .partitions
        .iter()
        .map(|(partition, assignment)| {
            let replicas = PartitionReplicas {
                replicas: assignment.replicas.clone(),
                adding: assignment.adding.clone(),
                removing: assignment.removing.clone(),
            };
            (*partition, replicas)
        })
        .collect();
    data::TopicAssignment {
        topic_id: topic.id,
        partitions,
    }
    .encode()
}

pub(super) fn decode_topic(name: &TopicName, data: &[u8]) -> Result<TopicAssignment, DataError> {
    let topic = data::TopicAssignment::decode(data)?;
    let partitions = topic
        .partitions
        .into_iter()
        .map(|(partition, replicas)| {
            let assignment = ReplicaAssignment {
                replicas: replicas.replicas,
                adding: replicas.adding,
                removing: replicas.removing,
            };
            (partition, assignment)
        })
        .collect();
    Ok(TopicAssignment {
        name: name.clone(),
        id: topic.topic_id,
        partitions,
    })
}
