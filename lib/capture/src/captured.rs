//! A capture on a thread of its own, and what it makes: each section of the snapshot as soon as it is there, so that it can be
//! written, and read by the next tool, while the others are made.
//!
//! Nothing is handed out before the target runs on and all is read that is read of it, so that it does not matter how slowly
//! sections are taken.

use crate::error::CaptureError;
use crate::sys;
use nix::errno::Errno;
use pyst_snapshot::{Payload, RawSection, Snapshot};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

/// As many sections wait to be taken at most. Of a large target all of them beside the copy that they are made of would be a lot.
const WAITING: usize = 4;

/// What a capture is about to do, or has made.
enum Step {
    /// Something that may take as long as this.
    Within(Duration),
    /// What takes as long as it takes: the target runs on.
    Finish,
    Section(RawSection),
    End,
    Failed(CaptureError),
}

/// Where the capturing thread says what it does. One to whom nobody listens any more goes on to its end, which is near.
pub(crate) struct Steps(SyncSender<Step>);

impl Steps {
    /// What comes next may take as long as this.
    pub(crate) fn within(&self, limit: Duration) {
        let _ = self.0.send(Step::Within(limit));
    }

    /// The target runs on.
    pub(crate) fn finish(&self) {
        let _ = self.0.send(Step::Finish);
    }

    /// Hands out a section.
    pub(crate) fn put(&self, section: RawSection) {
        let _ = self.0.send(Step::Section(section));
    }

    /// That was all.
    pub(crate) fn end(&self) {
        let _ = self.0.send(Step::End);
    }

    /// Hands out `payload` as a section.
    pub(crate) fn append<P: Payload>(&self, payload: &P) -> Result<(), CaptureError> {
        self.put(RawSection::of(payload)?);
        Ok(())
    }
}

/// The sections of a snapshot, in their order. An error among them is the last, and the snapshot is of no use. To drop it waits
/// until the capturing thread has let go of what it took, which of a large target takes a while.
#[derive(Debug)]
pub struct Captured {
    first: Option<RawSection>,
    /// Nothing any more when the last has come.
    steps: Option<Receiver<Step>>,
    worker: Option<JoinHandle<()>>,
}

impl Captured {
    /// Runs `capture` on a thread until it hands out the first section. It gets `limit` for what it does first; what it is late for
    /// is given up with the error `stuck`, of so many seconds, and the thread is left behind.
    pub(crate) fn by(
        limit: Duration,
        stuck: impl FnOnce(u64) -> CaptureError,
        capture: impl FnOnce(&Steps) -> Result<(), CaptureError> + Send + 'static,
    ) -> Result<Captured, CaptureError> {
        sys::keep_one_heap();
        let (steps, next_step) = mpsc::sync_channel(WAITING);
        let worker = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || {
                let steps = Steps(steps);
                if let Err(error) = capture(&steps) {
                    let _ = steps.0.send(Step::Failed(error));
                }
            })
            .map_err(|source| CaptureError::System { what: "start a thread", source })?;
        let mut limit = limit;
        loop {
            match next_step.recv_timeout(limit) {
                Ok(Step::Within(time)) => limit = time,
                Ok(Step::Finish) => limit = Duration::MAX,
                Ok(Step::Section(first)) => {
                    return Ok(Captured { first: Some(first), steps: Some(next_step), worker: Some(worker) });
                }
                Ok(Step::Failed(error)) => return Err(error),
                Ok(Step::End) | Err(RecvTimeoutError::Disconnected) => return Err(panicked()),
                Err(RecvTimeoutError::Timeout) => return Err(stuck(limit.as_secs())),
            }
        }
    }

    /// All sections, as a snapshot.
    ///
    /// # Errors
    /// One could not be made.
    pub fn snapshot(self) -> Result<Snapshot, CaptureError> {
        let sections = self.collect::<Result<_, _>>()?;
        Ok(Snapshot { sections, ..Snapshot::default() })
    }
}

impl Iterator for Captured {
    type Item = Result<RawSection, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        loop {
            let error = match self.steps.as_ref()?.recv() {
                Ok(Step::Section(section)) => return Some(Ok(section)),
                Ok(Step::Within(_) | Step::Finish) => continue,
                Ok(Step::End) => None,
                Ok(Step::Failed(error)) => Some(error),
                Err(mpsc::RecvError) => Some(panicked()),
            };
            self.steps = None;
            return error.map(Err);
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // It may be waiting for a section to be taken.
        self.steps = None;
        let _ = self.worker.take().map(JoinHandle::join);
    }
}

fn panicked() -> CaptureError {
    CaptureError::System { what: "finish the capture", source: Errno::EIO.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyst_snapshot::SectionKind;
    use pyst_snapshot::payload::Waits;

    const PATIENT: Duration = Duration::from_secs(100);

    fn stuck(seconds: u64) -> CaptureError {
        CaptureError::Stuck { pid: 1, seconds }
    }

    #[test]
    fn sections_come_in_their_order_and_end() {
        let captured = Captured::by(PATIENT, stuck, |steps| {
            steps.within(PATIENT);
            steps.finish();
            (0..100).try_for_each(|_| steps.append(&Waits::default()))?;
            steps.end();
            Ok(())
        });
        let snapshot = captured.unwrap().snapshot().unwrap();
        assert_eq!(snapshot.raw(SectionKind::WAITS).count(), 100);
    }

    #[test]
    fn an_error_before_the_first_section_is_no_snapshot_and_one_behind_it_is_the_last() {
        let failing = |sections| {
            Captured::by(PATIENT, stuck, move |steps| {
                for _ in 0..sections {
                    steps.append(&Waits::default())?;
                }
                Err(CaptureError::Exited { pid: 7 })
            })
        };
        assert!(matches!(failing(0), Err(CaptureError::Exited { pid: 7 })));
        let sections: Vec<_> = failing(2).unwrap().collect();
        assert!(matches!(sections[..], [Ok(_), Ok(_), Err(CaptureError::Exited { pid: 7 })]));
    }

    #[test]
    fn one_that_panics_and_one_that_is_stuck_are_errors() {
        let panicking = |sections| {
            Captured::by(PATIENT, stuck, move |steps| {
                for _ in 0..sections {
                    steps.append(&Waits::default())?;
                }
                panic!("as it should in this test")
            })
        };
        assert!(matches!(panicking(0), Err(CaptureError::System { .. })));
        assert!(matches!(panicking(1).unwrap().snapshot(), Err(CaptureError::System { .. })));
        let (keep, kept) = mpsc::channel::<()>();
        let late = Captured::by(Duration::from_millis(1), stuck, move |_| {
            let _ = kept.recv();
            Ok(())
        });
        assert!(matches!(late, Err(CaptureError::Stuck { .. })));
        drop(keep);
    }

    #[test]
    fn what_nobody_takes_keeps_no_thread() {
        let (done, is_done) = mpsc::channel();
        let captured = Captured::by(PATIENT, stuck, move |steps| {
            (0..100).try_for_each(|_| steps.append(&Waits::default()))?;
            let _ = done.send(());
            Ok(())
        });
        drop(captured);
        assert_eq!(is_done.recv(), Ok(()));
    }
}
