//! Whole numbers as a token of a byte and a few plain bits: small ones are a token of their own, large ones share one
//! with others of the same leading bits.

/// Numbers below this are tokens of their own.
const DIRECT: u32 = 64;
const DIRECT_BITS: u32 = DIRECT.ilog2();
/// Bits after the leading one that belong to the token.
const LEADING: u32 = 2;

/// The token of a number, and how many of its lowest bits follow plainly.
#[inline]
pub fn split(x: u32) -> (u8, u32) {
    if x < DIRECT {
        return (x as u8, 0);
    }
    let len = x.ilog2();
    let plain = len - LEADING;
    let class = (len - DIRECT_BITS) << LEADING | (x >> plain & ((1 << LEADING) - 1));
    ((DIRECT + class) as u8, plain)
}

/// The number without its plain bits, and how many there are; `None` for a byte that is no token.
#[inline]
pub fn join(token: u8) -> Option<(u32, u32)> {
    let token = u32::from(token);
    if token < DIRECT {
        return Some((token, 0));
    }
    let class = token - DIRECT;
    let len = (class >> LEADING) + DIRECT_BITS;
    if len > 31 {
        return None;
    }
    let plain = len - LEADING;
    Some(((1 << LEADING | class & ((1 << LEADING) - 1)) << plain, plain))
}

/// Plain bits, lowest first.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, bits: 0, count: 0 }
    }

    /// The lowest `count` bits of `value`, up to 31.
    #[inline]
    pub fn put(&mut self, value: u32, count: u32) {
        self.bits |= (u64::from(value) & ((1 << count) - 1)) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    /// Fills up the last byte with zeros.
    pub fn finish(self) {
        if self.count > 0 {
            self.out.push(self.bits as u8);
        }
    }
}

/// Reads what [`BitWriter`] wrote; zeros after the end.
#[derive(Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    bits: u64,
    count: u32,
    ran_out: bool,
}

impl<'a> BitReader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, bits: 0, count: 0, ran_out: false }
    }

    /// The next `count` bits, up to 31.
    #[inline]
    pub fn take(&mut self, count: u32) -> u32 {
        while self.count < count {
            let byte = match self.bytes.split_first() {
                Some((&byte, rest)) => {
                    self.bytes = rest;
                    byte
                }
                None => {
                    self.ran_out = true;
                    0
                }
            };
            self.bits |= u64::from(byte) << self.count;
            self.count += 8;
        }
        let value = self.bits & ((1 << count) - 1);
        self.bits >>= count;
        self.count -= count;
        value as u32
    }

    /// Bytes that were not needed; `None` if there were too few.
    pub fn rest(&self) -> Option<usize> {
        (!self.ran_out).then_some(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec((any::<u32>(), 0u32..32), 0..200)) {
            let numbers: Vec<u32> = numbers.iter().map(|(x, shift)| x >> shift).collect();
            let (mut tokens, mut bytes) = (Vec::new(), Vec::new());
            let mut writer = BitWriter::new(&mut bytes);
            for &x in &numbers {
                let (token, plain) = split(x);
                tokens.push(token);
                writer.put(x, plain);
            }
            writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (&x, &token) in numbers.iter().zip(&tokens) {
                let (base, plain) = join(token).unwrap();
                prop_assert_eq!(base + reader.take(plain), x);
            }
            prop_assert_eq!(reader.rest(), Some(0));
        }
    }

    #[test]
    fn tokens_without_a_number_are_refused() {
        assert!((0..=255u8).all(|token| join(token).is_some() == (token < 168)));
        assert_eq!(split(u32::MAX).0, 167);
        let mut reader = BitReader::new(&[1]);
        reader.take(9);
        assert_eq!(reader.rest(), None);
    }
}
