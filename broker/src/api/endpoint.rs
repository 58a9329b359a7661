//! Where the leader of a partition is, in errors of Produce v10+ and Fetch v16+ (KIP-951).

use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::types::{BrokerId, LeaderEpoch, TopicPartition};

/// A broker that lives, as clients on this listener reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) host: StrBytes,
    pub(super) port: i32,
    pub(super) rack: Option<StrBytes>,
}

/// Leader (−1: none), leader epoch, and the leader's node when it lives.
pub(super) fn current_leader(
    cx: &Context<'_>,
    partition: &TopicPartition,
) -> (BrokerId, LeaderEpoch, Option<Node>) {
    let (leader, leader_epoch) = cx.rooms.replicas.current_leader(partition);
    let image = cx.rooms.cluster.image();
    let node = image.brokers.get(&leader).and_then(|broker| {
        let endpoint = broker.endpoint(&cx.peer.listener)?;
        Some(Node {
            id: leader,
            host: StrBytes::from_string(endpoint.host.clone()),
            port: endpoint.port,
            rack: broker.rack.clone().map(StrBytes::from_string),
        })
    });
    (leader, leader_epoch, node)
}
