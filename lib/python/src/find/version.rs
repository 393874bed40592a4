//! Which version a runtime is of.

use super::Target;
use super::places::{self, Place};
use super::texts::{self, Kind, number};
use crate::layout::{COOKIE, Table};
use pyst_elf::{ElfFile, ModuleId};
use pyst_memory::{Memory, MemoryExt};
use pyst_snapshot::payload::{Module, VersionFoundBy};
use pyst_snapshot::{Address, Range};

/// A version, and what told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// `PY_VERSION_HEX`; 0xff for a patch release that is not known.
    pub(super) hex: u32,
    pub(super) free_threaded: bool,
    pub(super) found_by: VersionFoundBy,
}

impl Version {
    /// The version of a layout that nothing but its fitting speaks for.
    pub(super) fn of_table(table: &Table) -> Version {
        let (major, minor) = table.minor;
        let hex = u32::from_be_bytes([major, minor, 0xff, 0xf0]);
        Version { hex, free_threaded: table.free_threaded, found_by: VersionFoundBy::LAYOUT }
    }
}

/// How much of a module's data and constants is searched for texts.
const SEARCHED: u64 = 64 << 20;

/// 3.13 and later: the cookie, `PY_VERSION_HEX`, `Py_GIL_DISABLED`.
pub(super) fn described(runtime: Address, memory: &dyn Memory) -> Option<Version> {
    let head = memory.read_array::<24>(runtime).ok()?;
    let rest = head.strip_prefix(COOKIE)?;
    let (hex, rest) = rest.split_first_chunk()?;
    let hex = u32::try_from(u64::from_le_bytes(*hex)).ok()?;
    let free_threaded = rest.first_chunk().map(|flag| u64::from_le_bytes(*flag))? != 0;
    plausible(hex).then_some(Version { hex, free_threaded, found_by: VersionFoundBy::DEBUG_OFFSETS })
}

/// The versions that a module may have a runtime of, the likeliest first. Only texts leave more than one: those that
/// go with the file's name come first, and names lie less often than constants of who knows what.
pub(super) fn of_module(target: &Target<'_>, id: ModuleId, module: &Module) -> Vec<Version> {
    let file = (target.files)(id);
    if let Some(version) = file.and_then(|file| by_symbol(module, file, target.memory)) {
        return vec![version];
    }
    let version = |hex, found_by| Version { hex, free_threaded: false, found_by };
    let minor = minor_in_name(&module.path.0);
    let fits_name = |hex: &u32| minor.is_none_or(|(major, minor)| hex >> 16 == major << 8 | minor);
    let mut hexes = running(target, id, module);
    let of_running = hexes.len();
    constants(target, file, module, &mut hexes);
    let others = hexes.split_off(of_running);
    let (fitting, rest): (Vec<u32>, Vec<u32>) = others.into_iter().partition(fits_name);
    let texts = hexes.into_iter().chain(fitting).map(|hex| version(hex, VersionFoundBy::TEXT));
    let name = minor.map(|(major, minor)| version(major << 24 | minor << 16 | 0xfff0, VersionFoundBy::FILE_NAME));
    texts.chain(name).chain(rest.into_iter().map(|hex| version(hex, VersionFoundBy::TEXT))).collect()
}

/// 3.11 and later: `const unsigned long Py_Version`. A core file may lack the page; then the file has it.
fn by_symbol(module: &Module, file: &ElfFile, memory: &dyn Memory) -> Option<Version> {
    let svma = file.symbol_named("Py_Version")?;
    let in_file = || {
        let mut bytes = [0; 8];
        file.read_svma(svma, &mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
    };
    let in_memory = memory.read_u64(svma.to_address(module.bias)).ok();
    let usable = |value: u64| u32::try_from(value).ok().filter(|hex| plausible(*hex));
    let hex = in_memory.and_then(usable).or_else(|| in_file().and_then(usable))?;
    Some(Version { hex, free_threaded: false, found_by: VersionFoundBy::SYMBOL })
}

fn plausible(hex: u32) -> bool {
    let [major, minor, _, level] = hex.to_be_bytes();
    matches!(major, 2 | 3) && minor < 100 && matches!(level >> 4, 0xa | 0xb | 0xc | 0xf)
}

/// `3.11` of `libpython3.11.so.1.0` and `python3.11`.
fn minor_in_name(path: &[u8]) -> Option<(u32, u32)> {
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let after = name.get(memchr::memmem::find(name, b"python")?.checked_add(6)?..)?;
    let (major, rest) = number(after)?;
    let (minor, _) = number(rest.strip_prefix(b".")?)?;
    (matches!(major, 2 | 3) && minor < 100).then_some((major, minor))
}

/// What Python says of itself in the module's data, from the moment it started. A core file has it always.
fn running(target: &Target<'_>, id: ModuleId, module: &Module) -> Vec<u32> {
    let ranges = places::of_module(target, id, module).into_iter().map(|Place { range, .. }| range);
    in_memory(target, ranges, Kind::Running)
}

/// Texts in the file's constants that are a whole version: its read-only data, or all of it that nobody may write where
/// no section headers tell what is what. Without a file, the same as they are mapped.
fn constants(target: &Target<'_>, file: Option<&ElfFile>, module: &Module, versions: &mut Vec<u32>) {
    let Some(file) = file else {
        return versions.extend(in_memory(target, places::constants_of(target, module).into_iter(), Kind::Constant));
    };
    let section = file.section(".rodata");
    let segments = file.load_segments().iter().filter(|segment| !segment.is_writable()).map(|one| one.svmas.clone());
    let ranges: Vec<_> = section.map_or_else(|| segments.collect(), |section| vec![section]);
    for svmas in ranges {
        let length = svmas.end.0.saturating_sub(svmas.start.0).min(SEARCHED);
        let data = file.bytes_from(svmas.start).unwrap_or_default();
        let data = usize::try_from(length).ok().and_then(|length| data.get(..length)).unwrap_or(data);
        texts::collect(data, Kind::Constant, versions);
    }
}

fn in_memory(target: &Target<'_>, ranges: impl Iterator<Item = Range>, kind: Kind) -> Vec<u32> {
    let mut versions = Vec::new();
    let mut left = SEARCHED;
    for range in ranges {
        for piece in places::pieces(range, &mut left) {
            let end = Address(piece.end.0.saturating_add(texts::OVERLAP)).min(range.end);
            let bytes = places::read(Range { start: piece.start, end }, target.memory);
            texts::collect(&bytes, kind, &mut versions);
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_minor_version() {
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.11.so.1.0"), Some((3, 11)));
        assert_eq!(minor_in_name(b"/opt/python3.9/bin/python3.12"), Some((3, 12)));
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.7m.so.1.0"), Some((3, 7)));
        assert_eq!(minor_in_name(b"/usr/lib/libpython2.7.so.1.0"), Some((2, 7)));
        assert_eq!(minor_in_name(b"/usr/lib/libpython3.so"), None);
        assert_eq!(minor_in_name(b"/usr/bin/uwsgi"), None);
    }
}
