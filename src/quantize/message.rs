//! The wire format of one block of one variable: a header of 64 bytes, then the numbers.
//!
//! | bytes | content (little-endian) |
//! |---|---|
//! | 0–3 | magic, `pdAG` |
//! | 4–5 | version, 1 |
//! | 6 | kind: 1 p, 2 q, 3 activations, 4 weights, 5 state |
//! | 7 | form: 1 raw f32, 2 raw f64, 3 packed indices |
//! | 8–11 | boundary: the layer below it (or the layer, for kinds that belong to one) |
//! | 12–15 | block of nodes |
//! | 16–23 | iteration |
//! | 24–27, 28–31 | rows, columns |
//! | 32–39, 40–47, 48–51 | lowest level, step (f64), number of levels; all zero unless packed |
//! | 52–59 | length of the payload in bytes |
//! | 60–63 | CRC-32 (IEEE) of bytes 0–59 and the payload |
//!
//! Decoding checks the length and the checksum first, so that a damaged message is called damaged; then every field
//! against what the receiver expects. It never panics and allocates nothing.

use super::element::Element;
use super::levels::LevelSet;
use super::pack::{pack, packed_len, unpack};

/// Bytes before the payload.
pub const HEADER_LEN: usize = 64;
const MAGIC: [u8; 4] = *b"pdAG";
const VERSION: u16 = 1;
const CHECKSUM_AT: usize = HEADER_LEN - 4;
/// Indices unpacked at a time; a multiple of 8, so that groups stay whole.
const BATCH: usize = 512;

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// p of the layer above a boundary.
    P = 1,
    /// q of the layer below a boundary.
    Q = 2,
    /// Activations of the forward pass of an evaluation.
    Activations = 3,
    /// Weights and intercepts.
    Weights = 4,
    /// Any variable on its way to another owner.
    State = 5,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::P => "p",
            Kind::Q => "q",
            Kind::Activations => "activations",
            Kind::Weights => "weights",
            Kind::State => "state",
        })
    }
}

/// How the numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// f32, little-endian.
    RawF32 = 1,
    /// f64, little-endian.
    RawF64 = 2,
    /// Indices into the level set of the header.
    Packed = 3,
}

/// What a message says of itself besides its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// The variable.
    pub kind: Kind,
    /// The boundary, by the layer below it; the layer itself for kinds that belong to one.
    pub boundary: u32,
    /// The block of nodes.
    pub block: u32,
    /// The iteration, over all stages.
    pub iteration: u64,
    /// Rows of the block (nodes).
    pub rows: u32,
    /// Columns of the block (neurons).
    pub cols: u32,
}

/// The header that a receiver expects. The element type is that of the slice decoded into.
pub type Expected = Header;

impl Header {
    /// Rows × columns; none if that is more than memory can hold.
    pub fn elements(&self) -> Option<usize> {
        usize::try_from(self.rows).ok()?.checked_mul(usize::try_from(self.cols).ok()?)
    }

    fn error(&self, problem: Problem) -> MessageError {
        MessageError { wanted: *self, problem }
    }
}

/// A message that cannot be used, or numbers that cannot be sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("message with {} of boundary {}, block {}, iteration {}: {problem}", wanted.kind, wanted.boundary,
    wanted.block, wanted.iteration)]
pub struct MessageError {
    /// The message that was to be sent or received.
    pub wanted: Header,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Fewer or more bytes than the message itself says.
    #[error("expected {expected} bytes, found {found}: it was cut short or run together with another")]
    Length {
        /// Bytes by the header, or by its own size.
        expected: u64,
        /// Bytes found.
        found: usize,
    },
    /// The first bytes are not those of a message.
    #[error("expected the mark \"pdAG\", found {0:02x?}: these bytes are no message")]
    Magic([u8; 4]),
    /// Another version of the format.
    #[error("expected format version {VERSION}, found {0}: all ranks must run the same program")]
    Version(u16),
    /// The checksum does not fit.
    #[error("expected checksum {computed:08x}, found {found:08x}: the message was damaged on the way")]
    Checksum {
        /// Of the bytes that came.
        computed: u32,
        /// In the header.
        found: u32,
    },
    /// A field differs from what is expected.
    #[error("expected {field} {expected}, found {found}")]
    Field {
        /// Which.
        field: &'static str,
        /// By the receiver's state.
        expected: u64,
        /// In the header.
        found: u64,
    },
    /// A form that is unknown, or of the other precision.
    #[error("expected {expected} numbers or packed indices, found form {found}")]
    Form {
        /// The receiver's element type.
        expected: &'static str,
        /// The code in the header.
        found: u8,
    },
    /// The slice to fill or to send does not have rows × columns numbers.
    #[error("a block of {rows} × {cols} does not fit {found} numbers")]
    Shape {
        /// Rows.
        rows: u32,
        /// Columns.
        cols: u32,
        /// Length of the slice.
        found: usize,
    },
    /// No valid level set.
    #[error("its level set is not valid: {0}")]
    Levels(#[from] super::levels::LevelError),
    /// An index beyond the levels.
    #[error("expected level indices below {count}, found {found}")]
    Index {
        /// Number of levels.
        count: u32,
        /// The index.
        found: u32,
    },
    /// Packed indices that do not unpack.
    #[error(transparent)]
    Packing(#[from] super::pack::PackError),
}

/// Bytes of a message of `elements` raw numbers; what a receiver allows at most.
pub fn raw_message_len<T: Element>(elements: usize) -> usize {
    elements.saturating_mul(T::SIZE).saturating_add(HEADER_LEN)
}

/// Bytes of a message of `elements` indices of `bits` bits.
pub fn packed_message_len(elements: usize, bits: u32) -> usize {
    packed_len(elements, bits).saturating_add(HEADER_LEN)
}

/// Writes numbers as they are into `message`, whose content is replaced and whose allocation is reused.
///
/// # Errors
/// [`Problem::Shape`] if `values` does not have rows × columns numbers.
pub fn encode_raw<T: Element>(
    header: &Header,
    values: &[T],
    message: &mut Vec<u8>,
) -> Result<(), MessageError> {
    check_shape(header, values.len())?;
    let form = if T::SIZE == 4 { Form::RawF32 } else { Form::RawF64 };
    begin(header, form, None, values.len() * T::SIZE, message);
    T::write_bytes(values, &mut message[HEADER_LEN..]);
    seal(message);
    Ok(())
}

/// Writes level indices, packed, into `message`, whose content is replaced and whose allocation is reused.
///
/// # Errors
/// [`Problem::Shape`] if there are not rows × columns indices, [`Problem::Index`] for one beyond the levels.
pub fn encode_packed(
    header: &Header,
    levels: &LevelSet,
    indices: &[u32],
    message: &mut Vec<u8>,
) -> Result<(), MessageError> {
    check_shape(header, indices.len())?;
    check_indices(indices, levels.count()).map_err(|problem| header.error(problem))?;
    begin(header, Form::Packed, Some(levels), packed_len(indices.len(), levels.bits()), message);
    pack(indices, levels.bits(), &mut message[HEADER_LEN..]).map_err(|error| header.error(error.into()))?;
    seal(message);
    Ok(())
}

/// Checks a message and writes its numbers into `values`, which holds rows × columns of them. After an error the
/// content of `values` is undefined, but never from a damaged message.
///
/// # Errors
/// Whatever is wrong with the message, named by boundary and iteration.
pub fn decode<T: Element>(message: &[u8], expected: &Expected, values: &mut [T]) -> Result<(), MessageError> {
    check_shape(expected, values.len())?;
    decode_checked(message, expected, values).map_err(|problem| expected.error(problem))
}

fn decode_checked<T: Element>(message: &[u8], expected: &Expected, values: &mut [T]) -> Result<(), Problem> {
    let found = message.len();
    let Some((head, payload)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err(Problem::Length { expected: HEADER_LEN as u64, found });
    };
    let magic = take(head, 0);
    if magic != MAGIC {
        return Err(Problem::Magic(magic));
    }
    let version = u16::from_le_bytes(take(head, 4));
    if version != VERSION {
        return Err(Problem::Version(version));
    }
    let payload_len = u64::from_le_bytes(take(head, 52));
    if payload_len != payload.len() as u64 {
        return Err(Problem::Length { expected: payload_len.saturating_add(HEADER_LEN as u64), found });
    }
    let (computed, found) = (checksum(message), u32::from_le_bytes(take(head, CHECKSUM_AT)));
    if computed != found {
        return Err(Problem::Checksum { computed, found });
    }
    let word = |at| u64::from(u32::from_le_bytes(take(head, at)));
    for (field, expected, found) in [
        ("kind", expected.kind as u64, u64::from(head[6])),
        ("boundary", expected.boundary.into(), word(8)),
        ("block", expected.block.into(), word(12)),
        ("iteration", expected.iteration, u64::from_le_bytes(take(head, 16))),
        ("rows", expected.rows.into(), word(24)),
        ("columns", expected.cols.into(), word(28)),
    ] {
        if expected != found {
            return Err(Problem::Field { field, expected, found });
        }
    }
    let raw = if T::SIZE == 4 { Form::RawF32 } else { Form::RawF64 };
    match head[7] {
        form if form == raw as u8 => {
            check_payload(payload, values.len().saturating_mul(T::SIZE))?;
            T::read_bytes(payload, values);
            Ok(())
        }
        form if form == Form::Packed as u8 => {
            let (lo, step) = (f64::from_le_bytes(take(head, 32)), f64::from_le_bytes(take(head, 40)));
            let levels = LevelSet::new(lo, step, u32::from_le_bytes(take(head, 48)))?;
            decode_packed(payload, &levels, values)
        }
        found => Err(Problem::Form { expected: T::NAME, found }),
    }
}

fn decode_packed<T: Element>(payload: &[u8], levels: &LevelSet, values: &mut [T]) -> Result<(), Problem> {
    let bits = levels.bits();
    check_payload(payload, packed_len(values.len(), bits))?;
    let mut indices = [0; BATCH];
    let batches = payload.chunks(packed_len(BATCH, bits));
    for (values, packed) in values.chunks_mut(BATCH).zip(batches) {
        let indices = &mut indices[..values.len()];
        unpack(packed, bits, indices)?;
        check_indices(indices, levels.count())?;
        levels.values_of(indices, values);
    }
    Ok(())
}

fn check_shape(header: &Header, found: usize) -> Result<(), MessageError> {
    if header.elements() == Some(found) {
        return Ok(());
    }
    Err(header.error(Problem::Shape { rows: header.rows, cols: header.cols, found }))
}

fn check_payload(payload: &[u8], expected: usize) -> Result<(), Problem> {
    if payload.len() == expected {
        return Ok(());
    }
    Err(Problem::Field { field: "payload bytes", expected: expected as u64, found: payload.len() as u64 })
}

fn check_indices(indices: &[u32], count: u32) -> Result<(), Problem> {
    match indices.iter().fold(0, |largest, &index| index.max(largest)) {
        found if found >= count => Err(Problem::Index { count, found }),
        _ => Ok(()),
    }
}

/// Writes the header, its checksum left open, and room for the payload.
fn begin(header: &Header, form: Form, levels: Option<&LevelSet>, payload: usize, message: &mut Vec<u8>) {
    // Every byte of the payload is written after this: only what grows needs clearing.
    message.resize(HEADER_LEN + payload, 0);
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(4, &VERSION.to_le_bytes());
    put(6, &[header.kind as u8, form as u8]);
    put(8, &header.boundary.to_le_bytes());
    put(12, &header.block.to_le_bytes());
    put(16, &header.iteration.to_le_bytes());
    put(24, &header.rows.to_le_bytes());
    put(28, &header.cols.to_le_bytes());
    put(32, &levels.map_or(0.0, LevelSet::lo).to_le_bytes());
    put(40, &levels.map_or(0.0, LevelSet::step).to_le_bytes());
    put(48, &levels.map_or(0, LevelSet::count).to_le_bytes());
    put(52, &(payload as u64).to_le_bytes());
}

fn seal(message: &mut [u8]) {
    let checksum = checksum(message);
    message[CHECKSUM_AT..HEADER_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// Of everything but the checksum itself; `message` holds at least a header.
fn checksum(message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&message[..CHECKSUM_AT]);
    hasher.update(&message[HEADER_LEN..]);
    hasher.finalize()
}

/// `N` bytes of the header; the offsets are constants of this file.
fn take<const N: usize>(head: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| head[at + i])
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
