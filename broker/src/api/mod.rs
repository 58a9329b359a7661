//! One file per Kafka API: decode → authorise → ask one room → encode. THE table of APIs is here.

pub mod context;
