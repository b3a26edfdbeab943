//! Training: stages, evaluation, penalties, history and results, over all ranks.

pub mod evaluate;
pub mod input;
pub mod reduction;
pub mod schedule;
pub mod stage;
