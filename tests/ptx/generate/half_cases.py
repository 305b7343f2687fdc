"""16-bit floats, alone and in pairs; sums of several widths; pairs of f32 and of integers."""
import itertools
import random
from decimal import Decimal, localcontext
from fractions import Fraction

from generate.case_writer import MASK, SM_90, SM_100, signed, table
from generate.compare_cases import compare_floats
from generate.float_values import *

FORMATS = {"f16": 16, "bf16": BF16}


def operands_two(w, seed, count=150):
    rng = random.Random(seed)
    return list(itertools.product(floats(w), repeat=2))[::3] + [(random_float(rng, w), random_float(rng, w))
                                                                for _ in range(count)]


def operands_three(w, seed, count=350):
    rng = random.Random(seed)
    return [tuple(random_float(rng, w) for _ in range(3)) for _ in range(count)] + near_ties(w, rng)


def near_ties(w, rng):
    """a * b + c where c decides by a hair how a product halfway between two values is rounded."""
    one = encode(Fraction(1), w, "rn")
    ebits, mbits = shape_of(w)
    result = []
    for _ in range(60):
        a = one + rng.getrandbits(mbits)
        b = one + (1 << rng.randrange(mbits))
        c = rng.choice([1, (1 << mbits) // 2, 1 << mbits, 1 << (w - 1) | 1, 1 << (w - 1) | 1 << mbits, 0])
        result.append((a, b, c))
    return result


def limited(result, w, how):
    """.relu: negative becomes zero, any NaN the canonical one."""
    if how == "relu":
        return 0x7FFF if result == "nan" else 0 if Float(result, w).sign else result
    return result


def pair_of(f, first, count):
    """The function of packed operands that is f on each half; pads with what `first` chooses."""
    def run(*packed):
        high = f(*[x >> 16 for x in packed[:count]])
        low = f(*[x & 0xFFFF for x in packed[:count]])
        return (high, low)
    return run


def packed_operands(tuples):
    """Neighbours become the halves of packed operands."""
    return [tuple(a | b << 16 for a, b in zip(x, y)) for x, y in zip(tuples, tuples[1:])]


def both_widths(name, tuples, w, t, instructions, target):
    """Each (opcode, arity, function of bits) on t and on pairs of it."""
    letters = ["{a}", "{b}", "{c}"]
    for suffix, typ, rows in (("", t, tuples), ("x2", t + "x2", packed_operands(tuples))):
        ins = []
        for opcode, arity, f in instructions:
            text = "%s.%s {d}, %s;" % (opcode, typ, ", ".join(letters[:arity]))
            run = (lambda *x, f=f, n=arity: f(*x[:n])) if suffix == "" else pair_of(f, 0, arity)
            ins.append((text, typ, (typ,) * len(tuples[0]), run))
        table(name + suffix, rows, ins, target)


def xorsign(f, w):
    top = 1 << (w - 1)

    def run(a, b):
        result = f(a & ~top, b & ~top)
        if result == "nan" or Float(result, w).kind == "nan":
            return result
        return result & ~top | (a ^ b) & top
    return run


def half_arithmetic():
    for t, w in FORMATS.items():
        two, three = operands_two(w, 16), operands_three(w, 17)
        half = t == "f16"
        target = SM_90
        modifiers = [(0, ""), (1, ""), (0, ".sat"), (1, ".sat")] if half else [(0, "")]
        ins, fmas = [], []
        for ftz, limit in modifiers:
            text = (".ftz" if ftz else "") + limit
            for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul)):
                for rounding in ("", ".rn"):
                    ins.append((op + rounding + text, 2, with_modifiers(f, w, "rn", ftz, limit == ".sat")))
            fmas.append(("fma.rn" + text, 3, with_modifiers(f_fma, w, "rn", ftz, limit == ".sat")))
        for ftz in (0, 1) if half else (0,):
            g = with_modifiers(f_fma, w, "rn", ftz, False)
            fmas.append(("fma.rn%s.relu" % (".ftz" if ftz else ""), 3, lambda a, b, c, g=g, w=w: limited(g(a, b, c), w, "relu")))
        both_widths("half_%s_binary_" % t, two, w, t, ins, target)
        both_widths("half_%s_fma_" % t, three, w, t, fmas, target)
        ins = []
        for op, nan, xor, ftz in itertools.product(("min", "max"), (0, 1), (0, 1), (0, 1) if half else (0,)):
            f = lambda a, b, w=w, op=op, nan=nan: f_minmax(a, b, w, op, nan)
            if xor:
                f = xorsign(f, w)
            if ftz:
                f = lambda a, b, f=f, w=w: f(flushed(a, w), flushed(b, w))
            ins.append((op + (".ftz" if ftz else "") + (".NaN" if nan else "") + (".xorsign.abs" if xor else ""), 2, f))
        both_widths("half_%s_minmax_" % t, two, w, t, ins, SM_90)
        any_nan = lambda a, r, w=w: "nan" if Float(a, w).kind == "nan" else r
        ins = [("neg", 1, lambda a, n=any_nan: n(a, a ^ 0x8000)), ("abs", 1, lambda a, n=any_nan: n(a, a & 0x7FFF))]
        if half:
            ins += [("neg.ftz", 1, lambda a, n=any_nan: n(a, flushed(a, 16) ^ 0x8000)),
                    ("abs.ftz", 1, lambda a, n=any_nan: n(a, flushed(a, 16) & 0x7FFF))]
        both_widths("half_%s_unary_" % t, [(x,) for x in floats(w)], w, t, ins, target)


# The approximate functions: the engine rounds them correctly, which is within what PTX asks for.

def exact_ex2(bits, w, ftz=False):
    x = Float(flushed(bits, w) if ftz else bits, w)
    if x.kind == "nan":
        return "nan"
    if x.kind == "inf":
        return 0 if x.sign else infinity(0, w)
    if abs(x.x) > 400:
        return 0 if x.sign else infinity(0, w)
    with localcontext() as context:
        context.prec = 60
        value = Fraction(Decimal(2) ** (Decimal(x.x.numerator) / Decimal(x.x.denominator)))
    result = encode(value, w, "rn")
    return flushed(result, w) if ftz else result


def exact_tanh(bits, w):
    x = Float(bits, w)
    if x.kind == "nan":
        return "nan"
    if x.kind == "zero":
        return bits
    if x.kind == "inf" or abs(x.x) > 40:
        return encode(Fraction(-1 if x.sign else 1), w, "rn")
    if abs(x.x) < Fraction(1, 1 << 60):
        return bits
    with localcontext() as context:
        context.prec = 80
        e = (Decimal(2) * Decimal(x.x.numerator) / Decimal(x.x.denominator)).exp()
        value = Fraction((e - 1) / (e + 1))
    return encode(value, w, "rn", x.sign)


def half_functions():
    for t, w in FORMATS.items():
        rng = random.Random(3)
        tuples = [(x,) for x in floats(w)] + [(random_float(rng, w),) for _ in range(120)]
        both_widths("half_%s_functions_" % t, tuples, w, t,
                    [("ex2.approx" if t == "f16" else "ex2.approx.ftz", 1,
                      lambda a, w=w, t=t: exact_ex2(a, w, t == "bf16")),
                     ("tanh.approx", 1, lambda a, w=w: exact_tanh(a, w))], SM_90)


def half_comparisons():
    operations = [x + u for x in ("eq", "ne", "lt", "le", "gt", "ge") for u in ("", "u")] + ["num", "nan"]
    for t, w in FORMATS.items():
        two = list(itertools.product(floats(w), repeat=2))
        one = encode(Fraction(1), w, "rn")
        holds = lambda op, a, b, w=w: int(compare_floats(op, a, b, w))
        target = SM_90
        # setp.f16 is with the other types.
        ins = [("setp.%s.%s {d}, {a}, {b};" % (op, t), "pred", (t, t), lambda a, b, op=op, h=holds: h(op, a, b))
               for op in operations]
        if t == "f16":
            ins += [("setp.%s.ftz.f16 {d}, {a}, {b};" % op, "pred", (t, t),
                     lambda a, b, op=op, h=holds: h(op, flushed(a, 16), flushed(b, 16))) for op in ("eq", "lt", "geu")]
        table("half_%s_setp" % t, two[::2], ins, target)
        ins = [("set.%s.%s.%s {d}, {a}, {b};" % (op, d, t), d, (t, t),
                lambda a, b, op=op, h=holds, true=true: true * h(op, a, b))
               for op in ("eq", "ltu", "ge") for d, true in ((t, one), ("u16", 0xFFFF), ("s16", 0xFFFF), ("u32", MASK[32]),
                                                           ("s32", MASK[32]))]
        table("half_%s_set" % t, two[::3], ins, target)
        # Results of 16 bits from comparisons of other types.
        f32s = list(itertools.product(floats(32), repeat=2))[::3]
        table("half_%s_set_f32" % t, f32s, [
            ("set.%s.%s.f32 {d}, {a}, {b};" % (op, t), t, ("f32", "f32"),
             lambda a, b, op=op, one=one: one * int(compare_floats(op, a, b, 32))) for op in ("ne", "le")] + [
            ("set.%s.%s.s32 {d}, {a}, {b};" % (op, t), t, ("s32", "s32"),
             lambda a, b, f=f, one=one: one * int(f(signed(a, 32), signed(b, 32))))
            for op, f in (("lt", lambda a, b: a < b), ("eq", lambda a, b: a == b))], target)
        packed = packed_operands(two[::2])
        x2 = t + "x2"
        halves = lambda op, a, b, h=holds: (h(op, a >> 16, b >> 16), h(op, a & 0xFFFF, b & 0xFFFF))
        ins = []
        for op in operations:
            ins.append(("setp.%s.%s {d}|%%p5, {a}, {b};" % (op, x2), "pred", (x2, x2), lambda a, b, op=op, h=halves: h(op, a, b)[1]))
            ins.append(("setp.%s.%s %%p5|{d}, {a}, {b};" % (op, x2), "pred", (x2, x2), lambda a, b, op=op, h=halves: h(op, a, b)[0]))
            for d, true in ((x2, one), ("u32", 0xFFFF), ("s32", 0xFFFF)):
                ins.append(("set.%s.%s.%s {d}, {a}, {b};" % (op, d, x2), "u32", (x2, x2),
                            lambda a, b, op=op, h=halves, true=true: true * h(op, a, b)[0] << 16 | true * h(op, a, b)[1]))
        table("half_%s_compare_pairs" % t, packed[::3], ins, target)
        tuples = [(a, b, c) for a, b in packed[:60] for c in (0, 1)]
        ins = []
        for how, f in (("and", lambda x, y: x & y), ("or", lambda x, y: x | y), ("xor", lambda x, y: x ^ y)):
            ins.append(("setp.lt.%s.%s {d}|%%p5, {a}, {b}, {c};" % (how, x2), "pred", (x2, x2, "pred"),
                        lambda a, b, c, f=f, h=halves: f(h("lt", a, b)[1], c)))
            ins.append(("setp.lt.%s.%s %%p5|{d}, {a}, {b}, !{c};" % (how, x2), "pred", (x2, x2, "pred"),
                        lambda a, b, c, f=f, h=halves: f(h("lt", a, b)[0], 1 - c)))
        table("half_%s_compare_combined" % t, tuples, ins, target)


def mixed_precision():
    """add, sub and fma of f32 with narrow operands: one rounding, in f32."""
    rng = random.Random(8)
    for t, w in FORMATS.items():
        widen = lambda bits, w=w: exactly(bits, w, 32)
        tuples = [(random_float(rng, w), random_float(rng, w), random_float(rng, 32)) for _ in range(300)]
        tuples += [(a, b, c) for a in floats(w)[::2] for b in floats(w)[::3] for c in floats(32)[::5]]
        ins = []
        for mode, sat in itertools.product(("rn", "rz", "rm", "rp"), (False, True)):
            s = ".sat" if sat else ""
            if mode == "rn":
                # Not to say how to round is to round to nearest.
                ins += [("%s%s.f32.%s {d}, {a}, {c};" % (op, s, t), "f32", (t, t, "f32"),
                         lambda a, b, c, g=with_modifiers(f, 32, mode, False, sat), widen=widen: g(widen(a), c))
                        for op, f in (("add", f_add), ("sub", f_sub))]
            for op, f in (("add", f_add), ("sub", f_sub)):
                g = with_modifiers(f, 32, mode, False, sat)
                ins.append(("%s.%s%s.f32.%s {d}, {a}, {c};" % (op, mode, s, t), "f32", (t, t, "f32"),
                            lambda a, b, c, g=g, widen=widen: g(widen(a), c)))
            g = with_modifiers(f_fma, 32, mode, False, sat)
            ins.append(("fma.%s%s.f32.%s {d}, {a}, {b}, {c};" % (mode, s, t), "f32", (t, t, "f32"),
                        lambda a, b, c, g=g, widen=widen: g(widen(a), widen(b), c)))
        table("mixed_" + t, tuples[:700], ins, SM_100)


def exactly(bits, w, to):
    """A float in a wider format."""
    x = Float(bits, w)
    if x.kind == "nan":
        return infinity(x.sign, to) | 1
    return infinity(x.sign, to) if x.kind == "inf" else encode(x.x, to, "rn", x.sign)


def float_pairs():
    """f32x2; NaN-free, so that 64 bits can be named."""
    rng = random.Random(4)
    clean = [x for x in floats(32) if Float(x, 32).kind == "num"]
    pick = lambda: rng.choice(clean) if rng.random() < 0.4 else random_float(rng, 32)
    rows = []
    while len(rows) < 200:
        row = tuple(pick() | pick() << 32 for _ in range(3))
        if all(Float(x >> k & MASK[32], 32).kind in ("num", "zero") for x in row for k in (0, 32)):
            rows.append(row)
    for mode in ("rn", "rz", "rm", "rp"):
        ins = []
        for ftz in (False, True):
            for op, f, n in (("add", f_add, 2), ("sub", f_sub, 2), ("mul", f_mul, 2), ("fma", f_fma, 3)):
                g = with_modifiers(f, 32, mode, ftz, False)
                for rounding in (".rn", "") if mode == "rn" and n == 2 else ("." + mode,):
                    ins.append(("%s%s%s.f32x2 {d}, %s;" % (op, rounding, ".ftz" if ftz else "", "{a}, {b}" if n == 2 else "{a}, {b}, {c}"),
                            "f32x2", ("f32x2",) * 3,
                            lambda *x, g=g, n=n: g(*[v & MASK[32] for v in x[:n]]) | g(*[v >> 32 for v in x[:n]]) << 32))
        table("float_pairs_" + mode, rows, ins, SM_100)
    two = list(itertools.product(floats(32), repeat=2))[::2]
    ins = []
    for op, nan, ftz in itertools.product(("min", "max"), (0, 1), (0, 1)):
        f = xorsign(lambda a, b, op=op, nan=nan: f_minmax(a, b, 32, op, nan), 32)
        ins.append(("%s%s%s.xorsign.abs.f32 {d}, {a}, {b};" % (op, ".ftz" if ftz else "", ".NaN" if nan else ""), "f32",
                    ("f32", "f32"), lambda a, b, f=f, ftz=ftz: f(*[flushed(x, 32) if ftz else x for x in (a, b)])))
    table("float_minmax_xorsign", two, ins, SM_90)
    three = [tuple(random_float(rng, 32) for _ in range(3)) for _ in range(400)]
    ins = []
    for op, nan, ftz, magnitude in itertools.product(("min", "max"), (0, 1), (0, 1), (0, 1)):
        prepare = lambda x, ftz=ftz, m=magnitude: (flushed(x, 32) if ftz else x) & (MASK[32] >> 1 if m else MASK[32])
        f = lambda a, b, c, op=op, nan=nan, p=prepare: f_minmax(f_minmax(p(a), p(b), 32, op, nan), p(c), 32, op, nan)
        ins.append(("%s%s%s%s.f32 {d}, {a}, {b}, {c};" % (op, ".ftz" if ftz else "", ".NaN" if nan else "",
                                                         ".abs" if magnitude else ""), "f32", ("f32",) * 3, f))
    table("float_minmax_three", three, ins, SM_100)


def integer_pairs():
    rng = random.Random(21)
    values = [0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x1234]
    rows = [(a | b << 16, c | d << 16) for a, b in itertools.product(values, repeat=2) for c, d in ((0, 0x8000), (0xFFFF, 1))]
    rows += [(rng.getrandbits(32), rng.getrandbits(32)) for _ in range(80)]
    ins = []
    for t, number in (("u16x2", lambda x: x), ("s16x2", lambda x: signed(x, 16))):
        for op, f in (("add", lambda x, y: x + y), ("min", min), ("max", max)):
            for relu in ("", ".relu") if t == "s16x2" and op != "add" else ("",):
                run = lambda a, b, f=f, v=number, relu=relu: max(f(v(a), v(b)), 0 if relu else -1 << 20) & 0xFFFF
                ins.append(("%s%s.%s {d}, {a}, {b};" % (op, relu, t), t, (t, t),
                            lambda a, b, run=run: run(a & 0xFFFF, b & 0xFFFF) | run(a >> 16, b >> 16) << 16))
    for op, f in (("min", min), ("max", max)):
        ins.append((op + ".relu.s32 {d}, {a}, {b};", "s32", ("s32", "s32"),
                    lambda a, b, f=f: max(0, f(signed(a, 32), signed(b, 32)))))
    table("integer_pairs", rows, ins, SM_90)


MAKERS = (half_arithmetic, half_functions, half_comparisons, mixed_precision, float_pairs, integer_pairs)
