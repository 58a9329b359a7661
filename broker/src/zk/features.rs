//! `/feature`: the version of the node is the epoch of the finalized features that ApiVersions tells
//! (`FinalizedFeatureChangeListener`). A ZooKeeper cluster of 3.9 has no features, only the epoch.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Error, Store, paths};

/// Tells `changed` the epoch now and at every change, −1 while there is no node, until cancelled.
pub async fn follow(
    store: Arc<dyn Store>,
    changed: impl Fn(i64) + Send,
    cancel: CancellationToken,
) {
    loop {
        let found = tokio::select! {
            () = cancel.cancelled() => return,
            found = store.exists_and_watch(paths::FEATURE) => found,
        };
        let watch = match found {
            Ok((stat, watch)) => {
                changed(stat.map_or(-1, |stat| i64::from(stat.version)));
                watch
            }
            Err(Error::Closed | Error::AuthFailed) => return,
            Err(error) => {
                tracing::warn!(target: "kafka.server.FinalizedFeatureChangeListener", "{}: {error}", paths::FEATURE);
                let mut states = store.session_states();
                tokio::select! {
                    () = cancel.cancelled() => return,
                    changed = states.changed() => if changed.is_err() { return },
                }
                continue;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            // Whatever happened, even a lost session: look again.
            _ = watch => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::zk::CreateMode;
    use crate::zk::embedded::Embedded;

    #[tokio::test]
    async fn the_epoch_is_the_version_of_the_node() {
        let server = Embedded::in_memory(Arc::new(ManualClock::at(1)));
        let store: Arc<dyn Store> = Arc::new(server.connect());
        let (told, mut heard) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let following = tokio::spawn(follow(
            Arc::clone(&store),
            move |epoch| told.send(epoch).unwrap(),
            cancel.clone(),
        ));
        assert_eq!(heard.recv().await, Some(-1));
        let created = store.create(paths::FEATURE, Bytes::new(), CreateMode::Persistent);
        created.await.unwrap();
        assert_eq!(heard.recv().await, Some(0));
        store.set(paths::FEATURE, Bytes::new(), None).await.unwrap();
        assert_eq!(heard.recv().await, Some(1));
        cancel.cancel();
        following.await.unwrap();
    }
}
