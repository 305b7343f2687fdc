"""How long a worker outlives its client: the client has touched device memory and is killed with SIGKILL. Beside it, a plain
process that has touched as much memory of its own, killed in the same way: what the operating system takes by itself."""

import os
import pathlib
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from pool import Pool, wait_for  # noqa: E402

FILL_SECONDS = 60
END_SECONDS = 30


def children_of(process):
    """Process ids of the living children of a process."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == process:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def wait_until_holding(program):
    """Returns when the program has filled its memory."""
    if not select.select([program.stdout], [], [], FILL_SECONDS)[0] or not program.stdout.readline().startswith("holding"):
        sys.exit(f"bench: {' '.join(map(str, program.args))} does not hold its memory")


def seconds_until_gone(killed, waited_for):
    """Kills one process, returns how long another one is still there."""
    watch = os.pidfd_open(waited_for)
    start = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    gone = select.select([watch], [], [], END_SECONDS)[0]
    seconds = time.monotonic() - start
    os.close(watch)
    if not gone:
        sys.exit(f"bench: process {waited_for} has not ended after {END_SECONDS} s")
    return seconds


def measure(build, mebibytes, repeats):
    """Returns the workloads as ./dev bench prints them."""
    program = build / "bin/farwarp-bench"
    modes = {"hold": "idle", "hold-kernel": "a kernel runs", "hold-copy": "it copies"}
    samples = {mode: [] for mode in modes}
    plain = []
    with Pool(build, memory=f"{2 * mebibytes}MiB") as pool:
        server = pool.children[-1].pid
        for _ in range(repeats):
            for mode in modes:
                holder = pool.start("run", "-m", f"{mebibytes + 256}Mi", "--wait", "60s", "--", program, mode, mebibytes)
                wait_until_holding(holder)
                samples[mode].append(seconds_until_gone(children_of(holder.pid)[0], children_of(server)[0]))
                holder.communicate(timeout=END_SECONDS)
                wait_for(lambda: not children_of(server), END_SECONDS, "the worker is reaped")
            reference = subprocess.Popen([program, "hold-plain", str(mebibytes)], text=True, stdout=subprocess.PIPE)
            wait_until_holding(reference)
            plain.append(seconds_until_gone(reference.pid, reference.pid))
            reference.communicate()
    workloads = []
    for mode, doing in modes.items():
        times = sorted(samples[mode])
        workloads.append({"name": f"killed with {mebibytes} MiB, {doing}", "seconds": times[repeats // 2],
                          "p10": times[repeats // 10], "p90": times[repeats * 9 // 10], "reference": "plain process killed",
                          "reference_seconds": sorted(plain)[repeats // 2]})
    return workloads
