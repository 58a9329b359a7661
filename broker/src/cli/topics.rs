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

use super::admin::{Admin, ApiError, ClientConfig, check, log, text, topic_name};
use super::configs::{ConfigEntry, Resource, describe};
use super::options::{clash, parse, usage_error};
use crate::config::{Config, Error};
use crate::error::ErrorCode;
use crate::types::{BrokerId, format_uuid, is_internal_topic};

/// Creates, lists, describes, changes and deletes topics.
#[derive(Parser)]
#[command(
    name = "kafka-topics",
    disable_version_flag = true,
    override_usage = "kafka-topics --bootstrap-server HOST:PORT ACTION [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --list
  --create --topic orders --partitions 6 --config retention.ms=86400000
  --describe --topic 'orders.*'
  --describe --under-replicated-partitions
  --alter --topic orders --partitions 12
  --delete --topic orders

Configs of a topic that exists change with kafka-configs."
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT", help_heading = "Connection")]
    bootstrap_server: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    command_config: Option<String>,
    /// Names of topics
    #[arg(long, help_heading = "Actions")]
    list: bool,
    /// Partitions, replicas and configs of topics
    #[arg(long, help_heading = "Actions")]
    describe: bool,
    /// A new topic
    #[arg(long, help_heading = "Actions")]
    create: bool,
    /// More partitions
    #[arg(long, help_heading = "Actions")]
    alter: bool,
    /// Delete topics
    #[arg(long, help_heading = "Actions")]
    delete: bool,
    /// The topic; for all but --create a regular expression
    #[arg(long, value_name = "TOPIC", help_heading = "Which topics")]
    topic: Option<String>,
    /// The topic's id, for --describe
    #[arg(long, value_name = "ID", help_heading = "Which topics")]
    topic_id: Option<String>,
    /// Nothing is wrong when there is no such topic
    #[arg(long, help_heading = "Which topics")]
    if_exists: bool,
    /// Nothing is wrong when there is such a topic already
    #[arg(long, help_heading = "Which topics")]
    if_not_exists: bool,
    /// Leave out topics whose names begin with __
    #[arg(long, help_heading = "Which topics")]
    exclude_internal: bool,
    /// Partitions of the topic; the cluster's default when absent
    #[arg(long, value_name = "N", help_heading = "With --create and --alter")]
    partitions: Option<i32>,
    /// Replicas of each partition; the cluster's default when absent
    #[arg(long, value_name = "N", help_heading = "With --create and --alter")]
    replication_factor: Option<i32>,
    /// Replicas by hand: ID:ID,ID:ID,… one group per partition
    #[arg(long, value_name = "IDS", help_heading = "With --create and --alter")]
    replica_assignment: Option<String>,
    /// A config of the topic to be created; may be repeated
    #[arg(
        long,
        value_name = "KEY=VALUE",
        help_heading = "With --create and --alter"
    )]
    config: Vec<String>,
    #[arg(long, hide = true)]
    delete_config: Vec<String>,
    /// Only topics with configs of their own
    #[arg(long, help_heading = "With --describe")]
    topics_with_overrides: bool,
    /// Only partitions with replicas that lag behind
    #[arg(long, help_heading = "With --describe")]
    under_replicated_partitions: bool,
    /// Only partitions without a live leader
    #[arg(long, help_heading = "With --describe")]
    unavailable_partitions: bool,
    /// Only partitions that refuse acks=all
    #[arg(long, help_heading = "With --describe")]
    under_min_isr_partitions: bool,
    /// Only partitions that will refuse acks=all when one more replica is lost
    #[arg(long, help_heading = "With --describe")]
    at_min_isr_partitions: bool,
    #[arg(long, hide = true)]
    partition_size_limit_per_response: Option<i32>,
}

impl Options {
    /// What of the flags does not go together, in Kafka's words.
    fn complaint(&self) -> Option<String> {
        let actions = [
            self.create,
            self.list,
            self.describe,
            self.alter,
            self.delete,
        ];
        let required = |name: &str| Some(format!("Missing required argument \"[{name}]\""));
        if actions.iter().filter(|action| **action).count() != 1 {
            return Some(
                "Command must include exactly one action: --list, --describe, --create, --alter or --delete"
                    .to_owned(),
            );
        }
        if self.bootstrap_server.is_none() {
            return Some("--bootstrap-server must be specified".to_owned());
        }
        if self.describe && self.if_exists && self.topic.is_none() && self.topic_id.is_none() {
            return Some("--topic or --topic-id is required to describe a topic".to_owned());
        }
        if !self.list && !self.describe && self.topic.is_none() {
            return required("topic");
        }
        if self.alter && !self.config.is_empty() {
            return Some(
                "Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\" (the kafka-configs CLI supports altering topic configs with a --bootstrap-server option)"
                    .to_owned(),
            );
        }
        if self.alter && self.partitions.is_none() {
            return required("partitions");
        }
        let create = ("create", self.create);
        let list = ("list", self.list);
        let describe = ("describe", self.describe);
        let alter = ("alter", self.alter);
        let delete = ("delete", self.delete);
        let overrides = ("topics-with-overrides", self.topics_with_overrides);
        let under_replicated = (
            "under-replicated-partitions",
            self.under_replicated_partitions,
        );
        let under_min_isr = ("under-min-isr-partitions", self.under_min_isr_partitions);
        let at_min_isr = ("at-min-isr-partitions", self.at_min_isr_partitions);
        let unavailable = ("unavailable-partitions", self.unavailable_partitions);
        let but_describe = [create, list, alter, delete, overrides];
        clash(&[
            ("config", !self.config.is_empty(), &[list, describe, delete]),
            (
                "delete-config",
                !self.delete_config.is_empty(),
                &[("bootstrap-server", true)],
            ),
            (
                "partitions",
                self.partitions.is_some(),
                &[list, describe, delete],
            ),
            (
                "replication-factor",
                self.replication_factor.is_some(),
                &[list, describe, alter, delete],
            ),
            (
                "replica-assignment",
                self.replica_assignment.is_some(),
                &[list, describe, delete],
            ),
            (
                "replica-assignment",
                self.create && self.replica_assignment.is_some(),
                &[
                    ("partitions", self.partitions.is_some()),
                    ("replication-factor", self.replication_factor.is_some()),
                ],
            ),
            (under_replicated.0, under_replicated.1, &but_describe),
            (under_min_isr.0, under_min_isr.1, &but_describe),
            (at_min_isr.0, at_min_isr.1, &but_describe),
            (unavailable.0, unavailable.1, &but_describe),
            (
                overrides.0,
                overrides.1,
                &[
                    create,
                    list,
                    alter,
                    delete,
                    under_replicated,
                    under_min_isr,
                    at_min_isr,
                    unavailable,
                ],
            ),
            ("if-exists", self.if_exists, &[create, list]),
            (
                "if-not-exists",
                self.if_not_exists,
                &[list, describe, alter, delete],
            ),
            (
                "exclude-internal",
                self.exclude_internal,
                &[create, alter, delete],
            ),
        ])
    }
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if let Some(complaint) = options.complaint() {
        return usage_error::<Options>(&complaint);
    }
    let bootstrap = options.bootstrap_server.clone().unwrap_or_default();
    match act(&options, &bootstrap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("Error while executing topic command : {error:#}");
            let thrown = match error.downcast_ref::<ApiError>() {
                Some(api) => api.thrown(),
                None if error.is::<ConfigException>() => {
                    format!("org.apache.kafka.common.config.ConfigException: {error}")
                }
                None => format!("java.lang.IllegalArgumentException: {error:#}"),
            };
            log(
                "ERROR",
                &format!("{thrown}\n"),
                "org.apache.kafka.tools.TopicCommand",
            );
            ExitCode::from(1)
        }
    }
}

/// A value that no topic config takes; Kafka's tool sees that before it asks the cluster.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct ConfigException(Error);

fn act(options: &Options, bootstrap: &str) -> Result<()> {
    let mut admin = Admin::connect(
        bootstrap,
        ClientConfig::new("adminclient-1").with_file(options.command_config.as_deref())?,
    )?;
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
        .map_err(|error| match error {
            Error::UnknownTopicKey { .. } => {
                ApiError::new(ErrorCode::InvalidConfig.value(), Some(&error.to_string())).into()
            }
            _ => anyhow::Error::from(ConfigException(error)),
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
