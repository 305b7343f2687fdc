#!/usr/bin/env python3
"""The runtime asks the driver for exactly the ABIs that it was compiled against.

    runtime_driver_functions_test.py DRIVER_FUNCTIONS_INC MODEL

Each line X(name, version, version of the twin, symbol) must agree with the model: `symbol` is the ABI of
cu<name> that `version` introduced, no other ABI lies at or below that version and above it, and the
symbol's twin for per-thread default streams, if it has one, came with the twin's version.
"""
import json
import re
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = re.findall(r"^X\((\w+), (\d+), (\d+), (\w+)\)$", file.read(), re.MULTILINE)
    with open(sys.argv[2], encoding="utf-8") as file:
        model = {function["name"]: function for function in json.load(file)["functions"]}
    problems = [] if len(lines) > 200 else [f"only {len(lines)} lines understood"]
    for name, version, twin_version, symbol in lines:
        function = model.get(symbol)
        if function is None or function["base"] != f"cu{name}" or function["version"] != int(version):
            problems.append(f"{name}: the model does not have {symbol} as cu{name} from {version} on")
            continue
        same = [f["name"] for f in model.values() if f["base"] == function["base"] and f["version"] == function["version"]
                and not f["per_thread"]]
        if same != [symbol]:
            problems.append(f"{name}: version {version} names several ABIs: {same}")
        twins = [model[symbol + suffix] for suffix in ("_ptsz", "_ptds") if symbol + suffix in model]
        expected = twins[0]["version"] if twins else int(version)
        if expected != int(twin_version):
            problems.append(f"{name}: the twin's version is {expected}, not {twin_version}")
    names = [line[0] for line in lines]
    problems += [f"{name} stands twice" for name in set(names) if names.count(name) > 1]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
