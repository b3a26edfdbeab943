//! Level sets, evenly spaced or at squares, and the nearest level (Eq. 10).

mod made;

use super::element::Element;

pub use made::LevelError;

/// A level index in memory: u16 holds every one, u32 is what computing with it takes.
pub trait LevelIndex: Copy {
    /// From an index below 2¹⁶.
    fn of(index: u32) -> Self;
    /// The index.
    fn get(self) -> u32;
}

impl LevelIndex for u16 {
    #[inline(always)]
    fn of(index: u32) -> Self {
        index as u16
    }
    #[inline(always)]
    fn get(self) -> u32 {
        self.into()
    }
}

impl LevelIndex for u32 {
    #[inline(always)]
    fn of(index: u32) -> Self {
        index
    }
    #[inline(always)]
    fn get(self) -> u32 {
        self
    }
}

/// How the levels of a set lie.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// At lo + i·step.
    Even,
    /// At i²·step: close together near 0, where most activations are, at the price of the few large ones.
    #[default]
    Squares,
}

/// Levels lo, lo + step, lo + 2 step, …, or 0, step, 4 step, 9 step, …, `count` of them.
///
/// The number of level i is `lo + i·step` or `i²·step` in f64, rounded to the type in use: sender and receiver compute the
/// same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelSet {
    lo: f64,
    step: f64,
    /// 1/step.
    inverse: f64,
    count: u32,
    spacing: Spacing,
    /// The lowest level is 0 and the step a power of two, of middling size.
    is_power: bool,
    /// Within this distance of the middle between two levels (in steps) the quick rounding may err.
    doubt: f64,
}

impl LevelSet {
    /// The lowest level.
    pub fn lo(&self) -> f64 {
        self.lo
    }

    /// The highest level.
    pub fn hi(&self) -> f64 {
        self.value(self.count - 1)
    }

    /// The distance between even levels; between the two lowest of those at squares.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// How the levels lie.
    pub fn spacing(&self) -> Spacing {
        self.spacing
    }

    /// How many levels there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bits of an index: ⌈log₂ count⌉, 1 to 16.
    pub fn bits(&self) -> u32 {
        u32::BITS - (self.count - 1).leading_zeros()
    }

    /// The number of level `index`.
    #[inline]
    pub fn value(&self, index: u32) -> f64 {
        // Indices are below 2¹⁶, and signed integers convert faster.
        let i = f64::from(index as i32);
        match self.spacing {
            Spacing::Even => self.lo + i * self.step,
            Spacing::Squares => i * i * self.step,
        }
    }

    /// The level nearest to `x`, by distances in f64: ties to the lower level, numbers outside to the ends, NaN to the
    /// lowest level (look for NaN before).
    #[inline]
    pub fn nearest(&self, x: f64) -> u32 {
        let (quick, doubtful) = match self.spacing {
            Spacing::Even => self.quick::<false>(x),
            Spacing::Squares => self.quick::<true>(x),
        };
        let index = quick.to_bits() as u32;
        if doubtful { self.settle(x, index) } else { index }
    }

    /// The index of the level nearest to `x` in the low bits of a float, and whether it needs a second look.
    ///
    /// Adding 2⁵² rounds to a whole number that then stands in the low bits; unlike a conversion to an integer, this
    /// vectorises on every processor. Its ties, and errors by rounding near them, are what the second look is for.
    /// The middle between i² and (i + 1)² is (i + ½)² + ¼: less ¼, the root rounds as even levels do.
    #[inline(always)]
    fn quick<const SQUARES: bool>(&self, x: f64) -> (f64, bool) {
        const SHIFT: f64 = (1u64 << 52) as f64;
        let steps = (x - self.lo) * self.inverse;
        let steps = if SQUARES { steps - 0.25 } else { steps };
        // Not f64::max and min: these comparisons send NaN to the lowest level.
        let steps = if steps > 0.0 { steps } else { 0.0 };
        let steps = if SQUARES { steps.sqrt() } else { steps };
        let top = f64::from(self.count - 1);
        let steps = if steps < top { steps } else { top };
        let shifted = steps + SHIFT;
        let off = (steps - (shifted - SHIFT)).abs();
        (shifted, off > 0.5 - self.doubt)
    }

    /// The nearest of `index` and its neighbours, by the definition.
    #[cold]
    fn settle(&self, x: f64, index: u32) -> u32 {
        let candidates = index.saturating_sub(1)..=(index + 1).min(self.count - 1);
        let mut best = *candidates.start();
        for candidate in candidates {
            if (x - self.value(candidate)).abs() < (x - self.value(best)).abs() {
                best = candidate;
            }
        }
        best
    }

    /// Replaces each value by the number of its nearest level.
    pub fn round<T: Element>(&self, values: &mut [T]) {
        let mut indices = [0u32; BATCH];
        for values in values.chunks_mut(BATCH) {
            let indices = &mut indices[..values.len()];
            self.nearest_of(values, indices);
            self.values_of(indices, values);
        }
    }

    /// Writes the index of each value's nearest level; quickest where the values are on the levels already.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn indices_of<T: Element, I: LevelIndex>(&self, values: &[T], indices: &mut [I]) {
        assert_eq!(values.len(), indices.len(), "one index a value");
        for (values, indices) in values.chunks(BATCH).zip(indices.chunks_mut(BATCH)) {
            let squares = self.spacing == Spacing::Squares;
            if !(self.is_power && T::on_levels(values, self.step, self.count, squares, indices)) {
                self.nearest_of(values, indices);
            }
        }
    }

    /// Writes the index of each value's nearest level.
    fn nearest_of<T: Element, I: LevelIndex>(&self, values: &[T], indices: &mut [I]) {
        match self.spacing {
            Spacing::Even => self.nearest_in::<_, _, false>(values, indices),
            Spacing::Squares => self.nearest_in::<_, _, true>(values, indices),
        }
    }

    fn nearest_in<T: Element, I: LevelIndex, const SQUARES: bool>(&self, values: &[T], indices: &mut [I]) {
        for (values, indices) in values.chunks(BATCH).zip(indices.chunks_mut(BATCH)) {
            let mut any_doubt = false;
            for (value, index) in values.iter().zip(indices.iter_mut()) {
                let (quick, doubtful) = self.quick::<SQUARES>(value.to_f64());
                *index = I::of(quick.to_bits() as u32);
                any_doubt |= doubtful;
            }
            if any_doubt {
                let nearest = |value: &T| I::of(self.nearest(value.to_f64()));
                values.iter().zip(indices).for_each(|(value, index)| *index = nearest(value));
            }
        }
    }

    /// Writes the number of each index's level.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn values_of<T: Element, I: LevelIndex>(&self, indices: &[I], values: &mut [T]) {
        assert_eq!(values.len(), indices.len(), "one value an index");
        let pairs = values.iter_mut().zip(indices);
        match self.spacing {
            Spacing::Even => pairs.for_each(|(value, &index)| {
                *value = T::from_f64(self.lo + f64::from(index.get() as i32) * self.step);
            }),
            Spacing::Squares => pairs.for_each(|(value, &index)| {
                let i = f64::from(index.get() as i32);
                *value = T::from_f64(i * i * self.step);
            }),
        }
    }
}

/// Values handled at a time: few enough to stay in the first cache.
const BATCH: usize = 512;

impl std::fmt::Display for LevelSet {
    /// `LO:HI:STEP`, which reads back as the same set; squares are described.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.spacing == Spacing::Squares {
            return write!(f, "{} levels at squares up to {}", self.count, self.hi());
        }
        write!(f, "{}:{}:{}", self.lo(), self.hi(), self.step())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn by_brute_force(set: &LevelSet, x: f64) -> u32 {
        let mut best = 0;
        for index in 1..set.count() {
            if (x - set.value(index)).abs() < (x - set.value(best)).abs() {
                best = index;
            }
        }
        best
    }

    #[test]
    fn the_sets_of_the_paper() {
        let set: LevelSet = "-1:20:1".parse().unwrap();
        assert_eq!((set.count(), set.bits(), set.hi()), (22, 5, 20.0));
        assert_eq!(set.nearest(0.5), 1);
        assert_eq!(set.nearest(0.500001), 2);
        assert_eq!(set.nearest(-7.0), 0);
        assert_eq!(set.nearest(f64::INFINITY), 21);
        assert_eq!(set.nearest(f64::NEG_INFINITY), 0);
        assert_eq!(set.nearest(f64::NAN), 0);
        let set = LevelSet::new(-1.0, 3.0 / 999.0, 1000).unwrap();
        assert_eq!(set.bits(), 10);
        let tenths: LevelSet = "0:1:0.1".parse().unwrap();
        assert_eq!(tenths.count(), 11);
    }

    #[test]
    fn values_on_the_levels_have_the_same_indices_by_the_quick_way() {
        let even = [(1, 0), (4, -7), (8, 3), (16, -20), (16, 90)]
            .map(|(bits, exponent)| LevelSet::new(0.0, 2f64.powi(exponent), 1 << bits).unwrap());
        let squares = [(1, 0), (4, -7), (8, 3), (12, -90), (16, -20), (16, 90)]
            .map(|(bits, exponent)| LevelSet::squares(2f64.powi(exponent), 1 << bits).unwrap());
        for set in even.into_iter().chain(squares) {
            let wanted: Vec<u16> = (0..set.count()).map(|index| index as u16).collect();
            let (mut singles, mut doubles) = (vec![0f32; wanted.len()], vec![0f64; wanted.len()]);
            set.values_of(&wanted, &mut singles);
            set.values_of(&wanted, &mut doubles);
            let mut found = vec![0u16; wanted.len()];
            let (step, count) = (set.step(), set.count());
            let squares = set.spacing() == Spacing::Squares;
            assert!(f32::on_levels(&singles, step, count, squares, &mut found) && found == wanted, "{set}");
            assert!(f64::on_levels(&doubles, step, count, squares, &mut found) && found == wanted, "{set}");
            let next = f64::from(count);
            let above = if squares { next * next * step } else { next * step };
            for off in [0.3 * step, -step, above, f64::NAN, f64::INFINITY] {
                assert!(!f64::on_levels(&[off], step, count, squares, &mut found[..1]), "{set}: {off}");
                assert!(
                    !f32::on_levels(&[off as f32], step, count, squares, &mut found[..1]),
                    "{set}: {off}"
                );
            }
        }
    }

    fn sets() -> impl Strategy<Value = LevelSet> {
        (-100.0..100.0f64, 1e-3..10.0f64, 2u32..300, any::<bool>()).prop_map(|(lo, step, count, squares)| {
            if squares { LevelSet::squares(step, count) } else { LevelSet::new(lo, step, count) }.unwrap()
        })
    }

    proptest! {
        #[test]
        fn nearest_is_nearest(set in sets(), place in -0.1..1.1f64) {
            let x = set.lo() + place * (set.hi() - set.lo());
            prop_assert_eq!(set.nearest(x), by_brute_force(&set, x));
        }

        #[test]
        fn nearest_is_nearest_around_ties(set in sets(), at in 0u32..300, off in -20i64..20) {
            let middle = (set.value(at % set.count()) + set.value((at + 1) % set.count())) / 2.0;
            let x = f64::from_bits((middle.to_bits() as i64 + off) as u64);
            prop_assert_eq!(set.nearest(x), by_brute_force(&set, x));
            let mut indices = [0];
            set.indices_of(&[x], &mut indices);
            prop_assert_eq!(indices[0], set.nearest(x));
        }

        #[test]
        fn ties_go_low(lo in -64i32..64, count in 2u32..1000, at in 0u32..1000) {
            // Powers of two, so that the middle is exact.
            let set = LevelSet::new(f64::from(lo) / 4.0, 0.25, count).unwrap();
            let at = at % (count - 1);
            prop_assert_eq!(set.nearest(set.value(at) + 0.125), at);
        }

        #[test]
        fn rounding_twice_is_rounding_once(
            set in sets(),
            places in prop::collection::vec(-0.1..1.1f64, 0..1200),
        ) {
            let mut wide: Vec<f64> = places.iter().map(|t| set.lo() + t * (set.hi() - set.lo())).collect();
            let mut narrow: Vec<f32> = wide.iter().map(|&x| x as f32).collect();
            let expected: Vec<u32> = narrow.iter().map(|&x| set.nearest(f64::from(x))).collect();
            let mut indices = vec![0; narrow.len()];
            set.indices_of(&narrow, &mut indices);
            prop_assert_eq!(&indices, &expected);
            set.round(&mut narrow);
            let once = narrow.clone();
            set.round(&mut narrow);
            prop_assert_eq!(&once, &narrow);
            for (value, &index) in once.iter().zip(&indices) {
                prop_assert_eq!(*value, set.value(index) as f32);
            }
            set.round(&mut wide);
            let once = wide.clone();
            set.round(&mut wide);
            prop_assert_eq!(once, wide);
        }
    }
}
