//! What the program does with an HDF5 file: a child inspects it (PDADMM_PROGRAM names the program), and a file that passes
//! is read in this process.

use std::path::Path;

use pdadmm_g::inspection::{FileKind, InspectionError, inspect_with};

pub fn read(kind: FileKind, bytes: &[u8]) {
    let program = std::env::var_os("PDADMM_PROGRAM").expect("PDADMM_PROGRAM names the program pdadmm-g");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file");
    match inspect_with(Path::new(&program), kind, file.path(), false) {
        Ok(inspected) => {
            let content = kind.go_through(file.path(), false).expect("a file that was passed");
            assert_eq!(content.checksum, inspected.checksum);
        }
        // How our own code would end, were it to panic.
        Err(error @ InspectionError::BrokeOff { .. }) => panic!("{error}"),
        Err(_) => {}
    }
}
