#!/usr/bin/env python3
"""Generates everything that is derived from the API table. Python's standard library only.

    generate.py abi OUT            cuda/driver_api.h, cuda/runtime_api.h, their static assertions, cuda/proc_address.{h,cc},
                                   cuda/driver_table.{h,cc}, the version script of libcuda.so.1
    generate.py table OUT          cuda/wire_ids.h, cuda/wire_table.h; the client's custom.h, plain.{h,cc}, exports.cc, unsupported.cc; the server's
                                   cuda_dispatch.{h,cc}; tests of the two against each other, and fuzz seeds; for a
                                   table with a model of its own also cuda/driver_api.h and cuda/driver_table.h
    generate.py stubs OUT IMPLEMENTED SAY
                                   stubs for the entry points that the text file IMPLEMENTED (one name a line, # comments) does
                                   not list; SAY is the C++ function that logs one
    generate.py coverage [--check] writes docs/cuda-coverage.md, or compares it

`table` and `coverage` take --folder FOLDER for a table elsewhere (driver.toml, types.toml, ids.lock, and its model if it has one).
A file is only rewritten when its content changes, so that a build after a touch rebuilds nothing. A mistake in the table is one line,
file:line: text.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import abi  # noqa: E402
import client  # noqa: E402
import coverage  # noqa: E402
import dispatch  # noqa: E402
import driver_table  # noqa: E402
import encode  # noqa: E402
import exports  # noqa: E402
import model as models  # noqa: E402
import plain_test  # noqa: E402
import proc_address  # noqa: E402
import table as tables  # noqa: E402
import wire_table  # noqa: E402

DRIVER_MODEL, RUNTIME_MODEL = "cuda-13.0.json", "cudart-13.0.json"
INTERNAL_COMMANDS = "include/farwarp/wire/internal_command.h"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def write_bytes(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def generate_abi(out):
    driver, runtime = models.load(DRIVER_MODEL), models.load(RUNTIME_MODEL)
    shared = {t["tag"] for t in driver.raw["types"] if t.get("tag")} & {t["tag"] for t in runtime.raw["types"] if t.get("tag")}
    for model in (driver, runtime):
        write(out / f"cuda/{model.api}_api.h", abi.header(model.raw, shared))
        write(out / f"cuda/{model.api}_abi_test.cc", abi.abi_test(model.raw, f"cuda/{model.api}_api.h"))
        toolkit = ("cuda.h", "cudaProfiler.h") if model.api == "driver" else ("cuda_runtime_api.h",)
        write(out / f"cuda/{model.api}_toolkit_test.cc", abi.abi_test(model.raw, *toolkit))
    write(out / "cuda/proc_address.h", proc_address.HEADER)
    write(out / "cuda/proc_address.cc", proc_address.source(driver))
    write(out / "cuda/driver_table.h", driver_table.header(driver))
    write(out / "cuda/driver_table.cc", driver_table.source(driver))
    write(out / "cuda/libcuda.map", exports.version_script(driver))


def names_in(path):
    """Names of a text file, with file:line for those that no header declares."""
    known = models.load(DRIVER_MODEL).by_name
    names = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name = line.split("#")[0].strip()
        if not name:
            continue
        if name not in known:
            sys.exit(f"{path}:{number}: {name} is no driver entry point")
        if name in names:
            sys.exit(f"{path}:{number}: {name} is listed twice")
        names.add(name)
    return names


def generate_stubs(out, implemented, say):
    write(out, exports.stubs(models.load(DRIVER_MODEL), names_in(implemented), {}, say))


def load_table(folder):
    own = folder / "model.json"
    return tables.Table(models.Model(own) if own.exists() else models.load(DRIVER_MODEL), folder)


def generate_table(out, folder):
    table = load_table(folder)
    model = table.model
    unsupported = {f.name: f.reason for f in table.functions if f.kind == "unsupported"}
    unsupported |= {f.twin: f.reason for f in table.functions if f.kind == "unsupported" and f.twin}
    own_model = model.path.parent == folder
    listed = wire_table.entries(table, None if own_model else wire_table.Commands(models.ROOT / INTERNAL_COMMANDS))
    write(out / "cuda/wire_ids.h", encode.wire_ids(table, wire_table.table_hash(listed)))
    write(out / "cuda/wire_table.h", wire_table.header(listed))
    write(out / "client/custom.h", client.custom_header(table, model))
    write(out / "client/plain.h", encode.header(table))
    write(out / "client/plain.cc", encode.source(table))
    write(out / "client/exports.cc", client.exports(table, model))
    write(out / "client/unsupported.cc", exports.stubs(model, model.by_name.keys() - unsupported.keys(), unsupported, "FarwarpSayUnsupported"))
    write(out / "server/cuda_dispatch.h", dispatch.header(table))
    write(out / "server/cuda_dispatch.cc", dispatch.source(table))
    write(out / "tests/plain_test.cc", plain_test.source(table))
    write(out / "tests/plain_driver.cc", plain_test.driver(table))
    for name, seed in plain_test.seeds(table, models.ROOT):
        write_bytes(out / "tests/plain_seeds" / name, seed)
    if own_model:
        write(out / "cuda/driver_api.h", abi.header(model.raw))
        write(out / "cuda/driver_table.h", driver_table.header(model))


def coverage_page(folder, check):
    path, text = models.ROOT / "docs/cuda-coverage.md", coverage.page(load_table(folder))
    if not check:
        write(path, text)
    elif not path.exists() or path.read_text() != text:
        sys.exit(f"{path}:1: not what the table says; run proto/gen/generate.py coverage")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("product", choices=("abi", "table", "stubs", "coverage"))
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--folder", type=pathlib.Path, default=models.ROOT / "proto/cuda")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    paths = [pathlib.Path(a) for a in options.arguments]
    if len(paths) != {"abi": 1, "table": 1, "stubs": 3, "coverage": 0}[options.product]:
        parser.error("wrong number of arguments")
    try:
        if options.product == "abi":
            generate_abi(paths[0])
        elif options.product == "table":
            generate_table(paths[0], options.folder)
        elif options.product == "stubs":
            generate_stubs(paths[0], paths[1], options.arguments[2])
        else:
            coverage_page(options.folder, options.check)
    except tables.TableError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
