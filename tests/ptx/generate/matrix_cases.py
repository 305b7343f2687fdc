"""mma, wmma, ldmatrix, stmatrix, movmatrix: matrices of numbers whose products and sums are exact, so that no order matters."""
import functools
import random
import re
from fractions import Fraction

from generate.case_writer import MASK, SM_80, SM_90, write
from generate.float_values import *
from generate.matrix_layouts import LAYOUTS, a_m8n8k4_f16, b_m8n8k4_f16, c_m8n8k4_f16, c_m8n8k4_f32
from generate.narrow_values import NARROW, decode_narrow

SM_89 = ("8.7", "sm_89")
SM_100F = ("8.8", "sm_100f")
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "f32": 32, "f64": 64, "e4m3": 8, "e5m2": 8, "s8": 8, "u8": 8, "s4": 4, "u4": 4,
        "b1": 1, "s32": 32}
FORMAT_OF = {"f16": 16, "bf16": BF16, "tf32": 32, "f32": 32, "f64": 64}


def sizes(shape):
    return [int(x) for x in re.match(r"m(\d+)n(\d+)k(\d+)$", shape).groups()]


def random_number(rng, t):
    """A number that t holds exactly, of few enough bits that sums of products stay exact."""
    if t == "b1":
        return rng.getrandbits(1)
    if t[0] in "su":
        w = BITS[t]
        low, high = (-(1 << (w - 1)), (1 << (w - 1)) - 1) if t[0] == "s" else (0, (1 << w) - 1)
        return rng.choice([low, high, rng.randint(low, high), rng.randint(low, high)])
    if t in NARROW:
        return rng.choice(few_values(t))
    return rng.randint(-127, 127) / 16


@functools.lru_cache(None)
def few_values(t):
    codes = [c for c in range(256) if c & 0x7F <= NARROW[t].largest]
    return [float(x) for x in (decode_narrow(c, t) for c in codes) if abs(x) <= 4 and x * 8 % 1 == 0]


@functools.lru_cache(None)
def float_code(x, t):
    if t in NARROW:
        return next(c for c in range(256) if c & 0x7F <= NARROW[t].largest and decode_narrow(c, t) == x)
    return encode(Fraction(x), FORMAT_OF[t], "rn")


def code(x, t, rng=None):
    """Bits of a number; tf32 carries 13 bits that nobody may read."""
    if t in NARROW or t in FORMAT_OF:
        return float_code(x, t) | (rng.getrandbits(13) if t == "tf32" and rng else 0)
    return x & ((1 << BITS[t]) - 1)


def random_matrix(rng, rows, columns, t):
    return [[random_number(rng, t) for _ in range(columns)] for _ in range(rows)]


def multiply(a, b, c, t, saturate=False, logic=None):
    """D as bits of type t, each rounded once; the sums of products are exact in Python's numbers too."""
    result = []
    for i, row in enumerate(a):
        line = []
        for j in range(len(b[0])):
            if logic:
                x = sum(logic(row[k], b[k][j]) for k in range(len(b)))
            else:
                x = sum(row[k] * b[k][j] for k in range(len(b)))
            x += c[i][j]
            if saturate:
                x = min(max(x, -(1 << 31)), (1 << 31) - 1)
            line.append(code(x, t) if t != "s32" else x & MASK[32])
        result.append(line)
    return result


def registers_of(values, width):
    """Elements packed into registers of 32 (or 64) bits, low ones first."""
    per = 1 if width >= 32 else 32 // width
    return [sum(v << width * k for k, v in enumerate(values[i:i + per])) for i in range(0, len(values), per)]


def fragment(matrix, count, place, t, rng=None):
    """Registers of each lane."""
    lanes = []
    for lane in range(32):
        elements = []
        for i in range(count):
            row, column = place(lane, i)
            elements.append(code(matrix[row][column], t, rng))
        lanes.append(registers_of(elements, BITS[t]))
    return lanes


def words_of(lanes, t):
    return [w for registers in lanes for r in registers for w in ((r & MASK[32], r >> 32) if BITS[t] == 64 else (r,))]


REGISTER = {"f32": "f", "f64": "fd", "tf32": "r"}


def kernel(loads, instruction, results, t_out):
    """PTX that loads fragments (name, type, registers per lane), runs the instruction and stores the result registers."""
    code_text = "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %lane, %laneid;\n"
    text = {}
    offset = 0
    for name, t, count in loads:
        wide = BITS[t] == 64
        size = 8 if wide else 4
        kind = "f64" if wide else "f32" if t == "f32" else "b32"
        code_text += "  mad.wide.u32 %%rd3, %%lane, %d, %%rd1;\n" % (count * size)
        names = ["%%%s%d" % (name, k) for k in range(count)]
        for k, register in enumerate(names):
            code_text += "  ld.global.%s %s, [%%rd3+%d];\n" % (kind, register, offset + k * size)
        text[name] = "{" + ", ".join(names) + "}"
        offset += 32 * count * size
    wide = BITS[t_out] == 64
    size = 8 if wide else 4
    kind = "f64" if wide else "f32" if t_out == "f32" else "b32"
    names = ["%%d%d" % k for k in range(results)]
    text["d"] = "{" + ", ".join(names) + "}"
    code_text += "  " + instruction.format(**text) + "\n"
    code_text += "  mad.wide.u32 %%rd3, %%lane, %d, %%rd2;\n" % (results * size)
    for k, register in enumerate(names):
        code_text += "  st.global.%s [%%rd3+%d], %s;\n" % (kind, k * size, register)
    declarations = "  .reg .b64 %rd<8>;\n  .reg .b32 %lane;\n"
    for name, t, count in loads + [("d", t_out, results)]:
        declarations += "  .reg .%s %%%s<%d>;\n" % ({"f64": "f64", "f32": "f32"}.get(t, "b32"), name, count)
    return ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + declarations + code_text + "  ret;\n}\n"


def mma_case(name, shape, types, modifiers="", target=SM_80, matrices=None, saturate=False, logic=None, result=None):
    """types: D, A, B, C."""
    td, ta, tb, tc = types
    m, n, k = sizes(shape)
    rng = random.Random(name)
    a, b, c = matrices or (random_matrix(rng, m, k, ta), random_matrix(rng, k, n, tb), random_matrix(rng, m, n, tc))
    count_a, place_a, count_b, place_b, count_c, place_c = LAYOUTS[shape, BITS[ta]]
    fa, fb, fc = (fragment(a, count_a, place_a, ta, rng), fragment(b, count_b, place_b, tb, rng),
                  fragment(c, count_c, place_c, tc, rng))
    d = result or multiply(a, b, c, td, saturate, logic)
    fd = [registers_of([d[r][s] for r, s in (place_c(lane, i) for i in range(count_c))], BITS[td]) for lane in range(32)]
    text = "mma.sync.aligned.%s.row.col%s.%s%s {d}, {a}, {b}, {c};" % (
        shape, "" if modifiers.endswith("popc") else modifiers, ".".join(types), modifiers if modifiers.endswith("popc") else "")
    body = kernel([("a", ta, len(fa[0])), ("b", tb, len(fb[0])), ("c", tc, len(fc[0]))], text, len(fd[0]), td)
    inputs = words_of(fa, ta) + words_of(fb, tb) + words_of(fc, tc)
    write("mma_" + name, [("block", "32"), ("in", inputs), ("out", words_of(fd, td))], body, target)


def mma_dense():
    for shape in ("m16n8k8", "m16n8k16"):
        for result in ("f32", "f16"):
            mma_case("%s_f16_%s" % (shape, result), shape, (result, "f16", "f16", result))
        mma_case(shape + "_bf16", shape, ("f32", "bf16", "bf16", "f32"))
    for shape in ("m16n8k4", "m16n8k8"):
        mma_case(shape + "_tf32", shape, ("f32", "tf32", "tf32", "f32"))
    for shape in ("m16n8k16", "m16n8k32"):
        for ta, tb in (("e4m3", "e4m3"), ("e4m3", "e5m2"), ("e5m2", "e4m3"), ("e5m2", "e5m2")):
            for result in ("f32", "f16"):
                mma_case("%s_%s_%s_%s" % (shape, ta, tb, result), shape, (result, ta, tb, result), target=SM_89)
    mma_case("m8n8k4_f64", "m8n8k4", ("f64",) * 4)
    for shape in ("m16n8k4", "m16n8k8", "m16n8k16"):
        mma_case(shape + "_f64", shape, ("f64",) * 4, target=SM_90)
    for w, shapes in ((8, ("m8n8k16", "m16n8k16", "m16n8k32")), (4, ("m8n8k32", "m16n8k32", "m16n8k64"))):
        for shape in shapes:
            for ta in "su":
                for tb in "su":
                    types = ("s32", "%s%d" % (ta, w), "%s%d" % (tb, w), "s32")
                    mma_case("%s_%s_%s" % (shape, types[1], types[2]), shape, types)
                    mma_case("%s_%s_%s_sat" % (shape, types[1], types[2]), shape, types, ".satfinite", saturate=True)
    for shape in ("m8n8k128", "m16n8k128", "m16n8k256"):
        for op, logic in (("xor", lambda x, y: x ^ y), ("and", lambda x, y: x & y)):
            mma_case("%s_b1_%s" % (shape, op), shape, ("s32", "b1", "b1", "s32"), ".%s.popc" % op, logic=logic)


def mma_special():
    """One product per sum, so that each rounding mode is seen by itself."""
    rng = random.Random(12)
    for rounding in ("rn", "rz", "rm", "rp"):
        for shape, target in (("m8n8k4", SM_80), ("m16n8k8", SM_90)):
            m, n, k = sizes(shape)
            # A has one number in each row, at a place that wanders.
            one = [[Fraction(0)] * k for _ in range(m)]
            number = lambda: Fraction(rng.getrandbits(53) | 1, 1 << rng.randint(40, 60)) * rng.choice((1, -1))
            for row in range(m):
                one[row][row % k] = number()
            b = [[number() for _ in range(n)] for _ in range(k)]
            c = [[number() for _ in range(n)] for _ in range(m)]
            result = [[encode(one[i][i % k] * b[i % k][j] + c[i][j], 64, rounding) for j in range(n)] for i in range(m)]
            mma_case("%s_f64_%s" % (shape, rounding), shape, ("f64",) * 4, "." + rounding, target, (one, b, c), result=result)


def mma_quads():
    """m8n8k4 of f16: four products, one for each pair of quads."""
    rng = random.Random(4)
    for acol in (0, 1):
        for bcol in (0, 1):
            for td, tc in (("f32", "f32"), ("f16", "f16"), ("f32", "f16")):
                place_c = {"f32": c_m8n8k4_f32, "f16": c_m8n8k4_f16}
                products = [(random_matrix(rng, 8, 4, "f16"), random_matrix(rng, 4, 8, "f16"), random_matrix(rng, 8, 8, tc))
                            for _ in range(4)]
                results = [multiply(a, b, c, td) for a, b, c in products]

                def gather(index, count, place, t):
                    lanes = []
                    for lane in range(32):
                        matrix = products[lane % 16 // 4][index]
                        places = [place(lane, i) for i in range(count)]
                        lanes.append(registers_of([code(matrix[r][s], t) for r, s in places], BITS[t]))
                    return lanes
                fa, fb = gather(0, 4, a_m8n8k4_f16(acol), "f16"), gather(1, 4, b_m8n8k4_f16(bcol), "f16")
                fc = gather(2, 8, place_c[tc], tc)
                fd = []
                for lane in range(32):
                    d = results[lane % 16 // 4]
                    fd.append(registers_of([d[r][s] for r, s in (place_c[td](lane, i) for i in range(8))], BITS[td]))
                layouts = "%s.%s" % (("row", "col")[acol], ("row", "col")[bcol])
                text = "mma.sync.aligned.m8n8k4.%s.%s.f16.f16.%s {d}, {a}, {b}, {c};" % (layouts, td, tc)
                body = kernel([("a", "f16", 2), ("b", "f16", 2), ("c", tc, len(fc[0]))], text, len(fd[0]), td)
                write("mma_m8n8k4_%s_%s_%s" % (layouts.replace(".", "_"), td, tc),
                      [("block", "32"), ("in", words_of(fa, "f16") + words_of(fb, "f16") + words_of(fc, tc)),
                       ("out", words_of(fd, td))], body, ("7.8", "sm_75"))


# ---------------------------------------------------------------- wmma

def in_memory(matrix, t, col, stride):
    """The words of a matrix in memory, and how many elements lie between rows (or columns)."""
    rows, columns = len(matrix), len(matrix[0])
    lines, length = (columns, rows) if col else (rows, columns)
    bits = [0] * (lines * stride)
    for line in range(lines):
        for k in range(length):
            bits[line * stride + k] = code(matrix[k][line] if col else matrix[line][k], t)
    w = BITS[t]
    if w == 64:
        return [x for v in bits for x in (v & MASK[32], v >> 32)]
    per = 32 // w
    return [sum(v << w * k for k, v in enumerate(bits[i:i + per])) for i in range(0, len(bits), per)]


def wmma_counts(shape, t):
    """Registers of A, B and C (f32 or s32)."""
    m, n, k = sizes(shape)
    if t == "f16":
        return 8, 8
    per = 1 if BITS[t] == 64 else 32 // BITS[t]
    return m * k // (32 * per), n * k // (32 * per)


def wmma_case(name, shape, types, layouts, modifiers="", space="global", padding=True, target=SM_80, saturate=False, logic=None):
    """types: D, A, B, C; layouts: of A, B, C, D, True for columns."""
    td, ta, tb, tc = types
    m, n, k = sizes(shape)
    rng = random.Random(name)
    matrices = random_matrix(rng, m, k, ta), random_matrix(rng, k, n, tb), random_matrix(rng, m, n, tc)
    d = multiply(*matrices, td, saturate, logic)
    count_a, count_b = wmma_counts(shape, ta)
    counts = [count_a, count_b] + [m * n * BITS[t] // (32 * (64 if BITS[t] == 64 else 32)) for t in (tc, td)]
    inputs, offsets, strides = [], [], []
    for matrix, t, col in zip(matrices, (ta, tb, tc), layouts):
        minor = len(matrix) if col else len(matrix[0])
        # Rows begin at multiples of 16 bytes, at more than they need where padded.
        stride = minor + (max(1, 128 // BITS[t]) if padding else 0)
        offsets.append(4 * len(inputs))
        strides.append(stride)
        inputs += in_memory(matrix, t, col, stride)
        inputs += [0] * (-len(inputs) % 8)
    word = lambda col: ("row", "col")[col]
    names = lambda letter, count: "{" + ", ".join("%%%s%d" % (letter, i) for i in range(count)) + "}"
    text = "  .reg .b64 %rd<8>;\n  .reg .b32 %x<4>;\n"
    for letter, t, count in zip("abcd", (ta, tb, tc, td), counts):
        text += "  .reg .%s %%%s<%d>;\n" % ({"f64": "f64", "f32": "f32"}.get(t, "b32"), letter, count)
    text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n"
    base = "%rd1"
    if space == "shared":
        text += "  .shared .align 32 .b8 buffer[%d];\n  mov.u32 %%x1, %%laneid;\n  mov.u64 %%rd4, buffer;\n" % (4 * len(inputs))
        text += "  mul.wide.u32 %rd5, %x1, 4;\n  add.u64 %rd6, %rd4, %rd5;\n  add.u64 %rd5, %rd1, %rd5;\n"
        for i in range(0, len(inputs), 32):
            guard = "" if i + 32 <= len(inputs) else "@%%p1 "
            if guard:
                text += "  .reg .pred %%p<2>;\n  setp.lt.u32 %%p1, %%x1, %d;\n" % (len(inputs) - i)
            text += "  %sld.global.b32 %%x2, [%%rd5+%d];\n  %sst.shared.b32 [%%rd6+%d], %%x2;\n" % (
                guard.replace("%%", "%"), 4 * i, guard.replace("%%", "%"), 4 * i)
        text = text.replace("%%p", "%p")
        text += "  bar.sync 0;\n"
        base = "%rd4"
    place = ("." + space) if space else ""
    for letter, t, col, count, offset, stride in zip("abc", (ta, tb, tc), layouts, counts, offsets, strides):
        text += "  wmma.load.%s.sync.aligned.%s.%s%s.%s %s, [%s+%d]%s;\n" % (
            letter, word(col), shape, place, t, names(letter, count), base, offset, ", %d" % stride if padding else "")
    kinds = "%s.%s" % (td, tc) if ta == "f16" else ".".join(types)
    op = modifiers if "popc" in modifiers else ""
    mid = modifiers if modifiers in (".rn", ".rz", ".rm", ".rp") else ""
    end = modifiers if modifiers == ".satfinite" else ""
    text += "  wmma.mma%s.sync.aligned.%s.%s.%s%s.%s%s %s, %s, %s, %s;\n" % (
        op, word(layouts[0]), word(layouts[1]), shape, mid, kinds, end, names("d", counts[3]), names("a", counts[0]),
        names("b", counts[1]), names("c", counts[2]))
    text += "  wmma.store.d.sync.aligned.%s.%s%s.%s [%%rd2], %s;\n" % (
        word(layouts[3]), shape, "" if space == "" else ".global", td, names("d", counts[3]))
    body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
    lines = [[d[i][j] for i in range(m)] for j in range(n)] if layouts[3] else d
    flat = [x for line in lines for x in line]
    w = BITS[td]
    out = ([x for v in flat for x in (v & MASK[32], v >> 32)] if w == 64 else
           [sum(v << w * i for i, v in enumerate(flat[s:s + 32 // w])) for s in range(0, len(flat), 32 // w)])
    write("wmma_" + name, [("block", "32"), ("in", inputs), ("out", out)], body, target)


def wmma():
    all_layouts = [(a, b, c, d) for a in (0, 1) for b in (0, 1) for c, d in ((0, 1), (1, 0))]
    tag = lambda layouts: "".join("rc"[x] for x in layouts)
    for shape in ("m16n16k16", "m32n8k16", "m8n32k16"):
        for td, tc in (("f32", "f32"), ("f16", "f16"), ("f32", "f16"), ("f16", "f32")):
            for layouts in all_layouts if td == tc else all_layouts[:2]:
                wmma_case("%s_f16_%s_%s_%s" % (shape, td, tc, tag(layouts)), shape, (td, "f16", "f16", tc), layouts)
        for number, layouts in enumerate(all_layouts):
            space = ("global", "shared")[number % 2]
            wmma_case("%s_bf16_%s" % (shape, tag(layouts)), shape, ("f32", "bf16", "bf16", "f32"), layouts, space=space)
            for t in ("s8", "u8"):
                wmma_case("%s_%s_%s" % (shape, t, tag(layouts)), shape, ("s32", t, t, "s32"), layouts, space=space)
        for t in ("s8", "u8"):
            wmma_case("%s_%s_sat" % (shape, t), shape, ("s32", t, t, "s32"), (0, 1, 0, 0), ".satfinite", saturate=True)
        wmma_case(shape + "_shared", shape, ("f32", "f16", "f16", "f32"), (0, 1, 0, 0), space="shared")
        wmma_case(shape + "_generic", shape, ("f32", "f16", "f16", "f32"), (1, 0, 1, 0), space="", padding=False)
    for layouts in all_layouts[::3]:
        wmma_case("m16n16k8_tf32_" + tag(layouts), "m16n16k8", ("f32", "tf32", "tf32", "f32"), layouts)
        wmma_case("m8n8k4_f64_" + tag(layouts), "m8n8k4", ("f64",) * 4, layouts)
    for t in ("s4", "u4"):
        wmma_case("m8n8k32_" + t, "m8n8k32", ("s32", t, t, "s32"), (0, 1, 0, 1))
        wmma_case("m8n8k32_%s_sat" % t, "m8n8k32", ("s32", t, t, "s32"), (0, 1, 1, 0), ".satfinite", saturate=True)
    for op, logic in (("xor", lambda x, y: x ^ y), ("and", lambda x, y: x & y)):
        wmma_case("m8n8k128_b1_" + op, "m8n8k128", ("s32", "b1", "b1", "s32"), (0, 1, 0, 1), ".%s.popc" % op, logic=logic)


# ---------------------------------------------------------------- tiles

def tiles_in_shared(rows, trans, count, name, target, mnemonic, result, reverse=False):
    """ldmatrix: 32 rows of 16 bytes from `in`; lane l names row l, or row 31 - l where reversed."""
    text = "  .reg .b64 %rd<8>;\n  .reg .b32 %r<8>;\n  .reg .b32 %d<4>;\n  .shared .align 16 .b8 tiles[512];\n"
    text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r2, %laneid;\n  mov.u32 %r3, tiles;\n"
    text += "  mul.wide.u32 %rd3, %r2, 16;\n  add.u64 %rd4, %rd1, %rd3;\n  shl.b32 %r4, %r2, 4;\n  add.u32 %r1, %r3, %r4;\n"
    text += "  .reg .b32 %v<4>;\n  ld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%rd4];\n"
    text += "  st.shared.v4.b32 [%r1], {%v0, %v1, %v2, %v3};\n  bar.sync 0;\n"
    if reverse:
        text += "  sub.u32 %r4, 31, %r2;\n  shl.b32 %r4, %r4, 4;\n  add.u32 %r1, %r3, %r4;\n"
    registers = "{" + ", ".join("%%d%d" % i for i in range(count)) + "}"
    text += "  %s %s, [%%r1];\n  mad.wide.u32 %%rd5, %%r2, %d, %%rd2;\n" % (mnemonic, registers, 4 * count)
    for i in range(count):
        text += "  st.global.b32 [%%rd5+%d], %%d%d;\n" % (4 * i, i)
    body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
    words = [sum(row[4 * i + j] << 8 * j for j in range(4)) for row in rows for i in range(4)]
    write(name, [("block", "32"), ("in", words), ("out", result)], body, target)


def tiles():
    rng = random.Random(6)
    rows = [[rng.getrandbits(8) for _ in range(16)] for _ in range(32)]
    half = lambda row, k: row[2 * k] | row[2 * k + 1] << 8
    for count in (1, 2, 4):
        for trans in (0, 1):
            for reverse in (0, 1):
                named = rows[::-1] if reverse else rows
                result = []
                for lane in range(32):
                    g, t = lane // 4, lane % 4
                    for tile in range(count):
                        r = named[8 * tile:8 * tile + 8]
                        pair = [half(r[2 * t + e], g) if trans else half(r[g], 2 * t + e) for e in (0, 1)]
                        result.append(pair[0] | pair[1] << 16)
                tiles_in_shared(rows, trans, count, "ldmatrix_x%d%s%s" % (count, "_trans" if trans else "", "_reverse" if reverse else ""),
                                SM_80, "ldmatrix.sync.aligned.m8n8.x%d%s.shared.b16" % (count, ".trans" if trans else ""), result, reverse)
    for count in (1, 2):
        result = []
        for lane in range(32):
            g, t = lane // 4, lane % 4
            for register in range(2 * count):
                tile, r = rows[16 * (register // 2):][:16], register % 2
                at = [tile[4 * t + 2 * r][g], tile[4 * t + 2 * r + 1][g], tile[4 * t + 2 * r][g + 8], tile[4 * t + 2 * r + 1][g + 8]]
                result.append(sum(x << 8 * i for i, x in enumerate(at)))
        tiles_in_shared(rows, 1, 2 * count, "ldmatrix_bytes_x%d" % count, SM_100F,
                        "ldmatrix.sync.aligned.m16n16.x%d.trans.shared.b8" % count, result)
    store_tiles(rng)
    # movmatrix
    tile = [[rng.getrandbits(16) for _ in range(8)] for _ in range(8)]
    fragment_of = lambda x: [x[lane // 4][lane % 4 * 2] | x[lane // 4][lane % 4 * 2 + 1] << 16 for lane in range(32)]
    body = kernel([("a", "s32", 1)], "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;", 1, "s32")
    write("movmatrix", [("block", "32"), ("in", fragment_of(tile)), ("out", fragment_of([list(x) for x in zip(*tile)]))], body)


def store_tiles(rng):
    for count in (1, 2, 4):
        for form in ("", ".trans", "bytes"):
            registers = [[rng.getrandbits(32) for _ in range(count)] for _ in range(32)]
            memory = [[[0xA5] * 16 for _ in range(8)] for _ in range(count)]
            for lane in range(32):
                g, t = lane // 4, lane % 4
                for tile in range(count):
                    value = registers[lane][tile]
                    for e in range(4):
                        byte = value >> 8 * e & 255
                        half, part = e // 2, e % 2
                        if form == "":
                            memory[tile][g][(2 * t + half) * 2 + part] = byte
                        elif form == ".trans":
                            memory[tile][2 * t + half][2 * g + part] = byte
                        else:
                            memory[tile][2 * t + part][g + 8 * half] = byte
            text = "  .reg .b64 %rd<8>;\n  .reg .b32 %r<8>;\n  .reg .b32 %d<4>;\n  .shared .align 16 .b8 tiles[512];\n"
            text += "  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n  mov.u32 %r2, %laneid;\n  mov.u32 %r3, tiles;\n"
            text += "  shl.b32 %r4, %r2, 4;\n  add.u32 %r1, %r3, %r4;\n"
            text += "  mad.wide.u32 %%rd3, %%r2, %d, %%rd1;\n" % (4 * count)
            for i in range(count):
                text += "  ld.global.b32 %%d%d, [%%rd3+%d];\n" % (i, 4 * i)
            names = "{" + ", ".join("%%d%d" % i for i in range(count)) + "}"
            if form == "bytes":
                text += "  stmatrix.sync.aligned.m16n8.x%d.trans.shared.b8 [%%r1], %s;\n" % (count, names)
            else:
                text += "  stmatrix.sync.aligned.m8n8.x%d%s.shared.b16 [%%r1], %s;\n" % (count, form, names)
            text += "  bar.sync 0;\n  .reg .b32 %v<4>;\n  .reg .pred %p<2>;\n  setp.lt.u32 %p1, %r2, " + "%d;\n" % (8 * count)
            text += "  @%p1 ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%r1];\n  mul.wide.u32 %rd4, %r2, 16;\n  add.u64 %rd4, %rd2, %rd4;\n"
            text += "  @%p1 st.global.v4.b32 [%rd4], {%v0, %v1, %v2, %v3};\n"
            body = ".visible .entry test(.param .u64 in, .param .u64 out)\n{\n" + text + "  ret;\n}\n"
            out = [sum(row[4 * i + j] << 8 * j for j in range(4)) for tile in memory for row in tile for i in range(4)]
            write("stmatrix_x%d%s" % (count, {"": "", ".trans": "_trans", "bytes": "_bytes"}[form]),
                  [("block", "32"), ("in", [x for lane in registers for x in lane]), ("out", out)], body,
                  SM_100F if form == "bytes" else SM_90)


MAKERS = (mma_dense, mma_special, mma_quads, wmma, tiles)
