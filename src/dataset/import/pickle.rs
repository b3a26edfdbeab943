//! A small reader of Python pickles that executes nothing.
//!
//! A pickle is a program for a stack machine that may call any Python function. This reader knows
//! the instructions of protocols 0 to 4 that data needs, and a fixed list of names that it turns
//! into plain values: NumPy arrays and types, SciPy matrices, `defaultdict`. Any other name or
//! instruction ends the reading. Objects live in one arena and refer to each other by number, so
//! that neither nesting nor cycles can exhaust the call stack; each instruction makes at most one
//! object, so that memory stays within a fixed multiple of the input's length.
//!
//! Instructions: Python's `pickletools` module.

use std::borrow::Cow;

use super::DOWNLOAD_AGAIN;
use super::pickle_machine::Machine;
use crate::storage::Fault;

/// A value on the stack: small ones in place, others by their number in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item {
    /// `None`
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// An object of the arena.
    Object(usize),
}

/// An object of the arena.
#[derive(Debug, Clone, PartialEq)]
pub enum Object<'a> {
    /// Bytes or text.
    Bytes(Cow<'a, [u8]>),
    /// A tuple.
    Tuple(Vec<Item>),
    /// A list.
    List(Vec<Item>),
    /// A dictionary, in the order in which it was filled.
    Dict(Vec<(Item, Item)>),
    /// One of the known names.
    Name(Name),
    /// A NumPy type: the constructor's first argument, then its state.
    Dtype(Item, Option<Item>),
    /// A NumPy array and its state (version, shape, type, Fortran order, bytes).
    Array(Option<Item>),
    /// A SciPy matrix in compressed rows and its attributes.
    CsrMatrix(Option<Item>),
}

/// A name that may be used, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `numpy.core.multiarray._reconstruct`
    Reconstruct,
    /// `numpy.ndarray`
    NdArray,
    /// `numpy.dtype`
    Dtype,
    /// `scipy.sparse.csr_matrix`, wherever SciPy kept it.
    CsrMatrix,
    /// `collections.defaultdict`
    DefaultDict,
    /// `list`, as the factory of a `defaultdict`.
    List,
    /// `object`, as the base of a class.
    ObjectBase,
    /// `copy_reg._reconstructor`
    Reconstructor,
    /// `_codecs.encode`, by which Python 3 writes bytes in protocol 2.
    Encode,
}

pub(super) fn known(module: &[u8], name: &[u8]) -> Option<Name> {
    Some(match (module, name) {
        (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Name::Reconstruct,
        (b"numpy", b"ndarray") => Name::NdArray,
        (b"numpy", b"dtype") => Name::Dtype,
        (b"scipy.sparse.csr" | b"scipy.sparse._csr" | b"scipy.sparse", b"csr_matrix") => Name::CsrMatrix,
        (b"collections", b"defaultdict") => Name::DefaultDict,
        (b"__builtin__" | b"builtins", b"list") => Name::List,
        (b"__builtin__" | b"builtins", b"object") => Name::ObjectBase,
        (b"copy_reg" | b"copyreg", b"_reconstructor") => Name::Reconstructor,
        (b"_codecs", b"encode") => Name::Encode,
        _ => return None,
    })
}

/// A pickle that has been read.
#[derive(Debug)]
pub struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    root: Item,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle. Bytes after its end are ignored.
    ///
    /// # Errors
    /// An end that comes too early, or an instruction or a name that is not known; the place is the
    /// offset of the instruction.
    pub fn parse(input: &'a [u8]) -> Result<Pickle<'a>, Fault> {
        let mut machine = Machine::new(input);
        loop {
            let start = machine.position();
            let step = machine.step().map_err(|(expected, found)| {
                Fault::new(format!("byte {start}"), expected, found).advise(DOWNLOAD_AGAIN)
            })?;
            if let Some(root) = step {
                return Ok(Pickle { objects: machine.into_objects(), root });
            }
        }
    }

    /// The value that was pickled.
    pub fn root(&self) -> Item {
        self.root
    }

    /// The object that an item refers to, if it does.
    pub fn object(&self, item: Item) -> Option<&Object<'a>> {
        match item {
            Item::Object(number) => self.objects.get(number),
            _ => None,
        }
    }
}
