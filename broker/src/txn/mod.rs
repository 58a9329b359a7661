//! Producer ids. The transaction coordinator finds its room here.

pub mod producer_id;
