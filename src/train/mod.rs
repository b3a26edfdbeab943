//! Training: stages, evaluation, penalties, history and results, over all ranks.

mod best;
mod checkpoint;
mod driver;
mod error;
pub mod evaluate;
pub mod input;
pub mod output;
mod problem;
pub mod reduction;
mod results;
pub mod schedule;
mod screen;
pub mod stage;
mod stage_loop;
mod state;
mod status;
mod stopping;

pub use checkpoint::CheckpointError;
pub use driver::{RunOptions, train};
pub use error::TrainError;
pub use problem::Problem;
pub use screen::Screen;
pub use state::RUN_STATE_VERSION;
pub use status::{Outcome, Status};
pub use stopping::{StopCause, StopSignal};
