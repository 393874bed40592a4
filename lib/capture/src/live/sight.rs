//! All threads of a process as `/proc` shows them, by a thread of its own where there are many: to look at one takes some twenty
//! microseconds, and there is other work meanwhile.
//!
//! Where threads sleep is looked at first, for what is read of the target's memory depends on it. Their names, their states and
//! what the kernel calls what they wait for are seen until all else is ready for the stop.

use super::tasks::Tasks;
use super::waits::Asleep;
use pyst_snapshot::payload::Thread;
use pyst_snapshot::{Bytes, Tid};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

/// For so many threads no other is started that looks at them.
const FEW: usize = 24;

/// How much text there is of a thread, about.
const TEXT: usize = 48;

/// The threads of a process, as they come into sight.
pub(crate) struct Sight {
    tasks: Tasks,
    work: Arc<Work>,
    helper: Option<Helper>,
    sleepers: Option<Sleepers>,
    /// What this thread has seen of the rest: where no other looks at it, that is at once.
    rest: Glimpses,
}

/// Threads that sleep.
#[derive(Default)]
pub(crate) struct Sleepers {
    /// Where: ascending.
    pub(crate) asleep: Vec<(Tid, Asleep)>,
    /// What the kernel calls what those wait for that go on with a call that was interrupted: it tells which.
    pub(crate) restarted: Vec<(Tid, Bytes)>,
}

/// The thread that looks as well.
struct Helper {
    sleepers: Receiver<Sleepers>,
    thread: JoinHandle<Glimpses>,
}

/// The threads to look at, twice.
struct Work {
    /// Ascending.
    tids: Vec<u32>,
    asleep: Begun,
    rest: Begun,
}

/// How many threads somebody looks at already, or has.
#[derive(Default)]
struct Begun(AtomicUsize);

/// What one thread of this process has seen of the target's. It is on the heap in two pieces only: threads that ask for memory
/// at the same time wait for each other, and to be woken takes longer than to look at a thread.
#[derive(Default)]
struct Glimpses {
    of_threads: Vec<Glimpse>,
    /// Names of threads and of wait channels.
    text: Vec<u8>,
}

/// What is seen of one.
struct Glimpse {
    tid: Tid,
    state: u8,
    name: Range<usize>,
    wait_channel: Option<Range<usize>>,
}

/// A thread that is there.
pub(crate) struct Seen {
    pub(crate) thread: Thread,
    /// What the kernel calls what it waits for.
    pub(crate) wait_channel: Option<Bytes>,
}

impl Begun {
    /// How many of `tids` are left.
    fn left(&self, tids: &[u32]) -> usize {
        tids.len().saturating_sub(self.0.load(Ordering::Relaxed))
    }

    /// The next of them that nobody has looked at.
    fn next(&self, tids: &[u32]) -> Option<u32> {
        tids.get(self.0.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

impl Work {
    fn of(tids: Vec<u32>) -> Work {
        Work { tids, asleep: Begun::default(), rest: Begun::default() }
    }

    /// Looks for where threads sleep, until nobody is left.
    fn find_sleepers(&self, tasks: &Tasks) -> Sleepers {
        let asleep = Vec::with_capacity(self.asleep.left(&self.tids));
        let mut found = Sleepers { asleep, restarted: Vec::new() };
        while let Some(tid) = self.asleep.next(&self.tids) {
            let Some(asleep) = tasks.asleep(tid) else { continue };
            found.asleep.push((Tid(tid), asleep));
            let mut channel = Vec::new();
            if asleep.is_restarted() && tasks.wait_channel(tid, &mut channel).is_some() {
                found.restarted.push((Tid(tid), Bytes(channel)));
            }
        }
        found
    }

    /// Looks at the rest of threads, until nobody is left.
    fn see_the_rest(&self, tasks: &Tasks) -> Glimpses {
        let left = self.rest.left(&self.tids);
        let (of_threads, text) = (Vec::with_capacity(left), Vec::with_capacity(left.saturating_mul(TEXT)));
        let mut seen = Glimpses { of_threads, text };
        while let Some(tid) = self.rest.next(&self.tids) {
            seen.add(tasks, tid);
        }
        seen
    }
}

impl Glimpses {
    /// Adds a thread, unless it has exited.
    fn add(&mut self, tasks: &Tasks, tid: u32) -> Option<()> {
        let Glimpses { of_threads, text } = self;
        let start = text.len();
        let state = tasks.describe(tid, text)?;
        let name = start..text.len();
        let wait_channel = tasks.wait_channel(tid, text).map(|()| name.end..text.len());
        of_threads.push(Glimpse { tid: Tid(tid), state, name, wait_channel });
        Some(())
    }

    fn into_seen(self) -> impl Iterator<Item = Seen> {
        let Glimpses { of_threads, text } = self;
        of_threads.into_iter().map(move |glimpse| {
            let Glimpse { tid, state, name, wait_channel } = glimpse;
            let named = |at: Range<usize>| text.get(at).map(|text| Bytes(text.to_vec()));
            let thread = Thread { tid, state: Some(state), name: named(name), ..Thread::default() };
            Seen { thread, wait_channel: wait_channel.and_then(named) }
        })
    }
}

impl Sight {
    /// Begins to look at all threads.
    pub(crate) fn begin(tasks: Tasks) -> Sight {
        let work = Arc::new(Work::of(tasks.tids()));
        let helper = (work.tids.len() > FEW).then(|| Helper::start(tasks.another()?, Arc::clone(&work)));
        Sight { tasks, work, helper: helper.flatten(), sleepers: None, rest: Glimpses::default() }
    }

    /// The threads with nothing but their ids here and in their own namespace, ascending.
    pub(crate) fn ids(&self) -> Vec<Thread> {
        let thread = |tid: &u32| {
            let namespace_tid = self.tasks.namespace_tid(*tid);
            Thread { tid: Tid(*tid), namespace_tid, ..Thread::default() }
        };
        self.work.tids.iter().map(thread).collect()
    }

    /// The threads that sleep.
    pub(crate) fn sleepers(&mut self) -> &Sleepers {
        let Sight { tasks, work, helper, sleepers, rest } = self;
        sleepers.get_or_insert_with(|| {
            let mut all = work.find_sleepers(tasks);
            if helper.is_none() {
                *rest = work.see_the_rest(tasks);
            }
            for Sleepers { asleep, restarted } in helper.iter().filter_map(|helper| helper.sleepers.recv().ok()) {
                all.asleep.extend(asleep);
                all.restarted.extend(restarted);
            }
            all.asleep.sort_unstable_by_key(|(tid, _)| *tid);
            all
        })
    }

    /// All threads, ascending, with these `ids`; those that have exited meanwhile are not among them.
    pub(crate) fn into_seen(self, ids: &[Thread]) -> Vec<Seen> {
        let Sight { tasks, work, helper, rest, .. } = self;
        let own = if rest.of_threads.is_empty() { work.see_the_rest(&tasks) } else { rest };
        let others = helper.and_then(|helper| helper.thread.join().ok()).unwrap_or_default();
        let mut all: Vec<Seen> = Vec::with_capacity(own.of_threads.len() + others.of_threads.len());
        all.extend(own.into_seen().chain(others.into_seen()));
        all.sort_unstable_by_key(|seen| seen.thread.tid);
        for Seen { thread, .. } in &mut all {
            let known = ids.binary_search_by_key(&thread.tid, |known| known.tid).ok().and_then(|at| ids.get(at));
            thread.namespace_tid = known.and_then(|known| known.namespace_tid);
        }
        all
    }
}

impl Helper {
    fn start(tasks: Tasks, work: Arc<Work>) -> Option<Helper> {
        let (found, sleepers) = mpsc::channel();
        let look = move || {
            let _ = found.send(work.find_sleepers(&tasks));
            work.see_the_rest(&tasks)
        };
        let thread = std::thread::Builder::new().name("sight".to_owned()).spawn(look).ok()?;
        Some(Helper { sleepers, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::super::maps;
    use super::super::procfs::Proc;
    use super::*;

    fn sight_of_this_process() -> Sight {
        let id = std::process::id();
        Sight::begin(Tasks::of(&Proc::of(id), &[id]).unwrap())
    }

    #[test]
    fn a_thread_that_sleeps_is_seen_with_where_it_sleeps() {
        let (started, is_started) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let sleeper = std::thread::Builder::new().name("a (b\\n\n".to_owned()).spawn(move || {
            started.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            let _ = may_go.recv();
        });
        let tid = is_started.recv().unwrap();
        let this = Proc::of(std::process::id());
        let (asleep, seen) = loop {
            let mut sight = sight_of_this_process();
            let asleep = sight.sleepers().asleep.iter().find(|(asleep, _)| asleep.0 == tid).map(|(_, asleep)| *asleep);
            if let Some(asleep) = asleep {
                let ids = sight.ids();
                break (asleep, sight.into_seen(&ids).into_iter().find(|seen| seen.thread.tid.0 == tid).unwrap());
            }
            std::thread::yield_now();
        };
        assert_eq!(seen.thread.name.as_ref().unwrap().0, b"a (b\\n\n");
        assert_eq!(seen.thread.name.map(|name| name.0), this.task(tid).name());
        assert!(maps::find(&maps::parse(&this.read("maps").unwrap()), asleep.place().0).unwrap().is_writable());
        assert_eq!((seen.thread.namespace_tid, seen.thread.state), (Some(tid), Some(b'S')));
        drop(go);
        sleeper.unwrap().join().unwrap();
        let tasks = Tasks::of(&this, &[std::process::id()]).unwrap();
        assert!(Glimpses::default().add(&tasks, u32::MAX).is_none());
    }

    #[test]
    fn many_threads_are_seen_once_each_and_in_their_order() {
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = Arc::new(std::sync::Mutex::new(may_go));
        let (started, tids) = mpsc::channel();
        let threads: Vec<JoinHandle<()>> = (0..4 * FEW)
            .map(|_| {
                let (started, may_go) = (started.clone(), Arc::clone(&may_go));
                std::thread::spawn(move || {
                    started.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
                    let _ = may_go.lock().map(|may_go| may_go.recv());
                })
            })
            .collect();
        let tids: Vec<u32> = tids.iter().take(threads.len()).collect();
        let mut sight = sight_of_this_process();
        let asleep: Vec<u32> = sight.sleepers().asleep.iter().map(|(tid, _)| tid.0).collect();
        let ids = sight.ids();
        let seen: Vec<u32> = sight.into_seen(&ids).iter().map(|seen| seen.thread.tid.0).collect();
        assert!(seen.is_sorted_by(|one, next| one < next) && asleep.is_sorted_by(|one, next| one < next), "{seen:?}");
        assert!(tids.iter().all(|tid| seen.contains(tid)), "{tids:?} {seen:?}");
        assert!(asleep.iter().any(|tid| tids.contains(tid)));
        drop(go);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
