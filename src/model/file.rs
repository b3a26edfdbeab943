//! The model file, version 1 (docs/model-format.md): equal models give equal bytes.

use std::path::Path;

use clap::ValueEnum;
use hdf5::H5Type;
use ndarray::{Array1, Array2};

use super::{MAX_LAYERS, Model, ModelError, ModelLayer, Provenance, check_shapes};
use crate::graph::{FeatureNorm, Operators};
use crate::linalg::Real;
use crate::quantize::Element;
use crate::settings::Precision;
use crate::storage::hdf5_source::Hdf5Source;
use crate::storage::{Fault, StorageError, write_fixed_text, write_whole};

/// Value of the root attribute `format`.
pub(crate) const FORMAT: &str = "gamlp-model";
/// Value of the root attribute `format_version`.
pub(crate) const FORMAT_VERSION: i64 = 1;
/// How to come by a file that can be read here.
const ADVICE: &str = "give the model.h5 or model-last.h5 of a training run (`pdadmm-g train`)";
/// Coefficients are computed from the names; another machine's `exp` may differ in the last bits.
const COEFFICIENTS_AGREE: f64 = 1e-12;

/// A model file that is open for reading; all but the weights has been read and checked.
#[derive(Debug)]
pub struct ModelFile {
    source: Hdf5Source,
    precision: Precision,
    operators: Operators,
    feature_norm: FeatureNorm,
    features: usize,
    num_classes: usize,
    /// Rows and columns of each W.
    shapes: Vec<(usize, usize)>,
    provenance: Provenance,
}

impl ModelFile {
    /// Opens a file; reads and checks its header and the shapes of its layers.
    ///
    /// # Errors
    /// A file that cannot be read, is not HDF5, is not in this format, or has parts that are missing, wrongly typed
    /// or do not fit together.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::with_header(Hdf5Source::open(path.as_ref(), ADVICE)?.without_variable_length())
    }

    /// As [`ModelFile::open`], for a file that has been inspected ([`crate::inspection`]): its checksum is compared
    /// before the HDF5 library sees it. Without one to compare with, it is only taken.
    ///
    /// # Errors
    /// As [`ModelFile::open`], and [`StorageError::Changed`].
    pub fn open_inspected(path: impl AsRef<Path>, checksum: Option<&str>) -> Result<Self, ModelError> {
        let source = Hdf5Source::open_inspected(path.as_ref(), checksum, ADVICE)?;
        Self::with_header(source.without_variable_length())
    }

    fn with_header(source: Hdf5Source) -> Result<Self, ModelError> {
        source.check_format(FORMAT, FORMAT_VERSION, ADVICE)?;
        let precision = named(&source, "precision")?;
        let feature_norm = named(&source, "feature_norm")?;
        let operators = read_operators(&source)?;
        let features = size(&source, "features")?;
        let num_classes = size(&source, "num_classes")?;
        let provenance = read_provenance(&source)?;
        let shapes = read_shapes(&source)?;
        check_shapes(&operators, features, num_classes, &shapes).map_err(|fault| source.fault(fault))?;
        let shapes = shapes.into_iter().map(|(shape, _)| shape).collect();
        Ok(Self { source, precision, operators, feature_norm, features, num_classes, shapes, provenance })
    }

    /// CRC-32 and length of the file's content.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn checksum(&self) -> Result<String, ModelError> {
        Ok(self.source.checksum()?)
    }

    /// The type of the weights: which `T` to read.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// d.
    pub fn features(&self) -> usize {
        self.features
    }

    /// C.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Where the model comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The model, whose weights must be of type `T` in the file: none is rounded.
    ///
    /// # Errors
    /// Weights of another type, or not finite.
    pub fn read<T: Real>(&self) -> Result<Model<T>, ModelError> {
        let source = &self.source;
        let precision = named_precision(self.precision);
        if precision != T::NAME {
            return Err(source
                .fault(
                    Fault::new(
                        "attribute precision of /",
                        format!("{:?}", T::NAME),
                        format!("{precision:?}"),
                    )
                    .advise("read the weights in the precision of the file"),
                )
                .into());
        }
        let group = source.group(source.root(), "", "layers")?;
        let mut layers = Vec::new();
        for (l, &shape) in (1..).zip(&self.shapes) {
            let place = format!("/layers/{l}");
            let layer = source.group(&group, "/layers", &l.to_string())?;
            let w = source.data_set(&layer, &place, "W", 2)?.exact::<T>()?;
            let b = source.data_set(&layer, &place, "b", 1)?.exact::<T>()?;
            let w = Array2::from_shape_vec(shape, w).map_err(|error| {
                let expected = format!("shape {shape:?}");
                source.fault(Fault::new(format!("{place}/W"), expected, error.to_string()))
            })?;
            layers.push(ModelLayer { w, b: Array1::from(b) });
        }
        let model = Model::new(
            self.operators.clone(),
            self.feature_norm,
            self.features,
            self.num_classes,
            layers,
            self.provenance.clone(),
        );
        model.map_err(|error| match error {
            ModelError::Invalid(fault) => source.fault(fault).into(),
            other => other,
        })
    }
}

impl<T: Real> Model<T> {
    /// Reads a model whose weights are of type `T`; [`ModelFile::precision`] tells which they are.
    ///
    /// # Errors
    /// As [`ModelFile::open`] and [`ModelFile::read`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        ModelFile::open(path)?.read()
    }

    /// Writes the model to `path`: first to a temporary file in the same folder, which takes the name when it is
    /// complete and on disk. Equal models give equal bytes.
    ///
    /// # Errors
    /// An existing file unless `overwrite`, or a failing disk; an existing file is then as it was.
    pub fn save(&self, path: impl AsRef<Path>, overwrite: bool) -> Result<(), ModelError> {
        Ok(write_whole(path.as_ref(), overwrite, |temporary| self.write_hdf5(temporary))?)
    }

    fn write_hdf5(&self, path: &Path) -> hdf5::Result<()> {
        let file = hdf5::File::create(path)?;
        write_fixed_text(&file, "format", FORMAT)?;
        write_number(&file, "format_version", &FORMAT_VERSION)?;
        write_fixed_text(&file, "precision", T::NAME)?;
        write_fixed_text(&file, "operators", &self.operators.to_string())?;
        write_fixed_text(&file, "feature_norm", self.feature_norm.name())?;
        write_number(&file, "features", &signed(self.features as u64))?;
        write_number(&file, "num_classes", &signed(self.num_classes as u64))?;
        write_provenance(&file, &self.provenance)?;
        file.new_dataset_builder().with_data(&coefficients(&self.operators)).create("operators")?;
        let layers = file.create_group("layers")?;
        for (l, layer) in (1..).zip(&self.layers) {
            let group = layers.create_group(&format!("{l}"))?;
            group.new_dataset_builder().with_data(&layer.w.as_standard_layout()).create("W")?;
            group.new_dataset_builder().with_data(&layer.b.as_standard_layout()).create("b")?;
        }
        file.flush()?;
        file.close()
    }
}

/// Writes how a model came about, as attributes of `location`.
pub(crate) fn write_provenance(location: &hdf5::Location, provenance: &Provenance) -> hdf5::Result<()> {
    write_fixed_text(location, "dataset", &provenance.dataset)?;
    write_fixed_text(location, "dataset_checksum", &provenance.checksum)?;
    write_fixed_text(location, "split", &provenance.split)?;
    match i64::try_from(provenance.seed) {
        Ok(seed) => write_number(location, "seed", &seed)?,
        Err(_) => write_number(location, "seed", &provenance.seed)?,
    }
    write_number(location, "iteration", &signed(provenance.iteration))?;
    for (name, share) in
        [("val_accuracy", provenance.val_accuracy), ("test_accuracy", provenance.test_accuracy)]
    {
        if let Some(share) = share {
            write_number(location, name, &share)?;
        }
    }
    write_fixed_text(location, "program_version", &provenance.version)
}

/// An attribute that holds one number.
pub(crate) fn write_number<N: H5Type>(location: &hdf5::Location, name: &str, number: &N) -> hdf5::Result<()> {
    location.new_attr::<N>().create(name)?.write_scalar(number)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Row k holds the weights of Ã^0, Ã^1, … in ψ_k: K × (degree + 1).
fn coefficients(operators: &Operators) -> Array2<f64> {
    Array2::from_shape_fn((operators.count(), operators.degree() + 1), |(k, j)| {
        let weight = operators.list().get(k).and_then(|psi| psi.coefficients().get(j));
        weight.copied().unwrap_or(0.0)
    })
}

/// The name of the type of the weights.
fn named_precision(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => f32::NAME,
        Precision::F64 => f64::NAME,
    }
}

/// A text attribute of `/` that names one of a few choices.
fn named<V: ValueEnum>(source: &Hdf5Source, attribute: &str) -> Result<V, StorageError> {
    let found = source.text(source.root(), "/", attribute)?;
    V::from_str(&found, false).map_err(|_| {
        let names: Vec<String> = V::value_variants()
            .iter()
            .filter_map(|value| value.to_possible_value().map(|value| value.get_name().to_string()))
            .collect();
        source.fault(Fault::new(
            format!("attribute {attribute} of /"),
            format!("one of {}", names.join(", ")),
            format!("{found:?}"),
        ))
    })
}

/// A size among the attributes of `/`.
fn size(source: &Hdf5Source, name: &str) -> Result<usize, StorageError> {
    let found = source.integer(source.root(), "/", name)?;
    usize::try_from(found).map_err(|_| {
        let place = format!("attribute {name} of /");
        source.fault(Fault::new(place, "a size of at least 1", format!("{found}")))
    })
}

fn read_operators(source: &Hdf5Source) -> Result<Operators, StorageError> {
    let text = source.text(source.root(), "/", "operators")?;
    let operators: Operators = text.parse().map_err(|error| {
        source.fault(Fault::new("attribute operators of /", "operators", format!("{text:?} ({error})")))
    })?;
    let expected = coefficients(&operators);
    let data = source.data_set(source.root(), "", "operators", 2)?;
    let wrong = |place: String, expected: String, found: String| {
        Err(source.fault(Fault::new(place, expected, found)))
    };
    if data.shape != expected.shape() {
        return wrong(
            "/operators".into(),
            format!("shape {:?} for the operators '{operators}'", expected.shape()),
            format!("{:?}", data.shape),
        );
    }
    for (((k, j), expected), found) in expected.indexed_iter().zip(data.exact::<f64>()?) {
        if found.is_nan() || (found - expected).abs() > COEFFICIENTS_AGREE * expected.abs() {
            let rule = format!("{expected}, as the operators '{operators}' have it");
            return wrong(format!("/operators[{k}, {j}]"), rule, format!("{found}"));
        }
    }
    Ok(operators)
}

fn read_provenance(source: &Hdf5Source) -> Result<Provenance, StorageError> {
    let root = source.root();
    let text = |name: &str| source.text(root, "/", name);
    let number = |name: &str| {
        source.optional_unsigned(root, "/", name)?.ok_or_else(|| {
            let place = format!("attribute {name} of /");
            source.fault(Fault::new(place, "an attribute", "nothing of that name"))
        })
    };
    Ok(Provenance {
        dataset: text("dataset")?,
        checksum: text("dataset_checksum")?,
        split: text("split")?,
        seed: number("seed")?,
        iteration: number("iteration")?,
        val_accuracy: source.optional_float(root, "/", "val_accuracy")?,
        test_accuracy: source.optional_float(root, "/", "test_accuracy")?,
        version: text("program_version")?,
    })
}

/// ((rows, columns) of W, length of b) of the layers, which are numbered from 1 without gaps.
#[allow(clippy::type_complexity)]
fn read_shapes(source: &Hdf5Source) -> Result<Vec<((usize, usize), usize)>, StorageError> {
    let group = source.group(source.root(), "", "layers")?;
    let count = source.links(&group, "/layers")?.len();
    if !(1..=MAX_LAYERS).contains(&count) {
        let expected = format!("1 to {MAX_LAYERS} layers");
        return Err(source.fault(Fault::new("/layers", expected, format!("{count}"))));
    }
    let mut shapes = Vec::new();
    for l in 1..=count {
        let place = format!("/layers/{l}");
        let layer = source.group(&group, "/layers", &l.to_string())?;
        let w = source.data_set(&layer, &place, "W", 2)?;
        let b = source.data_set(&layer, &place, "b", 1)?;
        let (rows, columns) = match *w.shape.as_slice() {
            [rows, columns] => (rows, columns),
            // Two dimensions have just been checked.
            _ => (0, 0),
        };
        shapes.push(((rows, columns), b.len()));
    }
    Ok(shapes)
}
