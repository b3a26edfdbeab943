//! Augmented features that are stored in a data set file, `/augmented/<name>` (docs/data-format.md).

use std::ops::Range;

use ndarray::Array2;

use super::error::DatasetError;
use super::file::DatasetFile;
use super::{check, rows::pieces};
use crate::storage::hdf5_source::Kind;
use crate::storage::{CheckedDataSet, Fault};

/// The group of all stored augmented features.
pub(crate) const GROUP: &str = "augmented";
/// The data set of one of them.
pub(crate) const VALUES: &str = "features";
/// Its attributes.
pub(crate) const OPERATORS: &str = "operators";
pub(crate) const FEATURE_NORM: &str = "feature_norm";
pub(crate) const CONTENT: &str = "content";

/// What stored augmented features say of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AugmentedHeader {
    /// Name of their group.
    pub name: String,
    /// Ψ, as it was given.
    pub operators: String,
    /// The scaling of the raw features.
    pub feature_norm: String,
    /// [`DatasetFile::content_checksum`] of the edges and features they were computed from, in hexadecimal.
    pub content: String,
    /// n_0 = K d.
    pub width: usize,
}

/// A checksum as [`AugmentedHeader::content`] has it.
pub(crate) fn content_text(checksum: u32) -> String {
    format!("{checksum:08x}")
}

impl DatasetFile {
    /// The augmented features that the file holds, by name.
    ///
    /// # Errors
    /// A part is missing, wrongly typed or of another shape.
    pub fn augmented(&self) -> Result<Vec<AugmentedHeader>, DatasetError> {
        let source = &self.source;
        if source.kind(source.root(), "", GROUP)?.is_none() {
            return Ok(Vec::new());
        }
        let group = source.group(source.root(), "", GROUP)?;
        let mut found = Vec::new();
        for name in source.links(&group, &format!("/{GROUP}"))? {
            let place = format!("/{GROUP}/{name}");
            let member = source.group(&group, &format!("/{GROUP}"), &name)?;
            let text = |attribute| source.text(&member, &place, attribute);
            let (operators, feature_norm, content) = (text(OPERATORS)?, text(FEATURE_NORM)?, text(CONTENT)?);
            let width = self.augmented_values(&name)?.shape.last().copied().unwrap_or(0);
            found.push(AugmentedHeader { name, operators, feature_norm, content, width });
        }
        Ok(found)
    }

    fn augmented_values(&self, name: &str) -> Result<CheckedDataSet<'_>, DatasetError> {
        let (source, nodes, d) = (&self.source, self.header.nodes, self.header.features);
        let place = format!("/{GROUP}/{name}");
        let group = source.group(source.root(), "", GROUP)?;
        let member = source.group(&group, &format!("/{GROUP}"), name)?;
        if source.kind(&member, &place, VALUES)? == Some(Kind::Group) {
            return Err(source
                .fault(Fault::new(format!("{place}/{VALUES}"), "a data set", "a group"))
                .into());
        }
        let data = source.data_set(&member, &place, VALUES, 2)?;
        match data.shape.as_slice() {
            &[rows, columns] if rows == nodes && columns > 0 && columns % d.max(1) == 0 => Ok(data),
            _ => Err(source
                .fault(Fault::new(
                    format!("{place}/{VALUES}"),
                    format!("{nodes} rows, and a multiple of {d} columns"),
                    format!("shape {:?}", data.shape),
                ))
                .into()),
        }
    }

    /// Rows and columns of stored augmented features.
    ///
    /// # Errors
    /// Missing, wrongly typed, of another shape, or not finite.
    pub fn augmented_block(
        &self,
        name: &str,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Array2<f32>, DatasetError> {
        let data = self.augmented_values(name)?;
        let fault = |fault| self.source.fault(fault);
        let (first, shape) = (rows.start, (rows.len(), columns.len()));
        let values = data.float_block(rows, columns)?;
        let values = Array2::from_shape_vec(shape, values).map_err(|error| {
            fault(Fault::new(&data.place, format!("shape {shape:?}"), format!("{error}")))
        })?;
        check::finite_rows(&data.place, first, &values).map_err(fault)?;
        Ok(values)
    }

    /// How many rows of stored augmented features are best read at once where so many columns are.
    ///
    /// # Errors
    /// As [`DatasetFile::augmented`].
    pub fn augmented_rows_at_once(&self, name: &str, columns: usize) -> Result<usize, DatasetError> {
        let data = self.augmented_values(name)?;
        let all = data.shape.last().copied().unwrap_or(1).max(1);
        // In elements of whole rows, as that counts.
        Ok(data.rows_at_once(super::rows::HELD / columns.max(1) * all))
    }

    /// Reads all stored augmented features and forgets them.
    pub(super) fn go_through_augmented(&self) -> Result<(), DatasetError> {
        for AugmentedHeader { name, width, .. } in self.augmented()? {
            for rows in pieces(0..self.header.nodes, self.augmented_rows_at_once(&name, width)?) {
                self.augmented_block(&name, rows, 0..width)?;
            }
        }
        Ok(())
    }
}
