//! Learns of configuration changes (`ZkConfigManager`, `ZkNodeChangeNotificationListener`).
//!
//! Whoever changes a configuration creates `/config/changes/config_change_<sequence>`. Every
//! broker watches the children and, for each it has not seen yet, in order of the sequence, reads
//! the entity named there and hands its configuration on. Notifications older than 15 minutes are
//! deleted by whoever sees them. At start all notifications are replayed and then every entity is
//! handed on once, so that nothing set before is missed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::configs::{BROKERS, TOPICS, entities, read_config, wait_until_connected};
use super::paths::{CONFIG_CHANGE_PREFIX, CONFIG_CHANGES};
use super::{Error, Store, Watch, data, paths};
use crate::clock::Clock;
use crate::config::Properties;
use crate::types::Millis;

/// Age at which a notification is deleted.
const EXPIRATION_MS: Millis = 15 * 60 * 1000;

const TARGET: &str = "kafka.server.ZkConfigManager";

/// An entity with its configuration as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// `topics`, `brokers`, `clients`, `users` or `ips`.
    pub entity_type: String,
    /// As in the store: sanitised, `<default>`, or `<user>/clients/<client>`.
    pub entity_name: String,
    pub config: Properties,
}

/// Watches until cancelled or until the store is closed. `handle` is called in the order of the
/// changes, one at a time; it must not block.
pub async fn run(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    mut handle: impl FnMut(ConfigChange) + Send,
    cancel: CancellationToken,
) {
    let mut listener = Listener {
        store: &*store,
        last_sequence: -1,
        created: HashMap::new(),
    };
    let mut bootstrapped = false;
    loop {
        let round = async {
            let watch = listener.process(clock.now(), &mut handle).await?;
            if !bootstrapped {
                listener.bootstrap(&mut handle).await?;
                bootstrapped = true;
            }
            Ok::<Watch, Error>(watch)
        };
        let outcome = tokio::select! {
            () = cancel.cancelled() => return,
            outcome = round => outcome,
        };
        match outcome {
            Ok(watch) => tokio::select! {
                () = cancel.cancelled() => return,
                // Whatever happened, even a lost session: look again.
                _ = watch => {}
            },
            Err(Error::Closed | Error::AuthFailed) => return,
            Err(error) => {
                tracing::error!(target: TARGET, "Error while processing notification change for path = {CONFIG_CHANGES}: {error}");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = wait_until_connected(&*store) => {}
                }
                // An error with a live session must not become a busy loop.
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
                }
            }
        }
    }
}

struct Listener<'a> {
    store: &'a dyn Store,
    last_sequence: i64,
    /// When the notifications that were seen were created, by name.
    created: HashMap<String, Millis>,
}

impl Listener<'_> {
    /// One look: hands new notifications on and purges old ones. The watch was set before.
    async fn process(
        &mut self,
        now: Millis,
        handle: &mut (impl FnMut(ConfigChange) + Send),
    ) -> Result<Watch, Error> {
        let (mut names, watch) = match self.store.children_and_watch(CONFIG_CHANGES).await {
            Err(Error::NoNode { .. }) => return self.wait_for_node().await,
            other => other?,
        };
        names.sort_unstable();
        if !names.is_empty() {
            tracing::debug!(target: TARGET, "Processing notification(s) to {CONFIG_CHANGES}");
        }
        for name in &names {
            let sequence: Option<i64> = name
                .strip_prefix(CONFIG_CHANGE_PREFIX)
                .and_then(|sequence| sequence.parse().ok());
            let Some(sequence) = sequence else { continue };
            if sequence <= self.last_sequence {
                continue;
            }
            match self.store.get(&format!("{CONFIG_CHANGES}/{name}")).await {
                Ok((data, stat)) => {
                    self.created.insert(name.clone(), stat.ctime);
                    self.hand_on(&data, handle).await?;
                }
                // Purged by another broker in between.
                Err(Error::NoNode { .. }) => {}
                Err(error) => return Err(error),
            }
            self.last_sequence = sequence;
        }
        self.purge(now, &names).await?;
        Ok(watch)
    }

    async fn wait_for_node(&self) -> Result<Watch, Error> {
        let (stat, watch) = self.store.exists_and_watch(CONFIG_CHANGES).await?;
        match stat {
            None => Ok(watch),
            // Created in between: a watch that has fired already.
            Some(_) => Ok(tokio::sync::oneshot::channel().1),
        }
    }

    async fn hand_on(
        &self,
        data: &[u8],
        handle: &mut (impl FnMut(ConfigChange) + Send),
    ) -> Result<(), Error> {
        let (entity_type, entity_name) = match entity_of(data) {
            Ok(entity) => entity,
            Err(reason) => {
                tracing::error!(
                    target: TARGET,
                    "error processing change notification {}: {reason}",
                    String::from_utf8_lossy(data)
                );
                return Ok(());
            }
        };
        let config = read_config(self.store, &entity_type, &entity_name).await?;
        tracing::info!(
            target: TARGET,
            "Processing override for entityPath: {entity_type}/{entity_name} with config: {}",
            loggable(&entity_type, &config)
        );
        handle(ConfigChange {
            entity_type,
            entity_name,
            config,
        });
        Ok(())
    }

    async fn purge(&mut self, now: Millis, names: &[String]) -> Result<(), Error> {
        for name in names {
            let Some(created) = self.created.get(name) else {
                continue;
            };
            if now - created <= EXPIRATION_MS {
                continue;
            }
            match self
                .store
                .delete(&format!("{CONFIG_CHANGES}/{name}"), None)
                .await
            {
                Ok(()) | Err(Error::NoNode { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.created.retain(|name, _| names.contains(name));
        Ok(())
    }

    /// Hands on what was configured before this broker began to watch.
    async fn bootstrap(&self, handle: &mut (impl FnMut(ConfigChange) + Send)) -> Result<(), Error> {
        for entity_type in [TOPICS, BROKERS] {
            for entity_name in entities(self.store, entity_type).await? {
                let config = read_config(self.store, entity_type, &entity_name).await?;
                handle(ConfigChange {
                    entity_type: entity_type.to_owned(),
                    entity_name,
                    config,
                });
            }
        }
        Ok(())
    }
}

/// Entity type and name of a notification.
fn entity_of(data: &[u8]) -> Result<(String, String), String> {
    let change = data::ConfigChange::decode(data).map_err(|error| error.to_string())?;
    if !paths::CONFIG_TYPES.contains(&change.entity_type.as_str()) {
        return Err(format!(
            "{} is not one of {}",
            change.entity_type,
            paths::CONFIG_TYPES.join(", ")
        ));
    }
    Ok((change.entity_type, change.entity))
}

/// Credentials and passwords are never logged.
fn loggable(entity_type: &str, config: &Properties) -> String {
    let shown: Vec<String> = config
        .iter()
        .map(|(key, value)| {
            let secret = key.starts_with("SCRAM-")
                || (entity_type == BROKERS && crate::config::dynamic::is_sensitive(key));
            let value = if secret { "[hidden]" } else { value };
            format!("{key} -> {value}")
        })
        .collect();
    format!("Map({})", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::super::CreateMode;
    use super::super::configs::change_config;
    use super::super::embedded::{Embedded, EmbeddedStore};
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn both_versions_of_notifications_are_read() {
        let check = |text: &str| entity_of(text.as_bytes()).ok();
        let entity = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
        assert_eq!(
            check(r#"{"version":2,"entity_path":"topics/t"}"#),
            entity("topics", "t")
        );
        assert_eq!(
            check(r#"{"version":2,"entity_path":"users/u/clients/c"}"#),
            entity("users", "u/clients/c")
        );
        assert_eq!(
            check(r#"{"version":2,"entity_path":"brokers/<default>"}"#),
            entity("brokers", "<default>")
        );
        assert_eq!(
            check(r#"{"version":1,"entity_type":"topics","entity_name":"t"}"#),
            entity("topics", "t")
        );
        for bad in [
            "",
            "{}",
            r#"{"version":3,"entity_path":"topics/t"}"#,
            r#"{"version":2,"entity_path":"topics"}"#,
            r#"{"version":2,"entity_path":"what/t"}"#,
            r#"{"version":1,"entity_type":"what","entity_name":"1"}"#,
        ] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_logged() {
        let config = Properties::from([
            ("SCRAM-SHA-256".to_owned(), "salt".to_owned()),
            ("producer_byte_rate".to_owned(), "5".to_owned()),
        ]);
        assert_eq!(
            loggable("users", &config),
            "Map(SCRAM-SHA-256 -> [hidden], producer_byte_rate -> 5)"
        );
    }

    /// A store with a controller, a clock that stands still, and the changes that are handed on.
    struct Watched {
        server: Arc<Embedded>,
        clock: Arc<ManualClock>,
        store: Arc<EmbeddedStore>,
        cancel: CancellationToken,
    }

    impl Watched {
        async fn new() -> Self {
            let clock = Arc::new(ManualClock::at(1_000_000));
            let server = Embedded::in_memory(Arc::clone(&clock) as Arc<dyn Clock>);
            let store = Arc::new(server.connect());
            for path in ["/controller", "/config", CONFIG_CHANGES] {
                store
                    .create(path, Bytes::new(), CreateMode::Persistent)
                    .await
                    .unwrap();
            }
            Self {
                server,
                clock,
                store,
                cancel: CancellationToken::new(),
            }
        }

        async fn set(&self, entity_type: &str, name: &str, value: &str) {
            let other = self.server.connect();
            let config = Properties::from([("k".to_owned(), value.to_owned())]);
            change_config(&other, entity_type, name, &config)
                .await
                .unwrap();
        }

        fn watch(&self) -> mpsc::UnboundedReceiver<String> {
            let (sender, receiver) = mpsc::unbounded_channel();
            let handle = move |change: ConfigChange| {
                let value = change.config.get("k").cloned().unwrap_or_default();
                let line = format!("{}/{}={value}", change.entity_type, change.entity_name);
                // The receiver may be gone at the end of a test.
                let _ = sender.send(line);
            };
            let store = Arc::clone(&self.store) as Arc<dyn Store>;
            let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
            tokio::spawn(run(store, clock, handle, self.cancel.clone()));
            receiver
        }
    }

    async fn next(changes: &mut mpsc::UnboundedReceiver<String>) -> String {
        tokio::time::timeout(std::time::Duration::from_secs(10), changes.recv())
            .await
            .expect("a change within 10 s")
            .expect("the watch runs")
    }

    #[tokio::test]
    async fn what_was_set_before_is_replayed_and_what_is_set_later_follows_in_order() {
        let watched = Watched::new().await;
        watched.set("topics", "a", "1").await;
        watched.set("brokers", "<default>", "2").await;
        let mut changes = watched.watch();
        // The notifications, then every entity once.
        for expect in [
            "topics/a=1",
            "brokers/<default>=2",
            "topics/a=1",
            "brokers/<default>=2",
        ] {
            assert_eq!(next(&mut changes).await, expect);
        }
        watched.set("topics", "b", "3").await;
        assert_eq!(next(&mut changes).await, "topics/b=3");
        watched.set("topics", "a", "4").await;
        assert_eq!(next(&mut changes).await, "topics/a=4");
        watched.cancel.cancel();
    }

    #[tokio::test]
    async fn changes_go_on_after_the_session_expired() {
        let watched = Watched::new().await;
        let mut changes = watched.watch();
        watched.set("topics", "a", "1").await;
        assert_eq!(next(&mut changes).await, "topics/a=1");
        watched.store.expire();
        watched.set("topics", "a", "2").await;
        // The first round's bootstrap may have shown the entity once more.
        while next(&mut changes).await != "topics/a=2" {}
        watched.cancel.cancel();
    }

    #[tokio::test]
    async fn notifications_are_purged_after_fifteen_minutes() {
        let watched = Watched::new().await;
        let mut changes = watched.watch();
        watched.set("topics", "a", "1").await;
        assert_eq!(next(&mut changes).await, "topics/a=1");
        watched.clock.advance(EXPIRATION_MS + 1);
        watched.set("topics", "a", "2").await;
        while next(&mut changes).await != "topics/a=2" {}
        let look = watched.server.connect();
        let purged = async {
            loop {
                let (names, watch) = look.children_and_watch(CONFIG_CHANGES).await.unwrap();
                if names == ["config_change_0000000001"] {
                    return;
                }
                let _ = watch.await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), purged)
            .await
            .expect("purged within 10 s");
        watched.cancel.cancel();
    }
}
