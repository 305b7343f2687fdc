"""Video instructions: parts of words, saturation, second operations."""
import random

from generate.case_writer import MASK, signed, table

PARTS = {"": (32, 0), ".b0": (8, 0), ".b1": (8, 1), ".b2": (8, 2), ".b3": (8, 3), ".h0": (16, 0), ".h1": (16, 1)}
BINARY = {"vadd": lambda a, b: a + b, "vsub": lambda a, b: a - b, "vabsdiff": lambda a, b: abs(a - b), "vmin": min, "vmax": max}
COMPARE = {"eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
           "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b}


def part(word, selector, t):
    width, index = PARTS[selector]
    bits = word >> width * index & MASK[width]
    return signed(bits, width) if t == "s32" else bits


def saturate(x, width, t):
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if t == "s32" else (0, (1 << width) - 1)
    return min(max(x, low), high)


def then(op, value, c, t, selector):
    """The second operation, or the result in the place of a part of c."""
    value &= MASK[32]
    if op == "add":
        return value + c
    if op in ("min", "max"):
        key = (lambda x: signed(x, 32)) if t == "s32" else (lambda x: x)
        return (min if op == "min" else max)(value, c, key=key)
    if op == "merge":
        width, index = PARTS[selector]
        mask = MASK[width] << width * index
        return c & ~mask | value << width * index & mask
    return value


def operands(count):
    rng = random.Random(80)
    pool = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x80FF7F01, 0xFFFE0001]
    pick = lambda: rng.choice(pool) if rng.random() < 0.4 else rng.getrandbits(32)
    return [(pick(), pick(), pick()) for _ in range(count)]


def words():
    rng = random.Random(81)
    for opcode, f in BINARY.items():
        ins = []
        for td in ("u32", "s32"):
            for ta in ("u32", "s32"):
                for tb in ("u32", "s32"):
                    for sat in ("", ".sat"):
                        pa, pb, pd = (rng.choice(list(PARTS)) for _ in range(3))
                        for op in ("", "add", "min", "max", "merge"):
                            sa, sb = ("", "") if op == "" else (pa, pb)
                            sd = pd if op == "merge" and pd else ".h1" if op == "merge" else ""
                            # A part of the result is only named where it replaces one of c.
                            text = "%s.%s.%s.%s%s%s {d}%s, {a}%s, {b}%s%s;" % (
                                opcode, td, ta, tb, sat, "." + op if op in ("add", "min", "max") else "", sd, sa, sb, ", {c}" if op else "")

                            def run(a, b, c, f=f, td=td, ta=ta, tb=tb, sat=sat, sa=sa, sb=sb, sd=sd, op=op):
                                value = f(part(a, sa, ta), part(b, sb, tb))
                                return then(op, saturate(value, PARTS[sd][0], td) if sat else value, c, td, sd)
                            ins.append((text, "u32", ("u32",) * 3, run))
        table("video_" + opcode, operands(60), ins)
    ins = []
    for opcode, f in (("vshl", lambda a, n: a << n), ("vshr", lambda a, n: a >> n)):
        for t in ("u32", "s32"):
            for mode, amount in (("clamp", lambda b: min(b, 32)), ("wrap", lambda b: b & 31)):
                for sat in ("", ".sat"):
                    def run(a, b, c, f=f, t=t, amount=amount, sat=sat, op=""):
                        value = f(part(a, "", t), amount(b))
                        return then(op, saturate(value, 32, t) if sat else value, c, t, "")
                    ins.append(("%s.%s.%s.u32%s.%s {d}, {a}, {b};" % (opcode, t, t, sat, mode), "u32", ("u32",) * 3, run))
                    ins.append(("%s.%s.%s.u32%s.%s.add {d}, {a}, {b}, {c};" % (opcode, t, t, sat, mode), "u32", ("u32",) * 3,
                                lambda a, b, c, run=run: run(a, b, c, op="add")))
    rows = operands(40) + [(a, n, c) for (a, _, c), n in zip(operands(20), list(range(0, 40, 2)))]
    table("video_shift", rows, ins)
    table("video_vset", operands(60), [
        ("vset.%s.%s.%s%s {d}, {a}.h1, {b}.h0%s;" % (t, t, op, "." + second if second else "", ", {c}" if second else ""), "u32", ("u32",) * 3,
         lambda a, b, c, t=t, f=f, second=second: then(second, int(f(part(a, ".h1", t), part(b, ".h0", t))), c, "u32", ""))
        for t in ("u32", "s32") for op, f in COMPARE.items() for second in ("", "add", "max")] + [
        ("vset.%s.%s.eq {d}, {a}, {b};" % (t, t), "u32", ("u32",) * 3, lambda a, b, c: int(a == b)) for t in ("u32", "s32")])


def parts():
    average = lambda a, b: (a + b + (1 if a + b >= 0 else 0)) >> 1
    for count, letter in ((2, "h"), (4, "b")):
        width = 32 // count
        ins = []
        for opcode, f in list(BINARY.items()) + [("vavrg", average)]:
            for td, ta, tb in (("u32", "u32", "u32"), ("s32", "s32", "s32"), ("s32", "u32", "s32"), ("u32", "s32", "u32")):
                for sat in ("", ".sat"):
                    for add in ("",) if sat else ("", ".add"):
                        def run(a, b, c, f=f, td=td, ta=ta, tb=tb, sat=sat, add=add):
                            values = [f(part(a, ".%s%d" % (letter, k), ta), part(b, ".%s%d" % (letter, k), tb)) for k in range(count)]
                            if sat:
                                values = [saturate(x, width, td) for x in values]
                            return c + sum(values) if add else sum((x & MASK[width]) << width * k for k, x in enumerate(values))
                        ins.append(("%s%d.%s.%s.%s%s%s {d}, {a}, {b}, {c};" % (opcode, count, td, ta, tb, sat, add), "u32", ("u32",) * 3, run))
        for op, f in COMPARE.items():
            for t in ("u32", "s32"):
                def run(a, b, c, f=f, t=t, add=""):
                    values = [int(f(part(a, ".%s%d" % (letter, k), t), part(b, ".%s%d" % (letter, k), t))) for k in range(count)]
                    return c + sum(values) if add else sum(x << width * k for k, x in enumerate(values))
                ins.append(("vset%d.%s.%s.%s {d}, {a}, {b}, {c};" % (count, t, t, op), "u32", ("u32",) * 3, run))
                ins.append(("vset%d.%s.%s.%s.add {d}, {a}, {b}, {c};" % (count, t, t, op), "u32", ("u32",) * 3,
                            lambda a, b, c, run=run: run(a, b, c, add=".add")))
        table("video_parts_%d" % count, operands(60), ins)


MAKERS = (words, parts)
