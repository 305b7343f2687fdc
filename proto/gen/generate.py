#!/usr/bin/env python3
"""Generates everything that is derived from the API table. Python's standard library only.

    generate.py abi OUT            cuda/driver_api.h, cuda/runtime_api.h, their static assertions, cuda/proc_address.{h,cc},
                                   cuda/driver_table.{h,cc}, the version script of libcuda.so.1
    generate.py client OUT IMPLEMENTED
                                   client/custom.h and client/exports.cc in OUT, for the listed hand-written functions
    generate.py stubs OUT IMPLEMENTED SAY
                                   stubs for the entry points that the text file IMPLEMENTED (one name a line, # comments) does
                                   not list; SAY is the C++ function that logs one

A file is only rewritten when its content changes, so that a build after a touch rebuilds nothing.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import abi  # noqa: E402
import client  # noqa: E402
import driver_table  # noqa: E402
import exports  # noqa: E402
import model as models  # noqa: E402
import proc_address  # noqa: E402

DRIVER_MODEL, RUNTIME_MODEL = "cuda-13.0.json", "cudart-13.0.json"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


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


def generate_client(out, implemented):
    driver, names = models.load(DRIVER_MODEL), names_in(implemented)
    write(out / "client/custom.h", client.custom_header(driver, names))
    write(out / "client/exports.cc", client.exports(driver, names))


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "abi":
        generate_abi(pathlib.Path(arguments[1]))
    elif len(arguments) == 3 and arguments[0] == "client":
        generate_client(pathlib.Path(arguments[1]), pathlib.Path(arguments[2]))
    elif len(arguments) == 4 and arguments[0] == "stubs":
        generate_stubs(pathlib.Path(arguments[1]), pathlib.Path(arguments[2]), arguments[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
