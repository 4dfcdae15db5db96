//! Results: what they are made of, as JSON and as tables.

pub(crate) mod output;
pub(crate) mod schema;
pub(crate) mod table;
