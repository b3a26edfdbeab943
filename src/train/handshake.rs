//! The handshake at the start: do all ranks run the same program, with the same settings, on the same data? What differs is
//! named. Without it they would wait for each other in different steps, or train parts of different networks.

use super::error::SetUpError;
use super::problem::Problem;
use super::state::RUN_STATE_VERSION;
use crate::linalg::factor::lapack_core;
use crate::linalg::product::arithmetic;
use crate::parallel::{Communicator, JointFailure, WaitPolicy, agree, broadcast};
use crate::settings::{Method, Settings, differences};

/// Holds this rank's program, arithmetic and settings to those of rank 0; all ranks call it together, before any step that
/// depends on a setting. `flags` are those beside the settings, and whether they are set.
///
/// # Errors
/// [`JointFailure::Failed`] with code 2 on all ranks, with the first rank that differs and in what.
pub fn same_command(
    settings: &Settings,
    flags: [(&'static str, bool); 2],
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
) -> Result<(), JointFailure> {
    let program = format!(
        concat!("pdadmm-g ", env!("CARGO_PKG_VERSION"), ", state {}, {}"),
        RUN_STATE_VERSION,
        communicator.library()
    );
    // Backpropagation factorises nothing.
    let arithmetic = match settings.method {
        Method::Admm => format!("{}, LAPACK for {}", arithmetic(), lapack_core()),
        _ => arithmetic().to_owned(),
    };
    // Before arithmetic, which depends on the method.
    let split = settings.split.as_deref().unwrap_or_default();
    let mut spelled_out = toml::Table::try_from(settings.spelled_out(split)).unwrap_or_default();
    spelled_out.extend(flags.map(|(flag, is_set)| (flag.to_owned(), is_set.into())));
    let lines = [
        Line { what: "program", here: program, remedy: "install the same program on all hosts" },
        Line { what: SETTINGS, here: spelled_out.to_string(), remedy: "" },
        Line {
            what: "arithmetic",
            here: arithmetic,
            remedy: "set OPENBLAS_CORETYPE to a core that all hosts have, such as Haswell",
        },
    ];
    hold_to_root(&lines, communicator, policy)
}

/// Holds this rank's data set and split to those of rank 0; all ranks call it together.
///
/// # Errors
/// As [`same_command`].
pub(super) fn same_data(
    problem: &Problem,
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
) -> Result<(), JointFailure> {
    let Problem { name, checksum, split, graph_nodes, features, classes, .. } = problem;
    let [train, val, test] = problem.sizes();
    let data = format!(
        "{name} with checksum {checksum}, {graph_nodes} nodes, {features} features, {classes} classes, split {split} of \
         {train}, {val} and {test} nodes"
    );
    let lines =
        [Line { what: "data set", here: data, remedy: "give all hosts the same file under this name" }];
    hold_to_root(&lines, communicator, policy)
}

/// Settings are compared one by one.
const SETTINGS: &str = "settings";

/// What all ranks must have alike, as it is on this rank.
struct Line {
    what: &'static str,
    here: String,
    /// What to do where it differs.
    remedy: &'static str,
}

fn hold_to_root(
    lines: &[Line],
    communicator: &dyn Communicator,
    policy: &WaitPolicy,
) -> Result<(), JointFailure> {
    let text = lines.iter().map(|line| line.here.as_str()).collect::<Vec<_>>().join("\0");
    let root = broadcast(communicator, policy, "handshake", 0, text.into_bytes())?;
    let root = String::from_utf8_lossy(&root);
    let mut root = root.split('\0');
    let alike = lines.iter().try_for_each(|&Line { what, ref here, remedy }| {
        let there = root.next().unwrap_or("nothing");
        if here == there {
            return Ok(());
        }
        if what == SETTINGS {
            return Err(SetUpError::OtherSettings { changed: differences(here, there).join(", ") });
        }
        Err(SetUpError::Disagreement { what, here: here.clone(), there: there.to_owned(), remedy })
    });
    agree(communicator, policy, "handshake", alike, SetUpError::describe)
}
