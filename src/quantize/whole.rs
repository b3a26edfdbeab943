//! All level indices of a block: packed, or coded by one table of frequencies, as they are or as differences.

use super::message::Problem;
use super::number_tokens::{BitReader, BitWriter, join, split};
use super::pack::{pack, packed_len, unpack};
use super::tokens::{self, Table};

/// Indices packed at a time; a multiple of 8, so that groups stay whole.
const BATCH: usize = 512;
/// With up to this many bits an index, two of them share a token.
const PAIR_BITS: u32 = 4;

/// Tokens of a whole block and their frequencies.
#[derive(Debug, Default)]
pub struct WholeBlock {
    tokens: Vec<u8>,
    plain: Vec<u8>,
    words: Vec<u16>,
    table: Option<Table>,
}

/// Indices without a reference are differences from zero.
fn against(old: Option<&[u16]>, at: usize, len: usize) -> &[u16] {
    const ZEROS: [u16; BATCH] = [0; BATCH];
    match old {
        Some(old) => &old[at..at + len],
        None => &ZEROS[..len],
    }
}

#[cfg(test)]
impl WholeBlock {
    /// Bytes of the buffers.
    pub fn memory(&self) -> usize {
        self.tokens.capacity() + self.plain.capacity() + 2 * self.words.capacity()
    }
}

impl WholeBlock {
    /// Prepares to write `new` against `old`; gives about how many bytes it will take.
    pub fn prepare(&mut self, new: &[u16], old: Option<&[u16]>, bits: u32) -> usize {
        let WholeBlock { tokens, plain, .. } = self;
        plain.clear();
        // Four counters a token: the same one twice in a row would wait for its memory.
        let mut counts = [[0u32; 256]; 4];
        if bits <= PAIR_BITS {
            tokens.resize(new.len().div_ceil(2), 0);
            for (k, (new, tokens)) in new.chunks(BATCH).zip(tokens.chunks_mut(BATCH / 2)).enumerate() {
                let old = against(old, k * BATCH, new.len());
                let nibble = |new: u16, old: u16| (new.wrapping_sub(old) & 0xf) as u8;
                let ((new, rest), (old, old_rest)) = (new.as_chunks::<2>(), old.as_chunks::<2>());
                for ((token, new), old) in tokens.iter_mut().zip(new).zip(old) {
                    *token = nibble(new[0], old[0]) | nibble(new[1], old[1]) << 4;
                }
                if let ([new], [old], Some(token)) = (rest, old_rest, tokens.last_mut()) {
                    *token = nibble(*new, *old);
                }
            }
            let (groups, rest) = tokens.as_chunks::<4>();
            for group in groups {
                for (counts, &token) in counts.iter_mut().zip(group) {
                    counts[usize::from(token)] += 1;
                }
            }
            rest.iter().for_each(|&token| counts[0][usize::from(token)] += 1);
        } else {
            tokens.clear();
            let mut writer = BitWriter::new(plain);
            let half = 1u16 << (bits - 1);
            for (k, new) in new.chunks(BATCH).enumerate() {
                let reference = against(old, k * BATCH, new.len());
                for (i, (&new, &from)) in new.iter().zip(reference).enumerate() {
                    let x = match old {
                        None => u32::from(new),
                        // Around the circle of 2^bits, zigzag: 0, −1, 1, −2, …
                        Some(_) => {
                            let d = u32::from(new.wrapping_sub(from)) & ((1 << bits) - 1);
                            if d < u32::from(half) { 2 * d } else { 2 * ((1 << bits) - d) - 1 }
                        }
                    };
                    let (token, extra) = split(x);
                    tokens.push(token);
                    counts[i % 4][usize::from(token)] += 1;
                    writer.put(x, extra);
                }
            }
            writer.finish();
        }
        let counts: [u32; 256] = std::array::from_fn(|i| counts.iter().map(|counts| counts[i]).sum());
        self.table = Table::of(&counts);
        let table_len = counts.iter().filter(|&&count| count > 0).count();
        let bits = self.table.as_ref().map_or(0.0, |table| table.bits(&counts));
        (bits / 8.0) as usize + self.plain.len() + table_len + 24
    }

    /// Writes what was prepared; nothing for an empty block.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        if let Some(table) = &self.table {
            tokens::write(table, &self.tokens, &mut self.words, out);
            out.extend_from_slice(&self.plain);
        }
    }

    /// Reads what [`WholeBlock::write`] wrote.
    ///
    /// # Errors
    /// A stream that cannot be read, or bytes left over.
    pub fn read(
        &mut self,
        payload: &[u8],
        old: Option<&[u16]>,
        bits: u32,
        new: &mut [u16],
    ) -> Result<(), Problem> {
        if new.is_empty() {
            return if payload.is_empty() { Ok(()) } else { Err(Problem::Rest(payload.len())) };
        }
        let misfit = Problem::Changes { elements: new.len() };
        let paired = bits <= PAIR_BITS;
        self.tokens.resize(if paired { new.len().div_ceil(2) } else { new.len() }, 0);
        let rest = tokens::read(payload, &mut self.tokens)?;
        let mut reader = BitReader::new(rest);
        if paired {
            for (k, (new, tokens)) in new.chunks_mut(BATCH).zip(self.tokens.chunks(BATCH / 2)).enumerate() {
                let old = against(old, k * BATCH, new.len());
                let ((new, last), (old, old_last)) = (new.as_chunks_mut::<2>(), old.as_chunks::<2>());
                for ((new, old), &token) in new.iter_mut().zip(old).zip(tokens) {
                    new[0] = old[0].wrapping_add(token.into()) & 0xf;
                    new[1] = old[1].wrapping_add((token >> 4).into()) & 0xf;
                }
                if let ([new], [old], Some(&token)) = (last, old_last, tokens.last()) {
                    if token > 0xf {
                        return Err(misfit);
                    }
                    *new = old.wrapping_add(token.into()) & 0xf;
                }
            }
        } else {
            let mask = ((1u32 << bits) - 1) as u16;
            for (k, (new, tokens)) in new.chunks_mut(BATCH).zip(self.tokens.chunks(BATCH)).enumerate() {
                let reference = against(old, k * BATCH, new.len());
                for ((new, &from), &token) in new.iter_mut().zip(reference).zip(tokens) {
                    let (base, extra) = join(token).ok_or(misfit.clone())?;
                    let x = base.wrapping_add(reader.take(extra));
                    if x > mask.into() {
                        return Err(misfit);
                    }
                    *new = match old {
                        None => x as u16,
                        Some(_) if x & 1 == 0 => from.wrapping_add((x / 2) as u16) & mask,
                        Some(_) => from.wrapping_sub((x / 2) as u16 + 1) & mask,
                    };
                }
            }
        }
        match reader.rest() {
            Some(0) => Ok(()),
            Some(rest) => Err(Problem::Rest(rest)),
            None => Err(misfit),
        }
    }
}

/// Appends the indices, packed.
///
/// # Errors
/// Bits out of range.
pub fn write_packed(indices: &[u16], bits: u32, out: &mut Vec<u8>) -> Result<(), Problem> {
    let at = out.len();
    out.resize(at + packed_len(indices.len(), bits), 0);
    let mut wide = [0; BATCH];
    for (indices, packed) in indices.chunks(BATCH).zip(out[at..].chunks_mut(packed_len(BATCH, bits).max(1))) {
        let wide = &mut wide[..indices.len()];
        wide.iter_mut().zip(indices).for_each(|(wide, &index)| *wide = index.into());
        pack(wide, bits, packed)?;
    }
    Ok(())
}

/// Reads what [`write_packed`] wrote; the payload has the right length.
///
/// # Errors
/// Bits after the last index are set.
pub fn read_packed(payload: &[u8], bits: u32, indices: &mut [u16]) -> Result<(), Problem> {
    let mut wide = [0; BATCH];
    for (indices, packed) in indices.chunks_mut(BATCH).zip(payload.chunks(packed_len(BATCH, bits).max(1))) {
        let wide = &mut wide[..indices.len()];
        unpack(packed, bits, wide)?;
        indices.iter_mut().zip(wide).for_each(|(index, &mut wide)| *index = wide as u16);
    }
    Ok(())
}
