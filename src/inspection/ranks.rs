//! One inspection for a whole job.

use std::path::Path;

use super::{FileKind, Inspected, InspectionError, inspect};
use crate::error_chain;
use crate::parallel::{Communicator, JointFailure, WaitPolicy, agree, broadcast, may_be_rank_zero};

/// What a process knows of the files when it meets the others. Only the process that may be rank 0 by the launcher's
/// environment inspects; where the environment does not tell, every process does.
#[derive(Debug)]
pub enum Findings {
    /// The user vouches for the files.
    Trusted,
    /// Another rank inspects, or there is nothing to inspect.
    Elsewhere,
    /// The files, in the order in which they were given, or what is wrong with the first that is not sound.
    Inspected(Result<Vec<Inspected>, InspectionError>),
}

impl Findings {
    /// Inspects these files if it is for this process to do so. Call it before [`crate::parallel::start`].
    pub fn before_start(trust: bool, files: &[(FileKind, &Path)]) -> Self {
        if trust {
            return Findings::Trusted;
        }
        if files.is_empty() || !may_be_rank_zero() {
            return Findings::Elsewhere;
        }
        // The checkpoint of a run that is still under way may go meanwhile; that run's lock will be met.
        let has_gone = |kind, path: &Path| kind == FileKind::Checkpoint && !path.exists();
        let found = files.iter().filter_map(|&(kind, path)| match inspect(kind, path, false) {
            Err(_) if has_gone(kind, path) => None,
            outcome => Some(outcome),
        });
        Findings::Inspected(found.collect())
    }

    /// Makes what rank 0 found known to all: the checksums of the files, in their order, none of them where they are
    /// trusted. All ranks call it together.
    ///
    /// # Errors
    /// What is wrong with a file, the same on all ranks.
    pub fn agree(self, communicator: &dyn Communicator) -> Result<Vec<String>, JointFailure> {
        let policy = WaitPolicy::new();
        let own = match self {
            Findings::Inspected(found) => {
                found.map(|files| files.into_iter().map(|file| file.checksum).collect())
            }
            Findings::Elsewhere if communicator.rank() == 0 => Err(InspectionError::NobodyInspected),
            Findings::Trusted | Findings::Elsewhere => Ok(Vec::new()),
        };
        let own: Vec<String> = agree(communicator, &policy, "inspection of files", own, |error| {
            (error.exit_code(), error_chain(error))
        })?;
        let root = broadcast(communicator, &policy, "checksums of files", 0, own.join("\n").into_bytes())?;
        Ok(String::from_utf8_lossy(&root).lines().map(str::to_owned).collect())
    }
}
