//! Checkpoints of a run by backpropagation: rank 0 has all of its state, and the other ranks only learn what all know.

use super::backprop_run::{BackpropRun, Best, Steps};
use super::best::Evaluation;
use super::checkpoint::{Exact, StepManifest, Vectors};
use super::driver::Job;
use super::error::{SetUpError, TrainError};
use super::output::OutputFolder;
use super::several::Shared;
use crate::backprop::Rule;
use crate::linalg::Real;
use crate::parallel::{agree, broadcast};

impl<T: Real> BackpropRun<'_, T> {
    /// Writes the state after an iteration; every rank calls this. It changes nothing of what follows.
    ///
    /// # Errors
    /// The disk refuses. The checkpoints before are then as they were.
    pub(super) fn checkpoint(&mut self, steps: &Steps<T>) -> Result<(), TrainError> {
        let waited = self.seconds_waited()?;
        let Job { communicator, policy, .. } = self.job;
        let written = match communicator.rank() {
            0 => self.write_checkpoint(steps, waited),
            _ => Ok(()),
        };
        agree(communicator, policy, "checkpoint", written, SetUpError::describe)?;
        self.clock.checkpoint_written();
        log::info!("checkpoint of iteration {} written", steps.iteration);
        Ok(())
    }

    /// On rank 0.
    fn write_checkpoint(&mut self, steps: &Steps<T>, waited: f64) -> Result<(), SetUpError> {
        // The rows before the checkpoint must be on disk when it is.
        self.output_failed.take().map_or(Ok(()), Err)?;
        if let Some(folder) = &self.folder {
            folder.sync_history()?;
        }
        let Job { settings, problem, .. } = self.job;
        let Steps { iteration, optimizer, best, patience, last_scores, bytes, .. } = steps;
        let mut manifest = StepManifest::new(settings, problem);
        (manifest.iteration, manifest.patience, manifest.bytes) = (*iteration, *patience, *bytes);
        manifest.best = best.as_ref().map(|best| best.evaluation.into());
        manifest.last_scores = last_scores.map(Into::into);
        manifest.seconds = [self.seconds_so_far(), waited].map(Exact);
        let [first, second] = optimizer.as_ref().map_or([&[][..]; 2], |optimizer| optimizer.memory());
        let best = best.as_ref().map_or(&[][..], |best| &best.parameters);
        manifest.save(&settings.output, settings.layers, [&self.parameters, first, second, best])?;
        Ok(())
    }

    /// Goes on from the newest checkpoint, or from the start where the run came to none. `lock` is the folder, taken, on
    /// rank 0.
    ///
    /// # Errors
    /// There are checkpoints but none is whole, or they belong to another run.
    pub(super) fn resume(
        &mut self,
        rule: Rule,
        lock: Option<OutputFolder>,
        shared: &mut Shared<T>,
    ) -> Result<Steps<T>, TrainError> {
        let job = self.job;
        let Job { settings, communicator, policy, problem, .. } = job;
        let is_root = communicator.rank() == 0;
        let found = match is_root {
            true => {
                let length = self.layout.len();
                StepManifest::newest(&settings.output, settings, problem, length, rule.memories())
            }
            false => Ok(None),
        };
        let found = found.map_err(SetUpError::from);
        let found = agree(communicator, policy, "checkpoints", found, SetUpError::describe)?;
        let (folder, bytes, vectors) = found.unwrap_or_default();
        let bytes = broadcast(communicator, policy, "manifest of a checkpoint", 0, bytes)?;
        let manifest = match bytes.is_empty() {
            true => Ok(None),
            false => StepManifest::parse(&folder, &bytes).map(Some).map_err(SetUpError::from),
        };
        let manifest = agree(communicator, policy, "manifest as read", manifest, SetUpError::describe)?;
        let before = manifest.as_ref().map(|manifest| manifest.iteration + 1);
        self.folder = job.go_on_in(lock, shared, before)?;
        let Some(manifest) = manifest else {
            self.screen.from_the_start();
            return self.first_step(rule);
        };
        self.screen.resumed(&folder, &manifest.program);
        self.go_on_from(rule, manifest, vectors)
    }

    /// The state of the checkpoint; `vectors` are there on rank 0.
    fn go_on_from(
        &mut self,
        rule: Rule,
        manifest: StepManifest,
        vectors: Vectors<T>,
    ) -> Result<Steps<T>, TrainError> {
        let [parameters, first, second, best] = vectors;
        let is_root = self.job.communicator.rank() == 0;
        if is_root {
            self.parameters = parameters;
        }
        let steps = self.first_step(rule)?;
        // What it took to go on is not counted: a run that goes on has sent what a straight one has.
        self.tree.count_from(if is_root { manifest.bytes } else { 0 });
        let [training, waited] = manifest.seconds.map(|seconds| seconds.0);
        self.seconds_before = [training, if is_root { waited } else { 0.0 }];
        let mut optimizer = steps.optimizer;
        if let Some(optimizer) = &mut optimizer {
            optimizer.go_on_from(manifest.iteration, [first, second]);
        }
        Ok(Steps {
            iteration: manifest.iteration,
            optimizer,
            best: manifest.best.map(|kept| Best { evaluation: kept.into(), parameters: best }),
            patience: manifest.patience,
            last_scores: manifest.last_scores.map(Evaluation::from),
            bytes: manifest.bytes,
            ..steps
        })
    }
}
