//! Kafka's checkpoint text files (`CheckpointFile`): line 1 the version `0`, line 2 the number of
//! entries, then one entry per line. Replaced whole (temp file, fsync, rename, fsync of the dir).
//!
//! Of one log dir: `recovery-point-offset-checkpoint`, `log-start-offset-checkpoint`,
//! `replication-offset-checkpoint` (`<topic> <partition> <offset>`). Of one partition:
//! `leader-epoch-checkpoint` (`<epoch> <start offset>`).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use super::fs::{Fs, FsResult};
use crate::types::{LeaderEpoch, Offset, TopicPartition};

/// First unflushed offset of each log of a dir.
pub(super) const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// Log start offset of the logs whose start lies behind their first segment's base offset.
pub(super) const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
/// High watermark of each log of a dir.
pub(super) const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
/// The epoch cache of one partition.
pub(super) const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// Why a checkpoint file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("unrecognised version {0:?}, expected 0")]
    Version(String),
    #[error("malformed line {0:?}")]
    Line(String),
    #[error("expected {expected} entries but found {found}")]
    Count { expected: usize, found: usize },
    #[error("not UTF-8")]
    Encoding,
}

/// Entries of a checkpoint's text. A file cut before its second line is empty, as in Kafka.
fn parse<T>(bytes: &[u8], entry: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::Encoding)?;
    let mut lines = text.lines();
    let Some(version) = lines.next() else {
        return Ok(Vec::new());
    };
    if version != "0" {
        return Err(Malformed::Version(version.to_owned()));
    }
    let Some(count) = lines.next() else {
        return Ok(Vec::new());
    };
    let expected: usize = count
        .parse()
        .map_err(|_| Malformed::Line(count.to_owned()))?;
    let mut entries = Vec::new();
    for line in lines {
        entries.push(entry(line).ok_or_else(|| Malformed::Line(line.to_owned()))?);
    }
    if entries.len() == expected {
        Ok(entries)
    } else {
        Err(Malformed::Count {
            expected,
            found: entries.len(),
        })
    }
}

fn parse_offset(line: &str) -> Option<(TopicPartition, Offset)> {
    let mut words = line.split_ascii_whitespace();
    let topic = words.next()?;
    let partition = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    words
        .next()
        .is_none()
        .then(|| (TopicPartition::new(topic, partition), offset))
}

fn parse_epoch(line: &str) -> Option<(LeaderEpoch, Offset)> {
    let mut words = line.split_ascii_whitespace();
    let epoch = words.next()?.parse().ok()?;
    let offset = words.next()?.parse().ok()?;
    words.next().is_none().then_some((epoch, offset))
}

/// Reads an offset checkpoint of a log dir. Absent is empty; the inner error says what is wrong
/// with the text, and the caller decides what that means for its file.
pub(super) fn read_offsets(
    fs: &Fs,
    path: &Path,
) -> FsResult<Result<HashMap<TopicPartition, Offset>, Malformed>> {
    let bytes = fs.read(path)?.unwrap_or_default();
    Ok(parse(&bytes, parse_offset).map(|entries| entries.into_iter().collect()))
}

/// Writes an offset checkpoint of a log dir.
pub(super) fn write_offsets(
    fs: &Fs,
    path: &Path,
    entries: &[(TopicPartition, Offset)],
) -> FsResult<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (partition, offset) in entries {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {offset}", partition.topic, partition.partition);
    }
    fs.replace(path, text.as_bytes())
}

/// Reads `leader-epoch-checkpoint`, see [`read_offsets`].
pub(super) fn read_epochs(
    fs: &Fs,
    path: &Path,
) -> FsResult<Result<Vec<(LeaderEpoch, Offset)>, Malformed>> {
    let bytes = fs.read(path)?.unwrap_or_default();
    Ok(parse(&bytes, parse_epoch))
}

/// Writes `leader-epoch-checkpoint`.
pub(super) fn write_epochs(
    fs: &Fs,
    path: &Path,
    entries: &[(LeaderEpoch, Offset)],
) -> FsResult<()> {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, offset) in entries {
        let _ = writeln!(text, "{epoch} {offset}");
    }
    fs.replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kafkas() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECOVERY_POINT_FILE);
        let entries = [
            (TopicPartition::new("a", 0), 5),
            (TopicPartition::new("b.c_d-e", 12), i64::MAX),
        ];
        write_offsets(&Fs::default(), &path, &entries).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "0\n2\na 0 5\nb.c_d-e 12 9223372036854775807\n"
        );
        let read = read_offsets(&Fs::default(), &path).unwrap().unwrap();
        assert_eq!(read, entries.into_iter().collect());
    }

    #[test]
    fn damage_is_told_from_absence() {
        let check = |text: &str| parse(text.as_bytes(), parse_offset).map(|e| e.len());
        assert_eq!(check(""), Ok(0));
        assert_eq!(check("0\n"), Ok(0));
        assert_eq!(check("0\n1\na 0 5\n"), Ok(1));
        assert_eq!(check("0\n1\na 0 5"), Ok(1));
        assert_eq!(check("1\n0\n"), Err(Malformed::Version("1".into())));
        assert_eq!(
            check("0\n2\na 0 5\n"),
            Err(Malformed::Count {
                expected: 2,
                found: 1
            })
        );
        assert_eq!(check("0\n1\na 0\n"), Err(Malformed::Line("a 0".into())));
        assert_eq!(check("0\nx\n"), Err(Malformed::Line("x".into())));
        assert_eq!(parse(&[0xff, 0xfe], parse_offset), Err(Malformed::Encoding));
        assert!(parse(&[0; 64], parse_offset).is_err());
    }
}
