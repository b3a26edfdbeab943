//! Is there `unsafe` only in the files that docs/reliability.md names? The lint `unsafe_code = "deny"` refuses it
//! wherever it is not allowed; this test counts where it is.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

/// Calls of functions that have no safe wrapper: MPI requests, OpenBLAS's number of threads, the product in assembly.
const CORNERS: [&str; 3] = ["src/linalg/factor.rs", "src/linalg/kernel.rs", "src/parallel/mpi_requests.rs"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_is_allowed_in_named_files_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut allowing: Vec<String> = files
        .iter()
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("(unsafe_code)"))
        .map(|path| path.strip_prefix(root).unwrap().display().to_string())
        .collect();
    allowing.sort();
    assert_eq!(allowing, CORNERS);
    let page = std::fs::read_to_string(root.join("docs/reliability.md")).unwrap();
    for corner in CORNERS {
        assert!(page.contains(&format!("`{corner}`")), "docs/reliability.md does not name {corner}");
    }
}
