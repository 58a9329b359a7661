//! The parts of the benchmark: what runs (`system`, `process`), what loads it (`load`, over `wire` and
//! `records`), what is measured (`scenario`, `figure`), the order of it (`run`), and what is told of it
//! (`report`, `plot`). `floor` is the bare prototype that Ottla is held against.

pub mod figure;
pub mod floor;
pub mod load;
pub mod plot;
pub mod process;
pub mod records;
pub mod report;
pub mod run;
pub mod scenario;
pub mod system;
pub mod wire;
