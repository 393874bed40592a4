//! Where a snapshot stream comes from.

use crate::{memory, standard};
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, stdin};
use std::path::{Path, PathBuf};

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// Nothing was given.
    #[error("no input: give a snapshot file, or pipe one in (pyst-grab PID | …)")]
    Terminal,
    /// Standard input is closed.
    #[error(
        "standard input is closed, or open for writing only: give a snapshot file, or pipe one in (pyst-grab PID | …)"
    )]
    Closed,
    /// The file cannot be opened.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// An open input.
pub struct Input(Box<dyn Read>);

impl Input {
    /// Opens `path`; standard input where it is absent or `-`.
    ///
    /// # Errors
    /// Standard input is a terminal or closed, or the file cannot be opened.
    pub fn open(path: Option<&Path>) -> Result<Input, InputError> {
        match path.filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let open = File::open(path).and_then(|file| {
                    // Opening a directory works; reading it does not, with a message that names no file.
                    if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
                });
                let file = open.map_err(|source| InputError::Open { path: path.to_owned(), source })?;
                Ok(Input(Box::new(BufReader::new(file))))
            }
            None if !standard::can_read() => Err(InputError::Closed),
            None if stdin().is_terminal() => Err(InputError::Terminal),
            None => {
                memory::fill_the_wait();
                Ok(Input(Box::new(BufReader::new(stdin()))))
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}
