//! Studies of scaling: what `pdadmm-g scaling` leaves in `scaling.csv`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ReportError;
use super::line_plot::{Line, LinePlot, Look};
use super::run_folder::open;
use crate::study::scaling::{Basis, Mode};

const FILE: &str = "scaling.csv";
const LARGEST: u64 = 1 << 20;
/// No study counts or measures more than this; what is above it is a damaged number.
const MOST: f64 = 1e15;

/// A case of a study.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Case {
    pub mode: Mode,
    pub layers: u64,
    pub ranks: u64,
    pub shards: u64,
    pub training_nodes: u64,
    pub wall: f64,
    pub busy: f64,
    pub critical_path: f64,
    pub bytes: f64,
    pub has_processors: bool,
    /// What the next two are of; of the critical path they are derived.
    pub basis: Basis,
    pub speed_up: f64,
    pub efficiency: f64,
}

impl Case {
    /// Whether a study can have measured it; else what was expected.
    fn check(&self) -> Result<(), String> {
        for (name, count) in [("layers", self.layers), ("ranks", self.ranks), ("shards", self.shards)] {
            if count == 0 || count as f64 > MOST {
                return Err(format!("{name}: expected a number from 1 to {MOST:e}, found {count}"));
            }
        }
        for (name, value) in [
            ("training_nodes", self.training_nodes as f64),
            ("wall", self.wall),
            ("busy", self.busy),
            ("critical_path", self.critical_path),
            ("bytes", self.bytes),
            ("speed_up", self.speed_up),
            ("efficiency", self.efficiency),
        ] {
            if !(0.0..=MOST).contains(&value) {
                return Err(format!("{name}: expected a number from 0 to {MOST:e}, found {value:e}"));
            }
        }
        Ok(())
    }
}

/// A study.
#[derive(Debug, Clone)]
pub(super) struct Study {
    pub name: String,
    pub cases: Vec<Case>,
}

impl Study {
    /// Whether a folder holds one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    pub fn read(folder: &Path, name: String) -> Result<Self, ReportError> {
        let path = folder.join(FILE);
        let malformed = |what: String| ReportError::NoStudy { path: path.clone(), what };
        let mut reader = csv::Reader::from_reader(open(&path, LARGEST)?);
        let mut cases = Vec::new();
        let head = reader.headers().cloned().map_err(|error| malformed(error.to_string()))?;
        for record in reader.records() {
            let record = record.map_err(|error| malformed(error.to_string()))?;
            let line = record.position().map_or(0, |at| at.line());
            let case: Case = record
                .deserialize(Some(&head))
                .map_err(|error| malformed(format!("line {line}: {error}")))?;
            case.check().map_err(|what| malformed(format!("line {line}: {what}")))?;
            cases.push(case);
        }
        match cases.is_empty() {
            true => Err(malformed("line 2: expected a case of a study, found none".into())),
            false => Ok(Self { name, cases }),
        }
    }

    /// Whether speed-up and efficiency of some case are derived.
    pub fn is_derived(&self) -> bool {
        self.cases.iter().any(|case| case.basis != Basis::Wall)
    }
}

/// The values that are drawn of a case.
type Value = fn(&Case) -> f64;

/// Speed-up or efficiency against ranks, of strong and weak scaling, a line a network.
pub(super) fn by_ranks(studies: &[Study], efficiency: bool) -> Option<LinePlot> {
    let value: Value = if efficiency { |case| case.efficiency } else { |case| case.speed_up };
    let mut groups: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for study in studies {
        for case in study.cases.iter().filter(|case| case.mode != Mode::Layers) {
            let name = line_name(studies, study, &format!("{}, {} layers", case.mode.word(), case.layers));
            let point = (case.ranks as f64, value(case));
            match groups.iter_mut().find(|group| group.0 == name) {
                Some(group) => group.1.push(point),
                None => groups.push((name, vec![point])),
            }
        }
    }
    let ends = groups.iter().flat_map(|group| &group.1).map(|point| point.0);
    let (least, most) =
        ends.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    let ideal =
        if efficiency { [(least, 1.0), (most, 1.0)] } else { [(least, least.max(1.0)), (most, most)] };
    let title = if efficiency { "Efficiency of scaling" } else { "Speed-up of scaling" };
    plot(groups, Some(ideal), title, "ranks", label(efficiency))
}

/// What the axis of a plot of efficiency, or of speed-up, says.
pub(super) fn label(efficiency: bool) -> &'static str {
    if efficiency { "efficiency (1 = ideal)" } else { "times as fast" }
}

/// Speed-up of a rank a layer over one rank, against layers.
pub(super) fn by_layers(studies: &[Study]) -> Option<LinePlot> {
    let of = |study: &Study| {
        let cases = study.cases.iter().filter(|case| case.mode == Mode::Layers && case.ranks > 1);
        cases.map(|case| (case.layers as f64, case.speed_up)).collect()
    };
    let groups: Vec<(String, Vec<(f64, f64)>)> =
        studies.iter().map(|study| (line_name(studies, study, "a rank a layer"), of(study))).collect();
    plot(groups, None, "Speed-up by layers", "layers, each on a rank of its own", "times as fast as one rank")
}

fn line_name(studies: &[Study], study: &Study, what: &str) -> String {
    if studies.len() > 1 { format!("{}: {what}", study.name) } else { what.to_owned() }
}

/// A marked line for each group, and the ideal from end to end; `None` where there is nothing to draw.
pub(super) fn plot(
    groups: Vec<(String, Vec<(f64, f64)>)>,
    ideal: Option<[(f64, f64); 2]>,
    title: &str,
    x_label: &str,
    y_label: &str,
) -> Option<LinePlot> {
    let groups: Vec<_> = groups.into_iter().filter(|group| !group.1.is_empty()).collect();
    let left_out = groups.len().saturating_sub(Look::COUNT);
    let mut lines: Vec<Line> = groups
        .into_iter()
        .take(Look::COUNT)
        .enumerate()
        .map(|(i, (name, mut points))| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name, look: Look::of(i), points, marked: true }
        })
        .collect();
    if lines.is_empty() {
        return None;
    }
    if let Some(ends) = ideal {
        let points = ends.to_vec();
        let look = Look { colour: 0, dash: 2 };
        lines.push(Line { name: "ideal".to_owned(), look, points, marked: false });
    }
    Some(LinePlot {
        title: title.to_owned(),
        x_label: x_label.to_owned(),
        y_label: y_label.to_owned(),
        logarithmic: false,
        from: Some(0.0),
        lines,
        marks: Vec::new(),
        has_legend: true,
        left_out,
    })
}

/// Where a study stands among the folders that were given.
pub(super) fn split(folders: &[PathBuf], holds_run: impl Fn(&Path) -> bool) -> (Vec<PathBuf>, Vec<PathBuf>) {
    folders.iter().cloned().partition(|folder| Study::is_in(folder) && !holds_run(folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = "mode,layers,ranks,shards,training_nodes,runs,wall,busy,critical_path,bytes,has_processors,basis,\
                        speed_up,efficiency\n";

    fn study(rows: &str) -> Result<Study, ReportError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), format!("{HEAD}{rows}")).unwrap();
        assert!(Study::is_in(folder.path()));
        Study::read(folder.path(), "s".into())
    }

    #[test]
    fn each_network_is_a_line_over_ranks() {
        let study = study(
            "strong,10,2,1,400,2,0.1,0.1,0.1,8,true,wall,1.9,0.95\nstrong,10,1,1,400,2,0.2,0.2,0.2,0,true,wall,1,1\n\
             weak,4,1,1,100,2,0.2,0.2,0.2,0,true,wall,1,1\nlayers,8,1,1,400,2,0.2,0.2,0.2,0,false,critical path,1,1\n\
             layers,8,8,1,400,2,0.2,0.2,0.2,0,false,critical path,6,0.75\n",
        )
        .unwrap();
        assert!(study.is_derived());
        let studies = [study];
        let plot = by_ranks(&studies, false).unwrap();
        let names: Vec<&str> = plot.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["strong, 10 layers", "weak, 4 layers", "ideal"]);
        assert_eq!(plot.lines[0].points, [(1.0, 1.0), (2.0, 1.9)]);
        assert_eq!(plot.lines[2].points, [(1.0, 1.0), (2.0, 2.0)]);
        assert_eq!(by_layers(&studies).unwrap().lines[0].points, [(8.0, 6.0)]);
        assert!(by_ranks(&studies, true).unwrap().svg(true).unwrap().contains("ideal"));
    }

    #[test]
    fn what_no_study_has_written_is_refused() {
        assert!(matches!(
            study("strong,ten,1,1,1,1,1,1,1,1,true,wall,1,1\n"),
            Err(ReportError::NoStudy { .. })
        ));
        let refused = |text: &str, words: &[&str]| {
            let error = study(text).unwrap_err();
            let told = error.to_string();
            assert!(error.exit_code() == 3 && words.iter().all(|word| told.contains(word)), "{told}");
        };
        refused("", &["scaling.csv", "line 2", "expected a case"]);
        refused("strong,1,1,1,1,1,1,1,1,1,true,wall,1\n", &["line"]);
        refused("strong,1,1,1,1,1,1,1,1,1,true,guess,1,1\n", &["line 2", "critical path"]);
        refused("strong,0,1,1,1,1,1,1,1,1,true,wall,1,1\n", &["line 2", "layers", "from 1"]);
        let huge = format!("1{}", "0".repeat(308));
        for number in ["inf", "NaN", "-1", "1e300", &huge, &format!("{huge}0")] {
            refused(
                &format!("strong,1,1,1,1,1,{number},1,1,1,true,wall,1,1\n"),
                &["line 2", "wall", "from 0"],
            );
            refused(&format!("strong,1,1,1,1,1,1,1,1,1,true,wall,{number},1\n"), &["line 2", "speed_up"]);
            refused(&format!("strong,1,{number},1,1,1,1,1,1,1,true,wall,1,1\n"), &["line 2"]);
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "name,value\n", "name,value\na,1\n", "\0\0\0"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(
                matches!(Study::read(folder.path(), "s".into()), Err(ReportError::NoStudy { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn lines_that_cannot_be_told_apart_are_counted() {
        let groups = |count: usize| (0..count).map(|i| (i.to_string(), vec![(1.0, 1.0)])).collect();
        let left_out = |count| plot(groups(count), None, "", "", "").unwrap().left_out;
        assert_eq!([left_out(2), left_out(Look::COUNT), left_out(Look::COUNT + 3)], [0, 0, 3]);
    }
}
