"""Floats of eight bits and less, by their tables of values."""
from fractions import Fraction


class Narrow:
    def __init__(self, ebits, mbits, largest, nan, infinity=None):
        self.ebits, self.mbits, self.largest, self.nan, self.infinity = ebits, mbits, largest, nan, infinity
        self.sign = 1 << (ebits + mbits)


# Codes without sign: the largest finite value, NaN (None: there is none), infinity.
NARROW = {"e4m3": Narrow(4, 3, 0x7E, 0x7F), "e5m2": Narrow(5, 2, 0x7B, 0x7F, 0x7C), "e2m1": Narrow(2, 1, 7, None),
          "e2m3": Narrow(2, 3, 0x1F, None), "e3m2": Narrow(3, 2, 0x1F, None)}


def decode_narrow(code, t):
    """The number that a code is; "nan", "inf" or "-inf" where it is none."""
    f = NARROW[t]
    negative, magnitude = code & f.sign, code & (f.sign - 1)
    if magnitude > f.largest:
        return ("-inf" if negative else "inf") if magnitude == f.infinity else "nan"
    exponent, mantissa = magnitude >> f.mbits, magnitude & ((1 << f.mbits) - 1)
    bias = (1 << (f.ebits - 1)) - 1
    value = Fraction(mantissa + ((1 << f.mbits) if exponent else 0)) * Fraction(2) ** (max(exponent, 1) - bias - f.mbits)
    return -value if negative else value


def encode_narrow(x, t):
    """The code nearest to a number, the even one of two; never beyond the largest."""
    f = NARROW[t]
    best = min(range(f.largest + 1), key=lambda c: (abs(decode_narrow(c, t) - abs(x)), c & 1))
    return best
