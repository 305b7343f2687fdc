#!/usr/bin/env python3
"""make_cases.py FOLDER: writes case files for ptx_test, instructions with operands and the results that PTX defines.

The results come from exact integer and rational arithmetic here, never from the engine.
"""
import itertools
import pathlib
import random
import sys
from fractions import Fraction
from math import isqrt

POISON = 0xA5A5A5A5
FILES = {}
MASK = {w: (1 << w) - 1 for w in (8, 16, 24, 32, 64)}
REG = {"u16": "h", "s16": "h", "b16": "h", "f16": "h", "u32": "r", "s32": "r", "b32": "r", "f32": "f", "u64": "rd",
       "s64": "rd", "b64": "rd", "f64": "fd", "pred": "p", "f16x2": "r", "u8": "r", "s8": "r"}
WIDTH = {"u16": 16, "s16": 16, "b16": 16, "f16": 16, "u32": 32, "s32": 32, "b32": 32, "f32": 32, "u64": 64, "s64": 64,
         "b64": 64, "f64": 64, "f16x2": 32, "pred": 32, "u8": 8, "s8": 8}
DECLARATIONS = """  .reg .b16 %h<20>;
  .reg .b32 %r<20>;
  .reg .f32 %f<20>;
  .reg .b64 %rd<30>;
  .reg .f64 %fd<20>;
  .reg .pred %p<12>;
"""
HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n\n"


def words(values, per_line=8):
    text = [w if isinstance(w, str) else "%08x" % w for w in values]
    return [" ".join(text[i:i + per_line]) for i in range(0, len(text), per_line)]


def write(name, directives, body):
    lines = ["// Written by make_cases.py."]
    for key, value in directives:
        lines += ["// %s: %s" % (key, line) for line in (words(value) if isinstance(value, list) else [value])]
    FILES[name] = "\n".join(lines) + "\n" + HEAD + body


def signed(x, w):
    x &= MASK[w]
    return x - (1 << w) if x >> (w - 1) else x


def val(x, t):
    """The number that bits x are as type t."""
    return signed(x, WIDTH[t]) if t[0] == "s" else x & MASK[WIDTH[t]]


def result_words(value, width):
    """The two words of a result: a string marks any NaN."""
    if isinstance(value, str):
        return {16: ["nan16", POISON], 32: ["nan", POISON], 64: ["*", "nan.hi"]}[width] if value == "nan" else value
    value &= (1 << width) - 1
    if width == 16:
        return [value | (POISON & 0xFFFF0000), POISON]
    if width == 32:
        return [value, POISON]
    return [value & MASK[32], value >> 32]


def table(name, tuples, instructions):
    """One thread per tuple of operands; each instruction is (text, result type, operand types, function of bits).

    In the text, {d} is the result and {a}, {b}, {c}, {e} are the operands. Operand registers are loaded anew for each.
    """
    tuples = list(tuples)[:1024]
    n, arity = len(tuples), len(tuples[0])
    code = "  ld.param.u64 %rd20, [in];\n  ld.param.u64 %rd21, [out];\n  mov.u32 %r19, %tid.x;\n"
    code += "  mul.wide.u32 %%rd22, %%r19, %d;\n  add.u64 %%rd20, %%rd20, %%rd22;\n" % (8 * arity)
    code += "  mul.wide.u32 %rd22, %r19, 8;\n  add.u64 %rd21, %rd21, %rd22;\n"
    out = []
    for k, (text, dtype, types, function) in enumerate(instructions):
        names = {"d": "%" + REG[dtype] + "10"}
        for i, t in enumerate(types):
            register = "%%%s%d" % (REG[t], i + 1)
            names["abce"[i]] = register
            if t == "pred":
                code += "  ld.global.b32 %%r11, [%%rd20+%d];\n  setp.ne.u32 %s, %%r11, 0;\n" % (8 * i, register)
            elif t in ("u8", "s8"):
                code += "  ld.global.b32 %s, [%%rd20+%d];\n" % (register, 8 * i)
            else:
                code += "  ld.global.%s %s, [%%rd20+%d];\n" % (t if t[0] == "f" and WIDTH[t] > 16 else "b%d" % WIDTH[t],
                                                               register, 8 * i)
        code += "  " + text.format(**names) + "\n"
        width = WIDTH[dtype]
        if dtype == "pred":
            code += "  selp.b32 %%r12, 1, 0, %s;\n  st.global.b32 [%%rd21+%d], %%r12;\n" % (names["d"], 8 * n * k)
        elif width == 8:
            width = 32
            code += "  st.global.b32 [%%rd21+%d], %s;\n" % (8 * n * k, names["d"])
        else:
            store = dtype if dtype[0] == "f" and width > 16 and dtype != "f16x2" else "b%d" % width
            code += "  st.global.%s [%%rd21+%d], %s;\n" % (store, 8 * n * k, names["d"])
        for operands in tuples:
            bits = [x & MASK[64 if t == "pred" else WIDTH[t]] for x, t in zip(operands, types)]
            out += result_words(function(*bits), width)
    inputs = [w for operands in tuples for x in operands for w in (x & MASK[32], x >> 32 & MASK[32])]
    body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + DECLARATIONS + code + "  ret;\n}\n"
    write(name, [("block", str(n)), ("in", inputs), ("out", out)], body)


# ---------------------------------------------------------------- integers

def interesting(w):
    top = 1 << (w - 1)
    return [0, 1, 2, 7, top - 1, top, top + 1, (1 << w) - 1, (1 << w) - 2, 0x123456789ABCDEF5 & MASK[w],
            0xFEDCBA9876543210 & MASK[w]]


def pairs(w, extra=20):
    rng = random.Random(w)
    full = list(itertools.product(interesting(w), repeat=2))
    return full + [(rng.getrandbits(w), rng.getrandbits(rng.randint(1, w))) for _ in range(extra)]


def triples(w, count=150, seed=1):
    rng = random.Random(w * 1000 + seed)
    pool = interesting(w)
    pick = lambda: rng.choice(pool) if rng.random() < 0.6 else rng.getrandbits(w)
    return [(pick(), pick(), pick()) for _ in range(count)]


def truncated_div(a, b):
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


def clamp(x, t):
    w = WIDTH[t]
    low, high = (-(1 << (w - 1)), (1 << (w - 1)) - 1) if t[0] == "s" else (0, (1 << w) - 1)
    return min(max(x, low), high)


def integer_arithmetic():
    for w in (16, 32, 64):
        ins = []
        for s in "us":
            t = "%s%d" % (s, w)
            for op, f in (("add", lambda a, b: a + b), ("sub", lambda a, b: a - b), ("mul.lo", lambda a, b: a * b),
                          ("mul.hi", lambda a, b, w=w: a * b >> w), ("min", min), ("max", max)):
                ins.append(("%s.%s {d}, {a}, {b};" % (op, t), t, (t, t), lambda a, b, f=f, t=t: f(val(a, t), val(b, t))))
            if w < 64:
                wide = "%s%d" % (s, 2 * w)
                ins.append(("mul.wide.%s {d}, {a}, {b};" % t, wide, (t, t), lambda a, b, t=t: val(a, t) * val(b, t)))
        table("int_binary_%d" % w, pairs(w), ins)
        divisions = [(a, b) for a, b in pairs(w, 60) if b & MASK[w]]
        ins = []
        for s in "us":
            t = "%s%d" % (s, w)
            ins.append(("div.%s {d}, {a}, {b};" % t, t, (t, t), lambda a, b, t=t: truncated_div(val(a, t), val(b, t))))
            ins.append(("rem.%s {d}, {a}, {b};" % t, t, (t, t),
                        lambda a, b, t=t: val(a, t) - val(b, t) * truncated_div(val(a, t), val(b, t))))
        table("int_division_%d" % w, divisions, ins)
        t = "s%d" % w
        table("int_unary_%d" % w, [(x,) for x in interesting(w)],
              [("abs.%s {d}, {a};" % t, t, (t,), lambda a, t=t: abs(val(a, t))),
               ("neg.%s {d}, {a};" % t, t, (t,), lambda a, t=t: -val(a, t)),
               ("not.b%d {d}, {a};" % w, t, (t,), lambda a: ~a),
               ("cnot.b%d {d}, {a};" % w, t, (t,), lambda a: int(a == 0))])
        ins = []
        for s in "us":
            t = "%s%d" % (s, w)
            v = lambda x, t=t: val(x, t)
            ins.append(("mad.lo.%s {d}, {a}, {b}, {c};" % t, t, (t, t, t), lambda a, b, c, v=v: v(a) * v(b) + v(c)))
            ins.append(("mad.hi.%s {d}, {a}, {b}, {c};" % t, t, (t, t, t),
                        lambda a, b, c, v=v, w=w: (v(a) * v(b) >> w) + v(c)))
            ins.append(("sad.%s {d}, {a}, {b}, {c};" % t, t, (t, t, t), lambda a, b, c, v=v: v(c) + abs(v(a) - v(b))))
            if w < 64:
                wide = "%s%d" % (s, 2 * w)
                ins.append(("mad.wide.%s {d}, {a}, {b}, {c};" % t, wide, (t, t, wide),
                            lambda a, b, c, v=v, wide=wide: v(a) * v(b) + val(c, wide)))
        table("int_mad_%d" % w, triples(w), ins)
    s = lambda x: signed(x, 32)
    t24 = lambda x: signed(x & MASK[24], 24)
    u24 = lambda x: x & MASK[24]
    table("int_sat_24", triples(32), [
        ("add.sat.s32 {d}, {a}, {b};", "s32", ("s32",) * 3, lambda a, b, c: clamp(s(a) + s(b), "s32")),
        ("sub.sat.s32 {d}, {a}, {b};", "s32", ("s32",) * 3, lambda a, b, c: clamp(s(a) - s(b), "s32")),
        ("mad.hi.sat.s32 {d}, {a}, {b}, {c};", "s32", ("s32",) * 3,
         lambda a, b, c: clamp((s(a) * s(b) >> 32) + s(c), "s32")),
        ("mul24.lo.s32 {d}, {a}, {b};", "s32", ("s32",) * 3, lambda a, b, c: t24(a) * t24(b)),
        ("mul24.hi.s32 {d}, {a}, {b};", "s32", ("s32",) * 3, lambda a, b, c: t24(a) * t24(b) >> 16),
        ("mul24.lo.u32 {d}, {a}, {b};", "u32", ("u32",) * 3, lambda a, b, c: u24(a) * u24(b)),
        ("mul24.hi.u32 {d}, {a}, {b};", "u32", ("u32",) * 3, lambda a, b, c: u24(a) * u24(b) >> 16),
        ("mad24.lo.s32 {d}, {a}, {b}, {c};", "s32", ("s32",) * 3, lambda a, b, c: t24(a) * t24(b) + c),
        ("mad24.hi.u32 {d}, {a}, {b}, {c};", "u32", ("u32",) * 3, lambda a, b, c: (u24(a) * u24(b) >> 16) + c)])


def carries():
    m = MASK[32]

    def chain(a, b, c, op):
        x, y = a | b << 32, c | (a ^ 0xFFFFFFFF) << 32
        return op(x, y)
    table("int_carry", triples(32, 120), [
        # 96 bits: the carry leaves the first, goes through the second, and ends in the third.
        ("{{ add.cc.u32 %r13, {a}, {b}; addc.cc.u32 %r14, {b}, {c}; addc.u32 {d}, {c}, {a}; }}", "u32", ("u32",) * 3,
         lambda a, b, c: ((a | b << 32 | c << 64) + (b | c << 32 | a << 64)) >> 64),
        ("{{ add.cc.u32 %r13, {a}, {b}; addc.cc.u32 {d}, {b}, {c}; }}", "u32", ("u32",) * 3,
         lambda a, b, c: ((a | b << 32) + (b | c << 32)) >> 32),
        ("{{ sub.cc.u32 %r13, {a}, {b}; subc.cc.u32 %r14, {b}, {c}; subc.u32 {d}, {c}, {a}; }}", "u32", ("u32",) * 3,
         lambda a, b, c: ((a | b << 32 | c << 64) - (b | c << 32 | a << 64)) >> 64),
        ("{{ mad.lo.cc.u32 %r13, {a}, {b}, {c}; madc.hi.u32 {d}, {a}, {b}, {c}; }}", "u32", ("u32",) * 3,
         lambda a, b, c: (a * b + (c | c << 32)) >> 32),
        ("{{ mad.lo.cc.u32 %r13, {a}, {b}, {c}; madc.hi.cc.u32 %r14, {a}, {b}, {c}; addc.u32 {d}, 0, 0; }}", "u32",
         ("u32",) * 3, lambda a, b, c: (a * b + (c | c << 32)) >> 64),
        ("{{ mad.hi.cc.s32 %r13, {a}, {b}, {c}; addc.u32 {d}, 0, 0; }}", "u32", ("u32",) * 3,
         lambda a, b, c: (((signed(a, 32) * signed(b, 32) >> 32) & m) + c) >> 32)])
    table("int_carry_64", triples(64, 100), [
        ("{{ add.cc.u64 %rd13, {a}, {b}; addc.u64 {d}, {b}, {c}; }}", "u64", ("u64",) * 3,
         lambda a, b, c: ((a | b << 64) + (b | c << 64)) >> 64),
        ("{{ sub.cc.s64 %rd13, {a}, {b}; subc.s64 {d}, {b}, {c}; }}", "u64", ("u64",) * 3,
         lambda a, b, c: ((a | b << 64) - (b | c << 64)) >> 64),
        ("{{ mad.lo.cc.u64 %rd13, {a}, {b}, {c}; madc.hi.u64 {d}, {a}, {b}, {c}; }}", "u64", ("u64",) * 3,
         lambda a, b, c: (a * b + (c | c << 64)) >> 64)])


def bfe(a, b, c, t):
    w = WIDTH[t]
    pos, length = b & 255, c & 255
    if length == 0:
        return 0
    sbit = (a >> min(pos + length - 1, w - 1)) & 1 if t[0] == "s" else 0
    return sum((((a >> (pos + i)) & 1 if i < length and pos + i < w else sbit) << i) for i in range(w))


def bfi(a, b, c, e, w):
    pos, length = c & 255, e & 255
    for i in range(length):
        if pos + i < w:
            b = b & ~(1 << (pos + i)) | (a >> i & 1) << (pos + i)
    return b


def prmt(a, b, c, mode):
    data = [(a | b << 32) >> 8 * i & 255 for i in range(8)]
    if mode == "":
        out = []
        for i in range(4):
            s = c >> 4 * i & 15
            out.append((255 if data[s & 7] & 128 else 0) if s & 8 else data[s & 7])
    else:
        k = c & 3
        out = [data[i] for i in {"f4e": [k, k + 1, k + 2, k + 3], "b4e": [(k - i) % 8 for i in range(4)], "rc8": [k] * 4,
                                 "ecl": [max(k, i) for i in range(4)], "ecr": [min(k, i) for i in range(4)],
                                 "rc16": [0, 1, 0, 1] if k % 2 == 0 else [2, 3, 2, 3]}[mode]]
    return sum(x << 8 * i for i, x in enumerate(out))


def lop3(a, b, c, lut):
    return sum((lut >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)) & 1) << i for i in range(32))


def bfind(a, t, shift):
    w = WIDTH[t]
    if t[0] == "s" and a >> (w - 1):
        a = ~a & MASK[w]
    if a == 0:
        return MASK[32]
    return w - a.bit_length() if shift else a.bit_length() - 1


def bits():
    for w in (16, 32, 64):
        rng = random.Random(w)
        amounts = [0, 1, 5, w // 2, w - 1, w, w + 1, 31, 32, 33, 63, 64, 65, 255, 256, 0x80000000, 0xFFFFFFFF]
        tuples = [(x, n) for x in interesting(w)[3:] for n in amounts]
        b, u, s = ("%s%d" % (x, w) for x in "bus")
        table("bits_shift_%d" % w, tuples, [
            ("shl.%s {d}, {a}, {b};" % b, b, (b, "u32"), lambda a, n, w=w: a << n if n < w else 0),
            ("shr.%s {d}, {a}, {b};" % u, b, (b, "u32"), lambda a, n: a >> n),
            ("shr.%s {d}, {a}, {b};" % b, b, (b, "u32"), lambda a, n: a >> n),
            ("shr.%s {d}, {a}, {b};" % s, b, (b, "u32"), lambda a, n, w=w: signed(a, w) >> n)])
        table("bits_logic_%d" % w, pairs(w), [
            ("and.%s {d}, {a}, {b};" % b, b, (b, b), lambda x, y: x & y),
            ("or.%s {d}, {a}, {b};" % b, b, (b, b), lambda x, y: x | y),
            ("xor.%s {d}, {a}, {b};" % b, b, (b, b), lambda x, y: x ^ y)])
        if w == 16:
            continue
        table("bits_count_%d" % w, [(x,) for x in interesting(w) + [1 << i for i in range(0, w, 3)]
                                    + [rng.getrandbits(w) for _ in range(20)]], [
            ("popc.%s {d}, {a};" % b, "u32", (b,), lambda a: bin(a).count("1")),
            ("clz.%s {d}, {a};" % b, "u32", (b,), lambda a, w=w: w - a.bit_length()),
            ("brev.%s {d}, {a};" % b, b, (b,), lambda a, w=w: int(format(a, "0%db" % w)[::-1], 2)),
            ("bfind.%s {d}, {a};" % u, "u32", (b,), lambda a, t=u: bfind(a, t, False)),
            ("bfind.%s {d}, {a};" % s, "u32", (b,), lambda a, t=s: bfind(a, t, False)),
            ("bfind.shiftamt.%s {d}, {a};" % u, "u32", (b,), lambda a, t=u: bfind(a, t, True)),
            ("bfind.shiftamt.%s {d}, {a};" % s, "u32", (b,), lambda a, t=s: bfind(a, t, True))])
        fields = [0, 1, 4, w // 2, w - 1, w, w + 1, 200, 255, 256 + 3]
        tuples = [(x, rng.getrandbits(w), p, n) for x in (0x8123456789ABCDEF & MASK[w] | 1 << (w - 1), 0x55AA55AA)
                  for p in fields for n in fields]
        table("bits_field_%d" % w, tuples, [
            ("bfe.%s {d}, {a}, {c}, {e};" % u, b, (b, b, "u32", "u32"), lambda a, x, p, n, t=u: bfe(a, p, n, t)),
            ("bfe.%s {d}, {a}, {c}, {e};" % s, b, (b, b, "u32", "u32"), lambda a, x, p, n, t=s: bfe(a, p, n, t)),
            ("bfi.%s {d}, {a}, {b}, {c}, {e};" % b, b, (b, b, "u32", "u32"),
             lambda a, x, p, n, w=w: bfi(a, x, p, n, w))])
    amounts = [0, 1, 7, 31, 32, 33, 64, 0xFFFFFFFF]
    tuples = [(a, b, n) for a, b in pairs(32)[::3] for n in amounts]
    table("bits_shf", tuples, [
        ("shf.l.clamp.b32 {d}, {a}, {b}, {c};", "b32", ("b32",) * 3, lambda a, b, n: (b << 32 | a) << min(n, 32) >> 32),
        ("shf.r.clamp.b32 {d}, {a}, {b}, {c};", "b32", ("b32",) * 3, lambda a, b, n: (b << 32 | a) >> min(n, 32)),
        ("shf.l.wrap.b32 {d}, {a}, {b}, {c};", "b32", ("b32",) * 3, lambda a, b, n: (b << 32 | a) << (n & 31) >> 32),
        ("shf.r.wrap.b32 {d}, {a}, {b}, {c};", "b32", ("b32",) * 3, lambda a, b, n: (b << 32 | a) >> (n & 31))])
    rng = random.Random(9)
    tuples = [(rng.getrandbits(32), rng.getrandbits(32), rng.getrandbits(32)) for _ in range(70)]
    table("bits_prmt", tuples + [(0x80FF017F, 0x7F80FE01, k) for k in (0, 1, 2, 3, 0x3210, 0xFEDC, 0x7654, 0x8888)],
          [("prmt.b32 {d}, {a}, {b}, {c};", "b32", ("b32",) * 3, lambda a, b, c: prmt(a, b, c, ""))])
    table("bits_prmt_modes", tuples, [
        ("prmt.b32.%s {d}, {a}, {b}, {c};" % m, "b32", ("b32",) * 3, lambda a, b, c, m=m: prmt(a, b, c, m))
        for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")])
    table("bits_lop3", tuples[:20], [
        ("lop3.b32 {d}, {a}, {b}, {c}, 0x%x;" % lut, "b32", ("b32",) * 3, lambda a, b, c, k=lut: lop3(a, b, c, k))
        for lut in (0, 0x01, 0x02, 0x10, 0x40, 0x80, 0x96, 0xCA, 0xE8, 0xF0, 0xFE, 0xFF)])
    byte = lambda x, i, t: val(x >> 8 * i, t + "8")
    half = lambda x, i, t: val(x >> 16 * i, t + "16")
    ins = []
    for x, y in itertools.product("us", repeat=2):
        ins.append(("dp4a.%s32.%s32 {d}, {a}, {b}, {c};" % (x, y), "b32", ("b32",) * 3, lambda a, b, c, x=x, y=y:
                    c + sum(byte(a, i, x) * byte(b, i, y) for i in range(4))))
        for part, at in (("lo", 0), ("hi", 2)):
            ins.append(("dp2a.%s.%s32.%s32 {d}, {a}, {b}, {c};" % (part, x, y), "b32", ("b32",) * 3,
                        lambda a, b, c, x=x, y=y, at=at: c + sum(half(a, i, x) * byte(b, i + at, y) for i in range(2))))
    table("bits_dot", tuples, ins)


# ---------------------------------------------------------------- floating point

FORMAT = {16: (5, 10), 32: (8, 23), 64: (11, 52)}


class Float:
    """A value taken apart: kind "nan", "inf", "zero" or "num", its sign, and the number."""

    def __init__(self, bits, w):
        ebits, mbits = FORMAT[w]
        bias = (1 << (ebits - 1)) - 1
        self.sign = bits >> (w - 1) & 1
        exponent, mantissa = bits >> mbits & ((1 << ebits) - 1), bits & ((1 << mbits) - 1)
        self.sub = exponent == 0 and mantissa != 0
        if exponent == (1 << ebits) - 1:
            self.kind, self.x = ("nan" if mantissa else "inf"), None
        elif exponent == 0 and mantissa == 0:
            self.kind, self.x = "zero", Fraction(0)
        else:
            scale = Fraction(2) ** (max(exponent, 1) - bias - mbits)
            self.kind, self.x = "num", (mantissa + (1 << mbits if exponent else 0)) * scale * (-1 if self.sign else 1)


def round_integer(x, mode):
    """A Fraction to an integer."""
    low = x.numerator // x.denominator
    rest = x - low
    if rest == 0:
        return low
    if mode == "rm":
        return low
    if mode == "rp":
        return low + 1
    if mode == "rz":
        return low if x > 0 else low + 1
    if rest != Fraction(1, 2):
        return low if rest < Fraction(1, 2) else low + 1
    return low + (low & 1)


def zero(sign, w):
    return sign << (w - 1)


def infinity(sign, w):
    ebits, mbits = FORMAT[w]
    return sign << (w - 1) | ((1 << ebits) - 1) << mbits


def encode(x, w, mode, sign_of_zero=0):
    """A Fraction as bits, rounded once."""
    ebits, mbits = FORMAT[w]
    bias = (1 << (ebits - 1)) - 1
    if x == 0:
        return zero(sign_of_zero, w)
    sign = int(x < 0)
    a = abs(x)
    exponent = a.numerator.bit_length() - a.denominator.bit_length()
    while a < Fraction(2) ** exponent:
        exponent -= 1
    while a >= Fraction(2) ** (exponent + 1):
        exponent += 1
    exponent = max(exponent, 1 - bias)
    unit = Fraction(2) ** (exponent - mbits)
    mantissa = round_integer(a / unit, {"rm": "rp", "rp": "rm"}.get(mode, mode) if sign else mode)
    # Adding instead of combining lets a carry go into the exponent.
    value = (((exponent + bias - 1) << mbits) + mantissa) if mantissa >> mbits else mantissa
    if value >= ((1 << ebits) - 1) << mbits:
        away = mode == "rn" or (mode == "rp" and not sign) or (mode == "rm" and sign)
        value = ((1 << ebits) - 1) << mbits if away else (((1 << ebits) - 1) << mbits) - 1
    return sign << (w - 1) | value


def flushed(bits, w):
    return bits & (1 << (w - 1)) if Float(bits, w).sub else bits


def add_values(p, q, w, mode):
    """p and q: (kind, sign, Fraction); the exact sum, rounded."""
    if "nan" in (p[0], q[0]):
        return "nan"
    if p[0] == "inf" or q[0] == "inf":
        if p[0] == q[0] and p[1] != q[1]:
            return "nan"
        return infinity(p[1] if p[0] == "inf" else q[1], w)
    total = p[2] + q[2]
    both_zero = p[2] == 0 and q[2] == 0
    sign = p[1] if both_zero and p[1] == q[1] else int(mode == "rm")
    return encode(total, w, mode, sign)


def product_of(a, b):
    sign = a.sign ^ b.sign
    if "nan" in (a.kind, b.kind) or {a.kind, b.kind} == {"inf", "zero"}:
        return ("nan", 0, None)
    if "inf" in (a.kind, b.kind):
        return ("inf", sign, None)
    return ("num", sign, a.x * b.x)


def parts(a):
    return (a.kind, a.sign, a.x)


def f_add(a, b, w, mode):
    return add_values(parts(Float(a, w)), parts(Float(b, w)), w, mode)


def f_sub(a, b, w, mode):
    return f_add(a, b ^ 1 << (w - 1), w, mode)


def f_mul(a, b, w, mode):
    kind, sign, x = product_of(Float(a, w), Float(b, w))
    return kind if kind == "nan" else infinity(sign, w) if kind == "inf" else encode(x, w, mode, sign)


def f_fma(a, b, c, w, mode):
    return add_values(product_of(Float(a, w), Float(b, w)), parts(Float(c, w)), w, mode)


def f_div(a, b, w, mode):
    x, y = Float(a, w), Float(b, w)
    sign = x.sign ^ y.sign
    if "nan" in (x.kind, y.kind) or (x.kind == y.kind and x.kind in ("inf", "zero")):
        return "nan"
    if x.kind == "inf" or y.kind == "zero":
        return infinity(sign, w)
    if y.kind == "inf":
        return zero(sign, w)
    return encode(x.x / y.x, w, mode, sign)


def f_sqrt(a, w, mode):
    x = Float(a, w)
    if x.kind == "zero":
        return a
    if x.kind == "nan" or x.sign:
        return "nan"
    if x.kind == "inf":
        return a
    # Scaled so that the root has far more bits than the format; a sticky bit stands for the rest.
    scale = 2 * (w * 4 + 1100)
    scaled = x.x * Fraction(2) ** scale
    root = isqrt(scaled.numerator // scaled.denominator)
    exact = Fraction(root * root) == scaled
    return encode(Fraction(2 * root + (0 if exact else 1), 2) / Fraction(2) ** (scale // 2), w, mode)


def saturated(bits, w):
    if bits == "nan":
        return 0
    x = Float(bits, w)
    if x.sign or x.kind == "zero":
        return 0
    return encode(Fraction(1), w, "rn") if x.kind == "inf" or x.x > 1 else bits


def with_modifiers(f, w, mode, ftz, sat):
    def run(*operands):
        result = f(*[flushed(x, w) if ftz else x for x in operands], w, mode)
        if result != "nan" and ftz:
            result = flushed(result, w)
        return saturated(result, w) if sat else result
    return run


def floats(w):
    ebits, mbits = FORMAT[w]
    one = ((1 << (ebits - 1)) - 1) << mbits
    inf = infinity(0, w)
    values = [0, 1, (1 << mbits) - 1, 1 << mbits, one, one + 1, one - 1, one + (1 << mbits), inf - 1, inf,
              inf | 1 << (mbits - 1), inf | 1 << (mbits - 2), one + (3 << (mbits - 1)), one - (24 << mbits if w > 16 else 5 << mbits) + 5]
    return values + [x | 1 << (w - 1) for x in values]


def random_float(rng, w):
    ebits, mbits = FORMAT[w]
    if rng.random() < 0.3:
        return rng.choice(floats(w))
    middle = (1 << (ebits - 1)) - 1
    return rng.getrandbits(1) << (w - 1) | (middle + rng.randint(-4, 4)) << mbits | rng.getrandbits(mbits)


def f_minmax(a, b, w, which, nan):
    x, y = Float(a, w), Float(b, w)
    canonical = {16: 0x7FFF, 32: 0x7FFFFFFF, 64: "nan"}[w]
    if x.kind == "nan" or y.kind == "nan":
        if nan or x.kind == y.kind:
            return canonical
        return b if x.kind == "nan" else a
    key = lambda v: (float("inf") * (-1 if v.sign else 1) if v.kind == "inf" else v.x, -v.sign)
    return (a if key(x) <= key(y) else b) if which == "min" else (a if key(x) >= key(y) else b)


def float_arithmetic():
    for w in (32, 64):
        t, rng = "f%d" % w, random.Random(w)
        two = list(itertools.product(floats(w), repeat=2))[::2] + [(random_float(rng, w), random_float(rng, w))
                                                                    for _ in range(150)]
        three = [tuple(random_float(rng, w) for _ in range(3)) for _ in range(300)]
        for mode in ("rn", "rz", "rm", "rp"):
            table("float_%s_%s" % (t, mode), two, [
                ("%s.%s.%s {d}, {a}, {b};" % (op, mode, t), t, (t, t), with_modifiers(f, w, mode, False, False))
                for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul), ("div", f_div))])
            table("float_%s_%s_fma" % (t, mode), three, [
                ("fma.%s.%s {d}, {a}, {b}, {c};" % (mode, t), t, (t,) * 3, with_modifiers(f_fma, w, mode, False, False)),
                ("sqrt.%s.%s {d}, {a};" % (mode, t), t, (t,) * 3,
                 lambda a, b, c, w=w, mode=mode: f_sqrt(a, w, mode)),
                ("rcp.%s.%s {d}, {a};" % (mode, t), t, (t,) * 3,
                 lambda a, b, c, w=w, mode=mode: f_div(encode(Fraction(1), w, "rn"), a, w, mode))])
        ins = [("%s.%s {d}, {a}, {b};" % (op, t), t, (t, t), lambda a, b, w=w, op=op: f_minmax(a, b, w, op, False))
               for op in ("min", "max")]
        if w == 32:
            ins += [("%s.NaN.f32 {d}, {a}, {b};" % op, t, (t, t), lambda a, b, op=op: f_minmax(a, b, 32, op, True))
                    for op in ("min", "max")]
            ins += [("%s.ftz.f32 {d}, {a}, {b};" % op, t, (t, t),
                     lambda a, b, op=op: f_minmax(flushed(a, 32), flushed(b, 32), 32, op, False)) for op in ("min", "max")]
        table("float_minmax_%d" % w, two, ins)
        sign = 1 << (w - 1)
        nan = lambda a, r, w=w: "nan" if Float(a, w).kind == "nan" else r
        unary = [("abs.%s {d}, {a};" % t, t, (t,), lambda a, s=sign, nan=nan: nan(a, a & ~s)),
                 ("neg.%s {d}, {a};" % t, t, (t,), lambda a, s=sign, nan=nan: nan(a, a ^ s))]
        if w == 32:
            unary += [("abs.ftz.f32 {d}, {a};", t, (t,), lambda a, nan=nan: nan(a, flushed(a, 32) & ~(1 << 31))),
                      ("neg.ftz.f32 {d}, {a};", t, (t,), lambda a, nan=nan: nan(a, flushed(a, 32) ^ (1 << 31))),
                      ("mov.f32 {d}, {a};", t, (t,), lambda a: a)]
        for prop, test in (("finite", lambda x: x.kind in ("zero", "num")), ("infinite", lambda x: x.kind == "inf"),
                           ("number", lambda x: x.kind != "nan"), ("notanumber", lambda x: x.kind == "nan"),
                           ("normal", lambda x: x.kind == "num" and not x.sub), ("subnormal", lambda x: x.sub)):
            unary.append(("testp.%s.%s {d}, {a};" % (prop, t), "pred", (t,), lambda a, w=w, q=test: int(q(Float(a, w)))))
        table("float_unary_%d" % w, [(x,) for x in floats(w)], unary)
        table("float_copysign_%d" % w, two[::4], [("copysign.%s {d}, {a}, {b};" % t, t, (t, t),
                                                   lambda a, b, s=sign: a & s | b & ~s)])
    rng = random.Random(5)
    two = list(itertools.product(floats(32), repeat=2))[::3]
    three = [tuple(random_float(rng, 32) for _ in range(3)) for _ in range(200)]
    for ftz, sat in ((1, 0), (0, 1), (1, 1)):
        suffix = (".ftz" if ftz else "") + (".sat" if sat else "")
        table("float_f32" + suffix.replace(".", "_"), two, [
            ("%s.rn%s.f32 {d}, {a}, {b};" % (op, suffix), "f32", ("f32",) * 2, with_modifiers(f, 32, "rn", ftz, sat))
            for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul))])
        table("float_f32_fma" + suffix.replace(".", "_"), three, [
            ("fma.%s%s.f32 {d}, {a}, {b}, {c};" % (m, suffix), "f32", ("f32",) * 3,
             with_modifiers(f_fma, 32, m, ftz, sat)) for m in ("rn", "rz")])
    # Halves.
    rng = random.Random(16)
    two = list(itertools.product(floats(16), repeat=2))[::3] + [(rng.getrandbits(16), rng.getrandbits(16))
                                                                for _ in range(200)]
    h = ("f16", "f16")
    table("float_f16", two, [
        ("add.rn.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_add(a, b, 16, "rn")),
        ("sub.rn.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_sub(a, b, 16, "rn")),
        ("mul.rn.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_mul(a, b, 16, "rn")),
        ("fma.rn.f16 {d}, {a}, {b}, {a};", "f16", h, lambda a, b: f_fma(a, b, a, 16, "rn")),
        ("min.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_minmax(a, b, 16, "min", False)),
        ("max.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_minmax(a, b, 16, "max", False)),
        ("max.NaN.f16 {d}, {a}, {b};", "f16", h, lambda a, b: f_minmax(a, b, 16, "max", True)),
        ("neg.f16 {d}, {a};", "f16", h, lambda a, b: "nan" if Float(a, 16).kind == "nan" else a ^ 0x8000),
        ("abs.f16 {d}, {a};", "f16", h, lambda a, b: "nan" if Float(a, 16).kind == "nan" else a & 0x7FFF)])
    packed = [(a | c << 16, b | d << 16) for (a, b), (c, d) in zip(two[::2], two[1::2])
              if all(Float(x, 16).kind != "nan" for x in (a, b, c, d))]
    finite = [(x, y) for x, y in packed if "nan" not in [f(x >> k & 0xFFFF, y >> k & 0xFFFF, 16, "rn")
                                                        for k in (0, 16) for f in (f_add, f_sub, f_mul)]]
    each = lambda f: lambda a, b: f(a & 0xFFFF, b & 0xFFFF, 16, "rn") | f(a >> 16, b >> 16, 16, "rn") << 16
    table("float_f16x2", finite, [("%s.rn.f16x2 {d}, {a}, {b};" % op, "f16x2", ("f16x2",) * 2, each(f))
                                  for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul))])


# ---------------------------------------------------------------- conversions

def float_to_int(bits, w, t, mode):
    x = Float(bits, w)
    if x.kind == "nan":
        return 0
    if x.kind == "inf":
        return clamp((-1 if x.sign else 1) << 200, t)
    return clamp(round_integer(x.x, mode), t)


def float_to_float(bits, w, to, mode, ftz=False, sat=False):
    if ftz and w == 32:
        bits = flushed(bits, 32)
    x = Float(bits, w)
    result = ("nan" if x.kind == "nan" else infinity(x.sign, to) if x.kind == "inf" else encode(x.x, to, mode, x.sign))
    if ftz and to == 32 and result != "nan":
        result = flushed(result, to)
    return saturated(result, to) if sat else result


def conversions():
    rng = random.Random(77)
    for w in (16, 32, 64):
        t = "f%d" % w
        mags = [Fraction(x) for x in (0.5, 1.5, 2.5, 0.25, 0.75, 127, 127.5, 128, 255, 255.5, 256, 32767, 32767.5, 32768,
                                      65504)]
        if w > 16:
            mags += [Fraction(2) ** k + d for k in (31, 32, 63, 64) for d in (-1, -Fraction(1, 2), 0, Fraction(1, 2), 1)]
        values = floats(w) + [encode(s * m, w, "rn") for m in mags for s in (1, -1)]
        values += [random_float(rng, w) for _ in range(40)]
        values = [v for v in values if w == 64 or True]
        ins = []
        for to in ("u16", "s16", "u32", "s32", "u64", "s64"):
            for mode in ("rn", "rz", "rm", "rp"):
                # NaN becomes zero for 32 bits and less; hardware differs in the documents for 64, left out below.
                ins.append(("cvt.%si.%s.%s {d}, {a};" % (mode, to, t), to, (t,),
                            lambda a, w=w, to=to, mode=mode: float_to_int(a, w, to, mode)))
        clean = [v for v in values if Float(v, w).kind != "nan"]
        table("cvt_%s_to_int" % t, [(v,) for v in clean], ins)
        # A NaN is zero in the targets of up to 32 bits of f32 and f16.
        if w < 64:
            nans = [v for v in values if Float(v, w).kind == "nan"]
            table("cvt_%s_nan_to_int" % t, [(v,) for v in nans], [
                ("cvt.rzi.%s.%s {d}, {a};" % (to, t), to, (t,), lambda a: 0) for to in ("u16", "s16", "u32", "s32")])
        modes = [("%si" % m, m) for m in ("rn", "rz", "rm", "rp")]

        def integral(a, w, mode):
            x = Float(a, w)
            if x.kind != "num":
                return "nan" if x.kind == "nan" else a
            return encode(Fraction(round_integer(x.x, mode)), w, "rn", x.sign)
        table("cvt_%s_integral" % t, [(v,) for v in values], [
            ("cvt.%s.%s.%s {d}, {a};" % (m, t, t), t, (t,), lambda a, w=w, mode=mode: integral(a, w, mode))
            for m, mode in modes])
    for source in ("u16", "s16", "u32", "s32", "u64", "s64"):
        w = WIDTH[source]
        values = interesting(w) + [rng.getrandbits(rng.randint(1, w)) for _ in range(40)]
        if w > 16:
            values += [0x1000001, 0x1000003, 0x1FFFFFF, 65504, 65519, 65520, 65535]
        if w == 64:
            values += [(1 << 53) + 1, (1 << 53) + 3, (1 << 63) + 1025, (1 << 40) + (1 << 16), (1 << 40) + (1 << 16) + 1,
                       MASK[64] - 1023]
        table("cvt_%s_to_float" % source, [(v,) for v in values], [
            ("cvt.%s.f%d.%s {d}, {a};" % (mode, to, source), "f%d" % to, (source,),
             lambda a, source=source, to=to, mode=mode: encode(Fraction(val(a, source)), to, mode))
            for to in (16, 32, 64) for mode in ("rn", "rz", "rm", "rp")])
        ints = ("u16", "s16", "u32", "s32", "u64", "s64")
        ins = [("cvt.%s.%s {d}, {a};" % (to, source), to, (source,), lambda a, s=source: val(a, s))
               for to in ints if to != source]
        ins += [("cvt.sat.%s.%s {d}, {a};" % (to, source), to, (source,), lambda a, s=source, to=to: clamp(val(a, s), to))
                for to in ints if to != source]
        # Into and out of 8 bits, in 32-bit registers.
        if w == 32:
            for to in ("u8", "s8"):
                ins.append(("cvt.%s.%s {d}, {a};" % (to, source), "u32", (source,), lambda a, to=to: val(a, to)))
                ins.append(("cvt.sat.%s.%s {d}, {a};" % (to, source), "u32", (source,),
                            lambda a, to=to, s=source: clamp(val(a, s), to)))
                ins.append(("cvt.%s.%s {d}, {a};" % (source, to), "u32", (to,), lambda a, to=to: val(a, to)))
        table("cvt_%s_to_int" % source, [(v,) for v in values], ins)
    f32s = floats(32) + [random_float(rng, 32) for _ in range(60)]
    f32s += [encode(Fraction(x), 32, "rn") for x in (65504, 65519, 65520, 65536, 2.0**-14, 2.0**-24, 2.0**-25, 2.0**-26,
                                                     3 * 2.0**-26, 1 + 2.0**-11, 1 + 3 * 2.0**-11)]
    table("cvt_f32_to_f16", [(v,) for v in f32s], [
        ("cvt.%s%s.f16.f32 {d}, {a};" % (m, s), "f16", ("f32",),
         lambda a, m=m, s=s: float_to_float(a, 32, 16, m, "ftz" in s, "sat" in s))
        for m, s in (("rn", ""), ("rz", ""), ("rn", ".ftz"), ("rn", ".sat"))])
    table("cvt_f32_to_f64", [(v,) for v in f32s], [
        ("cvt.f64.f32 {d}, {a};", "f64", ("f32",), lambda a: float_to_float(a, 32, 64, "rn")),
        ("cvt.ftz.f64.f32 {d}, {a};", "f64", ("f32",), lambda a: float_to_float(a, 32, 64, "rn", True)),
        ("cvt.sat.f32.f32 {d}, {a};", "f32", ("f32",), lambda a: float_to_float(a, 32, 32, "rn", False, True)),
        ("cvt.ftz.f32.f32 {d}, {a};", "f32", ("f32",), lambda a: float_to_float(a, 32, 32, "rn", True)),
        ("cvt.ftz.rzi.s32.f32 {d}, {a};", "s32", ("f32",), lambda a: float_to_int(flushed(a, 32), 32, "s32", "rz")),
        ("cvt.rpi.ftz.s32.f32 {d}, {a};", "s32", ("f32",), lambda a: float_to_int(flushed(a, 32), 32, "s32", "rp"))])
    f64s = floats(64) + [random_float(rng, 64) for _ in range(60)]
    f64s += [encode(Fraction(x), 64, "rn") for x in (65519.9999, 2.0**-149, 2.0**-150, 1.5 * 2.0**-149, 2.0**128,
                                                     2.0**128 - 2.0**103, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-24 + 2.0**-50)]
    table("cvt_f64_to_float", [(v,) for v in f64s], [
        ("cvt.%s.f32.f64 {d}, {a};" % m, "f32", ("f64",), lambda a, m=m: float_to_float(a, 64, 32, m))
        for m in ("rn", "rz", "rm", "rp")] + [
        ("cvt.rn.sat.f32.f64 {d}, {a};", "f32", ("f64",), lambda a: float_to_float(a, 64, 32, "rn", False, True)),
        ("cvt.rn.f16.f64 {d}, {a};", "f16", ("f64",), lambda a: float_to_float(a, 64, 16, "rn"))])
    table("cvt_f16_to_float", [(v,) for v in floats(16) + [rng.getrandbits(16) for _ in range(100)]], [
        ("cvt.f32.f16 {d}, {a};", "f32", ("f16",), lambda a: float_to_float(a, 16, 32, "rn")),
        ("cvt.f64.f16 {d}, {a};", "f64", ("f16",), lambda a: float_to_float(a, 16, 64, "rn"))])
    pair = [(a, b) for a, b in zip(f32s, reversed(f32s)) if "nan" not in (Float(a, 32).kind, Float(b, 32).kind)]
    table("cvt_f16x2", pair, [("cvt.rn.f16x2.f32 {d}, {a}, {b};", "f16x2", ("f32", "f32"), lambda a, b:
                               float_to_float(a, 32, 16, "rn") << 16 | float_to_float(b, 32, 16, "rn"))])


# ---------------------------------------------------------------- comparisons

def compare(op, a, b, t):
    if t[0] == "f":
        x, y = Float(a, WIDTH[t]), Float(b, WIDTH[t])
        unordered = "nan" in (x.kind, y.kind)
        if op in ("num", "nan"):
            return unordered == (op == "nan")
        if unordered:
            return op.endswith("u")
        key = lambda v: (-1 if v.sign else 1) * (Fraction(2) ** 5000) if v.kind == "inf" else v.x
        a, b, op = key(x), key(y), op[:2]
    else:
        a, b = val(a, t), val(b, t)
        op = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(op, op)
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[op]


def comparisons():
    ordered = ["eq", "ne", "lt", "le", "gt", "ge"]
    for t in ("u16", "s16", "u32", "s32", "u64", "s64", "f16", "f32", "f64"):
        w = WIDTH[t]
        values = floats(w) if t[0] == "f" else interesting(w)
        operations = ordered + ([x + "u" for x in ordered] + ["num", "nan"] if t[0] == "f" else
                                ["lo", "ls", "hi", "hs"] if t[0] == "u" else [])
        table("setp_" + t, list(itertools.product(values, repeat=2)), [
            ("setp.%s.%s {d}, {a}, {b};" % (op, t), "pred", (t, t), lambda a, b, op=op, t=t: int(compare(op, a, b, t)))
            for op in operations])
        if w >= 32:
            one = 0x3F800000
            table("set_" + t, list(itertools.product(values, repeat=2))[::3], [
                ("set.%s.u32.%s {d}, {a}, {b};" % (op, t), "u32", (t, t),
                 lambda a, b, op=op, t=t: MASK[32] * compare(op, a, b, t)) for op in ("eq", "lt", "ge")] + [
                ("set.%s.f32.%s {d}, {a}, {b};" % (op, t), "f32", (t, t),
                 lambda a, b, op=op, t=t: one * compare(op, a, b, t)) for op in ("ne", "gt")])
    combine = {"and": lambda x, y: x & y, "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y}
    nan = 0x7FC00000
    tuples = [(a, b, c) for a in (0x3F800000, 0x40000000, nan) for b in (0x3F800000, 0x40000000, nan) for c in (0, 1)]
    ins = []
    for how, f in combine.items():
        lt = lambda a, b: int(compare("lt", a, b, "f32"))
        types = ("f32", "f32", "pred")
        ins.append(("setp.lt.%s.f32 {d}|%%p5, {a}, {b}, {c};" % how, "pred", types,
                    lambda a, b, c, f=f, lt=lt: f(lt(a, b), c)))
        ins.append(("setp.lt.%s.f32 %%p5|{d}, {a}, {b}, {c};" % how, "pred", types,
                    lambda a, b, c, f=f, lt=lt: f(1 - lt(a, b), c)))
        ins.append(("setp.lt.%s.f32 {d}, {a}, {b}, !{c};" % how, "pred", types,
                    lambda a, b, c, f=f, lt=lt: f(lt(a, b), 1 - c)))
        ins.append(("{{ setp.lt.%s.f32 _|{d}, {a}, {b}, {c}; }}" % how, "pred", types,
                    lambda a, b, c, f=f, lt=lt: f(1 - lt(a, b), c)))
        ins.append(("set.lt.%s.u32.f32 {d}, {a}, {b}, {c};" % how, "u32", types,
                    lambda a, b, c, f=f, lt=lt: MASK[32] * f(lt(a, b), c)))
    sub = lambda x: flushed(x, 32)
    table("setp_combined", tuples, ins)
    table("setp_ftz", list(itertools.product(floats(32), repeat=2))[::2], [
        ("setp.%s.ftz.f32 {d}, {a}, {b};" % op, "pred", ("f32",) * 2,
         lambda a, b, op=op: int(compare(op, sub(a), sub(b), "f32"))) for op in ordered])
    for t in ("b16", "b32", "b64", "f32", "f64"):
        w = WIDTH[t]
        tuples = [(a, b, c) for a, b in pairs(w)[:20] for c in (0, 1)]
        ins = [("selp.%s {d}, {a}, {b}, {c};" % t, t, (t, t, "pred"), lambda a, b, c: a if c else b)]
        table("selp_" + t, tuples, ins)
        tuples = [(a, b, c) for a, b in pairs(w)[:8] for c in (0, 1, 0x80000000, 0x7FFFFFFF, 0xFFFFFFFF, 0xBF800000,
                                                              0x3F800000, nan, 0xFFC00000, 0x80000001)]

        def by_float(a, b, c):
            x = Float(c, 32)
            return a if x.kind == "zero" or (x.kind != "nan" and not x.sign) else b
        table("slct_" + t, tuples, [
            ("slct.%s.s32 {d}, {a}, {b}, {c};" % t, t, (t, t, "s32"), lambda a, b, c: a if signed(c, 32) >= 0 else b),
            ("slct.%s.f32 {d}, {a}, {b}, {c};" % t, t, (t, t, "f32"), by_float),
            ("slct.ftz.%s.f32 {d}, {a}, {b}, {c};" % t, t, (t, t, "f32"), lambda a, b, c: by_float(a, b, sub(c)))])
    table("predicates", list(itertools.product((0, 1), repeat=3)), [
        ("and.pred {d}, {a}, {b};", "pred", ("pred",) * 3, lambda a, b, c: a & b),
        ("or.pred {d}, {a}, {b};", "pred", ("pred",) * 3, lambda a, b, c: a | b),
        ("xor.pred {d}, {a}, {b};", "pred", ("pred",) * 3, lambda a, b, c: a ^ b),
        ("not.pred {d}, {a};", "pred", ("pred",) * 3, lambda a, b, c: 1 - a),
        ("mov.pred {d}, {b};", "pred", ("pred",) * 3, lambda a, b, c: b),
        ("{{ mov.pred {d}, {c}; @{a} mov.pred {d}, {b}; }}", "pred", ("pred",) * 3, lambda a, b, c: b if a else c),
        ("{{ mov.pred {d}, {c}; @!{a} mov.pred {d}, {b}; }}", "pred", ("pred",) * 3, lambda a, b, c: c if a else b)])


def packing():
    tuples = pairs(32)[:60]
    table("pack", tuples, [
        ("mov.b64 {d}, {{{a}, {b}}};", "b64", ("b32", "b32"), lambda a, b: a | b << 32),
        ("{{ mov.b64 %rd10, {{{a}, {b}}}; mov.b64 {{%r15, {d}}}, %rd10; }}", "b32", ("b32", "b32"), lambda a, b: b),
        ("{{ mov.b64 %rd10, {{{a}, {b}}}; mov.b64 {{{d}, _}}, %rd10; }}", "b32", ("b32", "b32"), lambda a, b: a),
        ("{{ mov.b32 {{%h1, %h2}}, {a}; mov.b32 {d}, {{%h2, %h1}}; }}", "b32", ("b32", "b32"),
         lambda a, b: a >> 16 | a << 16),
        ("{{ mov.b32 {{%h1, %h2}}, {a}; mov.b32 {{%h3, %h4}}, {b}; mov.b64 {d}, {{%h4, %h3, %h2, %h1}}; }}", "b64",
         ("b32", "b32"), lambda a, b: b >> 16 | (b & 0xFFFF) << 16 | (a >> 16) << 32 | (a & 0xFFFF) << 48),
        ("mov.b32 {d}, {a};", "f32", ("b32", "b32"), lambda a, b: a)])


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (integer_arithmetic, carries, bits, float_arithmetic, conversions, comparisons, packing):
        make()
    expected = {name + ".ptx" for name in FILES}
    for path in folder.glob("*.ptx"):
        if path.name not in expected:
            path.unlink()
    for name, text in FILES.items():
        (folder / (name + ".ptx")).write_text(text)


if __name__ == "__main__":
    main()
