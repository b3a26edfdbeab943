//! Ranges of level sets taken from the data by a rule that every rank follows.
//!
//! A set of 2^B levels covers [0, H), at i²·H/4^B or evenly at i·H/2^B, with H a power of two: activations behind a ReLU are
//! not negative, 0 is a level, and a grid that only changes by powers of two stays put between iterations.
//! H is the smallest power of two above the largest |value| of the iteration before last; it grows at once and
//! shrinks only when the values would fit a quarter of it.

use super::{LevelError, LevelSet, Spacing};

/// The exponent of H for one variable at one boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PowerRange {
    exponent: i32,
}

/// H stays between 2^-60 and 2^60.
const EXTREME: i32 = 60;

impl PowerRange {
    /// The smallest range that holds values up to `peak`.
    pub fn holding(peak: f64) -> Self {
        Self { exponent: exponent_above(peak) }
    }

    /// e of H = 2^e.
    pub fn exponent(self) -> i32 {
        self.exponent
    }

    /// The range [0, 2^`exponent`); `None` where no range gets there.
    pub fn of_exponent(exponent: i32) -> Option<Self> {
        (-EXTREME..=EXTREME).contains(&exponent).then_some(Self { exponent })
    }

    /// The range after an iteration whose largest value was `peak`.
    pub fn follow(self, peak: f64) -> Self {
        let wanted = exponent_above(peak);
        if wanted > self.exponent || wanted <= self.exponent - 2 { Self { exponent: wanted } } else { self }
    }

    /// The 2^`bits` levels of this range.
    ///
    /// # Errors
    /// `bits` is not between 1 and 16.
    pub fn levels(self, bits: u32, spacing: Spacing) -> Result<LevelSet, LevelError> {
        if !(1..=16).contains(&bits) {
            return Err(LevelError::Bits(bits));
        }
        match spacing {
            Spacing::Even => LevelSet::new(0.0, 2f64.powi(self.exponent - bits as i32), 1 << bits),
            Spacing::Squares => LevelSet::squares(2f64.powi(self.exponent - 2 * bits as i32), 1 << bits),
        }
    }
}

/// The smallest e with `peak` < 2^e.
fn exponent_above(peak: f64) -> i32 {
    if !(peak > 0.0 && peak.is_finite()) {
        return 0;
    }
    let mut e = (peak.log2().floor() as i32).clamp(-EXTREME, EXTREME);
    if 2f64.powi(e) <= peak {
        e += 1;
    }
    e.clamp(-EXTREME, EXTREME)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_range_holds_the_peak_and_no_more(peak in 1e-12..1e12f64) {
            let range = PowerRange::holding(peak);
            let high = 2f64.powi(range.exponent);
            prop_assert!(peak < high && peak >= high / 2.0);
            for (spacing, finest) in [(Spacing::Even, 256.0), (Spacing::Squares, 65536.0)] {
                let levels = range.levels(8, spacing).unwrap();
                prop_assert_eq!((levels.count(), levels.value(0), levels.value(1)), (256, 0.0, high / finest));
                prop_assert!(levels.hi() < high && levels.hi() > 0.99 * high);
            }
        }

        #[test]
        fn it_grows_at_once_and_shrinks_late(peak in 1e-6..1e6f64) {
            let range = PowerRange::holding(peak);
            prop_assert_eq!(range.follow(peak * 0.6), range);
            prop_assert!(range.follow(peak * 2.0).exponent > range.exponent);
            prop_assert!(range.follow(peak * 0.2).exponent < range.exponent);
        }
    }

    #[test]
    fn nothing_but_zeros_still_has_levels() {
        assert_eq!(PowerRange::holding(0.0).levels(1, Spacing::Squares).unwrap().count(), 2);
        assert_eq!(PowerRange::holding(f64::NAN), PowerRange::holding(0.0));
    }
}
