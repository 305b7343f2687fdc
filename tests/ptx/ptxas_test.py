#!/usr/bin/env python3
"""ptxas_test.py PTXAS FOLDER-OR-FORMS...: the reference assembler accepts what the instruction tests call PTX.

Folders hold programs, of which those that the engine must refuse are left out; a file holds forms (forms.txt). Exit code
77 (skipped) where there is no assembler.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

FORMS_IN_A_PROGRAM = 100


def refused(path):
    return any(line.startswith("// refused:") for line in path.read_text().splitlines())


def assemble(ptxas, path):
    """What the assembler says against the program; empty if nothing."""
    target = re.search(r"^\.target\s+(\w+)", path.read_text(), re.MULTILINE)
    arch = target.group(1) if target else "sm_80"
    # The assembler of today no longer knows the oldest targets; they are subsets.
    if int(re.sub(r"\D", "", arch)) < 75:
        arch = "sm_75"
    try:
        result = subprocess.run([ptxas, "-O0", "-arch=" + arch, "-o", os.devnull, str(path)], capture_output=True, text=True,
                                timeout=60)
    except subprocess.TimeoutExpired:
        return "still assembling after 60 s"
    if result.returncode == 0:
        return ""
    lines = [line for line in (result.stderr + result.stdout).splitlines() if "error" in line or "fatal" in line]
    return "\n".join(lines[:5]) or "exit code %d" % result.returncode


def write_forms(path, folder):
    """The forms of a file as programs of many each, one scope per form; those of a target that is not the usual one apart."""
    text = path.read_text()
    head, forms = text.split("---\n", 1)
    head = "\n".join(line for line in head.splitlines() if not line.startswith("#"))
    by_target = {}
    for number, line in enumerate(forms.splitlines(), text.count("\n", 0, text.index("---\n")) + 2):
        match = re.match(r"(?:\[(\w+)\] *)?(.+)", line)
        by_target.setdefault(match.group(1) or "sm_120", []).append("  { %s }  // %s:%d" % (match.group(2), path.name, number))
    for target, lines in by_target.items():
        for k in range(0, len(lines), FORMS_IN_A_PROGRAM):
            body = "\n".join(lines[k:k + FORMS_IN_A_PROGRAM])
            program = ".version 9.0\n.target %s\n.address_size 64\n%s\n%s\n  ret;\n}\n" % (target, head, body)
            (folder / ("forms_%s_%d.ptx" % (target, k))).write_text(program)


def main():
    ptxas, folders = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory() as scratch:
        return judge(ptxas, folders, pathlib.Path(scratch))


def judge(ptxas, folders, scratch):
    if not pathlib.Path(ptxas).exists():
        print("skipped: no ptxas")
        return 77
    for path in (pathlib.Path(name) for name in folders):
        if path.is_file():
            write_forms(path, scratch)
    folders = [name for name in folders if pathlib.Path(name).is_dir()] + [scratch]
    paths = [path for folder in folders for path in sorted(pathlib.Path(folder).glob("*.ptx")) if not refused(path)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = list(pool.map(lambda path: assemble(ptxas, path), paths))
    bad = [(path, text) for path, text in zip(paths, complaints) if text]
    for path, text in bad:
        print("%s:\n%s" % (path.name, text))
    print("%d of %d programs accepted" % (len(paths) - len(bad), len(paths)))
    return 1 if bad or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
