//! Has LAPACK taken this processor for what it is? An OpenBLAS that is older than the processor may take it for one of
//! twenty years ago, and its factorisations run several times slower than they can.

use super::factor::lapack_core;

/// The names that OpenBLAS gives to processors with AVX2 and fused multiply-add, and to those with AVX-512.
const WITH_AVX2: [&str; 3] = ["Haswell", "Zen", "Excavator"];
const WITH_AVX512: [&str; 3] = ["SkylakeX", "Cooperlake", "Sapphirerapids"];

/// Vector instructions that matter to OpenBLAS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Vectors {
    Older,
    Avx2,
    Avx512,
}

/// A sentence on what OpenBLAS takes this processor for, and the remedy, where that costs speed.
pub fn lapack_misjudgement() -> Option<String> {
    let core = lapack_core();
    let (vendor, model) = name_of_processor();
    let remedy = remedy(&core, vectors(), vendor == "AuthenticAMD")?;
    Some(format!(
        "OpenBLAS takes this {model} for {core}: factorisations are several times slower than they can be; \
         OPENBLAS_CORETYPE={remedy} set before the start mends it"
    ))
}

/// The core that OpenBLAS should be told to take where it chose one with fewer vector instructions than there are.
///
/// On AMD processors with AVX-512 Zen is as fast as SkylakeX.
fn remedy(core: &str, vectors: Vectors, is_amd: bool) -> Option<&'static str> {
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(core));
    let taken = match () {
        () if is(&WITH_AVX512) => Vectors::Avx512,
        () if is(&WITH_AVX2) => Vectors::Avx2,
        () => Vectors::Older,
    };
    if taken >= vectors || (is_amd && taken == Vectors::Avx2) {
        return None;
    }
    Some(match (vectors, is_amd) {
        (Vectors::Avx512, false) => "SkylakeX",
        (_, true) => "Zen",
        _ => "Haswell",
    })
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> Vectors {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Vectors::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Vectors::Avx2
    } else {
        Vectors::Older
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> Vectors {
    Vectors::Older
}

/// Vendor and model of the first processor in /proc/cpuinfo.
fn name_of_processor() -> (String, String) {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|name| name.trim() == key));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    (value("vendor_id").unwrap_or_default(), value("model name").unwrap_or_else(|| "processor".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_with_fewer_vector_instructions_is_corrected() {
        for (core, vectors, is_amd, expected) in [
            ("Prescott", Vectors::Avx512, false, Some("SkylakeX")),
            ("Haswell", Vectors::Avx512, false, Some("SkylakeX")),
            ("SkylakeX", Vectors::Avx512, false, None),
            ("SAPPHIRERAPIDS", Vectors::Avx512, false, None),
            ("Prescott", Vectors::Avx512, true, Some("Zen")),
            ("Zen", Vectors::Avx512, true, None),
            ("Cooperlake", Vectors::Avx512, true, None),
            ("Sandybridge", Vectors::Avx2, false, Some("Haswell")),
            ("Haswell", Vectors::Avx2, false, None),
            ("Bulldozer", Vectors::Avx2, true, Some("Zen")),
            ("Prescott", Vectors::Older, false, None),
        ] {
            assert_eq!(remedy(core, vectors, is_amd), expected, "{core} {vectors:?} {is_amd}");
        }
    }
}
