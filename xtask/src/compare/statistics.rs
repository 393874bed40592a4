//! Medians, spreads and ratios.

/// What was measured, many times.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The value that half of them do not exceed; of an even number the one above the middle.
    pub(crate) fn median(&self) -> Option<f64> {
        self.0.get(self.0.len() / 2).copied()
    }

    pub(crate) fn min(&self) -> Option<f64> {
        self.0.first().copied()
    }

    pub(crate) fn max(&self) -> Option<f64> {
        self.0.last().copied()
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

/// One median to another; nothing where there is none, or nothing to divide by.
pub(crate) fn ratio(one: &Sample, other: &Sample) -> Option<f64> {
    let (one, other) = (one.median()?, other.median()?);
    (other > 0.0).then_some(one / other)
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
        assert_eq!(ratio(&sample(&[1.0, 3.0, 2.0]), &sample(&[4.0])), Some(0.5));
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let said = [0.0, 0.01234, 0.1234, 0.9999, 1.234, 12.34, 123.4, 12345.6].map(short);
        assert_eq!(said, ["0.0000", "0.0123", "0.123", "1.00", "1.23", "12.3", "123", "12346"]);
    }
}
