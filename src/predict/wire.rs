//! What travels between rank 0 and the others: layers, blocks of z_1 and their outcomes, as little-endian bytes.

use ndarray::{Array1, Array2};

use crate::linalg::Real;
use crate::linalg::elements::{flat, flat_mut};
use crate::model::ModelLayer;
use crate::model::forward::{Overflow, Prediction};
use crate::quantize::Wire;

/// What every rank has to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan<T> {
    /// N.
    pub(super) nodes: usize,
    /// n_1.
    pub(super) width: usize,
    /// Layers 2 to L.
    pub(super) hidden: Vec<ModelLayer<T>>,
}

/// Takes numbers from the front of a message.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn size(&mut self) -> Option<usize> {
        let (size, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*size)).ok()
    }

    fn numbers<T: Real>(&mut self, rows: usize, columns: usize) -> Option<Array2<T>> {
        let length = rows.checked_mul(columns)?.checked_mul(T::SIZE)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let mut numbers = Array2::zeros((rows, columns));
        Wire::native::<T>().read(bytes, flat_mut(&mut numbers));
        Some(numbers)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

fn push_size(bytes: &mut Vec<u8>, size: usize) {
    bytes.extend_from_slice(&(size as u64).to_le_bytes());
}

fn push_numbers<T: Real>(bytes: &mut Vec<u8>, numbers: &[T]) {
    let start = bytes.len();
    bytes.resize(start + numbers.len() * T::SIZE, 0);
    if let Some(place) = bytes.get_mut(start..) {
        Wire::native::<T>().write(numbers, place);
    }
}

impl<T: Real> Plan<T> {
    pub(super) fn encode(nodes: usize, width: usize, hidden: &[ModelLayer<T>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        [nodes, width, hidden.len()].into_iter().for_each(|size| push_size(&mut bytes, size));
        for layer in hidden {
            push_size(&mut bytes, layer.b.len());
            push_numbers(&mut bytes, flat(&layer.w.as_standard_layout().to_owned()));
            push_numbers(&mut bytes, &layer.b.to_vec());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (nodes, width, count) = (reader.size()?, reader.size()?, reader.size()?);
        let mut hidden = Vec::new();
        let mut below = width;
        for _ in 0..count {
            let n = reader.size()?;
            let w = reader.numbers(n, below)?;
            let b = Array1::from_iter(reader.numbers(1, n)?);
            hidden.push(ModelLayer { w, b });
            below = n;
        }
        reader.end().map(|()| Plan { nodes, width, hidden })
    }
}

/// The rows of a block.
pub(super) fn encode_block<T: Real>(rows: &[T]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_numbers(&mut bytes, rows);
    bytes
}

/// The rows of a block of this shape.
pub(super) fn decode_block<T: Real>(bytes: &[u8], shape: (usize, usize)) -> Option<Array2<T>> {
    let mut reader = Reader(bytes);
    let rows = reader.numbers(shape.0, shape.1)?;
    reader.end().map(|()| rows)
}

/// What became of a block: layer (0 if all is well) and row of an overflow, then classes and probabilities.
pub(super) type Outcome<T> = Result<Prediction<T>, Overflow>;

/// Bytes of an outcome of this many rows and classes.
pub(super) fn outcome_len<T: Real>(rows: usize, classes: usize) -> usize {
    16 + rows * (8 + classes * T::SIZE)
}

pub(super) fn encode_outcome<T: Real>(outcome: &Outcome<T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    match outcome {
        Err(overflow) => {
            [overflow.layer, overflow.row].into_iter().for_each(|size| push_size(&mut bytes, size));
        }
        Ok(prediction) => {
            [0, 0].iter().chain(&prediction.classes).for_each(|&size| push_size(&mut bytes, size));
            push_numbers(&mut bytes, flat(&prediction.probabilities));
        }
    }
    bytes
}

pub(super) fn decode_outcome<T: Real>(bytes: &[u8], shape: (usize, usize)) -> Option<Outcome<T>> {
    let mut reader = Reader(bytes);
    let (layer, row) = (reader.size()?, reader.size()?);
    if layer > 0 {
        return reader.end().map(|()| Err(Overflow { layer, row }));
    }
    let classes = (0..shape.0).map(|_| reader.size()).collect::<Option<Vec<_>>>()?;
    let probabilities = reader.numbers(shape.0, shape.1)?;
    reader.end().map(|()| Ok(Prediction { classes, probabilities }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::array;

    #[test]
    fn what_is_sent_arrives_and_half_messages_are_unreadable() {
        let hidden = vec![
            ModelLayer { w: array![[1.5f64, 2.5], [3.5, -0.0], [1e-300, 7.0]], b: array![1.0, 2.0, 3.0] },
            ModelLayer { w: array![[1.0, 2.0, 3.0]], b: array![9.0] },
        ];
        let bytes = Plan::encode(10, 2, &hidden);
        assert_eq!(Plan::decode(&bytes), Some(Plan { nodes: 10, width: 2, hidden }));
        let prediction =
            Prediction { classes: vec![1, 0], probabilities: array![[0.25f64, 0.75], [1.0, 0.0]] };
        for outcome in [Ok(prediction), Err(Overflow { layer: 3, row: 1 })] {
            let bytes = encode_outcome(&outcome);
            assert!(bytes.len() <= outcome_len::<f64>(2, 2));
            assert_eq!(decode_outcome(&bytes, (2, 2)), Some(outcome));
            assert_eq!(decode_outcome::<f64>(&bytes[..bytes.len() - 1], (2, 2)), None);
        }
        for length in 0..bytes.len() {
            assert_eq!(Plan::<f64>::decode(&bytes[..length]), None);
        }
    }
}
