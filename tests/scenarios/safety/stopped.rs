//! A process that was stopped, or frozen by a cgroup, stays so, and one that is let go meanwhile goes.

use super::processes::Odd;
use super::{killed_at, lacks, untraced};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyst_tests::{Child, Scenario, Target, Tool, analyse, grab, is_root, representatives, wait_until};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_stopped_process_stays_stopped_wherever_pyst_grab_is_killed() {
    let scenario = Scenario::new("nothing lost: stopped, and killed at every call");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "eight_threads.py", &[])?;
        target.signal(Signal::SIGSTOP)?;
        target.wait_for_state('T')?;
        let mut killed = 0;
        for when in (1..=32).step_by(3) {
            killed += usize::from(killed_at(target.pid(), "ptrace", when, Signal::SIGKILL, None)?.is_none());
            untraced(target.pid())?;
            target.wait_for_state('T')?;
        }
        ensure!(killed > 5, "killed {killed} times only");
        target.signal(Signal::SIGCONT)?;
        target.wait_for_state('S')
    });
    scenario.finish();
}

/// A pyst-grab that strace holds back for a second while it has the target stopped.
fn slow_grab(pid: u32, more: &[&str]) -> Result<Child> {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=ptrace:delay_enter=1000000:when=5"]).args(more);
    strace.arg(Tool::Grab.path()).arg(pid.to_string());
    // A process group of its own that its parent's session knows: in another one, a terminal's stop would be ignored.
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let grab = Child::spawn(&mut strace)?;
    wait_until("the target to be stopped by pyst-grab", 60, || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let mut statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        statuses.any(|status| status.contains("State:\tt")).then_some(())
    })?;
    Ok(grab)
}

#[test]
fn a_process_that_is_stopped_or_continued_during_a_capture_is_so_afterwards() {
    let scenario = Scenario::new("nothing lost: SIGSTOP and SIGCONT during a capture");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    for (signal, before, after) in [(Signal::SIGSTOP, 'S', 'T'), (Signal::SIGCONT, 'T', 'S')] {
        scenario.on(signal.as_str(), || {
            // One thread: its capture waits where the tracer lets it go.
            let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
            if before == 'T' {
                target.signal(Signal::SIGSTOP)?;
                target.wait_for_state('T')?;
            }
            let mut grab = slow_grab(target.pid(), &["-e", "inject=ptrace:delay_enter=1000000:when=3+"])?;
            target.signal(signal)?;
            wait_until("pyst-grab", 60, || grab.ended())?;
            untraced(target.pid())?;
            target.wait_for_state(after)?;
            target.signal(Signal::SIGCONT)?;
            target.wait_for_state('S')
        });
    }
    scenario.finish();
}

/// Ctrl-Z stops pyst-grab when it has let go, not before.
#[test]
fn a_pyst_grab_that_is_stopped_by_its_terminal_does_not_hold_its_target() {
    let scenario = Scenario::new("nothing lost: Ctrl-Z");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "eight_threads.py", &[])?;
        let mut strace = slow_grab(target.pid(), &["-e", "inject=ptrace:delay_enter=300000:when=20"])?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", strace.pid()))?;
        let grab = Pid::from_raw(children.trim().parse().with_context(|| format!("not one child: {children}"))?);
        kill(grab, Signal::SIGTSTP)?;
        untraced(target.pid())?;
        target.wait_for_state('S')?;
        std::thread::sleep(Duration::from_millis(300));
        ensure!(strace.ended().is_none(), "nothing stopped pyst-grab");
        kill(grab, Signal::SIGCONT)?;
        let status = wait_until("pyst-grab to go on", 60, || strace.ended())?;
        ensure!(matches!(status.code(), Some(0 | 3)), "{status:?}");
        Ok(())
    });
    scenario.finish();
}

/// A control group of its own, which goes when it is dropped.
struct Group {
    folder: PathBuf,
    file: &'static str,
    thawed: &'static str,
}

impl Group {
    /// In the hierarchy of this type that is mounted, if one is and this may.
    fn create(kind: &str, option: &str, file: &'static str, thawed: &'static str) -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
        let mount = lines.find(|words| {
            let options = words.get(3).is_some_and(|options| options.split(',').any(|one| one == option));
            words.get(2) == Some(&kind) && (option.is_empty() || options)
        })?;
        let folder = Path::new(mount.get(1)?).join(format!("pyst-test-{}-{}", std::process::id(), file.len()));
        fs::create_dir(&folder).ok()?;
        let group = Group { folder, file, thawed };
        group.folder.join(file).exists().then_some(group)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.folder.join(file), text).with_context(|| format!("writing {text} to {file}"))
    }

    fn thaw(&self) {
        let _ = self.write(self.file, self.thawed);
    }

    fn read(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join(file))?)
    }
}

/// Lets the processes of a group go on, also when the tests are killed, for nothing else could end what is frozen: a shell that is
/// told by the end of its input.
struct Thaw<'a> {
    group: &'a Group,
    watch: std::process::Child,
}

impl Thaw<'_> {
    fn at_the_end(group: &Group) -> Result<Thaw<'_>> {
        let mut shell = Command::new("sh");
        // In a process group of its own, so that what ends the tests by theirs does not end it.
        shell.args(["-c", "cat; echo \"$1\" >\"$0\""]).arg(group.folder.join(group.file)).arg(group.thawed);
        let watch = shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        Ok(Thaw { group, watch })
    }
}

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        self.group.thaw();
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.thaw();
        // It goes when its last process has.
        let _ = wait_until("the control group to empty", 20, || fs::remove_dir(&self.folder).ok());
    }
}

#[test]
fn a_process_frozen_by_a_cgroup_is_captured_and_stays_frozen() {
    let scenario = Scenario::new("nothing lost: frozen by cgroup v2");
    let Some(group) = Group::create("cgroup2", "", "cgroup.freeze", "0").filter(|_| is_root()) else {
        return scenario.skip("all", "no cgroup2 is mounted, or this may not make groups in it");
    };
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "eight_threads.py", &[])?;
        let _thaw = Thaw::at_the_end(&group)?;
        group.write("cgroup.procs", &target.pid().to_string())?;
        group.write("cgroup.freeze", "1")?;
        let frozen = || group.read("cgroup.events").is_ok_and(|events| events.contains("frozen 1"));
        wait_until("the target to freeze", 20, || frozen().then_some(()))?;
        for _ in 0..5 {
            analyse(&grab([target.pid().to_string()])?.snapshot()?)?.agrees_with(target.account())?;
            untraced(target.pid())?;
            wait_until("the target to be frozen", 20, || frozen().then_some(()))?;
        }
        group.write("cgroup.freeze", "0")?;
        target.faulthandler().map(drop)
    });
    scenario.finish();
}

/// As `docker pause` does it on older systems: such a process cannot be stopped.
#[test]
fn a_process_frozen_by_the_old_freezer_is_left_in_peace() {
    let scenario = Scenario::new("nothing lost: frozen by cgroup v1");
    let group = Group::create("cgroup", "freezer", "freezer.state", "THAWED").filter(|_| is_root());
    let Some(group) = group.filter(|_| !lacks(&scenario, &["gcc"])) else {
        return scenario.skip("all", "the v1 freezer is not mounted, or this may not make groups in it");
    };
    scenario.on("all", || {
        let odd = Odd::start(&["storm"])?;
        // Nothing ends a process that is frozen: it thaws first, whatever happens here.
        let _thaw = Thaw::at_the_end(&group)?;
        group.write("cgroup.procs", &odd.pid().to_string())?;
        group.write("freezer.state", "FROZEN")?;
        let frozen = || group.read("freezer.state").is_ok_and(|state| state.trim() == "FROZEN");
        wait_until("the target to freeze", 20, || frozen().then_some(()))?;
        for _ in 0..5 {
            let output = grab([odd.pid().to_string()])?;
            ensure!(output.status == Some(3) && output.took.as_secs() < 10, "{:?} {:?}", output.status, output.took);
            ensure!(output.said()?.contains("frozen"), "does not say why: {}", output.said()?);
            untraced(odd.pid())?;
            ensure!(frozen(), "it was thawed");
        }
        group.write("freezer.state", "THAWED")?;
        odd.is_unharmed()
    });
    scenario.finish();
}
