"""atom and red on 16-bit floats, on vectors, on 128 bits; loads and stores of 128 and 256 bits."""
import random

from generate.case_writer import MASK, SM_90, SM_100, half_text, write
from generate.float_values import *

FORMAT_OF = {"f16": 16, "bf16": BF16, "f32": 32}
REGISTERS = {16: "h", 32: "r", 128: "q"}


def elements_of(t):
    """Format and number of the floats in one element of a vector."""
    base = t[:-2] if t.endswith("x2") else t
    return base, FORMAT_OF[base], 2 if t.endswith("x2") else 1


def operation(op, t):
    """The function on one element's floats."""
    base, w, _ = elements_of(t)
    if op == "add":
        return lambda a, b: f_add(a, b, w, "rn")
    return lambda a, b: f_minmax(a, b, w, op, False)


def halves_as_words(values, base):
    """Floats of 16 bits as result words, low half first; "nan" stands for any."""
    return [half_text(values[i + 1], base) + ":" + half_text(values[i], base) for i in range(0, len(values), 2)]


def vector_case(name, op, t, count, space, target, reduce=False):
    """Each lane has 16 bytes of memory of its own: initial values, and an operand; `out` gets old values and what is left."""
    base, w, per = elements_of(t)
    width = 16 * per if base != "f32" else 32
    rng = random.Random(name)
    total = count * per
    lanes = 32
    # Loaded with the unit that the instruction has; what a lane does not use stays.
    start = [[random_float(rng, w) for _ in range(128 // int(w))] for _ in range(lanes)]
    operand = [[random_float(rng, w) for _ in range(128 // int(w))] for _ in range(lanes)]
    f = operation(op, t)
    words, out_old, out_new = [], [], []
    pack = lambda values: [v for v in values] if int(w) == 32 else [values[i] | values[i + 1] << 16 for i in range(0, len(values), 2)]
    for s, o in zip(start, operand):
        words += pack(s) + pack(o)
        new = [f(x, y) for x, y in zip(s[:total], o[:total])] + s[total:]
        if int(w) == 32:
            out_old += [s[k] if k < total else 0xA5A5A5A5 for k in range(4)] if not reduce else [0xA5A5A5A5] * 4
            out_new += ["nan" if x == "nan" else x for x in new]
        else:
            old = s[:total] + [0xA5A5] * (8 - total) if not reduce else [0xA5A5] * 8
            out_old += halves_as_words(old, base)
            out_new += halves_as_words(new, base)
    r = "%" + REGISTERS[width]
    kind = "b%d" % width
    regs = lambda first: ", ".join("%s%d" % (r, first + k) for k in range(count))
    brace = (lambda x: "{" + x + "}") if count > 1 else (lambda x: x)
    text = "  .reg .b64 %rd<12>;\n  .reg .b32 %r<24>;\n  .reg .b16 %h<24>;\n  .reg .b32 %v<4>;\n  .shared .align 16 .b8 memory[512];\n"
    text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r20, %laneid;\n"
    text += "  mad.wide.u32 %rd3, %r20, 32, %rd1;\n  mad.wide.u32 %rd4, %r20, 16, %rd2;\n  add.u64 %rd5, %rd4, 512;\n"
    if space == "shared":
        text += "  mov.u32 %r21, memory;\n  shl.b32 %r22, %r20, 4;\n  add.u32 %r21, %r21, %r22;\n"
        address, ld, st = "%r21", "ld.shared", "st.shared"
    else:
        address, ld, st = "%rd5", "ld.global", "st.global"
    text += "  ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%rd3];\n  " + st + ".v4.b32 [" + address + "], {%v0, %v1, %v2, %v3};\n"
    for k in range(count):
        text += "  ld.global.%s %s%d, [%%rd3+%d];\n" % (kind, r, k, 16 + k * width // 8)
    if t == "f32":
        text += "".join("  .reg .f32 %%f%d, %%g%d;\n  mov.b32 %%f%d, %%r%d;\n" % (k, k, k, k) for k in range(count))
        regs_old = ", ".join("%%g%d" % k for k in range(count))
        regs_in = ", ".join("%%f%d" % k for k in range(count))
    else:
        regs_old, regs_in = regs(8), regs(0)
    mnemonic = "%s%s.%s%s%s.%s" % ("red" if reduce else "atom", space and "." + space, op, "" if t == "f32" else ".noftz",
                                   ".v%d" % count if count > 1 else "", t)
    text += "  %s %s[%s], %s;\n" % (mnemonic, "" if reduce else brace(regs_old) + ", ", address, brace(regs_in))
    if not reduce:
        for k in range(count):
            text += "  st.global.%s [%%rd4+%d], %s;\n" % ("f32" if t == "f32" else kind, k * width // 8,
                                                        "%%g%d" % k if t == "f32" else "%s%d" % (r, 8 + k))
    if space == "shared":
        text += "  ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%r21];\n  st.global.v4.b32 [%rd5], {%v0, %v1, %v2, %v3};\n"
    body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
    write("atomic_" + name, [("block", str(lanes)), ("in", words), ("out", out_old + out_new)], body, target)


def vectors():
    for reduce in (False, True):
        tag = "red" if reduce else "atom"
        for t in ("f16", "bf16", "f16x2", "bf16x2"):
            for space in ("global", "shared"):
                vector_case("%s_%s_%s" % (tag, t, space), "add", t, 1, space, SM_90, reduce)
            for count in (2, 4, 8) if not t.endswith("x2") else (2, 4):
                for op in ("add", "min", "max"):
                    vector_case("%s_%s_%s_v%d" % (tag, op, t, count), op, t, count, "global", SM_90, reduce)
        for count in (2, 4):
            vector_case("%s_f32_v%d" % (tag, count), "add", "f32", count, "global", SM_90, reduce)


def contended():
    """Four warps of two blocks add to the same place; the sum is exact in any order."""
    for t, one, total in (("f16x2", 0x3C003C00, 0x5C005C00), ("bf16x2", 0x3F803F80, 0x43804380)):
        text = """.visible .entry test(.param .u64 in, .param .u64 out)
{
  .reg .b64 %%rd<4>;
  .reg .b32 %%r<4>;
  ld.param.u64 %%rd1, [in];
  .shared .b32 sum;
  .reg .pred %%p1;
  mov.u32 %%r1, %%tid.x;
  setp.eq.u32 %%p1, %%r1, 0;
  @%%p1 st.shared.b32 [sum], 0;
  bar.sync 0;
  mov.b32 %%r2, 0x%08x;
  red.shared.add.noftz.%s [sum], %%r2;
  bar.sync 0;
  ld.shared.b32 %%r3, [sum];
  ld.param.u64 %%rd2, [out];
  mad.wide.u32 %%rd2, %%r1, 4, %%rd2;
  st.global.b32 [%%rd2], %%r3;
  red.global.add.noftz.%s [%%rd1], %%r2;
  ret;
}
""" % (one, t, t)
        write("atomic_contended_" + t, [("block", "256"), ("in", [0] * 4), ("out", [total] * 256)], text, SM_90)


def wide():
    rng = random.Random(9)
    value = lambda: rng.getrandbits(128)
    words = lambda x: [x >> 32 * k & MASK[32] for k in range(4)]
    for space in ("global", "shared"):
        inputs, old, new = [], [], []
        for lane in range(32):
            start, b, c = value(), value(), value()
            compare = start if lane % 2 else start ^ 1 << rng.randrange(128)
            inputs += words(start) + words(b) + words(compare) + words(c)
            # exch b, then cas against what was there before, or b where lane % 3 is 0.
            wanted = b if lane % 3 == 0 else compare
            old += words(start) + words(b)
            new += words(c if wanted == b else b)
        text = "  .reg .b64 %rd<12>;\n  .reg .b32 %r<8>;\n  .reg .b128 %q<10>;\n  .reg .pred %p<3>;\n  .shared .align 16 .b8 memory[512];\n"
        text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r1, %laneid;\n"
        text += "  mad.wide.u32 %rd3, %r1, 64, %rd1;\n  mad.wide.u32 %rd4, %r1, 32, %rd2;\n"
        text += "  mad.wide.u32 %rd5, %r1, 16, %rd2;\n  add.u64 %rd5, %rd5, 1024;\n"
        if space == "shared":
            text += "  mov.u32 %r2, memory;\n  shl.b32 %r3, %r1, 4;\n  add.u32 %r2, %r2, %r3;\n"
        at = "%r2" if space == "shared" else "%rd5"
        text += "  ld.global.b128 %q1, [%rd3];\n  ld.global.b128 %q2, [%rd3+16];\n  ld.global.b128 %q3, [%rd3+32];\n"
        text += "  ld.global.b128 %q4, [%rd3+48];\n  st." + space + ".b128 [" + at + "], %q1;\n"
        text += "  atom." + space + ".exch.b128 %q5, [" + at + "], %q2;\n"
        text += "  rem.u32 %r4, %r1, 3;\n  setp.eq.u32 %p1, %r4, 0;\n  @%p1 mov.b128 %q3, %q2;\n"
        text += "  atom." + space + ".cas.b128 %q6, [" + at + "], %q3, %q4;\n"
        text += "  st.global.b128 [%rd4], %q5;\n  mov.b128 {%rd6, %rd7}, %q6;\n  mov.b128 %q7, {%rd6, %rd7};\n  st.global.b128 [%rd4+16], %q7;\n"
        if space == "shared":
            text += "  ld.shared.b128 %q8, [%r2];\n  st.global.b128 [%rd5], %q8;\n"
        body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
        write("atomic_wide_" + space, [("block", "32"), ("in", inputs), ("out", old + new)], body, SM_90)
    # 256 bits at once.
    for t, count in (("b32", 8), ("f32", 8), ("b64", 4), ("f64", 4), ("u32", 8), ("s64", 4)):
        inputs = [rng.getrandbits(32) for _ in range(32 * 8)]
        names = "{" + ", ".join("%%x%d" % k for k in range(count)) + "}"
        back = "{" + ", ".join("%%x%d" % k for k in reversed(range(count))) + "}"
        text = "  .reg .b64 %%rd<6>;\n  .reg .b32 %%r<2>;\n  .reg .%s %%x<%d>;\n" % (t, count)
        text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r1, %laneid;\n"
        text += "  mad.wide.u32 %rd3, %r1, 32, %rd1;\n  mad.wide.u32 %rd4, %r1, 32, %rd2;\n"
        text += "  ld.global.v%d.%s %s, [%%rd3];\n  st.global.v%d.%s [%%rd4], %s;\n" % (count, t, names, count, t, back)
        body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
        out = []
        for lane in range(32):
            row = inputs[8 * lane:8 * lane + 8]
            step = 8 // count
            out += [w for k in reversed(range(count)) for w in row[step * k:step * k + step]]
        write("memory_256_" + t, [("block", "32"), ("in", inputs), ("out", out)], body, SM_100)


MAKERS = (vectors, contended, wide)
