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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { kind: Kind::P, boundary: 3, block: 1, iteration: 17, rows: 5, cols: 7 };

    fn raw_message() -> (Vec<f32>, Vec<u8>) {
        let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.37 - 3.0).collect();
        let mut message = vec![9; 1000];
        encode_raw(&HEADER, &values, &mut message).unwrap();
        (values, message)
    }

    fn packed_message() -> (Vec<f32>, Vec<u8>) {
        let levels: LevelSet = "-1:20:1".parse().unwrap();
        let indices: Vec<u32> = (0..35).map(|i| i % 22).collect();
        let mut values = vec![0.0; 35];
        levels.values_of(&indices, &mut values);
        let mut message = vec![9; 1000];
        encode_packed(&HEADER, &levels, &indices, &mut message).unwrap();
        (values, message)
    }

    fn problem(message: &[u8], expected: &Expected) -> Problem {
        let mut values = vec![0f32; expected.elements().unwrap()];
        decode(message, expected, &mut values).unwrap_err().problem
    }

    fn resealed(mut message: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        change(&mut message);
        seal(&mut message);
        message
    }

    #[test]
    fn numbers_arrive_as_they_were_sent() {
        for (values, message) in [raw_message(), packed_message()] {
            let mut decoded = vec![0f32; 35];
            decode(&message, &HEADER, &mut decoded).unwrap();
            assert_eq!(decoded, values);
        }
        assert_eq!(raw_message().1.len(), raw_message_len::<f32>(35));
        assert_eq!(packed_message().1.len(), packed_message_len(35, 5));
        let special = [f64::NAN, -0.0, f64::INFINITY, 5e-324, 0.1];
        let header = Header { rows: 1, cols: 5, ..HEADER };
        let (mut message, mut decoded) = (Vec::new(), [0f64; 5]);
        encode_raw(&header, &special, &mut message).unwrap();
        decode(&message, &header, &mut decoded).unwrap();
        assert_eq!(special.map(f64::to_bits), decoded.map(f64::to_bits));
    }

    #[test]
    fn blocks_longer_than_a_batch_and_empty_ones() {
        let levels = LevelSet::with_bits(-1.0, 1.0, 3).unwrap();
        for rows in [0, 1, BATCH as u32, 3 * BATCH as u32 + 5] {
            let header = Header { rows, cols: 1, kind: Kind::Q, ..HEADER };
            let indices: Vec<u32> = (0..rows).map(|i| i * i % 8).collect();
            let (mut message, mut decoded) = (Vec::new(), vec![0f64; rows as usize]);
            encode_packed(&header, &levels, &indices, &mut message).unwrap();
            decode(&message, &header, &mut decoded).unwrap();
            assert!(decoded.iter().zip(&indices).all(|(x, &i)| *x == levels.value(i)));
        }
    }

    #[test]
    fn what_differs_is_named() {
        let (_, message) = raw_message();
        let expected = Header { iteration: 18, ..HEADER };
        let mut values = vec![0f32; 35];
        let error = decode(&message, &expected, &mut values).unwrap_err();
        assert_eq!(
            error.to_string(),
            "message with p of boundary 3, block 1, iteration 18: expected iteration 18, found 17"
        );
        for (field, expected) in [
            ("kind", Header { kind: Kind::Q, ..HEADER }),
            ("boundary", Header { boundary: 4, ..HEADER }),
            ("block", Header { block: 0, ..HEADER }),
            ("rows", Header { rows: 7, cols: 5, ..HEADER }),
            ("columns", Header { cols: 6, ..HEADER }),
        ] {
            assert!(matches!(problem(&message, &expected), Problem::Field { field: f, .. } if f == field));
        }
        let mut wide = vec![0f64; 35];
        let error = decode(&message, &HEADER, &mut wide).unwrap_err();
        assert_eq!(error.problem, Problem::Form { expected: "f64", found: 1 });
        let error = decode(&message, &HEADER, &mut values[1..]).unwrap_err();
        assert!(matches!(error.problem, Problem::Shape { found: 34, .. }));
    }

    #[test]
    fn damage_is_called_damage() {
        let (_, message) = packed_message();
        assert!(matches!(problem(&message[..10], &HEADER), Problem::Length { expected: 64, found: 10 }));
        assert!(matches!(problem(&message[..70], &HEADER), Problem::Length { .. }));
        assert!(matches!(problem(b"", &HEADER), Problem::Length { .. }));
        let mut other = message.clone();
        other[16] ^= 1;
        assert!(matches!(problem(&other, &HEADER), Problem::Checksum { .. }));
        assert!(matches!(problem(&resealed(message.clone(), |m| m[0] = 0), &HEADER), Problem::Magic(_)));
        assert!(matches!(problem(&resealed(message.clone(), |m| m[4] = 2), &HEADER), Problem::Version(2)));
        let huge = resealed(message, |m| m[52..60].fill(0xff));
        assert!(matches!(problem(&huge, &HEADER), Problem::Length { expected: u64::MAX, .. }));
    }

    #[test]
    fn lies_with_a_valid_checksum_are_refused() {
        let (_, message) = packed_message();
        let of = |change: fn(&mut Vec<u8>)| problem(&resealed(message.clone(), change), &HEADER);
        assert!(matches!(of(|m| m[7] = 99), Problem::Form { found: 99, .. }));
        assert!(matches!(of(|m| m[64] = 0xff), Problem::Index { count: 22, found: 31 }));
        assert!(matches!(of(|m| *m.last_mut().unwrap() |= 0x80), Problem::Packing(_)));
        assert!(matches!(of(|m| m[48] = 200), Problem::Field { field: "payload bytes", .. }));
        assert!(matches!(of(|m| m[48..52].fill(0xff)), Problem::Levels(_)));
        assert!(matches!(of(|m| m[40..48].fill(0xff)), Problem::Levels(_)));
        let (_, raw) = raw_message();
        let short = resealed(raw, |m| {
            m.truncate(100);
            m[52..60].copy_from_slice(&36u64.to_le_bytes());
        });
        assert!(matches!(problem(&short, &HEADER), Problem::Field { field: "payload bytes", .. }));
    }

    #[test]
    fn wrong_input_of_the_sender_is_refused() {
        let levels = LevelSet::with_bits(0.0, 1.0, 2).unwrap();
        let mut message = Vec::new();
        let error = encode_packed(&HEADER, &levels, &[4; 35], &mut message).unwrap_err();
        assert_eq!(error.problem, Problem::Index { count: 4, found: 4 });
        assert!(encode_packed(&HEADER, &levels, &[0; 34], &mut message).is_err());
        assert!(encode_raw(&HEADER, &[0f32; 36], &mut message).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// Up to three damaged bytes, a cut or an extension: an error, unless nothing changed.
        #[test]
        fn mutations_are_detected(
            packed in any::<bool>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            len in prop::option::of(0usize..300),
        ) {
            let (values, message) = if packed { packed_message() } else { raw_message() };
            let mut mutated = message.clone();
            for (at, mask) in flips {
                let at = at.index(mutated.len());
                mutated[at] ^= mask;
            }
            if let Some(len) = len {
                mutated.resize(len, 0);
            }
            let mut decoded = vec![0f32; 35];
            let outcome = decode(&mutated, &HEADER, &mut decoded);
            prop_assert_eq!(outcome.is_ok(), mutated == message);
            prop_assert!(outcome.is_err() || decoded == values);
        }

        /// Damage that carries a valid checksum may decode, but never panics.
        #[test]
        fn resealed_mutations_never_panic(
            packed in any::<bool>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            len in prop::option::of(64usize..300),
        ) {
            let mut mutated = if packed { packed_message().1 } else { raw_message().1 };
            for (at, mask) in flips {
                let at = at.index(mutated.len());
                mutated[at] ^= mask;
            }
            if let Some(len) = len {
                mutated.resize(len, 0);
                mutated[52..60].copy_from_slice(&(len as u64 - 64).to_le_bytes());
            }
            seal(&mut mutated);
            let _ = decode(&mutated, &HEADER, &mut [0f32; 35]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes, &HEADER, &mut [0f32; 35]).is_err());
        }
    }
}
