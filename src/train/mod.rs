//! Training: stages, evaluation, penalties, history and results, over all ranks.

mod backprop_input;
mod backprop_run;
mod best;
pub(crate) mod checkpoint;
mod driver;
mod error;
pub mod evaluate;
pub mod f1;
pub mod input;
pub mod operator_search;
pub mod output;
mod patience;
mod problem;
pub mod reduction;
mod reshard;
mod results;
pub mod schedule;
mod screen;
mod several;
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
pub use several::{MeanAndDeviation, SeveralSummary, checkpoint_files, train_several};
pub use state::RUN_STATE_VERSION;
pub use status::{Outcome, Status};
pub use stopping::{StopCause, StopSignal};
