//! The controller: election, partition and replica state machines, topic deletion.

pub mod run;
