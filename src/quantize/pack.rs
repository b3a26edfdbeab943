//! Indices of few bits, packed without gaps: index i takes bits i·b to (i+1)·b − 1, lowest bits first.

/// Why indices could not be packed or unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Bits out of range.
    #[error("{0} bits an index: from 1 to 16 are possible")]
    Bits(u32),
    /// The packed bytes have the wrong length.
    #[error("expected {expected} packed bytes, found {found}")]
    Length {
        /// Bytes that the indices take.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// Bits after the last index are set.
    #[error("bits after the last index are set")]
    Padding,
}

/// Bytes that `count` indices of `bits` bits take; `usize::MAX` if more than that.
pub fn packed_len(count: usize, bits: u32) -> usize {
    let bits = bits as usize;
    (count / 8)
        .checked_mul(bits)
        .and_then(|n| n.checked_add(((count % 8) * bits).div_ceil(8)))
        .unwrap_or(usize::MAX)
}

type Packer = fn(&[u32], &mut [u8]);
type Unpacker = fn(&[u8], &mut [u32]);

/// For 1 to 16 bits: with the bits as a constant the compiler unrolls the shifts.
const PACKERS: [Packer; 16] = [
    pack_groups::<1>,
    pack_groups::<2>,
    pack_groups::<3>,
    pack_groups::<4>,
    pack_groups::<5>,
    pack_groups::<6>,
    pack_groups::<7>,
    pack_groups::<8>,
    pack_groups::<9>,
    pack_groups::<10>,
    pack_groups::<11>,
    pack_groups::<12>,
    pack_groups::<13>,
    pack_groups::<14>,
    pack_groups::<15>,
    pack_groups::<16>,
];
const UNPACKERS: [Unpacker; 16] = [
    unpack_groups::<1>,
    unpack_groups::<2>,
    unpack_groups::<3>,
    unpack_groups::<4>,
    unpack_groups::<5>,
    unpack_groups::<6>,
    unpack_groups::<7>,
    unpack_groups::<8>,
    unpack_groups::<9>,
    unpack_groups::<10>,
    unpack_groups::<11>,
    unpack_groups::<12>,
    unpack_groups::<13>,
    unpack_groups::<14>,
    unpack_groups::<15>,
    unpack_groups::<16>,
];

fn for_bits<F: Copy>(functions: &[F; 16], bits: u32) -> Result<F, PackError> {
    let at = (bits as usize).wrapping_sub(1);
    functions.get(at).copied().ok_or(PackError::Bits(bits))
}

/// Packs `indices` into `packed`, which has [`packed_len`] bytes. Bits of an index above `bits` are ignored.
///
/// # Errors
/// [`PackError::Bits`] or [`PackError::Length`].
pub fn pack(indices: &[u32], bits: u32, packed: &mut [u8]) -> Result<(), PackError> {
    let packer = for_bits(&PACKERS, bits)?;
    let expected = packed_len(indices.len(), bits);
    if packed.len() != expected {
        return Err(PackError::Length { expected, found: packed.len() });
    }
    packer(indices, packed);
    Ok(())
}

/// Unpacks `indices.len()` indices from `packed`, which has [`packed_len`] bytes.
///
/// # Errors
/// [`PackError::Bits`], [`PackError::Length`], or [`PackError::Padding`] if bits after the last index are set.
pub fn unpack(packed: &[u8], bits: u32, indices: &mut [u32]) -> Result<(), PackError> {
    let unpacker = for_bits(&UNPACKERS, bits)?;
    let expected = packed_len(indices.len(), bits);
    if packed.len() != expected {
        return Err(PackError::Length { expected, found: packed.len() });
    }
    unpacker(packed, indices);
    let used = (indices.len() % 8 * bits as usize) % 8;
    match packed.last() {
        Some(last) if used != 0 && last >> used != 0 => Err(PackError::Padding),
        _ => Ok(()),
    }
}

/// Eight indices of B bits are B bytes, held in two u64 of four indices each.
#[inline(always)]
fn pack_eight<const B: usize>(indices: &[u32; 8]) -> [u8; 16] {
    let mask = (1u64 << B) - 1;
    let half = |four: &[u32]| {
        four.iter().enumerate().fold(0, |word, (i, &index)| word | (u64::from(index) & mask) << (i * B))
    };
    let word = u128::from(half(&indices[..4])) | u128::from(half(&indices[4..])) << (4 * B);
    word.to_le_bytes()
}

#[inline(always)]
fn unpack_eight<const B: usize>(bytes: [u8; 16]) -> [u32; 8] {
    let mask = (1u64 << B) - 1;
    let word = u128::from_le_bytes(bytes);
    let (low, high) = (word as u64, (word >> (4 * B)) as u64);
    std::array::from_fn(|i| {
        let half = if i < 4 { low } else { high };
        ((half >> (i % 4 * B)) & mask) as u32
    })
}

fn pack_groups<const B: usize>(indices: &[u32], packed: &mut [u8]) {
    let (groups, rest) = indices.as_chunks::<8>();
    let (whole, tail) = packed.split_at_mut(groups.len() * B);
    for (group, bytes) in groups.iter().zip(whole.chunks_exact_mut(B)) {
        bytes.copy_from_slice(&pack_eight::<B>(group)[..B]);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let len = tail.len();
    tail.copy_from_slice(&pack_eight::<B>(&last)[..len]);
}

fn unpack_groups<const B: usize>(packed: &[u8], indices: &mut [u32]) {
    let (groups, rest) = indices.as_chunks_mut::<8>();
    let (whole, tail) = packed.split_at(groups.len() * B);
    for (group, bytes) in groups.iter_mut().zip(whole.chunks_exact(B)) {
        let mut wide = [0; 16];
        wide[..B].copy_from_slice(bytes);
        *group = unpack_eight::<B>(wide);
    }
    let mut wide = [0; 16];
    wide[..tail.len()].copy_from_slice(tail);
    rest.copy_from_slice(&unpack_eight::<B>(wide)[..rest.len()]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_lowest_bits_first() {
        let mut packed = vec![0; packed_len(3, 5)];
        pack(&[1, 2, 31], 5, &mut packed).unwrap();
        assert_eq!(packed, [0b0100_0001, 0b0111_1100]);
    }

    #[test]
    fn wrong_lengths_and_bits_are_refused() {
        assert_eq!(pack(&[1], 0, &mut []), Err(PackError::Bits(0)));
        assert_eq!(pack(&[1], 17, &mut [0; 3]), Err(PackError::Bits(17)));
        assert_eq!(pack(&[1], 8, &mut [0; 2]), Err(PackError::Length { expected: 1, found: 2 }));
        assert_eq!(unpack(&[1], 8, &mut [0; 2]), Err(PackError::Length { expected: 2, found: 1 }));
        assert_eq!(unpack(&[0b1000_0000], 5, &mut [0; 1]), Err(PackError::Padding));
        assert_eq!(packed_len(usize::MAX, 16), usize::MAX);
    }

    proptest! {
        #[test]
        fn round_trip(bits in 1u32..=16, raw in prop::collection::vec(any::<u32>(), 0..200)) {
            let indices: Vec<u32> = raw.iter().map(|index| index & ((1 << bits) - 1)).collect();
            let mut packed = vec![0xff; packed_len(raw.len(), bits)];
            pack(&raw, bits, &mut packed).unwrap();
            prop_assert_eq!(packed.len(), (raw.len() * bits as usize).div_ceil(8));
            let mut unpacked = vec![u32::MAX; raw.len()];
            unpack(&packed, bits, &mut unpacked).unwrap();
            prop_assert_eq!(indices, unpacked);
        }
    }
}
