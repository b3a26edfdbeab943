//! Σ over blocks of Aᵀ A: symmetric, so that little more than half of it is multiplied.

use ndarray::{Array2, ArrayView2, s};

use super::product::product;
use super::workers::fit_strips;
use super::{Real, SumStrips, Workers};

/// Rows of a strip; of each strip only what is on and right of the diagonal is multiplied.
const STRIP: usize = 128;

/// Floating point operations for a Gram matrix n × n over so many rows.
pub fn gram_operations(n: usize, rows: usize) -> f64 {
    let strip = |start: usize| (n.min(start + STRIP) - start) * (n - start);
    2.0 * rows as f64 * (0..n).step_by(STRIP).map(strip).sum::<usize>() as f64
}

impl Workers {
    /// out ← Σ over blocks of Aᵀ A in the fixed tree, for A nodes × n and out n × n. Threads take strips of fixed size.
    pub fn gram<'a, T: Real>(
        &self,
        count: usize,
        blocks: impl Fn(usize) -> ArrayView2<'a, T> + Sync,
        memory: &mut SumStrips<T>,
        out: &mut Array2<T>,
    ) {
        let n = out.ncols();
        let shape = |start: usize| (n.min(start + STRIP) - start, n - start);
        fit_strips(memory, (0..n).step_by(STRIP).map(shape));
        self.each(&mut memory[..], |strip, (sum, total)| {
            let start = strip * STRIP;
            let end = start + total.nrows();
            for i in 0..count {
                let a = blocks(i);
                sum.push(|partial| {
                    let left = a.slice(s![.., start..end]);
                    product(T::one(), &left.t(), &a.slice(s![.., start..]), T::zero(), partial);
                });
            }
            sum.finish(total);
        });
        for (strip, (_, total)) in memory.iter().enumerate() {
            let start = strip * STRIP;
            let end = start + total.nrows();
            out.slice_mut(s![start..end, start..]).assign(total);
            out.slice_mut(s![end.., start..end]).assign(&total.slice(s![.., end - start..]).t());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_symmetric_and_right_on_any_threads() {
        for n in [1, 7, STRIP, STRIP + 1, 3 * STRIP + 50] {
            let blocks: Vec<Array2<f64>> = (0..3)
                .map(|b| {
                    Array2::from_shape_fn((20 + b, n), |(i, j)| {
                        ((i * 31 + j * 17 + b) % 101) as f64 / 50.0 - 1.0
                    })
                })
                .collect();
            let of = |threads| {
                let mut out = Array2::from_elem((n, n), f64::NAN);
                let mut memory = Vec::new();
                for _ in 0..2 {
                    Workers::new(threads).unwrap().gram(3, |i| blocks[i].view(), &mut memory, &mut out);
                }
                out
            };
            let out = of(1);
            assert!(out == of(3));
            let expected = blocks.iter().fold(Array2::<f64>::zeros((n, n)), |sum, a| sum + a.t().dot(a));
            assert!(out.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-11));
            assert!(out.indexed_iter().all(|((i, j), &x)| (i / STRIP == j / STRIP) || x == out[[j, i]]));
        }
    }
}
