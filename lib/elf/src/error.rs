//! Why an ELF file is of no use.

use pyst_snapshot::Svma;

/// Why an ELF file, or a part of it, is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The operating system refused.
    #[error("the file could not be read: {0}")]
    Io(#[from] std::io::Error),
    /// It does not start as an ELF file does, or ends within its header.
    #[error("not an ELF file")]
    NotElf,
    /// It is for a kind of machine that pyst does not know.
    #[error("a {0} ELF file: only 64-bit little-endian ones are supported")]
    Unsupported(&'static str),
    /// Its program headers lie outside of it.
    #[error("the ELF file is damaged: {0}")]
    Malformed(&'static str),
    /// No loaded segment holds these bytes of the file.
    #[error("the file holds no {length} bytes at svma {svma}")]
    NotInFile {
        /// Where they would start.
        svma: Svma,
        /// How many were asked for.
        length: usize,
    },
}
