#!/usr/bin/env python3
"""What the generator makes of the toy API, byte by byte, what it says about mistakes, and which changes of meaning change signatures.

    golden_test.py            compares with tests/gen/toy/golden; runs the mistakes
    golden_test.py --update   writes the golden files
"""

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOY, GENERATE = HERE / "toy", ROOT / "proto/gen/generate.py"
INTERNAL = "include/farwarp/wire/internal_command.h"
sys.path.insert(0, str(ROOT / "proto/gen"))
import model as models  # noqa: E402
import table as tables  # noqa: E402
import wire_table  # noqa: E402

GOLDEN = ("cuda/driver_api.h", "cuda/wire_ids.h", "cuda/wire_table.h", "client/custom.h", "client/plain.h", "client/plain.cc", "client/exports.cc",
          "client/unsupported.cc", "server/cuda_dispatch.h", "server/cuda_dispatch.cc")

# (file, line to find, its replacement or None to delete it, line reported, what the complaint says)
MISTAKES = [
    ("driver.toml", "toyLocal =", "toyLokal = { class = \"local\" }", 2, "toyLokal is no function"),
    ("driver.toml", "toyStream =", "toyStream_ptsz = { class = \"async\" }", 16, "inherit the plain name"),
    ("driver.toml", "toyLocal =", None, 1, "toyLocal has no line"),
    ("driver.toml", "toyLocal =", "toyLocal = { class = \"lokal\" }", 2, "'lokal' is none of"),
    ("driver.toml", "toyLocal =", "toyLocal = { side = \"client\" }", 2, "class is missing"),
    ("driver.toml", "toyLocal =", "toyLocal = 1", 2, "expected { class"),
    ("driver.toml", "toyLocal =", "toyLocal = { class = \"local\" } x", 2, "at line 2"),
    ("driver.toml", "toyCached =", "toyLocal = { class = \"local\" }", 3, "Cannot overwrite"),
    ("driver.toml", "toyLocal =", "toyLocal = { class = \"local\", value = \"in\" }", 2, "means nothing in class local"),
    ("driver.toml", "toyStream =", "toyStream = { class = \"async\", work = \"result\" }", 16, "work names no stream that travels"),
    ("driver.toml", "toyCustomBoth =", "toyCustomBoth = { class = \"custom\" }", 5, "needs side"),
    ("driver.toml", "toyUnsupported =", "toyUnsupported = { class = \"unsupported\" }", 7, "needs a reason"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", colour = \"in\" }", 8, "has no parameter colour"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", i = \"inn\" }", 8, "'inn' is no rule"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", i = \"out\" }", 8, "can only go in"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", i = \"del\" }", 8, "del needs a handle"),
    ("driver.toml", "toyOutputs =", "toyOutputs = { class = \"sync\", number = \"new\" }", 11, "new needs a handle"),
    ("driver.toml", "toyOutputs =", "toyOutputs = { class = \"async\" }", 11, "async function has no reply"),
    ("driver.toml", "toyStructs =", "toyStructs = { class = \"sync\", where = \"out\" }", 9, "const and cannot come out"),
    ("driver.toml", "toyCustomClient =", "toyCustomClient = { class = \"sync\" }", 4, "pointer to pointers"),
    ("driver.toml", "toyCustomBoth =", "toyCustomBoth = { class = \"async\" }", 5, "callback"),
    ("driver.toml", "toyUnsupported =", "toyUnsupported = { class = \"async\" }", 7, "event holds a handle"),
    ("driver.toml", "toyInArrays =", "toyInArrays = { class = \"async\", points = \"in[count]\" }", 13, "needs a length in bytes"),
    ("driver.toml", "toyInArrays =", "toyInArrays = { class = \"async\", data = \"in[byte]\", maybe = \"in\" }", 13, "no parameter byte"),
    ("driver.toml", "toyOutArrays =", "toyOutArrays = { class = \"sync\", name = \"out[pair]\", maybe = \"out[bytes]\" }", 14,
     "pair is no number that goes in"),
    ("driver.toml", "toyQuery =", "toyQuery = { class = \"sync\", points = \"out[*count]\" }", 15, "only comes out"),
    ("driver.toml", "toyQuery =", "toyQuery = { class = \"sync\", points = \"in[*count]\", count = \"inout\" }", 15, "changes during the call"),
    ("driver.toml", "toyCreate =", "toyCreate = { class = \"async\" }", 17, "\"new\""),
    ("driver.toml", "toyCreate =", "toyCreate = { class = \"sync\", array = \"out\" }", 17, "\"new\""),
    ("driver.toml", "toyHandles =", "toyHandles = { class = \"async\", streams = \"in[2]\" }", 20, "in[count]"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\" }", 8, "address: a device address that goes in needs a rule"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", address = \"in\" }", 8, "needs a rule, such as address[bytes]"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", address = \"address\" }", 8, "'address' is no rule"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", address = \"address[m]\" }", 8, "no parameter m"),
    ("driver.toml", "toyScalars =", "toyScalars = { class = \"async\", address = \"address[4]\", ull = \"address[4]\" }", 8, "ull: unsigned long long is no device address"),
    ("driver.toml", "toyStructs =", "toyStructs = { class = \"async\", where = \"address[4]\" }", 9, "is no device address"),
    ("driver.toml", "toyAddresses =", "toyAddresses = { class = \"custom\", side = \"server\", to = \"address[bytes]\" }", 21, "written by hand"),
    ("types.toml", "ToyOperation =", None, 22, "operations: ToyOperation holds a device address (address)"),
    ("types.toml", "ToyOperation =", "ToyOperation = \"chequed\"", 12, "or \"checked\""),
    ("types.toml", "ToyOperation =", "ToyOperation = { }", 22, "holds a device address (address)"),
    ("types.toml", "ToyWindow =", "ToyWindow = { base = \"address[byte]\", reserved = \"null\" }", 11, "length byte: there is no such number"),
    ("types.toml", "ToyWindow =", "ToyWindow = { base = \"address\", reserved = \"null\" }", 11, "neither \"address[bytes]\" nor"),
    ("types.toml", "CUarray =", None, 17, "CUarray has no kind"),
    ("types.toml", "CUarray =", "ToyPoint = \"Array\"", 5, "no handle type"),
    ("types.toml", "ToyWindow =", None, 9, "base holds a pointer"),
    ("types.toml", "ToyWindow =", "ToyWindow = { base = \"address[bytes]\" }", 9, "reserved holds a pointer"),
    ("types.toml", "ToyWindow =", "ToyWindow = { base = \"adress\" }", 11, "neither"),
    ("types.toml", "ToyWindow =", "ToyWindow = { bass = \"address\" }", 11, "no member bass"),
    ("types.toml", "ToyWindow =", "ToyWindow = { base = \"null\", reserved = \"null\" }\nToyWindowAlias = { base = \"address[8]\", reserved = \"null\" }", 12,
     "which has a rule already"),
    ("types.toml", "ToyOrdinal =", "ToyColor = \"colours differ\"", 8, "colours differ"),
    ("ids.lock", "toyOperations", None, 22, "append \"toyOperations 21\""),
    ("ids.lock", "toyLocal", "toyLocal 2", 2, "the next free one is 1"),
    ("ids.lock", "toyCached", "toyLocal 2", 3, "already has number 1"),
    ("ids.lock", "toyCached", "toyCachet 2", 3, "no function of the model"),
    ("ids.lock", "toyCached", "toyCached", 3, "a name and a number"),
]

# Of the 540 lines published first. Appending keeps it; changing a published number does not.
PUBLISHED_IDS = 540
PUBLISHED_DIGEST = "a0a4c4c5316d77c14a29a1c9fb508408d451601dfee5bba80938044f2a73f9ae"


def generate(folder, out):
    return subprocess.run([sys.executable, GENERATE, "table", out, "--folder", folder], capture_output=True, text=True, timeout=60)


def compare_golden(update):
    with tempfile.TemporaryDirectory() as out:
        result = generate(TOY, out)
        if result.returncode != 0:
            return [result.stderr]
        failures = []
        for name in GOLDEN:
            golden, made = TOY / "golden" / name, (pathlib.Path(out) / name).read_text()
            if update:
                golden.parent.mkdir(parents=True, exist_ok=True)
                golden.write_text(made)
            elif not golden.exists() or golden.read_text() != made:
                failures.append(f"{name} differs from {golden}; if that is meant, run golden_test.py --update and review the change")
        return failures


def run_mistake(file, line, replacement, reported, text):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("driver.toml", "types.toml", "ids.lock", "model.json"):
            shutil.copy(TOY / name, folder / name)
        lines = (folder / file).read_text().splitlines()
        at = next(i for i, text_line in enumerate(lines) if text_line.startswith(line))
        lines[at:at + 1] = [] if replacement is None else replacement.split("\n")
        (folder / file).write_text("\n".join(lines) + "\n")
        result = generate(folder, folder / "out")
        said = result.stderr.strip().replace(str(folder) + "/", "")
        mistake = f"{file}: {line!r} → {replacement!r}"
        if result.returncode == 0:
            return [f"{mistake}: accepted"]
        if "Traceback" in said or said.count("\n"):
            return [f"{mistake}: not one line: {said}"]
        if f":{reported}:" not in said or text not in said:
            return [f"{mistake}: expected line {reported} and {text!r}, got {said!r}"]
        if (folder / "out").exists():
            return [f"{mistake}: wrote files all the same"]
        return []


COPIES = {"CopyToDevice", "CopyFromDevice", "CopyOnDevice"}
KERNELS = {"LoadModule", "LoadLibrary", "LibraryModule", "BindKernel", "KernelFunction", "KernelAttribute", "KernelCacheConfig"}
# (file, text, its replacement, the commands whose signatures change); all others keep theirs.
MEANINGS = [
    ("model.json", '"name": "y", "offset": 8, "type": "double"', '"name": "y", "offset": 8, "type": "float"',
     {"toyStructs", "toyOutputs", "toyInout", "toyInArrays", "toyQuery"}),
    ("model.json", '"type": "unsigned int[2]"', '"type": "unsigned short[4]"', {"toyStructs", "toyAddresses"}),  # In a nameless union.
    ("driver.toml", 'four = "in[4]"', 'four = "in[3]"', {"toyInArrays"}),
    ("driver.toml", 'toyStream = { class = "async", work', 'toyStream = { class = "sync", work', {"toyStream"}),
    ("types.toml", 'CUarray = "Array"', 'CUarray = "Graph"', {"toyCreate", "toyCreate_v2", "toyDestroy"}),
    (INTERNAL, "// limit:i32 →", "// limit:u32 →", {"GetLimit"}),
    (INTERNAL, "kGetLimit = 0x10016,", "kGetLimit =\n      0x10016,", set()),
    (INTERNAL, "; the stream goes on", "; and on goes the stream", set()),
    (INTERNAL, "plane  := address:u64", "plane  := address:u32", COPIES | {"CopyToArray", "CopyFromArray", "GraphNodes"}),
    (INTERNAL, "//   size:u32)*", "//   size:u64)*", KERNELS),  # On the second line of a definition.
    (INTERNAL, "//           (id:i32 value[64])*", "//           (id:i32 value[32])*", {"Launch"}),
    (INTERNAL, "walltime_us:u64", "walltime_us:u32", {"Link", "LoadModule", "LoadLibrary"}),
    (INTERNAL, "kHost = 4,    // callback:u64", "kHost = 4,    // callback:u32", {"GraphNodes"}),
    (INTERNAL, "std::uint32_t shared_bytes;", "std::uint64_t shared_bytes;", {"Launch", "GraphNodes"}),
]
# (text of internal_command.h, its replacement, what the complaint says)
INTERNAL_MISTAKES = [
    ("kGetLimit = 0x10016,                //", "kGetLimit = 0x10016,\n  //", "GetLimit has no grammar"),
    ("kDestroyEvent = 0x10066", "kDestroyEvent = 0x10065", "DestroyEvent: numbers begin"),
    ("kSetContext = 0x10000", "kSetContext = 0xffff", "SetContext: numbers begin"),
    ("kDestroyEvent = 0x10066", "kDestroyEvent", "no command with a number"),
]


def signatures(file, text, replacement):
    """name → signature of the toy table or of internal_command.h, with one text replaced."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for path in (*(TOY / name for name in ("driver.toml", "types.toml", "ids.lock", "model.json")), ROOT / INTERNAL):
            shutil.copy(path, folder / path.name)
        changed = folder / pathlib.Path(file).name
        before = changed.read_text()
        if text not in before:
            raise tables.TableError(f"{file}: {text!r} is not there")
        changed.write_text(before.replace(text, replacement, 1))
        table = tables.Table(models.Model(folder / "model.json"), folder)
        commands = wire_table.Commands(folder / pathlib.Path(INTERNAL).name)
        return {name: signature for _, name, signature in wire_table.entries(table, commands)}


def check_meanings():
    failures, plain = [], signatures(INTERNAL, "#pragma once", "#pragma once")
    for file, text, replacement, wanted in MEANINGS:
        changed = signatures(file, text, replacement)
        found = {name for name in plain if changed.get(name) != plain[name]}
        if found != wanted:
            failures.append(f"{file}: {text!r} → {replacement!r} changes {sorted(found)}, not {sorted(wanted)}")
    for text, replacement, complaint in INTERNAL_MISTAKES:
        try:
            signatures(INTERNAL, text, replacement)
            failures.append(f"{INTERNAL}: {text!r} → {replacement!r}: accepted")
        except tables.TableError as error:
            if complaint not in str(error) or not re.search(r"internal_command\.h:\d+: ", str(error)):
                failures.append(f"{INTERNAL}: {text!r} → {replacement!r}: {error}")
    return failures


def check_published_ids():
    lines = [line for line in (HERE.parents[1] / "proto/cuda/ids.lock").read_text().splitlines() if line and not line.startswith("#")]
    digest = hashlib.sha256("\n".join(lines[:PUBLISHED_IDS]).encode()).hexdigest()
    return [] if digest == PUBLISHED_DIGEST else ["proto/cuda/ids.lock: a published number has changed; numbers are only appended"]


def main():
    failures = compare_golden("--update" in sys.argv)
    for mistake in MISTAKES:
        failures += run_mistake(*mistake)
    failures += check_meanings()
    failures += check_published_ids()
    print("\n".join(failures) or f"golden files agree; {len(MISTAKES)} mistakes are told with file and line; "
          f"{len(MEANINGS)} changes change the right signatures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
