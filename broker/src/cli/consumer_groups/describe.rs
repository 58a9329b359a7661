//! `--describe`: offsets and lag, members, or state of groups.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};

use super::super::admin::{Admin, ApiError};
use super::super::consumer::decode_assignment;
use super::super::get_offsets::list_offsets;
use super::{Options, in_future, print_error};
use crate::error::ErrorCode;
use crate::types::{BrokerId, Offset, TopicPartition};

/// What Kafka prints where there is nothing to print.
const NOTHING: &str = "-";

pub(super) fn run(options: &Options, admin: &mut Admin) -> Result<()> {
    let mut groups = BTreeMap::new();
    for id in options.groups(admin)? {
        let (coordinator, group) = admin.describe_group(&id)?;
        let protocol_type = group.protocol_type.as_str();
        if !matches!(protocol_type, "" | "consumer") {
            bail!(
                "java.lang.IllegalArgumentException: GroupId {id} is not a consumer group ({protocol_type})."
            );
        }
        groups.insert(id, (coordinator, group));
    }
    if options.members {
        for (id, (_, group)) in &groups {
            print_members(id, group, options.verbose)?;
        }
    } else if options.state.is_some() {
        for (id, (coordinator, group)) in &groups {
            print_state(id, *coordinator, group, admin);
        }
    } else {
        let mut tables = Vec::new();
        for (id, (_, group)) in &groups {
            tables.push((id, group, offsets(id, group, admin)?));
        }
        for (id, group, rows) in &tables {
            print_offsets(id, group, rows);
        }
    }
    Ok(())
}

/// Says what is to be said about the group's state; false when there is no table to print.
fn announce(id: &str, group: &DescribedGroup, rows: usize) -> bool {
    match group.group_state.as_str() {
        "Dead" => print_error(&format!("Consumer group '{id}' does not exist.")),
        "Empty" => eprintln!("\nConsumer group '{id}' has no active members."),
        "PreparingRebalance" | "CompletingRebalance" => {
            eprintln!("\nWarning: Consumer group '{id}' is rebalancing.");
        }
        _ => {}
    }
    group.group_state.as_str() != "Dead" && rows > 0
}

/// One line of `--offsets`.
struct Row {
    partition: TopicPartition,
    offset: Option<Offset>,
    end: Offset,
    consumer: [String; 3],
}

fn offsets(id: &str, group: &DescribedGroup, admin: &mut Admin) -> Result<Vec<Row>> {
    let committed = admin.committed_offsets(id).map_err(in_future)?;
    let mut members = Vec::new();
    for member in &group.members {
        members.push((member, assigned(group, member)?));
    }
    members.retain(|(_, partitions)| !partitions.is_empty());
    members.sort_by_key(|(_, partitions)| std::cmp::Reverse(partitions.len()));
    let of_nobody: BTreeSet<_> = committed
        .keys()
        .filter(|partition| {
            !members
                .iter()
                .any(|(_, theirs)| theirs.contains(*partition))
        })
        .cloned()
        .collect();
    let everything = members
        .iter()
        .flat_map(|(_, partitions)| partitions)
        .chain(&of_nobody);
    let ends = log_ends(everything, admin).map_err(in_future)?;
    let mut rows = Vec::new();
    let mut add = |partitions: &BTreeSet<TopicPartition>, consumer: [&str; 3]| {
        rows.extend(partitions.iter().map(|partition| Row {
            partition: partition.clone(),
            offset: committed.get(partition).copied(),
            end: ends[partition],
            consumer: consumer.map(str::to_owned),
        }));
    };
    for (member, partitions) in &members {
        add(
            partitions,
            [&member.member_id, &member.client_host, &member.client_id],
        );
    }
    add(&of_nobody, [NOTHING; 3]);
    Ok(rows)
}

/// The log end offsets that a consumer would see.
pub(super) fn log_ends<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    admin: &mut Admin,
) -> Result<BTreeMap<TopicPartition, Offset>> {
    at_time(-1, partitions, admin)
}

/// The offset of each partition at a timestamp as ListOffsets has it; −1 where no record is so
/// young.
pub(super) fn at_time<'a>(
    timestamp: i64,
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    admin: &mut Admin,
) -> Result<BTreeMap<TopicPartition, Offset>> {
    let mut leaders: BTreeMap<TopicPartition, BrokerId> = partitions
        .into_iter()
        .map(|partition| (partition.clone(), -1))
        .collect();
    if leaders.is_empty() {
        return Ok(BTreeMap::new());
    }
    for topic in admin.topics()? {
        let Some(name) = topic.name else { continue };
        for partition in topic.partitions {
            let key = TopicPartition::new(name.0.as_str(), partition.partition_index);
            if let Some(leader) = leaders.get_mut(&key) {
                *leader = partition.leader_id.0;
            }
        }
    }
    list_offsets(admin, &leaders, timestamp)?
        .into_iter()
        .map(|(partition, offset)| match offset {
            Ok(offset) => Ok((partition, offset)),
            // There is no such partition; Kafka's client keeps asking until its time is up.
            Err(ErrorCode::LeaderNotAvailable) => {
                Err(ApiError::new(ErrorCode::UnknownTopicOrPartition.value(), None).into())
            }
            Err(code) => Err(ApiError::new(code.value(), None).into()),
        })
        .collect()
}

fn assigned(
    group: &DescribedGroup,
    member: &DescribedGroupMember,
) -> Result<BTreeSet<TopicPartition>> {
    if group.protocol_type.as_str() != "consumer" {
        return Ok(BTreeSet::new());
    }
    let partitions = decode_assignment(member.member_assignment.clone())?;
    Ok(partitions.into_iter().collect())
}

fn print_offsets(id: &str, group: &DescribedGroup, rows: &[Row]) {
    if !announce(id, group, rows.len()) {
        return;
    }
    let widest = |texts: &mut dyn Iterator<Item = &str>| {
        texts
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
            .max(15)
    };
    let group_width = widest(&mut std::iter::once(id));
    let topic_width = widest(&mut rows.iter().map(|row| row.partition.topic.as_str()));
    let id_width = widest(&mut rows.iter().map(|row| row.consumer[0].as_str()));
    let host_width = widest(&mut rows.iter().map(|row| row.consumer[1].as_str()));
    let print = |cells: [&str; 9]| {
        let [
            group,
            topic,
            partition,
            current,
            end,
            lag,
            consumer,
            host,
            client,
        ] = cells;
        print!(
            "\n{group:<group_width$} {topic:<topic_width$} {partition:<10} {current:<15} {end:<15} {lag:<15} {consumer:<id_width$} {host:<host_width$} {client}"
        );
    };
    print([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    for row in rows {
        let or_nothing = |number: Option<Offset>| {
            number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string())
        };
        let [consumer, host, client] = &row.consumer;
        print([
            id,
            &row.partition.topic,
            &row.partition.partition.to_string(),
            &or_nothing(row.offset),
            &row.end.to_string(),
            &or_nothing(row.offset.map(|offset| row.end - offset)),
            consumer,
            host,
            client,
        ]);
    }
    println!();
}

fn print_members(id: &str, group: &DescribedGroup, verbose: bool) -> Result<()> {
    let members = &group.members;
    let mut widths = [15, 15, 17, 15, 15];
    let mut with_instance_id = false;
    let instance_id = |member: &DescribedGroupMember| {
        let id = member.group_instance_id.as_ref();
        id.map(|id| id.to_string()).unwrap_or_default()
    };
    if announce(id, group, members.len()) {
        for member in members {
            let instance = instance_id(member);
            with_instance_id |= !instance.is_empty();
            let texts = [
                id,
                &member.member_id,
                &instance,
                &member.client_host,
                &member.client_id,
            ];
            for (width, text) in widths.iter_mut().zip(texts) {
                *width = text.chars().count().max(*width);
            }
        }
    }
    let [w_group, w_member, w_instance, w_host, w_client] = widths;
    let print = |cells: [&str; 6], assignment: &str| {
        let [group, member, instance, host, client, count] = cells;
        print!("{group:<w_group$} {member:<w_member$} ");
        if with_instance_id {
            print!("{instance:<w_instance$} ");
        }
        println!("{host:<w_host$} {client:<w_client$} {count:<15} {assignment}");
    };
    println!();
    print(
        [
            "GROUP",
            "CONSUMER-ID",
            "GROUP-INSTANCE-ID",
            "HOST",
            "CLIENT-ID",
            "#PARTITIONS",
        ],
        if verbose { "ASSIGNMENT" } else { "" },
    );
    for member in members {
        let partitions = assigned(group, member)?;
        print(
            [
                id,
                &member.member_id,
                &instance_id(member),
                &member.client_host,
                &member.client_id,
                &partitions.len().to_string(),
            ],
            &if verbose {
                assignment(&partitions)
            } else {
                String::new()
            },
        );
    }
    Ok(())
}

/// `(0,1), (2)`: the partitions of each topic; Kafka names no topics, and sorts as texts.
fn assignment(partitions: &BTreeSet<TopicPartition>) -> String {
    if partitions.is_empty() {
        return NOTHING.to_owned();
    }
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for partition in partitions {
        let ids = topics.entry(&partition.topic).or_default();
        ids.push(partition.partition.to_string());
    }
    let mut lists: Vec<_> = topics
        .into_values()
        .map(|mut ids| {
            ids.sort();
            format!("({})", ids.join(","))
        })
        .collect();
    lists.sort();
    lists.join(", ")
}

fn print_state(id: &str, coordinator: BrokerId, group: &DescribedGroup, admin: &Admin) {
    if !announce(id, group, 1) {
        return;
    }
    let (host, port) = admin.address(coordinator).cloned().unwrap_or_default();
    let coordinator = format!("{host}:{port}  ({coordinator})");
    let width = coordinator.chars().count().max(25);
    let print = |cells: [&str; 5]| {
        let [group, coordinator, strategy, state, members] = cells;
        print!("\n{group:<width$} {coordinator:<25} {strategy:<20} {state:<15} {members}");
    };
    print([
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "#MEMBERS",
    ]);
    print([
        id,
        &coordinator,
        &group.protocol_data,
        &group.group_state,
        &group.members.len().to_string(),
    ]);
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_lists_of_partitions_by_topic() {
        let of = |partitions: &[(&str, i32)]| {
            let partitions = partitions
                .iter()
                .map(|(topic, id)| TopicPartition::new(*topic, *id));
            assignment(&partitions.collect())
        };
        assert_eq!(of(&[]), "-");
        assert_eq!(of(&[("b", 0), ("a", 10), ("a", 2)]), "(0), (10,2)");
    }
}
