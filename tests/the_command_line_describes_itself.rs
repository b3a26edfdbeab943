//! Do manual pages, completions and the bar of `train` come from the command line as it is?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Stdio;

#[path = "support/program.rs"]
mod program;

fn output_of(arguments: &[&str]) -> String {
    program::succeed(program::alone().args(arguments)).stdout
}

/// The long flags in a help text.
fn flags(help: &str) -> Vec<String> {
    let words = help.split(|c: char| c.is_whitespace() || "[],<>=".contains(c));
    words.filter(|word| word.starts_with("--") && word.len() > 3).map(str::to_owned).collect()
}

#[test]
fn manual_pages_have_every_flag_of_the_help() {
    for command in [
        &["train"][..],
        &["predict"],
        &["report"],
        &["dataset", "import"],
        &["dataset", "augment"],
        &["traffic"],
        &["scaling"],
        &["plan"],
    ] {
        let page = output_of(&[&["man"], command].concat()).replace("\\-", "-");
        assert!(page.contains(".TH"), "{command:?}");
        let help = output_of(&[command, &["-h"]].concat());
        let mut listed = flags(&help);
        listed.retain(|flag| {
            help.lines().any(|line| line.trim_start().trim_start_matches("-h, ").starts_with(flag.as_str()))
        });
        assert!(listed.len() > 2, "{help}");
        for flag in listed {
            assert!(page.contains(&flag), "{flag} of {command:?}");
        }
    }
    assert!(output_of(&["man"]).contains("pdadmm\\-g\\-train(1)"));
    assert!(!output_of(&["man"]).contains("inspect"), "hidden commands stay hidden");
    let wrong = program::run(program::alone().args(["man", "fly"]));
    assert_eq!(wrong.status.and_then(|status| status.code()), Some(2), "{}", wrong.stderr);
}

#[test]
fn all_manual_pages_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("man1");
    program::succeed(program::alone().args(["man", "--output"]).arg(&output));
    for page in ["pdadmm-g.1", "pdadmm-g-train.1", "pdadmm-g-dataset-import.1", "pdadmm-g-report.1"] {
        assert!(output.join(page).is_file(), "{page}");
    }
}

#[test]
fn shells_complete_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output_of(&["completions", shell]);
        assert!(script.contains("quantize") && script.contains("report"), "{shell}");
    }
    // What bash makes of it.
    let script = output_of(&["completions", "bash"]);
    let ask = "COMP_WORDS=(pdadmm-g train --quant); COMP_CWORD=2; _pdadmm-g pdadmm-g --quant train; echo ${COMPREPLY[*]}";
    let mut bash = std::process::Command::new("bash");
    let outcome = program::run(bash.args(["-c", &format!("{script}\n{ask}")]).stdin(Stdio::null()));
    assert_eq!(outcome.stdout.trim(), "--quantize", "{}", outcome.stderr);
}

#[test]
fn a_log_has_lines_with_the_time_left_and_a_bar_only_where_asked_for() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 2, 40);
    let settings = "--stages 2,3 --neurons 6 --iterations 20";
    let plain = program::train(None, 1, &data, &scratch.path().join("lines"), settings).stdout;
    assert!(!plain.contains(['\r', '\u{1b}']), "{plain}");
    let head = plain.lines().find(|line| line.contains("iteration   objective")).unwrap();
    assert!(head.ends_with("seconds    left"), "{head}");
    let last = plain.lines().find(|line| line.trim_start().starts_with("40 ")).unwrap();
    assert!(last.ends_with("     0s"), "{last}");

    let bar = format!("{settings} --progress bar");
    let shown = program::train(None, 1, &data, &scratch.path().join("bar"), &bar).stdout;
    assert!(shown.contains("iteration 1 of 40, validation 0.") && shown.contains(" left"), "{shown:?}");
    // The bar is gone at the end, and the lines are all there.
    let (_, end) = shown.rsplit_once("\u{1b}[2K").unwrap();
    assert!(end.contains("status     finished"), "{shown:?}");
    let table = |text: &str| text.lines().filter(|line| line.trim_end().ends_with('s')).count();
    assert!(table(&shown) >= table(&plain), "{shown:?}");
    let mut quiet = program::alone();
    quiet.args(["train", "--progress", "bar", "--quiet", "--data"]).arg(&data);
    quiet.arg("--output").arg(scratch.path().join("quiet")).args(settings.split_whitespace());
    assert_eq!(program::succeed(&mut quiet).stdout, "");
}

#[test]
fn commands_that_end_soon_show_no_progress() {
    let scratch = tempfile::tempdir().unwrap();
    let [data, augmented, run, prediction] =
        ["data.h5", "augmented.h5", "run", "prediction.h5"].map(|name| scratch.path().join(name));
    program::generate(&data, 200, 6, 2, 40);
    program::train(None, 1, &data, &run, "--layers 2 --neurons 6 --iterations 2");
    let mut augment = program::alone();
    augment.args(["dataset", "augment", "--overwrite", "--data"]).arg(&data).arg("--output").arg(&augmented);
    let mut predict = program::alone();
    predict.args(["predict", "--overwrite", "--data"]).arg(&data).arg("--model").arg(run.join("model.h5"));
    predict.arg("--output").arg(&prediction);
    for command in [&mut augment, &mut predict] {
        for show in ["lines", "bar"] {
            let outcome = program::succeed(command.env("PDADMM_PROGRESS", show));
            assert_eq!(outcome.stderr, "");
            assert!(
                !outcome.stdout.contains(" left") && !outcome.stdout.contains('\u{1b}'),
                "{}",
                outcome.stdout
            );
        }
    }
}
