//! Do the commands in README.md and docs/ work, and does docs/settings.md say what the program says?
//!
//! A fenced bash block below `<!-- test -->` is run, at reduced sizes, all blocks of a file in one folder, in order.
//! Below `<!-- test needs WORD -->` it is run where `pdadmm-g help` lists the subcommand WORD.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pdadmm_g::settings::RawSettings;

#[cfg(feature = "mpi")]
#[path = "support/mpi_launch.rs"]
mod mpi_launch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pdadmm-g");
/// Largest sizes that documented commands are run at.
const MOST_NODES: usize = 400;
const MOST_ITERATIONS: usize = 4;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The pages whose commands are run.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = fs::read_dir(repository().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.push(repository().join("README.md"));
    pages.sort();
    pages
}

/// The marked bash blocks of a page, with the subcommand that each needs.
fn blocks(text: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("<!-- test").and_then(|rest| rest.strip_suffix("-->")) else {
            continue;
        };
        let needs = mark.trim().strip_prefix("needs ").map(str::to_owned);
        assert_eq!(lines.next(), Some("```bash"), "a mark stands right above its block");
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        found.push((needs, block.join("\n")));
    }
    found
}

fn output_of(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes an executable script.
#[cfg(feature = "mpi")]
fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder with `pdadmm-g` at reduced sizes and an `mpirun` that works as root and with few cores.
#[cfg(feature = "mpi")]
fn commands(folder: &Path, launcher: &mpi_launch::Launcher) {
    let reduced = format!(
        r#"#!/usr/bin/env bash
# Plans of any size take no time.
[ "$1" != plan ] || exec '{PROGRAM}' "$@"
arguments=() previous= is_train= has_iterations=
for argument in "$@"; do
    case $previous in
        --nodes) [ "$argument" -le {MOST_NODES} ] || argument={MOST_NODES} ;;
        --iterations) [ "$argument" -le {MOST_ITERATIONS} ] || argument={MOST_ITERATIONS} ;;
    esac
    [ "$argument" != --iterations ] || has_iterations=1
    [ -n "$previous" ] || [ "$argument" != train ] || is_train=1
    arguments+=("$argument") previous=$argument
done
case "$* " in *" --help "* | *" --version "*) is_train= ;; esac
[ -z "$is_train" ] || [ -n "$has_iterations" ] || arguments+=(--iterations {MOST_ITERATIONS})
exec '{PROGRAM}' "${{arguments[@]}}"
"#
    );
    script(&folder.join("pdadmm-g"), &reduced);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&path)
        .map(|folder| folder.join(&launcher.program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(&launcher.program));
    let wrapper = repository().join("jobs/mpirun.sh");
    let text = format!(
        "#!/usr/bin/env bash\nPDADMM_MPIRUN='{}' exec bash '{}' \"$@\"\n",
        real.display(),
        wrapper.display()
    );
    script(&folder.join("mpirun"), &text);
}

#[cfg(feature = "mpi")]
#[test]
fn every_marked_block_runs() {
    let library = pdadmm_g::parallel::mpi_library();
    let Some(launcher) = mpi_launch::Launcher::find(&library) else {
        let _ = writeln!(std::io::stdout(), "skipped: no mpirun for {library}");
        return;
    };
    let help = output_of(&["help"]);
    let mut ran = 0;
    for page in pages() {
        let (folder, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        commands(tools.path(), &launcher);
        for name in ["jobs", "datasets"] {
            std::os::unix::fs::symlink(repository().join(name), folder.path().join(name)).unwrap();
        }
        let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap_or_default());
        for (needs, block) in blocks(&fs::read_to_string(&page).unwrap()) {
            let is_there = |word: &String| help.lines().any(|line| line.trim().starts_with(word.as_str()));
            if let Some(word) = needs.filter(|word| !is_there(word)) {
                let _ = writeln!(std::io::stdout(), "skipped: a block of {} needs {word}", page.display());
                continue;
            }
            let mut command = Command::new("bash");
            command.args(["-euo", "pipefail", "-c", &block]).current_dir(folder.path());
            // The wrapper finds the launcher itself.
            command
                .env("PATH", &path)
                .env_remove("PDADMM_MPIRUN")
                .env_remove("PDADMM_MPI")
                .stdin(Stdio::null());
            let outcome = mpi_launch::run_within(&mut command, Duration::from_secs(180)).unwrap();
            assert!(
                outcome.success(),
                "{}:\n{block}\n--- stdout\n{}\n--- stderr\n{}",
                page.display(),
                outcome.stdout,
                outcome.stderr
            );
            ran += 1;
        }
    }
    assert!(ran >= 4, "only {ran} blocks are marked");
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut all = pages();
    all.extend(["CONTRIBUTING.md", "CHANGELOG.md", "datasets/README.md"].map(|name| repository().join(name)));
    let mut missing = Vec::new();
    for page in all {
        let text = fs::read_to_string(&page).unwrap();
        let quoted = text.split('`').skip(1).step_by(2).map(|name| repository().join(name));
        let quoted = quoted.filter(|path| {
            let inside =
                path.strip_prefix(repository()).ok().and_then(|path| path.to_str()).unwrap_or_default();
            ["src/", "tests/", "docs/", "jobs/"].iter().any(|folder| inside.starts_with(folder))
                && !inside.contains([' ', '<', '*'])
        });
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let folder = page.parent().unwrap_or(Path::new(""));
        for path in quoted.chain(links.map(|link| folder.join(link))) {
            if !path.exists() {
                missing.push(format!("{} in {}", path.display(), page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Name and default of every long flag of a help text with headings and one indented paragraph a flag.
fn flags_of_help(help: &str) -> Vec<(String, Option<String>)> {
    let mut flags: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let text = line.trim();
        // A flag stands at the left, its description further in.
        let indent = line.len() - line.trim_start().len();
        if indent <= 6 && (text.starts_with("--") || text.starts_with("-h,") || text.starts_with("-V,")) {
            let name = text.split_whitespace().find(|word| word.starts_with("--")).unwrap();
            flags.push((name.to_owned(), String::new()));
        } else if let Some((_, description)) = flags.last_mut() {
            description.push(' ');
            description.push_str(text);
        }
    }
    let default = |text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (_, rest) = text.split_once("[default: ")?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let known = |text: &str| match text.contains("(required)") {
        true => Some("required".to_owned()),
        false => default(text),
    };
    flags
        .into_iter()
        .filter(|(name, _)| name != "--help" && name != "--version")
        .map(|(name, text)| (name, known(&text)))
        .collect()
}

/// Rows of the tables of docs/settings.md that describe a flag: its cells without code marks.
fn rows_of_settings() -> Vec<Vec<String>> {
    let text = fs::read_to_string(repository().join("docs/settings.md")).unwrap();
    text.lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

#[test]
fn settings_page_lists_the_flags_and_defaults_of_the_program() {
    let mut documented: Vec<(String, Option<String>)> = rows_of_settings()
        .into_iter()
        .map(|row| {
            let default = if row.len() == 4 { row[1].clone() } else { String::new() };
            (row[0].clone(), Some(default).filter(|default| !default.is_empty()))
        })
        .collect();
    let mut real = flags_of_help(&output_of(&["train", "--help"]));
    documented.sort();
    real.sort();
    assert_eq!(documented, real, "left: docs/settings.md, right: train --help");
}

#[test]
fn testing_page_lists_the_tests() {
    let text = fs::read_to_string(repository().join("docs/testing.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let documented: Vec<&str> = rows
        .map(|(name, _)| name)
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .collect();
    let mut real: Vec<String> = fs::read_dir(repository().join("tests"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    real.sort();
    assert_eq!(documented, real, "left: docs/testing.md, right: tests/");
}

#[test]
fn settings_page_tells_keys_and_ranges() {
    for row in rows_of_settings() {
        let key = row[0].trim_start_matches("--");
        let unknown = toml::from_str::<RawSettings>(&format!("{key} = {{}}"))
            .is_err_and(|error| error.to_string().contains("unknown field"));
        assert_eq!(row.len() == 4, !unknown, "{key}: is it a key of the file?");
        let ends = |text: &str| -> Option<(f64, f64)> {
            let (low, high) = text.split_once(" to ")?;
            Some((low.parse().ok()?, high.parse().ok()?))
        };
        let Some((low, high)) = row.get(2).and_then(|range| ends(range)) else { continue };
        let above = high * 2.0;
        let whole = format!("{above:.0}");
        let value = match toml::from_str::<RawSettings>(&format!("{key} = {whole}")) {
            Ok(_) => whole,
            Err(_) if key == "tolerance" => format!("[{above:?}, 0.0]"),
            Err(_) => format!("{above:?}"),
        };
        let beside = match key {
            "bits" => "quantize = \"pq\"\n",
            "learning-rate" | "weight-decay" => "optimizer = \"adam\"\n",
            "nu-restart" => "penalties = \"fixed\"\n",
            _ => "",
        };
        let text = format!("data = \"x\"\noutput = \"y\"\n{beside}{key} = {value}\n");
        let settings: RawSettings = toml::from_str(&text).unwrap();
        let message = settings.check().expect_err(&format!("{key} = {value} is refused")).to_string();
        let told =
            message.split_once("from ").and_then(|(_, rest)| ends(rest.trim_end_matches(" is needed")));
        assert_eq!(told, Some((low, high)), "{key}: {message}");
    }
}
