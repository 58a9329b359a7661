//! The configuration now, and how it changes while the broker runs.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Config;

/// The configuration now; dynamic changes replace it whole.
#[derive(Debug)]
pub struct LiveConfig {
    current: ArcSwap<Config>,
}

impl LiveConfig {
    pub fn new(config: Config) -> Self {
        Self {
            current: ArcSwap::from_pointee(config),
        }
    }

    pub fn load(&self) -> Arc<Config> {
        self.current.load_full()
    }
}
