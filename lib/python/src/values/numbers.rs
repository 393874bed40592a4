//! Numbers, spelled as `repr()` spells them.

use super::objects::Object;
use super::pieces::Pieces;
use super::types::Family;
use super::{Lack, Values};
use crate::layout::Field;
use std::fmt::Write;

/// How many digits, of 30 bits each, an int may have to be shown by its value: about a thousand decimal ones. Larger
/// ones are shown by their size.
const DIGITS: u64 = 110;

/// The bits of a digit.
const BITS: u64 = 30;

/// No int has more digits.
const MOST: u64 = 1 << 42;

impl Values<'_> {
    pub(crate) fn bool(&self, object: &Object) -> Result<Pieces, Lack> {
        match self.small_int(object) {
            Some(0) => Ok(Pieces::text("False")),
            Some(1) => Ok(Pieces::text("True")),
            _ => Err(Lack::Invalid),
        }
    }

    pub(crate) fn int(&self, object: &Object) -> Result<Pieces, Lack> {
        if object.its_type.family == Family::MachineInt {
            let value = self.objects.int_machine.u64(&object.bytes).ok_or(Lack::Invalid)? as i64;
            return Ok(Pieces::text(value.to_string()).inside(self.derived(object)));
        }
        let (sign, count) = self.digits_of(object)?;
        let suffix = if self.layout.semantics.spelling.python_2 { "L" } else { "" };
        if count > DIGITS {
            let last = count - 1;
            let place = self.objects.int_digits.of(object.address).and_then(|first| first.checked_add(last * 4));
            let top = self.reader.bytes(place.ok_or(Lack::Invalid)?, 4)?;
            let top = Field(0).u32(&top).filter(|digit| *digit > 0 && *digit < 1 << BITS).ok_or(Lack::Invalid)?;
            let bits = last * BITS + u64::from(32 - top.leading_zeros());
            let sign = if sign < 0 { "negative " } else { "" };
            let mut pieces = Pieces::text(format!("<{sign}int of {bits} bits>"));
            pieces.truncated = true;
            return Ok(pieces.inside(self.derived(object)));
        }
        let digits = self.digits(object, count)?;
        let sign = if sign < 0 { "-" } else { "" };
        Ok(Pieces::text(format!("{sign}{}{suffix}", decimal(&digits))).inside(self.derived(object)))
    }

    /// The sign of an int, -1, 0 or 1, and how many digits it has.
    pub(crate) fn digits_of(&self, object: &Object) -> Result<(i8, u64), Lack> {
        // Builds with digits of 15 bits exist.
        if object.its_type.item_size != 4 {
            return Err(Lack::Invalid);
        }
        let (sign, count) = match self.objects.int_tag.u64(&object.bytes) {
            Some(tag) => {
                let sign = match tag & 3 {
                    0 => 1,
                    1 => 0,
                    2 => -1,
                    _ => return Err(Lack::Invalid),
                };
                (sign, if sign == 0 { 0 } else { tag >> 3 })
            }
            None => {
                let size = self.objects.object_items.u64(&object.bytes).ok_or(Lack::Invalid)? as i64;
                (size.signum() as i8, size.unsigned_abs())
            }
        };
        if count > MOST || (count == 0) != (sign == 0) {
            return Err(Lack::Invalid);
        }
        Ok((sign, count))
    }

    fn digits(&self, object: &Object, count: u64) -> Result<Vec<u32>, Lack> {
        let place = self.objects.int_digits.of(object.address).ok_or(Lack::Invalid)?;
        let bytes = self.reader.bytes(place, count * 4)?;
        let digits: Vec<u32> = bytes.as_chunks().0.iter().map(|digit| u32::from_le_bytes(*digit)).collect();
        // The highest is never 0.
        let sound = digits.iter().all(|digit| *digit < 1 << BITS) && digits.last() != Some(&0);
        if sound { Ok(digits) } else { Err(Lack::Invalid) }
    }

    /// The value of an int that is small.
    pub(crate) fn small_int(&self, object: &Object) -> Option<i64> {
        if let Family::MachineInt | Family::Bool = object.its_type.family
            && let Some(value) = self.objects.int_machine.u64(&object.bytes)
        {
            return Some(value as i64);
        }
        if !matches!(object.its_type.family, Family::Int | Family::Bool) {
            return None;
        }
        let (sign, count) = self.digits_of(object).ok()?;
        if count > 2 {
            return None;
        }
        let digits = self.digits(object, count).ok()?;
        let value = digits.iter().rev().fold(0i64, |value, digit| value << BITS | i64::from(*digit));
        Some(value * i64::from(sign))
    }

    pub(crate) fn float(&self, object: &Object) -> Result<Pieces, Lack> {
        let bits = self.objects.float_value.u64(&object.bytes).ok_or(Lack::Invalid)?;
        Ok(Pieces::text(float(f64::from_bits(bits))).inside(self.derived(object)))
    }

    pub(crate) fn complex(&self, object: &Object) -> Result<Pieces, Lack> {
        let field = self.objects.complex_value;
        let imaginary = super::objects::after(field, 8).ok_or(Lack::Invalid)?;
        let part = |field: Field| field.u64(&object.bytes).map(f64::from_bits).ok_or(Lack::Invalid);
        Ok(Pieces::text(complex(part(field)?, part(imaginary)?)).inside(self.derived(object)))
    }
}

/// Digits of 30 bits, the lowest first, in decimal.
fn decimal(digits: &[u32]) -> String {
    const STEP: u64 = 1_000_000_000;
    let mut decimal: Vec<u32> = Vec::new();
    for digit in digits.iter().rev() {
        let mut carry = u64::from(*digit);
        for part in &mut decimal {
            carry += u64::from(*part) << BITS;
            *part = (carry % STEP) as u32;
            carry /= STEP;
        }
        while carry > 0 {
            decimal.push((carry % STEP) as u32);
            carry /= STEP;
        }
    }
    let mut parts = decimal.iter().rev();
    let mut text = parts.next().map_or_else(|| "0".to_owned(), ToString::to_string);
    for part in parts {
        let _ = write!(text, "{part:09}");
    }
    text
}

/// A float as `repr()` has it.
pub(crate) fn float(value: f64) -> String {
    let text = plain_float(value);
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') { text + ".0" } else { text }
}

/// The shortest digits that give the same number again, written with an exponent below 1e-4 and from 1e16 on.
fn plain_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = shortest(value);
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..=15) => positional(digits, exponent),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

/// The shortest digits that give the same number again, and of several the nearest; of two as near, those that end even.
fn shortest(value: f64) -> String {
    let any = format!("{value:e}");
    let places =
        any.split_once('e').and_then(|(digits, _)| digits.split_once('.')).map_or(0, |(_, places)| places.len());
    let nearest = format!("{value:.places$e}");
    if nearest.parse() == Ok(value) { nearest } else { any }
}

/// `d.ddd` times ten to the power of `exponent`, written without one.
fn positional(digits: &str, exponent: i32) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let mut all: String = digits.chars().filter(|digit| *digit != '.').collect();
    if exponent < 0 {
        let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
        return format!("{sign}0.{zeros}{all}");
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    while all.len() < whole {
        all.push('0');
    }
    let (whole, rest) = all.split_at(whole);
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

/// A complex number as `repr()` has it.
pub(crate) fn complex(real: f64, imaginary: f64) -> String {
    let imaginary = plain_float(imaginary);
    if real == 0.0 && real.is_sign_positive() {
        return format!("{imaginary}j");
    }
    let sign = if imaginary.starts_with('-') { "" } else { "+" };
    format!("({}{sign}{imaginary}j)", plain_float(real))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python 3.11 printed.
    #[test]
    fn floats_are_spelled_as_python_spells_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (5e-324, "5e-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157e+308"),
            // 721853113128266.25, as near to …6.3.
            (f64::from_bits(0x4304_842c_331a_aa52), "721853113128266.2"),
            (-123.456, "-123.456"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn complex_numbers_are_spelled_as_python_spells_them() {
        for (real, imaginary, expected) in [
            (0.0, 1.0, "1j"),
            (-0.0, 1.0, "(-0+1j)"),
            (1.5, -2.0, "(1.5-2j)"),
            (1e16, 0.0, "(1e+16+0j)"),
            (0.0, f64::NAN, "nanj"),
            (1.0, f64::INFINITY, "(1+infj)"),
        ] {
            assert_eq!(complex(real, imaginary), expected);
        }
    }

    #[test]
    fn digits_become_decimal() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[1]), "1");
        // 2**90 and 2**60 - 1.
        assert_eq!(decimal(&[0, 0, 0, 1]), "1237940039285380274899124224");
        assert_eq!(decimal(&[(1 << 30) - 1, (1 << 30) - 1]), "1152921504606846975");
        // 10**18: its lower nine digits are zeros.
        assert_eq!(decimal(&[660_865_024, 931_322_574]), "1000000000000000000");
    }
}
