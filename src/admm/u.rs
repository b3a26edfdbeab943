//! Line 6 of Algorithm 1: the multipliers u_l.

use super::BoundaryBlock;
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};

/// u_l ← u_l + ρ (p_{l+1} − q_l).
///
/// Run by the owners of both layers on the same p and q, so that u never travels. p, q, u: nodes × n_l.
/// Cost: 3 nodes n_l.
pub fn update<T: Real>(block: &mut BoundaryBlock<T>, rho: f64) {
    let rho = T::of(rho);
    for ((u, &p), &q) in flat_mut(&mut block.u).iter_mut().zip(flat(&block.p)).zip(flat(&block.q)) {
        *u += rho * (p - q);
    }
}
