"""Pool: a real controller and real servers on loopback, for one test. Nothing survives the `with` block.

    with Pool(build, nodes=1, devices=2, memory="4GiB") as pool:
        finished = pool.farwarp("run", "-n", "2", "-m", "1Gi", "--", program)
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time


def wait_for(condition, seconds, what):
    """Polls until `condition()` is true; raises with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: still not after {seconds} s")
        time.sleep(0.01)


def end(number, _):
    """A test that is told to end leaves its `with` blocks, which clean up."""
    raise SystemExit(128 + number)


class Pool:
    def __init__(self, build, nodes=1, devices=1, memory="4GiB", driver="softgpu", server_options=()):
        self.build = pathlib.Path(build)
        self.nodes, self.devices, self.memory = nodes, devices, memory
        self.driver, self.server_options = driver, list(server_options)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="farwarp-pool-"))
        self.children = []
        signal.signal(signal.SIGTERM, end)
        self.address = None

    def __enter__(self):
        try:
            self.start_controller()
            for number in range(self.nodes):
                self.start_server(f"node-{number}")
            wait_for(lambda: all(f"node-{n}" in self.farwarp("nodes").stdout for n in range(self.nodes)), 30,
                     "servers join the pool")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for stream in (child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def environment(self, **more):
        environment = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "LD_PRELOAD", "FARWARP_GRANT")}
        environment.update(HOME=str(self.scratch), FARWARP_SOFTGPU=f"devices={self.devices},memory={self.memory}")
        if self.address:
            environment["FARWARP_CONTROLLER"] = self.address
        environment.update({k: str(v) for k, v in more.items()})
        return environment

    def start_controller(self):
        """Starts (or restarts) the controller on the same state and, after the first time, the same address."""
        address_file = self.scratch / "address"
        address_file.unlink(missing_ok=True)
        with open(self.scratch / "controller.log", "ab") as log, open(address_file, "wb") as out:
            child = subprocess.Popen(
                [self.build / "bin/farwarp-controller", "--listen", self.address or "127.0.0.1:0", "--state",
                 self.scratch / "pool.db", "--print-address"], stdout=out, stderr=log, env=self.environment())
        self.children.append(child)
        wait_for(lambda: address_file.stat().st_size > 0 or child.poll() is not None, 10, "controller starts")
        self.address = address_file.read_text().split()[0]
        return child

    def start_server(self, name):
        with open(self.scratch / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                [self.build / "bin/farwarp-server", "--listen", "127.0.0.1:0", "--driver", self.driver, "--controller",
                 self.address, "--node-name", name, *self.server_options],
                stdout=log, stderr=log, env=self.environment())
        self.children.append(child)
        return child

    def farwarp(self, *arguments, timeout=60, **more):
        """Runs the command line program to its end; returns the CompletedProcess with text output."""
        return subprocess.run([self.build / "bin/farwarp", *map(str, arguments)], env=self.environment(**more), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)

    def start(self, *arguments, **more):
        """Starts the command line program and returns the Popen, in a process group of its own."""
        child = subprocess.Popen([self.build / "bin/farwarp", *map(str, arguments)], env=self.environment(**more), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        self.children.append(child)
        return child

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in self.scratch.glob("*.log"))


def workers():
    """Process ids of all farwarp-worker processes."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "comm").read_text().strip() == "farwarp-worker"[:15]:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def kill_group(child):
    """kill -9 of everything a start()ed program started."""
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
