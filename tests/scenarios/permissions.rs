//! Who may look at whom: an unprivileged user at his own processes, completely; and where the kernel refuses, the one reason that it
//! has, with what helps against it.

use crate::empty_root::EmptyRoot;
use anyhow::{Context, Result, bail, ensure};
use pyst_tests::{
    Child, Interpreter, Output, Pipeline, Report, Scenario, Target, Tool, copy_program, has_program, interpreters,
    is_root, run, tools_dir, wait_until,
};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A user that is nobody's.
pub(crate) const USER: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

const SLEEP: &str = "
import threading, time
def inner():
    print('ready')
    time.sleep(600)
def outer():
    inner()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
outer()
";

/// A folder that any user may enter, with a pyst-grab that any user may run.
pub(crate) struct Public(TempDir);

impl Public {
    pub(crate) fn new() -> Result<Public> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        copy_program(&Tool::Grab.path(), &folder.path().join("pyst-grab"))?;
        Ok(Public(folder))
    }

    pub(crate) fn grab(&self) -> PathBuf {
        self.0.path().join("pyst-grab")
    }

    /// `prefix… pyst-grab PID`
    fn grab_through(&self, prefix: &[&str], pid: u32) -> Result<Output> {
        let mut command = command(prefix, self.grab().display().to_string());
        run(command.arg("--stop-limit=10000").arg(pid.to_string()).current_dir("/"))
    }
}

fn command(prefix: &[&str], last: String) -> Command {
    let mut words = prefix.iter().map(|word| (*word).to_owned()).chain([last]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

pub(crate) fn setpriv<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["setpriv"], options, &["--"]].concat()
}

/// A sleeper in `prefix`, which has run `before` first.
fn sleeper(interpreter: &Interpreter, prefix: &[&str], before: &str) -> Result<Child> {
    let mut command = command(prefix, interpreter.exe.display().to_string());
    command.args(["-u", "-c", &format!("{before}\n{SLEEP}")]);
    let mut child = Child::spawn(command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut line = String::new();
    BufReader::new(child.take_stdout().context("no stdout")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the target says {line:?}");
    Ok(child)
}

/// An interpreter that any user may run.
fn public_interpreter() -> Option<&'static Interpreter> {
    interpreters().iter().find(|one| one.root.is_none() && one.exe.starts_with("/usr") && one.version >= (3, 6))
}

/// What a scenario here needs.
pub(crate) fn prepared(scenario: &Scenario) -> Option<(&'static Interpreter, Public)> {
    if !is_root() || !has_program("setpriv") || !has_program("unshare") {
        scenario.skip("all", "becoming another user needs root, setpriv and unshare");
        return None;
    }
    let Some(interpreter) = public_interpreter() else {
        scenario.skip("all", "no interpreter in /usr, which any user may run");
        return None;
    };
    Some((interpreter, Public::new().unwrap()))
}

/// The capture is complete: every thread with its registers, and the frames that the target has.
fn is_complete(output: &Output) -> Result<()> {
    ensure!(output.status == Some(0), "exit status {:?}: {}", output.status, output.said()?);
    let report = report(output)?;
    ensure!(report.codes().is_empty(), "diagnostics: {}", report.json["diagnostics"]);
    ensure!(report.threads().len() == 2, "{} threads", report.threads().len());
    let threads = report.threads();
    let functions = |index: usize| -> Result<Vec<String>> {
        Ok(threads[index].python_frames()?.into_iter().map(|frame| frame.function).collect())
    };
    ensure!(functions(0)? == ["<module>", "outer", "inner"], "{:?}", functions(0)?);
    ensure!(functions(1)?.last().is_some_and(|last| last == "run"), "{:?}", functions(1)?);
    ensure!(threads.iter().all(|thread| thread.native_frames().len() > 3), "no native frames");
    ensure!(report.json["snapshot"]["blocking"] == "stopped", "{}", report.json["snapshot"]);
    Ok(())
}

fn report(output: &Output) -> Result<Report> {
    let outputs = Pipeline::from_snapshot_only(&["--format", "json", "--all-threads"]).run(&output.stdout)?;
    Report::parse(&outputs.last().context("no output")?.stdout)
}

/// The capture was refused for the reason that has this code, and the message has all of `words`.
fn is_refused(output: &Output, code: &str, words: &[&str]) -> Result<()> {
    ensure!(output.status == Some(1), "exit status {:?}: {}", output.status, output.said()?);
    let report = report(output)?;
    let diagnostics = report.json["diagnostics"].as_array().context("no diagnostics")?;
    let [diagnostic] = &diagnostics[..] else { bail!("not one diagnostic: {diagnostics:?}") };
    let message = diagnostic["message"].as_str().context("no message")?;
    ensure!(diagnostic["code"] == code, "{} instead of {code}: {message}", diagnostic["code"]);
    let missing: Vec<_> = words.iter().filter(|word| !message.contains(**word)).collect();
    ensure!(missing.is_empty(), "{missing:?} not in: {message}");
    Ok(())
}

#[test]
fn an_unprivileged_user_sees_all_of_his_own_processes() {
    let scenario = Scenario::new("unprivileged");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    scenario.on(&interpreter.name, || {
        let target = sleeper(interpreter, &setpriv(&USER), "")?;
        let output = public.grab_through(&setpriv(&USER), target.pid())?;
        is_complete(&output)?;
        let status = fs::read_to_string(format!("/proc/{}/status", target.pid()))?;
        ensure!(status.contains("State:\tS") && status.contains("TracerPid:\t0"), "{status}");
        Ok(())
    });
    scenario.on("root without CAP_SYS_PTRACE, as in a container", || {
        let as_in_docker = ["--bounding-set=-sys_ptrace", "--inh-caps=-all"];
        let target = sleeper(interpreter, &setpriv(&as_in_docker), "")?;
        is_complete(&public.grab_through(&setpriv(&as_in_docker), target.pid())?)
    });
    scenario.finish();
}

#[test]
fn each_refusal_names_its_one_reason_and_what_helps() {
    let scenario = Scenario::new("refusals");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    let user = setpriv(&USER);
    let without_ptrace = setpriv(&["--bounding-set=-sys_ptrace", "--inh-caps=-all"]);
    let with_net_raw = setpriv(&[&USER[..], &["--inh-caps=+net_raw", "--ambient-caps=+net_raw"]].concat());
    let of_group = setpriv(&["--reuid=65534", "--regid=100", "--clear-groups"]);
    let bounded = setpriv(&[&["--bounding-set=-sys_ptrace"], &USER[..]].concat());
    let no_new_privs = setpriv(&[&["--no-new-privs"], &USER[..]].concat());
    let undumpable = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)";
    let of_two_users = "import os; os.setresuid(65534, 65534, 0)";
    // Who is captured and what it did before; by whom; with which code, and words.
    type Case<'a> = (&'a str, &'a [&'a str], &'a str, &'a [&'a str], &'a str, &'a [&'a str]);
    let cases: [Case<'_>; 9] = [
        ("another user", &[], "", &user, "other-user", &["uid 0", "uid 65534", "sudo"]),
        ("several users", &[], of_two_users, &user, "changed-user", &["saved 0", "sudo"]),
        ("another group", &of_group, "", &user, "other-group", &["group 100", "sudo"]),
        ("not dumpable", &user, undumpable, &user, "not-dumpable", &["PR_SET_DUMPABLE", "sudo"]),
        ("capabilities", &with_net_raw, "", &user, "more-capabilities", &["(cap_net_raw)", "sudo"]),
        ("root, bounded", &user, "", &without_ptrace, "other-user", &["uid 65534", "--cap-add SYS_PTRACE"]),
        ("root, bounded, of root", &[], "", &without_ptrace, "more-capabilities", &["cap_sys_ptrace", "--cap-add"]),
        ("user, bounded", &[], "", &bounded, "other-user", &["--cap-add SYS_PTRACE"]),
        ("no new privileges", &[], "", &no_new_privs, "other-user", &["no_new_privs"]),
    ];
    for (what, target, before, grab, code, words) in cases {
        scenario.on(what, || {
            let target = sleeper(interpreter, target, before)?;
            is_refused(&public.grab_through(grab, target.pid())?, code, words)
        });
    }
    scenario.finish();
}

/// What executables make of a process: one that is setuid, and one that may be run and not read.
#[test]
fn what_the_executable_forbids_is_said() {
    let scenario = Scenario::new("refusals by the executable");
    let Some((_, public)) = prepared(&scenario) else { return };
    let cases = [
        ("setuid", 0o4755, "changed-user", "real uid 65534, effective 0"),
        ("unreadable", 0o711, "not-dumpable", "sudo"),
    ];
    for (what, mode, code, words) in cases {
        let exe = public.0.path().join(what);
        copy_program("/bin/sleep".as_ref(), &exe).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = command(&setpriv(&USER), exe.display().to_string());
        let target = Child::spawn(command.arg("600").current_dir("/")).unwrap();
        let status = wait_until("sleep", 20, || {
            let status = fs::read_to_string(format!("/proc/{}/status", target.pid())).ok()?;
            (status.contains(&format!("Name:\t{what}\n")) && status.contains("State:\tS")).then_some(status)
        });
        if what == "setuid" && !status.unwrap().contains("Uid:\t65534\t0\t0") {
            scenario.skip(what, "the temporary folder is on a file system without setuid");
            continue;
        }
        if fs::metadata(format!("/proc/{}/stat", target.pid())).is_ok_and(|stat| stat.uid() == 65534) {
            scenario.skip(what, "this kernel leaves such a process dumpable");
            continue;
        }
        scenario.on(what, || is_refused(&public.grab_through(&setpriv(&USER), target.pid())?, code, &[words]));
    }
    scenario.finish();
}

#[test]
fn filters_and_policies_of_a_sandbox_are_told_from_other_refusals() {
    let scenario = Scenario::new("refusals of a sandbox");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    let sandbox = tools_dir().join("sandbox.py").display().to_string();
    let python = interpreter.exe.display().to_string();
    let words = |call: &'static str| [call, "seccomp", "--security-opt"];
    let cases = [
        ("no ptrace", &["forbid", "101"][..], "seccomp", words("ptrace")),
        ("no process_vm_readv", &["forbid", "310"], "seccomp", words("process_vm_readv")),
        ("Landlock", &["landlock"], "not-permitted", ["Landlock", "outside", "policy"]),
    ];
    for (what, arguments, code, words) in cases {
        let target = sleeper(interpreter, &[], "").unwrap();
        let prefix = [&[python.as_str(), &sandbox], arguments].concat();
        let output = public.grab_through(&prefix, target.pid()).unwrap();
        if output.status == Some(77) {
            scenario.skip(what, output.stderr.trim());
            continue;
        }
        scenario.on(what, || is_refused(&output, code, &words));
        if words[0] != "ptrace" {
            continue;
        }
        scenario.on("no ptrace, and none needed", || {
            let mut command = command(&prefix, public.grab().display().to_string());
            let output = run(command.args(["--no-block", &target.pid().to_string()]).current_dir("/"))?;
            ensure!(output.status == Some(0), "exit status {:?}: {}", output.status, output.said()?);
            ensure!(report(&output)?.threads()[0].python_frames()?.len() == 3, "other frames");
            Ok(())
        });
        scenario.on("no ptrace, and some needed", || {
            let busy = Target::start_awake(interpreter, "chains.py", &["1"])?;
            let mut command = command(&prefix, public.grab().display().to_string());
            let output = run(command.args(["--no-block=fallback", &busy.pid().to_string()]).current_dir("/"))?;
            let said = output.said()?;
            ensure!(output.status == Some(3) && said.contains("could not be stopped"), "{:?}: {said}", output.status);
            ensure!(words.iter().all(|word| said.contains(word)), "{words:?} are not in: {said}");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn user_namespaces_are_looked_into_and_not_out_of() {
    let scenario = Scenario::new("user namespaces");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    let inside = [&setpriv(&USER)[..], &["unshare", "--user", "--map-root-user", "--"]].concat();
    if !run(command(&inside, "true".to_owned()).current_dir("/")).is_ok_and(|output| output.status == Some(0)) {
        return scenario.skip("all", "users may not make user namespaces here");
    }
    let user = setpriv(&USER);
    scenario.on("a rootless container, seen by its user", || {
        let target = sleeper(interpreter, &inside, "")?;
        is_complete(&public.grab_through(&user, target.pid())?)
    });
    let whole = [&inside[..inside.len() - 1], &["--pid", "--fork", "--kill-child", "--mount-proc", "--"]].concat();
    scenario.on("a rootless container with all its namespaces, seen by its user", || {
        let container = sleeper(interpreter, &whole, "")?;
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", container.pid()))?;
        let output = public.grab_through(&user, children.trim().parse()?)?;
        is_complete(&output)?;
        ensure!(report(&output)?.json["process"]["namespace_pids"] == serde_json::json!([1]), "another id inside");
        Ok(())
    });
    scenario.on("a rootless container, seen by root", || {
        let target = sleeper(interpreter, &inside, "")?;
        is_complete(&public.grab_through(&["env"], target.pid())?)
    });
    scenario.on("out of a rootless container", || {
        let target = sleeper(interpreter, &user, "")?;
        is_refused(&public.grab_through(&inside, target.pid())?, "user-namespace", &["on the host"])
    });
    scenario.finish();
}

#[test]
fn a_proc_that_hides_processes_or_shows_others_is_seen_through() {
    let scenario = Scenario::new("/proc");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    let grab = public.grab().display().to_string();
    // A pid namespace of its own has a /proc of its own: no setting of this machine changes.
    let own = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c"];
    if !run(command(&own, "true".to_owned()).current_dir("/")).is_ok_and(|output| output.status == Some(0)) {
        return scenario.skip("all", "making namespaces needs CAP_SYS_ADMIN");
    }
    let program = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print(1, flush=True); time.sleep(600)";
    let undumpable = format!("{} -c '{program}'", interpreter.exe.display());
    let user = format!("setpriv {} --", USER.join(" "));
    let plain = "sh -c 'echo 1; exec sleep 600'";
    let ready = public.0.path().join("ready").display().to_string();
    for (what, value, target, whose) in [
        ("that hides", "2", plain.to_owned(), "another user's"),
        ("that locks", "1", plain.to_owned(), "another user's"),
        ("that hides one's own", "2", format!("{user} {undumpable}"), "this user's, but not dumpable"),
    ] {
        scenario.on(what, || {
            let line = format!(
                "rm -f {ready} && mount -o remount,hidepid={value} /proc && {{ {target} >{ready} & }} && \
                 until [ -s {ready} ]; do sleep 0.05; done && {user} {grab} $!",
            );
            is_refused(&run(command(&own, line).current_dir("/"))?, "hidden", &["hidepid=", whose, "sudo"])
        });
    }
    scenario.on("that of another pid namespace", || {
        let prefix = ["unshare", "--pid", "--fork", "--kill-child", "--"];
        is_refused(&public.grab_through(&prefix, 1)?, "foreign-proc", &["pid namespace", "mount"])
    });
    scenario.on("none", || {
        let root = EmptyRoot::new()?;
        is_refused(&run(root.command(Tool::Grab).arg("1"))?, "no-proc", &["mount -t proc"])
    });
    scenario.finish();
}

/// Yama guards those who may look otherwise. Its setting is put back whatever happens.
#[test]
fn what_yama_forbids_is_said_with_its_setting() {
    const SETTING: &str = "/proc/sys/kernel/yama/ptrace_scope";
    struct Restored(String);
    impl Drop for Restored {
        fn drop(&mut self) {
            let _ = fs::write(SETTING, &self.0);
        }
    }
    let scenario = Scenario::new("Yama");
    let Some((interpreter, public)) = prepared(&scenario) else { return };
    let Ok(before) = fs::read_to_string(SETTING) else {
        return scenario.skip("all", "this kernel has no Yama");
    };
    // From 3 there is no way back.
    if !["0", "1", "2"].contains(&before.trim()) {
        return scenario.skip("all", "kernel.yama.ptrace_scope cannot be changed");
    }
    let _restored = Restored(before);
    for (scope, words) in [("1", ["PR_SET_PTRACER", "ptrace_scope = 1"]), ("2", ["sudo", "ptrace_scope = 2"])] {
        scenario.on(&format!("scope {scope}"), || {
            fs::write(SETTING, scope)?;
            let target = sleeper(interpreter, &setpriv(&USER), "")?;
            is_refused(&public.grab_through(&setpriv(&USER), target.pid())?, "yama", &words)?;
            is_complete(&public.grab_through(&["env"], target.pid())?)
        });
    }
    scenario.finish();
}
