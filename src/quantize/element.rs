//! The two floating point types of the program.

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
    /// Rounds to nearest, ties to even.
    fn from_f64(x: f64) -> Self;
}

macro_rules! element {
    ($type:ty, $name:literal) => {
        impl Element for $type {
            const SIZE: usize = size_of::<$type>();
            const NAME: &'static str = $name;

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

element!(f32, "f32");
element!(f64, "f64");
