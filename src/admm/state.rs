//! What a rank holds: its layers and the boundaries between layers, in blocks of nodes.

use ndarray::{Array1, Array2};

use super::first_layer::DualWeights;
use super::penalties::WeightPenalty;
use crate::linalg::Real;
use crate::linalg::elements::frobenius2;

/// One layer l: z_l = W_l p_l + b_l.
#[derive(Debug, Clone)]
pub struct Layer<T> {
    /// l, counted from 1.
    pub index: usize,
    /// W_l.
    pub weights: Weights<T>,
    /// b_l, n_l entries.
    pub b: Array1<T>,
    /// Regularisers of W_l.
    pub penalty: WeightPenalty,
    /// Blocks of nodes.
    pub blocks: Vec<LayerBlock<T>>,
    /// Start vector of the next power iteration for ‖W‖₂ (n_{l-1} entries), where p is quantized.
    pub spectral: Option<Array1<T>>,
}

impl<T> Layer<T> {
    /// Training nodes of each block.
    pub fn block_nodes(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        self.blocks.iter().map(|block| block.z.nrows())
    }
}

/// The variables of one (layer, block).
#[derive(Debug, Clone)]
pub struct LayerBlock<T> {
    /// W_l p_l without b, nodes × n_l; kept up to date by every update of p and W.
    pub m: Array2<T>,
    /// z_l, nodes × n_l.
    pub z: Array2<T>,
}

/// W_l in one of its forms.
#[derive(Debug, Clone)]
pub enum Weights<T> {
    /// Layer l ≥ 2: W, n_l × n_{l-1}.
    Hidden(Array2<T>),
    /// Layer 1 with N ≥ n_0: W and the fixed input.
    First(FirstLayer<T>),
    /// Layer 1 with N < n_0: W_1 = c W_1⁰ + D Xᵀ, in N dimensions.
    Dual(Box<DualWeights<T>>),
}

/// Layer 1 in its plain form: the input never changes, so p pᵀ and its inverses are kept.
#[derive(Debug, Clone)]
pub struct FirstLayer<T> {
    /// W_1, n_1 × n_0.
    pub w: Array2<T>,
    /// X in blocks, nodes × n_0.
    pub x: Vec<Array2<T>>,
    /// XᵀX (node-major), n_0 × n_0, where the exact solve has needed it.
    pub gram: Option<Array2<T>>,
    /// (ν, λ) and (ν XᵀX + λ I)^-1 of the last exact solve.
    pub inverse: Option<((f64, f64), Array2<T>)>,
}

impl<T: Real> Weights<T> {
    /// ‖W‖².
    pub fn norm2(&self) -> f64 {
        match self {
            Weights::Hidden(w) => frobenius2(w),
            Weights::First(first) => frobenius2(&first.w),
            Weights::Dual(dual) => dual.norm2(),
        }
    }

    /// The dense W, n_l × n_{l-1}; formed for layer 1 in N dimensions.
    pub fn dense(&self) -> Array2<T> {
        match self {
            Weights::Hidden(w) => w.clone(),
            Weights::First(first) => first.w.clone(),
            Weights::Dual(dual) => dual.dense(),
        }
    }
}

/// The boundary between layers l and l+1: p_{l+1} = q_l with multiplier u_l.
///
/// Where the layers are on two ranks both hold a copy; u is computed on both sides from the same p and q.
#[derive(Debug, Clone)]
pub struct Boundary<T> {
    /// l, the layer below.
    pub index: usize,
    /// Blocks of nodes.
    pub blocks: Vec<BoundaryBlock<T>>,
}

/// The variables of one (boundary, block), each nodes × n_l.
#[derive(Debug, Clone)]
pub struct BoundaryBlock<T> {
    /// p_{l+1}.
    pub p: Array2<T>,
    /// q_l.
    pub q: Array2<T>,
    /// u_l.
    pub u: Array2<T>,
}

impl<T: Real> Boundary<T> {
    /// u ← s u: where ν and ρ change by a factor s, so do the multipliers, or the Lagrangian jumps.
    pub fn scale_u(&mut self, s: f64) {
        let s = T::of(s);
        for block in &mut self.blocks {
            block.u.mapv_inplace(|u| u * s);
        }
    }
}
