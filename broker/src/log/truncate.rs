//! Cutting the log: at its end (a follower that diverged), at its start (DeleteRecords), as a
//! whole, and the folder itself (topic deletion).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dir::delete_name;
use super::fs::FsResult;
use super::recovery;
use super::segment::Segment;
use super::{Error, Log, Writer};
use crate::error::ErrorCode;
use crate::types::Offset;

impl Log {
    fn ident(&self) -> String {
        format!(
            "[UnifiedLog partition={}, dir={}]",
            self.topic_partition,
            self.log_dir().display()
        )
    }

    /// Removes everything at or beyond `offset`, at the next batch boundary below it.
    pub fn truncate_to(&self, offset: Offset) -> Result<(), Error> {
        self.home.check_online()?;
        let mut writer = self.writer()?;
        let end = self.log_end_offset();
        if offset >= end {
            tracing::info!(
                target: "kafka.log.UnifiedLog",
                "{} Truncating to {offset} has no effect as the largest offset in the log is {}",
                self.ident(),
                end - 1
            );
            // An epoch that began here but wrote nothing may contradict the new leader's.
            if self.epochs.write().truncate_from_end(end) {
                self.write_epochs_later();
            }
            return Ok(());
        }
        tracing::info!(
            target: "kafka.log.UnifiedLog",
            "{} Truncating to offset {offset}",
            self.ident()
        );
        let segments = self.segments.load_full();
        if segments
            .first()
            .is_some_and(|first| first.base_offset() > offset)
        {
            return self.truncate_fully(&mut writer, offset);
        }
        let keep = segments.partition_point(|segment| segment.base_offset() <= offset);
        let (kept, removed) = segments.split_at(keep);
        // Readers first: the bounds (keeps 1), then the segments, then the bytes.
        self.log_start_offset.fetch_min(offset, Ordering::AcqRel);
        self.high_watermark.fetch_min(offset, Ordering::AcqRel);
        self.log_end_offset.store(offset, Ordering::Release);
        self.set_segments(&mut writer, kept.to_vec());
        self.remove_segments(&mut writer, removed, "log truncation")?;
        self.io(writer.active.truncate_to(offset, self.clock.now()))?;
        // Inside a batch: the whole batch is gone, and the next append continues at `offset`.
        self.reset_marks(&writer);
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        if self.epochs.write().truncate_from_end(offset) {
            self.write_epochs_later();
        }
        self.io(self.rebuild_producers(&mut writer, offset))?;
        writer.producers.on_high_watermark(self.high_watermark());
        self.update_first_unstable(&writer);
        Ok(())
    }

    /// Removes everything; the log starts and ends at `offset`.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<(), Error> {
        self.home.check_online()?;
        let mut writer = self.writer()?;
        self.truncate_fully(&mut writer, offset)
    }

    fn truncate_fully(&self, writer: &mut Writer, offset: Offset) -> Result<(), Error> {
        tracing::debug!(
            target: "kafka.log.UnifiedLog",
            "{} Truncate and start at offset {offset}",
            self.ident()
        );
        let removed = self.segments.load_full();
        self.remove_segments(writer, &removed, "log truncation")?;
        let config = self.config.load();
        let segment = self.io(Segment::create(
            &self.place,
            offset,
            &config,
            self.clock.now(),
        ))?;
        self.set_segments(writer, vec![Arc::new(segment)]);
        self.log_end_offset.store(offset, Ordering::Release);
        self.log_start_offset.store(offset, Ordering::Release);
        self.high_watermark.store(offset, Ordering::Release);
        self.recovery_point.fetch_min(offset, Ordering::AcqRel);
        self.reset_marks(writer);
        {
            let mut epochs = self.epochs.write();
            epochs.clear();
            self.io(self.write_epochs(&epochs))?;
        }
        let dir = self.place.dir.load();
        self.io(writer.snapshots.remove_all(&self.home.fs, &dir))?;
        writer.producers.clear(offset);
        self.io(writer
            .snapshots
            .take(&self.home.fs, &dir, &writer.producers, true))?;
        self.update_first_unstable(writer);
        Ok(())
    }

    fn rebuild_producers(&self, writer: &mut Writer, end: Offset) -> FsResult<()> {
        recovery::rebuild_producers(
            &recovery::ProducerRebuild {
                place: &self.place,
                partition: &self.topic_partition,
                segments: &self.segments.load(),
                log_start: self.log_start_offset(),
                log_end: end,
                now: self.clock.now(),
                expiration: self.producer_id_expiration_ms,
                clean: false,
            },
            &mut writer.producers,
            &mut writer.snapshots,
        )
    }

    /// Renames the files of segments that readers cannot find any more, and their producer
    /// snapshots, to `.deleted`; they go after `file.delete.delay.ms`.
    pub(super) fn remove_segments(
        &self,
        writer: &mut Writer,
        segments: &[Arc<Segment>],
        reason: &str,
    ) -> Result<(), Error> {
        if segments.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = segments.iter().map(ToString::to_string).collect();
        tracing::info!(
            target: "kafka.log.UnifiedLog",
            "{} Deleting segments due to {reason}: {}",
            self.ident(),
            names.join(",")
        );
        let dir = self.place.dir.load();
        let mut files: Vec<PathBuf> = Vec::new();
        for segment in segments {
            files.extend(self.io(segment.mark_deleted())?);
            let snapshot =
                writer
                    .snapshots
                    .mark_deleted(&self.home.fs, &dir, segment.base_offset());
            files.extend(self.io(snapshot)?);
        }
        self.later(self.config.load().file_delete_delay_ms, move |log| {
            // Its folder may have another name by now.
            let dir = log.path();
            for name in files.iter().filter_map(|file| file.file_name()) {
                log.io(log.home.fs.remove(&dir.join(name)))?;
            }
            tracing::debug!(
                target: "kafka.log.LocalLog",
                "[LocalLog partition={}, dir={}] Deleted segment files {files:?}",
                log.topic_partition,
                log.log_dir().display()
            );
            Ok(())
        });
        Ok(())
    }

    /// DeleteRecords: raises the log start offset (never beyond the high watermark). Lower or
    /// equal offsets change nothing.
    pub fn advance_log_start_offset(&self, offset: Offset) -> Result<(), Error> {
        self.home.check_online()?;
        let mut writer = self.writer()?;
        self.raise_log_start(&mut writer, offset, "client delete records request")
    }

    /// A follower takes the log start offset of its leader, as far as its high watermark allows.
    pub fn follow_log_start_offset(&self, offset: Offset) -> Result<(), Error> {
        if offset <= self.log_start_offset() || offset > self.high_watermark() {
            return Ok(());
        }
        self.home.check_online()?;
        let mut writer = self.writer()?;
        self.raise_log_start(&mut writer, offset, "leader offset increment")
    }

    pub(super) fn raise_log_start(
        &self,
        writer: &mut Writer,
        offset: Offset,
        reason: &str,
    ) -> Result<(), Error> {
        let high_watermark = self.high_watermark();
        if offset > high_watermark {
            return Err(Error::Refused {
                code: ErrorCode::OffsetOutOfRange,
                message: format!(
                    "Cannot increment the log start offset to {offset} of partition {} since it is larger than the high watermark {high_watermark}",
                    self.topic_partition
                ),
            });
        }
        if offset <= self.log_start_offset() {
            return Ok(());
        }
        self.log_start_offset.store(offset, Ordering::Release);
        self.recovery_point.fetch_max(offset, Ordering::AcqRel);
        tracing::info!(
            target: "kafka.log.UnifiedLog",
            "{} Incremented log start offset to {offset} due to {reason}",
            self.ident()
        );
        if self.epochs.write().truncate_from_start(offset) {
            self.write_epochs_later();
        }
        writer.producers.on_log_start(offset);
        writer.snapshots.on_log_start(offset);
        self.update_first_unstable(writer);
        Ok(())
    }

    /// Renames the folder to `-delete`; no use of the log afterwards. Returns the new path.
    pub(super) fn rename_for_deletion(&self) -> Result<PathBuf, Error> {
        self.rename(&delete_name(&self.topic_partition), true)
    }

    /// Renames the folder within its dir; a log that `closes` takes no more appends. Returns the new
    /// path.
    pub(super) fn rename(&self, name: &str, closes: bool) -> Result<PathBuf, Error> {
        self.home.check_online()?;
        // Whoever writes one of the files by its name.
        let _topic_id = self.topic_id.lock();
        let mut writer = self.writer.lock();
        let _epochs = self.epochs.write();
        let from = self.path();
        let to = self.home.path().join(name);
        // Segments that readers still hold need their descriptors before the names change.
        for segment in self.segments.load().iter() {
            let _ = segment.file();
        }
        self.io(self.home.fs.rename(&from, &to))?;
        self.io(self.home.fs.sync_dir(self.home.path()))?;
        self.place.dir.store(Arc::new(to.clone()));
        writer.closed |= closes;
        Ok(to)
    }

    /// Deletes the files of a log renamed before.
    pub(super) fn delete_files(&self) -> Result<(), Error> {
        self.home.check_online()?;
        self.io(self.home.fs.remove_dir(&self.path()))
    }
}
