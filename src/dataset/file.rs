//! Reading the HDF5 data set file, version 1 (docs/data-format.md), whole or in parts.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::DatasetError;
use super::{Dataset, Features, SparseMatrix, Split, check};
use crate::storage::hdf5_source::{Hdf5Source, Kind};
use crate::storage::{self, Fault};

/// Value of the root attribute `format`.
pub(crate) const FORMAT: &str = "gamlp-graph";
/// Value of the root attribute `format_version`.
pub(crate) const FORMAT_VERSION: i64 = 1;
/// AnnData's name for compressed rows.
pub(crate) const CSR_ENCODING: &str = "csr_matrix";
/// The version of that encoding.
pub(crate) const CSR_VERSION: &str = "0.1.0";

/// How to come by a file that can be read here.
const ADVICE: &str = "give a data set file; make one with `pdadmm-g dataset import` or `dataset generate`";

/// What a data set is called and how large it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Short name.
    pub name: String,
    /// Number of nodes N.
    pub nodes: usize,
    /// Number of features d.
    pub features: usize,
    /// Number of classes C.
    pub num_classes: usize,
}

/// All but the edges and the features: what a rank needs that does not hold layer 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Name and sizes.
    pub header: Header,
    /// Class of each node, −1 where unknown.
    pub labels: Vec<i64>,
    /// Splits by name.
    pub splits: BTreeMap<String, Split>,
}

/// A data set file that is open for reading. Each part is checked when it is read; the sizes in
/// the header are checked against what is stored when the file is opened.
#[derive(Debug)]
pub struct DatasetFile {
    pub(super) source: Hdf5Source,
    pub(super) header: Header,
}

impl DatasetFile {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// A file that cannot be read, is not HDF5, is not in this format, or declares sizes that are
    /// impossible.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        Self::with_header(Hdf5Source::open(path.as_ref(), ADVICE)?)
    }

    /// As [`DatasetFile::open`], for a file that has been inspected ([`crate::inspection`]): its checksum is compared
    /// before the HDF5 library sees it. Without one to compare with, it is only taken.
    ///
    /// # Errors
    /// As [`DatasetFile::open`], and [`StorageError::Changed`](crate::storage::StorageError::Changed).
    pub fn open_inspected(path: impl AsRef<Path>, checksum: Option<&str>) -> Result<Self, DatasetError> {
        Self::with_header(Hdf5Source::open_inspected(path.as_ref(), checksum, ADVICE)?)
    }

    fn with_header(source: Hdf5Source) -> Result<Self, DatasetError> {
        let header = read_header(&source)?;
        Ok(DatasetFile { source, header })
    }

    /// Name and sizes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Class of each node (N), −1 where unknown.
    ///
    /// # Errors
    /// Missing, wrongly typed, or a label outside `-1..C`.
    pub fn labels(&self) -> Result<Vec<i64>, DatasetError> {
        let labels = self.source.data_set(self.source.root(), "", "labels", 1)?.integers()?;
        check::labels(&labels, self.header.nodes, self.header.num_classes)
            .map_err(|fault| self.source.fault(fault))?;
        Ok(labels)
    }

    /// Splits by name.
    ///
    /// # Errors
    /// No split, or one with an empty part, overlapping parts, nodes out of range, or training
    /// nodes without a label.
    pub fn splits(&self) -> Result<BTreeMap<String, Split>, DatasetError> {
        self.splits_for(&self.labels()?)
    }

    fn splits_for(&self, labels: &[i64]) -> Result<BTreeMap<String, Split>, DatasetError> {
        let source = &self.source;
        let group = source.group(source.root(), "", "splits")?;
        let mut splits = BTreeMap::new();
        for name in source.links(&group, "/splits")? {
            let place = format!("/splits/{name}");
            let members = source.group(&group, "/splits", &name)?;
            let part = |part: &str| -> Result<Vec<usize>, DatasetError> {
                let indices = source.data_set(&members, &place, part, 1)?;
                if indices.len() > self.header.nodes {
                    return Err(source
                        .fault(Fault::new(
                            format!("{place}/{part}"),
                            format!("at most {} nodes", self.header.nodes),
                            format!("{}", indices.len()),
                        ))
                        .into());
                }
                Ok(check::split_part(&format!("{place}/{part}"), &indices.integers()?, self.header.nodes)
                    .map_err(|fault| source.fault(fault))?)
            };
            let split = Split {
                train: part("train")?,
                val: part("val")?,
                test: part("test")?,
                seed: source.optional_unsigned(&members, &place, "seed")?,
            };
            splits.insert(name, split);
        }
        check::splits(&splits, labels).map_err(|fault| source.fault(fault))?;
        Ok(splits)
    }

    /// Raw edges A, N × N.
    ///
    /// # Errors
    /// Missing, wrongly typed, or not in sorted compressed rows without duplicates and self loops.
    pub fn adjacency(&self) -> Result<SparseMatrix, DatasetError> {
        self.adjacency_rows(0..self.header.nodes)
    }

    /// Node features H, N × d, as they are stored: dense or in compressed rows.
    ///
    /// # Errors
    /// Missing, wrongly typed, of another shape, or not finite.
    pub fn features(&self) -> Result<Features, DatasetError> {
        self.feature_rows(0..self.header.nodes)
    }

    /// The whole data set.
    ///
    /// # Errors
    /// Whatever the parts say.
    pub fn read(&self) -> Result<Dataset, DatasetError> {
        let outline = self.outline()?;
        let data = Dataset {
            name: outline.header.name,
            num_classes: outline.header.num_classes,
            adjacency: self.adjacency()?,
            features: self.features()?,
            labels: outline.labels,
            splits: outline.splits,
        };
        self.go_through_augmented()?;
        Ok(data)
    }

    /// Header, labels and splits, without edges and features.
    ///
    /// # Errors
    /// Whatever the parts say.
    pub fn outline(&self) -> Result<Outline, DatasetError> {
        let labels = self.labels()?;
        let splits = self.splits_for(&labels)?;
        Ok(Outline { header: self.header.clone(), labels, splits })
    }

    /// Checksum of the file's content; see [`checksum`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn checksum(&self) -> Result<String, DatasetError> {
        Ok(self.source.checksum()?)
    }
}

impl Dataset {
    /// Reads and checks a data set file.
    ///
    /// # Errors
    /// See [`DatasetFile`].
    pub fn read(path: impl AsRef<Path>) -> Result<Dataset, DatasetError> {
        DatasetFile::open(path)?.read()
    }

    /// Reads and checks all but the edges and the features of a data set file.
    ///
    /// # Errors
    /// See [`DatasetFile`].
    pub fn read_without_features(path: impl AsRef<Path>) -> Result<Outline, DatasetError> {
        DatasetFile::open(path)?.outline()
    }
}

/// CRC-32 of a file's bytes and their number, such as `1c291ca3-15360`: tells whether two ranks
/// look at the same file.
///
/// # Errors
/// The file cannot be read.
pub fn checksum(path: &Path) -> Result<String, DatasetError> {
    Ok(storage::checksum(path)?)
}

fn read_header(source: &Hdf5Source) -> Result<Header, DatasetError> {
    let root = source.root();
    source.check_format(FORMAT, FORMAT_VERSION, ADVICE)?;
    let name = source.text(root, "/", "name")?;
    check::name("attribute name of /", &name).map_err(|fault| source.fault(fault))?;

    let [rows, columns] = encoded_shape(source, "adjacency")?;
    if rows != columns {
        return Err(source
            .fault(Fault::new(
                "attribute shape of /adjacency",
                "a square matrix",
                format!("{rows} × {columns}"),
            ))
            .into());
    }
    let [feature_rows, features] = match source.kind(root, "", "features")? {
        Some(Kind::Group) => encoded_shape(source, "features")?,
        _ => {
            let data = source.data_set(root, "", "features", 2)?;
            [data.shape.first(), data.shape.last()].map(|size| size.copied().unwrap_or(0))
        }
    };
    let num_classes = check::sizes(rows, features, source.integer(root, "/", "num_classes")?)
        .map_err(|fault| source.fault(fault))?;
    // Stored bytes stand behind the labels, so that N is real from here on.
    let labels = source.data_set(root, "", "labels", 1)?;
    let agree = |place: &str, found: usize| {
        if found == rows {
            return Ok(());
        }
        Err(source.fault(Fault::new(
            place,
            format!("{rows} rows, one for each node of /adjacency"),
            format!("{found}"),
        )))
    };
    agree("/labels", labels.len())?;
    agree("/features", feature_rows)?;
    Ok(Header { name, nodes: rows, features, num_classes })
}

/// The `shape` attribute of a group in AnnData's csr_matrix encoding.
fn encoded_shape(source: &Hdf5Source, name: &str) -> Result<[usize; 2], DatasetError> {
    let place = format!("/{name}");
    let group = source.group(source.root(), "", name)?;
    for (attribute, expected) in [("encoding-type", CSR_ENCODING), ("encoding-version", CSR_VERSION)] {
        let found = source.text(&group, &place, attribute)?;
        if found != expected {
            return Err(source
                .fault(
                    Fault::new(
                        format!("attribute {attribute} of {place}"),
                        format!("{expected:?}"),
                        format!("{found:?}"),
                    )
                    .advise("store the matrix in compressed rows, as anndata writes a scipy csr_matrix"),
                )
                .into());
        }
    }
    let shape = source.integers(&group, &place, "shape", 2)?;
    let mut sizes = [0; 2];
    for (size, &found) in sizes.iter_mut().zip(&shape) {
        *size = usize::try_from(found).map_err(|_| {
            source.fault(Fault::new(
                format!("attribute shape of {place}"),
                "sizes of at least 0",
                format!("{shape:?}"),
            ))
        })?;
    }
    Ok(sizes)
}
