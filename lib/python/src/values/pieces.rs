//! What is to be written of one object: text, and the objects inside it.

use pyst_snapshot::Address;
use std::borrow::Cow;

/// A piece of what is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(Cow<'static, str>),
    Object(Address),
    /// Text that closes what was opened: written even when the text has got too long.
    Close(Cow<'static, str>),
}

/// What is to be written of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) list: Vec<Piece>,
    /// Whether the object has more than that.
    pub(crate) truncated: bool,
}

impl Pieces {
    /// A piece of text.
    pub(crate) fn text(text: impl Into<Cow<'static, str>>) -> Pieces {
        Pieces::default().and(text)
    }

    /// The same with more text.
    pub(crate) fn and(mut self, text: impl Into<Cow<'static, str>>) -> Pieces {
        let text = text.into();
        if !text.is_empty() {
            self.list.push(Piece::Text(text));
        }
        self
    }

    /// The same with an object.
    pub(crate) fn object(mut self, address: Address) -> Pieces {
        self.list.push(Piece::Object(address));
        self
    }

    /// The same with the end of what was opened.
    pub(crate) fn close(mut self, text: impl Into<Cow<'static, str>>) -> Pieces {
        let text = text.into();
        if !text.is_empty() {
            self.list.push(Piece::Close(text));
        }
        self
    }

    /// The same with objects, and commas between.
    pub(crate) fn objects(mut self, objects: impl IntoIterator<Item = Address>) -> Pieces {
        for (index, address) in objects.into_iter().enumerate() {
            self = self.and(if index == 0 { "" } else { ", " }).object(address);
        }
        self
    }

    /// The same with pairs of objects, `between` the two of each.
    pub(crate) fn pairs(
        mut self,
        pairs: impl IntoIterator<Item = (Address, Address)>,
        between: &'static str,
    ) -> Pieces {
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            self = self.and(if index == 0 { "" } else { ", " }).object(key).and(between).object(value);
        }
        self
    }

    /// The same with what stands for `more` items that are left out, if there are any.
    pub(crate) fn more(mut self, shown: usize, more: u64) -> Pieces {
        if more == 0 {
            return self;
        }
        self.truncated = true;
        self.and(format!("{}… {more} more", if shown == 0 { "" } else { ", " }))
    }

    /// The same inside `Class(…)`, if there is a class to name.
    pub(crate) fn inside(self, class: Option<String>) -> Pieces {
        let Some(class) = class else { return self };
        let mut outer = Pieces::text(format!("{class}("));
        outer.truncated = self.truncated;
        outer.list.extend(self.list);
        outer.close(")")
    }
}
