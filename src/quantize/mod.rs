//! Level sets, and what p and q look like between ranks: nearest levels, packed indices, checked messages.
//! Pure safe Rust without MPI.

mod element;
mod levels;
mod message;
mod pack;
mod ranges;

pub use element::Element;
pub use levels::{LevelError, LevelSet};
pub use message::{
    Expected, Form, HEADER_LEN, Header, Kind, MessageError, Problem, decode, encode_packed, encode_raw,
    packed_message_len, raw_message_len,
};
pub use pack::{PackError, pack, packed_len, unpack};
pub use ranges::PowerRange;
