//! A data set file.
#![no_main]

mod inspected;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| inspected::read(pdadmm_g::inspection::FileKind::Dataset, bytes));
