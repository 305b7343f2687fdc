#!/usr/bin/env python3
"""Builds an end-to-end program as nvcc's other modes build it, and runs it on the software GPU in its own process.

    variants_test.py --build BUILD --nvcc NVCC [--flags FLAGS] NAME

What a debug build (-G), an unoptimising front end (-Xcicc -O0) and other targets make of a program is different PTX: calls
that were inlined, variables in local memory, instructions that old targets lack. A program checks its own results and
exits with 0; its output is not compared, since contraction may differ between modes. What the toolkit itself refuses to
build for a target is named and left out; if nothing is left the exit code is 77 (skipped).
"""
import argparse
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

VARIANTS = ["-G -arch=compute_75", "-G -arch=compute_121", "-Xcicc -O0 -arch=compute_90", "-arch=compute_75", "-arch=compute_121"]
HERE = pathlib.Path(__file__).resolve().parent


def environment(build):
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}
    if "FARWARP_E2E_PRELOAD" in env:  # The runtime of a sanitizer.
        env["LD_PRELOAD"] = env.pop("FARWARP_E2E_PRELOAD")
        env["ASAN_OPTIONS"] = "detect_leaks=0"  # What NVIDIA's tools built is not ours to judge.
    env["LD_LIBRARY_PATH"] = f"{build}/lib/softgpu:{build}/lib"
    env["FARWARP_LOG"] = "error"
    return env


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, type=lambda p: pathlib.Path(p).resolve())
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--flags", default="")
    parser.add_argument("name")
    arguments = parser.parse_args()
    ran = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / arguments.name
        for variant in VARIANTS:
            command = [arguments.nvcc, "--cudart", "shared", *shlex.split(arguments.flags), *variant.split(), "-o", str(program),
                       str(HERE / "programs" / f"{arguments.name}.cu")]
            built = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if built.returncode != 0:
                errors = [line for line in built.stderr.splitlines() if "error" in line] or [built.stderr]
                print(f"{arguments.name} {variant}: not built: {errors[0]}")
                continue
            ran += 1
            try:
                result = subprocess.run([str(program)], env=environment(arguments.build), capture_output=True, timeout=120)
                reason = "" if result.returncode == 0 else f"exit code {result.returncode}"
            except subprocess.TimeoutExpired as expired:
                result, reason = expired, "still running after 120 s"
            print(f"{arguments.name} {variant}: {reason or 'ok'}", flush=True)
            if reason:
                failed += 1
                for text in (result.stdout, result.stderr):
                    sys.stdout.buffer.write((text or b"")[-4000:])
                sys.stdout.buffer.flush()
    if ran == 0:
        return 77
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
