"""f32 and f64 arithmetic under every rounding mode, flushing and saturation."""
import itertools
import random
from fractions import Fraction

from generate.case_writer import table
from generate.float_values import *


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
            table("float_%s_%s_mad" % (t, mode), three, [
                ("mad.%s.%s {d}, {a}, {b}, {c};" % (mode, t), t, (t,) * 3, with_modifiers(f_fma, w, mode, False, False))] + [
                ("%s.%s {d}, {a}, {b};" % (op, t), t, (t,) * 3, lambda a, b, c, f=f, w=w: f(a, b, w, "rn"))
                for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul))])
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
            ("%s%s%s.f32 {d}, {a}, {b};" % (op, rounding, suffix), "f32", ("f32",) * 2, with_modifiers(f, 32, "rn", ftz, sat))
            for op, f in (("add", f_add), ("sub", f_sub), ("mul", f_mul)) for rounding in (".rn", "")])
        table("float_f32_fma" + suffix.replace(".", "_"), three, [
            ("fma.%s%s.f32 {d}, {a}, {b}, {c};" % (m, suffix), "f32", ("f32",) * 3,
             with_modifiers(f_fma, 32, m, ftz, sat)) for m in ("rn", "rz")])
