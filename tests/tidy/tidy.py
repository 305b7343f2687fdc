#!/usr/bin/env python3
"""House rules that a machine can check; docs/style.md says why each exists.

Run from anywhere: `python3 tests/tidy/tidy.py`. Prints file:line: message for each violation and exits with 1 if there is one.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_COLUMNS = 120
MAX_FILE_LINES = 1000
MAX_FUNCTION_LINES = 100

# Who may include whom: for each folder, the prefixes of project headers it may use. First match wins; a folder that is not
# listed may use what its parent may. The arrows of docs/architecture.md, and nothing more.
BASE = ["farwarp/base/"]
WIRE = BASE + ["farwarp/wire/"]
TRANSPORT = WIRE + ["farwarp/transport/"]
ABI = ["cuda/", "proto/cuda/"]
GRAPH = BASE + ABI + ["farwarp/graph/", "proto/graph/"]
ALLOWED = [
    ("include/farwarp/base", BASE),
    ("include/farwarp/wire", WIRE),
    ("include/farwarp/transport", TRANSPORT),
    ("proto/base", BASE),
    ("proto/wire", WIRE),
    ("proto/transport", TRANSPORT + ["proto/transport/"]),
    ("include/farwarp/graph", GRAPH),
    ("proto/graph", GRAPH),
    ("client/session", TRANSPORT + ABI + ["client/session/"]),
    ("client/driver", TRANSPORT + ABI + ["farwarp/graph/", "client/session/", "client/driver/", "client/custom.h", "client/plain.h"]),
    ("client/runtime", BASE + ABI + ["client/runtime/"]),
    ("client/cli", TRANSPORT + ["client/cli/", "controller/pool/", "control/", "proto/control/"]),
    ("server/driver", BASE + ABI + ["server/driver/"]),
    ("server/session", TRANSPORT + ABI + ["server/session/", "server/driver/", "server/cuda_dispatch.h"]),
    ("server/worker", TRANSPORT + ABI + ["server/session/", "server/driver/", "server/worker/"]),
    ("server/daemon", TRANSPORT + ABI + ["server/session/", "server/driver/", "server/daemon/", "server/worker/", "control/",
                                         "proto/control/"]),
    ("server/softgpu/memory", BASE + ["server/softgpu/memory/"]),
    ("server/softgpu/ptx", BASE + ["server/softgpu/ptx/"]),
    ("server/softgpu/warp", BASE + ["server/softgpu/warp/", "server/softgpu/ptx/", "server/softgpu/memory/",
                                    "server/softgpu/exec/"]),
    ("server/softgpu/exec", BASE + ["server/softgpu/exec/", "server/softgpu/warp/", "server/softgpu/ptx/",
                                    "server/softgpu/memory/"]),
    ("server/softgpu", BASE + ABI + ["farwarp/graph/", "server/softgpu/"]),
    ("controller/pool", BASE + ["controller/pool/"]),
    ("controller/service", BASE + ["controller/", "control/", "proto/control/"]),
]
PROJECT_PREFIXES = ("farwarp/", "cuda/", "client/", "server/", "controller/", "control/", "proto/")

# Calls that have a better answer here, by folder prefix.
BANNED = [
    ("", re.compile(r"\b(strcpy|strcat|sprintf|gets|alloca)\s*\("), "unbounded or unsafe call"),
    ("client/driver", re.compile(r"\b(abort|exit|FARWARP_CHECK)\s*\("), "code in the application may not end the process"),
    ("client/session", re.compile(r"\b(abort|exit|FARWARP_CHECK)\s*\("), "code in the application may not end the process"),
    ("client/runtime", re.compile(r"\b(abort|exit|FARWARP_CHECK)\s*\("), "code in the application may not end the process"),
    ("tests", re.compile(r"\b(sleep_for|usleep|sleep)\s*\("), "tests poll with a deadline instead of sleeping"),
]

violations = []


def report(path, line, message):
    violations.append(f"{path}:{line}: {message}")


def files(*patterns):
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [pathlib.PurePosixPath(name) for name in listed.stdout.splitlines() if "/golden/" not in name]


def check_lengths(path, lines):
    if len(lines) > MAX_FILE_LINES:
        report(path, len(lines), f"{len(lines)} lines; split the file (limit {MAX_FILE_LINES})")
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            report(path, number, f"{len(line)} columns (limit {MAX_COLUMNS})")
        if line.rstrip() != line:
            report(path, number, "trailing space")


def check_functions(path, lines):
    """A function is what lies between a line ending in '{' at column 0-2 that is not a type, and its closing brace."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            head = re.match(r"^[A-Za-z_].*\)\s*(const|noexcept|override|\s)*\{$", line)
            if head and not re.match(r"^(class|struct|enum|union|namespace|extern)\b", line):
                start = number
        elif line.startswith("}"):
            if number - start > MAX_FUNCTION_LINES:
                report(path, start, f"function of {number - start} lines (limit {MAX_FUNCTION_LINES})")
            start = None


def check_includes(path, lines):
    allowed = next((rule for folder, rule in ALLOWED if str(path).startswith(folder + "/")), None)
    if allowed is None:
        return
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^">]+)[">]', line)
        if match is None or not match.group(1).startswith(PROJECT_PREFIXES):
            continue
        if not match.group(1).startswith(tuple(allowed)):
            report(path, number, f'{path.parent} may not include "{match.group(1)}" (docs/architecture.md)')


def check_banned(path, lines):
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        for folder, pattern, why in BANNED:
            if str(path).startswith(folder) and pattern.search(code):
                report(path, number, f"{pattern.search(code).group(1)}: {why}")


def check_header_comment(path, lines):
    if path.suffix == ".h" and not lines[0].startswith("//"):
        report(path, 1, "a header begins with what it is for, who owns what, which threads may call it")
    if path.suffix == ".h" and "#pragma once" not in lines:
        report(path, 1, "#pragma once is missing")


def check_in_some_target(path, cmake_text):
    """Sources that no CMakeLists.txt names are dead."""
    if path.suffix in (".cc", ".cpp", ".cu") and path.name not in cmake_text and f"{path.stem}" not in cmake_text:
        report(path, 1, "file is in no CMake target")


def check_ids_are_appended():
    lock = ROOT / "proto/cuda/ids.lock"
    if not lock.exists():
        return
    seen = {}
    for number, line in enumerate(lock.read_text().splitlines(), 1):
        fields = line.split("#")[0].split()
        if len(fields) < 2:
            continue
        wire_id = fields[-1]
        if wire_id in seen:
            report("proto/cuda/ids.lock", number, f"number {wire_id} is already {seen[wire_id]}'s")
        seen[wire_id] = fields[0]


def main():
    cmake_text = "\n".join((ROOT / name).read_text() for name in files("*CMakeLists.txt", "*.cmake"))
    for path in files("*.h", "*.cc", "*.cpp"):
        lines = (ROOT / path).read_text().splitlines()
        if not lines:
            report(path, 1, "empty file")
            continue
        check_lengths(path, lines)
        check_functions(path, lines)
        check_includes(path, lines)
        check_banned(path, lines)
        check_header_comment(path, lines)
        check_in_some_target(path, cmake_text)
    check_ids_are_appended()
    for violation in violations:
        print(violation)
    print(f"{len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
