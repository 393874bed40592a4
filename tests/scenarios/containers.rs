//! Containers, made as container engines make them: a pid namespace in another one, a mount namespace whose root is an overlay, and a
//! /proc of its own. Seen from the host, and from within.

use anyhow::{Context, Result, ensure};
use pyst_tests::{
    Interpreter, Pipeline, Report, Scenario, Target, Tool, analyse, copy_program, grab, is_root, representatives, run,
};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const UNSHARE: [&str; 6] = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--"];

/// Makes the root out of `LOWER`, enters it, and runs what is left of its arguments. Files of targets lie in `/tmp`, where the
/// tests look for them.
const ENTER: &str = r#"
set -e
mount -t tmpfs none /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir="$LOWER",upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount --bind "${LOWER%/}/tmp" /mnt/root/tmp
mount -t proc proc /mnt/root/proc
mkdir -p /mnt/root/host
cd /mnt/root
pivot_root . host
[ "$1" != /usr/sbin/chroot ] || shift 2
exec "$@"
"#;

/// A target in a container in a container.
fn contained(interpreter: &Interpreter) -> Result<Target> {
    let lower = interpreter.root.clone().unwrap_or(PathBuf::from("/")).display().to_string();
    let enter = format!("LOWER='{lower}'; {ENTER}");
    let prefix = [&UNSHARE[..], &UNSHARE, &["sh", "-c", &enter, "sh"]].concat();
    Target::start_through(&prefix, interpreter, "eight_threads.py")
}

/// Why there can be no such container here.
fn lacks() -> Option<&'static str> {
    if !is_root() {
        return Some("making namespaces needs root");
    }
    let probe = "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r && \
                 mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r";
    let mut probes = Command::new("unshare");
    probes.args(&UNSHARE[1..]).args(["sh", "-c", probe]);
    let works = run(&mut probes).is_ok_and(|output| output.status == Some(0));
    (!works).then_some("no unshare, or no overlay file system")
}

#[test]
fn a_container_is_seen_from_the_host() {
    let scenario = Scenario::new("container, from the host");
    if let Some(reason) = lacks() {
        return scenario.skip("all", reason);
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = contained(interpreter)?;
            let report = analyse(&grab([target.pid().to_string()])?.snapshot()?)?;
            let mut account = target.account().clone();
            for thread in &mut account.threads {
                let known = report.threads().into_iter().find(|one| one.json["namespace_tid"] == thread.tid);
                let tid = known.and_then(|one| one.tid());
                thread.tid = tid.with_context(|| format!("no namespace tid {}", thread.tid))?;
            }
            whole(&report, target.pid())?;
            report.agrees_with(&account)?;
            // Its id in the outer container, and in its own.
            let inner = report.json["process"]["namespace_pids"].as_array().context("no ids")?.clone();
            ensure!(inner.len() == 2 && inner[1] == 1, "{inner:?}");

            // What is gone from the container is had all the same.
            let exe = fs::read_link(format!("/proc/{}/exe", target.pid()))?;
            let inside = PathBuf::from(format!("/proc/{}/root{}", target.pid(), exe.display()));
            fs::remove_file(&inside).with_context(|| format!("removing {}", inside.display()))?;
            let report = analyse(&grab([target.pid().to_string()])?.snapshot()?)?;
            whole(&report, target.pid())?;
            report.agrees_with(&account).context("without its executable")?;
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn a_container_is_seen_from_within() {
    let scenario = Scenario::new("container, from within");
    if let Some(reason) = lacks() {
        return scenario.skip("all", reason);
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = contained(interpreter)?;
            let copy = target.folder().join("pyst-grab");
            copy_program(&Tool::Grab.path(), &copy)?;
            let host = target.pid().to_string();
            let mut command = Command::new("nsenter");
            command.args(["--target", &host, "--pid", "--mount", "--root", "--wd", "--"]);
            command.arg(interpreter.inside(&copy)).args(["--stop-limit=10000", "1"]);
            let output = run(&mut command)?;
            if output.stderr.contains("error while loading shared libraries") || output.stderr.contains("GLIBC_") {
                scenario.has_none(&interpreter.name, "its root lacks what pyst-grab was built for");
                return Ok(());
            }
            let outputs = Pipeline::with_local_files(&["--format", "json", "--all-threads"]);
            let outputs = outputs.run(&output.snapshot()?)?;
            let report = Report::parse(&outputs.last().context("no output")?.stdout)?;
            whole(&report, 1)?;
            report.agrees_with(target.account())?;
            ensure!(report.json["process"]["namespace_pids"] == serde_json::json!([]), "{}", report.json["process"]);
            Ok(())
        });
    }
    scenario.finish();
}

/// Native frames of all threads, and the source of the line where the main one waits.
fn whole(report: &Report, tid: u32) -> Result<()> {
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    let native = report.threads().iter().all(|thread| thread.native_frames().len() > 3);
    ensure!(native, "no native frames");
    let main = report.thread(tid)?.frames();
    let line = main.iter().rev().find(|frame| frame["kind"] == "python").map(|frame| frame["source"].clone());
    ensure!(line == Some("account.tell(); time.sleep(account.FOREVER)".into()), "source: {line:?}");
    Ok(())
}
