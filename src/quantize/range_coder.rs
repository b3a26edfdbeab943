//! An adaptive binary range coder, and numbers written with it.
//!
//! Range coding of bits with probabilities that follow the data (G. N. N. Martin 1979; carries as in LZMA by
//! I. Pavlov). A probability is the mean of a quick and a slow estimate. A few nanoseconds a bit: for the few
//! elements that change, not for all of them.

/// Probabilities are shares of this.
const ONE: u32 = 1 << 16;
/// No probability comes nearer to 0 or 1 than this: every bit stays writable.
const LEAST: u32 = 24;
const QUICK: u32 = 4;
const SLOW: u32 = 7;

/// The probability of a 0 bit, learnt from the bits so far: a quick and a slow estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u16, u16);

impl Chance {
    /// Nothing learnt yet.
    pub const EVEN: Chance = Chance(1 << 15, 1 << 15);

    #[inline]
    fn of_zero(self) -> u32 {
        ((u32::from(self.0) + u32::from(self.1)) / 2).clamp(LEAST, ONE - LEAST)
    }

    #[inline]
    fn learn(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> QUICK;
            self.1 -= self.1 >> SLOW;
        } else {
            self.0 += (u16::MAX - self.0) >> QUICK;
            self.1 += (u16::MAX - self.1) >> SLOW;
        }
    }

    /// As plain data.
    pub fn to_words(self) -> [u16; 2] {
        [self.0, self.1]
    }

    /// From [`Chance::to_words`]; every pair of words is valid.
    pub fn from_words(words: [u16; 2]) -> Self {
        Chance(words[0], words[1])
    }
}

/// Writes bits.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    low: u64,
    range: u32,
    cache: u8,
    /// Bytes held back because a carry may still reach them: `cache`, then 0xff each. 0 before the first.
    held: u64,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Writer { out, start, low: 0, range: u32::MAX, cache: 0, held: 0 }
    }

    /// A bit of known chance.
    #[inline]
    pub fn bit(&mut self, chance: &mut Chance, bit: bool) {
        let bound = (self.range >> 16) * chance.of_zero();
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        chance.learn(bit);
        self.settle();
    }

    /// The lowest `count` bits of `value`, up to 32, each as likely 0 as 1.
    #[inline]
    pub fn even_bits(&mut self, value: u32, mut count: u32) {
        while count > 0 {
            let now = count.min(8);
            count -= now;
            self.range >>= now;
            self.low += u64::from(self.range) * u64::from((value >> count) & ((1 << now) - 1));
            self.settle();
        }
    }

    #[inline]
    fn settle(&mut self) {
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves the top byte of `low` out, or holds it back while it is 0xff.
    #[inline]
    fn shift(&mut self) {
        let top = self.low >> 24;
        if top != 0xff {
            let carry = (top >> 8) as u8;
            if self.held > 0 {
                self.out.push(self.cache.wrapping_add(carry));
                for _ in 1..self.held {
                    self.out.push(0xffu8.wrapping_add(carry));
                }
            }
            self.cache = top as u8;
            self.held = 0;
        }
        self.held += 1;
        self.low = (self.low << 8) & 0xffff_ffff;
    }

    /// Ends with as few bytes as tell the bits apart; the reader takes what is missing for zeros.
    pub fn finish(mut self) {
        let end = self.low + u64::from(self.range);
        for zeros in [24u32, 16, 8] {
            let rounded = (self.low + (1 << zeros) - 1) >> zeros << zeros;
            if rounded < end {
                self.low = rounded;
                break;
            }
        }
        for _ in 0..5 {
            self.shift();
        }
        while self.out.len() > self.start && self.out.last() == Some(&0) {
            self.out.pop();
        }
    }
}

/// Reads what [`Writer`] wrote. Bytes after the end count as zeros; it never fails and never reads elsewhere.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    code: u32,
    range: u32,
}

impl<'a> Reader<'a> {
    /// Reads all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut reader = Reader { bytes, code: 0, range: u32::MAX };
        for _ in 0..4 {
            reader.code = reader.code << 8 | reader.next();
        }
        reader
    }

    #[inline]
    fn next(&mut self) -> u32 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                u32::from(first)
            }
            None => 0,
        }
    }

    /// A bit of known chance.
    #[inline]
    pub fn bit(&mut self, chance: &mut Chance) -> bool {
        let bound = (self.range >> 16) * chance.of_zero();
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        chance.learn(bit);
        self.settle();
        bit
    }

    /// `count` bits, up to 32, each as likely 0 as 1.
    #[inline]
    pub fn even_bits(&mut self, mut count: u32) -> u32 {
        let mut value = 0u32;
        while count > 0 {
            let now = count.min(8);
            count -= now;
            self.range >>= now;
            // Damaged bytes could ask for more than there is: the top value is what they get.
            let part = (self.code / self.range).min((1 << now) - 1);
            self.code -= part * self.range;
            value = value << now | part;
            self.settle();
        }
        value
    }

    #[inline]
    fn settle(&mut self) {
        while self.range < 1 << 24 {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }

    /// Bytes not read yet.
    pub fn rest(&self) -> usize {
        self.bytes.len()
    }
}

/// Chances that [`Numbers`] takes.
pub const NUMBER_CHANCES: usize = 32 + 32 * 4;

/// Whole numbers below 2³¹: their length in bits by a tree of chances, the next two bits by chances for that
/// length, the rest evenly. Small numbers and a few lengths become cheap.
#[derive(Debug)]
pub struct Numbers<'a>(pub &'a mut [Chance; NUMBER_CHANCES]);

impl Numbers<'_> {
    /// Writes `value` (below 2³¹ − 1).
    #[inline]
    pub fn write(&mut self, writer: &mut Writer<'_>, value: u32) {
        let x = value + 1;
        let len = 31 - x.leading_zeros();
        let mut node = 1;
        for k in (0..5).rev() {
            let bit = len >> k & 1 == 1;
            writer.bit(&mut self.0[node], bit);
            node = node << 1 | usize::from(bit);
        }
        let modelled = len.min(2);
        let mut node = 1;
        for k in 0..modelled {
            let bit = x >> (len - 1 - k) & 1 == 1;
            writer.bit(&mut self.0[32 + len as usize * 4 + node], bit);
            node = node << 1 | usize::from(bit);
        }
        writer.even_bits(x & ((1 << (len - modelled)) - 1), len - modelled);
    }

    /// Reads a number.
    #[inline]
    pub fn read(&mut self, reader: &mut Reader<'_>) -> u32 {
        let mut node = 1;
        for _ in 0..5 {
            node = node << 1 | usize::from(reader.bit(&mut self.0[node]));
        }
        let len = node as u32 - 32;
        let modelled = len.min(2);
        let mut top = 1;
        for _ in 0..modelled {
            top = top << 1 | usize::from(reader.bit(&mut self.0[32 + len as usize * 4 + top]));
        }
        let rest = len - modelled;
        // `top` holds the leading one and the modelled bits.
        let x = (top as u32) << rest | reader.even_bits(rest);
        x.wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(numbers in prop::collection::vec((0u32..0x7fff_fff0, 0u32..31), 0..300)) {
            let numbers: Vec<u32> = numbers.iter().map(|(x, shift)| x >> shift).collect();
            let mut bytes = vec![7, 7];
            let mut chances = [Chance::EVEN; NUMBER_CHANCES];
            let mut writer = Writer::new(&mut bytes);
            numbers.iter().for_each(|&x| Numbers(&mut chances).write(&mut writer, x));
            writer.finish();
            let mut chances = [Chance::EVEN; NUMBER_CHANCES];
            let mut reader = Reader::new(&bytes[2..]);
            for &x in &numbers {
                prop_assert_eq!(Numbers(&mut chances).read(&mut reader), x);
            }
            prop_assert_eq!(reader.rest(), 0);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut chances = [Chance::EVEN; NUMBER_CHANCES];
            let mut reader = Reader::new(&bytes);
            for k in 0..200 {
                Numbers(&mut chances).read(&mut reader);
                reader.even_bits(k % 33);
            }
        }
    }

    #[test]
    fn rare_bits_cost_little_and_carries_run_through() {
        let mut bytes = Vec::new();
        let mut chance = Chance::EVEN;
        let mut writer = Writer::new(&mut bytes);
        let bits: Vec<bool> = (0..20_000).map(|i| i % 997 == 0).collect();
        bits.iter().for_each(|&bit| writer.bit(&mut chance, bit));
        writer.finish();
        assert!(bytes.len() < 70, "{}", bytes.len());
        let (mut chance, mut reader) = (Chance::EVEN, Reader::new(&bytes));
        assert!(bits.iter().all(|&bit| reader.bit(&mut chance) == bit));
    }
}
