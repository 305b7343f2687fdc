"""Does what docs/protocol.md says, and nothing else, speak to a real server? stranger_client.py against farwarp-server on
the software GPU, with a private lease.

    stranger_test.py BUILD [unittest's options]
"""

import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import stranger_client as wire
from stranger_client import u64

MIB = 1 << 20
MEMORY = 256 * MIB

PTX = b"""
.version 7.0
.target sm_70
.address_size 64

.global .align 4 .u32 answer = 42;

// out[i] = a[i] * factor + b[i]
.visible .entry scale_add(.param .u64 out, .param .u64 a, .param .u64 b, .param .f32 factor, .param .u32 count)
{
  .reg .pred %p;
  .reg .b32 %r<6>;
  .reg .f32 %f<4>;
  .reg .b64 %d<8>;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.u32 %r4, %r1, %r2, %r3;
  ld.param.u32 %r5, [count];
  setp.ge.u32 %p, %r4, %r5;
  @%p ret;
  ld.param.u64 %d1, [out];
  ld.param.u64 %d2, [a];
  ld.param.u64 %d3, [b];
  ld.param.f32 %f1, [factor];
  mul.wide.u32 %d4, %r4, 4;
  add.u64 %d5, %d1, %d4;
  add.u64 %d6, %d2, %d4;
  add.u64 %d7, %d3, %d4;
  ld.global.f32 %f2, [%d6];
  ld.global.f32 %f3, [%d7];
  fma.rn.f32 %f2, %f2, %f1, %f3;
  st.global.f32 [%d5], %f2;
  ret;
}

// Stores where nothing is mapped.
.visible .entry fault(.param .u64 where)
{
  .reg .b64 %d1;
  ld.param.u64 %d1, [where];
  st.global.u64 [%d1], %d1;
  ret;
}
"""


class Server:
    """farwarp-server with a private lease of two vGPUs; gone when the `with` block ends."""

    def __init__(self, build):
        self.build = pathlib.Path(build)

    def __enter__(self):
        lease_read, lease_write = os.pipe()
        address_read, address_write = os.pipe()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FARWARP_")}
        environment["FARWARP_SOFTGPU"] = f"devices=2,memory={2 * MEMORY}"
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [self.build / "bin/farwarp-server", "--driver", "softgpu", "--listen", "127.0.0.1:0", "--private",
             "--lease-fd", str(lease_read), "--address-fd", str(address_write)],
            pass_fds=(lease_read, address_write), stderr=self.log, env=environment)
        os.close(lease_read)
        os.close(address_write)
        self.lease_pipe = lease_write
        keys = f"v1;lease={os.urandom(16).hex()};secret={os.urandom(32).hex()}"
        os.write(self.lease_pipe, f"{keys};gpu=0/{MEMORY}/100;gpu=1/{MEMORY // 2}/50\n".encode())
        with os.fdopen(address_read) as answer:  # Ends with the server, too.
            address = answer.readline().strip()
        if not address:
            self.__exit__()
            raise RuntimeError("the server did not start")
        self.text = f"{keys};gpu={address}/0/{MEMORY}/100;gpu={address}/1/{MEMORY // 2}/50"
        return self

    def __exit__(self, *_):
        os.close(self.lease_pipe)  # The launcher's end ends the server.
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        self.log.close()
        sys.stderr.write(log)
        if self.process.returncode != 0 or "Sanitizer" in log:
            raise RuntimeError(f"the server ended with {self.process.returncode}; see its log above")

    def grant(self):
        return wire.Grant(self.text)

    def connect(self, **options):
        return wire.Client(self.grant(), **options)


class StrangerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(BUILD)
        cls.enterClassContext(cls.server)

    def prepare(self, client, size=8 * MIB):
        """Context, mapped memory and the module's kernels: (context, address, functions by name)."""
        context = client.use_primary_context()
        address = client.bases[0]
        client.call(wire.ACQUIRE_CREDIT, u64(0, size))
        client.call(wire.MAP_RANGE, u64(0, address, size))
        module = wire.handle(wire.MODULE, 0)
        result, _, kernels = client.load_module(module, PTX)
        self.assertEqual(result, 0)
        functions = {}
        for name, (index, _, _) in kernels.items():
            functions[name] = wire.handle(wire.FUNCTION, index)
            client.tell(wire.BIND_FUNCTION, u64(functions[name], module, index))
        return context, address, functions

    # A program.

    def test_a_program_from_hello_to_goodbye(self):
        with self.server.connect() as client:
            self.assertEqual([(device["total_memory"], device["compute_percent"]) for device in client.devices],
                             [(MEMORY, 100), (MEMORY // 2, 50)])
            context, address, functions = self.prepare(client)
            self.assertEqual(client.copy_from_device(address, 64), bytes(64))
            for count in (1000, 500_001):  # Inline, and in bulk with an odd end.
                numbers = random.Random(7)
                a, b = ([numbers.randrange(1000) for _ in range(count)] for _ in range(2))
                out, at_a, at_b = (address + place * 2 * MIB for place in range(3))
                client.copy_to_device(at_a, struct.pack(f"<{count}f", *a))
                client.copy_to_device(at_b, struct.pack(f"<{count}f", *b))
                client.launch(functions["scale_add"], (count + 255) // 256, 256,
                              struct.pack("<QQQfI", out, at_a, at_b, 3.0, count))
                client.call(wire.SYNCHRONIZE_CONTEXT, u64(context))
                found = struct.unpack(f"<{count}f", client.copy_from_device(out, 4 * count))
                self.assertEqual(list(found), [3.0 * x + y for x, y in zip(a, b)])
            client.tell(wire.UNMAP_RANGE, u64(0, address, 8 * MIB))
            client.tell(wire.RETURN_CREDIT, u64(0, 8 * MIB))
            client.tell(wire.UNLOAD_MODULE, u64(wire.handle(wire.MODULE, 0)))
            client.call(wire.RELEASE_PRIMARY_CONTEXT, u64(context, 0))
            self.assertEqual(client.errors, [])
            client.goodbye()

    def test_a_ping_is_answered(self):
        with self.server.connect() as client:
            client.send_frame(wire.PING)
            self.assertEqual(client.receive_frame(time.monotonic() + wire.PATIENCE), (wire.ACK, b""))

    def test_each_vgpu_has_its_part_of_the_window(self):
        # No whole number of 2 MiB for each.
        windows = [(base, size - 2 * MIB) for base, size in wire.WINDOWS]
        with self.server.connect(windows=windows) as client:
            client.use_primary_context(0)
            second = client.bases[1]
            self.assertEqual(second - client.window[0], client.window[1] // 2 & -(2 * MIB))
            for vgpu, address, result in ((0, second - 2 * MIB, 0), (0, second, 1), (0, second - 2 * MIB, 1)):
                self.assertEqual(client.ask(wire.MAP_RANGE, u64(vgpu, address, 2 * MIB)), (result, b""), hex(address))
            client.use_primary_context(1)
            for vgpu, address, result in ((1, second - 2 * MIB, 1), (1, second, 0), (2, second, 1)):
                self.assertEqual(client.ask(wire.MAP_RANGE, u64(vgpu, address, 2 * MIB)), (result, b""), hex(address))
            client.copy_to_device(second, b"the second one")
            self.assertEqual(client.copy_from_device(second, 14), b"the second one")

    def test_rows_are_copied_and_filled(self):
        with self.server.connect() as client:
            _, address, _ = self.prepare(client)
            # 4-byte elements, 3 by 2, in rows 16 bytes apart; then 2 slices of 2 rows of 4 bytes.
            client.tell(wire.FILL, u64(0, address, 16, 4, 0xAABBCCDD, 3, 2))
            row = bytes.fromhex("ddccbbaa") * 3 + bytes(4)
            self.assertEqual(client.copy_from_device(address, 32), row * 2)
            client.tell(wire.COPY_TO_DEVICE, u64(0, 4, 2, 2, address, 8, 16) + client.inline_or_bulk(bytes(range(16))))
            self.assertEqual(client.copy_from_device(address, 28).hex(),
                             "00010203ddccbbaa" "04050607" "00000000" "08090a0bddccbbaa" "0c0d0e0f")

    def test_a_module_describes_itself(self):
        with self.server.connect() as client:
            client.use_primary_context()
            module = wire.handle(wire.MODULE, 0)
            result, _, kernels = client.load_module(module, PTX)
            self.assertEqual(result, 0)
            self.assertEqual(kernels["scale_add"][2], [(0, 8), (8, 8), (16, 8), (24, 4), (28, 4)])
            self.assertEqual(kernels["fault"][2], [(0, 8)])
            self.assertGreaterEqual(kernels["fault"][1][0], 32)  # CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
            reader = wire.Reader(client.call(wire.MODULE_GLOBAL, u64(module) + wire.blob(b"answer")))
            where, size = reader.scalar(), reader.scalar()
            reader.end()
            self.assertEqual(size, 4)
            self.assertEqual(client.copy_from_device(where, 4), struct.pack("<I", 42))
            self.assertEqual(client.ask(wire.MODULE_GLOBAL, u64(module) + wire.blob(b"nothing")), (500, b""))

    def load_empty_kernels(self, client, module, names):
        entries = b"".join(b".visible .entry %s() { ret; }\n" % name for name in names)
        return client.load_module(module, b".version 7.0\n.target sm_70\n.address_size 64\n" + entries)

    def test_a_table_that_no_reply_holds_is_refused(self):
        with self.server.connect() as client:
            client.use_primary_context()
            module = wire.handle(wire.MODULE, 0)
            # The client refuses frames and strings beyond the limits.
            many = [b"k%04d" % number + b"x" * 4000 for number in range(1100)]
            result, logs, _ = self.load_empty_kernels(client, module, many)
            self.assertEqual((result, logs is not None), (801, True))
            self.assertEqual(self.load_empty_kernels(client, module, [b"k" * (wire.MAX_STRING + 1)])[0], 801)
            result, _, kernels = self.load_empty_kernels(client, module, many[:900] + [b"k" * wire.MAX_STRING])
            self.assertEqual((result, len(kernels)), (0, 901))

    def test_text_that_is_no_ptx_gets_its_log(self):
        with self.server.connect() as client:
            client.use_primary_context()
            result, logs, _ = client.load_module(wire.handle(wire.MODULE, 0), b".version 7.0\nrubbish")
            self.assertEqual(result, 218)
            self.assertIn("rubbish", logs[1])

    def test_a_stream_waits_for_a_host_function(self):
        with self.server.connect() as client:
            context, address, _ = self.prepare(client)
            client.tell(wire.HOST_FUNCTION, u64(0, 4711))
            client.tell(wire.FILL, u64(0, address, 0, 1, 7, 1, 1))
            client.wait(lambda: client.callbacks or None)
            self.assertEqual(client.callbacks, [4711])
            self.assertEqual(client.ask(0x10063, u64(0))[0], 600)  # QueryStream: not ready
            client.tell(wire.HOST_FUNCTION_DONE, u64(4711))
            client.call(wire.SYNCHRONIZE_STREAM, u64(0))
            self.assertEqual(client.copy_from_device(address, 1), b"\7")

    def test_a_cuda_function_by_its_number(self):
        with self.server.connect() as client:
            _, address, _ = self.prepare(client)
            # Stream, address, value, flags. The software GPU has no such function, and says so when all were right.
            self.assertEqual(client.ask(wire.STREAM_WRITE_VALUE32, u64(0, address, 0x12345678, 0)), (801, b""))
            self.assertEqual(client.ask(wire.STREAM_WRITE_VALUE32, u64(0, 8, 0, 0)), (1, b""))  # not our memory
            self.assertEqual(client.ask(wire.STREAM_WRITE_VALUE32, u64(5, address, 0, 0)), (400, b""))
            self.assertEqual(client.ask(wire.STREAM_WRITE_VALUE32, u64(0, address, 1 << 32, 0)), (1, b""))
            self.assertEqual(client.ask(wire.STREAM_WRITE_VALUE32, u64(0, address, 0)), (1, b""))

    # What is refused.

    def refused(self, grant, **options):
        with self.assertRaises(wire.Ended) as refusal:
            wire.Client(grant, **options)
        return refusal.exception.code

    def test_wrong_proofs_and_unknown_leases_are_refused_alike(self):
        wrong_secret, wrong_lease = self.server.grant(), self.server.grant()
        wrong_secret.secret = bytes(32)
        wrong_lease.lease = bytes(16)
        self.assertEqual(self.refused(wrong_secret), 3)
        self.assertEqual(self.refused(wrong_lease), 3)

    def test_hellos_beyond_the_limits_are_refused(self):
        self.assertEqual(self.refused(self.server.grant(), versions=(1000, 1001)), 2)
        self.assertEqual(self.refused(self.server.grant(), name="n" * 257), 1)
        self.assertEqual(self.refused(self.server.grant(), windows=wire.WINDOWS[:1] * 9), 1)
        with self.server.connect(name="n" * 256, windows=((0x1000, 4 * MIB),) * 6 + wire.WINDOWS) as client:
            client.use_primary_context()

    def test_commands_that_are_not_common_get_801(self):
        known = {wire.SET_CONTEXT, wire.HOST_FUNCTION_DONE, wire.MEMORY_INFO}
        with self.server.connect(commands=known) as client:
            self.assertLess(known, set(client.signatures))
            self.assertEqual(client.call(wire.MEMORY_INFO, u64(0))[8:], u64(MEMORY))
            self.assertEqual(client.ask(wire.ACQUIRE_CREDIT, u64(0, MIB)), (801, b""))
        self.assertEqual(self.refused(self.server.grant(), commands=known - {wire.SET_CONTEXT}), 2)

    def test_forged_handles_get_400(self):
        with self.server.connect() as client:
            context = client.use_primary_context()
            for forged in (wire.handle(wire.CONTEXT, 77), wire.handle(wire.CONTEXT, 0, 9), wire.handle(wire.MODULE, 0),
                           context & ~(0xFF << 56), 5, 0):
                self.assertEqual(client.ask(wire.SYNCHRONIZE_CONTEXT, u64(forged)), (400, b""), hex(forged))
            self.assertEqual(client.ask(wire.SYNCHRONIZE_CONTEXT, u64(context)), (0, b""))

    def test_unknown_commands_get_801(self):
        with self.server.connect() as client:
            for command in (0, 0x10001, 0x1FFFF, 0xFFFFFFFF):
                self.assertEqual(client.ask(command, u64(1, 2, 3)), (801, b""))
            client.tell(0x10001)
            context = client.use_primary_context()  # The session goes on.
            self.assertEqual(client.errors, [(0, 801, 0x10001)])
            client.tell(0x10001)
            client.call(wire.SYNCHRONIZE_CONTEXT, u64(context))
            self.assertEqual(client.errors[1:], [(context, 801, 0x10001)])

    def test_bodies_that_break_a_rule_get_400(self):
        with self.server.connect() as client:
            context, address, functions = self.prepare(client)
            shape = struct.pack("<8I", 1, 1, 1, 1, 1, 1, 0, 0)
            for command, body in (
                    (wire.MEMORY_INFO, u64(0, 0)),  # bytes left over
                    (wire.MEMORY_INFO, b""),
                    (wire.MEMORY_INFO, u64(1 << 32)),  # no u32
                    (wire.SET_CONTEXT, u64(context, 0)),
                    (wire.COPY_FROM_DEVICE, u64(0, 8, 1, 1, address + 8 * MIB, 0, 0, 1)),  # nothing is mapped there
                    (wire.COPY_FROM_DEVICE, u64(0, 0, 1, 1, address, 0, 0, 1)),
                    (wire.COPY_FROM_DEVICE, u64(0, 4, 1 << 32, 1, address, 0, 0, 1)),  # rows upon each other
                    (wire.COPY_TO_DEVICE, u64(0, 8, 1, 1, address, 0, 0, 8, 99)),  # a transfer that has not come
                    (wire.LAUNCH, u64(functions["fault"], 0) + shape + u64(1 << 40)),
                    (wire.LAUNCH, u64(functions["fault"], 0) + shape[:-4] + b"\2\0\0\0" + u64(0) + wire.blob(u64(0)))):
                self.assertEqual(client.ask(command, body), (400, b""), f"{command:#x} {body.hex()}")
            self.assertEqual(client.ask(wire.MAP_RANGE, u64(0, address + 8 * MIB, MIB))[0], 1)  # no whole 2 MiB
            self.assertEqual(client.ask(wire.MAP_RANGE, u64(0, address, 2 * MIB))[0], 1)  # something is there
            self.assertEqual(client.ask(wire.MAP_RANGE, u64(0, address + 8 * MIB, 1 << 30))[0], 2)  # beyond the credit
            self.assertEqual(client.ask(wire.ACQUIRE_CREDIT, u64(0, 1 << 30))[0], 2)  # beyond the lease
            self.assertEqual(client.errors, [])

    def test_what_is_refused_is_not_executed(self):
        with self.server.connect() as client:
            client.use_primary_context()
            stream, event, module = wire.handle(6, 0), wire.handle(7, 0), wire.handle(wire.MODULE, 0)
            client.call(0x10060, u64(stream, 0, 0))
            client.call(0x10065, u64(event, 0))
            self.assertEqual(client.load_module(module, PTX)[0], 0)
            for end, ended in ((0x10061, stream), (0x10066, event), (wire.UNLOAD_MODULE, module)):
                self.assertEqual(client.ask(end, u64(ended, 0)), (400, b""))
                self.assertEqual(client.ask(end, u64(ended)), (0, b""))
                self.assertEqual(client.ask(end, u64(ended)), (400, b""))

    def test_frames_that_break_a_rule_end_the_session(self):
        for kind, payload, header in (
                (wire.COMMANDS, bytes(8), {}),  # half a command
                (wire.COMMANDS, struct.pack("<IIQ", wire.SET_CONTEXT, 16, 0) + bytes(8), {}),
                (wire.COMMANDS, b"", {"sequence": 2}),
                (wire.COMMANDS, b"", {"sequence": 0}),
                (wire.COMMANDS, b"", {"bytes": wire.MAX_PAYLOAD + 8}),
                (wire.COMMANDS, b"", {"bytes": 7}),
                (wire.BULK, u64(1, 8), {}),  # a gap
                (wire.BULK, u64(1), {}),
                (wire.ACK, b"", {"acknowledged": 1}),
                (wire.PING, b"", {"flags": 1}),
                (wire.PING, b"", {"reserved": 1}),
                (wire.REPLIES, b"", {"sequence": 1}),
                (wire.HELLO, b"", {}),
                (99, b"", {})):
            with self.subTest(kind=kind, payload=payload, header=header), self.server.connect() as client:
                client.send_frame(kind, payload, **header)
                with self.assertRaises(wire.Ended) as ended:
                    client.wait(lambda: None)
                self.assertEqual(ended.exception.code, 1)
                self.assertNotEqual(ended.exception.reason, "")

    # Replies and errors.

    def test_each_ticket_gets_a_reply(self):
        with self.server.connect() as client:
            context, address, _ = self.prepare(client)
            for command, body in ((wire.SET_CONTEXT, u64(context)), (wire.SET_CONTEXT, u64(0)), (wire.SET_CONTEXT, u64(context)),
                                  (wire.FILL, u64(0, address, 0, 1, 7, 1, 1)), (wire.HOST_FUNCTION_DONE, u64(1)),
                                  (wire.SYNCHRONIZE_CONTEXT, u64(context)),
                                  (wire.UNMAP_RANGE, u64(0, address, 8 * MIB)), (wire.RETURN_CREDIT, u64(0, 8 * MIB)),
                                  (wire.UNLOAD_MODULE, u64(wire.handle(wire.MODULE, 0)))):
                self.assertEqual(client.ask(command, body), (0, b""), hex(command))

    def test_a_kernel_fault_is_pushed_once_and_sticks_until_the_reset(self):
        with self.server.connect() as client:
            context, address, functions = self.prepare(client)
            client.launch(functions["fault"], 1, 1, u64(0))
            self.assertEqual(client.ask(wire.SYNCHRONIZE_CONTEXT, u64(context)), (700, b""))
            for _ in range(3):
                client.tell(wire.FILL, u64(0, address, 0, 1, 7, 1, 1))
            client.wait(lambda: client.errors or None)
            self.assertEqual(client.ask(wire.SYNCHRONIZE_CONTEXT, u64(context)), (700, b""))
            self.assertEqual(client.errors, [(context, 700, wire.FILL)])
            client.ask(wire.RELEASE_PRIMARY_CONTEXT, u64(context, 0))
            client.call(wire.RETAIN_PRIMARY_CONTEXT, u64(context, 0, 0))
            client.call(wire.SYNCHRONIZE_CONTEXT, u64(context))
            self.assertEqual(len(client.errors), 1)
            self.assertEqual([level for level, _ in client.log], [0])
            self.assertIn(b"illegal address", client.log[0][1])
            # Functions end with their context.
            self.assertEqual(client.ask(wire.UNLOAD_MODULE, u64(wire.handle(wire.MODULE, 0))), (400, b""))


if __name__ == "__main__":
    BUILD = sys.argv.pop(1)
    unittest.main()
