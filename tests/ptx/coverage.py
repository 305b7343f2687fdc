#!/usr/bin/env python3
"""coverage.py [--check] BUILD: writes docs/softgpu-coverage.md, which forms of PTX instructions the software GPU knows.

The forms are those of forms.txt. build/tests/ptx_probe says which of them the engine reads and which it executes; the case
files say which are tested. With --check nothing is written and the exit code says whether the page is what it should be.
"""
import argparse
import collections
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "softgpu-coverage.md"


def opcodes():
    """Opcodes in the order of opcodes.def, with the types that the parser allows."""
    text = (ROOT / "server/softgpu/ptx/opcodes.def").read_text()
    found = re.findall(r'FARWARP_OPCODE\(\w+, "(\w+)", "[^"]*",\s*(?:"[^"]*"\s*)+,\s*"([^"]*)"\)', text)
    return {name: types.split() for name, types in found}


def type_names():
    text = (ROOT / "server/softgpu/ptx/types.cc").read_text()
    return set(re.findall(r'\{"(\w+)", Type::', text))


def key_of(opcode, suffix, types):
    """Types in order, modifiers in any order."""
    words = [word for word in suffix.split(".") if word]
    return opcode, tuple(w for w in words if w in types), frozenset(w for w in words if w not in types)


def instructions(text, known, types):
    """Keys of the instructions in a piece of PTX."""
    for statement in re.split(r"[;{}\n]", re.sub(r"//.*", "", text)):
        statement = re.sub(r"^\s*(\$?\w+:\s*)*(@!?%\w+\s+)?", "", statement)
        match = re.match(r"([a-z]\w*)((?:\.[\w:]+)*)(?=\s|$)", statement)
        if match and match.group(1) in known:
            yield key_of(match.group(1), match.group(2), types)


def read_forms():
    lines = (HERE / "forms.txt").read_text().splitlines()
    return [line for line in lines[lines.index("---") + 1:] if line and not line.startswith("#")]


def collect(build):
    """{opcode: {key: (spelling, state, tested)}}"""
    known, types = opcodes(), type_names()
    forms = read_forms()
    states = subprocess.run([build / "tests/ptx_probe", HERE / "forms.txt"], capture_output=True, text=True, check=True,
                            timeout=300).stdout.split()
    if len(states) != len(forms):
        sys.exit("ptx_probe answered %d of %d forms" % (len(states), len(forms)))
    tested = set()
    for folder in (HERE / "cases", build / "tests/ptx/cases"):
        for path in sorted(folder.glob("*.ptx")):
            text = path.read_text()
            if "// refused:" not in text:
                tested.update(instructions(text, known, types))
    table = collections.OrderedDict((name, collections.OrderedDict()) for name in known)
    for form, state in zip(forms, states):
        text = re.sub(r"^\[\w+\]", "", form)
        keys = [key for key in instructions(text, known, types)]
        if not keys:
            sys.exit("no instruction in the form: " + form)
        key = keys[-1] if keys[-1][0] == "call" else keys[0]
        spelling = re.search(r"\b%s((?:\.[\w:]+)*)" % key[0], text).group(0)
        table[key[0]].setdefault(key, (spelling, state, key in tested))
    return table


def listed(names, opcode):
    """Spellings without the opcode; one line, the rest counted."""
    shown = ["`%s`" % (name[len(opcode):] or opcode) for name in names]
    return ", ".join(shown[:24]) + (" and %d more" % (len(shown) - 24) if len(shown) > 24 else "")


def page(table):
    lines = ["# What the software GPU executes", "",
             "Written by `tests/ptx/coverage.py`; `./dev check` fails when it is out of date. A *form* is an opcode with its types and",
             "modifiers as the reference assembler accepts them (`tests/ptx/forms.txt`). *Read*: the parser accepts it. *Executed*: the",
             "decoder has a handler for it; other forms are refused by name when a kernel that uses them is prepared. *Tested*: a case of",
             "`tests/ptx` runs exactly this form and compares its results.", ""]
    total = collections.Counter()
    rows, untested, missing = [], [], []
    for opcode, forms in table.items():
        values = list(forms.values())
        if not values:
            continue
        read = [v for v in values if v[1] != "unknown"]
        executed = [v for v in values if v[1] == "executed"]
        tested = [v for v in executed if v[2]]
        total.update(forms=len(values), read=len(read), executed=len(executed), tested=len(tested))
        rows.append("| `%s` | %d | %d | %d | %d |" % (opcode, len(values), len(read), len(executed), len(tested)))
        left = [v[0] for v in executed if not v[2]]
        if left:
            untested.append("* `%s`: %s" % (opcode, listed(left, opcode)))
        left = [v[0] for v in values if v[1] != "executed"]
        if left:
            missing.append("* `%s`: %s" % (opcode, listed(left, opcode)))
    lines += ["%d forms; %d read, %d executed, %d tested." % tuple(total[x] for x in ("forms", "read", "executed", "tested")), "",
              "| opcode | forms | read | executed | tested |", "|---|---|---|---|---|"] + rows
    without = [name for name, forms in table.items() if not forms]
    if without:
        lines += ["", "No forms are listed for " + ", ".join("`%s`" % name for name in without) + "."]
    lines += ["", "## Executed, not tested form by form", ""] + untested + ["", "## Not executed", ""] + missing
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("build", type=lambda p: pathlib.Path(p).resolve())
    arguments = parser.parse_args()
    text = page(collect(arguments.build))
    if not arguments.check:
        PAGE.write_text(text)
        return 0
    if not PAGE.exists() or PAGE.read_text() != text:
        print("%s is out of date: run tests/ptx/coverage.py %s" % (PAGE.relative_to(ROOT), arguments.build.name))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
