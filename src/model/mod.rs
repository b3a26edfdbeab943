//! A trained GA-MLP: its layers, the operators that make its input, and where it comes from.
//!
//! z_1 = W_1 X + b_1 with X = [H ψ_1(A); …; H ψ_K(A)], z_l = W_l f(z_{l−1}) + b_l, f = ReLU; the classes are read off
//! z_L. Matrices over nodes are held a node a row, so that the code says z = p Wᵀ + b.

mod error;
pub(crate) mod file;
pub mod forward;

use ndarray::{Array1, Array2};

use crate::dataset::check::{MAX_CLASSES, MAX_FEATURES};
use crate::graph::{FeatureNorm, Operators};
use crate::linalg::Real;
use crate::storage::Fault;
use crate::storage::hdf5_source::MAX_TEXT;

pub use error::ModelError;
pub use file::ModelFile;

/// Most layers of a model file.
pub const MAX_LAYERS: usize = 10_000;
/// Most neurons of a layer.
pub const MAX_NEURONS: usize = 1 << 24;

/// Weights and intercepts of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelLayer<T> {
    /// W_l, n_l × n_{l−1}.
    pub w: Array2<T>,
    /// b_l, n_l.
    pub b: Array1<T>,
}

/// How a model came about; nothing in it changes a prediction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Provenance {
    /// Name of the data set that it was trained on.
    pub dataset: String,
    /// Checksum of that file, as [`crate::dataset::checksum`] gives it.
    pub checksum: String,
    /// Name of the split.
    pub split: String,
    /// Seed of everything random.
    pub seed: u64,
    /// The iteration after which the weights were taken, counted from 1 over all stages; 0 is the start.
    pub iteration: u64,
    /// Share of validation nodes that were right at that iteration, if evaluated.
    pub val_accuracy: Option<f64>,
    /// Share of test nodes that were right at that iteration, if evaluated.
    pub test_accuracy: Option<f64>,
    /// Version of the program.
    pub version: String,
}

/// A model whose shapes fit together and whose numbers are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Model<T> {
    operators: Operators,
    feature_norm: FeatureNorm,
    features: usize,
    num_classes: usize,
    layers: Vec<ModelLayer<T>>,
    provenance: Provenance,
}

impl<T: Real> Model<T> {
    /// A model of layers 1 to L for data with d = `features` features a node and C = `num_classes` classes.
    ///
    /// # Errors
    /// No layer or too many; shapes that do not chain from n_0 = K d to n_L = C; a number that is not finite; texts
    /// that a file cannot hold; operators that their names do not give back.
    pub fn new(
        operators: Operators,
        feature_norm: FeatureNorm,
        features: usize,
        num_classes: usize,
        layers: Vec<ModelLayer<T>>,
        provenance: Provenance,
    ) -> Result<Self, ModelError> {
        let shapes: Vec<_> = layers.iter().map(|layer| (layer.w.dim(), layer.b.len())).collect();
        check_shapes(&operators, features, num_classes, &shapes)?;
        for (l, layer) in (1..).zip(&layers) {
            check_finite(l, layer)?;
        }
        check_provenance(&provenance)?;
        check_operators(&operators)?;
        Ok(Self { operators, feature_norm, features, num_classes, layers, provenance })
    }

    /// Ψ.
    pub fn operators(&self) -> &Operators {
        &self.operators
    }

    /// How raw features are scaled before the operators are applied.
    pub fn feature_norm(&self) -> FeatureNorm {
        self.feature_norm
    }

    /// d.
    pub fn features(&self) -> usize {
        self.features
    }

    /// C.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Layers 1 to L.
    pub fn layers(&self) -> &[ModelLayer<T>] {
        &self.layers
    }

    /// Where it comes from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Layer 1 and layers 2 to L.
    fn first_and_hidden(&self) -> (&ModelLayer<T>, &[ModelLayer<T>]) {
        match self.layers.split_first() {
            Some(parts) => parts,
            None => unreachable!("a model has at least one layer"),
        }
    }

    /// Layers 2 to L, which need nothing of the graph.
    pub fn hidden(&self) -> &[ModelLayer<T>] {
        self.first_and_hidden().1
    }

    /// The model fits data with d = `features` and C = `num_classes`.
    ///
    /// # Errors
    /// [`ModelError::DoesNotFit`], which says both numbers.
    pub fn check_fits(&self, features: usize, num_classes: usize) -> Result<(), ModelError> {
        for (what, model, data) in
            [("features", self.features, features), ("classes", self.num_classes, num_classes)]
        {
            if model != data {
                return Err(ModelError::DoesNotFit { what, model, data });
            }
        }
        Ok(())
    }
}

/// ((rows, columns) of W, length of b) of each layer: they chain from n_0 = K d to n_L = C.
fn check_shapes(
    operators: &Operators,
    features: usize,
    num_classes: usize,
    shapes: &[((usize, usize), usize)],
) -> Result<(), Fault> {
    let within = |place: &str, found: usize, limit: usize| match found {
        found if (1..=limit).contains(&found) => Ok(()),
        _ => Err(Fault::new(place, format!("1 to {limit}"), format!("{found}"))),
    };
    within("number of features", features, MAX_FEATURES)?;
    within("number of classes", num_classes, MAX_CLASSES)?;
    within("number of layers", shapes.len(), MAX_LAYERS)?;
    // At most 64 operators and 2^24 features: no overflow.
    let mut below = operators.count() * features;
    let mut reason = format!("{} operators × {features} features", operators.count());
    for (l, &((rows, columns), length)) in (1..).zip(shapes) {
        within(&format!("rows of /layers/{l}/W"), rows, MAX_NEURONS)?;
        if columns != below {
            return Err(Fault::new(
                format!("/layers/{l}/W"),
                format!("{below} columns ({reason})"),
                format!("{columns}"),
            ));
        }
        if length != rows {
            return Err(Fault::new(
                format!("/layers/{l}/b"),
                format!("{rows} entries, one for each row of W"),
                format!("{length}"),
            ));
        }
        (below, reason) = (rows, format!("the rows of W of layer {l}"));
    }
    if below != num_classes {
        return Err(Fault::new(
            format!("/layers/{}/W", shapes.len()),
            format!("{num_classes} rows, one for each class"),
            format!("{below}"),
        ));
    }
    Ok(())
}

fn check_finite<T: Real>(l: usize, layer: &ModelLayer<T>) -> Result<(), Fault> {
    let broken = |entry: String, value: T| {
        Fault::new(format!("/layers/{l}/{entry}"), "a finite number", format!("{value}"))
            .advise("train again, with smaller penalties or with --precision f64")
    };
    if let Some(((i, j), &w)) = layer.w.indexed_iter().find(|(_, w)| !w.is_finite()) {
        return Err(broken(format!("W[{i}, {j}]"), w));
    }
    match layer.b.indexed_iter().find(|(_, b)| !b.is_finite()) {
        Some((i, &b)) => Err(broken(format!("b[{i}]"), b)),
        None => Ok(()),
    }
}

fn check_provenance(provenance: &Provenance) -> Result<(), Fault> {
    let Provenance { dataset, checksum, split, version, .. } = provenance;
    for (name, text) in
        [("dataset", dataset), ("dataset_checksum", checksum), ("split", split), ("program_version", version)]
    {
        if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(Fault::new(
                format!("attribute {name} of /"),
                format!("at most {MAX_TEXT} bytes of text without control characters"),
                format!("{:?}", text.chars().take(MAX_TEXT).collect::<String>()),
            ));
        }
    }
    for (name, share) in
        [("val_accuracy", provenance.val_accuracy), ("test_accuracy", provenance.test_accuracy)]
    {
        if let Some(value) = share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Err(Fault::new(
                format!("attribute {name} of /"),
                "a share from 0 to 1",
                format!("{value}"),
            ));
        }
    }
    Ok(())
}

/// A file keeps the names of the operators: they must give the same operators back.
fn check_operators(operators: &Operators) -> Result<(), Fault> {
    let text = operators.to_string();
    match text.parse::<Operators>() {
        Ok(parsed) if parsed == *operators && text.len() <= MAX_TEXT => Ok(()),
        _ => Err(Fault::new(
            "attribute operators of /",
            format!("names that stand for their coefficients, in at most {MAX_TEXT} bytes"),
            format!("{:?}", text.chars().take(MAX_TEXT).collect::<String>()),
        )
        .advise("use operators such as 0,1,2,3 or ppr:0.1:10: a model file keeps the names")),
    }
}
