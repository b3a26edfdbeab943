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
    /// Where every value is a multiple i·step with i below `count`, writes the i and says so. `step` is a power of two,
    /// so that the products are exact; a few operations a value, all of which vectorise.
    fn multiples<I: LevelIndex>(values: &[Self], step: f64, count: u32, indices: &mut [I]) -> bool;
    /// Rounds to nearest, ties to even.
    fn from_f64(x: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $name:literal, $shift:literal) => {
        impl Element for $type {
            const SIZE: usize = size_of::<$type>();
            const NAME: &'static str = $name;

            #[inline]
            fn multiples<I: LevelIndex>(values: &[Self], step: f64, count: u32, indices: &mut [I]) -> bool {
                const SHIFT: $type = $shift;
                let (step, inverse, count) = (step as $type, (1.0 / step) as $type, count as $type);
                let mut all = true;
                for (&x, index) in values.iter().zip(indices) {
                    let shifted = x * inverse + SHIFT;
                    let whole = shifted - SHIFT;
                    *index = I::of((shifted.to_bits() & 0xffff) as u32);
                    // -0 equals 0 and is level 0; NaN equals nothing.
                    all &= (whole * step == x) & (whole >= 0.0) & (whole < count);
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
