//! The four update rules, with the formulas and constants of PyTorch's `torch.optim`.

use crate::linalg::elements::{STRETCH, settle, vectorised};
use crate::linalg::{Real, Workers};

/// Parameters that a thread takes at a time.
const STRIP: usize = 1 << 14;

/// An update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// θ ← θ − η g.
    Gd,
    /// Zeiler 2012: ρ = 0.9, ε = 1e-6.
    Adadelta,
    /// Duchi, Hazan, Singer 2011: ε = 1e-10.
    Adagrad,
    /// Kingma, Ba 2015: β = (0.9, 0.999), ε = 1e-8.
    Adam,
}

impl Rule {
    /// How many numbers it remembers for every parameter.
    pub fn memories(self) -> usize {
        match self {
            Rule::Gd => 0,
            Rule::Adagrad => 1,
            Rule::Adadelta | Rule::Adam => 2,
        }
    }
}

/// A rule with what it remembers of earlier gradients.
#[derive(Debug, Clone)]
pub struct Optimizer<T> {
    rule: Rule,
    learning_rate: f64,
    weight_decay: f64,
    steps: u64,
    first: Vec<T>,
    second: Vec<T>,
}

impl<T: Real> Optimizer<T> {
    /// At the start, for this many parameters.
    pub fn new(rule: Rule, learning_rate: f64, weight_decay: f64, parameters: usize) -> Self {
        let zeros = |is_there| vec![T::zero(); if is_there { parameters } else { 0 }];
        let (first, second) = (zeros(rule.memories() > 0), zeros(rule.memories() > 1));
        Self { rule, learning_rate, weight_decay, steps: 0, first, second }
    }

    /// What it remembers: one or two numbers for every parameter, or nothing.
    pub fn memory(&self) -> [&[T]; 2] {
        [&self.first, &self.second]
    }

    /// Goes on after `steps` steps with what [`Optimizer::memory`] was then.
    pub fn go_on_from(&mut self, steps: u64, [first, second]: [Vec<T>; 2]) {
        (self.steps, self.first, self.second) = (steps, first, second);
    }

    /// One step along `gradient`, with g = gradient + λ θ (weight decay as an L2 term, on all parameters):
    ///
    /// | rule | update |
    /// |---|---|
    /// | gd | θ ← θ − η g |
    /// | adagrad | s ← s + g²; θ ← θ − η g / (√s + ε) |
    /// | adadelta | v ← ρ v + (1−ρ) g²; δ = √((a+ε)/(v+ε)) g; a ← ρ a + (1−ρ) δ²; θ ← θ − η δ |
    /// | adam | m ← β₁ m + (1−β₁) g; v ← β₂ v + (1−β₂) g²; θ ← θ − η/(1−β₁ᵏ) · m / (√v / √(1−β₂ᵏ) + ε) |
    pub fn step(&mut self, parameters: &mut [T], gradient: &[T], workers: &Workers) {
        self.steps += 1;
        let (lr, decay) = (T::of(self.learning_rate), T::of(self.weight_decay));
        let pass = Pass { parameters, gradient, memory: [&mut self.first, &mut self.second], workers };
        match self.rule {
            Rule::Gd => pass.each(
                #[inline(always)]
                |theta, g, _, _| {
                    let g = g + decay * *theta;
                    *theta -= lr * g;
                },
            ),
            Rule::Adagrad => {
                let epsilon = T::of(1e-10);
                pass.each(
                    #[inline(always)]
                    |theta, g, s, _| {
                        let g = g + decay * *theta;
                        *s += g * g;
                        *theta -= lr * (g / (s.sqrt() + epsilon));
                    },
                );
            }
            Rule::Adadelta => {
                let (rho, epsilon) = (T::of(0.9), T::of(1e-6));
                pass.each(
                    #[inline(always)]
                    |theta, g, v, a| {
                        let g = g + decay * *theta;
                        *v = rho * *v + (T::one() - rho) * g * g;
                        let delta = (*a + epsilon).sqrt() / (*v + epsilon).sqrt() * g;
                        *a = rho * *a + (T::one() - rho) * delta * delta;
                        *theta -= lr * delta;
                    },
                );
            }
            Rule::Adam => {
                let (beta1, beta2, epsilon) = (0.9f64, 0.999f64, T::of(1e-8));
                let k = i32::try_from(self.steps).unwrap_or(i32::MAX);
                let step = T::of(self.learning_rate / (1.0 - beta1.powi(k)));
                let root = T::of((1.0 - beta2.powi(k)).sqrt());
                let (one1, one2) = (T::of(1.0 - beta1), T::of(1.0 - beta2));
                let (beta1, beta2) = (T::of(beta1), T::of(beta2));
                pass.each(
                    #[inline(always)]
                    |theta, g, m, v| {
                        let g = g + decay * *theta;
                        *m = beta1 * *m + one1 * g;
                        *v = beta2 * *v + one2 * g * g;
                        *theta -= step * *m / (v.sqrt() / root + epsilon);
                    },
                );
            }
        }
    }
}

/// 0 in place of a subnormal number. [`settle`] would be too much for squares of gradients.
#[inline(always)]
fn not_subnormal<T: Real>(x: T) -> T {
    if x.abs() < T::min_positive_value() { T::zero() } else { x }
}

/// One pass over all parameters.
struct Pass<'a, T> {
    parameters: &'a mut [T],
    gradient: &'a [T],
    /// What the rule remembers of each parameter; empty where it does not.
    memory: [&'a mut [T]; 2],
    workers: &'a Workers,
}

impl<T: Real> Pass<'_, T> {
    /// `change(θ, g, first, second)` for every parameter; memories that the rule does not have are read as 0.
    ///
    /// Parameters are settled, and memories that fall below the smallest normal number become 0: what nothing but the
    /// decay moves would shrink as far as that, and then take many times longer to compute with.
    fn each(self, change: impl Fn(&mut T, T, &mut T, &mut T) + Sync) {
        let Self { parameters, gradient, memory: [first, second], workers } = self;
        let (mut firsts, mut seconds) = (first.chunks_mut(STRIP), second.chunks_mut(STRIP));
        let mut memories = || [firsts.next().unwrap_or_default(), seconds.next().unwrap_or_default()];
        let strips = parameters.chunks_mut(STRIP).zip(gradient.chunks(STRIP));
        let mut strips: Vec<_> = strips.map(|(theta, g)| (theta, g, memories())).collect();
        workers.each(&mut strips[..], |_, (theta, gradient, [first, second])| {
            vectorised(
                #[inline(always)]
                || {
                    let [mut no_first, mut no_second] = [[T::zero(); STRETCH]; 2];
                    let stretches = theta.chunks_mut(STRETCH).zip(gradient.chunks(STRETCH));
                    for (i, (theta, gradient)) in stretches.enumerate() {
                        let at = i * STRETCH..i * STRETCH + theta.len();
                        let first = first.get_mut(at.clone()).unwrap_or(&mut no_first);
                        let second = second.get_mut(at).unwrap_or(&mut no_second);
                        let memories = first.iter_mut().zip(second);
                        for ((theta, &g), (first, second)) in theta.iter_mut().zip(gradient).zip(memories) {
                            change(theta, g, first, second);
                            (*theta, *first, *second) =
                                (settle(*theta), not_subnormal(*first), not_subnormal(*second));
                        }
                    }
                },
            );
        });
    }
}
