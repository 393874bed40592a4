//! What threads wait for: system calls by made-up registers, with made-up files, in JSON and text.

use crate::build::{Sections, ident, living};
use crate::json::value;
use pyst_report::Report;
use pyst_report::text::{self, Options};
use pyst_snapshot::payload::*;
use pyst_snapshot::{Address, Bytes, RawSection, Tid};
use serde_json::{Value, json};

/// The monotonic clock, in seconds.
const NOW: u64 = 5000;

/// Where arguments point to.
const AT: u64 = 0x7ffd_0000;

/// DWARF numbers of rdi rsi rdx r10 r8 r9.
const ARGUMENTS: [u16; 6] = [5, 4, 1, 10, 8, 9];

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `living()`, in which thread 113 runs no Python that waits for the GIL, and no thread is in a call.
fn sections() -> Sections {
    let mut sections = living();
    sections.state(113).gil = Some(GilState::NONE);
    sections.waits = Some(Waits { monotonic_ns: Some(NOW * 1_000_000_000), ..Waits::default() });
    sections
}

/// Puts a thread into a call.
fn call(sections: &mut Sections, tid: u32, number: u64, arguments: &[u64]) {
    let threads = &mut sections.threads.as_mut().unwrap().threads;
    let thread = threads.iter_mut().find(|thread| thread.tid == Tid(tid)).unwrap();
    let values = ARGUMENTS.iter().zip(arguments).map(|(number, value)| Register { number: *number, value: *value });
    let result = Register { number: 0, value: (-512i64).cast_unsigned() };
    let at = Register { number: 16, value: 0x40_0000 };
    let registers = thread.registers.get_or_insert_default();
    registers.values = values.chain([result, at]).collect();
    registers.system_call = Some(number);
}

fn memory(sections: &mut Sections, bytes: Vec<u8>) {
    sections.memory = Some(Memory { read: vec![(Address(AT), bytes)], unreadable: Vec::new() });
}

fn files(sections: &mut Sections, files: Vec<OpenFile>) {
    sections.waits.as_mut().unwrap().files = files;
}

fn file(descriptor: i32, target: &str) -> OpenFile {
    OpenFile { descriptor, target: target.into(), ..OpenFile::default() }
}

fn tcp(descriptor: i32, state: SocketState, remote: Option<Endpoint>) -> OpenFile {
    let local = Some(Endpoint { address: Bytes(vec![10, 0, 0, 5]), port: 40312 });
    let socket = Socket { protocol: SocketProtocol::TCP, state, local, remote, path: None };
    OpenFile { socket: Some(socket), ..file(descriptor, "socket:[7]") }
}

fn of_thread(sections: &Sections, tid: u32) -> Value {
    let report = value(&sections.snapshot());
    report["threads"].as_array().unwrap().iter().find(|thread| thread["tid"] == tid).unwrap().clone()
}

/// What thread 113 is said to wait for, in a call.
fn said(sections: &mut Sections, number: u64, arguments: &[u64]) -> String {
    call(sections, 113, number, arguments);
    of_thread(sections, 113)["syscall"]["text"].as_str().unwrap().to_owned()
}

/// The lines about the kernel in the text.
fn lines(sections: &Sections) -> Vec<String> {
    let mut out = Vec::new();
    text::write(&Report::of_snapshot(&sections.snapshot()), &Options::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().filter(|line| line.starts_with("    (Kernel) ")).map(str::to_owned).collect()
}

#[test]
fn a_system_call_is_the_same_in_whatever_order_the_sections_come() {
    const CLOCK_NANOSLEEP: u64 = 230;
    let mut sections = sections();
    call(&mut sections, 113, CLOCK_NANOSLEEP, &[1, 1, AT, 0, 0, 0]);
    memory(&mut sections, words(&[NOW + 7, 0]));
    // What was decoded by the time when pyst-grab has said all is not all there is.
    sections.diagnostics = vec![Diagnostics { stage: Stage::GRAB, items: Vec::new() }];
    let mut snapshot = sections.snapshot();
    let in_order = Report::of_snapshot(&snapshot);
    assert_eq!(lines(&sections), ["    (Kernel) clock_nanosleep(7 s left)"]);
    for _ in 0..snapshot.sections.len() {
        snapshot.sections.rotate_left(1);
        assert_eq!(Report::of_snapshot(&snapshot), in_order);
    }
}

#[test]
fn a_system_call_has_its_arguments_and_files() {
    let mut sections = sections();
    call(&mut sections, 113, 0, &[3, AT, 10, 0, 0, u64::MAX]);
    let remote = Endpoint { address: Bytes(vec![10, 0, 0, 9]), port: 5432 };
    files(&mut sections, vec![tcp(3, SocketState::ESTABLISHED, Some(remote))]);
    sections.waits.as_mut().unwrap().threads =
        vec![ThreadWait { tid: Tid(113), wait_channel: Some("wait_woken".into()), system_call: None }];
    let thread = of_thread(&sections, 113);
    assert_eq!(thread["wchan"], "wait_woken");
    let expected = json!({
        "number": 0, "name": "read", "restarted": false,
        "arguments": ["0x3", "0x7ffd0000", "0xa", "0x0", "0x0", "0xffffffffffffffff"],
        "files": [{
            "fd": 3, "path": "socket:[7]", "watches": null,
            "socket": {
                "protocol": "TCP", "state": "established", "local": "10.0.0.5:40312", "remote": "10.0.0.9:5432",
                "path": null
            }
        }],
        "more_files": false, "futex": null, "joins_tid": null, "timeout": null,
        "text": "read(3: TCP 10.0.0.5:40312 -> 10.0.0.9:5432 established)"
    });
    assert_eq!(thread["syscall"], expected);
    assert_eq!(lines(&sections), ["    (Kernel) read(3: TCP 10.0.0.5:40312 -> 10.0.0.9:5432 established)"]);
    assert!(of_thread(&sections, 112)["syscall"].is_null() && of_thread(&sections, 112)["wchan"].is_null());
}

#[test]
fn a_file_is_said_by_what_it_is() {
    let mut sections = sections();
    let unix = |state, path: Option<&str>| Socket {
        protocol: SocketProtocol::UNIX,
        state,
        path: path.map(Bytes::from),
        ..Socket::default()
    };
    let udp = Socket { protocol: SocketProtocol::UDP, state: SocketState::UNCONNECTED, ..Socket::default() };
    let six = Endpoint { address: Bytes([[0; 15].as_slice(), &[1]].concat()), port: 80 };
    let six =
        Socket { local: Some(six), protocol: SocketProtocol::TCP, state: SocketState::LISTENING, ..Socket::default() };
    let odd = Socket { local: Some(Endpoint { address: Bytes(vec![1; 5]), port: 1 }), ..Socket::default() };
    for (known, expected) in [
        (file(4, "/srv/a b"), "accept4(4: /srv/a b)"),
        (tcp(4, SocketState::LISTENING, None), "accept4(4: TCP 10.0.0.5:40312 listening)"),
        (OpenFile { socket: Some(six), ..file(4, "x") }, "accept4(4: TCP [::1]:80 listening)"),
        (
            OpenFile { socket: Some(unix(SocketState::LISTENING, Some("/run/x"))), ..file(4, "x") },
            "accept4(4: unix /run/x listening)",
        ),
        (
            OpenFile { socket: Some(unix(SocketState::ESTABLISHED, None)), ..file(4, "x") },
            "accept4(4: unix socket established)",
        ),
        (OpenFile { socket: Some(udp), ..file(4, "x") }, "accept4(4: UDP unconnected)"),
        (OpenFile { socket: Some(odd), ..file(4, "x") }, "accept4(4: code-0 code-0)"),
        (file(5, "/another"), "accept4(4)"),
    ] {
        files(&mut sections, vec![known]);
        assert_eq!(said(&mut sections, 288, &[4]), expected);
    }
    let long = format!("/{}/end", "x".repeat(5000));
    files(&mut sections, vec![file(4, &long)]);
    let text = said(&mut sections, 288, &[4]);
    assert!(text.starts_with("accept4(4: …x") && text.chars().count() < 150, "{text}");
    let path = &of_thread(&sections, 113)["syscall"]["files"][0]["path"];
    assert_eq!(path.as_str().unwrap().chars().count(), 4097, "cut as all names are");
}

#[test]
fn many_files_are_listed_and_not_described() {
    let mut sections = sections();
    let entries = |count: u64| words(&(3..3 + count).map(|fd| fd | 1 << 32).collect::<Vec<u64>>());
    files(&mut sections, vec![file(3, "pipe:[1]"), file(4, "pipe:[2]")]);
    memory(&mut sections, entries(100));
    let never = u64::from(u32::MAX);
    assert_eq!(said(&mut sections, 7, &[AT, 2, 1500]), "poll(3: pipe:[1], 4: pipe:[2]; timeout 1.5 s)");
    assert_eq!(said(&mut sections, 7, &[AT, 3, never]), "poll(3: pipe:[1], 4: pipe:[2], 5; no timeout)");
    assert_eq!(said(&mut sections, 7, &[AT, 5, never]), "poll(3, 4, 5, 6, 7; no timeout)");
    assert_eq!(said(&mut sections, 7, &[AT, 100, never]), "poll(3, 4, 5, 6, 7, 8, 9, 10, …; no timeout)");
    assert_eq!(of_thread(&sections, 113)["syscall"]["more_files"], true);
    assert_eq!(said(&mut sections, 7, &[1, 2, never]), "poll(files that are not known; no timeout)");
    let epoll = |watched: Vec<i32>| OpenFile { watched: Some(watched), ..file(5, "anon_inode:[eventpoll]") };
    files(&mut sections, vec![epoll(vec![7, 9])]);
    assert_eq!(said(&mut sections, 232, &[5, AT, 10, never]), "epoll_wait(5: watches 7, 9; no timeout)");
    files(&mut sections, vec![epoll(vec![])]);
    assert_eq!(said(&mut sections, 232, &[5, AT, 10, 250]), "epoll_wait(5: watches nothing; timeout 250 ms)");
    files(&mut sections, vec![epoll((1..60).collect())]);
    assert_eq!(
        said(&mut sections, 232, &[5, AT, 10, 0]),
        "epoll_wait(5: watches 1, 2, 3, 4, 5, 6, 7, 8, …; timeout 0 µs)"
    );
}

#[test]
fn a_deadline_is_what_is_left_to_it() {
    let mut sections = sections();
    memory(&mut sections, words(&[NOW + 4, 900_000_000]));
    assert_eq!(said(&mut sections, 230, &[1, 1, AT]), "clock_nanosleep(4.9 s left)");
    assert_eq!(of_thread(&sections, 113)["syscall"]["timeout"], json!({ "kind": "left", "ns": "4900000000" }));
    assert_eq!(said(&mut sections, 202, &[0x1000, 0x89, 0, AT]), "futex(0x1000; 4.9 s left)");
    assert_eq!(lines(&sections), ["    (Kernel) futex(0x1000; 4.9 s left)"]);
    assert_eq!(said(&mut sections, 230, &[1, 0, AT]), "clock_nanosleep(5004 s)");
    // It has passed; the clock is not known; a core has none.
    sections.waits.as_mut().unwrap().monotonic_ns = Some((NOW + 7) * 1_000_000_000);
    assert_eq!(said(&mut sections, 230, &[1, 1, AT]), "clock_nanosleep(0 µs left)");
    sections.waits.as_mut().unwrap().monotonic_ns = None;
    assert_eq!(said(&mut sections, 230, &[1, 1, AT]), "clock_nanosleep");
    // The realtime clock is when the snapshot was taken: 1,700,000,000.123456789.
    memory(&mut sections, words(&[1_700_000_060, 123_456_789]));
    assert_eq!(said(&mut sections, 202, &[0x1000, 0x189, 0, AT]), "futex(0x1000; 60 s left)");
    sections.capture.as_mut().unwrap().source = CaptureSource::CORE;
    assert_eq!(said(&mut sections, 202, &[0x1000, 0x189, 0, AT]), "futex(0x1000)");
}

#[test]
fn a_lock_that_nothing_is_known_of_takes_no_line() {
    let mut sections = sections();
    assert_eq!(said(&mut sections, 202, &[0x1000, 0x189, 0, 0]), "futex(0x1000; no timeout)");
    assert_eq!(lines(&sections), Vec::<String>::new());
}

#[test]
fn the_gil_is_named_and_takes_no_line_for_the_header_says_it() {
    let mut sections = sections();
    memory(&mut sections, words(&[NOW, 5_000_000]));
    sections.state(113).gil = Some(GilState::WAITING);
    assert_eq!(said(&mut sections, 202, &[0x1000, 0x89, 0, AT]), "futex(the GIL of interpreter 0; 5 ms left)");
    assert_eq!(lines(&sections), Vec::<String>::new());
}

#[test]
fn who_waits_for_the_end_of_a_thread_says_of_which() {
    let mut sections = sections();
    // glibc keeps the tid 720 bytes after the thread pointer; the kernel's comparison is with it.
    let at = ident(114) + 720;
    assert_eq!(said(&mut sections, 202, &[at, 0x109, 114, 0]), "futex(the end of thread 114; no timeout)");
    assert_eq!(lines(&sections), ["    (Kernel) futex(the end of thread 114; no timeout)"]);
    assert_eq!(of_thread(&sections, 113)["syscall"]["joins_tid"], 114);
    for (address, expected) in [(at, 115), (ident(114) + 4096, 114), (ident(112) - 1, 112), (0, 114)] {
        call(&mut sections, 113, 202, &[address, 0x109, expected, 0]);
        assert!(of_thread(&sections, 113)["syscall"]["joins_tid"].is_null(), "{address:#x} {expected}");
    }
}

#[test]
fn a_child_is_said_by_its_pid() {
    let mut sections = sections();
    let any = u64::from(u32::MAX);
    for (number, arguments, expected) in [
        (61, [1234, 0], "wait4(pid 1234)"),
        (61, [any, 0], "wait4(any child)"),
        (61, [0, 0], "wait4(its process group)"),
        (61, [any - 76, 0], "wait4(process group 77)"),
        (247, [0, 9], "waitid(any child)"),
        (247, [1, 9], "waitid(pid 9)"),
        (247, [2, 9], "waitid(process group 9)"),
        (247, [3, 9], "waitid(9)"),
        (247, [7, 9], "waitid"),
        (34, [0, 0], "pause"),
        (5000, [0, 0], "system call 5000"),
    ] {
        assert_eq!(said(&mut sections, number, &arguments), expected);
    }
}

#[test]
fn uninterruptible_sleep_says_where_in_the_kernel() {
    let mut sections = sections();
    sections.threads.as_mut().unwrap().threads[1].state = Some(b'D');
    assert_eq!(lines(&sections), ["    (Kernel) uninterruptible"]);
    let wait_channel = Some("folio_wait_bit_common".into());
    sections.waits.as_mut().unwrap().threads = vec![ThreadWait { tid: Tid(113), wait_channel, system_call: None }];
    assert_eq!(lines(&sections), ["    (Kernel) uninterruptible, in folio_wait_bit_common"]);
    call(&mut sections, 113, 0, &[3]);
    files(&mut sections, vec![file(3, "/net/x\n")]);
    assert_eq!(lines(&sections), [r"    (Kernel) read(3: /net/x\n) [uninterruptible, in folio_wait_bit_common]"]);
}

#[test]
fn a_thread_without_registers_has_the_call_that_proc_said() {
    let mut sections = sections();
    sections.threads.as_mut().unwrap().threads[1].registers = None;
    let arguments = vec![3, AT, 10, 0, 0, 0];
    let system_call = Some(SystemCall { number: 0, arguments, program_counter: Address(7) });
    sections.waits.as_mut().unwrap().threads = vec![ThreadWait { tid: Tid(113), wait_channel: None, system_call }];
    assert_eq!(of_thread(&sections, 113)["syscall"]["text"], "read(3)");
}

/// What is not asked for when `pyst-grab` has said its last is let go of; other writers say it earlier.
#[test]
fn what_is_waited_for_is_told_whenever_the_grab_has_said_its_last() {
    let mut sections = sections();
    for (tid, place) in [(112, AT), (113, AT + 0x1000)] {
        call(&mut sections, tid, 35, &[place, 0]);
    }
    let seconds = |seconds: u64| [seconds.to_le_bytes(), [0; 8]].concat();
    let mut snapshot = sections.snapshot();
    let untold = value(&snapshot);
    for (place, bytes) in [(AT, seconds(50)), (AT + 0x1000, [&seconds(70)[..], &[1; 9000]].concat())] {
        snapshot.append(&Memory { read: vec![(Address(place), bytes)], unreadable: Vec::new() }).unwrap();
    }
    let said = RawSection::of(&Diagnostics { stage: Stage::GRAB, items: Vec::new() }).unwrap();
    let expected = value(&snapshot);
    let timeouts = |report: &Value| [0, 1].map(|thread| report["threads"][thread]["syscall"]["timeout"].clone());
    assert_ne!(timeouts(&expected), timeouts(&untold));
    for place in 0..=snapshot.sections.len() {
        let mut told = snapshot.clone();
        told.sections.insert(place, said.clone());
        assert_eq!(value(&told), expected, "at {place}");
    }
    snapshot.sections.reverse();
    snapshot.sections.insert(0, said);
    assert_eq!(value(&snapshot), expected);
}
