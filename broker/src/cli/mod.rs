//! See design: cli.
