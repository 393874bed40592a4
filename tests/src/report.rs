//! The JSON of `pyst-fmt`, read as any consumer would: by the names in its schema, with no type of pyst's.

use crate::interpreters::Interpreter;
use crate::target::{Account, Dump};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;

/// One report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The document.
    pub json: Value,
}

/// A Python frame, of a report or of a target's account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Frame {
    /// The interpreter that runs it; absent in the account of a target that has only one.
    #[serde(default)]
    pub interpreter_id: Option<u64>,
    /// `co_name`.
    pub function: String,
    /// `co_qualname`.
    pub qualname: Option<String>,
    /// `co_filename`.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u32>,
    /// Where the expression ends; absent in an account where the instruction is not known.
    #[serde(default)]
    pub end_line: Option<u32>,
    /// The first column, from 0, in bytes of UTF-8.
    #[serde(default)]
    pub column: Option<u32>,
    /// The column after the last.
    #[serde(default)]
    pub end_column: Option<u32>,
}

/// One thread of a report.
#[derive(Clone, Copy, Debug)]
pub struct Thread<'a> {
    /// Its object in the document.
    pub json: &'a Value,
}

impl Report {
    /// Reads a document.
    ///
    /// # Errors
    /// It is no report.
    pub fn parse(bytes: &[u8]) -> Result<Report> {
        let json: Value = serde_json::from_slice(bytes).context("the report is no JSON")?;
        ensure!(json["schema"] == "pyst.report" && json["version"] == 1, "not a report: {}", json["schema"]);
        if let Some(error) = schema().iter_errors(&json).next() {
            bail!("against the schema, at {}: {error}", error.instance_path());
        }
        Ok(Report { json })
    }

    /// Its threads.
    #[must_use]
    pub fn threads(&self) -> Vec<Thread<'_>> {
        self.json["threads"].as_array().map(|all| all.iter().map(|json| Thread { json }).collect()).unwrap_or_default()
    }

    /// The thread with this tid.
    ///
    /// # Errors
    /// There is none.
    pub fn thread(&self, tid: u32) -> Result<Thread<'_>> {
        let found = self.threads().into_iter().find(|thread| thread.tid() == Some(tid));
        found.with_context(|| format!("thread {tid} is not in the report; diagnostics: {}", self.json["diagnostics"]))
    }

    /// The codes of its diagnostics.
    #[must_use]
    pub fn codes(&self) -> Vec<String> {
        let all = self.json["diagnostics"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one["code"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Whether every thread has the name and the Python frames of the target's account; how many frames were compared.
    ///
    /// # Errors
    /// It has not; the first difference is told.
    pub fn agrees_with(&self, account: &Account) -> Result<usize> {
        for expected in account.threads.iter().filter(|thread| !thread.name.is_empty()) {
            ensure!(self.thread(expected.tid)?.json["name"].is_string(), "{} has no name", expected.name);
        }
        self.frames_agree_with(account)
    }

    /// Whether the Python frames of every thread are those of the target's account, and its name, if it has one; how many
    /// frames were compared. Of a core without its files nothing tells what is a string.
    ///
    /// # Errors
    /// They are not; the first difference is told.
    pub fn frames_agree_with(&self, account: &Account) -> Result<usize> {
        let mut compared = 0;
        for expected in &account.threads {
            let thread = self.thread(expected.tid)?;
            let (name, daemon) = (thread.json["name"].as_str(), thread.json["daemon"].as_bool());
            // Of threads that run sub-interpreters, the account has no names.
            let is_same =
                expected.name.is_empty() || name.is_none_or(|name| name == expected.name && daemon == expected.daemon);
            ensure!(is_same, "{}, daemon: {:?}, is {name:?}, {daemon:?}", expected.name, expected.daemon);
            let found = thread.python_frames()?;
            for (index, (want, have)) in expected.frames.iter().zip(&found).enumerate() {
                let what = format!("thread {}, frame {index} from outside", expected.tid);
                ensure!(want.says(have), "{what}: {have:?} instead of {want:?}");
                compared += 1;
            }
            let (want, have) = (expected.frames.len(), found.len());
            ensure!(
                want == have,
                "thread {}: {have} Python frames instead of {want}; diagnostics: {}",
                expected.tid,
                self.json["diagnostics"]
            );
        }
        let python_threads =
            self.threads().iter().filter(|one| one.python_frames().is_ok_and(|f| !f.is_empty())).count();
        ensure!(python_threads == account.threads.len(), "{python_threads} threads with Python frames");
        Ok(compared)
    }

    /// Whether it has the very frames, native ones too, that `live` had: what a core of a process that sleeps has.
    ///
    /// # Errors
    /// They are not; the first difference is told.
    pub fn has_frames_of(&self, live: &Report, interpreter: &Interpreter) -> Result<()> {
        for thread in live.threads() {
            // The state of an interpreter that is idle may belong to no thread.
            let Some(tid) = thread.tid() else { continue };
            let (live, core) = (comparable(interpreter, &thread), comparable(interpreter, &self.thread(tid)?));
            for (live, core) in live.iter().zip(&core) {
                ensure!(live == core, "thread {tid}: live {live:?}, core {core:?}");
            }
            ensure!(live.len() == core.len(), "thread {tid}: live {} frames, core {}", live.len(), core.len());
        }
        Ok(())
    }

    /// The same against faulthandler's account, which knows idents instead of tids.
    ///
    /// # Errors
    /// They differ.
    pub fn agrees_with_faulthandler(&self, dump: &Dump) -> Result<()> {
        for (ident, expected) in dump {
            let threads = self.threads();
            let thread = threads.iter().find(|thread| is_number(&thread.json["ident"], *ident));
            same_as_faulthandler(
                &thread.with_context(|| format!("no thread with ident {ident}"))?.python_frames()?,
                expected,
            )?;
        }
        Ok(())
    }
}

/// The frames without what a core cannot tell: when its process started, and so whether a source file is newer; and in which
/// root it ran, and so where files are.
fn comparable(interpreter: &Interpreter, thread: &Thread<'_>) -> Vec<String> {
    let mut frames = thread.frames();
    for frame in frames.iter_mut().filter_map(|frame| frame.as_object_mut()) {
        frame.remove("source_newer");
        if let Some(root) = &interpreter.root {
            frame.remove("source");
            let path = frame.get("module").and_then(Value::as_str).map(Path::new);
            if let Some(inside) =
                path.and_then(|path| path.strip_prefix(root).ok()).map(|path| Path::new("/").join(path))
            {
                frame.insert("module".to_owned(), inside.to_string_lossy().into());
            }
        }
    }
    frames.iter().map(ToString::to_string).collect()
}

/// Whether `value` is `number`: one that may pass 2^53 is a string in JSON, and an address has `0x`.
fn is_number(value: &Value, number: u64) -> bool {
    let of_text = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    value.as_u64().or_else(|| value.as_str().and_then(of_text)) == Some(number)
}

impl Account {
    /// Whether the two oracles agree with each other.
    ///
    /// # Errors
    /// They do not.
    pub fn agrees_with_faulthandler(&self, dump: &Dump) -> Result<()> {
        ensure!(dump.len() == self.threads.len(), "{} threads, faulthandler has {}", self.threads.len(), dump.len());
        for thread in &self.threads {
            let expected = dump.get(&thread.ident).with_context(|| format!("no ident {}", thread.ident))?;
            same_as_faulthandler(&thread.frames, expected)?;
        }
        Ok(())
    }
}

/// Compares from the innermost frame on: faulthandler stops after a hundred.
fn same_as_faulthandler(frames: &[Frame], dump: &[(String, u32, String)]) -> Result<()> {
    ensure!(dump.len() == frames.len().min(100), "{} frames, faulthandler has {}", frames.len(), dump.len());
    for (frame, (file, line, function)) in frames.iter().rev().zip(dump) {
        let have = (as_faulthandler(&frame.file), frame.line, as_faulthandler(&frame.function));
        ensure!(
            have == (file.clone(), Some(*line), function.clone()),
            "{have:?}, faulthandler has {file} {line} {function}"
        );
    }
    Ok(())
}

/// The committed JSON Schema, against which every report is validated.
fn schema() -> &'static jsonschema::Validator {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/report.schema.json");
        let text = std::fs::read_to_string(path).expect("schemas/report.schema.json");
        jsonschema::validator_for(&serde_json::from_str(&text).expect("the schema is JSON")).expect("the schema is one")
    })
}

impl Thread<'_> {
    /// Its tid.
    #[must_use]
    pub fn tid(&self) -> Option<u32> {
        self.json["tid"].as_u64().and_then(|tid| u32::try_from(tid).ok())
    }

    /// All its frames, outermost first.
    #[must_use]
    pub fn frames(&self) -> Vec<Value> {
        self.json["frames"].as_array().cloned().unwrap_or_default()
    }

    /// Its Python frames, outermost first.
    ///
    /// # Errors
    /// One is not as the schema says.
    pub fn python_frames(&self) -> Result<Vec<Frame>> {
        let frames = self.frames().into_iter().filter(|frame| frame["kind"] == "python");
        frames.map(|frame| Ok(serde_json::from_value(frame)?)).collect()
    }

    /// Its physical native frames, outermost first.
    #[must_use]
    pub fn native_frames(&self) -> Vec<Value> {
        self.frames().into_iter().filter(|frame| frame["kind"] == "native" && frame["inlined"] != true).collect()
    }
}

impl Frame {
    /// Whether `found` is the frame that this, of an account, tells of.
    fn says(&self, found: &Frame) -> bool {
        let known = |want: Option<u32>, have| want.is_none() || want == have;
        if self.interpreter_id.is_some() && self.interpreter_id != found.interpreter_id {
            return false;
        }
        (&self.function, &self.qualname, &self.file, self.line)
            == (&found.function, &found.qualname, &found.file, found.line)
            && known(self.end_line, found.end_line)
            && known(self.column, found.column)
            && known(self.end_column, found.end_column)
    }
}

/// A text as faulthandler writes it: all but printable ASCII escaped, and no more than 500 characters.
fn as_faulthandler(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut escaped: String = text
        .chars()
        .take(LONGEST)
        .map(|one| match u32::from(one) {
            0x20..=0x7e => one.to_string(),
            code @ 0..=0xff => format!("\\x{code:02x}"),
            code @ 0x100..=0xffff => format!("\\u{code:04x}"),
            code => format!("\\U{code:08x}"),
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        escaped.push_str("...");
    }
    escaped
}
