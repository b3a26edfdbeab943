//! Entropy coding of many small tokens by one table of frequencies: four interleaved rANS states.
//!
//! J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, in the range variant with words of 16 bits. Every token
//! costs the same few nanoseconds, which suits maps where much has changed.

use super::range_coder::{Chance, NUMBER_CHANCES, Numbers, Reader, Writer};

/// Frequencies add up to this.
const SCALE: u32 = 1 << SCALE_BITS;
const SCALE_BITS: u32 = 12;
/// States stay at or above this between tokens.
const LOW: u32 = 1 << 16;
/// Independent states: the processor works on one while another waits for its memory.
const LANES: usize = 4;

/// Why a stream of tokens cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The stream ends before its last token, or goes on after it.
    #[error("a coded stream has a length that does not fit its content")]
    Length,
    /// The frequencies do not add up.
    #[error("the frequencies of a coded stream do not add up")]
    Frequencies,
    /// The states do not end where the writer started.
    #[error("a coded stream does not end where it must")]
    End,
}

/// How often each token occurs, in shares of 4096.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    share: Vec<u16>,
}

impl Table {
    /// Shares from counts. Every token that occurs gets one at least. `None` where nothing occurs.
    pub fn of(counts: &[u32]) -> Option<Self> {
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        let used = counts.len() - counts.iter().rev().take_while(|&&count| count == 0).count();
        if total == 0 || used > 256 {
            return None;
        }
        let mut share: Vec<u16> = counts[..used]
            .iter()
            .map(|&count| match count {
                0 => 0,
                _ => ((u64::from(count) * u64::from(SCALE) + total / 2) / total).max(1) as u16,
            })
            .collect();
        let mut excess = share.iter().map(|&s| i64::from(s)).sum::<i64>() - i64::from(SCALE);
        while excess != 0 {
            // The largest share suffers least by a change.
            let largest = share.iter_mut().max()?;
            let change = if excess > 0 { excess.min(i64::from(*largest) / 2).max(1) } else { excess };
            *largest = (i64::from(*largest) - change) as u16;
            excess -= change;
        }
        Some(Table { share })
    }

    /// Bits that tokens with these counts take under this table, without the table itself.
    pub fn bits(&self, counts: &[u32]) -> f64 {
        let bits = |share: u16| f64::from(SCALE_BITS) - f64::from(share.max(1)).log2();
        counts.iter().zip(&self.share).map(|(&count, &share)| f64::from(count) * bits(share)).sum()
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut chances = [Chance::EVEN; NUMBER_CHANCES];
        let mut writer = Writer::new(out);
        // The reader stops where nothing of the whole is left.
        for &share in &self.share {
            Numbers(&mut chances).write(&mut writer, u32::from(share));
        }
        writer.finish();
    }

    fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        let mut chances = [Chance::EVEN; NUMBER_CHANCES];
        let mut reader = Reader::new(bytes);
        let mut share = Vec::with_capacity(256);
        let mut left = SCALE;
        while left > 0 {
            let next = Numbers(&mut chances).read(&mut reader);
            if next > left || share.len() == 256 {
                return Err(TokenError::Frequencies);
            }
            left -= next;
            share.push(next as u16);
        }
        Ok(Table { share })
    }
}

/// What writing a token takes, without a division: q = x·inverse >> 44 is ⌊x / share⌋ for every x below 2³².
#[derive(Clone, Copy, Default)]
struct Step {
    inverse: u64,
    share: u32,
    below: u32,
}

/// Appends a table, and `tokens` under it. Every token must occur in `table`.
///
/// Layout: length of the table (u16), length of the words in bytes (u32), the table, the four states, the words.
pub fn write(table: &Table, tokens: &[u8], words: &mut Vec<u16>, out: &mut Vec<u8>) {
    let head = out.len();
    out.extend_from_slice(&[0; 6]);
    table.write(out);
    let table_len = (out.len() - head - 6) as u16;
    let mut steps = [Step { inverse: 0, share: 1, below: 0 }; 256];
    let mut below = 0;
    for (step, &share) in steps.iter_mut().zip(&table.share) {
        let share = u32::from(share);
        *step = Step { inverse: (1u64 << 44).div_ceil(u64::from(share.max(1))), share: share.max(1), below };
        below += share;
    }
    // A token gives a word at most. Whether it does is a toss-up that a branch would guess wrong too often.
    if words.len() < tokens.len() {
        words.resize(tokens.len(), 0);
    }
    let mut count = 0;
    let mut states = [LOW; LANES];
    let mut put = |state: &mut u32, token: u8| {
        let step = &steps[usize::from(token)];
        words[count] = *state as u16;
        let is_full = u64::from(*state) >= u64::from(step.share) << (32 - SCALE_BITS);
        count += usize::from(is_full);
        *state >>= u32::from(is_full) * 16;
        let quotient = ((u128::from(*state) * u128::from(step.inverse)) >> 44) as u32;
        *state = (quotient << SCALE_BITS) + (*state - quotient * step.share) + step.below;
    };
    let (groups, rest) = tokens.as_chunks::<LANES>();
    for (lane, &token) in rest.iter().enumerate().rev() {
        put(&mut states[lane], token);
    }
    for group in groups.iter().rev() {
        for lane in (0..LANES).rev() {
            put(&mut states[lane], group[lane]);
        }
    }
    for state in states {
        out.extend_from_slice(&state.to_le_bytes());
    }
    let words = &words[..count];
    let words_len = words.len() * 2;
    let at = out.len();
    out.resize(at + words_len, 0);
    let (chunks, _) = out[at..].as_chunks_mut::<2>();
    chunks.iter_mut().zip(words.iter().rev()).for_each(|(chunk, word)| *chunk = word.to_le_bytes());
    out[head..head + 2].copy_from_slice(&table_len.to_le_bytes());
    out[head + 2..head + 6].copy_from_slice(&(words_len as u32).to_le_bytes());
}

/// Reads as many tokens as there is room for, and returns the bytes after them.
///
/// # Errors
/// [`TokenError`].
pub fn read<'a>(bytes: &'a [u8], tokens: &mut [u8]) -> Result<&'a [u8], TokenError> {
    let (head, rest) = bytes.split_first_chunk::<6>().ok_or(TokenError::Length)?;
    let table_len = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let words_len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
    let (table, rest) = rest.split_at_checked(table_len).ok_or(TokenError::Length)?;
    let (starts, rest) = rest.split_first_chunk::<{ 4 * LANES }>().ok_or(TokenError::Length)?;
    let (words, rest) = rest.split_at_checked(words_len).ok_or(TokenError::Length)?;
    let table = Table::read(table)?;
    // Slot → token (8 bits), share − 1 (12), slot − below (12).
    let mut slots = [0u32; SCALE as usize];
    let mut below = 0;
    for (token, &share) in table.share.iter().enumerate() {
        let packed = token as u32 | u32::from(share.wrapping_sub(1) & 0xfff) << 8;
        let share = usize::from(share);
        for (offset, slot) in slots[below..below + share].iter_mut().enumerate() {
            *slot = packed | (offset as u32) << 20;
        }
        below += share;
    }
    let (words, odd) = words.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(TokenError::Length);
    }
    let (starts, _) = starts.as_chunks::<4>();
    let mut states: [u32; LANES] = std::array::from_fn(|lane| u32::from_le_bytes(starts[lane]));
    let mut next = 0;
    let mut take = |state: &mut u32| {
        let slot = slots[(*state & (SCALE - 1)) as usize];
        let share = (slot >> 8 & 0xfff) + 1;
        *state = share.wrapping_mul(*state >> SCALE_BITS).wrapping_add(slot >> 20);
        let word = u32::from(u16::from_le_bytes(words.get(next).copied().unwrap_or_default()));
        let is_low = *state < LOW;
        next += usize::from(is_low);
        *state = if is_low { *state << 16 | word } else { *state };
        slot as u8
    };
    let (groups, last) = tokens.as_chunks_mut::<LANES>();
    for group in groups {
        for lane in 0..LANES {
            group[lane] = take(&mut states[lane]);
        }
    }
    for (lane, token) in last.iter_mut().enumerate() {
        *token = take(&mut states[lane]);
    }
    if next != words.len() {
        return Err(TokenError::Length);
    }
    if states.iter().any(|&state| state != LOW) {
        return Err(TokenError::End);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn count(tokens: &[u8]) -> [u32; 256] {
        let mut counts = [0; 256];
        tokens.iter().for_each(|&token| counts[usize::from(token)] += 1);
        counts
    }

    proptest! {
        #[test]
        fn tokens_come_back(tokens in prop::collection::vec((any::<u8>(), 0u32..8), 1..3000), tail in any::<[u8; 3]>()) {
            let tokens: Vec<u8> = tokens.iter().map(|(token, shift)| token >> shift).collect();
            let table = Table::of(&count(&tokens)).unwrap();
            let (mut words, mut out) = (Vec::new(), vec![1, 2]);
            write(&table, &tokens, &mut words, &mut out);
            out.extend_from_slice(&tail);
            let mut back = vec![0; tokens.len()];
            prop_assert_eq!(read(&out[2..], &mut back).unwrap(), &tail[..]);
            prop_assert_eq!(back, tokens);
        }

        #[test]
        fn damage_never_panics(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let tokens: Vec<u8> = (0..997u32).map(|i| (i * i % 23) as u8).collect();
            let (mut words, mut out) = (Vec::new(), Vec::new());
            write(&Table::of(&count(&tokens)).unwrap(), &tokens, &mut words, &mut out);
            for (at, mask) in flips {
                let at = at.index(out.len());
                out[at] ^= mask;
            }
            let _ = read(&out, &mut [0; 997]);
            let _ = read(&out[..cut.index(out.len())], &mut [0; 997]);
        }
    }

    #[test]
    fn one_token_alone_costs_next_to_nothing() {
        let tokens = [5; 10_000];
        let table = Table::of(&count(&tokens)).unwrap();
        let (mut words, mut out) = (Vec::new(), Vec::new());
        write(&table, &tokens, &mut words, &mut out);
        assert!(out.len() < 40, "{}", out.len());
        let mut back = [0; 10_000];
        read(&out, &mut back).unwrap();
        assert_eq!(back, tokens);
        assert!(Table::of(&[0; 256]).is_none());
    }
}
