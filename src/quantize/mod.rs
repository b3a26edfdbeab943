//! Level sets, and what p and q look like between ranks: nearest levels, coded indices, checked messages.
//! Pure safe Rust without MPI.

mod changes;
mod codec;
mod element;
mod half;
mod levels;
mod message;
mod number_tokens;
mod pack;
mod range_coder;
mod ranges;
mod tokens;
mod whole;

pub use codec::{CodecState, Coding, Scratch, Stream};
pub use element::Element;
pub use half::Wire;
pub use levels::{LevelError, LevelIndex, LevelSet, Spacing};
pub use message::{
    Expected, Form, Header, Kind, LONGEST_OVERHEAD, MessageError, Problem, decode_raw, encode_raw,
    longest_message_len,
};
pub use pack::{PackError, pack, packed_len, unpack};
pub use ranges::PowerRange;
