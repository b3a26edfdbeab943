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
    /// The name in messages.
    const NAME: &'static str;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Rounds to nearest, ties to even.
    fn from_f64(x: f64) -> Self;
    /// Writes numbers as little-endian bytes; `bytes` has `SIZE` bytes a number.
    fn write_bytes(values: &[Self], bytes: &mut [u8]);
    /// Reads numbers from little-endian bytes; `bytes` has `SIZE` bytes a number.
    fn read_bytes(bytes: &[u8], values: &mut [Self]);
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

            #[inline]
            fn write_bytes(values: &[Self], bytes: &mut [u8]) {
                let (chunks, _) = bytes.as_chunks_mut::<{ size_of::<$type>() }>();
                chunks.iter_mut().zip(values).for_each(|(chunk, value)| *chunk = value.to_le_bytes());
            }

            #[inline]
            fn read_bytes(bytes: &[u8], values: &mut [Self]) {
                let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                values
                    .iter_mut()
                    .zip(chunks)
                    .for_each(|(value, chunk)| *value = <$type>::from_le_bytes(*chunk));
            }
        }
    };
}

element!(f32, "f32");
element!(f64, "f64");
