//! Train deep graph-augmented MLPs (GA-MLP) without backpropagation, by pdADMM-G and pdADMM-G-Q
//! (arXiv:2105.09837), one layer or a run of layers to each MPI rank.

pub mod cli;
pub mod dataset;
