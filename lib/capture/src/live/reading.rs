//! What is read of a target that stands still: what was rehearsed, and what it leads to where that has changed.

use super::copy::Copy;
use super::leads::leads;
use super::locals::Locals;
use super::pagemap::Pagemap;
use super::rehearsal::Rehearsal;
use super::stack::{MAX_STACK, own_stacks, top_of_stack};
use super::together::Together;
use nix::errno::Errno;
use pyst_memory::{Memory, RangeSet};
use pyst_python::Walked;
use pyst_snapshot::payload::{FoundRuntime, Map, Thread};
use pyst_snapshot::{Address, Range, Tid};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// What the tracer walks over itself: that takes some milliseconds, as of a thousand threads. More of it, as of a hundred thousand
/// frames, is left to the reader, so that the tracer can watch the clock.
const WALKED_BY_TRACER: u64 = 4 << 20;

/// What is to be read of a target, apart from its stacks.
#[derive(Clone)]
pub(crate) struct Ask {
    /// What the walk is expected to read.
    pub(crate) prediction: Arc<Vec<Range>>,
    pub(crate) runtime: Option<FoundRuntime>,
    /// The thread states of the threads that are stopped, if no others are to be looked at.
    pub(crate) only: Option<Arc<Vec<Address>>>,
    /// What exceptions, arguments and locals are expected to be, where there is a runtime.
    pub(crate) locals: Option<Locals>,
    pub(crate) maps: Arc<Vec<Map>>,
    /// Tells what is in memory.
    pub(crate) pagemap: Pagemap,
}

impl Ask {
    /// Walks over the thread states `only`, or over all that are asked for.
    fn walk(&self, only: Option<&[Address]>, threads: &[Thread], memory: &dyn Memory) -> Option<Walked> {
        let only = only.or(self.only.as_ref().map(|only| only.as_slice()));
        self.runtime.as_ref().map(|runtime| pyst_python::walk_only(runtime, only, threads, memory))
    }
}

/// The thread that reads the target's memory while the tracer watches the clock.
pub(super) struct Reader {
    jobs: Sender<Job>,
    done: Receiver<bool>,
}

enum Job {
    /// To read with the tracer, until a time.
    Help(Arc<Together>, Instant),
    /// To read all of it, with the stacks of these threads.
    All(Vec<Thread>),
}

impl Reader {
    pub(super) fn start(copy: &Copy, ask: &Ask) -> Result<Reader, Errno> {
        let (jobs, job) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let (copy, ask) = (copy.clone(), ask.clone());
        let read = move || {
            // The tracer may not need it, or give up before there is anything to read.
            for job in job {
                match job {
                    Job::Help(together, deadline) => _ = together.help(&copy, deadline),
                    Job::All(threads) => _ = finished.send(read_all(&copy, &threads, &ask)),
                }
            }
        };
        std::thread::Builder::new().name("reader".to_owned()).spawn(read).map_err(|_| Errno::EAGAIN)?;
        Ok(Reader { jobs, done })
    }

    /// Has it read with the tracer.
    pub(super) fn help(&self, together: &Arc<Together>, deadline: Instant) {
        let _ = self.jobs.send(Job::Help(Arc::clone(together), deadline));
    }

    /// Has everything read, and says whether the Python frames in it hold together, if that came to an end in time.
    pub(super) fn read(&self, threads: Vec<Thread>, limit: Duration) -> Option<bool> {
        self.jobs.send(Job::All(threads)).ok()?;
        self.done.recv_timeout(limit).ok()
    }
}

/// A thread that is not where it slept, or did not sleep, with what of its stack is to be read.
pub(super) struct Moved {
    pub(super) tid: Tid,
    pub(super) stack: Range,
}

/// What was read as rehearsed, to be looked at.
pub(super) struct Review<'a> {
    pub(super) copy: &'a Copy,
    /// By ascending tid.
    pub(super) threads: &'a [Thread],
    /// By ascending tid.
    pub(super) moved: &'a [Moved],
    pub(super) rehearsal: &'a Rehearsal,
    pub(super) ask: &'a Ask,
    pub(super) pagemap: &'a Pagemap,
    pub(super) deadline: Instant,
}

impl Review<'_> {
    /// Reads what has changed, and what that leads to now, as far as it is in memory and cannot block. Says whether the Python
    /// frames hold together; `None` if there is more to read.
    pub(super) fn read_what_has_changed(&self) -> Option<bool> {
        let Some(settled) = self.rehearsal.settled(self.copy) else {
            return self.read_anew(None, &self.threads.iter().collect::<Vec<_>>(), self.rehearsal.len());
        };
        let has_changed = |thread: &&Thread| {
            thread.stack.is_some() && (self.has_moved(thread.tid) || !self.rehearsal.is_stack_in(self.copy, thread.tid))
        };
        let threads: Vec<&Thread> = self.threads.iter().filter(has_changed).collect();
        if threads.is_empty() {
            return Some(settled);
        }
        // All thread states are as they were, so a thread that was born meanwhile has none.
        let states = self.rehearsal.states_of(|tid| self.has_moved(tid));
        Some(self.read_anew(Some(&states), &threads, 0)? && settled)
    }

    fn has_moved(&self, tid: Tid) -> bool {
        self.moved.binary_search_by_key(&tid, |moved| moved.tid).is_ok()
    }

    /// Walks over the thread states `only`, or over all, and reads what that leads to, and the stacks of `threads`. `known`
    /// bytes may have to be walked over.
    fn read_anew(&self, only: Option<&[Address]>, threads: &[&Thread], known: u64) -> Option<bool> {
        let Review { copy, ask, pagemap, deadline, .. } = *self;
        if known + self.moved.iter().map(|moved| moved.stack.len()).sum::<u64>() > WALKED_BY_TRACER {
            return None;
        }
        // The tops at least of new stacks; the rest goes with what they lead to.
        let tops = self.moved.iter().map(|moved| moved.stack.intersect(top_of_stack(moved.stack.start)));
        copy.read_until(&pagemap.present(tops.collect::<RangeSet>().merged()), Some(deadline)).ok()?;
        let is_to_be_walked = only.is_none_or(|only| !only.is_empty());
        let walk = |memory: &dyn Memory| is_to_be_walked.then(|| ask.walk(only, self.threads, memory)).flatten();
        let (walked, missed) = copy.fetching_what_is_there(pagemap, walk);
        if !missed.is_empty() {
            return None;
        }
        let mut rest = rest_of_stacks(threads, self.threads, walked.as_ref(), &ask.maps);
        read_present(copy, rest.merged(), pagemap, deadline)?;
        let (mut led_to, _) = copy.without_fetching(|| leads(copy, threads, &ask.maps, MAX_STACK));
        read_present(copy, led_to.merged(), pagemap, deadline)?;
        if let (Some(locals), Some(found), Some(walked)) = (&ask.locals, &ask.runtime, &walked) {
            locals.complete(copy, found, &walked.python, &ask.maps, pagemap);
        }
        Some(walked.is_none_or(|walked| !walked.unsettled))
    }
}

/// Reads what is in memory of what is missing of `ranges`; `None` if that is not all that was ever written to.
fn read_present(copy: &Copy, ranges: &[Range], pagemap: &Pagemap, deadline: Instant) -> Option<()> {
    let missing = copy.missing(ranges);
    let touched = |range: &Range| {
        let range = *range;
        pagemap.touched(range).into_iter().map(move |pages| pages.intersect(range))
    };
    let wanted: Vec<Range> = missing.iter().flat_map(touched).collect();
    copy.read_until(&pagemap.present(&wanted), Some(deadline)).ok()?;
    copy.missing(&wanted).is_empty().then_some(())
}

/// Reads what was predicted and the top of the stacks, walks over that and fetches what the walk misses, then the rest; at
/// last exceptions, arguments and locals. Says whether the Python frames hold together.
pub(crate) fn read_all(copy: &Copy, threads: &[Thread], ask: &Ask) -> bool {
    let (runtime, maps) = (ask.runtime.as_ref(), ask.maps.as_slice());
    let mut first = first_ranges(threads, &ask.prediction).merged().to_vec();
    // Without the thread states, which are small, all else would be of no use if the time is not enough.
    first.sort_by_key(|range| range.len());
    if copy.read_ranges(&first).is_err() {
        return true;
    }
    let walked = ask.walk(None, threads, copy);
    let all: Vec<&Thread> = threads.iter().collect();
    let _ = copy.read_ranges(rest_of_stacks(&all, threads, walked.as_ref(), maps).merged());
    let _ = copy.read_ranges(leads(copy, &all, maps, MAX_STACK).merged());
    if let (Some(locals), Some(found), Some(walked)) = (&ask.locals, runtime, &walked) {
        let _ = copy.read_ranges(&ask.pagemap.present(locals.ranges()));
        locals.complete(copy, found, &walked.python, maps, &ask.pagemap);
    }
    walked.is_none_or(|walked| !walked.unsettled)
}

/// What was predicted, and the top of each stack.
fn first_ranges(threads: &[Thread], prediction: &[Range]) -> RangeSet {
    let stacks = threads.iter().filter_map(|thread| thread.stack);
    let tops = stacks.map(|stack| stack.read.intersect(top_of_stack(stack.read.start)));
    prediction.iter().copied().chain(tops).collect()
}

/// All of the stacks of some of `threads` that is to be read, those too that the walk has led to.
fn rest_of_stacks(some: &[&Thread], threads: &[Thread], walked: Option<&Walked>, maps: &[Map]) -> RangeSet {
    let stacks = || some.iter().filter_map(|thread| thread.stack);
    let mut rest: RangeSet = stacks().map(|stack| stack.read).collect();
    if let (Some(walked), true) = (walked, stacks().next().is_some()) {
        own_stacks(&walked.python, threads, maps).into_iter().for_each(|range| rest.insert(range));
    }
    rest
}
