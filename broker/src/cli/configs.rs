//! `kafka-configs`: describe and alter the configs of topics, brokers and broker loggers
//! (`ConfigCommand`). Users, clients and ips come with security and quotas.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as ReplaceResource, AlterableConfig as ReplaceConfig,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};

use super::admin::{Admin, ApiError, ClientConfig, check, text};
use super::options::{parse, properties_file, usage_error};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

const DYNAMIC_TOPIC: i8 = 1;
const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT_BROKER: i8 = 3;
const DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;

/// What a config belongs to: `ConfigResource` of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    kind: i8,
    name: String,
}

impl Resource {
    pub(crate) fn topic(name: &str) -> Self {
        Self {
            kind: TOPIC,
            name: name.to_owned(),
        }
    }
}

/// One config of a resource, as DescribeConfigs tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigEntry {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    source: i8,
    sensitive: bool,
    /// (source, name, value)
    synonyms: Vec<(i8, String, Option<String>)>,
}

impl ConfigEntry {
    pub(crate) fn is_default(&self) -> bool {
        self.source == DEFAULT
    }
}

/// `ConfigEntry.ConfigSource` by its number.
fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

/// All configs of a resource, by name.
pub(crate) fn describe(
    admin: &mut Admin,
    resource: &Resource,
    synonyms: bool,
) -> Result<Vec<ConfigEntry>> {
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![
            DescribeConfigsResource::default()
                .with_resource_type(resource.kind)
                .with_resource_name(text(&resource.name))
                .with_configuration_keys(None),
        ])
        .with_include_synonyms(synonyms);
    // A named broker answers for itself.
    let response = match resource.name.parse() {
        Ok(id) if resource.kind != TOPIC => admin.broker(id)?.send(&request)?,
        _ => admin.any().send(&request)?,
    };
    let Some(result) = response.results.into_iter().next() else {
        bail!("the broker described nothing");
    };
    check(result.error_code, result.error_message.as_ref())?;
    let mut entries: Vec<_> = result
        .configs
        .into_iter()
        .map(|config| ConfigEntry {
            name: config.name.to_string(),
            value: config.value.map(|value| value.to_string()),
            source: config.config_source,
            sensitive: config.is_sensitive,
            synonyms: config
                .synonyms
                .into_iter()
                .map(|synonym| {
                    (
                        synonym.source,
                        synonym.name.to_string(),
                        synonym.value.map(|value| value.to_string()),
                    )
                })
                .collect(),
        })
        .collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Describe and change configs of topics, brokers and broker loggers.
#[derive(Parser)]
#[command(
    name = "kafka-configs",
    disable_version_flag = true,
    override_usage = "kafka-configs --bootstrap-server HOST:PORT --describe|--alter ENTITY [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --describe --topic orders                              what was set for a topic
  --describe --all --broker 0                            all settings of a broker
  --alter --topic orders --add-config retention.ms=86400000,cleanup.policy=[compact,delete]
  --alter --topic orders --delete-config retention.ms
  --alter --broker-defaults --add-config message.max.bytes=2000000"
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
    /// Show configs
    #[arg(long)]
    describe: bool,
    /// Change configs
    #[arg(long)]
    alter: bool,
    /// With --describe: defaults too, not only what was set
    #[arg(long)]
    all: bool,
    /// topics, brokers or broker-loggers
    #[arg(long)]
    entity_type: Option<String>,
    /// Name of the topic, id of the broker
    #[arg(long, value_name = "NAME")]
    entity_name: Option<String>,
    /// The default of all entities of the type
    #[arg(long)]
    entity_default: bool,
    /// KEY=VALUE,KEY=[VALUE,VALUE]
    #[arg(long)]
    add_config: Option<String>,
    /// Properties file of configs to add
    #[arg(long)]
    add_config_file: Option<String>,
    /// KEY,KEY
    #[arg(long, value_delimiter = ',')]
    delete_config: Vec<String>,
    /// Short for --entity-type topics --entity-name
    #[arg(long)]
    topic: Option<String>,
    /// Short for --entity-type brokers --entity-name
    #[arg(long)]
    broker: Option<String>,
    /// Short for --entity-type broker-loggers --entity-name
    #[arg(long)]
    broker_logger: Option<String>,
    /// Short for --entity-type brokers --entity-default
    #[arg(long)]
    broker_defaults: bool,
}

/// What the flags name: the type in plural as Kafka prints it, and the entity; an empty name is
/// the default, none is all of them.
struct Entity {
    kind: i8,
    plural: &'static str,
    name: Option<String>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.describe == options.alter {
        return usage_error::<Options>(
            "Command must include exactly one action: --describe, --alter",
        );
    }
    let Some(bootstrap) = options.bootstrap_server.clone() else {
        return usage_error::<Options>(
            "One of the required --bootstrap-server arguments must be specified",
        );
    };
    let entity = match entity(&options) {
        Ok(entity) => entity,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(1);
        }
    };
    if options.alter {
        if entity.name.is_none() {
            eprintln!(
                "An entity name or default entity must be specified with --alter of {}",
                entity.plural
            );
            return ExitCode::from(1);
        }
        if options.add_config.is_none()
            && options.add_config_file.is_none()
            && options.delete_config.is_empty()
        {
            eprintln!(
                "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter"
            );
            return ExitCode::from(1);
        }
    }
    let done = ClientConfig::new("adminclient-1")
        .with_file(options.command_config.as_deref())
        .and_then(|config| Admin::connect(&bootstrap, config))
        .and_then(|mut admin| {
            if options.describe {
                describe_entities(&options, &entity, &mut admin)
            } else {
                alter(&options, &entity, &mut admin)
            }
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<ApiError>() {
                Some(api) => eprintln!(
                    "Error while executing config command with args '{}'\n{}",
                    arguments.join(" "),
                    api.thrown()
                ),
                None => eprintln!("{error:#}"),
            }
            ExitCode::from(1)
        }
    }
}

fn entity(options: &Options) -> Result<Entity> {
    let of = |kind, plural, name: &Option<String>| Entity {
        kind,
        plural,
        name: name.clone(),
    };
    if options.topic.is_some() {
        return Ok(of(TOPIC, "topics", &options.topic));
    }
    if options.broker.is_some() {
        return Ok(of(BROKER, "brokers", &options.broker));
    }
    if options.broker_logger.is_some() {
        return Ok(of(BROKER_LOGGER, "broker-loggers", &options.broker_logger));
    }
    let default = Some(String::new());
    if options.broker_defaults {
        return Ok(of(BROKER, "brokers", &default));
    }
    let name = if options.entity_default {
        &default
    } else {
        &options.entity_name
    };
    match options.entity_type.as_deref() {
        Some("topics") => Ok(of(TOPIC, "topics", name)),
        Some("brokers") => Ok(of(BROKER, "brokers", name)),
        Some("broker-loggers") => Ok(of(BROKER_LOGGER, "broker-loggers", name)),
        Some(later @ ("users" | "clients" | "ips")) => {
            bail!(
                "--entity-type {later}: this version of the tool does not know quotas and credentials yet"
            )
        }
        Some(other) => bail!(
            "Invalid entity type {other}, the entity type must be one of topics, clients, users, brokers, ips, broker-loggers, client-metrics with a --bootstrap-server or --bootstrap-controller argument"
        ),
        None => bail!("At least one entity type must be specified"),
    }
}

fn describe_entities(options: &Options, entity: &Entity, admin: &mut Admin) -> Result<()> {
    let names = match &entity.name {
        Some(name) => vec![name.clone()],
        None if entity.kind == TOPIC => admin
            .topics()?
            .into_iter()
            .filter_map(|topic| Some(topic.name?.0.to_string()))
            .collect(),
        None => {
            let brokers = admin.broker_ids().into_iter().map(|id| id.to_string());
            brokers.chain(std::iter::once(String::new())).collect()
        }
    };
    let singular = &entity.plural[..entity.plural.len() - 1];
    for name in names {
        if name.is_empty() {
            println!("Default configs for {} in the cluster are:", entity.plural);
        } else {
            let which = if options.all { "All" } else { "Dynamic" };
            println!("{which} configs for {singular} {name} are:");
        }
        let only = match (entity.kind, name.is_empty()) {
            _ if options.all => None,
            (TOPIC, _) => Some(DYNAMIC_TOPIC),
            (BROKER, true) => Some(DYNAMIC_DEFAULT_BROKER),
            (BROKER, false) => Some(DYNAMIC_BROKER),
            _ => None,
        };
        let resource = Resource {
            kind: entity.kind,
            name,
        };
        for entry in describe(admin, &resource, true)? {
            if only.is_none_or(|source| entry.source == source) {
                print_entry(&entry);
            }
        }
    }
    Ok(())
}

fn print_entry(entry: &ConfigEntry) {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".to_owned());
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|(source, name, value)| format!("{}:{name}={}", source_name(*source), shown(value)))
        .collect();
    println!(
        "  {}={} sensitive={} synonyms={{{}}}",
        entry.name,
        shown(&entry.value),
        entry.sensitive,
        synonyms.join(", ")
    );
}

fn alter(options: &Options, entity: &Entity, admin: &mut Admin) -> Result<()> {
    let name = entity.name.clone().unwrap_or_default();
    let mut add = BTreeMap::new();
    if let Some(path) = &options.add_config_file {
        add.extend(properties_file(path)?);
    }
    if let Some(given) = &options.add_config {
        add.extend(parse_added(given)?);
    }
    let delete: Vec<String> = options
        .delete_config
        .iter()
        .map(|key| key.trim().to_owned())
        .collect();
    let resource = Resource {
        kind: entity.kind,
        name: name.clone(),
    };
    let source = match (entity.kind, name.is_empty()) {
        (TOPIC, _) => Some(DYNAMIC_TOPIC),
        (BROKER, true) => Some(DYNAMIC_DEFAULT_BROKER),
        (BROKER, false) => Some(DYNAMIC_BROKER),
        _ => None,
    };
    let old: BTreeMap<String, Option<String>> = describe(admin, &resource, false)?
        .into_iter()
        .filter(|entry| source.is_none_or(|source| entry.source == source))
        .map(|entry| (entry.name, entry.value))
        .collect();
    let unknown: Vec<_> = delete
        .iter()
        .filter(|key| !old.contains_key(*key))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        bail!("Invalid config(s): {}", unknown.join(","));
    }
    if entity.kind == BROKER {
        replace(admin, &resource, old, add, &delete)?;
    } else {
        change(admin, &resource, &add, &delete)?;
    }
    let singular = &entity.plural[..entity.plural.len() - 1];
    if name.is_empty() {
        println!(
            "Completed updating default config for {} in the cluster.",
            entity.plural
        );
    } else {
        println!("Completed updating config for {singular} {name}.");
    }
    Ok(())
}

/// Brokers' configs are replaced as a whole (AlterConfigs), as Kafka's tool does.
fn replace(
    admin: &mut Admin,
    resource: &Resource,
    old: BTreeMap<String, Option<String>>,
    add: BTreeMap<String, String>,
    delete: &[String],
) -> Result<()> {
    let mut configs = old;
    configs.extend(add.into_iter().map(|(key, value)| (key, Some(value))));
    configs.retain(|key, _| !delete.contains(key));
    let hidden: Vec<_> = configs
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(key, _)| key.as_str())
        .collect();
    if !hidden.is_empty() {
        bail!(
            "All sensitive broker config entries must be specified for --alter, missing entries: Set({})",
            hidden.join(", ")
        );
    }
    let request = AlterConfigsRequest::default().with_resources(vec![
        ReplaceResource::default()
            .with_resource_type(resource.kind)
            .with_resource_name(text(&resource.name))
            .with_configs(
                configs
                    .iter()
                    .map(|(key, value)| {
                        ReplaceConfig::default()
                            .with_name(text(key))
                            .with_value(value.as_deref().map(text))
                    })
                    .collect(),
            ),
    ]);
    let response = match resource.name.parse() {
        Ok(id) => admin.broker(id)?.send(&request)?,
        Err(_) => admin.any().send(&request)?,
    };
    for answer in &response.responses {
        check(answer.error_code, answer.error_message.as_ref())?;
    }
    Ok(())
}

fn change(
    admin: &mut Admin,
    resource: &Resource,
    add: &BTreeMap<String, String>,
    delete: &[String],
) -> Result<()> {
    let set = add.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(SET)
            .with_value(Some(text(value)))
    });
    let unset = delete.iter().map(|key| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(DELETE)
            .with_value(Some(text("")))
    });
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
        AlterConfigsResource::default()
            .with_resource_type(resource.kind)
            .with_resource_name(text(&resource.name))
            .with_configs(set.chain(unset).collect()),
    ]);
    let response = match resource.name.parse() {
        Ok(id) if resource.kind != TOPIC => admin.broker(id)?.send(&request)?,
        _ => admin.any().send(&request)?,
    };
    for answer in &response.responses {
        check(answer.error_code, answer.error_message.as_ref())?;
    }
    Ok(())
}

/// `a=1,b=[2,3]`: a comma inside brackets belongs to the value, and the brackets go.
fn parse_added(given: &str) -> Result<BTreeMap<String, String>> {
    let mut pairs = Vec::new();
    let mut pair = String::new();
    let mut depth = 0;
    for character in given.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                pairs.push(std::mem::take(&mut pair));
                continue;
            }
            _ => {}
        }
        pair.push(character);
    }
    pairs.push(pair);
    pairs
        .iter()
        .filter(|pair| !pair.trim().is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((
                key.trim().to_owned(),
                value.replace(['[', ']'], "").trim().to_owned(),
            )),
            None => bail!(
                "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\"."
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_hold_lists_together() {
        let parsed = parse_added("a=1, b=[x,y] ,c=").unwrap();
        let pairs: Vec<_> = parsed
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, [("a", "1"), ("b", "x,y"), ("c", "")]);
        assert!(parse_added("nonsense").is_err());
    }
}
