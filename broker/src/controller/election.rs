//! Who becomes leader of a partition. Core.
//!
//! Every election raises the leader epoch by one; the state znode is then set with the partition
//! epoch it was chosen from, so that a choice made on old knowledge is refused and made again.
//! Source: `Election.scala`, `PartitionLeaderElectionAlgorithms`.

use crate::types::{BrokerId, TopicPartition};

use super::bug::{Bug, seeded};
use super::event::Proposal;
use super::state::{ControllerContext, LeaderAndIsr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionStrategy {
    /// The leader is gone: the first live replica of the ISR; none there and `unclean` allowed:
    /// the first live one. `force_unclean` does not ask the topic's configuration.
    Offline { force_unclean: bool },
    /// The first assigned replica, when it is live and in the ISR.
    Preferred,
    /// The first target replica of a reassignment that is live and in the ISR.
    Reassign,
    /// The leader is about to stop: the first replica of the ISR that is not; none that is stays in
    /// the ISR.
    ControlledShutdown,
}

impl std::fmt::Display for ElectionStrategy {
    /// Kafka's name; tools print it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offline { force_unclean } => {
                write!(f, "OfflinePartitionLeaderElectionStrategy({force_unclean})")
            }
            Self::Preferred => f.write_str("PreferredReplicaPartitionLeaderElectionStrategy"),
            Self::Reassign => f.write_str("ReassignPartitionLeaderElectionStrategy"),
            Self::ControlledShutdown => {
                f.write_str("ControlledShutdownPartitionLeaderElectionStrategy")
            }
        }
    }
}

/// The new state of a partition and who is told, or `None` when nobody can lead.
pub fn elect(
    context: &ControllerContext,
    partition: &TopicPartition,
    current: &LeaderAndIsr,
    strategy: ElectionStrategy,
    unclean: bool,
) -> Option<Proposal> {
    let assignment = context.replicas(partition);
    let live = context.live_replicas(partition);
    let (state, recipients) = match strategy {
        ElectionStrategy::Offline { force_unclean } => {
            let state = offline(current, &live, unclean || force_unclean)?;
            (state, live)
        }
        ElectionStrategy::Preferred => {
            let preferred = *assignment.first()?;
            if !live.contains(&preferred) || !current.isr.contains(&preferred) {
                return None;
            }
            let state = current.next(preferred, current.isr.clone());
            (state, assignment.to_vec())
        }
        ElectionStrategy::Reassign => {
            let target = context.partition(partition)?.assignment.target();
            let leader = *target.iter().find(|id| {
                context.is_replica_online(**id, partition) && current.isr.contains(id)
            })?;
            (current.next(leader, current.isr.clone()), target)
        }
        ElectionStrategy::ControlledShutdown => {
            let reachable: Vec<BrokerId> = assignment
                .iter()
                .copied()
                .filter(|id| {
                    context.brokers.contains_key(id) && !context.is_in_offline_dir(*id, partition)
                })
                .collect();
            let stays = |id: &BrokerId| !context.shutting_down.contains(id);
            let leader = *reachable
                .iter()
                .find(|id| current.isr.contains(id) && stays(id))?;
            let isr = current.isr.iter().copied().filter(stays).collect();
            (current.next(leader, isr), reachable)
        }
    };
    Some(Proposal {
        partition: partition.clone(),
        state,
        recipients,
    })
}

/// `live` is in assignment order.
fn offline(current: &LeaderAndIsr, live: &[BrokerId], unclean: bool) -> Option<LeaderAndIsr> {
    let eligible = |id: &&BrokerId| current.isr.contains(id) || seeded(Bug::ElectsOutsideIsr);
    if let Some(leader) = live.iter().find(eligible) {
        let isr = current
            .isr
            .iter()
            .copied()
            .filter(|id| live.contains(id))
            .collect();
        return Some(current.next(*leader, isr));
    }
    let leader = *live.first().filter(|_| unclean)?;
    let mut state = current.next(leader, vec![leader]);
    state.recovering = true;
    Some(state)
}

/// True when no member of the ISR is live but some replica is: only then does it matter whether
/// unclean elections are allowed.
pub fn needs_unclean(
    context: &ControllerContext,
    partition: &TopicPartition,
    current: &LeaderAndIsr,
) -> bool {
    let live = context.live_replicas(partition);
    !live.is_empty() && !live.iter().any(|id| current.isr.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(leader: BrokerId, isr: &[BrokerId]) -> LeaderAndIsr {
        LeaderAndIsr {
            leader,
            leader_epoch: 4,
            isr: isr.to_vec(),
            recovering: false,
            partition_epoch: 9,
        }
    }

    fn check(
        isr: &[BrokerId],
        live: &[BrokerId],
        unclean: bool,
        expect: Option<(BrokerId, &[BrokerId], bool)>,
    ) {
        let chosen = offline(&state(7, isr), live, unclean);
        assert_eq!(
            chosen
                .as_ref()
                .map(|s| (s.leader, &s.isr[..], s.recovering)),
            expect,
            "isr {isr:?}, live {live:?}, unclean {unclean}"
        );
        if let Some(chosen) = chosen {
            assert_eq!((chosen.leader_epoch, chosen.partition_epoch), (5, 9));
        }
    }

    #[test]
    fn offline_election_takes_the_first_live_replica_of_the_isr() {
        check(&[1, 2, 3], &[2, 3], false, Some((2, &[2, 3], false)));
        check(&[3, 2], &[1, 2, 3], false, Some((2, &[3, 2], false)));
        check(&[3, 2], &[1, 2, 3], true, Some((2, &[3, 2], false)));
        check(&[1], &[2, 3], false, None);
        check(&[1], &[], true, None);
    }

    #[test]
    fn unclean_election_leaves_the_leader_alone_in_the_isr_and_recovering() {
        check(&[1], &[2, 3], true, Some((2, &[2], true)));
    }
}
