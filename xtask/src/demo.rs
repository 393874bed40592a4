//! The main job from a fresh checkout: builds the tools, and prints the merged stack of a process.

use crate::build;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program whose stack shows what pyst shows: Python calling C calling Python, on two threads.
const PROGRAM: &str = r"
import functools, threading, time

def weigh(pair):
    print('ready', flush=True)
    time.sleep(1000)

def serve(orders):
    return sorted(orders, key=weigh)

worker = threading.Thread(target=functools.reduce, args=(lambda a, b: time.sleep(1000), [1, 2]), name='worker', daemon=True)
worker.start()
serve([(3, 'spam'), (1, 'eggs')])
";

/// Shows the stack of `pid`; of a Python program of its own when there is none.
pub(crate) fn run(root: &Path, pid: Option<u32>) -> Result<()> {
    let tools = build::tools(root)?;
    let program = match pid {
        Some(_) => None,
        None => Some(Program::start(&root.join("target/demo.py"))?),
    };
    let pid = pid.or(program.as_ref().map(|program| program.0.id())).context("no process")?;
    let tool = |name: &str| format!("'{}'", tools.join(name).display());
    let pipeline =
        format!("{} {pid} | {} | {} | {}", tool("pyst-grab"), tool("pyst-unwind"), tool("pyst-py"), tool("pyst-fmt"));
    eprintln!("$ pyst-grab {pid} | pyst-unwind | pyst-py | pyst-fmt");
    let status = Command::new("sh").args(["-c", &pipeline]).status()?;
    ensure!(status.success(), "the pipeline ended with {status}");
    Ok(())
}

/// A Python program that is ended when it goes out of scope.
struct Program(Child);

impl Program {
    /// Runs the program from a file, so that its source lines can be read.
    fn start(path: &Path) -> Result<Program> {
        fs::write(path, PROGRAM.trim_start()).with_context(|| format!("cannot write {}", path.display()))?;
        for python in ["python3", "python3.11", "python3.12", "python3.13"] {
            let child = Command::new(python).arg("-u").arg(path).stdout(Stdio::piped()).spawn();
            let Ok(child) = child else { continue };
            let mut program = Program(child);
            let mut line = String::new();
            if let Some(stdout) = program.0.stdout.take() {
                BufReader::new(stdout).read_line(&mut line)?;
            }
            if line.trim() == "ready" {
                return Ok(program);
            }
        }
        bail!("no Python was found to show: install python3, or give the id of a Python process")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
