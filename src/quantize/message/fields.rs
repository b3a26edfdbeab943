//! How the fields of a header are written and read: varints and level sets.

use super::Problem;
use crate::quantize::levels::{LevelSet, Spacing};

/// Reads a header piece by piece.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn number(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    pub(super) fn levels(&mut self) -> Result<Option<LevelSet>, Problem> {
        let code = self.byte();
        let parts = (|| match code? {
            0 => Some(None),
            1 => {
                let exponent = self.byte()? as i8;
                Some(Some((Spacing::Even, 0.0, 2f64.powi(exponent.into()), self.varint()?)))
            }
            2 => Some(Some((Spacing::Even, self.number()?, self.number()?, self.varint()?))),
            3 => {
                let exponent = self.byte()? as i8;
                Some(Some((Spacing::Squares, 0.0, 2f64.powi(exponent.into()), self.varint()?)))
            }
            4 => Some(Some((Spacing::Squares, 0.0, self.number()?, self.varint()?))),
            _ => None,
        })();
        match parts {
            None => Err(Problem::Form { expected: "a level set", found: code.unwrap_or_default() }),
            Some(None) => Ok(None),
            Some(Some((spacing, lo, step, count))) => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                Ok(Some(match spacing {
                    Spacing::Even => LevelSet::new(lo, step, count)?,
                    Spacing::Squares => LevelSet::squares(step, count)?,
                }))
            }
        }
    }
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_levels(levels: Option<&LevelSet>, out: &mut Vec<u8>) {
    let Some(levels) = levels else {
        out.push(0);
        return;
    };
    let exponent = levels.step().log2();
    let is_power = exponent.fract() == 0.0 && exponent.abs() < 127.0;
    let is_power = levels.lo() == 0.0 && is_power && 2f64.powi(exponent as i32) == levels.step();
    match (levels.spacing(), is_power) {
        (Spacing::Even, true) => out.extend_from_slice(&[1, exponent as i8 as u8]),
        (Spacing::Even, false) => {
            out.push(2);
            out.extend_from_slice(&levels.lo().to_le_bytes());
            out.extend_from_slice(&levels.step().to_le_bytes());
        }
        (Spacing::Squares, true) => out.extend_from_slice(&[3, exponent as i8 as u8]),
        (Spacing::Squares, false) => {
            out.push(4);
            out.extend_from_slice(&levels.step().to_le_bytes());
        }
    }
    put_varint(levels.count().into(), out);
}
