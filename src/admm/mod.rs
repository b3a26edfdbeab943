//! Algorithm 1 of arXiv:2105.09837: the state of a layer and its six updates.
//!
//! Everything here is node-major: a matrix that the paper writes n × N is stored N × n in blocks of nodes, a
//! node a row, so `W p` of the paper is `P Wᵀ` here. Nothing here knows of MPI.
//!
//! | line | variable | file | equation |
//! |---|---|---|---|
//! | 1 | p_l | [`p`]; on a level set: [`p_quantized`] | 3; 10 |
//! | 2 | W_l | [`w`], layer 1 in N dimensions: [`first_layer`] | 4 |
//! | 3 | b_l | [`b`] | 5 |
//! | 4 | z_l, z_L | [`z`], [`z_last`] | 6, 7 |
//! | 5 | q_l | [`q`] | 8 |
//! | 6 | u_l | [`u`] | – |

pub mod b;
pub mod cost;
pub mod deepen;
pub mod first_layer;
pub mod iteration;
pub mod p;
pub mod p_quantized;
pub mod penalties;
pub mod q;
pub mod residuals;
pub mod spectral;
pub mod state;
pub mod team;
pub mod u;
pub mod w;
pub mod workspace;
pub mod z;
pub mod z_last;

pub use penalties::Penalties;
pub use state::{Boundary, BoundaryBlock, Layer, LayerBlock, Weights};
pub use team::Team;
pub use workspace::Workspace;

/// How the p and W subproblems are solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Subproblem {
    /// One majorised gradient step with the smallest valid τ and θ.
    Gradient,
    /// The minimiser in closed form; where p is quantized, its entries go to their best levels one after another.
    Exact,
    /// Exact up to 1024 inputs and where there are no more inputs than nodes, gradient elsewhere.
    Auto,
}

/// The most inputs for which `auto` solves exactly however few the nodes are.
const NARROW: usize = 1024;

impl Subproblem {
    /// Whether p and W of a layer with so many inputs are solved exactly, with N nodes: a choice by shapes alone.
    ///
    /// The exact solve costs O(n³) for a factorisation beside products of O(N n²): worth it for layers with more nodes
    /// than neurons. With fewer nodes it costs several times a gradient step, and is still the better choice for all
    /// but the widest layers: gradient steps learn so slowly there that accuracy suffers (docs/accuracy.md).
    pub fn is_exact(self, inputs: usize, nodes: usize) -> bool {
        match self {
            Subproblem::Gradient => false,
            Subproblem::Exact => true,
            Subproblem::Auto => inputs <= NARROW || nodes >= inputs,
        }
    }
}
