//! `kafka-log-dirs --describe`: sizes of replicas by log dir, as JSON (`LogDirsCommand`).

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use serde_json::{Map, Value, json};

use super::admin::{Admin, ApiError, ClientConfig, topic_name};
use super::options::{parse, usage_error};
use crate::error::ErrorCode;
use crate::types::BrokerId;

/// Queries log directory usage on the specified brokers.
#[derive(Parser)]
#[command(name = "kafka-log-dirs", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// Required; there is nothing else to do
    #[arg(long)]
    describe: bool,
    /// Broker ids with commas; all when absent
    #[arg(long, value_name = "IDS")]
    broker_list: Option<String>,
    /// Topics with commas; all when absent
    #[arg(long, value_name = "TOPICS")]
    topic_list: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    if !options.describe {
        return usage_error::<Options>("Missing required argument \"[describe]\"");
    }
    match describe(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn describe(options: &Options) -> Result<()> {
    let mut admin = Admin::connect(
        &options.bootstrap_server,
        ClientConfig::new("log-dirs-tool").with_file(options.command_config.as_deref())?,
    )?;
    let live = admin.broker_ids();
    let brokers = match &options.broker_list {
        Some(list) => {
            let ids: Vec<BrokerId> = list
                .split(',')
                .map(|id| id.trim().parse())
                .collect::<Result<_, _>>()?;
            let missing: Vec<_> = ids
                .iter()
                .filter(|id| !live.contains(id))
                .map(|id| id.to_string())
                .collect();
            if !missing.is_empty() {
                bail!(
                    "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
                    missing.join(","),
                    live.iter()
                        .map(|id| id.to_string())
                        .collect::<Vec<_>>()
                        .join(",")
                );
            }
            ids
        }
        None => live,
    };
    let topics: Option<Vec<&str>> = options.topic_list.as_deref().map(|list| {
        list.split(',')
            .map(str::trim)
            .filter(|topic| !topic.is_empty())
            .collect()
    });
    println!("Querying brokers for log directories information");
    let mut answers = Vec::new();
    for broker in &brokers {
        answers.push(one_broker(&mut admin, *broker, topics.as_deref())?);
    }
    let ids: Vec<_> = brokers.iter().map(|id| id.to_string()).collect();
    println!(
        "Received log directory information from brokers {}",
        ids.join(",")
    );
    println!(
        "{}",
        ordered([("brokers", Value::Array(answers)), ("version", json!(1))])
    );
    Ok(())
}

fn one_broker(admin: &mut Admin, broker: BrokerId, topics: Option<&[&str]>) -> Result<Value> {
    // The protocol asks for partitions by number, so named topics are filtered here instead.
    let request =
        DescribeLogDirsRequest::default().with_topics(None::<Vec<DescribableLogDirTopic>>);
    let response = admin.broker(broker)?.send(&request)?;
    let mut dirs = Vec::new();
    for result in response.results {
        let error = match ErrorCode::from_value(result.error_code) {
            ErrorCode::None => Value::Null,
            code => json!(ApiError::new(code.value(), None).java_class()),
        };
        let mut partitions = Vec::new();
        for topic in result.topics {
            if topics.is_some_and(|wanted| {
                !wanted.is_empty() && !wanted.iter().any(|name| topic_name(name) == topic.name)
            }) {
                continue;
            }
            for partition in topic.partitions {
                partitions.push(ordered([
                    (
                        "partition",
                        json!(format!("{}-{}", topic.name.0, partition.partition_index)),
                    ),
                    ("size", json!(partition.partition_size)),
                    ("offsetLag", json!(partition.offset_lag)),
                    ("isFuture", json!(partition.is_future_key)),
                ]));
            }
        }
        dirs.push(ordered([
            ("partitions", Value::Array(partitions)),
            ("error", error),
            ("logDir", json!(result.log_dir.as_str())),
        ]));
    }
    Ok(ordered([
        ("broker", json!(broker)),
        ("logDirs", Value::Array(dirs)),
    ]))
}

/// An object in the order Kafka prints it (serde_json keeps it with `preserve_order`).
fn ordered<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let mut map = Map::new();
    for (key, value) in fields {
        map.insert(key.to_owned(), value);
    }
    Value::Object(map)
}
