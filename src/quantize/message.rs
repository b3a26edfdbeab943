//! The wire format of one block of one variable: a short header that says what the message is, a payload, a checksum.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | mark and version, 0xb2 |
//! | 1 | kind (lower 3 bits: 1 p, 2 q, 3 activations, 4 weights, 5 state) and [`Form`] (upper 5 bits) |
//! | 1–5 each | boundary (the layer below it, or the layer, for kinds that belong to one), block, iteration, rows, columns: varints |
//! | 1–22 | level set: 0 none or as in the message before; 1 from 0 in steps of 2^e: e (i8) and the number of levels (varint); 2 lowest level, step (f64), number of levels (varint) |
//! | 1–10 | length of the payload (varint) |
//! | … | payload |
//! | 4 | CRC-32 (IEEE) of all bytes before, exclusive or'ed with the digest of what both sides keep |
//!
//! Numbers are little-endian; varints have 7 bits a byte, lowest first, the top bit saying that more follow.
//!
//! Decoding checks the length and the checksum first, so that a damaged message is called damaged; then every field
//! against what the receiver expects. The digest has 16 bits: a checksum that is off by less than 2¹⁶ in this sense is
//! a sound message for another state of the receiver. Decoding never panics and allocates nothing beyond the
//! receiver's own shape.

mod error;
mod fields;

use super::element::Element;
use super::half::Wire;
use super::levels::LevelSet;

pub use error::{MessageError, Problem};
use fields::{Fields, put_levels, put_varint};

/// The longest header and checksum.
pub const LONGEST_OVERHEAD: usize = 2 + 3 * 5 + 10 + 5 + 22 + 10 + CHECKSUM_LEN;
const MARK: u8 = 0xb2;
const CHECKSUM_LEN: usize = 4;

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
    /// A sum over the shards of a layer's nodes, or rows gathered from them.
    Sum = 6,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::P => "p",
            Kind::Q => "q",
            Kind::Activations => "activations",
            Kind::Weights => "weights",
            Kind::State => "state",
            Kind::Sum => "sums over shards",
        })
    }
}

/// How the numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// f32.
    RawF32 = 1,
    /// f64.
    RawF64 = 2,
    /// binary16.
    F16 = 3,
    /// bfloat16.
    Bf16 = 4,
    /// Level indices, packed.
    Packed = 5,
    /// The level indices that the receiver has already.
    Unchanged = 6,
    /// The few level indices that have changed: gaps and differences by adaptive range coding.
    Sparse = 7,
    /// Changed level indices: gaps and differences by one table of frequencies each.
    Gaps = 8,
    /// All level indices as differences from those the receiver has, by one table of frequencies.
    Differences = 9,
    /// All level indices by one table of frequencies.
    Coded = 10,
}

impl Form {
    fn from_code(code: u8) -> Option<Form> {
        use Form::*;
        [RawF32, RawF64, F16, Bf16, Packed, Unchanged, Sparse, Gaps, Differences, Coded]
            .into_iter()
            .find(|form| *form as u8 == code)
    }

    /// Whether the receiver needs the indices of the message before.
    pub fn needs_reference(self) -> bool {
        matches!(self, Form::Unchanged | Form::Sparse | Form::Gaps | Form::Differences)
    }

    /// The form of numbers on no level set.
    pub fn of_wire(wire: Wire) -> Form {
        match wire {
            Wire::F32 => Form::RawF32,
            Wire::F64 => Form::RawF64,
            Wire::F16 => Form::F16,
            Wire::Bf16 => Form::Bf16,
        }
    }

    /// The wire of numbers on no level set; `None` for level indices.
    pub fn wire(self) -> Option<Wire> {
        match self {
            Form::RawF32 => Some(Wire::F32),
            Form::RawF64 => Some(Wire::F64),
            Form::F16 => Some(Wire::F16),
            Form::Bf16 => Some(Wire::Bf16),
            _ => None,
        }
    }
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

    pub(super) fn error(&self, problem: Problem) -> MessageError {
        MessageError { wanted: *self, problem }
    }

    pub(super) fn check_shape(&self, found: usize) -> Result<(), MessageError> {
        if self.elements() == Some(found) {
            return Ok(());
        }
        Err(self.error(Problem::Shape { rows: self.rows, cols: self.cols, found }))
    }
}

/// Bytes of a message of `elements` numbers of type `T` at most: what a receiver allows.
pub fn longest_message_len<T: Element>(elements: usize) -> usize {
    elements.saturating_mul(T::SIZE).saturating_add(LONGEST_OVERHEAD)
}

/// Writes numbers on no level set into `message`, whose content is replaced and whose allocation is reused.
///
/// # Errors
/// [`Problem::Shape`] if `values` does not have rows × columns numbers.
pub fn encode_raw<T: Element>(
    header: &Header,
    wire: Wire,
    values: &[T],
    message: &mut Vec<u8>,
) -> Result<(), MessageError> {
    header.check_shape(values.len())?;
    let payload = values.len() * wire.size();
    begin(header, Form::of_wire(wire), None, payload, message);
    let at = message.len();
    message.resize(at + payload, 0);
    wire.write(values, &mut message[at..]);
    seal(message, 0);
    Ok(())
}

/// Checks a message of numbers on no level set and writes them into `values`, which holds rows × columns of them.
/// After an error `values` is unchanged.
///
/// # Errors
/// Whatever is wrong with the message, named by boundary and iteration.
pub fn decode_raw<T: Element>(
    message: &[u8],
    expected: &Expected,
    wire: Wire,
    values: &mut [T],
) -> Result<(), MessageError> {
    expected.check_shape(values.len())?;
    let opened = open(message, expected, 0).map_err(|problem| expected.error(problem))?;
    read_raw(&opened, wire, values).map_err(|problem| expected.error(problem))
}

fn read_raw<T: Element>(opened: &Opened<'_>, wire: Wire, values: &mut [T]) -> Result<(), Problem> {
    if opened.form.wire() != Some(wire) {
        let expected = match wire {
            Wire::F64 => "f64 numbers",
            Wire::F32 => "f32 numbers",
            Wire::F16 => "f16 numbers",
            Wire::Bf16 => "bf16 numbers",
        };
        return Err(Problem::Form { expected, found: opened.form as u8 });
    }
    opened.check_payload(values.len().saturating_mul(wire.size()))?;
    wire.read(opened.payload, values);
    Ok(())
}

/// A message that is sound and is the one expected.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub form: Form,
    pub levels: Option<LevelSet>,
    pub payload: &'a [u8],
    /// The digest that the next message in this place builds on.
    pub digest: u16,
}

impl Opened<'_> {
    pub(super) fn check_payload(&self, expected: usize) -> Result<(), Problem> {
        if self.payload.len() == expected {
            return Ok(());
        }
        let found = self.payload.len() as u64;
        Err(Problem::Field { field: "payload bytes", expected: expected as u64, found })
    }
}

/// Checks everything but the payload's content, against the receiver's `digest` too.
pub(super) fn open<'a>(message: &'a [u8], expected: &Expected, digest: u16) -> Result<Opened<'a>, Problem> {
    let found = message.len();
    let (&mark, rest) = message.split_first().ok_or(Problem::Length { expected: 12, found })?;
    if mark != MARK {
        return Err(Problem::Mark(mark));
    }
    let (body, checksum) =
        message.split_last_chunk::<CHECKSUM_LEN>().ok_or(Problem::Length { expected: 12, found })?;
    let checksum = u32::from_le_bytes(*checksum);
    let computed = crc32fast::hash(body);
    let difference = computed ^ checksum;
    let Ok(theirs) = u16::try_from(difference) else {
        return Err(explain(rest, found, computed, checksum));
    };
    let mut fields = Fields(body.get(1..).unwrap_or_default());
    let damaged = || Problem::Checksum { computed, found: checksum };
    let kind_and_form = fields.byte().ok_or_else(damaged)?;
    let mut next = || fields.varint().ok_or_else(damaged);
    let (kind, form) = (u64::from(kind_and_form & 7), kind_and_form >> 3);
    for (field, expected, found) in [
        ("kind", expected.kind as u64, kind),
        ("boundary", expected.boundary.into(), next()?),
        ("block", expected.block.into(), next()?),
        ("iteration", expected.iteration, next()?),
        ("rows", expected.rows.into(), next()?),
        ("columns", expected.cols.into(), next()?),
    ] {
        if expected != found {
            return Err(Problem::Field { field, expected, found });
        }
    }
    if theirs != digest {
        return Err(Problem::Reference { expected: digest, found: theirs });
    }
    let form = Form::from_code(form).ok_or(Problem::Form { expected: "a known form", found: form })?;
    let levels = fields.levels()?;
    let payload_len = fields.varint().ok_or_else(damaged)?;
    let payload = fields.0;
    if payload_len != payload.len() as u64 {
        let expected = payload_len.saturating_add((found - payload.len()) as u64);
        return Err(Problem::Length { expected, found });
    }
    Ok(Opened { form, levels, payload, digest: next_digest(checksum) })
}

/// Whether a message whose checksum fails was cut short, by its own length if that can be read.
fn explain(rest: &[u8], found: usize, computed: u32, checksum: u32) -> Problem {
    let mut fields = Fields(rest);
    let length = (|| {
        fields.byte()?;
        for _ in 0..5 {
            fields.varint()?;
        }
        fields.levels().ok()?;
        let payload = fields.varint()?;
        Some(payload.saturating_add((found - fields.0.len() + CHECKSUM_LEN) as u64))
    })();
    match length {
        Some(expected) if expected != found as u64 => Problem::Length { expected, found },
        None => Problem::Length { expected: found as u64 + 1, found },
        _ => Problem::Checksum { computed, found: checksum },
    }
}

/// Replaces `message` by a header for a payload of `payload` bytes, which the caller appends.
pub(super) fn begin(
    header: &Header,
    form: Form,
    levels: Option<&LevelSet>,
    payload: usize,
    message: &mut Vec<u8>,
) {
    message.clear();
    message.extend_from_slice(&[MARK, header.kind as u8 | (form as u8) << 3]);
    for field in [
        header.boundary.into(),
        header.block.into(),
        header.iteration,
        header.rows.into(),
        u64::from(header.cols),
    ] {
        put_varint(field, message);
    }
    put_levels(levels, message);
    put_varint(payload as u64, message);
}

/// Appends the checksum; gives the digest that the next message in this place builds on.
pub(super) fn seal(message: &mut Vec<u8>, digest: u16) -> u16 {
    let checksum = crc32fast::hash(message) ^ u32::from(digest);
    message.extend_from_slice(&checksum.to_le_bytes());
    next_digest(checksum)
}

/// The upper half of the checksum; 0 stands for no message before.
fn next_digest(checksum: u32) -> u16 {
    ((checksum >> 16) as u16).max(1)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
