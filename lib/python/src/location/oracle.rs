//! Every interpreter of this machine says what its own tables mean: `code.co_positions()`, and before 3.11
//! `PyCode_Addr2Line`, which is what gives frames their lines.

use super::{Location, LocationTable};
use crate::fake::pythons;
use crate::layout::candidates;
use std::process::Command;

/// Prints, for every code object of some modules, the table and where each unit of it comes from. Runs on 2.7 as well.
const DUMP: &str = r#"
import codecs, ctypes, sys, types
line_of = ctypes.pythonapi.PyCode_Addr2Line
line_of.argtypes = [ctypes.py_object, ctypes.c_int]
def positions(code):
    if hasattr(code, "co_positions"):
        return ["%s,%s,%s,%s" % p for p in code.co_positions()]
    lines = [line_of(code, offset) for offset in range(len(code.co_code))]
    return ["%s,None,None,None" % (None if line == -1 else line) for line in lines]
def dump(code, seen):
    if id(code) in seen:
        return
    seen[id(code)] = code
    table = code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab
    table = codecs.encode(table, "hex").decode() or "-"
    print("%d;%s;%s" % (code.co_firstlineno, table, " ".join(positions(code)).replace("None", "-")))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            dump(constant, seen)
def modules():
    for name in ["argparse", "ast", "asyncio.base_events", "dataclasses", "decimal", "inspect", "tarfile", "typing"]:
        try:
            module = __import__(name, fromlist=["x"])
        except ImportError:
            continue
        path = module.__file__.replace(".pyc", ".py")
        with open(path, "rb") as file:
            yield path, file.read()
seen = {}
for path, source in modules():
    dump(compile(source, path, "exec"), seen)
# Lines that are far apart, go back, and long ones.
dump(compile("x = [\n" + "  (1,\n\n\n\n 'e' + y),\n" * 2000 + "]" + " " * 3000 + "; z = f(1)", "long", "exec"), seen)
dump(compile("x = 1" + "\n" * 700 + "y = f(\n1,\n" + "\n" * 300 + "g(2))\ntry:\n  pass\nfinally:\n  h()", "far", "exec"), seen)
"#;

fn parsed(positions: &str) -> Vec<Location> {
    let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    let location = |text: &str| {
        let mut fields = text.split(',');
        let [line, end_line, column, end_column] = std::array::from_fn(|_| number(fields.next()));
        Location { line, end_line, column, end_column }
    };
    positions.split_whitespace().map(location).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim_matches('-').as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn locations_are_those_that_the_interpreters_themselves_give() {
    for python in pythons() {
        let Some(table) = candidates(python.hex, false).into_iter().next() else { continue };
        let (form, interpreter) = (table.semantics.lines, python.path);
        let output = Command::new(&interpreter).args(["-E", "-s", "-W", "ignore", "-c", DUMP]).output().unwrap();
        assert!(output.status.success(), "{}: {}", interpreter.display(), String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut units = 0;
        for line in text.lines() {
            let fields: Vec<&str> = line.split(';').collect();
            let table = LocationTable::new(form, bytes(fields[1]), fields[0].parse().unwrap());
            let expected = parsed(fields[2]);
            let mut found = Vec::new();
            for (end, location) in table.entries() {
                // The last entry of some forms has no end.
                let end = if end == u32::MAX { expected.len() } else { usize::try_from(end).unwrap() };
                found.resize(end, location);
            }
            assert_eq!(found, expected, "{}: {line}", interpreter.display());
            units += expected.len();
        }
        assert!(units > 10_000, "{}: only {units} units of code", interpreter.display());
        println!("{}: {units} units of code agree", interpreter.display());
    }
}
