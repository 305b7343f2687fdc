#!/usr/bin/env python3
"""A libcuda.so.1 shows exactly the names of NVIDIA's stub library, is called by its SONAME, and needs nothing beyond libc.

    libcuda_exports_test.py LIBRARY MODEL.json
"""
import json
import re
import subprocess
import sys

ALLOWED = re.compile(r"^(libc\.so\.6|libm\.so\.6|libdl\.so\.2|libpthread\.so\.0|librt\.so\.1|ld-linux-x86-64\.so\.2)$")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(library, model):
    wanted = {function["name"] for function in json.load(open(model))["functions"]}
    shown = set()
    for line in run("nm", "-D", "--defined-only", library).splitlines():
        address, kind, name = line.split()
        if kind != "T":
            sys.exit(f"{library} exports {name}, which is no function")
        shown.add(name)
    if len(wanted) != 637:
        sys.exit(f"the model has {len(wanted)} names instead of 637")
    if wanted != shown:
        sys.exit(f"missing {sorted(wanted - shown)[:5]}, surplus {sorted(shown - wanted)[:5]}")
    dynamic = run("readelf", "-d", library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)
    foreign = [name for name in needed if not ALLOWED.match(name)]
    if foreign:
        sys.exit(f"{library} needs {foreign}")
    if re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) != ["libcuda.so.1"]:
        sys.exit("the SONAME is not libcuda.so.1")
    if "(TEXTREL)" in dynamic:
        sys.exit("text relocations")
    print(f"{len(shown)} names, needs {needed}")


if __name__ == "__main__":
    main(*sys.argv[1:])
