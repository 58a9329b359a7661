//! Leader and follower of each partition: append, fetch, high watermark, and those who wait.

pub mod manager;
