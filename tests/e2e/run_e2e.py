#!/usr/bin/env python3
"""Runs end-to-end programs and compares what they print, bit for bit, between ways of running them.

    run_e2e.py local  --build BUILD NAME...      in this process, on the software GPU; the reference
    run_e2e.py remote --build BUILD NAME...      through client and server; compared with the reference
               [--launcher "CMD"] [--column NAME]   how to run there (default "BUILD/bin/farwarp run --")

A program passes if it exits with 0 in time and, in every mode but local, if its output equals the
reference. Lines that a whole card and a vGPU rightly print differently are named by regular
expressions in programs/NAME.differs. Without a needed file the answer is one line and exit code 77
(skipped).
"""
import argparse
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

SKIPPED = 77
HERE = pathlib.Path(__file__).resolve().parent


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def run(command, env, limit_s):
    """Returns (exit code or None when it ran past its limit, stdout, stderr, seconds)."""
    begin = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    return code, out, err, time.monotonic() - begin


def comparable(output, name):
    """The output without the lines that may differ between a card and a vGPU."""
    rules = HERE / "programs" / f"{name}.differs"
    if not rules.exists():
        return output
    patterns = [re.compile(line.encode()) for line in rules.read_text().splitlines()
                if line and not line.startswith("#")]
    return b"\n".join(line for line in output.split(b"\n")
                      if not any(pattern.search(line) for pattern in patterns))


def first_difference(expected, got):
    lines = max(expected.count(b"\n"), got.count(b"\n")) + 1
    for number, (a, b) in enumerate(zip((expected.split(b"\n") + [b""] * lines)[:lines],
                                        (got.split(b"\n") + [b""] * lines)[:lines]), 1):
        if a != b:
            return f"line {number}: reference {a.decode(errors='replace')!r}, " \
                   f"here {b.decode(errors='replace')!r}"
    return "only in length"


def prepare(arguments):
    """Checks that what the mode needs exists; returns (command prefix, environment)."""
    build = arguments.build
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    if "FARWARP_E2E_PRELOAD" in env:  # The runtime of a sanitizer.
        env["LD_PRELOAD"] = env.pop("FARWARP_E2E_PRELOAD")
        env["ASAN_OPTIONS"] = "detect_leaks=0"  # What NVIDIA's tools built is not ours to judge.
    if arguments.mode == "local":
        needed = [build / "lib/softgpu/libcuda.so.1", build / "lib/libcudart.so.13"]
        env["LD_LIBRARY_PATH"] = f"{build}/lib/softgpu:{build}/lib"
        prefix = []
    else:
        prefix = shlex.split(arguments.launcher or f"{build}/bin/farwarp run --")
        # The reference comes from the software GPU, whatever the launcher runs on.
        needed = [pathlib.Path(prefix[0]), build / "lib/libcuda.so.1", build / "lib/softgpu/libcuda.so.1"]
    for path in needed:
        if not path.exists():
            skip(f"{path} is not built")
    return prefix, env


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["local", "remote"])
    parser.add_argument("--build", required=True, type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--launcher", help="command that runs a program in remote mode")
    parser.add_argument("--column", help="name of this way of running (default: the mode)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a program may run")
    parser.add_argument("names", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    column = arguments.column or arguments.mode
    prefix, env = prepare(arguments)
    results = arguments.build / "e2e" / "output"
    results.mkdir(parents=True, exist_ok=True)

    failed = 0
    for name in arguments.names:
        program = arguments.build / "e2e" / name
        if not program.exists():
            skip(f"{program} is not built")
        code, out, err, seconds = run([*prefix, str(program)], env, arguments.limit)
        (results / f"{name}.{column}").write_bytes(out)
        reason = None
        if code is None:
            reason = f"still running after {arguments.limit:.0f} s"
        elif code != 0:
            reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        elif arguments.mode != "local":
            reference = results / f"{name}.local"
            if not reference.exists():
                reason = "no reference output: run the mode 'local' first"
            else:
                expected = comparable(reference.read_bytes(), name)
                got = comparable(out, name)
                if expected != got:
                    reason = "output differs from the reference, " + first_difference(expected, got)
        print(f"{name}: {column}: {'ok' if reason is None else reason} ({seconds:.2f} s)")
        if reason is not None:
            failed += 1
            sys.stdout.flush()
            sys.stdout.buffer.write(out + err)
            sys.stdout.buffer.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
