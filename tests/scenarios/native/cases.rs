//! The hard cases: small programs, and what must be seen of each.

use super::stacks::folder;
use anyhow::Result;
use pyst_tests::{Program, build};
use std::process::Command;

/// How to know the true stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Oracle {
    /// gdb's stack is right.
    Gdb,
    /// gdb guesses where there is no CFI. What the program wrote of itself is right.
    Program,
}
pub(super) use Oracle::{Gdb, Program as Own};

/// A program and what must be seen of its main thread.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    /// Whether gcc does not know what it is written with.
    pub(super) needs_clang: bool,
    pub(super) options: &'static [&'static str],
    pub(super) arguments: &'static [&'static str],
    pub(super) oracle: Oracle,
    /// Functions that must be there, outermost first, with others between.
    pub(super) functions: &'static [&'static str],
    /// Why the stack ends.
    pub(super) end: &'static str,
}

pub(super) const CASE: Case = Case {
    name: "",
    source: "",
    needs_clang: false,
    options: &["-O2"],
    arguments: &[],
    oracle: Gdb,
    functions: &[],
    end: "complete",
};
const WITHOUT_CFI: &[&str] = &["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions"];

pub(super) const CASES: &[Case] = &[
    Case { name: "signal handler", source: "handler.c", functions: &["main", "interrupted", "on_signal"], ..CASE },
    Case {
        name: "handler on an alternate stack",
        source: "altstack.c",
        functions: &["main", "interrupted", "first", "second"],
        ..CASE
    },
    Case { name: "handler of a fault", source: "fault.c", functions: &["main", "outer", "fault", "on_fault"], ..CASE },
    Case {
        name: "fault in a handler",
        source: "nested_fault.c",
        functions: &["main", "interrupted", "on_signal", "on_fault"],
        ..CASE
    },
    Case { name: "realigned frames", source: "realigned.c", functions: &["main", "outer", "inner"], ..CASE },
    Case { name: "frames of variable size", source: "variable.c", functions: &["main", "outer", "inner"], ..CASE },
    Case {
        name: "calls that never return",
        source: "noreturn.c",
        functions: &["main", "outer", "middle", "last"],
        ..CASE
    },
    Case { name: "return address in a register", source: "popped.c", functions: &["main", "outer", "popped"], ..CASE },
    Case { name: "tail calls", source: "tail.c", functions: &["main", "last"], ..CASE },
    Case {
        name: "tail-call interpreter",
        source: "dispatch.c",
        needs_clang: true,
        functions: &["main", "run", "call", "run", "call", "run", "call", "settle"],
        ..CASE
    },
    Case {
        name: "call through null",
        source: "wild_call.c",
        arguments: &["null"],
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "call to where nothing is mapped",
        source: "wild_call.c",
        arguments: &["unmapped"],
        oracle: Own,
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "call into data",
        source: "wild_call.c",
        arguments: &["data"],
        oracle: Own,
        functions: &["main", "caller", "on_fault"],
        ..CASE
    },
    Case {
        name: "unoptimized",
        source: "plain.c",
        options: &["-O0"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: ".debug_frame only",
        source: "plain.c",
        options: &["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "compressed .debug_frame",
        source: "plain.c",
        options: &["-O2", "-g", "-gz", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "no CFI, frame pointer",
        source: "plain.c",
        options: &["-O2", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        oracle: Own,
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case {
        name: "no CFI, frame pointer, stripped",
        source: "plain.c",
        options: &["-O2", "-s", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        oracle: Own,
        ..CASE
    },
    Case {
        name: "no CFI, a function without frame pointer",
        source: "mixed.c",
        options: &["-O2", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        oracle: Own,
        functions: &["omitting", "settle"],
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "no CFI, a function without frame pointer, stripped",
        source: "mixed.c",
        options: &["-O2", "-s", "-fno-omit-frame-pointer", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"],
        oracle: Own,
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "no CFI, no frame pointer, stripped",
        source: "plain.c",
        options: &["-O2", "-s", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-exceptions"],
        oracle: Own,
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "no CFI, no frame pointer",
        source: "plain.c",
        options: WITHOUT_CFI,
        oracle: Own,
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "static",
        source: "plain.c",
        options: &["-O2", "-static"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case { name: "static and stripped", source: "plain.c", options: &["-O2", "-static", "-s"], ..CASE },
    Case { name: "stripped", source: "plain.c", options: &["-O2", "-s"], ..CASE },
    Case {
        name: "position-dependent",
        source: "plain.c",
        options: &["-O2", "-no-pie"],
        functions: &["main", "outer", "middle", "innermost"],
        ..CASE
    },
    Case { name: "deep recursion", source: "recursion.c", functions: &["main", "deeper", "deeper", "settle"], ..CASE },
    Case {
        name: "greenlet's stack",
        source: "switched.c",
        oracle: Own,
        functions: &["g_initialstub", "inner", "settle"],
        end: "stack-switch",
        ..CASE
    },
    // glibc's __start_context has no CFI before its first instruction.
    Case {
        name: "stack of its own",
        source: "contexts.c",
        oracle: Own,
        functions: &["started"],
        end: "no-cfi",
        ..CASE
    },
    Case {
        name: "generated code with a frame pointer",
        source: "generated.c",
        arguments: &["frame"],
        oracle: Own,
        functions: &["main", "enter", "called"],
        ..CASE
    },
    Case {
        name: "generated code that returns",
        source: "generated.c",
        arguments: &["plain"],
        oracle: Own,
        functions: &["main", "enter", "called"],
        ..CASE
    },
    Case {
        name: "generated code that nobody can follow",
        source: "generated.c",
        arguments: &["neither"],
        oracle: Own,
        functions: &["called"],
        end: "no-module",
        ..CASE
    },
    Case {
        name: "exception caught",
        source: "exception.cpp",
        arguments: &["catch"],
        functions: &["main", "shapes::catches(int, bool)"],
        ..CASE
    },
    Case {
        name: "exception on its way",
        source: "exception.cpp",
        arguments: &["unwinding"],
        functions: &["main", "shapes::catches(int, bool)", "int shapes::passes<int>(int, bool)"],
        ..CASE
    },
    Case {
        name: "exception that nobody catches",
        source: "exception.cpp",
        arguments: &["terminate"],
        functions: &["main", "int shapes::passes<int>(int, bool)", "std::terminate()"],
        ..CASE
    },
    Case { name: "Rust panic", source: "panic.rs", options: &["-O"], functions: &["main", "panic::failing"], ..CASE },
];

impl Case {
    pub(super) fn compiler(&self) -> &'static str {
        match self.source.rsplit('.').next() {
            Some("cpp") => "g++",
            Some("rs") => "rustc",
            _ if self.needs_clang => "clang-19",
            _ => "gcc",
        }
    }

    /// The name of the program.
    pub(super) fn executable(&self) -> &'static str {
        self.source.split('.').next().unwrap_or_default()
    }

    pub(super) fn start(&self) -> Result<Option<Program>> {
        let folder = folder()?;
        let program = build(self.compiler(), self.source, self.options, folder.path())?;
        Program::start(Command::new(program).args(self.arguments), folder)
    }
}
