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
use anyhow::{Context, Result, ensure};
use measure::Processors;
use probe::Programs;
use rounds::Bench;
use std::path::Path;
use targets::Target;

/// What to measure.
pub(crate) struct Options {
    /// The interpreter, if not all.
    pub(crate) python: Option<String>,
    pub(crate) rounds: usize,
    /// The targets whose names hold one of these; all when there are none.
    pub(crate) only: Vec<String>,
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
    let pyst = build::static_tools(root)?;
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
    for interpreter in &interpreters {
        let fits = |program: &&targets::Program| options.wants(&program.name) && (interpreter.numpy || !program.numpy);
        for program in targets::programs().iter().filter(fits) {
            let one = Target::start(interpreter, program, &programs.probe, processors.probe, scratch.path())
                .and_then(|mut target| bench.measure(&mut target, program, &interpreter.name));
            let mut one = one.with_context(|| format!("{}, {}", interpreter.name, program.name))?;
            one.interpreter = interpreter.name.clone();
            measured.push(one);
        }
        if options.wants("growth") {
            grown.extend(growth::measure(&bench, interpreter)?);
        }
    }
    let text = report::render(&bench, &measured, &grown)?;
    print!("{text}");
    if options.python.is_none() && options.only.is_empty() {
        write_section(root, "compare", &text)?;
        eprintln!("written into {PAGE}");
    }
    Ok(())
}
