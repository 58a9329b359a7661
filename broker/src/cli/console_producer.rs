//! `kafka-console-producer`: lines of standard input become records (`ConsoleProducer`).

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Parser;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

use super::admin::{Admin, ApiError, topic_name};
use super::options::{parse, properties_file, usage_error};
use crate::clock::{Clock as _, SystemClock};
use crate::error::ErrorCode;
use crate::record::build::{BatchOptions, NewRecord, build_batch};
use crate::record::compress::Codec;
use crate::types::BrokerId;

/// Read data from standard input and publish it to Kafka.
#[derive(Parser)]
#[command(name = "kafka-console-producer", disable_version_flag = true)]
struct Options {
    /// HOST:PORT of a broker, or several with commas
    #[arg(long)]
    bootstrap_server: Option<String>,
    /// Old name of --bootstrap-server
    #[arg(long)]
    broker_list: Option<String>,
    #[arg(long)]
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
    #[arg(long, hide = true)]
    max_block_ms: Option<i64>,
    #[arg(long, hide = true)]
    max_memory_bytes: Option<i64>,
    #[arg(long, hide = true)]
    max_partition_memory_bytes: Option<i32>,
    #[arg(long, hide = true)]
    socket_buffer_size: Option<i32>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse("console-producer", arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let Some(bootstrap) = options
        .bootstrap_server
        .clone()
        .or(options.broker_list.clone())
    else {
        return usage_error(
            "console-producer",
            "Missing required option(s) [bootstrap-server]",
        );
    };
    let Some(topic) = options.topic.clone() else {
        return usage_error("console-producer", "Missing required argument \"[topic]\"");
    };
    match produce(&options, &bootstrap, &topic) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn produce(options: &Options, bootstrap: &str, topic: &str) -> Result<()> {
    let reader = LineReader::new(options)?;
    let settings = Settings::new(options)?;
    let admin = Admin::connect(bootstrap, "console-producer")?;
    let mut producer = Producer::new(admin, topic, settings);
    let mut buffered = 0;
    for line in std::io::stdin().lock().split(b'\n') {
        let mut line = line?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        let record = reader.parse(&line)?;
        buffered += line.len();
        producer.pending.push(record);
        if options.sync || buffered >= producer.settings.batch_bytes {
            producer.flush()?;
            buffered = 0;
        }
    }
    producer.flush()
}

struct Settings {
    acks: i16,
    codec: Codec,
    batch_bytes: usize,
    timeout_ms: i32,
}

impl Settings {
    fn new(options: &Options) -> Result<Self> {
        let mut properties = match &options.producer_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(pairs(&options.producer_property)?);
        let property = |key: &str| properties.get(key).map(String::as_str);
        let acks = property("acks").unwrap_or(&options.request_required_acks);
        let codec = options
            .compression_codec
            .as_deref()
            .or(property("compression.type"));
        Ok(Self {
            acks: match acks {
                "all" | "-1" => -1,
                "0" => 0,
                "1" => 1,
                other => bail!("acks={other}: use all, -1, 0 or 1"),
            },
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

fn pairs(given: &[String]) -> Result<BTreeMap<String, String>> {
    given
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => bail!("'{pair}' is not KEY=VALUE"),
        })
        .collect()
}

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
}

impl LineReader {
    fn new(options: &Options) -> Result<Self> {
        let mut properties = match &options.reader_config {
            Some(path) => properties_file(path)?,
            None => BTreeMap::new(),
        };
        properties.extend(pairs(&options.property)?);
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
        })
    }

    fn parse(&self, line: &[u8]) -> Result<NewRecord> {
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
                        continue;
                    }
                    bail!(
                        "No header key separator found in pair '{}' on line",
                        String::from_utf8_lossy(header)
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
            None => bail!("No {what} found on line: {}", String::from_utf8_lossy(line)),
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
    /// Leaders by partition id.
    leaders: Vec<BrokerId>,
    /// Next partition for records without a key.
    next_partition: usize,
}

impl Producer {
    fn new(admin: Admin, topic: &str, settings: Settings) -> Self {
        Self {
            admin,
            topic: topic.to_owned(),
            settings,
            pending: Vec::new(),
            leaders: Vec::new(),
            next_partition: 0,
        }
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        self.find_leaders(deadline)?;
        let mut batches: BTreeMap<usize, Vec<NewRecord>> = BTreeMap::new();
        for record in std::mem::take(&mut self.pending) {
            let partition = match &record.key {
                Some(key) => (murmur2(key) & 0x7fff_ffff) as usize % self.leaders.len(),
                None => self.next_partition % self.leaders.len(),
            };
            batches.entry(partition).or_default().push(record);
        }
        self.next_partition = self.next_partition.wrapping_add(1);
        for (partition, records) in batches {
            self.send(partition, &records, deadline)?;
        }
        Ok(())
    }

    /// Waits until every partition of the topic has a leader.
    fn find_leaders(&mut self, deadline: Instant) -> Result<()> {
        while self.leaders.is_empty() {
            let topic = self.admin.metadata_or_create(&self.topic)?;
            let code = ErrorCode::from_value(topic.error_code);
            match code {
                ErrorCode::None
                    if topic
                        .partitions
                        .iter()
                        .all(|partition| partition.leader_id.0 >= 0)
                        && !topic.partitions.is_empty() =>
                {
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
                | ErrorCode::UnknownTopicOrPartition
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => return Err(ApiError::new(topic.error_code, None).into()),
            }
        }
        Ok(())
    }

    fn send(&mut self, partition: usize, records: &[NewRecord], deadline: Instant) -> Result<()> {
        let batch = build_batch(
            records,
            &BatchOptions {
                codec: self.settings.codec,
                ..BatchOptions::default()
            },
        );
        loop {
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
            let leader = self.leaders[partition];
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
            match ErrorCode::from_value(answer.error_code) {
                ErrorCode::None => return Ok(()),
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::NotEnoughReplicas
                    if Instant::now() < deadline =>
                {
                    self.leaders.clear();
                    self.find_leaders(deadline)?;
                }
                code => {
                    let message = answer
                        .error_message
                        .as_ref()
                        .map_or_else(|| code.message().to_owned(), |text| text.to_string());
                    bail!("{}-{partition}: {code}: {message}", self.topic);
                }
            }
        }
    }
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
