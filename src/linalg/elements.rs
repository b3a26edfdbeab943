//! Element-wise passes: flat views of state matrices and sums of squares in double precision.

use ndarray::{Array1, Array2};

use super::Real;

/// The elements of a state matrix, row by row. State matrices are always in standard layout.
#[allow(clippy::expect_used)]
pub fn flat<T>(a: &Array2<T>) -> &[T] {
    a.as_slice().expect("state matrices are in standard layout")
}

/// The elements of a state matrix, row by row, to write.
#[allow(clippy::expect_used)]
pub fn flat_mut<T>(a: &mut Array2<T>) -> &mut [T] {
    a.as_slice_mut().expect("state matrices are in standard layout")
}

/// The elements of a vector.
#[allow(clippy::expect_used)]
pub fn flat_vector<T>(a: &Array1<T>) -> &[T] {
    a.as_slice().expect("state vectors are in standard layout")
}

/// Rows of a matrix; at least one column is assumed to exist where there are elements.
pub fn rows<T>(a: &Array2<T>) -> std::slice::ChunksExact<'_, T> {
    flat(a).chunks_exact(a.ncols().max(1))
}

/// Rows of a matrix, to write.
pub fn rows_mut<T>(a: &mut Array2<T>) -> std::slice::ChunksExactMut<'_, T> {
    let n = a.ncols().max(1);
    flat_mut(a).chunks_exact_mut(n)
}

/// Runs a pass over elements with the widest instructions that the processor has.
///
/// The bits are the same whichever these are: nothing is fused or reordered, and running sums are counted out here. What
/// the pass calls must be inlined into it (`#[inline(always)]`, the closure too), or it keeps the common instructions.
#[inline(always)]
pub fn vectorised<R>(pass: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(pass)
}

/// Σ f(x, y) in eight running sums of double precision, so that the order never changes.
#[inline(always)]
pub fn sum2<T: Real>(x: &[T], y: &[T], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let (xs, ys) = (x.chunks_exact(8), y.chunks_exact(8));
    let rest: f64 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| f(x.f64(), y.f64())).sum();
    for (x, y) in xs.zip(ys) {
        for k in 0..8 {
            lanes[k] += f(x[k].f64(), y[k].f64());
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// ‖x‖² in double precision.
#[inline(always)]
pub fn sum_squares<T: Real>(x: &[T]) -> f64 {
    sum2(x, x, |x, _| x * x)
}

/// ‖A‖² (Frobenius) in double precision.
pub fn frobenius2<T: Real>(a: &Array2<T>) -> f64 {
    vectorised(
        #[inline(always)]
        || sum_squares(flat(a)),
    )
}

/// Running sums side by side, which processors add at once.
const LANES: usize = 16;
/// Elements after which the running sums go over into double precision, and which stay in the nearest cache while all is
/// done with them.
pub const STRETCH: usize = 512;

/// A sum over elements that come in pieces: in this precision over short stretches, whose sums are added in double
/// precision. The order depends on the pieces alone.
#[derive(Debug)]
pub struct LaneSum<T> {
    lanes: [T; LANES],
    /// Elements that the lanes hold.
    held: usize,
    total: f64,
}

impl<T: Real> LaneSum<T> {
    /// A sum of nothing.
    #[inline(always)]
    pub fn new() -> Self {
        Self { lanes: [T::zero(); LANES], held: 0, total: 0.0 }
    }

    /// Adds f(x, y, z) of each element of three slices of one length.
    #[inline(always)]
    pub fn add(&mut self, [x, y, z]: [&[T]; 3], f: impl Fn(T, T, T) -> T) {
        for ((x, y), z) in x.chunks(STRETCH).zip(y.chunks(STRETCH)).zip(z.chunks(STRETCH)) {
            if self.held + x.len() > STRETCH {
                self.empty();
            }
            self.held += x.len();
            let mut lanes = self.lanes;
            let (xs, ys, zs) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>(), z.as_chunks::<LANES>());
            for ((x, y), z) in xs.0.iter().zip(ys.0).zip(zs.0) {
                for i in 0..LANES {
                    lanes[i] += f(x[i], y[i], z[i]);
                }
            }
            for (((lane, &x), &y), &z) in lanes.iter_mut().zip(xs.1).zip(ys.1).zip(zs.1) {
                *lane += f(x, y, z);
            }
            self.lanes = lanes;
        }
    }

    /// The sum.
    #[inline(always)]
    pub fn finish(mut self) -> f64 {
        self.empty();
        self.total
    }

    #[inline(always)]
    fn empty(&mut self) {
        self.total += self.lanes.iter().map(|lane| lane.f64()).sum::<f64>();
        self.lanes = [T::zero(); LANES];
        self.held = 0;
    }
}

impl<T: Real> Default for LaneSum<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether some element is NaN or infinite.
#[inline(always)]
pub fn has_not_finite<T: Real>(row: &[T]) -> bool {
    // 0 times an element is not 0 where the element is not finite; a running sum keeps that.
    let mut lanes = [T::zero(); LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x * T::zero();
        }
    }
    lanes.iter().chain(rest).any(|&x| x * T::zero() != T::zero())
}

/// max |x|, NaN where an element is NaN.
pub fn peak<T: Real>(x: &[T]) -> f64 {
    x.iter().fold(0.0, |top, x| larger(top, x.f64().abs()))
}

/// The larger of two numbers, NaN where one is NaN (`f64::max` would hide it).
#[inline]
pub fn larger(top: f64, x: f64) -> f64 {
    if x <= top || top.is_nan() { top } else { x }
}

/// Adds `alpha x` to y.
#[inline]
pub fn axpy<T: Real>(alpha: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// out ← Σ_k a_k x_{j_k} for the `entries` (j_k, a_k), rows of `x` being as long as `out`: a row of a sparse matrix times a
/// dense one.
///
/// Each element is summed in the order of the entries, starting from 0. Strips of columns stay in registers meanwhile.
pub fn combine_rows<T: Real>(x: &[T], entries: impl Iterator<Item = (usize, T)> + Clone, out: &mut [T]) {
    vectorised(
        #[inline(always)]
        || {
            let mut done = combine_strips::<T, 64>(x, &entries, out, 0);
            done = combine_strips::<T, 16>(x, &entries, out, done);
            done = combine_strips::<T, 4>(x, &entries, out, done);
            combine_strips::<T, 1>(x, &entries, out, done);
        },
    );
}

/// As many strips of `WIDTH` columns of [`combine_rows`] as fit from column `first` on; returns the first column left.
#[inline(always)]
fn combine_strips<T: Real, const WIDTH: usize>(
    x: &[T],
    entries: &(impl Iterator<Item = (usize, T)> + Clone),
    out: &mut [T],
    mut first: usize,
) -> usize {
    let columns = out.len();
    for strip in out[first..].chunks_exact_mut(WIDTH) {
        let mut sum = [T::zero(); WIDTH];
        for (j, a) in entries.clone() {
            let start = j * columns + first;
            let x = &x[start..start + WIDTH];
            for c in 0..WIDTH {
                sum[c] += a * x[c];
            }
        }
        strip.copy_from_slice(&sum);
        first += WIDTH;
    }
    first
}

/// x, or 0 where its magnitude is negligible ([`Real::NEGLIGIBLE`]). NaN stays.
#[inline(always)]
pub fn settle<T: Real>(x: T) -> T {
    if x.abs() < T::NEGLIGIBLE { T::zero() } else { x }
}

/// Settles every element; returns whether some element is NaN or infinite.
pub fn settle_all<T: Real>(a: &mut Array2<T>) -> bool {
    step_all(a, None, T::zero())
}

/// A ← A + `length` D, settled; returns whether some element is now NaN or infinite.
pub fn step_along<T: Real>(a: &mut Array2<T>, direction: &Array2<T>, length: T) -> bool {
    step_all(a, Some(direction), length)
}

fn step_all<T: Real>(a: &mut Array2<T>, direction: Option<&Array2<T>>, length: T) -> bool {
    let a = flat_mut(a);
    vectorised(
        #[inline(always)]
        || {
            let mut directions = direction.map(|direction| flat(direction).chunks(STRETCH));
            let mut not_finite = false;
            for a in a.chunks_mut(STRETCH) {
                match directions.as_mut().and_then(Iterator::next) {
                    Some(d) => a.iter_mut().zip(d).for_each(|(a, &d)| *a = settle(*a + length * d)),
                    None => a.iter_mut().for_each(|a| *a = settle(*a)),
                }
                not_finite |= has_not_finite(a);
            }
            not_finite
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_combined_in_the_order_of_the_entries(
            columns in 1usize..200,
            entries in prop::collection::vec((0usize..7, -3.0f32..3.0), 0..12),
        ) {
            let x: Vec<f32> = (0..7 * columns).map(|i| ((i * 37 % 101) as f32).sin()).collect();
            let mut expected = vec![0.0; columns];
            entries.iter().for_each(|&(j, a)| axpy(a, &x[j * columns..(j + 1) * columns], &mut expected));
            let mut out = vec![f32::NAN; columns];
            combine_rows(&x, entries.iter().copied(), &mut out);
            prop_assert_eq!(out, expected);
        }
    }
}
