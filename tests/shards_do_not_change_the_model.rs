//! Does it leave the models and the history as they are, to the last bit, into how many shards the nodes of each layer are
//! divided?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "support/program.rs"]
mod program;

use program::{Launcher, hold_alike};

const SMALL: &str = "--neurons 24 --iterations 8 --penalty-growth 2 --evaluate-every 3";

/// Trains on one process, and on these numbers of ranks and shards.
fn agree(launcher: &Launcher, data: &Path, settings: &str, grids: &[(usize, &str)]) {
    let scratch = tempfile::tempdir().unwrap();
    let serial = scratch.path().join("serial");
    program::train(None, 1, data, &serial, settings);
    for (ranks, shards) in grids {
        let folder = scratch.path().join(format!("{ranks}-{shards}"));
        program::train(Some(launcher), *ranks, data, &folder, &format!("{settings} --shards {shards}"));
        hold_alike(&serial, &folder, &format!("{ranks} ranks, {shards} shards, {settings}"));
        let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert!(summary["bytes"]["other"].as_u64() > Some(0), "sums between shards are counted");
    }
}

/// 160 training nodes of 12 features in blocks of 20, so that there are eight, or of 23, so that there are seven.
fn generated(features: usize, test: impl FnOnce(&Launcher, &Path)) {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 1500, features, 3, 160);
    test(&launcher, &data);
}

const GRIDS: [(usize, &str); 5] = [(2, "2"), (4, "4"), (8, "8"), (6, "2"), (6, "auto")];

#[test]
fn with_more_nodes_than_features() {
    generated(12, |launcher, data| {
        agree(launcher, data, &format!("{SMALL} --block-nodes 20 --stages 2,5"), &GRIDS);
        for method in
            ["--subproblem gradient", "--subproblem gradient --quantize pq", "--quantize pq --bits 4"]
        {
            let settings = format!("{SMALL} --block-nodes 20 --layers 4 {method}");
            agree(launcher, data, &settings, &[(4, "4"), (4, "2")]);
        }
    });
}

#[test]
fn with_fewer_nodes_than_features() {
    generated(50, |launcher, data| {
        for method in ["", "--subproblem gradient --precision f64", "--proximal 0.5 --mu 0 --dropout 0"] {
            let settings = format!("{SMALL} --block-nodes 20 --layers 4 {method}");
            agree(launcher, data, &settings, &[(2, "2"), (8, "4"), (6, "auto")]);
        }
        agree(launcher, data, &format!("{SMALL} --block-nodes 20 --stages 4"), &[(4, "4"), (8, "2")]);
    });
}

#[test]
fn with_blocks_that_do_not_fill_all_shards_alike() {
    generated(12, |launcher, data| {
        let settings = format!("{SMALL} --block-nodes 23 --layers 3");
        agree(launcher, data, &settings, &[(2, "2"), (4, "4")]);
    });
}

/// So many nodes that they come in eight blocks unasked; more ranks than layers.
#[test]
fn ranks_may_outnumber_layers() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 3000, 12, 3, 2100);
    let settings = "--neurons 24 --iterations 4 --stages 2,3";
    agree(&launcher, &data, settings, &[(5, "auto"), (8, "auto"), (12, "4")]);
}

#[test]
fn ranks_that_do_not_fit_are_refused() {
    generated(12, |launcher, data| {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("run");
        for (ranks, flags, expected) in [
            (3, "--layers 2", "--shards auto"),
            (3, "--shards 2 --block-nodes 20", "mpirun -n 4"),
            (2, "--shards 2", "--block-nodes"),
            (1, "--shards 3", "power of two"),
            (6, "--layers 2 --shards 2 --block-nodes 20", "at most 4"),
        ] {
            let mut command = program::on_ranks(Some(launcher), ranks);
            command.args(["train", "--data"]).arg(data).arg("--output").arg(&folder);
            let outcome = program::run(command.args(flags.split(' ')));
            assert_eq!(
                outcome.status.and_then(|status| status.code()),
                Some(2),
                "{ranks} ranks, {flags}: {}",
                outcome.stderr
            );
            assert!(outcome.stderr.contains(expected), "{ranks} ranks, {flags}: {}", outcome.stderr);
        }
    });
}
