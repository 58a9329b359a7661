//! Reading: by offset for Fetch, by timestamp for ListOffsets. No lock that an append holds.

use std::sync::Arc;

use super::fs::FsResult;
use super::segment::Segment;
use super::walk::BatchAt;
use super::{AbortedTransaction, Error, FileRegion, Log, ReadInfo, ReadRequest, TimestampOffset};
use crate::record::batch::BatchIter;
use crate::record::compress::Limits;
use crate::record::records::for_each_record;
use crate::types::{Millis, Offset};

/// `ListOffsets` v0: the log end offset.
const LATEST_TIMESTAMP: Millis = -1;
/// `ListOffsets` v0: the log start offset.
const EARLIEST_TIMESTAMP: Millis = -2;

impl Log {
    /// A stretch of whole batches from the one that holds `request.offset`, within one segment
    /// and below `request.upper_bound`; it may end with a partial batch at `max_bytes`.
    pub fn read(&self, request: ReadRequest) -> Result<ReadInfo, Error> {
        self.home.check_online()?;
        let segments = self.segments.load();
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        let first = Self::floor_segment(&segments, request.offset);
        let (Some(mut at), true) = (first, (log_start..=log_end).contains(&request.offset)) else {
            return Err(Error::OffsetOutOfRange {
                requested: request.offset,
                log_start,
                log_end,
            });
        };
        let mut info = ReadInfo {
            region: None,
            fetch_offset: request.offset,
            first_batch_incomplete: false,
            aborted: request.with_aborted.then(Vec::new),
        };
        if request.offset >= request.upper_bound {
            return Ok(info);
        }
        // A segment that compaction or DeleteRecords emptied from here on holds nothing: go on.
        while let Some(segment) = segments.get(at) {
            let next_base = segments.get(at + 1).map(|next| next.base_offset());
            let found =
                self.io_by_name(|| self.read_segment(segment, next_base, &request, &mut info))?;
            if found {
                if request.with_aborted {
                    info.aborted = Some(self.io_by_name(|| {
                        Self::aborted_in(&segments[at..], &request, &info, log_end)
                    })?);
                }
                return Ok(info);
            }
            at += 1;
        }
        Ok(info)
    }

    /// Fills `info` from one segment; false when nothing at or after the offset is in it.
    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        next_base: Option<Offset>,
        request: &ReadRequest,
        info: &mut ReadInfo,
    ) -> FsResult<bool> {
        if segment.base_offset() >= request.upper_bound {
            return Ok(false);
        }
        let size = segment.size();
        let end = match next_base {
            Some(next) if next <= request.upper_bound => size,
            _ => self.position_of(segment, request.upper_bound, size)?,
        };
        let known = self
            .marks
            .lock()
            .position(segment.base_offset(), request.offset);
        let (start, first_size) = match known {
            Some(start) if start >= end => return Ok(false),
            // The size of the first batch matters only when not everything fits.
            Some(start) if end - start <= request.max_bytes as u64 => (start, 0),
            _ => match segment.find_batch(request.offset, end)? {
                Some(batch) => (batch.position, batch.size),
                None => return Ok(false),
            },
        };
        let mut max = request.max_bytes as u64;
        if request.min_one_message {
            max = max.max(first_size);
        }
        info.first_batch_incomplete = max < first_size;
        let len = max.min(end - start);
        if len > 0 {
            info.region = Some(FileRegion {
                file: Arc::clone(segment.file()?),
                position: start,
                len: usize::try_from(len).unwrap_or(usize::MAX),
            });
        }
        Ok(true)
    }

    /// Byte position up to which offsets below `bound` reach in `segment`.
    fn position_of(&self, segment: &Segment, bound: Offset, size: u64) -> FsResult<u64> {
        if let Some(position) = self.marks.lock().position(segment.base_offset(), bound) {
            return Ok(position);
        }
        Ok(segment
            .find_batch(bound, size)?
            .map_or(size, |batch| batch.position))
    }

    /// Aborted transactions that overlap what was read; `segments` start with the one read.
    fn aborted_in(
        segments: &[Arc<Segment>],
        request: &ReadRequest,
        info: &ReadInfo,
        log_end: Offset,
    ) -> FsResult<Vec<AbortedTransaction>> {
        let Some(region) = &info.region else {
            return Ok(Vec::new());
        };
        let beyond = match segments.first() {
            Some(segment) => segment.offset_beyond(region.position + region.len as u64)?,
            None => None,
        };
        let upper = beyond
            .or_else(|| segments.get(1).map(|next| next.base_offset()))
            .unwrap_or(log_end);
        let mut found = Vec::new();
        for segment in segments {
            if segment.collect_aborted((request.offset, upper), &mut found)? {
                break;
            }
        }
        Ok(found
            .into_iter()
            .map(|txn| AbortedTransaction {
                producer_id: txn.producer_id,
                first_offset: txn.first_offset,
            })
            .collect())
    }

    /// The first record with a timestamp ≥ `timestamp`, at or after the log start offset.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Millis,
    ) -> Result<Option<TimestampOffset>, Error> {
        self.home.check_online()?;
        let segments = self.segments.load();
        let start = self.log_start_offset();
        self.io_by_name(|| {
            for segment in segments.iter() {
                if segment.largest_timestamp()? < timestamp {
                    continue;
                }
                let position = segment.position_for_timestamp(timestamp, start)?;
                // Only the first such segment is searched, as in Kafka.
                return Self::find_record(segment, position, |at, record_offset, _| {
                    at >= timestamp && record_offset >= start
                });
            }
            Ok(None)
        })
    }

    /// The record with the largest timestamp (ListOffsets −3).
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, Error> {
        self.home.check_online()?;
        let segments = self.segments.load();
        self.io_by_name(|| {
            let mut best: Option<(&Arc<Segment>, Millis, Offset)> = None;
            for segment in segments.iter() {
                let max = segment.max_timestamp()?;
                if best.is_none_or(|(_, timestamp, _)| max.timestamp > timestamp) {
                    best = Some((segment, max.timestamp, max.offset));
                }
            }
            let Some((segment, timestamp, last_offset)) = best else {
                return Ok(None);
            };
            if timestamp < 0 {
                return Ok(None);
            }
            let position = segment.position_for_offset(last_offset)?;
            Self::find_record(segment, position, |at, _, batch| {
                batch.max_timestamp == timestamp && at == timestamp
            })
        })
    }

    /// The first record, in the batches from `position` on, that `wanted` (timestamp, offset,
    /// batch) accepts.
    fn find_record(
        segment: &Segment,
        position: u64,
        wanted: impl Fn(Millis, Offset, &BatchAt) -> bool,
    ) -> FsResult<Option<TimestampOffset>> {
        segment.for_each_batch(position, |source, batch| {
            // A cheap look first: no record of the batch is later than this.
            if !wanted(batch.max_timestamp, batch.last_offset, batch) {
                return Ok(None);
            }
            let mut bytes = vec![0; usize::try_from(batch.size).unwrap_or(0)];
            source
                .fs
                .read_at(source.file, source.path, &mut bytes, batch.position)?;
            Ok(
                first_record(&bytes, |at, offset| wanted(at, offset, batch)).map(
                    |(timestamp, offset)| TimestampOffset {
                        timestamp,
                        offset,
                        leader_epoch: (batch.leader_epoch >= 0).then_some(batch.leader_epoch),
                    },
                ),
            )
        })
    }

    /// Base offsets of segments, newest first, for ListOffsets v0 (`legacyFetchOffsetsBefore`).
    pub fn legacy_offsets_before(&self, timestamp: Millis, max: usize) -> Vec<Offset> {
        let segments = self.segments.load();
        let log_start = self.log_start_offset();
        let mut times: Vec<(Offset, Millis)> = segments
            .iter()
            .map(|segment| {
                let modified = segment.modified().unwrap_or(0);
                (segment.base_offset().max(log_start), modified)
            })
            .collect();
        if segments.last().is_some_and(|last| last.size() > 0) {
            times.push((self.log_end_offset(), self.clock.now()));
        }
        let upto = match timestamp {
            LATEST_TIMESTAMP => times.len(),
            EARLIEST_TIMESTAMP => 1,
            _ => times
                .iter()
                .rposition(|&(_, modified)| modified <= timestamp)
                .map_or(0, |at| at + 1),
        };
        let mut offsets: Vec<Offset> = times[..upto]
            .iter()
            .rev()
            .take(max)
            .map(|&(offset, _)| offset)
            .collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        offsets
    }
}

/// Why a walk over records ended early.
enum Halt {
    Found(Millis, Offset),
    Damaged,
}

impl From<crate::record::Error> for Halt {
    fn from(_: crate::record::Error) -> Self {
        Self::Damaged
    }
}

/// Timestamp and offset of the first record that `wanted` accepts. Damage ends the search in this
/// batch: consumers will be told of it when they read it.
fn first_record(bytes: &[u8], wanted: impl Fn(Millis, Offset) -> bool) -> Option<(Millis, Offset)> {
    let frame = BatchIter::new(bytes).next()?.ok()?;
    let walked = for_each_record(&frame, &Limits::STORED, |record| {
        if wanted(record.timestamp, record.offset) {
            Err(Halt::Found(record.timestamp, record.offset))
        } else {
            Ok(())
        }
    });
    match walked {
        Err(Halt::Found(timestamp, offset)) => Some((timestamp, offset)),
        Err(Halt::Damaged) | Ok(()) => None,
    }
}
