//! Medians, spreads and ratios.

/// What was measured, round after round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value that half of them do not exceed; of an even number the one above the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut ascending = self.0.clone();
        ascending.sort_by(f64::total_cmp);
        ascending.get(ascending.len() / 2).copied()
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.0.iter().copied().max_by(f64::total_cmp)
    }

    /// Median, and least to greatest: `12.5 (11.0–40.1)`.
    pub(crate) fn spread(&self) -> String {
        match (self.median(), self.min(), self.max()) {
            (Some(median), Some(min), Some(max)) => format!("{} ({}–{})", short(median), short(min), short(max)),
            _ => "–".to_owned(),
        }
    }
}

/// A number with three digits that count: `0.0853`, `1.23`, `680`, `12345`.
pub(crate) fn short(number: f64) -> String {
    // Rounded first: 9.996 is 10.0, and not 10.00.
    let rounded: f64 = format!("{number:.2e}").parse().unwrap_or(number);
    let digits = match rounded.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    format!("{number:.digits$}")
}

/// `one` as a multiple of `other`, round by round: the median of that. A virtual machine's speed changes by a third from one
/// minute to the next, and falls on both of a round. Nothing where there is none, or nothing to divide by.
pub(crate) fn ratio(one: &Sample, other: &Sample) -> Option<f64> {
    let rounds = one.0.iter().zip(&other.0).filter(|(_, other)| **other > 0.0);
    Sample(rounds.map(|(one, other)| one / other).collect()).median()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[f64]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.push(*value));
        sample
    }

    #[test]
    fn a_sample_says_its_median_least_and_greatest() {
        let three = sample(&[30.0, 1.5, 2.0]);
        assert_eq!((three.median(), three.min(), three.max()), (Some(2.0), Some(1.5), Some(30.0)));
        assert_eq!(three.spread(), "2.00 (1.50–30.0)");
        assert_eq!(sample(&[4.0, 1.0]).median(), Some(4.0));
    }

    #[test]
    fn nothing_measured_has_no_median_and_no_ratio() {
        let nothing = Sample::default();
        assert_eq!(nothing.spread(), "–");
        assert_eq!(ratio(&nothing, &sample(&[1.0])), None);
        assert_eq!(ratio(&sample(&[1.0]), &sample(&[0.0])), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_same_rounds() {
        // The machine was half as fast in the second round and in the third.
        let (one, other) = (sample(&[1.0, 2.0, 2.2]), sample(&[10.0, 22.0, 20.0]));
        assert_eq!(ratio(&other, &one), Some(10.0));
        assert_eq!(ratio(&sample(&[3.0, 8.0]), &sample(&[0.0, 4.0])), Some(2.0), "a round with nothing does not count");
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let said = [0.0, 0.01234, 0.1234, 0.9999, 1.234, 12.34, 123.4, 12345.6].map(short);
        assert_eq!(said, ["0.0000", "0.0123", "0.123", "1.00", "1.23", "12.3", "123", "12346"]);
    }
}
