"""Integers as PTX sees them: operands worth trying, division, clamping."""
import itertools
import random

from generate.case_writer import MASK, WIDTH, signed


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
