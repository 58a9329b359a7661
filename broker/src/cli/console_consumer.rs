//! `kafka-console-consumer`: records become lines of standard output (`ConsoleConsumer`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::admin::{Admin, ApiError, ClientConfig, log};
use super::consumer::{Consumer, Message, Start};
use super::options::{key_values, parse, properties_file, usage_error};
use super::topics::include_list;
use crate::config::topic::TimestampType;
use crate::group::formatter::{Shown, describe};
use crate::types::{Offset, TopicPartition};

/// Read data from Kafka topics and write it to standard output.
#[derive(Parser)]
#[command(
    name = "kafka-console-consumer",
    disable_version_flag = true,
    override_usage = "kafka-console-consumer --bootstrap-server HOST:PORT --topic TOPIC [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --topic orders                                    what arrives from now on; ^C ends
  --topic orders --from-beginning --timeout-ms 5000 all there is
  --topic orders --group g1 --max-messages 10       as a member of a group
  --topic orders --partition 0 --offset 42 --property print.key=true"
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// What to read
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Topics as a regular expression
    #[arg(long, value_name = "REGEX")]
    include: Option<String>,
    /// Old name of --include
    #[arg(long, hide = true)]
    whitelist: Option<String>,
    /// Only this partition
    #[arg(long, value_name = "ID")]
    partition: Option<i32>,
    /// earliest, latest or a number; with --partition
    #[arg(long, allow_hyphen_values = true)]
    offset: Option<String>,
    /// Read as a member of this group, and commit for it
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// From the first record where nothing is committed
    #[arg(long)]
    from_beginning: bool,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<i64>,
    /// End after so many milliseconds without a record
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<i64>,
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
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let include = options.include.clone().or(options.whitelist.clone());
    if options.topic.is_some() == include.is_some() {
        return usage_error::<Options>("Exactly one of --include/--topic is required. ");
    }
    if options.partition.is_some() && options.topic.is_none() {
        return usage_error::<Options>("The topic is required when partition is specified.");
    }
    if options.partition.is_some() && options.from_beginning && options.offset.is_some() {
        return usage_error::<Options>(
            "Options from-beginning and offset cannot be specified together.",
        );
    }
    if options.offset.is_some() && options.partition.is_none() {
        return usage_error::<Options>("The partition is required when offset is specified.");
    }
    let Some(bootstrap) = options.bootstrap_server.clone() else {
        return usage_error::<Options>("Missing required argument \"[bootstrap-server]\"");
    };
    let settings = match Settings::new(&options) {
        Ok(settings) => settings,
        Err(error) => {
            return match error.downcast_ref::<Usage>() {
                Some(Usage(complaint)) => usage_error::<Options>(complaint),
                None => {
                    eprintln!("{error:#}");
                    ExitCode::from(1)
                }
            };
        }
    };
    let mut printed = 0;
    let done = consume(
        &options,
        settings,
        &bootstrap,
        include.as_deref(),
        &mut printed,
    );
    eprintln!("Processed a total of {printed} messages");
    match done {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => {
            eprintln!("Unable to write to standard out, closing consumer.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let thrown = match error.downcast_ref::<ApiError>() {
                Some(api) => api.thrown(),
                None => format!("{error:#}"),
            };
            log("ERROR", "Unknown error when running consumer: ", LOGGER);
            eprintln!("{thrown}");
            ExitCode::from(1)
        }
    }
}

/// The class of Kafka's tool, which its log lines end with.
const LOGGER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";

/// Flags that do not go together, in Kafka's words; printed with the usage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// What SIGINT and SIGTERM leave behind: the tool then commits, leaves its group and says how much
/// it has printed. The second one ends it at once.
struct Stopped(Arc<AtomicU8>);

impl Stopped {
    fn by_signal() -> Self {
        let code = Arc::new(AtomicU8::new(0));
        let seen = Arc::clone(&code);
        let (installed, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            // Without a runtime a signal ends the process at once, as it does without this thread.
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let signals = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                );
                let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
                    return;
                };
                // The other side waits for this, and for nothing more.
                let _ = installed.send(());
                loop {
                    // 128 + the signal, as the JVM ends.
                    let code = tokio::select! {
                        _ = interrupt.recv() => 130,
                        _ = terminate.recv() => 143,
                    };
                    if seen.swap(code, Ordering::Relaxed) != 0 {
                        std::process::exit(i32::from(code));
                    }
                }
            });
        });
        // A signal may come as soon as the first record is shown. An error means that there are no
        // handlers to wait for.
        let _ = ready.recv();
        Self(code)
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.0.load(Ordering::Relaxed))
    }
}

/// What flags and files say about the consumer.
struct Settings {
    read_committed: bool,
    start: Start,
    group: Option<String>,
    client_id: String,
    formatter: Formatter,
}

impl Settings {
    fn new(options: &Options) -> Result<Self> {
        let from_file = match &options.consumer_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        let from_flags = key_values(&options.consumer_property);
        let groups: BTreeSet<&String> = options
            .group
            .iter()
            .chain(from_file.get("group.id"))
            .chain(from_flags.get("group.id"))
            .collect();
        if groups.len() > 1 {
            let groups: Vec<_> = groups.iter().map(|group| format!("'{group}'")).collect();
            bail!(Usage(format!(
                "The group ids provided in different places (directly using '--group', via '--consumer-property', or via '--consumer.config') do not match. Detected group ids: {}",
                groups.join(", ")
            )));
        }
        if !groups.is_empty() && options.partition.is_some() {
            bail!(Usage(
                "Options group and partition cannot be specified together.".to_owned()
            ));
        }
        let group = groups.first().map(|group| (*group).clone());
        let mut properties = from_file;
        properties.extend(from_flags);
        let property = |key: &str| properties.get(key).map(String::as_str);
        let reset = property("auto.offset.reset");
        if let Some(reset) = reset.filter(|reset| options.from_beginning && *reset != "earliest") {
            bail!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', please remove one option"
            );
        }
        let start = match options.offset.as_deref() {
            Some(given) => match (given.to_lowercase().as_str(), given.parse::<Offset>()) {
                ("earliest", _) => Start::Earliest,
                ("latest", _) => Start::Latest,
                (_, Ok(offset)) if offset >= 0 => Start::At(offset),
                _ => bail!(Usage(format!(
                    "The provided offset value '{given}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
                ))),
            },
            None if options.from_beginning || reset == Some("earliest") => Start::Earliest,
            None => Start::Latest,
        };
        Ok(Self {
            read_committed: options.isolation_level == "read_committed"
                || property("isolation.level") == Some("read_committed"),
            start,
            group,
            client_id: property("client.id")
                .unwrap_or("console-consumer")
                .to_owned(),
            formatter: Formatter::new(options)?,
        })
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn consume(
    options: &Options,
    settings: Settings,
    bootstrap: &str,
    include: Option<&str>,
    printed: &mut i64,
) -> Result<ExitCode> {
    let mut admin = Admin::connect(bootstrap, ClientConfig::new(&settings.client_id))?;
    let topics = topics(&mut admin, options, include)?;
    let (start, read_committed) = (settings.start, settings.read_committed);
    let mut consumer = match (options.partition, settings.group) {
        (Some(partition), _) => {
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
    let stopped = Stopped::by_signal();
    // A negative number is none, as in Kafka.
    let limit = options.max_messages.filter(|limit| *limit >= 0);
    let timeout = options
        .timeout_ms
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis);
    let look_up = Duration::from_millis(250);
    let mut out = std::io::stdout().lock();
    let mut last = Instant::now();
    let outcome = loop {
        if stopped.is_set() || limit.is_some_and(|limit| *printed >= limit) {
            break Ok(());
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(last.elapsed()));
        match consumer.next(left.map_or(look_up, |left| left.min(look_up)))? {
            Some(message) => {
                if let Err(error) = settings.formatter.write(&message, &mut out) {
                    break Err(error.into());
                }
                *printed += 1;
                last = Instant::now();
            }
            None if timeout.is_some_and(|timeout| last.elapsed() >= timeout) => {
                log(
                    "ERROR",
                    "Error processing message, terminating consumer process: ",
                    LOGGER,
                );
                eprintln!("org.apache.kafka.common.errors.TimeoutException");
                break Ok(());
            }
            None => {}
        }
    };
    let flushed = out.flush();
    consumer.close()?;
    flushed?;
    outcome.map(|()| stopped.exit_code())
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
        properties.extend(key_values(&options.property));
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
