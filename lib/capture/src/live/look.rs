//! The look: everything that can be learnt while the target runs, and what the walk will read.

use super::LIVE_ARCH;
use super::files::LiveFiles;
use super::leads::leads;
use super::locals::Locals;
use super::maps;
use super::memory::{AtOnce, LiveMemory};
use super::procfs::{Proc, Stat, Status, split_arguments};
use super::refusal;
use super::rehearsal::{self, Rehearsal, widen};
use super::sight::Sight;
use super::sleepers::{Bedroom, Sleeper};
use super::stack::{MAX_STACK, own_stacks};
use super::tasks::Tasks;
use super::waits::{Asleep, Before};
use crate::Options;
use crate::error::CaptureError;
use crate::modules::{self, LoadedModules};
use nix::unistd::Pid;
use pyst_elf::{ModuleId, Reach, Search};
use pyst_memory::{RangeSet, Recorder};
use pyst_snapshot::payload::{Map, Module, Process, Python, Runtime, Thread};
use pyst_snapshot::{Address, Bytes, Range, Tid};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is read from the innermost frame of a thread that runs on: it will have pushed a few more by then.
const SLACK: u64 = 1024;

/// How many stacks are read at once.
const STACKS_AT_ONCE: usize = 256;

/// What of a stack is read with others: mostly all that is used of it.
const FIRST_PAGES: u64 = 8 << 10;

/// A look at a living process.
pub(crate) struct Look {
    /// `/proc` of a thread that lives: the leader, unless it has exited before the others.
    pub(crate) proc: Proc,
    /// The id behind `proc`.
    pub(crate) living: Pid,
    pub(crate) status: Status,
    /// The pagemap of the program that was looked at, which is empty from then on that the process runs another.
    program: Option<File>,
    pub(crate) process: Process,
    pub(crate) threads: Vec<Thread>,
    /// What they wait for.
    pub(crate) waits: Before,
    pub(crate) maps: Arc<Vec<Map>>,
    pub(crate) loaded: LoadedModules,
    /// What can be had of its file systems.
    pub(crate) reach: Reach,
    pub(crate) runtime: Runtime,
    /// What the walk is expected to read: ascending, disjoint, within mappings.
    pub(crate) prediction: Arc<Vec<Range>>,
    /// What exceptions, arguments and locals are expected to be, where there is a runtime.
    pub(crate) locals: Option<Locals>,
    /// All that the stop will read.
    pub(crate) rehearsal: Arc<Rehearsal>,
    /// Pages that were wanted and did not come: ascending and disjoint.
    pub(crate) out_of_reach: Vec<Range>,
}

pub(crate) fn look(pid: u32, options: &Options) -> Result<Look, CaptureError> {
    let leader = Proc::of(pid);
    let (stat, status) = leader.stat().zip(leader.status()).ok_or_else(|| refusal::of_invisible(pid))?;
    if status.tgid != pid {
        return Err(CaptureError::NotALeader { tid: pid, pid: status.tgid });
    }
    if stat.is_kernel_thread() {
        return Err(CaptureError::KernelThread { pid });
    }
    let tasks = Tasks::of(&leader, &status.namespace_pids).map_err(|error| refusal::of(pid, &error))?;
    let states = || tasks.tids().into_iter().filter_map(|tid| Some((tid, tasks.describe(tid, &mut Vec::new())?)));
    let living = if stat.is_zombie() { living(pid, states()) } else { Some(pid) };
    let living = living.ok_or(CaptureError::Zombie { pid, parent: stat.ppid })?;
    let mut sight = Sight::begin(tasks);
    let proc = Proc::of(living);
    let reach = Reach::of(&proc.read("mountinfo").unwrap_or_default());
    check_architecture(pid, &proc, &reach)?;

    let program = File::open(proc.path("pagemap")).ok();
    let text = proc.read("maps").map_err(|error| refusal::of(pid, &error))?;
    let maps = Arc::new(maps::parse(&text));
    drop(text);
    let living = Pid::from_raw(living.cast_signed());
    refusal::check_memory(pid, living)?;
    let memory = LiveMemory::of(living, &proc, &maps, &reach);
    let process = process(pid, &proc, &stat, &status);
    let exe = process.exe.as_ref().map(|exe| exe.0.as_slice());
    let finder = LiveFiles { proc: &proc, memory: &memory, exe, search: &options.search, reach: &reach };
    let mut loaded = modules::load(&maps, &memory, &finder);
    let runtime = find_runtime(&mut loaded, &finder, &maps, options);
    memory.keep_long_reads();

    let is_stopped = !options.python_only && options.no_block.is_none();
    let recorder = Recorder::new(&memory);
    let walk =
        |threads: &[Thread]| runtime.found.as_ref().map(|found| (found, pyst_python::walk(found, threads, &recorder)));
    let ids = sight.ids();
    // Without stacks the walk needs no more of threads than their ids, and need not wait for what is seen of them.
    let walked_by_ids = (!is_stopped).then(|| walk(&ids));
    let sleepers = sight.sleepers();
    let asleep = sleepers.asleep.as_slice();
    let bedroom = Bedroom::of(&memory, &maps, stat.start_stack);
    let stacks = if !is_stopped { Vec::new() } else { look_at_stacks(bedroom, &ids, asleep, &memory) };
    let as_asleep = with_registers(&ids, &stacks);
    let walked = walked_by_ids.unwrap_or_else(|| walk(&as_asleep));
    let mut waits = Before::of(&proc, sleepers, &recorder);
    let python = walked.as_ref().map(|(found, walked)| (*found, &walked.python));
    let locals = python.map(|(found, python)| Locals::look(found, python, options.locals, &AtOnce(&memory)));

    let seen_by_walk = recorder.into_ranges();
    let slack: Vec<Range> = python.map_or_else(Vec::new, |(_, python)| slack(python, asleep));
    let prediction = widen(seen_by_walk.iter().chain(&slack).copied().collect(), &maps);
    let mut led_to = RangeSet::new();
    if !stacks.is_empty() {
        let own = python.map_or_else(Vec::new, |(_, python)| own_stacks(python, &as_asleep, &maps));
        own.into_iter().for_each(|range| led_to.insert(range));
        let all: Vec<&Thread> = as_asleep.iter().collect();
        leads(&memory, &all, &maps, MAX_STACK).merged().iter().for_each(|range| led_to.insert(*range));
    }
    let of_locals = locals.iter().flat_map(|locals| locals.ranges());
    // Of many threads this is a lot.
    drop(as_asleep);
    let seen = rehearsal::Seen {
        walked: seen_by_walk.into_iter().chain(of_locals.copied()).collect(),
        settled: walked.as_ref().is_none_or(|(_, walked)| !walked.unsettled),
        python: python.map(|(_, python)| python),
        stacks,
        led_to,
        slack,
    };
    let rehearsal = Rehearsal::of(seen, &memory, &maps);
    let (prediction, rehearsal) = (Arc::new(prediction), Arc::new(rehearsal));
    let out_of_reach = memory.patience().given_up();
    let seen = sight.into_seen(&ids);
    waits.add_channels(seen.iter().filter_map(|seen| Some((seen.thread.tid, seen.wait_channel.clone()?))));
    let threads = seen.into_iter().map(|seen| seen.thread).collect();
    Ok(Look {
        proc,
        living,
        status,
        program,
        process,
        threads,
        waits,
        maps,
        loaded,
        reach,
        runtime,
        prediction,
        locals,
        rehearsal,
        out_of_reach,
    })
}

/// Finds the runtime. Without native frames nobody but the search asks for symbols that lie apart from the files, and it seldom
/// does: to look for those of hundreds of modules takes longer than all else.
fn find_runtime(loaded: &mut LoadedModules, finder: &LiveFiles<'_>, maps: &[Map], options: &Options) -> Runtime {
    let find = |loaded: &LoadedModules| crate::find_runtime(loaded, maps, finder.memory, options);
    if !options.python_only || options.exhaustive {
        loaded.add_companions(finder, |_| true);
        return find(loaded);
    }
    let runtime = find(loaded);
    let module = runtime.found.as_ref().and_then(|found| found.module);
    let has_more = loaded.add_companions(finder, |id| module.is_none_or(|module| id == ModuleId(module)));
    if has_more { find(loaded) } else { runtime }
}

/// The threads that sleep, ascending, and what their stacks are made of.
fn look_at_stacks(
    mut bedroom: Bedroom<'_>,
    threads: &[Thread],
    asleep: &[(Tid, Asleep)],
    memory: &LiveMemory,
) -> Vec<(Sleeper, Vec<Range>)> {
    let mut stacks = Vec::with_capacity(asleep.len());
    for asleep in asleep.chunks(STACKS_AT_ONCE) {
        let tops = asleep.iter().map(|(_, asleep)| {
            let (sp, _) = asleep.place();
            Range { start: sp, end: Address(sp.0.saturating_add(FIRST_PAGES)) }
        });
        memory.prefetch(tops.collect::<RangeSet>().merged());
        stacks.extend(asleep.iter().filter_map(|(tid, asleep)| {
            let at = threads.binary_search_by_key(tid, |thread| thread.tid).ok()?;
            let (sp, pc) = asleep.place();
            Some(bedroom.look(threads.get(at)?, sp, pc))
        }));
    }
    stacks
}

/// The threads with what is known of the registers of those that sleep.
fn with_registers<'a>(threads: &'a [Thread], stacks: &[(Sleeper, Vec<Range>)]) -> Cow<'a, [Thread]> {
    if stacks.is_empty() {
        return threads.into();
    }
    let sleeper = |tid: Tid| {
        let at = stacks.binary_search_by_key(&tid, |(sleeper, _)| sleeper.tid).ok()?;
        stacks.get(at).map(|(sleeper, _)| sleeper)
    };
    let with = |thread: &Thread| Thread {
        registers: sleeper(thread.tid).map(Sleeper::registers),
        stack: sleeper(thread.tid).map(|sleeper| sleeper.stack),
        ..thread.clone()
    };
    threads.iter().map(with).collect::<Vec<_>>().into()
}

/// Where threads that run may have pushed frames by then.
fn slack(python: &Python, asleep: &[(Tid, Asleep)]) -> Vec<Range> {
    let sleeps = |tid: Option<Tid>| tid.is_some_and(|tid| asleep.binary_search_by_key(&tid, |(tid, _)| *tid).is_ok());
    let awake = python.states.iter().filter(|state| !sleeps(state.tid));
    let innermost = awake.filter_map(|state| state.frames.first());
    innermost.filter_map(|frame| Range::sized(frame.address, SLACK)).collect()
}

impl Look {
    /// Forgets what was needed for the stop only: of many threads that is a lot.
    pub(crate) fn forget_what_was_expected(&mut self) {
        (self.rehearsal, self.prediction, self.locals) = (Arc::default(), Arc::default(), None);
        self.threads = Vec::new();
    }

    /// Whether the process has become another program since (an exec), so that nothing that was looked at is true any more.
    pub(crate) fn is_of_another_program(&self) -> bool {
        let lives = || self.proc.stat().is_some_and(|stat| !stat.is_exiting());
        let ended = |program: &File| program.read_at(&mut [0; 8], 0).is_ok_and(|length| length == 0);
        self.program.as_ref().is_some_and(ended) && lives()
    }

    /// Looks at the maps once more. A library that was loaded between the look and the stop may be on a stack; the other
    /// modules are the same, under other numbers. This reads nothing that can have changed since the stop.
    pub(crate) fn renew_modules(&mut self, search: &Search) {
        let Ok(text) = self.proc.read("maps") else { return };
        let maps = maps::parse(&text);
        let is_code = |map: &&Map| map.is_executable() && map.inode != 0;
        let code = |maps: &[Map]| maps.iter().filter(is_code).map(|map| map.range).collect::<BTreeSet<Range>>();
        let (then, now) = (code(&self.maps), code(&maps));
        // What is gone since (after an exec, all of it) was there during the stop.
        if !now.is_superset(&then) {
            return;
        }
        if now == then {
            // Code that was generated meanwhile lies in memory that is mapped, all the same.
            let generated = maps.into_iter().filter(|map| map.is_executable() && map.inode == 0);
            let is_new = |map: &Map| {
                !self.maps.iter().any(|old| old.range.start < map.range.end && map.range.start < old.range.end)
            };
            let new: Vec<Map> = generated.filter(is_new).collect();
            if !new.is_empty() {
                let mut maps: Vec<Map> = self.maps.iter().cloned().chain(new).collect();
                maps.sort_by_key(|map| map.range);
                self.maps = Arc::new(maps);
            }
            return;
        }
        let maps = Arc::new(maps);
        let memory = LiveMemory::of(self.living, &self.proc, &maps, &self.reach);
        let exe = self.process.exe.as_ref().map(|exe| exe.0.as_slice());
        let finder = LiveFiles { proc: &self.proc, memory: &memory, exe, search, reach: &self.reach };
        let mut loaded = modules::load(&maps, &memory, &finder);
        loaded.add_companions(&finder, |_| true);
        if let Some(found) = &mut self.runtime.found {
            let module = found.module.and_then(|old| self.loaded.table.get(ModuleId(old)));
            let same = |new: &Module| module.is_some_and(|old| (&old.path, old.bias) == (&new.path, new.bias));
            found.module = loaded.table.iter().find(|(_, new)| same(new)).map(|(id, _)| id.0);
        }
        self.maps = maps;
        self.loaded = loaded;
    }
}

/// A thread that lives: the leader if it does, for others come and go, and ids wrap around, so that the lowest may be the
/// newest.
fn living(pid: u32, states: impl Iterator<Item = (u32, u8)>) -> Option<u32> {
    let living = states.filter(|(_, state)| !matches!(state, b'Z' | b'X')).map(|(tid, _)| tid);
    living.min_by_key(|tid| (*tid != pid, *tid))
}

/// What `/proc` says of one thread; `None` when it has just exited.
pub(crate) fn thread(leader: &Proc, tid: u32) -> Option<Thread> {
    let task = leader.task(tid);
    Some(Thread {
        tid: Tid(tid),
        state: Some(task.stat()?.state),
        namespace_tid: task.status()?.namespace_pids.last().copied(),
        name: task.name().map(Bytes),
        ..Thread::default()
    })
}

/// What `/proc` says of a process.
pub(crate) fn process(pid: u32, proc: &Proc, stat: &Stat, status: &Status) -> Process {
    Process {
        pid,
        namespace_pids: status.namespace_pids.iter().skip(1).copied().collect(),
        ppid: Some(stat.ppid),
        pgrp: Some(stat.pgrp),
        sid: Some(stat.session),
        uid: Some(status.uid),
        gid: Some(status.gid),
        state: Some(stat.state),
        zombie: Some(stat.is_zombie()),
        nice: Some(stat.nice),
        name: Bytes(Proc::of(pid).name().unwrap_or_default()),
        exe: proc.link("exe").map(Bytes),
        cmdline: split_arguments(&proc.read("cmdline").unwrap_or_default()).into_iter().map(Bytes).collect(),
        cwd: proc.link("cwd").map(Bytes),
        started_at_ns: started_at(stat.start_ticks),
        ..Process::default()
    }
}

/// The kernel counts a start in ticks from boot; when that was follows from the two clocks of now, to the nanosecond,
/// where `btime` in `/proc/stat` is rounded to a second.
fn started_at(start_ticks: u64) -> Option<i64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let start = u128::from(start_ticks).checked_mul(1_000_000_000)? / u128::try_from(ticks).ok().filter(|t| *t > 0)?;
    i64::try_from(booted_at()?.checked_add(start)?).ok()
}

/// When the machine was booted, in nanoseconds since 1970. The clocks cannot be read at once; of some readings the one counts
/// that took least, for on a busy machine milliseconds may pass in between.
fn booted_at() -> Option<u128> {
    const READINGS: usize = 8;
    let since_boot = || {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
        Some(u128::try_from(now.tv_sec()).ok()? * 1_000_000_000 + u128::try_from(now.tv_nsec()).ok()?)
    };
    let read = || {
        let before = since_boot()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_nanos();
        let took = since_boot()?.checked_sub(before)?;
        Some((took, now.checked_sub(before)?))
    };
    (0..READINGS).filter_map(|_| read()).min().map(|(_, booted)| booted)
}

/// The executable's header tells another word size or instruction set before anything is misread for it.
fn check_architecture(pid: u32, proc: &Proc, reach: &Reach) -> Result<(), CaptureError> {
    let exe = proc.path("exe");
    let header = reach.ask(None, &exe.clone(), move || {
        let mut header = [0u8; 20];
        File::open(exe)?.read_exact(&mut header)?;
        Ok(header)
    });
    let Ok([0x7f, b'E', b'L', b'F', class, data, .., machine, machine_high]) = header else { return Ok(()) };
    let machine = u16::from_le_bytes([machine, machine_high]);
    if class == 2 && data == 1 && machine == LIVE_ARCH.0 {
        return Ok(());
    }
    let what = format!("process {pid}");
    Err(CaptureError::Architecture { what, architecture: crate::architecture_name(class, data, machine) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_stands_for_the_process_while_it_lives() {
        let living = |states: &[(u32, u8)]| living(900, states.iter().copied());
        // Ids have wrapped around: a short-lived thread has a lower one than the leader.
        assert_eq!(living(&[(5, b'R'), (900, b'S'), (901, b'S')]), Some(900));
        assert_eq!(living(&[(5, b'X'), (7, b'R'), (900, b'Z')]), Some(7));
        assert_eq!(living(&[(900, b'Z')]), None);
    }

    #[test]
    fn a_process_started_just_now_started_just_now() {
        let mut child = std::process::Command::new("sleep").arg("10").spawn().unwrap();
        let stat = Proc::of(child.id()).stat();
        child.kill().unwrap();
        child.wait().unwrap();
        let started = started_at(stat.unwrap().start_ticks).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
        assert!((0..2_000_000_000).contains(&(now - started)), "{started} {now}");
    }
}
