"""Approximate functions of f32: within two steps of the exact value, which is closer than PTX asks for."""
import math
import random
from fractions import Fraction

from generate.case_writer import table
from generate.float_values import *


def number(bits, ftz):
    x = Float(flushed(bits, 32) if ftz else bits, 32)
    if x.kind == "nan":
        return math.nan
    if x.kind == "inf":
        return -math.inf if x.sign else math.inf
    return math.copysign(float(x.x), -1 if x.sign else 1)


def near(value, ftz, steps=2):
    """A token for an f32 close to a number."""
    if math.isnan(value):
        return "nan"
    sign = int(math.copysign(1, value) < 0)
    if math.isinf(value):
        return infinity(sign, 32)
    bits = encode(Fraction(value), 32, "rn", sign)
    if ftz:
        bits = flushed(bits, 32)
    # Zero and infinity are exact, and so is what is flushed.
    exact = Float(bits, 32).kind != "num" or (ftz and abs(value) < 2.0**-125)
    return bits if exact else "~%08x/%d" % (bits, steps)


def safely(f):
    def run(*x):
        try:
            return f(*x)
        except (ValueError, OverflowError):
            return math.inf if f is exp2 else math.nan
    return run


def exp2(x):
    return 2.0**x


def log2(x):
    return -math.inf if x == 0 else math.log2(x)


def reciprocal(x):
    return math.copysign(math.inf, x) if x == 0 else 1 / x


def reciprocal_root(x):
    return math.copysign(math.inf, x) if x == 0 else 1 / math.sqrt(x)


def quotient(x, y):
    if y == 0:
        return math.nan if x == 0 or math.isnan(x) else math.copysign(math.inf, x) * math.copysign(1, y)
    return x / y


def approximations():
    rng = random.Random(99)
    values = floats(32) + [random_float(rng, 32) for _ in range(150)]
    values += [encode(Fraction(x), 32, "rn") for x in (math.pi, -math.pi, math.pi / 2, 3.0, 100.0, -100.0, 126.5, -125.5, 1e-30, 1e30)]
    # Angles stay where a sine is not all reduction.
    ins = []
    for name, f in (("ex2", exp2), ("lg2", log2), ("rcp", reciprocal), ("sqrt", math.sqrt), ("rsqrt", reciprocal_root), ("tanh", math.tanh)):
        for ftz in ("", ".ftz") if name != "tanh" else ("",):
            ins.append(("%s.approx%s.f32 {d}, {a};" % (name, ftz), "f32", ("f32",),
                        lambda a, f=safely(f), z=bool(ftz): near(f(number(a, z)), z)))
    table("approximate_f32", [(v,) for v in values], ins)
    angles = [v for v in values if Float(v, 32).kind != "num" or abs(Float(v, 32).x) < 10000]
    table("approximate_angles", [(v,) for v in angles], [
        ("%s.approx%s.f32 {d}, {a};" % (name, ftz), "f32", ("f32",), lambda a, f=safely(f), z=bool(ftz): near(f(number(a, z)), z))
        for name, f in (("sin", math.sin), ("cos", math.cos)) for ftz in ("", ".ftz")])
    two = [(rng.choice(values), rng.choice(values)) for _ in range(300)]
    # div.approx is defined for divisors up to 2^126.
    two = [(a, b) for a, b in two if Float(b, 32).kind != "num" or abs(Float(b, 32).x) < 2**126]
    table("approximate_div", two, [
        ("div.%s%s.f32 {d}, {a}, {b};" % (how, ftz), "f32", ("f32", "f32"),
         lambda a, b, z=bool(ftz): near(quotient(number(a, z), number(b, z)), z)) for how in ("approx", "full") for ftz in ("", ".ftz")])
    exact = [("rcp.rn.ftz.f32 {d}, {a};", "f32", ("f32", "f32"), lambda a, b: with_modifiers(
        lambda x, w, m: f_div(0x3F800000, x, w, m), 32, "rn", True, False)(a)),
             ("sqrt.rn.ftz.f32 {d}, {a};", "f32", ("f32", "f32"), lambda a, b: with_modifiers(f_sqrt, 32, "rn", True, False)(a)),
             ("div.rn.ftz.f32 {d}, {a}, {b};", "f32", ("f32", "f32"), with_modifiers(f_div, 32, "rn", True, False))]
    table("float_f32_ftz_division", two, exact)
    doubles = [encode(Fraction(rng.uniform(0.001, 1000)), 64, "rn") for _ in range(60)]

    def upper_word(value):
        return "~%08x/4" % (encode(Fraction(value), 64, "rn") >> 32)
    value = lambda a: float(Float(a, 64).x)
    table("approximate_f64", [(v,) for v in doubles], [
        ("{{ %s.f64 %%fd9, {a}; mov.b64 {{%%r9, {d}}}, %%fd9; }}" % name, "b32", ("f64",), lambda a, f=f: upper_word(f(value(a))))
        for name, f in (("rcp.approx.ftz", reciprocal), ("rsqrt.approx", reciprocal_root), ("rsqrt.approx.ftz", reciprocal_root))])


MAKERS = (approximations,)
