use super::*;
use crate::fake::{Fake, tables};
use crate::layout::Table;
use pyst_memory::Recorder;
use pyst_snapshot::payload::CaptureOptionV1;
use pyst_snapshot::{Address, SectionKind};

fn python_only() -> Capture {
    let option = CaptureOptionV1 { name: "python-only".to_owned(), value: "true".to_owned() };
    Capture { options: vec![option], ..Capture::default() }
}

fn said(diagnostics: &[Diagnostic]) -> Vec<(Severity, &str)> {
    diagnostics.iter().map(|diagnostic| (diagnostic.severity, diagnostic.code.as_str())).collect()
}

/// A runtime with one frame, walked over a recorder, as a snapshot of what that recorded.
fn recorded(change: impl Fn(&mut Fake)) -> (crate::Walked, Snapshot) {
    let with_phases = |table: &&Table| table.offsets.runtime_finalizing.get().is_some();
    let mut fake = Fake::new(tables().into_iter().find(with_phases).unwrap());
    let code = fake.code("f");
    let frame = fake.frame(code, 2, Address(0));
    let interpreter = fake.interpreter(0);
    fake.state(interpreter, 1, &[frame]);
    change(&mut fake);
    let recorder = Recorder::new(fake.image());
    let walked = walk(&fake.found(), &[], &recorder);
    let mut snapshot = Snapshot::default();
    snapshot.append(&Capture::default()).unwrap();
    snapshot.append(&Runtime { found: Some(fake.found()), tried: Vec::new() }).unwrap();
    recorder.into_sections(&mut |section| snapshot.sections.push(section)).unwrap();
    snapshot.sections.retain(|section| SECTIONS_READ.contains(&section.kind));
    (walked, snapshot)
}

#[test]
fn a_snapshot_says_what_the_walk_said_that_recorded_it() {
    let (walked, snapshot) = recorded(|_| {});
    assert_eq!(walked.python.states[0].frames.len(), 1);
    assert_eq!(walk_snapshot(&snapshot), (Some(walked.python), walked.diagnostics));
}

#[test]
fn a_runtime_that_shuts_down_is_a_warning() {
    let (_, snapshot) = recorded(|fake| fake.put(fake.runtime, fake.table.offsets.runtime_finalizing, 0x1000));
    let (python, diagnostics) = walk_snapshot(&snapshot);
    assert!(python.is_some());
    assert_eq!(said(&diagnostics), [(Severity::WARNING, "interpreter-finalizing")]);
    let (_, snapshot) = recorded(|fake| fake.put32(fake.runtime, fake.table.offsets.runtime_initialized, 0));
    assert_eq!(said(&walk_snapshot(&snapshot).1), [(Severity::WARNING, "interpreter-starting")]);
}

#[test]
fn no_python_is_a_failure_only_for_those_who_asked_for_nothing_else() {
    let runtime = Runtime { found: None, tried: vec!["nothing in /usr/bin/cat".to_owned()] };
    let children = pyst_snapshot::payload::CaptureOption { name: "children".to_owned(), value: "true".to_owned() };
    let of_tree = Capture { options: [python_only().options, vec![children]].concat(), ..python_only() };
    let cases = [
        (Capture::default(), Severity::INFO),
        (python_only(), Severity::FAILURE),
        // Something else is asked for, too: whatever Python there is among them.
        (of_tree, Severity::INFO),
    ];
    for (capture, severity) in cases {
        let mut snapshot = Snapshot::default();
        snapshot.append(&capture).unwrap();
        snapshot.append(&runtime).unwrap();
        let (python, diagnostics) = walk_snapshot(&snapshot);
        assert_eq!(python, None);
        assert_eq!(said(&diagnostics), [(severity, "no-python")]);
        assert!(diagnostics[0].message.contains("nothing in /usr/bin/cat"));
    }
}

#[test]
fn a_version_of_which_nothing_is_known_is_named() {
    let (_, mut snapshot) = recorded(|_| {});
    let mut runtime: Runtime = snapshot.get().unwrap().unwrap();
    runtime.found.as_mut().unwrap().version_hex = 0x0363_00f0;
    snapshot.replace(&runtime).unwrap();
    let (python, diagnostics) = walk_snapshot(&snapshot);
    assert_eq!(python, None);
    assert_eq!(said(&diagnostics), [(Severity::LOSS, "python-version-unknown")]);
    assert!(diagnostics[0].message.starts_with("Python 3.99.0 is not known"), "{}", diagnostics[0].message);
    snapshot.replace(&python_only()).unwrap();
    assert_eq!(said(&walk_snapshot(&snapshot).1), [(Severity::FAILURE, "python-version-unknown")]);
}

#[test]
fn a_section_that_does_not_decode_is_named() {
    let (_, mut snapshot) = recorded(|_| {});
    for section in snapshot.sections.iter_mut().filter(|section| section.kind == SectionKind::RUNTIME) {
        section.payload.truncate(3);
    }
    let (python, diagnostics) = walk_snapshot(&snapshot);
    assert_eq!(python, None);
    assert_eq!(said(&diagnostics), [(Severity::LOSS, "section-lost")]);
}
