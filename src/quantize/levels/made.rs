//! Level sets from a range, bits, numbers or a text, and what is none.

use std::str::FromStr;

use super::{LevelSet, Spacing};

/// The most levels: indices have up to 16 bits.
const MOST: u32 = 1 << 16;

/// Why some numbers are no level set.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LevelError {
    /// Not three numbers with colons between.
    #[error("level set \"{0}\": expected LO:HI:STEP, three numbers as in -1:20:1")]
    Syntax(String),
    /// An infinite number or NaN.
    #[error("level set from {lo} in steps of {step}: all numbers must be finite")]
    NotFinite {
        /// The lowest level.
        lo: f64,
        /// The step.
        step: f64,
    },
    /// The step is zero or negative, or the range is empty.
    #[error(
        "level set from {lo} to {hi} in steps of {step}: the step must be above 0 and the end above the start"
    )]
    Empty {
        /// The lowest level.
        lo: f64,
        /// The highest level.
        hi: f64,
        /// The step.
        step: f64,
    },
    /// The range is not a whole number of steps.
    #[error("level set from {lo} to {hi}: steps of {step} end at {reached}; choose an end that they reach")]
    EndMissed {
        /// The lowest level.
        lo: f64,
        /// The end asked for.
        hi: f64,
        /// The step.
        step: f64,
        /// The level nearest to that end.
        reached: f64,
    },
    /// Too few or too many.
    #[error("a level set of {0} levels: from 2 to {MOST} are possible")]
    Count(f64),
    /// Neighbouring levels could not be told apart in f32.
    #[error("level set from {lo} to {hi} in steps of {step}: f32 cannot tell such fine steps apart")]
    TooFine {
        /// The lowest level.
        lo: f64,
        /// The highest level.
        hi: f64,
        /// The step.
        step: f64,
    },
    /// Explicit levels that do not ascend by one step.
    #[error("level {index} is {found}, but even spacing asks for {expected}")]
    Uneven {
        /// Its index.
        index: usize,
        /// The value given.
        found: f64,
        /// The value that even spacing asks for.
        expected: f64,
    },
    /// Bits out of range.
    #[error("{0} bits: from 1 to 16 are possible")]
    Bits(u32),
}

impl LevelSet {
    /// `count` levels from `lo` on.
    ///
    /// # Errors
    /// Not finite, step not above 0, fewer than 2 or more than 65,536 levels, or steps so fine that f32 could not tell
    /// two levels apart.
    pub fn new(lo: f64, step: f64, count: u32) -> Result<Self, LevelError> {
        let hi = lo + f64::from(count.saturating_sub(1)) * step;
        if !(lo.is_finite() && step.is_finite() && hi.is_finite()) {
            return Err(LevelError::NotFinite { lo, step });
        }
        if step <= 0.0 {
            return Err(LevelError::Empty { lo, hi, step });
        }
        if !(2..=MOST).contains(&count) {
            return Err(LevelError::Count(f64::from(count)));
        }
        let largest = lo.abs().max(hi.abs());
        // f32 rounds by up to 2⁻²⁴ of a number, and by 2⁻¹⁵⁰ near zero; a step is to be eight times that. The end must
        // not round to infinity.
        if step < largest * 2f64.powi(-21) || step < 2f64.powi(-147) || largest > f64::from(f32::MAX) {
            return Err(LevelError::TooFine { lo, hi, step });
        }
        let doubt = 8.0 * f64::EPSILON * (largest / step + f64::from(count));
        let is_power = lo == 0.0 && is_middling_power(step);
        Ok(LevelSet { lo, step, inverse: 1.0 / step, count, spacing: Spacing::Even, is_power, doubt })
    }

    /// `count` levels 0, step, 4 step, 9 step, …
    ///
    /// # Errors
    /// As [`LevelSet::new`]. Levels at squares are far enough apart for f32 whatever their number.
    pub fn squares(step: f64, count: u32) -> Result<Self, LevelError> {
        let top = f64::from(count.saturating_sub(1));
        let hi = top * top * step;
        if !(step.is_finite() && hi.is_finite()) {
            return Err(LevelError::NotFinite { lo: 0.0, step });
        }
        if step <= 0.0 {
            return Err(LevelError::Empty { lo: 0.0, hi, step });
        }
        if !(2..=MOST).contains(&count) {
            return Err(LevelError::Count(f64::from(count)));
        }
        if step < 2f64.powi(-120) || hi > f64::from(f32::MAX) {
            return Err(LevelError::TooFine { lo: 0.0, hi, step });
        }
        // Errors are those of the root, which is at most `count`.
        let doubt = 16.0 * f64::EPSILON * f64::from(count);
        let is_power = is_middling_power(step);
        Ok(LevelSet { lo: 0.0, step, inverse: 1.0 / step, count, spacing: Spacing::Squares, is_power, doubt })
    }

    /// Levels from `lo` to `hi`, both included.
    ///
    /// # Errors
    /// As [`LevelSet::new`], or `hi` is not reached within rounding.
    pub fn from_range(lo: f64, hi: f64, step: f64) -> Result<Self, LevelError> {
        if !(lo.is_finite() && hi.is_finite() && step.is_finite()) {
            return Err(LevelError::NotFinite { lo, step });
        }
        if step <= 0.0 || hi <= lo {
            return Err(LevelError::Empty { lo, hi, step });
        }
        let steps = (hi - lo) / step;
        let whole = steps.round();
        if whole + 1.0 > f64::from(MOST) {
            return Err(LevelError::Count((whole + 1.0).floor()));
        }
        if whole < 1.0 || (steps - whole).abs() > 1e-9 * steps {
            return Err(LevelError::EndMissed { lo, hi, step, reached: lo + whole * step });
        }
        Self::new(lo, step, whole as u32 + 1)
    }

    /// 2^`bits` levels from `lo` to `hi`.
    ///
    /// # Errors
    /// As [`LevelSet::new`]; bits from 1 to 16.
    pub fn with_bits(lo: f64, hi: f64, bits: u32) -> Result<Self, LevelError> {
        if !(1..=16).contains(&bits) {
            return Err(LevelError::Bits(bits));
        }
        let count = 1u32 << bits;
        Self::new(lo, (hi - lo) / f64::from(count - 1), count)
    }

    /// The given levels, ascending and evenly spaced to within a millionth of a step.
    ///
    /// # Errors
    /// As [`LevelSet::new`], or the spacing is uneven.
    pub fn from_values(values: &[f64]) -> Result<Self, LevelError> {
        let (Some(&lo), Some(&hi)) = (values.first(), values.last()) else {
            return Err(LevelError::Count(0.0));
        };
        let count = u32::try_from(values.len()).map_err(|_| LevelError::Count(values.len() as f64))?;
        if count < 2 {
            return Err(LevelError::Count(f64::from(count)));
        }
        let set = Self::new(lo, (hi - lo) / f64::from(count - 1), count)?;
        for (index, &found) in values.iter().enumerate() {
            let expected = set.value(index as u32);
            if (found - expected).abs() > 1e-6 * set.step || found.is_nan() {
                return Err(LevelError::Uneven { index, found, expected });
            }
        }
        Ok(set)
    }
}

impl FromStr for LevelSet {
    type Err = LevelError;

    /// Reads `LO:HI:STEP`.
    fn from_str(text: &str) -> Result<Self, LevelError> {
        let syntax = || LevelError::Syntax(text.to_string());
        let numbers = text.split(':').map(|part| part.trim().parse::<f64>());
        let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| syntax())?;
        let [lo, hi, step] = numbers[..] else { return Err(syntax()) };
        LevelSet::from_range(lo, hi, step)
    }
}

/// Whether products and quotients with `step` are exact for every number of levels.
fn is_middling_power(step: f64) -> bool {
    let exponent = step.log2();
    (-100.0..100.0).contains(&exponent) && exponent.fract() == 0.0 && 2f64.powi(exponent as i32) == step
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wrong_sets_are_refused() {
        use LevelError as E;
        let parse = |text: &str| text.parse::<LevelSet>();
        assert!(matches!(parse("1:2"), Err(E::Syntax(_))));
        assert!(matches!(parse("1:2:3:4"), Err(E::Syntax(_))));
        assert!(matches!(parse("a:b:c"), Err(E::Syntax(_))));
        assert!(matches!(parse("0:inf:1"), Err(E::NotFinite { .. })));
        assert!(matches!(parse("0:1:NaN"), Err(E::NotFinite { .. })));
        assert!(matches!(parse("0:1:0"), Err(E::Empty { .. })));
        assert!(matches!(parse("1:0:1"), Err(E::Empty { .. })));
        assert!(matches!(parse("0:1:0.3"), Err(E::EndMissed { .. })));
        assert!(matches!(parse("0:1:3"), Err(E::EndMissed { .. })));
        assert!(matches!(parse("0:70000:1"), Err(E::Count(_))));
        assert!(matches!(parse("-1e308:1e308:1"), Err(E::Count(_))));
        assert!(matches!(parse("1e9:1000000001:0.001"), Err(E::TooFine { .. })));
        assert!(matches!(parse("0:1e40:1e39"), Err(E::TooFine { .. })));
        assert!(matches!(LevelSet::with_bits(0.0, 1.0, 17), Err(E::Bits(17))));
        assert!(matches!(LevelSet::with_bits(1.0, 1.0, 8), Err(E::Empty { .. })));
        assert!(matches!(LevelSet::new(0.0, 1.0, 1), Err(E::Count(_))));
        assert!(matches!(LevelSet::squares(1.0, 1), Err(E::Count(_))));
        assert!(matches!(LevelSet::squares(-1.0, 4), Err(E::Empty { .. })));
        assert!(matches!(LevelSet::squares(f64::NAN, 4), Err(E::NotFinite { .. })));
        assert!(matches!(LevelSet::squares(1e30, 1 << 16), Err(E::TooFine { .. })));
        assert!(matches!(LevelSet::squares(1e-40, 4), Err(E::TooFine { .. })));
        assert!(matches!(LevelSet::new(-1e-3, f64::MIN_POSITIVE, 4), Err(E::TooFine { .. })));
    }

    #[test]
    fn explicit_values() {
        let set = LevelSet::from_values(&[-1.0, -0.5, 0.0, 0.5]).unwrap();
        assert_eq!(set, LevelSet::new(-1.0, 0.5, 4).unwrap());
        assert!(matches!(
            LevelSet::from_values(&[0.0, 1.0, 3.0, 4.0]),
            Err(LevelError::Uneven { index: 1, .. })
        ));
        assert!(matches!(LevelSet::from_values(&[0.0, f64::NAN, 2.0]), Err(LevelError::Uneven { .. })));
        assert!(matches!(LevelSet::from_values(&[0.0]), Err(LevelError::Count(_))));
        assert!(matches!(LevelSet::from_values(&[]), Err(LevelError::Count(_))));
    }
}
