//! Nothing pyst-grab asks of the kernel could change its target: each call of a whole capture, as strace shows it, is one of those
//! that are known to be harmless, or it has a rule here that its arguments obey. A call that is new fails the test.

use super::lacks;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Scenario, Target, Tool, representatives, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What reads, or concerns only the thread that calls it, whatever its arguments.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "access", "arch_prctl", "brk", "clock_gettime", "clock_nanosleep", "close", "dup2", "exit", "exit_group", "faccessat",
    "faccessat2", "fstat", "futex", "getdents64", "getegid", "geteuid", "getgid", "getpid", "getppid", "getrandom",
    "gettid", "getuid", "lseek", "lstat", "madvise", "mprotect", "mremap", "munmap", "nanosleep", "newfstatat",
    "poll", "ppoll", "pread64", "preadv", "process_vm_readv", "read", "readlink", "readlinkat", "readv",
    "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait",
    "sched_getaffinity", "sched_yield", "set_robust_list", "set_tid_address", "sigaltstack", "stat", "statx",
    "sysinfo", "uname", "wait4", "waitid",
];

/// What a tracer asks of a thread.
const PTRACE: &[&str] = &["PTRACE_SEIZE", "PTRACE_INTERRUPT", "PTRACE_GETREGSET", "PTRACE_DETACH"];

/// The modes of pyst-grab, and whether they stop the target.
const MODES: &[(&[&str], bool)] = &[
    (&[], true),
    (&["--locals"], true),
    (&["--exhaustive"], true),
    (&["--python-only"], true),
    (&["--debug-info"], true),
    (&["--no-block"], false),
    (&["--locals", "--debug-info", "--no-source", "--verbose"], true),
    (&["--children"], true),
    (&["--count", "2", "--interval", "0"], true),
    (&["--no-block"], false),
    (&["--no-block", "--locals"], false),
];

#[test]
fn no_call_is_made_that_could_write_to_the_target() {
    let scenario = Scenario::new("nothing changed: system calls");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    for interpreter in representatives() {
        let target = Target::start(interpreter, "eight_threads.py", &[]).unwrap();
        for (mode, stops) in MODES {
            scenario.on(&format!("{} {}", interpreter.name, mode.join(" ")), || check(&target, mode, *stops));
        }
        scenario.on(&format!("{}, stopped", interpreter.name), || {
            target.signal(Signal::SIGSTOP)?;
            target.wait_for_state('T')?;
            let checked = check(&target, &[], true);
            target.signal(Signal::SIGCONT)?;
            checked
        });
        scenario.on(&format!("{}, traced", interpreter.name), || {
            let _strace = target.strace()?;
            check(&target, &[], false)
        });
    }
    scenario.finish();
}

/// Every call of one capture obeys the rules.
fn check(target: &Target, mode: &[&str], stops: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (trace, snapshot) = (folder.path().join("trace"), folder.path().join("x.pyst"));
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-qq", "-s", "64", "-o"])
        .arg(&trace)
        .arg(Tool::Grab.path())
        .args(mode)
        .arg("--stop-limit=20000");
    strace.arg("-o").arg(&snapshot).arg(target.pid().to_string());
    let output = run(&mut strace)?;
    ensure!(matches!(output.status, Some(0 | 3)), "exit status {:?}: {}", output.status, output.stderr);
    ensure!(snapshot.exists(), "no snapshot");
    let trace = Trace::of(&fs::read_to_string(&trace)?)?;
    for (tid, name, arguments) in &trace.calls {
        trace.rule(name, arguments, folder.path()).with_context(|| format!("thread {tid}: {name}({arguments})"))?;
    }
    // A trace that shows nothing would prove nothing.
    let times = |name: &str| trace.calls.iter().filter(|(_, call, _)| call == name).count();
    ensure!(times("process_vm_readv") > 0 && times("openat") > 20, "not a capture: {}", trace.calls.len());
    let expected = if stops { target.account().threads.len() * PTRACE.len() } else { 0 };
    ensure!((times("ptrace") >= expected) && (stops || times("ptrace") == 0), "{} ptrace calls", times("ptrace"));
    Ok(())
}

/// The calls of all threads of a process.
struct Trace {
    /// The thread, the call, and its arguments as strace writes them, up to where it was interrupted.
    calls: Vec<(u32, String, String)>,
    threads: BTreeSet<u32>,
}

impl Trace {
    fn of(text: &str) -> Result<Trace> {
        let mut trace = Trace { calls: Vec::new(), threads: BTreeSet::new() };
        let mut begun: BTreeMap<u32, usize> = BTreeMap::new();
        for line in text.lines() {
            let (tid, rest) = line.split_once(' ').with_context(|| format!("no thread: {line}"))?;
            let (tid, rest) = (tid.parse()?, rest.trim_start());
            trace.threads.insert(tid);
            if rest.starts_with("+++") || rest.starts_with("---") {
                continue;
            }
            if let Some(rest) = rest.strip_prefix("<... ") {
                let (_, rest) = rest.split_once(" resumed>").with_context(|| format!("no end: {line}"))?;
                let at = begun.remove(&tid).with_context(|| format!("no beginning: {line}"))?;
                trace.calls[at].2.push_str(rest);
                continue;
            }
            let (name, arguments) = rest.split_once('(').with_context(|| format!("no call: {line}"))?;
            let arguments = arguments.strip_suffix("<unfinished ...>").inspect(|_| {
                begun.insert(tid, trace.calls.len());
            });
            let arguments = arguments.unwrap_or_else(|| rest.split_once('(').map_or("", |(_, arguments)| arguments));
            trace.calls.push((tid, name.to_owned(), arguments.to_owned()));
        }
        for (_, _, arguments) in &mut trace.calls {
            // What it returned is of no matter.
            if let Some(end) = arguments.rfind(" = ").and_then(|end| arguments[..end].rfind(')')) {
                arguments.truncate(end);
            }
        }
        Ok(trace)
    }

    /// Whether the call is harmless.
    fn rule(&self, name: &str, arguments: &str, folder: &Path) -> Result<()> {
        let all: Vec<&str> = arguments.split(", ").collect();
        let first = *all.first().context("no arguments")?;
        let is_own = |who: &str| who == "0" || who.parse().is_ok_and(|tid| self.threads.contains(&tid));
        // With -y: the number of a descriptor, and what it is open to.
        let own_file = |path: &str| ["/", "\""].iter().any(|end| path.contains(&format!("{}{end}", folder.display())));
        let harmless = match name {
            _ if HARMLESS.contains(&name) => true,
            "ptrace" => PTRACE.contains(&first) && handed_on(&all),
            // Its own threads; one process more would not be.
            "clone" | "clone3" => arguments.contains("CLONE_THREAD"),
            "execve" => own_file(arguments) || first.trim_matches('"') == Tool::Grab.path().to_string_lossy(),
            "open" | "openat" | "openat2" => {
                let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];
                !writes.iter().any(|flag| arguments.contains(flag)) || own_file(arguments)
            }
            "write" | "writev" | "pwrite64" | "pwritev" => own_file(first) || first.starts_with("2<"),
            "ftruncate" | "fallocate" | "fsync" | "fdatasync" | "fchmod" => own_file(first),
            "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "link" | "linkat" => {
                // A file of its own that has no name yet gets one by its descriptor.
                let own = [format!("\"{}/", folder.display()), "\"/proc/self/fd/".to_owned()];
                let count = |text: &str| arguments.matches(text).count();
                count("\"") / 2 == count(&own[0]) + if name == "linkat" { count(&own[1]) } else { 0 }
            }
            "mmap" => !(arguments.contains("MAP_SHARED") && arguments.contains("PROT_WRITE")),
            "fcntl" => ["F_GETFD", "F_GETFL", "F_SETFD", "F_DUPFD_CLOEXEC"]
                .iter()
                .any(|it| all.get(1).is_some_and(|command| command.starts_with(it))),
            "prctl" => ["PR_SET_NAME", "PR_GET_NAME", "PR_CAPBSET_READ"].contains(&first),
            "ioctl" => all.get(1).is_some_and(|request| ["TCGETS", "TIOCGWINSZ"].contains(request)),
            // Limits of its own are asked for, none is set.
            "prlimit64" => is_own(first) && all.get(2) == Some(&"NULL"),
            "getpriority" | "setpriority" => first == "PRIO_PROCESS" && all.get(1).is_some_and(|who| is_own(who)),
            "sched_setscheduler" | "sched_setparam" | "sched_setaffinity" | "sched_getscheduler" | "sched_getparam" => {
                is_own(first)
            }
            // Whether a process is there.
            "kill" | "tkill" | "tgkill" => all.last() == Some(&"0"),
            _ => bail!("a call that nobody has vouched for"),
        };
        ensure!(harmless, "could change something");
        Ok(())
    }
}

/// A thread is seized without options, and let go without a signal: none was sent to this target.
fn handed_on(arguments: &[&str]) -> bool {
    match arguments.first() {
        Some(&"PTRACE_SEIZE" | &"PTRACE_DETACH") => arguments.last().is_some_and(|data| data.trim_end() == "0"),
        _ => true,
    }
}

#[test]
fn the_rules_know_a_call_that_writes() {
    let folder = Path::new("/tmp/folder");
    let refused = |line: &str| {
        let trace = Trace::of(line).unwrap();
        let (_, name, arguments) = &trace.calls[0];
        trace.rule(name, arguments, folder).is_err()
    };
    for line in [
        "7 process_vm_writev(9, [{iov_base=\"x\", iov_len=1}], 1, [{iov_base=0x7f00, iov_len=1}], 1, 0) = 1",
        "7 ptrace(PTRACE_POKEDATA, 9, 0x7f00, 0x1) = 0",
        "7 ptrace(PTRACE_SETREGSET, 9, NT_PRSTATUS, {iov_base={}, iov_len=8}) = 0",
        "7 ptrace(PTRACE_CONT, 9, NULL, 0) = 0",
        "7 ptrace(PTRACE_SEIZE, 9, NULL, PTRACE_O_EXITKILL) = 0",
        "7 ptrace(PTRACE_DETACH, 9, NULL, SIGTERM) = 0",
        "7 openat(AT_FDCWD</tmp/folder>, \"/proc/9/mem\", O_RDWR|O_CLOEXEC) = 3</proc/9/mem>",
        "7 openat(AT_FDCWD</>, \"/proc/9/clear_refs\", O_WRONLY|O_CLOEXEC) = 3</proc/9/clear_refs>",
        "7 write(3</proc/9/oom_score_adj>, \"1\", 1) = 1",
        "7 pwrite64(3</proc/9/mem>, \"1\", 1, 4096) = 1",
        "7 kill(9, SIGCONT) = 0",
        "7 pidfd_send_signal(3<anon_inode:[pidfd]>, SIGTERM, NULL, 0) = 0",
        "7 prlimit64(9, RLIMIT_CORE, {rlim_cur=0, rlim_max=0}, NULL) = 0",
        "7 prlimit64(0, RLIMIT_CORE, {rlim_cur=0, rlim_max=0}, NULL) = 0",
        "7 setpriority(PRIO_PROCESS, 9, -20) = 0",
        "7 sched_setaffinity(9, 8, [0]) = 0",
        "7 ioprio_set(IOPRIO_WHO_PROCESS, 9, 0) = 0",
        "7 bpf(BPF_PROG_LOAD, {}, 128) = 3",
        "7 process_madvise(3, [{}], 1, MADV_COLD, 0) = 0",
        "7 ioctl(3</proc/9/pagemap>, _IOC(_IOC_READ|_IOC_WRITE, 0x66, 0x10, 0x60), 0x7f00) = 0",
        "7 unlink(\"/etc/passwd\") = 0",
        "7 renameat(AT_FDCWD</>, \"/tmp/folder/a\", AT_FDCWD</>, \"/tmp/b\") = 0",
        "7 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD) = 8",
    ] {
        assert!(refused(line), "{line}");
    }
    for line in [
        "7 ptrace(PTRACE_DETACH, 9, NULL, 0) = 0",
        "7 openat(AT_FDCWD</>, \"/proc/9/maps\", O_RDONLY|O_CLOEXEC) = 3</proc/9/maps>",
        "7 renameat(AT_FDCWD</>, \"/tmp/folder/a\", AT_FDCWD</>, \"/tmp/folder/b\") = 0",
        "7 kill(9, 0) = 0",
        "7 setpriority(PRIO_PROCESS, 7, -20) = 0",
    ] {
        assert!(!refused(line), "{line}");
    }
}
