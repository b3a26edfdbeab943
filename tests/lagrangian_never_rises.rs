//! With ρ > 4ν, fixed, does the augmented Lagrangian never rise, in double precision?
//!
//! Lemma 1 asks ρ > max(4ν, (√17 + 1)ν/2), u⁰ = ν(q⁰ − f(z⁰)), p⁰ on its level set, and q not rounded. A run of one
//! stage starts with q⁰ = f(z⁰) and u⁰ = 0 = ν(q⁰ − f(z⁰)), and rounds p⁰; a level set that is given stays the same.
//! So whole runs of the program keep the conditions. Features are those of real Cora where `PDADMM_DATASETS` is set.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

#[path = "support/program.rs"]
mod program;

/// What rounding may add, relative.
const ROUNDING: f64 = 1e-12;

struct Data {
    scratch: tempfile::TempDir,
}

impl Data {
    fn new() -> Self {
        let data = Self { scratch: tempfile::tempdir().unwrap() };
        match std::env::var_os("PDADMM_DATASETS").map(PathBuf::from) {
            Some(datasets) => program::import(&datasets, "cora", &data.path()),
            None => {
                println!("a generated data set is used: PDADMM_DATASETS is not set");
                program::generate(&data.path(), 600, 60, 5, 100);
            }
        }
        data
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("data.h5")
    }

    /// The Lagrangian after each iteration of a run.
    fn lagrangian(&self, settings: &str) -> Vec<f64> {
        let output = self.scratch.path().join(settings.replace(' ', ""));
        let always = "--precision f64 --penalties fixed --evaluate-every 1000";
        program::train(None, 1, &self.path(), &output, &format!("{always} {settings}"));
        check_penalties(&output);
        program::column(&output, "lagrangian")
    }

    fn falls(&self, settings: &str) {
        let values = self.lagrangian(settings);
        assert!(values.iter().all(|value| value.is_finite()), "{settings}");
        let mut largest: f64 = 0.0;
        for (k, pair) in values.windows(2).enumerate() {
            let rise = (pair[1] - pair[0]) / pair[0].abs().max(f64::MIN_POSITIVE);
            largest = largest.max(rise);
            assert!(
                rise <= ROUNDING,
                "{settings}: from {:.17e} to {:.17e} in iteration {}",
                pair[0],
                pair[1],
                k + 2
            );
        }
        let (first, last) = (values[0], values[values.len() - 1]);
        assert!(last < first, "{settings}: it does not fall at all");
        println!("{settings}: {first:.6e} to {last:.6e}, largest rise {largest:.1e} relative");
    }
}

/// ρ and ν are the same in all rows, and the Lemma's condition holds.
fn check_penalties(output: &Path) {
    let (rho, nu) = (program::column(output, "rho"), program::column(output, "nu"));
    assert!(rho.iter().all(|r| *r == rho[0]) && nu.iter().all(|n| *n == nu[0]));
    assert!(rho[0] > 4.0 * nu[0] && rho[0] > (17f64.sqrt() + 1.0) / 2.0 * nu[0]);
}

const TEN_LAYERS: &str = "--stages 10 --iterations 120";

#[test]
fn with_gradient_steps() {
    let data = Data::new();
    for more in ["--rho 5e-3 --nu 1e-3", "--rho 0.41 --nu 0.1 --mu 0 --dropout 0", "--rho 5 --nu 1"] {
        data.falls(&format!("{TEN_LAYERS} --subproblem gradient {more}"));
    }
}

#[test]
fn with_exact_solutions() {
    let data = Data::new();
    for more in [
        "--rho 5e-3 --nu 1e-3",
        "--rho 0.41 --nu 0.1 --mu 0.1 --mu-hidden 0.01 --dropout 0",
        "--rho 5 --nu 1 --mu 0 --dropout 0 --proximal 0.01",
    ] {
        data.falls(&format!("{TEN_LAYERS} --subproblem exact {more}"));
    }
}

#[test]
fn with_p_on_a_level_set() {
    let data = Data::new();
    for more in [
        "--subproblem gradient --levels 0:8:0.125 --rho 5e-3 --nu 1e-3",
        "--subproblem exact --levels 0:8:0.125 --rho 5e-3 --nu 1e-3",
        "--subproblem gradient --levels -1:20:1 --rho 0.5 --nu 0.1",
        "--subproblem exact --levels 0:4:0.015625 --rho 5 --nu 1",
    ] {
        data.falls(&format!("{TEN_LAYERS} --quantize p {more}"));
    }
}
