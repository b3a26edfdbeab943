//! Lines 5 and 6 of Algorithm 1 for the boundary above a layer: q_l (Eq. 8), and u_l with it.

use ndarray::Array2;

use super::workspace::BlockSums;
use super::{BoundaryBlock, Penalties};
use crate::linalg::Real;
use crate::linalg::elements::{LaneSum, STRETCH, flat, flat_mut, larger, peak, vectorised};
use crate::quantize::{LevelSet, Wire};

/// What an update of q and u leaves to be known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QStep {
    /// ‖q_l − q_l(previous)‖².
    pub change2: f64,
    /// Largest |q| before rounding; 0 where q is not quantized.
    pub peak: f64,
    /// ‖q_l − f(z_l)‖².
    pub coupling: f64,
    /// ⟨u_l, p_{l+1} − q_l⟩.
    pub inner: f64,
    /// ‖p_{l+1} − q_l‖².
    pub primal: f64,
}

impl QStep {
    pub(super) fn to_sums(self) -> BlockSums {
        let Self { change2, peak, coupling, inner, primal } = self;
        [change2, peak, coupling, inner, primal]
    }
}

/// q_l ← (ρ p_{l+1} + u_l + ν f(z_l)) / (ρ + ν), then to the nearest level where q is quantized, or else to what `wire` lets
/// through; u_l ← u_l + ρ (p_{l+1} − q_l).
///
/// `z`, p, q, u: nodes × n_l. Cost: about 20 nodes n_l.
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
    let mut before = [T::zero(); STRETCH];
    let BoundaryBlock { p, q, u } = block;
    let stretches = flat_mut(q).chunks_mut(STRETCH).zip(flat_mut(u).chunks_mut(STRETCH));
    let fixed = flat(p).chunks(STRETCH).zip(flat(z).chunks(STRETCH));
    vectorised(
        #[inline(always)]
        || {
            let [mut change2, mut coupling, mut inner, mut primal] = std::array::from_fn(|_| LaneSum::new());
            for ((q, u), (p, z)) in stretches.zip(fixed) {
                let before = &mut before[..q.len()];
                before.copy_from_slice(q);
                for (((q, &p), &u), &z) in q.iter_mut().zip(p).zip(&*u).zip(z) {
                    *q = (rho * p + u + nu * z.max(T::zero())) * scale;
                }
                if let Some(levels) = levels {
                    step.peak = larger(step.peak, peak(q));
                    levels.round(q);
                } else if let Some(wire) = wire {
                    wire.round(q);
                }
                for ((u, &p), &q) in u.iter_mut().zip(p).zip(&*q) {
                    *u += rho * (p - q);
                }
                let square = |x: T| x * x;
                change2.add([q, before, z], |q, before, _| square(q - before));
                coupling.add([q, before, z], |q, _, z| square(q - z.max(T::zero())));
                inner.add([p, q, u], |p, q, u| u * (p - q));
                primal.add([p, q, u], |p, q, _| square(p - q));
            }
            [step.change2, step.coupling, step.inner, step.primal] =
                [change2, coupling, inner, primal].map(|sum| sum.finish());
        },
    );
    step
}
