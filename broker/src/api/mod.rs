//! One file per Kafka API: decode → authorise → ask one room → encode. THE table of APIs is here.

pub mod alter_configs;
pub mod authorized;
mod config_resource;
pub mod context;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod incremental_alter_configs;
pub mod metadata;
