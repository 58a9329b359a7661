//! What a broker asks of the controller: a block of producer ids, and to lead its partitions
//! elsewhere before it stops. In the process when the controller is this broker, else over a
//! connection to its control-plane or inter-broker listener.
//!
//! Source: `NodeToControllerChannelManager`, `KafkaServer.controlledShutdown`.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    AllocateProducerIdsRequest, BrokerId as WireBrokerId, ControlledShutdownRequest,
};
use tracing::{info, warn};

use super::SERVER;
use crate::cluster::image::Cluster;
use crate::cluster::update::ControllerEpochGate;
use crate::config::LiveConfig;
use crate::controller::channel::ChannelSettings;
use crate::controller::event::PRODUCER_ID_BLOCK_SIZE;
use crate::controller::run::Controller;
use crate::error::ErrorCode;
use crate::net::client::{self, Client};
use crate::txn::producer_id::BlockSource;
use crate::types::{BrokerId, ProducerId};
use crate::zk::{BoxFuture, SessionState, Store};

/// Version of ControlledShutdown, which is sent without asking for versions.
const CONTROLLED_SHUTDOWN_VERSION: i16 = 3;
/// A client that waits for a producer id is answered by then; it asks again.
const PRODUCER_IDS_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct ToController {
    pub(super) broker_id: BrokerId,
    pub(super) config: Arc<LiveConfig>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) gate: Arc<ControllerEpochGate>,
    pub(super) controller: Arc<Controller>,
    pub(super) store: Arc<dyn Store>,
}

/// Why the controller did not do it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no controller is known")]
    NoController,
    #[error("the controller {0} has no listener {1}")]
    NoListener(BrokerId, String),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{0}")]
    Refused(ErrorCode),
    #[error("{0} partitions have no other replica that could lead them")]
    Remaining(usize),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the session with the coordination store is not connected")]
    Disconnected,
}

impl ToController {
    async fn connect(&self) -> Result<Client, Failure> {
        let image = self.cluster.image();
        let controller = image
            .controller_id
            .and_then(|id| image.brokers.get(&id))
            .ok_or(Failure::NoController)?;
        let settings = ChannelSettings::from_config(&self.config.load());
        let endpoint = controller
            .endpoint(&settings.listener)
            .ok_or_else(|| Failure::NoListener(controller.id, settings.listener.clone()))?;
        let port = u16::try_from(endpoint.port).unwrap_or(0);
        let options = client::Options {
            client_id: self.broker_id.to_string(),
            connect_timeout: settings.connect_timeout,
            request_timeout: settings.connect_timeout,
            ..client::Options::default()
        };
        Ok(Client::connect((endpoint.host.as_str(), port), options).await?)
    }

    async fn allocate(&self) -> Result<Range<ProducerId>, Failure> {
        let epoch = self.gate.broker_epoch();
        if self.controller.is_active() {
            let first = self
                .controller
                .allocate_producer_ids(self.broker_id, epoch)
                .await
                .map_err(Failure::Refused)?;
            return Ok(first..first + PRODUCER_ID_BLOCK_SIZE);
        }
        // A connection for each thousand producers is not worth keeping.
        let mut connection = self.connect().await?;
        connection.negotiate().await?;
        let request = AllocateProducerIdsRequest::default()
            .with_broker_id(WireBrokerId(self.broker_id))
            .with_broker_epoch(epoch);
        let response = connection.call(&request).await?;
        match ErrorCode::from_value(response.error_code) {
            ErrorCode::None => {
                let first = response.producer_id_start.0;
                Ok(first..first.saturating_add(i64::from(response.producer_id_len)))
            }
            code => Err(Failure::Refused(code)),
        }
    }

    /// Hands over what this broker leads, with retries; then, or without success, it is stopped all
    /// the same.
    pub(super) async fn controlled_shutdown(&self) {
        let config = self.config.load();
        if !config.controlled_shutdown_enable() {
            return;
        }
        let id = self.broker_id;
        let back_off = u64::try_from(config.controlled_shutdown_retry_backoff_ms()).unwrap_or(0);
        let mut left = config.controlled_shutdown_max_retries();
        info!(target: SERVER, "[KafkaServer id={id}] Starting controlled shutdown");
        while left > 0 {
            left -= 1;
            let begun = Instant::now();
            match self.hand_over().await {
                Ok(()) => {
                    info!(
                        target: SERVER,
                        "[KafkaServer id={id}] Controlled shutdown request returned successfully after {}ms",
                        begun.elapsed().as_millis()
                    );
                    return;
                }
                // Nobody can hand over anything until the store is back.
                Err(failure @ Failure::Disconnected) => {
                    warn!(target: SERVER, "[KafkaServer id={id}] No controlled shutdown: {failure}");
                    break;
                }
                Err(failure) => {
                    info!(target: SERVER, "[KafkaServer id={id}] Error during controlled shutdown, possibly because leader movement took longer than the configured controller.socket.timeout.ms and/or request.timeout.ms: {failure}");
                }
            }
            if left > 0 {
                tokio::time::sleep(Duration::from_millis(back_off)).await;
                warn!(target: SERVER, "[KafkaServer id={id}] Retrying controlled shutdown after the previous attempt failed...");
            }
        }
        warn!(target: SERVER, "[KafkaServer id={id}] Proceeding to do an unclean shutdown as all the controlled shutdown attempts failed");
    }

    async fn hand_over(&self) -> Result<(), Failure> {
        let epoch = self.gate.broker_epoch();
        if self.controller.is_active() {
            if !matches!(
                *self.store.session_states().borrow(),
                SessionState::Connected { .. }
            ) {
                return Err(Failure::Disconnected);
            }
            let limit = ChannelSettings::from_config(&self.config.load()).connect_timeout;
            let asked = self.controller.controlled_shutdown(self.broker_id, epoch);
            let remaining = tokio::time::timeout(limit, asked)
                .await
                .map_err(|_| Failure::TimedOut(limit))?
                .map_err(Failure::Refused)?;
            return none_left(remaining.len());
        }
        let mut connection = self.connect().await?;
        let request = ControlledShutdownRequest::default()
            .with_broker_id(WireBrokerId(self.broker_id))
            .with_broker_epoch(epoch);
        let response = connection
            .send(&request, CONTROLLED_SHUTDOWN_VERSION)
            .await?;
        match ErrorCode::from_value(response.error_code) {
            ErrorCode::None => none_left(response.remaining_partitions.len()),
            code => Err(Failure::Refused(code)),
        }
    }
}

fn none_left(remaining: usize) -> Result<(), Failure> {
    match remaining {
        0 => Ok(()),
        some => Err(Failure::Remaining(some)),
    }
}

impl BlockSource for ToController {
    fn next_block(&self) -> BoxFuture<'_, Result<Range<ProducerId>, String>> {
        Box::pin(async move {
            match tokio::time::timeout(PRODUCER_IDS_WITHIN, self.allocate()).await {
                Ok(result) => result.map_err(|failure| failure.to_string()),
                Err(_) => Err(Failure::TimedOut(PRODUCER_IDS_WITHIN).to_string()),
            }
        })
    }
}
