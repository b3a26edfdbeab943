//! Is each update of Algorithm 1, alone and in both precisions, what its equation says: the minimiser of its
//! subproblem, or the majorised step with the smallest valid τ or θ?
//!
//! Every subproblem is written out in double precision as the paper has it, and the code is held to it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use ndarray::{Array2, Axis};
use pdadmm_g::admm::p::PStep;
use pdadmm_g::admm::p_quantized::SpectralNorm;
use pdadmm_g::admm::{BoundaryBlock, Penalties, Team, Weights, Workspace, b, q, u, w, z, z_last};
use pdadmm_g::linalg::{Real, Workers};
use pdadmm_g::quantize::LevelSet;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use update_case::{Case, Form, Matrix, Shape, inner, joined, norm2, of, random, slack};

#[path = "support/update_case.rs"]
mod update_case;

/// Shapes with more nodes than inputs and fewer, in one block and in several.
fn shapes() -> [Shape; 6] {
    [
        Shape::hidden(40, 12, 9),
        Shape::hidden(9, 30, 12),
        Shape::hidden(37, 12, 9).blocks_of(8),
        Shape::hidden(9, 30, 12).blocks_of(4),
        Shape::hidden(25, 1, 1),
        Shape::hidden(5, 30, 12),
    ]
}

/// Runs a test in both precisions for these shapes and a few seeds.
macro_rules! in_both_precisions {
    ($name:ident, $shapes:expr, $check:ident) => {
        #[test]
        fn $name() {
            for shape in $shapes {
                for seed in 0..5 {
                    $check::<f64>(shape, seed);
                    $check::<f32>(shape, seed);
                }
            }
        }
    };
}

/// ‖gradient‖ is small beside its terms.
fn vanishes<T: Real>(gradient: &Matrix, terms: &[&Matrix], what: &str) {
    let scale: f64 = terms.iter().map(|term| norm2(term).sqrt()).sum();
    let share = norm2(gradient).sqrt() / scale;
    assert!(share <= slack::<T>(), "{what}, {}: the gradient is {share:e} of its terms", T::NAME);
}

in_both_precisions!(exact_p_has_no_gradient, shapes(), check_exact_p);
fn check_exact_p<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    let before = case.p();
    let first = case.phi_p(&before);
    case.exact_p();
    let p = case.p();
    assert!(case.phi_p(&p) < first);
    vanishes::<T>(&case.gradient_p(&p), &[&p, &before], &format!("p of {shape:?}"));
}

in_both_precisions!(gradient_p_takes_the_smallest_tau_that_majorises, shapes(), check_gradient_p);
fn check_gradient_p<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    let old = case.p();
    let (g, phi) = (case.gradient_p(&old), case.phi_p(&old));
    let PStep { tau, .. } = case.gradient_step_p();
    let new = case.p();
    // The step is −g/τ.
    let error = norm2(&(&new - &(&old - &g / tau))).sqrt();
    assert!(error <= slack::<T>() * norm2(&old).sqrt(), "{shape:?}: off by {error:e}");
    // φ ≤ φ° + ⟨g, d⟩ + τ/2‖d‖² holds with equality along −g, for any length.
    for t in [0.1, 0.5, 1.0, 1.9] {
        let d = &g * (-t / tau);
        let model = phi + inner(&g, &d) + 0.5 * tau * norm2(&d);
        let value = case.phi_p(&(&old + &d));
        assert!((value - model).abs() <= slack::<T>() * phi.abs(), "{shape:?}: {value} and {model} at {t}");
    }
    // φ falls by ‖g‖²/(2τ), and any smaller τ would promise more than its step keeps.
    let fall = phi - case.phi_p(&new);
    assert!((fall - norm2(&g) / (2.0 * tau)).abs() <= slack::<T>() * phi.abs(), "{shape:?}");
    assert!(fall > 0.0);
    for share in [0.5, 0.9, 0.99] {
        let smaller = tau * share;
        let d = &g * (-1.0 / smaller);
        let model = phi + inner(&g, &d) + 0.5 * smaller * norm2(&d);
        assert!(case.phi_p(&(&old + &d)) > model, "{shape:?}: τ could be smaller");
    }
    case.product_is_up_to_date(&format!("p of {shape:?}"));
}

#[test]
fn gradient_p_and_w_are_skipped_where_they_vanish() {
    let mut case = Case::<f64>::new(Shape::hidden(20, 8, 6).penalty(0.0, 0.0, 0.0), 1);
    for block in &mut case.layer.blocks {
        block.z = &block.m + &case.layer.b;
    }
    for block in &mut case.below.blocks {
        block.q.assign(&block.p);
        block.u.fill(0.0);
    }
    // z − W p − b is rounding of the last place here: no step can be large, and none may be a NaN.
    let (p, w) = (case.p(), case.w());
    case.gradient_step_p();
    case.gradient_step_w();
    assert!(norm2(&(case.p() - &p)).sqrt() < 1e-13 && norm2(&(case.w() - &w)).sqrt() < 1e-13);
    // At zero weights and inputs it is zero exactly.
    let mut case = Case::<f64>::new(Shape::hidden(20, 8, 6).penalty(0.0, 0.0, 0.0), 1);
    let Weights::Hidden(w) = &mut case.layer.weights else { unreachable!() };
    w.fill(0.0);
    for (block, edge) in case.layer.blocks.iter_mut().zip(&mut case.below.blocks) {
        for matrix in [&mut block.m, &mut edge.p, &mut edge.q, &mut edge.u] {
            matrix.fill(0.0);
        }
    }
    assert_eq!(case.gradient_step_p(), PStep::default());
    assert_eq!(case.gradient_step_w(), 0.0);
    assert!(case.p().iter().chain(case.w().iter()).all(|x| *x == 0.0));
}

/// Where the estimate of ‖W‖₂ comes from.
const NORMS: [SpectralNorm; 2] = [SpectralNorm::Power, SpectralNorm::Exact];

in_both_precisions!(quantized_p_keeps_its_model_and_lowers_phi, shapes(), check_quantized_p);
fn check_quantized_p<T: Real>(shape: Shape, seed: u64) {
    for (levels, norm) in ["-1:20:1", "-2:2:0.0625"].into_iter().flat_map(|l| NORMS.map(|norm| (l, norm))) {
        hold_quantized_p(Case::<T>::new(shape, seed), &levels.parse().unwrap(), norm);
    }
}

in_both_precisions!(
    quantized_p_recovers_from_an_estimate_that_is_too_low,
    [Shape::hidden(30, 6, 8), Shape::hidden(30, 6, 8).blocks_of(7)],
    check_low_estimate
);
fn check_low_estimate<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    let Weights::Hidden(w) = &mut case.layer.weights else { unreachable!() };
    // One direction is far stronger than the others, and the power iteration starts in the weakest.
    w.indexed_iter_mut().for_each(|((i, j), w)| *w += T::of(if (i + j) % 2 == 0 { 3.0 } else { -3.0 }));
    let (values, vectors) = f64::symmetric_eigen(case.w().t().dot(&case.w())).unwrap();
    case.layer.spectral = Some(vectors.column(0).mapv(T::of));
    let Penalties { rho, nu } = case.penalties;
    let tau = hold_quantized_p(case, &"-2:2:0.0625".parse().unwrap(), SpectralNorm::Power);
    if T::SIZE == 8 {
        // Rounding of single precision may find the strong direction after all.
        assert!(tau > 2.0 * (nu * values[0] + rho), "τ = {tau} was not raised: the test tests nothing");
    }
}

/// Runs the step from p on its levels; returns τ.
fn hold_quantized_p<T: Real>(mut case: Case<T>, levels: &LevelSet, norm: SpectralNorm) -> f64 {
    for block in &mut case.below.blocks {
        block.p.rows_mut().into_iter().for_each(|mut row| levels.round(row.as_slice_mut().unwrap()));
    }
    w::refresh(
        &mut case.layer,
        Some(&case.below),
        &mut Team::of_one_shard(&mut Workspace::new(), &Workers::one()),
    );
    let old = case.p();
    let (g, phi) = (case.gradient_p(&old), case.phi_p(&old));
    let PStep { tau, .. } = case.quantized_p(levels, norm);
    let new = case.p();
    let d = &new - &old;
    let what = format!("{:?}, {levels}, {norm:?}, {}", old.dim(), T::NAME);
    for value in &new {
        let nearest = levels.value(levels.nearest(*value));
        assert!((value - nearest).abs() <= 1e-6, "{what}: {value} is no level");
    }
    // Each entry is the level nearest to p − g/τ, up to ties within rounding.
    for ((new, old), g) in new.iter().zip(&old).zip(&g) {
        let target = old - g / tau;
        let best = (0..levels.count()).map(|i| (levels.value(i) - target).abs()).fold(f64::MAX, f64::min);
        assert!((new - target).abs() <= best + 1e-4 * (1.0 + target.abs()), "{what}");
    }
    let value = case.phi_p(&new);
    let margin = slack::<T>() * phi.abs() + 2e-6 * 0.5 * tau * norm2(&d);
    assert!(value <= phi + inner(&g, &d) + 0.5 * tau * norm2(&d) + margin, "{what}: the model fails");
    assert!(value <= phi + margin, "{what}: φ rises from {phi} to {value}");
    case.product_is_up_to_date(&what);
    tau
}

in_both_precisions!(
    best_levels_of_p_are_found_entry_by_entry,
    [Shape::hidden(12, 7, 5), Shape::hidden(13, 6, 8).blocks_of(7)],
    check_best_levels
);
fn check_best_levels<T: Real>(shape: Shape, seed: u64) {
    for levels in ["-1:20:1", "-2:2:0.0625"] {
        let levels: LevelSet = levels.parse().unwrap();
        let mut case = Case::<T>::new(shape, seed);
        for block in &mut case.below.blocks {
            block.p.rows_mut().into_iter().for_each(|mut row| levels.round(row.as_slice_mut().unwrap()));
        }
        let mut best = case.p();
        let mut phi = case.phi_p(&best);
        let start = phi;
        // One entry after another, each by trying all levels.
        for j in 0..best.ncols() {
            for node in 0..best.nrows() {
                let mut kept = best[[node, j]];
                for value in (0..levels.count()).map(|i| levels.value(i)) {
                    best[[node, j]] = value;
                    let trial = case.phi_p(&best);
                    if trial < phi {
                        (phi, kept) = (trial, value);
                    }
                }
                best[[node, j]] = kept;
            }
        }
        let what = format!("{levels}, {:?}, {}", best.dim(), T::NAME);
        let step = case.best_levels_p(&levels);
        let new = case.p();
        let value = case.phi_p(&new);
        assert!(step.peak >= 0.0 && step.peak.is_finite(), "{what}: {step:?}");
        assert!(new.iter().all(|x| levels.value(levels.nearest(*x)) == *x), "{what}: not on the levels");
        // In single precision a near tie may go the other way, with what follows from it.
        let margin = if T::SIZE == 8 { 1e-9 } else { 1e-3 } * start.abs().max(1.0);
        assert!((value - phi).abs() <= margin, "{what}: φ from {start} to {value}, best {phi}");
        if T::SIZE == 8 {
            assert!(new == best, "{what}: entries differ");
        }
    }
}

/// Where the step is too short for any entry to leave its level, and W p as carried along is off by rounding.
#[test]
fn quantized_p_that_stays_where_it_is_ends() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let levels: LevelSet = "-4:4:1".parse().unwrap();
        let mut case = Case::<f64>::new(Shape::hidden(30, 6, 8), 1);
        for (block, edge) in case.layer.blocks.iter_mut().zip(&mut case.below.blocks) {
            levels.round(edge.p.as_slice_mut().unwrap());
            edge.q.assign(&edge.p);
            edge.u.fill(1e-6);
            block.z.assign(&(edge.p.dot(&case.layer.weights.dense().t()) + &case.layer.b));
            block.m.assign(&(edge.p.dot(&case.layer.weights.dense().t()) * (1.0 + 1e-15)));
        }
        let before = case.p();
        let PStep { tau, .. } = case.quantized_p(&levels, SpectralNorm::Power);
        done.send(tau.is_finite() && case.p() == before).unwrap();
    });
    let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
    assert!(ended.expect("the step does not end"), "p has moved, or τ is not finite");
}

/// Layers of every form with μ, a proximal term and dropout.
fn weight_shapes() -> Vec<Shape> {
    let forms = [
        Shape::hidden(40, 12, 9),
        Shape::hidden(9, 30, 12),
        Shape::hidden(37, 12, 9).blocks_of(8),
        Shape::hidden(9, 30, 12).blocks_of(4),
        Shape::hidden(40, 12, 9).form(Form::First),
        Shape::hidden(37, 12, 9).form(Form::First).blocks_of(8),
        Shape::hidden(9, 30, 12).form(Form::Dual),
        Shape::hidden(9, 30, 12).form(Form::Dual).blocks_of(4),
    ];
    let penalties = [(0.3, 0.0, 0.0), (0.0, 0.2, 0.0), (0.1, 0.5, 0.0), (0.05, 0.0, 0.4), (0.05, 0.1, 0.4)];
    forms
        .into_iter()
        .flat_map(|shape| penalties.map(|(mu, theta, kappa)| shape.penalty(mu, theta, kappa)))
        .collect()
}

in_both_precisions!(exact_w_has_no_gradient, weight_shapes(), check_exact_w);
fn check_exact_w<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    // Twice: the second time from weights that are no random start, and with what the first has kept.
    for _ in 0..2 {
        let old = case.w();
        let p = case.p();
        case.exact_w();
        let new = case.w();
        // ε is a share of the mean eigenvalue of ν p pᵀ, over the n inputs.
        let epsilon = shape.penalty.theta_prox * case.penalties.nu * norm2(&p) / p.ncols() as f64;
        let gradient = case.gradient_w(&new) + (&new - &old) * epsilon;
        let fit = &new.dot(&p.t().dot(&p)) * case.penalties.nu;
        vanishes::<T>(&gradient, &[&fit, &new, &old], &format!("W of {shape:?}"));
        case.product_is_up_to_date(&format!("W of {shape:?}"));
    }
}

in_both_precisions!(
    exact_w_stays_where_its_inputs_are_0,
    // The form in n dimensions and that in N.
    [Shape::hidden(20, 8, 6).penalty(0.0, 0.1, 0.0), Shape::hidden(6, 12, 8).penalty(0.0, 0.1, 0.0)],
    check_dead_inputs
);
fn check_dead_inputs<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    case.below.blocks.iter_mut().for_each(|edge| edge.p.fill(T::zero()));
    let old = case.w();
    case.exact_w();
    assert_eq!(case.w(), old);
    case.product_is_up_to_date("W p of inputs that are 0");
}

in_both_precisions!(gradient_w_takes_the_smallest_theta_that_majorises, weight_shapes(), check_gradient_w);
fn check_gradient_w<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    for _ in 0..2 {
        let old = case.w();
        let (g, phi) = (case.gradient_w(&old), case.phi_w(&old));
        let theta = case.gradient_step_w();
        let new = case.w();
        let error = norm2(&(&new - &(&old - &g / theta))).sqrt();
        assert!(error <= 10.0 * slack::<T>() * norm2(&old).sqrt(), "{shape:?}: off by {error:e}");
        let fall = phi - case.phi_w(&new);
        assert!((fall - norm2(&g) / (2.0 * theta)).abs() <= 10.0 * slack::<T>() * phi, "{shape:?}");
        assert!(fall > 0.0);
        for share in [0.5, 0.9] {
            let smaller = theta * share;
            let d = &g * (-1.0 / smaller);
            let model = phi + inner(&g, &d) + 0.5 * smaller * norm2(&d);
            assert!(case.phi_w(&(&old + &d)) > model, "{shape:?}: θ could be smaller");
        }
        case.product_is_up_to_date(&format!("W of {shape:?}"));
    }
}

/// Layer 1 in N dimensions and in n_0 dimensions are one layer, whatever steps are taken in whatever order.
#[test]
fn both_forms_of_layer_1_give_the_same_w() {
    for (nodes, inputs, block_nodes) in [(9, 30, None), (9, 30, Some(4)), (20, 20, None), (30, 12, Some(7))] {
        for (mu, theta_prox, kappa) in [(0.3, 0.0, 0.0), (0.1, 0.5, 0.0), (0.05, 0.1, 0.4)] {
            let shape =
                Shape { block_nodes, ..Shape::hidden(nodes, inputs, 8).penalty(mu, theta_prox, kappa) };
            let mut forms = [Form::First, Form::Dual].map(|form| Case::<f64>::new(shape.form(form), 5));
            assert_eq!(forms[0].w(), forms[1].w());
            for step in 0..8 {
                if step == 5 {
                    forms.iter_mut().for_each(|case| case.penalties.nu *= 10.0);
                }
                let exact = [1, 2, 5, 7].contains(&step);
                for case in &mut forms {
                    let nodes = case.nodes;
                    if exact {
                        case.exact_w();
                    } else {
                        case.gradient_step_w();
                    }
                    b::update(
                        &mut case.layer,
                        nodes,
                        None,
                        &mut Team::of_one_shard(&mut Workspace::new(), &Workers::one()),
                    );
                    let layer = &case.layer;
                    let (plain, carried) = (layer.weights.norm2(), layer.weights.dense());
                    assert!((plain - norm2(&carried)).abs() <= 1e-9 * plain, "‖W‖² of {shape:?}");
                }
                let (one, other) = (forms[0].w(), forms[1].w());
                let error = norm2(&(&one - &other)).sqrt() / norm2(&one).sqrt();
                assert!(error <= 1e-10, "{shape:?}: {error:e} apart after step {step}");
            }
        }
    }
}

in_both_precisions!(b_is_the_mean_of_what_remains, shapes(), check_b);
fn check_b<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    let (mut space, workers) = (Workspace::new(), Workers::one());
    b::update(&mut case.layer, shape.nodes, None, &mut Team::of_one_shard(&mut space, &workers));
    let remains = case.residual(&case.p(), &case.w()).mean_axis(Axis(0)).unwrap();
    assert!(remains.iter().all(|mean| mean.abs() <= slack::<T>() * 10.0), "{shape:?}: {remains}");
    let fit = |case: &Case<T>| norm2(&case.residual(&case.p(), &case.w()));
    let least = fit(&case);
    for change in [-0.01, 0.01] {
        let mut other = Case { layer: case.layer.clone(), below: case.below.clone(), ..case };
        other.layer.b[0] += T::of(change);
        assert!(fit(&other) > least);
    }
}

in_both_precisions!(z_is_below_every_point_of_a_grid, [Shape::hidden(30, 6, 8)], check_z);
fn check_z<T: Real>(shape: Shape, seed: u64) {
    let mut case = Case::<T>::new(shape, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 100);
    let old = joined(case.layer.blocks.iter().map(|block| &block.z));
    let q = of::<T>(&random(&mut rng, shape.nodes, shape.outputs));
    let a = joined(case.layer.blocks.iter().map(|block| &block.m)) + case.layer.b.mapv(|b| b.f64());
    let fit = z::update(&mut case.layer.blocks[0], &case.layer.b, &q);
    let new = joined(case.layer.blocks.iter().map(|block| &block.z));
    assert!((fit - norm2(&(&new - &a))).abs() <= slack::<T>() * fit);
    for (((&new, &old), &a), q) in new.iter().zip(&old).zip(&a).zip(&q) {
        let value = |z: f64| (z - a).powi(2) + (q.f64() - z.max(0.0)).powi(2) + (z - old).powi(2);
        let bound = 8.0;
        assert!(new.abs() < bound);
        for i in -2000..=2000 {
            let other = bound * f64::from(i) / 2000.0;
            assert!(value(new) <= value(other) + slack::<T>() * (1.0 + value(other)), "{new} and {other}");
        }
    }
}

in_both_precisions!(z_of_the_last_layer_has_no_gradient, [Shape::hidden(30, 6, 8)], check_z_last);
fn check_z_last<T: Real>(shape: Shape, seed: u64) {
    for nu in [1e-4, 0.1, 10.0] {
        let mut case = Case::<T>::new(shape, seed);
        let labels: Vec<usize> = (0..shape.nodes).map(|i| (i * 7 + 3) % shape.outputs).collect();
        let weights: Vec<f64> = (0..shape.outputs).map(|c| 0.3 * 1.5f64.powi(c as i32)).collect();
        let a = joined(case.layer.blocks.iter().map(|block| &block.m)) + case.layer.b.mapv(|b| b.f64());
        let risk = |z: &Matrix| {
            let losses = z.rows().into_iter().zip(&labels).map(|(z, &y)| {
                let top = z.fold(f64::MIN, |top, z| top.max(*z));
                weights[y] * (z.mapv(|z| (z - top).exp()).sum().ln() + top - z[y])
            });
            losses.sum::<f64>()
        };
        let value = |z: &Matrix| risk(z) + 0.5 * nu * norm2(&(z - &a));
        let old = joined(case.layer.blocks.iter().map(|block| &block.z));
        let tolerance = if T::SIZE == 4 { 1e-7 } else { 1e-12 };
        let newton = &mut z_last::Newton::default();
        let block = &mut case.layer.blocks[0];
        let step = z_last::update(block, &case.layer.b, &labels, &weights, nu, tolerance, newton);
        let new = joined(case.layer.blocks.iter().map(|block| &block.z));
        assert!(value(&new) < value(&old));
        for (told, expected) in
            [(step.risk, risk(&new)), (step.local_loss, risk(&a)), (step.fit, norm2(&(&new - &a)))]
        {
            assert!((told - expected).abs() <= slack::<T>() * (1.0 + expected), "{told} for {expected}");
        }
        for ((z, a), &y) in new.rows().into_iter().zip(a.rows()).zip(&labels) {
            let top = z.fold(f64::MIN, |top, z| top.max(*z));
            let soft = z.mapv(|z| (z - top).exp());
            let mut gradient = &soft / soft.sum() + (&z - &a) * (nu / weights[y]);
            gradient[y] -= 1.0;
            // z is rounded to its type, which moves the gradient by (1 + ν/ω) ulp(z) at most.
            let largest = gradient.fold(0.0, |top: f64, g| top.max(g.abs()));
            let rounding = (1.0 + nu / weights[y]) * z.fold(1.0, |top: f64, z| top.max(z.abs())) * 4.0;
            let unit = if T::SIZE == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };
            assert!(largest <= tolerance + rounding * unit, "ν = {nu}: gradient {largest:e}");
        }
    }
}

/// z, p, q and u of one block of a boundary.
fn boundary_block<T: Real>(seed: u64) -> (Array2<T>, BoundaryBlock<T>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || of::<T>(&random(&mut rng, 12, 7));
    (draw(), BoundaryBlock { p: draw(), q: draw(), u: draw() })
}

in_both_precisions!(q_minimises_and_u_follows, [Shape::hidden(12, 7, 7)], check_q_and_u);
fn check_q_and_u<T: Real>(_: Shape, seed: u64) {
    let penalties = Penalties { rho: 0.7, nu: 0.4 };
    let Penalties { rho, nu } = penalties;
    let (z, mut block) = boundary_block::<T>(seed);
    let before = block.clone();
    let step = q::update(&z, &mut block, &penalties, None, None);
    // On the other side of the boundary u is moved alone, by the same p and q.
    let mut other = BoundaryBlock { u: before.u.clone(), ..block.clone() };
    u::update(&mut other, rho);
    assert_eq!(other.u, block.u);
    let [mut change2, mut coupling, mut inner, mut primal] = [0.0; 4];
    for ((i, j), q) in block.q.indexed_iter() {
        let at = |a: &Array2<T>| a[[i, j]].f64();
        let (q, f, p, u) = (q.f64(), at(&z).max(0.0), at(&before.p), at(&before.u));
        // φ(q) = ν/2 (q − f(z))² + u (p − q) + ρ/2 (p − q)².
        let slope = nu * (q - f) - u - rho * (p - q);
        assert!(slope.abs() <= slack::<T>(), "{slope:e}");
        let new_u = at(&block.u);
        assert!((new_u - (u + rho * (p - q))).abs() <= slack::<T>());
        // What Lemma 1 rests on.
        assert!((new_u - nu * (q - f)).abs() <= slack::<T>());
        change2 += (q - at(&before.q)).powi(2);
        coupling += (q - f).powi(2);
        inner += new_u * (p - q);
        primal += (p - q).powi(2);
    }
    for (told, expected) in
        [(step.change2, change2), (step.coupling, coupling), (step.inner, inner), (step.primal, primal)]
    {
        assert!((told - expected).abs() <= slack::<T>() * (1.0 + expected.abs()), "{told} for {expected}");
    }
    assert_eq!((block.p, step.peak), (before.p, 0.0));
}

in_both_precisions!(quantized_q_is_the_best_of_all_levels, [Shape::hidden(12, 7, 7)], check_quantized_q);
fn check_quantized_q<T: Real>(_: Shape, seed: u64) {
    let penalties = Penalties { rho: 0.7, nu: 0.4 };
    let Penalties { rho, nu } = penalties;
    for levels in ["-1:20:1", "0:3:0.125"] {
        let levels: LevelSet = levels.parse().unwrap();
        let (z, mut block) = boundary_block::<T>(seed);
        let before = block.clone();
        let step = q::update(&z, &mut block, &penalties, Some(&levels), None);
        let mut peak: f64 = 0.0;
        for ((i, j), q) in block.q.indexed_iter() {
            let at = |a: &Array2<T>| a[[i, j]].f64();
            let (f, p, u) = (at(&z).max(0.0), at(&before.p), at(&before.u));
            let value = |q: f64| 0.5 * nu * (q - f).powi(2) + u * (p - q) + 0.5 * rho * (p - q).powi(2);
            let best = (0..levels.count()).map(|i| value(levels.value(i))).fold(f64::MAX, f64::min);
            assert!(value(q.f64()) <= best + slack::<T>(), "{q} is not the best level");
            assert!((0..levels.count()).any(|i| levels.value(i) == q.f64()), "{q} is no level");
            peak = peak.max(((rho * p + u + nu * f) / (rho + nu)).abs());
        }
        assert!((step.peak - peak).abs() <= slack::<T>() * peak);
    }
}
