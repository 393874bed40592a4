//! A line on the terminal that says what is going on, once that takes longer than a second: rewritten in place, and erased before
//! anything else is said. On standard error that is no terminal there is none.
//!
//! In a pipe the tools share one terminal, and the last one writes to it as soon as a snapshot has come through. So a tool that has
//! passed one on is silent from then on.

use nix::sys::signal::SigSet;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What takes no longer is not spoken of.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line is not rewritten more often.
const REWRITE: Duration = Duration::from_millis(100);

/// A line that is broken by the terminal cannot be erased.
const WIDTH: usize = 79;

/// The line of one tool.
pub struct Progress {
    tool: &'static str,
    shared: Option<Arc<Shared>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// When there was something to say for the first time.
    since: Option<Instant>,
    text: Option<String>,
    /// When what is waited for comes.
    until: Option<Instant>,
    shown: String,
    written: Option<Instant>,
    is_silent: bool,
    has_ended: bool,
}

impl Progress {
    /// The line of `tool`, if there is a terminal to write it to.
    #[must_use]
    pub fn of(tool: &'static str) -> Progress {
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let shared = (stderr().is_terminal() && !is_dumb).then(Arc::default);
        Progress { tool, shared, writer: Mutex::default() }
    }

    /// Says what is going on from now on.
    pub fn say(&self, what: impl FnOnce() -> String) {
        self.set(what, None);
    }

    /// Says what is waited for, and how long still.
    pub fn say_until(&self, until: Instant, what: impl FnOnce() -> String) {
        self.set(what, Some(until));
    }

    fn set(&self, what: impl FnOnce() -> String, until: Option<Instant>) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.lock();
        if state.is_silent {
            return;
        }
        state.text = Some(format!("{}: {}", self.tool, what()));
        state.until = until;
        state.since.get_or_insert_with(Instant::now);
        shared.changed.notify_one();
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            let shared = Arc::clone(shared);
            let write = move || shared.write_lines();
            *writer = std::thread::Builder::new().name("progress".to_owned()).spawn(write).ok();
        }
    }

    /// Erases the line until there is something new to say: something else is about to be written.
    pub fn pause(&self) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            state.text = None;
            state.show("");
        }
    }

    /// Erases the line for good.
    pub fn end(&self) {
        if let Some(shared) = &self.shared {
            self.pause();
            shared.lock().is_silent = true;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
        let Some(shared) = &self.shared else { return };
        shared.lock().has_ended = true;
        shared.changed.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = writer.map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self) {
        // Signals are for others: one of a capture's threads waits for them.
        let _ = SigSet::all().thread_block();
        let mut state = self.lock();
        while !state.has_ended {
            let now = Instant::now();
            let limit = match state.due(now) {
                Some(due) if due <= now => {
                    let line = state.line(now);
                    state.show(&line);
                    state.written = Some(now);
                    if state.until.is_some() { REWRITE } else { Duration::MAX }
                }
                Some(due) => due.duration_since(now),
                None => Duration::MAX,
            };
            let waited = self.changed.wait_timeout(state, limit.min(Duration::from_secs(3600)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    /// When the line is to be written.
    fn due(&self, now: Instant) -> Option<Instant> {
        self.text.as_ref()?;
        let patience = self.since? + PATIENCE;
        let rewrite = self.written.map_or(now, |written| written + REWRITE);
        Some(patience.max(rewrite))
    }

    fn line(&self, now: Instant) -> String {
        let mut line = self.text.clone().unwrap_or_default();
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(now).as_millis().div_ceil(1000);
            line.push_str(&format!(", next in {left} s"));
        } else {
            line.push('…');
        }
        // What a target is called may be anything.
        let line: String = line.chars().map(|one| if one.is_control() { '?' } else { one }).collect();
        match line.char_indices().nth(WIDTH) {
            Some(_) => line.chars().take(WIDTH - 1).chain(['…']).collect(),
            None => line,
        }
    }

    /// Replaces what is shown.
    fn show(&mut self, line: &str) {
        if self.shown != line {
            let mut err = stderr().lock();
            let _ = write!(err, "\r{line}\x1b[K").and_then(|()| err.flush());
            line.clone_into(&mut self.shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str, until: Option<Instant>) -> State {
        State { text: Some(text.to_owned()), until, ..State::default() }
    }

    #[test]
    fn a_line_fits_and_cannot_drive_the_terminal() {
        let now = Instant::now();
        assert_eq!(state("capture 3 of 10", None).line(now), "capture 3 of 10…");
        let until = Some(now + Duration::from_millis(3200));
        assert_eq!(state("3 of 10", until).line(now), "3 of 10, next in 4 s");
        assert_eq!(state("evil\x1b[2J\r", None).line(now), "evil?[2J?…");
        let long = state(&"ä".repeat(200), None).line(now);
        assert_eq!(long.chars().count(), WIDTH);
    }

    #[test]
    fn what_is_quick_is_not_spoken_of_and_what_changes_not_too_often() {
        let now = Instant::now();
        let mut state = state("work", None);
        assert_eq!(state.due(now), None);
        state.since = Some(now);
        assert_eq!(state.due(now), Some(now + PATIENCE));
        let later = now + 2 * PATIENCE;
        assert!(state.due(later).is_some_and(|due| due <= later));
        state.written = Some(later);
        assert_eq!(state.due(later), Some(later + REWRITE));
        state.text = None;
        assert_eq!(state.due(later), None);
    }
}
