//! Does `report` make a page that is complete in itself, of runs as they are, and does nothing that a stranger puts into a
//! run's folder harm it or get into it as markup?
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use pdadmm_g::report::Report;

#[path = "support/mutator.rs"]
mod mutator;
#[path = "support/program.rs"]
mod program;

fn report(folders: &[&Path], output: &Path) -> Command {
    let mut command = program::alone();
    command.arg("report").args(folders).arg("--output").arg(output);
    command
}

/// Every element that is opened is closed, in order, and attributes are quoted: enough of HTML's rules to see that text
/// has not become markup.
fn assert_well_formed(text: &str) {
    const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').find(|word| !word.is_empty()).unwrap();
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed.trim()), "</{closed}> closes another element");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "<{tag}>");
            open.push(name);
            if name == "style" {
                rest = &rest[rest.find("</style>").unwrap()..];
            }
        }
    }
    assert!(open.is_empty(), "{open:?} stay open");
}

/// Nothing that a browser would fetch or run. `xmlns` is a name, not an address.
fn assert_complete(page: &str) {
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["<script", "http:", "https:", "src=", "href=", "url(", "@import", "javascript", " on"] {
        let found =
            page.find(word).map(|at| page[at.saturating_sub(40)..].chars().take(90).collect::<String>());
        // " on" begins event handlers, and words.
        if word != " on"
            || found.as_ref().is_some_and(|text| text.contains("onload=") || text.contains("onerror="))
        {
            assert_eq!(found, None, "{word}");
        }
    }
}

/// Four small runs: plain on one rank, plain and with 4 bits on two where there is an mpirun, and by Adam.
fn runs(scratch: &Path) -> Vec<PathBuf> {
    let data = scratch.join("data.h5");
    program::generate(&data, 300, 8, 3, 60);
    let launcher = program::launcher();
    let small = "--stages 2,4 --neurons 12 --iterations 12";
    let ranks = if launcher.is_some() { 2 } else { 1 };
    let made = [
        ("plain", 1, small.to_owned()),
        ("two-ranks", ranks, small.to_owned()),
        ("four-bits", ranks, format!("{small} --quantize pq --bits 4")),
        ("adam", 1, "--optimizer adam --layers 2 --neurons 12 --iterations 12".to_owned()),
    ];
    made.map(|(name, ranks, settings)| {
        let output = scratch.join(name);
        program::train(launcher.as_ref().filter(|_| ranks > 1), ranks, &data, &output, &settings);
        output
    })
    .into()
}

/// A summary as a later version writes it, with seconds of phases.
fn add_phases(folder: &Path) {
    let mut summary = program::summary(folder);
    let phase = serde_json::json!({"min": 0.1, "avg": 0.2, "max": 0.4, "share": 0.5});
    summary["phases"] = serde_json::json!({"p": phase.clone(), "wait": phase});
    std::fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
}

#[test]
fn a_page_shows_runs_side_by_side() {
    let scratch = tempfile::tempdir().unwrap();
    let runs = runs(scratch.path());
    add_phases(&runs[0]);
    let folders: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    let output = scratch.path().join("pages/report.html");
    program::succeed(&mut report(&folders, &output));
    let page = std::fs::read_to_string(&output).unwrap();
    assert_well_formed(&page);
    assert_complete(&page);
    let on_ranks = program::launcher().is_some();
    let mut words = vec![
        "objective",
        "lagrangian",
        "primal-residual",
        "dual-residual",
        "test-accuracy",
        "validation-accuracy",
        "training-accuracy",
        "accuracy-by-seconds",
        "seconds",
        "phases",
    ];
    if on_ranks {
        words.extend(["speed-up", "efficiency", "traffic"]);
    }
    let mut found: Vec<String> = std::fs::read_dir(output.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut expected: Vec<String> = words.iter().map(|word| format!("report-{word}.svg")).collect();
    expected.push("report.html".into());
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(page.matches("<figure").count(), words.len());
    for word in words {
        let svg = std::fs::read_to_string(output.with_file_name(format!("report-{word}.svg"))).unwrap();
        assert_well_formed(&svg);
        assert!(svg.starts_with("<svg") && svg.contains("prefers-color-scheme"), "{word}");
    }
    // Names, figures of the summary, and settings that differ.
    let summary = program::summary(&runs[3]);
    let test = format!("<td>{:.4}</td>", summary["best"]["test"].as_f64().unwrap());
    for text in
        ["plain", "two-ranks", "four-bits", "adam", "finished", &test, "optimizer", "prefers-color-scheme"]
    {
        assert!(page.contains(text), "{text}");
    }
    let (_, differs) = page.split_once("<th>differs</th>").unwrap();
    let rows = differs.split("</table>").next().unwrap().split("<tr><td>").skip(1);
    let differs: Vec<&str> = rows.clone().map(|row| row.split('<').next().unwrap()).collect();
    let optimizer = rows.clone().find(|row| row.starts_with("optimizer")).unwrap();
    assert_eq!(optimizer.matches("class=\"differs\"").count(), 1, "{optimizer}");
    assert!(differs.contains(&"quantize") && differs.contains(&"output"), "{differs:?}");
    assert!(!differs.contains(&"neurons"), "{differs:?}");
    // The same runs, the same page.
    let again = Report::of(&runs).unwrap();
    assert_eq!(again.page, page);

    let refused = program::run(&mut report(&folders, &output));
    assert_eq!(refused.status.and_then(|status| status.code()), Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);
    program::succeed(report(&folders, &output).arg("--overwrite"));

    // A link to nothing is replaced, not followed; nothing is left beside the files.
    #[cfg(unix)]
    {
        let elsewhere = scratch.path().join("elsewhere.html");
        std::fs::remove_file(&output).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &output).unwrap();
        program::succeed(report(&folders, &output).arg("--overwrite"));
        assert!(!elsewhere.exists() && output.symlink_metadata().unwrap().is_file());
    }
    let names = std::fs::read_dir(output.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".pdadmm-g-")));

    // What no report has written stays, where a plot would go too.
    let model = scratch.path().join("plain/model.h5");
    for (occupied, page) in
        [(model.clone(), model), (scratch.path().join("my-objective.svg"), scratch.path().join("my.html"))]
    {
        if !occupied.exists() {
            std::fs::write(&occupied, "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap();
        }
        let before = std::fs::read(&occupied).unwrap();
        let refused = program::run(report(&folders, &page).arg("--overwrite"));
        assert_eq!(refused.status.and_then(|status| status.code()), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("no page or plot"), "{}", refused.stderr);
        assert_eq!(std::fs::read(&occupied).unwrap(), before);
    }
}

#[test]
fn runs_under_way_and_several_runs_are_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 2, 40);
    let several = scratch.path().join("several");
    program::train(None, 1, &data, &several, "--stages 2 --neurons 6 --iterations 5 --runs 2");
    let under_way = scratch.path().join("under-way");
    std::fs::create_dir(&under_way).unwrap();
    let history = std::fs::read(several.join("run-0/history.csv")).unwrap();
    std::fs::write(under_way.join("history.csv"), &history[..history.len() - 5]).unwrap();
    let report = Report::of(&[several, under_way]).unwrap();
    for text in ["run-0", "run-1", "under-way", "no summary yet"] {
        assert!(report.page.contains(text), "{text}");
    }
}

#[test]
fn text_of_strangers_does_not_become_markup() {
    let scratch = tempfile::tempdir().unwrap();
    let hostile = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"' --> ]]> \u{0}\u{1b}[31m";
    let folder = scratch.path().join("<script>alert(2)<\u{2f}script>\" onload=\"x").join("a&b<c>'d");
    std::fs::create_dir_all(&folder).unwrap();
    let summary = serde_json::json!({
        "status": hostile, "version": hostile, "dataset": hostile, "split": hostile, "iterations": 3, "ranks": 2,
        "phases": {hostile: {"min": 0.0, "avg": 1.0, "max": 2.0}},
        "bytes": {"p": 5, "q": 5}, "best": {"test": 0.5, "val": 0.5},
    });
    std::fs::write(folder.join("summary.json"), summary.to_string()).unwrap();
    let table = toml::Table::from_iter([
        (hostile.to_owned(), toml::Value::String(hostile.to_owned())),
        ("levels".to_owned(), toml::Value::String(hostile.to_owned())),
        ("quantize".to_owned(), toml::Value::String("pq".to_owned())),
    ]);
    std::fs::write(folder.join("config.toml"), table.to_string()).unwrap();
    std::fs::write(folder.join("history.csv"), "stage,iteration,objective\n1,1,2\n1,2,1\n").unwrap();
    let report = Report::of(std::slice::from_ref(&folder)).unwrap();
    assert_well_formed(&report.page);
    let is_control = |c: char| c.is_control() && c != '\n';
    for text in std::iter::once(&report.page).chain(report.plots.iter().map(|(_, svg)| svg)) {
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("\" onload=\""));
        assert!(!text.contains(is_control));
    }
    report.plots.iter().for_each(|(_, svg)| assert_well_formed(svg));
}

#[test]
fn what_is_no_run_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let output = path("report.html");
    let refused = |folders: &[&Path], code: i32, message: &str| {
        let outcome = program::run(&mut report(folders, &output));
        assert_eq!(
            outcome.status.and_then(|status| status.code()),
            Some(code),
            "{message}: {}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains(message), "{message}: {}", outcome.stderr);
        assert!(!output.exists());
    };
    refused(&[&path("nowhere")], 2, "holds no run");
    refused(&[], 2, "DIR");
    let write = |folder: &str, file: &str, text: &str| {
        std::fs::create_dir_all(path(folder)).unwrap();
        std::fs::write(path(folder).join(file), text).unwrap();
        path(folder)
    };
    refused(&[&write("json", "summary.json", "{\"iterations\": \"many\"}")], 3, "summary.json");
    refused(&[&write("deep", "summary.json", &"[".repeat(100_000))], 3, "summary.json");
    refused(&[&write("study", "scaling.csv", "mode,layers\nstrong,2\n")], 3, "scaling.csv");
    refused(&[&write("csv", "history.csv", "a,b\n1,2\n")], 3, "the column iteration");
    let toml = write("toml", "history.csv", "iteration,objective\n1,2\n");
    write("toml", "config.toml", "not = = toml");
    refused(&[&toml], 3, "config.toml");
    let many: Vec<PathBuf> = vec![write("good", "history.csv", "iteration,objective\n1,2\n"); 22];
    refused(&many.iter().map(PathBuf::as_path).collect::<Vec<_>>(), 2, "more than the 21");
    // A device that never ends.
    #[cfg(unix)]
    {
        let endless = write("endless", "summary.json", "{}");
        std::os::unix::fs::symlink("/dev/zero", endless.join("history.csv")).unwrap();
        refused(&[&endless], 3, "no regular file");
    }
}

#[test]
fn damaged_files_give_a_page_or_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data.h5");
    program::generate(&data, 200, 6, 2, 40);
    let good = scratch.path().join("good");
    program::train(None, 1, &data, &good, "--stages 2,3 --neurons 6 --iterations 6");
    add_phases(&good);
    let folder = scratch.path().join("damaged");
    std::fs::create_dir(&folder).unwrap();
    let files = ["summary.json", "history.csv", "config.toml"]
        .map(|name| (name, std::fs::read(good.join(name)).unwrap()));
    let mut shown = 0;
    for number in mutator::mutations(600) {
        let mut mutator = mutator::Mutator::of(number);
        let hit = mutator.below(files.len());
        for (i, (name, bytes)) in files.iter().enumerate() {
            let bytes = if i == hit { mutator.mutate(bytes) } else { bytes.clone() };
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        if let Ok(report) = Report::of(&[folder.clone(), good.clone()]) {
            shown += 1;
            assert_well_formed(&report.page);
            report.plots.iter().for_each(|(_, svg)| assert_well_formed(svg));
        }
    }
    assert!(shown > 0);
}
