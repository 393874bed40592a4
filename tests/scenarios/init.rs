//! The interpreter's own frame below `__init__` is passed over, and what lies outside of it is shown.

use anyhow::ensure;
use pyst_tests::{Scenario, Target, interpreters, report_of};

#[test]
fn a_class_that_is_called_often_leads_on_to_its_caller() {
    let scenario = Scenario::new("frames below __init__");
    for interpreter in interpreters() {
        scenario.on(&interpreter.name, || {
            let target = Target::start(interpreter, "init.py", &[])?;
            let compared = report_of([target.pid().to_string()])?.agrees_with(target.account())?;
            ensure!(compared >= 3, "{compared} frames");
            Ok(())
        });
    }
    scenario.finish();
}
