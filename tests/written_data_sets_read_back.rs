//! Does a data set read back exactly as it was written, whatever it holds?

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ndarray::Array2;
use pdadmm_g::dataset::{Dataset, Features, SparseMatrix, Split};
use proptest::prelude::*;

/// Tidy compressed rows from any set of positions.
fn rows(shape: (usize, usize), entries: BTreeMap<(usize, usize), f32>) -> SparseMatrix {
    let mut indptr = vec![0; shape.0 + 1];
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for ((row, column), value) in entries {
        indptr[row + 1] += 1;
        indices.push(column as u32);
        data.push(value);
    }
    for row in 0..shape.0 {
        indptr[row + 1] += indptr[row];
    }
    SparseMatrix::new(shape, indptr, indices, data)
}

fn matrix(rows_: usize, columns: usize) -> impl Strategy<Value = SparseMatrix> {
    let value = prop_oneof![Just(1.0f32), -1e30f32..1e30, Just(f32::MIN_POSITIVE / 2.0)];
    proptest::collection::btree_map((0..rows_, 0..columns), value, 0..60)
        .prop_map(move |entries| rows((rows_, columns), entries))
}

fn data_set() -> impl Strategy<Value = Dataset> {
    (3usize..40, 1usize..9, 1usize..5).prop_flat_map(|(n, d, c)| {
        let adjacency =
            proptest::collection::btree_map((0..n, 0..n), 0.1f32..9.0, 0..90).prop_map(move |mut e| {
                e.retain(|(row, column), _| row != column);
                rows((n, n), e)
            });
        let features = prop_oneof![
            matrix(n, d).prop_map(Features::Sparse),
            proptest::collection::vec(-9f32..9.0, n * d)
                .prop_map(move |v| Features::Dense(Array2::from_shape_vec((n, d), v).unwrap())),
        ];
        let labels = proptest::collection::vec(-1i64..c as i64, n);
        let order = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
        let seeds = proptest::collection::btree_map("[a-z_0-9é ]{1,12}", any::<Option<u64>>(), 1..4);
        ("[A-Za-zß0-9-]{1,20}", adjacency, features, labels, order, seeds).prop_map(
            move |(name, adjacency, features, mut labels, order, seeds)| {
                labels[order[0]] = 0;
                let split = |seed| Split {
                    train: order[..1].to_vec(),
                    val: order[1..2].to_vec(),
                    test: order[2..].to_vec(),
                    seed,
                };
                let splits = seeds.into_iter().map(|(name, seed)| (name, split(seed))).collect();
                Dataset { name, num_classes: c, adjacency, features, labels, splits }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn written_data_sets_read_back(data in data_set()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.h5");
        data.write(&path, false).unwrap();
        prop_assert_eq!(Dataset::read(&path).unwrap(), data);
    }
}

/// Large enough for compression in several chunks.
#[test]
fn compressed_data_sets_read_back() {
    use pdadmm_g::dataset::generate::{GenerateSettings, generate};
    let mut data = generate(&GenerateSettings::new(60_000, 4, 3)).unwrap();
    if let Features::Dense(h) = &data.features {
        data.features = Features::Sparse(SparseMatrix::csr_from_dense(h.view(), 1.0).map(|&x| x));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.h5");
    data.write(&path, false).unwrap();
    assert_eq!(Dataset::read(&path).unwrap(), data);
    let entries = data.adjacency.nnz() as u64;
    assert!(path.metadata().unwrap().len() < entries * 8, "indices are not compressed");
}
