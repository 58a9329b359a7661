//! `kafka-console-consumer`: records become lines of standard output (`ConsoleConsumer`).

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;

use super::admin::Admin;
use super::consumer::{Consumer, Message, Start};
use super::options::{parse, properties_file, usage_error};
use super::topics::include_list;
use crate::config::topic::TimestampType;
use crate::group::formatter::{Shown, describe};
use crate::types::{Offset, TopicPartition};

/// Read data from Kafka topics and write it to standard output.
#[derive(Parser)]
#[command(name = "kafka-console-consumer", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long)]
    bootstrap_server: Option<String>,
    #[arg(long)]
    topic: Option<String>,
    /// Topics as a regular expression
    #[arg(long)]
    include: Option<String>,
    /// Old name of --include
    #[arg(long, hide = true)]
    whitelist: Option<String>,
    #[arg(long)]
    partition: Option<i32>,
    /// earliest, latest or a number; with --partition
    #[arg(long, allow_hyphen_values = true)]
    offset: Option<String>,
    #[arg(long)]
    group: Option<String>,
    #[arg(long)]
    from_beginning: bool,
    /// End after so many records
    #[arg(long)]
    max_messages: Option<u64>,
    /// End after so many milliseconds without a record
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// print.key, print.value, print.timestamp, print.partition, print.offset, print.headers,
    /// key.separator, line.separator, headers.separator, null.literal; each as KEY=VALUE
    #[arg(long)]
    property: Vec<String>,
    /// Properties file with the same keys as --property
    #[arg(long)]
    formatter_config: Option<String>,
    /// Kafka's class name of a formatter: the default one, NoOp, Logging, or those of the group
    /// coordinator's records
    #[arg(long)]
    formatter: Option<String>,
    /// read_uncommitted or read_committed
    #[arg(long, default_value = "read_uncommitted")]
    isolation_level: String,
    /// KEY=VALUE of the consumer: group.id, auto.offset.reset, isolation.level
    #[arg(long)]
    consumer_property: Vec<String>,
    /// Properties file of the consumer
    #[arg(long = "consumer.config")]
    consumer_config: Option<String>,
    #[arg(long)]
    skip_message_on_error: bool,
    /// Accepted for scripts written for Kafka's tool
    #[arg(long, hide = true)]
    key_deserializer: Option<String>,
    #[arg(long, hide = true)]
    value_deserializer: Option<String>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse("console-consumer", arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let include = options.include.clone().or(options.whitelist.clone());
    if options.topic.is_some() == include.is_some() {
        return usage_error(
            "console-consumer",
            "Exactly one of --include/--topic is required. ",
        );
    }
    if options.partition.is_some() && options.topic.is_none() {
        return usage_error(
            "console-consumer",
            "The topic is required when partition is specified.",
        );
    }
    if options.offset.is_some() && options.partition.is_none() {
        return usage_error(
            "console-consumer",
            "The partition is required when offset is specified.",
        );
    }
    let Some(bootstrap) = options.bootstrap_server.clone() else {
        return usage_error(
            "console-consumer",
            "Missing required argument \"[bootstrap-server]\"",
        );
    };
    let mut printed = 0;
    let done = consume(&options, &bootstrap, include.as_deref(), &mut printed);
    eprintln!("Processed a total of {printed} messages");
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn consume(
    options: &Options,
    bootstrap: &str,
    include: Option<&str>,
    printed: &mut u64,
) -> Result<()> {
    let mut properties = match &options.consumer_config {
        Some(path) => properties_file(path)?,
        None => BTreeMap::new(),
    };
    properties.extend(pairs(&options.consumer_property)?);
    let read_committed = options.isolation_level == "read_committed"
        || properties
            .get("isolation.level")
            .is_some_and(|level| level == "read_committed");
    let start = if options.from_beginning
        || properties
            .get("auto.offset.reset")
            .is_some_and(|reset| reset == "earliest")
    {
        Start::Earliest
    } else {
        Start::Latest
    };
    let formatter = Formatter::new(options)?;
    let mut admin = Admin::connect(bootstrap, "console-consumer")?;
    let group = options
        .group
        .clone()
        .or(properties.get("group.id").cloned());
    let topics = topics(&mut admin, options, include)?;
    let mut consumer = match (options.partition, group) {
        (Some(partition), _) => {
            let start = match options.offset.as_deref() {
                None => start,
                Some("earliest") => Start::Earliest,
                Some("latest") => Start::Latest,
                Some(number) => match number.parse::<Offset>() {
                    Ok(offset) if offset >= 0 => Start::At(offset),
                    _ => bail!(
                        "The provided offset value '{number}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
                    ),
                },
            };
            let partitions = topics
                .iter()
                .map(|(topic, _)| TopicPartition::new(topic.as_str(), partition));
            Consumer::assign(admin, partitions.collect(), start, read_committed)?
        }
        (None, Some(group)) => {
            let names = topics.into_iter().map(|(topic, _)| topic).collect();
            Consumer::subscribe(admin, names, &group, start, read_committed)?
        }
        (None, None) => {
            let partitions = topics.iter().flat_map(|(topic, count)| {
                (0..*count).map(move |id| TopicPartition::new(topic.as_str(), id))
            });
            Consumer::assign(admin, partitions.collect(), start, read_committed)?
        }
    };
    let wait = options
        .timeout_ms
        .map_or(Duration::from_secs(3600), Duration::from_millis);
    let mut out = std::io::stdout().lock();
    let outcome = loop {
        if options.max_messages.is_some_and(|max| *printed >= max) {
            break Ok(());
        }
        match consumer.next(wait)? {
            Some(message) => {
                if let Err(error) = formatter.write(&message, &mut out) {
                    break Err(error.into());
                }
                *printed += 1;
            }
            None if options.timeout_ms.is_some() => {
                eprintln!(
                    "ERROR Error processing message, terminating consumer process: no record within {} ms",
                    wait.as_millis()
                );
                break Ok(());
            }
            None => {}
        }
    };
    let flushed = out.flush();
    consumer.close()?;
    flushed?;
    outcome
}

/// The topics with their partition counts; a missing one is waited for and, where the cluster does
/// that, created.
fn topics(
    admin: &mut Admin,
    options: &Options,
    include: Option<&str>,
) -> Result<Vec<(String, i32)>> {
    if let Some(pattern) = include {
        let pattern = include_list(pattern)?;
        return Ok(admin
            .topics()?
            .into_iter()
            .filter_map(|topic| {
                Some((
                    topic.name?.0.to_string(),
                    i32::try_from(topic.partitions.len()).ok()?,
                ))
            })
            .filter(|(name, _)| pattern.is_match(name))
            .collect());
    }
    let topic = options.topic.clone().unwrap_or_default();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let found = admin.metadata_or_create(&topic)?;
        if found.error_code == 0 && !found.partitions.is_empty() {
            return Ok(vec![(topic, i32::try_from(found.partitions.len())?)]);
        }
        if std::time::Instant::now() > deadline {
            super::admin::check(found.error_code, None)?;
            bail!("{topic}: has no partitions");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn pairs(given: &[String]) -> Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => bail!("'{pair}' is not KEY=VALUE"),
        })
        .collect()
}

/// How a record becomes a line.
enum Formatter {
    Default(Columns),
    /// The group coordinator's own records as JSON.
    GroupRecords(Shown),
    NoOp,
}

/// `DefaultMessageFormatter`.
struct Columns {
    timestamp: bool,
    key: bool,
    value: bool,
    partition: bool,
    offset: bool,
    headers: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
}

impl Formatter {
    fn new(options: &Options) -> Result<Self> {
        let mut properties = match &options.formatter_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(pairs(&options.property)?);
        match options.formatter.as_deref() {
            None => {}
            Some(class)
                if class.ends_with("DefaultMessageFormatter")
                    || class.ends_with("LoggingMessageFormatter") => {}
            Some(class) if class.ends_with("NoOpMessageFormatter") => return Ok(Self::NoOp),
            Some(class)
                if class.ends_with("OffsetsMessageFormatter")
                    || class.ends_with("GroupMetadataMessageFormatter") =>
            {
                let shown = if class.ends_with("OffsetsMessageFormatter") {
                    Shown::Offsets
                } else {
                    Shown::Groups
                };
                return Ok(Self::GroupRecords(shown));
            }
            Some(class) => bail!("--formatter {class}: this tool has only Kafka's own formatters"),
        }
        let is_true = |key: &str, default: bool| {
            properties
                .get(key)
                .map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
        };
        let text = |key: &str, default: &str| {
            properties
                .get(key)
                .map_or(default, String::as_str)
                .to_owned()
        };
        Ok(Self::Default(Columns {
            timestamp: is_true("print.timestamp", false),
            key: is_true("print.key", false),
            value: is_true("print.value", true),
            partition: is_true("print.partition", false),
            offset: is_true("print.offset", false),
            headers: is_true("print.headers", false),
            key_separator: text("key.separator", "\t"),
            line_separator: text("line.separator", "\n"),
            headers_separator: text("headers.separator", ","),
            null_literal: text("null.literal", "null"),
        }))
    }

    fn write(&self, message: &Message, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Default(columns) => columns.write(message, out),
            Self::GroupRecords(shown) => {
                match describe(*shown, message.key.as_deref(), message.value.as_deref()) {
                    Some(line) => writeln!(out, "{line}"),
                    None => Ok(()),
                }
            }
            Self::NoOp => Ok(()),
        }
    }
}

impl Columns {
    fn write(&self, message: &Message, out: &mut impl Write) -> std::io::Result<()> {
        let mut columns: Vec<Vec<u8>> = Vec::new();
        if self.timestamp {
            columns.push(
                match message.timestamp_type {
                    Some(TimestampType::CreateTime) => format!("CreateTime:{}", message.timestamp),
                    Some(TimestampType::LogAppendTime) => {
                        format!("LogAppendTime:{}", message.timestamp)
                    }
                    None => "NO_TIMESTAMP".to_owned(),
                }
                .into_bytes(),
            );
        }
        if self.partition {
            columns.push(format!("Partition:{}", message.partition.partition).into_bytes());
        }
        if self.offset {
            columns.push(format!("Offset:{}", message.offset).into_bytes());
        }
        if self.headers {
            columns.push(self.headers(message));
        }
        if self.key {
            columns.push(self.or_null(message.key.as_deref()).to_vec());
        }
        if self.value {
            columns.push(self.or_null(message.value.as_deref()).to_vec());
        }
        out.write_all(&columns.join(self.key_separator.as_bytes()))?;
        out.write_all(self.line_separator.as_bytes())
    }

    fn headers(&self, message: &Message) -> Vec<u8> {
        if message.headers.is_empty() {
            return b"NO_HEADERS".to_vec();
        }
        let headers: Vec<Vec<u8>> = message
            .headers
            .iter()
            .map(|(key, value)| [key, &b":"[..], self.or_null(value.as_deref())].concat())
            .collect();
        headers.join(self.headers_separator.as_bytes())
    }

    fn or_null<'a>(&'a self, bytes: Option<&'a [u8]>) -> &'a [u8] {
        bytes.unwrap_or(self.null_literal.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn line(properties: &[&str]) -> String {
        let mut words = vec!["kafka-console-consumer".to_owned()];
        for property in properties {
            words.push("--property".to_owned());
            words.push((*property).to_owned());
        }
        let message = Message {
            partition: TopicPartition::new("t", 3),
            offset: 7,
            timestamp: 99,
            timestamp_type: Some(TimestampType::CreateTime),
            key: None,
            value: Some(Bytes::from_static(b"v")),
            headers: vec![
                (Bytes::from_static(b"a"), Some(Bytes::from_static(b"1"))),
                (Bytes::from_static(b"b"), None),
            ],
        };
        let mut out = Vec::new();
        Formatter::new(&Options::parse_from(words))
            .unwrap()
            .write(&message, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_come_in_kafkas_order() {
        assert_eq!(line(&[]), "v\n");
        assert_eq!(
            line(&[
                "print.value=true",
                "print.key=true",
                "print.headers=true",
                "print.offset=true",
                "print.partition=true",
                "print.timestamp=true"
            ]),
            "CreateTime:99\tPartition:3\tOffset:7\ta:1,b:null\tnull\tv\n"
        );
        assert_eq!(
            line(&["print.key=true", "key.separator=|", "null.literal=-"]),
            "-|v\n"
        );
    }
}
