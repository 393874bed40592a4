//! The dynamic section: what the loader itself uses, and so is there however much was stripped.

use crate::file::ElfFile;
use crate::symbols::{Symbols, is_defined, is_named};
use object::LittleEndian as LE;
use object::elf::{self, Dyn64, Sym64};
use object::pod;
use object::read::elf::{Dyn as _, ProgramHeader as _, Sym as _};
use pyst_snapshot::Svma;
use pyst_snapshot::payload::SymbolTable as Table;

/// The tables that a dynamic section names.
pub(crate) struct Dynamic<'a> {
    /// From the first symbol to the end of the segment: nothing states the length of the table.
    symbols: &'a [u8],
    strings: &'a [u8],
    gnu_hash: Option<GnuHash<'a>>,
    /// The System V hash table, which musl and old linkers make.
    hash: Option<&'a [u8]>,
}

impl<'a> Dynamic<'a> {
    pub(crate) fn of(file: &'a ElfFile) -> Option<Dynamic<'a>> {
        let headers = file.program_headers().ok()?;
        let entries = headers.iter().find_map(|header| header.dynamic(LE, file.data()).ok().flatten())?;
        let value = |tag: elf::DynamicTag| {
            let ended = |entry: &&Dyn64<LE>| entry.tag(LE) != elf::DT_NULL;
            entries.iter().take_while(ended).find(|entry| entry.tag(LE) == tag).map(|entry| entry.val(LE))
        };
        let bytes = |tag| file.bytes_of_entry(value(tag)?);
        let strings = bytes(elf::DT_STRTAB)?;
        let length = value(elf::DT_STRSZ).and_then(|length| usize::try_from(length).ok()).unwrap_or(usize::MAX);
        Some(Dynamic {
            symbols: bytes(elf::DT_SYMTAB)?,
            strings: strings.get(..length).unwrap_or(strings),
            gnu_hash: bytes(elf::DT_GNU_HASH).and_then(GnuHash::parse),
            hash: bytes(elf::DT_HASH),
        })
    }

    /// The symbol table, as long as the hash tables say.
    pub(crate) fn symbols(&self) -> Option<Symbols<'a>> {
        let count = self.count()?;
        let available = self.symbols.len() / size_of::<Sym64<LE>>();
        let (entries, _) = pod::slice_from_bytes(self.symbols, count.min(available)).ok()?;
        Some(Symbols { entries, strings: self.strings, table: Table::DYNSYM })
    }

    /// The svma of an exported symbol.
    pub(crate) fn lookup(&self, name: &[u8]) -> Option<Svma> {
        let is_it = |symbol: &&Sym64<LE>| is_defined(symbol) && is_named(self.strings, symbol, name);
        let hash = self.gnu_hash.as_ref()?;
        let found = hash.candidates(name).filter_map(|index| self.symbol(index)).find(is_it)?;
        Some(Svma(found.st_value(LE)))
    }

    fn symbol(&self, index: usize) -> Option<&'a Sym64<LE>> {
        let bytes = self.symbols.get(index.checked_mul(size_of::<Sym64<LE>>())?..)?;
        pod::from_bytes(bytes).ok().map(|(symbol, _)| symbol)
    }

    fn count(&self) -> Option<usize> {
        let of_hash = || usize::try_from(word(self.hash?, 1)?).ok();
        self.gnu_hash.as_ref().and_then(GnuHash::symbol_count).or_else(of_hash)
    }
}

/// `DT_GNU_HASH`. The Bloom filter before the buckets is skipped: it only saves time for names that are absent.
struct GnuHash<'a> {
    buckets: &'a [u8],
    bucket_count: usize,
    /// One word a symbol from `first` on; the lowest bit ends a chain.
    chains: &'a [u8],
    first: usize,
}

impl<'a> GnuHash<'a> {
    fn parse(bytes: &'a [u8]) -> Option<GnuHash<'a>> {
        let field = |index| usize::try_from(word(bytes, index)?).ok();
        let (bucket_count, first, bloom_count) = (field(0)?, field(1)?, field(2)?);
        let after_bloom = bytes.get(bloom_count.checked_mul(8)?.checked_add(16)?..)?;
        let (buckets, chains) = after_bloom.split_at_checked(bucket_count.checked_mul(4)?)?;
        Some(GnuHash { buckets, bucket_count, chains, first })
    }

    /// The indices of the symbols that may have this name.
    fn candidates(&self, name: &[u8]) -> impl Iterator<Item = usize> {
        let hash = name.iter().fold(5381u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
        let bucket = usize::try_from(hash).ok().and_then(|hash| hash.checked_rem(self.bucket_count));
        let start = bucket.and_then(|bucket| word(self.buckets, bucket)).and_then(|start| usize::try_from(start).ok());
        self.chain(start.unwrap_or(0)).filter(move |(_, entry)| entry | 1 == hash | 1).map(|(index, _)| index)
    }

    /// The symbols of a chain with its words. It ends with the table at the latest.
    fn chain(&self, start: usize) -> impl Iterator<Item = (usize, u32)> {
        let mut next = start.checked_sub(self.first);
        std::iter::from_fn(move || {
            let position = next?;
            let entry = word(self.chains, position)?;
            next = if entry & 1 == 0 { position.checked_add(1) } else { None };
            Some((position.checked_add(self.first)?, entry))
        })
    }

    fn symbol_count(&self) -> Option<usize> {
        let starts = (0..self.bucket_count).map_while(|bucket| word(self.buckets, bucket));
        let last = usize::try_from(starts.max()?).ok()?;
        self.chain(last).last().map(|(index, _)| index.saturating_add(1))
    }
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(index.checked_mul(4)?..)?;
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
