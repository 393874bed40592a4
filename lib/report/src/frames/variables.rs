//! Arguments and locals of the model from those of the payload.

use crate::cut::{MAX_TEXT, shortened};
use crate::model::Variable;
use crate::words::Word;
use pyst_snapshot::payload as wire;
use pyst_snapshot::payload::VariableKind;
use std::collections::HashMap;

/// The variables by index of state and of frame. Of a frame that comes twice the first counts.
pub(super) fn by_frame(variables: &wire::Variables) -> HashMap<(u32, usize), &wire::FrameVariables> {
    let mut by_frame = HashMap::new();
    for frame in &variables.frames {
        by_frame.entry((frame.state, frame.frame as usize)).or_insert(frame);
    }
    by_frame
}

/// Arguments, and the others.
pub(super) fn split(frame: &wire::FrameVariables) -> (Vec<Variable>, Vec<Variable>) {
    let variables = frame.variables.iter();
    let (arguments, locals): (Vec<_>, Vec<_>) = variables.partition(|variable| variable.kind == VariableKind::ARGUMENT);
    (arguments.into_iter().map(shown).collect(), locals.into_iter().map(shown).collect())
}

fn shown(variable: &wire::Variable) -> Variable {
    let too_long = variable.repr.as_ref().is_some_and(|repr| repr.len() > MAX_TEXT);
    Variable {
        name: shortened(variable.name.escaped()),
        kind: Word(variable.kind),
        type_name: variable.type_name.clone().map(shortened),
        repr: variable.repr.clone().map(shortened),
        truncated: variable.truncated || too_long,
        absent: variable.absence.map(Word),
    }
}
