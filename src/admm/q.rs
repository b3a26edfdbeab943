//! Line 5 of Algorithm 1: q_l (Eq. 8).

use ndarray::Array2;

use super::{BoundaryBlock, Penalties};
use crate::linalg::Real;
use crate::linalg::elements::{larger, peak, rows, rows_mut, sum2};
use crate::quantize::{LevelSet, Wire};

/// What an update of q leaves to be known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QStep {
    /// ‖q_l − q_l(previous)‖².
    pub change2: f64,
    /// Largest |q| before rounding.
    pub peak: f64,
}

/// q_l ← (ρ p_{l+1} + u_l + ν f(z_l)) / (ρ + ν), then to the nearest level where q is quantized, or else to what `wire` lets
/// through.
///
/// `z`, p, q, u: nodes × n_l. Cost: 6 nodes n_l.
pub fn update<T: Real>(
    z: &Array2<T>,
    block: &mut BoundaryBlock<T>,
    penalties: &Penalties,
    levels: Option<&LevelSet>,
    wire: Option<Wire>,
) -> QStep {
    let (rho, nu) = (T::of(penalties.rho), T::of(penalties.nu));
    let scale = T::one() / (rho + nu);
    let mut step = QStep::default();
    let mut old = vec![T::zero(); block.q.ncols()];
    let BoundaryBlock { p, q, u } = block;
    for (((q, p), u), z) in rows_mut(q).zip(rows(p)).zip(rows(u)).zip(rows(z)) {
        old.copy_from_slice(q);
        for (((q, &p), &u), &z) in q.iter_mut().zip(p).zip(u).zip(z) {
            *q = (rho * p + u + nu * z.max(T::zero())) * scale;
        }
        if let Some(levels) = levels {
            step.peak = larger(step.peak, peak(q));
            levels.round(q);
        } else if let Some(wire) = wire {
            wire.round(q);
        }
        step.change2 += sum2(q, &old, |q, old| (q - old) * (q - old));
    }
    step
}
