//! Where the augmented features of a run come from: from the data set file, where `dataset augment` has stored them, or
//! computed by all ranks together. Both give the same numbers to the last bit.

use ndarray::{Array2, s};

use super::error::{SetUpError, TrainError};
use super::problem::Problem;
use crate::dataset::augmented::content_text;
use crate::dataset::{AugmentedHeader, DatasetFile};
use crate::graph::{FeatureBlock, column_block};
use crate::linalg::{Real, Workers};
use crate::parallel::features::{DistributedFeatures, OwnRows};
use crate::parallel::{Communicator, WaitPolicy, agree, broadcast};
use crate::quantize::Element;
use crate::settings::Settings;

/// The augmented features X of all nodes, a block of columns at a time.
pub(super) enum FeatureSource<'a, T> {
    /// To be computed.
    Computed(Box<DistributedFeatures<'a, T>>),
    /// Stored in single precision.
    Stored(Box<StoredFeatures>),
}

/// Features that the file holds already; each rank reads the rows that it wants.
pub(super) struct StoredFeatures {
    file: DatasetFile,
    header: AugmentedHeader,
    rank: usize,
    /// K.
    operators: usize,
}

impl<'a, T: Real> FeatureSource<'a, T> {
    /// Reads what it takes on every rank: the rows of edges and features that are this rank's to augment, or nothing
    /// yet where the file has the result for the same operators, scaling, edges and features. All ranks call it
    /// together.
    ///
    /// # Errors
    /// The data cannot be used, the same on all ranks; or the exchange failed.
    pub fn open(
        settings: &'a Settings,
        problem: &Problem,
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
    ) -> Result<Self, TrainError> {
        let rank = communicator.rank();
        let opened = open(settings, problem, T::NAME, rank);
        let (file, stored) = agree(communicator, policy, "features", opened, SetUpError::describe)?;
        if let Some((header, is_current)) = stored {
            // Only rank 0 has compared it with edges and features.
            let verdict = broadcast(communicator, policy, "stored features", 0, vec![u8::from(is_current)])?;
            if verdict == [1] {
                let operators = settings.operators.count();
                let stored = StoredFeatures { file, header, rank, operators };
                return Ok(FeatureSource::Stored(Box::new(stored)));
            }
        }
        Ok(FeatureSource::Computed(Box::new(compute(&file, settings, communicator, policy)?)))
    }

    /// n_0 = K d.
    pub fn width(&self) -> usize {
        match self {
            FeatureSource::Computed(features) => features.width(),
            FeatureSource::Stored(stored) => stored.header.width,
        }
    }

    /// d.
    pub fn feature_count(&self) -> usize {
        match self {
            FeatureSource::Computed(features) => features.feature_count(),
            FeatureSource::Stored(stored) => stored.file.header().features,
        }
    }

    /// Hands `pass` these features with random signs on the entries of H ([`crate::graph::signs`]). They are computed
    /// in any case: a file stores none of those. All ranks call it together.
    ///
    /// # Errors
    /// Those of [`FeatureSource::open`], or what `pass` says.
    pub fn with_random_signs<R>(
        &mut self,
        settings: &'a Settings,
        communicator: &'a dyn Communicator,
        policy: &'a WaitPolicy,
        pass: impl FnOnce(&DistributedFeatures<'a, T>) -> Result<R, TrainError>,
    ) -> Result<R, TrainError> {
        match self {
            FeatureSource::Computed(features) => {
                features.flip_signs(settings.seed);
                let result = pass(features);
                features.flip_signs(settings.seed);
                result
            }
            FeatureSource::Stored(stored) => {
                let mut features = compute(&stored.file, settings, communicator, policy)?;
                features.flip_signs(settings.seed);
                pass(&features)
            }
        }
    }

    /// Hands every rank's `take` every block of columns of the rows that it wants, in order of columns. `wanted` has the
    /// nodes of each rank's rows and is the same on every rank; a rank that wants none is handed blocks without
    /// rows. All ranks call it together.
    ///
    /// # Errors
    /// The exchange or reading failed, or what `take` says.
    pub fn for_each_block(
        &self,
        wanted: &[Vec<usize>],
        workers: &Workers,
        take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        match self {
            FeatureSource::Computed(features) => {
                features.for_each_block(wanted, features.column_block(), workers, take)
            }
            FeatureSource::Stored(stored) => {
                stored.for_each_block(wanted.get(stored.rank).map_or(&[], Vec::as_slice), take)
            }
        }
    }
}

/// Features to be computed from this rank's rows of edges and raw features. All ranks call it together.
fn compute<'a, T: Real>(
    file: &DatasetFile,
    settings: &'a Settings,
    communicator: &'a dyn Communicator,
    policy: &'a WaitPolicy,
) -> Result<DistributedFeatures<'a, T>, TrainError> {
    let rows = OwnRows::read(file, communicator.rank(), communicator.size()).map_err(SetUpError::from);
    let rows = agree(communicator, policy, "rows of features", rows, SetUpError::describe)?;
    Ok(DistributedFeatures::new(communicator, policy, rows, &settings.operators, settings.feature_norm)?)
}

/// The file, and what it has stored for these settings, if anything; on rank 0 with whether that is of these edges and
/// features.
#[allow(clippy::type_complexity)]
fn open(
    settings: &Settings,
    problem: &Problem,
    precision: &str,
    rank: usize,
) -> Result<(DatasetFile, Option<(AugmentedHeader, bool)>), SetUpError> {
    let file = DatasetFile::open_inspected(&settings.data, Some(&problem.checksum))?;
    let (operators, norm) = (settings.operators.to_string(), settings.feature_norm.name());
    let width = settings.operators.count() * file.header().features;
    let fits = |header: &AugmentedHeader| {
        header.operators == operators && header.feature_norm == norm && header.width == width
    };
    // In double precision the stored values are not those that would be computed.
    let found =
        if precision == <f32 as Element>::NAME { file.augmented()?.into_iter().find(fits) } else { None };
    let Some(header) = found else { return Ok((file, None)) };
    let is_current = rank == 0 && content_text(file.content_checksum()?) == header.content;
    if rank == 0 && !is_current {
        log::warn!(
            "{}: /augmented/{} was computed from other edges or features than the file has now, and is not used; \
             `pdadmm-g dataset augment` stores it anew",
            settings.data.display(),
            header.name
        );
    }
    Ok((file, Some((header, is_current))))
}

impl StoredFeatures {
    /// The rows of these nodes, in their order.
    fn for_each_block<T: Real>(
        &self,
        wanted: &[usize],
        mut take: impl FnMut(FeatureBlock<'_, T>) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let (nodes, d) = (self.file.header().nodes, self.file.header().features);
        // As they would be computed: sums over blocks of columns are to be the same.
        let block = column_block::<T>(nodes, d);
        let mut in_order: Vec<(usize, usize)> = wanted.iter().copied().zip(0..).collect();
        in_order.sort_unstable();
        let at_once = self.file.augmented_rows_at_once(&self.header.name, block)?;
        for start in (0..d).step_by(block) {
            let columns = start..(start + block).min(d);
            let mut parts = vec![Array2::<T>::zeros((wanted.len(), columns.len())); self.operators];
            for rows in in_order.chunk_by(|(a, _), (b, _)| a / at_once == b / at_once) {
                let first = rows.first().map_or(0, |(node, _)| *node);
                let last = rows.last().map_or(first, |(node, _)| *node);
                for (part, out) in parts.iter_mut().enumerate() {
                    let from = part * d + columns.start..part * d + columns.end;
                    let read = self.file.augmented_block(&self.header.name, first..last + 1, from)?;
                    for (node, place) in rows {
                        let values = read.row(node - first);
                        out.slice_mut(s![*place, ..])
                            .zip_mut_with(&values, |out, &x| *out = T::of(f64::from(x)));
                    }
                }
            }
            take(FeatureBlock { columns, parts: &parts })?;
        }
        Ok(())
    }
}
