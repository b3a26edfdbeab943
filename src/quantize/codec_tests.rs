//! Does every sequence of messages arrive as it was sent, in the smallest form, and is every wrong one refused?
#![allow(clippy::unwrap_used)]
use super::super::message::Kind;
use super::*;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const HEADER: Header = Header { kind: Kind::Q, boundary: 2, block: 0, iteration: 1, rows: 40, cols: 25 };

/// Of both spacings.
fn range(bits: u32, exponent: i32) -> LevelSet {
    let step = 2f64.powi(exponent);
    if exponent % 2 == 0 { LevelSet::squares(step, 1 << bits) } else { LevelSet::new(0.0, step, 1 << bits) }
        .unwrap()
}

/// Sender, receiver and what has been sent.
struct Pair {
    header: Header,
    levels: LevelSet,
    indices: Vec<u32>,
    sender: Stream,
    receiver: Stream,
    scratch: Scratch,
    message: Vec<u8>,
}

impl Pair {
    fn new(header: Header, levels: LevelSet) -> Self {
        let indices = vec![0; header.elements().unwrap()];
        let (sender, receiver, scratch) = (Stream::new(), Stream::new(), Scratch::default());
        Pair { header, levels, indices, sender, receiver, scratch, message: Vec::new() }
    }

    fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.indices.len()];
        self.levels.values_of(&self.indices, &mut values);
        values
    }

    fn encode(&mut self) -> Form {
        let values = self.values();
        let Pair { header, levels, sender, scratch, message, .. } = self;
        sender.encode(header, levels, &values, scratch, message).unwrap()
    }

    fn decode(&mut self) -> Result<Vec<f32>, MessageError> {
        let mut decoded = vec![f32::NAN; self.indices.len()];
        let Pair { header, levels, receiver, scratch, message, .. } = self;
        receiver.decode(message, header, levels, &mut decoded, scratch)?;
        Ok(decoded)
    }

    fn exchange(&mut self) -> Form {
        let form = self.encode();
        assert_eq!(self.decode().unwrap(), self.values(), "{form:?}");
        assert_eq!(self.sender, self.receiver, "{form:?}");
        self.header.iteration += 1;
        form
    }

    /// Changes about this share of all indices, most by one level.
    fn change(&mut self, share: f64, rng: &mut ChaCha8Rng) {
        let top = self.levels.count() - 1;
        for index in &mut self.indices {
            if rng.random_bool(share) {
                *index = match rng.random_range(0..10) {
                    0 => rng.random_range(0..=top),
                    k if k < 5 => index.saturating_sub(1),
                    _ => (*index + 1).min(top),
                };
            }
        }
    }
}

#[test]
fn each_form_is_chosen_where_it_is_the_smallest() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for bits in [1, 2, 4, 5, 8, 11, 16] {
        let header = Header { rows: 200, cols: 101, ..HEADER };
        let mut pair = Pair::new(header, range(bits, -3));
        // Mostly zeros, as after a ReLU.
        pair.change(0.3, &mut rng);
        assert!(matches!(pair.exchange(), Form::Coded), "{bits} bits");
        let before = pair.message.len();
        assert_eq!(pair.exchange(), Form::Unchanged);
        assert!(pair.message.len() <= 17);
        pair.change(0.002, &mut rng);
        assert_eq!(pair.exchange(), Form::Sparse);
        assert!(pair.message.len() < before / 4);
        pair.change(0.04, &mut rng);
        assert!(matches!(pair.exchange(), Form::Gaps | Form::Differences), "{bits} bits");
        assert!(pair.message.len() < before);
        let top = pair.levels.count();
        pair.indices.iter_mut().for_each(|index| *index = rng.random_range(0..top));
        assert_eq!(pair.exchange(), Form::Packed, "{bits} bits");
        if bits > 2 {
            pair.change(0.8, &mut rng);
            assert_eq!(pair.exchange(), Form::Differences, "{bits} bits");
        }
    }
}

#[test]
fn what_both_sides_know_is_not_sent() {
    let levels = range(4, -2);
    let mut pair = Pair::new(HEADER, levels);
    pair.change(1.0, &mut ChaCha8Rng::seed_from_u64(2));
    let values = pair.values();
    pair.sender.start_from(&levels, &values);
    pair.receiver.start_from(&levels, &values);
    assert_eq!(pair.exchange(), Form::Unchanged);
    assert_eq!(pair.message.len(), 13);
    // Another start on the receiver's side is noticed.
    pair.receiver.start_from(&levels, &vec![0f32; 1000]);
    pair.encode();
    assert!(matches!(pair.decode().unwrap_err().problem, Problem::Reference { .. }));
}

#[test]
fn a_doubled_range_keeps_the_reference() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut pair = Pair::new(Header { rows: 400, ..HEADER }, range(8, -4));
    pair.change(1.0, &mut rng);
    pair.exchange();
    let before = pair.message.len();
    let wide = range(8, -3);
    let nearest = |index: &u32| wide.nearest(pair.levels.value(*index));
    pair.indices = pair.indices.iter().map(nearest).collect();
    pair.levels = wide;
    assert_eq!(pair.exchange(), Form::Unchanged);
    assert!(pair.message.len() < before / 10);
    pair.levels = LevelSet::new(-1.0, 0.3, 22).unwrap();
    pair.indices.iter_mut().for_each(|index| *index = (*index).min(21));
    pair.exchange();
}

#[test]
fn what_differs_is_named() {
    let mut pair = Pair::new(HEADER, range(4, -1));
    pair.change(0.5, &mut ChaCha8Rng::seed_from_u64(4));
    pair.encode();
    let receiver = pair.receiver.clone();
    let named = |pair: &mut Pair| {
        pair.receiver = receiver.clone();
        pair.decode().unwrap_err().to_string()
    };
    pair.levels = range(4, 1);
    let text = "message with q of boundary 2, block 0, iteration 1: expected levels 0:30:2, found 0:7.5:0.5";
    assert_eq!(named(&mut pair), text);
    pair.levels = range(4, -1);
    pair.header.iteration = 2;
    assert!(named(&mut pair).ends_with("iteration 2: expected iteration 2, found 1"));
    pair.header.iteration = 1;
    pair.decode().unwrap();
    // The same message again, and one that is missing.
    assert!(matches!(pair.decode().unwrap_err().problem, Problem::Reference { .. }));
    pair.encode();
    pair.encode();
    assert!(matches!(pair.decode().unwrap_err().problem, Problem::Reference { .. }));
}

#[test]
fn a_checkpoint_goes_on_where_it_was() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut pair = Pair::new(HEADER, range(8, -4));
    for _ in 0..5 {
        pair.change(0.03, &mut rng);
        pair.exchange();
    }
    pair.sender = Stream::from_state(pair.sender.state()).unwrap();
    assert_eq!(pair.sender, pair.receiver);
    pair.change(0.03, &mut rng);
    pair.exchange();
    let state = pair.sender.state();
    assert!(Stream::from_state(CodecState { levels: None, ..state.clone() }).is_err());
    assert!(Stream::from_state(CodecState { model: Vec::new(), ..state.clone() }).is_err());
    assert!(Stream::from_state(CodecState { indices: vec![256], ..state }).is_err());
    assert_eq!(Stream::from_state(Stream::new().state()).unwrap(), Stream::new());
}

/// Messages of every form, each with the receiver that expects it.
fn one_of_each_form() -> Vec<(Form, Pair)> {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut found: Vec<(Form, Pair)> = Vec::new();
    for (bits, cols) in [(4, 20), (4, 81), (8, 80), (11, 33)] {
        let header = Header { rows: 16, cols, ..HEADER };
        let levels = if bits == 11 { LevelSet::new(-1.0, 0.01, 1500).unwrap() } else { range(bits, -3) };
        let mut pair = Pair::new(header, levels);
        for (step, share) in [0.2, 0.0, 0.01, 0.07, 0.08, 0.5, 1.0, 0.002].into_iter().enumerate() {
            if step == 6 {
                let top = pair.levels.count();
                pair.indices.iter_mut().for_each(|index| *index = rng.random_range(0..top));
            }
            pair.change(share, &mut rng);
            let receiver = pair.receiver.clone();
            let header = pair.header;
            let form = pair.exchange();
            let (message, indices) = (pair.message.clone(), pair.indices.clone());
            let sender = Stream::new();
            let scratch = Scratch::default();
            found.push((form, Pair { header, levels, indices, sender, receiver, scratch, message }));
        }
    }
    for form in [Form::Packed, Form::Unchanged, Form::Sparse, Form::Gaps, Form::Differences, Form::Coded] {
        assert!(found.iter().any(|(f, _)| *f == form), "no message of form {form:?}");
    }
    found
}

/// Damages messages of every form. Those with a checksum that no longer fits are refused; those whose checksum is made
/// to fit again may decode, but to levels, without a panic and without memory beyond the block's own.
#[test]
fn mutated_messages_never_panic() {
    let mutations: usize =
        std::env::var("PDADMM_MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(50_000);
    let mut pairs = one_of_each_form();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut decoded = vec![0f32; 16 * 81];
    let (mut refused, mut accepted) = (0, 0);
    for k in 0..mutations {
        let at = rng.random_range(0..pairs.len());
        let (form, pair) = &mut pairs[at];
        let mut message = pair.message.clone();
        let is_sealed = k % 2 == 0;
        if is_sealed {
            message.truncate(message.len() - 4);
        }
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..message.len());
            match rng.random_range(0..8) {
                0 => message.truncate(at.max(1)),
                1 => message.extend((0..rng.random_range(1..40)).map(|i| i as u8 ^ at as u8)),
                2 => message[at] = 0xff,
                3 => message[at] = 0,
                4 => message.insert(at, rng.random()),
                _ => message[at] ^= 1 << rng.random_range(0..8),
            }
        }
        let mut receiver = pair.receiver.clone();
        if is_sealed {
            seal(&mut message, receiver.digest);
        }
        let Pair { header, levels, scratch, .. } = pair;
        let values = &mut decoded[..header.elements().unwrap()];
        let outcome = receiver.decode(&message, header, levels, values, scratch);
        match &outcome {
            Ok(_) if message == pair.message => {}
            Ok(_) => {
                assert!(is_sealed, "a damaged message of form {form:?} was taken for a sound one");
                assert!(receiver.reference.iter().all(|&index| u32::from(index) < levels.count()));
                accepted += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("boundary 2, block 0, iteration"));
                refused += 1;
            }
        }
        assert!(receiver.reference.capacity() <= 4 * values.len().max(16));
        let memory = pair.scratch.memory();
        assert!(memory <= 64 * 16 * 81, "{memory} bytes for a block of {} elements", values.len());
    }
    assert!(refused > accepted && accepted > 0, "{refused} refused, {accepted} accepted");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sequences_arrive_as_they_were_sent(
        seed in any::<u64>(),
        bits in 1u32..=16,
        (rows, cols) in (0u32..60, 1u32..40),
        steps in prop::collection::vec((0u32..12, 0u32..10, -3i32..3), 1..12),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let header = Header { rows, cols, ..HEADER };
        let mut pair = Pair::new(header, range(bits, 0));
        for (share, range_changes, exponent) in steps {
            match range_changes {
                0 => pair.levels = range(bits, exponent),
                1 => {
                    let count = rng.random_range(2..=1u32 << bits.max(2));
                    pair.levels = LevelSet::new(-0.7, 0.3 * 2f64.powi(exponent), count).unwrap();
                }
                _ => {}
            }
            let top = pair.levels.count() - 1;
            pair.indices.iter_mut().for_each(|index| *index = (*index).min(top));
            pair.change([0.0, 0.0, 0.001, 0.01, 0.05, 0.1, 0.15, 0.2, 0.4, 0.7, 0.9, 1.0][share as usize], &mut rng);
            pair.exchange();
            let packed = packed_len(pair.indices.len(), pair.levels.bits());
            prop_assert!(pair.message.len() <= packed + super::super::LONGEST_OVERHEAD);
            prop_assert!(pair.message.len() <= super::super::longest_message_len::<f32>(pair.indices.len()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut values = [0f32; 1000];
        let levels = range(4, 0);
        let outcome =
            Stream::new().decode(&bytes, &HEADER, &levels, &mut values, &mut Scratch::default());
        prop_assert!(outcome.is_err());
    }
}
