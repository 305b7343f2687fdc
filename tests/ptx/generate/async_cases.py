"""mbarrier, asynchronous and bulk copies, and the exchange of blocks of a cluster, against a model of their own."""
import random

from generate.case_writer import MASK, SM_80, write
from generate.float_values import *

SM_90 = ("8.6", "sm_90")
SM_100 = ("8.8", "sm_100")
HEAD = """.visible .entry test(.param .u64 in, .param .u64 out)
{
  .reg .b64 %rd<40>;
  .reg .b32 %r<40>;
  .reg .b16 %h<20>;
  .reg .pred %p<12>;
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x;
"""


class Barrier:
    """An mbarrier as the documentation describes it: a phase ends when no arrival and no byte is missing."""

    def __init__(self, count):
        self.phase, self.expected, self.pending, self.bytes = 0, count, count, 0

    def settle(self):
        if self.pending == 0 and self.bytes == 0:
            self.phase += 1
            self.pending = self.expected

    def arrive(self, count=1, drop=False, expect=0):
        state = (self.phase, self.pending)
        self.bytes += expect
        if drop:
            self.expected -= count
        self.pending -= count
        self.settle()
        return state

    def transfer(self, announced):
        self.bytes += announced
        self.settle()


def mbarrier_sequence(name, seed, shape, target):
    """A random sequence of what one thread can do with a barrier; after each, what the waits see."""
    rng = random.Random(seed)
    address = {"": "%rd9"}.get(shape, "%r9")
    space = shape and "." + shape
    ninety = target == SM_90
    order = lambda words: rng.choice(words) if ninety else ""
    arrive_order = lambda: order(["", ".release.cta", ".release.cluster", ".relaxed.cta", ".relaxed.cluster"])
    wait_order = lambda: order(["", ".acquire.cta", ".acquire.cluster", ".relaxed.cta", ".relaxed.cluster"])
    text = HEAD + "  .shared .align 8 .b8 barrier[64];\n  mov.u32 %r9, barrier;\n  cvt.u64.u32 %rd9, %r9;\n"
    text += "  cvta.shared.u64 %rd9, %rd9;\n"
    out = []

    def put(register, value):
        nonlocal text
        text += "  st.global.u32 [%%rd2+%d], %s;\n" % (4 * len(out), register)
        out.append(value)

    def put_predicate(value):
        nonlocal text
        text += "  selp.b32 %r10, 1, 0, %p1;\n"
        put("%r10", int(value))

    count = rng.randrange(4, 40)
    b = Barrier(count)
    text += "  mbarrier.init%s.b64 [%s], %d;\n" % (space, address, count)
    state = None
    for _ in range(60):
        kind = rng.choice(["arrive", "arrive", "count", "nocomplete", "drop", "dropcount", "drop_nocomplete"] +
                          ["expect", "complete", "arrive_expect", "drop_expect"] * ninety)
        drop = kind.startswith("drop")
        most = b.pending if not drop else min(b.pending, b.expected - 1)
        n = rng.randrange(1, most + 1) if most > 0 else 0
        number = 64 * rng.randrange(1, 9)
        op = "arrive_drop" if drop else "arrive"
        if kind in ("arrive", "drop") and most > 0:
            text += "  mbarrier.%s%s%s.b64 %%rd10, [%s];\n" % (op, arrive_order(), space, address)
            state = b.arrive(1, drop)
        elif kind in ("count", "dropcount") and n and ninety:
            text += "  mbarrier.%s%s%s.b64 %%rd10, [%s], %d;\n" % (op, arrive_order(), space, address, n)
            state = b.arrive(n, drop)
        elif kind in ("nocomplete", "drop_nocomplete") and n and b.pending - n > 0:
            text += "  mbarrier.%s.noComplete%s%s.b64 %%rd10, [%s], %d;\n" % (op, order(["", ".release.cta"]), space, address, n)
            state = b.arrive(n, drop)
        elif kind in ("arrive_expect", "drop_expect") and most > 0:
            text += "  mbarrier.%s.expect_tx%s%s.b64 %%rd10, [%s], %d;\n" % (op, arrive_order(), space, address, number)
            state = b.arrive(1, drop, number)
        elif kind == "expect":
            text += "  mbarrier.expect_tx.relaxed.%s%s.b64 [%s], %d;\n" % (rng.choice(["cta", "cluster"]), space, address, number)
            b.transfer(number)
        elif kind == "complete":
            # What is missing, or a part of it, or more than has been announced yet.
            number = b.bytes if rng.random() < 0.6 and b.bytes > 0 else number
            text += "  mbarrier.complete_tx.relaxed.%s%s.b64 [%s], %d;\n" % (rng.choice(["cta", "cluster"]), space, address, number)
            b.transfer(-number)
        elif not ninety and b.pending == 1:
            text += "  mbarrier.arrive%s.b64 %%rd10, [%s];\n" % (space, address)
            state = b.arrive()
        else:
            continue
        if state is not None:
            text += "  mbarrier.pending_count.b64 %r11, %rd10;\n"
            put("%r11", state[1])
            if b.phase - state[0] <= 1:
                wait = rng.choice(["test_wait", "try_wait"]) if ninety else "test_wait"
                text += "  mbarrier.%s%s%s.b64 %%p1, [%s], %%rd10%s;\n" % (wait, wait_order(), space, address,
                                                                       ", 20" if wait == "try_wait" and rng.random() < 0.5 else "")
                put_predicate(b.phase > state[0])
        for parity in (0, 1):
            wait = rng.choice(["test_wait", "try_wait"]) if ninety else "test_wait"
            text += "  mbarrier.%s.parity%s%s.b64 %%p1, [%s], %d;\n" % (wait, wait_order(), space, address, parity)
            put_predicate(b.phase % 2 != parity)
    text += "  mbarrier.inval%s.b64 [%s];\n  ret;\n}\n" % (space, address)
    write(name, [("out", out)], text, target)


def mbarriers():
    for target, label in ((SM_80, "80"), (SM_90, "90")):
        for shape in ("", "shared", "shared::cta"):
            if shape == "shared::cta" and target == SM_80:
                continue
            for seed in range(3):
                mbarrier_sequence("mbarrier_sequence_%s_%s_%d" % (label, shape.replace("::", "_") or "generic", seed), seed, shape, target)


def async_copies():
    """Each lane copies 4, 8 or 16 bytes from its row of 16 to its row in shared memory, some of them ignored or cut short."""
    rng = random.Random(7)
    forms = []
    for size in (4, 8, 16):
        for cache in ("ca", "cg"):
            if cache == "cg" and size != 16:
                continue
            for space in ("shared", "shared::cta"):
                for hint in ("", ".L2::64B", ".L2::128B", ".L2::256B", ".L2::cache_hint", ".L2::cache_hint.L2::128B"):
                    for cut in ("", "size", "ignore"):
                        forms.append((size, cache, space, hint, cut))
    text = HEAD + "  .shared .align 16 .b8 rows[512];\n  mov.u32 %r9, rows;\n  shl.b32 %r8, %r1, 4;\n  add.u32 %r9, %r9, %r8;\n"
    text += "  cvt.u64.u32 %rd8, %r8;\n  add.u64 %rd9, %rd1, %rd8;\n  add.u64 %rd10, %rd2, %rd8;\n"
    text += "  createpolicy.fractional.L2::evict_last.b64 %rd11, 1.0;\n"
    text += "  mov.b32 %r20, 0x11111111;\n"
    data = [[rng.getrandbits(32) for _ in range(4)] for _ in range(32)]
    out = []
    for k, (size, cache, space, hint, cut) in enumerate(forms):
        text += "  st.shared.v4.b32 [%r9], {%r20, %r20, %r20, %r20};\n"
        policy = ", %rd11" if "cache_hint" in hint else ""
        extra = ""
        if cut == "size":
            text += "  rem.u32 %%r12, %%r1, %d;\n" % (size + 1)
            extra = ", %r12"
        elif cut == "ignore":
            text += "  and.b32 %r13, %r1, 4;\n  setp.ne.u32 %p3, %r13, 0;\n"
            extra = ", %p3"
        text += "  cp.async.%s.%s.global%s [%%r9], [%%rd9], %d%s%s;\n" % (cache, space, hint, size, extra, policy)
        text += rng.choice(["  cp.async.commit_group;\n  cp.async.wait_group 0;\n", "  cp.async.wait_all;\n"])
        text += "  ld.shared.v4.b32 {%%r14, %%r15, %%r16, %%r17}, [%%r9];\n  st.global.v4.b32 [%%rd10+%d], {%%r14, %%r15, %%r16, %%r17};\n" % (512 * k)
        for lane in range(32):
            source = b"".join(w.to_bytes(4, "little") for w in data[lane])
            take = lane % (size + 1) if cut == "size" else 0 if cut == "ignore" and lane & 4 else size
            row = source[:take] + bytes(size - take) + b"\x11" * (16 - size)
            out += [int.from_bytes(row[i:i + 4], "little") for i in range(0, 16, 4)]
    write("async_copy", [("block", "32"), ("in", [w for row in data for w in row]), ("out", out)], text + "  ret;\n}\n", SM_90)


BULK = 64  # Bytes.
REDUCTIONS = {
    "add": lambda a, b, w: a + b, "min": lambda a, b, w: min(a, b), "max": lambda a, b, w: max(a, b),
    "and": lambda a, b, w: a & b, "or": lambda a, b, w: a | b, "xor": lambda a, b, w: a ^ b,
    "inc": lambda a, b, w: 0 if a >= b else a + 1, "dec": lambda a, b, w: b if a == 0 or a > b else a - 1}


def bulk_reduce(name, op, t, place, target=SM_90):
    """Thread 0 fills shared memory, reduces 64 bytes of it into global or shared memory and hands out what is there then."""
    rng = random.Random(name)
    w = int(t.lstrip("usbf"))
    float_type = t in ("f16", "bf16", "f32", "f64")
    kind = {"f16": 16, "bf16": BF16, "f32": 32, "f64": 64}.get(t)
    n = BULK * 8 // w
    make = (lambda: random_float(rng, kind)) if float_type else (lambda: rng.getrandbits(w) >> rng.choice([0, 0, w // 2, w - 3]))
    start, operand = [make() for _ in range(n)], [make() for _ in range(n)]
    if float_type:
        f = (lambda a, b: f_add(a, b, kind, "rn")) if op == "add" else (lambda a, b: f_minmax(a, b, kind, op, False))
        result = [f(a, b) for a, b in zip(start, operand)]
    else:
        number = lambda x: x - (1 << w) if t[0] == "s" and x >> (w - 1) else x
        result = [REDUCTIONS[op](number(a), number(b), w) & MASK[w] for a, b in zip(start, operand)]
    join = lambda values: [x for v in values for x in ([v & MASK[32], v >> 32] if w == 64 else [v])] if w >= 32 else [
        values[i] | values[i + 1] << 16 for i in range(0, n, 2)]
    if w == 16:
        out = ["%s:%s" % tuple({"nan": "nan16" if t == "f16" else "nanbf"}.get(x, None) or "%04x" % x for x in (result[i + 1], result[i]))
               for i in range(0, n, 2)]
    elif float_type:
        out = [y for x in result for y in (["nan"] if w == 32 else ["*", "nan.hi"] if x == "nan" else [x & MASK[32], x >> 32])] \
            if w == 64 else ["nan" if x == "nan" else x for x in result]
    else:
        out = join(result)
    text = HEAD + "  .shared .align 16 .b8 operand[64];\n  .shared .align 16 .b8 place[64];\n  .shared .align 8 .b8 barrier[8];\n"
    text += "  mov.u32 %r9, operand;\n  mov.u32 %r8, place;\n  mov.u32 %r7, barrier;\n"
    for k in range(16):
        text += "  ld.global.u32 %%r10, [%%rd1+%d];\n  st.global.u32 [%%rd2+%d], %%r10;\n  st.shared.u32 [%%r8+%d], %%r10;\n" % (4 * k, 4 * k, 4 * k)
        text += "  ld.global.u32 %%r10, [%%rd1+%d];\n  st.shared.u32 [%%r9+%d], %%r10;\n" % (64 + 4 * k, 4 * k)
    text += "  fence.proxy.async;\n"
    suffix = ("noftz." if t in ("f16", "bf16") and op == "add" else "") + t
    if place == "global":
        text += "  cp.reduce.async.bulk.global.shared::cta.bulk_group.%s.%s [%%rd2], [%%r9], 64;\n" % (op, suffix)
        text += "  cp.async.bulk.commit_group;\n  cp.async.bulk.wait_group.read 0;\n  cp.async.bulk.wait_group 0;\n"
    else:
        text += "  mbarrier.init.shared.b64 [%r7], 1;\n  mbarrier.arrive.expect_tx.shared.b64 _, [%r7], 64;\n"
        text += "  cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.%s.%s [%%r8], [%%r9], 64, [%%r7];\n" % (op, suffix)
        text += "wait:\n  mbarrier.try_wait.parity.shared.b64 %p1, [%r7], 0;\n  @!%p1 bra wait;\n"
        for k in range(16):
            text += "  ld.shared.u32 %%r10, [%%r8+%d];\n  st.global.u32 [%%rd2+%d], %%r10;\n" % (4 * k, 4 * k)
    write(name, [("in", join(start) + join(operand)), ("out", out)], text + "  ret;\n}\n", target)


def bulk_reductions():
    types = {"add": ("u32", "s32", "u64", "f16", "bf16", "f32", "f64"), "inc": ("u32",), "dec": ("u32",),
             "min": ("u32", "s32", "u64", "s64", "f16", "bf16"), "max": ("u32", "s32", "u64", "s64", "f16", "bf16"),
             "and": ("b32", "b64"), "or": ("b32", "b64"), "xor": ("b32", "b64")}
    for op, list_of_types in types.items():
        for t in list_of_types:
            bulk_reduce("bulk_reduce_global_%s_%s" % (op, t), op, t, "global")
            if t in ("u32", "s32", "b32") or (op == "add" and t == "u64"):
                bulk_reduce("bulk_reduce_shared_%s_%s" % (op, t), op, t, "shared")


MAKERS = (mbarriers, async_copies, bulk_reductions)
