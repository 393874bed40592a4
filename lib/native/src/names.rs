//! From svmas to functions.

use crate::demangle::demangle;
use pyst_elf::{Answer, Files, ModuleId};
use pyst_snapshot::payload::{NativeCallV1, NativeFunctionV1};
use pyst_snapshot::{Bytes, Svma, Text};
use std::collections::HashMap;

/// The functions named so far, each once.
pub(crate) struct Names<'a> {
    files: &'a dyn Files,
    functions: Vec<NativeFunctionV1>,
    by_symbol: HashMap<Vec<u8>, u32>,
    by_svma: HashMap<(ModuleId, Svma), Option<u32>>,
}

impl<'a> Names<'a> {
    /// Names for these svmas, which are asked for together.
    pub(crate) fn new(files: &'a dyn Files, svmas: impl Iterator<Item = (ModuleId, Svma)>) -> Names<'a> {
        let mut svmas: Vec<_> = svmas.collect();
        svmas.sort_unstable();
        svmas.dedup();
        files.prefetch_symbols(&svmas);
        Names { files, functions: Vec::new(), by_symbol: HashMap::new(), by_svma: HashMap::new() }
    }

    /// The function at an svma, as a call.
    pub(crate) fn call(&mut self, module: ModuleId, svma: Svma) -> Option<NativeCallV1> {
        let known = self.by_svma.get(&(module, svma)).copied();
        let function = known.unwrap_or_else(|| {
            let function = self.function(module, svma);
            self.by_svma.insert((module, svma), function);
            function
        });
        Some(NativeCallV1 { function: function?, file: None, line: None, inlined: false })
    }

    /// The raw symbol of a call's function.
    pub(crate) fn raw_symbol(&self, call: &NativeCallV1) -> &[u8] {
        let function = usize::try_from(call.function).ok().and_then(|index| self.functions.get(index));
        function.map_or(&[], |function| &function.raw_symbol.0)
    }

    pub(crate) fn into_functions(self) -> Vec<NativeFunctionV1> {
        self.functions
    }

    fn function(&mut self, module: ModuleId, svma: Svma) -> Option<u32> {
        let Answer::Found(hit) = self.files.symbol(module, svma) else { return None };
        if let Some(function) = self.by_symbol.get(&hit.name) {
            return Some(*function);
        }
        let index = u32::try_from(self.functions.len()).ok()?;
        let function = Text(demangle(&hit.name));
        self.functions.push(NativeFunctionV1 { function, raw_symbol: Bytes(hit.name.clone()) });
        self.by_symbol.insert(hit.name, index);
        Some(index)
    }
}
