"""Binary floating point in exact rational arithmetic: values taken apart, operations, one rounding at the end."""
import random
from fractions import Fraction
from math import isqrt

class Format(int):
    """A width in bits; two formats of one width differ in how the bits are shared out."""

    def __new__(cls, bits, ebits, mbits):
        self = super().__new__(cls, bits)
        self.shape = (ebits, mbits)
        return self


BF16 = Format(16, 8, 7)
FORMAT = {16: (5, 10), 32: (8, 23), 64: (11, 52)}


def shape_of(w):
    """Bits of exponent and mantissa."""
    return w.shape if isinstance(w, Format) else FORMAT[w]


class Float:
    """A value taken apart: kind "nan", "inf", "zero" or "num", its sign, and the number."""

    def __init__(self, bits, w):
        ebits, mbits = shape_of(w)
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
    ebits, mbits = shape_of(w)
    return sign << (w - 1) | ((1 << ebits) - 1) << mbits


def encode(x, w, mode, sign_of_zero=0):
    """A Fraction as bits, rounded once."""
    ebits, mbits = shape_of(w)
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
    ebits, mbits = shape_of(w)
    one = ((1 << (ebits - 1)) - 1) << mbits
    inf = infinity(0, w)
    values = [0, 1, (1 << mbits) - 1, 1 << mbits, one, one + 1, one - 1, one + (1 << mbits), inf - 1, inf,
              inf | 1 << (mbits - 1), inf | 1 << (mbits - 2), one + (3 << (mbits - 1)), one - (24 << mbits if w > 16 else 5 << mbits) + 5]
    return values + [x | 1 << (w - 1) for x in values]


def random_float(rng, w):
    ebits, mbits = shape_of(w)
    if rng.random() < 0.3:
        return rng.choice(floats(w))
    middle = (1 << (ebits - 1)) - 1
    return rng.getrandbits(1) << (w - 1) | (middle + rng.randint(-4, 4)) << mbits | rng.getrandbits(mbits)


def f_minmax(a, b, w, which, nan):
    x, y = Float(a, w), Float(b, w)
    canonical = {16: 0x7FFF, 32: 0x7FFFFFFF, 64: "nan"}[int(w)]
    if x.kind == "nan" or y.kind == "nan":
        if nan or x.kind == y.kind:
            return canonical
        return b if x.kind == "nan" else a
    key = lambda v: (float("inf") * (-1 if v.sign else 1) if v.kind == "inf" else v.x, -v.sign)
    return (a if key(x) <= key(y) else b) if which == "min" else (a if key(x) >= key(y) else b)
