//! Every interpreter of this machine says what its own tables mean: `code.co_positions()`.

use super::{Entries, Location};
use crate::fake::pythons;
use std::process::Command;

/// Prints, for every code object of some modules, the table and where each code unit comes from.
const DUMP: &str = r#"
import importlib.util, types
def dump(code, seen):
    if code in seen:
        return
    seen.add(code)
    positions = ["%s,%s,%s,%s" % p for p in code.co_positions()]
    print(code.co_firstlineno, code.co_linetable.hex() or "-", " ".join(positions).replace("None", "-"), sep=";")
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            dump(constant, seen)
seen = set()
for name in ["argparse", "ast", "asyncio.base_events", "dataclasses", "decimal", "inspect", "tarfile", "typing"]:
    path = importlib.util.find_spec(name).origin
    with open(path, encoding="utf-8") as file:
        dump(compile(file.read(), path, "exec"), seen)
dump(compile("x = [\n" + "  (1,\n\n\n\n 'é' + y),\n" * 2000 + "]" + " " * 3000 + "; z = f(1)", "long", "exec"), seen)
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
    for interpreter in pythons().into_iter().map(|python| python.path) {
        let output = Command::new(&interpreter).args(["-I", "-X", "utf8", "-c", DUMP]).output().unwrap();
        assert!(output.status.success(), "{}: {}", interpreter.display(), String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut units = 0;
        for line in text.lines() {
            let fields: Vec<&str> = line.split(';').collect();
            let table = bytes(fields[1]);
            let expected = parsed(fields[2]);
            let mut found = Vec::new();
            for (end, location) in Entries::new(&table, fields[0].parse().unwrap()) {
                found.resize(usize::try_from(end).unwrap(), location);
            }
            assert_eq!(found, expected, "{}: {line}", interpreter.display());
            units += expected.len();
        }
        assert!(units > 10_000, "{}: only {units} code units", interpreter.display());
        println!("{}: {units} code units agree", interpreter.display());
    }
}
