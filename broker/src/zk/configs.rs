//! Configuration in the coordination store: `/config/<type>/<name>` and the notifications under
//! `/config/changes` by which every broker learns of a change (`AdminZkClient`, `KafkaZkClient`
//! setOrCreateEntityConfigs).
//!
//! 1. A write is one multi with a check of `/controller`, so that no broker writes beside a KRaft
//!    controller that has taken over.
//! 2. The notification follows the write; readers read the node anew, so an old notification or
//!    one too many does no harm.

use bytes::Bytes;
use serde_json::Value;

use super::data::{self, ConfigChange};
use super::{CreateMode, Error as StoreError, MultiError, Op, SessionState, Store, paths};
use crate::config::{LiveConfig, Properties};
use crate::error::{ErrorCode, KafkaCode};

/// Types of entities, the names below `/config`.
pub const TOPICS: &str = "topics";
/// See [`TOPICS`].
pub const BROKERS: &str = "brokers";
pub use super::paths::DEFAULT_ENTITY;

/// Tries after the connection was lost in the middle of a write.
const TRIES: usize = 5;

/// Why a configuration could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Kafka's ControllerMovedException.
    #[error("{reason}")]
    ControllerMoved { reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KafkaCode for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::ControllerMoved { .. } => ErrorCode::StaleControllerEpoch,
            Self::Store(_) => ErrorCode::UnknownServerError,
        }
    }
}

/// An entity's configuration; empty when it has none.
pub async fn read_config(
    store: &dyn Store,
    entity_type: &str,
    entity_name: &str,
) -> Result<Properties, StoreError> {
    let path = paths::config_entity(entity_type, entity_name);
    match store.get(&path).await {
        Ok((data, _)) => Ok(decode(&path, &data)),
        Err(StoreError::NoNode { .. }) => Ok(Properties::new()),
        Err(error) => Err(error),
    }
}

/// [`read_config`] of many entities, in their order; `None` where there is none.
pub async fn read_configs(
    store: &dyn Store,
    entity_type: &str,
    entity_names: &[String],
) -> Result<Vec<Option<Properties>>, StoreError> {
    let paths: Vec<String> = entity_names
        .iter()
        .map(|name| paths::config_entity(entity_type, name))
        .collect();
    let found = store.get_many(paths.clone()).await?;
    let decoded = paths.iter().zip(found).map(|(path, node)| {
        let (data, _) = node?;
        Some(decode(path, &data))
    });
    Ok(decoded.collect())
}

/// Brings what the store holds for this broker into force, at start before anything listens.
pub async fn load_broker_configs(store: &dyn Store, live: &LiveConfig) -> Result<(), StoreError> {
    let id = live.load().broker_id().to_string();
    let (of_all, of_one) = tokio::join!(
        read_config(store, BROKERS, DEFAULT_ENTITY),
        read_config(store, BROKERS, &id)
    );
    for (entity_name, stored) in [(DEFAULT_ENTITY, of_all?), (id.as_str(), of_one?)] {
        if !stored.is_empty() {
            live.apply_entity(entity_name, &stored);
        }
    }
    Ok(())
}

/// The names of all entities of a type that have a node.
pub async fn entities(store: &dyn Store, entity_type: &str) -> Result<Vec<String>, StoreError> {
    match store.children(&paths::config_type(entity_type)).await {
        Err(StoreError::NoNode { .. }) => Ok(Vec::new()),
        other => other,
    }
}

/// Replaces an entity's configuration and tells every broker.
pub async fn change_config(
    store: &dyn Store,
    entity_type: &str,
    entity_name: &str,
    config: &Properties,
) -> Result<(), Error> {
    write_config(store, entity_type, entity_name, config).await?;
    notify(store, entity_type, entity_name).await?;
    Ok(())
}

/// Rule 1.
pub async fn write_config(
    store: &dyn Store,
    entity_type: &str,
    entity_name: &str,
    config: &Properties,
) -> Result<(), Error> {
    let path = paths::config_entity(entity_type, entity_name);
    let data = encode(config);
    let mut tries = 0;
    loop {
        tries += 1;
        let check = controller_check(store, entity_type, entity_name).await?;
        let set = Op::Set {
            path: path.clone(),
            data: data.clone(),
            version: None,
        };
        match store.multi(vec![check, set]).await {
            Ok(_) => return Ok(()),
            Err(MultiError {
                index: Some(1),
                error: StoreError::NoNode { .. },
            }) => match create_with_parents(store, &path, data.clone()).await {
                // Another broker created it in between: set it after all.
                Err(StoreError::NodeExists { .. }) => {}
                other => return Ok(other?),
            },
            Err(MultiError {
                index: Some(0),
                error,
            }) => {
                return Err(Error::ControllerMoved {
                    reason: format!("The controller moved while configs were written: {error}"),
                });
            }
            // Setting once more is harmless, whether or not the first try got through.
            Err(MultiError {
                error: StoreError::Unknown { .. },
                ..
            }) if tries < TRIES => wait_until_connected(store).await,
            Err(MultiError { error, .. }) => return Err(error.into()),
        }
    }
}

/// A check that the controller stays the one that is read here.
async fn controller_check(
    store: &dyn Store,
    entity_type: &str,
    entity_name: &str,
) -> Result<Op, Error> {
    let (data, stat) = match store.get(paths::CONTROLLER).await {
        Err(StoreError::NoNode { .. }) => {
            return Err(Error::ControllerMoved {
                reason: format!(
                    "Cannot set entity configs for {entity_type} {entity_name} when there is no controller."
                ),
            });
        }
        other => other?,
    };
    let kraft_epoch = serde_json::from_slice::<Value>(&data)
        .ok()
        .and_then(|json| json.get("kraftControllerEpoch")?.as_i64());
    if kraft_epoch.is_some_and(|epoch| epoch > 0) {
        return Err(Error::ControllerMoved {
            reason: format!(
                "Cannot set entity configs for {entity_type} {entity_name} directly when there is a KRaft controller."
            ),
        });
    }
    Ok(Op::Check {
        path: paths::CONTROLLER.to_owned(),
        version: stat.version,
    })
}

/// Rule 2.
async fn notify(store: &dyn Store, entity_type: &str, entity_name: &str) -> Result<(), StoreError> {
    let change = ConfigChange {
        entity_type: entity_type.to_owned(),
        entity: entity_name.to_owned(),
    };
    let (path, data) = (paths::config_change(), change.encode());
    let create = || store.create(&path, data.clone(), CreateMode::PersistentSequential);
    match create().await {
        Err(StoreError::NoNode { .. }) => {
            match create_with_parents(store, paths::CONFIG_CHANGES, Bytes::new()).await {
                Ok(()) | Err(StoreError::NodeExists { .. }) => {}
                Err(error) => return Err(error),
            }
            create().await?;
        }
        // A second notification does no harm, a missing one does.
        Err(StoreError::Unknown { .. }) => {
            wait_until_connected(store).await;
            create().await?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// Creates a node, and its parents without data where they are missing.
pub async fn create_with_parents(
    store: &dyn Store,
    path: &str,
    data: Bytes,
) -> Result<(), StoreError> {
    match store
        .create(path, data.clone(), CreateMode::Persistent)
        .await
    {
        Err(StoreError::NoNode { .. }) => {}
        other => return other.map(drop),
    }
    let ends = path.match_indices('/').map(|(index, _)| index).skip(1);
    for end in ends {
        let parent = &path[..end];
        match store
            .create(parent, Bytes::new(), CreateMode::Persistent)
            .await
        {
            Ok(_) | Err(StoreError::NodeExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    store
        .create(path, data, CreateMode::Persistent)
        .await
        .map(drop)
}

/// Returns once there is a session, or none will be any more.
pub(super) async fn wait_until_connected(store: &dyn Store) {
    let mut states = store.session_states();
    // The error means that the store is gone, and the next call will say so.
    let _ = states
        .wait_for(|state| {
            matches!(
                state,
                SessionState::Connected { .. } | SessionState::Closed | SessionState::AuthFailed
            )
        })
        .await;
}

fn encode(config: &Properties) -> Bytes {
    let pairs = config
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    data::encode_config(pairs)
}

/// What cannot be read counts as empty: one broken node must not stop a broker.
fn decode(path: &str, data: &[u8]) -> Properties {
    data::decode_config(data).unwrap_or_else(|error| {
        tracing::error!(target: "kafka.server.ZkConfigManager", "{path}: {error}; it counts as empty");
        Properties::new()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::embedded::{Embedded, EmbeddedStore};
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn configs_are_written_as_kafka_writes_them() {
        let config = Properties::from([("retention.ms".to_owned(), "1000".to_owned())]);
        let data = encode(&config);
        let read: Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(
            read,
            json!({"version": 1, "config": {"retention.ms": "1000"}})
        );
        assert_eq!(decode("/x", &data), config);
    }

    #[test]
    fn unreadable_configs_are_empty() {
        for data in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"version":1}"#,
            r#"{"version":1,"config":3}"#,
        ] {
            assert_eq!(decode("/x", data.as_bytes()), Properties::new(), "{data}");
        }
    }

    async fn store_with_controller(controller: &str) -> EmbeddedStore {
        let store = Embedded::in_memory(Arc::new(SystemClock)).connect();
        let data = Bytes::copy_from_slice(controller.as_bytes());
        store
            .create("/controller", data, CreateMode::Ephemeral)
            .await
            .unwrap();
        store
    }

    #[tokio::test]
    async fn a_change_is_stored_and_told_with_missing_parents_made() {
        let store =
            store_with_controller(r#"{"version":2,"brokerid":1,"kraftControllerEpoch":-1}"#).await;
        for value in ["1", "2"] {
            let config = Properties::from([("retention.ms".to_owned(), value.to_owned())]);
            change_config(&store, TOPICS, "t", &config).await.unwrap();
            assert_eq!(read_config(&store, TOPICS, "t").await, Ok(config));
        }
        assert_eq!(entities(&store, TOPICS).await, Ok(vec!["t".to_owned()]));
        let changes = store.children(paths::CONFIG_CHANGES).await.unwrap();
        assert_eq!(
            changes,
            ["config_change_0000000000", "config_change_0000000001"]
        );
        let (data, _) = store
            .get(&format!("{}/{}", paths::CONFIG_CHANGES, changes[0]))
            .await
            .unwrap();
        let read: Value = serde_json::from_slice(&data).unwrap();
        assert_eq!(read, json!({"version": 2, "entity_path": "topics/t"}));
    }

    #[tokio::test]
    async fn stored_configs_of_this_broker_are_in_force_at_start() {
        let store = store_with_controller(r#"{"version":2,"brokerid":1}"#).await;
        for (name, key, value) in [
            (DEFAULT_ENTITY, "message.max.bytes", "33"),
            ("1", "log.segment.bytes", "44"),
            ("2", "log.segment.bytes", "55"),
        ] {
            let config = Properties::from([(key.to_owned(), value.to_owned())]);
            change_config(&store, BROKERS, name, &config).await.unwrap();
        }
        let live =
            LiveConfig::new(crate::config::Config::from_pairs(&[("broker.id", "1")]).unwrap());
        load_broker_configs(&store, &live).await.unwrap();
        assert_eq!(live.load().message_max_bytes(), 33);
        assert_eq!(live.load().log_segment_bytes(), 44);
    }

    #[tokio::test]
    async fn nothing_is_written_without_a_zookeeper_controller() {
        let none = Embedded::in_memory(Arc::new(SystemClock)).connect();
        let kraft =
            store_with_controller(r#"{"version":2,"brokerid":3000,"kraftControllerEpoch":5}"#)
                .await;
        for (store, expect) in [
            (
                none,
                "Cannot set entity configs for topics t when there is no controller.",
            ),
            (
                kraft,
                "Cannot set entity configs for topics t directly when there is a KRaft controller.",
            ),
        ] {
            let error = change_config(&store, TOPICS, "t", &Properties::new())
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), expect);
            assert_eq!(error.code(), ErrorCode::StaleControllerEpoch);
            assert_eq!(store.exists("/config/topics/t").await, Ok(None));
            assert_eq!(store.exists(paths::CONFIG_CHANGES).await, Ok(None));
        }
    }
}
