//! Numbers of 16 bits: binary16 (f16) and bfloat16, for p and q that are on no level set.

use super::element::Element;

/// How numbers that are on no level set travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// Double precision; needs --precision f64.
    F64,
    /// Single precision.
    F32,
    /// 5 bits of exponent, 10 of fraction; larger numbers become ±65504.
    F16,
    /// 8 bits of exponent, 7 of fraction.
    Bf16,
}

impl Wire {
    /// The wire that changes nothing.
    pub fn native<T: Element>() -> Self {
        if T::SIZE == 4 { Wire::F32 } else { Wire::F64 }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Wire::F64 => 8,
            Wire::F32 => 4,
            Wire::F16 | Wire::Bf16 => 2,
        }
    }

    /// Replaces every value by the one that arrives.
    ///
    /// Whoever sends computes on with this too: both sides of a boundary derive u from p and q, and would drift
    /// apart if they knew them to different precision.
    pub fn round<T: Element>(self, values: &mut [T]) {
        let through = |values: &mut [T], f: fn(f32) -> f32| {
            values.iter_mut().for_each(|x| *x = T::from_f64(f64::from(f(x.to_f64() as f32))));
        };
        match self {
            Wire::F64 => {}
            Wire::F32 if T::SIZE == 4 => {}
            Wire::F32 => through(values, |x| x),
            Wire::F16 => through(values, |x| from_f16(to_f16(x))),
            Wire::Bf16 => through(values, |x| from_bf16(to_bf16(x))),
        }
    }

    /// Writes values; `bytes` has [`Wire::size`] bytes for each. f64 goes to 16 bits by way of f32.
    pub fn write<T: Element>(self, values: &[T], bytes: &mut [u8]) {
        let narrow = |bytes: &mut [u8], f: fn(f32) -> u16| {
            let (chunks, _) = bytes.as_chunks_mut::<2>();
            chunks.iter_mut().zip(values).for_each(|(chunk, x)| *chunk = f(x.to_f64() as f32).to_le_bytes());
        };
        match self {
            Wire::F64 => {
                let (chunks, _) = bytes.as_chunks_mut::<8>();
                chunks.iter_mut().zip(values).for_each(|(chunk, x)| *chunk = x.to_f64().to_le_bytes());
            }
            Wire::F32 => {
                let (chunks, _) = bytes.as_chunks_mut::<4>();
                let f32s = chunks.iter_mut().zip(values);
                f32s.for_each(|(chunk, x)| *chunk = (x.to_f64() as f32).to_le_bytes());
            }
            Wire::F16 => narrow(bytes, to_f16),
            Wire::Bf16 => narrow(bytes, to_bf16),
        }
    }

    /// Reads what [`Wire::write`] wrote.
    pub fn read<T: Element>(self, bytes: &[u8], values: &mut [T]) {
        let widen = |values: &mut [T], f: fn(u16) -> f32| {
            let (chunks, _) = bytes.as_chunks::<2>();
            let pairs = values.iter_mut().zip(chunks);
            pairs.for_each(|(x, chunk)| *x = T::from_f64(f64::from(f(u16::from_le_bytes(*chunk)))));
        };
        match self {
            Wire::F64 => {
                let (chunks, _) = bytes.as_chunks::<8>();
                let pairs = values.iter_mut().zip(chunks);
                pairs.for_each(|(x, chunk)| *x = T::from_f64(f64::from_le_bytes(*chunk)));
            }
            Wire::F32 => {
                let (chunks, _) = bytes.as_chunks::<4>();
                let pairs = values.iter_mut().zip(chunks);
                pairs.for_each(|(x, chunk)| *x = T::from_f64(f64::from(f32::from_le_bytes(*chunk))));
            }
            Wire::F16 => widen(values, from_f16),
            Wire::Bf16 => widen(values, from_bf16),
        }
    }
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Wire::F64 => "f64",
            Wire::F32 => "f32",
            Wire::F16 => "f16",
            Wire::Bf16 => "bf16",
        })
    }
}

const SIGN: u32 = 0x8000_0000;
/// The largest finite f16.
const TOP_F16: f32 = 65_504.0;

/// The smallest f16 with a leading one.
const SMALLEST_F16: f32 = f32::from_bits((127 - 14) << 23);

/// To the nearest f16, ties to even; finite numbers beyond ±65504 to those. Infinity and NaN stay, so that a run
/// that diverges is still seen to. Without branches, so that it vectorises.
#[inline]
fn to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits & SIGN) >> 16;
    let magnitude = f32::from_bits(bits & !SIGN);
    let is_finite = magnitude < f32::INFINITY;
    // This comparison leaves NaN as it is.
    let magnitude = if magnitude > TOP_F16 { TOP_F16 } else { magnitude };
    // Below 2⁻¹⁴ numbers are multiples of 2⁻²⁴: adding 0.5 rounds to those, since 0.5 has its last bit there.
    let small = (magnitude + 0.5).to_bits() - 0.5f32.to_bits();
    // Otherwise 13 bits of the fraction go, and the exponent is counted from −15 instead of −127.
    let b = magnitude.to_bits();
    let large = (b + 0xfff + (b >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    let half = if magnitude.is_nan() {
        0x7e00
    } else if !is_finite {
        0x7c00
    } else if magnitude < SMALLEST_F16 {
        small
    } else {
        large
    };
    (sign | half) as u16
}

/// Exact.
#[inline]
fn from_f16(h: u16) -> f32 {
    let sign = u32::from(h & 0x8000) << 16;
    let magnitude = u32::from(h & 0x7fff);
    // Counting the exponent anew by a product serves subnormal numbers too: 2¹¹² as f32.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23);
    let special = f32::from_bits(0x7f80_0000 | magnitude << 13);
    let value = if magnitude >= 0x7c00 { special } else { finite };
    f32::from_bits(value.to_bits() | sign)
}

/// To the nearest bfloat16, ties to even; finite numbers stay finite, infinity and NaN stay.
#[inline]
fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    let top = 0x7f7f | (bits >> 16) as u16 & 0x8000;
    if x.is_nan() {
        (bits >> 16) as u16 | 0x40
    } else if rounded & 0x7fff >= 0x7f80 && x.is_finite() {
        top
    } else {
        rounded
    }
}

/// Exact.
#[inline]
fn from_bf16(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_16_bit_number_comes_back() {
        for h in 0..=u16::MAX {
            let (f16, bf16) = (from_f16(h), from_bf16(h));
            if f16.is_nan() {
                assert!(from_f16(to_f16(f16)).is_nan());
            } else {
                assert_eq!(to_f16(f16), h, "{f16}");
            }
            if bf16.is_nan() {
                assert!(from_bf16(to_bf16(bf16)).is_nan());
            } else {
                assert_eq!(to_bf16(bf16), h);
            }
        }
        assert_eq!((from_f16(0x3c00), from_f16(1), from_f16(0x7bff)), (1.0, 2f32.powi(-24), 65_504.0));
    }

    #[test]
    fn what_is_too_large_stays_finite() {
        for x in [1e9, f32::MAX, 65_520.0] {
            assert_eq!((from_f16(to_f16(x)), from_f16(to_f16(-x))), (65_504.0, -65_504.0));
        }
        assert_eq!(from_f16(to_f16(f32::INFINITY)), f32::INFINITY);
        assert_eq!(from_bf16(to_bf16(f32::NEG_INFINITY)), f32::NEG_INFINITY);
        assert!(from_bf16(to_bf16(f32::MAX)).is_finite());
        assert_eq!(to_f16(65_503.0), 0x7bff);
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest(bits in any::<u32>()) {
            let x = f32::from_bits(bits);
            prop_assume!(x.abs() <= 65_504.0);
            let near = |h: u16, from: fn(u16) -> f32| {
                let error = (f64::from(from(h)) - f64::from(x)).abs();
                [h.wrapping_sub(1), h + 1].into_iter().all(|other| {
                    let there = from(other);
                    let off = (f64::from(there) - f64::from(x)).abs();
                    there.is_nan() || off > error || (off == error && h & 1 == 0)
                })
            };
            prop_assert!(near(to_f16(x), from_f16) && near(to_bf16(x), from_bf16));
        }

        #[test]
        fn the_sender_keeps_what_arrives(x in any::<f64>(), y in any::<f32>()) {
            for wire in [Wire::F32, Wire::F16, Wire::Bf16] {
                let mut bytes = vec![0; wire.size()];
                let (mut rounded, mut arrived) = ([x], [0f64]);
                wire.write(&[x], &mut bytes);
                wire.round(&mut rounded);
                wire.read(&bytes, &mut arrived);
                prop_assert_eq!(rounded[0].to_bits(), arrived[0].to_bits());
                let (mut rounded, mut arrived) = ([y], [0f32]);
                wire.write(&rounded, &mut bytes);
                wire.round(&mut rounded);
                wire.read(&bytes, &mut arrived);
                prop_assert!(rounded[0].to_bits() == arrived[0].to_bits() || y.is_nan());
                wire.write(&rounded, &mut bytes);
                wire.read(&bytes, &mut arrived);
                prop_assert!(rounded == arrived || y.is_nan());
            }
        }
    }
}
