//! Writing a checkpoint: all ranks together, between two iterations.

use serde::{Deserialize, Serialize};

use super::folder::CheckpointFolder;
use super::manifest::Manifest;
use super::part::Part;
use super::sealed::{self, Exact, PartEntry};
use crate::linalg::Real;
use crate::parallel::{Completed, Pending, agree, gather_to_root, wait_sum};
use crate::timing::Phase;
use crate::train::driver::Run;
use crate::train::error::{SetUpError, TrainError};
use crate::train::reduction::without_requests;
use crate::train::state::RunState;

/// What each rank tells rank 0 of its part.
#[derive(Serialize, Deserialize)]
struct Report {
    part: Option<PartEntry>,
    /// Encoding, decoding, waiting.
    seconds: [Exact; 3],
}

impl<T: Real> Run<'_, T> {
    /// Writes the state after an iteration; every rank calls this. It changes nothing of what follows: messages and
    /// sums that the next iteration would have waited for are waited for here, and kept for it.
    ///
    /// # Errors
    /// The disk refuses on any rank. The checkpoints before are then as they were.
    pub(in crate::train) fn checkpoint(
        &mut self,
        state: &mut RunState<T>,
        layers: usize,
    ) -> Result<(), TrainError> {
        let _checkpoint = self.policy.clock().enter(Phase::Checkpoint);
        self.receive_last_q(state)?;
        self.exchange.finish_sends()?;
        let Some(row) = &mut state.pending else { return Ok(()) };
        let awaited = row.sums.awaited();
        let none = Pending::ready(awaited, Completed::Reduced(Vec::new()));
        let sums = wait_sum(self.communicator, std::mem::replace(&mut row.sums, none), self.policy)?;
        row.sums = Pending::ready(awaited, Completed::Reduced(sums.clone()));

        let place = CheckpointFolder::new(&self.settings.output, state.iteration);
        let outcome = self.write_checkpoint(&place, state, layers, sums);
        if outcome.is_err() && self.communicator.rank() == 0 {
            place.abandon();
        }
        outcome?;
        self.clock.checkpoint_written();
        log::info!("checkpoint of iteration {} written", state.iteration);
        Ok(())
    }

    fn write_checkpoint(
        &self,
        place: &CheckpointFolder,
        state: &RunState<T>,
        layers: usize,
        sums: Vec<f64>,
    ) -> Result<(), TrainError> {
        let (communicator, policy) = (self.communicator, self.policy);
        let is_root = communicator.rank() == 0;
        let begun = if is_root { place.begin() } else { Ok(()) };
        agree(
            communicator,
            policy,
            "checkpoint folder",
            begun.map_err(SetUpError::from),
            SetUpError::describe,
        )?;

        let is_evaluated = self.slots_of(layers).take_apart(&sums).scores.is_some();
        let part = Part {
            network: &state.network,
            best: state.best.best().map_or(&[], |(_, weights)| weights),
            candidate: if is_evaluated { state.best.candidate() } else { &[] },
            exchange: &self.exchange.state(),
        };
        let rank = communicator.rank();
        let written = match state.network.layers.is_empty() {
            true => Ok(None),
            false => {
                let path = CheckpointFolder::part(&place.partial(), rank);
                part.write(&path, [rank, self.group.shard()]).map(Some)
            }
        };
        let written = written.map_err(SetUpError::from);
        let part = agree(communicator, policy, "checkpoint", written, SetUpError::describe)?;

        let [_, encode, decode, wait] = self.seconds_so_far();
        let report = Report { part, seconds: [encode, decode, wait].map(Exact) };
        let bytes = serde_json::to_vec(&report).unwrap_or_default();
        let reports = gather_to_root(communicator, policy, "parts of a checkpoint", bytes)?;
        let finished = match reports {
            Some(reports) => self.finish_checkpoint(place, state, sums, &reports),
            None => Ok(()),
        };
        Ok(agree(communicator, policy, "checkpoint manifest", finished, SetUpError::describe)?)
    }

    /// On rank 0: the manifest, and the name that makes the checkpoint a whole one.
    fn finish_checkpoint(
        &self,
        place: &CheckpointFolder,
        state: &RunState<T>,
        sums: Vec<f64>,
        reports: &[Vec<u8>],
    ) -> Result<(), SetUpError> {
        let mut seconds = [self.seconds_so_far()[0], 0.0, 0.0, 0.0];
        let mut parts = Vec::new();
        for report in reports {
            let Report { part, seconds: spent } =
                serde_json::from_slice(report).map_err(SetUpError::Report)?;
            parts.extend(part);
            seconds[1..].iter_mut().zip(spent).for_each(|(sum, spent)| *sum += spent.0);
        }
        let (penalties, row_seconds) = state
            .pending
            .as_ref()
            .map_or((state.schedule.penalties(), 0.0), |row| (row.penalties, row.row.seconds));
        let manifest = Manifest::new(
            self.settings.deciding(&self.problem.split),
            (self.problem.name.clone(), self.problem.checksum.clone()),
            [state.stage, state.stage_iteration],
            self.stage_shards,
            state.iteration,
            penalties,
            state.schedule.progress(),
            state.patience,
            [&state.p_ranges, &state.q_ranges],
            state.best.best().map(|(evaluation, _)| *evaluation),
            state.last_scores,
            without_requests(sums),
            row_seconds,
            seconds,
            parts,
        );
        // The rows before the checkpoint must be on disk when it is.
        if let Some(folder) = &self.folder {
            folder.sync_history()?;
        }
        sealed::write(&place.partial(), &manifest)?;
        Ok(place.commit()?)
    }
}
