//! The files of this machine, for what a snapshot does not hold.

use pyst_elf::{ElfFile, ElfFiles, ModuleId, ModuleTable};
use pyst_snapshot::Snapshot;
use pyst_snapshot::payload::{Module, Modules};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The files at the modules' paths, as far as their build-ids are those of the snapshot. A module without a build-id has
/// none: another machine's file of the same name would answer, wrongly, without anybody noticing.
pub(crate) fn files_of(snapshot: &Snapshot) -> Option<ElfFiles<'static>> {
    let modules: Modules = snapshot.get().ok()??;
    let table = ModuleTable::new(&modules);
    let open = move |module: ModuleId| table.get(module).and_then(open);
    Some(ElfFiles::new(modules.modules.len(), Box::new(open)))
}

fn open(module: &Module) -> Option<ElfFile> {
    let build_id = module.build_id.as_ref()?;
    let path = Path::new(OsStr::from_bytes(&module.path.0));
    let file = open_path(path).filter(|file| file.build_id() == Some(build_id.0.as_slice()))?;
    Some(file.with_companions(path, &open_path))
}

fn open_path(path: &Path) -> Option<ElfFile> {
    // Opening a FIFO would wait for ever.
    let regular = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let file = regular.then(|| File::open(path).ok())??;
    ElfFile::open(file).ok()
}
