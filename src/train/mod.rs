//! Training: stages, evaluation, penalties, history and results, over all ranks.

mod best;
mod driver;
pub mod evaluate;
pub mod input;
pub mod output;
mod problem;
pub mod reduction;
pub mod schedule;
mod screen;
pub mod stage;

pub use driver::{Outcome, RunOptions, Status, TrainError, train};
pub use problem::Problem;
pub use screen::Screen;
