//! Is every wrong message detected, and named?
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const HEADER: Header = Header { kind: Kind::P, boundary: 3, block: 1, iteration: 170, rows: 5, cols: 7 };

fn raw_message() -> (Vec<f32>, Vec<u8>) {
    let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.37 - 3.0).collect();
    let mut message = vec![9; 1000];
    encode_raw(&HEADER, Wire::F32, &values, &mut message).unwrap();
    (values, message)
}

fn problem(message: &[u8], expected: &Expected) -> Problem {
    let mut values = vec![0f32; expected.elements().unwrap()];
    decode_raw(message, expected, Wire::F32, &mut values).unwrap_err().problem
}

fn resealed(mut message: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    message.truncate(message.len() - CHECKSUM_LEN);
    change(&mut message);
    seal(&mut message, 0);
    message
}

#[test]
fn numbers_arrive_as_they_were_sent() {
    let (values, message) = raw_message();
    let mut decoded = vec![0f32; 35];
    decode_raw(&message, &HEADER, Wire::F32, &mut decoded).unwrap();
    assert_eq!(decoded, values);
    assert_eq!(message.len(), 35 * 4 + 15);
    let special = [f64::NAN, -0.0, f64::INFINITY, 5e-324, 0.1];
    let header = Header { rows: 1, cols: 5, ..HEADER };
    let (mut message, mut decoded) = (Vec::new(), [0f64; 5]);
    encode_raw(&header, Wire::F64, &special, &mut message).unwrap();
    decode_raw(&message, &header, Wire::F64, &mut decoded).unwrap();
    assert_eq!(special.map(f64::to_bits), decoded.map(f64::to_bits));
    let longest = Header {
        kind: Kind::State,
        boundary: u32::MAX,
        block: u32::MAX,
        iteration: u64::MAX,
        rows: u32::MAX,
        cols: u32::MAX,
    };
    let levels = LevelSet::with_bits(0.1, 7.3, 16).unwrap();
    begin(&longest, Form::Packed, Some(&levels), usize::MAX, &mut message);
    assert!(message.len() + CHECKSUM_LEN <= LONGEST_OVERHEAD);
}

#[test]
fn halves_arrive_as_the_nearest_halves() {
    let (values, _) = raw_message();
    for (wire, error) in [(Wire::F16, 1.0 / 2048.0), (Wire::Bf16, 1.0 / 256.0)] {
        let (mut message, mut decoded) = (Vec::new(), vec![0f32; 35]);
        encode_raw(&HEADER, wire, &values, &mut message).unwrap();
        assert_eq!(message.len(), 35 * 2 + 14);
        decode_raw(&message, &HEADER, wire, &mut decoded).unwrap();
        assert!(values.iter().zip(&decoded).all(|(x, y)| (x - y).abs() <= x.abs() * error));
        assert!(matches!(problem(&message, &HEADER), Problem::Form { expected: "f32 numbers", .. }));
    }
}

#[test]
fn what_differs_is_named() {
    let (_, message) = raw_message();
    let expected = Header { iteration: 171, ..HEADER };
    let mut values = vec![0f32; 35];
    let error = decode_raw(&message, &expected, Wire::F32, &mut values).unwrap_err();
    assert_eq!(
        error.to_string(),
        "message with p of boundary 3, block 1, iteration 171: expected iteration 171, found 170"
    );
    for (field, expected) in [
        ("kind", Header { kind: Kind::Q, ..HEADER }),
        ("boundary", Header { boundary: 4, ..HEADER }),
        ("block", Header { block: 0, ..HEADER }),
        ("rows", Header { rows: 7, cols: 5, ..HEADER }),
        ("columns", Header { cols: 6, ..HEADER }),
    ] {
        assert!(matches!(problem(&message, &expected), Problem::Field { field: f, .. } if f == field));
    }
    let mut wide = vec![0f64; 35];
    let error = decode_raw(&message, &HEADER, Wire::F64, &mut wide).unwrap_err();
    assert_eq!(error.problem, Problem::Form { expected: "f64 numbers", found: 1 });
    let error = decode_raw(&message, &HEADER, Wire::F32, &mut values[1..]).unwrap_err();
    assert!(matches!(error.problem, Problem::Shape { found: 34, .. }));
}

#[test]
fn damage_is_called_damage() {
    let (_, message) = raw_message();
    for cut in 0..message.len() {
        assert!(matches!(problem(&message[..cut], &HEADER), Problem::Length { found, .. } if found == cut));
    }
    let joined = [message.as_slice(), &message].concat();
    assert!(matches!(problem(&joined, &HEADER), Problem::Length { expected: 155, found: 310 }));
    for at in [1, 2, 5, 11, 60] {
        let mut other = message.clone();
        other[at] ^= 1;
        let found = problem(&other, &HEADER);
        assert!(matches!(found, Problem::Checksum { .. } | Problem::Length { .. }), "{at}: {found}");
    }
    let mut other = message;
    other[0] = 0xb1;
    assert_eq!(problem(&other, &HEADER), Problem::Mark(0xb1));
}

#[test]
fn lies_with_a_valid_checksum_are_refused() {
    let (_, message) = raw_message();
    let of = |change: fn(&mut Vec<u8>)| problem(&resealed(message.clone(), change), &HEADER);
    assert!(matches!(of(|m| m[1] |= 31 << 3), Problem::Form { found: 31, .. }));
    assert!(matches!(of(|m| m[8] = 9), Problem::Form { expected: "a level set", .. }));
    assert!(matches!(of(|m| m.truncate(100)), Problem::Length { .. }));
    assert!(matches!(of(|m| m.truncate(4)), Problem::Checksum { .. }));
    let short = resealed(message, |m| {
        m.truncate(100);
        m[9] = 89;
        m.remove(10);
    });
    assert!(matches!(problem(&short, &HEADER), Problem::Field { field: "payload bytes", .. }));
}

#[test]
fn wrong_input_of_the_sender_is_refused() {
    assert!(encode_raw(&HEADER, Wire::F32, &[0f32; 36], &mut Vec::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Up to three damaged bytes, a cut or an extension: an error, unless nothing changed.
    #[test]
    fn mutations_are_detected(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        len in prop::option::of(0usize..300),
    ) {
        let (values, message) = raw_message();
        let mut mutated = message.clone();
        for (at, mask) in flips {
            let at = at.index(mutated.len());
            mutated[at] ^= mask;
        }
        if let Some(len) = len {
            mutated.resize(len, 0);
        }
        let mut decoded = vec![0f32; 35];
        let outcome = decode_raw(&mutated, &HEADER, Wire::F32, &mut decoded);
        prop_assert_eq!(outcome.is_ok(), mutated == message);
        prop_assert!(outcome.is_err() || decoded == values);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_raw(&bytes, &HEADER, Wire::F32, &mut [0f32; 35]).is_err());
    }
}
