//! Which replica a consumer should read from (KIP-392). [core]
//!
//! `replica.selector.class` names a Java class; the two that come with Kafka are known here.
//!
//! Source: `RackAwareReplicaSelector.java`, `ReplicaManager.findPreferredReadReplica`.

use super::state::ReadCandidate;
use crate::cluster::image::MetadataImage;
use crate::types::BrokerId;

/// `replica.selector.class` of the selector by rack.
pub const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// `replica.selector.class` of the selector that always takes the leader.
pub const LEADER: &str = "org.apache.kafka.common.replica.LeaderSelector";

/// A consumer, as far as it matters where it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// `client.rack`; never empty.
    pub rack: String,
    /// The listener it came in on: a replica that has none of that name is of no use to it.
    pub listener: String,
}

/// The replica in the reader's rack that is furthest, `None` for the leader.
pub fn preferred_replica(
    reader: &Reader,
    leader: BrokerId,
    candidates: &[ReadCandidate],
    image: &MetadataImage,
) -> Option<BrokerId> {
    let is_near = |replica: BrokerId| {
        image.brokers.get(&replica).is_some_and(|broker| {
            broker.rack.as_deref() == Some(reader.rack.as_str())
                && broker.endpoint(&reader.listener).is_some()
        })
    };
    if is_near(leader) {
        return None;
    }
    candidates
        .iter()
        .filter(|candidate| is_near(candidate.replica))
        .max_by_key(|candidate| {
            (
                candidate.log_end_offset,
                std::cmp::Reverse(candidate.behind_ms),
                candidate.replica,
            )
        })
        .map(|candidate| candidate.replica)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::image::{BrokerImage, Endpoint};

    /// Broker 1 in rack a, 2 and 3 in b, 4 in c without the listener `EXTERNAL`.
    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        for (id, rack) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
            let endpoint = Endpoint {
                listener: if id == 4 { "INTERNAL" } else { "EXTERNAL" }.to_owned(),
                security_protocol: 0,
                host: "h".to_owned(),
                port: 9092,
            };
            let broker = BrokerImage {
                id,
                endpoints: vec![endpoint],
                rack: Some(rack.to_owned()),
            };
            image.brokers.insert(id, Arc::new(broker));
        }
        image
    }

    fn check(rack: &str, leader: BrokerId, ends: &[(BrokerId, i64, i64)], expect: Option<i32>) {
        let reader = Reader {
            rack: rack.to_owned(),
            listener: "EXTERNAL".to_owned(),
        };
        let candidates: Vec<_> = ends
            .iter()
            .map(|&(replica, log_end_offset, behind_ms)| ReadCandidate {
                replica,
                log_end_offset,
                behind_ms,
            })
            .collect();
        assert_eq!(
            preferred_replica(&reader, leader, &candidates, &image()),
            expect,
            "{rack} {leader} {ends:?}"
        );
    }

    #[test]
    fn the_furthest_replica_of_the_readers_rack() {
        check("b", 1, &[(2, 10, 0), (3, 12, 0)], Some(3));
        check("b", 1, &[(2, 12, 5), (3, 12, 9)], Some(2));
        check("b", 1, &[(2, 12, 5), (3, 12, 5)], Some(3));
    }

    #[test]
    fn the_leader_when_it_is_near_or_nobody_is() {
        check("a", 1, &[(2, 10, 0)], None);
        check("b", 2, &[(3, 10, 0)], None);
        check("x", 1, &[(2, 10, 0)], None);
        check("c", 1, &[(4, 10, 0)], None);
        check("b", 1, &[], None);
    }
}
