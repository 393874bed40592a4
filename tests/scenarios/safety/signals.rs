//! Signals that are on their way when a capture begins, and while it lasts.

use super::{Storm, killed_at, lacks, untraced};
use anyhow::ensure;
use nix::sys::signal::Signal;
use pyst_tests::{Scenario, grab};

#[test]
fn no_signal_of_a_storm_is_lost_to_captures() {
    let scenario = Scenario::new("nothing lost: signal storm");
    if lacks(&scenario, &["gcc"]) {
        return;
    }
    scenario.on("all", || {
        let storm = Storm::start()?;
        for _ in 0..100 {
            let grabbed = grab([storm.pid().to_string()])?;
            ensure!(matches!(grabbed.status, Some(0 | 3)), "{}", grabbed.said()?);
        }
        let count = storm.end()?;
        scenario.figure("all", &format!("{count} signals arrived"));
        Ok(())
    });
    scenario.finish();
}

/// strace ends pyst-grab at the very call: each moment of the stop comes, which no clock could bring about.
#[test]
fn no_signal_is_lost_to_a_pyst_grab_that_is_killed_at_any_call() {
    let scenario = Scenario::new("nothing lost: killed at every call");
    if lacks(&scenario, &["gcc", "strace"]) {
        return;
    }
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        scenario.on(signal.as_str(), || {
            let storm = Storm::start()?;
            // Seven threads are seized, interrupted, asked for registers and let go; and waited for in between.
            let calls = (1..=30).map(|when| ("ptrace", when)).chain((1..=40).step_by(2).map(|when| ("waitid", when)));
            let mut killed = 0;
            for (call, when) in calls {
                let status = killed_at(storm.pid(), call, when, signal, None)?;
                killed += usize::from(status.is_none());
                untraced(storm.pid())?;
            }
            ensure!(killed > 10, "pyst-grab was killed {killed} times only");
            let count = storm.end()?;
            scenario.figure(signal.as_str(), &format!("killed {killed} times; {count} signals arrived"));
            Ok(())
        });
    }
    scenario.finish();
}
