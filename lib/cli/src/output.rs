//! Where a tool's result goes: standard output, or a file that appears whole.

use crate::new_file::NewFile;
use crate::standard;
use clap::Args;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write, stdout};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What is written at once: a section of a snapshot with its header, so that who reads it is not woken for each.
const BUFFER: usize = 128 << 10;

/// Options of every tool that writes.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputArgs {
    /// Write to FILE instead of standard output
    ///
    /// FILE gets its name when it is whole, and is readable by its owner only. A FIFO, a device or
    /// /dev/fd/N is written in place. "-" is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of every tool that writes snapshots.
#[derive(Args, Clone, Debug, Default)]
pub struct SnapshotOutputArgs {
    /// Where to.
    #[command(flatten)]
    pub to: OutputArgs,

    /// Write a binary snapshot even to a terminal
    #[arg(long)]
    pub force: bool,
}

impl SnapshotOutputArgs {
    /// Checks that binary output has somewhere to go, before any work is done for it.
    ///
    /// # Errors
    /// It would go to a terminal, and nobody insisted.
    pub fn refuse_terminal(&self) -> Result<(), OutputError> {
        let terminal = self.to.path().is_none() && stdout().is_terminal();
        if terminal && !self.force { Err(OutputError::Terminal) } else { Ok(()) }
    }
}

/// Why there is nowhere to write to.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A snapshot would go to a terminal.
    #[error(
        "the output is binary and would go to a terminal: pipe it into the next tool, name a file with -o, or use --force"
    )]
    Terminal,
    /// Standard output is closed.
    #[error("standard output is closed, or open for reading only: pipe it into the next tool, or name a file with -o")]
    Closed,
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Whether an error means only that nobody reads our output any more, as after `| head`.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// An open output. Nothing appears under the name given by `-o` until [`Output::finish`].
pub enum Output {
    /// Standard output, without the buffer that Rust has for lines: a section is not to be cut up where it holds a newline.
    Stdout(BufWriter<File>),
    /// A file written in place: a FIFO, a device.
    InPlace(BufWriter<File>, PathBuf),
    /// A regular file, which gets its name when it is whole.
    New(BufWriter<NewFile>, PathBuf),
}

impl OutputArgs {
    /// The file named by `-o`, unless it is standard output.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// What is said when writing fails.
    #[must_use]
    pub fn cannot_write(&self) -> String {
        format!("cannot write {}", self.path().unwrap_or(Path::new("standard output")).display())
    }

    /// Opens the output.
    ///
    /// # Errors
    /// Standard output is closed; the file, or the folder it is in, cannot be written.
    pub fn open(&self) -> Result<Output, OutputError> {
        let Some(path) = self.path() else {
            if !standard::can_write() {
                return Err(OutputError::Closed);
            }
            let own = stdout().as_fd().try_clone_to_owned();
            let own = own.map_err(|source| OutputError::Write { path: "standard output".into(), source })?;
            return Ok(Output::Stdout(BufWriter::with_capacity(BUFFER, File::from(own))));
        };
        open_file(path).map_err(|source| OutputError::Write { path: path.to_owned(), source })
    }
}

fn open_file(path: &Path) -> io::Result<Output> {
    let in_place = fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket()
    }) || is_descriptor(path);
    if in_place {
        let file = File::options().write(true).open(path)?;
        return Ok(Output::InPlace(BufWriter::with_capacity(BUFFER, file), path.to_owned()));
    }
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Output::New(BufWriter::with_capacity(BUFFER, NewFile::in_folder(folder)?), path.to_owned()))
}

/// `/dev/fd/N`, `/dev/stdout`, `/proc/self/fd/N`: an open file, which a rename would not reach.
fn is_descriptor(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.starts_with(folder))
        || path == Path::new("/dev/stdout")
        || path == Path::new("/dev/stderr")
}

impl Output {
    /// Leaves a file as it was before; what is written in place, or to standard output, has been.
    ///
    /// # Errors
    /// The last bytes cannot be written.
    pub fn abandon(self) -> Result<(), OutputError> {
        if let Output::New(..) = self { Ok(()) } else { self.finish() }
    }

    /// Flushes, and gives a file its name.
    ///
    /// # Errors
    /// The last bytes cannot be written, or the file cannot be renamed.
    pub fn finish(self) -> Result<(), OutputError> {
        match self {
            Output::Stdout(mut out) => {
                out.flush().map_err(|source| OutputError::Write { path: "standard output".into(), source })
            }
            Output::InPlace(mut out, path) => out.flush().map_err(|source| OutputError::Write { path, source }),
            Output::New(out, path) => {
                let whole = out.into_inner().map_err(io::IntoInnerError::into_error);
                whole.and_then(|file| file.persist(&path)).map_err(|source| OutputError::Write { path, source })
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Stdout(out) => out.write(bytes),
            Output::InPlace(out, _) => out.write(bytes),
            Output::New(out, _) => out.write(bytes),
        }
    }

    /// Without it, what is written in many small pieces goes through a loop for each.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.write_all(bytes),
            Output::InPlace(out, _) => out.write_all(bytes),
            Output::New(out, _) => out.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Stdout(out) => out.flush(),
            Output::InPlace(out, _) => out.flush(),
            Output::New(out, _) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_appears_whole_private_and_under_its_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hang.pyst");
        let args = OutputArgs { output: Some(path.clone()) };
        let mut out = args.open().unwrap();
        out.write_all(b"half").unwrap();
        assert!(!path.exists());
        out.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let mut out = args.open().unwrap();
        out.write_all(b"never finished").unwrap();
        drop(out);
        assert_eq!(fs::read(&path).unwrap(), b"half");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_in_place() {
        let args = OutputArgs { output: Some("/dev/null".into()) };
        assert!(matches!(args.open().unwrap(), Output::InPlace(..)));
        assert!(is_descriptor(Path::new("/dev/fd/3")));
    }
}
