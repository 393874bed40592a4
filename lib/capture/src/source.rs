//! Source lines: read when the snapshot is taken, for elsewhere the files are others or none.
//!
//! A `co_filename` is a path in the target's world: it is resolved in the target's root and working directory, and never
//! leaves that root, or a link in a container could have a file of the host read.

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use pyst_elf::Reach;
use pyst_snapshot::Text;
use pyst_snapshot::payload::{Python, Source, SourceFile, SourceLine};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longer files are not source that someone wrote.
const MAX_FILE: u64 = 16 << 20;

/// The most files of one process.
const MAX_FILES: usize = 4096;

/// What is kept of a line, in characters.
const MAX_LINE: usize = 4096;

/// A clock tick: to that the start of a process is known.
const TICK_NS: i64 = 10_000_000;

/// Where the target's paths lead.
#[derive(Clone)]
pub(crate) enum TargetPaths {
    /// `/proc/PID/root` and `/proc/PID/cwd`.
    Live {
        /// The target's root.
        root: PathBuf,
        /// Its working directory.
        working_directory: PathBuf,
    },
    /// To the same paths here: a core file was taken on this machine, or on one like it.
    Here,
}

/// The lines that the frames are at.
pub(crate) fn read(
    python: &Python,
    paths: &TargetPaths,
    reach: &Reach,
    started_at: Option<i64>,
    captured_at: i64,
) -> Source {
    let mut wanted: BTreeMap<&Text, BTreeSet<u32>> = BTreeMap::new();
    for frame in python.states.iter().flat_map(|state| &state.frames) {
        let code = usize::try_from(frame.code).ok().and_then(|code| python.codes.get(code));
        if let (Some(code), Some(line)) = (code, frame.line) {
            wanted.entry(&code.file).or_default().insert(line);
        }
    }
    let files = wanted.into_iter().take(MAX_FILES).filter_map(|(file, lines)| {
        let (path, paths) = (file.to_path_bytes(), paths.clone());
        let what = PathBuf::from(OsStr::from_bytes(&path));
        let read = move || read_file(&path, &paths).ok_or_else(|| ErrorKind::NotFound.into());
        let (text, modified) = reach.ask(None, &what, read).ok()?;
        let newer = match started_at {
            Some(started) => Some(modified > started.saturating_add(TICK_NS)),
            // When the process of a core file started is not known, but it did before it ended.
            None => (modified > captured_at).then_some(true),
        };
        Some(SourceFile { file: file.clone(), newer, lines: pick_lines(&text, &lines) })
    });
    Source { files: files.filter(|file| !file.lines.is_empty()).collect() }
}

/// The content of a file, and when it was modified, in nanoseconds since 1970.
fn read_file(path: &[u8], paths: &TargetPaths) -> Option<(Vec<u8>, i64)> {
    // `<string>`, `<frozen importlib._bootstrap>`
    if path.is_empty() || path.starts_with(b"<") || path.contains(&0) {
        return None;
    }
    let file = open(Path::new(OsStr::from_bytes(path)), paths)?;
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= MAX_FILE)?;
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).ok()?;
    Some((text, metadata.mtime().checked_mul(1_000_000_000)?.checked_add(metadata.mtime_nsec())?))
}

fn open(path: &Path, paths: &TargetPaths) -> Option<File> {
    match paths {
        TargetPaths::Here => crate::modules::open_regular(path).ok(),
        TargetPaths::Live { root, .. } if path.is_absolute() => {
            open_within(root, path, ResolveFlag::RESOLVE_IN_ROOT, root)
        }
        TargetPaths::Live { root, working_directory } => {
            open_within(working_directory, path, ResolveFlag::RESOLVE_BENEATH, root)
        }
    }
}

/// Opens `path` at `directory`. Where the kernel cannot confine that, or the path leads out of the working directory,
/// it is opened only if the target has the same root as we have, so that there is nothing to leave.
fn open_within(directory: &Path, path: &Path, resolve: ResolveFlag, root: &Path) -> Option<File> {
    let start = File::open(directory).ok()?;
    let how =
        OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&start, path, how) {
        Ok(place) => reopen(&place),
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EXDEV) if is_own_root(root) => {
            crate::modules::open_regular(&directory.join(path)).ok()
        }
        Err(_) => None,
    }
}

/// Opens what is at `place` for reading if it is a regular file: opening anything else may block or have effects.
fn reopen(place: &OwnedFd) -> Option<File> {
    crate::modules::open_regular(Path::new(&format!("/proc/self/fd/{}", place.as_raw_fd()))).ok()
}

fn is_own_root(root: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    identity(root).is_some_and(|target| identity(Path::new("/")) == Some(target))
}

fn pick_lines(text: &[u8], wanted: &BTreeSet<u32>) -> Vec<SourceLine> {
    let encoding = Encoding::of(text);
    let text = text.strip_prefix(BOM).unwrap_or(text);
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(split_lines(text)) {
        if wanted.contains(&number) {
            lines.push(SourceLine { line: number, text: encoding.decode(line) });
        }
        if lines.len() == wanted.len() {
            break;
        }
    }
    lines
}

/// Lines as Python has them: they end in `\n`, `\r\n` or `\r`.
fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..));
        Some(line)
    })
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The encodings in which Python source is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// Also what is read as it for want of its table: bytes that are no UTF-8 become U+FFFD.
    Utf8,
    Latin1,
    Latin9,
}

impl Encoding {
    /// By the declaration of PEP 263: in the first line, or in the second if the first is empty or a comment.
    fn of(text: &[u8]) -> Encoding {
        if text.starts_with(BOM) {
            return Encoding::Utf8;
        }
        for line in split_lines(text).take(2) {
            if let Some(name) = declared(line) {
                return Encoding::named(&name);
            }
            let code = line.trim_ascii_start();
            if !code.is_empty() && !code.starts_with(b"#") {
                break;
            }
        }
        Encoding::Utf8
    }

    fn named(name: &[u8]) -> Encoding {
        let name: Vec<u8> =
            name.iter().map(|byte| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }).collect();
        match name.as_slice() {
            b"latin-1" | b"latin1" | b"iso-8859-1" | b"iso8859-1" | b"iso-latin-1" | b"l1" | b"cp819" => {
                Encoding::Latin1
            }
            b"iso-8859-15" | b"iso8859-15" | b"latin-9" | b"latin9" | b"l9" => Encoding::Latin9,
            _ => Encoding::Utf8,
        }
    }

    fn decode(self, line: &[u8]) -> String {
        match self {
            Encoding::Utf8 => String::from_utf8_lossy(line).chars().take(MAX_LINE).collect(),
            Encoding::Latin1 => line.iter().take(MAX_LINE).map(|byte| char::from(*byte)).collect(),
            Encoding::Latin9 => line.iter().take(MAX_LINE).map(|byte| latin9(*byte)).collect(),
        }
    }
}

/// ISO 8859-15 is ISO 8859-1 with eight characters replaced.
fn latin9(byte: u8) -> char {
    match byte {
        0xa4 => '€',
        0xa6 => 'Š',
        0xa8 => 'š',
        0xb4 => 'Ž',
        0xb8 => 'ž',
        0xbc => 'Œ',
        0xbd => 'œ',
        0xbe => 'Ÿ',
        other => char::from(other),
    }
}

/// The encoding that a line declares: `^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)`.
fn declared(line: &[u8]) -> Option<Vec<u8>> {
    let comment = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\x0c'))?;
    let comment = line.get(comment..)?.strip_prefix(b"#")?;
    comment.windows(7).enumerate().find_map(|(at, window)| {
        if !(window.starts_with(b"coding") && matches!(window.last(), Some(b':' | b'='))) {
            return None;
        }
        let name = comment.get(at + 7..)?;
        let name = name.get(name.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?..)?;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let end = name.iter().position(|byte| !is_part(byte)).unwrap_or(name.len());
        name.get(..end).filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What Python's own `linecache` says of a file with this content.
    fn as_python_reads(text: &[u8], line: u32) -> Option<String> {
        let path = std::env::temp_dir().join(format!("pyst-source-{}-{line}.py", std::process::id()));
        std::fs::write(&path, text).ok()?;
        let script = "import linecache, sys; \
            sys.stdout.buffer.write(linecache.getline(sys.argv[1], int(sys.argv[2])).encode())";
        let output = Command::new("/usr/bin/python3.11").args(["-c", script]).arg(&path).arg(line.to_string()).output();
        std::fs::remove_file(&path).ok()?;
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim_end_matches(['\n', '\r']).to_owned())
    }

    #[test]
    fn lines_are_those_that_python_reads() {
        let texts: [&[u8]; 7] = [
            b"a = 1\nb = 2\n  c = 'x'\n",
            b"a = 1\r\nb = 2\r\n\tc = 'x'\r\n",
            b"a = 1\rb = 2\rc = 'x'\r",
            "\u{feff}a = 1\nb = 'ü'\nc = '関'".as_bytes(),
            b"# -*- coding: latin-1 -*-\nb = '\xfc'\nc = '\xa4'\n",
            b"#!/usr/bin/python\n# vim: set fileencoding=iso8859_15 :\nc = '\xa4\xbd\xfc'\n",
            b"a\x0cb = 1\n\x0c\nc = '\x1c\x85'\n",
        ];
        for text in texts {
            for line in 1..=3 {
                let Some(expected) = as_python_reads(text, line) else {
                    let _ = std::io::Write::write_fmt(
                        &mut std::io::stderr(),
                        format_args!("skipped: no /usr/bin/python3.11\n"),
                    );
                    return;
                };
                // linecache gives up on a file it cannot decode.
                if expected.is_empty() {
                    continue;
                }
                let got = pick_lines(text, &BTreeSet::from([line]));
                assert_eq!(got.first().map(|line| line.text.as_str()), Some(expected.as_str()), "{text:?} {line}");
            }
        }
    }

    #[test]
    fn a_line_beyond_the_end_is_none() {
        assert_eq!(pick_lines(b"a\nb", &BTreeSet::from([3])), []);
        assert_eq!(pick_lines(b"", &BTreeSet::from([2])), []);
    }

    #[test]
    fn a_link_cannot_lead_out_of_the_root() {
        let directory = std::env::temp_dir().join(format!("pyst-root-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("inside")).unwrap();
        std::fs::write(directory.join("inside/file.py"), "inside").unwrap();
        let _ = std::os::unix::fs::symlink("/etc/passwd", directory.join("absolute.py"));
        let _ = std::os::unix::fs::symlink("/inside/file.py", directory.join("link.py"));
        let root = TargetPaths::Live { root: directory.clone(), working_directory: directory.join("inside") };
        let read = |path: &str| read_file(path.as_bytes(), &root).map(|(text, _)| text);
        let results =
            [read("/absolute.py"), read("/link.py"), read("file.py"), read("../absolute.py"), read("/inside")];
        std::fs::remove_dir_all(&directory).unwrap();
        let inside = Some(b"inside".to_vec());
        assert_eq!(results, [None, inside.clone(), inside, None, None]);
    }

    #[test]
    fn declarations_are_found_where_python_looks_for_them() {
        assert_eq!(Encoding::of(b"x = 1 # coding: latin-1\n"), Encoding::Utf8);
        assert_eq!(Encoding::of(b"x = 1\n# coding: latin-1\n"), Encoding::Utf8);
        assert_eq!(Encoding::of(b"\n\n# coding: latin-1\n"), Encoding::Utf8);
        assert_eq!(Encoding::of(b"\n \x0c# encoding=Latin_1\n"), Encoding::Latin1);
        assert_eq!(Encoding::of(b"# coding:\n"), Encoding::Utf8);
    }
}
