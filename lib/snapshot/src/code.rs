//! Open enums: `u16` codes on the wire, so that a code added later survives a tool that does not know it.

/// Defines an open enum: a newtype over `u16` with one constant and one name a code.
///
/// `name()` is the word used in JSON; an unknown code has the name `code-N`, which readers must accept.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $code:ident = $value:literal, $word:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u16);

        impl $name {
            $($(#[$doc])* pub const $code: $name = $name($value);)*

            /// Every code this version knows, with its word.
            pub const KNOWN: &[($name, &str)] = &[$(($name($value), $word),)*];

            /// The word for this code; `code-N` for one that this version does not know.
            #[must_use]
            pub fn name(self) -> std::borrow::Cow<'static, str> {
                match self.0 {
                    $($value => std::borrow::Cow::Borrowed($word),)*
                    other => std::borrow::Cow::Owned(format!("code-{other}")),
                }
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use crate::format::SectionKind;

    #[test]
    fn known_codes_have_words_and_unknown_ones_numbers() {
        assert_eq!(SectionKind::END.name(), "end");
        assert_eq!(SectionKind(777).name(), "code-777");
        assert!(SectionKind::KNOWN.contains(&(SectionKind::MEMORY, "memory")));
    }
}
