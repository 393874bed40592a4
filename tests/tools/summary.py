#!/usr/bin/env python3
"""summary.py [--readme README] RESULTS

Prints what the scenarios noted in the file RESULTS: the matrix of interpreters, a table of the other scenarios, figures, and why
what was skipped. With --readme, writes the matrix between the markers of that file instead.
"""

import collections
import re
import sys

MATRIX, MERGE = "matrix: ", "merge: "
BEGIN, END = "<!-- matrix: tests/run --table -->", "<!-- end of matrix -->"
WORDS = {"ok": "ok", "FAILED": "FAILED", "skipped": "-"}


def notes(path):
    """(scenario, circumstance, outcome, detail) of each line."""
    for line in open(path, encoding="utf-8"):
        yield line.rstrip("\n").split("\t", 3)


def by_version(name):
    source, version, *variant = name.split()
    return [int(number) for number in version.split(".")], source, variant


class Matrix:
    """What came of each scenario on each interpreter, living and from its cores."""

    def __init__(self, path):
        # {interpreter: {scenario: {"live" | "gcore" | "kernel core": outcome}}}; the worse outcome of two runs.
        self.cells = collections.defaultdict(lambda: collections.defaultdict(dict))
        self.scenarios, self.lacking = [], {}
        # {interpreter: [outcome]} of the scenarios that hold merged stacks against gdb.
        self.merged = collections.defaultdict(list)
        for scenario, circumstance, outcome, detail in notes(path):
            if scenario.startswith(MERGE):
                self.merged[circumstance.split(",")[0]].append(outcome)
            if not scenario.startswith(MATRIX):
                continue
            scenario = scenario.removeprefix(MATRIX)
            if scenario == "lacking":
                self.lacking[circumstance] = detail
                continue
            if scenario not in self.scenarios:
                self.scenarios.append(scenario)
            interpreter, _, way = circumstance.partition(", ")
            cell = self.cells[interpreter][scenario]
            if cell.get(way) != "FAILED":
                cell[way] = outcome
        self.scenarios.sort()

    def count(self, interpreter, ways):
        return self.of([cell[way] for cell in self.cells[interpreter].values() for way in ways if way in cell])

    @staticmethod
    def of(outcomes):
        tried = [outcome for outcome in outcomes if outcome in ("ok", "FAILED")]
        return f"{tried.count('ok')}/{len(tried)}"

    def letter(self, interpreter, scenario):
        cell = self.cells[interpreter].get(scenario)
        if cell is None:
            return " "
        outcomes = set(cell.values())
        if "FAILED" in outcomes:
            return "X"
        if cell.get("live") == "ok":
            return "+" if "ok" in (cell.get("gcore"), cell.get("kernel core")) else "l"
        return "." if "none" in outcomes else " "

    def lines(self):
        names = sorted(self.cells, key=by_version)
        width = max(map(len, [*names, *self.lacking]), default=0)
        # Where a number ends is its column.
        ruler = "".join(f"{number:>5}" for number in range(5, len(self.scenarios) + 1, 5))
        yield f"{'':{width}}   live   core  merged  {ruler}"
        for name in names:
            letters = "".join(self.letter(name, scenario) for scenario in self.scenarios)
            live, core = self.count(name, ["live"]), self.count(name, ["gcore", "kernel core"])
            yield f"{name:{width}}  {live:>5}  {core:>5}  {self.of(self.merged[name]):>6}  {letters}".rstrip()
        for name, reason in sorted(self.lacking.items(), key=lambda one: by_version(one[0])):
            yield f"{name:{width}}  {reason}"
        yield ""
        yield "+ equal, living and from cores    l equal, living (no core was tried)    X differs"
        yield ". not in that version, or nothing to see there    blank: not tried with it"
        yield "merged: scenarios whose native and Python frames, living and from a core, are merged as gdb and the target have them"
        yield ""
        legend = [f"{number:>2} {scenario}" for number, scenario in enumerate(self.scenarios, 1)]
        height = -(-len(legend) // 3)
        for row in range(height):
            yield "".join(f"{one:<38}" for one in legend[row::height]).rstrip()


def write_readme(path, results):
    matrix = "\n".join(f"    {line}".rstrip() for line in Matrix(results).lines())
    text = open(path, encoding="utf-8").read()
    marked = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    assert marked.search(text), f"{path} has no {BEGIN}"
    open(path, "w", encoding="utf-8").write(marked.sub(lambda _: f"\n{matrix}\n\n", text))


def print_others(path):
    table = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
    figures, skipped = [], collections.defaultdict(set)
    total = collections.Counter()
    for scenario, circumstance, outcome, detail in notes(path):
        interpreter = circumstance.split(",")[0]
        if [*interpreter.split(), "", ""][1].count(".") != 2:
            interpreter = "(any)"
        if outcome == "figure":
            figures.append((scenario, circumstance, detail))
            continue
        if outcome == "none":
            continue
        if outcome == "skipped":
            skipped[detail].add(scenario)
        total[outcome] += 1
        if not scenario.startswith(MATRIX):
            table[scenario][interpreter][outcome] += 1
    columns = sorted({interpreter for row in table.values() for interpreter in row})
    print("\nOther scenarios: checks that passed; those that FAILED or were left out (-) are named\n")
    for number, column in enumerate(columns, 1):
        print(f"  [{number}] {column}")
    width = max(map(len, table), default=0)
    print("\n" + " " * width + "".join(f"{f'[{number}]':>7}" for number in range(1, len(columns) + 1)))
    for scenario in sorted(table):
        cells = []
        for column in columns:
            counts = table[scenario][column]
            worst = next((word for word in ("FAILED", "skipped") if counts[word] and (word == "FAILED" or not counts["ok"])), "ok")
            cells.append("" if not counts else WORDS[worst] if worst != "ok" else str(counts["ok"]))
        print(scenario.ljust(width) + "".join(f"{cell:>7}" for cell in cells))
    print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in sorted(total.items())))
    for scenario, circumstance, detail in sorted(figures):
        print(f"figure: {scenario}, {circumstance}: {detail}")
    for reason, scenarios in sorted(skipped.items()):
        print(f"skipped: {', '.join(sorted(scenarios))}: {reason}")


if sys.argv[1] == "--readme":
    write_readme(sys.argv[2], sys.argv[3])
else:
    print("\nThe matrix: Python frames are equal to what the target says of itself\n")
    print("\n".join(Matrix(sys.argv[1]).lines()))
    print_others(sys.argv[1])
