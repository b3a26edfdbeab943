//! Studies: many runs, one table and one plot.

pub mod scaling;
pub mod traffic;
