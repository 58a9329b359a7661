//! `kafka-get-offsets`: offsets of partitions by time (`GetOffsetShell`).

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, ListOffsetsRequest};

use super::admin::{Admin, ClientConfig, topic_name};
use super::options::{parse, usage_error};
use super::topics::include_list;
use crate::error::ErrorCode;
use crate::types::{BrokerId, Millis, Offset, TopicPartition, is_internal_topic};

/// Gets topic-partition offsets: TOPIC:PARTITION:OFFSET, a line each.
#[derive(Parser)]
#[command(
    name = "kafka-get-offsets",
    disable_version_flag = true,
    override_usage = "kafka-get-offsets --bootstrap-server HOST:PORT [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --topic orders                            the end of each partition of a topic
  --topic orders --time earliest            their beginning
  --topic-partitions 'orders:0-2,audit'     of two partitions of one topic, of all of another
  --time 1718000000000                      of the first record since a time"
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// Old name of --bootstrap-server
    #[arg(long, hide = true)]
    broker_list: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
    /// Topics, as a list of regular expressions
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Partition ids, with commas
    #[arg(long, value_name = "IDS")]
    partitions: Option<String>,
    /// TOPIC:PARTITION patterns with commas; PARTITION may be N, N-M, -M or N-
    #[arg(long, value_name = "PATTERNS")]
    topic_partitions: Option<String>,
    /// Milliseconds since the epoch, -1 or latest, -2 or earliest, -3 or max-timestamp
    #[arg(long, allow_hyphen_values = true, default_value = "latest")]
    time: String,
    /// Leave out topics whose names begin with __
    #[arg(long)]
    exclude_internal_topics: bool,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if options.topic_partitions.is_some()
        && (options.topic.is_some() || options.partitions.is_some())
    {
        return usage_error::<Options>(
            "--topic-partitions cannot be used with --topic or --partitions",
        );
    }
    let Some(bootstrap) = options
        .bootstrap_server
        .clone()
        .or(options.broker_list.clone())
    else {
        return usage_error::<Options>("Missing required argument \"[bootstrap-server]\"");
    };
    match print_offsets(&options, &bootstrap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error occurred: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn print_offsets(options: &Options, bootstrap: &str) -> Result<()> {
    let timestamp = parse_time(&options.time)?;
    let mut admin = Admin::connect(
        bootstrap,
        ClientConfig::new("GetOffsetShell").with_file(options.command_config.as_deref())?,
    )?;
    let filter = Filter::new(options)?;
    let mut leaders = BTreeMap::new();
    for topic in admin.topics()? {
        let Some(name) = topic.name else { continue };
        let name = name.0.to_string();
        if options.exclude_internal_topics && is_internal_topic(&name) {
            continue;
        }
        for partition in &topic.partitions {
            if filter.takes(&name, partition.partition_index) {
                leaders.insert(
                    TopicPartition::new(name.clone(), partition.partition_index),
                    partition.leader_id.0,
                );
            }
        }
    }
    if leaders.is_empty() {
        bail!("Could not match any topic-partitions with the specified filters");
    }
    let offsets = list_offsets(&mut admin, &leaders, timestamp)?;
    // As texts, as Kafka has them: t-10 comes before t-2.
    let mut offsets: Vec<_> = offsets.iter().collect();
    offsets.sort_by_key(|(partition, _)| partition.to_string());
    for (partition, result) in offsets {
        match result {
            Ok(offset) if *offset >= 0 => {
                println!("{}:{}:{offset}", partition.topic, partition.partition)
            }
            // No record is that young.
            Ok(_) => {}
            Err(ErrorCode::LeaderNotAvailable) => eprintln!(
                "Skip getting offsets for topic-partition {partition} because it has no leader or the leader is unknown"
            ),
            Err(code) => eprintln!(
                "Skip getting offsets for topic-partition {partition} due to error: {}",
                code.message()
            ),
        }
    }
    Ok(())
}

/// ListOffsets over all leaders. Offset −1: no record has such a timestamp.
pub(crate) fn list_offsets(
    admin: &mut Admin,
    leaders: &BTreeMap<TopicPartition, BrokerId>,
    timestamp: Millis,
) -> Result<BTreeMap<TopicPartition, Result<Offset, ErrorCode>>> {
    let mut found = BTreeMap::new();
    let mut by_leader: BTreeMap<BrokerId, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for (partition, leader) in leaders {
        if *leader < 0 {
            found.insert(partition.clone(), Err(ErrorCode::LeaderNotAvailable));
            continue;
        }
        by_leader
            .entry(*leader)
            .or_default()
            .entry(&partition.topic)
            .or_default()
            .push(partition.partition);
    }
    for (leader, topics) in by_leader {
        let request = ListOffsetsRequest::default()
            .with_replica_id(WireBrokerId(-1))
            .with_topics(
                topics
                    .iter()
                    .map(|(topic, partitions)| {
                        ListOffsetsTopic::default()
                            .with_name(topic_name(topic))
                            .with_partitions(
                                partitions
                                    .iter()
                                    .map(|partition| {
                                        ListOffsetsPartition::default()
                                            .with_partition_index(*partition)
                                            .with_timestamp(timestamp)
                                    })
                                    .collect(),
                            )
                    })
                    .collect(),
            );
        for topic in admin.broker(leader)?.send(&request)?.topics {
            for partition in topic.partitions {
                let result = match ErrorCode::from_value(partition.error_code) {
                    ErrorCode::None => Ok(partition.offset),
                    code => Err(code),
                };
                found.insert(
                    TopicPartition::new(topic.name.0.as_str(), partition.partition_index),
                    result,
                );
            }
        }
    }
    Ok(found)
}

fn parse_time(given: &str) -> Result<Millis> {
    Ok(match given {
        "latest" => -1,
        "earliest" => -2,
        "max-timestamp" => -3,
        "earliest-local" => -4,
        "latest-tiered" => -5,
        number => match number.parse() {
            Ok(time) => time,
            Err(_) => bail!(
                "Malformed time argument {number}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered, or a specified long format timestamp"
            ),
        },
    })
}

/// Which partitions the flags name.
struct Filter(Vec<(regex::Regex, Option<(i32, i32)>)>);

impl Filter {
    fn new(options: &Options) -> Result<Self> {
        if let Some(given) = &options.topic_partitions {
            let parts = given.split(',').map(|part| {
                let (topic, range) = part.split_once(':').unwrap_or((part, ""));
                let topic = if topic.is_empty() { ".*" } else { topic };
                Ok((include_list(topic)?, parse_range(range)?))
            });
            return Ok(Self(parts.collect::<Result<_>>()?));
        }
        let topics = include_list(options.topic.as_deref().unwrap_or(".*"))?;
        let Some(partitions) = &options.partitions else {
            return Ok(Self(vec![(topics, None)]));
        };
        let parts = partitions.split(',').map(|id| match id.trim().parse::<i32>() {
            Ok(id) => Ok((topics.clone(), Some((id, id + 1)))),
            Err(_) => bail!("--partitions expects a comma separated list of numeric partition ids, but received: {partitions}"),
        });
        Ok(Self(parts.collect::<Result<_>>()?))
    }

    fn takes(&self, topic: &str, partition: i32) -> bool {
        self.0.iter().any(|(topics, range)| {
            topics.is_match(topic) && range.is_none_or(|(from, to)| (from..to).contains(&partition))
        })
    }
}

/// `5`, `2-5`, `-5`, `2-`: half open.
fn parse_range(given: &str) -> Result<Option<(i32, i32)>> {
    let number = |text: &str, default: i32| -> Result<i32> {
        match text {
            "" => Ok(default),
            text => text
                .parse()
                .map_err(|_| anyhow::anyhow!("Invalid partition range: {given}")),
        }
    };
    Ok(match given.split_once('-') {
        None if given.is_empty() => None,
        None => {
            let id = number(given, 0)?;
            Some((id, id + 1))
        }
        Some((from, to)) => Some((number(from, 0)?, number(to, i32::MAX)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_half_open() {
        for (given, range) in [
            ("", None),
            ("5", Some((5, 6))),
            ("2-5", Some((2, 5))),
            ("-3", Some((0, 3))),
            ("4-", Some((4, i32::MAX))),
        ] {
            assert_eq!(parse_range(given).unwrap(), range, "{given}");
        }
        assert!(parse_range("x").is_err());
    }

    #[test]
    fn times_have_names() {
        assert_eq!(parse_time("latest").unwrap(), -1);
        assert_eq!(parse_time("-2").unwrap(), -2);
        assert_eq!(parse_time("1718000000000").unwrap(), 1_718_000_000_000);
        assert!(parse_time("yesterday").is_err());
    }
}
