//! Does the number of ranks and threads leave the models and the history as they are, to the last bit, and do the
//! counted bytes agree with what the boundaries between ranks imply?
//!
//! Real Cora needs `PDADMM_DATASETS`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

#[path = "support/program.rs"]
mod program;

use program::{Launcher, hold_alike};

/// The most that a message may take besides its numbers.
const HEADER: u64 = 48;

/// Trains once without mpirun, then on 1, 2, 3, 5 and 10 ranks, and on some of them with two threads each.
fn agree(launcher: &Launcher, data: &Path, settings: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = |name: String| scratch.path().join(name);
    let serial = folder("serial".into());
    program::train(None, 1, data, &serial, settings);
    for (ranks, threads) in [(1, 1), (2, 1), (3, 1), (5, 1), (10, 1), (1, 2), (3, 2)] {
        let parallel = folder(format!("{ranks}-{threads}"));
        let all = format!("{settings} --threads {threads}");
        program::train(Some(launcher), ranks, data, &parallel, &all);
        hold_alike(&serial, &parallel, &format!("{ranks} ranks, {threads} threads, {settings}"));
    }
}

/// 90 training nodes: with 12 features layer 1 has fewer inputs than nodes, with 40 more.
fn generated(test: impl FnOnce(&Launcher, &Path)) {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 400, 12, 3, 90);
    test(&launcher, &data);
}

const SMALL: &str = "--neurons 24 --iterations 12 --penalty-growth 2";

fn agree_on_generated(settings: &[&str]) {
    generated(|launcher, data| {
        for settings in settings {
            agree(launcher, data, &format!("{SMALL} {settings}"));
        }
    });
}

#[test]
fn not_quantized() {
    agree_on_generated(&["--precision f32", "--precision f64 --quantize none"]);
}

#[test]
fn deep_from_the_start() {
    agree_on_generated(&[
        "--stages 10",
        "--stages 10 --start random",
        "--stages 2,10 --start labels --quantize pq",
    ]);
}

#[test]
fn quantized() {
    agree_on_generated(&[
        "--quantize p --bits 8",
        "--quantize q --bits 8",
        "--quantize pq --bits 8",
        "--quantize pq --bits 8 --precision f64",
        "--quantize pq --levels -1:20:1",
    ]);
}

#[test]
fn gradient_and_exact() {
    agree_on_generated(&[
        "--subproblem gradient",
        "--subproblem exact --precision f64",
        "--subproblem gradient --quantize pq",
    ]);
}

#[test]
fn several_blocks_of_nodes() {
    agree_on_generated(&[
        "--block-nodes 16",
        "--block-nodes 7 --subproblem gradient --quantize pq --precision f64",
        "--block-nodes 30 --subproblem exact --quantize p --levels 0:4:0.25",
    ]);
}

#[test]
fn layer_1_in_as_many_dimensions_as_nodes() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 400, 40, 3, 90);
    for settings in ["--subproblem gradient --block-nodes 25", "--dropout 0.3 --quantize pq"] {
        agree(&launcher, &data, &format!("{SMALL} {settings}"));
    }
}

/// So many nodes that they come in several blocks unasked.
#[test]
fn many_nodes() {
    let Some(launcher) = program::launcher() else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 3000, 12, 3, 2100);
    let serial = scratch.path().join("serial");
    let settings = "--neurons 24 --iterations 4 --quantize p";
    program::train(None, 1, &data, &serial, settings);
    let parallel = scratch.path().join("parallel");
    program::train(Some(&launcher), 4, &data, &parallel, &format!("{settings} --threads 2"));
    hold_alike(&serial, &parallel, "4 ranks, 2 threads");
}

#[test]
fn cora() {
    let (Some(datasets), Some(launcher)) = (program::real_data(), program::launcher()) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("cora.h5");
    program::import(&datasets, "cora", &data);
    for settings in ["", "--quantize pq --bits 8", "--precision f64 --subproblem gradient"] {
        agree(&launcher, &data, &format!("--stages 2,5,10 --iterations 4 {settings}"));
    }
}

#[test]
fn evaluations_that_are_not_due_change_nothing_of_a_stage_but_their_columns() {
    generated(|launcher, data| {
        // The next stage starts from the best evaluation of the one before: it may be another where fewer are made.
        let settings = format!("{SMALL} --stages 10");
        let scratch = tempfile::tempdir().unwrap();
        let folder = |name: &str| scratch.path().join(name);
        program::train(None, 1, data, &folder("often"), &settings);
        program::train(Some(launcher), 5, data, &folder("rarely"), &format!("{settings} --evaluate-every 5"));
        let last = |name| program::weights(&folder(name).join("model-last.h5"));
        assert!(last("often") == last("rarely"), "model-last.h5 depends on evaluations");
        let rows = program::history(&folder("rarely"));
        for (i, accuracy) in rows["val_accuracy"].iter().enumerate() {
            let of_stage = i % 12 + 1;
            assert_eq!(accuracy.is_empty(), !(of_stage % 5 == 0 || of_stage == 12), "row {i}");
        }
    });
}

/// What R ranks exchange over all stages.
struct Implied {
    messages: u64,
    elements: u64,
}

/// min(R, L) − 1 boundaries between ranks in a stage of L layers, each with p and q once an iteration.
fn implied(ranks: u64, stages: &[u64], iterations: u64, nodes: u64, neurons: u64, blocks: u64) -> Implied {
    let exchanges: u64 = stages.iter().map(|layers| (ranks.min(*layers) - 1) * iterations).sum();
    Implied { messages: 2 * exchanges * blocks, elements: exchanges * nodes * neurons }
}

#[test]
fn bytes_are_what_the_boundaries_imply() {
    generated(|launcher, data| {
        let scratch = tempfile::tempdir().unwrap();
        let (iterations, nodes, neurons) = (3, 90, 24);
        // Settings, blocks of nodes, bits of an element of p and of q on the wire.
        for (case, (settings, blocks, [p_bits, q_bits])) in [
            ("", 1, [32, 32]),
            ("--precision f64", 1, [64, 64]),
            ("--quantize p", 1, [8, 32]),
            ("--quantize q --block-nodes 18", 5, [32, 8]),
            ("--quantize pq --bits 8", 1, [8, 8]),
            ("--quantize pq --bits 8 --block-nodes 30", 3, [8, 8]),
            ("--quantize pq --bits 12 --precision f64", 1, [12, 12]),
            ("--quantize pq --levels -1:20:1", 1, [5, 5]),
        ]
        .into_iter()
        .enumerate()
        {
            for ranks in [1, 2, 3, 5, 10] {
                let folder = scratch.path().join(format!("{case}-{ranks}"));
                let all = format!("--neurons {neurons} --iterations {iterations} {settings}");
                program::train(Some(launcher), ranks as usize, data, &folder, &all);
                let Implied { messages, elements } =
                    implied(ranks, &[2, 5, 10], iterations, nodes, neurons, blocks);
                let payload = |bits: u64| {
                    // Each message is filled up to whole bytes; none of these needs it.
                    assert!((nodes / blocks * neurons * bits).is_multiple_of(8));
                    elements * bits / 8
                };
                let bytes = &program::summary(&folder)["bytes"];
                let of = |name: &str| bytes[name].as_u64().unwrap();
                let what = format!("{ranks} ranks, {settings}");
                assert_eq!(of("messages"), messages, "messages with {what}");
                assert_eq!(of("baseline"), 12 * elements, "base line with {what}");
                // Numbers as they are take their bits and a header; level indices take at most what they take
                // packed, and less where coding against the iteration before pays.
                for (variable, bits) in [("p", p_bits), ("q", q_bits)] {
                    let (sent, most) = (of(variable), payload(bits) + HEADER * messages / 2);
                    let least = if bits >= 32 { payload(bits) } else { 0 };
                    assert!(sent >= least && sent <= most, "{sent} bytes of {variable} with {what}");
                    assert_eq!(sent > 0, ranks > 1, "{sent} bytes of {variable} with {what}");
                }
                for (column, total) in [("bytes_p", "p"), ("bytes_q", "q")] {
                    let column = program::column(&folder, column);
                    assert!(column.windows(2).all(|rows| rows[0] <= rows[1]), "{what}");
                    assert_eq!(*column.last().unwrap(), of(total) as f64, "last row of history.csv, {what}");
                }
            }
        }
    });
}
