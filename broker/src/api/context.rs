//! What a handler is given beside the request.

use std::sync::Arc;

use crate::clock::Clock;
use crate::cluster::image::Cluster;
use crate::cluster::update::ControllerEpochGate;
use crate::config::LiveConfig;
use crate::controller::run::Controller;
use crate::group::coordinator::GroupCoordinator;
use crate::log::manager::LogManager;
use crate::net::Peer;
use crate::replica::manager::ReplicaManager;
use crate::txn::producer_id::ProducerIds;
use crate::types::BrokerId;
use crate::zk::Store;

/// The rooms an API may ask, one field each; built once in `broker.rs`.
pub struct Rooms {
    pub broker_id: BrokerId,
    pub config: Arc<LiveConfig>,
    pub clock: Arc<dyn Clock>,
    pub cluster: Arc<Cluster>,
    pub gate: Arc<ControllerEpochGate>,
    pub store: Arc<dyn Store>,
    pub logs: Arc<LogManager>,
    pub replicas: Arc<ReplicaManager>,
    pub groups: Arc<GroupCoordinator>,
    pub controller: Arc<Controller>,
    pub producer_ids: Arc<ProducerIds>,
}

/// One request: who asks, in which version, and the rooms to ask.
pub struct Context<'a> {
    pub rooms: &'a Arc<Rooms>,
    pub peer: &'a Peer,
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    /// A slice of the request's frame.
    pub client_id: Option<&'a str>,
}
