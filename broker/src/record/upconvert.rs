//! Up-conversion: a message set of magic 0 or 1 (Produce v0–2) becomes one v2 batch
//! (`LogValidator.convertAndAssignOffsetsNonCompressed`, `buildRecordsAndAssignOffsets`).

use super::batch::{BatchHeader, BatchIter};
use super::build::BatchOptions;
use super::compress::{Codec, Limits};
use super::legacy::for_each_message;
use super::records::{Headers, RecordView};
use super::rules::RecordRules;
use super::validate::{Analyzed, Preparation, Rejected};
use crate::error::ErrorCode;

/// Checks and converts `records`: whole frames, analyzed, CRCs right. Offsets become 0..n−1
/// whatever they were: old clients do not get the inner ones right.
pub(super) fn up_convert(
    preparation: &Preparation<'_>,
    records: &[u8],
    set: &Analyzed<'_>,
    target: Codec,
    level: i32,
) -> Result<(Vec<u8>, BatchHeader), Rejected> {
    let topic_partition = preparation.topic_partition;
    let options = BatchOptions {
        codec: target,
        ..BatchOptions::default()
    };
    let mut builder = preparation.builder(&options, level)?;
    for frame in BatchIter::new(records) {
        let frame = frame?;
        let magic = frame.prefix.magic;
        if magic != set.magic {
            return Err(Rejected::invalid(format!(
                "Batch magic {magic} is not the same as the first batch's magic byte {} in topic \
                 partition {topic_partition}",
                set.magic
            )));
        }
        let outer = frame.message()?;
        let wrapped = outer.codec()? != Codec::None;
        let mut rules = RecordRules::new(preparation, outer.timestamp_type());
        let mut index = 0;
        for_each_message(&frame, &Limits::CLIENT, |message| {
            if message.magic != magic {
                rules.invalid(
                    index,
                    format!(
                        "Record of magic {} does not match outer magic {magic} in topic partition \
                         {topic_partition}",
                        message.magic
                    ),
                );
            } else {
                // The CRC of the outer message was checked; inner ones have their own.
                if wrapped {
                    message.ensure_valid().map_err(|error| {
                        Rejected::new(
                            ErrorCode::CorruptMessage,
                            format!("{error} in topic partition {topic_partition}"),
                        )
                    })?;
                }
                let record = RecordView {
                    offset: message.offset,
                    timestamp: message.timestamp,
                    key: message.key,
                    value: message.value,
                    headers: Headers::default(),
                    size: message.size(),
                };
                rules.check(index, &record, false);
            }
            index += 1;
            if rules.is_clean() {
                builder.append_view(
                    message.timestamp,
                    message.key,
                    message.value,
                    &Headers::default(),
                )?;
                preparation.check_converted_size(builder.written())?;
            }
            Ok::<(), Rejected>(())
        })?;
        rules.finish()?;
    }
    preparation.finish(builder)
}
