//! What a leader checks, and if need be changes, before it appends (`ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`).
//!
//! The order is Kafka's: rules of the request's version ([`check_produce_version`]); base offset,
//! size and CRC of every batch; one batch only; rules of the batch header; rules of each record;
//! size after conversion. Two deliberate differences, both for batches that no client library
//! writes: an uncompressed batch whose offset deltas are not 0..n−1 is refused (Kafka stores it as
//! it is), and a compressed batch is unpacked only when a rule needs a look inside (keys of a
//! compacted topic, time limits, a change of codec or format, or a max timestamp that cannot be
//! right); Kafka always unpacks.

use std::borrow::Cow;

use super::Error;
use super::batch::{Batch, BatchHeader, BatchIter, Frame, with_max_timestamp};
use super::build::{BatchBuilder, BatchOptions};
use super::compress::{Codec, Limits};
use super::records::Records;
use super::rules::RecordRules;
use super::upconvert;
use crate::config::topic::{BrokerCompression, LogConfig, TimestampType};
use crate::error::{ErrorCode, KafkaCode};
use crate::types::{Millis, TopicPartition};

/// Where a batch comes from: what clients may not send, coordinators may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A Produce request; [`check_produce_version`] has looked at it.
    Client,
    /// The group or transaction coordinator of this broker, or a transaction's markers (control
    /// batches allowed).
    Coordinator,
}

/// Exactly one checked v2 batch, ready to be appended: base offset 0, deltas 0..n−1, CRC right.
/// The log patches base offset and leader epoch (outside the CRC) as it writes.
#[derive(Debug, Clone)]
pub struct Prepared<'a> {
    /// The whole batch; that of the request when nothing had to change.
    pub bytes: Cow<'a, [u8]>,
    /// The header of `bytes`.
    pub header: BatchHeader,
    /// −1 under CreateTime, else the append time (milliseconds) to tell the producer.
    pub log_append_time: Millis,
}

/// Why a set of records was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub code: ErrorCode,
    /// `error_message` of Produce v8+: set only when single records were at fault; Kafka sends null
    /// otherwise.
    pub message: Option<String>,
    /// `record_errors` of Produce v8+: index of the record in the batch, message.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// What happened, for our log.
    pub detail: String,
}

impl Rejected {
    pub(super) fn new(code: ErrorCode, detail: String) -> Self {
        Self {
            code,
            message: None,
            record_errors: Vec::new(),
            detail,
        }
    }

    pub(super) fn invalid(detail: String) -> Self {
        Self::new(ErrorCode::InvalidRecord, detail)
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Rejected {}

impl KafkaCode for Rejected {
    fn code(&self) -> ErrorCode {
        self.code
    }
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Checks the records of one partition of a Produce request (contract §7.1 rows 12–19, H13–H22) and converts them where Kafka's rules demand it. Takes no lock and no offset.
///
/// `None`: there is nothing to append. Produce v0–2 may bring an empty set, to which Kafka answers
/// NONE with base offset −1.
pub fn prepare<'a>(
    topic_partition: &TopicPartition,
    records: &'a [u8],
    origin: Origin,
    config: &LogConfig,
    now: Millis,
) -> Result<Option<Prepared<'a>>, Rejected> {
    let preparation = Preparation {
        topic_partition,
        origin,
        config,
        now,
    };
    let Some(set) = preparation.analyze(records)? else {
        return Ok(None);
    };
    if set.more_than_one && (set.magic == 2 || set.codec != Codec::None) {
        return Err(Rejected::invalid(
            "Compressed outer record has more than one batch".to_owned(),
        ));
    }
    let (target, level) = preparation.target(set.codec);
    let (bytes, header) = match &set.batch {
        Some(batch) => preparation.prepare_batch(batch, set.codec, target, level)?,
        None => owned(upconvert::up_convert(
            &preparation,
            &records[..set.valid_bytes],
            &set,
            target,
            level,
        )?),
    };
    preparation.finished(bytes, header).map(Some)
}

/// What [`prepare`] would make of a batch that a coordinator of this broker has just built: its CRC
/// and its records need no second look, only its size does, and whether the topic wants it otherwise.
pub fn prepare_built<'a>(
    topic_partition: &TopicPartition,
    (bytes, header): (&'a [u8], BatchHeader),
    config: &LogConfig,
    now: Millis,
) -> Result<Prepared<'a>, Rejected> {
    let preparation = Preparation {
        topic_partition,
        origin: Origin::Coordinator,
        config,
        now,
    };
    let codec = header.codec()?;
    if preparation.target(codec).0 != codec
        || config.message_timestamp_type != TimestampType::CreateTime
    {
        let prepared = prepare(topic_partition, bytes, Origin::Coordinator, config, now)?;
        return prepared.ok_or_else(|| Rejected::invalid("a batch of no bytes".to_owned()));
    }
    preparation.check_batch_size(header.size())?;
    preparation.finished(Cow::Borrowed(bytes), header)
}

/// Contract §7.1 rows 4 and 5: Produce v3+ brings exactly one batch of magic 2; zstd needs v7.
pub fn check_produce_version(version: i16, records: &[u8]) -> Result<(), Rejected> {
    if version < 3 {
        return Ok(());
    }
    let mut frames = BatchIter::new(records);
    let Some(first) = frames.next().transpose()? else {
        return Err(Rejected::invalid(format!(
            "Produce requests with version {version} must have at least one record batch per partition"
        )));
    };
    if first.prefix.magic != 2 {
        return Err(Rejected::invalid(format!(
            "Produce requests with version {version} are only allowed to contain record batches \
             with magic version 2"
        )));
    }
    if version < 7 && first.codec()? == Codec::Zstd {
        return Err(Rejected::new(
            ErrorCode::UnsupportedCompressionType,
            format!(
                "Produce requests with version {version} are not allowed to use ZStandard compression"
            ),
        ));
    }
    if frames.next().transpose()?.is_some() {
        return Err(Rejected::invalid(format!(
            "Produce requests with version {version} are only allowed to contain exactly one \
             record batch per partition"
        )));
    }
    Ok(())
}

/// What the first look at a set of batches found.
pub(super) struct Analyzed<'a> {
    /// Of the first batch.
    pub(super) magic: i8,
    /// The first batch, when its magic is 2.
    batch: Option<Batch<'a>>,
    /// Of the last compressed batch.
    pub(super) codec: Codec,
    more_than_one: bool,
    /// Up to the end of the last whole batch; what follows is dropped, as in Kafka.
    valid_bytes: usize,
}

/// One call of [`prepare`].
pub(super) struct Preparation<'a> {
    pub(super) topic_partition: &'a TopicPartition,
    origin: Origin,
    pub(super) config: &'a LogConfig,
    pub(super) now: Millis,
}

impl Preparation<'_> {
    /// Base offset, size and CRC of every batch.
    #[inline(always)]
    fn analyze<'b>(&self, records: &'b [u8]) -> Result<Option<Analyzed<'b>>, Rejected> {
        let mut set: Option<Analyzed<'_>> = None;
        for frame in BatchIter::new(records) {
            let frame = frame?;
            let batch = self.analyze_frame(&frame)?;
            let codec = match &batch {
                Some(batch) => batch.header().codec()?,
                None => frame.message()?.codec()?,
            };
            match &mut set {
                None => {
                    set = Some(Analyzed {
                        magic: frame.prefix.magic,
                        batch,
                        codec,
                        more_than_one: false,
                        valid_bytes: frame.prefix.size,
                    });
                }
                Some(set) => {
                    set.more_than_one = true;
                    set.valid_bytes += frame.prefix.size;
                    if codec != Codec::None {
                        set.codec = codec;
                    }
                }
            }
        }
        Ok(set)
    }

    /// The batch, when its magic is 2.
    #[inline(always)]
    fn analyze_frame<'b>(&self, frame: &Frame<'b>) -> Result<Option<Batch<'b>>, Rejected> {
        let topic_partition = self.topic_partition;
        let prefix = frame.prefix;
        if prefix.magic == 2 && matches!(self.origin, Origin::Client) && prefix.base_offset != 0 {
            return Err(Rejected::invalid(format!(
                "The baseOffset of the record batch in the append to {topic_partition} should be \
                 0, but it is {}",
                prefix.base_offset
            )));
        }
        self.check_batch_size(prefix.size)?;
        frame.valid_batch().map_err(|error| {
            Rejected::new(
                error.code(),
                format!("{error} in topic partition {topic_partition}"),
            )
        })
    }

    fn check_batch_size(&self, size: usize) -> Result<(), Rejected> {
        if size <= self.max_message_bytes() {
            return Ok(());
        }
        Err(Rejected::new(
            ErrorCode::MessageTooLarge,
            format!(
                "The record batch size in the append to {} is {size} bytes which exceeds the \
                 maximum configured value of {}.",
                self.topic_partition, self.config.max_message_bytes
            ),
        ))
    }

    fn max_message_bytes(&self) -> usize {
        usize::try_from(self.config.max_message_bytes).unwrap_or(0)
    }

    /// Stops a conversion whose outcome is too large already.
    pub(super) fn check_converted_size(&self, size: usize) -> Result<(), Rejected> {
        if size <= self.max_message_bytes() {
            return Ok(());
        }
        Err(Rejected::new(
            ErrorCode::MessageTooLarge,
            format!(
                "Message batch size is {size} bytes in append to partition {} which exceeds the \
                 maximum configured size of {}.",
                self.topic_partition, self.config.max_message_bytes
            ),
        ))
    }

    /// What is to be appended, if it fits a segment.
    fn finished<'a>(
        &self,
        bytes: Cow<'a, [u8]>,
        header: BatchHeader,
    ) -> Result<Prepared<'a>, Rejected> {
        let config = self.config;
        if header.size() > config.segment_bytes as usize {
            return Err(Rejected::new(
                ErrorCode::RecordListTooLarge,
                format!(
                    "Message batch size is {} bytes in append to partition {}, which exceeds the \
                     maximum configured segment size of {}.",
                    header.size(),
                    self.topic_partition,
                    config.segment_bytes
                ),
            ));
        }
        Ok(Prepared {
            bytes,
            header,
            log_append_time: match config.message_timestamp_type {
                TimestampType::CreateTime => -1,
                TimestampType::LogAppendTime => self.now,
            },
        })
    }

    /// The codec to store with, and its level.
    fn target(&self, source: Codec) -> (Codec, i32) {
        let config = self.config;
        match config.compression_type {
            BrokerCompression::Producer => (source, source.default_level()),
            BrokerCompression::Uncompressed => (Codec::None, 0),
            BrokerCompression::Gzip => (Codec::Gzip, config.compression_gzip_level),
            BrokerCompression::Snappy => (Codec::Snappy, 0),
            BrokerCompression::Lz4 => (Codec::Lz4, config.compression_lz4_level),
            BrokerCompression::Zstd => (Codec::Zstd, config.compression_zstd_level),
        }
    }

    /// Rules of the batch header. Row 15 of the contract, H15, H19.
    fn check_header(&self, header: &BatchHeader) -> Result<(), Rejected> {
        let topic_partition = self.topic_partition;
        let count = i64::from(header.record_count);
        let span = i64::from(header.last_offset_delta) + 1;
        let range = || format!("[{}, {}]", header.base_offset, header.last_offset());
        if span <= 0 {
            return Err(Rejected::invalid(format!(
                "Batch has an invalid offset range: {} in topic partition {topic_partition}",
                range()
            )));
        }
        if count <= 0 {
            return Err(Rejected::invalid(format!(
                "Invalid reported count for record batch: {count} in topic partition {topic_partition}"
            )));
        }
        if span != count {
            return Err(Rejected::invalid(format!(
                "Inconsistent batch offset range {} and count of records {count} in topic \
                 partition {topic_partition}",
                range()
            )));
        }
        if self.origin == Origin::Coordinator {
            return Ok(());
        }
        if header.is_control() {
            return Err(Rejected::invalid(format!(
                "Clients are not allowed to write control records in topic partition {topic_partition}"
            )));
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(Rejected::invalid(format!(
                "Invalid sequence number {} in record batch with producerId {} in topic partition \
                 {topic_partition}",
                header.base_sequence, header.producer_id
            )));
        }
        Ok(())
    }

    fn prepare_batch<'a>(
        &self,
        batch: &Batch<'a>,
        source: Codec,
        target: Codec,
        level: i32,
    ) -> Result<(Cow<'a, [u8]>, BatchHeader), Rejected> {
        let header = batch.header();
        self.check_header(header)?;
        // Control records stay uncompressed whatever the topic says.
        let in_place = source == target || (source == Codec::None && header.is_control());
        if !in_place {
            return self.rebuild(batch, target, level).map(owned);
        }
        let max_timestamp = if source == Codec::None {
            self.walk(batch, true)?.max_timestamp
        } else if self.must_look_inside(header) {
            let walked = self.walk(batch, false)?;
            if !walked.consecutive {
                return self.rebuild(batch, target, level).map(owned);
            }
            walked.max_timestamp
        } else {
            header.max_timestamp
        };
        let timestamp_type = self.config.message_timestamp_type;
        let max_timestamp = match timestamp_type {
            TimestampType::CreateTime => max_timestamp,
            TimestampType::LogAppendTime => self.now,
        };
        Ok(with_max_timestamp(
            batch.bytes(),
            header,
            timestamp_type,
            max_timestamp,
        ))
    }

    /// Whether a rule about single records could refuse this compressed batch, or its max timestamp
    /// looks wrong: the time index and retention trust that number.
    fn must_look_inside(&self, header: &BatchHeader) -> bool {
        const IMPLAUSIBLE_LEAD: Millis = 3_600_000;
        let config = self.config;
        if config.cleanup_policy.compact || header.timestamp_type() == TimestampType::LogAppendTime
        {
            return true;
        }
        config.message_timestamp_type == TimestampType::CreateTime
            && (config.message_timestamp_before_max_ms != Millis::MAX
                || config.message_timestamp_after_max_ms != Millis::MAX
                || header.max_timestamp < header.base_timestamp.max(-1)
                || header.max_timestamp > self.now.saturating_add(IMPLAUSIBLE_LEAD))
    }

    /// Checks every record in place. `strict`: deltas that are not 0..n−1 are errors of the records.
    fn walk(&self, batch: &Batch<'_>, strict: bool) -> Result<Walked, Rejected> {
        let header = batch.header();
        let mut rules = RecordRules::new(self, header.timestamp_type());
        let mut records = Records::new(batch, &Limits::CLIENT)?;
        let mut walked = Walked {
            max_timestamp: -1,
            consecutive: true,
        };
        let mut index = 0;
        while let Some(record) = records.next()? {
            let expected = header.base_offset.checked_add(i64::from(index));
            if Some(record.offset) != expected {
                walked.consecutive = false;
                if strict {
                    rules.wrong_offset(index, record.offset);
                }
            }
            rules.check(index, &record, !strict);
            walked.max_timestamp = walked.max_timestamp.max(record.timestamp);
            index += 1;
        }
        rules.finish()?;
        Ok(walked)
    }

    /// Checks every record and writes it anew, with consecutive offsets.
    fn rebuild(
        &self,
        batch: &Batch<'_>,
        target: Codec,
        level: i32,
    ) -> Result<(Vec<u8>, BatchHeader), Rejected> {
        let header = batch.header();
        let mut rules = RecordRules::new(self, header.timestamp_type());
        let options = BatchOptions {
            codec: target,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            transactional: header.is_transactional(),
            control: header.is_control(),
        };
        let mut builder = self.builder(&options, level)?;
        let mut records = Records::new(batch, &Limits::CLIENT)?;
        let mut index = 0;
        while let Some(record) = records.next()? {
            rules.check(index, &record, false);
            if rules.is_clean() {
                builder.append_view(record.timestamp, record.key, record.value, &record.headers)?;
                self.check_converted_size(builder.written())?;
            }
            index += 1;
        }
        rules.finish()?;
        self.finish(builder)
    }

    pub(super) fn builder(
        &self,
        options: &BatchOptions,
        level: i32,
    ) -> Result<BatchBuilder, Rejected> {
        let builder = BatchBuilder::with_level(options, level)?;
        Ok(match self.config.message_timestamp_type {
            TimestampType::CreateTime => builder,
            TimestampType::LogAppendTime => builder.log_append_time(self.now),
        })
    }

    pub(super) fn finish(&self, builder: BatchBuilder) -> Result<(Vec<u8>, BatchHeader), Rejected> {
        let (bytes, header) = builder.finish()?;
        self.check_converted_size(bytes.len())?;
        Ok((bytes, header))
    }
}

/// A batch that was made anew.
fn owned<'a>((bytes, header): (Vec<u8>, BatchHeader)) -> (Cow<'a, [u8]>, BatchHeader) {
    (Cow::Owned(bytes), header)
}

/// What a walk over the records found.
struct Walked {
    max_timestamp: Millis,
    /// Offsets are base, base+1, ….
    consecutive: bool,
}

#[cfg(test)]
mod tests;
