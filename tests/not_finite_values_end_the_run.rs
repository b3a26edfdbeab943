//! Does a value that is not finite end the run on every rank, with status `diverged` and exit code 4?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use pdadmm_g::dataset::Features;
use pdadmm_g::dataset::generate::{GenerateSettings, generate};

#[path = "support/program.rs"]
mod program;

#[test]
fn features_that_overflow_single_precision_diverge_and_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("huge.h5");
    let mut data = generate(&GenerateSettings::new(120, 8, 2)).unwrap();
    match &mut data.features {
        // Finite in the file; their products are not in single precision, unless dropout scales them.
        Features::Dense(h) => h.mapv_inplace(|h| h * 1e30),
        Features::Sparse(_) => panic!("generated features are dense"),
    }
    data.write(&path, false).unwrap();
    let launcher = program::launcher();
    for ranks in if launcher.is_some() { vec![1, 3] } else { vec![1] } {
        let output = scratch.path().join(format!("run{ranks}"));
        let outcome = program::run(
            program::on_ranks(launcher.as_ref(), ranks)
                .args([
                    "train",
                    "--layers",
                    "4",
                    "--stages",
                    "2,4",
                    "--iterations",
                    "5",
                    "--dropout",
                    "0",
                    "--data",
                ])
                .arg(&path)
                .arg("--output")
                .arg(&output),
        );
        let text = format!("{}\n{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.status.and_then(|status| status.code()), Some(4), "{ranks} ranks: {text}");
        assert!(text.contains("is not finite in iteration") && text.contains("of layer"), "{text}");
        let summary = std::fs::read_to_string(output.join("summary.json")).unwrap();
        assert!(summary.contains("\"status\": \"diverged\""), "{summary}");
        assert!(!output.join("model-last.h5").exists(), "what has diverged is no model");
    }
}
