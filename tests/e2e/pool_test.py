#!/usr/bin/env python3
"""The whole product on loopback: what users do with it, and what they do wrong with it.

Usage: pool_test.py BUILD_DIR [unittest arguments]. Each test starts its own controller and server and leaves nothing behind.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from pool import Pool, kill_group, wait_for  # noqa: E402

BUILD = pathlib.Path(sys.argv[1]).resolve()
PROGRAM = BUILD / "bin/demo_program_drv"
BENCH = BUILD / "bin/farwarp-bench"
HOLD = BUILD / "bin/hold_program"


def pool_status(pool):
    return json.loads(pool.farwarp("ps", "--output", "json").stdout)


class UsersRunPrograms(unittest.TestCase):
    def test_two_vgpus_of_different_size(self):
        with Pool(BUILD, devices=2) as pool:
            finished = pool.farwarp("run", "-n", "2", "-m", "1Gi,2Gi", "--", PROGRAM)
            self.assertEqual(finished.returncode, 0, finished.stderr + pool.logs())
            self.assertIn("2 CUDA devices", finished.stdout)
            self.assertRegex(finished.stdout, r"device 0 \(.*, 1024 MiB\): added 1048576 elements, all correct")
            self.assertRegex(finished.stdout, r"device 1 \(.*, 2048 MiB\): added 1048576 elements, all correct")

    def test_two_processes_at_once_on_one_pool(self):
        with Pool(BUILD) as pool:
            both = [pool.start("run", "-m", "1Gi", "--", PROGRAM) for _ in range(2)]
            for child in both:
                out, err = child.communicate(timeout=60)
                self.assertEqual(child.returncode, 0, err + pool.logs())
                self.assertIn("all correct", out)

    def test_private_pool_without_a_controller(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FARWARP_")}
        finished = subprocess.run([BUILD / "bin/farwarp", "run", "-m", "1Gi", "--", PROGRAM], env=environment, text=True,
                                  capture_output=True, timeout=60)
        self.assertEqual(finished.returncode, 0, finished.stderr)
        self.assertIn("1024 MiB): added 1048576 elements, all correct", finished.stdout)

    def test_exit_code_of_the_program_passes_through(self):
        with Pool(BUILD) as pool:
            self.assertEqual(pool.farwarp("run", "-m", "1Gi", "--", "sh", "-c", "exit 7").returncode, 7)

    def test_a_node_that_ends_is_forgotten_and_a_lost_one_on_request(self):
        with Pool(BUILD, nodes=2) as pool:
            servers = pool.children[-2:]
            servers[0].terminate()
            servers[0].wait(timeout=10)
            wait_for(lambda: "node-0" not in pool.farwarp("nodes").stdout, 5, "node-0 is forgotten")
            refused = pool.farwarp("forget", "node-1")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("is attached", refused.stderr)
            servers[1].kill()
            servers[1].wait(timeout=10)
            wait_for(lambda: "lost" in pool.farwarp("nodes").stdout, 10, "node-1 is lost")
            forgotten = pool.farwarp("forget", "node-1")
            self.assertEqual(forgotten.returncode, 0, forgotten.stderr)
            self.assertNotIn("node-1", pool.farwarp("nodes").stdout)

    def test_a_lease_on_a_dead_node_says_so(self):
        with Pool(BUILD) as pool:
            program = pool.start("run", "-m", "1Gi", "--", HOLD)
            wait_for(lambda: any(lease["connections"] for lease in pool_status(pool)["leases"]), 20, "the program connects")
            pool.children[-2].kill()
            wait_for(lambda: "node lost" in pool.farwarp("ps").stdout, 10, "the lease says that its node is lost")
            self.assertTrue(all(lease["state"] == "node lost" for lease in pool_status(pool)["leases"]))
            kill_group(program)

    def test_everything_comes_back(self):
        with Pool(BUILD) as pool:
            for _ in range(5):
                self.assertEqual(pool.farwarp("run", "-m", "3Gi", "--wait", "5s", "--", PROGRAM).returncode, 0, pool.logs())
            wait_for(lambda: "added" not in str(pool_status(pool)) and not re.search(
                r'"lease_id"', pool.farwarp("ps", "--output", "json").stdout), 10, "leases are gone")


class Counts(unittest.TestCase):
    """Exact numbers, the same on every machine."""

    def statistics(self, *arguments):
        file = pathlib.Path(f"/tmp/farwarp-statistics-{os.getpid()}.json")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FARWARP_")}
        environment["FARWARP_STATS"] = str(file)
        subprocess.run([BUILD / "bin/farwarp", "run", "-m", "1Gi", "--", BENCH, *arguments], env=environment, check=True,
                       timeout=60)
        try:
            return json.loads(file.read_text())
        finally:
            file.unlink()

    def test_at_most_five_round_trips_to_the_first_kernel(self):
        self.assertLessEqual(self.statistics("first-kernel")["round_trips"], 5)

    def test_a_launch_makes_no_round_trip(self):
        few, many = self.statistics("launches", "100"), self.statistics("launches", "1100")
        self.assertEqual(many["round_trips"], few["round_trips"])
        self.assertEqual(many["calls"] - few["calls"], 1000)


class ThingsGoWrong(unittest.TestCase):
    def expect_failure(self, finished, *words, seconds=None):
        self.assertNotEqual(finished.returncode, 0)
        for word in words:
            self.assertIn(word, finished.stderr.lower(), finished.stderr)

    def test_full_pool_says_why_and_gives_up_in_time(self):
        with Pool(BUILD) as pool:
            holder = pool.start("run", "-m", "4Gi", "--", HOLD)
            wait_for(lambda: "hold_program" in pool.farwarp("ps").stdout, 20, "the holder has its lease")
            start = time.monotonic()
            finished = pool.farwarp("run", "-m", "1Gi", "--wait", "1s", "--", PROGRAM)
            self.assertLess(time.monotonic() - start, 5)
            self.expect_failure(finished, "memory")
            self.assertEqual(finished.returncode, 125)
            kill_group(holder)
            self.assertEqual(pool.farwarp("run", "-m", "4Gi", "--wait", "10s", "--", PROGRAM).returncode, 0, pool.logs())

    def test_killed_program_gives_everything_back(self):
        with Pool(BUILD) as pool:
            holder = pool.start("run", "-m", "4Gi", "--", HOLD)
            self.assertEqual(holder.stdout.readline().strip(), "holding")
            kill_group(holder)
            self.assertEqual(pool.farwarp("run", "-m", "4Gi", "--wait", "10s", "--", PROGRAM).returncode, 0, pool.logs())

    def test_no_controller_at_that_address(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unused.getsockname()[1]}"
        environment = dict(os.environ, FARWARP_CONTROLLER=address)
        start = time.monotonic()
        finished = subprocess.run([BUILD / "bin/farwarp", "run", "--", PROGRAM], env=environment, text=True,
                                  capture_output=True, timeout=60)
        self.assertLess(time.monotonic() - start, 5)
        self.expect_failure(finished, address)
        self.assertEqual(finished.returncode, 125)

    def test_server_is_gone_before_the_program_connects(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        grant = f"v1;lease={'0' * 32};secret={'0' * 64};gpu=127.0.0.1:{port}/0/1073741824/100"
        environment = dict(os.environ, FARWARP_GRANT=grant, LD_LIBRARY_PATH=str(BUILD / "lib"))
        start = time.monotonic()
        finished = subprocess.run([PROGRAM], env=environment, text=True, capture_output=True, timeout=60)
        self.assertLess(time.monotonic() - start, 3)
        self.expect_failure(finished, "cuda error 46", f"127.0.0.1:{port}")

    def test_wrong_driver(self):
        finished = subprocess.run([BUILD / "bin/farwarp-server", "--listen", "127.0.0.1:0", "--controller", "127.0.0.1:1",
                                   "--driver", "/nonexistent.so"],
                                  text=True, capture_output=True, timeout=20)
        self.assertNotEqual(finished.returncode, 0)
        self.assertIn("/nonexistent.so", finished.stderr + finished.stdout)

    def test_unknown_options_are_named(self):
        for binary in ("farwarp", "farwarp-server", "farwarp-controller"):
            finished = subprocess.run([BUILD / "bin" / binary, "--no-such-option"], text=True, capture_output=True, timeout=20)
            self.assertNotEqual(finished.returncode, 0)
            self.assertIn("--no-such-option", finished.stderr + finished.stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
