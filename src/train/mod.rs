//! Training: stages, evaluation, penalties, history and results, over all ranks.

pub mod input;
pub mod stage;
