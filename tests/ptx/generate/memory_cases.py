"""Loads and stores of every type in every state space, and moves; atomics on integers and floats of 32 and 64 bits."""
import random

from generate.case_writer import MASK, REG, WIDTH, signed, table, write
from generate.float_values import *

SCALARS = ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64")
HEAD = """.visible .entry test(.param .u64 in, .param .u64 out)
{
  .reg .b64 %rd<30>;
  .reg .b32 %r<30>;
  .reg .b16 %h<30>;
  .reg .f32 %f<30>;
  .reg .f64 %fd<30>;
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %laneid;
"""


def register(t, number):
    return "%%%s%d" % (REG[t], number)


def widened(value, t):
    """What a load of type t leaves in a register of at least 32 bits, as 32 or 64 of them."""
    w = WIDTH[t]
    return signed(value, w) & MASK[32] if t[0] == "s" and w < 32 else value


def loads_and_stores():
    """A value goes through a cell of each space; 8-bit types in 32-bit registers, so that extension shows."""
    rng = random.Random(41)
    values = [[rng.getrandbits(64) | 0x8080 for _ in SCALARS] for _ in range(32)]
    for space in ("", ".global", ".shared", ".local", ".const"):
        text = HEAD
        out = [0] * (2 * len(SCALARS) * 32)
        text += "  mad.wide.u32 %%rd3, %%r1, %d, %%rd1;\n  mad.wide.u32 %%rd4, %%r1, %d, %%rd2;\n" % (8 * len(SCALARS), 8 * len(SCALARS))
        if space == ".shared":
            text += "  .shared .align 8 .b8 cells[256];\n  mov.u32 %r2, cells;\n  shl.b32 %r3, %r1, 3;\n  add.u32 %r2, %r2, %r3;\n"
        if space == ".local":
            text += "  .local .align 8 .b8 cells[8];\n  mov.u64 %rd9, cells;\n"
        constants = [rng.getrandbits(64) | 0x8080 for _ in SCALARS]
        for k, t in enumerate(SCALARS):
            at = {".shared": "%r2", ".local": "%rd9"}.get(space, "%%rd4+%d" % (8 * k))
            r = register(t, 5)
            wide = WIDTH[t] == 64
            text += "  ld.global.b64 %%rd6, [%%rd3+%d];\n" % (8 * k)
            if space == ".const":
                text += "  ld.const.%s %s, [numbers+%d];\n" % (t, r, 8 * k)
            else:
                kind = {8: "cvt.u32.u64", 16: "cvt.u16.u64", 32: "cvt.u32.u64", 64: "mov.b64"}[WIDTH[t]]
                if t in ("f32", "f64"):
                    text += "  cvt.u32.u64 %r6, %rd6;\n  mov.b32 %f5, %r6;\n" if t == "f32" else "  mov.b64 %fd5, %rd6;\n"
                else:
                    text += "  %s %s, %%rd6;\n" % (kind, r)
                text += "  st%s.%s [%s], %s;\n" % (space, t, at, r)
                text += "  mov.%s %s, %s;\n" % (t if WIDTH[t] > 8 else "b32", r, register(t, 7))  # Nothing is left over.
                text += "  ld%s.%s %s, [%s];\n" % (space, t, r, at)
            if WIDTH[t] == 16:
                text += "  cvt.u32.u16 %%r8, %s;\n  st.global.b32 [%%rd4+%d], %%r8;\n" % (r, 8 * k)
            else:
                store = t if t in ("f32", "f64") else "b64" if wide else "b32"
                text += "  st.global.%s [%%rd4+%d], %s;\n" % (store, 8 * k, r)
            for lane in range(32):
                value = (constants[k] if space == ".const" else values[lane][k]) & MASK[WIDTH[t]]
                word = widened(value, t)
                if WIDTH[t] == 16:
                    word &= 0xFFFF
                base = 2 * (len(SCALARS) * lane + k)
                out[base] = word & MASK[32]
                out[base + 1] = word >> 32 if wide else 0xA5A5A5A5
        body = text + "  ret;\n}\n"
        if space == ".const":
            body = ".const .align 8 .u64 numbers[%d] = {%s};\n" % (len(constants), ", ".join("0x%x" % x for x in constants)) + body
        inputs = [w for lane in values for x in lane for w in (x & MASK[32], x >> 32)]
        write("memory_types" + space.replace(".", "_"), [("block", "32"), ("in", inputs), ("out", out)], body)


def f32_add(a, b):
    return f_add(a, b, 32, "rn")


OPERATIONS = {
    "add": {t: (lambda a, b: a + b) for t in ("u32", "s32", "u64")},
    "min": {t: (lambda a, b, t=t: min(a, b) if t[0] == "u" else min(signed(a, WIDTH[t]), signed(b, WIDTH[t]))) for t in ("u32", "s32", "u64", "s64")},
    "max": {t: (lambda a, b, t=t: max(a, b) if t[0] == "u" else max(signed(a, WIDTH[t]), signed(b, WIDTH[t]))) for t in ("u32", "s32", "u64", "s64")},
    "and": {t: (lambda a, b: a & b) for t in ("b32", "b64")},
    "or": {t: (lambda a, b: a | b) for t in ("b32", "b64")},
    "xor": {t: (lambda a, b: a ^ b) for t in ("b32", "b64")},
    "exch": {t: (lambda a, b: b) for t in ("b32", "b64")},
    "inc": {"u32": lambda a, b: 0 if a >= b else a + 1},
    "dec": {"u32": lambda a, b: b if a == 0 or a > b else a - 1},
}
OPERATIONS["add"].update({"f32": f32_add, "f64": lambda a, b: f_add(a, b, 64, "rn")})


def operand(rng, t):
    w = WIDTH[t]
    if t[0] == "f":
        while True:
            x = random_float(rng, w)
            if Float(x, w).kind == "num":
                return x
    return rng.choice([0, 1, MASK[w], 1 << (w - 1), rng.getrandbits(w), rng.getrandbits(8)])


def atomics():
    """Each lane has a cell; for each type: initial value, operation, old value (atom) and what is left."""
    for reduce in (False, True):
        for space in ("", ".global", ".shared"):
            for op, types in OPERATIONS.items():
                if reduce and op == "exch":
                    continue
                atomic_case(reduce, space, op, types)
    for space in ("", ".global", ".shared"):
        swap_case(space)
    orders()


def cell_text(space, count):
    text = HEAD + "  mad.wide.u32 %%rd3, %%r1, %d, %%rd1;\n  mad.wide.u32 %%rd4, %%r1, %d, %%rd2;\n" % (24 * count, 16 * count)
    if space == ".shared":
        text += "  .shared .align 8 .b8 cells[256];\n  mov.u32 %r2, cells;\n  shl.b32 %r3, %r1, 3;\n  add.u32 %r2, %r2, %r3;\n"
        return text, lambda k: "%r2"
    return text, lambda k: "%%rd4+%d" % (16 * k + 8)


def load_text(t, number, k, slot):
    kind = t if t[0] == "f" else "b%d" % WIDTH[t]
    return "  ld.global.%s %s, [%%rd3+%d];\n" % (kind, register(t, number), 24 * k + 8 * slot)


def atomic_case(reduce, space, op, types):
    rng = random.Random(op + space)
    text, cell = cell_text(space, len(types))
    inputs, out = [], []
    rows = [[(operand(rng, t), operand(rng, t)) for t in types] for _ in range(32)]
    for k, t in enumerate(types):
        wide = WIDTH[t] == 64
        kind = t if t[0] == "f" else "b%d" % WIDTH[t]
        a, b, d = register(t, 5), register(t, 6), register(t, 7)
        text += load_text(t, 5, k, 0) + load_text(t, 6, k, 1)
        text += "  st%s.%s [%s], %s;\n" % (space, kind, cell(k), a)
        text += "  %s%s.%s.%s %s[%s], %s;\n" % ("red" if reduce else "atom", space, op, t, "" if reduce else d + ", ", cell(k), b)
        if not reduce:
            text += "  st.global.%s [%%rd4+%d], %s;\n" % (kind, 16 * k, d)
        if space == ".shared":
            text += "  ld.shared.%s %s, [%%r2];\n  st.global.%s [%%rd4+%d], %s;\n" % (kind, d, kind, 16 * k + 8, d)
    for row in rows:
        for (t, f), (a, b) in zip(types.items(), row):
            inputs += [w for x in (a, b, 0) for w in (x & MASK[32], x >> 32)]
            new = f(a, b) & MASK[WIDTH[t]]
            poison = lambda x: [x & MASK[32], x >> 32 if WIDTH[t] == 64 else 0xA5A5A5A5]
            out += ([0xA5A5A5A5] * 2 if reduce else poison(a)) + poison(new)
    write("atomic_%s_%s%s" % ("red" if reduce else "atom", op, space.replace(".", "_")),
          [("block", "32"), ("in", inputs), ("out", out)], text + "  ret;\n}\n")


def swap_case(space):
    rng = random.Random("cas" + space)
    types = ("b16", "b32", "b64") if space == "" else ("b32", "b64")
    text, cell = cell_text(space, len(types))
    inputs, out = [], []
    for k, t in enumerate(types):
        text += load_text(t, 5, k, 0) + load_text(t, 6, k, 1) + load_text(t, 7, k, 2)
        text += "  st%s.%s [%s], %s;\n" % (space, t, cell(k), register(t, 5))
        text += "  atom%s.cas.%s %s, [%s], %s, %s;\n" % (space, t, register(t, 8), cell(k), register(t, 6), register(t, 7))
        text += "  st.global.%s [%%rd4+%d], %s;\n" % (t, 16 * k, register(t, 8))
        if space == ".shared":
            text += "  ld.shared.%s %s, [%%r2];\n  st.global.%s [%%rd4+%d], %s;\n" % (t, register(t, 9), t, 16 * k + 8, register(t, 9))
    for lane in range(32):
        for t in types:
            w = WIDTH[t]
            a, c = rng.getrandbits(w), rng.getrandbits(w)
            b = a if lane % 2 else a ^ 1 << rng.randrange(w)
            inputs += [v for x in (a, b, c) for v in (x & MASK[32], x >> 32)]
            poison = lambda x, w=w: [x & MASK[32], x >> 32] if w == 64 else [x | (0xA5A50000 if w == 16 else 0), 0xA5A5A5A5]
            out += poison(a) + poison(c if a == b else a)
    write("atomic_cas" + space.replace(".", "_"), [("block", "32"), ("in", inputs), ("out", out)], text + "  ret;\n}\n")


def orders():
    """Orders and scopes change nothing that one thread can see."""
    names = (".relaxed.gpu", ".acquire.gpu", ".release.gpu", ".acq_rel.gpu", ".acq_rel.sys", ".relaxed.cta")
    text = HEAD + "  mad.wide.u32 %rd4, %r1, 8, %rd2;\n  st.global.b32 [%rd4+4], 5;\n"
    for name in names:
        text += "  atom%s.global.add.u32 %%r5, [%%rd4+4], 3;\n" % name
    text += "  membar.gl;\n  membar.sys;\n  membar.cta;\n"
    for fence in ("acq_rel.cta", "acq_rel.gpu", "acq_rel.sys", "sc.cta", "sc.gpu"):
        text += "  fence.%s;\n" % fence
    for name in (".relaxed.gpu", ".acquire.gpu", ".volatile", ".relaxed.sys", ".acquire.cta", ".mmio.relaxed.sys"):
        text += "  ld%s.global.u32 %%r6, [%%rd4+4];\n  add.u32 %%r5, %%r5, %%r6;\n" % name
    for name in (".relaxed.gpu", ".release.gpu", ".volatile", ".release.cta", ".mmio.relaxed.sys"):
        text += "  st%s.global.u32 [%%rd4], %%r5;\n  add.u32 %%r5, %%r5, 1;\n" % name
    total = 5 + 3 * 5 + 6 * (5 + 3 * 6) + 4
    write("memory_orders", [("block", "32"), ("out", [total, 23] * 32)], text + "  ret;\n}\n", ("8.3", "sm_80"))


def moves():
    rng = random.Random(3)
    for w in (16, 32, 64):
        rows = [(rng.getrandbits(w), rng.getrandbits(w), rng.getrandbits(1)) for _ in range(30)]
        types = ["%s%d" % (k, w) for k in "bus"] + (["f%d" % w] if w > 16 else [])
        ins = [("mov.%s {d}, {a};" % t, t, (t, t, "pred"), lambda a, b, c: a) for t in types]
        ins += [("selp.%s {d}, {a}, {b}, {c};" % t, t, (t, t, "pred"), lambda a, b, c: a if c else b) for t in types]
        table("move_%d" % w, rows, ins)
        rows = [(rng.getrandbits(w), rng.getrandbits(w), rng.choice([0, 1, 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF, 0x3F800000, 0xBF800000,
                                                                    0x80000001, 0x7FC00000])) for _ in range(60)]

        def by_float(a, b, c):
            x = Float(c, 32)
            return a if x.kind == "zero" or (x.kind != "nan" and not x.sign) else b
        ins = []
        for t in types:
            ins += [("slct.%s.s32 {d}, {a}, {b}, {c};" % t, t, (t, t, "s32"), lambda a, b, c: a if signed(c, 32) >= 0 else b),
                    ("slct.%s.f32 {d}, {a}, {b}, {c};" % t, t, (t, t, "f32"), by_float),
                    ("slct.ftz.%s.f32 {d}, {a}, {b}, {c};" % t, t, (t, t, "f32"), lambda a, b, c: by_float(a, b, flushed(c, 32)))]
        table("slct_%d" % w, rows, ins)


MAKERS = (loads_and_stores, atomics, moves)
