#!/usr/bin/env python3
"""Prints what the scenarios noted in the file given: a table of scenarios and interpreters, figures, and why what was skipped."""

import collections
import sys

WORDS = {"ok": "ok", "FAILED": "FAILED", "skipped": "-"}
table = collections.defaultdict(lambda: collections.defaultdict(collections.Counter))
figures, skipped = [], collections.defaultdict(set)
for line in open(sys.argv[1], encoding="utf-8"):
    scenario, circumstance, outcome, detail = line.rstrip("\n").split("\t", 3)
    interpreter = circumstance.split(",")[0]
    is_version = [*interpreter.split(), "", ""][1].count(".") == 2
    if not is_version:
        interpreter = "(any)"
    if outcome == "figure":
        figures.append((scenario, circumstance, detail))
        continue
    if outcome == "skipped":
        skipped[detail].add(scenario)
    table[scenario][interpreter][outcome] += 1

columns = sorted({interpreter for row in table.values() for interpreter in row})
print("\nScenarios: checks that passed; those that FAILED or were left out (-) are named\n")
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
total = collections.Counter()
for row in table.values():
    for counts in row.values():
        total += counts
print("\n" + ", ".join(f"{count} {outcome}" for outcome, count in sorted(total.items())))
for scenario, circumstance, detail in sorted(figures):
    print(f"figure: {scenario}, {circumstance}: {detail}")
for reason, scenarios in sorted(skipped.items()):
    print(f"skipped: {', '.join(sorted(scenarios))}: {reason}")
