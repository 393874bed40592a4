//! What `/proc` says of the threads of a process, read with few calls: there may be thousands, and each costs.

use super::procfs::{Proc, parse_stat, parse_status};
use super::waits::{Asleep, parse_system_call, parse_wait_channel};
use crate::sys;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use pyst_snapshot::payload::{Thread, ThreadWait};
use pyst_snapshot::{Address, Bytes, Tid};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The largest of the files that are read here is a few hundred bytes long.
const BUFFER: usize = 16 << 10;

/// For so many threads no other is started that looks at them.
const FEW: usize = 24;

/// `/proc/PID/task`
pub(crate) struct Tasks {
    directory: File,
    buffer: RefCell<Vec<u8>>,
    /// Whether a thread's id is the same in its own namespace as here.
    same_ids: bool,
}

/// All threads of a process as they are seen, by a thread of its own where there are many: to look at one takes some microseconds,
/// and there is other work meanwhile.
pub(crate) struct Sight {
    tasks: Tasks,
    work: Arc<Work>,
    helper: Option<JoinHandle<Glimpses>>,
    seen: Option<Vec<Seen>>,
}

/// The threads to look at.
struct Work {
    /// Ascending.
    tids: Vec<u32>,
    /// How many of them somebody looks at already, or has.
    begun: AtomicUsize,
}

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
    /// Its place among the threads to look at.
    index: usize,
    tid: Tid,
    namespace_tid: Option<u32>,
    state: u8,
    name: Range<usize>,
    wait_channel: Option<Range<usize>>,
    asleep: Option<Asleep>,
}

/// How much text there is of a thread, about.
const TEXT: usize = 48;

/// What is seen of a thread that runs.
pub(crate) struct Seen {
    pub(crate) thread: Thread,
    pub(crate) wait: ThreadWait,
    /// Its stack pointer and its program counter, if it sleeps.
    pub(crate) place: Option<(Address, Address)>,
}

impl Tasks {
    /// The threads of `process`, whose leader has these ids in its namespaces, from the outside inwards.
    pub(crate) fn of(process: &Proc, namespace_pids: &[u32]) -> std::io::Result<Tasks> {
        let directory = File::open(process.path("task"))?;
        Ok(Tasks { directory, buffer: RefCell::new(vec![0; BUFFER]), same_ids: namespace_pids.len() == 1 })
    }

    /// The threads, ascending.
    pub(crate) fn tids(&self) -> Vec<u32> {
        let mut tids = Vec::new();
        let listed = sys::numeric_entries(self.directory.as_fd(), &mut self.buffer.borrow_mut(), |tid| tids.push(tid));
        if listed.is_err() {
            return Vec::new();
        }
        tids.sort_unstable();
        tids.dedup();
        tids
    }

    /// The thread with its name and state; `None` when it has just exited.
    pub(crate) fn thread(&self, tid: u32) -> Option<Thread> {
        let mut name = Vec::new();
        let (state, namespace_tid) = self.describe(tid, &mut name)?;
        let (tid, name) = (Tid(tid), Some(Bytes(name)));
        Some(Thread { tid, state: Some(state), namespace_tid, name, ..Thread::default() })
    }

    /// Its state and its id in its own namespace; `text` gets its name.
    fn describe(&self, tid: u32, text: &mut Vec<u8>) -> Option<(u8, Option<u32>)> {
        let state = self.read(tid, "stat", |stat| {
            text.extend_from_slice(name(stat)?);
            parse_stat(stat).map(|stat| stat.state)
        })?;
        let namespace_tid = match self.same_ids {
            true => Some(tid),
            false => self.read(tid, "status", |text| Some(parse_status(text)))?.namespace_pids.last().copied(),
        };
        Some((state, namespace_tid))
    }

    /// The thread, and what it waits for.
    fn glimpse(&self, index: usize, tid: u32, text: &mut Vec<u8>) -> Option<Glimpse> {
        let start = text.len();
        let (state, namespace_tid) = self.describe(tid, text)?;
        let name = start..text.len();
        let asleep = self.read(tid, "syscall", parse_system_call);
        let wait_channel = self.read(tid, "wchan", |wchan| {
            text.extend_from_slice(parse_wait_channel(wchan)?);
            Some(name.end..text.len())
        });
        Some(Glimpse { index, tid: Tid(tid), namespace_tid, state, name, wait_channel, asleep })
    }

    /// Looks at threads that nobody else looks at, until there is none.
    fn see_what_is_left(&self, work: &Work) -> Glimpses {
        let left = work.tids.len().saturating_sub(work.begun.load(Ordering::Relaxed));
        let of_threads = Vec::with_capacity(left);
        let mut seen = Glimpses { of_threads, text: Vec::with_capacity(left.saturating_mul(TEXT)) };
        loop {
            let index = work.begun.fetch_add(1, Ordering::Relaxed);
            let Some(tid) = work.tids.get(index) else { return seen };
            seen.of_threads.extend(self.glimpse(index, *tid, &mut seen.text));
        }
    }

    fn read<T>(&self, tid: u32, name: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut path = [0; 32];
        let mut rest = path.as_mut_slice();
        write!(rest, "{tid}/{name}").ok()?;
        let unused = rest.len();
        let path = path.get(..path.len() - unused)?;
        let file = openat(&self.directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = self.buffer.borrow_mut();
        // The kernel makes such a file whole with the first read.
        let length = nix::unistd::read(&file, &mut buffer).ok()?;
        parse(buffer.get(..length)?)
    }
}

impl Glimpses {
    fn into_seen(self) -> impl Iterator<Item = (usize, Seen)> {
        let Glimpses { of_threads, text } = self;
        of_threads.into_iter().map(move |glimpse| {
            let Glimpse { index, tid, namespace_tid, state, name, wait_channel, asleep } = glimpse;
            let named = |at: Range<usize>| text.get(at).map(|text| Bytes(text.to_vec()));
            let thread = Thread { tid, state: Some(state), namespace_tid, name: named(name), ..Thread::default() };
            let (system_call, place) =
                (asleep.and_then(|asleep| asleep.system_call()), asleep.map(|asleep| asleep.place()));
            let wait = ThreadWait { tid, wait_channel: wait_channel.and_then(named), system_call };
            (index, Seen { thread, wait, place })
        })
    }
}

impl Sight {
    /// Begins to look at all threads.
    pub(crate) fn begin(tasks: Tasks) -> Sight {
        let work = Arc::new(Work { tids: tasks.tids(), begun: AtomicUsize::new(0) });
        let helper = (work.tids.len() > FEW).then(|| {
            let (directory, same_ids) = (tasks.directory.try_clone().ok()?, tasks.same_ids);
            let (tasks, work) =
                (Tasks { directory, same_ids, buffer: RefCell::new(vec![0; BUFFER]) }, Arc::clone(&work));
            let look = move || tasks.see_what_is_left(&work);
            std::thread::Builder::new().name("sight".to_owned()).spawn(look).ok()
        });
        Sight { tasks, work, helper: helper.flatten(), seen: None }
    }

    /// The threads with nothing but their ids, ascending, if that is what they are called in their own namespace, too.
    pub(crate) fn by_ids(&self) -> Option<Vec<Thread>> {
        let thread = |tid: &u32| Thread { tid: Tid(*tid), namespace_tid: Some(*tid), ..Thread::default() };
        self.tasks.same_ids.then(|| self.work.tids.iter().map(thread).collect())
    }

    /// What is seen of the threads, ascending; those that have exited meanwhile are not among them.
    pub(crate) fn seen(&mut self) -> &[Seen] {
        let Sight { tasks, work, helper, seen } = self;
        seen.get_or_insert_with(|| {
            let own = tasks.see_what_is_left(work);
            let others = helper.take().and_then(|helper| helper.join().ok()).unwrap_or_default();
            let mut all: Vec<(usize, Seen)> = Vec::with_capacity(own.of_threads.len() + others.of_threads.len());
            all.extend(own.into_seen().chain(others.into_seen()));
            all.sort_unstable_by_key(|(index, _)| *index);
            all.into_iter().map(|(_, one)| one).collect()
        })
    }
}

/// The name in `112 (a name) S 1 …`, which may hold parentheses.
fn name(stat: &[u8]) -> Option<&[u8]> {
    let start = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::super::maps;
    use super::*;

    #[test]
    fn a_name_is_all_between_the_first_and_the_last_parenthesis() {
        assert_eq!(name(b"112 (a) (b) S 1 2"), Some(&b"a) (b"[..]));
        assert_eq!(name(b"112 () S 1 2"), Some(&b""[..]));
        assert_eq!(name(b"112"), None);
        assert_eq!(name(b")("), None);
    }

    #[test]
    fn a_thread_that_sleeps_is_seen_with_where_it_sleeps() {
        let (started, is_started) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::Builder::new().name("a (b\\n\n".to_owned()).spawn(move || {
            started.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            let _ = may_go.recv();
        });
        let tid = is_started.recv().unwrap();
        let this = Proc::of(std::process::id());
        let tasks = Tasks::of(&this, &[std::process::id()]).unwrap();
        assert!(tasks.tids().contains(&tid) && tasks.tids().is_sorted());
        let seen = loop {
            let mut seen = Glimpses::default();
            seen.of_threads.extend(tasks.glimpse(0, tid, &mut seen.text));
            let (_, seen) = seen.into_seen().next().unwrap();
            if seen.place.is_some() {
                break seen;
            }
            std::thread::yield_now();
        };
        assert_eq!(seen.thread.name.as_ref().unwrap().0, b"a (b\\n\n");
        assert_eq!(seen.thread.name.map(|name| name.0), this.task(tid).name());
        assert!(maps::find(&maps::parse(&this.read("maps").unwrap()), seen.place.unwrap().0).unwrap().is_writable());
        assert_eq!((seen.thread.tid, seen.thread.namespace_tid, seen.thread.state), (Tid(tid), Some(tid), Some(b'S')));
        drop(go);
        sleeper.unwrap().join().unwrap();
        assert!(tasks.glimpse(0, u32::MAX, &mut Vec::new()).is_none());
    }

    #[test]
    fn many_threads_are_seen_once_each_and_in_their_order() {
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let may_go = Arc::new(std::sync::Mutex::new(may_go));
        let (started, tids) = std::sync::mpsc::channel();
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
        let this = Proc::of(std::process::id());
        let mut sight = Sight::begin(Tasks::of(&this, &[std::process::id()]).unwrap());
        let seen: Vec<u32> = sight.seen().iter().map(|seen| seen.thread.tid.0).collect();
        assert!(sight.seen().len() == seen.len() && seen.is_sorted_by(|one, next| one < next), "{seen:?}");
        assert!(tids.iter().all(|tid| seen.contains(tid)), "{tids:?} {seen:?}");
        drop(go);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
