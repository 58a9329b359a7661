//! The rules of single records, and the report of those that break them
//! (`LogValidator.validateRecord`, `processRecordErrors`).

use super::records::RecordView;
use super::validate::{Preparation, Rejected};
use crate::config::topic::TimestampType;
use crate::error::ErrorCode;
use crate::types::{Millis, Offset};

/// Errors told to the client; more are only counted. Kafka tells all, which a small compressed
/// batch could turn into gigabytes.
const MAX_REPORTED: usize = 10_000;
/// Errors that the message quotes.
const QUOTED: usize = 3;

/// Checks the records of one batch.
pub(super) struct RecordRules<'a> {
    preparation: &'a Preparation<'a>,
    /// Of the batch as it came.
    batch_timestamp_type: TimestampType,
    errors: Vec<(i32, Option<String>)>,
    /// All errors, those beyond the limit too.
    count: usize,
    /// A wrong timestamp decides the code.
    invalid_timestamp: bool,
}

impl<'a> RecordRules<'a> {
    pub(super) fn new(
        preparation: &'a Preparation<'a>,
        batch_timestamp_type: TimestampType,
    ) -> Self {
        Self {
            preparation,
            batch_timestamp_type,
            errors: Vec::new(),
            count: 0,
            invalid_timestamp: false,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.count == 0
    }

    /// Key and timestamp. `partial` picks the name that Kafka's text gives to a record it skims.
    #[inline]
    pub(super) fn check(&mut self, index: i32, record: &RecordView<'_>, partial: bool) {
        let config = self.preparation.config;
        if config.cleanup_policy.compact && record.key.is_none() {
            return self.missing_key(index);
        }
        let create_time = config.message_timestamp_type == TimestampType::CreateTime;
        if create_time && record.timestamp != -1 {
            let age = self.preparation.now.saturating_sub(record.timestamp);
            if age > config.message_timestamp_before_max_ms
                || age.saturating_neg() > config.message_timestamp_after_max_ms
            {
                self.timestamp_out_of_range(index, record);
            }
        } else if self.batch_timestamp_type == TimestampType::LogAppendTime {
            // Kafka lets the flag pass where the topic is CreateTime and the record has a time.
            self.wrong_timestamp_type(index, record, partial);
        }
    }

    #[cold]
    fn missing_key(&mut self, index: i32) {
        self.invalid(
            index,
            format!(
                "Compacted topic cannot accept message without key in topic partition {}",
                self.preparation.topic_partition
            ),
        );
    }

    #[cold]
    fn timestamp_out_of_range(&mut self, index: i32, record: &RecordView<'_>) {
        let config = self.preparation.config;
        let now: Millis = self.preparation.now;
        self.invalid_timestamp = true;
        // The bounds are printed as Java computes them: with wrap-around when a limit is unset.
        self.push(
            index,
            format!(
                "Timestamp {} of message with offset {} is out of range. The timestamp should be \
                 within [{}, {}]",
                record.timestamp,
                record.offset,
                now.wrapping_sub(config.message_timestamp_before_max_ms),
                now.wrapping_add(config.message_timestamp_after_max_ms)
            ),
        );
    }

    #[cold]
    fn wrong_timestamp_type(&mut self, index: i32, record: &RecordView<'_>, partial: bool) {
        self.invalid_timestamp = true;
        let absent = if partial { -1 } else { 0 };
        let len = |field: Option<&[u8]>| field.map_or(absent, |bytes| bytes.len() as i64);
        self.push(
            index,
            format!(
                "Invalid timestamp type in message {}DefaultRecord(offset={}, timestamp={}, \
                 key={} bytes, value={} bytes). Producer should not set timestamp type to \
                 LogAppendTime.",
                if partial { "Partial" } else { "" },
                record.offset,
                record.timestamp,
                len(record.key),
                len(record.value)
            ),
        );
    }

    #[cold]
    pub(super) fn wrong_offset(&mut self, index: i32, offset: Offset) {
        self.invalid(
            index,
            format!(
                "Record {index} of the batch has offset {offset}: offsets within a batch must be \
                 consecutive, in topic partition {}",
                self.preparation.topic_partition
            ),
        );
    }

    /// An error whose code is INVALID_RECORD.
    #[cold]
    pub(super) fn invalid(&mut self, index: i32, message: String) {
        self.push(index, message);
    }

    fn push(&mut self, index: i32, message: String) {
        self.count += 1;
        if self.errors.len() < MAX_REPORTED {
            self.errors.push((index, Some(message)));
        }
    }

    /// Refuses the batch when a record broke a rule.
    #[inline]
    pub(super) fn finish(self) -> Result<(), Rejected> {
        if self.is_clean() {
            Ok(())
        } else {
            Err(self.rejected())
        }
    }

    #[cold]
    fn rejected(self) -> Rejected {
        let (code, message) = if self.invalid_timestamp {
            (
                ErrorCode::InvalidTimestamp,
                "One or more records have been rejected due to invalid timestamp".to_owned(),
            )
        } else {
            let quoted: Vec<String> = self
                .errors
                .iter()
                .take(QUOTED)
                .map(|(index, message)| {
                    format!(
                        "RecordError(batchIndex={index}, message='{}')",
                        message.as_deref().unwrap_or_default()
                    )
                })
                .collect();
            (
                ErrorCode::InvalidRecord,
                format!(
                    "One or more records have been rejected due to {} record errors in total, and \
                     only showing the first three errors at most: [{}]",
                    self.count,
                    quoted.join(", ")
                ),
            )
        };
        Rejected {
            code,
            detail: message.clone(),
            message: Some(message),
            record_errors: self.errors,
        }
    }
}
