//! From svmas to functions: symbols name the physical function, debug information those inlined into it, and lines.

use crate::demangle::demangle;
use crate::places::{PlaceId, Places};
use pyst_elf::{Answer, Call, Calls, Files, ModuleId};
use pyst_snapshot::payload::{NativeCallV1, NativeFunctionV1};
use pyst_snapshot::{Bytes, Svma, Text};
use std::collections::{BTreeMap, HashMap};

/// A place, and what its frames are called as soon as one of them was named.
#[derive(Clone, Default)]
struct Named {
    located: Option<(ModuleId, Svma)>,
    calls: Option<Vec<NativeCallV1>>,
}

/// The functions named so far, each once.
pub(crate) struct Names<'a> {
    files: &'a dyn Files,
    functions: Vec<NativeFunctionV1>,
    by_symbol: HashMap<Vec<u8>, u32>,
    places: Vec<Named>,
    /// The files that hold more debug information and were not read, each with a module that needs it.
    pub(crate) lacking: BTreeMap<Vec<u8>, ModuleId>,
}

impl<'a> Names<'a> {
    /// No names yet.
    pub(crate) fn new(files: &'a dyn Files) -> Names<'a> {
        Names { files, functions: Vec::new(), by_symbol: HashMap::new(), places: Vec::new(), lacking: BTreeMap::new() }
    }

    /// Notes places of which names will be wanted.
    pub(crate) fn want(&mut self, places: &Places<'_>, wanted: &[PlaceId]) {
        for place in wanted {
            if self.places.len() <= place.index() {
                self.places.resize(place.index() + 1, Named::default());
            }
            if let Some(named) = self.places.get_mut(place.index()) {
                named.located = places.located(*place);
            }
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

    /// The calls at a place: the functions inlined there, innermost first, and the physical one. None when nothing is
    /// known.
    pub(crate) fn calls(&mut self, place: PlaceId) -> Vec<NativeCallV1> {
        let Some(Named { located, calls }) = self.places.get(place.index()) else { return Vec::new() };
        match (calls, *located) {
            (Some(calls), _) => calls.clone(),
            (None, None) => Vec::new(),
            (None, Some((module, svma))) => {
                let calls = self.find(module, svma);
                if let Some(place) = self.places.get_mut(place.index()) {
                    place.calls = Some(calls.clone());
                }
                calls
            }
        }
    }

    /// The raw symbol of a call's function.
    pub(crate) fn raw_symbol(&self, call: &NativeCallV1) -> &[u8] {
        let function = usize::try_from(call.function).ok().and_then(|index| self.functions.get(index));
        function.map_or(&[], |function| &function.raw_symbol.0)
    }

    pub(crate) fn into_functions(self) -> Vec<NativeFunctionV1> {
        self.functions
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
        let index = u32::try_from(self.functions.len()).ok()?;
        let function = Text(demangle(name));
        self.functions.push(NativeFunctionV1 { function, raw_symbol: Bytes(name.to_vec()) });
        self.by_symbol.insert(name.to_vec(), index);
        Some(index)
    }
}
