//! `kafka-dump-log`: the contents of a segment and of the files beside it, in the words of Kafka's
//! `DumpLogSegments`: `.log`, `.index`, `.timeindex`, `.txnindex`, producer `.snapshot`.
//!
//! Data goes to standard output, findings (mismatches, gaps) to standard error after all files.
//! Keys and values are printed as UTF-8 text unless a decoder is named (`decoder.rs`).

mod decoder;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;

use self::decoder::{Decoder, group_record};
use super::options::parse;
use crate::config::topic::TimestampType;
use crate::record::batch::{BatchHeader, Frame, PREFIX_LEN, increment_sequence, parse_prefix};
use crate::record::compress::Limits;
use crate::record::control::{ControlType, EndTxn, marker_coordinator_epoch};
use crate::record::legacy::for_each_message;
use crate::record::records::{Headers, RecordView, for_each_record};
use crate::record::varint::Cursor;

const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;
const TXN_ENTRY: usize = 34;
const SNAPSHOT_ENTRY: usize = 46;

/// Shows what is in the files of a partition, and whether they agree: segments, indexes, producer
/// snapshots.
#[derive(Debug, Parser)]
#[command(
    name = "kafka-dump-log",
    disable_version_flag = true,
    override_usage = "kafka-dump-log --files FILE[,FILE…] [OPTION]…",
    after_help = "\
Examples:
  --files t-0/00000000000000000000.log                    the batches of a segment
  --files t-0/00000000000000000000.log --print-data-log   its records, with keys and values
  --files t-0/00000000000000000000.index --index-sanity-check
  --files __consumer_offsets-7/00000000000000000000.log --offsets-decoder"
)]
struct Options {
    /// The files, with commas
    #[arg(long, value_delimiter = ',', value_name = "FILES", required = true)]
    files: Vec<PathBuf>,
    /// Print keys and values of records
    #[arg(long)]
    print_data_log: bool,
    /// Print keys and values as group data of __consumer_offsets
    #[arg(long)]
    offsets_decoder: bool,
    /// Print keys as StringDecoder, IntegerDecoder or LongDecoder of Kafka reads them
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "")]
    key_decoder_class: Option<String>,
    /// Print values so
    #[arg(long, value_name = "CLASS", num_args = 0..=1, default_missing_value = "")]
    value_decoder_class: Option<String>,
    /// Print a line for each record, not for each batch only
    #[arg(long)]
    deep_iteration: bool,
    /// Compare an index with its segment without printing it
    #[arg(long)]
    verify_index_only: bool,
    /// Check of an index only what a broker checks at start
    #[arg(long)]
    index_sanity_check: bool,
    /// Size of the largest batch, when an index is compared with its segment
    #[arg(long, default_value_t = 5 * 1024 * 1024, value_name = "BYTES")]
    max_message_size: i32,
    /// How much of a segment to read
    #[arg(long, default_value_t = i32::MAX, value_name = "BYTES")]
    max_bytes: i32,
    /// Of each record only key and value
    #[arg(long)]
    skip_record_metadata: bool,
}

impl Options {
    /// Any decoder asks for contents too.
    fn shows_contents(&self) -> bool {
        self.print_data_log
            || self.offsets_decoder
            || self.key_decoder_class.is_some()
            || self.value_decoder_class.is_some()
    }
}

/// Runs the tool on the arguments after its name.
pub(super) fn run(args: &[String]) -> ExitCode {
    let options: Options = match parse(args) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let stdout = io::stdout();
    let stderr = io::stderr();
    let mut out = io::BufWriter::new(stdout.lock());
    match run_with(&options, &mut out, &mut stderr.lock()) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run_with(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let mut findings = Findings::default();
    let result = options
        .files
        .iter()
        .try_for_each(|file| dump(file, options, out, err, &mut findings))
        .and_then(|()| Ok(out.flush()?))
        .and_then(|()| findings.print(err));
    match result {
        Ok(()) => 0,
        Err(error) => {
            let _ = out.flush();
            let _ = writeln!(err, "{error:#}");
            1
        }
    }
}

/// Pairs of numbers per file, and the lines they become.
#[derive(Debug, Default)]
struct Findings {
    /// Index offset, log offset; newest first, as Kafka prints them.
    offset_mismatches: Vec<(PathBuf, Vec<(i64, i64)>)>,
    time_mismatches: Vec<(PathBuf, Vec<(i64, i64)>)>,
    times_out_of_order: Vec<(PathBuf, Vec<(i64, i64)>)>,
    offsets_not_found: Vec<(i64, i64)>,
    gaps: Vec<(PathBuf, Vec<(i64, i64)>)>,
}

fn note(list: &mut Vec<(PathBuf, Vec<(i64, i64)>)>, file: &Path, pair: (i64, i64)) {
    match list.iter_mut().find(|(name, _)| name == file) {
        Some((_, pairs)) => pairs.push(pair),
        None => list.push((file.to_path_buf(), vec![pair])),
    }
}

impl Findings {
    fn print(&self, err: &mut dyn Write) -> anyhow::Result<()> {
        for (file, pairs) in &self.offset_mismatches {
            writeln!(err, "Mismatches in :{}", absolute(file).display())?;
            for (index, log) in pairs.iter().rev() {
                writeln!(err, "  Index offset: {index}, log offset: {log}")?;
            }
        }
        for (file, pairs) in &self.time_mismatches {
            writeln!(
                err,
                "Found timestamp mismatch in :{}",
                absolute(file).display()
            )?;
            for (index, log) in pairs {
                writeln!(err, "  Index timestamp: {index}, log timestamp: {log}")?;
            }
        }
        for (file, pairs) in &self.times_out_of_order {
            writeln!(
                err,
                "Found out of order timestamp in :{}",
                absolute(file).display()
            )?;
            for (index, previous) in pairs {
                writeln!(
                    err,
                    "  Index timestamp: {index}, Previously indexed timestamp: {previous}"
                )?;
            }
        }
        if !self.offsets_not_found.is_empty() {
            writeln!(
                err,
                "The following indexed offsets are not found in the log."
            )?;
            for (indexed, found) in &self.offsets_not_found {
                writeln!(err, "Indexed offset: {indexed}, found log offset: {found}")?;
            }
        }
        for (file, pairs) in &self.gaps {
            writeln!(
                err,
                "Non-consecutive offsets in {}",
                absolute(file).display()
            )?;
            for (first, second) in pairs.iter().rev() {
                writeln!(err, "  {first} is followed by {second}")?;
            }
        }
        Ok(())
    }
}

fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf())
}

fn dump(
    file: &Path,
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    writeln!(out, "Dumping {}", file.display())?;
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("log") => dump_log(file, options, out, findings),
        Some("index") => dump_index(file, options, out, findings),
        Some("timeindex") => dump_time_index(file, options, out, findings),
        Some("txnindex") => dump_txn_index(file, out),
        Some("snapshot") => dump_snapshot(file, out, err),
        _ => Ok(writeln!(err, "Ignoring unknown file {}", file.display())?),
    }
}

fn base_offset(file: &Path) -> anyhow::Result<i64> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let digits = name.split('.').next().unwrap_or_default();
    digits
        .parse()
        .with_context(|| format!("{}: the name must begin with an offset", file.display()))
}

fn read_file(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// Reads batches of a segment one by one, so that a large file needs the memory of a batch.
struct Segment {
    reader: BufReader<File>,
    position: u64,
    end: u64,
    batch: Vec<u8>,
}

impl Segment {
    fn open(file: &Path, from: u64, max_bytes: u64) -> anyhow::Result<Self> {
        let mut opened = File::open(file).with_context(|| file.display().to_string())?;
        let length = opened.metadata()?.len();
        opened.seek(SeekFrom::Start(from))?;
        Ok(Self {
            reader: BufReader::new(opened),
            position: from,
            end: length.min(from.saturating_add(max_bytes)),
            batch: Vec::new(),
        })
    }

    /// The next whole batch; `None` at the end or before a partial one.
    fn next(&mut self) -> anyhow::Result<Option<Frame<'_>>> {
        self.batch.clear();
        let left = self.end - self.position;
        (&mut self.reader)
            .take(left.min(PREFIX_LEN as u64))
            .read_to_end(&mut self.batch)?;
        let Some(prefix) = parse_prefix(&self.batch)? else {
            return Ok(None);
        };
        if prefix.size as u64 > left {
            return Ok(None);
        }
        let rest = prefix.size - self.batch.len();
        (&mut self.reader)
            .take(rest as u64)
            .read_to_end(&mut self.batch)?;
        if self.batch.len() < prefix.size {
            return Ok(None);
        }
        self.position += prefix.size as u64;
        Ok(Some(Frame {
            prefix,
            bytes: &self.batch,
        }))
    }
}

fn timestamp_type(frame: &Frame<'_>) -> anyhow::Result<&'static str> {
    let kind = match frame.prefix.magic {
        0 => return Ok("NoTimestampType"),
        1 => frame.message()?.timestamp_type(),
        _ => BatchHeader::parse(frame.bytes)?.timestamp_type(),
    };
    Ok(match kind {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    })
}

fn dump_log(
    file: &Path,
    options: &Options,
    out: &mut dyn Write,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    writeln!(out, "Log starting offset: {}", base_offset(file)?)?;
    let max_bytes = u64::try_from(options.max_bytes).unwrap_or(0);
    let mut segment = Segment::open(file, 0, max_bytes)?;
    let mut last_offset = -1;
    loop {
        let position = segment.position;
        let Some(frame) = segment.next()? else { break };
        writeln!(out, "{}", describe_batch(&frame, position)?)?;
        if !(options.deep_iteration || options.shows_contents()) {
            continue;
        }
        let kind = timestamp_type(&frame)?;
        let mut show = |record: RecordView<'_>, legacy: Option<(bool, u32)>| {
            if last_offset != -1 && record.offset != last_offset + 1 {
                note(&mut findings.gaps, file, (last_offset, record.offset));
            }
            last_offset = record.offset;
            let line = describe_record(&frame, kind, &record, legacy, options)?;
            writeln!(out, "{line}")?;
            Ok::<(), anyhow::Error>(())
        };
        if frame.prefix.magic == 2 {
            for_each_record(&frame, &Limits::STORED, |record| show(record, None))?;
        } else {
            for_each_message(&frame, &Limits::STORED, |message| {
                let record = RecordView {
                    offset: message.offset,
                    timestamp: message.timestamp,
                    key: message.key,
                    value: message.value,
                    headers: Headers::default(),
                    size: message.size(),
                };
                show(record, Some((message.ensure_valid().is_ok(), message.crc)))
            })?;
        }
    }
    let trailing = segment.end - segment.position;
    if trailing > 0 && options.max_bytes == i32::MAX {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "Found {trailing} invalid bytes at the end of {name}")?;
    }
    Ok(())
}

fn describe_batch(frame: &Frame<'_>, position: u64) -> anyhow::Result<String> {
    let mut line = String::new();
    let crc = if frame.prefix.magic == 2 {
        let header = BatchHeader::parse(frame.bytes)?;
        write!(
            line,
            "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} \
             producerId: {} producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} \
             isControl: {} deleteHorizonMs: {}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.base_sequence,
            header.last_sequence(),
            header.producer_id,
            header.producer_epoch,
            header.partition_leader_epoch,
            header.is_transactional(),
            header.is_control(),
            match header.delete_horizon() {
                Some(horizon) => format!("OptionalLong[{horizon}]"),
                None => "OptionalLong.empty".to_owned(),
            }
        )?;
        header.crc
    } else {
        write!(line, "offset: {}", frame.last_offset()?)?;
        frame.message()?.crc
    };
    write!(
        line,
        " position: {position} {}: {} size: {} magic: {} compresscodec: {} crc: {crc} isvalid: {}",
        timestamp_type(frame)?,
        frame.max_timestamp()?,
        frame.prefix.size,
        frame.prefix.magic,
        frame.codec()?.name(),
        frame.ensure_valid().is_ok()
    )?;
    Ok(line)
}

/// `legacy`: validity and CRC of a message of magic 0 or 1.
fn describe_record(
    frame: &Frame<'_>,
    timestamp_type: &str,
    record: &RecordView<'_>,
    legacy: Option<(bool, u32)>,
    options: &Options,
) -> anyhow::Result<String> {
    let mut line = String::new();
    let header = match frame.prefix.magic {
        2 => Some(BatchHeader::parse(frame.bytes)?),
        _ => None,
    };
    let is_control = header.is_some_and(|header| header.is_control());
    if !options.skip_record_metadata {
        let size = |field: Option<&[u8]>| field.map_or(-1, |bytes| bytes.len() as i64);
        write!(
            line,
            "| offset: {} {timestamp_type}: {} keySize: {} valueSize: {}",
            record.offset,
            record.timestamp,
            size(record.key),
            size(record.value)
        )?;
        if let Some(header) = header {
            let delta = i32::try_from(record.offset - header.base_offset).unwrap_or(0);
            let sequence = match header.base_sequence {
                ..0 => -1,
                base => increment_sequence(base, delta),
            };
            let keys: Vec<_> = record
                .headers
                .iter()
                .map(|(key, _)| String::from_utf8_lossy(key))
                .collect();
            write!(
                line,
                " sequence: {sequence} headerKeys: [{}]",
                keys.join(",")
            )?;
        }
    }
    if let Some((valid, crc)) = legacy.filter(|_| !options.skip_record_metadata) {
        // The brace too many is Kafka's.
        write!(line, " isValid: {valid} crc: {crc}}}")?;
    }
    if is_control && !options.skip_record_metadata {
        match ControlType::parse(record.key)? {
            ControlType::EndTxn(end) => {
                let end = match end {
                    EndTxn::Abort => "ABORT",
                    EndTxn::Commit => "COMMIT",
                };
                let epoch = marker_coordinator_epoch(record.value)?;
                write!(line, " endTxnMarker: {end} coordinatorEpoch: {epoch}")?;
            }
            ControlType::LeaderChange => write!(line, " controlType: LEADER_CHANGE(2)")?,
            ControlType::Unknown(id) => write!(line, " controlType: UNKNOWN({id})")?,
        }
    }
    if options.shows_contents() && !is_control {
        let (key, value) = if options.offsets_decoder {
            let (key, value) = group_record(record.offset, record.key, record.value)?;
            (Some(key), value)
        } else {
            let text = |class: &Option<String>, bytes: Option<&[u8]>| {
                let decoder = Decoder::named(class.as_deref())?;
                bytes.map(|bytes| decoder.text(bytes)).transpose()
            };
            (
                text(&options.key_decoder_class, record.key)?,
                text(&options.value_decoder_class, record.value)?,
            )
        };
        if let Some(key) = key {
            // Only what comes first has the bar, and a payload never does.
            let bar = if line.is_empty() { "|" } else { "" };
            write!(line, "{bar} key: {key}")?;
        }
        if let Some(value) = value {
            write!(line, " payload: {value}")?;
        }
    }
    Ok(line)
}

/// Offset and position of each entry of an offset index.
fn offset_entries(bytes: &[u8], base: i64) -> impl Iterator<Item = (i64, u64)> + '_ {
    bytes.chunks_exact(OFFSET_ENTRY).filter_map(move |entry| {
        let mut cursor = Cursor::new(entry);
        let offset = base + i64::from(cursor.i32()?);
        Some((offset, u64::try_from(cursor.i32()?).unwrap_or(0)))
    })
}

/// Timestamp and offset of each entry of a time index.
fn time_entries(bytes: &[u8], base: i64) -> impl Iterator<Item = (i64, i64)> + '_ {
    bytes.chunks_exact(TIME_ENTRY).filter_map(move |entry| {
        let mut cursor = Cursor::new(entry);
        Some((cursor.i64()?, base + i64::from(cursor.i32()?)))
    })
}

fn check_length(file: &Path, bytes: &[u8], entry: usize) -> anyhow::Result<()> {
    if !bytes.len().is_multiple_of(entry) {
        bail!(
            "Index file {} is corrupt, found {} bytes which is neither positive nor a multiple of {entry}.",
            absolute(file).display(),
            bytes.len()
        );
    }
    Ok(())
}

fn check_last_offset(file: &Path, last: Option<i64>, base: i64) -> anyhow::Result<()> {
    if let Some(last) = last
        && last < base
    {
        bail!(
            "Corrupt index found, index file ({}) has non-zero size but the last offset is {last} \
             which is less than the base offset {base}.",
            absolute(file).display()
        );
    }
    Ok(())
}

fn dump_index(
    file: &Path,
    options: &Options,
    out: &mut dyn Write,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let base = base_offset(file)?;
    let bytes = read_file(file)?;
    if bytes.len() < OFFSET_ENTRY {
        return Ok(writeln!(out, "{} is empty.", file.display())?);
    }
    if options.index_sanity_check {
        check_last_offset(
            file,
            offset_entries(&bytes, base).last().map(|entry| entry.0),
            base,
        )?;
        check_length(file, &bytes, OFFSET_ENTRY)?;
        return Ok(writeln!(out, "{} passed sanity check.", file.display())?);
    }
    let log = file.with_extension("log");
    let max = u64::try_from(options.max_message_size).unwrap_or(0);
    for (i, (offset, position)) in offset_entries(&bytes, base).enumerate() {
        // The file of an unclean stop ends in zeros.
        if offset == base && i > 0 {
            return Ok(());
        }
        let mut segment = Segment::open(&log, position, max)?;
        let frame = segment
            .next()?
            .with_context(|| format!("{}: no batch at position {position}", log.display()))?;
        let last = frame.last_offset()?;
        if last != offset {
            note(&mut findings.offset_mismatches, file, (offset, last));
        }
        if !options.verify_index_only {
            writeln!(out, "offset: {offset} position: {position}")?;
        }
    }
    Ok(())
}

fn dump_time_index(
    file: &Path,
    options: &Options,
    out: &mut dyn Write,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let base = base_offset(file)?;
    let bytes = read_file(file)?;
    if options.index_sanity_check {
        let mut entries = time_entries(&bytes, base);
        let first = entries.next();
        let last = entries.last().or(first);
        if let (Some((first, _)), Some((last, _))) = (first, last)
            && last < first
        {
            bail!(
                "Corrupt time index found, time index file ({}) has non-zero size but the last \
                 timestamp is {last} which is less than the first timestamp {first}",
                absolute(file).display()
            );
        }
        check_last_offset(file, last.map(|entry| entry.1), base)?;
        check_length(file, &bytes, TIME_ENTRY)?;
        return Ok(writeln!(out, "{} passed sanity check.", file.display())?);
    }
    let log = file.with_extension("log");
    let index = read_file(&file.with_extension("index"))?;
    let mut previous = -1;
    for (i, (timestamp, offset)) in time_entries(&bytes, base).enumerate() {
        if offset == base && i > 0 {
            return Ok(());
        }
        let position = offset_entries(&index, base)
            .take_while(|(indexed, _)| *indexed <= offset)
            .last()
            .map_or(0, |(_, position)| position);
        let mut segment = Segment::open(&log, position, u64::MAX)?;
        let mut found = None;
        while let Some(frame) = segment.next()? {
            let last = frame.last_offset()?;
            if last >= offset {
                let mut max = -1;
                for_each_record(&frame, &Limits::STORED, |record| {
                    max = max.max(record.timestamp);
                    Ok::<(), crate::record::Error>(())
                })?;
                found = Some((last, max));
                break;
            }
        }
        match found {
            Some((last, max)) if last == offset => {
                if max != timestamp {
                    note(&mut findings.time_mismatches, file, (timestamp, max));
                }
                if previous >= timestamp {
                    note(
                        &mut findings.times_out_of_order,
                        file,
                        (timestamp, previous),
                    );
                }
            }
            other => {
                let last = other.map_or(-1, |(last, _)| last);
                findings.offsets_not_found.push((offset, last));
            }
        }
        if !options.verify_index_only {
            writeln!(out, "timestamp: {timestamp} offset: {offset}")?;
        }
        previous = timestamp;
    }
    Ok(())
}

fn dump_txn_index(file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = read_file(file)?;
    for entry in bytes.chunks_exact(TXN_ENTRY) {
        let mut cursor = Cursor::new(entry);
        let fields = (|| {
            let version = cursor.i16()?;
            Some((
                version,
                [cursor.i64()?, cursor.i64()?, cursor.i64()?, cursor.i64()?],
            ))
        })();
        let (version, [producer_id, first, last, stable]) = fields.context("34 bytes hold them")?;
        writeln!(
            out,
            "version: {version} producerId: {producer_id} firstOffset: {first} lastOffset: {last} \
             lastStableOffset: {stable}"
        )?;
    }
    Ok(())
}

fn dump_snapshot(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
    let bytes = read_file(file)?;
    let mut cursor = Cursor::new(&bytes);
    let (Some(version), Some(crc), Some(count)) = (cursor.i16(), cursor.i32(), cursor.i32()) else {
        return Ok(writeln!(
            err,
            "Snapshot failed schema validation: {} bytes",
            bytes.len()
        )?);
    };
    if version != 1 {
        return Ok(writeln!(
            err,
            "Snapshot contained an unknown file version {version}"
        )?);
    }
    let computed = crc32c::crc32c(&bytes[6..]);
    if computed != crc as u32 {
        let stored = crc as u32;
        return Ok(writeln!(
            err,
            "Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}"
        )?);
    }
    let entries = cursor.rest.chunks_exact(SNAPSHOT_ENTRY);
    for entry in entries.take(usize::try_from(count).unwrap_or(0)) {
        writeln!(
            out,
            "{}",
            describe_producer(entry).context("46 bytes hold an entry")?
        )?;
    }
    Ok(())
}

fn describe_producer(entry: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(entry);
    let producer_id = cursor.i64()?;
    let epoch = cursor.i16()?;
    let last_sequence = cursor.i32()?;
    let last_offset = cursor.i64()?;
    let offset_delta = cursor.i32()?;
    let timestamp = cursor.i64()?;
    let coordinator_epoch = cursor.i32()?;
    let txn_first_offset = match cursor.i64()? {
        ..0 => "OptionalLong.empty".to_owned(),
        offset => format!("OptionalLong[{offset}]"),
    };
    let mut line = format!(
        "producerId: {producer_id} producerEpoch: {epoch} coordinatorEpoch: {coordinator_epoch} \
         currentTxnFirstOffset: {txn_first_offset} lastTimestamp: {timestamp} "
    );
    if last_offset >= 0 {
        let first_sequence = last_sequence.checked_sub(offset_delta).map(|first| {
            if first < 0 {
                increment_sequence(first, 0)
            } else {
                first
            }
        })?;
        line.push_str(&format!(
            "firstSequence: {first_sequence} lastSequence: {last_sequence} lastOffset: \
             {last_offset} offsetDelta: {offset_delta} timestamp: {timestamp}"
        ));
    }
    Some(line)
}

#[cfg(test)]
mod tests;
