//! The metadata image: what this broker knows of the cluster, from UpdateMetadata.

pub mod image;
pub mod update;
