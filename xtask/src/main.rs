//! What the project makes and runs for itself: `cargo xtask generate`, `cargo xtask check`, `cargo xtask demo [PID]`.
//!
//! Generated files are committed, so that nobody needs this crate to read them; `check`, which the tests run too, fails
//! where one is not what would be generated today.

mod bench;
mod build;
mod compare;
mod decode;
mod demo;
mod generated;
mod locals;
mod native;
mod page;
mod reliability;
mod specification;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "xtask", about = "What the project makes and runs for itself")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write man pages, shell completions, the JSON Schema and the tables of schemas/snapshot.md
    Generate,
    /// Fail if one of those is not what would be written now
    Check,
    /// Print how long captures stop their targets, and how large the snapshots are
    Bench {
        /// The interpreter to measure on: python3, or with --compare a 3.12 and a 3.14
        #[arg(long)]
        python: Option<String>,
        /// How many captures of each target
        #[arg(long, default_value_t = 51)]
        runs: usize,
        /// Print instead how fast frames are decoded from snapshots of deep stacks and many threads
        #[arg(long)]
        decode: bool,
        /// Print instead what native frames cost: to unwind, to name with lines, beside other tools, and in the stop
        #[arg(long, conflicts_with = "decode")]
        native: bool,
        /// Print instead what arguments and locals add to the stop, with huge objects among them
        #[arg(long, conflicts_with_all = ["decode", "native"])]
        locals: bool,
        /// Measure instead pyst beside PyStack, py-spy, austin and the least that a stop can take, and write the page
        #[arg(long, conflicts_with_all = ["decode", "native", "locals"])]
        compare: bool,
        /// How often each tool looks at each target
        #[arg(long, default_value_t = 15, requires = "compare")]
        rounds: usize,
        /// Measure only targets whose names hold this, and write no page; `growth` is one, too
        #[arg(long, requires = "compare", value_name = "TARGET")]
        only: Vec<String>,
        /// Where the four tools are; they are built when this is not given
        #[arg(long, requires = "compare", value_name = "FOLDER")]
        tools: Option<PathBuf>,
    },
    /// Build the tools to be carried to any machine, without libraries that they need there, into target/dist
    Dist,
    /// Try whether captures do harm, very often and at random, and write the page
    Reliability(reliability::Options),
    /// Build the tools and show the merged stack of a process; of a small Python program when no PID is given
    Demo {
        /// The process to show
        pid: Option<u32>,
    },
}

fn main() -> Result<()> {
    match Args::parse().task {
        Task::Generate => generate(),
        Task::Check => check(),
        Task::Bench { python, rounds, only, tools, compare: true, .. } => {
            compare::run(root()?, &compare::Options { python, rounds, only, tools })
        }
        Task::Bench { python, runs, decode, native, locals, .. } => {
            let python = python.as_deref().unwrap_or("python3");
            match (decode, native, locals) {
                (true, ..) => decode::run(root()?, python),
                (_, true, _) => native::run(root()?, python, runs),
                (.., true) => locals::run(root()?, python, runs),
                _ => bench::run(root()?, python, runs),
            }
        }
        Task::Dist => build::distribute(root()?),
        Task::Reliability(options) => reliability::run(root()?, &options),
        Task::Demo { pid } => demo::run(root()?, pid),
    }
}

fn generate() -> Result<()> {
    let root = root()?;
    for (path, content) in generated::files(root)? {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn check() -> Result<()> {
    let stale = stale(root()?)?;
    if !stale.is_empty() {
        bail!("not what would be generated today: {stale:?}; run `cargo xtask generate` and commit the result");
    }
    Ok(())
}

/// The generated files that are missing or differ from what would be generated.
fn stale(root: &Path) -> Result<Vec<PathBuf>> {
    let files = generated::files(root)?;
    Ok(files
        .into_iter()
        .filter(|(path, content)| fs::read(root.join(path)).ok().as_ref() != Some(content))
        .map(|(path, _)| path)
        .collect())
}

/// The root of the project.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project has no root")
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_files_are_what_would_be_generated_today() {
        let stale = super::stale(super::root().unwrap()).unwrap();
        assert!(stale.is_empty(), "run `cargo xtask generate` and commit {stale:?}");
    }
}
