//! pyst-grab is killed at any moment of a capture: the target must not know.

use super::target::Target;
use super::{Bench, Finding, busy};
use anyhow::{Result, ensure};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(super) fn run(bench: &mut Bench<'_>, times: usize) -> Result<Finding> {
    let mut target = busy::start(bench)?;
    let lasts = duration(bench, &target)?;
    let (mut killed, mut ended, mut harm) = (0, 0, Vec::new());
    for _ in 0..times {
        let mut grab = grab(bench, &target).spawn()?;
        // A little longer than a capture lasts: its last moments come, too.
        std::thread::sleep(lasts.mul_f64(bench.random.fraction() * 1.1));
        grab.kill()?;
        if grab.wait()?.signal() == Some(9) {
            killed += 1
        } else {
            ended += 1
        }
        harm.extend(target.is_free().and_then(|()| target.goes_on()).err());
        ensure!(harm.len() < 10, "harm without end: {harm:#?}");
    }
    let (checks, wrong) = target.health()?;
    harm.iter().for_each(|error| println!("{error:#}"));
    let result = format!(
        "killed {killed} times (and ended first {ended} times): {} of {times} left it stopped, traced or stuck; of its checks of \
         itself {wrong} failed, each of its threads made {checks}",
        harm.len()
    );
    let what = format!(
        "pyst-grab of a busy program with 50 threads, SIGKILLed at random moments of its {} ms",
        lasts.as_millis()
    );
    Ok(Finding { what, result, well: harm.is_empty() && wrong == 0 && killed * 2 > times })
}

fn grab(bench: &Bench<'_>, target: &Target) -> std::process::Command {
    let mut grab = bench.tool("pyst-grab");
    grab.arg(target.pid().to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    grab
}

/// How long a capture lasts, the median of some.
fn duration(bench: &Bench<'_>, target: &Target) -> Result<Duration> {
    let mut all = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        grab(bench, target).status()?;
        all.push(began.elapsed());
    }
    all.sort_unstable();
    Ok(all.get(all.len() / 2).copied().unwrap_or_default())
}
