//! pyst beside the tools that people use today, and beside the least that a stop can take.
//!
//! All look at the same processes, in turn, in each of many rounds, and each figure is a median beside others of the same
//! run. A benchmark and no test: nothing here fails because of a figure.

mod aims;
mod growth;
mod interpreters;
mod measure;
mod output;
mod probe;
mod report;
mod results;
mod rounds;
mod snapshot;
mod statistics;
mod targets;
mod tools;

use crate::build;
use crate::page::{PAGE, write_section};
use anyhow::{Result, ensure};
use interpreters::Interpreter;
use measure::Processors;
use probe::Programs;
use results::Measured;
use rounds::Bench;
use std::path::{Path, PathBuf};
use targets::Target;

/// What to measure.
pub(crate) struct Options {
    /// The interpreter, if not all.
    pub(crate) python: Option<String>,
    pub(crate) rounds: usize,
    /// The targets whose names hold one of these; all when there are none.
    pub(crate) only: Vec<String>,
    /// Where pyst's tools are, if they are not to be built.
    pub(crate) tools: Option<PathBuf>,
}

impl Options {
    fn wants(&self, target: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| target.contains(part.as_str()))
    }
}

/// Measures, and prints the tables; writes them into the page when nothing was left out.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "at least one round");
    let cache = tools::Cache::open()?;
    let pyst = options.tools.clone().map_or_else(|| build::static_tools(root), Ok)?;
    let scratch = tempfile::Builder::new().prefix("pyst-bench-").tempdir()?;
    let (tools, programs) = (tools::tools(&pyst, &cache)?, Programs::compile(scratch.path())?);
    let interpreters = interpreters::interpreters(options.python.as_deref(), root, &cache)?;
    let processors = Processors::share()?;
    let bench = Bench {
        tools: &tools,
        programs: &programs,
        processors: &processors,
        scratch: scratch.path(),
        rounds: options.rounds,
    };
    let mut measured = Vec::new();
    let mut grown = Vec::new();
    // What goes wrong with one target does not cost the others their figures.
    let mut failed = Vec::new();
    for interpreter in &interpreters {
        let fits = |program: &&targets::Program| options.wants(&program.name) && (interpreter.numpy || !program.numpy);
        for program in targets::programs().iter().filter(fits) {
            match measure(&bench, interpreter, program) {
                Ok(one) => measured.push(one),
                Err(error) => failed.push(format!("{}, {}: {error:#}", interpreter.name, program.name)),
            }
        }
        for programs in growth::programs() {
            for program in programs.iter().filter(|_| options.wants("growth")) {
                match growth::measure(&bench, interpreter, program) {
                    Ok(sizes) => grown.extend(sizes),
                    Err(error) => failed.push(format!("{}, growth, {}: {error:#}", interpreter.name, program.name)),
                }
            }
        }
    }
    let text = report::render(root, &bench, &measured, &grown, &failed)?;
    print!("{text}");
    if options.python.is_none() && options.only.is_empty() {
        write_section(root, "compare", &text)?;
        eprintln!("written into {PAGE}");
    }
    Ok(())
}

/// Starts a target and measures all tools on it.
fn measure(bench: &Bench, interpreter: &Interpreter, program: &targets::Program) -> Result<Measured> {
    let probe = &bench.programs.probe;
    let mut target = Target::start(interpreter, program, probe, bench.processors.probe, bench.scratch)?;
    let measured = bench.measure(&mut target, program, &interpreter.name)?;
    Ok(Measured { interpreter: interpreter.name.clone(), ..measured })
}
