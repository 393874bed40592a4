//! The one thing that a stop does to a target: some system calls do not go on after it, but return EINTR.
//!
//! The kernel goes on with most of them by itself when the thread runs again. Of those that it does not, the result in a stopped
//! thread's registers is EINTR already: `epoll_wait`, `semop`, `rt_sigtimedwait`, `recvfrom` with SO_RCVTIMEO, and a few more;
//! signal(7) lists them under "Interruption of system calls and library functions by stop signals". What a signal interrupts looks
//! different: what becomes of such a call is decided when its handler is called.

use super::LIVE_ARCH;
use pyst_kernel::Call;
use pyst_memory::Memory;
use pyst_snapshot::payload::{Diagnostic, Severity, Thread};
use std::borrow::Cow;

/// The DWARF number of the register that has a call's result, on x86_64 (rax) and on aarch64 (x0).
const RESULT: u16 = 0;

/// The threads whose call returns EINTR because of the stop that brought these registers.
pub(super) fn diagnostics(threads: &[Thread], memory: &dyn Memory) -> Vec<Diagnostic> {
    threads.iter().filter_map(|thread| diagnostic(thread, memory)).collect()
}

fn diagnostic(thread: &Thread, memory: &dyn Memory) -> Option<Diagnostic> {
    let result = thread.registers.as_ref()?.get(RESULT)?.cast_signed();
    // A call of a process that was stopped before (SIGSTOP) was interrupted then.
    if result != -i64::from(nix::libc::EINTR) || thread.state == Some(b'T') {
        return None;
    }
    let call = Call::of(thread, None, LIVE_ARCH, memory)?;
    let name = call.name.map_or_else(|| Cow::from(format!("system call {}", call.number)), Cow::from);
    // Without the thread's id, so that threads share the message.
    let message = format!(
        "the stop made its {name} return EINTR: Python calls again by itself; C code that takes it for a failure must be \
         looked at, or spared with --no-block"
    );
    Some(Diagnostic::new(Severity::INFO, "interrupted-call", message).on(thread.tid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_memory::Image;
    use pyst_snapshot::payload::{Register, Registers};
    use pyst_snapshot::{Address, Tid};

    const CODE: Address = Address(0x1000);

    /// A thread behind the instruction that makes a system call, with this result.
    fn thread(number: u64, result: i64, state: u8) -> (Thread, Image<'static>) {
        let (pc, of_number) = if cfg!(target_arch = "aarch64") { (32, 8) } else { (16, u16::MAX) };
        let mut values: Vec<Register> = (0..=pc).map(|number| Register { number, value: 0 }).collect();
        for value in &mut values {
            match value.number {
                RESULT => value.value = result.cast_unsigned(),
                n if n == pc => value.value = CODE.0 + 4,
                n if n == of_number => value.value = number,
                _ => {}
            }
        }
        let registers = Registers { values, thread_pointer: None, system_call: Some(number) };
        let mut image = Image::new();
        // `svc #0`, which aarch64 must have there.
        image.extend([(CODE, vec![0x01, 0x00, 0x00, 0xd4, 0, 0, 0, 0].into())]);
        (Thread { tid: Tid(7), state: Some(state), registers: Some(registers), ..Thread::default() }, image)
    }

    #[test]
    fn a_call_whose_result_is_eintr_is_named() {
        let semtimedop = if cfg!(target_arch = "aarch64") { 192 } else { 220 };
        let (waiting, memory) = thread(semtimedop, -4, b'S');
        let found = diagnostics(&[waiting], &memory);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("semtimedop") && found[0].tid == Some(Tid(7)), "{found:?}");
        let (unknown, memory) = thread(4000, -4, b'S');
        assert!(diagnostics(&[unknown], &memory)[0].message.contains("system call 4000"));
    }

    #[test]
    fn calls_that_go_on_or_were_interrupted_before_are_not() {
        // ERESTARTSYS, ERESTARTNOHAND, ERESTART_RESTARTBLOCK; a result that is none.
        for (result, state) in [(-512, b'S'), (-514, b'S'), (-516, b'S'), (0, b'S'), (-4, b'T')] {
            let (thread, memory) = thread(35, result, state);
            assert_eq!(diagnostics(&[thread], &memory), [], "{result}");
        }
    }
}
