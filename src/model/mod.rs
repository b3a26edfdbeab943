//! stub
use crate::graph::*;
use ndarray::*;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ModelError;
pub struct ModelLayer<T> {
    pub w: Array2<T>,
    pub b: Array1<T>,
}
pub struct Provenance {
    pub dataset: String,
    pub checksum: String,
    pub split: String,
    pub seed: u64,
    pub iteration: u64,
    pub val_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub version: String,
}
pub struct Model<T> {
    l: Vec<ModelLayer<T>>,
}
impl<T> Model<T> {
    pub fn new(
        _o: Operators,
        _f: FeatureNorm,
        _d: usize,
        _c: usize,
        l: Vec<ModelLayer<T>>,
        _p: Provenance,
    ) -> Result<Self, ModelError> {
        Ok(Self { l })
    }
    pub fn save(&self, _p: &std::path::Path, _o: bool) -> Result<(), ModelError> {
        let _ = self.l.len();
        Ok(())
    }
}
