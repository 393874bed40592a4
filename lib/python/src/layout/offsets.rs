//! The fields that the walk names, and how it gets their values out of a structure's bytes.

use pyst_snapshot::Address;

/// Where a field is in its structure, in bytes; for `…_size` a size, for `…_bit` a bit number. Versions lack some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field(pub(crate) u32);

/// No structure or field that the walk names is as large, or as far inside one.
const LARGEST: u64 = 1 << 24;

impl Field {
    /// A field that the version does not have.
    pub(crate) const ABSENT: Field = Field(u32::MAX);

    /// What the target itself states about a field; `None` for what can't be.
    pub(crate) fn stated(value: u64) -> Option<Field> {
        u32::try_from(value).ok().filter(|value| u64::from(*value) < LARGEST).map(Field)
    }

    /// The offset, size or bit, where the version has the field.
    pub(crate) fn get(self) -> Option<u64> {
        (self != Field::ABSENT).then_some(u64::from(self.0))
    }

    /// The field's address in the structure at `base`.
    pub(crate) fn of(self, base: Address) -> Option<Address> {
        base.checked_add(self.get()?)
    }

    /// The field's value in a structure's bytes.
    pub(crate) fn u64(self, structure: &[u8]) -> Option<u64> {
        self.array(structure).map(u64::from_le_bytes)
    }

    /// The same, a pointer.
    pub(crate) fn address(self, structure: &[u8]) -> Option<Address> {
        self.u64(structure).map(Address)
    }

    /// The same, an `int`.
    pub(crate) fn i32(self, structure: &[u8]) -> Option<i32> {
        self.array(structure).map(i32::from_le_bytes)
    }

    /// The same, an unsigned 32-bit number.
    pub(crate) fn u32(self, structure: &[u8]) -> Option<u32> {
        self.array(structure).map(u32::from_le_bytes)
    }

    /// The same, a `char`.
    pub(crate) fn u8(self, structure: &[u8]) -> Option<u8> {
        self.array(structure).map(u8::from_le_bytes)
    }

    fn array<const N: usize>(self, structure: &[u8]) -> Option<[u8; N]> {
        structure.get(usize::try_from(self.get()?).ok()?..)?.first_chunk().copied()
    }
}

/// Defines a struct of offsets whose fields can also be gone through one by one.
macro_rules! fields {
    ($(#[$doc:meta])* $kind:ident { $($name:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $kind {
            $(pub(crate) $name: Field,)*
        }

        impl $kind {
            /// These offsets, each replaced by what a self-description states about it. `stated` tells where the
            /// description has each of them. `None` when one can't be right: then none of it is to be trusted. What a
            /// build does not have it states as 0, and stays absent.
            pub(crate) fn corrected(&self, stated: &$kind, description: &[u8]) -> Option<$kind> {
                let mut corrected = *self;
                $(
                    if stated.$name != Field::ABSENT && self.$name != Field::ABSENT {
                        corrected.$name = Field::stated(stated.$name.u64(description)?)?;
                    }
                )*
                Some(corrected)
            }
        }
    };
}
pub(super) use fields;

/// Defines [`Offsets`], and what only its tests and diagnostics ask.
macro_rules! offsets {
    ($($name:ident,)*) => {
        fields! {
            /// Where the fields are: named by what they are for, since CPython's names change from version to version.
            /// Which field of CPython each one is stands in `layouts/generate.py`.
            Offsets { $($name,)* }
        }

        impl Offsets {
            /// Calls with each field that a self-description states: its name, where it is here, and where in `other`.
            pub(crate) fn each_stated(
                &self,
                stated: &Offsets,
                other: &Offsets,
                mut call: impl FnMut(&'static str, Field, Field),
            ) {
                $(
                    if stated.$name != Field::ABSENT && self.$name != Field::ABSENT {
                        call(stringify!($name), self.$name, other.$name);
                    }
                )*
            }

            /// Calls with each field and where a self-description states it, for fields that are stated.
            #[cfg(test)]
            pub(crate) fn each_with(&self, stated: &Offsets, mut call: impl FnMut(Field, Field)) {
                $(
                    if stated.$name != Field::ABSENT && self.$name != Field::ABSENT {
                        call(self.$name, stated.$name);
                    }
                )*
            }
        }
    };
}

offsets! {
    runtime_size,
    runtime_core_initialized,
    runtime_initialized,
    runtime_finalizing,
    runtime_interpreters_head,
    runtime_interpreters_main,
    runtime_main_thread,
    runtime_gil,
    runtime_gc,
    interpreter_size,
    interpreter_next,
    interpreter_id,
    interpreter_threads_head,
    interpreter_threads_main,
    interpreter_finalizing,
    interpreter_gil,
    interpreter_gil_drop_request,
    interpreter_gc,
    interpreter_stop,
    stop_of_world,
    gc_size,
    gc_collecting,
    gc_frame,
    gil_size,
    gil_enabled,
    gil_holder,
    gil_locked,
    gil_condition,
    gil_mutex,
    gil_mutex_owner,
    gil_switch_condition,
    thread_size,
    thread_next,
    thread_interpreter,
    thread_ident,
    thread_native_id,
    thread_attachment,
    thread_holds_gil,
    thread_gil_requested,
    thread_frame,
    thread_cframe,
    thread_root_cframe,
    thread_current_frame,
    thread_executor,
    thread_base_frame,
    thread_exception,
    thread_chunk,
    thread_chunk_top,
    thread_handled,
    thread_handled_type,
    thread_handled_value,
    thread_handled_trace,
    chunk_previous,
    chunk_size,
    chunk_top,
    chunk_data,
    cframe_size,
    cframe_current_frame,
    cframe_previous,
    frame_previous,
    frame_code,
    frame_instruction,
    frame_stack_top,
    frame_stack_pointer,
    frame_code_copy,
    frame_owner,
    frame_locals,
    exception_previous,
    generator_frame,
    generator_exception,
    frame_words,
    frame_trace,
    frame_line,
    code_size,
    code_flags,
    code_bytes,
    code_units,
    code_name,
    code_qualname,
    code_file,
    code_first_line,
    code_line_table,
    code_locals,
    code_local_names,
    code_local_kinds,
    code_first_traceable,
    code_instructions,
    code_copies,
    code_copies_count,
    code_copies_first,
    object_type,
    bytes_length,
    bytes_data,
    text_length,
    text_state,
    text_kind_bit,
    text_compact_bit,
    text_ascii_bit,
    text_ascii_data,
    text_compact_data,
    text_separate_data,
    text_wide_data,
    text_wide_length,
    type_name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_outside_its_structure_has_no_value() {
        assert_eq!(Field(4).u32(&[0, 0, 0, 0, 1, 2, 0, 0]), Some(0x201));
        assert_eq!(Field(5).u32(&[0; 8]), None);
        assert_eq!(Field(u32::MAX - 1).u64(&[0; 8]), None);
        assert_eq!(Field::ABSENT.u8(&[0; 8]), None);
        assert_eq!(Field(8).of(Address(u64::MAX)), None);
    }

    #[test]
    fn an_offset_that_can_not_be_is_not_believed() {
        assert_eq!(Field::stated(72), Some(Field(72)));
        assert_eq!(Field::stated(LARGEST), None);
        assert_eq!(Field::stated(u64::from(u32::MAX)), None);
        assert_eq!(Field::stated(u64::MAX), None);
    }
}
