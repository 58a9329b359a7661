//! A response as lines of path and value, so that two can be compared field by field.
//!
//! The codec's messages have no reflection, but `Debug` prints every field with its name: that text
//! is parsed into a tree, and the tree is flattened. What must differ between two brokers (ids,
//! times, ports, folders) is replaced by names that both sides share.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use ottla::record::batch::{Batch, BatchIter, Frame};
use ottla::record::compress::{Codec, Limits};
use ottla::record::legacy::for_each_message;
use ottla::record::records::Records;

/// Lists whose order means nothing, by their elements' type, and the field that tells elements
/// apart: Kafka answers them in the order of its hash maps.
const BY_KEY: &[(&str, &str)] = &[
    ("ApiVersion", "api_key"),
    ("MetadataResponseTopic", "name"),
    ("MetadataResponsePartition", "partition_index"),
    ("JoinGroupResponseMember", "member_id"),
    ("DescribedGroupMember", "member_id"),
    ("ListedGroup", "group_id"),
    ("DescribeConfigsResourceResult", "name"),
    ("CreatableTopicConfigs", "name"),
    ("DescribeLogDirsTopic", "name"),
    ("DescribeLogDirsPartition", "partition_index"),
    ("AlterReplicaLogDirTopicResult", "topic_name"),
    ("AlterReplicaLogDirPartitionResult", "partition_index"),
    ("TopicProduceResponse", "name"),
    ("PartitionProduceResponse", "index"),
    ("DeletableTopicResult", "name"),
    ("CreatePartitionsTopicResult", "name"),
    ("DeleteRecordsTopicResult", "name"),
    ("DeleteRecordsPartitionResult", "partition_index"),
    ("OffsetForLeaderTopicResult", "topic"),
    ("DeletableGroupResult", "group_id"),
    ("ProducerState", "producer_id"),
    ("OffsetCommitResponseTopic", "name"),
    ("OffsetCommitResponsePartition", "partition_index"),
    ("OffsetFetchResponseTopic", "name"),
    ("OffsetFetchResponseTopics", "name"),
    ("OffsetFetchResponsePartition", "partition_index"),
    ("OffsetFetchResponsePartitions", "partition_index"),
    ("OffsetDeleteResponseTopic", "name"),
    ("OffsetDeleteResponsePartition", "partition_index"),
];

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Leaf(String),
    List(Vec<Node>),
    Struct(String, Vec<(String, Node)>),
}

/// What a side's values are called in a comparison.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Text of this side, name; longer texts first.
    fixed: Vec<(String, &'static str)>,
    uuids: HashMap<String, usize>,
}

impl Names {
    pub(super) fn new(mut fixed: Vec<(String, &'static str)>) -> Self {
        fixed.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self {
            fixed,
            uuids: HashMap::new(),
        }
    }

    /// Ids are counted from one again.
    pub(super) fn forget(&mut self) {
        self.uuids.clear();
    }

    fn apply(&mut self, path: &str, text: &str) -> String {
        let field = path.rsplit('.').next().unwrap_or(path);
        if field == "session_id" && text != "0" {
            return "<session>".to_owned();
        }
        if field == "usable_bytes" && text != "-1" {
            return "<bytes>".to_owned();
        }
        let mut text = text.to_owned();
        for (own, name) in &self.fixed {
            text = text.replace(own, name);
        }
        let mut out = String::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            let run = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .unwrap_or(rest.len());
            if run == 0 {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            self.word(&rest[..run], &mut out);
            rest = &rest[run..];
        }
        out
    }

    /// A run of letters, digits and dashes: a time of now, or with an id at its end, or as it is.
    fn word(&mut self, word: &str, out: &mut String) {
        const UUID: usize = 36;
        const NIL: &str = "00000000-0000-0000-0000-000000000000";
        if is_now(word) {
            out.push_str("<now>");
        } else if let Some(at) = word.len().checked_sub(UUID)
            && word.is_char_boundary(at)
            && is_uuid(&word[at..])
            && &word[at..] != NIL
        {
            let next = self.uuids.len() + 1;
            let number = *self.uuids.entry(word[at..].to_owned()).or_insert(next);
            out.push_str(&format!("{}<id {number}>", &word[..at]));
        } else {
            out.push_str(word);
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// Milliseconds since the epoch, within the last or next quarter of an hour; or such a time moved by
/// the largest number there is, which wraps.
fn is_now(word: &str) -> bool {
    let Ok(number) = word.parse::<i64>() else {
        return false;
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
    [
        number,
        number.wrapping_add(i64::MAX),
        number.wrapping_sub(i64::MAX),
    ]
    .iter()
    .any(|time| time.abs_diff(now) < 900_000)
}

/// Every field of a message with its path.
pub(super) fn flatten(message: &impl Debug, names: &mut Names) -> BTreeMap<String, String> {
    let text = format!("{message:?}");
    let mut parser = Parser { rest: &text };
    let node = parser.node();
    assert!(parser.rest.is_empty(), "not parsed: {}", parser.rest);
    let mut out = BTreeMap::new();
    walk(&node, String::new(), names, &mut out);
    out
}

fn walk(node: &Node, path: String, names: &mut Names, out: &mut BTreeMap<String, String>) {
    match node {
        Node::Leaf(text) if path.ends_with(".records") && text.starts_with("b\"") => {
            for (at, line) in describe_records(&unescape(text)).into_iter().enumerate() {
                let line = names.apply("", &line);
                out.insert(format!("{path}[{at}]"), line);
            }
        }
        Node::Leaf(text) => {
            let text = names.apply(&path, text);
            out.insert(path, text);
        }
        Node::Struct(_, fields) => {
            for (name, value) in fields {
                let is_noise = name == "unknown_tagged_fields" && *value == Node::List(Vec::new());
                if !is_noise {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    walk(value, path, names, out);
                }
            }
        }
        Node::List(elements) => {
            out.insert(path.clone(), format!("{} elements", elements.len()));
            let mut seen: HashMap<String, usize> = HashMap::new();
            let mut keyed: Vec<(Option<String>, &Node)> = elements
                .iter()
                .map(|element| (key_of(element, names), element))
                .collect();
            keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (at, (key, element)) in keyed.into_iter().enumerate() {
                let place = match key {
                    None => at.to_string(),
                    Some(key) => {
                        let times = seen.entry(key.clone()).or_default();
                        *times += 1;
                        match times {
                            1 => key,
                            _ => format!("{key}, {times}th"),
                        }
                    }
                };
                walk(element, format!("{path}[{place}]"), names, out);
            }
        }
    }
}

fn key_of(element: &Node, names: &mut Names) -> Option<String> {
    let Node::Struct(kind, fields) = element else {
        return None;
    };
    let (_, field) = BY_KEY.iter().find(|(one, _)| one == kind)?;
    match fields.iter().find(|(name, _)| name == field)? {
        (_, Node::Leaf(text)) => Some(names.apply("", text).replace('"', "")),
        _ => None,
    }
}

/// Reads what `derive(Debug)` writes.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn node(&mut self) -> Node {
        if self.rest.starts_with('"') || self.rest.starts_with("b\"") {
            return Node::Leaf(self.quoted());
        }
        if self.take("[") {
            return Node::List(self.elements("]"));
        }
        if self.take("{") {
            let entries = self.fields("}");
            return Node::List(
                entries
                    .into_iter()
                    .map(|entry| Node::Struct("entry".to_owned(), vec![entry]))
                    .collect(),
            );
        }
        let end = self
            .rest
            .find([' ', '(', ')', ',', ']', '}', ':'])
            .unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        if self.take(" { ") {
            return Node::Struct(word, self.fields(" }"));
        }
        if self.take("(") {
            let mut elements = self.elements(")");
            // An option or a newtype is what it holds.
            if let (1, Some(only)) = (elements.len(), elements.pop()) {
                return only;
            }
        }
        Node::Leaf(if word == "None" {
            "null".to_owned()
        } else {
            word
        })
    }

    fn elements(&mut self, end: &str) -> Vec<Node> {
        let mut out = Vec::new();
        while !self.take(end) {
            out.push(self.node());
            self.take(", ");
        }
        out
    }

    fn fields(&mut self, end: &str) -> Vec<(String, Node)> {
        let mut out = Vec::new();
        while !self.take(end) {
            let name = match self.node() {
                Node::Leaf(name) => name,
                other => format!("{other:?}"),
            };
            assert!(self.take(": "), "no `: ` before {}", self.rest);
            out.push((name, self.node()));
            self.take(", ");
        }
        out
    }

    fn quoted(&mut self) -> String {
        let mut is_escaped = false;
        let start = self.rest.find('"').unwrap_or(0) + 1;
        for (at, c) in self.rest[start..].char_indices() {
            match c {
                '"' if !is_escaped => {
                    let end = start + at + 1;
                    let text = self.rest[..end].to_owned();
                    self.rest = &self.rest[end..];
                    return text;
                }
                '\\' => is_escaped = !is_escaped,
                _ => is_escaped = false,
            }
        }
        panic!("a text without end: {}", self.rest);
    }
}

/// Bytes of their `Debug` text, `b"…"`.
fn unescape(text: &str) -> Vec<u8> {
    let inner = &text.as_bytes()[2..text.len() - 1];
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            out.push(inner[at]);
            at += 1;
            continue;
        }
        let (byte, len) = match inner[at + 1] {
            b'x' => {
                let hex = std::str::from_utf8(&inner[at + 2..at + 4]).unwrap_or("0");
                (u8::from_str_radix(hex, 16).unwrap_or(0), 4)
            }
            b'n' => (b'\n', 2),
            b'r' => (b'\r', 2),
            b't' => (b'\t', 2),
            b'0' => (0, 2),
            other => (other, 2),
        };
        out.push(byte);
        at += len;
    }
    out
}

/// One line per batch; what is left at the end is a line of its own. Records are compared unpacked:
/// two libraries pack differently. The CRC is checked instead of compared, as it covers the append
/// time.
fn describe_records(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut used = 0;
    for frame in BatchIter::new(bytes) {
        let Ok(frame) = frame else { break };
        let size = frame.prefix.size;
        let whole = &bytes[used..used + size];
        used += size;
        lines.push(match Batch::parse(whole) {
            Ok(batch) if frame.prefix.magic == 2 => describe(&batch),
            _ => describe_old(&frame),
        });
    }
    if used < bytes.len() {
        lines.push(format!("{} bytes of a batch", bytes.len() - used));
    }
    lines
}

/// A message of an old format, or what it wraps.
fn describe_old(frame: &Frame<'_>) -> String {
    let codec = frame.codec().map(Codec::name);
    let mut out = format!(
        "magic {} offset {} codec {codec:?} valid {} messages ",
        frame.prefix.magic,
        frame.prefix.base_offset,
        frame.ensure_valid().is_ok()
    );
    let read = for_each_message(frame, &Limits::STORED, |message| {
        out.push_str(&format!(
            "({} {} {} {:?} {:?})",
            message.offset, message.attributes, message.timestamp, message.key, message.value
        ));
        Ok::<(), ottla::record::Error>(())
    });
    if let Err(error) = read {
        out.push_str(&error.to_string());
    }
    out
}

fn describe(batch: &Batch<'_>) -> String {
    let header = batch.header();
    let size = match header.codec() {
        Ok(Codec::None) => batch.bytes().len(),
        _ => 0,
    };
    format!(
        "offset {} size {size} leader epoch {} attributes {:#x} last delta {} times {} {} producer \
         {} {} {} count {} valid {} records {}",
        header.base_offset,
        header.partition_leader_epoch,
        header.attributes,
        header.last_offset_delta,
        header.base_timestamp,
        header.max_timestamp,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        header.record_count,
        batch.ensure_valid().is_ok(),
        records(batch)
    )
}

fn records(batch: &Batch<'_>) -> String {
    let mut out = String::new();
    let mut records = match Records::new(batch, &Limits::STORED) {
        Ok(records) => records,
        Err(error) => return error.to_string(),
    };
    loop {
        match records.next() {
            Ok(Some(record)) => {
                let headers: Vec<_> = record.headers.iter().collect();
                out.push_str(&format!(
                    "({} {} {:?} {:?} {headers:?})",
                    record.offset, record.timestamp, record.key, record.value,
                ));
            }
            Ok(None) => return out,
            Err(error) => return format!("{out}{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by its Debug text")]
    struct Outer {
        name: Option<&'static str>,
        none: Option<i32>,
        list: Vec<Inner>,
        tags: BTreeMap<i32, i32>,
        data: bytes::Bytes,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by its Debug text")]
    struct Inner {
        number: i64,
        id: uuid::Uuid,
    }

    #[test]
    fn every_field_has_a_path() {
        let id = uuid::Uuid::from_u128(7 << 64);
        let outer = Outer {
            name: Some("a \"b\", {c}"),
            none: None,
            list: vec![Inner { number: -3, id }, Inner { number: 4, id }],
            tags: BTreeMap::from([(1, 2)]),
            data: bytes::Bytes::from_static(b"x\"\n\x00"),
        };
        let lines = flatten(&outer, &mut Names::new(vec![("b".to_owned(), "<b>")]));
        let expected = [
            ("data", "<b>\"x\\\"\\n\\0\""),
            ("list", "2 elements"),
            ("list[0].id", "<id 1>"),
            ("list[0].number", "-3"),
            ("list[1].id", "<id 1>"),
            ("list[1].number", "4"),
            ("name", "\"a \\\"<b>\\\", {c}\""),
            ("none", "null"),
            ("tags", "1 elements"),
            ("tags[0].1", "2"),
        ];
        assert_eq!(
            lines,
            BTreeMap::from(expected.map(|(path, value)| (path.to_owned(), value.to_owned())))
        );
    }

    #[test]
    fn bytes_come_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = format!("{:?}", bytes::Bytes::from(bytes.clone()));
        assert_eq!(unescape(&text), bytes);
    }
}
