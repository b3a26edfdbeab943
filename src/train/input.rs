//! The input of layer 1: augmented features of the training nodes, and what evaluation needs of the others.

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::error::TrainError;
use super::feature_source::FeatureSource;
use super::input_scaling::InputScaling;
use crate::admm::Weights;
use crate::admm::first_layer::DualWeights;
use crate::admm::state::FirstLayer;
use crate::linalg::elements::flat_mut;
use crate::linalg::{MatrixSum, NodeBlocks, NodeShards, Real, Workers, product::product};
use crate::parallel::plan::blocks_of;
use crate::parallel::shard_group::ShardGroup;

/// Rows of a strip that a worker takes.
const STRIP: usize = 512;

/// Layer 1's weights with their input, and the features of the evaluated nodes in the form that suits them.
#[derive(Debug)]
pub struct Input<T> {
    /// W_1 at its start, with X.
    pub weights: Weights<T>,
    /// The evaluated nodes (training, validation, test).
    pub evaluated: EvaluatedInput<T>,
}

/// Features of the evaluated nodes, by block.
#[derive(Debug)]
pub enum EvaluatedInput<T> {
    /// X of these nodes, nodes × n_0.
    Plain(Vec<Array2<T>>),
    /// X Xᵀ_train (nodes × N) and X W⁰ᵀ (nodes × n_1), for layer 1 in N dimensions.
    Dual(Vec<(Array2<T>, Array2<T>)>),
}

impl<T: Real> EvaluatedInput<T> {
    /// X W_1ᵀ of block `i`, nodes × n_1.
    pub fn times_weights(&self, i: usize, weights: WeightsView<'_, T>, out: &mut Array2<T>) {
        match (self, weights) {
            (EvaluatedInput::Plain(x), WeightsView::Plain(w)) => {
                product(T::one(), &x[i], &w.t(), T::zero(), out)
            }
            (EvaluatedInput::Dual(blocks), WeightsView::Dual { c, d }) => {
                let (gram, a0) = &blocks[i];
                out.assign(a0);
                product(T::one(), gram, d, T::of(c), out);
            }
            _ => unreachable!("the form of layer 1 is settled once a run"),
        }
    }
}

/// W in the form it is held in.
#[derive(Debug, Clone, Copy)]
pub enum WeightsView<'a, T> {
    /// W.
    Plain(&'a Array2<T>),
    /// c and D of W = c W⁰ + Dᵀ X.
    Dual {
        /// c.
        c: f64,
        /// D, N × n_1.
        d: &'a Array2<T>,
    },
}

/// The nodes whose features are wanted, and the ranks that hold them: rank s < `shards` has shard s.
pub(super) struct InputNodes<'a> {
    /// Training, validation and test nodes.
    pub nodes: Vec<usize>,
    /// Blocks of the training nodes.
    pub blocks: &'a NodeBlocks,
    /// Blocks of all of them.
    pub evaluated: &'a NodeBlocks,
    /// Number of shards.
    pub shards: usize,
}

/// Places in [`InputNodes::nodes`], in rising order: two runs, of which the second may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places([Range<usize>; 2]);

impl Places {
    /// Those in either run.
    fn of(a: Range<usize>, b: Range<usize>) -> Self {
        let (mut low, mut high) = if a.start <= b.start { (a, b) } else { (b, a) };
        if low.is_empty() || high.is_empty() || high.start <= low.end {
            let joined = match (low.is_empty(), high.is_empty()) {
                (true, _) => high,
                (_, true) => low,
                _ => low.start..low.end.max(high.end),
            };
            (low, high) = (joined, 0..0);
        }
        Self([low, high])
    }

    /// The rows of a run of these places where each place is a row.
    fn rows(&self, run: &Range<usize>) -> Range<usize> {
        let mut before = 0;
        for places in &self.0 {
            if places.contains(&run.start) {
                let start = before + run.start - places.start;
                return start..start + run.len();
            }
            before += places.len();
        }
        0..0
    }
}

impl InputNodes<'_> {
    /// The blocks of training nodes and of evaluated nodes of a shard.
    fn own(&self, shard: usize) -> [Range<usize>; 2] {
        [self.blocks, self.evaluated].map(|blocks| blocks_of(shard, self.shards, blocks.count()))
    }

    /// The places that a rank wants: where layer 1 lives in N dimensions those of all training nodes, for
    /// products with its own.
    fn places(&self, rank: usize, dual: bool) -> Places {
        if rank >= self.shards {
            return Places::of(0..0, 0..0);
        }
        let [trained, evaluated] = self.own(rank);
        let trained = if dual { 0..self.blocks.nodes() } else { self.blocks.range_of(trained) };
        Places::of(trained, self.evaluated.range_of(evaluated))
    }

    /// The training nodes of each rank's shard, in order; none of a rank without one.
    pub fn trained(&self, ranks: usize) -> Vec<Vec<usize>> {
        self.wanted(ranks, |rank| match rank < self.shards {
            true => Places::of(self.blocks.range_of(self.own(rank)[0].clone()), 0..0),
            false => Places::of(0..0, 0..0),
        })
    }

    /// The rows that the blocks of training nodes of a shard have among them.
    pub fn blocks_of(&self, shard: usize) -> Vec<Range<usize>> {
        let [own, _] = self.own(shard);
        let first = self.blocks.range_of(own.clone()).start;
        own.map(|block| self.blocks.range(block)).map(|run| run.start - first..run.end - first).collect()
    }

    /// The nodes that each rank wants.
    fn wanted(&self, ranks: usize, places: impl Fn(usize) -> Places) -> Vec<Vec<usize>> {
        let nodes = |run: Range<usize>| self.nodes[run].iter().copied();
        (0..ranks).map(|rank| places(rank).0.into_iter().flat_map(nodes).collect()).collect()
    }
}

/// Builds layer 1's input in one pass over blocks of feature columns, on the ranks that hold layer 1; the others get
/// none. All ranks call it together.
///
/// `w0` is the start of W_1 (n_1 × n_0) for unscaled unit-variance inputs, given where layer 1 is held; it is multiplied
/// by the inverse of the root mean square norm of a node's features. X is what `scaling` makes of the features.
///
/// # Errors
/// The exchange between ranks failed, or the file can no longer be read.
pub(super) fn build<T: Real>(
    features: &FeatureSource<'_, T>,
    from: &InputNodes<'_>,
    group: &ShardGroup<'_>,
    [rank, ranks]: [usize; 2],
    w0: Option<Array2<T>>,
    scaling: &InputScaling<T>,
    workers: &Workers,
) -> Result<Option<Input<T>>, TrainError> {
    let dual = is_dual(from.blocks.nodes(), features.width());
    let wanted = from.wanted(ranks, |rank| from.places(rank, dual));
    let mut building = w0.map(|w0| Building::new(from, group, rank, w0, dual, scaling));
    features.for_each_block(&wanted, workers, |block| {
        let Some(building) = &mut building else { return Ok(()) };
        scaling.each(block.parts, &block.columns, |k, part| building.take(k, &block.columns, part, workers));
        Ok(())
    })?;
    building.map(|building| building.finish(workers)).transpose()
}

/// Whether layer 1 lives in N dimensions.
pub fn is_dual(nodes: usize, inputs: usize) -> bool {
    nodes < inputs
}

/// A shard's input under way.
struct Building<'a, 'b, T> {
    group: &'a ShardGroup<'b>,
    scaling: &'a InputScaling<T>,
    /// All places that are wanted, and where they are rows.
    places: Places,
    /// Number of training nodes.
    nodes: usize,
    /// Places of the own blocks.
    trained: Vec<Range<usize>>,
    evaluated: Vec<Range<usize>>,
    w0: Array2<T>,
    parts: Parts<T>,
    /// In N dimensions with a metric.
    under: Option<UnderMetric<T>>,
}

/// Σ over the training nodes of all shards of what `add` sums up over one of this shard's `blocks`: a vector of `length`.
///
/// # Errors
/// The exchange with the other shards failed.
pub(super) fn sum_over_blocks(
    group: &ShardGroup<'_>,
    blocks: usize,
    length: usize,
    mut add: impl FnMut(usize, &mut [f64]),
) -> Result<Vec<f64>, TrainError> {
    let mut sum = MatrixSum::<f64>::new((1, length));
    for block in 0..blocks {
        sum.push(|out| {
            out.fill(0.0);
            add(block, flat_mut(out));
        });
    }
    let mut total = Array2::zeros((1, length));
    sum.finish(&mut total);
    NodeShards::<f64>::sum(group, flat_mut(&mut total));
    group.outcome()?;
    Ok(total.into_iter().collect())
}

/// What is kept of X.
enum Parts<T> {
    /// X of training blocks and of evaluated blocks.
    Plain(Vec<Array2<T>>, Vec<Array2<T>>),
    /// X, X Xᵀ and X W⁰ᵀ of the training nodes, and the last two of the evaluated blocks.
    Dual([Array2<T>; 3], Vec<(Array2<T>, Array2<T>)>),
}

/// What products of evaluated nodes, whose features are not kept, take to be those under a metric M.
struct UnderMetric<T> {
    /// W⁰ M, n_1 × n_0.
    w0: Array2<T>,
    /// Vᵀ y of each operator of all wanted places, rows × r.
    along: Vec<Array2<T>>,
}

impl<'a, 'b, T: Real> Building<'a, 'b, T> {
    fn new(
        from: &InputNodes<'_>,
        group: &'a ShardGroup<'b>,
        shard: usize,
        w0: Array2<T>,
        dual: bool,
        scaling: &'a InputScaling<T>,
    ) -> Self {
        let [own, own_evaluated] = from.own(shard);
        let trained: Vec<_> = own.map(|block| from.blocks.range(block)).collect();
        let evaluated: Vec<_> = own_evaluated.map(|block| from.evaluated.range(block)).collect();
        let (nodes, (n1, n0)) = (from.blocks.nodes(), w0.dim());
        let zeros = |runs: &[Range<usize>], columns| -> Vec<Array2<T>> {
            runs.iter().map(|run| Array2::zeros((run.len(), columns))).collect()
        };
        let places = from.places(shard, dual);
        let parts = match dual {
            false => Parts::Plain(zeros(&trained, n0), zeros(&evaluated, n0)),
            true => {
                let rows = trained.iter().map(Range::len).sum();
                let whole = [n0, nodes, n1].map(|columns| Array2::zeros((rows, columns)));
                let blocks = zeros(&evaluated, nodes).into_iter().zip(zeros(&evaluated, n1)).collect();
                Parts::Dual(whole, blocks)
            }
        };
        let under = scaling.metric().filter(|_| dual).map(|metric| {
            let mut w0 = w0.clone();
            scaling.apply_metric(&mut w0.view_mut());
            let rows = places.0.iter().map(Range::len).sum();
            UnderMetric { w0, along: vec![Array2::zeros((rows, metric.directions())); scaling.operators()] }
        });
        Self { group, scaling, places, nodes, trained, evaluated, w0, parts, under }
    }

    /// y of operator `k` in these columns of H, of all wanted places.
    fn take(&mut self, k: usize, of_h: &Range<usize>, part: &Array2<T>, workers: &Workers) {
        let Self { scaling, places, nodes, trained, evaluated, w0, parts, under, .. } = self;
        let columns = scaling.of_operator(k, of_h);
        let of = |run: &Range<usize>| part.slice(s![places.rows(run), ..]);
        match parts {
            Parts::Plain(x, x_evaluated) => {
                let (blocks, runs) = (x.iter_mut().chain(x_evaluated), trained.iter().chain(&*evaluated));
                for (x, run) in blocks.zip(runs) {
                    x.slice_mut(s![.., columns.clone()]).assign(&of(run));
                }
            }
            Parts::Dual([x, gram, a0], blocks) => {
                let (mut share, mut w0) = (T::one(), &*w0);
                if let (Some(metric), Some(under)) = (scaling.metric(), under) {
                    (share, w0) = (metric.share_of_products(), &under.w0);
                    let along = under.along[k].axis_chunks_iter_mut(Axis(0), STRIP);
                    let mut strips: Vec<_> = part.axis_chunks_iter(Axis(0), STRIP).zip(along).collect();
                    workers.each(&mut strips[..], |_, (part, along)| {
                        metric.add_along(part, of_h.clone(), along);
                    });
                }
                let (xt, w0t) = (of(&(0..*nodes)), w0.slice(s![.., columns.clone()]));
                let (xt, w0t) = (xt.t(), w0t.t());
                let own = split_rows(gram, trained).into_iter().zip(split_rows(a0, trained));
                let others = blocks.iter_mut().map(|(gram, a0)| (gram.view_mut(), a0.view_mut()));
                let mut jobs: Vec<(ArrayView2<'_, T>, ArrayViewMut2<'_, T>, ArrayViewMut2<'_, T>)> = trained
                    .iter()
                    .chain(&*evaluated)
                    .zip(own.chain(others))
                    .map(|(run, (gram, a0))| (of(run), gram, a0))
                    .collect();
                workers.each(&mut jobs[..], |_, (part, gram, a0)| {
                    product(share, part, &xt, T::one(), gram);
                    product(T::one(), part, &w0t, T::one(), a0);
                });
                for (mut x, run) in split_rows(x, trained).into_iter().zip(&*trained) {
                    x.slice_mut(s![.., columns.clone()]).assign(&of(run));
                }
            }
        }
    }

    /// Turns y into X = M y in all that is kept of it.
    fn apply_metric(&mut self, workers: &Workers) {
        let Self { scaling, places, nodes, trained, evaluated, parts, under, .. } = self;
        let Some(metric) = scaling.metric() else { return };
        match parts {
            Parts::Plain(x, x_evaluated) => {
                let mut blocks: Vec<_> = x.iter_mut().chain(x_evaluated).map(|x| x.view_mut()).collect();
                workers.each(&mut blocks[..], |_, block| scaling.apply_metric(block));
            }
            Parts::Dual([x, gram, _], blocks) => {
                let mut rows = split_rows(x, trained);
                workers.each(&mut rows[..], |_, rows| scaling.apply_metric(rows));
                let Some(UnderMetric { along, .. }) = under.take() else { return };
                let others = blocks.iter_mut().map(|(gram, _)| gram.view_mut());
                let mut jobs: Vec<_> = split_rows(gram, trained)
                    .into_iter()
                    .chain(others)
                    .zip(trained.iter().chain(&*evaluated))
                    .collect();
                workers.each(&mut jobs[..], |_, (gram, run)| {
                    for along in &along {
                        let of = |run: &Range<usize>| along.slice(s![places.rows(run), ..]);
                        metric.add_products(&of(run), &of(&(0..*nodes)), gram);
                    }
                });
            }
        }
    }

    fn finish(mut self, workers: &Workers) -> Result<Input<T>, TrainError> {
        self.apply_metric(workers);
        // z_1 starts with variance 2, its activations with mean square 1, whatever the scale of the features.
        let square = |x: ArrayView2<'_, T>| x.iter().map(|x| x.f64() * x.f64()).sum::<f64>();
        let first = self.trained.first().map_or(0, |run| run.start);
        let norm2 = sum_over_blocks(self.group, self.trained.len(), 1, |block, sum| {
            sum[0] = match &self.parts {
                Parts::Plain(x, _) => square(x[block].view()),
                Parts::Dual([x, ..], _) => {
                    let run = &self.trained[block];
                    square(x.slice(s![run.start - first..run.end - first, ..]))
                }
            };
        })?;
        let norm2 = norm2.first().copied().unwrap_or(0.0);
        let scale = T::of(if norm2 > 0.0 { (self.nodes as f64 / norm2).sqrt() } else { 1.0 });
        self.w0.mapv_inplace(|w| w * scale);
        let Self { w0, parts, .. } = self;
        Ok(match parts {
            Parts::Plain(x, evaluated) => Input {
                weights: Weights::First(FirstLayer { w: w0, x, gram: None, inverse: None }),
                evaluated: EvaluatedInput::Plain(evaluated),
            },
            Parts::Dual([x, gram, mut a0], mut blocks) => {
                a0.mapv_inplace(|a| a * scale);
                blocks.iter_mut().for_each(|(_, a0)| a0.mapv_inplace(|a| a * scale));
                let weights = DualWeights::with_products(x, w0, gram, a0, first);
                Input { weights: Weights::Dual(Box::new(weights)), evaluated: EvaluatedInput::Dual(blocks) }
            }
        })
    }
}

/// The rows of a matrix in runs of these lengths.
fn split_rows<'m, T>(matrix: &'m mut Array2<T>, runs: &[Range<usize>]) -> Vec<ArrayViewMut2<'m, T>> {
    let mut rest = matrix.view_mut();
    let mut parts = Vec::with_capacity(runs.len());
    for run in runs {
        let (part, others) = rest.split_at(Axis(0), run.len());
        parts.push(part);
        rest = others;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_two_runs_are_rows_in_rising_order() {
        let runs = [0..0, 0..3, 2..5, 3..4, 7..9, 0..9, 9..9];
        for a in &runs {
            for b in &runs {
                let places = Places::of(a.clone(), b.clone());
                let all: Vec<usize> = places.0.iter().cloned().flatten().collect();
                let expected: Vec<usize> = (0..9).filter(|i| a.contains(i) || b.contains(i)).collect();
                assert_eq!(all, expected, "{a:?} {b:?}");
                for run in [a, b].into_iter().filter(|run| !run.is_empty()) {
                    assert!(all[places.rows(run)].iter().copied().eq(run.clone()), "{a:?} {b:?}");
                }
            }
        }
    }
}
