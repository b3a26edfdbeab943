//! The page: one HTML document with its drawings and its style, no scripts, and nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::bar_plot::three_digits;
use super::figures::Figure;
use super::line_plot::Look;
use super::run_folder::{RunFolder, RunSummary};
use super::study::Study;
use super::theme::{dark_style, escape, hex};

const STYLE: &str = include_str!("page.css");
/// A page of ours asks for nothing; should anything of a stranger's get into it after all, it may do nothing either.
/// Every page begins like this.
pub(super) const START: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n";

/// The page for these runs.
pub(super) fn page(runs: &[RunFolder], studies: &[Study], figures: &[Figure]) -> String {
    let title = title(runs);
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "{START}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"soft\">{}; made by pdadmm-g {}</p>\n",
        dark_style(),
        match (runs.is_empty(), studies.is_empty()) {
            (false, true) => plural(runs.len(), "run"),
            (true, _) => plural_studies(studies.len()),
            _ => format!("{}, {}", plural(runs.len(), "run"), plural_studies(studies.len())),
        },
        env!("CARGO_PKG_VERSION"),
    );
    if !runs.is_empty() {
        page.push_str("<h2>Results</h2>\n");
        page.push_str(&results(runs));
        page.push_str(&legend(runs));
    }
    for study in studies {
        page.push_str(&scaling(study));
    }
    let mut section = "";
    for figure in figures {
        if figure.section != section {
            let end = if section.is_empty() { "" } else { "</div>\n" };
            section = figure.section;
            let _ = writeln!(page, "{end}<h2>{}</h2>\n<div class=\"figures\">", escape(section));
        }
        let class = match (figure.wide, figure.roomy) {
            (true, _) => " class=\"wide\"",
            (_, true) => " class=\"roomy\"",
            _ => "",
        };
        let _ = writeln!(
            page,
            "<figure{class}><h3>{}</h3>\n{}<figcaption>{}</figcaption></figure>",
            escape(&figure.title),
            figure.within,
            escape(&figure.caption),
        );
    }
    if !section.is_empty() {
        page.push_str("</div>\n");
    }
    page.push_str(&settings(runs));
    page.push_str("</body>\n</html>\n");
    page
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn plural_studies(count: usize) -> String {
    if count == 1 { "1 study of scaling".to_owned() } else { format!("{count} studies of scaling") }
}

/// The cases of a study.
fn scaling(study: &Study) -> String {
    let mut table = format!(
        "<h2>Scaling: {}</h2>\n<div class=\"scroll\"><table>\n<tr><th>scaling</th><th>layers</th><th>ranks</th><th>shards</th>\
         <th>training<br>nodes</th><th>wall s an<br>iteration</th><th>busy s</th><th>critical<br>path s</th>\
         <th>MB of<br>p and q</th><th>speed-up</th><th>efficiency</th><th class=\"text\">of</th></tr>\n",
        escape(&study.name)
    );
    let shown = |x: f64| match x.is_finite() && x >= 0.0 {
        true if x > 0.0 => three_digits(x),
        true => "0".to_owned(),
        false => "–".to_owned(),
    };
    for case in &study.cases {
        let _ = writeln!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            case.mode.word(),
            case.layers,
            case.ranks,
            case.shards,
            case.training_nodes,
            shown(case.wall),
            if case.has_processors { "" } else { "*" },
            shown(case.busy),
            shown(case.critical_path),
            shown(case.bytes / 1e6),
            shown(case.speed_up),
            shown(case.efficiency),
            case.basis.word(),
        );
    }
    table.push_str(
        "</table></div>\n<p class=\"soft\">*: ranks outnumbered processors or shared them, so that the wall time tells \
         nothing. Seconds are medians.</p>\n",
    );
    table
}

/// The data sets of the runs.
fn title(runs: &[RunFolder]) -> String {
    let mut names: Vec<&str> =
        runs.iter().filter_map(|run| Some(run.summary.as_ref()?.dataset.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !name.is_empty());
    match names.as_slice() {
        [] if runs.is_empty() => "Scaling".to_owned(),
        [] => "Training runs".to_owned(),
        names => format!("Training on {}", escape(&names.join(", "))),
    }
}

/// Which colour and kind of line each run has in the plots.
fn legend(runs: &[RunFolder]) -> String {
    let mut legend = String::from("<nav class=\"legend\" aria-label=\"runs\">\n");
    for (i, run) in runs.iter().enumerate() {
        let look = Look::of(i);
        let dashes = match look.dashes() {
            None => String::new(),
            Some((dash, gap)) => format!(" stroke-dasharray=\"{dash} {gap}\""),
        };
        let _ = writeln!(
            legend,
            "<span title=\"{}\"><svg class=\"plot\" style=\"width:34px\" width=\"34\" height=\"10\" viewBox=\"0 0 34 10\" \
             aria-hidden=\"true\"><path d=\"M1 5H33\" stroke=\"{}\" stroke-width=\"3\"{dashes}/></svg>{}</span>",
            escape(&run.path),
            hex(look.rgb()),
            escape(&run.name)
        );
    }
    legend.push_str("</nav>\n");
    legend
}

fn results(runs: &[RunFolder]) -> String {
    let share = |x: Option<f64>| x.filter(|x| x.is_finite()).map_or("–".to_owned(), |x| format!("{x:.4}"));
    let positive = |x: f64, show: &dyn Fn(f64) -> String| {
        if x > 0.0 && x.is_finite() { show(x) } else { "–".to_owned() }
    };
    let mut table = String::from(
        "<div class=\"scroll\"><table>\n<tr><th>run</th><th class=\"text\">status</th><th>iterations</th>\
         <th>best<br>validation</th><th>test<br>at best</th><th>macro-F1<br>at best</th><th>test<br>at end</th>\
         <th>ranks ×<br>threads</th><th>seconds of<br>training</th><th>ms an<br>iteration</th>\
         <th>MB of<br>p and q</th><th>base line<br>over that</th></tr>\n",
    );
    for run in runs {
        let none = RunSummary::default();
        let known = run.summary.is_some();
        let summary = run.summary.as_ref().unwrap_or(&none);
        let (seconds, iterations) = (run.train_seconds(), run.iterations());
        let cells = [
            positive(iterations, &|x| format!("{x:.0}")),
            share(summary.best.val),
            share(summary.best.test),
            share(summary.f1.best.macro_),
            share(summary.accuracy.test),
            if known { format!("{} × {}", summary.ranks, summary.threads) } else { "–".to_owned() },
            positive(seconds, &three_digits),
            positive(1e3 * seconds / iterations, &three_digits),
            positive((summary.bytes.p + summary.bytes.q) / 1e6, &three_digits),
            summary.bytes.ratio.map_or("–".to_owned(), |ratio| positive(ratio, &|x| format!("{x:.1}"))),
        ];
        let _ = write!(
            table,
            "<tr><td title=\"{}\">{}</td><td class=\"text\">{}</td>",
            escape(&run.path),
            escape(&run.name),
            if known { escape(&summary.status) } else { "no summary yet".to_owned() }
        );
        for cell in &cells {
            let _ = write!(table, "<td>{cell}</td>");
        }
        table.push_str("</tr>\n");
    }
    table.push_str(
        "</table></div>\n<p class=\"soft\">Best: the iteration of the highest validation accuracy, the model \
         that is kept. Base line: p, q and u as float32, 12 bytes an element.</p>\n",
    );
    table
}

/// The value that most have; the first of several.
fn most_frequent<'a>(values: &[&'a str]) -> &'a str {
    let count = |value: &str| values.iter().filter(|other| **other == value).count();
    let mut usual = values.first().copied().unwrap_or_default();
    for &value in values {
        if count(value) > count(usual) {
            usual = value;
        }
    }
    usual
}

/// Settings: first those that differ, marked where a run has another value than most.
fn settings(runs: &[RunFolder]) -> String {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (i, run) in runs.iter().enumerate() {
        for (key, value) in &run.settings {
            rows.entry(key).or_insert_with(|| vec!["–"; runs.len()])[i] = value;
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let (same, different): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, values)| values.iter().all(|value| *value == values[0]));
    let mut text = String::from("<h2>Settings</h2>\n");
    if !different.is_empty() {
        text.push_str("<div class=\"scroll\"><table class=\"settings\">\n<tr><th>differs</th>");
        for run in runs {
            let _ = write!(text, "<th>{}</th>", escape(&run.name));
        }
        text.push_str("</tr>\n");
        for (key, values) in &different {
            let _ = write!(text, "<tr><td>{}</td>", escape(key));
            let usual = most_frequent(values);
            for value in values {
                let class = if *value == usual { "" } else { " class=\"differs\"" };
                let value = escape(value);
                let _ = write!(text, "<td{class} title=\"{value}\">{value}</td>");
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</table></div>\n");
    }
    let open = if different.is_empty() { " open" } else { "" };
    let what = if runs.len() == 1 { "All settings" } else { "Settings that all runs share" };
    let _ = writeln!(
        text,
        "<details{open}><summary>{what} ({})</summary>\n<table class=\"settings\">",
        same.len()
    );
    for (key, values) in &same {
        let _ = writeln!(text, "<tr><td>{}</td><td>{}</td></tr>", escape(key), escape(values[0]));
    }
    text.push_str("</table></details>\n");
    text
}
