//! What can be wrong with a configuration.

use crate::error::{ErrorCode, KafkaCode};

/// A refused configuration. Texts are Kafka's where Kafka has one: scripts and clients show them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One key's value cannot be read or is not allowed (`ConfigException(name, value, message)`).
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    Invalid {
        key: String,
        value: String,
        reason: String,
    },
    /// An override under a name that no topic key has.
    #[error("Unknown topic config name: {key}")]
    UnknownTopicKey { key: String },
    /// Keys that may not be changed dynamically, or not there; `keys` as Scala prints a set.
    #[error("{rule}: {keys}")]
    NotDynamic { rule: &'static str, keys: String },
    /// Several keys contradict each other, or a rule spans them (`KafkaConfig.validateValues`).
    #[error("{rule}")]
    Inconsistent { rule: String },
    /// Overrides that contradict each other (`InvalidConfigurationException` of Kafka, which
    /// clients see without the words that introduce other errors).
    #[error("{rule}")]
    Conflict { rule: String },
    /// A file or variable that cannot be read.
    #[error("{source_name}: {reason}")]
    Unreadable { source_name: String, reason: String },
}

impl Error {
    pub(super) fn invalid(key: &str, value: &str, reason: &str) -> Self {
        Self::Invalid {
            key: key.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn conflict(rule: impl Into<String>) -> Self {
        Self::Conflict { rule: rule.into() }
    }

    pub(super) fn rule(rule: impl Into<String>) -> Self {
        Self::Inconsistent { rule: rule.into() }
    }
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid { .. }
            | Self::UnknownTopicKey { .. }
            | Self::NotDynamic { .. }
            | Self::Inconsistent { .. }
            | Self::Conflict { .. }
            | Self::Unreadable { .. } => ErrorCode::InvalidConfig,
        }
    }
}
