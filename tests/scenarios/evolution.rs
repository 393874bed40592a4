//! Snapshots of other versions: what a tool does not know survives it, is mentioned where it would have mattered, and stops it
//! only where the snapshot says so; and a tool that knows more reads both.

use anyhow::{Context, Result, bail, ensure};
use pyst_snapshot::payload::{Capture, FoundBy, Native, Source, Threads};
use pyst_snapshot::{
    Payload, PayloadError, RawSection, SectionFlags, SectionKind, Snapshot, StreamReader, WireError, write_snapshot,
};
use pyst_tests::{Output, Pipeline, Report, Scenario, Target, Tool, grab, representatives, run_with_input, tool};

const JSON: [&str; 3] = ["--format", "json", "--all-threads"];

/// A kind of section that no version has defined yet.
const UNKNOWN: SectionKind = SectionKind(900);

fn parse(bytes: &[u8]) -> Result<Snapshot> {
    StreamReader::new(bytes).next().context("an empty stream")?.map_err(Into::into)
}

fn bytes_of(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_snapshot(snapshot, &mut bytes)?;
    Ok(bytes)
}

fn captured() -> Result<(Target, Snapshot)> {
    let target = Target::start(&representatives()[0], "five_frames.py", &[])?;
    let snapshot = parse(&grab([target.pid().to_string()])?.snapshot()?)?;
    Ok((target, snapshot))
}

fn last(snapshot: &Snapshot) -> Result<Output> {
    let outputs = Pipeline::from_snapshot_only(&JSON).run(&bytes_of(snapshot)?)?;
    outputs.into_iter().next_back().context("no stage")
}

/// The sections of `kind` after both stages ran.
fn after_the_stages(snapshot: &Snapshot, kind: SectionKind) -> Result<Vec<RawSection>> {
    let mut stream = bytes_of(snapshot)?;
    for stage in [Tool::Unwind, Tool::Py] {
        stream = run_with_input(&mut tool(stage), &stream)?.stdout;
    }
    Ok(parse(&stream)?.raw(kind).cloned().collect())
}

#[test]
fn an_unknown_section_is_passed_on_and_changes_nothing() {
    let scenario = Scenario::new("evolution: unknown section");
    scenario.on("all", || {
        let (_target, mut snapshot) = captured()?;
        let without = last(&snapshot)?.expect_status(0)?;
        let section = RawSection {
            kind: UNKNOWN,
            flags: SectionFlags::default(),
            version: 7,
            payload: b"of a later version".to_vec(),
        };
        snapshot.sections.insert(3, section.clone());
        let with = last(&snapshot)?.expect_status(0)?;
        ensure!(with.stdout == without.stdout && with.stderr == without.stderr, "it leaves a trace: {}", with.stderr);
        ensure!(after_the_stages(&snapshot, UNKNOWN)? == [section], "it was not passed on as it was");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn an_unknown_critical_section_is_an_error_that_names_the_version_that_knows_it() {
    let scenario = Scenario::new("evolution: unknown critical section");
    scenario.on("all", || {
        let (_target, mut snapshot) = captured()?;
        let mut capture: Capture = snapshot.get()?.context("capture")?;
        capture.tool = "pyst-grab 9.8.7".to_owned();
        let at = snapshot.sections.iter().position(|section| section.kind == Capture::KIND).context("capture")?;
        snapshot.sections[at].payload = capture.encode()?;
        let section = RawSection { kind: UNKNOWN, flags: SectionFlags::CRITICAL, version: 1, payload: vec![1, 2, 3] };
        snapshot.sections.push(section.clone());
        let outputs = Pipeline::from_snapshot_only(&JSON).run(&bytes_of(&snapshot)?)?;
        let said: Vec<&str> = outputs.iter().flat_map(|output| output.stderr.lines()).collect();
        ensure!(outputs.iter().all(|output| output.status == Some(1)), "{outputs:?}");
        ensure!(said.len() == 1 && said[0].contains("pyst-grab 9.8.7"), "{said:?}");
        ensure!(after_the_stages(&snapshot, UNKNOWN)? == [section], "it was not passed on as it was");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_later_version_of_source_costs_the_source_lines_only() {
    let scenario = Scenario::new("evolution: later payload, source");
    scenario.on("all", || {
        let (target, mut snapshot) = captured()?;
        let newer = to_version_2(&mut snapshot, Source::KIND)?;
        let output = last(&snapshot)?;
        ensure!(matches!(output.status, Some(0 | 3)), "{output:?}");
        let report = Report::parse(&output.stdout)?;
        report.agrees_with(target.account())?;
        let frames = report.thread(target.pid())?.frames();
        ensure!(frames.iter().all(|frame| frame["source"].is_null()), "source lines of an unknown version");
        let mentioned = report.json["diagnostics"].to_string() + &output.stderr;
        ensure!(mentioned.contains("source") && mentioned.contains("version 2"), "not mentioned: {mentioned}");
        ensure!(after_the_stages(&snapshot, Source::KIND)? == [newer], "it was not passed on as it was");
        Ok(())
    });
    scenario.finish();
}

#[test]
fn a_later_version_of_threads_is_mentioned_and_passed_on() {
    let scenario = Scenario::new("evolution: later payload, threads");
    scenario.on("all", || {
        let (_target, mut snapshot) = captured()?;
        let newer = to_version_2(&mut snapshot, Threads::KIND)?;
        let output = last(&snapshot)?;
        ensure!(matches!(output.status, Some(1 | 3)), "native frames are lost, yet: {output:?}");
        let mentioned = output.stderr.clone();
        ensure!(mentioned.contains("threads") && mentioned.contains("version 2"), "not mentioned: {mentioned}");
        ensure!(after_the_stages(&snapshot, Threads::KIND)? == [newer], "it was not passed on as it was");
        Ok(())
    });
    scenario.finish();
}

/// Makes the section of `kind` one of payload version 2, whose struct has one field more at its end.
fn to_version_2(snapshot: &mut Snapshot, kind: SectionKind) -> Result<RawSection> {
    let section = snapshot.sections.iter_mut().find(|section| section.kind == kind).context("no such section")?;
    section.version = 2;
    section.payload.extend(0x1122_3344_u64.to_le_bytes());
    Ok(section.clone())
}

#[test]
fn an_unknown_code_is_kept_and_reported_by_its_number() {
    let scenario = Scenario::new("evolution: unknown enum code");
    scenario.on("all", || {
        let (target, snapshot) = captured()?;
        let unwound = run_with_input(&mut tool(Tool::Unwind), &bytes_of(&snapshot)?)?.expect_status(0)?.stdout;
        let mut snapshot = parse(&unwound)?;
        let mut native: Native = snapshot.get()?.context("native")?;
        native.stacks[0].frames[2].found_by = FoundBy(777);
        snapshot.replace(&native)?;
        let stream = run_with_input(&mut tool(Tool::Py), &bytes_of(&snapshot)?)?.expect_status(0)?.stdout;
        let kept: Native = parse(&stream)?.get()?.context("native")?;
        ensure!(kept == native, "the code did not survive pyst-py");
        let report = Report::parse(&run_with_input(tool(Tool::Fmt).args(JSON), &stream)?.expect_status(0)?.stdout)?;
        let frames = report.thread(target.pid())?.native_frames();
        ensure!(frames.iter().filter(|frame| frame["found_by"] == "code-777").count() == 1, "{frames:?}");
        Ok(())
    });
    scenario.finish();
}

/// `threads` as a later version might have it: one field more.
#[derive(Debug, PartialEq, Eq)]
struct ThreadsV2 {
    threads: Threads,
    boot_id: Option<u64>,
}

impl From<Threads> for ThreadsV2 {
    fn from(threads: Threads) -> ThreadsV2 {
        ThreadsV2 { threads, boot_id: None }
    }
}

impl Payload for ThreadsV2 {
    const KIND: SectionKind = Threads::KIND;
    const VERSION: u16 = 2;

    fn encode(&self) -> Result<Vec<u8>, WireError> {
        let mut bytes = self.threads.encode()?;
        bytes.extend(self.boot_id.unwrap_or_default().to_le_bytes());
        Ok(bytes)
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<ThreadsV2, PayloadError> {
        let kind = Self::KIND;
        match version {
            1 => Threads::decode(1, bytes).map(ThreadsV2::from),
            2 => {
                let short = || WireError::Malformed("too short".to_owned());
                let (threads, boot_id) =
                    bytes.split_last_chunk().ok_or_else(|| PayloadError::Malformed { kind, source: short() })?;
                Ok(ThreadsV2 { threads: Threads::decode(1, threads)?, boot_id: Some(u64::from_le_bytes(*boot_id)) })
            }
            found => Err(PayloadError::NewerVersion { kind, found, newest: Self::VERSION }),
        }
    }
}

#[test]
fn a_newer_reader_reads_both_versions_and_an_older_one_refuses_the_newer() {
    let scenario = Scenario::new("evolution: newer reader");
    scenario.on("all", || {
        let (_target, mut snapshot) = captured()?;
        let old: Threads = snapshot.get()?.context("threads")?;
        let read: ThreadsV2 = snapshot.get()?.context("threads")?;
        ensure!(read == ThreadsV2 { threads: old.clone(), boot_id: None }, "version 1 as version 2");

        let newer = ThreadsV2 { threads: old, boot_id: Some(0x1122_3344) };
        snapshot.replace(&newer)?;
        ensure!(snapshot.get::<ThreadsV2>()?.context("threads")? == newer, "version 2");
        match snapshot.get::<Threads>() {
            Err(PayloadError::NewerVersion { found: 2, newest: 1, .. }) => Ok(()),
            other => bail!("the older reader takes it for {other:?}"),
        }
    });
    scenario.finish();
}
