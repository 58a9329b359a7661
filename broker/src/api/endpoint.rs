//! Where the leader of a partition is, in errors of Produce v10+ and Fetch v16+ (KIP-951).

use kafka_protocol::protocol::StrBytes;

use super::context::Context;
use crate::net::out::Out;
use crate::types::{AsPartition, BrokerId, LeaderEpoch};

/// A broker that lives, as clients on this listener reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: BrokerId,
    pub(super) host: StrBytes,
    pub(super) port: i32,
    pub(super) rack: Option<StrBytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    /// −1 for none.
    pub(super) id: BrokerId,
    pub(super) epoch: LeaderEpoch,
}

/// What an answer without a leader says, by saying nothing.
const NO_LEADER: Leader = Leader { id: -1, epoch: -1 };

impl Leader {
    /// `LeaderIdAndEpoch`.
    pub(super) fn write(self, out: &mut Out) {
        out.i32(self.id);
        out.i32(self.epoch);
        out.no_tags();
    }
}

/// `NodeEndpoints`.
pub(super) fn write_nodes(out: &mut Out, nodes: &[Node]) {
    out.length(Some(nodes.len()));
    for node in nodes {
        out.i32(node.id);
        out.text(Some(&node.host));
        out.i32(node.port);
        out.text(node.rack.as_deref());
        out.no_tags();
    }
}

/// The leader when one is known, and its node when it lives.
pub(super) fn current_leader(
    cx: &Context<'_>,
    partition: &dyn AsPartition,
) -> (Option<Leader>, Option<Node>) {
    let (id, epoch) = cx.rooms.replicas.current_leader(partition);
    let image = cx.rooms.cluster.image();
    let node = image.brokers.get(&id).and_then(|broker| {
        let endpoint = broker.endpoint(&cx.peer.listener)?;
        Some(Node {
            id,
            host: StrBytes::from_string(endpoint.host.clone()),
            port: endpoint.port,
            rack: broker.rack.clone().map(StrBytes::from_string),
        })
    });
    let leader = Leader { id, epoch };
    ((leader != NO_LEADER).then_some(leader), node)
}

/// Adds a node that is not among `nodes` yet.
pub(super) fn add_node(nodes: &mut Vec<Node>, node: Option<Node>) {
    nodes.extend(node.filter(|node| nodes.iter().all(|known| known.id != node.id)));
}
