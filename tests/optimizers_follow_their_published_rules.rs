//! Do gradient descent, Adagrad, Adadelta and Adam take the steps that PyTorch takes?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use pdadmm_g::backprop::{Optimizer, Rule};
use pdadmm_g::linalg::Workers;

/// Iterations that the numbers below were taken after.
const AFTER: [usize; 4] = [1, 2, 3, 10];

/// Rule, learning rate, weight decay, and the parameters after 1, 2, 3 and 10 steps.
///
/// From PyTorch 1.13 in float64: `torch.optim.SGD`, `Adagrad`, `Adadelta` and `Adam` with `lr` and `weight_decay` as
/// given and their defaults else, on `0.5 * (scale * (theta - target)**2).sum()` with scale (1, 10, 0.01), target
/// (1, −1, 0), from theta (0.5, −1.25, 3).
#[allow(clippy::excessive_precision)]
#[rustfmt::skip]
const STEPS: [(Rule, f64, f64, [[f64; 3]; 4]); 8] = [
    (Rule::Gd, 0.1, 0.0, [
        [0.55, -1.0, 2.997],
        [0.5950000000000001, -1.0, 2.9940029999999997],
        [0.6355000000000001, -1.0, 2.991008997],
        [0.82566077995, -1.0, 2.970134640629244],
    ]),
    (Rule::Gd, 0.1, 0.05, [
        [0.5475, -0.99375, 2.982],
        [0.5900124999999999, -0.99503125, 2.9641080000000004],
        [0.6280611875, -0.99502484375, 2.9463233520000003],
        [0.8031926872420522, -0.9950248756218906, 2.824783050630637],
    ]),
    (Rule::Adagrad, 0.1, 0.0, [
        [0.59999999998, -1.150000000004, 2.9000000003333333],
        [0.6624695047275909, -1.0985504244620032, 2.830497790811027],
        [0.7091008231877527, -1.0665278998185697, 2.774359346538683],
        [0.877725486371839, -1.0047975467943975, 2.514877215466055],
    ]),
    (Rule::Adagrad, 0.1, 0.05, [
        [0.5999999999789474, -1.1500000000039023, 2.9000000000555555],
        [0.6614515360808407, -1.09806085758215, 2.8304977903978816],
        [0.7066965235321657, -1.065420196746075, 2.7743593460365856],
        [0.8624612498265758, -1.0005701801469906, 2.5148772146806224],
    ]),
    (Rule::Adadelta, 1.0, 0.0, [
        [0.5031622144165124, -1.2468377248696507, 2.9968551454898344],
        [0.5063968079206123, -1.243612934153485, 2.993630675458513],
        [0.5096741329351463, -1.2403592232847345, 2.9903526326220566],
        [0.5330535550832225, -1.2176438077863545, 2.966559274623215],
    ]),
    (Rule::Adadelta, 1.0, 0.05, [
        [0.5031622075843225, -1.24683772474775, 2.996838210232708],
        [0.5063957599828687, -1.2436125470163177, 2.993595916649284],
        [0.50967059772784, -1.2403579069210557, 2.9902995231812506],
        [0.5329800335496461, -1.2176165605748557, 2.966370126571971],
    ]),
    (Rule::Adam, 0.1, 0.0, [
        [0.599999998, -1.1500000004, 2.9000000333333222],
        [0.6988125762693597, -1.0542509832163587, 2.800102774231576],
        [0.7951287442605489, -0.9697916702226282, 2.7003816243590335],
        [1.2033228230569066, -0.9765337672518298, 2.0141887565714387],
    ]),
    (Rule::Adam, 0.1, 0.05, [
        [0.5999999978947369, -1.150000000390244, 2.900000005555555],
        [0.6985938160414904, -1.0540848620592655, 2.8001027182711207],
        [0.7941484882980016, -0.968941496081849, 2.7003815398462354],
        [1.1465106892731483, -0.9653211383810002, 2.014188465989811],
    ]),
];

fn gradient(theta: &[f64]) -> Vec<f64> {
    let (scale, target) = ([1.0, 10.0, 0.01], [1.0, -1.0, 0.0]);
    (0..3).map(|i| scale[i] * (theta[i] - target[i])).collect()
}

#[test]
fn the_steps_are_those_of_pytorch() {
    for (rule, learning_rate, weight_decay, expected) in STEPS {
        let mut theta = vec![0.5, -1.25, 3.0];
        let mut optimizer = Optimizer::new(rule, learning_rate, weight_decay, 3);
        let mut taken = 0;
        for (after, expected) in AFTER.into_iter().zip(expected) {
            while taken < after {
                let g = gradient(&theta);
                optimizer.step(&mut theta, &g, &Workers::one());
                taken += 1;
            }
            for (found, expected) in theta.iter().zip(expected) {
                let error = (found - expected).abs() / expected.abs();
                assert!(
                    error < 1e-12,
                    "{rule:?} with decay {weight_decay} after {after} steps: {found}, not {expected}"
                );
            }
        }
    }
}

/// More parameters than a thread takes at a time: each must get its own gradient and its own memory.
#[test]
fn threads_do_not_change_a_step() {
    let count = 50_000;
    for rule in [Rule::Gd, Rule::Adagrad, Rule::Adadelta, Rule::Adam] {
        let run = |threads| {
            let workers = Workers::new(threads).unwrap();
            let mut theta: Vec<f32> = (0..count).map(|i| (i % 977) as f32 / 500.0 - 1.0).collect();
            let mut optimizer = Optimizer::new(rule, 0.1, 0.01, count);
            for k in 0..3 {
                let g: Vec<f32> = theta.iter().enumerate().map(|(i, t)| t * (i % 13 + k) as f32).collect();
                optimizer.step(&mut theta, &g, &workers);
            }
            theta
        };
        let alone = run(1);
        assert!(alone == run(2) && alone == run(3), "{rule:?}");
        // The numbers of one parameter do not depend on those beside it.
        let mut one = vec![(40_000 % 977) as f32 / 500.0 - 1.0];
        let mut optimizer = Optimizer::new(rule, 0.1, 0.01, 1);
        for k in 0..3 {
            let g = vec![one[0] * (40_000 % 13 + k) as f32];
            optimizer.step(&mut one, &g, &Workers::one());
        }
        assert_eq!(one[0], alone[40_000], "{rule:?}");
    }
}

/// Parameters that nothing but the decay moves shrink step by step; numbers below the smallest normal one are slow.
#[test]
fn nothing_becomes_subnormal() {
    for rule in [Rule::Gd, Rule::Adagrad, Rule::Adadelta, Rule::Adam] {
        let mut theta = [1.0f32, -1.0, 1e-37, -2e-19, f32::NAN];
        let mut optimizer = Optimizer::new(rule, 0.5, 1.0, theta.len());
        for _ in 0..200 {
            optimizer.step(&mut theta, &[0.0; 5], &Workers::one());
            let [first, second] = optimizer.memory();
            for x in theta.iter().chain(first).chain(second) {
                assert!(!x.is_subnormal(), "{rule:?} leaves {x:e} in {theta:?}, {first:?} and {second:?}");
            }
        }
        assert!(theta[4].is_nan(), "{rule:?} hides that a weight is not a number");
        assert!(rule != Rule::Gd || theta[..2] == [0.0, 0.0], "{theta:?}");
    }
}
