"""Writes case files: one thread per tuple of operands, each instruction with the results that PTX defines."""

POISON = 0xA5A5A5A5
FILES = {}
MASK = {w: (1 << w) - 1 for w in (8, 16, 24, 32, 64)}
REG = {"pred": "p", "f32": "f", "f64": "fd"}
WIDTH = {"pred": 32, "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "tf32": 32, "f16x2": 32, "bf16x2": 32, "u16x2": 32,
         "s16x2": 32, "f32x2": 64}
for w in (8, 16, 32, 64):
    for kind in "usb":
        WIDTH["%s%d" % (kind, w)] = w
for name, w in WIDTH.items():
    REG.setdefault(name, {8: "r", 16: "h", 32: "r", 64: "rd"}[w])
DECLARATIONS = """  .reg .b16 %h<20>;
  .reg .b32 %r<20>;
  .reg .f32 %f<20>;
  .reg .b64 %rd<30>;
  .reg .f64 %fd<20>;
  .reg .pred %p<12>;
"""
SM_80 = ("7.8", "sm_80")
SM_90 = ("8.3", "sm_90")
SM_100 = ("8.8", "sm_100")


def words(values, per_line=8):
    text = [w if isinstance(w, str) else "%08x" % w for w in values]
    return [" ".join(text[i:i + per_line]) for i in range(0, len(text), per_line)]


def write(name, directives, body, target=SM_80):
    lines = ["// Written by make_cases.py."]
    for key, value in directives:
        lines += ["// %s: %s" % (key, line) for line in (words(value) if isinstance(value, list) else [value])]
    FILES[name] = "\n".join(lines) + "\n.version %s\n.target %s\n.address_size 64\n\n" % target + body


def signed(x, w):
    x &= MASK[w]
    return x - (1 << w) if x >> (w - 1) else x


def val(x, t):
    """The number that bits x are as type t."""
    return signed(x, WIDTH[t]) if t[0] == "s" else x & MASK[WIDTH[t]]


def half_text(value, t):
    return {"f": "nan16", "b": "nanbf"}[t[0]] if value == "nan" else "%04x" % value


def result_words(value, t):
    """The two words of a result of type t: "nan" marks any NaN, a pair is (upper half, lower half)."""
    width = max(WIDTH[t], 32) if WIDTH[t] == 8 else WIDTH[t]
    if isinstance(value, tuple):
        return [half_text(value[0], t) + ":" + half_text(value[1], t), POISON]
    if value == "nan":
        return [half_text(value, t), POISON] if width == 16 else ["nan", POISON] if width == 32 else ["*", "nan.hi"]
    if isinstance(value, str):
        return [value, POISON]
    value &= (1 << width) - 1
    if width == 16:
        return [value | (POISON & 0xFFFF0000), POISON]
    if width == 32:
        return [value, POISON]
    return [value & MASK[32], value >> 32]


def table(name, tuples, instructions, target=SM_80):
    """One thread per tuple of operands; each instruction is (text, result type, operand types, function of bits).

    In the text, {d} is the result and {a}, {b}, {c}, {e} are the operands. Operand registers are loaded anew for each.
    """
    tuples = list(tuples)[:1024]
    n, arity = len(tuples), len(tuples[0])
    code = "  ld.param.u64 %rd20, [in];\n  ld.param.u64 %rd21, [out];\n  mov.u32 %r19, %tid.x;\n"
    code += "  mul.wide.u32 %%rd22, %%r19, %d;\n  add.u64 %%rd20, %%rd20, %%rd22;\n" % (8 * arity)
    code += "  mul.wide.u32 %rd22, %r19, 8;\n  add.u64 %rd21, %rd21, %rd22;\n"
    out = []
    for k, (text, dtype, types, function) in enumerate(instructions):
        names = {"d": "%" + REG[dtype] + "10"}
        for i, t in enumerate(types):
            register = "%%%s%d" % (REG[t], i + 1)
            names["abce"[i]] = register
            if t == "pred":
                code += "  ld.global.b32 %%r11, [%%rd20+%d];\n  setp.ne.u32 %s, %%r11, 0;\n" % (8 * i, register)
            elif t in ("u8", "s8"):
                code += "  ld.global.b32 %s, [%%rd20+%d];\n" % (register, 8 * i)
            else:
                code += "  ld.global.%s %s, [%%rd20+%d];\n" % (t if t in ("f32", "f64") else "b%d" % WIDTH[t],
                                                               register, 8 * i)
        code += "  " + text.format(**names) + "\n"
        width = WIDTH[dtype]
        if dtype == "pred":
            code += "  selp.b32 %%r12, 1, 0, %s;\n  st.global.b32 [%%rd21+%d], %%r12;\n" % (names["d"], 8 * n * k)
        elif width == 8:
            width = 32
            code += "  st.global.b32 [%%rd21+%d], %s;\n" % (8 * n * k, names["d"])
        else:
            store = dtype if dtype in ("f32", "f64") else "b%d" % width
            code += "  st.global.%s [%%rd21+%d], %s;\n" % (store, 8 * n * k, names["d"])
        for operands in tuples:
            bits = [x & MASK[64 if t == "pred" else WIDTH[t]] for x, t in zip(operands, types)]
            out += result_words(function(*bits), dtype)
    inputs = [w for operands in tuples for x in operands for w in (x & MASK[32], x >> 32 & MASK[32])]
    body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + DECLARATIONS + code + "  ret;\n}\n"
    write(name, [("block", str(n)), ("in", inputs), ("out", out)], body, target)
