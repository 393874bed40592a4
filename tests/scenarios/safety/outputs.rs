//! Where a snapshot goes may be full, closed or stuck, and memory may run out: it is said, nothing half is left behind, and the
//! target runs on.

use super::{killed_at, lacks, untraced};
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use pyst_tests::{Child, Output, Scenario, Target, Tool, is_root, representatives, run, tool, wait_until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// A target whose snapshot is larger than what a pipe or a small disk takes.
fn large() -> Result<Target> {
    Target::start(&representatives()[0], "fifty_threads.py", &[])
}

/// One line that says why, and exit status 1.
fn refused(output: &Output, words: &[&str]) -> Result<()> {
    ensure!(output.status == Some(1), "exit status {:?}: {}", output.status, output.stderr);
    ensure!(output.stderr.lines().count() == 1, "not one line: {}", output.stderr);
    ensure!(words.iter().all(|word| output.stderr.contains(word)), "{words:?} are not in: {}", output.stderr);
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_behind() {
    let scenario = Scenario::new("output: full disk");
    if !is_root() || lacks(&scenario, &["unshare", "mount"]) {
        return scenario.skip("all", "mounting a small disk needs root");
    }
    scenario.on("all", || {
        let target = large()?;
        let (folder, results) = (tempfile::tempdir()?, tempfile::tempdir()?);
        // A mount of its own namespace: it ends with the shell.
        let script = "mount -t tmpfs -o size=64k,mode=700 none \"$1\" && cd \"$1\" && echo earlier >old.pyst || exit 9
            \"$3\" \"$4\" -o new.pyst; status=$?
            \"$3\" \"$4\" -o \"$1/old.pyst\"; echo $status $? >\"$2/statuses\"; ls -A >\"$2/files\"; cat old.pyst >\"$2/old\"";
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", script, "sh"]).arg(folder.path()).arg(results.path()).arg(Tool::Grab.path());
        let output = run(shell.arg(target.pid().to_string()))?;
        let result = |name: &str| fs::read_to_string(results.path().join(name)).unwrap_or_default();
        ensure!(result("statuses").trim() == "1 1", "exit statuses {}: {}", result("statuses"), output.stderr);
        ensure!(result("files").trim() == "old.pyst", "left behind: {}", result("files"));
        ensure!(result("old").trim() == "earlier", "the earlier file is gone");
        let lines: Vec<&str> = output.stderr.lines().collect();
        let said = |line: &str, name: &str| line.ends_with(&format!("cannot write {name}: No space left on device (os error 28)"));
        let old = folder.path().join("old.pyst").display().to_string();
        ensure!(lines.len() == 2 && said(lines[0], "new.pyst") && said(lines[1], &old), "{lines:?}");
        untraced(target.pid())
    });
    scenario.finish();
}

#[test]
fn a_full_device_is_said() {
    let scenario = Scenario::new("output: /dev/full");
    scenario.on("all", || {
        let target = large()?;
        let pid = target.pid().to_string();
        let mut grab = tool(Tool::Grab);
        let child =
            grab.arg(&pid).stdin(Stdio::null()).stdout(File::create("/dev/full")?).stderr(Stdio::piped()).output()?;
        let stderr = String::from_utf8(child.stderr)?;
        ensure!(child.status.code() == Some(1), "{:?}: {stderr}", child.status);
        ensure!(
            stderr == "pyst-grab: cannot write standard output: No space left on device (os error 28)\n",
            "{stderr}"
        );
        refused(&run(tool(Tool::Grab).args([&pid, "-o", "/dev/full"]))?, &["/dev/full", "No space left"])?;
        let nowhere = "/nonexistent/x.pyst";
        refused(&run(tool(Tool::Grab).args([&pid, "-o", nowhere]))?, &[nowhere, "o such file or directory"])?;
        target.wait_for_state('S')?;
        untraced(target.pid())
    });
    scenario.finish();
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let scenario = Scenario::new("output: closed pipe");
    scenario.on("all", || {
        let target = large()?;
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut grab = tool(Tool::Grab);
        let child =
            grab.arg(target.pid().to_string()).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output()?;
        ensure!(child.status.code() == Some(0) && child.stderr.is_empty(), "{child:?}");
        target.wait_for_state('S')?;
        untraced(target.pid())
    });
    scenario.finish();
}

#[test]
fn the_target_runs_on_while_nobody_reads_the_snapshot() {
    let scenario = Scenario::new("output: stuck reader");
    scenario.on("all", || {
        let target = large()?;
        let mut grab = tool(Tool::Grab);
        grab.arg(target.pid().to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut grab = Child::spawn(&mut grab)?;
        let stuck = format!("/proc/{}/syscall", grab.pid());
        wait_until("pyst-grab to be stuck in write", 60, || {
            fs::read_to_string(&stuck).ok()?.starts_with("1 ").then_some(())
        })?;
        // As long as it likes: another capture, and signals, go well meanwhile.
        untraced(target.pid())?;
        target.wait_for_state('S')?;
        target.faulthandler()?;
        pyst_tests::grab([target.pid().to_string()])?.expect_status(0)?;
        ensure!(grab.ended().is_none(), "it did not wait for its reader");
        Ok(())
    });
    scenario.finish();
}

/// Whatever ends it, and when: a file that has the name is whole, and there is no other.
#[test]
fn a_pyst_grab_that_is_killed_leaves_no_half_of_a_file() {
    let scenario = Scenario::new("output: killed while it writes");
    if lacks(&scenario, &["strace"]) {
        return;
    }
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        scenario.on(signal.as_str(), || {
            let target = large()?;
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("x.pyst");
            let mut killed = 0;
            for (call, when) in [("write", 1), ("write", 2), ("write", 5), ("write", 8), ("linkat", 1)] {
                let status = killed_at(target.pid(), call, when, signal, Some(&file))?;
                killed += usize::from(status.is_none());
                let names = entries(folder.path())?;
                // It was named by the very call that it did not survive.
                let whole = call == "linkat" && names == ["x.pyst"];
                ensure!(names.is_empty() || whole || status.is_some(), "{call} {when}: {names:?} left behind");
                if whole {
                    pyst_tests::analyse(&fs::read(&file)?)?.agrees_with(target.account())?;
                }
                let _ = fs::remove_file(&file);
                untraced(target.pid())?;
            }
            ensure!(killed >= 3, "it was killed {killed} times only");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn running_out_of_memory_is_a_clean_failure() {
    let scenario = Scenario::new("out of memory");
    if lacks(&scenario, &["prlimit"]) {
        return;
    }
    scenario.on("all", || {
        let target = large()?;
        let mut failed = 0;
        let mut unclean = Vec::new();
        let data = (1..=12).map(|mib| format!("--data={}", mib << 20));
        for limit in data.chain((4..=16).map(|quarter| format!("--as={}", (quarter * 4) << 20))) {
            let mut command = Command::new("prlimit");
            command.arg(&limit).arg("--core=0").arg(Tool::Grab.path()).arg(target.pid().to_string());
            let output = run(&mut command)?;
            // In a pipe the next tool says it, where there was the memory for a snapshot.
            let said = output.said()?;
            let clean = output.status == Some(1) && (said.contains("out of memory") || said.contains("start a thread"));
            failed += usize::from(clean);
            // With even less the dynamic linker fails.
            if !clean && output.status != Some(0) && !said.contains("shared libraries") {
                unclean.push(format!("{limit}: {:?} {said}", output.status));
            }
            untraced(target.pid())?;
            target.wait_for_state('S')?;
        }
        // Where a thread is being started, the C library aborts.
        ensure!(unclean.len() <= 2, "{unclean:#?}");
        ensure!(failed >= 8, "failed {failed} times only: {unclean:#?}");
        Ok(())
    });
    scenario.finish();
}
