//! The rank test of Mann, Whitney and Wilcoxon, exact for any number of values, ties included.
//!
//! It asks only which values are greater, so that one disturbed round weighs no more than any other. Exact by
//! counting: over all ways to deal the pooled ranks to the two sides, the share whose rank sum lies at least as far
//! from its mean as the one seen. **Not here**: how great a difference is (`compare`), and the normal approximation:
//! rounds are few, and a count for a hundred values takes a moment.

/// The probability of a difference in ranks at least so great if both sides were drawn from the same values. 1 when a
/// side is empty.
pub(super) fn two_sided(a: &[f64], b: &[f64]) -> f64 {
    let doubled = doubled_ranks(a, b);
    let total: usize = doubled.iter().sum();
    let counts = sums(&doubled, a.len());
    let seen: usize = doubled[..a.len()].iter().sum();
    // The mean of the sums is the total times the share of values on this side; both sides of it times the number.
    let off = |sum: usize| (sum * doubled.len()).abs_diff(total * a.len());
    let all: f64 = counts.iter().sum();
    let extreme = counts.iter().enumerate().filter(|(sum, _)| off(*sum) >= off(seen));
    extreme.map(|(_, count)| count).sum::<f64>() / all
}

/// The least probability that so many values on each side can come to: every one of one side above the other's.
pub(super) fn least(a: usize, b: usize) -> f64 {
    if a == 0 || b == 0 {
        return 1.0;
    }
    // 2 / binomial(a + b, a)
    (1..=a).fold(2.0, |p, i| p * i as f64 / (b + i) as f64)
}

/// How many values on each side it takes to come to a probability of at most `alpha`.
pub(super) fn needed(alpha: f64) -> usize {
    (1..).find(|&n| least(n, n) <= alpha).unwrap_or(usize::MAX)
}

/// Twice the rank of each value among all (equal ones share their mean rank), those of `a` first.
fn doubled_ranks(a: &[f64], b: &[f64]) -> Vec<usize> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    let rank = |value: &f64| {
        let below = all.iter().filter(|other| other.total_cmp(value).is_lt()).count();
        let equal = all.iter().filter(|other| other.total_cmp(value).is_eq()).count();
        // Ranks below + 1 to below + equal.
        2 * below + equal + 1
    };
    all.iter().map(rank).collect()
}

/// For each sum, how many choices of `chosen` of the values come to it. Floating point: exact up to 2^53, and precise
/// beyond.
fn sums(values: &[usize], chosen: usize) -> Vec<f64> {
    let total: usize = values.iter().sum();
    let mut counts = vec![vec![0.0; total + 1]; chosen + 1];
    counts[0][0] = 1.0;
    for &value in values {
        for k in (1..=chosen).rev() {
            let (fewer, more) = counts.split_at_mut(k);
            for sum in value..=total {
                more[0][sum] += fewer[k - 1][sum - value];
            }
        }
    }
    counts.swap_remove(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(p: f64, wanted: f64) {
        assert!((p - wanted).abs() < 1e-12, "{p} is not {wanted}");
    }

    #[test]
    fn agrees_with_the_tables() {
        // Complete separation: 2 / C(n1 + n2, n1).
        near(two_sided(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 2.0 / 20.0);
        near(two_sided(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]), 2.0 / 20.0);
        near(two_sided(&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0]), 2.0 / 252.0);
        near(two_sided(&[1.0, 2.0], &[3.0, 4.0, 5.0]), 2.0 / 10.0);
        // U = 2 with 4 and 4: one-sided 4 of 70 (the tables' 0.0571), doubled.
        near(two_sided(&[1.0, 2.0, 3.0, 6.0], &[4.0, 5.0, 7.0, 8.0]), 8.0 / 70.0);
        // The critical value for 7 and 7 at 1 %: U = 4 is just below, U = 5 just above.
        let b = [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0];
        assert!(two_sided(&[0.0, 1.0, 2.0, 3.0, 4.0, 4.5, 8.5], &b) < 0.01);
        assert!(two_sided(&[0.0, 1.0, 2.0, 3.0, 4.0, 4.5, 9.5], &b) > 0.01);
    }

    #[test]
    fn ties_are_counted_as_they_are() {
        near(two_sided(&[1.0, 1.0, 1.0], &[1.0, 1.0, 1.0]), 1.0);
        // Of the pooled 1 1 2 2 two are dealt: sums of mean ranks 3 (once), 5 (four times), 7 (once).
        near(two_sided(&[1.0, 1.0], &[2.0, 2.0]), 2.0 / 6.0);
        near(two_sided(&[1.0, 2.0], &[1.0, 2.0]), 1.0);
    }

    #[test]
    fn empty_and_many() {
        near(two_sided(&[], &[1.0]), 1.0);
        near(two_sided(&[], &[]), 1.0);
        let many: Vec<f64> = (0..30).map(f64::from).collect();
        let above: Vec<f64> = many.iter().map(|value| value + 30.0).collect();
        assert!(two_sided(&many, &above) < 1e-15);
    }

    #[test]
    fn says_how_many_it_takes() {
        near(least(3, 3), 0.1);
        near(least(1, 1), 1.0);
        near(least(0, 9), 1.0);
        assert_eq!([needed(0.2), needed(0.05), needed(0.01)], [3, 4, 5]);
    }
}
