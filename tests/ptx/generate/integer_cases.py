"""Integer arithmetic, carries, bit operations, dot products, moves between registers and vectors."""
import itertools
import random

from generate.case_writer import MASK, WIDTH, signed, table, val
from generate.integer_values import clamp, interesting, pairs, triples, truncated_div


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
        # A borrow is a carry of 0, as compilers use it.
        ("{{ sub.cc.u32 %r13, {a}, {b}; addc.u32 {d}, {c}, 0; }}", "u32", ("u32",) * 3, lambda a, b, c: c + (a >= b)),
        ("{{ add.cc.u32 %r13, {a}, {b}; subc.u32 {d}, {c}, 0; }}", "u32", ("u32",) * 3, lambda a, b, c: c - (a + b <= m)),
        ("{{ sub.cc.u32 %r13, {a}, {b}; madc.lo.u32 {d}, {a}, {b}, {c}; }}", "u32", ("u32",) * 3,
         lambda a, b, c: a * b + c + (a >= b)),
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


def signed_carries():
    """The carry is that of the bits, whatever the type says."""
    for w in (32, 64):
        mask = MASK[w]
        ins = []
        for s in "us":
            t = "%s%d" % (s, w)
            x = "%r13" if w == 32 else "%rd13"
            v = lambda a, t=t: val(a, t)
            for op, f in (("add", lambda a, b, c: a + b), ("sub", lambda a, b, c: a - b)):
                # The second instruction takes the carry, and the third what that one leaves.
                ins.append(("{{ %s.cc.%s %s, {a}, {b}; %sc.cc.%s %s, {b}, {c}; %sc.%s {d}, {c}, {a}; }}" % (op, t, x, op, t, x, op, t),
                            t, (t,) * 3, lambda a, b, c, f=f, w=w: f(a | b << w | c << 2 * w, b | c << w | a << 2 * w, 0) >> 2 * w))
            low = lambda a, b, w=w: a * b & MASK[w]
            high = lambda a, b, v=v, w=w: v(a) * v(b) >> w & MASK[w]
            for part, g in (("lo", low), ("hi", high)):
                # mad sets the carry; madc takes it and gives on its own.
                ins.append(("{{ mad.%s.cc.%s %s, {a}, {b}, {c}; addc.%s {d}, 0, 0; }}" % (part, t, x, t), t, (t,) * 3,
                            lambda a, b, c, g=g, w=w: g(a, b) + c >> w))
                ins.append(("{{ add.cc.%s %s, {a}, {b}; madc.%s.%s {d}, {a}, {b}, {c}; }}" % (t, x, part, t), t, (t,) * 3,
                            lambda a, b, c, g=g, w=w: g(a, b) + c + (a + b >> w)))
                ins.append(("{{ add.cc.%s %s, {a}, {b}; madc.%s.cc.%s %s, {a}, {b}, {c}; addc.%s {d}, 0, 0; }}" % (t, x, part, t, x, t), t,
                            (t,) * 3, lambda a, b, c, g=g, w=w: g(a, b) + c + (a + b >> w) >> w))
        table("int_carry_signs_%d" % w, triples(w, 120, 7), ins)


def remaining():
    rng = random.Random(77)
    t24 = lambda x: signed(x & MASK[24], 24)
    u24 = lambda x: x & MASK[24]
    table("int_mad24", triples(32, 100, 3), [
        ("mad24.lo.u32 {d}, {a}, {b}, {c};", "u32", ("u32",) * 3, lambda a, b, c: u24(a) * u24(b) + c),
        ("mad24.hi.s32 {d}, {a}, {b}, {c};", "s32", ("s32",) * 3, lambda a, b, c: (t24(a) * t24(b) >> 16) + c),
        ("mad24.hi.sat.s32 {d}, {a}, {b}, {c};", "s32", ("s32",) * 3,
         lambda a, b, c: clamp((t24(a) * t24(b) >> 16) + signed(c, 32), "s32"))])
    amounts = [0, 1, 5, 16, 31, 32, 33, 63, 64, 200, 0xFFFFFFFF]

    def mask(a, b, mode):
        if mode == "wrap":
            a, b = a & 31, b & 31
        return ((1 << min(b, 32)) - 1) << min(a, 32) & MASK[32]

    def extend(x, n, t, mode):
        n = n & 31 if mode == "wrap" else min(n, 32)
        if n == 0:
            return 0
        low = x & (1 << n) - 1
        return signed_of(low, n) if t == "s32" else low
    table("bits_mask", [(a, b) for a in amounts for b in amounts], [
        ("bmsk.%s.b32 {d}, {a}, {b};" % m, "b32", ("u32", "u32"), lambda a, b, m=m: mask(a, b, m)) for m in ("clamp", "wrap")])
    table("bits_extend", [(rng.getrandbits(32), n) for n in amounts + list(range(2, 31, 3)) for _ in range(4)], [
        ("szext.%s.%s {d}, {a}, {b};" % (m, t), t, ("u32", "u32"), lambda a, n, t=t, m=m: extend(a, n, t, m))
        for m in ("clamp", "wrap") for t in ("u32", "s32")])
    rows = [(a, b, c) for a in (0, MASK[32], 0x0F0F0F0F) for b in (0, 0x33333333) for c in (0, 1)]
    ins = []
    for op, f in (("or", lambda x, y: x | y), ("and", lambda x, y: x & y)):
        for lut in (0x00, 0x80, 0xFE):
            value = lambda a, b, lut=lut: lop3(a, b, a, lut)
            ins.append(("lop3.%s.b32 {d}|%%p5, {a}, {b}, {a}, 0x%x, {c};" % (op, lut), "b32", ("b32", "b32", "pred"),
                        lambda a, b, c, value=value: value(a, b)))
            ins.append(("lop3.%s.b32 %%r15|{d}, {a}, {b}, {a}, 0x%x, !{c};" % (op, lut), "pred", ("b32", "b32", "pred"),
                        lambda a, b, c, value=value, f=f: f(int(value(a, b) != 0), 1 - c)))
            ins.append(("{{ lop3.%s.b32 _|{d}, {a}, {b}, {a}, 0x%x, {c}; }}" % (op, lut), "pred", ("b32", "b32", "pred"),
                        lambda a, b, c, value=value, f=f: f(int(value(a, b) != 0), c)))
    table("bits_lop3_predicate", rows, ins, ("8.2", "sm_80"))


def signed_of(x, bits):
    return x - (1 << bits) if x >> (bits - 1) else x


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
