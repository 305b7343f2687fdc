"""A client of the wire protocol that knows docs/protocol.md and the comments of internal_command.h, and nothing else.

It proves that the document suffices, and shows the protocol to whoever wants to read a client in one sitting. It needs
nothing but Python's standard library, and believes a server nothing: what breaks a rule raises ValueError. One thread;
every wait has a deadline.
"""

import hashlib
import hmac
import os
import socket
import struct
import time

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED, COMMANDS, REPLIES, BULK, PUSH, ACK, PING, GOODBYE = range(1, 13)

SET_CONTEXT = 0x10000
RETAIN_PRIMARY_CONTEXT, RELEASE_PRIMARY_CONTEXT, SYNCHRONIZE_CONTEXT = 0x10010, 0x10011, 0x10015
MAP_RANGE, UNMAP_RANGE, ACQUIRE_CREDIT, RETURN_CREDIT, MEMORY_INFO = range(0x10020, 0x10025)
COPY_TO_DEVICE, COPY_FROM_DEVICE, FILL = 0x10030, 0x10031, 0x10034
LOAD_MODULE, UNLOAD_MODULE, MODULE_GLOBAL, BIND_FUNCTION = range(0x10040, 0x10044)
LAUNCH, HOST_FUNCTION, HOST_FUNCTION_DONE, SYNCHRONIZE_STREAM = 0x10050, 0x10051, 0x10052, 0x10062
STREAM_WRITE_VALUE32 = 482  # cuStreamWriteValue32_v2 in ids.lock

CONTEXT, MODULE, FUNCTION = 1, 2, 3  # kinds of handles

MAX_PAYLOAD = 4 << 20
MAX_STRING = 4 << 10
MAX_LOG = 64 << 10
MAX_INLINE = 16 << 10
MAX_BULK_DATA = 1 << 20
PATIENCE = 30  # seconds

# Where device memory may lie; a client that dereferences nothing need not reserve it. The second one is for a server that
# cannot have the first, as under the thread sanitizer.
WINDOWS = (0x200000000000, 1 << 40), (0x10000000000, 1 << 36)


# --- values -----------------------------------------------------------------------------------------------------------


def u64(*values):
    """Scalars: unsigned ones zero-extended, negative ones sign-extended."""
    return b"".join(struct.pack("<Q", value & 0xFFFFFFFFFFFFFFFF) for value in values)


def padded(data):
    return data + bytes(-len(data) % 8)


def blob(data):
    return u64(len(data)) + padded(data)


def handle(kind, index, generation=1):
    return 0xF1 << 56 | kind << 48 | generation << 32 | index


class Reader:
    """Takes values off the front of a payload; struct.error or ValueError if it has not got them."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        if count > len(self.data) - self.at:
            raise ValueError(f"{count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count:self.at]

    def scalar(self):
        return struct.unpack("<Q", self.bytes(8))[0]

    def u32(self):
        value = self.scalar()
        if value >> 32:
            raise ValueError(f"{value:#x} fits no u32")
        return value

    def i32(self):
        value = struct.unpack("<q", self.bytes(8))[0]
        if not -1 << 31 <= value < 1 << 31:
            raise ValueError(f"{value:#x} fits no i32")
        return value

    def blob(self, most):
        count = self.scalar()
        if count > most:
            raise ValueError(f"{count} bytes, at most {most} are allowed")
        data = self.bytes(count)
        if any(self.bytes(-count % 8)):
            raise ValueError("padding that is not zero")
        return data

    def string(self, most=MAX_STRING):
        return self.blob(most).decode()

    def rest(self):
        return self.bytes(len(self.data) - self.at)

    def end(self):
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes left over")


# --- the grant --------------------------------------------------------------------------------------------------------


class Grant:
    """FARWARP_GRANT: v1;lease=…;secret=…;gpu=host:port/ordinal/memory/compute;…"""

    def __init__(self, text):
        version, *fields = text.split(";")
        if version != "v1":
            raise ValueError("a grant of another version")
        pairs = [field.partition("=")[::2] for field in fields]
        self.lease = bytes.fromhex(dict(pairs)["lease"])
        self.secret = bytes.fromhex(dict(pairs)["secret"])
        self.vgpus = [value.split("/") for key, value in pairs if key == "gpu"]
        host, _, port = self.vgpus[0][0].rpartition(":")
        self.address = host, int(port)


# --- the session ------------------------------------------------------------------------------------------------------


class Ended(Exception):
    """The server refused us or said goodbye."""

    def __init__(self, code, reason):
        super().__init__(f"code {code}: {reason}")
        self.code, self.reason = code, reason


class Client:
    def __init__(self, grant, windows=WINDOWS, versions=(1, 1), name="stranger", commands=None):
        """`commands`: the numbers of those that the client says it has in common with the server; None says nothing."""
        self.sent = self.received = self.acknowledged = 0  # counted frames
        self.last_ticket = self.last_transfer = 0
        self.errors, self.output, self.callbacks, self.log = [], b"", [], []  # as they were pushed
        self.replies, self.transfers = {}, {}
        self.socket = socket.create_connection(grant.address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.handshake(grant, windows, versions, name, commands)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # Frames.

    def send_frame(self, kind, payload=b"", **header):
        """`header`: values of the header that are not as they should be, for tests."""
        sequence = 0
        if kind in (COMMANDS, BULK):
            self.sent += 1
            sequence = self.sent
        right = {"flags": 0, "reserved": 0, "bytes": len(payload), "sequence": sequence, "acknowledged": self.received}
        self.socket.sendall(struct.pack("<BBHIQQ", kind, *(right | header).values()) + payload)

    def receive_bytes(self, count, deadline):
        data = bytearray()
        while len(data) < count:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise Ended(0, "the connection ended without a word")
            data += piece
        return bytes(data)

    def receive_frame(self, deadline):
        kind, flags, reserved, count, sequence, acknowledged = struct.unpack(
            "<BBHIQQ", self.receive_bytes(24, deadline))
        if flags or reserved or count > MAX_PAYLOAD or (kind != BULK and count % 8):
            raise ValueError(f"a header that breaks the rules: kind {kind}, {count} bytes")
        payload = self.receive_bytes(count, deadline)
        if kind in (REFUSED, GOODBYE):
            reader = Reader(payload)
            farewell = Ended(reader.u32(), reader.string())
            reader.end()
            raise farewell
        if not self.acknowledged <= acknowledged <= self.sent:
            raise ValueError(f"{acknowledged} is acknowledged of {self.sent}, after {self.acknowledged}")
        self.acknowledged = acknowledged
        if kind in (REPLIES, BULK, PUSH):
            self.received += 1
        self.expect(sequence, self.received if kind in (REPLIES, BULK, PUSH) else 0)
        return kind, payload

    # Handshake.

    def handshake(self, grant, windows, versions, name, commands):
        deadline = time.monotonic() + PATIENCE
        # With the hash 0 a client answers itself for the commands that it sends, and no tables travel.
        hello = (u64(*versions, 0 if commands is None else 1) + grant.lease + os.urandom(32) + u64(os.getpid()) + blob(name.encode()) +
                 u64(len(windows)) + b"".join(u64(base, size) for base, size in windows))
        self.send_frame(HELLO, hello)
        kind, challenge = self.receive_frame(deadline)
        self.expect(kind, CHALLENGE)
        reader = Reader(challenge)
        oldest, newest, self.table_hash = reader.u32(), reader.u32(), reader.scalar()
        reader.bytes(32)  # The server's nonce.
        self.signatures = dict(struct.unpack("<II", reader.bytes(8)) for _ in range(reader.scalar()))
        reader.end()
        self.expect(list(self.signatures), sorted(self.signatures))
        entries = [struct.pack("<II", command, self.signatures[command]) for command in sorted(commands or ())]
        table = u64(len(entries)) + b"".join(entries)
        self.expect(oldest <= versions[1] and versions[0] <= newest, True)
        digest = hmac.new(grant.secret, b"farwarp proof 1" + hello + challenge + table, hashlib.sha256).digest()
        self.send_frame(PROOF, digest + table)
        kind, welcome = self.receive_frame(deadline)
        self.expect(kind, WELCOME)
        self.read_welcome(Reader(welcome), windows, min(versions[1], newest))

    def read_welcome(self, reader, windows, version):
        self.expect((reader.u32(), reader.scalar()), (version, self.table_hash))
        self.driver_version, self.loading_mode = reader.i32(), reader.i32()
        self.window = windows[reader.u32()]
        self.heartbeat_ms = reader.u32()
        self.credit = reader.scalar(), reader.scalar()
        self.expect(min(self.credit) >= 64 << 10, True)
        self.under_way = [0, 0]
        self.devices = []
        for _ in range(reader.scalar()):
            device = {"name": reader.string(), "uuid": reader.bytes(16), "pci_bus_id": reader.string(),
                      "total_memory": reader.scalar(), "memory_credit": reader.scalar(), "compute_percent": reader.u32()}
            device["attributes"] = dict((reader.i32(), reader.i32()) for _ in range(reader.scalar()))
            self.devices.append(device)
        reader.end()
        # Each vGPU has an equal part of the window.
        part = self.window[1] // len(self.devices) & -(2 << 20)
        self.bases = [self.window[0] + number * part for number in range(len(self.devices))]

    @staticmethod
    def expect(found, wanted):
        if found != wanted:
            raise ValueError(f"{found!r} where {wanted!r} was due")

    # Commands.

    def tell(self, command, body=b"", ticket=0):
        """Sends a command; ticket 0 wants no reply."""
        self.wait(lambda: self.under_way[0] < self.credit[0] or None)
        self.under_way[0] += 16 + len(body)
        self.send_frame(COMMANDS, struct.pack("<IIQ", command, len(body), ticket) + body)

    def ask(self, command, body=b""):
        """Sends a command and waits for its reply: (result, body)."""
        self.last_ticket += 1
        self.tell(command, body, self.last_ticket)
        return self.wait(lambda: self.replies.pop(self.last_ticket, None))

    def call(self, command, body=b""):
        """As ask(), for what must succeed; returns the body."""
        result, reply = self.ask(command, body)
        if result != 0:
            raise RuntimeError(f"command {command:#x} returned {result}")
        return reply

    def send_bulk(self, data):
        """Sends the bytes of a transfer and returns its number."""
        self.last_transfer += 1
        charge = min(max(len(data), self.credit[1] // 4096), self.credit[1] - self.credit[1] // 4)
        self.wait(lambda: self.under_way[1] + charge <= self.credit[1] or None)
        self.under_way[1] += charge
        for offset in range(0, len(data), MAX_BULK_DATA):
            self.send_frame(BULK, u64(self.last_transfer, offset) + data[offset:offset + MAX_BULK_DATA])
        return self.last_transfer

    def inline_or_bulk(self, data):
        """bytes:u64 transfer:u64 [data if transfer is 0]"""
        if len(data) <= MAX_INLINE:
            return u64(len(data), 0) + padded(data)
        return u64(len(data), self.send_bulk(data))

    def wait(self, done):
        """Takes frames until done() gives something, and returns that."""
        deadline = time.monotonic() + PATIENCE
        while (found := done()) is None:
            self.take_frame(deadline)
        return found

    def take_frame(self, deadline):
        kind, payload = self.receive_frame(deadline)
        reader = Reader(payload)
        if kind == PING:
            self.send_frame(ACK)
        elif kind == REPLIES:
            while reader.at < len(payload):
                ticket, result, count = struct.unpack("<QiI", reader.bytes(16))
                if not 0 < ticket <= self.last_ticket or ticket in self.replies or count % 8:
                    raise ValueError(f"a reply of {count} bytes to ticket {ticket}")
                self.replies[ticket] = result, reader.bytes(count)
        elif kind == BULK:
            transfer, offset = reader.scalar(), reader.scalar()
            if transfer in self.transfers:
                self.expect(offset, len(self.transfers[transfer]))
                self.transfers[transfer] += reader.rest()
        elif kind == PUSH:
            self.take_push(reader)
        else:
            self.expect(kind, ACK)

    def take_push(self, reader):
        what = reader.scalar()
        if what == 1:
            self.errors.append((reader.scalar(), reader.i32(), reader.u32()))
        elif what == 2:
            self.output += reader.blob(MAX_PAYLOAD)
        elif what == 3:
            self.callbacks.append(reader.scalar())
        elif what == 4:
            for kind in range(2):
                self.under_way[kind] -= reader.scalar()
            self.expect(min(self.under_way) >= 0, True)
        elif what == 5:
            self.log.append((reader.u32(), reader.blob(1024)))
        else:
            raise ValueError(f"a push of type {what}")
        reader.end()

    def goodbye(self):
        """Ends the session in order: returns when the server has closed the connection."""
        self.send_frame(GOODBYE, u64(8) + blob(b"done"))
        self.socket.settimeout(PATIENCE)
        while self.socket.recv(1 << 16):
            pass

    # What a program would do.

    def use_primary_context(self, vgpu=0, flags=0):
        context = handle(CONTEXT, vgpu)
        self.call(RETAIN_PRIMARY_CONTEXT, u64(context, vgpu, flags))
        self.tell(SET_CONTEXT, u64(context))
        return context

    def copy_to_device(self, address, data):
        self.tell(COPY_TO_DEVICE, u64(0, len(data), 1, 1, address, 0, 0) + self.inline_or_bulk(data))

    def copy_from_device(self, address, count):
        self.last_transfer += 1
        transfer = self.last_transfer
        self.transfers[transfer] = bytearray()
        self.call(COPY_FROM_DEVICE, u64(0, count, 1, 1, address, 0, 0, transfer))
        return bytes(self.transfers.pop(transfer))

    def load_module(self, module, image, log_bytes=MAX_LOG):
        """Returns (result, logs, kernels), the last by name: (index, attributes, [(offset, size) of each parameter])."""
        result, reply = self.ask(LOAD_MODULE, u64(module, 0, log_bytes, log_bytes) + self.inline_or_bulk(image))
        reader = Reader(reply)
        logs = (reader.string(MAX_LOG), reader.string(MAX_LOG), reader.scalar()) if reply else None
        kernels = {}
        for index in range(reader.scalar() if result == 0 else 0):
            name = reader.string()
            attributes = [reader.i32() for _ in range(reader.scalar())]
            kernels[name] = index, attributes, [(reader.u32(), reader.u32()) for _ in range(reader.scalar())]
        reader.end()
        return result, logs, kernels

    def launch(self, function, blocks, threads, parameters):
        """A grid and blocks of one dimension, in the default stream."""
        shape = struct.pack("<8I", blocks, 1, 1, threads, 1, 1, 0, 0)
        self.tell(LAUNCH, u64(function, 0) + shape + u64(0) + blob(parameters))
