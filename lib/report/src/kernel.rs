//! What threads wait for in the kernel: system calls with what their arguments name.

mod text;

pub(crate) use text::line;

use crate::cut::shortened;
use crate::model::{OpenFile, Socket, SystemCall, Thread, Timeout};
use crate::sections::Sections;
use crate::words::{Decimal, Hex, Word};
use pyst_kernel::{Call, Clock};
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::{CaptureSource, GilState};
use pyst_snapshot::{Address, Bytes, Tid};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// From its thread pointer on, where a C library keeps what a thread is joined by.
const THREAD_STRUCTURE: u64 = 4096;

/// What a snapshot says of waits.
pub(crate) struct Kernel<'a> {
    calls: &'a BTreeMap<Tid, Call>,
    channels: BTreeMap<Tid, &'a Bytes>,
    files: BTreeMap<i32, OpenFile>,
    /// Thread pointers, each with its thread's tid, and that in its own pid namespace.
    pointers: BTreeMap<u64, (u32, u32)>,
    realtime: Option<u64>,
    monotonic: Option<u64>,
}

impl<'a> Kernel<'a> {
    pub(crate) fn of_sections(sections: &'a Sections) -> Kernel<'a> {
        let waits = &sections.waits;
        let channel = |wait: &'a wire::ThreadWait| Some((wait.tid, wait.wait_channel.as_ref()?));
        let pointer = |thread: &wire::Thread| {
            let pointer = thread.registers.as_ref()?.thread_pointer?;
            Some((pointer.0, (thread.tid.0, thread.namespace_tid.unwrap_or(thread.tid.0))))
        };
        // A core file has no clock: what it is dated may be when it was copied.
        let live = sections.capture.as_ref().filter(|capture| capture.source == CaptureSource::LIVE);
        Kernel {
            calls: &sections.calls,
            channels: waits.threads.iter().filter_map(channel).collect(),
            files: waits.files.iter().map(|file| (file.descriptor, open_file(file))).collect(),
            pointers: sections.threads.threads.iter().filter_map(pointer).collect(),
            realtime: live.and_then(|capture| u64::try_from(capture.captured_at_ns).ok()),
            monotonic: live.and(waits.monotonic_ns),
        }
    }

    /// Adds what is known of a thread's wait.
    pub(crate) fn add_to(&self, thread: &mut Thread) {
        let Some(tid) = thread.tid.map(Tid) else { return };
        thread.wchan = self.channels.get(&tid).map(|name| shortened(name.escaped()));
        thread.syscall = self.calls.get(&tid).map(|call| {
            let mut known = self.system_call(call);
            known.text = text::of_call(call, &known, gil(thread));
            known
        });
    }

    fn system_call(&self, call: &Call) -> SystemCall {
        let files = call.files.descriptors.iter();
        let files = files.map(|fd| self.files.get(fd).cloned().unwrap_or(OpenFile { fd: *fd, ..OpenFile::default() }));
        SystemCall {
            number: call.number,
            name: call.name,
            arguments: call.arguments.iter().map(|value| value.map(|value| Hex(Address(value)))).collect(),
            restarted: call.restarted,
            files: files.collect(),
            more_files: call.files.more,
            futex: call.futex.map(Hex),
            joins_tid: self.joined(call),
            timeout: call.timeout.and_then(|timeout| self.timeout(timeout)),
            text: String::new(),
        }
    }

    /// Who waits for a thread to end sleeps until its id, which lies in the structure that its thread pointer points to, is no
    /// more what it was.
    fn joined(&self, call: &Call) -> Option<u32> {
        let futex = call.futex?;
        let (pointer, (tid, namespace_tid)) = self.pointers.range(..=futex.0).next_back()?;
        let expected = (*call.arguments.get(2)?)? & 0xffff_ffff;
        (futex.0.checked_sub(*pointer)? < THREAD_STRUCTURE && expected == u64::from(*namespace_tid)).then_some(*tid)
    }

    fn timeout(&self, timeout: pyst_kernel::Timeout) -> Option<Timeout> {
        use pyst_kernel::Timeout::{Given, Left, Never, Until};
        let (kind, ns) = match timeout {
            Never => ("never", None),
            Given(ns) => ("given", Some(ns)),
            Left(ns) => ("left", Some(ns)),
            Until(Clock::Realtime, end) => ("left", Some(end.saturating_sub(self.realtime?))),
            Until(Clock::Monotonic, end) => ("left", Some(end.saturating_sub(self.monotonic?))),
        };
        Some(Timeout { kind, ns: ns.map(Decimal) })
    }
}

/// The interpreter whose GIL a thread waits for.
fn gil(thread: &Thread) -> Option<Option<i64>> {
    let waits = |gil: &Word<GilState>| matches!(gil.0, GilState::WAITING | GilState::DROPPING);
    let state = thread.python_states.iter().find(|state| state.gil.as_ref().is_some_and(waits))?;
    Some(state.interpreter_id)
}

fn open_file(file: &wire::OpenFile) -> OpenFile {
    OpenFile {
        fd: file.descriptor,
        path: Some(shared(&file.target)),
        socket: file.socket.as_ref().map(socket),
        watches: file.watched.clone(),
    }
}

fn socket(socket: &wire::Socket) -> Socket {
    Socket {
        protocol: Word(socket.protocol),
        state: Word(socket.state),
        local: socket.local.as_ref().and_then(endpoint),
        remote: socket.remote.as_ref().and_then(endpoint),
        path: socket.path.as_ref().map(shared),
    }
}

fn endpoint(endpoint: &wire::Endpoint) -> Option<String> {
    let bytes = endpoint.address.0.as_slice();
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
    Some(SocketAddr::new(address, endpoint.port).to_string())
}

fn shared(text: &Bytes) -> Arc<str> {
    shortened(text.escaped()).into()
}
