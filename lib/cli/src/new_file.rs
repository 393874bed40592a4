//! A file that has no name before it is whole, so that nothing is left behind whatever ends this process.

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What other names than the right one begin with.
const PREFIX: &str = ".pyst-";

/// The file. Readable by its owner only: the memory of a process is nobody else's business.
pub struct NewFile(Kind);

enum Kind {
    /// Without a name.
    Unnamed(File),
    /// Under another name, where the file system has no files without one, or there is no `/proc` to name it by.
    Named(NamedTempFile),
}

impl NewFile {
    /// A file that will get a name in `folder`.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<NewFile> {
        let unnamed = File::options().write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits()).open(folder);
        let refusal = match unnamed {
            Ok(file) if fs::metadata(in_proc(&file)).is_ok() => return Ok(NewFile(Kind::Unnamed(file))),
            // What tempfile says names a file that means nothing to the user.
            Ok(_) => None,
            Err(error) => Some(error),
        };
        let named = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder);
        let named = named.map(|file| NewFile(Kind::Named(file)));
        named.map_err(|error| refusal.unwrap_or_else(|| error.kind().into()))
    }

    /// Gives it its name, which another file may have had.
    pub(crate) fn persist(self, path: &Path) -> io::Result<()> {
        let file = match self.0 {
            Kind::Named(file) => return file.persist(path).map(drop).map_err(|error| error.error),
            Kind::Unnamed(file) => file,
        };
        let link = |name: &Path| -> io::Result<()> {
            Ok(linkat(AT_FDCWD, &in_proc(&file), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)?)
        };
        match link(path) {
            // A link never takes the place of another: a rename does.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let linked = tempfile::Builder::new().prefix(PREFIX).make_in(folder, link)?;
                linked.into_temp_path().persist(path).map_err(|error| error.error)
            }
            result => result,
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.0 {
            Kind::Unnamed(file) => file,
            Kind::Named(file) => file.as_file_mut(),
        }
    }
}

/// Where `/proc` has an open file.
fn in_proc(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}
