//! Record batches made by hand, so that each field of them can be wrong.

use bytes::Bytes;
use ottla::config::topic::TimestampType;
use ottla::record::compress::{Codec, Compressor};
use ottla::record::legacy::{NewMessage, put_message};
use ottla::record::varint::{put_varint, put_varlong};

/// A time that no test can take for now.
pub const TIME: i64 = 1_600_000_000_000;

/// One record of format v2. `None` in a count or length: as it should be.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub length: Option<i32>,
    pub attributes: i8,
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub header_count: Option<i32>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    pub fn new(offset_delta: i32) -> Self {
        Self {
            offset_delta,
            timestamp_delta: i64::from(offset_delta),
            key: Some(format!("key-{offset_delta}").into()),
            value: Some(format!("value-{offset_delta}").into()),
            ..Self::default()
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        fn field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
            put_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i32));
            out.extend(bytes.unwrap_or_default());
        }
        let mut body = vec![self.attributes as u8];
        put_varlong(&mut body, self.timestamp_delta);
        put_varint(&mut body, self.offset_delta);
        field(&mut body, self.key.as_deref());
        field(&mut body, self.value.as_deref());
        put_varint(
            &mut body,
            self.header_count.unwrap_or(self.headers.len() as i32),
        );
        for (key, value) in &self.headers {
            field(&mut body, Some(key));
            field(&mut body, value.as_deref());
        }
        let mut out = Vec::new();
        put_varint(&mut out, self.length.unwrap_or(body.len() as i32));
        out.extend(body);
        out
    }
}

/// One batch of format v2.
#[derive(Debug, Clone)]
pub struct Batch {
    pub base_offset: i64,
    pub length: Option<i32>,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: Option<u32>,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    /// The records, packed if the attributes say so.
    pub payload: Vec<u8>,
}

impl Batch {
    /// `count` plain records.
    pub fn new(count: i32) -> Self {
        Self::of(&(0..count).map(Record::new).collect::<Vec<_>>())
    }

    pub fn of(records: &[Record]) -> Self {
        let count = records.len() as i32;
        Self {
            base_offset: 0,
            length: None,
            leader_epoch: -1,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: TIME,
            max_timestamp: records
                .iter()
                .map(|record| TIME.saturating_add(record.timestamp_delta))
                .max()
                .unwrap_or(TIME),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            payload: records.iter().flat_map(Record::bytes).collect(),
        }
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Packs the payload.
    pub fn packed(mut self, codec: Codec) -> Self {
        self.payload = pack(codec, 2, &self.payload);
        self.attributes |= codec as i16;
        self
    }

    pub fn bytes(&self) -> Bytes {
        let mut checked = self.attributes.to_be_bytes().to_vec();
        checked.extend(self.last_offset_delta.to_be_bytes());
        checked.extend(self.base_timestamp.to_be_bytes());
        checked.extend(self.max_timestamp.to_be_bytes());
        checked.extend(self.producer_id.to_be_bytes());
        checked.extend(self.producer_epoch.to_be_bytes());
        checked.extend(self.base_sequence.to_be_bytes());
        checked.extend(self.count.to_be_bytes());
        checked.extend(&self.payload);
        let mut out = self.base_offset.to_be_bytes().to_vec();
        let length = self.length.unwrap_or(checked.len() as i32 + 9);
        out.extend(length.to_be_bytes());
        out.extend(self.leader_epoch.to_be_bytes());
        out.push(self.magic as u8);
        out.extend(
            self.crc
                .unwrap_or_else(|| crc32c::crc32c(&checked))
                .to_be_bytes(),
        );
        out.extend(checked);
        out.into()
    }
}

pub fn pack(codec: Codec, magic: i8, bytes: &[u8]) -> Vec<u8> {
    let mut packer = Compressor::new(codec, codec.default_level(), magic, Vec::new())
        .expect("a codec at its default level");
    packer.write(bytes).expect("memory");
    packer.finish().expect("memory")
}

/// A message of format v0 or v1.
#[derive(Debug, Clone)]
pub struct Message {
    pub offset: i64,
    pub timestamp: i64,
    pub log_append_time: bool,
    pub codec: Codec,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl Message {
    pub fn new(offset: i64) -> Self {
        Self {
            offset,
            timestamp: TIME + offset,
            log_append_time: false,
            codec: Codec::None,
            key: Some(format!("key-{offset}").into()),
            value: Some(format!("value-{offset}").into()),
        }
    }

    /// A wrapper of messages.
    pub fn wrapping(codec: Codec, magic: i8, offset: i64, inner: &[u8]) -> Self {
        Self {
            codec,
            key: None,
            value: Some(pack(codec, magic, inner)),
            ..Self::new(offset)
        }
    }
}

/// A set of messages of format v0 or v1.
pub fn message_set(magic: i8, messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        let message = NewMessage {
            offset: message.offset,
            timestamp: message.timestamp,
            timestamp_type: if message.log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            codec: message.codec,
            key: message.key.as_deref(),
            value: message.value.as_deref(),
        };
        put_message(&mut out, magic, &message);
    }
    out
}
