//! Threads of one rank: they split blocks and rows of outputs between them, never a sum.

use std::ops::Range;

use ndarray::{Array2, ArrayBase, Axis, Data, DataMut, Ix2};
use rayon::prelude::*;

use super::{MatrixSum, Real, product::product};

/// The threads of one rank; one thread runs in place, without a pool.
#[derive(Debug)]
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
}

impl Workers {
    /// A team of `threads` threads.
    ///
    /// # Errors
    /// The operating system refused to start a thread.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let pool = match threads {
            0 | 1 => None,
            n => Some(rayon::ThreadPoolBuilder::new().num_threads(n).build()?),
        };
        Ok(Self { pool })
    }

    /// The calling thread alone.
    pub fn one() -> Self {
        Self { pool: None }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs `f(i, &mut items[i])` for every block; each must depend on its own block alone.
    pub fn each<A: Send>(&self, items: &mut [A], f: impl Fn(usize, &mut A) + Sync) {
        match &self.pool {
            Some(pool) if items.len() > 1 => {
                pool.install(|| items.par_iter_mut().enumerate().for_each(|(i, a)| f(i, a)));
            }
            _ => items.iter_mut().enumerate().for_each(|(i, a)| f(i, a)),
        }
    }

    /// out ← Σ over blocks of Aᵀ B, added in the fixed tree; `blocks(i)` gives A (nodes × m) and B (nodes × n).
    ///
    /// Threads take strips of rows of the output, so the sum over nodes is the same for any number of them.
    pub fn sum_of_products<'a, T: Real>(
        &self,
        count: usize,
        blocks: impl Fn(usize) -> (&'a Array2<T>, &'a Array2<T>) + Sync,
        sum: &mut Vec<MatrixSum<T>>,
        out: &mut Array2<T>,
    ) {
        let (m, n) = out.dim();
        let strips = self.threads().min(m.div_ceil(64)).max(1);
        if sum.len() != strips {
            sum.clear();
            sum.extend((0..strips).map(|s| MatrixSum::new((strip(s, strips, m).len(), n))));
        }
        let one = |s: usize, sum: &mut MatrixSum<T>| -> Array2<T> {
            let rows = strip(s, strips, m);
            for i in 0..count {
                let (a, b) = blocks(i);
                let a = a.slice(ndarray::s![.., rows.clone()]);
                sum.push(|partial| product(T::one(), &a.t(), b, T::zero(), partial));
            }
            let mut total = Array2::zeros((rows.len(), n));
            sum.finish(&mut total);
            total
        };
        if strips == 1 {
            for i in 0..count {
                let (a, b) = blocks(i);
                sum[0].push(|partial| product(T::one(), &a.t(), b, T::zero(), partial));
            }
            sum[0].finish(out);
            return;
        }
        let Some(pool) = &self.pool else { return };
        let totals: Vec<Array2<T>> =
            pool.install(|| sum.par_iter_mut().enumerate().map(|(s, sum)| one(s, sum)).collect());
        for (s, total) in totals.into_iter().enumerate() {
            let rows = strip(s, strips, m);
            out.slice_mut(ndarray::s![rows, ..]).assign(&total);
        }
    }

    /// C ← α A B + β C with the rows of C split between the threads.
    pub fn product<T, S1, S2, S3>(
        &self,
        alpha: T,
        a: &ArrayBase<S1, Ix2>,
        b: &ArrayBase<S2, Ix2>,
        beta: T,
        c: &mut ArrayBase<S3, Ix2>,
    ) where
        T: Real,
        S1: Data<Elem = T> + Sync,
        S2: Data<Elem = T> + Sync,
        S3: DataMut<Elem = T> + Send,
    {
        let strips = self.threads().min(c.nrows().div_ceil(64)).max(1);
        match &self.pool {
            Some(pool) if strips > 1 => {
                let chunk = c.nrows().div_ceil(strips);
                pool.install(|| {
                    c.axis_chunks_iter_mut(Axis(0), chunk).into_par_iter().enumerate().for_each(
                        |(i, mut c)| {
                            let a = a.slice(ndarray::s![i * chunk..i * chunk + c.nrows(), ..]);
                            product(alpha, &a, b, beta, &mut c);
                        },
                    );
                });
            }
            _ => product(alpha, a, b, beta, c),
        }
    }
}

/// Rows of strip `s` of `strips`.
fn strip(s: usize, strips: usize, rows: usize) -> Range<usize> {
    s * rows / strips..(s + 1) * rows / strips
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn threads_do_not_change_a_bit() {
        let blocks: Vec<(Array2<f32>, Array2<f32>)> = (0..5)
            .map(|i| {
                let f = |k: usize| {
                    move |(r, c): (usize, usize)| ((r * 31 + c * 17 + i * 7 + k) % 101) as f32 / 9.0
                };
                (Array2::from_shape_fn((70, 150), f(1)), Array2::from_shape_fn((70, 90), f(2)))
            })
            .collect();
        let run = |threads| {
            let workers = Workers::new(threads).unwrap();
            let mut out = Array2::zeros((150, 90));
            workers.sum_of_products(5, |i| (&blocks[i].0, &blocks[i].1), &mut Vec::new(), &mut out);
            let mut c = Array2::zeros((70, 150));
            workers.product(
                0.5,
                &blocks[0].1.slice(ndarray::s![.., ..70]).to_owned(),
                &blocks[1].0,
                0.0,
                &mut c,
            );
            (out, c)
        };
        assert!(run(1) == run(2) && run(1) == run(3));
    }
}
