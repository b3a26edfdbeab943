//! Splits: which one is the default, and how new ones are drawn.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::error::DatasetError;
use super::{Dataset, Split};

/// Training nodes a class of a standard split.
pub const TRAIN_PER_CLASS: usize = 20;
/// Test nodes, and as many validation nodes, of a standard split.
pub const HELD_OUT: usize = 1000;
/// Number of standard splits that an import draws, from seeds 0, 1, 2 and so on.
pub const STANDARD_SPLITS: u64 = 10;

/// The name of the split to use: the wanted one, or else `public`, `random_0`, `random`, or the
/// only one, in this order.
///
/// # Errors
/// [`DatasetError::NoSuchSplit`], which lists the names there are.
pub fn choose<'a>(
    splits: &'a BTreeMap<String, Split>,
    wanted: Option<&str>,
) -> Result<(&'a str, &'a Split), DatasetError> {
    let candidates = match wanted {
        Some(name) => vec![name],
        None => vec!["public", "random_0", "random"],
    };
    for name in candidates {
        if let Some((name, split)) = splits.get_key_value(name) {
            return Ok((name, split));
        }
    }
    if let (None, 1, Some((name, split))) = (wanted, splits.len(), splits.first_key_value()) {
        return Ok((name, split));
    }
    const LISTED: usize = 50;
    let mut names: Vec<&str> = splits.keys().take(LISTED).map(String::as_str).collect();
    if splits.len() > LISTED {
        names.push("…");
    }
    Err(DatasetError::NoSuchSplit {
        wanted: match wanted {
            Some(name) => format!("no split is called {name:?}"),
            None => "no split is called public, random_0 or random, and there are several".into(),
        },
        names: names.join(", "),
    })
}

impl Dataset {
    /// The split of the wanted name, or the default one; see [`choose`].
    ///
    /// # Errors
    /// [`DatasetError::NoSuchSplit`].
    pub fn split(&self, wanted: Option<&str>) -> Result<(&str, &Split), DatasetError> {
        choose(&self.splits, wanted)
    }
}

/// How many nodes a drawn split gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Training nodes of each class.
    pub train: Vec<usize>,
    /// Test nodes, over all classes.
    pub test: usize,
    /// Validation nodes, over all classes.
    pub val: usize,
}

impl Quota {
    /// The standard sizes: 20 training nodes a class, 1,000 for test and 1,000 for validation. In
    /// small graphs a class gives at most half of its nodes (rounded up) to train, and test and
    /// validation at most half of the rest each (test rounded up).
    pub fn standard(labels: &[i64], classes: usize) -> Quota {
        let counts: Vec<usize> = members(labels, classes).iter().map(Vec::len).collect();
        let train: Vec<usize> = counts.iter().map(|&n| TRAIN_PER_CLASS.min(n.div_ceil(2))).collect();
        let rest = counts.iter().sum::<usize>() - train.iter().sum::<usize>();
        let test = HELD_OUT.min(rest.div_ceil(2));
        let val = HELD_OUT.min(rest - test);
        Quota { train, test, val }
    }
}

/// Draws a split from a seed. The same labels, quota and seed give the same split on every
/// machine:
///
/// 1. The generator is ChaCha with 8 rounds; its 256-bit key is the seed as 8 little-endian bytes
///    followed by 24 zero bytes, its stream number 0.
/// 2. A number below n comes from the next 64-bit output x: drawn again while
///    x ≥ n · ⌊(2⁶⁴ − 1) / n⌋, else x mod n.
/// 3. Shuffling a list: for i from its last position down to 1, swap positions i and a number
///    below i + 1.
/// 4. For each class in order, its nodes in rising order are shuffled; the first ones are train.
/// 5. All other labelled nodes in rising order are shuffled; the first are test, the next val.
///
/// Each part is sorted in the end. Nodes with label −1 are never drawn. A quota larger than what
/// is there takes all there is.
pub fn draw(labels: &[i64], classes: usize, quota: &Quota, seed: u64) -> Split {
    let mut generator = generator(seed);
    let mut train = Vec::new();
    let mut rest = Vec::new();
    for (class, mut nodes) in members(labels, classes).into_iter().enumerate() {
        shuffle(&mut nodes, &mut generator);
        let wanted = quota.train.get(class).copied().unwrap_or(0).min(nodes.len());
        rest.extend(nodes.drain(wanted..));
        train.extend(nodes);
    }
    rest.sort_unstable();
    shuffle(&mut rest, &mut generator);
    let mut rest = rest.into_iter();
    let mut test: Vec<usize> = rest.by_ref().take(quota.test).collect();
    let mut val: Vec<usize> = rest.take(quota.val).collect();
    for part in [&mut train, &mut test, &mut val] {
        part.sort_unstable();
    }
    Split { train, val, test, seed: Some(seed) }
}

/// The ten standard splits `random_0` to `random_9`, drawn from seeds 0 to 9.
pub fn standard_splits(labels: &[i64], classes: usize) -> BTreeMap<String, Split> {
    let quota = Quota::standard(labels, classes);
    (0..STANDARD_SPLITS).map(|seed| (format!("random_{seed}"), draw(labels, classes, &quota, seed))).collect()
}

/// Nodes of each class, in rising order.
fn members(labels: &[i64], classes: usize) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); classes];
    for (node, &label) in labels.iter().enumerate() {
        if let Some(nodes) = usize::try_from(label).ok().and_then(|class| members.get_mut(class)) {
            nodes.push(node);
        }
    }
    members
}

/// The generator of a seed. Not `seed_from_u64`, whose expansion a later version may change.
pub(crate) fn generator(seed: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (to, from) in key.iter_mut().zip(seed.to_le_bytes()) {
        *to = from;
    }
    ChaCha8Rng::from_seed(key)
}

/// A uniform number below `n`, which must not be 0.
pub(crate) fn below(n: usize, generator: &mut ChaCha8Rng) -> usize {
    let n = n as u64;
    let limit = n * (u64::MAX / n);
    loop {
        let x = generator.next_u64();
        if x < limit {
            return (x % n) as usize;
        }
    }
}

/// Fisher–Yates, from the last position down.
pub(crate) fn shuffle<T>(list: &mut [T], generator: &mut ChaCha8Rng) {
    for i in (1..list.len()).rev() {
        list.swap(i, below(i + 1, generator));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels() -> Vec<i64> {
        (0..5000).map(|i| if i % 7 == 6 { -1 } else { i % 3 }).collect()
    }

    #[test]
    fn a_standard_split_has_the_published_sizes() {
        let labels = labels();
        for (seed, split) in (0..).zip(standard_splits(&labels, 3).values()) {
            assert_eq!(split.seed, Some(seed));
            assert_eq!((split.train.len(), split.val.len(), split.test.len()), (60, 1000, 1000));
            for class in 0..3 {
                assert_eq!(split.train.iter().filter(|&&n| labels[n] == class).count(), 20);
            }
        }
    }

    #[test]
    fn small_graphs_get_smaller_parts() {
        let quota = Quota::standard(&[0, 0, 0, 1, 1, -1, 1, 1, 0, 0], 3);
        assert_eq!(quota, Quota { train: vec![3, 2, 0], test: 2, val: 2 });
    }

    /// Splits are part of published results: a change here changes them all.
    #[test]
    fn the_drawn_nodes_never_change() {
        let labels: Vec<i64> = (0..20).map(|i| i % 2).collect();
        let quota = Quota { train: vec![2, 2], test: 4, val: 4 };
        let split = draw(&labels, 2, &quota, 3);
        assert_eq!(split.train, [9, 10, 14, 19]);
        assert_eq!(split.val, [11, 13, 17, 18]);
        assert_eq!(split.test, [3, 8, 12, 16]);
    }

    #[test]
    fn the_default_is_public_then_random() {
        let with = |names: &[&str]| -> BTreeMap<String, Split> {
            names.iter().map(|name| (name.to_string(), Split::default())).collect()
        };
        let name = |names: &[&str]| choose(&with(names), None).map(|(name, _)| name.to_string());
        assert_eq!(name(&["random", "random_0", "public"]).unwrap(), "public");
        assert_eq!(name(&["random", "random_0"]).unwrap(), "random_0");
        assert_eq!(name(&["random", "other"]).unwrap(), "random");
        assert_eq!(name(&["time"]).unwrap(), "time");
        let error = name(&["a", "b"]).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("a, b"), "{error}");
        assert!(choose(&with(&["a"]), Some("c")).unwrap_err().to_string().contains("\"c\""));
    }
}
