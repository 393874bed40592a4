//! Ctrl-C while work is done bit by bit: what has been done is kept. The first SIGINT or SIGTERM asks for an end, between two
//! bits; a second one ends the tool as it would have ended without this.

use nix::sys::signal::{SigSet, Signal, raise};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// The watch for these signals.
pub struct Interrupt {
    signals: Receiver<Signal>,
    caught: Option<Signal>,
}

impl Interrupt {
    /// Begins to watch. Threads that were started before may be ended by a signal still.
    #[must_use]
    pub fn watch() -> Interrupt {
        let watched: SigSet =
            [Signal::SIGINT, Signal::SIGTERM].into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let (caught, signals) = mpsc::channel();
        if watched.thread_block().is_ok() {
            let watch = move || {
                // Others, too, are waited for by name: one of a capture's threads waits for SIGCHLD.
                let _ = SigSet::all().thread_block();
                let Ok(first) = watched.wait() else { return };
                if caught.send(first).is_err() {
                    return;
                }
                let Ok(second) = watched.wait() else { return };
                let _ = watched.thread_unblock();
                let _ = raise(second);
            };
            // Without the thread, nothing would ever end this tool but SIGKILL.
            if std::thread::Builder::new().name("signals".to_owned()).spawn(watch).is_err() {
                let _ = watched.thread_unblock();
            }
        }
        Interrupt { signals, caught: None }
    }

    /// The name of the signal that asked for an end.
    pub fn caught(&mut self) -> Option<&'static str> {
        self.wait(Duration::ZERO)
    }

    /// The same, after waiting for it no longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<&'static str> {
        if self.caught.is_none() {
            match self.signals.recv_timeout(limit) {
                Ok(signal) => self.caught = Some(signal),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(limit),
            }
        }
        self.caught.map(Signal::as_str)
    }
}

/// Whether a signal shall not end this process, as in the background of a shell script, or under nohup. Blocked, it would wait.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_ignores_for_its_background_is_left_alone() {
        // Rust ignores it for every program.
        assert!(is_ignored(Signal::SIGPIPE) && !is_ignored(Signal::SIGTERM));
    }
}
