//! JSON as Kafka writes and reads it [core]: keys in the order of Kafka's maps, and a reader with
//! the tolerance of Jackson's tree.
//!
//! Tools and people compare znodes as text, so that the order matters although no reader asks for
//! it. Where Kafka builds a Scala or Java hash map, the order follows from the keys' hashes; for
//! fixed sets of keys [`super::data`] spells that order out, for others it is computed here.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::types::java_string_hash;

/// Why a znode's content is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    #[error("not JSON: {reason}")]
    NotJson { reason: String },
    #[error("key `{key}` is missing")]
    Missing { key: &'static str },
    #[error("{what} is not {expected}, but {found}")]
    NotA {
        what: String,
        expected: &'static str,
        /// Shortened.
        found: String,
    },
    #[error("version {version} is not supported")]
    Version { version: i32 },
}

impl DataError {
    pub(super) fn not_a(
        what: impl Into<String>,
        expected: &'static str,
        found: impl ToString,
    ) -> Self {
        let mut found = found.to_string();
        if let Some((end, _)) = found.char_indices().nth(60) {
            found.truncate(end);
            found.push('…');
        }
        Self::NotA {
            what: what.into(),
            expected,
            found,
        }
    }
}

/// An object with its keys in the order given. Values are JSON already.
pub(super) fn object<K: AsRef<str>>(entries: impl IntoIterator<Item = (K, String)>) -> String {
    let mut out = String::from("{");
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        // Writing to a string does not fail.
        let _ = write!(out, "{}:{value}", text(key.as_ref()));
    }
    out.push('}');
    out
}

pub(super) fn array(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<_> = values.into_iter().collect();
    format!("[{}]", values.join(","))
}

pub(super) fn text(text: &str) -> String {
    Value::from(text).to_string()
}

pub(super) fn integers(values: &[i32]) -> String {
    array(values.iter().map(i32::to_string))
}

/// Keys in the order of a Scala `mutable.HashMap` that grew from its default size.
pub(super) fn scala_map_order<V>(entries: &mut [(String, V)]) {
    let mut table = 16;
    while entries.len() + 1 > table * 3 / 4 {
        table *= 2;
    }
    entries.sort_by_key(|(key, _)| {
        let hash = java_string_hash(key);
        let hash = hash ^ ((hash as u32) >> 16) as i32;
        (hash as u32 as usize & (table - 1), hash)
    });
}

/// Keys in the order of `java.util.Properties`, a `ConcurrentHashMap` that grew from its default
/// size; the order within a bucket is not followed.
pub(super) fn properties_order<V>(entries: &mut [(&str, V)]) {
    let mut table = 16;
    while entries.len() >= table * 3 / 4 {
        table *= 2;
    }
    entries.sort_by_key(|(key, _)| {
        let hash = java_string_hash(key) as u32;
        (hash ^ (hash >> 16)) as usize & (table - 1)
    });
}

/// Reads one JSON value; what follows it is ignored, as Jackson does.
pub(super) fn parse(data: &[u8]) -> Result<Value, DataError> {
    let mut values = serde_json::Deserializer::from_slice(data).into_iter();
    match values.next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(DataError::NotJson {
            reason: error.to_string(),
        }),
        None => Err(DataError::NotJson {
            reason: "it is empty".to_owned(),
        }),
    }
}

/// An object whose keys are asked for by name; others are ignored.
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn parse(data: &[u8]) -> Result<Self, DataError> {
        Self::from_value(parse(data)?, "the content")
    }

    pub(super) fn from_value(value: Value, what: &str) -> Result<Self, DataError> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(DataError::not_a(what, "an object", other)),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    fn required(&self, key: &'static str) -> Result<&Value, DataError> {
        self.0.get(key).ok_or(DataError::Missing { key })
    }

    pub(super) fn int(&self, key: &'static str) -> Result<i32, DataError> {
        int(self.required(key)?, key)
    }

    pub(super) fn optional_int(&self, key: &'static str) -> Result<Option<i32>, DataError> {
        self.get(key).map(|value| int(value, key)).transpose()
    }

    pub(super) fn string(&self, key: &'static str) -> Result<&str, DataError> {
        let value = self.required(key)?;
        value
            .as_str()
            .ok_or_else(|| DataError::not_a(key, "a string", value))
    }

    /// Absent and null are the same.
    pub(super) fn optional_string(&self, key: &'static str) -> Result<Option<&str>, DataError> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.string(key).map(Some),
        }
    }

    /// A number that is written as a string.
    pub(super) fn long_text(&self, key: &'static str) -> Result<i64, DataError> {
        let text = self.string(key)?;
        text.parse()
            .map_err(|_| DataError::not_a(key, "a number of 64 bits", text))
    }

    pub(super) fn ints(&self, key: &'static str) -> Result<Vec<i32>, DataError> {
        ints(self.required(key)?, key)
    }

    pub(super) fn list(&self, key: &'static str) -> Result<&[Value], DataError> {
        let value = self.required(key)?;
        value
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| DataError::not_a(key, "a list", value))
    }

    pub(super) fn map(&self, key: &'static str) -> Result<Option<&Map<String, Value>>, DataError> {
        self.get(key)
            .map(|value| {
                value
                    .as_object()
                    .ok_or_else(|| DataError::not_a(key, "an object", value))
            })
            .transpose()
    }
}

pub(super) fn int(value: &Value, what: &str) -> Result<i32, DataError> {
    value
        .as_i64()
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| DataError::not_a(what, "a number of 32 bits", value))
}

pub(super) fn ints(value: &Value, what: &str) -> Result<Vec<i32>, DataError> {
    value
        .as_array()
        .ok_or_else(|| DataError::not_a(what, "a list", value))?
        .iter()
        .map(|number| int(number, what))
        .collect()
}
