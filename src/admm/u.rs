//! Line 6 of Algorithm 1, the multipliers u_l, for the boundary below a rank's lowest layer. Elsewhere u goes with q
//! ([`super::q`]).

use super::BoundaryBlock;
use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut, vectorised};

/// u_l ← u_l + ρ (p_{l+1} − q_l).
///
/// Run by the owners of both layers on the same p and q, so that u never travels. p, q, u: nodes × n_l.
/// Cost: 3 nodes n_l.
pub fn update<T: Real>(block: &mut BoundaryBlock<T>, rho: f64) {
    let rho = T::of(rho);
    let BoundaryBlock { p, q, u } = block;
    vectorised(
        #[inline(always)]
        || {
            for ((u, &p), &q) in flat_mut(u).iter_mut().zip(flat(p)).zip(flat(q)) {
                *u += rho * (p - q);
            }
        },
    );
}
