//! The augmented features X of chosen nodes, computed by all ranks together: each reads its own rows of edges and raw
//! features only, and holds blocks of feature columns of what it needs of the others.
//!
//! Bit by bit the same for any number of ranks: sums over a row's neighbours go in the order of the nodes, sums over
//! all nodes are formed in fixed blocks and the fixed tree.

use std::ops::Range;
use std::rc::Rc;

use ndarray::Array2;

use super::exchange::ExchangeError;
use super::node_blocks::BlockSum;
use super::row_messages::{Label, RowMessages, RowRoutes};
use super::row_shares::RowShares;
use super::{Communicator, WaitPolicy};
use crate::dataset::{DatasetError, DatasetFile, Features, SparseMatrix};
use crate::graph::scale::column_squares;
use crate::graph::signs::flip_signs;
use crate::graph::{
    Augmentation, FeatureBlock, FeatureNorm, LocalNodes, Operators, RenormalisedAdjacency, Scale,
    column_block, inverse_root_degrees, renormalised_rows,
};
use crate::linalg::elements::{flat, flat_mut};
use crate::linalg::{MatrixSum, Real, Workers};

/// What a rank reads of a data set to take part.
#[derive(Debug)]
pub struct OwnRows {
    shares: RowShares,
    adjacency: SparseMatrix,
    features: Features,
}

impl OwnRows {
    /// Reads the rows of rank `rank` of `ranks`.
    ///
    /// # Errors
    /// What is wrong with these rows; of the others nothing is known.
    pub fn read(file: &DatasetFile, rank: usize, ranks: usize) -> Result<Self, DatasetError> {
        let shares = RowShares::new(file.header().nodes, ranks);
        let own = shares.run(rank);
        let (adjacency, features) = (file.adjacency_rows(own.clone())?, file.feature_rows(own)?);
        Ok(Self { shares, adjacency, features })
    }
}

/// Edges and raw features in rows over all ranks, ready to be augmented.
pub struct DistributedFeatures<'a, T> {
    messages: RowMessages<'a>,
    shares: RowShares,
    local: LocalNodes,
    adjacency: RenormalisedAdjacency<T>,
    features: Features,
    operators: &'a Operators,
    scale: Scale,
}

impl<'a, T: Real> DistributedFeatures<'a, T> {
    /// Forms each rank's rows of Ã and the factors of `norm`. All ranks call it together.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn new(
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
        rows: OwnRows,
        operators: &'a Operators,
        norm: FeatureNorm,
    ) -> Result<Self, ExchangeError> {
        let OwnRows { shares, adjacency: raw, features } = rows;
        let messages = RowMessages::new(communicator, policy);
        let own = shares.run(communicator.rank());
        let local = LocalNodes::of(&raw, own.clone());
        let everything = vec![true; local.beyond().len()];
        let label = Label { purpose: "degrees of neighbours", part: 0, column: 0 };
        let routes = request(&messages, &shares, &local, label, &everything, &mut vec![false; own.len()])?;
        let mut degrees = inverse_root_degrees(&raw);
        degrees.resize(local.reach(), 0.0);
        let (known, beyond) = degrees.split_at_mut(own.len());
        messages.pass(&routes, label, 1, known, beyond)?;
        let adjacency = renormalised_rows(&raw, &local, &degrees);
        drop(raw);
        let scale = scale(&messages, &shares, &features, norm)?;
        Ok(Self { messages, shares, local, adjacency, features, operators, scale })
    }

    /// Who holds which rows.
    pub fn shares(&self) -> &RowShares {
        &self.shares
    }

    /// The messages that this uses, for others while no block is under way.
    pub fn messages(&self) -> &RowMessages<'a> {
        &self.messages
    }

    /// n_0 = K d.
    pub fn width(&self) -> usize {
        self.operators.count() * self.feature_count()
    }

    /// d.
    pub fn feature_count(&self) -> usize {
        self.features.dimension()
    }

    /// This rank's rows of H, not scaled.
    pub fn raw(&self) -> &Features {
        &self.features
    }

    /// Mean square of those scaled entries of H that are not 0; 0 where all are. The same on all ranks, which call it
    /// together.
    ///
    /// # Errors
    /// The exchange failed.
    pub fn mean_entry_square(&self) -> Result<f64, ExchangeError> {
        let Self { messages, shares, features, scale, .. } = self;
        let sums =
            sum_over_all_nodes(messages, shares, 2, |rows, sums| scale.entry_squares(features, rows, sums))?;
        Ok(if sums[1] > 0.0 { sums[0] / sums[1] } else { 0.0 })
    }

    /// Multiplies every entry of H by +1 or −1 at random, as [`flip_signs`] says; a second time restores it.
    pub fn flip_signs(&mut self, seed: u64) {
        flip_signs(&mut self.features, self.local.own().start, seed);
    }

    /// Columns of H in a block unless told otherwise.
    pub fn column_block(&self) -> usize {
        column_block::<T>(self.shares.nodes(), self.feature_count())
    }

    /// Hands every rank's `take` every block of `block` columns of the rows that it wants, in order of columns.
    ///
    /// `wanted` has the nodes of each rank's rows, in their order, and is the same on every rank; a rank that wants
    /// none is handed blocks without rows. All ranks call this together.
    ///
    /// # Errors
    /// The exchange failed, or what `take` says.
    pub fn for_each_block<E: From<ExchangeError>>(
        &self,
        wanted: &[Vec<usize>],
        block: usize,
        workers: &Workers,
        take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rank = self.messages.communicator().rank();
        self.deliver(Delivery::new(&self.shares, self.local.own(), wanted, rank), block, workers, take)
    }

    /// As [`DistributedFeatures::for_each_block`], where each rank wants the rows of all of its own nodes
    /// ([`DistributedFeatures::shares`]), in order.
    ///
    /// # Errors
    /// The exchange failed, or what `take` says.
    pub fn for_each_own_block<E: From<ExchangeError>>(
        &self,
        block: usize,
        workers: &Workers,
        take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.local.own().len();
        self.deliver(Delivery { nodes: (0..rows).collect(), rows, routes: None }, block, workers, take)
    }

    fn deliver<E: From<ExchangeError>>(
        &self,
        delivery: Delivery,
        block: usize,
        workers: &Workers,
        mut take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = self.local.own();
        let mut chosen = vec![false; own.len()];
        delivery.nodes.iter().for_each(|&i| chosen[i] = true);
        let (needed, routes) = self.needed(chosen)?;
        let augmentation = Augmentation::of_part(
            &self.adjacency,
            &self.features,
            self.operators,
            &self.scale,
            delivery.nodes,
            needed,
            block,
        );
        let bring = |power: usize, x: &mut Array2<T>| -> Result<(), E> {
            let columns = x.ncols();
            let (known, beyond) = flat_mut(x).split_at_mut(own.len() * columns);
            let label = Label { purpose: "features of neighbours", part: power, column: 0 };
            Ok(self.messages.pass(&routes[power], label, columns, known, beyond)?)
        };
        let mut delivered = vec![Array2::zeros((0, 0)); self.operators.count()];
        augmentation.for_each_block_of_part(workers, bring, |block| {
            let Some(routes) = &delivery.routes else { return take(block) };
            for (part, (own, out)) in block.parts.iter().zip(&mut delivered).enumerate() {
                crate::graph::augment::clear(out, (delivery.rows, block.columns.len()));
                let label = Label { purpose: "augmented features", part, column: block.columns.start };
                self.messages.pass(routes, label, block.columns.len(), flat(own), flat_mut(out))?;
            }
            take(FeatureBlock { columns: block.columns, parts: &delivered })
        })
    }

    /// Which own rows of each power are needed for the chosen rows of all ranks, and the routes of each power but the
    /// highest to the ranks that need it for the next.
    #[allow(clippy::type_complexity)]
    fn needed(&self, chosen: Vec<bool>) -> Result<(Vec<Vec<bool>>, Vec<Rc<RowRoutes>>), ExchangeError> {
        let own = chosen.len();
        let mut needed = vec![chosen];
        let mut routes: Vec<Rc<RowRoutes>> = Vec::new();
        for power in (0..self.operators.degree()).rev() {
            let mut read = needed.last().map_or(Vec::new(), |upper| self.adjacency.read_by(upper));
            let beyond = read.split_off(own);
            let label = Label { purpose: "rows that neighbours need", part: power, column: 1 };
            let found = request(&self.messages, &self.shares, &self.local, label, &beyond, &mut read)?;
            // From some power on these are all rows: one copy serves.
            let same = routes.last().filter(|last| ***last == found).cloned();
            routes.push(same.unwrap_or_else(|| Rc::new(found)));
            needed.push(read);
        }
        needed.reverse();
        routes.reverse();
        Ok((needed, routes))
    }
}

/// Tells every rank which of its rows this one needs of those beyond its own (`beyond` by their place among them), and
/// marks in `own` those that others need here.
fn request(
    messages: &RowMessages<'_>,
    shares: &RowShares,
    local: &LocalNodes,
    label: Label,
    beyond: &[bool],
    own: &mut [bool],
) -> Result<RowRoutes, ExchangeError> {
    let ranks = messages.communicator().size();
    let mut routes = RowRoutes::none(ranks);
    for (rank, receive) in routes.receive.iter_mut().enumerate() {
        let places = local.beyond_within(&shares.run(rank));
        receive.extend(places.filter(|&place| beyond[place]).map(|place| place as u32));
    }
    let RowRoutes { send, receive } = &mut routes;
    let mask = |to: usize| {
        let run = shares.run(to);
        let mut mask = vec![false; run.len()];
        receive[to]
            .iter()
            .for_each(|&place| mask[local.beyond()[place as usize] as usize - run.start] = true);
        mask
    };
    messages.pass_masks(label, own.len(), mask, |from, mask| {
        for (i, _) in mask.iter().enumerate().filter(|(_, needed)| **needed) {
            send[from].push(i as u32);
            own[i] = true;
        }
    })?;
    Ok(routes)
}

/// The factors of `norm`, for a rank with these rows of H.
fn scale(
    messages: &RowMessages<'_>,
    shares: &RowShares,
    features: &Features,
    norm: FeatureNorm,
) -> Result<Scale, ExchangeError> {
    Ok(match norm {
        FeatureNorm::None => Scale::One,
        FeatureNorm::Row => Scale::of_rows(features),
        FeatureNorm::Column => {
            let d = features.dimension();
            let squares = sum_over_all_nodes(messages, shares, d, |rows, squares| {
                column_squares(features, rows, squares);
            })?;
            Scale::of_columns(squares, shares.nodes())
        }
    })
}

/// The sum over all nodes of a vector of `length` entries, on every rank; `add` puts that of some own rows into a
/// matrix of one row.
fn sum_over_all_nodes(
    messages: &RowMessages<'_>,
    shares: &RowShares,
    length: usize,
    add: impl Fn(Range<usize>, &mut Array2<f64>),
) -> Result<Vec<f64>, ExchangeError> {
    let rank = messages.communicator().rank();
    let own = shares.run(rank);
    let mut tree = BlockSum::new(messages.communicator(), messages.policy(), shares.owners());
    let mut parts = Vec::new();
    for blocks in shares.owners().subtrees(rank) {
        let mut sum = MatrixSum::new((1, length));
        for block in blocks {
            let rows = shares.blocks().range(block);
            let rows = rows.start - own.start..rows.end - own.start;
            sum.push(|out| add(rows, out));
        }
        let mut total = Array2::zeros((0, 0));
        sum.finish(&mut total);
        parts.push(total);
    }
    let mut total = match tree.to_root(0, length, &mut parts)? {
        Some(total) => total.into_iter().collect(),
        None => vec![0.0; length],
    };
    tree.from_root(0, &mut total)?;
    Ok(total)
}

/// How rows of X come from where they are computed to where they are wanted.
struct Delivery {
    /// The own nodes, by local number, whose rows are computed here.
    nodes: Vec<usize>,
    /// How many rows are wanted here.
    rows: usize,
    /// From places in `nodes` to places among the rows wanted; `None` where they are the same and nothing passes.
    routes: Option<RowRoutes>,
}

impl Delivery {
    fn new(shares: &RowShares, own: Range<usize>, wanted: &[Vec<usize>], rank: usize) -> Self {
        let here = wanted.get(rank).map_or(&[][..], Vec::as_slice);
        let rows = here.len();
        let is_local =
            |(r, nodes): (usize, &Vec<usize>)| nodes.iter().all(|node| (r == rank) == own.contains(node));
        if wanted.iter().enumerate().all(is_local) {
            let nodes = here.iter().map(|node| node - own.start).collect();
            return Self { nodes, rows, routes: None };
        }
        let mut place = vec![u32::MAX; own.len()];
        wanted
            .iter()
            .flatten()
            .filter(|node| own.contains(node))
            .for_each(|node| place[node - own.start] = 0);
        let nodes: Vec<usize> = (0..own.len()).filter(|&i| place[i] == 0).collect();
        nodes.iter().zip(0..).for_each(|(&i, at)| place[i] = at);
        let mut routes = RowRoutes::none(wanted.len());
        for (to, nodes) in wanted.iter().enumerate() {
            let mine = nodes.iter().filter(|node| own.contains(node));
            routes.send[to].extend(mine.map(|node| place[node - own.start]));
        }
        for (node, at) in here.iter().zip(0..) {
            routes.receive[shares.owner(*node)].push(at);
        }
        Self { nodes, rows, routes: Some(routes) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::parallel::ThreadCommunicator;
    use ndarray::s;
    use proptest::prelude::*;

    /// A random graph, directed or not, with isolated nodes and weights, and its features, dense or sparse.
    fn problem(
        nodes: usize,
        d: usize,
        seed: usize,
        directed: bool,
        sparse: bool,
    ) -> (SparseMatrix, Features) {
        let hash = |a: usize, b: usize| (a * 7919 + b * 104_729 + seed * 31 + a * b * 13) % 97;
        let csr = |rows: usize, columns: usize, value: &dyn Fn(usize, usize) -> f32| {
            let (mut starts, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
            for i in 0..rows {
                for j in 0..columns {
                    if value(i, j) != 0.0 {
                        indices.push(j as u32);
                        data.push(value(i, j));
                    }
                }
                starts.push(indices.len());
            }
            SparseMatrix::new((rows, columns), starts, indices, data)
        };
        let is_isolated = |i: usize| hash(i, i) < 15;
        let edge = |i: usize, j: usize| {
            let (a, b) = if directed { (i, j) } else { (i.min(j), i.max(j)) };
            let is_edge = i != j && !is_isolated(i) && !is_isolated(j) && hash(a, b + 1) < 25;
            if is_edge { 1.0 + hash(b, a) as f32 / 50.0 } else { 0.0 }
        };
        let h = |i: usize, j: usize| if hash(j + 5, i) < 40 { hash(i, j) as f32 / 7.0 - 5.0 } else { 0.0 };
        let features = match sparse {
            true => Features::Sparse(csr(nodes, d, &h)),
            false => Features::Dense(Array2::from_shape_fn((nodes, d), |(i, j)| h(i, j))),
        };
        (csr(nodes, nodes, &edge), features)
    }

    /// The rows of one rank, as if read from a file.
    fn rows_of(adjacency: &SparseMatrix, features: &Features, rank: usize, ranks: usize) -> OwnRows {
        let shares = RowShares::new(features.nodes(), ranks);
        let own = shares.run(rank);
        let features = match features {
            Features::Dense(h) => Features::Dense(h.slice(s![own.clone(), ..]).to_owned()),
            Features::Sparse(h) => Features::Sparse(h.slice_outer(own.clone()).to_owned()),
        };
        OwnRows { shares, adjacency: adjacency.slice_outer(own).to_owned(), features }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_ranks_compute_what_one_computes(
            nodes in 1usize..30, d in 1usize..40, seed in 0usize..1000, ranks in 1usize..6, norm in 0usize..3,
            directed: bool, sparse: bool, operators in 0usize..3, block in 1usize..20,
            wants in proptest::collection::vec((0usize..6, 0usize..30), 0..60),
        ) {
            let norm = [FeatureNorm::None, FeatureNorm::Row, FeatureNorm::Column][norm];
            let operators: Operators = ["0,1,2,3", "2", "ppr:0.2:4,0"][operators].parse().unwrap();
            let (adjacency, features) = problem(nodes, d, seed, directed, sparse);
            let mut wanted = vec![Vec::new(); ranks];
            wants.into_iter().for_each(|(rank, node)| wanted[rank % ranks].push(node % nodes));
            let tilde = crate::graph::renormalised_adjacency::<f32>(&adjacency);
            let expected: Vec<Array2<f32>> = wanted.iter().map(|nodes| {
                let plan = Augmentation::new(&tilde, &features, &operators, norm, nodes);
                let mut x = Array2::zeros((nodes.len(), plan.width()));
                plan.for_each_block(&Workers::one(), |block| {
                    put(&mut x, &block, d);
                    Ok::<(), ()>(())
                }).unwrap();
                x
            }).collect();
            let found = ThreadCommunicator::run(ranks, |communicator| {
                let policy = WaitPolicy::new();
                let rows = rows_of(&adjacency, &features, communicator.rank(), ranks);
                let plan =
                    DistributedFeatures::<f32>::new(communicator, &policy, rows, &operators, norm).unwrap();
                let mut x = Array2::zeros((wanted[communicator.rank()].len(), plan.width()));
                plan.for_each_block(&wanted, block, &Workers::one(), |block| {
                    put(&mut x, &block, d);
                    Ok::<(), ExchangeError>(())
                }).unwrap();
                x
            });
            for (found, expected) in found.iter().zip(&expected) {
                let bits = |x: &Array2<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(found), bits(expected));
            }
        }
    }

    #[test]
    fn any_ranks_find_the_mean_square_of_entries() {
        for (norm, sparse) in
            [(FeatureNorm::None, true), (FeatureNorm::Row, false), (FeatureNorm::Column, true)]
        {
            let (adjacency, features) = problem(50, 9, 3, false, sparse);
            let scale = Scale::of(&features, norm);
            let mut sums = Array2::zeros((1, 2));
            scale.entry_squares(&features, 0..50, &mut sums);
            let found = [1, 4].map(|ranks| {
                ThreadCommunicator::run(ranks, |communicator| {
                    let rows = rows_of(&adjacency, &features, communicator.rank(), ranks);
                    let policy = WaitPolicy::new();
                    let plain = "0".parse().unwrap();
                    let features = DistributedFeatures::<f32>::new(communicator, &policy, rows, &plain, norm);
                    features.unwrap().mean_entry_square().unwrap()
                })
            });
            let all: Vec<u64> = found.iter().flatten().map(|x| x.to_bits()).collect();
            assert!(all.iter().all(|x| *x == all[0]), "{norm:?}: {found:?}");
            let expected = sums[[0, 0]] / sums[[0, 1]];
            assert!((found[0][0] / expected - 1.0).abs() < 1e-12, "{norm:?}: {} {expected}", found[0][0]);
        }
    }

    /// Σ_m ψ_im² H_mj² by brute force: of a graph whose only feature is 1 at node m, ψ gives column m of itself.
    #[test]
    fn random_signs_give_the_variance_of_noise_on_raw_features() {
        const SEEDS: u64 = 3000;
        let (nodes, d, norm) = (12, 3, FeatureNorm::None);
        let operators: Operators = "0,2,ppr:0.2:4".parse().unwrap();
        let (adjacency, features) = problem(nodes, d, 5, true, true);
        let Features::Sparse(h) = &features else { unreachable!("asked for") };
        let all = [(0..nodes).collect::<Vec<_>>()];
        ThreadCommunicator::run(1, |communicator| {
            let policy = WaitPolicy::new();
            let open = |features: &Features| {
                let rows = rows_of(&adjacency, features, 0, 1);
                DistributedFeatures::<f32>::new(communicator, &policy, rows, &operators, norm).unwrap()
            };
            let augment = |features: &DistributedFeatures<'_, f32>| {
                let mut x = Array2::zeros((nodes, features.width()));
                let d = features.feature_count();
                let take = |block: FeatureBlock<'_, f32>| {
                    put(&mut x, &block, d);
                    Ok::<(), ExchangeError>(())
                };
                features.for_each_block(&all, 100, &Workers::one(), take).unwrap();
                x
            };
            let psi = augment(&open(&Features::Dense(Array2::eye(nodes))));
            let mut signed = open(&features);
            let mut found = Array2::<f64>::zeros((nodes, signed.width()));
            for seed in 0..SEEDS {
                signed.flip_signs(seed);
                found.zip_mut_with(&augment(&signed), |sum, &x| *sum += f64::from(x * x) / SEEDS as f64);
                signed.flip_signs(seed);
            }
            let mut is_averaged = false;
            for ((i, column), &found) in found.indexed_iter() {
                let (k, j) = (column / d, column % d);
                let terms = (0..nodes).map(|m| {
                    let noise = psi[[i, k * nodes + m]] * h.get(m, j).copied().unwrap_or(0.0);
                    f64::from(noise).powi(2)
                });
                let expected: f64 = terms.sum();
                let exact = if k == 0 { 1e-5 } else { 0.15 };
                assert!((found - expected).abs() <= exact * expected, "{i} {column}: {found} {expected}");
                is_averaged |= k > 0 && expected > 0.0;
            }
            assert!(is_averaged);
        });
    }

    fn put(x: &mut Array2<f32>, block: &FeatureBlock<'_, f32>, d: usize) {
        for (k, part) in block.parts.iter().enumerate() {
            x.slice_mut(s![.., k * d + block.columns.start..k * d + block.columns.end]).assign(part);
        }
    }

    /// More than one message each way, above the length from which a send waits for its receive.
    #[test]
    fn long_lists_of_rows_pass_in_several_messages() {
        const ROWS: usize = 20_000;
        let columns = 64;
        let all = ThreadCommunicator::run(3, |communicator| {
            let (rank, policy) = (communicator.rank(), WaitPolicy::new());
            let source: Vec<f64> = (0..ROWS * columns).map(|i| (i * 3 + rank) as f64).collect();
            let mut target = vec![0.0; 3 * ROWS * columns];
            let rows: Vec<u32> = (0..ROWS as u32).rev().collect();
            let receive =
                (0..3).map(|from| (from * ROWS as u32..(from + 1) * ROWS as u32).collect()).collect();
            let routes = RowRoutes { send: vec![rows; 3], receive };
            let label = Label { purpose: "test", part: 0, column: 0 };
            let messages = RowMessages::new(communicator, &policy);
            messages.pass(&routes, label, columns, &source, &mut target).unwrap();
            target
        });
        for target in all {
            for (at, value) in target.iter().enumerate() {
                let (from, row, column) = (at / (ROWS * columns), at / columns % ROWS, at % columns);
                assert_eq!(*value, (((ROWS - 1 - row) * columns + column) * 3 + from) as f64);
            }
        }
    }
}
