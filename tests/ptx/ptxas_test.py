#!/usr/bin/env python3
"""ptxas_test.py PTXAS FOLDER...: every program of the instruction tests is PTX that the reference assembler accepts.

Programs that the engine must refuse are left out. Exit code 77 (skipped) where there is no assembler.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys


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


def main():
    ptxas, folders = sys.argv[1], sys.argv[2:]
    if not pathlib.Path(ptxas).exists():
        print("skipped: no ptxas")
        return 77
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
