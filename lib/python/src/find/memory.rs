//! Finding a runtime by what memory holds, where no file tells anything: in the modules' data, or everywhere.

use super::candidate::{Anchor, Candidate, found};
use super::depth::Depth;
use super::places::{self, Place};
use super::scan::{self, Hit, Scan, Words};
use super::texts::{self, Kind};
use super::validate::{Verdict, validate};
use super::version::Version;
use super::{SEARCHED, Search};
use crate::layout::{self, Layout, Table};
use pyst_elf::ModuleId;
use pyst_snapshot::payload::{FoundRuntime, RuntimeFoundBy, VersionFoundBy};
use pyst_snapshot::{Address, Range};

/// How much is searched exhaustively.
const SEARCHED_EXHAUSTIVELY: u64 = 1 << 40;

/// How many cookies are looked at, in modules and outside of them: the one of each copy of the library that is loaded, and
/// what other tools know the cookie by. A process that is full of them has made them up.
const COOKIES: usize = 64;

/// A runtime that a scan led to.
struct Fit {
    found: FoundRuntime,
    table: &'static Table,
    depth: Depth,
}

impl Search<'_> {
    /// The runtime's first bytes in the modules' data. The pieces that are read need not overlap: the runtime is aligned,
    /// and so are they.
    pub(super) fn by_cookie(&mut self) {
        let mut left = SEARCHED;
        let mut cookies = 0..COOKIES;
        for Place { range, module } in places::of_modules(&self.target, &self.modules()) {
            for piece in places::pieces(range, &mut left) {
                for address in scan::cookies(piece.start, &places::read(piece, self.target.memory)) {
                    if cookies.next().is_none() {
                        self.tried.push("more xdebugpy cookies in the modules' data than were looked at".to_owned());
                        return;
                    }
                    let anchor = Anchor::Runtime(address);
                    self.judge(&Candidate { anchor, found_by: RuntimeFoundBy::COOKIE, module });
                    if self.is_settled() {
                        return;
                    }
                }
            }
        }
        if self.best.is_none() {
            self.tried.push("no xdebugpy cookie (Python 3.13 and later) in the modules' data".to_owned());
        }
    }

    /// The pointers of a runtime in the modules' data.
    pub(super) fn by_scan(&mut self) {
        let data = places::pointed_to(&self.target);
        let mut left = SEARCHED;
        for (id, module) in self.modules() {
            let places = places::of_module(&self.target, id, module);
            let versions = self.versions_of(id);
            let hits = self.hits(&places, &data, &mut left, |_, _| {});
            self.choose(&hits, &places, &versions, RuntimeFoundBy::SCAN);
            if self.is_over() {
                return;
            }
        }
        self.tried.push("no pointers of a runtime in the modules' data".to_owned());
    }

    /// The cookie and the pointers of a runtime in all memory that is nobody's.
    pub(super) fn everywhere(&mut self) {
        let known = places::of_modules(&self.target, &self.modules());
        let elsewhere = places::elsewhere(&self.target, &known);
        let (mut hexes, mut cookies) = (Vec::new(), Vec::new());
        let data = places::pointed_to(&self.target);
        let mut left = SEARCHED_EXHAUSTIVELY;
        let hits = self.hits(&elsewhere, &data, &mut left, |start, bytes| {
            texts::collect(bytes, Kind::Running, &mut hexes);
            cookies.extend(scan::cookies(start, bytes).into_iter().take(COOKIES));
        });
        for address in cookies.into_iter().take(COOKIES) {
            let anchor = Anchor::Runtime(address);
            self.judge(&Candidate { anchor, found_by: RuntimeFoundBy::EXHAUSTIVE, module: None });
        }
        if !self.is_over() {
            let text = |hex| Version { hex, free_threaded: false, found_by: VersionFoundBy::TEXT };
            let versions: Vec<Version> = hexes.into_iter().map(text).collect();
            self.choose(&hits, &elsewhere, &versions, RuntimeFoundBy::EXHAUSTIVE);
        }
        if !self.is_over() {
            let megabytes = elsewhere.iter().map(|place| place.range.len()).sum::<u64>() >> 20;
            self.tried.push(format!("nothing in {megabytes} MiB of memory outside of the modules either"));
        }
    }

    /// The words in `places` that lead where a runtime's do. `look` sees all that is read.
    fn hits(
        &mut self,
        places: &[Place],
        data: &[Range],
        left: &mut u64,
        mut look: impl FnMut(Address, &[u8]),
    ) -> Vec<Hit> {
        let before = *left;
        for words in [Words::Equal, Words::Others] {
            let mut scan = Scan::new(self.target.memory, data, words);
            *left = before;
            for (number, Place { range, .. }) in places.iter().enumerate() {
                for piece in places::pieces(*range, left) {
                    // The two pointers may lie on both sides of the border of a piece.
                    let end = Address(piece.end.0.saturating_add(scan::APART)).min(range.end);
                    let bytes = places::read(Range { start: piece.start, end }, self.target.memory);
                    if words == Words::Equal {
                        look(piece.start, &bytes);
                    }
                    scan.pass(piece.start, &bytes, number);
                }
            }
            if scan.is_exhausted() {
                let what = "too much looks like pointers of a runtime, and not all of it was looked at";
                self.tried.push(format!("{}: {what}", self.name(places.first().and_then(|place| place.module))));
            }
            if !scan.hits.is_empty() {
                return scan.hits;
            }
        }
        Vec::new()
    }

    /// Keeps the best runtime that a scan led to: of the first version that has any, or else of the only one that fits.
    fn choose(&mut self, hits: &[Hit], places: &[Place], versions: &[Version], found_by: RuntimeFoundBy) {
        let fits_of = |version| self.fits(hits, places, version, found_by);
        let told = versions.iter().map(|version| fits_of(Some(version))).find(|fits| !fits.is_empty());
        let fits = told.unwrap_or_else(|| fits_of(None));
        let Some(best) = fits.iter().map(|fit| fit.depth.rank()).max() else { return };
        let mut equal = fits.into_iter().filter(|fit| fit.depth.rank() == best);
        let Some(first) = equal.next() else { return };
        let path = self.name(first.found.module.map(ModuleId));
        if let Some(other) = equal.find(|fit| fit.table.minor != first.table.minor) {
            let (one, other) = (first.table.name, other.table.name);
            self.tried.push(format!(
                "{path}: pointers of a runtime, which the layouts of Python {one} and {other} fit alike, and nothing tells \
                 which it is"
            ));
            return;
        }
        let (version, frames) = (first.found.version(), first.depth.frames);
        self.tried
            .push(format!("{path}: pointers of a runtime, Python {version}, with thread states and {frames} frames"));
        self.keep(Verdict::Runs, first.found);
    }

    /// Those of the hits that are Python of a version beyond doubt.
    fn fits(&self, hits: &[Hit], places: &[Place], version: Option<&Version>, found_by: RuntimeFoundBy) -> Vec<Fit> {
        let of_hit = |hit: &Hit| {
            let module = places.get(hit.place).and_then(|place| place.module);
            let candidate = Candidate { anchor: Anchor::Head(hit.head), found_by, module };
            // The nearest first, where a version is told. No text and no name tells whether there is a GIL.
            let nearest = version.map(|version| {
                let of_version = |free_threaded| layout::candidates(version.hex, free_threaded);
                [of_version(false), of_version(true)].concat()
            });
            let mut tables = nearest.unwrap_or_else(|| hit.tables.clone());
            tables.retain(|table| hit.tables.iter().any(|one| one.name == table.name));
            tables.into_iter().filter_map(|table| self.close_look(&candidate, table, version)).collect::<Vec<Fit>>()
        };
        hits.iter().flat_map(of_hit).collect()
    }

    fn close_look(&self, candidate: &Candidate, table: &'static Table, version: Option<&Version>) -> Option<Fit> {
        let runtime = candidate.anchor.runtime(table)?;
        let told = version.map(|version| Version { free_threaded: table.free_threaded, ..version.clone() });
        let is_told = told.is_some();
        let version = told.unwrap_or_else(|| Version::of_table(table));
        let [_, _, patch, _] = version.hex.to_be_bytes();
        let layout: Layout = table.layout(patch);
        let memory = self.target.memory;
        if validate(&layout, runtime, memory) != Verdict::Runs {
            return None;
        }
        let depth = Depth::of(&layout, runtime, memory);
        let found = found(candidate, &version, runtime, Some(&layout));
        depth.convinces(is_told).then_some(Fit { found, table, depth })
    }
}
