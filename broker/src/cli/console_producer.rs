//! `kafka-console-producer`: lines of standard input become records (`ConsoleProducer`).

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Parser;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    InitProducerIdRequest, ProduceRequest, ProducerId as WireProducerId,
};

use super::admin::{
    Admin, ApiError, ClientConfig, RETRY_BACKOFF, check, is_lost_connection, log, parse_servers,
    topic_name,
};
use super::options::{key_values, parse, properties_file, usage_error};
use crate::clock::{Clock as _, SystemClock};
use crate::error::ErrorCode;
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::record::compress::Codec;
use crate::types::{BrokerId, ProducerEpoch, ProducerId};

/// How long a record may be tried (`delivery.timeout.ms`).
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);

/// Read data from standard input and publish it to Kafka.
#[derive(Parser)]
#[command(
    name = "kafka-console-producer",
    disable_version_flag = true,
    override_usage = "kafka-console-producer --bootstrap-server HOST:PORT --topic TOPIC [OPTION]…",
    after_help = "\
Examples, each with --bootstrap-server localhost:9092:
  --topic orders                                    each line is a record
  --topic orders --property parse.key=true --property key.separator=:
                                                    KEY:VALUE
  --topic orders --compression-codec zstd < file"
)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// Old name of --bootstrap-server
    #[arg(long, hide = true)]
    broker_list: Option<String>,
    /// Where the records go
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// none, gzip (also when no codec is named), snappy, lz4 or zstd
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16384)]
    batch_size: usize,
    /// all, 0, 1 or -1
    #[arg(long, allow_hyphen_values = true, default_value = "-1")]
    request_required_acks: String,
    /// Milliseconds a broker may take
    #[arg(long, default_value_t = 1500)]
    request_timeout_ms: i32,
    /// Milliseconds a line may wait for its batch to fill
    #[arg(long, default_value_t = 1000)]
    timeout: u64,
    /// Send each line by itself
    #[arg(long)]
    sync: bool,
    /// parse.key, key.separator, parse.headers, headers.delimiter, headers.separator,
    /// headers.key.separator, null.marker, ignore.error; each as KEY=VALUE
    #[arg(long)]
    property: Vec<String>,
    /// Properties file with the same keys as --property
    #[arg(long)]
    reader_config: Option<String>,
    /// KEY=VALUE of the producer: acks, compression.type, batch.size, linger.ms
    #[arg(long)]
    producer_property: Vec<String>,
    /// Properties file of the producer
    #[arg(long = "producer.config")]
    producer_config: Option<String>,
    /// Accepted for scripts written for Kafka's tool
    #[arg(long, hide = true)]
    line_reader: Option<String>,
    #[arg(long, hide = true)]
    message_send_max_retries: Option<i32>,
    #[arg(long, hide = true)]
    retry_backoff_ms: Option<i64>,
    #[arg(long, hide = true)]
    metadata_expiry_ms: Option<i64>,
    /// Milliseconds to wait for a topic that has no leader yet
    #[arg(long, default_value_t = 60_000)]
    max_block_ms: u64,
    #[arg(long, hide = true)]
    max_memory_bytes: Option<i64>,
    #[arg(long, hide = true)]
    max_partition_memory_bytes: Option<i32>,
    #[arg(long, hide = true)]
    socket_buffer_size: Option<i32>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let Some(bootstrap) = options
        .bootstrap_server
        .clone()
        .or(options.broker_list.clone())
    else {
        return usage_error::<Options>("Missing required option(s) [bootstrap-server]");
    };
    let Some(topic) = options.topic.clone() else {
        return usage_error::<Options>("Missing required argument \"[topic]\"");
    };
    if parse_servers(&bootstrap).is_err() {
        return usage_error::<Options>(
            "Please provide valid host:port like host1:9091,host2:9092\n ",
        );
    }
    match produce(&options, &bootstrap, &topic) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<ApiError>() {
                Some(api) => eprintln!("{}", api.thrown()),
                None => eprintln!("{error:#}"),
            }
            ExitCode::from(1)
        }
    }
}

fn produce(options: &Options, bootstrap: &str, topic: &str) -> Result<()> {
    let mut reader = LineReader::new(options)?;
    let settings = Settings::new(options)?;
    let admin = Admin::connect(bootstrap, ClientConfig::new("console-producer"))?;
    let linger = settings.linger;
    let mut producer = Producer::new(admin, topic, settings);
    // Kafka's tool prompts where both ends are a terminal.
    let prompt = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let lines = lines_of_stdin(prompt);
    let mut flush_at = None;
    let outcome = loop {
        let next = match flush_at {
            None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => lines.recv_timeout(Instant::saturating_duration_since(&at, Instant::now())),
        };
        match next {
            Ok(line) => match line
                .map_err(anyhow::Error::from)
                .and_then(|line| reader.parse(&line))
            {
                Ok(record) => producer.add(record),
                Err(error) => break Err(error),
            },
            Err(RecvTimeoutError::Timeout) => producer.flush()?,
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
        }
        if options.sync || producer.is_full() {
            producer.flush()?;
        }
        flush_at = match (producer.pending.is_empty(), flush_at) {
            (true, _) => None,
            (false, Some(at)) => Some(at),
            (false, None) => Some(Instant::now() + linger),
        };
    };
    // What was read before a wrong line is sent all the same.
    producer.flush()?;
    outcome
}

/// Reads lines beside the producer, so that one does not wait in the buffer for the next.
fn lines_of_stdin(prompt: bool) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        let ask = || {
            if prompt {
                print!(">");
                // Nothing can be done about a closed terminal.
                let _ = std::io::stdout().flush();
            }
        };
        ask();
        for line in std::io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                line
            });
            if sender.send(line).is_err() {
                return;
            }
            ask();
        }
    });
    receiver
}

struct Settings {
    acks: i16,
    codec: Codec,
    batch_bytes: usize,
    timeout_ms: i32,
    linger: Duration,
    /// How long to wait for the topic's leaders (`max.block.ms`).
    max_block: Duration,
    idempotent: bool,
    /// One record at a time, and the first that fails ends the tool.
    sync: bool,
}

impl Settings {
    fn new(options: &Options) -> Result<Self> {
        let mut properties = match &options.producer_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(key_values(&options.producer_property));
        let property = |key: &str| properties.get(key).map(String::as_str);
        let acks = property("acks").unwrap_or(&options.request_required_acks);
        let codec = options
            .compression_codec
            .as_deref()
            .or(property("compression.type"));
        let acks = match acks {
            "all" | "-1" => -1,
            "0" => 0,
            "1" => 1,
            other => bail!("acks={other}: use all, -1, 0 or 1"),
        };
        let linger_ms = match property("linger.ms") {
            Some(given) => given
                .parse()
                .with_context(|| format!("linger.ms={given}"))?,
            None => options.timeout,
        };
        Ok(Self {
            acks,
            linger: Duration::from_millis(linger_ms),
            max_block: Duration::from_millis(options.max_block_ms),
            idempotent: acks == -1 && property("enable.idempotence") != Some("false"),
            sync: options.sync,
            codec: match codec.unwrap_or("none") {
                "none" => Codec::None,
                "gzip" => Codec::Gzip,
                "snappy" => Codec::Snappy,
                "lz4" => Codec::Lz4,
                "zstd" => Codec::Zstd,
                other => bail!("compression codec {other}: use none, gzip, snappy, lz4 or zstd"),
            },
            batch_bytes: match property("batch.size") {
                Some(size) => size.parse().with_context(|| format!("batch.size={size}"))?,
                None => options.batch_size,
            },
            timeout_ms: options.request_timeout_ms.max(1500),
        })
    }
}

/// The class that Kafka's reader throws.
const EXCEPTION: &str = "org.apache.kafka.common.KafkaException";

/// How a line becomes a record (`LineMessageReader`).
struct LineReader {
    parse_key: bool,
    key_separator: Vec<u8>,
    parse_headers: bool,
    headers_delimiter: Vec<u8>,
    headers_separator: Vec<u8>,
    headers_key_separator: Vec<u8>,
    null_marker: Option<Vec<u8>>,
    ignore_error: bool,
    /// Lines read, which is what errors name.
    line_number: u64,
}

impl LineReader {
    fn new(options: &Options) -> Result<Self> {
        let mut properties = match &options.reader_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(key_values(&options.property));
        let is_true = |key: &str| {
            properties
                .get(key)
                .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
        };
        let bytes = |key: &str, default: &str| {
            properties
                .get(key)
                .map_or(default, String::as_str)
                .as_bytes()
                .to_vec()
        };
        Ok(Self {
            parse_key: is_true("parse.key"),
            key_separator: bytes("key.separator", "\t"),
            parse_headers: is_true("parse.headers"),
            headers_delimiter: bytes("headers.delimiter", "\t"),
            headers_separator: bytes("headers.separator", ","),
            headers_key_separator: bytes("headers.key.separator", ":"),
            null_marker: properties
                .get("null.marker")
                .map(|marker| marker.as_bytes().to_vec()),
            ignore_error: is_true("ignore.error"),
            line_number: 0,
        })
    }

    fn parse(&mut self, line: &[u8]) -> Result<NewRecord> {
        self.line_number += 1;
        let mut rest = line;
        let mut record = NewRecord {
            timestamp: SystemClock.now(),
            ..NewRecord::default()
        };
        if self.parse_headers
            && let Some(headers) = self.take(
                &mut rest,
                &self.headers_delimiter,
                "headers delimiter",
                line,
            )?
        {
            for header in split_all(headers, &self.headers_separator) {
                let Some((key, value)) = split_at(header, &self.headers_key_separator) else {
                    if self.ignore_error {
                        record.headers.push((Bytes::copy_from_slice(header), None));
                        continue;
                    }
                    bail!(
                        "{EXCEPTION}: No header key separator found in pair '{}' on line number {}",
                        String::from_utf8_lossy(header),
                        self.line_number
                    );
                };
                record
                    .headers
                    .push((Bytes::copy_from_slice(key), self.value(value)));
            }
        }
        if self.parse_key
            && let Some(key) = self.take(&mut rest, &self.key_separator, "key separator", line)?
        {
            record.key = self.value(key);
        }
        record.value = self.value(rest);
        Ok(record)
    }

    fn take<'a>(
        &self,
        rest: &mut &'a [u8],
        separator: &[u8],
        what: &str,
        line: &[u8],
    ) -> Result<Option<&'a [u8]>> {
        match split_at(rest, separator) {
            Some((before, after)) => {
                *rest = after;
                Ok(Some(before))
            }
            None if self.ignore_error => Ok(None),
            None => bail!(
                "{EXCEPTION}: No {what} found on line number {}: '{}'",
                self.line_number,
                String::from_utf8_lossy(line)
            ),
        }
    }

    fn value(&self, bytes: &[u8]) -> Option<Bytes> {
        if self.null_marker.as_deref() == Some(bytes) {
            return None;
        }
        Some(Bytes::copy_from_slice(bytes))
    }
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(separator.len().max(1))
        .position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

fn split_all<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some((before, after)) = split_at(bytes, separator) {
        parts.push(before);
        bytes = after;
    }
    parts.push(bytes);
    parts
}

/// Sends what is pending, batch by batch, and waits for the acknowledgements.
struct Producer {
    admin: Admin,
    topic: String,
    settings: Settings,
    pending: Vec<NewRecord>,
    pending_bytes: usize,
    /// Leaders by partition id.
    leaders: Vec<BrokerId>,
    /// Next partition for records without a key.
    next_partition: usize,
    /// Id and epoch of an idempotent producer, once there is something to send.
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// The next sequence number by partition.
    sequences: BTreeMap<usize, i32>,
}

impl Producer {
    fn new(admin: Admin, topic: &str, settings: Settings) -> Self {
        Self {
            admin,
            topic: topic.to_owned(),
            settings,
            pending: Vec::new(),
            pending_bytes: 0,
            leaders: Vec::new(),
            next_partition: 0,
            identity: None,
            sequences: BTreeMap::new(),
        }
    }

    fn add(&mut self, record: NewRecord) {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.pending_bytes += length(&record.key) + length(&record.value);
        self.pending.push(record);
    }

    fn is_full(&self) -> bool {
        self.pending_bytes >= self.settings.batch_bytes
    }

    /// Sends all that is pending. As with Kafka's tool a record that cannot be sent is an error in
    /// the log, and only with `--sync` the end.
    fn flush(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if records.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + DELIVERY_TIMEOUT;
        if let Err(error) = self.patiently(deadline, is_lost_connection, Self::find_leaders) {
            return self.failed(&records, error);
        }
        let mut batches: BTreeMap<usize, Vec<NewRecord>> = BTreeMap::new();
        for record in records {
            let partition = match &record.key {
                Some(key) => (murmur2(key) & 0x7fff_ffff) as usize % self.leaders.len(),
                None => self.next_partition % self.leaders.len(),
            };
            batches.entry(partition).or_default().push(record);
        }
        self.next_partition = self.next_partition.wrapping_add(1);
        for (partition, records) in batches {
            if let Err(error) = self.send(partition, &records, deadline) {
                self.failed(&records, error)?;
            }
        }
        Ok(())
    }

    fn failed(&self, records: &[NewRecord], error: anyhow::Error) -> Result<()> {
        if self.settings.sync {
            return Err(error);
        }
        let thrown = match error.downcast_ref::<ApiError>() {
            Some(api) => api.thrown(),
            None => format!("{error:#}"),
        };
        let size = |bytes: &Option<Bytes>| match bytes {
            Some(bytes) => format!("{} bytes", bytes.len()),
            None => "null".to_owned(),
        };
        for record in records {
            log(
                "ERROR",
                &format!(
                    "Error when sending message to topic {} with key: {}, value: {} with error:",
                    self.topic,
                    size(&record.key),
                    size(&record.value)
                ),
                "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback",
            );
            eprintln!("{thrown}");
        }
        Ok(())
    }

    /// Does what may have to be done again after a new connection to brokers that may lead other
    /// partitions.
    fn patiently<T>(
        &mut self,
        deadline: Instant,
        passes: fn(&anyhow::Error) -> bool,
        mut attempt: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        loop {
            match attempt(self) {
                Err(error) if passes(&error) && Instant::now() < deadline => {
                    std::thread::sleep(RETRY_BACKOFF);
                    self.admin.recover(deadline)?;
                    self.leaders.clear();
                }
                outcome => return outcome,
            }
        }
    }

    /// The producer id, asked for once.
    fn identity(&mut self, deadline: Instant) -> Result<(ProducerId, ProducerEpoch)> {
        if !self.settings.idempotent {
            return Ok((-1, -1));
        }
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id(WireProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let response = self.admin.any().send(&request)?;
            match ErrorCode::from_value(response.error_code) {
                ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(RETRY_BACKOFF);
                }
                _ => {
                    check(response.error_code, None)?;
                    let identity = (response.producer_id.0, response.producer_epoch);
                    self.identity = Some(identity);
                    return Ok(identity);
                }
            }
        }
    }

    /// Waits until every partition of the topic has a leader.
    fn find_leaders(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.settings.max_block;
        let mut pause = Duration::from_millis(50);
        while self.leaders.is_empty() {
            let topic = self.admin.metadata_or_create(&self.topic)?;
            let led = !topic.partitions.is_empty()
                && topic
                    .partitions
                    .iter()
                    .all(|partition| partition.leader_id.0 >= 0);
            match ErrorCode::from_value(topic.error_code) {
                ErrorCode::None if led => {
                    let mut leaders: Vec<_> = topic
                        .partitions
                        .iter()
                        .map(|partition| (partition.partition_index, partition.leader_id.0))
                        .collect();
                    leaders.sort_unstable();
                    self.leaders = leaders.into_iter().map(|(_, leader)| leader).collect();
                    self.admin.metadata(Some(&[]))?;
                }
                ErrorCode::None
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition => {
                    if Instant::now() + pause >= deadline {
                        let message = format!(
                            "Topic {} not present in metadata after {} ms.",
                            self.topic,
                            self.settings.max_block.as_millis()
                        );
                        let code = ErrorCode::RequestTimedOut.value();
                        return Err(ApiError::new(code, Some(&message)).into());
                    }
                    if topic.error_code != 0 {
                        log(
                            "WARN",
                            &format!(
                                "[Producer clientId=console-producer] The metadata response from the cluster reported a recoverable issue : {{{}={}}}",
                                self.topic,
                                ErrorCode::from_value(topic.error_code).name()
                            ),
                            "org.apache.kafka.clients.NetworkClient",
                        );
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                _ => return Err(ApiError::new(topic.error_code, None).into()),
            }
        }
        Ok(())
    }

    fn send(&mut self, partition: usize, records: &[NewRecord], deadline: Instant) -> Result<()> {
        let (producer_id, producer_epoch) =
            self.patiently(deadline, is_lost_connection, |producer| {
                producer.identity(deadline)
            })?;
        let next = self.sequences.get(&partition).copied().unwrap_or(0);
        let batch = build_batch(
            records,
            &BatchOptions {
                codec: self.settings.codec,
                producer_id,
                producer_epoch,
                base_sequence: if producer_id < 0 { -1 } else { next },
                ..BatchOptions::default()
            },
        );
        self.patiently(deadline, may_pass, |producer| {
            producer.find_leaders()?;
            producer.send_batch(partition, &batch)
        })?;
        // Sequences count to i32::MAX and begin again at 0.
        let after = i64::from(next) + i64::try_from(records.len())?;
        let after = i32::try_from(after % (i64::from(i32::MAX) + 1))?;
        self.sequences.insert(partition, after);
        Ok(())
    }

    fn send_batch(&mut self, partition: usize, batch: &Bytes) -> Result<()> {
        let request = ProduceRequest::default()
            .with_acks(self.settings.acks)
            .with_timeout_ms(self.settings.timeout_ms)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(&self.topic))
                    .with_partition_data(vec![
                        PartitionProduceData::default()
                            .with_index(i32::try_from(partition)?)
                            .with_records(Some(batch.clone())),
                    ]),
            ]);
        let leader = self.leaders.get(partition).copied().unwrap_or(-1);
        let connection = self.admin.broker(leader)?;
        let version = connection.version::<ProduceRequest>()?;
        if self.settings.acks == 0 {
            return connection.write(&request, version);
        }
        let response = connection.send_version(&request, version)?;
        let Some(answer) = response
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first())
        else {
            bail!("{}-{partition}: the broker said nothing of it", self.topic);
        };
        // An earlier attempt got through after all.
        if ErrorCode::from_value(answer.error_code) == ErrorCode::DuplicateSequenceNumber {
            return Ok(());
        }
        check(answer.error_code, answer.error_message.as_ref())?;
        Ok(())
    }
}

/// Errors that a later attempt may not meet: a lost connection, a moved leader, a small ISR.
fn may_pass(error: &anyhow::Error) -> bool {
    if let Some(api) = error.downcast_ref::<ApiError>() {
        return matches!(
            api.code,
            ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::RequestTimedOut
                | ErrorCode::CorruptMessage
                | ErrorCode::KafkaStorageError
        );
    }
    is_lost_connection(error)
}

/// The hash of Kafka's default partitioner (`Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(properties: &[&str]) -> LineReader {
        let mut line = vec!["kafka-console-producer".to_owned()];
        for property in properties {
            line.push("--property".to_owned());
            line.push((*property).to_owned());
        }
        LineReader::new(&Options::parse_from(line)).unwrap()
    }

    #[test]
    fn keys_hash_as_in_java() {
        // From Kafka's own test of Utils.murmur2.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn lines_are_split_into_headers_key_and_value() {
        let record = reader(&["parse.key=true", "key.separator=:", "parse.headers=true"])
            .parse(b"a:1,b:2\tk:v:w")
            .unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"v:w"[..]));
        assert_eq!(record.headers.len(), 2);
        assert_eq!(record.headers[1].0, "b");
    }

    #[test]
    fn a_line_without_separator_is_an_error_unless_ignored() {
        assert!(reader(&["parse.key=true"]).parse(b"plain").is_err());
        let record = reader(&["parse.key=true", "ignore.error=true"])
            .parse(b"plain")
            .unwrap();
        assert_eq!(
            (record.key, record.value.as_deref()),
            (None, Some(&b"plain"[..]))
        );
    }

    #[test]
    fn the_null_marker_is_a_tombstone() {
        let record = reader(&["parse.key=true", "null.marker=NULL"])
            .parse(b"k\tNULL")
            .unwrap();
        assert_eq!(record.value, None);
    }
}
