#![allow(clippy::unwrap_used)]
use super::*;
use crate::train::patience::Patience;

fn manifest() -> Manifest {
    let range = PowerRange::holding(3.0);
    let part = |rank, first, last| PartEntry { rank, shard: rank % 2, first, last, bytes: 7, crc32: 9 };
    let evaluation =
        Evaluation { iteration: 4, scores: Scores { correct: [1.0; 3], loss: [0.1, f64::NAN, 0.3] } };
    let progress = Progress {
        penalties: Penalties { rho: 0.1, nu: 1e-4 },
        last_loss: f64::INFINITY,
        stalls: 1,
        since_change: 2,
        met: 0,
    };
    Manifest::new(
        "seed = 1\n".to_owned(),
        ("a \"graph\"".to_owned(), "00-1".to_owned()),
        [2, 3],
        2,
        13,
        progress.penalties,
        progress,
        Patience::default(),
        [&[range; 4], &[range; 4]],
        Some(evaluation),
        None,
        vec![-0.0; Slots { layers: 5, shards: 2 }.count()],
        1.5,
        [1.0, 2.0, 3.0, 0.1 + 0.2],
        vec![part(0, 1, 3), part(1, 1, 3), part(2, 4, 5), part(3, 4, 5)],
    )
}

#[test]
fn it_reads_back_to_the_last_bit() {
    let scratch = tempfile::tempdir().unwrap();
    let manifest = manifest();
    sealed::write(scratch.path(), &manifest).unwrap();
    let bytes = sealed::bytes(scratch.path()).unwrap();
    let read = Manifest::parse(scratch.path(), &bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{manifest:?}"));
    assert!(read.sums.iter().all(|sum| sum.0.is_sign_negative()));
    read.check(scratch.path(), &[2, 5], 10, 8).unwrap();
    assert!(read.check(scratch.path(), &[2, 5], 10, 1).is_err(), "more shards than blocks");
}

#[test]
fn a_single_changed_byte_is_noticed() {
    let scratch = tempfile::tempdir().unwrap();
    sealed::write(scratch.path(), &manifest()).unwrap();
    let bytes = sealed::bytes(scratch.path()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Manifest::parse(scratch.path(), &damaged).is_err(), "byte {at}");
        assert!(Manifest::parse(scratch.path(), &bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn numbers_that_do_not_fit_the_run_are_refused() {
    let folder = Path::new("checkpoint");
    let refused = |change: fn(&mut Manifest), stages: &[usize], iterations: usize| {
        let mut manifest = manifest();
        change(&mut manifest);
        manifest.check(folder, stages, iterations, 8).is_err()
    };
    assert!(refused(|_| {}, &[5], 10), "no second stage");
    assert!(refused(|_| {}, &[2, 6], 10), "another number of layers");
    assert!(refused(|_| {}, &[2, 5], 2), "more iterations than the stage has");
    assert!(refused(|m| m.stage = 0, &[2, 5], 10));
    assert!(refused(|m| m.iteration = 2, &[2, 5], 10));
    assert!(refused(|m| m.iteration = 14, &[2, 5], 10));
    assert!(refused(|m| m.p_exponents[0] = 1000, &[2, 5], 10));
    assert!(refused(|m| m.penalties[0] = Exact(f64::NAN), &[2, 5], 10));
    assert!(refused(|m| m.sums.truncate(3), &[2, 5], 10));
    assert!(refused(|m| m.parts[2].first = 3, &[2, 5], 10));
    assert!(refused(|m| m.parts[2].last = usize::MAX, &[2, 5], 10));
    assert!(refused(|m| m.parts.clear(), &[2, 5], 10));
    assert!(refused(|m| m.parts[0].rank = 4, &[2, 5], 10));
    assert!(refused(|m| m.parts[3].shard = 0, &[2, 5], 10));
    assert!(refused(|m| m.parts[3].shard = 2, &[2, 5], 10));
    assert!(refused(|m| m.shards = 3, &[2, 5], 10));
    assert!(refused(|m| m.shards = 1, &[2, 5], 10));
}
