//! Which processes are captured: the one that is named, or it and all that descend from it.
//!
//! Processes come and go while they are listed, and ids are given again. So each is known by when it started, too, and one that
//! took the id of another is not captured in its place.

use crate::error::CaptureError;
use crate::live::procfs::{Proc, Stat};
use crate::live::start_of;
use crate::{Options, Target, capture, failed_snapshot, live};
use pyst_snapshot::payload::{Diagnostic, Diagnostics, Severity, Stage};
use pyst_snapshot::{RawSection, Snapshot};
use std::collections::BTreeMap;

/// As many processes are captured at most.
const MAX_MEMBERS: usize = 4096;

/// As many zombies are named.
const MAX_ZOMBIES: usize = 16;

/// One that is to be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    target: Target,
    /// When a process started, in clock ticks since the machine did.
    start: Option<u64>,
    /// What was found of its children.
    notes: Vec<Diagnostic>,
}

impl Member {
    /// What a target names now, and is captured now.
    #[must_use]
    pub fn once(target: Target) -> Member {
        Member { target, start: None, notes: Vec::new() }
    }

    /// What a target names now, whatever has its id later.
    #[must_use]
    pub fn of(target: Target) -> Member {
        let start = match target {
            Target::Live(pid) => start_of(pid),
            Target::Core { .. } => None,
        };
        Member { target, start, notes: Vec::new() }
    }

    /// What is to be captured.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// It and, if it is a process, all that descend from it, parents first, brothers by age. What is born later is not among
    /// them, nor is this very process.
    #[must_use]
    pub fn with_descendants(&self) -> Vec<Member> {
        let Target::Live(root) = self.target else { return vec![self.clone()] };
        // There is no process 0, and yet it is the parent of the first ones.
        if self.start.is_none() || self.check().is_err() || live::check_proc().is_err() {
            return vec![self.clone()];
        }
        descendants(self.clone(), root, &listed(), std::process::id())
    }

    /// Captures it. What was found of its children comes after what the capture itself has to say.
    ///
    /// # Errors
    /// Nothing could be captured.
    pub fn capture(
        &self,
        options: &Options,
    ) -> Result<impl Iterator<Item = Result<RawSection, CaptureError>>, CaptureError> {
        self.check()?;
        let captured = match self.target {
            Target::Live(pid) => live::capture(pid, self.start, options)?,
            Target::Core { .. } => capture(self.target.clone(), options)?,
        };
        let notes = Diagnostics { stage: Stage::GRAB, items: self.notes.clone() };
        let notes = (!self.notes.is_empty()).then(|| RawSection::of(&notes).map_err(CaptureError::from));
        Ok(captured.chain(notes))
    }

    /// A well-formed snapshot that says who this is, and why there is nothing else.
    #[must_use]
    pub fn failed(&self, reason: Diagnostic, options: &Options) -> Snapshot {
        let mut snapshot = failed_snapshot(reason, options);
        let process = match self.target {
            Target::Live(pid) if self.check().is_ok() => live::described(pid),
            _ => None,
        };
        if let Some(process) = process {
            // A few hundred bytes fit.
            let _ = snapshot.append(&process);
        }
        snapshot
    }

    /// The id of a process that was there, and has exited.
    #[must_use]
    pub fn ended_pid(&self) -> Option<u32> {
        let (Target::Live(pid), Some(start)) = (&self.target, self.start) else { return None };
        let is_there = |stat: Stat| stat.start_ticks == start && !is_zombie(*pid, &stat);
        (!Proc::of(*pid).stat().is_some_and(is_there)).then_some(*pid)
    }

    /// Checks that its id is still its own.
    fn check(&self) -> Result<(), CaptureError> {
        match (&self.target, self.start) {
            (Target::Live(pid), Some(start)) if start_of(*pid) != Some(start) => {
                Err(CaptureError::Exited { pid: *pid })
            }
            _ => Ok(()),
        }
    }
}

/// A process of which nothing is left to look at. The others of its threads may outlive the first.
fn is_zombie(pid: u32, stat: &Stat) -> bool {
    stat.is_zombie() && Proc::of(pid).tids().map_or(true, |tids| tids.len() <= 1)
}

/// A process as `/proc` lists it.
struct Listed {
    parent: u32,
    start: u64,
    is_zombie: bool,
}

/// All processes there are. `/proc/PID/task/TID/children` would be less to read, but not every kernel has it, and it leaves
/// children out while others exit; whose child a process is, it says itself, whichever thread made it.
/// (Linux, Documentation/filesystems/proc.rst, 3.7)
fn listed() -> BTreeMap<u32, Listed> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let listed = pids.filter_map(|pid| {
        let stat = Proc::of(pid).stat()?;
        Some((pid, Listed { parent: stat.ppid, start: stat.start_ticks, is_zombie: is_zombie(pid, &stat) }))
    });
    listed.collect()
}

/// What descends from `root`, without process `own`.
fn descendants(root: Member, pid: u32, listed: &BTreeMap<u32, Listed>, own: u32) -> Vec<Member> {
    let mut children: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
    for (pid, process) in listed.iter().filter(|(pid, _)| **pid != own) {
        children.entry(process.parent).or_default().push((process.start, *pid));
    }
    let mut members: Vec<Member> = Vec::new();
    let mut zombies = 0;
    // Listed while ids are given again, processes may seem to descend from each other.
    children.values_mut().for_each(|children| children.retain(|(_, child)| *child != pid));
    let mut waiting = vec![(pid, root)];
    while let Some((pid, mut member)) = waiting.pop() {
        if members.len() == MAX_MEMBERS {
            let message = format!(
                "more than {MAX_MEMBERS} processes descend from the one that was named: the others were not captured; name \
                 one further down"
            );
            if let Some(first) = members.first_mut() {
                first.notes.push(Diagnostic::new(Severity::LOSS, "too-many-processes", message));
            }
            break;
        }
        let mut own = children.remove(&pid).unwrap_or_default();
        own.sort_unstable();
        for (start, child) in own.into_iter().rev() {
            if listed.get(&child).is_some_and(|process| process.is_zombie) {
                zombies += 1;
                if zombies <= MAX_ZOMBIES {
                    member.notes.push(zombie(child, pid));
                }
                continue;
            }
            let start = Some(start);
            waiting.push((child, Member { target: Target::Live(child), start, notes: Vec::new() }));
        }
        members.push(member);
    }
    members
}

/// Nothing is lost: there was nothing to have.
fn zombie(pid: u32, parent: u32) -> Diagnostic {
    let message = CaptureError::Zombie { pid, parent }.to_string();
    Diagnostic::new(Severity::WARNING, "zombie-child", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(processes: &[(u32, u32, u64, bool)]) -> BTreeMap<u32, Listed> {
        let listed = |&(pid, parent, start, is_zombie)| (pid, Listed { parent, start, is_zombie });
        processes.iter().map(listed).collect()
    }

    fn pids(members: &[Member]) -> Vec<u32> {
        let pid = |member: &Member| if let Target::Live(pid) = member.target { pid } else { 0 };
        members.iter().map(pid).collect()
    }

    fn root(pid: u32) -> Member {
        Member { target: Target::Live(pid), start: Some(1), notes: Vec::new() }
    }

    #[test]
    fn what_is_no_process_has_no_descendants() {
        let nobody = Member::of(Target::Live(0));
        assert_eq!(nobody.with_descendants(), vec![nobody]);
    }

    #[test]
    fn parents_come_first_and_brothers_by_age() {
        // Ids have wrapped around: 3 is younger than 30.
        let listed =
            of(&[(10, 1, 1, false), (30, 10, 2, false), (3, 10, 5, false), (40, 30, 6, false), (7, 1, 7, false)]);
        assert_eq!(pids(&descendants(root(10), 10, &listed, 0)), [10, 30, 40, 3]);
        assert_eq!(pids(&descendants(root(10), 10, &listed, 30)), [10, 3]);
        // One that is not listed is captured all the same: that tells why not.
        assert_eq!(pids(&descendants(root(99), 99, &listed, 0)), [99]);
    }

    #[test]
    fn zombies_are_told_of_by_their_parents_and_circles_end() {
        let listed = of(&[(10, 12, 1, false), (11, 10, 2, true), (12, 10, 3, false)]);
        let members = descendants(root(10), 10, &listed, 0);
        assert_eq!(pids(&members), [10, 12]);
        let said: Vec<_> = members[0].notes.iter().map(|note| (note.code.as_str(), note.severity)).collect();
        assert_eq!(said, [("zombie-child", Severity::WARNING)]);
        assert!(members[0].notes[0].message.contains("process 11 has exited"));
    }

    #[test]
    fn a_tree_without_end_is_cut_off() {
        let processes: Vec<_> = (2..9000).map(|pid| (pid, pid - 1, 1, false)).collect();
        let members = descendants(root(1), 1, &of(&processes), 0);
        assert_eq!(members.len(), MAX_MEMBERS);
        assert_eq!(members[0].notes[0].code, "too-many-processes");
    }

    #[test]
    fn one_that_took_the_id_of_another_is_not_captured_in_its_place() {
        let this = std::process::id();
        let other = Member { start: Some(0), ..root(this) };
        assert!(matches!(other.capture(&Options::default()), Err(CaptureError::Exited { .. })));
        assert_eq!(other.ended_pid(), Some(this));
        assert_eq!(Member::of(Target::Live(this)).ended_pid(), None);
        assert_eq!(Member::of(Target::Live(u32::MAX)).ended_pid(), None);
    }

    #[test]
    fn the_children_of_this_process_are_found_whichever_thread_made_them() {
        let start = || std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let mut children = [start(), std::thread::spawn(start).join().unwrap()];
        let ids = children.each_ref().map(std::process::Child::id);
        let found = descendants(root(std::process::id()), std::process::id(), &listed(), 0);
        children.iter_mut().for_each(|child| child.kill().and_then(|()| child.wait()).map(drop).unwrap());
        let found = pids(&found);
        assert!(ids.iter().all(|id| found.contains(id)), "{ids:?} not all in {found:?}");
    }
}
