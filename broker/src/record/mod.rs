//! Record batches as bytes: view, validate, (de)compress, convert, build. Knows no file.
//!
//! Reading goes in three steps, each borrowed and bounded: [`batch::BatchIter`] cuts a buffer into
//! frames of any magic, [`batch::Batch`] views one v2 batch, [`records::for_each_record`] walks the
//! records of either format through a fixed window. Writing goes through [`build::BatchBuilder`].
//! Invariants, cited as R1…:
//! - R1: no allocation is sized by a number from the wire; buffers grow as bytes arrive.
//! - R2: nothing is decoded before the CRC was found right ([`validate::prepare`]).
//! - R3: offsets and timestamps use checked arithmetic; an overflow is an error, never a wrap.
//! - R4: wrappers of the old formats nest once; there is no recursion over wire data.

pub mod batch;
pub mod build;
pub mod compress;
pub mod control;
pub mod downconvert;
pub mod error;
pub mod legacy;
mod lz4_frame;
pub mod records;
mod rules;
mod upconvert;
pub mod validate;
pub mod varint;
mod xerial;

pub use error::Error;

#[cfg(test)]
mod tests;
