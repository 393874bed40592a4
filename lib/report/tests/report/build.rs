//! Synthetic snapshots: what each stage would have written, by hand.

use pyst_snapshot::payload::*;
use pyst_snapshot::{Address, Bytes, Ident, Payload, Snapshot, Text, Tid};

/// The sections of a snapshot, to be changed before they are put together; an absent one is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections {
    pub(crate) capture: Option<Capture>,
    pub(crate) process: Option<Process>,
    pub(crate) threads: Option<Threads>,
    pub(crate) modules: Option<Modules>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) source: Option<Source>,
    pub(crate) native: Option<Native>,
    pub(crate) python: Option<Python>,
    pub(crate) variables: Option<Variables>,
    pub(crate) waits: Option<Waits>,
    pub(crate) memory: Option<Memory>,
    pub(crate) diagnostics: Vec<Diagnostics>,
}

impl Sections {
    pub(crate) fn snapshot(&self) -> Snapshot {
        fn add<P: Payload>(snapshot: &mut Snapshot, payload: &Option<P>) {
            if let Some(payload) = payload {
                snapshot.append(payload).unwrap();
            }
        }
        let mut snapshot = Snapshot::default();
        add(&mut snapshot, &self.capture);
        add(&mut snapshot, &self.process);
        add(&mut snapshot, &self.threads);
        add(&mut snapshot, &self.modules);
        add(&mut snapshot, &self.runtime);
        add(&mut snapshot, &self.source);
        add(&mut snapshot, &self.native);
        add(&mut snapshot, &self.python);
        add(&mut snapshot, &self.variables);
        add(&mut snapshot, &self.waits);
        add(&mut snapshot, &self.memory);
        for diagnostics in &self.diagnostics {
            snapshot.append(diagnostics).unwrap();
        }
        snapshot
    }

    /// The state of the thread with `tid`.
    pub(crate) fn state(&mut self, tid: u32) -> &mut PythonState {
        let states = &mut self.python.as_mut().unwrap().states;
        states.iter_mut().find(|state| state.tid == Some(Tid(tid))).unwrap()
    }

    /// The native stack of the thread with `tid`.
    pub(crate) fn stack(&mut self, tid: u32) -> &mut NativeStack {
        let stacks = &mut self.native.as_mut().unwrap().stacks;
        stacks.iter_mut().find(|stack| stack.tid == Tid(tid)).unwrap()
    }

    /// The place of one of its frames, which no other frame shares.
    pub(crate) fn place(&mut self, tid: u32, frame: usize) -> &mut NativePlace {
        let place = self.stack(tid).frames[frame].place as usize;
        &mut self.native.as_mut().unwrap().places[place]
    }
}

/// A living process 112 with three threads: the main one sorts a list with a key function that sleeps; a worker 113 waits
/// for a lock; 114 runs no Python.
pub(crate) fn living() -> Sections {
    Sections {
        capture: Some(capture(CaptureSource::LIVE)),
        process: Some(process()),
        threads: Some(Threads { threads: vec![thread(112, "python3"), thread(113, "worker"), thread(114, "io")] }),
        modules: Some(modules()),
        runtime: Some(runtime()),
        source: Some(source()),
        native: Some(native()),
        python: Some(python()),
        variables: None,
        waits: None,
        memory: None,
        diagnostics: Vec::new(),
    }
}

/// A core file of the same process, taken on demand.
pub(crate) fn core() -> Sections {
    let mut sections = living();
    sections.capture = Some(Capture { blocking: Blocking::NOT_APPLICABLE, ..capture(CaptureSource::CORE) });
    sections
}

pub(crate) fn capture(source: CaptureSource) -> Capture {
    Capture {
        tool: "pyst-grab 0.1.0".to_owned(),
        host: "build-7".to_owned(),
        kernel: "6.1".to_owned(),
        captured_at_ns: 1_700_000_000_123_456_789,
        source,
        blocking: Blocking::STOPPED,
        stopped_ns: (source == CaptureSource::LIVE).then_some(87_654),
        stopped_bytes: (source == CaptureSource::LIVE).then_some(20_480),
        complete: true,
        arch: Arch::X86_64,
        pointer_width: 8,
        little_endian: true,
        page_size: 4096,
        ..Capture::default()
    }
}

fn process() -> Process {
    Process {
        pid: 112,
        ppid: Some(100),
        pgrp: Some(112),
        sid: Some(90),
        uid: Some(0),
        gid: Some(0),
        state: Some(b'S'),
        zombie: Some(false),
        nice: Some(0),
        name: "python3".into(),
        exe: Some("/usr/bin/python3.12".into()),
        cmdline: vec!["/usr/bin/python3.12".into(), "/t/t1.py".into()],
        started_at_ns: Some(1_699_999_999_000_000_000),
        ..Process::default()
    }
}

fn thread(tid: u32, name: &str) -> Thread {
    let registers = Registers { thread_pointer: Some(Address(ident(tid))), ..Registers::default() };
    Thread {
        tid: Tid(tid),
        name: Some(name.into()),
        state: Some(b'S'),
        registers: Some(registers),
        ..Thread::default()
    }
}

/// Past 2^53, as pthread_self() may be.
pub(crate) fn ident(tid: u32) -> u64 {
    0x7f00_1234_5678_9000 + u64::from(tid)
}

fn modules() -> Modules {
    let module = |path: &str, id: &[u8]| Module {
        path: path.into(),
        build_id: Some(Bytes(id.to_vec())),
        file: ModuleFile::FOUND,
        ..Module::default()
    };
    Modules { modules: vec![module("/usr/bin/python3.12", b"\x00\xab\x0f"), module("/lib/libc.so.6", b"\x12")] }
}

fn runtime() -> Runtime {
    Runtime {
        found: Some(FoundRuntime {
            address: Address(0x55_0000),
            version_hex: 0x030c_01f0,
            debug: Some(false),
            found_by: RuntimeFoundBy::SECTION,
            version_found_by: VersionFoundBy::SYMBOL,
            module: Some(0),
            layout: "3.12.1".to_owned(),
            layout_source: LayoutSource::TABLE,
            ..FoundRuntime::default()
        }),
        tried: vec![],
    }
}

fn source() -> Source {
    let line = |line, text: &str| SourceLineV1 { line, text: text.to_owned() };
    let file = |name: &str, newer, lines| SourceFileV1 { file: name.into(), newer, lines };
    Source {
        files: vec![
            file("/t/t1.py", Some(false), vec![line(4, "    time.sleep(1000)"), line(9, "main()")]),
            file("/t/work.py", Some(true), vec![line(7, "\tqueue.get()  ")]),
        ],
    }
}

const FUNCTIONS: &[&str] = &[
    "_start",
    "pymain_main",
    "_PyEval_EvalFrameDefault",
    "_PyEval_Vector",
    "list_sort_impl",
    "time_sleep",
    "pysleep",
    "clock_nanosleep",
    "poll",
];

/// A native frame of 0x100 bytes at `sp`, and its place: the functions there, innermost first; all but the last are inlined.
fn frame(sp: u64, module: u32, calls: &[&str]) -> (NativeFrame, NativePlace) {
    let call = |(i, name): (usize, &&str)| NativeCallV1 {
        function: FUNCTIONS.iter().position(|function| function == name).unwrap() as u32,
        file: (*name == "pymain_main").then(|| "Modules/main.c".into()),
        line: (*name == "pymain_main").then_some(710),
        inlined: i + 1 < calls.len(),
    };
    let frame = NativeFrame {
        pc: Address(0x40_0000 + sp),
        sp: Address(sp),
        cfa: Some(Address(sp + 0x100)),
        found_by: FoundBy::CFI,
        ..NativeFrame::default()
    };
    (frame, NativePlace { module: Some(module), calls: calls.iter().enumerate().map(call).collect() })
}

fn native() -> Native {
    let mut main = vec![
        frame(0x1000, 1, &["clock_nanosleep"]),
        frame(0x1100, 0, &["pysleep", "time_sleep"]),
        frame(0x1200, 0, &["_PyEval_EvalFrameDefault"]),
        frame(0x1300, 0, &["_PyEval_Vector"]),
        frame(0x1400, 0, &["list_sort_impl"]),
        frame(0x1500, 0, &["_PyEval_EvalFrameDefault"]),
        frame(0x1600, 0, &["pymain_main"]),
        frame(0x1700, 0, &[]),
        frame(0x1800, 0, &["_start"]),
    ];
    main[0].0.found_by = FoundBy::CONTEXT;
    let worker = vec![frame(0x5000, 1, &["poll"]), frame(0x5100, 0, &["_PyEval_EvalFrameDefault"])];
    let mut io = vec![frame(0x9000, 1, &["poll"]), frame(0x9100, 0, &[])];
    io[1].1.module = None;
    let function = |name: &&str| NativeFunctionV1 { function: (*name).into(), raw_symbol: (*name).into() };
    let mut native = Native { functions: FUNCTIONS.iter().map(function).collect(), ..Native::default() };
    for (tid, frames, end) in
        [(112, main, StackEnd::COMPLETE), (113, worker, StackEnd::NO_CFI), (114, io, StackEnd::NO_MODULE)]
    {
        let mut stack = NativeStack { tid: Tid(tid), frames: Vec::new(), end };
        for (frame, place) in frames {
            stack.frames.push(NativeFrame { place: native.places.len() as u32, ..frame });
            native.places.push(place);
        }
        native.stacks.push(stack);
    }
    native
}

fn python() -> Python {
    let code = |function: &str, qualname: &str, file: &str| PythonCode {
        address: Address(0x7000),
        function: function.into(),
        qualname: Some(Text::from(qualname)),
        file: file.into(),
        first_line: Some(1),
    };
    let frame = |code, line| PythonFrame {
        code,
        line: Some(line),
        end_line: Some(line),
        column: Some(4),
        end_column: Some(20),
        instruction: Some(12),
        ..PythonFrame::default()
    };
    let run = |frames, anchor| PythonRun { frames, anchor: Some(Address(anchor)), anchor_kind: AnchorKind::SHIM_FRAME };
    let state = |tid, frames, runs| PythonState {
        address: Address(0x8000 + u64::from(tid)),
        interpreter: 0,
        ident: Ident(ident(tid)),
        native_thread_id: Some(u64::from(tid)),
        tid: Some(Tid(tid)),
        frames,
        runs,
        end: FrameChainEnd::COMPLETE,
        gil: Some(if tid == 112 { GilState::HOLDING } else { GilState::WAITING }),
        gc_collecting: Some(tid == 112),
        name: Some(Text::from(if tid == 112 { "MainThread" } else { "Thread-1 (work)" })),
        daemon: Some(tid != 112),
        attachment: Some(if tid == 112 { Attachment::ATTACHED } else { Attachment::DETACHED }),
        exception: None,
    };
    let interpreter = InterpreterV1 {
        address: Address(0x6000),
        gil_holder: Some(Address(0x8000 + 112)),
        gc_collecting: Some(true),
        ..InterpreterV1::default()
    };
    Python {
        phase: RuntimePhase::RUNNING,
        interpreters: vec![interpreter],
        codes: vec![
            code("<module>", "<module>", "/t/t1.py"),
            code("main", "main", "/t/t1.py"),
            code("key", "main.<locals>.key", "/t/t1.py"),
            code("run", "Worker.run", "/t/work.py"),
        ],
        states: vec![
            state(113, vec![frame(3, 7)], vec![run(1, 0x51f0)]),
            state(112, vec![frame(2, 4), frame(1, 6), frame(0, 9)], vec![run(1, 0x12f0), run(2, 0x15f0)]),
        ],
    }
}
