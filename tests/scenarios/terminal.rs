//! Terminals and pipes: strings of the target cannot drive a terminal, binary does not go to one, a closed pipe ends quietly.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Report, Scenario, Target, Tool, grab, has_program, representatives, run};
use std::process::Command;

#[test]
fn strings_of_the_target_cannot_drive_the_terminal() {
    let scenario = Scenario::new("hostile names");
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let name = "evil\u{1b}[31m\u{9b}2J\r.py";
            let target = Target::start_as(interpreter, "hostile_names.py", name, &["\x1b]0;owned\x07"])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            for format in [&["--all-threads"][..], &[], &["--all-threads", "--color", "never"]] {
                for output in Pipeline::from_snapshot_only(format).run(&snapshot)?.iter().rev().take(1) {
                    ensure!(output.status == Some(0), "{output:?}");
                    harmless(&output.text())?;
                    harmless(&output.stderr)?;
                    ensure!(
                        output.text().contains("f\\x1b")
                            || output.text().contains("\\u{1b}")
                            || output.text().contains("owned"),
                        "the name is gone"
                    );
                }
            }
            let outputs = Pipeline::from_snapshot_only(&["--format", "json"]).run(&snapshot)?;
            let json = outputs.last().context("no output")?;
            // JSON escapes what it must; the rest of it is text for a terminal too.
            harmless(&json.text())?;
            Report::parse(&json.stdout)?.agrees_with(target.account())?;
            Ok(())
        });
    }
    scenario.finish();
}

fn harmless(text: &str) -> Result<()> {
    let bad = text.split('\n').find(|line| line.chars().any(char::is_control));
    ensure!(bad.is_none(), "a control character in {bad:?}");
    Ok(())
}

#[test]
fn colour_is_there_when_asked_for_and_else_only_on_a_terminal() {
    let scenario = Scenario::new("colour");
    scenario.on("all", || {
        let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
        let snapshot = grab([target.pid().to_string()])?.snapshot()?;
        let text = |arguments: &[&str]| -> Result<String> {
            Ok(Pipeline::from_snapshot_only(arguments).run(&snapshot)?.last().context("no output")?.text())
        };
        let (auto, always, never) = (text(&[])?, text(&["--color", "always"])?, text(&["--color", "never"])?);
        ensure!(auto == never && !never.contains('\x1b'), "colour in a pipe");
        ensure!(always.contains("\x1b["), "no colour though asked for");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn binary_does_not_go_to_a_terminal() {
    let scenario = Scenario::new("binary to a terminal");
    if !has_program("script") {
        return scenario.skip("all", "script (of bsdutils) is not installed");
    }
    let target = Target::start(&representatives()[0], "five_frames.py", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pyst");
    std::fs::write(&file, grab([target.pid().to_string()]).unwrap().snapshot().unwrap()).unwrap();
    let file = file.to_string_lossy().into_owned();
    for (tool, argument) in
        [(Tool::Grab, target.pid().to_string()), (Tool::Unwind, file.clone()), (Tool::Py, file.clone())]
    {
        scenario.on(tool.name(), || {
            let (status, shown) = on_a_terminal(&format!("{} {argument}", tool.path().display()))?;
            ensure!(status == Some(2), "exit status {status:?}: {shown}");
            ensure!(!shown.contains("PYS\r\n") && shown.lines().count() == 1, "{shown:?}");
            let (status, shown) = on_a_terminal(&format!("{} --force {argument} | cat", tool.path().display()))?;
            ensure!(status == Some(0), "--force: {shown}");
            Ok(())
        });
    }
    scenario.on("a terminal on standard input", || {
        for tool in [Tool::Unwind, Tool::Py, Tool::Fmt] {
            let (status, shown) = on_a_terminal(&format!("{} >/dev/null", tool.path().display()))?;
            ensure!(status == Some(2), "{}: exit status {status:?}: {shown}", tool.name());
        }
        Ok(())
    });
    scenario.on("pyst-fmt is at home on one", || {
        let pipeline = format!(
            "{} {file} | {} | {}",
            Tool::Unwind.path().display(),
            Tool::Py.path().display(),
            Tool::Fmt.path().display()
        );
        let (status, shown) = on_a_terminal(&pipeline)?;
        ensure!(status == Some(0) && shown.contains("innermost"), "{status:?} {shown}");
        ensure!(shown.contains("\x1b["), "no colour on a terminal: {shown:?}");
        Ok(())
    });
    scenario.finish();
}

/// Runs a command line of bash on a terminal of its own: its exit status and what the terminal got.
fn on_a_terminal(line: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command"]).arg(format!("bash -o pipefail -c '{line}'")).arg("/dev/null");
    command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("CLICOLOR");
    let output = run(&mut command)?;
    Ok((output.status, output.text()))
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let scenario = Scenario::new("closed pipe");
    let target = Target::start(&representatives()[0], "recursion.py", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pyst");
    std::fs::write(&file, grab([target.pid().to_string()]).unwrap().snapshot().unwrap()).unwrap();
    // Larger than a pipe holds, so that it is still being written when its reader leaves.
    let many: Vec<String> = (0..40).map(|_| file.display().to_string()).collect();
    for (tool, arguments) in [
        (Tool::Unwind, ""),
        (Tool::Py, ""),
        (Tool::Fmt, ""),
        (Tool::Fmt, "--format json"),
        (Tool::Fmt, "--format jsonl"),
    ] {
        scenario.on(&format!("{} {arguments}", tool.name()), || {
            let line = format!(
                "cat {} | {} {arguments} | head -c 1 >/dev/null; exit ${{PIPESTATUS[1]}}",
                many.join(" "),
                tool.path().display()
            );
            let output = run(Command::new("bash").args(["-c", &line]))?;
            ensure!(!output.stderr.contains("pyst") && !output.stderr.contains("panicked"), "{}", output.stderr);
            ensure!(matches!(output.status, Some(0 | 141)), "exit status {:?}: {}", output.status, output.stderr);
            Ok(())
        });
    }
    scenario.on("pyst-grab", || {
        let line = format!("{} {} | true; exit ${{PIPESTATUS[0]}}", Tool::Grab.path().display(), target.pid());
        let output = run(Command::new("bash").args(["-c", &line]))?;
        ensure!(output.stderr.is_empty() && matches!(output.status, Some(0 | 141)), "{output:?}");
        target.wait_for_state('S')?;
        Ok(())
    });
    scenario.finish();
}

/// What a terminal got is erased: nothing of it is left when the tool ends.
fn is_erased(shown: &str) -> bool {
    shown.ends_with("\r\x1b[K")
}

#[test]
fn what_takes_long_is_said_on_one_line_of_a_terminal_that_is_erased() {
    let scenario = Scenario::new("progress");
    if !has_program("script") {
        return scenario.skip("all", "script is not installed");
    }
    let interpreter = &representatives()[0];
    let target = Target::start(interpreter, "five_frames.py", &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pyst").display().to_string();
    let grab = Tool::Grab.path().display().to_string();
    scenario.on("a quick capture", || {
        let (status, shown) = on_a_terminal(&format!("{grab} -o {file} {}", target.pid()))?;
        ensure!(status == Some(0) && shown.is_empty(), "{status:?} {shown:?}");
        Ok(())
    });
    scenario.on("captures for some seconds", || {
        let line = format!("{grab} --count 3 --interval 1.5 -o {file} {}", target.pid());
        let (status, shown) = on_a_terminal(&line)?;
        ensure!(status == Some(0), "{status:?} {shown:?}");
        ensure!(shown.contains("\rpyst-grab: capture 1 of 3 is made, next in 1 s\x1b[K"), "{shown:?}");
        ensure!(!shown.contains('\n') && is_erased(&shown), "more than a line: {shown:?}");
        Ok(())
    });
    scenario.on("the same into a pipe", || {
        let line = format!("{grab} --count 3 --interval 1.5 {} | cat >{file}", target.pid());
        let (status, shown) = on_a_terminal(&line)?;
        ensure!(status == Some(0) && shown.is_empty(), "{status:?} {shown:?}");
        Ok(())
    });
    scenario.on("the same without a terminal", || {
        let mut command = pyst_tests::tool(Tool::Grab);
        command.args(["--count", "3", "--interval", "1.5", "-o", &file, &target.pid().to_string()]);
        let output = run(&mut command)?.expect_status(0)?;
        ensure!(output.stderr.is_empty(), "{}", output.stderr);
        Ok(())
    });
    if !has_program("strace") {
        scenario.skip("pyst-unwind", "strace is not installed");
        return scenario.finish();
    }
    scenario.on("pyst-unwind", || {
        // As if a file lay on a slow disk.
        let exe = std::fs::canonicalize(interpreter.host_exe())?.display().to_string();
        let line = format!(
            "strace -f -o /dev/null -P {exe} -e inject=openat:delay_enter=1500000:when=1 {} {file} -o {file}.unwound",
            Tool::Unwind.path().display()
        );
        let (status, shown) = on_a_terminal(&line)?;
        ensure!(status == Some(0), "{status:?} {shown:?}");
        let said = format!("\rpyst-unwind: native frames of process {}…\x1b[K", target.pid());
        ensure!(shown.contains(&said) && !shown.contains('\n') && is_erased(&shown), "{shown:?}");
        Ok(())
    });
    scenario.finish();
}
