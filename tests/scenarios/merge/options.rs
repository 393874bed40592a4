//! What of a merged stack the text shows on request: the interpreter's own native frames, those of the innermost call alone, and the
//! threads that Python never saw.

use anyhow::{Context, Result, ensure};
use pyst_tests::{Pipeline, Scenario, Target, grab, has_program, native_stacks, representatives};
use std::collections::BTreeMap;

const NATIVE: &str = "    (C) File ";
const PYTHON: &str = "    (Python) File ";

#[test]
fn the_text_shows_less_and_more_of_a_stack_on_request() {
    let scenario = Scenario::new("merge: options of the text");
    if !has_program("gdb") {
        scenario.skip("all", "gdb is not installed");
        return;
    }
    for interpreter in representatives() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "foreign_thread.py", &[])?;
            let snapshot = grab([target.pid().to_string()])?.snapshot()?;
            let of = |options: &[&str]| text(&snapshot, options);
            let main = target.pid();
            let native = |blocks: &BTreeMap<u32, Vec<String>>| -> Result<Vec<String>> {
                let lines = blocks.get(&main).context("no main thread")?.iter();
                Ok(lines.filter(|line| line.starts_with(NATIVE)).cloned().collect())
            };

            let usual = of(&[])?;
            ensure!(usual.keys().eq([&main]), "threads {:?}", usual.keys());
            let all = of(&["--all-threads"])?;
            let oracle = native_stacks(interpreter, main)?;
            ensure!(oracle.len() == 2 && all.keys().eq(oracle.keys()), "threads {:?}", all.keys());
            ensure!(all.get(&main) == usual.get(&main), "other frames of the main thread");

            // All frames there are, and the loop among them; without asking, fewer.
            let internals = native(&of(&["--native-internals"])?)?;
            let gdb = oracle.get(&main).context("gdb does not know the main thread")?;
            ensure!(internals.len() == gdb.len(), "{} native frames, gdb has {}", internals.len(), gdb.len());
            let shown = native(&usual)?;
            ensure!(!shown.is_empty() && shown.len() < internals.len(), "nothing is hidden: {shown:?}");
            ensure!(shown.iter().all(|line| internals.contains(line)), "others are shown: {shown:?}");
            ensure!(!shown.iter().any(|line| line.contains("_PyEval_EvalFrameDefault")), "the loop is: {shown:?}");

            // What the innermost Python frame called, and nothing before that.
            let last = of(&["--native-last"])?;
            let (usual, last) = (usual.get(&main).context("")?, last.get(&main).context("no main thread")?);
            let innermost = |lines: &[String]| lines.iter().rposition(|line| line.starts_with(PYTHON));
            let (in_usual, in_last) = (innermost(usual).context("no Python")?, innermost(last).context("no Python")?);
            ensure!(usual.get(in_usual..) == last.get(in_last..), "{last:?} instead of the end of {usual:?}");
            ensure!(last.len() > in_last + 2, "it calls nothing: {last:?}");
            ensure!(!last.iter().take(in_last).any(|line| line.starts_with(NATIVE)), "outer ones: {last:?}");
            let python = |lines: &[String]| lines.iter().filter(|line| line.starts_with(PYTHON)).count();
            ensure!(python(usual) == python(last), "Python frames are missing: {last:?}");
            Ok(())
        });
    }
    scenario.finish();
}

/// The lines of each thread.
fn text(snapshot: &[u8], options: &[&str]) -> Result<BTreeMap<u32, Vec<String>>> {
    let outputs = Pipeline::from_snapshot_only(options).run(snapshot)?;
    let text = outputs.last().context("no output")?.clone().expect_status(0)?.text();
    let mut blocks: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut tid = 0;
    for line in text.lines() {
        if let Some((_, rest)) = line.split_once("raceback for thread ") {
            tid = rest.split(' ').next().unwrap_or_default().parse()?;
        } else if !line.is_empty() {
            blocks.entry(tid).or_default().push(line.to_owned());
        }
    }
    Ok(blocks)
}
