//! One layer with the boundary below it at random values, its subproblems written out in double precision as
//! the paper has them, and the updates of p, W and b on it.

use ndarray::{Array1, Array2, Axis, concatenate, s};
use pdadmm_g::admm::first_layer::DualWeights;
use pdadmm_g::admm::p::{self, PStep};
use pdadmm_g::admm::p_quantized::{self, SpectralNorm};
use pdadmm_g::admm::penalties::WeightPenalty;
use pdadmm_g::admm::state::FirstLayer;
use pdadmm_g::admm::{Boundary, BoundaryBlock, Layer, LayerBlock, Penalties, Team, Weights, Workspace, b, w};
use pdadmm_g::linalg::{NodeBlocks, Real, Workers};
use pdadmm_g::quantize::LevelSet;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub type Matrix = Array2<f64>;

/// Relative errors that the precision excuses in a number of moderate condition.
pub fn slack<T: Real>() -> f64 {
    if T::SIZE == 4 { 2e-4 } else { 1e-11 }
}

pub fn random(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Matrix {
    Array2::from_shape_simple_fn((rows, columns), || StandardNormal.sample(rng))
}

pub fn norm2(a: &Matrix) -> f64 {
    a.iter().map(|x| x * x).sum()
}

pub fn inner(a: &Matrix, b: &Matrix) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub fn of<T: Real>(a: &Matrix) -> Array2<T> {
    a.mapv(T::of)
}

/// The blocks of a matrix, one below the other, in double precision.
pub fn joined<'a, T: Real>(blocks: impl Iterator<Item = &'a Array2<T>>) -> Matrix {
    let blocks: Vec<Matrix> = blocks.map(|block| block.mapv(|x| x.f64())).collect();
    let views: Vec<_> = blocks.iter().map(|block| block.view()).collect();
    concatenate(Axis(0), &views).unwrap()
}

/// How a layer holds its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Hidden,
    First,
    Dual,
}

/// A layer with the boundary below it, at random values.
pub struct Case<T> {
    pub layer: Layer<T>,
    pub below: Boundary<T>,
    pub penalties: Penalties,
    pub nodes: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub form: Form,
    pub nodes: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub block_nodes: Option<usize>,
    pub penalty: WeightPenalty,
}

impl Shape {
    pub fn hidden(nodes: usize, inputs: usize, outputs: usize) -> Self {
        let penalty = WeightPenalty { mu: 0.3, ..WeightPenalty::default() };
        Self { form: Form::Hidden, nodes, inputs, outputs, block_nodes: None, penalty }
    }

    pub fn blocks_of(self, nodes: usize) -> Self {
        Self { block_nodes: Some(nodes), ..self }
    }

    pub fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub fn penalty(self, mu: f64, theta_prox: f64, kappa: f64) -> Self {
        Self { penalty: WeightPenalty { mu, theta_prox, kappa }, ..self }
    }
}

impl<T: Real> Case<T> {
    pub fn new(shape: Shape, seed: u64) -> Self {
        let Shape { form, nodes, inputs, outputs, block_nodes, penalty } = shape;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let blocks = NodeBlocks::new(nodes, block_nodes);
        let mut draw = |columns: usize| random(&mut rng, nodes, columns);
        let (x, q0, u0, z0) = (draw(inputs), draw(inputs), draw(inputs), draw(outputs));
        let start = of::<T>(&(random(&mut rng, outputs, inputs) * (2.0 / inputs as f64).sqrt()));
        let b = Array1::from_iter(random(&mut rng, 1, outputs).into_iter().map(T::of));
        let cut = |a: &Matrix| -> Vec<Array2<T>> {
            blocks.ranges().map(|rows| of(&a.slice(s![rows, ..]).to_owned())).collect()
        };
        let weights = match form {
            Form::Hidden => Weights::Hidden(start),
            Form::First => Weights::First(FirstLayer { w: start, x: cut(&x), gram: None, inverse: None }),
            Form::Dual => Weights::Dual(Box::new(DualWeights::new(of(&x), start, &Workers::one()))),
        };
        let index = if form == Form::Hidden { 2 } else { 1 };
        let parts = cut(&x).into_iter().zip(cut(&q0).into_iter().zip(cut(&u0)));
        let below =
            Boundary { index: 1, blocks: parts.map(|(p, (q, u))| BoundaryBlock { p, q, u }).collect() };
        let layer_blocks = cut(&z0).into_iter().map(|z| LayerBlock { m: Array2::zeros(z.dim()), z });
        let layer = Layer { index, weights, b, penalty, blocks: layer_blocks.collect(), spectral: None };
        let mut case = Self { layer, below, penalties: Penalties { rho: 0.7, nu: 0.4 }, nodes };
        w::refresh(
            &mut case.layer,
            Some(&case.below),
            &mut Team::of_one_shard(&mut Workspace::new(), &Workers::one()),
        );
        case
    }

    pub fn p(&self) -> Matrix {
        joined(self.below.blocks.iter().map(|block| &block.p))
    }

    pub fn w(&self) -> Matrix {
        self.layer.weights.dense().mapv(|w| w.f64())
    }

    /// z − W p − b for this p and W.
    pub fn residual(&self, p: &Matrix, w: &Matrix) -> Matrix {
        let b = self.layer.b.mapv(|b| b.f64());
        joined(self.layer.blocks.iter().map(|block| &block.z)) - p.dot(&w.t()) - b
    }

    /// φ of line 1: ν/2‖z − W p − b‖² + ⟨u, p − q⟩ + ρ/2‖p − q‖².
    pub fn phi_p(&self, p: &Matrix) -> f64 {
        let Penalties { rho, nu } = self.penalties;
        let q = joined(self.below.blocks.iter().map(|block| &block.q));
        let u = joined(self.below.blocks.iter().map(|block| &block.u));
        let gap = p - &q;
        0.5 * nu * norm2(&self.residual(p, &self.w())) + inner(&u, &gap) + 0.5 * rho * norm2(&gap)
    }

    pub fn gradient_p(&self, p: &Matrix) -> Matrix {
        let Penalties { rho, nu } = self.penalties;
        let q = joined(self.below.blocks.iter().map(|block| &block.q));
        let u = joined(self.below.blocks.iter().map(|block| &block.u));
        self.residual(p, &self.w()).dot(&self.w()) * -nu + u + (p - &q) * rho
    }

    /// φ of line 2: ν/2‖z − W p − b‖² + (μ + νκ)/2‖W‖².
    pub fn phi_w(&self, w: &Matrix) -> f64 {
        let nu = self.penalties.nu;
        0.5 * nu * norm2(&self.residual(&self.p(), w)) + 0.5 * self.layer.penalty.decay(nu) * norm2(w)
    }

    pub fn gradient_w(&self, w: &Matrix) -> Matrix {
        let nu = self.penalties.nu;
        self.residual(&self.p(), w).t().dot(&self.p()) * -nu + w * self.layer.penalty.decay(nu)
    }

    pub fn gradient_step_p(&mut self) -> PStep {
        let (mut space, workers) = (Workspace::new(), Workers::one());
        let mut team = Team::of_one_shard(&mut space, &workers);
        let h = p::gradient_begin(&self.layer, &mut team);
        let (step, residuals) =
            p::gradient_finish(&mut self.layer, &mut self.below, h, &self.penalties, &mut team);
        assert_eq!(residuals.is_some(), step.tau > 0.0);
        if let Some(residuals) = residuals {
            let formed = self.residual(&self.p(), &self.w());
            let error = norm2(&(joined(residuals.iter()) - &formed)).sqrt();
            assert!(error <= slack::<T>() * (1.0 + norm2(&formed).sqrt()), "residuals left for W: {error:e}");
        }
        step
    }

    pub fn exact_p(&mut self) {
        let (mut space, workers) = (Workspace::new(), Workers::one());
        let mut team = Team::of_one_shard(&mut space, &workers);
        let h = p::exact_begin(&mut self.layer, &mut team);
        p::exact_finish(&self.layer, &mut self.below, h, &self.penalties, &mut team).unwrap();
    }

    pub fn quantized_p(&mut self, levels: &LevelSet, norm: SpectralNorm) -> PStep {
        let (mut space, workers) = (Workspace::new(), Workers::one());
        let mut team = Team::of_one_shard(&mut space, &workers);
        let h = p::gradient_begin(&self.layer, &mut team);
        let (layer, below) = (&mut self.layer, &mut self.below);
        p_quantized::gradient_step(layer, below, h, levels, &self.penalties, norm, &mut team).unwrap()
    }

    pub fn best_levels_p(&mut self, levels: &LevelSet) -> PStep {
        let (mut space, workers) = (Workspace::new(), Workers::one());
        let mut team = Team::of_one_shard(&mut space, &workers);
        let h = p::exact_begin(&mut self.layer, &mut team);
        let below = &mut self.below;
        p_quantized::best_levels(&self.layer, below, h, levels, &self.penalties, &mut team)
    }

    pub fn gradient_step_w(&mut self) -> f64 {
        let below = (self.layer.index > 1).then_some(&self.below);
        let (mut space, workers) = (Workspace::new(), Workers::one());
        let mut team = Team::of_one_shard(&mut space, &workers);
        let step = w::gradient(&mut self.layer, below, None, &self.penalties, &mut team);
        assert_eq!(step.sums.is_some(), step.theta > 0.0);
        if let Some(sums) = step.sums {
            // b from what the step has left is the same as from a pass of its own.
            let mut other = self.layer.clone();
            b::update(&mut other, self.nodes, Some(sums), &mut team);
            let mut own = self.layer.clone();
            b::update(&mut own, self.nodes, None, &mut team);
            assert!(other.b.iter().zip(&own.b).all(|(x, y)| (*x - *y).abs().f64() <= slack::<T>()));
        }
        step.theta
    }

    pub fn exact_w(&mut self) {
        let below = (self.layer.index > 1).then_some(&self.below);
        w::exact(
            &mut self.layer,
            below,
            false,
            &self.penalties,
            &mut Team::of_one_shard(&mut Workspace::new(), &Workers::one()),
        )
        .unwrap();
    }

    /// The product that the layer carries along is W p.
    pub fn product_is_up_to_date(&self, what: &str) {
        let carried = joined(self.layer.blocks.iter().map(|block| &block.m));
        let formed = self.p().dot(&self.w().t());
        let error = norm2(&(carried - &formed)).sqrt();
        assert!(error <= 10.0 * slack::<T>() * norm2(&formed).sqrt(), "{what}: W p is off by {error:e}");
    }
}
