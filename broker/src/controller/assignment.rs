//! Which brokers get the replicas of new partitions (`AdminUtils.assignReplicasToBrokers`). Core:
//! the caller brings the random start.
//!
//! First replicas go round the brokers from `start`; each further replica lies a growing shift
//! behind the first, so that what one broker leads is followed by all others in turn. With racks
//! the brokers are lined up taking one from each rack in turn, and a rack or broker is used twice
//! only when each was used once.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::BrokerId;

use super::admin::Error;

/// A live broker and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: BrokerId,
    pub rack: Option<String>,
}

/// What to assign.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub partitions: i32,
    pub replication_factor: i32,
    /// Id of the first partition: 0, or how many the topic has already.
    pub first_partition: i32,
    /// Below the number of brokers: where the first replica of partition 0 goes.
    pub start: usize,
    /// Below the number of brokers: how far behind it the second one goes.
    pub shift: usize,
}

/// Replicas by partition id. `brokers` in any order.
pub fn assign(
    brokers: &[Candidate],
    wanted: Wanted,
) -> Result<BTreeMap<i32, Vec<BrokerId>>, Error> {
    if wanted.partitions <= 0 {
        return Err(Error::NoPartitions);
    }
    if wanted.replication_factor <= 0 {
        return Err(Error::NoReplicas);
    }
    let replicas = usize::try_from(wanted.replication_factor).unwrap_or(usize::MAX);
    if replicas > brokers.len() {
        return Err(Error::TooFewBrokers {
            replication_factor: wanted.replication_factor,
            brokers: brokers.len(),
        });
    }
    let mut racks: BTreeMap<&str, Vec<BrokerId>> = BTreeMap::new();
    let mut unracked = Vec::new();
    for broker in brokers {
        match &broker.rack {
            Some(rack) => racks.entry(rack).or_default().push(broker.id),
            None => unracked.push(broker.id),
        }
    }
    if racks.is_empty() {
        unracked.sort_unstable();
        return Ok(lay_out(&unracked, &wanted, |first, shift, _| {
            (0..replicas)
                .map(|j| match j {
                    0 => unracked[first],
                    _ => unracked[replica_index(first, shift, j - 1, unracked.len())],
                })
                .collect()
        }));
    }
    if !unracked.is_empty() {
        return Err(Error::RackMissing);
    }
    let line = alternate_racks(&mut racks);
    let rack_of: BTreeMap<BrokerId, &str> = racks
        .iter()
        .flat_map(|(rack, ids)| ids.iter().map(move |id| (*id, *rack)))
        .collect();
    Ok(lay_out(&line, &wanted, |first, shift, line| {
        let mut chosen = vec![line[first]];
        let mut used_racks = BTreeSet::from([rack_of[&line[first]]]);
        let mut k = 0;
        while chosen.len() < replicas {
            let candidate = line[replica_index(first, shift * racks.len(), k, line.len())];
            k += 1;
            let rack = rack_of[&candidate];
            let rack_free = !used_racks.contains(rack) || used_racks.len() == racks.len();
            if rack_free && !chosen.contains(&candidate) {
                chosen.push(candidate);
                used_racks.insert(rack);
            }
        }
        chosen
    }))
}

fn lay_out(
    line: &[BrokerId],
    wanted: &Wanted,
    replicas: impl Fn(usize, usize, &[BrokerId]) -> Vec<BrokerId>,
) -> BTreeMap<i32, Vec<BrokerId>> {
    let mut shift = wanted.shift;
    let first_partition = wanted.first_partition.max(0);
    (first_partition..first_partition.saturating_add(wanted.partitions))
        .map(|partition| {
            let number = usize::try_from(partition).unwrap_or(0);
            if partition > 0 && number.is_multiple_of(line.len()) {
                shift += 1;
            }
            let first = (number + wanted.start) % line.len();
            (partition, replicas(first, shift, line))
        })
        .collect()
}

/// One broker of each rack in turn: racks by name, brokers of a rack by id.
fn alternate_racks(racks: &mut BTreeMap<&str, Vec<BrokerId>>) -> Vec<BrokerId> {
    for ids in racks.values_mut() {
        ids.sort_unstable();
    }
    let deepest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..deepest)
        .flat_map(|depth| racks.values().filter_map(move |ids| ids.get(depth)))
        .copied()
        .collect()
}

/// Place of replica `index` (counted without the first one); there are at least two brokers.
fn replica_index(first: usize, shift: usize, index: usize, brokers: usize) -> usize {
    (first + 1 + (shift + index) % (brokers - 1)) % brokers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        racks
            .iter()
            .zip(0..)
            .map(|(rack, id)| Candidate {
                id,
                rack: rack.map(str::to_owned),
            })
            .collect()
    }

    fn wanted(partitions: i32, replication_factor: i32) -> Wanted {
        Wanted {
            partitions,
            replication_factor,
            first_partition: 0,
            start: 0,
            shift: 0,
        }
    }

    /// The example in the comment of `AdminUtils`: 10 partitions, 3 replicas, 5 brokers.
    #[test]
    fn without_racks_as_in_kafkas_example() {
        let assigned = assign(&brokers(&[None; 5]), wanted(10, 3)).expect("enough brokers");
        let expected = [
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 0],
            [4, 0, 1],
            [0, 2, 3],
            [1, 3, 4],
            [2, 4, 0],
            [3, 0, 1],
            [4, 1, 2],
        ];
        for (partition, replicas) in (0..).zip(expected) {
            assert_eq!(assigned[&partition], replicas, "partition {partition}");
        }
    }

    #[test]
    fn racks_are_lined_up_in_turn() {
        // Kafka's example: rack1 0,1,2  rack2 3,4,5  rack3 6,7,8.
        let mut racks = BTreeMap::from([
            ("rack1", vec![0, 1, 2]),
            ("rack2", vec![3, 4, 5]),
            ("rack3", vec![6, 7, 8]),
        ]);
        assert_eq!(alternate_racks(&mut racks), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
    }

    #[test]
    fn refusals() {
        let check = |racks: &[Option<&str>], partitions, factor, expect: &str| {
            let error = assign(&brokers(racks), wanted(partitions, factor)).expect_err(expect);
            assert_eq!(error.to_string(), expect);
        };
        check(&[None], 0, 1, "Number of partitions must be larger than 0.");
        check(&[None], 1, 0, "Replication factor must be larger than 0.");
        check(
            &[None],
            1,
            2,
            "Replication factor: 2 larger than available brokers: 1.",
        );
        check(
            &[Some("a"), None],
            1,
            1,
            "Not all brokers have rack information for replica rack aware assignment.",
        );
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_spread_over_racks(
            racks in proptest::collection::vec(0..4u8, 1..9),
            partitions in 1..40i32,
            factor in 1..9usize,
            start in 0..9usize,
            shift in 0..9usize,
        ) {
            let names: Vec<String> = racks.iter().map(|rack| format!("r{rack}")).collect();
            let named: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
            let all = brokers(&named);
            let factor = factor.min(all.len());
            let distinct: BTreeSet<&String> = names.iter().collect();
            let assigned = assign(&all, Wanted {
                partitions,
                replication_factor: i32::try_from(factor).unwrap(),
                first_partition: 0,
                start: start % all.len(),
                shift: shift % all.len(),
            }).expect("enough brokers");
            prop_assert_eq!(assigned.len(), usize::try_from(partitions).unwrap());
            for replicas in assigned.values() {
                let ids: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(ids.len(), factor);
                let used: BTreeSet<_> = replicas
                    .iter()
                    .map(|id| &names[usize::try_from(*id).unwrap()])
                    .collect();
                prop_assert_eq!(used.len(), factor.min(distinct.len()));
            }
        }
    }
}
