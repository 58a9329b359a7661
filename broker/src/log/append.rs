//! Appending, rolling to a new segment, flushing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fs::FsResult;
use super::producer_state::{Check, Marker};
use super::segment::{SEGMENT_SUFFIXES, Segment};
use super::time_index::TimestampPosition;
use super::walk::SliceWalk;
use super::{AppendInfo, Error, Log, Mark, Writer};
use crate::config::topic::LogConfig;
use crate::error::ErrorCode;
use crate::record::batch::{Batch, BatchHeader, HEADER_LEN};
use crate::record::compress::Limits;
use crate::record::control::{ControlType, EndTxn, marker_coordinator_epoch};
use crate::record::records::Records;
use crate::record::validate::Prepared;
use crate::types::{LeaderEpoch, Millis, Offset};

/// Reads the end-of-transaction marker of a control batch; `None` for other control records and
/// for a batch that compaction emptied.
pub(super) fn parse_marker(batch: &[u8]) -> Option<Marker> {
    let batch = Batch::parse(batch).ok()?;
    let mut records = Records::new(&batch, &Limits::STORED).ok()?;
    let record = records.next().ok()??;
    match ControlType::parse(record.key).ok()? {
        ControlType::EndTxn(end) => Some(Marker {
            commit: end == EndTxn::Commit,
            coordinator_epoch: marker_coordinator_epoch(record.value).ok()?,
        }),
        ControlType::LeaderChange | ControlType::Unknown(_) => None,
    }
}

fn marker_of(header: &BatchHeader, bytes: &[u8]) -> Option<Marker> {
    if header.is_control() {
        parse_marker(bytes)
    } else {
        None
    }
}

/// What a roll decision looks at.
struct Incoming {
    bytes: u64,
    first_offset: Offset,
    last_offset: Offset,
    max_timestamp: Millis,
}

impl Log {
    /// Sequence checks, roll if needed, then one write. Offsets are given here.
    pub fn append_as_leader(
        &self,
        batch: &Prepared<'_>,
        leader_epoch: LeaderEpoch,
    ) -> Result<AppendInfo, Error> {
        self.home.check_online()?;
        self.flush_topic_id()?;
        let marker = marker_of(&batch.header, &batch.bytes);
        let (Some(head), Some(body)) = (
            batch.bytes.first_chunk::<HEADER_LEN>(),
            batch.bytes.get(HEADER_LEN..),
        ) else {
            return Err(Error::Refused {
                code: ErrorCode::CorruptMessage,
                message: format!(
                    "{}: a batch of {} bytes is shorter than its header",
                    self.topic_partition,
                    batch.bytes.len()
                ),
            });
        };

        let mut writer = self.writer()?;
        let config = Arc::clone(writer.config.load());
        let base_offset = self.log_end_offset();
        let mut header = batch.header;
        header.base_offset = base_offset;
        header.partition_leader_epoch = leader_epoch;
        let last_offset = header.last_offset();
        self.assign_epoch(leader_epoch, base_offset)?;
        self.check_size(batch.bytes.len(), &config)?;
        let segment = self.maybe_roll(
            &mut writer,
            &config,
            &Incoming {
                bytes: batch.bytes.len() as u64,
                first_offset: base_offset,
                last_offset,
                max_timestamp: header.max_timestamp,
            },
        )?;
        if header.producer_id >= 0
            && let Check::Duplicate(original) =
                writer
                    .producers
                    .check(&self.topic_partition, &header, marker, base_offset)?
        {
            return Ok(AppendInfo {
                base_offset: original.first_offset(),
                last_offset: original.last_offset,
                log_start_offset: self.log_start_offset(),
                log_append_time: original.timestamp,
                duplicate: true,
            });
        }

        // Neither field is covered by the CRC.
        let mut patched = *head;
        patched[..8].copy_from_slice(&base_offset.to_be_bytes());
        patched[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        let largest = TimestampPosition {
            timestamp: header.max_timestamp,
            offset: last_offset,
        };
        let position = self.io(segment.append(&[&patched, body], last_offset, largest))?;
        self.advance_end(
            &segment,
            position + batch.bytes.len() as u64,
            last_offset + 1,
        );
        if header.has_producer_id() {
            self.apply_to_producers(&mut writer, &segment, &header, marker)?;
        } else {
            writer.producers.set_map_end_offset(last_offset + 1);
        }
        drop(writer);
        self.flush_if_due(&config)?;
        Ok(AppendInfo {
            base_offset,
            last_offset,
            log_start_offset: self.log_start_offset(),
            log_append_time: batch.log_append_time,
            duplicate: false,
        })
    }

    /// Appends batches of the leader of `leader_epoch` unchanged: offsets and epochs are kept. A
    /// partial batch at the end is left out; a batch that breaks the order or its CRC refuses all.
    ///
    /// A batch of a later epoch, and what follows it, is left out, and refused with
    /// UNKNOWN_LEADER_EPOCH when it is the first: it was read from a log that has been cut meanwhile,
    /// so nothing says that it continues ours.
    pub fn append_as_follower(
        &self,
        records: &[u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<AppendInfo, Error> {
        self.home.check_online()?;
        self.flush_topic_id()?;
        let config = self.config.load();
        let mut batches = Vec::new();
        let mut previous = i64::MIN;
        let mut largest = TimestampPosition {
            timestamp: -1,
            offset: -1,
        };
        let corrupt = |message: String| Error::Refused {
            code: ErrorCode::CorruptMessage,
            message,
        };
        for batch in SliceWalk::new(records) {
            let (batch, bytes) =
                batch.map_err(|problem| corrupt(format!("{}: {problem}", self.topic_partition)))?;
            if !SliceWalk::crc_is_right(&batch, bytes) {
                return Err(corrupt(format!(
                    "Record is corrupt in topic partition {} at offset {}.",
                    self.topic_partition, batch.base_offset
                )));
            }
            // Of a peer anything may come; the end below must not overflow.
            if batch.base_offset < 0
                || batch.last_offset < batch.base_offset
                || batch.last_offset == Offset::MAX
            {
                return Err(corrupt(format!(
                    "{}: a batch of offsets {} to {}",
                    self.topic_partition, batch.base_offset, batch.last_offset
                )));
            }
            if batch.base_offset <= previous {
                return Err(Error::Refused {
                    code: ErrorCode::UnknownServerError,
                    message: format!(
                        "Out of order offsets found in append to {}: {} after {previous}",
                        self.topic_partition, batch.base_offset
                    ),
                });
            }
            if batch.leader_epoch > leader_epoch {
                if batches.is_empty() {
                    return Err(Error::Refused {
                        code: ErrorCode::UnknownLeaderEpoch,
                        message: format!(
                            "{}: a batch of leader epoch {} at offset {}, from the leader of epoch {leader_epoch}",
                            self.topic_partition, batch.leader_epoch, batch.base_offset
                        ),
                    });
                }
                break;
            }
            previous = batch.last_offset;
            if batch.max_timestamp > largest.timestamp {
                largest = TimestampPosition {
                    timestamp: batch.max_timestamp,
                    offset: batch.last_offset,
                };
            }
            batches.push(batch);
        }
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
            return Ok(AppendInfo {
                base_offset: -1,
                last_offset: -1,
                log_start_offset: self.log_start_offset(),
                log_append_time: -1,
                duplicate: false,
            });
        };
        let (first_offset, last_offset) = (first.base_offset, last.last_offset);
        let first_batch_end = first.last_offset;
        let valid = &records[..last.end() as usize];

        let mut writer = self.writer()?;
        let next_offset = self.log_end_offset();
        if first_offset < next_offset {
            return Err(Error::UnexpectedOffset {
                partition: self.topic_partition.clone(),
                first_offset,
                last_offset,
                next_offset,
            });
        }
        for batch in &batches {
            if batch.magic >= 2 {
                self.assign_epoch(batch.leader_epoch, batch.base_offset)?;
            } else if self.latest_epoch().is_some() {
                tracing::warn!(
                    target: "kafka.log.UnifiedLog",
                    "[UnifiedLog partition={}] Clearing leader epoch cache after unexpected append with message format v{}",
                    self.topic_partition,
                    batch.magic
                );
                let mut epochs = self.epochs.write();
                epochs.clear();
                self.io(self.write_epochs(&epochs))?;
            }
        }
        self.check_size(valid.len(), &config)?;
        let segment = self.maybe_roll(
            &mut writer,
            &config,
            &Incoming {
                bytes: valid.len() as u64,
                // The true first offset of a v0/v1 wrapper is unknown; it is not less than this.
                first_offset: if first.magic >= 2 {
                    first_offset
                } else {
                    last_offset - i64::from(i32::MAX)
                },
                last_offset,
                max_timestamp: largest.timestamp,
            },
        )?;
        let position = self.io(segment.append(&[valid], first_batch_end, largest))?;
        self.advance_end(&segment, position + valid.len() as u64, last_offset + 1);
        for batch in &batches {
            if let Some(header) = &batch.header {
                let bytes = &valid[batch.position as usize..batch.end() as usize];
                self.apply_to_producers(&mut writer, &segment, header, marker_of(header, bytes))?;
            }
        }
        writer.producers.set_map_end_offset(last_offset + 1);
        drop(writer);
        self.flush_if_due(&config)?;
        Ok(AppendInfo {
            base_offset: first_offset,
            last_offset,
            log_start_offset: self.log_start_offset(),
            log_append_time: -1,
            duplicate: false,
        })
    }

    fn check_size(&self, bytes: usize, config: &LogConfig) -> Result<(), Error> {
        if bytes as u64 > u64::try_from(config.segment_bytes).unwrap_or(0) {
            return Err(Error::Refused {
                code: ErrorCode::RecordListTooLarge,
                message: format!(
                    "Message batch size is {bytes} bytes in append to partition {}, which exceeds the maximum configured segment size of {}.",
                    self.topic_partition, config.segment_bytes
                ),
            });
        }
        Ok(())
    }

    /// Shows an append to readers (keeps 4).
    fn advance_end(&self, segment: &Segment, position: u64, end: Offset) {
        self.marks.lock().push(Mark {
            offset: end,
            segment_base: segment.base_offset(),
            position,
        });
        self.log_end_offset.store(end, Ordering::Release);
    }

    /// Takes an appended batch into the producer state, and an aborted transaction into the
    /// index of its segment.
    fn apply_to_producers(
        &self,
        writer: &mut Writer,
        segment: &Segment,
        header: &BatchHeader,
        marker: Option<Marker>,
    ) -> Result<(), Error> {
        if let Some(completed) = writer.producers.apply(header, marker) {
            if let Some(aborted) = writer.producers.aborted(&completed) {
                self.io(segment.append_aborted(aborted))?;
            }
            writer.producers.complete(&completed);
            writer.producers.on_high_watermark(self.high_watermark());
        }
        if header.is_transactional() {
            self.update_first_unstable(writer);
        }
        Ok(())
    }

    fn maybe_roll(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        incoming: &Incoming,
    ) -> Result<Arc<Segment>, Error> {
        let roll = self.io(writer.active.should_roll(
            config,
            incoming.bytes,
            incoming.max_timestamp,
            incoming.last_offset,
            &*self.clock,
        ))?;
        if roll {
            self.roll(writer, config, incoming.first_offset)
        } else {
            Ok(Arc::clone(&writer.active))
        }
    }

    /// Begins a new active segment at max(`expected_next`, LEO). The old one is trimmed, a producer
    /// snapshot taken, and everything below flushed by the dir's thread.
    pub(super) fn roll(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        expected_next: Offset,
    ) -> Result<Arc<Segment>, Error> {
        let now = self.clock.now();
        let base_offset = expected_next.max(self.log_end_offset());
        let active = Arc::clone(&writer.active);
        if active.base_offset() == base_offset {
            // Empty and at the right place (a batch that fits no limit): use it.
            return Ok(active);
        }
        let mut rolled = || -> FsResult<(Segment, Option<PathBuf>)> {
            for suffix in SEGMENT_SUFFIXES {
                let path = self.place.file(base_offset, suffix);
                if self.home.fs.remove(&path)? {
                    tracing::warn!(
                        target: "kafka.log.LocalLog",
                        "[LocalLog partition={}, dir={}] Newly rolled segment file {} already exists; deleting it first",
                        self.topic_partition,
                        self.log_dir().display(),
                        path.display()
                    );
                }
            }
            active.become_inactive()?;
            let segment = Segment::create(&self.place, base_offset, config, now)?;
            // The base offset may be ahead of the LEO; the snapshot is to align with the segment.
            writer.producers.set_map_end_offset(base_offset);
            let snapshot = writer.snapshots.take(
                &self.home.fs,
                &self.place.dir.load(),
                &writer.producers,
                false,
            )?;
            Ok((segment, snapshot))
        };
        let (segment, snapshot) = self.io(rolled())?;
        let segment = Arc::new(segment);
        let mut segments = self.segments.load_full().as_ref().clone();
        segments.push(Arc::clone(&segment));
        self.set_segments(writer, segments);
        self.marks.lock().push(Mark {
            offset: base_offset,
            segment_base: base_offset,
            position: 0,
        });
        tracing::info!(
            target: "kafka.log.LocalLog",
            "[LocalLog partition={}, dir={}] Rolled new log segment at offset {base_offset} in {} ms.",
            self.topic_partition,
            self.log_dir().display(),
            self.clock.now() - now
        );
        self.later(0, move |log| {
            if let Some(snapshot) = snapshot {
                log.io(log.home.fs.sync_path_if_exists(&snapshot))?;
            }
            log.flush_below(base_offset)
        });
        Ok(segment)
    }

    /// fsync everything below the LEO and move the recovery point there.
    pub fn flush(&self) -> Result<(), Error> {
        self.flush_below(self.log_end_offset())
    }

    fn flush_if_due(&self, config: &LogConfig) -> Result<(), Error> {
        if self.log_end_offset() - self.recovery_point() >= config.flush_messages {
            self.flush()?;
        }
        Ok(())
    }

    /// Flushes when the last flush is `flush.ms` ago.
    pub(super) fn flush_if_old(&self) -> Result<(), Error> {
        if self.clock.now() - self.last_flush.load(Ordering::Relaxed) >= self.config.load().flush_ms
        {
            self.flush()?;
        }
        Ok(())
    }

    fn flush_below(&self, offset: Offset) -> Result<(), Error> {
        self.home.check_online()?;
        let from = self.recovery_point();
        if offset <= from {
            return Ok(());
        }
        let segments = self.segments.load();
        let first = Self::floor_segment(&segments, from).unwrap_or(0);
        let mut new_names = false;
        // No lock: appends go on meanwhile.
        for segment in segments[first..]
            .iter()
            .take_while(|segment| segment.base_offset() < offset)
        {
            self.io(segment.flush())?;
            new_names |= segment.base_offset() >= from;
        }
        if new_names {
            self.io(self.home.fs.sync_dir(&self.place.dir.load()))?;
        }
        // Under the lock, for a truncation may have come between.
        let _writer = self.writer.lock();
        let reached = offset.min(self.log_end_offset());
        self.recovery_point.fetch_max(reached, Ordering::AcqRel);
        self.last_flush.store(self.clock.now(), Ordering::Relaxed);
        Ok(())
    }
}
