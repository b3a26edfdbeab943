//! What can be wrong with a message.

use super::{Header, MARK};
use crate::quantize::levels::{LevelError, LevelSet};
use crate::quantize::pack::PackError;
use crate::quantize::tokens::TokenError;

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
        /// Bytes by the header, or at least by its own size.
        expected: u64,
        /// Bytes found.
        found: usize,
    },
    /// The first byte is not that of a message of this version.
    #[error(
        "expected a message to start with {MARK:02x}, found {0:02x}: these bytes are no message of this version"
    )]
    Mark(u8),
    /// The checksum does not fit.
    #[error("expected checksum {computed:08x}, found {found:08x}: the message was damaged on the way")]
    Checksum {
        /// Of the bytes that came.
        computed: u32,
        /// In the message.
        found: u32,
    },
    /// A sound message, but the sender counts on another message before it.
    #[error(
        "it builds on state {found:04x}, but this rank has {expected:04x}: a message was lost or came twice"
    )]
    Reference {
        /// Digest of what the receiver keeps.
        expected: u16,
        /// Digest of what the sender counts on.
        found: u16,
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
    /// A form that is unknown, or not the one that fits.
    #[error("expected {expected}, found form {found}")]
    Form {
        /// What the receiver takes here.
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
    Levels(#[from] LevelError),
    /// Another level set than the receiver's.
    #[error("expected levels {expected}, found {found}")]
    OtherLevels {
        /// By the receiver's state.
        expected: Box<LevelSet>,
        /// In the header.
        found: Box<LevelSet>,
    },
    /// An index beyond the levels.
    #[error("expected level indices below {count}, found {found}")]
    Index {
        /// Number of levels.
        count: u32,
        /// The index.
        found: u32,
    },
    /// Changes beyond the last element, or too many.
    #[error("its changes do not fit {elements} elements")]
    Changes {
        /// Elements of the block.
        elements: usize,
    },
    /// Bytes after the end of a coded payload.
    #[error("its payload goes on for {0} bytes after its content")]
    Rest(usize),
    /// A coded stream that cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Packed indices that do not unpack.
    #[error(transparent)]
    Packing(#[from] PackError),
}
