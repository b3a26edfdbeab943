//! One iteration of Algorithm 1 over the layers that a rank holds.
//!
//! All layers work at the same time: line 1 of layer l uses q_{l−1}, u_{l−1} of the iteration before, and lines
//! 5 and 6 use the p_{l+1} that line 1 of layer l+1 has just made. So p goes down while W, b and z are updated,
//! and q goes up behind the first product of the next iteration.

use super::cost::{LayerShape, Ways};
use super::p::{self, PStep};
use super::p_quantized::{self, QuantizedP, SpectralNorm};
use super::residuals::LayerTerms;
use super::{Boundary, Layer, Penalties, Subproblem, Team, b, q, u, w, z, z_last};
use crate::linalg::elements::{self, flat_mut, larger};
use crate::linalg::factor::FactorError;
use crate::linalg::{Real, ScalarSum};
use crate::quantize::{LevelSet, Wire};
use crate::timing::Phase;

/// W p carried along by additions is formed anew this often, so that rounding does not gather in it.
const REFRESH_EVERY: u64 = 50;

/// What one rank holds of the network: a run of layers and the boundaries they touch.
#[derive(Debug, Clone)]
pub struct RankState<T> {
    /// L, the number of layers of the whole network.
    pub depth: usize,
    /// The layers held, in order.
    pub layers: Vec<Layer<T>>,
    /// The boundaries touched, in order; the outer ones are shared with the neighbouring ranks.
    pub boundaries: Vec<Boundary<T>>,
    /// What the risk compares with, where layer L is held.
    pub targets: Option<Targets>,
    /// Number of training nodes N.
    pub nodes: usize,
    /// Whether the boundary with the rank below is at the end of the last iteration already: its q has come and its u
    /// is updated, as after a checkpoint. Else both wait for the next iteration.
    pub below_is_current: bool,
}

/// What the output of layer L is to be, and how much each node counts in the risk.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Classes of the training nodes by block.
    pub labels: Vec<Vec<usize>>,
    /// ω, the weight of each class in the risk; empty where all are 1.
    pub class_weights: Vec<f64>,
}

impl<T: Real> RankState<T> {
    /// Whether the lowest layer held has a neighbour below on another rank.
    pub fn has_rank_below(&self) -> bool {
        self.layers.first().is_some_and(|layer| layer.index > 1)
    }

    /// Whether the highest layer held has a neighbour above on another rank.
    pub fn has_rank_above(&self) -> bool {
        self.layers.last().is_some_and(|layer| layer.index < self.depth)
    }

    /// Position in `boundaries` of the one below `layers[i]`.
    pub fn below(&self, i: usize) -> Option<usize> {
        if self.has_rank_below() { Some(i) } else { i.checked_sub(1) }
    }

    /// Position in `boundaries` of the one above `layers[i]`.
    pub fn above(&self, i: usize) -> Option<usize> {
        let position = if self.has_rank_below() { i + 1 } else { i };
        (position < self.boundaries.len()).then_some(position)
    }
}

/// The exchange with the ranks that hold the layers below and above.
pub trait Neighbours<T> {
    /// What can go wrong in it.
    type Error;
    /// Receives q of this boundary, which the rank below updated in `iteration`.
    ///
    /// # Errors
    /// The exchange failed.
    fn receive_q(&mut self, below: &mut Boundary<T>, iteration: u64) -> Result<(), Self::Error>;
    /// Sends p of this boundary, just updated here, to the rank below.
    ///
    /// # Errors
    /// The exchange failed.
    fn send_p(&mut self, below: &Boundary<T>) -> Result<(), Self::Error>;
    /// Receives p of this boundary from the rank above.
    ///
    /// # Errors
    /// The exchange failed.
    fn receive_p(&mut self, above: &mut Boundary<T>) -> Result<(), Self::Error>;
    /// Sends q of this boundary, just updated here, to the rank above.
    ///
    /// # Errors
    /// The exchange failed.
    fn send_q(&mut self, above: &Boundary<T>) -> Result<(), Self::Error>;
    /// Lets messages move; called between products.
    ///
    /// # Errors
    /// The exchange failed.
    fn progress(&mut self) -> Result<(), Self::Error>;
}

/// One process that holds every layer has no neighbours.
#[derive(Debug, Clone, Copy)]
pub struct NoNeighbours;

impl<T> Neighbours<T> for NoNeighbours {
    type Error = std::convert::Infallible;
    fn receive_q(&mut self, _: &mut Boundary<T>, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
    fn send_p(&mut self, _: &Boundary<T>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn receive_p(&mut self, _: &mut Boundary<T>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn send_q(&mut self, _: &Boundary<T>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn progress(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Everything that an iteration is told from outside; the same on every rank.
#[derive(Debug, Clone)]
pub struct Rules {
    /// k, counted over all stages from 1.
    pub iteration: u64,
    /// ρ and ν now.
    pub penalties: Penalties,
    /// ρ and ν of the iteration before in this stage: u of the boundary below still waits for its update.
    pub previous: Option<Penalties>,
    /// How p and W are solved.
    pub subproblem: Subproblem,
    /// Level set of p_{l+1} at boundary l (index l − 1); `None` where p is not quantized.
    pub p_levels: Option<Vec<LevelSet>>,
    /// Level set of q_l at boundary l (index l − 1); `None` where q is not quantized.
    pub q_levels: Option<Vec<LevelSet>>,
    /// What p and q that are not quantized are rounded to, because they travel so; `None`: they travel as they are.
    pub wire: Option<Wire>,
    /// How p is brought to its levels.
    pub quantized_p: QuantizedP,
    /// Largest entry of the gradient at which z_L counts as found.
    pub z_tolerance: f64,
}

impl Rules {
    /// Whether this layer's p and W are solved exactly; a choice by shapes alone.
    pub fn exact(&self, inputs: usize, nodes: usize) -> bool {
        self.subproblem.is_exact(inputs, nodes)
    }
}

/// What an iteration leaves to be known of one layer and the boundary above it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerReport {
    /// l.
    pub index: usize,
    /// Terms of the objective, the Lagrangian and the residuals.
    pub terms: LayerTerms,
    /// Largest |p_l| before rounding, 0 where p is not quantized.
    pub p_peak: f64,
    /// Largest |q_l| before rounding, 0 where q is not quantized.
    pub q_peak: f64,
    /// The variable in which a value that is not finite was found.
    pub not_finite: Option<Variable>,
}

impl LayerReport {
    /// The outcome of an update, or its default after noting that the update failed.
    fn or_failure<A: Default>(&mut self, outcome: Result<A, FactorError>, variable: Variable) -> A {
        outcome.unwrap_or_else(|error| {
            log::error!("layer {}, {}: {error}", self.index, variable.symbol());
            self.not_finite = self.not_finite.or(Some(variable));
            A::default()
        })
    }
}

/// A variable of Algorithm 1, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// p_l.
    P,
    /// W_l.
    W,
    /// b_l.
    B,
    /// z_l.
    Z,
    /// q_l.
    Q,
    /// u_l.
    U,
}

impl Variable {
    /// All of them, in the order of Algorithm 1.
    pub const ALL: [Variable; 6] =
        [Variable::P, Variable::W, Variable::B, Variable::Z, Variable::Q, Variable::U];

    /// The paper's letter.
    pub fn symbol(self) -> &'static str {
        match self {
            Variable::P => "p",
            Variable::W => "W",
            Variable::B => "b",
            Variable::Z => "z",
            Variable::Q => "q",
            Variable::U => "u",
        }
    }
}

/// Runs one iteration. `reports` gets one entry for each layer held.
///
/// A value that is not finite, or a factorisation that fails, is reported and the iteration goes on: the ranks
/// learn of it together, from the reduction, and stop at the same iteration.
///
/// # Errors
/// The exchange failed.
pub fn iterate<T: Real, N: Neighbours<T>>(
    state: &mut RankState<T>,
    rules: &Rules,
    neighbours: &mut N,
    team: &mut Team<'_, T>,
    reports: &mut Vec<LayerReport>,
) -> Result<(), N::Error> {
    reports.clear();
    let penalties = &rules.penalties;
    let rank_below = state.has_rank_below();
    let scale = rules.previous.map_or(1.0, |previous| penalties.nu / previous.nu);
    if scale != 1.0 {
        // A boundary below that still waits for its q is scaled when its u has been updated.
        let waiting = usize::from(rank_below && !state.below_is_current);
        state.boundaries[waiting..].iter_mut().for_each(|boundary| boundary.scale_u(scale));
    }

    for i in 0..state.layers.len() {
        let (below, layer) = (state.below(i), &mut state.layers[i]);
        let (l, shape) = (layer.index, LayerShape::of(layer, state.nodes));
        let exact = rules.exact(shape.inputs, state.nodes);
        let mut ways = Ways { exact_w: exact, exact_p: false, refreshed: false };
        let mut report = LayerReport { index: l, ..LayerReport::default() };

        // Line 1: p.
        let (mut residuals, mut targets_are_there) = (None, false);
        if let Some(below) = below {
            let boundary = &mut state.boundaries[below];
            let levels = rules.p_levels.as_ref().and_then(|sets| sets.get(l - 2));
            let solve = exact && (levels.is_none() || rules.quantized_p == QuantizedP::BestLevels);
            ways.exact_p = solve;
            ways.refreshed = levels.is_none() && rules.wire.is_some();
            let _p = team.enter_with(Phase::P, shape.p(ways));
            let h = match solve {
                true => p::exact_begin(layer, team),
                false => p::gradient_begin(layer, team),
            };
            targets_are_there = solve;
            if i == 0 && !std::mem::take(&mut state.below_is_current) {
                receive_q(boundary, rules, neighbours, team, scale)?;
            }
            let step = match (levels, solve) {
                (Some(levels), true) => {
                    Ok(p_quantized::best_levels(layer, boundary, h, levels, penalties, team))
                }
                (Some(levels), false) => {
                    let norm = match rules.quantized_p {
                        QuantizedP::GradientStep(norm) => norm,
                        QuantizedP::BestLevels => SpectralNorm::Power,
                    };
                    p_quantized::gradient_step(layer, boundary, h, levels, penalties, norm, team)
                }
                (None, true) => p::exact_finish(layer, boundary, h, penalties, team),
                (None, false) => {
                    let (step, left) = p::gradient_finish(layer, boundary, h, penalties, team);
                    residuals = left;
                    Ok(step)
                }
            };
            let PStep { peak, mut not_finite, .. } = report.or_failure(step, Variable::P);
            report.p_peak = peak;
            if let (None, Some(wire)) = (levels, rules.wire) {
                // On every boundary, between ranks or not, so that results do not depend on the number of ranks.
                team.each(&mut boundary.blocks[..], |_, block| wire.round(flat_mut(&mut block.p)));
                // What travels may have a smaller range.
                not_finite |= any_not_finite(boundary.blocks.iter().map(|block| &block.p));
                if !solve {
                    w::refresh(layer, Some(boundary), team);
                    residuals.take().into_iter().for_each(|blocks| team.workspace.give_blocks(blocks));
                }
            }
            if not_finite {
                report.not_finite = Some(Variable::P);
            }
            if i == 0 {
                neighbours.send_p(boundary)?;
            }
        }
        neighbours.progress()?;

        // Line 2: W.
        let updating = team.enter_with(Phase::W, shape.w(ways));
        let boundary = below.map(|below| &state.boundaries[below]);
        let mut sums = None;
        if exact {
            let step = w::exact(layer, boundary, targets_are_there, penalties, team);
            report.or_failure(step, Variable::W);
        } else {
            sums = w::gradient(layer, boundary, residuals, penalties, team).sums;
            if rules.iteration.is_multiple_of(REFRESH_EVERY) {
                w::refresh(layer, boundary, team);
                sums.take().into_iter().for_each(|sums| team.workspace.give_blocks(sums));
            }
        }
        report.terms.set_decay(layer, penalties);
        drop(updating);
        neighbours.progress()?;

        // Line 3: b.
        let updating = team.enter(Phase::B);
        b::update(layer, state.nodes, sums, team);
        drop(updating);

        // Line 4: z.
        let updating = team.enter(Phase::Z);
        let above = state.above(i);
        let layer = &mut state.layers[i];
        let (blocks, b) = (&mut layer.blocks[..], &layer.b);
        let mut sums = team.workspace.take_sums(blocks.len());
        match (above, &state.targets) {
            (Some(above), _) => {
                let edges = &state.boundaries[above].blocks;
                team.each((blocks, &mut sums[..]), |k, (block, sums)| {
                    sums[0] = z::update(block, b, &edges[k].q);
                });
                report.terms.fit = ScalarSum::of(sums.iter().map(|sums| sums[0]));
            }
            (None, Some(Targets { labels, class_weights })) => {
                let (nu, tolerance) = (penalties.nu, rules.z_tolerance);
                let mut newtons = team.workspace.take_newtons(blocks.len());
                let lists = (blocks, &mut sums[..], &mut newtons[..]);
                team.each(lists, |k, (block, sums, newton)| {
                    *sums =
                        z_last::update(block, b, &labels[k], class_weights, nu, tolerance, newton).to_sums();
                });
                report.terms.set_last(&sums);
                team.workspace.give_newtons(newtons);
            }
            (None, None) => {}
        }
        team.workspace.give_sums(sums);
        drop(updating);
        // The sum of squares is finite only where all that it was made of is.
        if !report.terms.fit.is_finite() && report.not_finite.is_none() {
            let b_is_finite = layer.b.iter().all(|b| b.is_finite());
            report.not_finite = match (b_is_finite, any_not_finite(layer.blocks.iter().map(|block| &block.m)))
            {
                (_, true) => Some(Variable::W),
                (false, _) => Some(Variable::B),
                _ => any_not_finite(layer.blocks.iter().map(|block| &block.z)).then_some(Variable::Z),
            };
        }
        neighbours.progress()?;
        reports.push(report);
    }

    // Lines 5, 6: q and u, from the lowest boundary up; the p of the highest is the last to be needed.
    for (i, report) in reports.iter_mut().enumerate() {
        let Some(above) = state.above(i) else { continue };
        let layer = &state.layers[i];
        let remote = i + 1 == state.layers.len();
        let boundary = &mut state.boundaries[above];
        if remote {
            neighbours.receive_p(boundary)?;
        }
        let levels = rules.q_levels.as_ref().and_then(|sets| sets.get(layer.index - 1));
        let _q = team.enter(Phase::Q);
        let mut steps = team.workspace.take_sums(boundary.blocks.len());
        team.each((&mut boundary.blocks[..], &mut steps[..]), |k, (block, step)| {
            *step = q::update(&layer.blocks[k].z, block, penalties, levels, rules.wire).to_sums();
        });
        report.q_peak = steps.iter().fold(0.0, |top, [_, peak, ..]| larger(top, *peak));
        report.terms.set_boundary(&steps);
        team.workspace.give_sums(steps);
        // As with z: these sums are finite only where q and u are.
        let LayerTerms { coupling, inner, primal, .. } = report.terms;
        if report.not_finite.is_none() && !(coupling + inner + primal + report.q_peak).is_finite() {
            let blocks = &boundary.blocks;
            let q_is_bad = !report.q_peak.is_finite() || any_not_finite(blocks.iter().map(|block| &block.q));
            let bad_u = any_not_finite(blocks.iter().map(|block| &block.u)).then_some(Variable::U);
            report.not_finite = if q_is_bad { Some(Variable::Q) } else { bad_u };
        }
        if remote {
            neighbours.send_q(boundary)?;
        }
    }
    Ok(())
}

/// Brings the boundary with the rank below to the end of the iteration before: its q, then its u.
///
/// # Errors
/// The exchange failed.
pub fn receive_q<T: Real, N: Neighbours<T>>(
    boundary: &mut Boundary<T>,
    rules: &Rules,
    neighbours: &mut N,
    team: &Team<'_, T>,
    scale: f64,
) -> Result<(), N::Error> {
    let Some(previous) = rules.previous else { return Ok(()) };
    neighbours.receive_q(boundary, rules.iteration - 1)?;
    update_u(boundary, previous.rho, team);
    if scale != 1.0 {
        boundary.scale_u(scale);
    }
    Ok(())
}

fn update_u<T: Real>(boundary: &mut Boundary<T>, rho: f64, team: &Team<'_, T>) {
    let _u = team.enter(Phase::U);
    team.each(&mut boundary.blocks[..], |_, block| u::update(block, rho));
}

/// Whether some element is NaN or infinite.
fn any_not_finite<'a, T: Real>(mut blocks: impl Iterator<Item = &'a ndarray::Array2<T>>) -> bool {
    blocks.any(|block| elements::rows(block).any(elements::has_not_finite))
}
