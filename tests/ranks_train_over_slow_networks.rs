//! Does jobs/network-study.sh train between hosts on a limited network, measure what it says, and does plan --measured
//! predict what it measures?
//!
//! With `PDADMM_NETWORK_TESTS=1`; needs root, iproute2 and Open MPI, and is skipped with a line elsewhere.
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

#[path = "support/program.rs"]
mod program;

/// Why it cannot be run here.
fn obstacle() -> Option<String> {
    let succeeds = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let library = pdadmm_g::parallel::mpi_library();
    if !library.contains("Open MPI") {
        return Some(format!("this build uses {library}, the script Open MPI"));
    }
    if !succeeds("sh", &["-c", "test $(id -u) -eq 0"]) {
        return Some("it needs root".into());
    }
    // Whether namespaces, links and limits may be made: not so in most containers.
    let name = format!("pdadmm-try-{}", std::process::id());
    let attempt = format!(
        "ip netns add {name} && ip -n {name} link add name try0 type veth peer name try1 && \
         ip netns exec {name} tc qdisc add dev try0 root tbf rate 1mbit burst 32kb latency 50ms && \
         ip -n {name} link add name try2 type bridge"
    );
    let works = succeeds("sh", &["-c", &attempt]);
    succeeds("ip", &["netns", "del", &name]);
    (!works).then(|| "network namespaces with limited links cannot be made here".into())
}

/// Runs the script with 2 hosts and these variables; the rows of its table. None, with a line, where it cannot be run.
fn study(variables: &[(&str, &str)]) -> Option<Vec<BTreeMap<String, String>>> {
    if std::env::var_os("PDADMM_NETWORK_TESTS").is_none() {
        println!("skipped: PDADMM_NETWORK_TESTS is not set");
        return None;
    }
    // One at a time: they need both cores, and the names of their namespaces.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = obstacle() {
        println!("skipped: {why}");
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("bash");
    command.arg(repository.join("jobs/network-study.sh")).arg(scratch.path());
    command.env("HOSTS", "2").env("BINARY", program::binary()).envs(variables.iter().copied());
    command.env("HDF5_USE_FILE_LOCKING", "FALSE").stdin(std::process::Stdio::null());
    println!("{}", program::succeed(&mut command).stdout);
    let table = csv::Reader::from_path(scratch.path().join("network.csv"));
    Some(table.unwrap().deserialize().map(Result::unwrap).collect())
}

fn number(row: &BTreeMap<String, String>, key: &str) -> f64 {
    row[key].parse::<f64>().unwrap()
}

#[test]
fn coded_messages_pay_off_on_a_slow_link() {
    let small =
        [("NODES", "3000"), ("NEURONS", "64"), ("ITERATIONS", "8"), ("RATES", "10mbit"), ("BITS", "4")];
    let Some(rows) = study(&small) else { return };
    let ways: Vec<&str> = rows.iter().map(|row| row["way"].as_str()).collect();
    assert_eq!(ways, ["none", "packed", "coded"]);
    let [none, packed, coded] = [0, 1, 2].map(|i| number(&rows[i], "bytes_an_iteration"));
    // p and q of 1,500 training nodes and 64 neurons over one boundary.
    let elements = 2.0 * 1500.0 * 64.0;
    assert!(none >= 4.0 * elements && none < 4.1 * elements, "{none}");
    assert!(packed >= elements / 2.0 && packed < 0.6 * elements, "{packed}");
    assert!(coded < packed, "{coded}");
    // The link lets 10 Mbit/s through, after bursts of 256 KB: what is sent as it is cannot take less than half of that.
    let least = none / 2.0 * 8.0 / 10e6 * 0.5;
    assert!(number(&rows[0], "seconds_an_iteration") > least, "the link is not limited: {rows:?}");
}

#[test]
fn predictions_are_within_a_fifth_of_what_is_measured() {
    // Messages of 4.8 MB, so that other work on this machine is little beside them.
    let large = [
        ("NODES", "8000"),
        ("NEURONS", "300"),
        ("LAYERS", "4"),
        ("ITERATIONS", "8"),
        ("RATES", "100mbit 50mbit 100mbit/20ms 50mbit/40ms"),
        ("WAYS", "none packed"),
    ];
    let Some(rows) = study(&large) else { return };
    assert_eq!(rows.len(), 8);
    for row in &rows {
        let ratio = number(row, "predicted_seconds") / number(row, "seconds_an_iteration");
        assert!((0.8..=1.2).contains(&ratio), "{ratio} of {row:?}");
    }
}
