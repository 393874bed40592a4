//! What `/proc` says of a process and of its threads, maps aside.

use std::path::{Path, PathBuf};

/// What of `/proc/T/stat` is used here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) ppid: u32,
    pub(crate) pgrp: u32,
    pub(crate) session: u32,
    /// `PF_…`
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    /// Clock ticks from boot to its start.
    pub(crate) start_ticks: u64,
    /// Where the main thread's stack began; 0 for who may not know.
    pub(crate) start_stack: u64,
}

const PF_EXITING: u64 = 0x0000_0004;
const PF_KTHREAD: u64 = 0x0020_0000;

impl Stat {
    pub(crate) fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it is on its way out, and its memory may be gone, though it is no zombie yet.
    pub(crate) fn is_exiting(&self) -> bool {
        self.flags & PF_EXITING != 0 || self.is_zombie()
    }

    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

/// What of `/proc/T/status` is used here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) tgid: u32,
    pub(crate) tracer_pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Its ids from the namespace of this `/proc` inwards; empty on kernels before 4.1.
    pub(crate) namespace_pids: Vec<u32>,
}

/// `/proc/PID` of one process.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    root: PathBuf,
}

impl Proc {
    pub(crate) fn of(pid: u32) -> Proc {
        Proc { root: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// This process, as the `/proc` that is mounted here knows it.
    pub(crate) fn own() -> Proc {
        Proc { root: PathBuf::from("/proc/self") }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// `/proc/PID/task/TID`
    pub(crate) fn task(&self, tid: u32) -> Proc {
        Proc { root: self.root.join(format!("task/{tid}")) }
    }

    pub(crate) fn read(&self, name: &str) -> std::io::Result<Vec<u8>> {
        std::fs::read(self.path(name))
    }

    pub(crate) fn link(&self, name: &str) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        std::fs::read_link(self.path(name)).ok().map(|path| path.into_os_string().into_vec())
    }

    pub(crate) fn stat(&self) -> Option<Stat> {
        parse_stat(&self.read("stat").ok()?)
    }

    pub(crate) fn status(&self) -> Option<Status> {
        Some(parse_status(&self.read("status").ok()?))
    }

    /// `comm`, without the newline the kernel adds.
    pub(crate) fn name(&self) -> Option<Vec<u8>> {
        let mut name = self.read("comm").ok()?;
        name.pop_if(|last| *last == b'\n');
        Some(name)
    }

    /// Whether it may have a userfaultfd, by which pages that it gives back have to be brought by a program. All else that a
    /// process gives back comes as zeros, or from a file.
    pub(crate) fn may_have_userfaultfd(&self) -> bool {
        /// Whoever has more open files is not asked about each.
        const MAX_FILES: usize = 2048;
        let Ok(files) = std::fs::read_dir(self.path("fd")) else { return true };
        let is_one =
            |link: std::io::Result<PathBuf>| link.is_ok_and(|link| link == Path::new("anon_inode:[userfaultfd]"));
        let mut count = 0;
        files.flatten().any(|file| {
            count += 1;
            count > MAX_FILES || is_one(std::fs::read_link(file.path()))
        })
    }

    /// The threads, ascending.
    pub(crate) fn tids(&self) -> std::io::Result<Vec<u32>> {
        let entries = std::fs::read_dir(self.path("task"))?;
        let mut tids: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        tids.sort_unstable();
        Ok(tids)
    }
}

/// The arguments in `/proc/PID/cmdline`, each of which ends in a NUL.
pub(crate) fn split_arguments(cmdline: &[u8]) -> Vec<Vec<u8>> {
    let cmdline = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if cmdline.is_empty() { Vec::new() } else { cmdline.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() }
}

/// `112 (a name) with ) S 1 …`: the name may hold anything, so the fields count from its last parenthesis.
pub(crate) fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let fields = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut split = fields.split_ascii_whitespace();
    let fields: [&str; 26] = std::array::from_fn(|_| split.next().unwrap_or_default());
    // Numbered as in proc_pid_stat(5), where the state is field 3.
    let field = |number: usize| fields.get(number - 3).copied().filter(|field| !field.is_empty());
    let number = |at: usize| field(at).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let id = |at: usize| u32::try_from(number(at)).unwrap_or(0);
    Some(Stat {
        state: field(3)?.bytes().next()?,
        ppid: id(4),
        pgrp: id(5),
        session: id(6),
        flags: u64::try_from(number(9)).unwrap_or(0),
        nice: i32::try_from(number(19)).unwrap_or(0),
        start_ticks: u64::try_from(number(22)).unwrap_or(0),
        start_stack: field(28).and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

pub(crate) fn parse_status(text: &[u8]) -> Status {
    let mut status = Status::default();
    // The name is the first line, its newlines are escaped by the kernel: no later line can be forged with it.
    for line in text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        let Some((key, values)) = line.split_once(':') else { continue };
        let mut numbers = values.split_ascii_whitespace().map_while(|value| value.parse::<u32>().ok());
        match key {
            "Tgid" => status.tgid = numbers.next().unwrap_or(0),
            "TracerPid" => status.tracer_pid = numbers.next().unwrap_or(0),
            "Uid" => status.uid = numbers.next().unwrap_or(0),
            "Gid" => status.gid = numbers.next().unwrap_or(0),
            "NSpid" => status.namespace_pids = numbers.collect(),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text =
            b"112 (a) R (b c) S 1 100 99 0 -1 4194560 900 0 0 0 3 2 0 0 20 -5 1 0 123456 8192 700 184467 1 1 140721\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.pgrp, stat.session), (b'S', 1, 100, 99));
        assert_eq!((stat.nice, stat.start_ticks, stat.start_stack), (-5, 123_456, 140_721));
        assert!(!stat.is_kernel_thread());
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"1 (a)"), None);
        assert_eq!(parse_stat(b"1 (a) Z").map(|stat| stat.is_zombie()), Some(true));
    }

    #[test]
    fn the_ids_in_nested_namespaces_come_from_the_outside_inwards() {
        let text = b"Name:\tx\nUmask:\t0022\nTgid:\t4711\nTracerPid:\t12\nUid:\t1000\t0\t0\t0\nGid:\t7\t7\t7\t7\n\
            NSpid:\t4711\t30\t1\n";
        let status = parse_status(text);
        assert_eq!((status.tgid, status.tracer_pid, status.uid, status.gid), (4711, 12, 1000, 7));
        assert_eq!(status.namespace_pids, [4711, 30, 1]);
    }

    #[test]
    fn empty_arguments_are_arguments() {
        assert_eq!(split_arguments(b"a\0\0b c\0"), [&b"a"[..], b"", b"b c"]);
        assert_eq!(split_arguments(b""), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn this_process_is_described() {
        let this = Proc::of(std::process::id());
        assert_eq!(this.status().unwrap().tgid, std::process::id());
        assert_eq!(this.stat().unwrap().ppid, std::os::unix::process::parent_id());
        let ticks = this.stat().unwrap().start_ticks;
        assert!(ticks > 0);
    }
}
