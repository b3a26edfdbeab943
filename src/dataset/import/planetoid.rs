//! The raw Planetoid files (Yang et al. 2016): `ind.<name>.{x,y,tx,ty,allx,ally,graph,test.index}`,
//! pickles of SciPy and NumPy objects written by Python 2.

use std::collections::BTreeMap;
use std::path::Path;

use super::edges::{LooseRows, tidy, undirected};
use super::npy::{Element, NumpyArray};
use super::pickle::{Item, Object, Pickle};
use super::{DOWNLOAD_AGAIN, begin_reading, read_bytes};
use crate::dataset::error::DatasetError;
use crate::dataset::{Dataset, Features, Split, check};
use crate::progress::Steps;
use crate::storage::{Fault, filled, reserve};

/// The files of a data set, by the ends of their names.
const PARTS: [&str; 8] = ["x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"];
/// Number of validation nodes that follow the training nodes.
const VALIDATION_NODES: usize = 500;

/// Imports the files `ind.<name>.*` of a folder, with their split as `public`.
///
/// Nodes are the rows of `allx`, then those of `tx` at the places that `test.index` gives. Where it
/// has gaps (isolated nodes) the missing nodes get no features, label 0 and no split. Train is the
/// first rows, as many as `y` has; val the next 500 (fewer if `allx` ends before); test what
/// `test.index` lists. Edges are symmetrised, duplicates and self loops dropped.
///
/// # Errors
/// A file that is missing, cut off, or does not fit the others.
pub fn import(folder: &Path, name: &str, steps: &Steps) -> Result<Dataset, DatasetError> {
    check::name("--name", name).map_err(|fault| fault.in_file(folder))?;
    let path = |part: &str| folder.join(format!("ind.{name}.{part}"));
    begin_reading(steps, PARTS.map(path));
    let bytes = |part: &str| read_bytes(&path(part), steps);
    let matrix = |part: &str| {
        let bytes = bytes(part)?;
        csr_matrix(&bytes).map_err(|fault| fault.in_file(&path(part)))
    };
    let one_hot = |part: &str| {
        let bytes = bytes(part)?;
        one_hot(&bytes).map_err(|fault| fault.in_file(&path(part)))
    };
    let (x, allx, tx) = (matrix("x")?, matrix("allx")?, matrix("tx")?);
    let (y, ally, ty) = (one_hot("y")?, one_hot("ally")?, one_hot("ty")?);
    let index_path = path("test.index");
    let order = test_index(&bytes("test.index")?, allx.shape.0, tx.shape.0)
        .map_err(|fault| fault.in_file(&index_path))?;
    agree(&x, &allx, &tx, &y, &ally, &ty).map_err(|fault| fault.in_file(&path("*")))?;
    let nodes = order.iter().copied().max().map_or(allx.shape.0, |last| last + 1);
    let classes = i64::try_from(y.classes).unwrap_or(i64::MAX);
    let classes = check::sizes(nodes, allx.shape.1, classes).map_err(|fault| fault.in_file(&path("*")))?;
    let pairs = neighbour_lists(&bytes("graph")?, nodes).map_err(|fault| fault.in_file(&path("graph")))?;

    let assemble = || -> Result<Dataset, Fault> {
        let mut labels = filled("labels", nodes, 0i64)?;
        for (label, &class) in labels.iter_mut().zip(&ally.labels) {
            *label = class;
        }
        for (&node, &class) in order.iter().zip(&ty.labels) {
            if let Some(label) = labels.get_mut(node) {
                *label = class;
            }
        }
        let train = y.labels.len();
        let val = VALIDATION_NODES.min(allx.shape.0.saturating_sub(train));
        let mut test = order.clone();
        test.sort_unstable();
        let split =
            Split { train: (0..train).collect(), val: (train..train + val).collect(), test, seed: None };
        let data = Dataset {
            name: name.to_string(),
            num_classes: classes,
            adjacency: undirected("graph", nodes, pairs)?,
            features: Features::Sparse(stack(&allx, &tx, &order, nodes)?),
            labels,
            splits: BTreeMap::from([("public".to_string(), split)]),
        };
        data.check()?;
        Ok(data)
    };
    Ok(assemble().map_err(|fault| fault.in_file(&path("*")))?)
}

/// Classes of some nodes, from rows with a single 1.
#[derive(Debug)]
struct OneHot {
    labels: Vec<i64>,
    classes: usize,
}

/// Row and column counts of the eight files belong together.
fn agree(
    x: &LooseRows,
    allx: &LooseRows,
    tx: &LooseRows,
    y: &OneHot,
    ally: &OneHot,
    ty: &OneHot,
) -> Result<(), Fault> {
    let same = |place: &str, expected: usize, found: usize| {
        if expected == found {
            return Ok(());
        }
        Err(Fault::new(place, expected.to_string(), found.to_string())
            .advise("use files of one download; these do not belong together"))
    };
    same("columns of tx, against allx", allx.shape.1, tx.shape.1)?;
    same("columns of x, against allx", allx.shape.1, x.shape.1)?;
    same("rows of y, against x", x.shape.0, y.labels.len())?;
    same("rows of ally, against allx", allx.shape.0, ally.labels.len())?;
    same("rows of ty, against tx", tx.shape.0, ty.labels.len())?;
    same("columns of ally, against y", y.classes, ally.classes)?;
    same("columns of ty, against y", y.classes, ty.classes)?;
    if y.labels.len() > allx.shape.0 {
        return same("rows of y, at most those of allx", allx.shape.0, y.labels.len());
    }
    Ok(())
}

/// The rows of `allx`, then those of `tx` at their nodes; explicit zeros are dropped.
fn stack(
    allx: &LooseRows,
    tx: &LooseRows,
    order: &[usize],
    nodes: usize,
) -> Result<crate::dataset::SparseMatrix, Fault> {
    let mut source: Vec<Option<usize>> = filled("features", nodes, None)?;
    for (row, &node) in order.iter().enumerate() {
        if let Some(slot) = source.get_mut(node) {
            *slot = Some(row);
        }
    }
    let mut starts = reserve("features", nodes + 1)?;
    let mut entries = reserve("features", allx.indices.len() + tx.indices.len())?;
    starts.push(0);
    for (node, row) in source.into_iter().enumerate() {
        let not_zero = |&(_, value): &(u32, f32)| value != 0.0;
        match row {
            Some(row) => entries.extend(tx.row(row).filter(not_zero)),
            None => entries.extend(allx.row(node).filter(not_zero)),
        }
        starts.push(entries.len());
    }
    tidy("features", (nodes, allx.shape.1), &starts, entries, |a, b| a + b)
}

/// Reads `test.index`: a node number a line, distinct and not below the rows of `allx`.
fn test_index(text: &[u8], first: usize, rows: usize) -> Result<Vec<usize>, Fault> {
    let text = String::from_utf8_lossy(text);
    let mut order: Vec<usize> = Vec::new();
    for (line, word) in text.split_whitespace().enumerate() {
        let node = word.parse().ok().filter(|node| (first..check::MAX_NODES).contains(node));
        order.push(node.ok_or_else(|| {
            let shown: String = word.chars().take(40).collect();
            Fault::new(
                format!("line {}", line + 1),
                format!("a node number of at least {first}, the rows of allx"),
                format!("{shown:?}"),
            )
            .advise(DOWNLOAD_AGAIN)
        })?);
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != order.len() || order.len() != rows {
        return Err(Fault::new(
            "the whole file",
            format!("{rows} distinct node numbers, one for each row of tx"),
            format!("{} numbers, {} of them distinct", order.len(), sorted.len()),
        )
        .advise(DOWNLOAD_AGAIN));
    }
    // Gaps are isolated nodes. There are a handful in the real files; a hostile number would make
    // any number of them.
    let span = sorted.last().map_or(0, |last| last + 1 - first);
    if span > rows.saturating_mul(10).saturating_add(1000) {
        return Err(Fault::new(
            "the whole file",
            "node numbers without huge gaps",
            format!("{rows} numbers over {span} nodes"),
        )
        .advise(DOWNLOAD_AGAIN));
    }
    Ok(order)
}

/// Reads a pickled SciPy matrix in compressed rows.
pub(crate) fn csr_matrix(bytes: &[u8]) -> Result<LooseRows, Fault> {
    let pickle = Pickle::parse(bytes)?;
    let missing =
        |what: &str| Fault::new("the pickled object", what, "something else").advise(DOWNLOAD_AGAIN);
    let Some(Object::CsrMatrix(Some(state))) = pickle.object(pickle.root()) else {
        return Err(missing("a scipy csr_matrix"));
    };
    let Some(Object::Dict(attributes)) = pickle.object(*state) else {
        return Err(missing("a scipy csr_matrix with attributes"));
    };
    let attribute = |name: &str| {
        let named = attributes.iter().rev().find(|&&(key, _)| match pickle.object(key) {
            Some(Object::Bytes(key)) => key.as_ref() == name.as_bytes(),
            _ => false,
        });
        named.map(|&(_, value)| value).ok_or_else(|| missing(&format!("a csr_matrix with {name}")))
    };
    let part = |name: &str| array(&pickle, attribute(name)?, name);
    let shape = match pickle.object(attribute("_shape")?) {
        Some(Object::Tuple(sizes)) => match sizes.as_slice() {
            &[Item::Int(rows), Item::Int(columns)] => {
                usize::try_from(rows).ok().zip(usize::try_from(columns).ok())
            }
            _ => None,
        },
        _ => None,
    };
    let shape = shape
        .filter(|&(rows, columns)| rows <= check::MAX_NODES && columns <= check::MAX_NODES)
        .ok_or_else(|| missing("a csr_matrix with a shape of two sizes"))?;
    LooseRows {
        shape,
        indptr: part("indptr")?.integers("indptr")?,
        indices: part("indices")?.integers("indices")?,
        data: part("data")?.floats("data")?,
    }
    .check("the pickled matrix")
}

/// Reads a pickled NumPy array with a class a column; the class is the column of the largest entry.
fn one_hot(bytes: &[u8]) -> Result<OneHot, Fault> {
    let pickle = Pickle::parse(bytes)?;
    let array = array(&pickle, pickle.root(), "the pickled object")?;
    let &[rows, classes] = array.shape.as_slice() else {
        return Err(Fault::new(
            "the pickled array",
            "a row a node and a column a class",
            format!("shape {:?}", array.shape),
        )
        .advise(DOWNLOAD_AGAIN));
    };
    let values = array.floats("the pickled array")?;
    let mut labels = reserve("the pickled array", rows)?;
    for row in values.chunks_exact(classes.max(1)) {
        let mut best = (0, f32::NEG_INFINITY);
        for (class, &value) in (0i64..).zip(row) {
            if value > best.1 {
                best = (class, value);
            }
        }
        labels.push(best.0);
    }
    Ok(OneHot { labels, classes })
}

/// Reads the pickled dictionary from a node to the list of its neighbours.
fn neighbour_lists(bytes: &[u8], nodes: usize) -> Result<Vec<(u32, u32)>, Fault> {
    let pickle = Pickle::parse(bytes)?;
    let Some(Object::Dict(lists)) = pickle.object(pickle.root()) else {
        return Err(Fault::new("the pickled object", "a dictionary of lists", "something else")
            .advise(DOWNLOAD_AGAIN));
    };
    let node = |item: Item| match item {
        Item::Int(node) => u32::try_from(node).ok().filter(|&node| (node as usize) < nodes),
        _ => None,
    };
    let wrong = |place: String, found: String| {
        Fault::new(place, format!("node numbers in 0..{nodes}"), found).advise(DOWNLOAD_AGAIN)
    };
    // The same list may stand under many keys of a hostile file.
    let limit = bytes.len();
    let mut pairs = Vec::new();
    for &(key, list) in lists {
        let from = node(key).ok_or_else(|| wrong("a key of the dictionary".into(), format!("{key:?}")))?;
        let Some(Object::List(neighbours)) = pickle.object(list) else {
            return Err(wrong(format!("neighbours of node {from}"), "something else".into()));
        };
        if pairs.len().saturating_add(neighbours.len()) > limit {
            return Err(wrong("the dictionary".into(), "the same lists again and again".into()));
        }
        for &neighbour in neighbours {
            let to = node(neighbour)
                .ok_or_else(|| wrong(format!("neighbours of node {from}"), format!("{neighbour:?}")))?;
            pairs.push((from, to));
        }
    }
    Ok(pairs)
}

/// Puts a NumPy array together from its pickled state.
fn array<'p>(pickle: &'p Pickle<'_>, item: Item, place: &str) -> Result<NumpyArray<'p>, Fault> {
    let wrong = |what: &str| Fault::new(place, what, "something else").advise(DOWNLOAD_AGAIN);
    let tuple = |item: Item| match pickle.object(item) {
        Some(Object::Tuple(items)) => Some(items.as_slice()),
        _ => None,
    };
    let state = match pickle.object(item) {
        Some(Object::Array(Some(state))) => tuple(*state),
        _ => None,
    };
    let Some(&[_version, shape, dtype, Item::Bool(fortran_order), data]) = state else {
        return Err(wrong("a NumPy array"));
    };
    let sizes = tuple(shape).ok_or_else(|| wrong("an array with a shape"))?;
    let mut shape = Vec::new();
    for size in sizes.iter().take(3) {
        match *size {
            Item::Int(size) if size >= 0 => shape.push(usize::try_from(size).unwrap_or(usize::MAX)),
            _ => return Err(wrong("an array with a shape")),
        }
    }
    if sizes.len() > 2 {
        return Err(wrong("an array of one or two dimensions"));
    }
    let Some(&Object::Dtype(code, state)) = pickle.object(dtype) else {
        return Err(wrong("an array with a type"));
    };
    let element = match pickle.object(code) {
        Some(Object::Bytes(code)) => Element::from_code(code),
        _ => None,
    };
    let element =
        element.ok_or_else(|| wrong("an array of integers, truth values or floats of 4 or 8 bytes"))?;
    let order = state.and_then(tuple).and_then(|state| state.get(1).copied());
    let big_endian = match order.and_then(|order| pickle.object(order)) {
        Some(Object::Bytes(order)) => order.as_ref() == b">",
        _ => false,
    };
    match pickle.object(data) {
        Some(Object::Bytes(bytes)) => NumpyArray::new(
            place,
            element,
            big_endian,
            fortran_order,
            shape,
            std::borrow::Cow::Borrowed(bytes.as_ref()),
        ),
        _ => Err(wrong("an array with bytes")),
    }
}

/// Reads `test.index` and forgets the result: for tests that feed damaged files.
#[doc(hidden)]
pub fn read_test_index(text: &[u8], first: usize, rows: usize) -> Result<(), Fault> {
    test_index(text, first, rows).map(drop)
}

/// Reads one pickle in each of the ways this format needs, and forgets the result: for tests that
/// feed damaged files.
#[doc(hidden)]
pub fn read_any(bytes: &[u8]) -> [Result<(), Fault>; 3] {
    [csr_matrix(bytes).map(drop), one_hot(bytes).map(drop), neighbour_lists(bytes, 1000).map(drop)]
}
