//! p and q on their level sets, coded against what the receiver has from the iteration before.
//!
//! Sender and receiver of a (kind, boundary, block) each keep a [`Stream`]: the level indices of the last message,
//! which most of the next one's equal. The sender picks the smallest of the forms of [`Form`] for each message.
//! Lossless for the indices. Where the level set changes, both sides map the indices they keep to the nearest levels
//! of the new one.

use super::changes::{ChangeTokens, Changes, Model};
use super::element::Element;
use super::levels::{LevelSet, Spacing};
use super::message::{Expected, Form, Header, MessageError, Opened, Problem, begin, open, seal};
use super::pack::packed_len;
use super::whole::{WholeBlock, read_packed, write_packed};

/// Larger blocks are packed, and nothing else: positions have 31 bits.
const MOST_CODED: usize = 1 << 30;
/// Up to this many changes, or this share of all elements, adaptive range coding is quick enough: it costs some
/// 100 ns a change, and the rest of a message a few ns an element.
const FEW_CHANGES: usize = 64;
const SMALL_SHARE: usize = 200;
/// Above one change in this many elements, gaps would cost more than all differences.
const GAPS_SHARE: usize = 12;
/// Coding a whole block must save more than one byte in this many against packing, or is not worth its time.
const WORTH: usize = 32;

/// How level indices travel.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    /// In the smallest of all forms.
    #[default]
    Smallest,
    /// B bits an index, whatever came before: for comparison.
    Packed,
}

/// One side of the messages of one variable, boundary and block, from the start of a stage on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stream {
    levels: Option<LevelSet>,
    reference: Vec<u16>,
    digest: u16,
    model: Model,
    coding: Coding,
}

/// A [`Stream`] as plain data, for checkpoints.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CodecState {
    /// Spacing, lowest level, step and number of levels of the last message; `None` before the first.
    pub levels: Option<(Spacing, f64, f64, u32)>,
    /// Level indices of the last message.
    pub indices: Vec<u16>,
    /// Digest of the messages so far.
    pub digest: u16,
    /// What the adaptive coder has learnt.
    pub model: Vec<u16>,
}

impl CodecState {
    /// Length of `model`.
    pub fn model_len() -> usize {
        Model::WORDS
    }
}

/// Buffers that all streams of a rank share.
#[derive(Debug, Default)]
pub struct Scratch {
    indices: Vec<u16>,
    payload: Vec<u8>,
    changes: Changes,
    change_tokens: ChangeTokens,
    whole: WholeBlock,
}

#[cfg(test)]
impl Scratch {
    /// Bytes of all buffers.
    fn memory(&self) -> usize {
        let Scratch { indices, payload, changes, change_tokens, whole } = self;
        2 * indices.capacity()
            + payload.capacity()
            + changes.memory()
            + change_tokens.memory()
            + whole.memory()
    }
}

impl Stream {
    /// Nothing sent or received yet.
    pub fn new() -> Self {
        Stream::default()
    }

    /// Sends in this coding; receiving understands all.
    pub fn with_coding(mut self, coding: Coding) -> Self {
        self.coding = coding;
        self
    }

    /// Takes as the message before what both sides know already, such as the start of a stage; `values` are on
    /// `levels`.
    pub fn start_from<T: Element>(&mut self, levels: &LevelSet, values: &[T]) {
        self.reference.resize(values.len(), 0);
        levels.indices_of(values, &mut self.reference);
        let mut hasher = crc32fast::Hasher::new();
        for indices in self.reference.chunks(256) {
            let mut bytes = [0u8; 512];
            bytes.as_chunks_mut::<2>().0.iter_mut().zip(indices).for_each(|(b, i)| *b = i.to_le_bytes());
            hasher.update(&bytes);
        }
        *self = Stream {
            levels: Some(*levels),
            reference: std::mem::take(&mut self.reference),
            digest: ((hasher.finalize() >> 16) as u16).max(1),
            model: Model::default(),
            coding: self.coding,
        };
    }

    /// Everything as plain data.
    pub fn state(&self) -> CodecState {
        CodecState {
            levels: self.levels.map(|levels| (levels.spacing(), levels.lo(), levels.step(), levels.count())),
            indices: self.reference.clone(),
            digest: self.digest,
            model: self.model.to_words(),
        }
    }

    /// From [`Stream::state`].
    ///
    /// # Errors
    /// [`Problem::Levels`], [`Problem::Index`] or [`Problem::Changes`] where the data contradict each other.
    pub fn from_state(state: CodecState) -> Result<Self, Problem> {
        let CodecState { levels, indices, digest, model } = state;
        let levels = levels
            .map(|(spacing, lo, step, count)| match spacing {
                Spacing::Even => LevelSet::new(lo, step, count),
                Spacing::Squares => LevelSet::squares(step, count),
            })
            .transpose()?;
        check_indices(&indices, levels.map_or(0, |levels| levels.count()))?;
        let model = Model::from_words(&model).ok_or(Problem::Changes { elements: indices.len() })?;
        Ok(Stream { levels, reference: indices, digest, model, coding: Coding::default() })
    }

    /// Writes `values`, which are on `levels`, into `message` in the smallest form; the content of `message` is
    /// replaced and its allocation is reused. Values off the levels arrive as the nearest ones.
    ///
    /// # Errors
    /// [`Problem::Shape`] if `values` does not have rows × columns numbers.
    pub fn encode<T: Element>(
        &mut self,
        header: &Header,
        levels: &LevelSet,
        values: &[T],
        scratch: &mut Scratch,
        message: &mut Vec<u8>,
    ) -> Result<Form, MessageError> {
        header.check_shape(values.len())?;
        scratch.indices.resize(values.len(), 0);
        levels.indices_of(values, &mut scratch.indices);
        let changed_levels = (self.levels != Some(*levels)).then_some(levels);
        let has_reference = self.follow(levels, values.len());
        scratch.payload.clear();
        let form =
            self.write_smallest(levels, has_reference, scratch).map_err(|problem| header.error(problem))?;
        begin(header, form, changed_levels, scratch.payload.len(), message);
        message.extend_from_slice(&scratch.payload);
        self.digest = seal(message, self.digest);
        if form != Form::Unchanged {
            std::mem::swap(&mut self.reference, &mut scratch.indices);
        }
        Ok(form)
    }

    /// Makes the reference one of `levels`; says whether there is one of `len` elements.
    fn follow(&mut self, levels: &LevelSet, len: usize) -> bool {
        let before = self.levels.replace(*levels);
        let Some(before) = before.filter(|_| self.reference.len() == len) else { return false };
        if before != *levels {
            let mapped: Vec<u16> =
                (0..before.count()).map(|index| levels.nearest(before.value(index)) as u16).collect();
            self.reference.iter_mut().for_each(|index| *index = mapped[usize::from(*index)]);
        }
        true
    }

    /// Appends the payload of the smallest form.
    fn write_smallest(
        &mut self,
        levels: &LevelSet,
        has_reference: bool,
        scratch: &mut Scratch,
    ) -> Result<Form, Problem> {
        let Scratch { indices, payload, changes, change_tokens, whole } = scratch;
        let (len, bits) = (indices.len(), levels.bits());
        let packed = packed_len(len, bits);
        if len > MOST_CODED || self.coding == Coding::Packed {
            write_packed(indices, bits, payload)?;
            return Ok(Form::Packed);
        }
        let old = has_reference.then_some(self.reference.as_slice());
        if let Some(old) = old {
            let (few, some) = (FEW_CHANGES.max(len / SMALL_SHARE), len / GAPS_SHARE);
            let is_list = changes.find(old, indices, few.max(some));
            let count = changes.count();
            if count == 0 {
                return Ok(Form::Unchanged);
            }
            if is_list && count <= few {
                let mut model = self.model.clone();
                changes.write_adaptive(old, indices, &mut model, payload);
                if payload.len() <= packed {
                    self.model = model;
                    return Ok(Form::Sparse);
                }
                payload.clear();
            } else if is_list && count <= some {
                changes.write_tables(old, indices, change_tokens, payload);
                if payload.len() <= packed / 4 {
                    return Ok(Form::Gaps);
                }
            }
        }
        // What gaps took, if they were tried.
        let gaps = if payload.is_empty() { usize::MAX } else { payload.len() };
        let by_differences = old.map_or(usize::MAX, |old| whole.prepare(indices, Some(old), bits));
        // The same tokens without a reference: only where the reference does not help much.
        let without =
            if by_differences > packed / 2 { whole.prepare(indices, None, bits) } else { usize::MAX };
        let smallest = gaps.min(by_differences).min(without);
        if smallest > packed - packed / WORTH {
            payload.clear();
            write_packed(indices, bits, payload)?;
            return Ok(Form::Packed);
        }
        if smallest == gaps {
            return Ok(Form::Gaps);
        }
        payload.clear();
        let form = if smallest == without {
            Form::Coded
        } else {
            if without != usize::MAX {
                whole.prepare(indices, old, bits);
            }
            Form::Differences
        };
        whole.write(payload);
        if payload.len() > packed {
            payload.clear();
            write_packed(indices, bits, payload)?;
            return Ok(Form::Packed);
        }
        Ok(form)
    }

    /// Checks a message and writes its numbers into `values`, which holds rows × columns of them; `levels` are those
    /// that the receiver knows the sender to use. After an error `values` is unchanged, and the stream is of no
    /// more use.
    ///
    /// # Errors
    /// Whatever is wrong with the message, named by boundary and iteration.
    pub fn decode<T: Element>(
        &mut self,
        message: &[u8],
        expected: &Expected,
        levels: &LevelSet,
        values: &mut [T],
        scratch: &mut Scratch,
    ) -> Result<Form, MessageError> {
        expected.check_shape(values.len())?;
        let opened = open(message, expected, self.digest).map_err(|problem| expected.error(problem))?;
        self.read(&opened, levels, values.len(), scratch).map_err(|problem| expected.error(problem))?;
        self.digest = opened.digest;
        levels.values_of(&self.reference, values);
        Ok(opened.form)
    }

    /// Brings the reference to what the message says.
    fn read(
        &mut self,
        opened: &Opened<'_>,
        levels: &LevelSet,
        len: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Problem> {
        let form = opened.form;
        let found = opened
            .levels
            .or(self.levels)
            .ok_or(Problem::Form { expected: "a level set in the first message", found: form as u8 })?;
        if found != *levels {
            return Err(Problem::OtherLevels { expected: Box::new(*levels), found: Box::new(found) });
        }
        let has_reference = self.follow(levels, len);
        if form.needs_reference() && !has_reference {
            return Err(Problem::Form {
                expected: "a form that needs no message before it",
                found: form as u8,
            });
        }
        let (bits, count) = (levels.bits(), levels.count());
        let Scratch { indices, changes, change_tokens, whole, .. } = scratch;
        match form {
            Form::Unchanged => return opened.check_payload(0),
            Form::Sparse => {
                changes.read_adaptive(opened.payload, &self.reference, count, &mut self.model)?;
                changes.apply(&mut self.reference);
                return Ok(());
            }
            Form::Gaps => {
                changes.read_tables(opened.payload, &self.reference, count, change_tokens)?;
                changes.apply(&mut self.reference);
                return Ok(());
            }
            _ => indices.resize(len, 0),
        }
        match form {
            Form::Packed => {
                opened.check_payload(packed_len(len, bits))?;
                read_packed(opened.payload, bits, indices)?;
            }
            Form::Differences => whole.read(opened.payload, Some(&self.reference), bits, indices)?,
            Form::Coded => whole.read(opened.payload, None, bits, indices)?,
            _ => return Err(Problem::Form { expected: "level indices", found: form as u8 }),
        }
        check_indices(indices, count)?;
        std::mem::swap(&mut self.reference, indices);
        Ok(())
    }
}

fn check_indices(indices: &[u16], count: u32) -> Result<(), Problem> {
    match indices.iter().fold(0, |largest, &index| index.max(largest)) {
        found if u32::from(found) >= count && !indices.is_empty() => {
            Err(Problem::Index { count, found: found.into() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
