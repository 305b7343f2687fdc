"""setp, set, selp, slct and operations on predicates."""
import itertools
from fractions import Fraction

from generate.case_writer import MASK, SM_90, WIDTH, signed, table, val
from generate.float_values import *
from generate.integer_values import interesting, pairs


def compare_floats(op, a, b, w):
    x, y = Float(a, w), Float(b, w)
    unordered = "nan" in (x.kind, y.kind)
    if op in ("num", "nan"):
        return unordered == (op == "nan")
    if unordered:
        return op.endswith("u")
    key = lambda v: (-1 if v.sign else 1) * (Fraction(2) ** 5000) if v.kind == "inf" else v.x
    return ordered(op[:2], key(x), key(y))


def compare(op, a, b, t):
    if t[0] == "f":
        return compare_floats(op, a, b, WIDTH[t])
    return ordered({"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}.get(op, op), val(a, t), val(b, t))


def ordered(op, a, b):
    return {"eq": a == b, "ne": a != b, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[op]


def every_set():
    """setp of bits, with predicates of all types, and set into all types."""
    logic = {"and": lambda x, y: x & y, "or": lambda x, y: x | y, "xor": lambda x, y: x ^ y}
    results = {"u32": MASK[32], "s32": MASK[32], "f32": 0x3F800000, "f16": 0x3C00, "bf16": 0x3F80}
    for t in ("b16", "b32", "b64", "u16", "u32", "u64", "s16", "s32", "s64", "f32", "f64", "f16", "bf16"):
        # Bits compare as unsigned numbers do.
        w = BF16 if t == "bf16" else WIDTH[t]
        values = floats(w)[::3] if "f" in t else interesting(w)
        holds = (lambda op, a, b, w=w: int(compare_floats(op, a, b, w))) if "f" in t else (
            lambda op, a, b, t=t.replace("b", "u"): int(compare(op, a, b, t)))
        rows = [(a, b, c) for a, b in itertools.product(values, repeat=2) for c in (0, 1)][:400]
        ins = []
        if t[0] == "b" and t != "bf16":
            ins += [("setp.%s.%s {d}, {a}, {b};" % (op, t), "pred", (t, t, "pred"), lambda a, b, c, op=op, h=holds: h(op, a, b)) for op in ("eq", "ne")]
        if t not in ("f16", "bf16"):
            ins += [("setp.eq.%s.%s {d}|%%p5, {a}, {b}, {c};" % (how, t), "pred", (t, t, "pred"), lambda a, b, c, f=f, h=holds: f(h("eq", a, b), c))
                    for how, f in logic.items()]
        kinds = [d for d in results if "f16" not in t or d not in ("f32", "f16", "bf16") or d == t]
        ins += [("set.%s.%s.%s {d}, {a}, {b};" % (op, d, t), d, (t, t, "pred"), lambda a, b, c, op=op, d=d, h=holds: results[d] * h(op, a, b))
                for op in ("eq", "ne") for d in kinds]
        table("set_every_" + t, rows, ins, SM_90)


def comparisons():
    plain = ["eq", "ne", "lt", "le", "gt", "ge"]
    for t in ("u16", "s16", "u32", "s32", "u64", "s64", "f16", "f32", "f64"):
        w = WIDTH[t]
        values = floats(w) if t[0] == "f" else interesting(w)
        operations = plain + ([x + "u" for x in plain] + ["num", "nan"] if t[0] == "f" else
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
    every_set()
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
         lambda a, b, op=op: int(compare(op, sub(a), sub(b), "f32"))) for op in plain])
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
