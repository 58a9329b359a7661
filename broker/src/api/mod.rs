//! One file per Kafka API: decode → authorise → ask one room → encode. THE table of APIs is here.

pub mod alter_configs;
mod config_resource;
pub mod context;
pub mod describe_configs;
pub mod incremental_alter_configs;
