//! What text says before the threads of a core file: the executable, the process, and why it died.

use super::paint::Paint;
use crate::model::{Process, Report, Signal};
use crate::signals;
use pyst_snapshot::Safe;
use pyst_snapshot::payload::CaptureSource;
use std::fmt::Display;
use std::io::{self, Write};

/// `si_code` of a fault for which the processor gives the kernel no address (`SI_KERNEL`), as for one that is not canonical.
const SI_KERNEL: i32 = 0x80;

/// Writes the header, with an empty line after it, if the report is of a core file.
pub(super) fn write(report: &Report, paint: &Paint, out: &mut impl Write) -> io::Result<()> {
    if report.snapshot.source.map(|source| source.0) != Some(CaptureSource::CORE) {
        return Ok(());
    }
    let Some(process) = &report.process else { return Ok(()) };
    if let Some(exe) = &process.exe {
        let found = process.exe_found.as_deref().unwrap_or("for the core file");
        writeln!(out, "Using executable found {}: {}\n", Safe(found), paint.file(Safe(exe)))?;
    }
    write_process(process, out)?;
    writeln!(out, "\n{}\n", paint.reason(reason(process.signal.as_ref())))
}

fn write_process(process: &Process, out: &mut impl Write) -> io::Result<()> {
    let Process { state, zombie, nice, pid, ppid, sid, uid, gid, pgrp, .. } = process;
    let state = state.as_deref().unwrap_or(UNKNOWN);
    // Python's words for truth values: the line is one that PyStack's users parse.
    let zombie = zombie.map(|zombie| if zombie { "True" } else { "False" });
    writeln!(out, "Core file information:")?;
    writeln!(out, "state: {} zombie: {} niceness: {}", Safe(state), or_unknown(zombie), or_unknown(*nice))?;
    writeln!(out, "pid: {pid} ppid: {} sid: {}", or_unknown(*ppid), or_unknown(*sid))?;
    writeln!(out, "uid: {} gid: {} pgrp: {}", or_unknown(*uid), or_unknown(*gid), or_unknown(*pgrp))?;
    writeln!(out, "executable: {} arguments: {}", Safe(&process.name), Safe(&process.cmdline.join(" ")))
}

const UNKNOWN: &str = "unknown";

fn or_unknown(value: Option<impl Display>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

fn reason(signal: Option<&Signal>) -> String {
    let Some(signal) = signal else {
        return "The core file seems to have been generated on demand (the process did not crash)".to_owned();
    };
    let name = signal.name.clone().unwrap_or_else(|| signal.number.to_string());
    match (signal.sender_pid, signal.fault_address) {
        (Some(sender), _) => format!("The process died due receiving signal {name} sent by pid {sender}"),
        (None, _) if signal.number == signals::SIGSEGV && signal.code == SI_KERNEL => {
            "The process died due a segmentation fault (the processor gave no address)".to_owned()
        }
        (None, Some(address)) if signal.number == signals::SIGSEGV => {
            format!("The process died due a segmentation fault accessing address: {}", address.0)
        }
        (None, Some(address)) => format!("The process died due receiving signal {name} at address: {}", address.0),
        (None, None) => format!("The process died due receiving signal {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Hex;
    use pyst_snapshot::Address;

    fn signal(number: i32, code: i32, sender_pid: Option<u32>, fault: Option<u64>) -> String {
        let name = signals::name(number).map(|name| name.into_owned());
        let fault_address = fault.map(|address| Hex(Address(address)));
        reason(Some(&Signal { number, name, code, tid: 1, sender_pid, sender_uid: None, fault_address }))
    }

    #[test]
    fn each_way_to_die_has_its_line() {
        assert_eq!(signal(6, -6, Some(15430), None), "The process died due receiving signal SIGABRT sent by pid 15430");
        assert_eq!(
            signal(11, 1, None, Some(0x1234)),
            "The process died due a segmentation fault accessing address: 0x1234"
        );
        assert_eq!(signal(11, 0, Some(7), None), "The process died due receiving signal SIGSEGV sent by pid 7");
        assert_eq!(signal(7, 2, None, Some(0x10)), "The process died due receiving signal SIGBUS at address: 0x10");
        assert_eq!(signal(99, 0, None, None), "The process died due receiving signal 99");
        assert_eq!(reason(None), "The core file seems to have been generated on demand (the process did not crash)");
    }

    #[test]
    fn a_fault_without_an_address_is_not_said_to_be_at_0() {
        assert!(!signal(11, SI_KERNEL, None, Some(0)).contains("0x0"));
    }
}
