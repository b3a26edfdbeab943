//! The level indices that have changed: where, and by how much.

use super::message::Problem;
use super::number_tokens::{BitReader, BitWriter, join, split};
use super::range_coder::{Chance, NUMBER_CHANCES, Numbers, Reader, Writer};
use super::tokens::{self, Table};

/// Elements compared at a time.
const STRETCH: usize = 64;
/// More than one change in this many among so many first elements: the rest is taken to be like them.
const DENSE: usize = 8;
const SAMPLE: usize = 8192;

/// What [`Changes`] has learnt from the messages so far; both sides learn the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    count: [Chance; NUMBER_CHANCES],
    /// After a change next door, and otherwise.
    gap: [[Chance; NUMBER_CHANCES]; 2],
    size: [Chance; NUMBER_CHANCES],
    /// After a change downwards, after one upwards.
    sign: [Chance; 2],
}

impl Default for Model {
    fn default() -> Self {
        let even = [Chance::EVEN; NUMBER_CHANCES];
        Model { count: even, gap: [even; 2], size: even, sign: [Chance::EVEN; 2] }
    }
}

impl Model {
    /// Numbers that [`Model::to_words`] gives.
    pub const WORDS: usize = 2 * (4 * NUMBER_CHANCES + 2);

    /// As plain data.
    pub fn to_words(&self) -> Vec<u16> {
        let parts = self.count.iter().chain(self.gap.iter().flatten()).chain(&self.size).chain(&self.sign);
        parts.flat_map(|chance| chance.to_words()).collect()
    }

    /// From [`Model::to_words`]; `None` if there are not as many words.
    pub fn from_words(words: &[u16]) -> Option<Self> {
        if words.len() != Self::WORDS {
            return None;
        }
        let mut model = Model::default();
        let parts = model.count.iter_mut().chain(model.gap.iter_mut().flatten());
        let parts = parts.chain(&mut model.size).chain(&mut model.sign);
        parts.zip(words.as_chunks::<2>().0).for_each(|(chance, &words)| *chance = Chance::from_words(words));
        Some(model)
    }
}

/// Positions and new indices, in ascending order of position.
#[derive(Debug, Default)]
pub struct Changes {
    /// Room for every element; the first `count` are set.
    positions: Vec<u32>,
    count: usize,
    /// The new indices of the changed elements, when they have been read.
    values: Vec<u16>,
}

/// Buffers of [`Changes::write_tables`] and [`Changes::read_tables`].
#[derive(Debug, Default)]
pub struct ChangeTokens {
    gaps: Vec<u8>,
    sizes: Vec<u8>,
    words: Vec<u16>,
    plain: Vec<u8>,
}

#[cfg(test)]
impl Changes {
    /// Bytes of the buffers.
    pub fn memory(&self) -> usize {
        4 * self.positions.capacity() + 2 * self.values.capacity()
    }
}

#[cfg(test)]
impl ChangeTokens {
    /// Bytes of the buffers.
    pub fn memory(&self) -> usize {
        let ChangeTokens { gaps, sizes, words, plain } = self;
        gaps.capacity() + sizes.capacity() + 2 * words.capacity() + plain.capacity()
    }
}

impl Changes {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Finds where `new` differs from `old`, of the same length. Gives up where a list of changes is not
    /// worth while, soon after more than `most` or where the beginning is full of them; says whether it went through.
    pub fn find(&mut self, old: &[u16], new: &[u16], most: usize) -> bool {
        if self.positions.len() < new.len() {
            self.positions.resize(new.len(), 0);
        }
        self.count = 0;
        for (k, (old, new)) in old.chunks(STRETCH).zip(new.chunks(STRETCH)).enumerate() {
            // Most stretches are equal, and comparing them whole takes 64-bit words or wider.
            if old == new {
                continue;
            }
            let mut at = k * STRETCH;
            let ((old, old_rest), (new, new_rest)) = (old.as_chunks::<4>(), new.as_chunks::<4>());
            for (old, new) in old.iter().zip(new) {
                // Four indices are one comparison of 64 bits.
                if old != new {
                    self.note(at, old, new);
                }
                at += 4;
            }
            self.note(at, old_rest, new_rest);
            let seen = (k + 1) * STRETCH;
            if self.count > most || (seen >= SAMPLE && self.count > seen / DENSE) {
                return false;
            }
        }
        true
    }

    /// Takes down the differences of a few elements from position `at` on; without branches.
    #[inline(always)]
    fn note(&mut self, at: usize, old: &[u16], new: &[u16]) {
        for ((i, old), new) in (at..).zip(old).zip(new) {
            self.positions[self.count] = i as u32;
            self.count += usize::from(old != new);
        }
    }

    /// Writes the changes by adaptive range coding.
    pub fn write_adaptive(&self, old: &[u16], new: &[u16], model: &mut Model, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        Numbers(&mut model.count).write(&mut writer, self.count as u32);
        let (mut next, mut is_near, mut was_up) = (0, 0, 0);
        for &position in &self.positions[..self.count] {
            let gap = position - next;
            Numbers(&mut model.gap[is_near]).write(&mut writer, gap);
            let (from, to) = (old[position as usize], new[position as usize]);
            writer.bit(&mut model.sign[was_up], to > from);
            Numbers(&mut model.size).write(&mut writer, u32::from(from.abs_diff(to)) - 1);
            (next, is_near, was_up) = (position + 1, usize::from(gap == 0), usize::from(to > from));
        }
        writer.finish();
    }

    /// Reads what [`Changes::write_adaptive`] wrote, for indices below `count`.
    ///
    /// # Errors
    /// Changes that do not fit, an index beyond the levels, or bytes left over.
    pub fn read_adaptive(
        &mut self,
        payload: &[u8],
        old: &[u16],
        count: u32,
        model: &mut Model,
    ) -> Result<(), Problem> {
        let misfit = Problem::Changes { elements: old.len() };
        let mut reader = Reader::new(payload);
        let changes = Numbers(&mut model.count).read(&mut reader) as usize;
        if changes > old.len() {
            return Err(misfit);
        }
        self.clear(changes);
        let (mut next, mut is_near, mut was_up) = (0usize, 0, 0);
        for _ in 0..changes {
            let gap = Numbers(&mut model.gap[is_near]).read(&mut reader) as usize;
            let position = next + gap;
            let Some(&from) = old.get(position) else { return Err(misfit) };
            let up = reader.bit(&mut model.sign[was_up]);
            let size = i64::from(Numbers(&mut model.size).read(&mut reader)) + 1;
            let to = i64::from(from) + if up { size } else { -size };
            self.push(position, to, count)?;
            (next, is_near, was_up) = (position + 1, usize::from(gap == 0), usize::from(up));
        }
        match reader.rest() {
            0 => Ok(()),
            rest => Err(Problem::Rest(rest)),
        }
    }

    /// Writes the changes by a table of frequencies for the gaps and one for the differences: bulkier by the tables,
    /// several times quicker.
    pub fn write_tables(&self, old: &[u16], new: &[u16], buffers: &mut ChangeTokens, out: &mut Vec<u8>) {
        let ChangeTokens { gaps, sizes, words, plain } = buffers;
        gaps.clear();
        sizes.clear();
        plain.clear();
        let mut bits = BitWriter::new(plain);
        let (mut gap_counts, mut size_counts) = ([0; 256], [0; 256]);
        let mut next = 0;
        for &position in &self.positions[..self.count] {
            let (gap, from, to) = (position - next, old[position as usize], new[position as usize]);
            // 2(d − 1) upwards, 2(d − 1) + 1 downwards.
            let size = (u32::from(from.abs_diff(to)) - 1) * 2 + u32::from(to < from);
            for (x, tokens, counts) in
                [(gap, &mut *gaps, &mut gap_counts), (size, &mut *sizes, &mut size_counts)]
            {
                let (token, extra) = split(x);
                tokens.push(token);
                counts[usize::from(token)] += 1;
                bits.put(x, extra);
            }
            next = position + 1;
        }
        bits.finish();
        out.extend_from_slice(&(self.count as u32).to_le_bytes());
        for (tokens, counts) in [(&*gaps, gap_counts), (&*sizes, size_counts)] {
            if let Some(table) = Table::of(&counts) {
                tokens::write(&table, tokens, words, out);
            }
        }
        out.extend_from_slice(plain);
    }

    /// Reads what [`Changes::write_tables`] wrote.
    ///
    /// # Errors
    /// As [`Changes::read_adaptive`], or a stream that cannot be read.
    pub fn read_tables(
        &mut self,
        payload: &[u8],
        old: &[u16],
        count: u32,
        buffers: &mut ChangeTokens,
    ) -> Result<(), Problem> {
        let misfit = Problem::Changes { elements: old.len() };
        let Some((changes, rest)) = payload.split_first_chunk::<4>() else { return Err(misfit) };
        let changes = u32::from_le_bytes(*changes) as usize;
        if changes > old.len() || changes == 0 {
            return Err(misfit);
        }
        let ChangeTokens { gaps, sizes, .. } = buffers;
        gaps.resize(changes, 0);
        sizes.resize(changes, 0);
        let rest = tokens::read(rest, gaps)?;
        let rest = tokens::read(rest, sizes)?;
        let mut bits = BitReader::new(rest);
        self.clear(changes);
        let mut next = 0usize;
        for (&gap, &size) in gaps.iter().zip(&*sizes) {
            let (Some((gap, gap_bits)), Some((size, size_bits))) = (join(gap), join(size)) else {
                return Err(misfit);
            };
            let position = next + (gap + bits.take(gap_bits)) as usize;
            let size = i64::from(size + bits.take(size_bits));
            let Some(&from) = old.get(position) else { return Err(misfit) };
            let step = if size & 1 == 0 { size / 2 + 1 } else { -(size / 2 + 1) };
            self.push(position, i64::from(from) + step, count)?;
            next = position + 1;
        }
        match bits.rest() {
            Some(0) => Ok(()),
            Some(rest) => Err(Problem::Rest(rest)),
            None => Err(misfit),
        }
    }

    /// Makes the changes that were read.
    pub fn apply(&self, indices: &mut [u16]) {
        for (&position, &value) in self.positions[..self.count].iter().zip(&self.values) {
            indices[position as usize] = value;
        }
    }

    fn clear(&mut self, room: usize) {
        if self.positions.len() < room {
            self.positions.resize(room, 0);
        }
        self.count = 0;
        self.values.clear();
    }

    fn push(&mut self, position: usize, to: i64, count: u32) -> Result<(), Problem> {
        if !(0..i64::from(count)).contains(&to) {
            let found = u32::try_from(to).unwrap_or(u32::MAX);
            return Err(Problem::Index { count, found });
        }
        self.positions[self.count] = position as u32;
        self.count += 1;
        self.values.push(to as u16);
        Ok(())
    }
}
