//! `kafka-delete-records`: moves log start offsets up (`DeleteRecordsCommand`).

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use serde::Deserialize;

use super::admin::{Admin, ApiError, ClientConfig, topic_name};
use super::options::parse;
use crate::error::ErrorCode;
use crate::types::{BrokerId, Offset, TopicPartition};

/// Deletes records of the given partitions down to the given offsets.
#[derive(Parser)]
#[command(name = "kafka-delete-records", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: String,
    /// {"partitions": [{"topic": "t", "partition": 0, "offset": 5}], "version": 1}; offset -1 deletes
    /// all there is
    #[arg(long, value_name = "FILE")]
    offset_json_file: String,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default = "first_version")]
    version: i32,
    partitions: Vec<Row>,
}

fn first_version() -> i32 {
    1
}

#[derive(Deserialize)]
struct Row {
    topic: String,
    partition: i32,
    /// −1: the high watermark.
    offset: Offset,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    match delete(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn delete(options: &Options) -> Result<()> {
    let path = &options.offset_json_file;
    let json = std::fs::read_to_string(path).with_context(|| path.clone())?;
    let file: File = serde_json::from_str(&json).with_context(|| path.clone())?;
    if file.version != 1 {
        bail!("Not supported version field value {}", file.version);
    }
    let mut offsets = BTreeMap::new();
    for row in file.partitions {
        let partition = TopicPartition::new(row.topic, row.partition);
        if offsets.insert(partition.clone(), row.offset).is_some() {
            bail!("Offset json file contains duplicate topic partitions: {partition}");
        }
    }
    let mut admin = Admin::connect(
        &options.bootstrap_server,
        ClientConfig::new("adminclient-1").with_file(options.command_config.as_deref())?,
    )?;
    println!("Executing records delete operation");
    let mut leaders: BTreeMap<TopicPartition, BrokerId> = BTreeMap::new();
    for topic in admin.topics()? {
        let Some(name) = topic.name else { continue };
        for partition in topic.partitions {
            leaders.insert(
                TopicPartition::new(name.0.as_str(), partition.partition_index),
                partition.leader_id.0,
            );
        }
    }
    println!("Records delete operation completed:");
    for (partition, offset) in &offsets {
        let result = match leaders.get(partition) {
            Some(leader) => delete_one(&mut admin, *leader, partition, *offset)?,
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        match result {
            Ok(low_watermark) => println!("partition: {partition}\tlow_watermark: {low_watermark}"),
            Err(code) => println!(
                "partition: {partition}\terror: {}",
                ApiError::new(code.value(), None).thrown()
            ),
        }
    }
    Ok(())
}

fn delete_one(
    admin: &mut Admin,
    leader: BrokerId,
    partition: &TopicPartition,
    offset: Offset,
) -> Result<Result<Offset, ErrorCode>> {
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![
            DeleteRecordsTopic::default()
                .with_name(topic_name(&partition.topic))
                .with_partitions(vec![
                    DeleteRecordsPartition::default()
                        .with_partition_index(partition.partition)
                        .with_offset(offset),
                ]),
        ])
        .with_timeout_ms(30_000);
    let response = admin.broker(leader)?.send(&request)?;
    let Some(answer) = response
        .topics
        .first()
        .and_then(|topic| topic.partitions.first())
    else {
        bail!("{partition}: the broker said nothing of it");
    };
    Ok(match ErrorCode::from_value(answer.error_code) {
        ErrorCode::None => Ok(answer.low_watermark),
        code => Err(code),
    })
}
