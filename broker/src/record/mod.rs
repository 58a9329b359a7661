//! Record batches as bytes: view, validate, (de)compress, convert, build. Knows no file.

pub mod batch;
pub mod build;
pub mod compress;
pub mod validate;
