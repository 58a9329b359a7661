//! Configuration: one table of keys, its sources, and typed views of the result.

use std::sync::Arc;

use arc_swap::ArcSwap;

pub mod topic;

/// One consistent state of the broker's configuration: defaults < file < environment <
/// `--override` < dynamic. One typed accessor per key that is read, named after the key with dots
/// replaced by underscores.
#[derive(Debug)]
pub struct Config {
    _private: (),
}

/// The configuration now; dynamic changes replace it whole.
#[derive(Debug)]
pub struct LiveConfig {
    current: ArcSwap<Config>,
}

impl LiveConfig {
    pub fn load(&self) -> Arc<Config> {
        self.current.load_full()
    }
}
