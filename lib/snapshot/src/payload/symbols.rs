//! `symbols`: answers to "which symbol covers this svma?".

use super::first_version;
use crate::address::Svma;
use crate::code::open_enum;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type SymbolAnswers = SymbolsV1;

open_enum!(
    /// The table a symbol is from.
    SymbolTable {
        /// `.symtab`.
        SYMTAB = 1, "symtab";
        /// `.dynsym`.
        DYNSYM = 2, "dynsym";
    }
);

/// The `symbols` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolsV1 {
    /// The symbols that were hit.
    pub symbols: Vec<SymbolV1>,
    /// What was asked, and the answer, by module and svma.
    pub answers: Vec<SymbolAnswerV1>,
}

/// A symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolV1 {
    /// Its raw name.
    pub name: Bytes,
    /// `st_value`.
    pub svma: Svma,
    /// `st_size`; 0 for hand-written assembly that states none.
    pub size: u64,
    /// The table it is from.
    pub table: SymbolTable,
}

/// One question and its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolAnswerV1 {
    /// Index into `modules`.
    pub module: u32,
    /// The svma asked for.
    pub svma: Svma,
    /// Index into [`SymbolsV1::symbols`]; absent when no symbol covers it.
    pub symbol: Option<u32>,
}

first_version!(SymbolsV1, SYMBOLS);
