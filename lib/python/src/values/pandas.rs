//! Tables, columns and indices of pandas, by their shape.
//!
//! What they hold lies in blocks whose form changes from version to version; how long they are, their indices tell, which are
//! arrays of numpy or ranges. Where that is not so, nothing is said of the shape.

use super::Values;
use super::instances::AttributesOf;
use super::objects::{Object, after};
use super::pieces::Pieces;
use super::types::Family;
use pyst_snapshot::Address;

/// How many words of an object of C code are looked at for what it must have.
const WORDS: u32 = 16;

/// A table, column or index with its shape; `None` where that is not to be had.
pub(super) fn shaped(values: &Values<'_>, object: &Object, attributes: &AttributesOf) -> Option<Pieces> {
    let shape = match object.its_type.name.as_str() {
        "DataFrame" => {
            let axes = values.axes(attributes.get("_mgr")?, 2)?;
            // Columns come first there.
            let [columns, rows] = axes.try_into().ok()?;
            format!("({}, {})", values.length_of_index(rows)?, values.length_of_index(columns)?)
        }
        "Series" => {
            let axes = values.axes(attributes.get("_mgr")?, 1)?;
            format!("({},)", values.length_of_index(*axes.first()?)?)
        }
        _ => format!("({},)", values.length_of_index(object.address)?),
    };
    let name = values.type_name(&object.its_type);
    Some(Pieces { truncated: true, ..Pieces::text(format!("<{name} at {}: {shape}>", object.address)) })
}

impl Values<'_> {
    /// The indices that a manager of blocks has, as many as it must have: an attribute, or a field of C code.
    fn axes(&self, manager: Address, count: u64) -> Option<Vec<Address>> {
        let manager = self.object(manager).ok()?;
        let named = self.attributes(&manager).ok()?.get("axes");
        let fields = self.fields_of(&manager);
        let lists = named.into_iter().chain(fields).filter_map(|field| self.object(field).ok());
        let mut lists = lists.filter(|field| field.its_type.family == Family::List);
        let list = lists.find(|list| list.count(self.objects.object_items) == Ok(count))?;
        let items = list.pointer(self.objects.list_items).ok()?;
        Some(self.reader.words(items, count).ok()?.into_iter().map(Address).collect())
    }

    /// The pointers in an object of C code.
    fn fields_of(&self, object: &Object) -> Vec<Address> {
        let field = |index| object.pointer(after(self.objects.object_size, index * 8)?).ok();
        (0..WORDS).map_while(field).filter(|field| !field.is_null() && field.0.is_multiple_of(8)).collect()
    }

    /// How long an index is: a range, an array of numpy, or what has one.
    fn length_of_index(&self, index: Address) -> Option<u64> {
        let index = self.object(index).ok()?;
        let attributes = self.attributes(&index).ok()?;
        if let Some(range) = attributes.get("_range") {
            let range = self.object(range).ok().filter(|range| range.its_type.family == Family::Range)?;
            let length = self.object(range.pointer_after(self.objects.range_start, 3).ok()?).ok()?;
            return u64::try_from(self.small_int(&length)?).ok();
        }
        let data = self.object(attributes.get("_data")?).ok()?;
        if let Some(length) = self.length_of_array(&data) {
            return Some(length);
        }
        let named = self.attributes(&data).ok()?.get("_ndarray");
        let fields = named.into_iter().chain(self.fields_of(&data));
        fields.into_iter().find_map(|field| self.length_of_array(&self.object(field).ok()?))
    }

    /// How long an array of one dimension is.
    fn length_of_array(&self, object: &Object) -> Option<u64> {
        if object.its_type.family != Family::Array {
            return None;
        }
        // PyArrayObject_fields: data, nd, dimensions.
        let dimensions = after(self.objects.object_size, 8)?.i32(&object.bytes)?;
        let lengths = object.pointer_after(self.objects.object_size, 2).ok()?;
        if dimensions == 1 { self.reader.word(lengths).ok().filter(|length| *length < 1 << 48) } else { None }
    }
}
