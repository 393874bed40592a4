//! Symbols: which one covers an svma, and where one of a given name is.
//!
//! No index is kept. A batch of svmas is answered in one linear pass over each table, which costs less than sorting the
//! table for the handful of svmas that a stack has; a name is looked up through the GNU hash, as the loader does it.

use crate::dynamic::Dynamic;
use crate::file::ElfFile;
use crate::seam::SymbolHit;
use object::LittleEndian as LE;
use object::elf::{self, Sym64};
use object::read::elf::{SectionHeader as _, Sym as _};
use pyst_snapshot::Svma;
use pyst_snapshot::payload::SymbolTable as Table;
use std::cmp::Reverse;
use std::ops::Range;

/// Longer names are cut: no one reads them, and a hostile string table is one endless name.
const MAX_NAME: usize = 8 << 10;

/// How many times a symbol may be held against an svma in one batch. Honest tables need one or two an svma; one where
/// every symbol covers everything would take hours.
const MAX_COMPARISONS: usize = 1 << 24;

/// A symbol table with its strings.
#[derive(Clone, Copy)]
pub(crate) struct Symbols<'a> {
    pub(crate) entries: &'a [Sym64<LE>],
    pub(crate) strings: &'a [u8],
    pub(crate) table: Table,
}

impl<'a> Symbols<'a> {
    fn name(&self, symbol: &Sym64<LE>) -> &'a [u8] {
        let rest = name_and_rest(self.strings, symbol);
        let rest = rest.get(..MAX_NAME).unwrap_or(rest);
        memchr::memchr(0, rest).and_then(|end| rest.get(..end)).unwrap_or(rest)
    }

    /// The symbol that the file defines under this name.
    fn named(&self, name: &[u8]) -> Option<&'a Sym64<LE>> {
        // To go through the strings in their order is much less than to go from symbol to symbol, and most often there is no such.
        memchr::memmem::find(self.strings, name)?;
        self.entries.iter().find(|symbol| is_defined(symbol) && is_named(self.strings, symbol, name))
    }
}

/// The strings from the symbol's name on.
fn name_and_rest<'a>(strings: &'a [u8], symbol: &Sym64<LE>) -> &'a [u8] {
    usize::try_from(symbol.st_name(LE)).ok().and_then(|at| strings.get(at..)).unwrap_or_default()
}

/// Whether the symbol has this name. Takes no longer than the name is, however long a hostile string may be.
pub(crate) fn is_named(strings: &[u8], symbol: &Sym64<LE>, name: &[u8]) -> bool {
    name_and_rest(strings, symbol).strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
}

impl ElfFile {
    /// The symbol that covers `svma`. Many svmas at once are cheaper: [`ElfFile::symbols_covering`].
    #[must_use]
    pub fn symbol(&self, svma: Svma) -> Option<SymbolHit> {
        self.symbols_covering(&[svma]).pop().flatten()
    }

    /// The symbol that covers each svma, in the order asked.
    ///
    /// `.symtab`, the debug file's and that in `.gnu_debugdata` too, wins over `.dynsym`. A symbol without a size, which hand-written assembly leaves (`_start`), answers only
    /// when it is from `.symtab`, no sized one covers, none ends in between, and both lie in the same executable section.
    #[must_use]
    pub fn symbols_covering(&self, svmas: &[Svma]) -> Vec<Option<SymbolHit>> {
        let mut sorted = svmas.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let debug = self.debug.as_deref().and_then(ElfFile::symtab);
        let tables = [self.symtab(), debug, self.packed_symtab(), self.dynsym()];
        let mut search = Search::new(&sorted);
        for symbols in tables.iter().flatten() {
            search.pass(symbols);
        }
        let hits = search.finish(|svma| self.executable_range(svma));
        let answer = |svma| sorted.binary_search(svma).ok().and_then(|index| hits.get(index)?.clone());
        svmas.iter().map(answer).collect()
    }

    /// The svma of the symbol of this name that the file defines. What it exports is found first, and fast; all else takes
    /// a pass over its tables.
    #[must_use]
    pub fn symbol_named(&self, name: &str) -> Option<Svma> {
        self.exported(name).or_else(|| {
            // Hidden symbols are in `.symtab` only; a file with damaged hash tables has its `.dynsym` still.
            let debug = self.debug.as_deref().and_then(ElfFile::symtab);
            let tables = [self.dynsym(), self.symtab(), debug, self.packed_symtab()];
            let found = tables.iter().flatten().find_map(|table| table.named(name.as_bytes()))?;
            Some(Svma(found.st_value(LE)))
        })
    }

    /// The svma of the symbol of this name that the file exports, by its GNU hash table.
    #[must_use]
    pub fn exported(&self, name: &str) -> Option<Svma> {
        Dynamic::of(self)?.lookup(name.as_bytes())
    }

    fn symtab(&self) -> Option<Symbols<'_>> {
        self.section_symbols(elf::SHT_SYMTAB, Table::SYMTAB)
    }

    /// Symbols of `.gnu_debugdata`, where nothing better is to be had.
    fn packed_symtab(&self) -> Option<Symbols<'_>> {
        let has_other = self.symtab().is_some() || self.debug.as_deref().and_then(ElfFile::symtab).is_some();
        if has_other { None } else { self.debugdata()?.symtab() }
    }

    fn dynsym(&self) -> Option<Symbols<'_>> {
        self.section_symbols(elf::SHT_DYNSYM, Table::DYNSYM).or_else(|| Dynamic::of(self)?.symbols())
    }

    fn section_symbols(&self, kind: elf::SectionType, table: Table) -> Option<Symbols<'_>> {
        let sections = self.sections();
        let symbols = sections.symbols(LE, self.data(), kind).ok()?;
        let strings = sections.section(symbols.string_section()).ok()?.data(LE, self.data()).ok()?;
        let entries = symbols.symbols();
        (!entries.is_empty()).then_some(Symbols { entries, strings, table })
    }

    /// The executable section that holds `svma`, or the segment where there are no sections.
    fn executable_range(&self, svma: Svma) -> Option<Range<Svma>> {
        let sections = self.sections();
        let of_section = sections.iter().find_map(|header| {
            let start = header.sh_addr.get(LE);
            let range = Svma(start)..Svma(start.checked_add(header.sh_size.get(LE))?);
            let executable = header.sh_flags.get(LE).0 & elf::SHF_EXECINSTR.0 != 0;
            (executable && range.contains(&svma)).then_some(range)
        });
        let of_segment = || {
            let mut segments = self.load_segments().iter();
            let segment = segments.find(|segment| segment.is_executable() && segment.svmas.contains(&svma))?;
            Some(segment.svmas.clone())
        };
        if sections.is_empty() { of_segment() } else { of_section }
    }
}

pub(crate) fn is_defined(symbol: &Sym64<LE>) -> bool {
    !symbol.is_undefined(LE) && !symbol.is_absolute(LE) && symbol.st_type() != elf::STT_TLS
}

/// How much a symbol is believed to be the function at an svma.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Function,
    Untyped,
}

/// One symbol that covers an svma.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    rank: Rank,
    start: u64,
    size: u64,
    bind: u8,
    name: &'a [u8],
    table: Table,
}

impl Candidate<'_> {
    /// The smaller the better. Of nested symbols the inner one; of aliases the one a C programmer would call it:
    /// `clock_nanosleep`, not `__clock_nanosleep` or `__GI___clock_nanosleep`. The rest only makes the choice the same
    /// whatever the order of the table.
    fn key(&self) -> impl Ord {
        let underscores = self.name.iter().take_while(|byte| **byte == b'_').count();
        (self.rank, Reverse(self.start), underscores, self.bind, self.name.len(), self.name, self.size)
    }

    fn hit(&self) -> SymbolHit {
        SymbolHit { name: self.name.to_vec(), svma: Svma(self.start), size: self.size, table: self.table }
    }
}

/// A batch of svmas, each with the best symbol seen so far.
struct Search<'a, 'b> {
    svmas: &'a [Svma],
    covering: Vec<Option<Candidate<'b>>>,
    /// The last symbol without a size that starts at or before the svma, as seen from the first svma it reaches.
    sizeless: Vec<Option<Candidate<'b>>>,
    /// Where the last sized symbol before the svma ends, likewise.
    ended: Vec<u64>,
    comparisons: usize,
}

impl<'a, 'b> Search<'a, 'b> {
    fn new(svmas: &'a [Svma]) -> Search<'a, 'b> {
        let count = svmas.len();
        Search {
            svmas,
            covering: vec![None; count],
            sizeless: vec![None; count],
            ended: vec![0; count],
            comparisons: MAX_COMPARISONS,
        }
    }

    /// Holds every symbol of a table against the svmas. What an earlier table covers stays.
    fn pass(&mut self, symbols: &Symbols<'b>) {
        let (Some(lowest), Some(highest)) = (self.svmas.first(), self.svmas.last()) else { return };
        let settled: Vec<bool> = self.covering.iter().map(Option::is_some).collect();
        for symbol in symbols.entries {
            let rank = match symbol.st_type() {
                elf::STT_FUNC | elf::STT_GNU_IFUNC => Rank::Function,
                elf::STT_NOTYPE => Rank::Untyped,
                _ => continue,
            };
            let (start, size) = (symbol.st_value(LE), symbol.st_size(LE));
            let end = start.saturating_add(size);
            if start > highest.0 || !is_defined(symbol) {
                continue;
            }
            if size > 0 && end <= lowest.0 {
                self.note_end(end);
                continue;
            }
            let name = symbols.name(symbol);
            // Local labels of assemblers (`$x`, `.L1`) mark places in a function, not functions.
            if name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L") {
                continue;
            }
            let bind = match symbol.st_bind() {
                elf::STB_GLOBAL => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            let candidate = Candidate { rank, start, size, bind, name, table: symbols.table };
            if size > 0 {
                self.note_end(end);
                self.offer(candidate, end, &settled);
            } else if symbols.table == Table::SYMTAB {
                // `.dynsym` lacks what is not exported, so there the code after a symbol may be anyone's.
                self.offer_sizeless(candidate);
            }
        }
    }

    fn offer(&mut self, candidate: Candidate<'b>, end: u64, settled: &[bool]) {
        let from = self.svmas.partition_point(|svma| svma.0 < candidate.start);
        let to = self.svmas.partition_point(|svma| svma.0 < end).max(from);
        let count = (to - from).min(self.comparisons);
        self.comparisons -= count;
        for (best, settled) in self.covering.iter_mut().zip(settled).skip(from).take(count) {
            let better = best.as_ref().is_none_or(|best| candidate.key() < best.key());
            if !settled && better {
                *best = Some(candidate);
            }
        }
    }

    fn offer_sizeless(&mut self, candidate: Candidate<'b>) {
        let from = self.svmas.partition_point(|svma| svma.0 < candidate.start);
        if let Some(best) = self.sizeless.get_mut(from)
            && best.as_ref().is_none_or(|best| sizeless_key(&candidate) < sizeless_key(best))
        {
            *best = Some(candidate);
        }
    }

    fn note_end(&mut self, end: u64) {
        let from = self.svmas.partition_point(|svma| svma.0 < end);
        if let Some(ended) = self.ended.get_mut(from) {
            *ended = end.max(*ended);
        }
    }

    fn finish(self, executable_range: impl Fn(Svma) -> Option<Range<Svma>>) -> Vec<Option<SymbolHit>> {
        let mut nearest: Option<Candidate<'b>> = None;
        let mut ended = 0;
        let mut hits = Vec::with_capacity(self.svmas.len());
        let rows = self.svmas.iter().zip(self.covering).zip(self.sizeless.into_iter().zip(self.ended));
        for ((svma, covering), (sizeless, end)) in rows {
            ended = end.max(ended);
            if let Some(candidate) = sizeless
                && nearest.as_ref().is_none_or(|best| sizeless_key(&candidate) < sizeless_key(best))
            {
                nearest = Some(candidate);
            }
            let last_resort = || {
                let candidate = nearest.filter(|candidate| candidate.start >= ended)?;
                let range = executable_range(*svma)?;
                range.contains(&Svma(candidate.start)).then_some(candidate)
            };
            hits.push(covering.or_else(last_resort).map(|candidate| candidate.hit()));
        }
        hits
    }
}

/// Of symbols without a size the nearest comes first; whether it is typed matters less than where it is.
fn sizeless_key<'a>(candidate: &'a Candidate<'_>) -> impl Ord + use<'a> {
    (Reverse(candidate.start), candidate.rank, candidate.bind, candidate.name.len(), candidate.name)
}
