"""cvt to and from bf16, tf32 and floats of eight bits and less; cvt.pack; registers of bytes."""
import random
from fractions import Fraction

from generate.case_writer import MASK, SM_80, SM_90, SM_100, WIDTH, signed, table, val
from generate.convert_cases import float_to_int
from generate.float_values import *
from generate.integer_values import interesting
from generate.narrow_values import NARROW, decode_narrow, encode_narrow

SM_100F = ("8.8", "sm_100f")
TF32 = Format(19, 8, 10)
INTS = ("u16", "s16", "u32", "s32", "u64", "s64")


def convert(bits, w, to, mode, relu=False, satfinite=False):
    """A float of format w as one of format `to`."""
    x = Float(bits, w)
    if x.kind == "nan":
        return "nan"
    if relu and x.sign:
        return 0
    result = infinity(x.sign, to) if x.kind == "inf" else encode_away(x, to) if mode == "rna" else encode(x.x, to, mode, x.sign)
    if satfinite and result & ((1 << (to - 1)) - 1) == infinity(0, to):
        result -= 1
    return result


def encode_away(x, to):
    """To nearest, halves away from zero: a little more than a half rounds up."""
    down, up = encode(x.x, to, "rz", x.sign), encode(x.x, to, "rp" if x.x > 0 else "rm", x.sign)
    if Float(down, to).x == x.x:
        return down
    if Float(up, to).kind == "inf":
        # Halfway between the largest value and what would follow it.
        step = Float(down, to).x - Float(down - 1, to).x
        return up if abs(x.x - Float(down, to).x) * 2 >= abs(step) else down
    low, high = Float(down, to).x, Float(up, to).x
    return up if abs(x.x - low) >= abs(high - x.x) else down


def f32_values():
    rng = random.Random(31)
    values = floats(32) + [random_float(rng, 32) for _ in range(80)]
    # Around halves of bf16, of tf32, of f16, and at the ends of their ranges.
    for base in (0x3F800000, 0xC0490000, 0x7F7F0000, 0x00010000, 0x80000000, 0x7F000000, 0x477FE000, 0x33800000):
        values += [base + d & MASK[32] for d in (0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x18000)]
    return values


def to_sixteen_bits():
    singles = f32_values()
    ins = []
    for t, w in (("bf16", BF16), ("f16", 16)):
        for mode in ("rn", "rz", "rm", "rp"):
            for relu in ("", ".relu") if mode in ("rn", "rz") else ("",):
                for sat in ("", ".satfinite") if mode in ("rn", "rz") else ("",):
                    ins.append(("cvt.%s%s%s.%s.f32 {d}, {a};" % (mode, relu, sat, t), t, ("f32",),
                                lambda a, w=w, mode=mode, r=bool(relu), s=bool(sat): convert(a, 32, w, mode, r, s)))
    table("cvt_f32_to_sixteen", [(v,) for v in singles], ins, SM_90)
    pairs = list(zip(singles, reversed(singles)))
    ins = []
    for t, w in (("bf16x2", BF16), ("f16x2", 16)):
        for mode in ("rn", "rz"):
            for relu in ("", ".relu"):
                for sat in ("", ".satfinite"):
                    f = lambda a, w=w, mode=mode, r=bool(relu), s=bool(sat): convert(a, 32, w, mode, r, s)
                    ins.append(("cvt.%s%s%s.%s.f32 {d}, {a}, {b};" % (mode, relu, sat, t), t, ("f32", "f32"),
                                lambda a, b, f=f: (f(a), f(b))))
    table("cvt_f32_to_sixteen_pairs", pairs, ins, SM_90)
    rng = random.Random(5)
    doubles = floats(64) + [random_float(rng, 64) for _ in range(100)]
    doubles += [encode(Fraction(x), 64, "rn") for x in (1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-50, 1 + 2.0**-8 - 2.0**-50, 3.3961e38,
                                                         -3.39e38, 2.0**-134, 2.0**-134 + 2.0**-180, 2.0**-133, 1e-300)]
    table("cvt_f64_to_bf16", [(v,) for v in doubles], [
        ("cvt.%s.bf16.f64 {d}, {a};" % m, "bf16", ("f64",), lambda a, m=m: convert(a, 64, BF16, m)) for m in ("rn", "rz", "rm", "rp")], SM_90)
    for source in INTS:
        w = WIDTH[source]
        values = interesting(w) + [rng.getrandbits(rng.randint(1, w)) for _ in range(60)]
        values += [x & MASK[w] for x in (255, 256, 257, 258, 259, 383, 0x1010001, 0x1010000, 0x101000000000001, 0x1018000, 0x8080)]
        table("cvt_%s_to_bf16" % source, [(v,) for v in values], [
            ("cvt.%s.bf16.%s {d}, {a};" % (m, source), "bf16", (source,),
             lambda a, m=m, s=source: encode(Fraction(val(a, s)), BF16, m)) for m in ("rn", "rz", "rm", "rp")], SM_90)


def from_bf16():
    rng = random.Random(2)
    values = floats(BF16) + [random_float(rng, BF16) for _ in range(80)]
    values += [encode(s * Fraction(x), BF16, "rn") for x in (0.5, 1.5, 2.5, 127.5, 32768, 65536, 2.0**31, 2.0**32, 2.0**63) for s in (1, -1)]
    ins = [("cvt.f32.bf16 {d}, {a};", "f32", ("bf16",), lambda a: convert(a, BF16, 32, "rn")),
           ("cvt.ftz.f32.bf16 {d}, {a};", "f32", ("bf16",), lambda a: convert(flushed(a, BF16), BF16, 32, "rn")),
           ("cvt.f64.bf16 {d}, {a};", "f64", ("bf16",), lambda a: convert(a, BF16, 64, "rn"))]
    for mode in ("rn", "rz", "rm", "rp"):
        ins.append(("cvt.%s.f16.bf16 {d}, {a};" % mode, "f16", ("bf16",), lambda a, m=mode: convert(a, BF16, 16, m)))

        def integral(a, mode=mode):
            x = Float(a, BF16)
            return a if x.kind in ("inf", "zero") else "nan" if x.kind == "nan" else encode(
                Fraction(round_integer(x.x, mode)), BF16, "rn", x.sign)
        ins.append(("cvt.%si.bf16.bf16 {d}, {a};" % mode, "bf16", ("bf16",), integral))
    table("cvt_bf16_to_float", [(v,) for v in values], ins, SM_90)
    table("cvt_bf16_to_int", [(v,) for v in values if Float(v, BF16).kind != "nan"], [
        ("cvt.%si.%s.bf16 {d}, {a};" % (m, to), to, ("bf16",), lambda a, m=m, to=to: float_to_int(a, BF16, to, m))
        for to in INTS for m in ("rn", "rz", "rm", "rp")], SM_90)
    halves = floats(16) + [random_float(rng, 16) for _ in range(80)]
    table("cvt_f16_to_bf16", [(v,) for v in halves], [
        ("cvt.%s.bf16.f16 {d}, {a};" % m, "bf16", ("f16",), lambda a, m=m: convert(a, 16, BF16, m)) for m in ("rn", "rz", "rm", "rp")], SM_90)


def tf32():
    rows = [(v,) for v in f32_values()]

    def to_tf32(a, mode, relu, sat):
        result = convert(a, 32, TF32, mode, relu, sat)
        return "nan" if result == "nan" else result << 13
    ins = [("cvt.%s%s%s.tf32.f32 {d}, {a};" % (m, s, r), "tf32", ("f32",), lambda a, m=m, r=bool(r), s=bool(s): to_tf32(a, m, r, s))
           for m in ("rn", "rz") for r in ("", ".relu") for s in ("", ".satfinite")]
    ins += [("cvt.rna%s.tf32.f32 {d}, {a};" % s, "tf32", ("f32",), lambda a, s=bool(s): to_tf32(a, "rna", False, s))
            for s in ("", ".satfinite")]
    table("cvt_tf32", rows, ins, SM_100)


def narrow_code(bits, w, t, relu):
    """A float of format w as a code of t, saturating."""
    x, f = Float(bits, w), NARROW[t]
    if x.kind == "nan":
        return f.largest if f.nan is None else f.nan
    if relu and x.sign:
        return 0
    sign = f.sign if x.sign else 0
    return sign | (f.largest if x.kind == "inf" else encode_narrow(x.x, t))


def narrow_pairs():
    rng = random.Random(88)
    for t, target in (("e4m3", ("8.1", "sm_89")), ("e5m2", ("8.1", "sm_89")), ("e2m3", SM_100F), ("e3m2", SM_100F), ("e2m1", SM_100F)):
        f = NARROW[t]
        width = 4 if t == "e2m1" else 8
        # Numbers at, between and just beside the codes, and beyond them.
        numbers = []
        for code in range(f.largest + 1):
            x = decode_narrow(code, t)
            middle = (x + decode_narrow(code + 1, t)) / 2 if code < f.largest else x * 17 / 16
            numbers += [x, middle, middle * (1 + Fraction(1, 1 << 20)), middle * (1 - Fraction(1, 1 << 20))]
        numbers = rng.sample(numbers, min(len(numbers), 150))
        singles = [encode(x * rng.choice((1, -1)), 32, "rn") for x in numbers] + floats(32)
        rng.shuffle(singles)
        half = [encode(x * rng.choice((1, -1)), 16, "rn") for x in numbers] + floats(16)
        rng.shuffle(half)
        x2 = t + "x2"
        mnemonic = lambda source, relu: "cvt.rn.satfinite%s.%s.%s" % (relu, x2, source)
        # The four-bit pair is a register of one byte.
        ins = []
        for relu in ("", ".relu"):
            text = ("{{ .reg .b8 %%x; %s %%x, {a}, {b}; mov.b16 {d}, {{%%x, 0}}; }}" if width == 4 else "%s {d}, {a}, {b};")
            ins.append((text % mnemonic("f32", relu), "b16", ("f32", "f32"), lambda a, b, t=t, w=width, r=bool(relu):
                        narrow_code(a, 32, t, r) << w | narrow_code(b, 32, t, r)))
        table("cvt_f32_to_" + x2, list(zip(singles, singles[1:] + singles[:1])), ins, target)
        if t in ("e4m3", "e5m2"):
            ins = [("%s {d}, {a};" % mnemonic("f16x2", relu), "b16", ("f16x2",), lambda a, t=t, r=bool(relu):
                    narrow_code(a >> 16, 16, t, r) << 8 | narrow_code(a & 0xFFFF, 16, t, r)) for relu in ("", ".relu")]
            table("cvt_f16x2_to_" + x2, [(a | b << 16,) for a, b in zip(half, half[1:])], ins, target)

        def widened(code, relu, t=t):
            x = decode_narrow(code, t)
            if isinstance(x, str):
                return "nan" if x == "nan" else 0 if relu and x[0] == "-" else infinity(int(x[0] == "-"), 16)
            sign = int(code & NARROW[t].sign != 0)
            return 0 if relu and sign else encode(x, 16, "rn", sign)
        codes = range(1 << (1 + f.ebits + f.mbits))
        rows = [(c << width | codes[(7 * c + 3) % len(codes)],) for c in codes]
        ins = []
        for relu in ("", ".relu"):
            text = ("{{ .reg .b8 %%x, %%y; mov.b16 {{%%x, %%y}}, {a}; cvt.rn%s.f16x2.%s {d}, %%x; }}" if width == 4
                    else "cvt.rn%s.f16x2.%s {d}, {a};") % (relu, x2)
            mask = (1 << width) - 1
            ins.append((text, "f16x2", ("b16",), lambda a, r=bool(relu), w=width, m=mask, wd=widened: (wd(a >> w & m, r), wd(a & m, r))))
        table("cvt_%s_to_f16x2" % x2, rows, ins, target)


def powers_of_two():
    """ue8m0: 2 to the power of code - 127; signs are ignored."""
    def power(bits, w, mode, sat):
        x = Float(bits, w)
        if x.kind == "nan":
            return 255
        if x.kind == "inf":
            return 254 if sat else 255
        a = abs(x.x)
        below = max([c for c in range(255) if Fraction(2) ** (c - 127) <= a], default=0)
        code = below + int(mode == "rp" and Fraction(2) ** (below - 127) < a)
        return min(code, 254) if sat else code
    rng = random.Random(7)
    singles = f32_values() + [x << 23 for x in range(0, 255, 9)] + [(x << 23) + 1 for x in range(0, 255, 17)] + [0x400000, 0x400001]
    rng.shuffle(singles)
    ins = [("cvt.%s%s.ue8m0x2.f32 {d}, {a}, {b};" % (m, s), "b16", ("f32", "f32"),
            lambda a, b, m=m, s=s: power(a, 32, m, s) << 8 | power(b, 32, m, s)) for m in ("rz", "rp") for s in ("", ".satfinite")]
    table("cvt_f32_to_ue8m0x2", list(zip(singles, singles[1:])), ins, SM_100F)
    halves = floats(BF16) + [random_float(rng, BF16) for _ in range(60)]
    ins = [("cvt.%s%s.ue8m0x2.bf16x2 {d}, {a};" % (m, s), "b16", ("bf16x2",),
            lambda a, m=m, s=s: power(a >> 16, BF16, m, s) << 8 | power(a & 0xFFFF, BF16, m, s))
           for m in ("rz", "rp") for s in ("", ".satfinite")]
    table("cvt_bf16x2_to_ue8m0x2", [(a | b << 16,) for a, b in zip(halves, halves[1:])], ins, SM_100F)
    back = lambda c: "nan" if c == 255 else encode(Fraction(2) ** (c - 127), BF16, "rn")
    table("cvt_ue8m0x2_to_bf16x2", [(c << 8 | 255 - c,) for c in range(256)], [
        ("cvt.rn.bf16x2.ue8m0x2 {d}, {a};", "bf16x2", ("b16",), lambda a: (back(a >> 8), back(a & 255)))], SM_100F)


def packs():
    rng = random.Random(14)
    pick = lambda: rng.choice([0, 1, -1, 7, 8, -8, -9, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 65535, 65536,
                               (1 << 31) - 1, -(1 << 31), rng.randint(-300, 300)])
    rows = [(pick(), pick(), rng.getrandbits(32)) for _ in range(200)]

    def saturate(x, t, w):
        low, high = (-(1 << (w - 1)), (1 << (w - 1)) - 1) if t == "s" else (0, (1 << w) - 1)
        return min(max(signed(x, 32), low), high) & ((1 << w) - 1)
    ins = [("cvt.pack.sat.%s16.s32 {d}, {a}, {b};" % t, "b32", ("s32", "s32", "b32"),
            lambda a, b, c, t=t: saturate(a, t, 16) << 16 | saturate(b, t, 16)) for t in "us"]
    for w in (8, 4, 2):
        ins += [("cvt.pack.sat.%s%d.s32.b32 {d}, {a}, {b}, {c};" % (t, w), "b32", ("s32", "s32", "b32"),
                 lambda a, b, c, t=t, w=w: c << 2 * w | saturate(a, t, w) << w | saturate(b, t, w)) for t in "us"]
    table("cvt_pack", rows, ins, SM_90)
    table("pack_bytes", [(rng.getrandbits(32),) for _ in range(20)], [
        ("{{ .reg .b8 %%x<4>; mov.b32 {{%%x0, %%x1, %%x2, %%x3}}, {a}; mov.b32 {d}, {{%%x3, %%x2, %%x1, %%x0}}; }}".replace("%%", "%"),
         "b32", ("b32",), lambda a: int.from_bytes(a.to_bytes(4, "little"), "big"))], SM_80)


MAKERS = (to_sixteen_bits, from_bf16, tf32, narrow_pairs, powers_of_two, packs)
