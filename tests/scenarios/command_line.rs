//! The manners of the command line: versions, usage errors, where output goes.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Scenario, Target, Tool, analyse, grab, representatives, run, run_with_input, tool};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn versions_and_help() {
    let scenario = Scenario::new("versions and help");
    for one in Tool::ALL {
        scenario.on(one.name(), || {
            let version = run(tool(one).arg("--version"))?.expect_status(0)?.text();
            ensure!(version.starts_with(&format!("{} {}", one.name(), env!("CARGO_PKG_VERSION"))), "{version}");
            ensure!(version.contains("snapshot format 1") && version.contains("report schema 1"), "{version}");
            let help = run(tool(one).arg("--help"))?.expect_status(0)?.text();
            ensure!(help.contains("Usage:") && help.contains(one.name()), "{help}");
            let wrong = run(tool(one).arg("--no-such-option"))?;
            ensure!(wrong.status == Some(2) && wrong.stdout.is_empty() && !wrong.stderr.is_empty(), "{wrong:?}");
            Ok(())
        });
    }
    scenario.on("pyst-grab without arguments", || {
        let wrong = grab::<&str>([])?;
        ensure!(wrong.status == Some(2), "{wrong:?}");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_file_named_by_o_is_whole_private_and_says_what_a_pipe_says() {
    let scenario = Scenario::new("-o FILE");
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("hang.pyst");
        let path = file.to_string_lossy().into_owned();
        let quiet = grab([&target.pid().to_string(), "-o", &path])?.expect_status(0)?;
        ensure!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");
        ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "not private");
        ensure!(fs::read_dir(folder.path())?.count() == 1, "something was left over");
        analyse(&fs::read(&file)?)?.agrees_with(target.account())?;

        // A file as an argument, as `-`, and on standard input are the same.
        let of = |arguments: &[&str], input: &[u8]| -> Result<Vec<u8>> {
            Ok(run_with_input(tool(Tool::Py).args(arguments), input)?.expect_status(0)?.stdout)
        };
        let bytes = fs::read(&file)?;
        ensure!(of(&[&path], b"")? == of(&["-"], &bytes)? && of(&[], &bytes)? == of(&["-", "-o", "-"], &bytes)?);

        // A FIFO is written in place.
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
        let line = format!("cat {} & {} {path} -o {}; wait", fifo.display(), Tool::Py.path().display(), fifo.display());
        let through = run(Command::new("bash").args(["-c", &line]))?.expect_status(0)?;
        ensure!(through.stdout == of(&[&path], b"")?, "another stream through a FIFO");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_name_that_is_both_a_pid_and_a_file_can_be_told_apart() {
    let scenario = Scenario::new("--pid and --core");
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let pid = target.pid().to_string();
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join(&pid), "no core")?;
        let with = |arguments: &[&str]| run(tool(Tool::Grab).args(arguments).current_dir(folder.path()));
        analyse(&with(&["--pid", &pid])?.expect_status(0)?.stdout)?.agrees_with(target.account())?;
        ensure!(with(&["--core", &pid])?.status == Some(1), "--core takes the pid");
        ensure!(with(&["--pid", "--core", &pid])?.status == Some(2), "both at once");
        // Of processes kill(1) knows negative ids; a file may have such a name.
        let none = with(&["--", "-1"])?;
        ensure!(none.status == Some(2) && none.stderr.contains("-1 is no process id"), "-1: {none:?}");
        fs::write(folder.path().join("-1"), "no core")?;
        ensure!(with(&["--", "-1"])?.status == Some(1), "a file named -1");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_closed_standard_stream_is_said_by_whoever_needs_it() {
    let scenario = Scenario::new("closed standard streams");
    let target = Target::start(&representatives()[0], "five_frames.py", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pyst");
    fs::write(&file, grab([target.pid().to_string()]).unwrap().snapshot().unwrap()).unwrap();
    let with = |tool: Tool, arguments: &str, redirection: &str| {
        let line = format!("{} {arguments} {redirection}", tool.path().display());
        run(Command::new("sh").args(["-c", &line]).current_dir(folder.path()))
    };
    for (tool, argument) in [
        (Tool::Grab, target.pid().to_string()),
        (Tool::Unwind, "a.pyst".to_owned()),
        (Tool::Py, "a.pyst".to_owned()),
        (Tool::Fmt, "a.pyst".to_owned()),
        (Tool::Fmt, "--schema".to_owned()),
    ] {
        scenario.on(&format!("{} {argument}, output", tool.name()), || {
            for redirection in [">&-", "1</dev/null"] {
                let output = with(tool, &argument, redirection)?;
                ensure!(output.status == Some(1) && output.stderr.lines().count() == 1, "{redirection}: {output:?}");
                ensure!(output.stderr.contains("standard output is closed"), "{redirection}: {}", output.stderr);
            }
            let to_file = with(tool, &format!("{argument} -o to.file"), ">&- <&-")?.expect_status(0)?;
            ensure!(to_file.stderr.is_empty() && folder.path().join("to.file").exists(), "{to_file:?}");
            with(tool, &argument, ">/dev/null 2>&- <&-")?.expect_status(0).map(drop)
        });
    }
    for tool in [Tool::Unwind, Tool::Py, Tool::Fmt] {
        scenario.on(&format!("{}, input", tool.name()), || {
            for redirection in ["<&-", "0>/dev/null"] {
                let output = with(tool, "", redirection)?;
                ensure!(output.status == Some(1) && output.stderr.lines().count() == 1, "{redirection}: {output:?}");
                ensure!(output.stderr.contains("standard input is closed"), "{redirection}: {}", output.stderr);
            }
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn formats_and_threads_are_chosen() {
    let scenario = Scenario::new("formats");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "eight_threads.py", &[])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            let of = |arguments: &[&str]| -> Result<String> {
                let outputs = Pipeline::from_snapshot_only(arguments).run(&snapshot)?;
                Ok(outputs.into_iter().next_back().context("no stage")?.expect_status(0)?.text())
            };
            let text = of(&[])?;
            for thread in &target.account().threads {
                ensure!(
                    text.contains(&format!("Traceback for thread {} (", thread.tid)),
                    "thread {}: {text}",
                    thread.tid
                );
                for frame in &thread.frames {
                    let line = format!(
                        "(Python) File \"{}\", line {}, in {}",
                        frame.file,
                        frame.line.unwrap_or(0),
                        frame.function
                    );
                    ensure!(text.contains(&line), "`{line}` is not in:\n{text}");
                }
            }
            ensure!(text.matches("(most recent call last):").count() == 8);
            ensure!(text.contains("\n        time.sleep(account.FOREVER)\n"), "no source lines: {text}");
            ensure!(of(&["--format", "text"])? == text, "text is not the default");
            let (pretty, line) = (of(&["--format", "json"])?, of(&["--format", "jsonl"])?);
            ensure!(line.lines().count() == 1 && pretty.lines().count() > 100);
            let values: [serde_json::Value; 2] = [serde_json::from_str(&pretty)?, serde_json::from_str(&line)?];
            ensure!(values[0] == values[1], "json and jsonl differ");

            let bare = grab(["--no-source", &target.pid().to_string()])?.snapshot()?;
            let report = analyse(&bare)?;
            report.agrees_with(target.account())?;
            ensure!(report.threads()[0].frames().iter().all(|frame| frame["source"].is_null()), "--no-source");
            let python = grab(["--python-only", &target.pid().to_string()])?.snapshot()?;
            let outputs = Pipeline {
                stages: vec![(Tool::Py, Vec::new())],
                ..Pipeline::from_snapshot_only(&["--format", "json"])
            };
            let outputs = outputs.run(&python)?;
            let report = pyst_tests::Report::parse(&outputs.last().context("no stage")?.stdout)?;
            report.agrees_with(target.account())?;
            ensure!(python.len() < snapshot.len(), "--python-only is no smaller");
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn four_tools_in_a_pipe() {
    let scenario = Scenario::new("the pipeline");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "ctypes_callback.py", &[])?;
            let [grab, unwind, py, fmt] = Tool::ALL.map(|tool| tool.path().display().to_string());
            let line = format!(
                "set -o pipefail; {grab} --stop-limit 10000 {} | {unwind} | {py} | {fmt} --format json",
                target.pid()
            );
            let output = run(Command::new("bash").args(["-c", &line]))?.expect_status(0)?;
            ensure!(output.stderr.is_empty(), "{}", output.stderr);
            pyst_tests::Report::parse(&output.stdout)?.agrees_with(target.account())?;
            Ok(())
        });
    }
    scenario.finish();
}

#[test]
fn what_is_for_processes_is_refused_for_cores_and_without_sense() {
    let scenario = Scenario::new("usage of --children and --count");
    for (arguments, words) in [
        (&["--children", "./core"][..], "--children is for processes"),
        (&["--count", "2", "./core"], "--count is for processes"),
        (&["--children", "--core", "./core"], "cannot be used with"),
        (&["--interval", "1", "7"], "--count <N>"),
        (&["--count", "0", "7"], "0 is not in 1.."),
        (&["--count", "2", "--interval", "-1", "7"], "-1"),
        (&["--count", "2", "--interval", "soon", "7"], "a number of seconds is wanted"),
    ] {
        scenario.on(&arguments.join(" "), || {
            let wrong = grab(arguments.iter().copied())?;
            ensure!(wrong.status == Some(2) && wrong.stdout.is_empty(), "{wrong:?}");
            ensure!(wrong.stderr.contains(words), "`{words}` is not in: {}", wrong.stderr);
            Ok(())
        });
    }
    scenario.finish();
}
