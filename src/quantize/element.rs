//! The two floating point types of the program.

use super::levels::LevelIndex;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// f32 or f64: what levels and messages need of a number.
pub trait Element: sealed::Sealed + Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Bytes of one number.
    const SIZE: usize;
    /// The name in files and messages.
    const NAME: &'static str;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Where every value is a level i·step, or i²·step for `squares`, with i below `count`, writes the i and says so. `step`
    /// is a power of two, so that the products are exact; a few operations a value, all of which vectorise.
    fn on_levels<I: LevelIndex>(
        values: &[Self],
        step: f64,
        count: u32,
        squares: bool,
        indices: &mut [I],
    ) -> bool;
    /// Rounds to nearest, ties to even.
    fn from_f64(x: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $name:literal, $shift:literal) => {
        impl Element for $type {
            const SIZE: usize = size_of::<$type>();
            const NAME: &'static str = $name;

            #[inline]
            fn on_levels<I: LevelIndex>(
                values: &[Self],
                step: f64,
                count: u32,
                squares: bool,
                indices: &mut [I],
            ) -> bool {
                const SHIFT: $type = $shift;
                let (step, inverse, count) = (step as $type, (1.0 / step) as $type, count as $type);
                let mut all = true;
                let mut look = |x: $type, root: $type, index: &mut I| {
                    let shifted = root + SHIFT;
                    let whole = shifted - SHIFT;
                    *index = I::of((shifted.to_bits() & 0xffff) as u32);
                    let level = if squares { whole * whole * step } else { whole * step };
                    // -0 equals 0 and is level 0; NaN equals nothing.
                    all &= (level == x) & (whole >= 0.0) & (whole < count);
                };
                let pairs = values.iter().zip(indices);
                match squares {
                    true => pairs.for_each(|(&x, index)| look(x, (x * inverse).sqrt(), index)),
                    false => pairs.for_each(|(&x, index)| look(x, x * inverse, index)),
                }
                all
            }

            #[inline]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            #[inline]
            fn from_f64(x: f64) -> Self {
                x as $type
            }
        }
    };
}

// 2²³ and 2⁵²: added to a smaller number they leave its whole part in the lowest bits.
element!(f32, "f32", 8_388_608.0);
element!(f64, "f64", 4_503_599_627_370_496.0);
