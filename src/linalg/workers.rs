//! Threads of one rank: they split blocks and rows of outputs between them, never a sum.

use std::ops::Range;

use ndarray::{Array2, ArrayBase, ArrayView2, Axis, Data, DataMut, Ix2, s};
use rayon::prelude::*;

use super::{Lists, MatrixSum, Real, product::product};

/// The threads of one rank; one thread runs in place, without a pool.
#[derive(Debug)]
pub struct Workers {
    pool: Option<rayon::ThreadPool>,
}

/// A sum over blocks in strips of rows: the tree of each strip, and its sum.
pub type SumStrips<T> = Vec<(MatrixSum<T>, Array2<T>)>;

/// Makes `strips` such as have these shapes, if they are not already.
pub(crate) fn fit_strips<T: Real>(
    strips: &mut SumStrips<T>,
    shapes: impl Iterator<Item = (usize, usize)> + Clone,
) {
    if !strips.iter().map(|(_, total)| total.dim()).eq(shapes.clone()) {
        *strips = shapes.map(|shape| (MatrixSum::new(shape), Array2::zeros(shape))).collect();
    }
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

    /// Runs `f(i, entry i of each list)` for every block; each must depend on its own block alone.
    pub fn each<L: Lists>(&self, lists: L, f: impl Fn(usize, L::Entry) + Sync) {
        match &self.pool {
            Some(pool) if lists.count() > 1 => pool.install(|| in_halves(lists, 0, &f)),
            _ => {
                let (mut i, mut left) = (0, lists);
                while let Some((entry, others)) = left.first() {
                    f(i, entry);
                    (i, left) = (i + 1, others);
                }
            }
        }
    }

    /// out ← Σ over blocks of Aᵀ B, added in the fixed tree; `blocks(i)` gives A (nodes × m) and B (nodes × n).
    ///
    /// Threads take strips of rows of the output, so the sum over nodes is the same for any number of them.
    pub fn sum_of_products<'a, T: Real>(
        &self,
        count: usize,
        blocks: impl Fn(usize) -> (ArrayView2<'a, T>, ArrayView2<'a, T>) + Sync,
        memory: &mut SumStrips<T>,
        out: &mut Array2<T>,
    ) {
        let (m, n) = out.dim();
        let strips = self.threads().min(m.div_ceil(64)).max(1);
        if strips == 1 {
            return sum_of_products(count, blocks, memory, out);
        }
        fit_strips(memory, (0..strips).map(|k| (strip(k, strips, m).len(), n)));
        self.each(&mut memory[..], |k, (sum, total)| {
            for i in 0..count {
                let (a, b) = blocks(i);
                let a = a.slice_move(s![.., strip(k, strips, m)]);
                sum.push(|partial| product(T::one(), &a.t(), &b, T::zero(), partial));
            }
            sum.finish(total);
        });
        for (k, (_, total)) in memory.iter().enumerate() {
            out.slice_mut(s![strip(k, strips, m), ..]).assign(total);
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

/// [`Workers::sum_of_products`] on the calling thread; `blocks` is called before each product.
pub fn sum_of_products<'a, T: Real>(
    count: usize,
    mut blocks: impl FnMut(usize) -> (ArrayView2<'a, T>, ArrayView2<'a, T>),
    memory: &mut SumStrips<T>,
    out: &mut Array2<T>,
) {
    fit_strips(memory, std::iter::once(out.dim()));
    for (sum, _) in memory {
        for i in 0..count {
            let (a, b) = blocks(i);
            sum.push(|partial| product(T::one(), &a.t(), &b, T::zero(), partial));
        }
        sum.finish(out);
    }
}

/// Rows of strip `k` of `strips`.
fn strip(k: usize, strips: usize, rows: usize) -> Range<usize> {
    k * rows / strips..(k + 1) * rows / strips
}

/// The first half of the lists and the second one, on any two threads.
fn in_halves<L: Lists>(lists: L, first: usize, f: &(impl Fn(usize, L::Entry) + Sync)) {
    let count = lists.count();
    if count > 1 {
        let (left, right) = lists.split(count / 2);
        rayon::join(|| in_halves(left, first, f), || in_halves(right, first + count / 2, f));
    } else if let Some((entry, _)) = lists.first() {
        f(first, entry);
    }
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
            workers.sum_of_products(
                5,
                |i| (blocks[i].0.view(), blocks[i].1.view()),
                &mut Vec::new(),
                &mut out,
            );
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
