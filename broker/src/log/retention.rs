//! Which segments are old enough to go. Contract §5.8.
//!
//! From the oldest segment on, as long as the high watermark is at or beyond the segment's end:
//! segments wholly below the log start offset; then, under `cleanup.policy` delete, those by which
//! the log exceeds `retention.bytes`, and those whose largest timestamp is older than
//! `retention.ms`. An empty last segment stays.

use std::sync::Arc;

use super::fs::FsResult;
use super::segment::Segment;
use super::{Error, Log, Writer};
use crate::types::Offset;

impl Log {
    /// Deletes what retention allows; returns the number of segments.
    pub fn delete_old_segments(&self) -> Result<usize, Error> {
        self.home.check_online()?;
        let config = self.config.load();
        let mut deleted = self.delete_while("log start offset breach", |log, _, next| {
            Ok(next.is_some_and(|next| next <= log.log_start_offset()))
        })?;
        if !config.cleanup_policy.delete {
            return Ok(deleted);
        }
        if let Ok(limit) = u64::try_from(config.retention_bytes)
            && let Some(mut excess) = self.size().checked_sub(limit)
        {
            let reason = format!("log retention size {limit} breach");
            deleted += self.delete_while(&reason, |_, segment, _| {
                match excess.checked_sub(segment.size()) {
                    Some(rest) => {
                        excess = rest;
                        Ok(true)
                    }
                    None => Ok(false),
                }
            })?;
        }
        if config.retention_ms >= 0 {
            let now = self.clock.now();
            let reason = format!("log retention time {}ms breach", config.retention_ms);
            deleted += self.delete_while(&reason, |_, segment, _| {
                Ok(now.saturating_sub(segment.largest_timestamp()?) > config.retention_ms)
            })?;
        }
        Ok(deleted)
    }

    /// Deletes segments from the oldest on while `pick` (log, segment, base of the next one) says
    /// so.
    fn delete_while(
        &self,
        reason: &str,
        mut pick: impl FnMut(&Self, &Segment, Option<Offset>) -> FsResult<bool>,
    ) -> Result<usize, Error> {
        let mut writer = self.writer()?;
        let segments = self.segments.load_full();
        let mut count = 0;
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.base_offset());
            let end = next.unwrap_or_else(|| self.log_end_offset());
            let empty_last = next.is_none() && segment.size() == 0;
            if self.high_watermark() < end || empty_last || !self.io(pick(self, segment, next))? {
                break;
            }
            count += 1;
        }
        if count > 0 {
            self.delete_first(&mut writer, &segments, count, reason)?;
        }
        Ok(count)
    }

    fn delete_first(
        &self,
        writer: &mut Writer,
        segments: &[Arc<Segment>],
        count: usize,
        reason: &str,
    ) -> Result<(), Error> {
        if count == segments.len() {
            self.roll(writer, &self.config.load(), 0)?;
        }
        let kept = self.segments.load()[count..].to_vec();
        let new_start = kept.first().map_or(0, |first| first.base_offset());
        self.raise_log_start(writer, new_start, "segment deletion")?;
        self.set_segments(writer, kept);
        self.remove_segments(writer, &segments[..count], reason)
    }
}
