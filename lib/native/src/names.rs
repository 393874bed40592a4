//! From svmas to functions: symbols name the physical function, debug information those inlined into it, and lines.

use crate::demangle::demangle;
use crate::places::PlaceId;
use pyst_elf::{Answer, Call, Calls, Files, ModuleId};
use pyst_snapshot::payload::{Native, NativeCallV1, NativeFunctionV1, NativePlace};
use pyst_snapshot::{Bytes, Svma, Text};
use std::collections::{BTreeMap, HashMap};

/// The functions named so far, each once, and the places.
pub(crate) struct Names<'a> {
    files: &'a dyn Files,
    /// What the numbers of frames and calls stand for: of the places, those by their ids that were named.
    known: Native,
    by_symbol: HashMap<Vec<u8>, u32>,
    places: Vec<Place>,
    /// The files that hold more debug information and were not read, each with a module that needs it.
    pub(crate) lacking: BTreeMap<Vec<u8>, ModuleId>,
}

/// What is known of a place besides what is shown of it.
#[derive(Clone, Copy, Default)]
struct Place {
    located: Option<(ModuleId, Svma)>,
    is_named: bool,
    starts_greenlet: bool,
}

impl<'a> Names<'a> {
    /// No names yet.
    pub(crate) fn new(files: &'a dyn Files) -> Names<'a> {
        let (known, by_symbol, places, lacking) = Default::default();
        Names { files, known, by_symbol, places, lacking }
    }

    /// Notes that the names of a place will be wanted, which may be anywhere.
    pub(crate) fn want(&mut self, place: PlaceId, located: Option<(ModuleId, Svma)>) {
        if self.places.len() <= place.index() {
            self.places.resize(place.index() + 1, Place::default());
        }
        if let Some(known) = self.places.get_mut(place.index()) {
            known.located = located;
        }
    }

    /// Asks for the names of all places that were noted, together.
    pub(crate) fn prefetch(&mut self) {
        let mut svmas: Vec<_> = self.places.iter().filter_map(|place| place.located).collect();
        svmas.sort_unstable();
        svmas.dedup();
        self.files.prefetch_symbols(&svmas);
        self.files.prefetch_calls(&svmas);
    }

    /// Names a place; whether a greenlet starts there.
    pub(crate) fn name(&mut self, place: PlaceId) -> bool {
        match self.places.get(place.index()) {
            None => false,
            Some(Place { is_named: true, starts_greenlet, .. }) => *starts_greenlet,
            Some(Place { located, .. }) => self.find_out(place.index(), *located),
        }
    }

    fn find_out(&mut self, index: usize, located: Option<(ModuleId, Svma)>) -> bool {
        let calls = located.map(|(module, svma)| self.find(module, svma)).unwrap_or_default();
        let starts_greenlet = calls.last().is_some_and(|call| is_greenlet_start(self.raw_symbol(call)));
        let places = &mut self.known.places;
        places.resize(places.len().max(index + 1), NativePlace::default());
        if let Some(place) = places.get_mut(index) {
            *place = NativePlace { module: located.map(|(module, _)| module.0), calls };
        }
        if let Some(place) = self.places.get_mut(index) {
            *place = Place { located, is_named: true, starts_greenlet };
        }
        starts_greenlet
    }

    /// The functions and places that have been named, without stacks.
    pub(crate) fn known(&self) -> &Native {
        &self.known
    }

    pub(crate) fn into_known(self) -> Native {
        self.known
    }

    fn raw_symbol(&self, call: &NativeCallV1) -> &[u8] {
        let function = usize::try_from(call.function).ok().and_then(|index| self.known.functions.get(index));
        function.map_or(&[], |function| &function.raw_symbol.0)
    }

    fn find(&mut self, module: ModuleId, svma: Svma) -> Vec<NativeCallV1> {
        let symbol = match self.files.symbol(module, svma) {
            Answer::Found(hit) => Some(hit.name),
            Answer::Absent | Answer::NotRecorded => None,
        };
        let Calls { mut calls, lacking } = match self.files.calls(module, svma) {
            Answer::Found(calls) => calls,
            Answer::Absent | Answer::NotRecorded => Calls::default(),
        };
        if let Some(lacking) = lacking {
            self.lacking.entry(lacking).or_insert(module);
        }
        // The symbol tells more of the physical function than its debug information: `main.cold`.
        let mut physical = calls.pop().unwrap_or_default();
        physical.function = symbol.or(physical.function);
        let inlined = calls.iter().filter_map(|call| self.call(call, true)).collect::<Vec<_>>();
        inlined.into_iter().chain(self.call(&physical, false)).collect()
    }

    /// A call as it is shown; none without a name.
    fn call(&mut self, call: &Call, inlined: bool) -> Option<NativeCallV1> {
        let function = self.function(call.function.as_deref()?)?;
        Some(NativeCallV1 { function, file: call.file.clone().map(Text), line: call.line, inlined })
    }

    fn function(&mut self, name: &[u8]) -> Option<u32> {
        if let Some(function) = self.by_symbol.get(name) {
            return Some(*function);
        }
        let index = u32::try_from(self.known.functions.len()).ok()?;
        let function = Text(demangle(name));
        self.known.functions.push(NativeFunctionV1 { function, raw_symbol: Bytes(name.to_vec()) });
        self.by_symbol.insert(name.to_vec(), index);
        Some(index)
    }
}

/// The function is static in greenlet 1, and a method of several classes since.
fn is_greenlet_start(symbol: &[u8]) -> bool {
    const NAME: &[u8] = b"g_initialstub";
    symbol.windows(NAME.len()).any(|part| part == NAME)
}
