//! Train deep graph-augmented MLPs (GA-MLP) without backpropagation, by pdADMM-G and pdADMM-G-Q
//! (arXiv:2105.09837), one layer or a run of layers to each MPI rank.
//!
//! Data flows one way: a file ([`dataset`]) becomes operators and augmented features ([`graph`]); ranks hold
//! layers and exchange p and q ([`parallel`], [`quantize`]); the updates of Algorithm 1 ([`admm`]) run in stages
//! ([`train`]); what comes out is a model ([`model`]). [`backprop`] has the methods it is compared with. A [`study`]
//! makes many runs, and [`report`] draws them; [`timing`] knows where a rank's time went, and [`performance`]
//! what it would be on other ranks and networks.
//!
//! The command `pdadmm-g` is a thin layer over this library. The same run from Rust, in one process:
//!
//! ```
//! use pdadmm_g::dataset::generate::{GenerateSettings, generate};
//! use pdadmm_g::parallel::SingleProcess;
//! use pdadmm_g::settings::RawSettings;
//! use pdadmm_g::train::{RunOptions, train};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let data = folder.path().join("graph.h5");
//! generate(&GenerateSettings::new(300, 16, 3))?.write(&data, false)?;
//!
//! let settings = RawSettings {
//!     data: Some(data),
//!     output: Some(folder.path().join("run")),
//!     stages: Some(vec![2, 4]),
//!     neurons: Some(16),
//!     iterations: Some(30),
//!     ..RawSettings::default()
//! };
//! let outcome = train::<f64>(&settings.check()?, &SingleProcess, RunOptions::default())?;
//!
//! assert_eq!(outcome.summary.iterations, 60);
//! assert!(outcome.summary.best.test > Some(0.5));
//! # Ok(())
//! # }
//! ```
//!
//! Under MPI every rank calls [`train::train`] with the communicator that [`parallel::start`] gives.

pub mod admm;
pub mod augment;
pub mod backprop;
pub mod cli;
pub mod dataset;
pub mod graph;
pub mod inspection;
pub mod linalg;
pub mod model;
pub mod parallel;
pub mod performance;
pub mod predict;
pub mod progress;
pub mod quantize;
pub mod report;
pub mod settings;
pub mod storage;
pub mod study;
pub mod timing;
pub mod train;

/// An error with what caused it, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
