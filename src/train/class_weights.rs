//! How much training nodes of each class count in the risk.

/// The largest s_c/t_c that is believed, and the reciprocal of the smallest. Else a class that no validation node is of
/// would not be learnt at all, whatever is to be predicted.
const LARGEST: f64 = 10.0;

/// ω of each of `classes` classes: (s_c / t_c)^γ, γ being the `exponent` and s_c / t_c held from 1/10 to 10, times what makes
/// the mean over the training nodes 1. 1 for a class without training nodes; nothing, which means 1 for all, where γ is 0.
/// `trained` and `validated` are the classes of the training and of the validation nodes.
///
/// t_c is the share of class c among the training nodes, s_c that among the n validation nodes of the k classes with
/// training nodes, drawn towards t_c: s_c = t_c + max(0, 1 − (k − 1)/χ²)(n_c/n − t_c) with χ² = Σ_c (n_c − n t_c)²/(n t_c).
/// k − 1 is the mean of χ² where chance alone made them differ; one factor for all classes, in the manner of James and
/// Stein. Weights of the raw shares of some ten nodes would fit the network to those very nodes.
pub(super) fn class_weights(
    trained: &[usize],
    validated: &[usize],
    classes: usize,
    exponent: f64,
) -> Vec<f64> {
    if exponent == 0.0 {
        return Vec::new();
    }
    let train = trained.len() as f64;
    let (trained, validated) = (counts(trained, classes), counts(validated, classes));
    let pairs = || trained.iter().zip(&validated).filter(|(t, _)| **t > 0.0);
    let (nodes, k) = (pairs().map(|(_, n)| n).sum::<f64>(), pairs().count() as f64);
    let expected = |t: f64| nodes * t / train;
    let chi_square: f64 = pairs().map(|(&t, n)| (n - expected(t)).powi(2) / expected(t)).sum();
    // Without validation nodes it is not a number, and nothing is believed.
    let doubt = if chi_square > k - 1.0 { (k - 1.0) / chi_square } else { 1.0 };
    let weight = |(&t, &n): (&f64, &f64)| match t > 0.0 && doubt < 1.0 {
        true => (doubt + (1.0 - doubt) * n / expected(t)).clamp(1.0 / LARGEST, LARGEST).powf(exponent),
        false => 1.0,
    };
    let mut weights: Vec<f64> = trained.iter().zip(&validated).map(weight).collect();
    let sum: f64 = weights.iter().zip(&trained).map(|(weight, t)| weight * t).sum();
    for (weight, t) in weights.iter_mut().zip(&trained) {
        if *t > 0.0 {
            *weight *= train / sum;
        }
    }
    weights
}

/// How many nodes are of each class.
fn counts(nodes: &[usize], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    for &class in nodes {
        if let Some(count) = counts.get_mut(class) {
            *count += 1.0;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 100 validation nodes, `first` are of class 0, the others of class 1.
    fn validation(first: usize) -> Vec<usize> {
        let mut classes = vec![1; 100];
        classes[..first].fill(0);
        classes
    }

    #[test]
    fn classes_weigh_as_much_as_their_share_of_the_validation_nodes_asks() {
        // χ² = 16: of the distance from 50 to 70 nodes 15/16 count.
        let weights = class_weights(&[0, 1, 0, 1], &validation(70), 2, 0.5);
        let [high, low] = [1.0 + 0.4 * 15.0 / 16.0, 1.0 - 0.4 * 15.0 / 16.0];
        assert!((weights[0] / weights[1] - f64::sqrt(high / low)).abs() < 1e-14, "{weights:?}");
        assert!((weights[0] + weights[1] - 2.0).abs() < 1e-14, "{weights:?}");
        // 70 nodes instead of 25: χ² = 45²/25 + 45²/75 = 108.
        let whole = class_weights(&[0, 1, 1, 1], &validation(70), 2, 1.0);
        let [high, low] = [1.0 + 1.8 * 107.0 / 108.0, 1.0 - 0.6 * 107.0 / 108.0];
        assert!((whole[0] - high).abs() < 1e-14 && (whole[1] - low).abs() < 1e-14, "{whole:?}");
    }

    #[test]
    fn without_an_exponent_or_other_shares_all_weigh_1() {
        assert!(class_weights(&[0, 1], &validation(90), 2, 0.0).is_empty());
        assert_eq!(class_weights(&[0, 1], &[], 2, 1.0), [1.0, 1.0]);
        assert_eq!(class_weights(&[0, 1], &validation(50), 2, 1.0), [1.0, 1.0]);
        // Validation nodes of a class without training nodes count for nothing.
        let others = [validation(90), vec![2; 50]].concat();
        assert_eq!(class_weights(&[0, 1], &others, 3, 1.0), class_weights(&[0, 1], &validation(90), 3, 1.0));
        let absent = class_weights(&[0, 1], &validation(90), 3, 1.0);
        assert!(absent[0] > 1.7 && absent[1] < 0.3 && absent[1] > 0.0 && absent[2] == 1.0, "{absent:?}");
    }

    #[test]
    fn a_class_counts_a_tenth_at_least_and_ten_times_at_most() {
        let none = class_weights(&[0, 1, 2], &validation(50), 3, 1.0);
        assert!((none[0] / none[2] - 15.0).abs() < 0.5 && none[0] == none[1], "{none:?}");
        // One training node of class 1 in 300, and as many validation nodes of it as of class 0.
        let mut train = vec![0; 299];
        train.push(1);
        let many = class_weights(&train, &validation(50), 2, 1.0);
        assert!((many[1] / many[0] - 10.0 / 0.5).abs() < 0.5, "{many:?}");
        assert!((many[0] * 299.0 + many[1] - 300.0).abs() < 1e-10, "{many:?}");
    }

    #[test]
    fn a_chi_square_below_its_mean_changes_nothing() {
        assert_eq!(class_weights(&[0, 1], &validation(54), 2, 1.0), [1.0, 1.0]);
        // A class of one training node and no validation node does not outweigh the others.
        let mut train = vec![0; 300];
        train.push(1);
        assert_eq!(class_weights(&train, &[0; 10], 2, 1.0), [1.0, 1.0]);
        assert_eq!(class_weights(&[0, 0], &[0, 1], 2, 1.0), [1.0, 1.0]);
    }
}
