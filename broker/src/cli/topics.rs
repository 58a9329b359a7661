//! `kafka-topics`: create, list, describe, alter and delete topics (`TopicCommand`).

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId as WireBrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
};
use regex::Regex;

use super::admin::{Admin, ApiError, check, text, topic_name};
use super::configs::{ConfigEntry, Resource, describe};
use super::options::{parse, usage_error};
use crate::config::Config;
use crate::error::ErrorCode;
use crate::types::{BrokerId, format_uuid, is_internal_topic};

/// Create, delete, describe, or change a topic.
#[derive(Parser)]
#[command(name = "kafka-topics", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// Properties file for the connection
    #[arg(long)]
    command_config: Option<String>,
    #[arg(long)]
    create: bool,
    #[arg(long)]
    list: bool,
    #[arg(long)]
    describe: bool,
    /// Change the number of partitions
    #[arg(long)]
    alter: bool,
    #[arg(long)]
    delete: bool,
    /// The topic; for all but --create a regular expression
    #[arg(long)]
    topic: Option<String>,
    /// The topic's id, for --describe
    #[arg(long)]
    topic_id: Option<String>,
    /// Partitions of the topic; the cluster's default when absent
    #[arg(long)]
    partitions: Option<i32>,
    /// Replicas of each partition; the cluster's default when absent
    #[arg(long)]
    replication_factor: Option<i32>,
    /// Replicas by hand: ID:ID,ID:ID,… one group per partition
    #[arg(long)]
    replica_assignment: Option<String>,
    /// KEY=VALUE of the topic to be created, repeatable
    #[arg(long)]
    config: Vec<String>,
    #[arg(long)]
    if_not_exists: bool,
    #[arg(long)]
    if_exists: bool,
    #[arg(long)]
    exclude_internal: bool,
    #[arg(long)]
    topics_with_overrides: bool,
    #[arg(long)]
    under_replicated_partitions: bool,
    #[arg(long)]
    unavailable_partitions: bool,
    #[arg(long)]
    under_min_isr_partitions: bool,
    #[arg(long)]
    at_min_isr_partitions: bool,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse("topics", arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let actions = [
        options.create,
        options.list,
        options.describe,
        options.alter,
        options.delete,
    ];
    if actions.iter().filter(|action| **action).count() != 1 {
        return usage_error(
            "topics",
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
        );
    }
    if !options.list && !options.describe && options.topic.is_none() {
        return usage_error("topics", "Missing required argument \"[topic]\"");
    }
    if options.alter && options.partitions.is_none() {
        return usage_error("topics", "Missing required argument \"[partitions]\"");
    }
    let Some(bootstrap) = options.bootstrap_server.clone() else {
        return usage_error("topics", "--bootstrap-server must be specified");
    };
    match act(&options, &bootstrap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("Error while executing topic command : {error:#}");
            match error.downcast_ref::<ApiError>() {
                Some(api) => eprintln!("ERROR {}: {api}", api.java_class()),
                None => eprintln!("ERROR {error:#}"),
            }
            ExitCode::from(1)
        }
    }
}

fn act(options: &Options, bootstrap: &str) -> Result<()> {
    let mut admin = Admin::connect(bootstrap, "adminclient-1")?;
    if options.create {
        create(options, &mut admin)
    } else if options.list {
        let names: Vec<_> = chosen(options, &mut admin)?
            .iter()
            .map(|topic| name_of(topic).to_owned())
            .collect();
        println!("{}", names.join("\n"));
        Ok(())
    } else if options.describe {
        describe_topics(options, &mut admin)
    } else if options.alter {
        alter(options, &mut admin)
    } else {
        delete(options, &mut admin)
    }
}

fn name_of(topic: &MetadataResponseTopic) -> &str {
    topic.name.as_ref().map_or("", |name| name.0.as_str())
}

fn create(options: &Options, admin: &mut Admin) -> Result<()> {
    let name = options.topic.as_deref().unwrap_or_default();
    if options
        .replication_factor
        .is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor))
    {
        bail!(
            "The replication factor must be between 1 and {} inclusive",
            i16::MAX
        );
    }
    let configs = parse_configs(&options.config)?;
    if name.contains(['.', '_']) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both."
        );
    }
    if options.partitions.is_some_and(|count| count < 1) {
        bail!("The partitions must be greater than 0");
    }
    let mut topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(options.partitions.unwrap_or(-1))
        .with_replication_factor(
            options
                .replication_factor
                .map_or(-1, |factor| factor as i16),
        )
        .with_configs(
            configs
                .iter()
                .map(|(key, value)| {
                    CreatableTopicConfig::default()
                        .with_name(text(key))
                        .with_value(Some(text(value)))
                })
                .collect(),
        );
    if let Some(assignment) = &options.replica_assignment {
        let partitions = parse_assignment(assignment)?;
        topic = topic
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(
                (0..)
                    .zip(partitions)
                    .map(|(index, replicas)| {
                        CreatableReplicaAssignment::default()
                            .with_partition_index(index)
                            .with_broker_ids(replicas.into_iter().map(WireBrokerId).collect())
                    })
                    .collect(),
            );
    }
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = admin.controller(&request)?;
    for result in &response.topics {
        if let Err(error) = check(result.error_code, result.error_message.as_ref()) {
            if error.code == ErrorCode::TopicAlreadyExists && options.if_not_exists {
                return Ok(());
            }
            return Err(error.into());
        }
    }
    println!("Created topic {name}.");
    Ok(())
}

fn parse_configs(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut configs = BTreeMap::new();
    for pair in given {
        let Some((key, value)) = pair.split_once('=') else {
            bail!(
                "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\"."
            );
        };
        configs.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Config::new(BTreeMap::new())
        .and_then(|defaults| defaults.validate_topic_overrides(&configs))
        .map_err(|error| ApiError {
            code: ErrorCode::InvalidConfig,
            message: error.to_string(),
        })?;
    Ok(configs)
}

/// `1:2,2:3`: the replicas of partition 0, of partition 1, …
fn parse_assignment(given: &str) -> Result<Vec<Vec<BrokerId>>> {
    let mut partitions: Vec<Vec<BrokerId>> = Vec::new();
    for (index, part) in given.split(',').enumerate() {
        let mut replicas = Vec::new();
        for id in part.split(':') {
            let Ok(id) = id.trim().parse() else {
                bail!("For input string: \"{id}\"");
            };
            if replicas.contains(&id) {
                bail!("Partition replica lists may not contain duplicate entries: {id}");
            }
            replicas.push(id);
        }
        if partitions
            .first()
            .is_some_and(|first| first.len() != replicas.len())
        {
            bail!("Partition {index} has different replication factor: {replicas:?}");
        }
        partitions.push(replicas);
    }
    Ok(partitions)
}

/// The topics that `--topic` (a regular expression) and `--exclude-internal` leave.
fn chosen(options: &Options, admin: &mut Admin) -> Result<Vec<MetadataResponseTopic>> {
    let mut topics = admin.topics()?;
    if options.exclude_internal {
        topics.retain(|topic| !is_internal_topic(name_of(topic)));
    }
    if let Some(pattern) = &options.topic {
        let pattern = include_list(pattern)?;
        topics.retain(|topic| pattern.is_match(name_of(topic)));
    }
    Ok(topics)
}

/// Kafka's include lists: a comma is an "or", blanks and quotes around it are dropped, the whole
/// name must match.
pub(crate) fn include_list(given: &str) -> Result<Regex> {
    let pattern = given
        .trim()
        .replace(',', "|")
        .replace(' ', "")
        .trim_matches(['"', '\''])
        .to_owned();
    Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|error| anyhow::anyhow!("{pattern} is an invalid regex: {error}"))
}

fn must_exist(options: &Options, topics: &[MetadataResponseTopic]) -> Result<()> {
    match &options.topic {
        Some(topic) if topics.is_empty() && !options.if_exists => {
            bail!("Topic 'Optional[{topic}]' does not exist as expected")
        }
        _ => Ok(()),
    }
}

fn describe_topics(options: &Options, admin: &mut Admin) -> Result<()> {
    let topics = match &options.topic_id {
        Some(id) => {
            let mut topics = admin.topics()?;
            topics.retain(|topic| format_uuid(topic.topic_id) == *id);
            if topics.is_empty() && !options.if_exists {
                bail!("TopicId '{id}' does not exist as expected");
            }
            topics
        }
        None => {
            let topics = chosen(options, admin)?;
            must_exist(options, &topics)?;
            topics
        }
    };
    let live = admin.broker_ids();
    let some_partitions = options.unavailable_partitions
        || options.under_replicated_partitions
        || options.under_min_isr_partitions
        || options.at_min_isr_partitions;
    for topic in &topics {
        let name = name_of(topic);
        let configs = describe(admin, &Resource::topic(name), false)?;
        let overridden: Vec<_> = configs.iter().filter(|entry| !entry.is_default()).collect();
        let mut partitions: Vec<_> = topic.partitions.iter().collect();
        partitions.sort_by_key(|partition| partition.partition_index);
        if !some_partitions && (!options.topics_with_overrides || !overridden.is_empty()) {
            print_topic(topic, &partitions, &overridden);
        }
        if options.topics_with_overrides {
            continue;
        }
        let min_isr = configs
            .iter()
            .find(|entry| entry.name == "min.insync.replicas")
            .and_then(|entry| entry.value.as_deref()?.parse().ok())
            .unwrap_or(1usize);
        for partition in partitions {
            let has_leader = partition.leader_id.0 >= 0;
            let isr = partition.isr_nodes.len();
            let show = !some_partitions
                || (options.under_replicated_partitions && isr < partition.replica_nodes.len())
                || (options.unavailable_partitions
                    && !(has_leader && live.contains(&partition.leader_id.0)))
                || (options.under_min_isr_partitions && (!has_leader || isr < min_isr))
                || (options.at_min_isr_partitions && isr == min_isr);
            if show {
                print_partition(name, partition);
            }
        }
    }
    Ok(())
}

fn print_topic(
    topic: &MetadataResponseTopic,
    partitions: &[&MetadataResponsePartition],
    overridden: &[&ConfigEntry],
) {
    let configs: Vec<_> = overridden
        .iter()
        .map(|entry| {
            format!(
                "{}={}",
                entry.name,
                entry.value.as_deref().unwrap_or("null")
            )
        })
        .collect();
    let id = if topic.topic_id.is_nil() {
        String::new()
    } else {
        format!("\tTopicId: {}", format_uuid(topic.topic_id))
    };
    println!(
        "Topic: {}{id}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
        name_of(topic),
        partitions.len(),
        partitions
            .first()
            .map_or(0, |first| first.replica_nodes.len()),
        configs.join(",")
    );
}

fn print_partition(topic: &str, partition: &MetadataResponsePartition) {
    let list = |ids: &[WireBrokerId]| {
        let ids: Vec<_> = ids.iter().map(|id| id.0.to_string()).collect();
        ids.join(",")
    };
    let leader = match partition.leader_id.0 {
        id if id >= 0 => id.to_string(),
        _ => "none".to_owned(),
    };
    println!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: N/A\tLastKnownElr: N/A",
        partition.partition_index,
        list(&partition.replica_nodes),
        list(&partition.isr_nodes)
    );
}

fn alter(options: &Options, admin: &mut Admin) -> Result<()> {
    let topics = chosen(options, admin)?;
    must_exist(options, &topics)?;
    if topics.is_empty() {
        return Ok(());
    }
    let assignment = options
        .replica_assignment
        .as_deref()
        .map(parse_assignment)
        .transpose()?;
    let changes = topics
        .iter()
        .map(|topic| {
            let mut change = CreatePartitionsTopic::default()
                .with_name(topic_name(name_of(topic)))
                .with_count(options.partitions.unwrap_or(-1))
                .with_assignments(None);
            if let Some(partitions) = &assignment {
                change = change.with_assignments(Some(
                    partitions
                        .iter()
                        .skip(topic.partitions.len())
                        .map(|replicas| {
                            CreatePartitionsAssignment::default().with_broker_ids(
                                replicas.iter().copied().map(WireBrokerId).collect(),
                            )
                        })
                        .collect(),
                ));
            }
            change
        })
        .collect();
    let request = CreatePartitionsRequest::default()
        .with_topics(changes)
        .with_timeout_ms(30_000);
    for result in &admin.controller(&request)?.results {
        check(result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

fn delete(options: &Options, admin: &mut Admin) -> Result<()> {
    let topics = chosen(options, admin)?;
    must_exist(options, &topics)?;
    if topics.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = topics
        .iter()
        .map(|topic| topic_name(name_of(topic)))
        .collect();
    // Versions before 6 name the topics in a list of their own.
    let version_has_states = admin.any().version::<DeleteTopicsRequest>()? >= 6;
    let request = if version_has_states {
        DeleteTopicsRequest::default().with_topics(
            names
                .into_iter()
                .map(|name| DeleteTopicState::default().with_name(Some(name)))
                .collect(),
        )
    } else {
        DeleteTopicsRequest::default().with_topic_names(names)
    }
    .with_timeout_ms(30_000);
    for result in &admin.controller(&request)?.responses {
        check(result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_groups_of_brokers() {
        assert_eq!(parse_assignment("1:2,2:3").unwrap(), [[1, 2], [2, 3]]);
        assert!(parse_assignment("1:1").is_err());
        assert!(parse_assignment("1:2,3").is_err());
        assert!(parse_assignment("x").is_err());
    }

    #[test]
    fn a_topic_flag_is_an_include_list() {
        let list = include_list("a.*, b").unwrap();
        for (name, matches) in [("abc", true), ("b", true), ("bc", false), ("xa", false)] {
            assert_eq!(list.is_match(name), matches, "{name}");
        }
    }
}
