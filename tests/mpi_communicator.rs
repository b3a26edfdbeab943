//! Does the communicator keep its promises over real MPI? Threads of libtest do not suit MPI, so this test has its own
//! `main`: started plainly, it starts itself under mpirun with 1, 2, 3 and 5 ranks; started under mpirun, it runs the
//! cases.

#[cfg(feature = "mpi")]
#[path = "support/mpi_launch.rs"]
mod mpi_launch;

#[cfg(not(feature = "mpi"))]
fn main() {
    println!("skipped: this build has no MPI\n\ntest result: ok. 0 passed; 0 failed; 1 ignored");
}

#[cfg(feature = "mpi")]
fn main() -> std::process::ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        println!("mpi_communicator: test");
        return std::process::ExitCode::SUCCESS;
    }
    match std::env::var(launching::CASE) {
        Ok(case) => cases::run(&case),
        Err(_) => launching::run(),
    }
}

/// Outside mpirun: starts the jobs and reads what they say.
#[cfg(feature = "mpi")]
mod launching {
    use std::process::ExitCode;
    use std::time::Duration;

    use super::mpi_launch::{Launcher, Outcome, run_within};

    /// Tells the started process that it is a rank, and which case it is to run.
    pub const CASE: &str = "PDADMM_MPI_TEST_CASE";

    pub fn run() -> ExitCode {
        let library = pdadmm_g::parallel::mpi_library();
        let Some(launcher) = Launcher::find(&library) else {
            println!("skipped: no mpirun for {library}\n\ntest result: ok. 0 passed; 0 failed; 1 ignored");
            return ExitCode::SUCCESS;
        };
        println!("\nrunning over {library} with {}", launcher.program);
        let mut tally = Tally::default();
        for ranks in [1, 2, 3, 5] {
            let outcome = job(&launcher, ranks, "all");
            let cases = outcome.stdout.lines().filter(|line| line.starts_with("case ")).count();
            let good = outcome.success() && cases > 0;
            tally.record(&format!("{cases} cases with {ranks} ranks"), good, &outcome);
        }
        let outcome = job(&launcher, 10, "many_ranks");
        tally.record("exchange_with_ten_ranks", outcome.success(), &outcome);
        let outcome = job(&launcher, 3, "panic");
        let named = outcome.stderr.contains("rank 1 panicked") && outcome.stderr.contains("on purpose");
        let ended = outcome.status.is_some_and(|status| !status.success()) && outcome.seconds < 20.0;
        tally.record("a_panic_on_one_rank_ends_the_job", named && ended, &outcome);
        let outcome = job(&launcher, 3, "panic_in_thread");
        let ended = outcome.status.is_some_and(|status| !status.success()) && outcome.seconds < 20.0;
        tally.record("a_panic_on_another_thread_ends_the_job", ended, &outcome);
        let outcome = job(&launcher, 3, "abort");
        let code = outcome.status.and_then(|status| status.code());
        tally.record("abort_gives_its_exit_code", code == Some(4), &outcome);
        tally.close()
    }

    fn job(launcher: &Launcher, ranks: usize, case: &str) -> Outcome {
        let program =
            std::env::current_exe().unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into());
        let mut command = launcher.command(ranks, program);
        command.env(CASE, case);
        run_within(&mut command, Duration::from_secs(120)).unwrap_or_else(|error| Outcome {
            status: None,
            stdout: String::new(),
            stderr: error.to_string(),
            seconds: 0.0,
        })
    }

    #[derive(Default)]
    struct Tally {
        passed: usize,
        failed: usize,
    }

    impl Tally {
        fn record(&mut self, name: &str, good: bool, outcome: &Outcome) {
            println!("test {name} ... {} ({:.1} s)", if good { "ok" } else { "FAILED" }, outcome.seconds);
            if good {
                self.passed += 1;
            } else {
                self.failed += 1;
                println!("status: {:?}\n{}\n{}", outcome.status, outcome.stdout, outcome.stderr);
            }
        }

        fn close(&self) -> ExitCode {
            let Tally { passed, failed } = self;
            let word = if *failed == 0 { "ok" } else { "FAILED" };
            println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
            if *failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Under mpirun: what every rank does. A failed assertion panics, and the panic hook ends the job.
#[cfg(feature = "mpi")]
mod cases {
    #![allow(clippy::unwrap_used)]
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use pdadmm_g::parallel::*;

    /// Generous, so that a slow machine passes and a hang is found.
    fn policy() -> WaitPolicy {
        WaitPolicy::new().with_deadline(Duration::from_secs(60))
    }

    pub fn run(case: &str) -> ExitCode {
        let mut communicator = MpiCommunicator::initialise().unwrap();
        install_panic_hook();
        check_launcher(communicator.size(), &communicator.library(), |name| std::env::var(name).ok())
            .unwrap();
        match case {
            "all" => all(&mut communicator),
            "many_ranks" => exchange_often(&communicator),
            "huge" => huge_messages(&communicator),
            "panic" => one_rank(&communicator, || panic!("on purpose")),
            "panic_in_thread" => one_rank(&communicator, || {
                std::thread::scope(|scope| drop(scope.spawn(|| panic!("on purpose"))));
            }),
            "abort" => one_rank(&communicator, || abort(4)),
            other => panic!("no case {other}"),
        }
        ExitCode::SUCCESS
    }

    fn all(communicator: &mut MpiCommunicator) {
        type Case = fn(&MpiCommunicator);
        let cases: [(&str, Case); 12] = [
            ("who_is_there", who_is_there),
            ("large_matrices_both_ways", large_matrices_both_ways),
            ("a_rank_that_starts_late", a_rank_that_starts_late),
            ("many_outstanding", many_outstanding),
            ("true_lengths_and_reused_buffers", true_lengths_and_reused_buffers),
            ("long_messages_are_refused", long_messages_are_refused),
            ("sums_are_exact", sums_are_exact),
            ("collectives", collectives),
            ("one_rank_fails", one_rank_fails),
            ("out_of_step", out_of_step),
            ("the_deadline_names_the_peer", the_deadline_names_the_peer),
            ("progress_moves_messages", progress_moves_messages),
        ];
        let report = |communicator: &MpiCommunicator, name: &str| {
            barrier(communicator, &policy(), name).unwrap();
            if communicator.rank() == 0 {
                println!("case {name} ok");
            }
        };
        for (name, case) in cases {
            case(communicator);
            report(communicator, name);
        }
        communicator.set_block_length(1000 + 7 * communicator.rank() as u32);
        messages_in_blocks(communicator);
        report(communicator, "messages_in_blocks");
        // Last, because receives that are dropped swallow messages.
        dropping_what_is_not_complete(communicator);
        report(communicator, "dropping_what_is_not_complete");
    }

    fn neighbours(c: &dyn Communicator) -> Vec<usize> {
        let (below, above) = (c.rank().checked_sub(1), c.rank() + 1);
        below.into_iter().chain((above < c.size()).then_some(above)).collect()
    }

    /// Bytes that depend on sender, receiver and round.
    fn content(from: usize, to: usize, round: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ (from * 7 + to * 13 + round * 17)) as u8).collect()
    }

    fn exchange(c: &dyn Communicator, round: usize, len: usize) {
        let rank = c.rank();
        let receives: Vec<_> =
            neighbours(c).iter().map(|&from| c.post_receive(from, 1, vec![], len).unwrap()).collect();
        let sends: Vec<_> = neighbours(c)
            .iter()
            .map(|&to| c.post_send(to, 1, content(rank, to, round, len)).unwrap())
            .collect();
        for (pending, from) in receives.into_iter().zip(neighbours(c)) {
            let bytes = wait_bytes(c, pending, &policy()).unwrap();
            assert!(bytes == content(from, rank, round, len), "rank {rank}: wrong bytes from {from}");
        }
        for pending in sends {
            assert!(
                matches!(wait(c, pending, &policy()).unwrap(), Completed::Sent(bytes) if bytes.len() == len)
            );
        }
    }

    fn who_is_there(c: &MpiCommunicator) {
        let hosts = hosts(c, &policy()).unwrap();
        assert_eq!(hosts.iter().map(|host| host.ranks.len()).sum::<usize>(), c.size());
        assert!(hosts.iter().all(|host| !host.name.is_empty()));
        assert!(c.library().contains("MPI"), "{}", c.library());
        assert!(matches!(c.post_send(c.rank(), 1, vec![]), Err(CommError::NoSuchPeer { .. })));
        assert!(matches!(c.post_send(c.size(), 1, vec![]), Err(CommError::NoSuchPeer { .. })));
        if c.size() > 1 {
            let other = (c.rank() + 1) % c.size();
            assert!(matches!(c.post_send(other, MAX_TAG + 1, vec![]), Err(CommError::Tag(_))));
        }
    }

    fn large_matrices_both_ways(c: &MpiCommunicator) {
        for (round, len) in [8 << 20, 64 << 10, 4096, 1, 0].into_iter().enumerate() {
            exchange(c, round, len);
        }
    }

    fn a_rank_that_starts_late(c: &MpiCommunicator) {
        if c.rank() + 1 == c.size() {
            std::thread::sleep(Duration::from_millis(300));
        }
        exchange(c, 9, 1 << 20);
    }

    fn many_outstanding(c: &MpiCommunicator) {
        let peers = neighbours(c);
        let all: Vec<_> = (0..100).flat_map(|i| peers.iter().map(move |&peer| (i, peer))).collect();
        let receives: Vec<_> = all
            .iter()
            .map(|&(i, from)| c.post_receive(from, i as u16 % 3, vec![], 20_000).unwrap())
            .collect();
        let sends: Vec<_> = all
            .iter()
            .map(|&(i, to)| c.post_send(to, i as u16 % 3, content(c.rank(), to, i, i * 200)).unwrap())
            .collect();
        for (&(i, from), pending) in all.iter().zip(receives).rev() {
            assert!(wait_bytes(c, pending, &policy()).unwrap() == content(from, c.rank(), i, i * 200));
        }
        sends.into_iter().for_each(|pending| drop(wait(c, pending, &policy()).unwrap()));
    }

    fn true_lengths_and_reused_buffers(c: &MpiCommunicator) {
        let Some(&peer) = neighbours(c).first() else { return };
        // Each pair once, from its upper rank.
        if peer > c.rank() {
            return answer_those_above(c);
        }
        answer_those_above(c);
        let mut buffer = Vec::with_capacity(1 << 16);
        let address = buffer.as_ptr();
        for len in [10, 60_000, 0, 3] {
            let receive = c.post_receive(peer, 2, buffer, 1 << 16).unwrap();
            let send = c.post_send(peer, 2, content(c.rank(), peer, 0, len)).unwrap();
            buffer = wait_bytes(c, receive, &policy()).unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr(), address);
            wait(c, send, &policy()).unwrap();
        }
    }

    /// Sends back what the rank above sends, four times.
    fn answer_those_above(c: &MpiCommunicator) {
        let above = c.rank() + 1;
        for _ in 0..if above < c.size() { 4 } else { 0 } {
            let receive = c.post_receive(above, 2, vec![], 1 << 16).unwrap();
            let bytes = wait_bytes(c, receive, &policy()).unwrap();
            let send = c.post_send(above, 2, bytes).unwrap();
            wait(c, send, &policy()).unwrap();
        }
    }

    fn long_messages_are_refused(c: &MpiCommunicator) {
        if c.size() < 2 || c.rank() > 1 {
            return;
        }
        let other = 1 - c.rank();
        if c.rank() == 0 {
            let send = c.post_send(other, 3, vec![1; 100]).unwrap();
            wait(c, send, &policy()).unwrap();
        } else {
            let receive = c.post_receive(other, 3, vec![], 99).unwrap().named("q of boundary 1");
            let error = wait(c, receive, &policy()).unwrap_err();
            assert!(matches!(error, CommError::Truncated { max_len: 99, .. }), "{error}");
        }
        exchange_pair(c, other);
    }

    fn exchange_pair(c: &MpiCommunicator, other: usize) {
        let receive = c.post_receive(other, 3, vec![], 8).unwrap();
        let send = c.post_send(other, 3, vec![c.rank() as u8]).unwrap();
        assert_eq!(wait_bytes(c, receive, &policy()).unwrap(), [other as u8]);
        wait(c, send, &policy()).unwrap();
    }

    /// One slot a layer: the same bits whoever holds the layers.
    fn sums_are_exact(c: &MpiCommunicator) {
        let layers = 10;
        let value = |layer: usize, round: usize| {
            0.1 / (1.0 + layer as f64) * 10f64.powi(layer as i32 * 5 - round as i32)
        };
        let mut pending = Vec::new();
        for round in 0..30 {
            let mut values = vec![0.0; layers];
            for layer in (0..layers).filter(|layer| layer % c.size() == c.rank()) {
                values[layer] = if layer == 3 { -0.0 } else { value(layer, round) };
            }
            pending.push(c.post_sum(values).unwrap());
        }
        for (round, pending) in pending.into_iter().enumerate().rev() {
            let sums = wait_sum(c, pending, &policy()).unwrap();
            for (layer, sum) in sums.iter().enumerate() {
                let expected = if layer == 3 { 0.0 } else { value(layer, round) };
                assert_eq!(sum.to_bits(), expected.to_bits());
            }
        }
    }

    fn collectives(c: &MpiCommunicator) {
        for root in 0..c.size() {
            let mine = if c.rank() == root { content(root, 0, 0, 300_000) } else { vec![] };
            assert!(broadcast(c, &policy(), "content", root, mine).unwrap() == content(root, 0, 0, 300_000));
        }
        let gathered = gather_to_root(c, &policy(), "ranks", vec![c.rank() as u8; c.rank()]).unwrap();
        let expected: Vec<_> = (0..c.size()).map(|rank| vec![rank as u8; rank]).collect();
        assert_eq!(gathered, (c.rank() == 0).then_some(expected));
    }

    fn one_rank_fails(c: &MpiCommunicator) {
        for failing in 0..c.size() {
            let result = if c.rank() >= failing { Err(c.rank()) } else { Ok(()) };
            let joint =
                agree(c, &policy(), "data", result, |rank| (*rank as u8 + 2, format!("no file {rank}")));
            let error = joint.unwrap_err();
            assert_eq!(usize::from(error.exit_code()), failing + 2);
            assert!(error.to_string().ends_with(&format!("no file {failing}")), "{error}");
        }
        assert_eq!(agree(c, &policy(), "data", Ok::<_, ()>(5), |()| (1, String::new())).unwrap(), 5);
    }

    fn out_of_step(c: &MpiCommunicator) {
        if c.size() != 2 {
            return;
        }
        let name = if c.rank() == 0 { "shapes" } else { "settings" };
        let outcome = broadcast(c, &policy(), name, 0, vec![]);
        assert_eq!(outcome.is_ok(), c.rank() == 0);
        if let Err(error) = outcome {
            assert!(matches!(error, CommError::Mismatch { peer: 0, .. }), "{error}");
        }
    }

    fn the_deadline_names_the_peer(c: &MpiCommunicator) {
        if c.size() < 2 {
            return;
        }
        let last = c.size() - 1;
        if c.rank() == 0 {
            let short = WaitPolicy::new().with_deadline(Duration::from_millis(50));
            let receive = c.post_receive(last, 4, vec![], 8).unwrap().named("p of boundary 7");
            let message = wait(c, receive, &short).unwrap_err().to_string();
            assert!(message.contains(&format!("rank {last} is silent")), "{message}");
            assert!(message.contains("p of boundary 7"), "{message}");
            assert!(short.seconds_waited() >= 0.05);
        }
        // What the dropped receive swallows; also ends the wait above in order.
        barrier(c, &policy(), "deadline").unwrap();
        if c.rank() == last {
            let send = c.post_send(0, 4, vec![1; 8]).unwrap();
            wait(c, send, &policy()).unwrap();
        }
    }

    /// A message far above the eager limit arrives while both sides only call `progress`.
    fn progress_moves_messages(c: &MpiCommunicator) {
        let len = 16 << 20;
        let receives: Vec<_> =
            neighbours(c).iter().map(|&from| c.post_receive(from, 5, vec![], len).unwrap()).collect();
        let sends: Vec<_> = neighbours(c)
            .iter()
            .map(|&to| c.post_send(to, 5, content(c.rank(), to, 1, len)).unwrap())
            .collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            c.progress().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        // Slow machines may need longer; what counts is that both complete and waiting was short.
        let after = policy();
        for (from, pending) in neighbours(c).into_iter().zip(receives) {
            assert!(wait_bytes(c, pending, &after).unwrap() == content(from, c.rank(), 1, len));
        }
        sends.into_iter().for_each(|pending| drop(wait(c, pending, &after).unwrap()));
        assert!(after.seconds_waited() < 0.5, "{} s left to wait", after.seconds_waited());
    }

    fn messages_in_blocks(c: &MpiCommunicator) {
        for (round, len) in [999, 1000, 1001, 2000, 2007, 123_456, 2 << 20].into_iter().enumerate() {
            exchange(c, round, len);
        }
        let peers = neighbours(c);
        // Shorter than announced, in blocks on both sides.
        let receives: Vec<_> =
            peers.iter().map(|&from| c.post_receive(from, 1, vec![], 50_000).unwrap()).collect();
        let sends: Vec<_> =
            peers.iter().map(|&to| c.post_send(to, 1, content(c.rank(), to, 3, 12_345)).unwrap()).collect();
        for (&from, pending) in peers.iter().zip(receives) {
            assert!(wait_bytes(c, pending, &policy()).unwrap() == content(from, c.rank(), 3, 12_345));
        }
        sends.into_iter().for_each(|pending| drop(wait(c, pending, &policy()).unwrap()));
    }

    fn dropping_what_is_not_complete(c: &MpiCommunicator) {
        for &peer in &neighbours(c) {
            drop(c.post_receive(peer, 6, vec![7; 100], 1 << 16).unwrap());
            drop(c.post_send(peer, 6, content(c.rank(), peer, 0, 1 << 16)).unwrap());
            drop(c.post_receive(peer, 7, vec![], 100).unwrap());
        }
        // What is allocated now must not be what MPI still writes to.
        let filled: Vec<Vec<u8>> = (0..200).map(|_| vec![0xa5; 1 << 16]).collect();
        for round in 0..20 {
            exchange(c, round, 100_000);
        }
        assert!(filled.iter().flatten().all(|&byte| byte == 0xa5));
    }

    /// Above what a C int counts. Needs 10 GB, so that it runs only when asked for:
    /// `PDADMM_MPI_TEST_CASE=huge mpirun -n 2 target/debug/deps/mpi_communicator-…`
    fn huge_messages(c: &MpiCommunicator) {
        exchange(c, 1, (1 << 31) + 12_345);
        barrier(c, &policy(), "huge").unwrap();
    }

    /// Ten ranks on fewer processors: waits yield, so that an exchange stays in the milliseconds.
    fn exchange_often(c: &MpiCommunicator) {
        let rounds = 50;
        barrier(c, &policy(), "start").unwrap();
        let start = Instant::now();
        for round in 0..rounds {
            exchange(c, round, 100_000);
        }
        let milliseconds = start.elapsed().as_secs_f64() * 1e3 / rounds as f64;
        barrier(c, &policy(), "end").unwrap();
        if c.rank() == 0 {
            println!("{milliseconds:.2} ms an exchange with {} ranks", c.size());
        }
        assert!(milliseconds < 100.0, "{milliseconds} ms an exchange");
    }

    /// Rank 1 does something fatal while the others wait for its message.
    fn one_rank(c: &MpiCommunicator, fatal: impl FnOnce()) {
        barrier(c, &policy(), "start").unwrap();
        if c.rank() == 1 {
            fatal();
        }
        let receive = c.post_receive((c.rank() + 1) % c.size(), 1, vec![], 8).unwrap();
        wait(c, receive, &WaitPolicy::new()).unwrap();
    }
}
