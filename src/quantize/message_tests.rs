//! Is every wrong message detected, and named?
#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const HEADER: Header = Header { kind: Kind::P, boundary: 3, block: 1, iteration: 17, rows: 5, cols: 7 };

fn raw_message() -> (Vec<f32>, Vec<u8>) {
    let values: Vec<f32> = (0..35).map(|i| i as f32 * 0.37 - 3.0).collect();
    let mut message = vec![9; 1000];
    encode_raw(&HEADER, &values, &mut message).unwrap();
    (values, message)
}

fn packed_message() -> (Vec<f32>, Vec<u8>) {
    let levels: LevelSet = "-1:20:1".parse().unwrap();
    let indices: Vec<u32> = (0..35).map(|i| i % 22).collect();
    let mut values = vec![0.0; 35];
    levels.values_of(&indices, &mut values);
    let mut message = vec![9; 1000];
    encode_packed(&HEADER, &levels, &indices, &mut message).unwrap();
    (values, message)
}

fn problem(message: &[u8], expected: &Expected) -> Problem {
    let mut values = vec![0f32; expected.elements().unwrap()];
    decode(message, expected, &mut values).unwrap_err().problem
}

fn resealed(mut message: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut message);
    seal(&mut message);
    message
}

#[test]
fn numbers_arrive_as_they_were_sent() {
    for (values, message) in [raw_message(), packed_message()] {
        let mut decoded = vec![0f32; 35];
        decode(&message, &HEADER, &mut decoded).unwrap();
        assert_eq!(decoded, values);
    }
    assert_eq!(raw_message().1.len(), raw_message_len::<f32>(35));
    assert_eq!(packed_message().1.len(), packed_message_len(35, 5));
    let special = [f64::NAN, -0.0, f64::INFINITY, 5e-324, 0.1];
    let header = Header { rows: 1, cols: 5, ..HEADER };
    let (mut message, mut decoded) = (Vec::new(), [0f64; 5]);
    encode_raw(&header, &special, &mut message).unwrap();
    decode(&message, &header, &mut decoded).unwrap();
    assert_eq!(special.map(f64::to_bits), decoded.map(f64::to_bits));
}

#[test]
fn blocks_longer_than_a_batch_and_empty_ones() {
    let levels = LevelSet::with_bits(-1.0, 1.0, 3).unwrap();
    for rows in [0, 1, BATCH as u32, 3 * BATCH as u32 + 5] {
        let header = Header { rows, cols: 1, kind: Kind::Q, ..HEADER };
        let indices: Vec<u32> = (0..rows).map(|i| i * i % 8).collect();
        let (mut message, mut decoded) = (Vec::new(), vec![0f64; rows as usize]);
        encode_packed(&header, &levels, &indices, &mut message).unwrap();
        decode(&message, &header, &mut decoded).unwrap();
        assert!(decoded.iter().zip(&indices).all(|(x, &i)| *x == levels.value(i)));
    }
}

#[test]
fn what_differs_is_named() {
    let (_, message) = raw_message();
    let expected = Header { iteration: 18, ..HEADER };
    let mut values = vec![0f32; 35];
    let error = decode(&message, &expected, &mut values).unwrap_err();
    assert_eq!(
        error.to_string(),
        "message with p of boundary 3, block 1, iteration 18: expected iteration 18, found 17"
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
    let error = decode(&message, &HEADER, &mut wide).unwrap_err();
    assert_eq!(error.problem, Problem::Form { expected: "f64", found: 1 });
    let error = decode(&message, &HEADER, &mut values[1..]).unwrap_err();
    assert!(matches!(error.problem, Problem::Shape { found: 34, .. }));
}

#[test]
fn damage_is_called_damage() {
    let (_, message) = packed_message();
    assert!(matches!(problem(&message[..10], &HEADER), Problem::Length { expected: 64, found: 10 }));
    assert!(matches!(problem(&message[..70], &HEADER), Problem::Length { .. }));
    assert!(matches!(problem(b"", &HEADER), Problem::Length { .. }));
    let mut other = message.clone();
    other[16] ^= 1;
    assert!(matches!(problem(&other, &HEADER), Problem::Checksum { .. }));
    assert!(matches!(problem(&resealed(message.clone(), |m| m[0] = 0), &HEADER), Problem::Magic(_)));
    assert!(matches!(problem(&resealed(message.clone(), |m| m[4] = 2), &HEADER), Problem::Version(2)));
    let huge = resealed(message, |m| m[52..60].fill(0xff));
    assert!(matches!(problem(&huge, &HEADER), Problem::Length { expected: u64::MAX, .. }));
}

#[test]
fn lies_with_a_valid_checksum_are_refused() {
    let (_, message) = packed_message();
    let of = |change: fn(&mut Vec<u8>)| problem(&resealed(message.clone(), change), &HEADER);
    assert!(matches!(of(|m| m[7] = 99), Problem::Form { found: 99, .. }));
    assert!(matches!(of(|m| m[64] = 0xff), Problem::Index { count: 22, found: 31 }));
    assert!(matches!(of(|m| *m.last_mut().unwrap() |= 0x80), Problem::Packing(_)));
    assert!(matches!(of(|m| m[48] = 200), Problem::Field { field: "payload bytes", .. }));
    assert!(matches!(of(|m| m[48..52].fill(0xff)), Problem::Levels(_)));
    assert!(matches!(of(|m| m[40..48].fill(0xff)), Problem::Levels(_)));
    let (_, raw) = raw_message();
    let short = resealed(raw, |m| {
        m.truncate(100);
        m[52..60].copy_from_slice(&36u64.to_le_bytes());
    });
    assert!(matches!(problem(&short, &HEADER), Problem::Field { field: "payload bytes", .. }));
}

#[test]
fn wrong_input_of_the_sender_is_refused() {
    let levels = LevelSet::with_bits(0.0, 1.0, 2).unwrap();
    let mut message = Vec::new();
    let error = encode_packed(&HEADER, &levels, &[4; 35], &mut message).unwrap_err();
    assert_eq!(error.problem, Problem::Index { count: 4, found: 4 });
    assert!(encode_packed(&HEADER, &levels, &[0; 34], &mut message).is_err());
    assert!(encode_raw(&HEADER, &[0f32; 36], &mut message).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Up to three damaged bytes, a cut or an extension: an error, unless nothing changed.
    #[test]
    fn mutations_are_detected(
        packed in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        len in prop::option::of(0usize..300),
    ) {
        let (values, message) = if packed { packed_message() } else { raw_message() };
        let mut mutated = message.clone();
        for (at, mask) in flips {
            let at = at.index(mutated.len());
            mutated[at] ^= mask;
        }
        if let Some(len) = len {
            mutated.resize(len, 0);
        }
        let mut decoded = vec![0f32; 35];
        let outcome = decode(&mutated, &HEADER, &mut decoded);
        prop_assert_eq!(outcome.is_ok(), mutated == message);
        prop_assert!(outcome.is_err() || decoded == values);
    }

    /// Damage that carries a valid checksum may decode, but never panics.
    #[test]
    fn resealed_mutations_never_panic(
        packed in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in prop::option::of(64usize..300),
    ) {
        let mut mutated = if packed { packed_message().1 } else { raw_message().1 };
        for (at, mask) in flips {
            let at = at.index(mutated.len());
            mutated[at] ^= mask;
        }
        if let Some(len) = len {
            mutated.resize(len, 0);
            mutated[52..60].copy_from_slice(&(len as u64 - 64).to_le_bytes());
        }
        seal(&mut mutated);
        let _ = decode(&mutated, &HEADER, &mut [0f32; 35]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes, &HEADER, &mut [0f32; 35]).is_err());
    }
}
