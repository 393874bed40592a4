//! Modules: mappings grouped by file, their files opened, and the overlay that reads constant content from them.
//!
//! A path in a map says little: it is relative to a root that may not be ours, and the file may have been replaced since.
//! So a file counts only when it is proven to be the one that is mapped; who proves it, and how, is up to a [`Finder`].

use pyst_elf::{ElfFile, ElfFiles, LoadSegment, ModuleId, ModuleTable};
use pyst_memory::{Memory, MemoryExt, ReadError};
use pyst_snapshot::payload::{Diagnostic, Map, Module, ModuleFile, Modules};
use pyst_snapshot::{Address, Bias, Bytes, Range};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most modules that are looked at. Processes with a thousand exist.
const MAX_MODULES: usize = 8192;

/// The most bytes of files that are put together again from memory, all in all.
const MAX_REBUILT: u64 = 256 << 20;

/// The most bytes of a vDSO; it has one or two pages.
const MAX_VDSO: u64 = 256 << 10;

/// What became of a module's file.
pub(crate) struct FoundFile {
    pub(crate) status: ModuleFile,
    pub(crate) file: Option<ElfFile>,
    /// The path without the kernel's mark of deletion.
    pub(crate) path: Bytes,
    /// What the reader must know if anything turns out to be in this file.
    pub(crate) complaint: Option<Diagnostic>,
}

/// Finds the very file that is mapped.
pub(crate) trait Finder {
    /// The file of `maps`, which are a module's, ascending, and at least one.
    fn find(&self, maps: &[Map]) -> FoundFile;

    /// Where a path of the target's file system may lead.
    fn in_roots(&self, path: &[u8]) -> Vec<PathBuf>;

    /// Opens one of those, if it is a regular file.
    fn open(&self, path: &Path) -> std::io::Result<File>;
}

/// The modules of a target with their files, both in the same order.
pub(crate) struct LoadedModules {
    pub(crate) modules: Modules,
    pub(crate) table: ModuleTable,
    pub(crate) files: ElfFiles<'static>,
    /// What memory holds of files that are not there, with holes: enough to find a symbol that is not in one, and too
    /// little to say that there is none.
    parts: Vec<Option<ElfFile>>,
    complaints: Vec<Option<Diagnostic>>,
}

impl LoadedModules {
    /// The file of a module, or what there is of it in memory.
    pub(crate) fn file_or_part(&self, module: ModuleId) -> Option<&ElfFile> {
        let part = || self.parts.get(usize::try_from(module.0).ok()?)?.as_ref();
        self.files.file(module).or_else(part)
    }

    /// Looks for the companions of these modules' files: the symbols that distributions strip from them, if those are installed.
    /// Most of libc's functions have no other name. Says whether there are any.
    pub(crate) fn add_companions(&mut self, finder: &dyn Finder, of: impl Fn(ModuleId) -> bool) -> bool {
        let open_one = |path: PathBuf| ElfFile::open(finder.open(&path).ok()?).ok();
        let open = |path: &Path| finder.in_roots(path.as_os_str().as_bytes()).into_iter().find_map(open_one);
        let mut any = false;
        for (id, module) in self.table.iter().filter(|(id, _)| of(*id)) {
            any |= self.files.add_companions(id, Path::new(OsStr::from_bytes(&module.path.0)), &open);
        }
        any
    }

    /// What there is to complain about a module's file.
    pub(crate) fn complaint(&self, module: ModuleId) -> Option<&Diagnostic> {
        self.complaints.get(usize::try_from(module.0).ok()?)?.as_ref()
    }

    /// The same, so that it is not said a second time.
    pub(crate) fn take_complaint(&mut self, module: ModuleId) -> Option<Diagnostic> {
        self.complaints.get_mut(usize::try_from(module.0).ok()?)?.take()
    }
}

/// One module as it is loaded.
struct Loaded {
    module: Module,
    file: Option<ElfFile>,
    /// What memory holds of it, with holes.
    part: Option<ElfFile>,
    complaint: Option<Diagnostic>,
}

/// Groups `maps` into modules and opens their files. A file that cannot be had is put together from `memory`, as far as
/// the parts of it that no one can write are readable there. Companions are [added](LoadedModules::add_companions) after.
pub(crate) fn load(maps: &[Map], memory: &dyn Memory, finder: &dyn Finder) -> LoadedModules {
    let mut rebuild_budget = MAX_REBUILT;
    let mut loaded: Vec<Loaded> = group(maps, memory)
        .into_iter()
        .take(MAX_MODULES)
        .map(|maps| load_file(&maps, memory, finder, &mut rebuild_budget))
        .chain(maps.iter().find(|map| map.path.0 == b"[vdso]").and_then(|map| load_vdso(map.range, memory)))
        .collect();
    loaded.sort_by_key(|loaded| loaded.module.ranges.first().copied());
    let mut modules = Modules::default();
    let (mut files, mut parts, mut complaints) = (Vec::new(), Vec::new(), Vec::new());
    for Loaded { module, file, part, complaint } in loaded {
        modules.modules.push(module);
        files.push(file);
        parts.push(part);
        complaints.push(complaint);
    }
    LoadedModules { table: ModuleTable::new(&modules), modules, files: ElfFiles::opened(files), parts, complaints }
}

/// The mappings of each loaded file. A file that is mapped without its code is data: an archive of locales, a cache, or a
/// library that somebody looks into.
fn group(maps: &[Map], memory: &dyn Memory) -> Vec<Vec<Map>> {
    let identity = |map: &Map| (map.device_major, map.device_minor, map.inode, map.path.clone());
    let mut of_files: Vec<&Map> =
        maps.iter().filter(|map| !map.path.0.is_empty() && !map.path.0.starts_with(b"[")).collect();
    of_files.sort_by_cached_key(|map| (identity(map), map.range));
    let mut groups: Vec<Vec<Map>> = Vec::new();
    for map in of_files {
        let open = groups.last_mut().filter(|group| {
            let same_file = group.last().is_some_and(|last| identity(last) == identity(map));
            same_file && is_of_load(group, map, memory)
        });
        match open {
            Some(group) => group.push(map.clone()),
            None => groups.push(vec![map.clone()]),
        }
    }
    groups.retain(|group| group.iter().any(Map::is_executable));
    groups
}

/// Whether a mapping of the same file belongs to the load that `group` is of so far. Offsets ascend within one load; where
/// they fall, the file was mapped a second time. Where two are the same, it was too, or they are segments that share a page.
fn is_of_load(group: &[Map], map: &Map, memory: &dyn Memory) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
    if last.offset != map.offset {
        return last.offset < map.offset;
    }
    let stated = || {
        let page = memory.read_array::<4096>(first.range.start).ok().filter(|_| first.offset == 0)?;
        let header = ElfFile::from_bytes(page.to_vec()).ok()?;
        let bias = header.bias_of(first.range.start, first.offset)?;
        let start_of = |segment: &LoadSegment| Address(segment.svmas.start.to_address(bias).0 & !4095);
        let mut segments = header.load_segments().iter();
        Some(segments.any(|segment| segment.offset & !4095 == map.offset && start_of(segment) == map.range.start))
    };
    // Of two segments none is a part of the other.
    stated().unwrap_or_else(|| map.range.len() >= last.range.len())
}

fn load_file(maps: &[Map], memory: &dyn Memory, finder: &dyn Finder, budget: &mut u64) -> Loaded {
    let found = finder.find(maps);
    let rebuilt = if found.file.is_none() { rebuild(maps, memory, budget) } else { None };
    let known = found.file.as_ref().or(rebuilt.as_ref().map(|rebuilt| &rebuilt.file));
    let bias = maps.iter().find_map(|map| known?.bias_of(map.range.start, map.offset));
    let mut module = Module {
        path: found.path,
        build_id: known.and_then(ElfFile::build_id).map(|id| Bytes(id.to_vec())),
        // Nothing is known of the file: shared libraries state addresses from 0 on, as their files have offsets.
        bias: bias.unwrap_or_else(|| Bias(maps.first().map_or(0, |map| map.range.start.0.wrapping_sub(map.offset)))),
        ranges: maps.iter().map(|map| map.range).collect(),
        file: found.status,
    };
    let rebuilt = rebuilt.map(|rebuilt| Rebuilt { file: rebuilt.file.loaded_with(module.bias), ..rebuilt });
    // A file with holes would answer wrongly. Its headers, which tell bias and build-id, have none.
    let (rebuilt, part) = match rebuilt {
        Some(Rebuilt { file, is_whole: true }) => (Some(file), None),
        Some(Rebuilt { file, is_whole: false }) => (None, Some(file)),
        None => (None, None),
    };
    if rebuilt.is_some() {
        module.file = ModuleFile::DELETED;
    }
    let file = found.file.or(rebuilt);
    Loaded { module, file, part, complaint: found.complaint }
}

/// The vDSO is an ELF file that the kernel maps and that is nowhere on disk.
fn load_vdso(range: Range, memory: &dyn Memory) -> Option<Loaded> {
    let bytes = memory.read_bytes(range.start, range.len(), MAX_VDSO).ok()?;
    let file = ElfFile::from_bytes(bytes).ok()?;
    let module = Module {
        path: Bytes::from("[vdso]"),
        build_id: file.build_id().map(|id| Bytes(id.to_vec())),
        bias: file.bias_of(range.start, 0).unwrap_or(Bias(range.start.0)),
        ranges: vec![range],
        file: ModuleFile::IN_MEMORY,
    };
    Some(Loaded { module, file: Some(file), part: None, complaint: None })
}

/// A file put together from memory.
struct Rebuilt {
    file: ElfFile,
    /// Whether all of it that nobody may write could be read.
    is_whole: bool,
}

/// What of a file lies in memory unchanged: code, constants, unwind tables, dynamic symbols. Writable parts are left out.
/// Of a deleted library this is all that there is, unless one may read `/proc/PID/map_files`.
fn rebuild(maps: &[Map], memory: &dyn Memory, budget: &mut u64) -> Option<Rebuilt> {
    let constant = || maps.iter().filter(|map| map.is_readable() && !map.is_writable());
    let end = constant().map(|map| map.offset.saturating_add(map.range.len())).max()?;
    let left = budget.checked_sub(end)?;
    if !is_elf(maps.first()?, memory) {
        return None;
    }
    *budget = left;
    let mut bytes = vec![0; usize::try_from(end).ok()?];
    let mut is_whole = true;
    for map in constant() {
        let start = usize::try_from(map.offset).ok()?;
        let length = usize::try_from(map.range.len()).ok()?;
        let place = bytes.get_mut(start..start.checked_add(length)?)?;
        if memory.read(map.range.start, place).is_err() {
            is_whole = false;
            read_pages(map.range.start, place, memory);
        }
    }
    Some(Rebuilt { file: ElfFile::from_bytes(bytes).ok()?, is_whole })
}

fn is_elf(first: &Map, memory: &dyn Memory) -> bool {
    first.offset == 0 && memory.read_array::<4>(first.range.start).is_ok_and(|magic| magic == *b"\x7fELF")
}

/// Fills those pages of `place` that can be read.
fn read_pages(start: Address, place: &mut [u8], memory: &dyn Memory) {
    let mut at = Some(start);
    for page in place.chunks_mut(4096) {
        let Some(address) = at else { return };
        let mut bytes = vec![0; page.len()];
        if memory.read(address, &mut bytes).is_ok() {
            page.copy_from_slice(&bytes);
        }
        at = address.checked_add(page.len() as u64);
    }
}

/// The build-id in the first page of the file as it is mapped, where the linker puts it. Tools that move program headers
/// (patchelf) move it out of there.
pub(crate) fn build_id_in_memory(maps: &[Map], memory: &dyn Memory) -> Option<Vec<u8>> {
    let first = maps.first().filter(|map| map.offset == 0)?;
    let page = memory.read_array::<4096>(first.range.start).ok()?;
    ElfFile::from_bytes(page.to_vec()).ok()?.build_id().map(<[u8]>::to_vec)
}

/// Opens a regular file, and nothing that could block or do something when it is opened: a path in a map can name a
/// device or, after a replacement, a FIFO.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<File> {
    let not_regular = || std::io::Error::other("not a regular file");
    if !std::fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// A memory, and beneath it the content of mapped files where it cannot have changed: mappings that nobody may write.
/// A core file leaves those out, and so does the copy taken from a stopped process.
pub(crate) struct WithFiles<'a, M> {
    pub(crate) memory: M,
    pub(crate) maps: &'a [Map],
    pub(crate) loaded: &'a LoadedModules,
}

impl<M: Memory> WithFiles<'_, M> {
    /// Fills the start of `buffer` from the file mapped at `address`, and says how much that was.
    fn read_file(&self, address: Address, buffer: &mut [u8]) -> Option<usize> {
        let after = self.maps.partition_point(|map| map.range.start <= address);
        let map = self.maps.get(after.checked_sub(1)?).filter(|map| map.range.contains(address))?;
        if map.is_writable() {
            return None;
        }
        let (module, svma) = self.loaded.table.locate(address)?;
        let bytes = self.loaded.files.file(module)?.bytes_from(svma)?;
        let in_map = usize::try_from(map.range.end.0 - address.0).ok()?;
        let count = bytes.len().min(buffer.len()).min(in_map);
        buffer.get_mut(..count)?.copy_from_slice(bytes.get(..count)?);
        (count > 0).then_some(count)
    }

    /// What is mapped nowhere was not merely left out.
    fn why(&self, address: Address, error: ReadError) -> ReadError {
        let is_mapped = crate::live::maps::find(self.maps, address).is_some();
        if is_mapped {
            error
        } else {
            ReadError::Unreadable(Range { start: address, end: address.checked_add(1).unwrap_or(address) })
        }
    }

    /// Fills the start of `buffer` from the memory, up to the end of a page, and says how much that was.
    fn read_memory(&self, address: Address, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let in_page = usize::try_from(4096 - address.0 % 4096).unwrap_or(4096).min(buffer.len());
        let now = buffer.get_mut(..in_page).unwrap_or_default();
        self.memory.read(address, now).map(|()| in_page)
    }
}

impl<M: Memory> Memory for WithFiles<'_, M> {
    fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), ReadError> {
        let Err(error) = self.memory.read(address, buffer) else { return Ok(()) };
        let mut at = address;
        let mut rest = buffer;
        // The range may cross from one to the other.
        while !rest.is_empty() {
            let got = match self.read_memory(at, rest) {
                Ok(got) => got,
                Err(_) => self.read_file(at, rest).ok_or_else(|| self.why(at, error))?,
            };
            at = at.checked_add(got as u64).ok_or(error)?;
            rest = rest.get_mut(got..).unwrap_or_default();
        }
        Ok(())
    }

    fn touched(&self, range: Range) -> Vec<Range> {
        self.memory.touched(range)
    }

    fn forget_below(&self, address: Address) {
        self.memory.forget_below(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::maps::parse;
    use pyst_memory::Image;

    #[test]
    fn a_file_loaded_twice_is_two_modules_and_data_is_none() {
        let maps = parse(
            b"1000-2000 r--p 00000000 fd:01 7 /lib/a.so\n\
              2000-3000 r-xp 00001000 fd:01 7 /lib/a.so\n\
              3000-4000 rw-p 00002000 fd:01 7 /lib/a.so\n\
              4000-5000 rw-p 00000000 00:00 0 \n\
              5000-6000 r-xp 00000000 fd:01 8 /bin/one\n\
              6000-7000 r--p 00000000 fd:01 9 /usr/lib/locale/locale-archive\n\
              7000-8000 r--p 00000000 fd:01 7 /lib/a.so\n\
              8000-9000 r-xp 00001000 fd:01 7 /lib/a.so\n\
              9000-a000 r-xp 00000000 00:00 0 [vdso]\n",
        );
        let groups = group(&maps, &Image::new());
        let shape: Vec<(&[u8], usize)> = groups.iter().map(|g| (g[0].path.0.as_slice(), g.len())).collect();
        assert_eq!(shape, [(&b"/lib/a.so"[..], 3), (b"/lib/a.so", 2), (b"/bin/one", 1)]);
    }

    #[test]
    fn a_library_that_is_mapped_as_data_below_its_code_is_not_part_of_it() {
        let maps = parse(
            b"1000-9000 r--p 00000000 fd:01 7 /lib/a.so\n\
              a000-b000 r--p 00000000 fd:01 7 /lib/a.so\n\
              b000-c000 r-xp 00001000 fd:01 7 /lib/a.so\n\
              d000-e000 r-xp 00000000 fd:01 8 /lib/tiny.so\n\
              e000-f000 rw-p 00000000 fd:01 8 /lib/tiny.so\n",
        );
        let starts = |groups: &[Vec<Map>]| groups.iter().map(|group| group[0].range.start.0).collect::<Vec<_>>();
        let groups = group(&maps, &Image::new());
        assert_eq!((starts(&groups), groups[1].len()), (vec![0xa000, 0xd000], 2));
        // One page of it, as data: only its program headers tell that the code is not at this bias.
        let own = std::fs::read("/proc/self/exe").unwrap()[..4096].to_vec();
        let maps = parse(
            b"1000-2000 r--p 00000000 fd:01 7 /lib/a.so\n\
              100000-200000 r--p 00000000 fd:01 7 /lib/a.so\n\
              200000-300000 r-xp 00100000 fd:01 7 /lib/a.so\n",
        );
        let mut memory = Image::new();
        memory.extend([(Address(0x1000), own.into())]);
        assert_eq!(starts(&group(&maps, &memory)), [0x10_0000]);
    }

    /// A library whose file is gone and that nobody may open in `/proc` has its exported symbols all the same.
    #[test]
    fn a_library_put_together_from_memory_has_its_symbols() {
        struct NoFiles;
        impl Finder for NoFiles {
            fn find(&self, maps: &[Map]) -> FoundFile {
                FoundFile { status: ModuleFile::MISSING, file: None, path: maps[0].path.clone(), complaint: None }
            }
            fn in_roots(&self, _: &[u8]) -> Vec<PathBuf> {
                Vec::new()
            }

            fn open(&self, path: &Path) -> std::io::Result<File> {
                open_regular(path)
            }
        }
        let maps = parse(&std::fs::read("/proc/self/maps").unwrap());
        let memory = crate::live::own_memory();
        let loaded = load(&maps, &memory, &NoFiles);
        let is_libc = |module: &Module| String::from_utf8_lossy(&module.path.0).ends_with("/libc.so.6");
        let (id, module) = loaded.table.iter().find(|(_, module)| is_libc(module)).unwrap();
        let path = String::from_utf8_lossy(&module.path.0).into_owned();
        let file = ElfFile::open(std::fs::File::open(path).unwrap()).unwrap();
        let rebuilt = loaded.file_or_part(id).unwrap();
        assert_eq!(rebuilt.symbol_named("getpid"), file.symbol_named("getpid"));
        assert!(rebuilt.exported("getpid").is_some());
    }

    #[test]
    fn devices_and_directories_are_not_opened() {
        assert!(open_regular(Path::new("/dev/null")).is_err());
        assert!(open_regular(Path::new("/")).is_err());
        assert!(open_regular(Path::new("/proc/self/exe")).is_ok());
    }
}
