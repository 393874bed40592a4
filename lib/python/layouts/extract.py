#!/usr/bin/env python3
"""Writes an input of generate.py: where one build of CPython has the structures' fields, as its debug information says.

    layouts/extract.py VERSION FLAVOUR SOURCE ELF... > layouts/VERSION.json

ELF is an executable or a libpython with debug information (or that information itself, split off), and modules of the
same build for what is only in those. gdb, with its Python, reads it; nothing of it is run. Only what generate.py's FIELDS
and OBJECT_FIELDS name is written, so a table made from it can be checked line by line.
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate

STRUCTURES = "PYST_STRUCTURES"


def wanted():
    """The structures that FIELDS and OBJECT_FIELDS name, each with the paths of the fields in it."""
    fields = generate.FIELDS + generate.OBJECT_FIELDS
    places = [generate.PLACE.fullmatch(place) for _, places, _ in fields for place in places]
    stated = [path for _, _, path in fields if path]
    paths = {"_Py_DebugOffsets": sorted(set(stated))}
    for name, _, path, _ in (place.groups() for place in places if place):
        paths.setdefault(name, [])
        if path and path not in paths[name]:
            paths[name].append(path)
    return paths


def inside_gdb(paths):
    import gdb

    def structure(name):
        # A structure may have its name by a typedef, or by its tag alone; old releases have tags of their own.
        for spelling in (name, "struct " + name):
            try:
                found = gdb.lookup_type(spelling).strip_typedefs()
            except gdb.error:
                continue
            if found.code == gdb.TYPE_CODE_STRUCT and found.sizeof:
                return found
        return None

    def field(kind, path):
        """(first bit, type, whether it is a bit field) of a field; None where there is none."""
        name, _, rest = path.partition(".")
        members = [member for member in kind.fields() if hasattr(member, "bitpos")]
        for member in members:
            here = member.type.strip_typedefs()
            if member.name == name:
                inner = field(here, rest) if rest else (0, here, bool(member.bitsize))
                return inner and (member.bitpos + inner[0], *inner[1:])
            if not member.name and here.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
                inner = field(here, path)
                if inner:
                    return (member.bitpos + inner[0], *inner[1:])
        return None

    structures = {}
    for name, fields in paths.items():
        kind = structure(name)
        if kind is None:
            continue
        structures[name] = {"size": kind.sizeof, "fields": {}}
        for path in fields:
            found = field(kind, path) if kind.fields() else None
            if found is None:
                continue
            bit, its_type, is_bits = found
            written = {"offset": bit // 8, "size": its_type.sizeof}
            if is_bits:
                written["bit_offset"] = bit % 8
            structures[name]["fields"][path] = written
    print(json.dumps(structures))


def ask_gdb(path):
    gdb = ["gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"]
    environment = {**os.environ, STRUCTURES: json.dumps(wanted())}
    gdb += ["-x", os.path.abspath(__file__), path]
    output = subprocess.run(gdb, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main():
    version, flavour, source, *paths = sys.argv[1:]
    structures = {}
    for path in paths:
        structures = {**ask_gdb(path), **structures}
    if not structures.get("PyThreadState"):
        sys.exit(f"no debug information of CPython in {' '.join(paths)}")
    entry = {"version": version, "flavour": flavour, "source": source, "structs": structures}
    json.dump([entry], sys.stdout, indent=1, sort_keys=True)
    print()


if STRUCTURES in os.environ:
    inside_gdb(json.loads(os.environ[STRUCTURES]))
elif __name__ == "__main__":
    main()
