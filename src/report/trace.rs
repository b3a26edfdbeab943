//! A column of a history, thinned to what a plot can show.

/// Points that are kept at least, once there have been so many; at most twice as many are.
const KEPT: usize = 800;

/// Points in the order in which they came: the first, the last, and evenly chosen ones between, whatever their number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trace {
    kept: Vec<(f64, f64)>,
    last: Option<(f64, f64)>,
    seen: u64,
    /// log₂ of the distance between points that are kept.
    level: u32,
}

impl Trace {
    /// Adds a point; one that is not finite is none.
    pub fn push(&mut self, x: f64, y: f64) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        if self.seen.trailing_zeros() >= self.level {
            self.kept.push((x, y));
        }
        (self.seen, self.last) = (self.seen + 1, Some((x, y)));
        if self.kept.len() >= 2 * KEPT {
            let mut number = 0;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.level += 1;
        }
    }

    /// What is to be drawn.
    pub fn points(&self) -> Vec<(f64, f64)> {
        let last = self.last.filter(|last| self.kept.last() != Some(last));
        self.kept.iter().copied().chain(last).collect()
    }

    /// The last point.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_kept_and_what_is_between_is_even() {
        for count in [0, 1, 2, 799, 1600, 1601, 100_003] {
            let mut trace = Trace::default();
            (0..count).for_each(|i| trace.push(f64::from(i), 1.0));
            trace.push(0.0, f64::NAN);
            let points = trace.points();
            assert!(points.len() <= 2 * KEPT + 1 && points.len() >= (count as usize).min(KEPT), "{count}");
            assert_eq!(points.last().map(|p| p.0), (count > 0).then(|| f64::from(count - 1)));
            let steps: Vec<f64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            let most = steps.iter().copied().fold(0.0, f64::max);
            assert!(steps.iter().rev().skip(1).all(|&step| step == most), "{count}");
        }
    }
}
