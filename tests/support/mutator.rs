//! Damages bytes, the same way on every machine. Test files include it with `#[path]`.
#![allow(dead_code)]

/// xorshift.
pub struct Mutator(u64);

impl Mutator {
    /// The mutations of one input: its number decides them all.
    pub fn of(number: usize) -> Self {
        // splitmix, so that neighbours have nothing in common; never 0.
        let mut x = (number as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Mutator((x ^ (x >> 27)) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }

    /// One to three changes: of bits, bytes and numbers, blocks filled, moved, swapped, doubled or taken away, the end
    /// cut off.
    pub fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4).saturating_sub(1) {
            if bytes.is_empty() {
                break;
            }
            let (at, from) = (self.below(bytes.len()), self.below(bytes.len()));
            let most = if self.below(4) == 0 { 600 } else { 40 };
            let length = self.below(most).min(bytes.len() - at.max(from));
            match self.below(12) {
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 | 3 => bytes[at] = self.below(256) as u8,
                4 => bytes[at] = [0, 0xff, 0x7f, 0x80][self.below(4)],
                5 => {
                    // A number of 4 or 8 bytes becomes an interesting one.
                    let value = [0, 1, u64::MAX, 1 << 31, 1 << 40, 1_000_000_000_000][self.below(6)];
                    let width = if self.below(2) == 0 { 4 } else { 8 }.min(bytes.len() - at);
                    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
                }
                6 => bytes[at..at + length].fill(if self.below(2) == 0 { 0xff } else { 0 }),
                7 => bytes.copy_within(from..from + length, at),
                8 => {
                    let (low, high) = (at.min(from), at.max(from));
                    let length = length.min(high - low);
                    let (head, tail) = bytes.split_at_mut(high);
                    head[low..low + length].swap_with_slice(&mut tail[..length]);
                }
                9 => drop(bytes.drain(at..at + length)),
                10 => {
                    let piece = bytes[from..from + length].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ if self.below(4) == 0 => bytes.truncate(at),
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
        }
        bytes
    }
}

/// Numbers of the damaged copies to try: `PDADMM_MUTATIONS`, as `100000` or, for one part of a long run, `20000..40000`;
/// else `usual` of them.
pub fn mutations(usual: usize) -> std::ops::Range<usize> {
    let wanted = std::env::var("PDADMM_MUTATIONS").unwrap_or_else(|_| usual.to_string());
    let (first, end) = wanted.split_once("..").unwrap_or(("0", &wanted));
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("PDADMM_MUTATIONS={wanted}"));
    number(first)..number(end)
}
