//! Random damage to every section: a report comes out, valid, and its text drives no terminal.

use crate::build::{Sections, core, living};
use pyst_report::json::{self, Layout};
use pyst_report::text::{self, Options};
use pyst_report::{Assembly, Report, schema};
use pyst_snapshot::payload::*;
use pyst_snapshot::{Address, Bytes, Ident, Snapshot, Text, Tid};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number near an edge, or any.
    fn number(&mut self) -> u64 {
        let edges = [0, 1, 2, 0x1200, 0x1500, u64::from(u32::MAX), i64::MAX as u64, i64::MIN as u64, u64::MAX];
        match self.below(3) {
            0 => self.next(),
            1 => edges[self.below(edges.len() as u64) as usize],
            _ => self.below(16),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let pieces: [&[u8]; 8] =
            [b"\x1b[2J", b"\n", b"Traceback for thread", b"\xed\xb3\xbf", b"\xff", b"\xe2\x80\xae", b"\0", b"\xc2\x9b"];
        let mut bytes = Vec::new();
        for _ in 0..self.below(4) {
            bytes.extend(pieces[self.below(8) as usize]);
        }
        if self.one_in(50) {
            bytes = b"\xe2\x80\xae".repeat(3000);
        }
        bytes
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

fn damage(sections: &mut Sections, random: &mut Random) {
    if let Some(process) = &mut sections.process {
        process.pid = if random.one_in(4) { random.number() as u32 } else { process.pid };
        process.name = Bytes(random.bytes());
        process.state = Some(random.next() as u8);
        process.started_at_ns = Some(random.number() as i64);
        process.exe_found = random.text();
        process.cmdline.push(Bytes(random.bytes()));
        process.signal = random.one_in(2).then(|| Signal {
            number: random.number() as i32,
            code: random.number() as i32,
            fault_address: random.one_in(2).then(|| Address(random.number())),
            sender_pid: random.one_in(2).then(|| random.number() as u32),
            ..Signal::default()
        });
    }
    if let Some(threads) = &mut sections.threads {
        for thread in &mut threads.threads {
            thread.crashed = random.one_in(3);
            thread.name = random.one_in(2).then(|| Bytes(random.bytes()));
            thread.tid = if random.one_in(4) { Tid(random.number() as u32) } else { thread.tid };
        }
    }
    if let Some(source) = &mut sections.source {
        source.files[0].lines[0].text = random.text();
        source.files[0].lines[0].line = random.number() as u32;
    }
    if let Some(native) = &mut sections.native {
        let function = random.below(native.functions.len() as u64) as usize;
        native.functions[function].function = Text(random.bytes());
        native.functions[function].raw_symbol = Bytes(random.bytes());
        for place in &mut native.places {
            match random.below(8) {
                0 => place.module = Some(random.number() as u32),
                1 => place.calls.iter_mut().for_each(|call| call.function = random.number() as u32),
                _ => {}
            }
        }
        for stack in &mut native.stacks {
            stack.end = StackEnd(random.number() as u16);
            stack.tid = if random.one_in(6) { Tid(random.number() as u32) } else { stack.tid };
            for frame in &mut stack.frames {
                match random.below(8) {
                    0 => frame.sp = Address(random.number()),
                    1 => frame.cfa = Some(Address(random.number())),
                    2 => frame.cfa = None,
                    3 => frame.place = random.number() as u32,
                    4 => frame.found_by = FoundBy(random.number() as u16),
                    _ => {}
                }
            }
        }
    }
    if let Some(python) = &mut sections.python {
        python.phase = RuntimePhase(random.number() as u16);
        python.codes[2].function = Text(random.bytes());
        python.codes[2].file = Text(random.bytes());
        python.interpreters[0].id = random.number() as i64;
        let copy = python.states[random.below(2) as usize].clone();
        python.states.push(copy);
        for state in &mut python.states {
            state.ident = Ident(random.number());
            state.end = FrameChainEnd(random.number() as u16);
            state.interpreter = random.below(3) as u32;
            state.tid = match random.below(4) {
                0 => None,
                1 => Some(Tid(random.number() as u32)),
                _ => state.tid,
            };
            state.exception = random.one_in(2).then(|| PythonException {
                type_name: random.text(),
                message: random.one_in(2).then(|| Text(random.bytes())),
                repr: random.one_in(2).then(|| random.text()),
                truncated: random.one_in(2),
                raised: random.one_in(2).then(|| Raised {
                    code: random.below(4) as u32,
                    line: random.one_in(2).then(|| random.number() as u32),
                }),
            });
            for run in &mut state.runs {
                run.frames = if random.one_in(3) { random.number() as u32 } else { run.frames };
                run.anchor = random.one_in(2).then(|| Address(random.number()));
                run.anchor_kind = AnchorKind(random.number() as u16);
            }
            for frame in &mut state.frames {
                frame.code = if random.one_in(3) { random.number() as u32 } else { frame.code };
                frame.line = random.one_in(2).then(|| random.number() as u32);
            }
        }
    }
    damage_waits(sections, random);
    let item = Diagnostic {
        tid: Some(Tid(random.number() as u32)),
        ..Diagnostic::new(Severity(random.number() as u16), &random.text(), random.text())
    };
    sections.diagnostics.push(Diagnostics { stage: Stage(random.number() as u16), items: vec![item] });
}

/// Whatever a thread may be said to wait for.
fn damage_waits(sections: &mut Sections, random: &mut Random) {
    for thread in sections.threads.iter_mut().flat_map(|threads| &mut threads.threads) {
        let registers = (0..17).map(|number| Register { number, value: random.number() }).collect();
        let result = Register { number: 0, value: (-512i64).cast_unsigned() };
        let values = [vec![result], registers].concat();
        let system_call = Some(random.below(300));
        thread.registers = random.one_in(2).then(|| Registers { values, system_call, ..Registers::default() });
    }
    let endpoint = |random: &mut Random| Endpoint { address: Bytes(random.bytes()), port: random.number() as u16 };
    let file = |random: &mut Random| OpenFile {
        descriptor: random.below(16) as i32,
        target: Bytes(random.bytes()),
        socket: random.one_in(2).then(|| Socket {
            protocol: SocketProtocol(random.number() as u16),
            state: SocketState(random.number() as u16),
            local: random.one_in(2).then(|| endpoint(random)),
            remote: random.one_in(2).then(|| endpoint(random)),
            path: random.one_in(2).then(|| Bytes(random.bytes())),
        }),
        watched: random.one_in(3).then(|| vec![random.number() as i32; random.below(100) as usize]),
    };
    let wait = |tid: u32, random: &mut Random| ThreadWait {
        tid: Tid(tid),
        wait_channel: random.one_in(2).then(|| Bytes(random.bytes())),
        system_call: random.one_in(2).then(|| SystemCall {
            number: random.number(),
            arguments: vec![random.number(); random.below(8) as usize],
            program_counter: Address(random.number()),
        }),
    };
    let threads = (112..115).map(|tid| wait(tid, random)).collect();
    let files = (0..random.below(8)).map(|_| file(random)).collect();
    let monotonic_ns = random.one_in(2).then(|| random.number());
    sections.waits = Some(Waits { monotonic_ns, threads, files });
    let start = if random.one_in(2) { 0 } else { random.number() };
    sections.memory =
        Some(Memory { read: vec![(Address(start), vec![random.next() as u8; 600])], unreadable: Vec::new() });
}

fn flip_bytes(snapshot: &mut Snapshot, random: &mut Random) {
    for section in &mut snapshot.sections {
        if random.one_in(3) && !section.payload.is_empty() {
            let at = random.below(section.payload.len() as u64) as usize;
            section.payload[at] ^= 1 << random.below(8);
        }
        if random.one_in(10) {
            section.payload.truncate(random.below(section.payload.len() as u64 + 1) as usize);
        }
    }
}

#[test]
fn no_damage_stops_a_report_or_gets_through_to_the_terminal() {
    let seed = match std::env::var("PYST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed,
        None => std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1,
    };
    println!("PYST_SEED={seed}");
    let mut random = Random(seed);
    let schema = jsonschema::validator_for(&schema::schema()).unwrap();
    for case in 0..1500 {
        let mut sections = if random.one_in(2) { living() } else { core() };
        damage(&mut sections, &mut random);
        let mut snapshot = sections.snapshot();
        if random.one_in(2) {
            flip_bytes(&mut snapshot, &mut random);
        }
        let report = Report::of_snapshot(&snapshot);
        check_text(&report, &mut random);
        let mut out = Vec::new();
        json::write(&report, Layout::Line, &mut out).unwrap();
        let decoded = pyst_report::Sections::of_snapshot(snapshot);
        let mut one_by_one = Vec::new();
        json::write_assembly(&Assembly::of_sections(&decoded), Layout::Line, &mut one_by_one).unwrap();
        assert_eq!(out, one_by_one, "case {case}");
        let value = serde_json::from_slice(&out).unwrap();
        let error = schema.iter_errors(&value).next().map(|error| error.to_string());
        assert_eq!(error, None, "case {case}");
    }
}

fn check_text(report: &Report, random: &mut Random) {
    let options = Options {
        all_threads: random.one_in(2),
        native_internals: random.one_in(2),
        native_last: random.one_in(2),
        color: false,
        snapshot: random.one_in(2).then_some(usize::MAX),
    };
    let mut out = Vec::new();
    text::write(report, &options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
    let headers = text.lines().filter(|line| line.starts_with("Traceback for thread")).count();
    assert!(headers <= report.threads.len());
    if options.all_threads {
        let empty = text.lines().filter(|line| line.starts_with("The frame stack for thread")).count();
        assert_eq!(headers + empty, report.threads.len());
    }
}

/// A time that grew with the product of both counts would be hours here.
#[test]
fn many_overlapping_frames_and_many_states_take_no_time_to_speak_of() {
    const COUNT: u32 = 40_000;
    let mut sections = living();
    let frame = |i: u32| NativeFrame {
        sp: Address(u64::from(i)),
        cfa: Some(Address(u64::from(2 * COUNT - i))),
        ..NativeFrame::default()
    };
    sections.stack(112).frames = (0..COUNT).map(frame).collect();
    let run = |i: u32| PythonRun { frames: 1, anchor: Some(Address(u64::from(i))), ..PythonRun::default() };
    let template = sections.state(112).clone();
    sections.state(112).runs = (0..COUNT).map(run).collect();
    sections.state(112).frames = vec![template.frames[0]; COUNT as usize];
    let python = sections.python.as_mut().unwrap();
    python.interpreters =
        (0..COUNT).map(|id| InterpreterV1 { id: i64::from(id), ..InterpreterV1::default() }).collect();
    let idle = |interpreter| PythonState {
        interpreter,
        end: FrameChainEnd::LOOP,
        frames: vec![],
        runs: vec![],
        ..template.clone()
    };
    python.states.extend((1..COUNT).map(idle));
    let start = std::time::Instant::now();
    let report = Report::of_snapshot(&sections.snapshot());
    check_text(&report, &mut Random(1));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
