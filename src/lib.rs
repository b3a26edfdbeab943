//! Train deep graph-augmented MLPs (GA-MLP) without backpropagation, by pdADMM-G and pdADMM-G-Q
//! (arXiv:2105.09837), one layer or a run of layers to each MPI rank.

pub mod admm;
pub mod cli;
pub mod dataset;
pub mod graph;
pub mod linalg;
pub mod model;
pub mod parallel;
pub mod predict;
pub mod quantize;
pub mod settings;
pub mod storage;
pub mod train;
