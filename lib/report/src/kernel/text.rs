//! System calls for people: short, and only what helps to tell what a thread waits for.

use crate::model::{OpenFile, Socket, SystemCall, Thread, Timeout};
use pyst_kernel::Call;
use pyst_snapshot::payload::{SocketProtocol, SocketState};

/// The most files of one call that are described, and the most that are listed by their descriptors.
const DESCRIBED: usize = 3;
const LISTED: usize = 8;

/// The most characters of a path.
const PATH: usize = 120;

/// `P_PID` and `P_PGID` of waitid.
const P_PID: u64 = 1;
const P_PGID: u64 = 2;

/// The line that text has of a thread; none for one that waits for a lock nothing is known of, or for the GIL, which is said
/// already.
pub(crate) fn line(thread: &Thread) -> Option<String> {
    let call = thread.syscall.as_ref();
    let call = call.filter(|call| call.name != Some("futex") || call.joins_tid.is_some() || is_bounded(call));
    let call = call.filter(|_| super::gil(thread).is_none()).map(|call| call.text.clone());
    let asleep = thread.state.as_deref() == Some("D");
    let asleep = asleep.then(|| match &thread.wchan {
        Some(function) => format!("uninterruptible, in {function}"),
        None => "uninterruptible".to_owned(),
    });
    match (call, asleep) {
        (Some(call), Some(asleep)) => Some(format!("{call} [{asleep}]")),
        (call, asleep) => call.or(asleep),
    }
}

fn is_bounded(call: &SystemCall) -> bool {
    call.timeout.as_ref().is_some_and(|timeout| timeout.ns.is_some())
}

/// What a call waits for. `gil` is the interpreter whose GIL it is, if its thread waits for one.
pub(super) fn of_call(call: &Call, known: &SystemCall, gil: Option<Option<i64>>) -> String {
    let name = known.name.map_or_else(|| format!("system call {}", known.number), str::to_owned);
    let what = match known.name {
        Some("futex") => Some(futex(known, gil)),
        Some("wait4") => child(call),
        Some("waitid") => child_by_kind(call).or_else(|| files(known)),
        _ => files(known),
    };
    let is_sleep = what.is_none();
    let timeout = known.timeout.as_ref().map(|timeout| limit(timeout, is_sleep));
    let inside: Vec<String> = what.into_iter().chain(timeout).collect();
    if inside.is_empty() { name } else { format!("{name}({})", inside.join("; ")) }
}

fn futex(known: &SystemCall, gil: Option<Option<i64>>) -> String {
    match (gil, known.joins_tid, &known.futex) {
        (Some(Some(interpreter)), ..) => format!("the GIL of interpreter {interpreter}"),
        (Some(None), ..) => "the GIL".to_owned(),
        (None, Some(tid), _) => format!("the end of thread {tid}"),
        (None, None, Some(futex)) => futex.0.to_string(),
        (None, None, None) => "???".to_owned(),
    }
}

/// What wait4 waits for: its first argument is an `int`.
fn child(call: &Call) -> Option<String> {
    let [a, b, c, d, ..] = call.arguments.first().copied().flatten()?.to_le_bytes();
    Some(match i32::from_le_bytes([a, b, c, d]) {
        -1 => "any child".to_owned(),
        0 => "its process group".to_owned(),
        pid if pid > 0 => format!("pid {pid}"),
        group => format!("process group {}", group.unsigned_abs()),
    })
}

fn child_by_kind(call: &Call) -> Option<String> {
    let [kind, id, ..] = call.arguments;
    match (kind?, id.map(|id| id & 0xffff_ffff)) {
        (0, _) => Some("any child".to_owned()),
        (P_PID, Some(pid)) => Some(format!("pid {pid}")),
        (P_PGID, Some(0)) => Some("its process group".to_owned()),
        (P_PGID, Some(group)) => Some(format!("process group {group}")),
        _ => None,
    }
}

fn files(known: &SystemCall) -> Option<String> {
    if known.files.is_empty() {
        return known.more_files.then(|| "files that are not known".to_owned());
    }
    let all = known.files.len();
    let shown = if all > DESCRIBED { LISTED } else { DESCRIBED };
    let one = |file: &OpenFile| match describe(file).filter(|_| all <= DESCRIBED) {
        Some(description) => format!("{}: {description}", file.fd),
        None => file.fd.to_string(),
    };
    let mut list: Vec<String> = known.files.iter().take(shown).map(one).collect();
    if known.more_files || all > shown {
        list.push("…".to_owned());
    }
    Some(list.join(", "))
}

fn describe(file: &OpenFile) -> Option<String> {
    if let Some(watched) = &file.watches {
        return Some(match watched.as_slice() {
            [] => "watches nothing".to_owned(),
            watched => format!("watches {}", numbers(watched)),
        });
    }
    match &file.socket {
        Some(socket) => Some(describe_socket(socket)),
        None => file.path.as_deref().map(short),
    }
}

fn numbers(numbers: &[i32]) -> String {
    let mut list: Vec<String> = numbers.iter().take(LISTED).map(i32::to_string).collect();
    if numbers.len() > LISTED {
        list.push("…".to_owned());
    }
    list.join(", ")
}

fn describe_socket(socket: &Socket) -> String {
    let mut text = socket.protocol.0.name().into_owned();
    let mut add = |separator: &str, part: &str| {
        text.push_str(separator);
        text.push_str(part);
    };
    match &socket.path {
        Some(path) => add(" ", &short(path)),
        None if socket.protocol.0 == SocketProtocol::UNIX => add(" ", "socket"),
        None => {}
    }
    if let Some(local) = &socket.local {
        add(" ", local);
    }
    if let Some(remote) = &socket.remote {
        add(" -> ", remote);
    }
    // Whoever is connected without a state of its own says so by the address.
    if socket.protocol.0 != SocketProtocol::UDP || socket.state.0 != SocketState::ESTABLISHED {
        add(" ", &socket.state.0.name());
    }
    text
}

/// The end of a path tells more than its start.
fn short(path: &str) -> String {
    let length = path.chars().count();
    match length.checked_sub(PATH) {
        None | Some(0) => path.to_owned(),
        Some(more) => format!("…{}", path.chars().skip(more).collect::<String>()),
    }
}

/// `is_sleep`: there is nothing else that it waits for.
fn limit(timeout: &Timeout, is_sleep: bool) -> String {
    match (timeout.kind, &timeout.ns) {
        ("left", Some(ns)) => format!("{} left", duration(ns.0)),
        (_, Some(ns)) if is_sleep => duration(ns.0),
        (_, Some(ns)) => format!("timeout {}", duration(ns.0)),
        (_, None) => "no timeout".to_owned(),
    }
}

/// `250 ms`, `1.5 s`, `999 s`: three decimals at most, of long times fewer.
fn duration(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, thousandths) = (ns / unit, ns % unit * 1000 / unit);
    let decimals = match whole {
        0..10 => format!("{thousandths:03}"),
        10..100 => format!("{:01}", thousandths / 100),
        _ => String::new(),
    };
    match decimals.trim_end_matches('0') {
        "" => format!("{whole} {name}"),
        decimals => format!("{whole}.{decimals} {name}"),
    }
}
