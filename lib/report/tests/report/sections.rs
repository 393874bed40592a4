//! Damaged and incomplete snapshots, and the independence of the order of stages.

use crate::build::{Sections, living};
use crate::json::value;
use pyst_report::Report;
use pyst_snapshot::payload::*;
use pyst_snapshot::{Defect, RawSection, SectionKind, Tid};
use serde_json::json;

fn codes(report: &Report) -> Vec<(u16, Option<u32>, &str)> {
    report.diagnostics.iter().map(|d| (d.stage.0.0, d.tid, d.code.as_str())).collect()
}

fn diagnostics(stage: Stage, items: &[(&str, Option<u32>)]) -> Diagnostics {
    let item = |(code, tid): &(&str, Option<u32>)| Diagnostic {
        tid: tid.map(Tid),
        ..Diagnostic::new(Severity::WARNING, code, "as it is")
    };
    Diagnostics { stage, items: items.iter().map(item).collect() }
}

#[test]
fn the_order_of_the_stages_leaves_no_trace() {
    let mut first = living();
    first.diagnostics = vec![
        diagnostics(Stage::GRAB, &[("b", None), ("a", Some(2))]),
        diagnostics(Stage::UNWIND, &[("z", None)]),
        diagnostics(Stage::PY, &[("a", Some(1)), ("a", None)]),
    ];
    let mut second = first.clone();
    second.diagnostics.reverse();
    let mut swapped = second.snapshot();
    swapped.sections.reverse();
    let first = Report::of_snapshot(&first.snapshot());
    assert_eq!(first, Report::of_snapshot(&swapped));
    assert_eq!(codes(&first), [(1, None, "b"), (1, Some(2), "a"), (2, None, "z"), (3, None, "a"), (3, Some(1), "a")]);
}

#[test]
fn a_snapshot_that_was_cut_off_shows_what_is_there_and_is_not_complete() {
    let mut snapshot = living().snapshot();
    snapshot.sections.truncate(7);
    snapshot.defects.push(Defect::CutOff { sections: 7, bytes: 1234 });
    let report = Report::of_snapshot(&snapshot);
    assert_eq!(codes(&report), [(5, None, "cut-off")]);
    assert_eq!((report.snapshot.complete, report.threads.len()), (false, 3));
    assert!(report.threads.iter().all(|thread| thread.python_states.is_empty() && !thread.frames.is_empty()));
}

#[test]
fn a_loss_of_any_stage_makes_a_report_incomplete() {
    let mut sections = living();
    sections.diagnostics = vec![diagnostics(Stage::PY, &[("a", None)])];
    assert!(Report::of_snapshot(&sections.snapshot()).snapshot.complete);
    sections.diagnostics[0].items[0].severity = Severity::LOSS;
    assert!(!Report::of_snapshot(&sections.snapshot()).snapshot.complete);
    let mut sections = living();
    sections.capture.as_mut().unwrap().complete = false;
    assert!(!Report::of_snapshot(&sections.snapshot()).snapshot.complete);
}

#[test]
fn a_payload_that_is_newer_or_malformed_is_said_and_the_rest_shown() {
    let mut snapshot = living().snapshot();
    for section in &mut snapshot.sections {
        match section.kind {
            SectionKind::NATIVE => section.version = 2,
            SectionKind::SOURCE => section.payload.truncate(9),
            _ => {}
        }
    }
    let report = Report::of_snapshot(&snapshot);
    assert_eq!(codes(&report), [(4, None, "malformed-section"), (4, None, "newer-payload")]);
    assert!(report.diagnostics[1].message.contains("native") && report.diagnostics[1].message.contains("newer pyst"));
    assert_eq!(report.threads[0].frames.len(), 3);
    assert!(!report.snapshot.complete);
}

#[test]
fn unknown_sections_and_codes_are_no_obstacle() {
    let mut sections = living();
    sections.state(112).end = FrameChainEnd(500);
    let mut snapshot = sections.snapshot();
    let unknown = RawSection { kind: SectionKind(777), version: 3, payload: vec![1, 2], flags: Default::default() };
    snapshot.sections.insert(0, unknown);
    assert_eq!(value(&snapshot)["threads"][0]["python_states"][0]["frames_end"], json!("code-500"));
}

#[test]
fn nothing_is_shown_of_a_snapshot_that_needs_a_section_unknown_here() {
    let mut snapshot = living().snapshot();
    let defect = Defect::UnknownCritical { kind: SectionKind(777), version: 1, tool: "pyst-grab 9.0.0".to_owned() };
    snapshot.defects.push(defect);
    let report = Report::of_snapshot(&snapshot);
    assert_eq!((report.threads.len(), report.process.is_none(), report.python.is_none()), (0, true, true));
    assert_eq!(codes(&report), [(5, None, "unknown-critical-section")]);
    assert!(report.diagnostics[0].message.contains("pyst-grab 9.0.0"));
}

#[test]
fn a_thread_that_only_one_section_knows_is_a_thread() {
    let mut sections = living();
    sections.threads = None;
    let report = Report::of_snapshot(&sections.snapshot());
    let tids: Vec<Option<u32>> = report.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!(tids, [Some(112), Some(113), Some(114)]);
    // Without registers the ident is what the states agree on.
    assert_eq!(report.threads[0].ident.map(|ident| ident.0), Some(crate::build::ident(112)));
    assert!(report.threads[2].ident.is_none());
    assert_eq!(Report::of_snapshot(&Sections::default().snapshot()).threads, []);
}

#[test]
fn the_main_thread_comes_before_lower_tids() {
    let mut sections = living();
    // Tids wrap round: a thread may have a lower one than the process.
    sections.process.as_mut().unwrap().pid = 113;
    let report = Report::of_snapshot(&sections.snapshot());
    let tids: Vec<Option<u32>> = report.threads.iter().map(|thread| thread.tid).collect();
    assert_eq!(tids, [Some(113), Some(112), Some(114)]);
}

#[test]
fn what_a_stage_that_ran_twice_said_twice_is_there_once() {
    let mut sections = living();
    sections.diagnostics = vec![diagnostics(Stage::PY, &[("a", None), ("a", Some(1))]); 2];
    assert_eq!(codes(&Report::of_snapshot(&sections.snapshot())), [(3, None, "a"), (3, Some(1), "a")]);
}

#[test]
fn diagnostics_come_back_as_they_were_written() {
    let mut sections = living();
    let lost = Diagnostic::new(Severity::LOSS, "stack-truncated", "the stack was cut").on(Tid(3));
    sections.diagnostics = vec![Diagnostics { stage: Stage::UNWIND, items: vec![lost.clone()] }];
    let report = Report::of_snapshot(&sections.snapshot());
    assert_eq!(report.wire_diagnostics(), [(Stage::UNWIND, lost)]);
    assert!(report.has_content());
    sections = Sections { diagnostics: sections.diagnostics, ..Sections::default() };
    assert!(!Report::of_snapshot(&sections.snapshot()).has_content());
}
