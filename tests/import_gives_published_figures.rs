//! Do the published files import to the published figures? Needs the files: `PDADMM_DATASETS`
//! names a folder with `raw/` (datasets/download.sh fills one).

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use pdadmm_g::dataset::import::{npz, planetoid};
use pdadmm_g::dataset::{Dataset, Summary};
use pdadmm_g::progress::Steps;

/// Name, nodes, undirected edges, features, non-zero features, classes, sizes of the split.
type Figures = (&'static str, usize, usize, usize, usize, usize, [usize; 3]);

const PUBLISHED: [Figures; 4] = [
    ("cora", 2_708, 5_278, 1_433, 49_216, 7, [140, 500, 1_000]),
    ("pubmed", 19_717, 44_324, 500, 988_031, 3, [60, 500, 1_000]),
    ("amazon-computers", 13_752, 245_861, 767, 3_675_081, 10, [200, 1_000, 1_000]),
    ("coauthor-physics", 34_493, 247_962, 8_415, 1_137_311, 5, [100, 1_000, 1_000]),
];

#[test]
fn import_gives_published_figures() {
    let Some(folder) = std::env::var_os("PDADMM_DATASETS").map(PathBuf::from) else {
        println!("skipped: PDADMM_DATASETS is not set");
        return;
    };
    let raw = folder.join("raw");
    let scratch = tempfile::tempdir().unwrap();
    for (name, nodes, edges, features, nonzero, classes, split) in PUBLISHED {
        let data = match name {
            "cora" | "pubmed" => planetoid::import(&raw.join("planetoid"), name, &Steps::silent()),
            "amazon-computers" => {
                npz::import(&raw.join("npz/amazon_electronics_computers.npz"), name, &Steps::silent())
            }
            _ => npz::import(&raw.join("npz/ms_academic_phy.npz"), name, &Steps::silent()),
        }
        .unwrap();
        let summary = Summary::of(&data);
        println!("{summary}");
        let found =
            (summary.nodes, summary.edges, summary.features, summary.nonzero_features, summary.classes);
        assert_eq!(found, (nodes, edges, features, nonzero, classes), "{name}");
        assert!(!summary.directed && !summary.weighted && summary.sparse, "{name}");
        assert_eq!(summary.warnings, [""; 0], "{name}");
        let names: Vec<&str> = summary.splits.iter().map(|(name, _)| name.as_str()).collect();
        if summary.splits.len() == 1 {
            assert_eq!(names, ["public"], "{name}");
            assert_eq!(data.split(None).unwrap().0, "public");
        } else {
            assert_eq!(names, (0..10).map(|seed| format!("random_{seed}")).collect::<Vec<_>>());
            assert_eq!(data.split(None).unwrap().0, "random_0");
        }
        assert!(summary.splits.iter().all(|(_, sizes)| *sizes == split), "{name}");

        let file = scratch.path().join("data.h5");
        data.write(&file, true).unwrap();
        assert_eq!(Dataset::read(&file).unwrap(), data, "{name}");
        println!("{name}: {} bytes", file.metadata().unwrap().len());
    }
}
