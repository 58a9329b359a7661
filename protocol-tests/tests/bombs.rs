//! Batches that unpack to far more than they weigh (reliability H20), nested wrappers (H21) and
//! batches that lie about themselves (H13–H19), sent again and again to a running broker: its
//! memory stays bounded, and a client that behaves notices nothing.

#![expect(clippy::unwrap_used, reason = "test code outside of test functions")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes,
};
use ottla::record::build::{BatchOptions, NewRecord, build_batch};
use ottla::record::compress::Codec;
use protocol_tests::ottla::Ottla;

/// What hostile batches may add to the broker's peak: a few of the largest records there may be
/// (100 MiB unpacked) and no more, however many batches come.
const PEAK_KIB: u64 = 256 * 1024;
/// Of one record when unpacked: below the limit of 100 MiB, so that it is unpacked to its end.
const UNPACKED: usize = 64 << 20;
const ROUNDS: usize = 2;

struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self(stream)
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let mut frame = BytesMut::new();
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .encode(&mut frame, R::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let mut out = BytesMut::with_capacity(frame.len() + 4);
        out.put_i32(frame.len() as i32);
        out.put_slice(&frame);
        self.0.write_all(&out).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut answer, version).unwrap()
    }

    fn create(&mut self, topic: &str, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*name).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        });
        let new = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(1)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default()
            .with_topics(vec![new])
            .with_timeout_ms(30_000);
        let answer = self.call(5, &request);
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    }

    /// The error code.
    fn produce(&mut self, version: i16, topic: &str, records: Bytes) -> i16 {
        let data = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(name(topic))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let answer = self.call(version, &request);
        answer.responses[0].partition_responses[0].error_code
    }

    /// Bytes of records from the start.
    fn fetch(&mut self, topic: &str) -> usize {
        let partition = FetchPartition::default()
            .with_partition(0)
            .with_partition_max_bytes(1 << 20);
        let request = FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_min_bytes(1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(name(topic))
                    .with_partitions(vec![partition]),
            ]);
        let answer = self.call(11, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.records.as_ref().map_or(0, Bytes::len)
    }
}

fn name(topic: &str) -> TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}

fn batch(codec: Codec, value: Bytes) -> Bytes {
    // A time of long ago would have retention delete what is read back here.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let record = NewRecord {
        timestamp: since_epoch.as_millis() as i64,
        key: Some(Bytes::from_static(b"k")),
        value: Some(value),
        headers: Vec::new(),
    };
    let options = BatchOptions {
        codec,
        ..BatchOptions::default()
    };
    build_batch(&[record], &options)
}

/// A changed header or payload under a CRC that is right.
fn changed(batch: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// Message sets of magic 1 wrapped into each other `depth` times with gzip's codec id. The payload
/// is not even gzip at depth 0: nobody may get that far.
fn nested_wrappers(depth: usize) -> Bytes {
    let mut inner = Vec::new();
    for level in 0..depth {
        let mut body = vec![1, u8::from(level > 0)];
        body.put_i64(1);
        body.put_i32(-1);
        let value = if level == 0 {
            b"value".to_vec()
        } else {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&inner).unwrap();
            packed.finish().unwrap()
        };
        body.put_i32(value.len() as i32);
        body.extend(value);
        inner = Vec::new();
        inner.put_i64(0);
        inner.put_i32(body.len() as i32 + 4);
        inner.put_u32(crc32fast::hash(&body));
        inner.extend(body);
    }
    inner.into()
}

const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_RECORD: i16 = 87;

#[test]
fn bombs_and_lies_cost_bounded_memory_and_disturb_nobody() {
    let broker = Ottla::start(&[]).unwrap();
    let mut hostile = Client::connect(broker.address());
    // Keys and times of a compacted topic must be looked at, so its batches are unpacked.
    hostile.create("compacted", &[("cleanup.policy", "compact")]);
    hostile.create("gzipped", &[("compression.type", "gzip")]);
    hostile.create("calm", &[]);

    let zeros = Bytes::from(vec![0; UNPACKED]);
    let too_large = Bytes::from(vec![0; 101 << 20]);
    let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let mut cases: Vec<(String, i16, Bytes, &[i16])> = Vec::new();
    for codec in codecs {
        // Snappy's and lz4's own packing leaves more than message.max.bytes of it.
        cases.push((
            format!("64 MiB of zeros, {}", codec.name()),
            9,
            batch(codec, zeros.clone()),
            &[0, MESSAGE_TOO_LARGE],
        ));
        cases.push((
            format!("101 MiB of zeros, {}", codec.name()),
            9,
            batch(codec, too_large.clone()),
            &[MESSAGE_TOO_LARGE],
        ));
    }
    let plain = batch(Codec::None, Bytes::from_static(b"value"));
    let snappy = batch(Codec::Snappy, Bytes::from_static(b"value"));
    cases.push((
        "a snappy block that claims 4 GiB".to_owned(),
        9,
        changed(&snappy, |bytes| {
            bytes.truncate(61);
            bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }),
        &[CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE],
    ));
    cases.push((
        "two billion records".to_owned(),
        9,
        changed(&plain, |bytes| {
            bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
            bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        }),
        &[INVALID_RECORD],
    ));
    cases.push((
        "two billion headers".to_owned(),
        9,
        changed(&plain, |bytes| {
            let last = bytes.len() - 1;
            bytes.truncate(last);
            bytes.extend([0xfe, 0xff, 0xff, 0xff, 0x0f]);
            bytes[61] += 8;
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
        }),
        &[INVALID_RECORD],
    ));
    cases.push((
        "wrappers in wrappers".to_owned(),
        2,
        nested_wrappers(200),
        &[CORRUPT_MESSAGE, INVALID_RECORD],
    ));
    drop((zeros, too_large));

    let before = broker.peak_kib().unwrap();
    let stop = AtomicBool::new(false);
    let (calls, slowest) = std::thread::scope(|scope| {
        let calm = scope.spawn(|| {
            let mut client = Client::connect(broker.address());
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let sent = client.produce(
                    9,
                    "calm",
                    batch(Codec::None, Bytes::from_static(b"calm value")),
                );
                assert_eq!(sent, 0);
                assert!(client.fetch("calm") > 0);
                slowest = slowest.max(begun.elapsed());
                calls += 1;
            }
            (calls, slowest)
        });
        for _ in 0..ROUNDS {
            for (what, version, records, expected) in &cases {
                for topic in ["compacted", "gzipped"] {
                    let code = hostile.produce(*version, topic, records.clone());
                    // A batch in the topic's own codec is stored as it is: nothing is unpacked.
                    let untouched = topic == "gzipped" && what.ends_with("gzip") && code == 0;
                    if !untouched && !expected.contains(&code) {
                        stop.store(true, Ordering::Relaxed);
                        panic!("{what} to {topic}: code {code}");
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        calm.join().unwrap()
    });
    let grown = broker.peak_kib().unwrap().saturating_sub(before);
    println!("peak grew by {grown} KiB; {calls} calm calls beside, the slowest took {slowest:?}");
    assert!(grown <= PEAK_KIB, "{grown} KiB");
    assert!(calls > 10, "{calls} calls");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let log = broker.log().unwrap();
    assert!(!log.contains("panicked"), "{log}");
}
