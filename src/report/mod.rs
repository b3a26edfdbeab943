//! What runs look like: plots.

pub mod scatter;
