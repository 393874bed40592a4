//! The files of this machine, for what a snapshot does not hold.

use pyst_cli::SearchArgs;
use pyst_elf::{ElfFile, ElfFiles, ModuleId, ModuleTable, Reach, Search, split_list};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Module, Modules};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// The files at the modules' paths, as far as their build-ids are those of the snapshot, and what of the file systems could be had. A
/// module without a build-id has none: another machine's file of the same name would answer, wrongly, without anybody noticing.
pub(crate) fn files_of(snapshot: &Snapshot, search: &SearchArgs) -> Option<(ElfFiles<'static>, Rc<Reach>)> {
    let modules: Modules = snapshot.get().ok()??;
    let table = ModuleTable::new(&modules);
    let folders = search.lib_search_path.as_deref().map(split_list).unwrap_or_default();
    let search = Search::new(folders, search.lib_search_root.clone(), search.debug_dir.clone());
    let reach = Rc::new(Reach::here());
    let asked = Rc::clone(&reach);
    let open = move |module: ModuleId| table.get(module).and_then(|module| open(module, &search, &asked));
    Some((ElfFiles::new(modules.modules.len(), Box::new(open)), reach))
}

fn open(module: &Module, search: &Search, reach: &Reach) -> Option<ElfFile> {
    let build_id = module.build_id.as_ref()?;
    let path = Path::new(OsStr::from_bytes(&module.path.0));
    let open = |path: &Path| ElfFile::open(reach.open(None, path, open_regular).ok()?.0).ok();
    let same = |path: &Path| open(path).filter(|file| file.build_id() == Some(build_id.0.as_slice()));
    let others = || search.candidates(path, Some(&build_id.0)).find_map(|other| same(&other));
    let file = same(path).or_else(others)?;
    let companion = |path: &Path| {
        let mut places = search.companions(path);
        places.push(path.to_owned());
        places.iter().find_map(|place| open(place))
    };
    Some(file.with_companions(path, &companion))
}

fn open_regular(path: &Path) -> io::Result<File> {
    // Opening a FIFO would wait for ever.
    if fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
