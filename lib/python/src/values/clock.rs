//! Dates, times and time zones of `datetime`.
//!
//! An object has its hash behind the header, then whether there is a time zone, then the number itself in big-endian bytes
//! (`Include/datetime.h`, which is public); a time zone follows in the next whole word.

use super::objects::{Object, after};
use super::pieces::Pieces;
use super::types::Family;
use super::{Lack, Values};
use crate::layout::Field;
use pyst_snapshot::Address;

impl Values<'_> {
    pub(crate) fn clock(&self, object: &Object, family: Family) -> Result<Pieces, Lack> {
        let name = self.derived(object).unwrap_or_else(|| object.its_type.name.clone());
        // A class may keep more than datetime does: pandas has nanoseconds.
        let truncated = !object.its_type.is_own;
        let pieces = match family {
            Family::Date => {
                let [year, month, day, ..] = self.date(object)?;
                Ok(Pieces::text(format!("{name}({year}, {month}, {day})")))
            }
            Family::DateTime => {
                let [year, month, day] = self.date(object)?;
                let data = self.clock_bytes::<11>(object)?;
                let [_, _, _, _, hour, minute, second, high, middle, low, fold] = data;
                let time = time([hour, minute, second, high, middle, low])?;
                let pieces = Pieces::text(format!("{name}({year}, {month}, {day}, {time}"));
                self.zoned(object, pieces, fold, 24)
            }
            Family::Time => {
                let [hour, minute, second, high, middle, low, fold] = self.clock_bytes::<7>(object)?;
                let time = time([hour, minute, second, high, middle, low])?;
                self.zoned(object, Pieces::text(format!("{name}({time}")), fold, 16)
            }
            Family::Delta => self.delta(object, &name),
            _ => self.zone(object, &name),
        }?;
        Ok(Pieces { truncated, ..pieces })
    }

    fn date(&self, object: &Object) -> Result<[u16; 3], Lack> {
        let [high, low, month, day] = self.clock_bytes::<4>(object)?;
        let year = u16::from_be_bytes([high, low]);
        let sound = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        if sound { Ok([year, month.into(), day.into()]) } else { Err(Lack::Invalid) }
    }

    fn clock_bytes<const N: usize>(&self, object: &Object) -> Result<[u8; N], Lack> {
        let start = self.objects.date_data.get().and_then(|start| usize::try_from(start).ok()).ok_or(Lack::Invalid)?;
        object.bytes.get(start..).and_then(|data| data.first_chunk().copied()).ok_or(Lack::Invalid)
    }

    /// The fold and the time zone, which is `zone` bytes behind the object's header.
    fn zoned(&self, object: &Object, pieces: Pieces, fold: u8, zone: u32) -> Result<Pieces, Lack> {
        // There was no fold in Python 2, and the byte may be anything.
        let folded = fold == 1 && !self.layout.semantics.spelling.python_2;
        let pieces = if folded { pieces.and(", fold=1") } else { pieces };
        if self.objects.date_zoned.u8(&object.bytes) != Some(1) {
            return Ok(pieces.close(")"));
        }
        let zone = object.pointer(after(self.objects.object_size, zone).ok_or(Lack::Invalid)?)?;
        Ok(pieces.and(", tzinfo=").object(zone).close(")"))
    }

    fn delta(&self, object: &Object, name: &str) -> Result<Pieces, Lack> {
        let part = |index: u32| -> Result<i32, Lack> {
            let field: Option<Field> = after(self.objects.delta_days, index * 4);
            field.and_then(|field| field.i32(&object.bytes)).ok_or(Lack::Invalid)
        };
        let (days, seconds, microseconds) = (part(0)?, part(1)?, part(2)?);
        if !(0..86_400).contains(&seconds) || !(0..1_000_000).contains(&microseconds) {
            return Err(Lack::Invalid);
        }
        if self.layout.semantics.spelling.bare {
            let rest = match (seconds, microseconds) {
                (0, 0) => String::new(),
                (seconds, 0) => format!(", {seconds}"),
                (seconds, microseconds) => format!(", {seconds}, {microseconds}"),
            };
            return Ok(Pieces::text(format!("{name}({days}{rest})")));
        }
        let parts = [("days", days), ("seconds", seconds), ("microseconds", microseconds)];
        let parts: Vec<String> =
            parts.iter().filter(|(_, value)| *value != 0).map(|(word, value)| format!("{word}={value}")).collect();
        Ok(Pieces::text(format!("{name}({})", if parts.is_empty() { "0".to_owned() } else { parts.join(", ") })))
    }

    fn zone(&self, object: &Object, name: &str) -> Result<Pieces, Lack> {
        let offset = object.pointer(self.objects.timezone_offset)?;
        let named = object.pointer(self.objects.timezone_name)?;
        let delta = self.object(offset)?;
        let is_utc = named.is_null() && {
            let part = |index: u32| after(self.objects.delta_days, index * 4)?.i32(&delta.bytes);
            (0..3).all(|index| part(index) == Some(0))
        };
        if is_utc {
            return Ok(Pieces::text(format!("{name}.utc")));
        }
        let pieces = Pieces::text(format!("{name}(")).object(offset);
        let pieces = if named.is_null() { pieces } else { pieces.and(", ").object(Address(named.0)) };
        Ok(pieces.close(")"))
    }
}

/// Hour, minute, second and microsecond, the last two as far as they are not 0.
fn time([hour, minute, second, high, middle, low]: [u8; 6]) -> Result<String, Lack> {
    let microsecond = u32::from_be_bytes([0, high, middle, low]);
    if hour > 23 || minute > 59 || second > 59 || microsecond > 999_999 {
        return Err(Lack::Invalid);
    }
    Ok(match (second, microsecond) {
        (0, 0) => format!("{hour}, {minute}"),
        (second, 0) => format!("{hour}, {minute}, {second}"),
        (second, microsecond) => format!("{hour}, {minute}, {second}, {microsecond}"),
    })
}
