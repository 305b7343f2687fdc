"""Textures and surfaces. Expected values come from exact rational arithmetic by the rules of the programming guide:
texels by floor of the coordinate, weights of linear filtering with eight fractional bits, address modes on texels."""
import itertools
import math
import random
import struct
from fractions import Fraction

from generate.case_writer import MASK, SM_90, write

HEAD = """.visible .entry test(.param .u64 in, .param .u64 out)
{
  .reg .b64 %rd<30>;
  .reg .b32 %r<30>;
  .reg .b16 %h<30>;
  .reg .f32 %f<30>;
  .reg .pred %p<4>;
  ld.param.u64 %rd2, [in];
  ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x;
"""
RANGES = {"u8": (8, False), "u16": (16, False), "u32": (32, False), "s8": (8, True), "s16": (16, True), "s32": (32, True)}
BYTES = {"u8": 1, "u16": 2, "u32": 4, "s8": 1, "s16": 2, "s32": 4, "f16": 2, "f32": 4}
AXES = {"1d": 1, "2d": 2, "3d": 3, "a1d": 1, "a2d": 2, "cube": 2, "acube": 2}


def f32(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def number(bits):
    return Fraction(struct.unpack("<f", struct.pack("<I", bits))[0])


class Texture:
    def __init__(self, type, channels, size, properties=(), seed=1):
        self.type, self.channels, self.size = type, channels, size
        self.properties = list(properties)
        self.modes = [p for p in self.properties if p in ("wrap", "clamp", "mirror", "border")]
        self.border = [number(int(p[1:], 16)) for p in self.properties if p.startswith("=")] or [Fraction(0)] * 4
        rng = random.Random(seed)
        count = size[0] * max(1, size[1]) * max(1, size[2]) * channels
        if type in RANGES:
            self.values = [rng.getrandbits(RANGES[type][0]) for _ in range(count)]
            raw = [v.to_bytes(BYTES[type], "little") for v in self.values]
            if RANGES[type][1]:
                w = RANGES[type][0]
                self.values = [v - (1 << w) if v >> (w - 1) else v for v in self.values]
        else:
            self.values = [Fraction(rng.randrange(-512, 512), 64) for _ in range(count)]
            raw = [struct.pack("<e" if type == "f16" else "<f", float(v)) for v in self.values]
        data = b"".join(raw)
        data += b"\0" * (-len(data) % 4)
        self.words = list(struct.unpack("<%dI" % (len(data) // 4), data))

    def has(self, word):
        return word in self.properties

    def floats(self):
        return self.type in ("f16", "f32") or (self.has("float") and self.type not in ("u32", "s32"))

    def value(self, stored, channel):
        """What one stored number is when it is read."""
        if not self.floats():
            return stored & MASK[32]
        x = Fraction(stored)
        if self.type in RANGES:
            w, is_signed = RANGES[self.type]
            x = max(x / ((1 << (w - 1)) - 1), Fraction(-1)) if is_signed else x / ((1 << w) - 1)
        if self.has("srgb") and channel < 3:
            y = float(x)
            x = Fraction(y / 12.92 if y <= 0.04045 else ((y + 0.055) / 1.055) ** 2.4)
        return x

    def mode(self, axis):
        if self.has("memory"):
            return "border"
        if self.has("cube"):
            return "clamp"
        mode = self.modes[axis] if axis < len(self.modes) else "clamp"
        return "clamp" if mode in ("wrap", "mirror") and not self.has("normalized") else mode

    def texel(self, index, slice):
        """Four components at integers, outside as the address modes say."""
        at = []
        for axis, i in enumerate(index):
            n, mode = max(1, self.size[axis]), self.mode(axis)
            if mode == "wrap":
                i %= n
            elif mode == "mirror":
                i %= 2 * n
                i = i if i < n else 2 * n - 1 - i
            elif mode == "clamp":
                i = min(max(i, 0), n - 1)
            elif not 0 <= i < n:
                border = [0] * 4 if self.has("memory") else self.border
                return [(border[c] if self.floats() else f32(float(border[c]))) if c < self.channels
                        else self.missing(c) for c in range(4)]
            at.append(i)
        at += [0] * (3 - len(at))
        z = slice if len(index) < 3 else at[2]
        first = ((z * max(1, self.size[1]) + at[1]) * self.size[0] + at[0]) * self.channels
        return [self.value(self.values[first + c], c) if c < self.channels else self.missing(c) for c in range(4)]

    def missing(self, channel):
        return (Fraction(1) if self.floats() else 1) if channel == 3 else (Fraction(0) if self.floats() else 0)

    def place(self, shape, coordinates):
        """Coordinates in texels, and the slice."""
        slice = 0
        coordinates = list(coordinates)
        depth = max(1, self.size[2])
        if shape in ("a1d", "a2d"):
            slice = min(coordinates.pop(0), depth - 1)
        if shape == "acube":
            slice = 6 * min(coordinates.pop(0), depth // 6 - 1)
        if shape in ("cube", "acube"):
            x, y, z = [Fraction(c) for c in coordinates]
            face, s, t, major = max(
                ((0 if x >= 0 else 1), (-z if x >= 0 else z), -y, abs(x)),
                ((2 if y >= 0 else 3), x, (z if y >= 0 else -z), abs(y)),
                ((4 if z >= 0 else 5), (x if z >= 0 else -x), -y, abs(z)), key=lambda entry: entry[3])
            slice += face
            coordinates = [number(f32(float((s / major + 1) / 2))), number(f32(float((t / major + 1) / 2)))]
        scale = self.has("normalized")
        return [Fraction(c) * (max(1, self.size[k]) if scale else 1) for k, c in enumerate(coordinates)], slice

    def fetch(self, shape, coordinates, offsets=(0, 0, 0)):
        u, slice = self.place(shape, coordinates)
        if not (self.has("linear") and self.floats()):
            return self.texel([math.floor(x) + o for x, o in zip(u, offsets)], slice)
        corners = []
        for x, o in zip(u, offsets):
            x -= Fraction(1, 2)
            i = math.floor(x)
            weight = Fraction(math.floor((x - i) * 256 + Fraction(1, 2)), 256)
            corners.append(((i + o, 1 - weight), (i + o + 1, weight)))
        total = [Fraction(0)] * 4
        for corner in itertools.product(*corners):
            weight = math.prod(w for _, w in corner)
            texel = self.texel([i for i, _ in corner], slice)
            total = [a + weight * b for a, b in zip(total, texel)]
        return total

    def gather(self, shape, coordinates, component):
        u, slice = self.place(shape, coordinates)
        i, j = [math.floor(x - Fraction(1, 2)) for x in u]
        return [self.texel([i + a, j + b], slice)[component] for a, b in ((0, 1), (1, 1), (1, 0), (0, 0))]

    def directives(self, kind="texture"):
        return [(kind, "%s x%d %d %d %d %s" % (self.type, self.channels, *self.size, " ".join(self.properties))),
                ("texels", self.words)]

    def word(self, value):
        """What a register holds; sums of weighted texels may be one step away."""
        if not self.floats():
            return value
        bits = f32(float(value))
        return bits if bits in (0, 0x3F800000) and self.type not in RANGES else "~%08x/1" % bits


def instruction(text, number):
    return "  mov.u64 %%rd1, 0x%x;\n" % number + text


def coordinates_of(texture, shape, integers, rng, count=32):
    """Tuples inside and outside, at texel centres, at edges and between."""
    tuples = []
    for _ in range(count):
        point = []
        if shape in ("a1d", "a2d", "acube"):
            point.append(rng.randrange(0, max(1, texture.size[2] // (6 if shape == "acube" else 1)) + 1))
        if shape in ("cube", "acube"):
            direction = [Fraction(rng.randrange(-64, 64) * 2 + 1, 128) for _ in range(3)]
            direction[rng.randrange(3)] = Fraction(rng.choice((-1, 1)))
            tuples.append(point + direction)
            continue
        for axis in range(AXES[shape]):
            n = max(1, texture.size[axis])
            if integers:
                point.append(rng.randrange(-2, n + 2))
                continue
            x = rng.choice((Fraction(rng.randrange(-2 * n, 3 * n) * 2 + 1, 2), Fraction(rng.randrange(-n * 64, 2 * n * 64), 64)))
            if texture.has("normalized"):
                x = number(f32(float(x / n)))
            point.append(x)
        tuples.append(point)
    return tuples


def fetch_code(shape, opcode, result, coordinate, k, n, extra=""):
    """Loads coordinates (four words a thread), fetches, stores four words a thread."""
    count = AXES[shape] + (1 if shape[0] == "a" else 0) + (1 if "cube" in shape else 0)
    code = "  mul.wide.u32 %rd4, %r1, 16;\n  add.u64 %rd5, %rd2, %rd4;\n"
    names = []
    for c in range(count):
        layer = c == 0 and shape[0] == "a"
        name = "%%r%d" % (5 + c) if layer or coordinate == "s32" else "%%f%d" % (5 + c)
        code += "  ld.global.%s %s, [%%rd5+%d];\n" % ("b32" if name[1] == "r" else "f32", name, 16 * n * k + 4 * c)
        names.append(name)
    if count == 3:
        names.append(names[-1])
    registers = ["%%f%d" % i for i in range(1, 5)] if result == "f32" else ["%%r%d" % i for i in range(10, 14)]
    code += "  %s.%s.v4.%s.%s {%s}, [%%rd1, {%s}]%s;\n" % (opcode, shape, result, coordinate, ", ".join(registers),
                                                         ", ".join(names), extra)
    code += "  add.u64 %%rd6, %%rd3, %%rd4;\n  st.global.v4.%s [%%rd6+%d], {%s};\n" % (
        "f32" if result == "f32" else "b32", 16 * n * k, ", ".join(registers))
    return code


def fetch_case(name, texture, fetches, n=32):
    """fetches: (shape, opcode, result type, coordinate type, extra operands, offsets or component)"""
    rng = random.Random(name)
    code = HEAD + instruction("", 0x0C00000100000001)
    inputs, out = [], []
    for k, (shape, opcode, result, coordinate, extra, more) in enumerate(fetches):
        points = coordinates_of(texture, shape, coordinate == "s32", rng, n)
        code += fetch_code(shape, opcode, result, coordinate, k, n, extra)
        for point in points:
            layered = shape[0] == "a"
            words = [int(c) & MASK[32] if coordinate == "s32" or (layered and i == 0) else f32(float(c))
                     for i, c in enumerate(point)]
            inputs += words + [0] * (4 - len(words))
            if opcode.startswith("tld4"):
                values = texture.gather(shape, point, more)
            else:
                values = texture.fetch(shape, point, more or (0, 0, 0))
            out += [texture.word(v) for v in values]
    write(name, texture.directives() + [("block", str(n)), ("in", inputs), ("out", out)], code + "  ret;\n}\n")


def plain(shape, results, level=True):
    fetches = [(shape, "tex", result, "f32", "", None) for result in results]
    if level:
        fetches.append((shape, "tex.level", results[0], "f32", ", %f0", None))
    return fetches


SIZES = {"1d": (13, 0, 0), "2d": (7, 5, 0), "3d": (5, 4, 3), "a1d": (9, 0, 3), "a2d": (6, 5, 3), "cube": (4, 4, 6),
         "acube": (4, 4, 12)}


def properties_of(shape):
    return (["layered"] if shape[0] == "a" else []) + (["cube", "normalized"] if "cube" in shape else [])


def fetches():
    for shape, size in SIZES.items():
        extra = properties_of(shape)
        for filtering in ([], ["linear"]):
            suffix = "_linear" if filtering else ""
            fetch_case("texture_%s%s" % (shape, suffix), Texture("f32", 4, size, extra + filtering), plain(shape, ["f32"]))
        fetch_case("texture_%s_integers" % shape, Texture("u8", 4, size, extra), plain(shape, ["u32", "s32"], False))
        if "cube" not in shape:
            fetch_case("texture_%s_texels" % shape, Texture("s16", 2, size, extra),
                       [(shape, "tex", "s32", "s32", "", None), (shape, "tex", "u32", "s32", "", None)])
            for mode in ("wrap", "clamp", "mirror", "border"):
                border = ["=%08x" % f32(x) for x in (0.5, -2.0, 3.0, 7.0)]
                for filtering in ([], ["linear"]):
                    texture = Texture("f32", 4, size, extra + ["normalized"] + [mode] * 3 + filtering + border)
                    fetch_case("texture_%s_%s%s" % (shape, mode, "_linear" if filtering else ""), texture, plain(shape, ["f32"], False))
    fetch_case("texture_1d_memory", Texture("f32", 1, (50, 0, 0), ["memory"]), [("1d", "tex", "f32", "s32", "", None)])
    gradient = [("2d", "tex.grad", "f32", "f32", ", {%f5, %f6}, {%f5, %f6}", None),
                ("2d", "tex", "f32", "f32", ", {1, -2}", (1, -2))]
    fetch_case("texture_2d_gradient_offset", Texture("f32", 2, (7, 5, 0), ["linear"]), gradient)


def formats():
    for type in BYTES:
        for channels in (1, 2, 4):
            result = "f32" if type in ("f16", "f32") else "s32" if type[0] == "s" else "u32"
            fetch_case("texture_format_%s_%d" % (type, channels), Texture(type, channels, (9, 6, 0)), plain("2d", [result], False))
            if type[0] in "us" and BYTES[type] < 4:
                for filtering in ([], ["linear"]):
                    name = "texture_normalized_%s_%d%s" % (type, channels, "_linear" if filtering else "")
                    fetch_case(name, Texture(type, channels, (9, 6, 0), ["float"] + filtering), plain("2d", ["f32"], False))
    fetch_case("texture_srgb", Texture("u8", 4, (16, 16, 0), ["float", "srgb"]), plain("2d", ["f32"], False))
    fetch_case("texture_f16_linear", Texture("f16", 4, (16, 16, 0), ["linear"]), plain("2d", ["f32"], False))


def gathers():
    for shape, size in (("2d", (7, 5, 0)), ("a2d", (7, 5, 3))):
        fetch_case("texture_gather_%s" % shape, Texture("f32", 4, size, properties_of(shape)),
                   [(shape, "tld4." + c, "f32", "f32", "", k) for k, c in enumerate("rgba")])
    fetch_case("texture_gather_u8", Texture("u8", 4, (7, 5, 0)), [("2d", "tld4.b", "u32", "f32", "", 2)])


def queries():
    texture = Texture("u8", 4, (7, 5, 3), ["float", "normalized", "linear", "wrap", "border"])
    asked = (("width", 7), ("height", 5), ("depth", 3), ("channel_data_type", 0x10D2), ("channel_order", 0x10B5),
             ("normalized_coords", 1))
    code = HEAD + instruction("", 0x0C00000100000001)
    for k, (what, _) in enumerate(asked):
        code += "  txq.%s.b32 %%r2, [%%rd1];\n  st.global.b32 [%%rd3+%d], %%r2;\n" % (what, 4 * k)
    surface = Texture("s16", 2, (9, 4, 0))
    code += instruction("", 0x0D00000100000002)
    also = (("width", 9), ("height", 4), ("channel_data_type", 0x10D8), ("channel_order", 0x10B2))
    for k, (what, _) in enumerate(also):
        code += "  suq.%s.b32 %%r2, [%%rd1];\n  st.global.b32 [%%rd3+%d], %%r2;\n" % (what, 4 * (k + len(asked)))
    write("texture_queries", texture.directives() + surface.directives("surface") +
          [("out", [value for _, value in asked + also])], code + "  ret;\n}\n")


SURFACES = {"1d": (64, 0, 0), "2d": (64, 5, 0), "3d": (64, 4, 3), "a1d": (64, 0, 3), "a2d": (64, 4, 3)}


def surface_access(name, shape, t, vector, mode):
    """A store through the surface from some threads, then a load of the same and of other places by each."""
    rng = random.Random(name)
    size = SURFACES[shape]
    element, count = int(t[1:]) // 8, {"": 1, ".v2": 2, ".v4": 4}[vector]
    access = element * count
    surface = Texture("u32", 1, size, properties_of(shape), 3)
    data = bytearray(struct.pack("<%dI" % len(surface.words), *surface.words))
    row, rows, slices = 4 * size[0], max(1, size[1]), max(1, size[2])
    axes = AXES[shape] + (1 if shape[0] == "a" else 0)
    slow = 0 if mode == "trap" else 2

    def point():
        x = rng.randrange(-slow, row // access + slow) * access
        y = rng.randrange(-slow, rows + slow)
        z = rng.randrange(0 if shape[0] == "a" else -slow, slices + slow)
        return x, y if AXES[shape] > 1 else 0, z if axes > 2 or shape == "a1d" else 0

    def offset(x, y, z):
        if mode == "clamp":
            x, y, z = min(max(x, 0), row - access), min(max(y, 0), rows - 1), min(max(z, 0), slices - 1)
        if not (0 <= x <= row - access and 0 <= y < rows and 0 <= z < slices):
            return None
        return (z * rows + y) * row + x

    def ordered(x, y, z):
        words = {"1d": [x], "2d": [x, y], "3d": [x, y, z, 0], "a1d": [z, x], "a2d": [z, x, y, 0]}[shape]
        return [w & MASK[32] for w in words] + [0] * (4 - len(words))

    n = 16
    places, used = [], set()
    while len(places) < n:
        p = point()
        at = offset(*p)
        if at is None or at not in used:
            used.add(at)
            places.append(p)
    reads = [point() for _ in range(n)]
    registers = ["%%%s%d" % ({1: "h", 2: "h", 4: "r", 8: "rd"}[element], 12 + i) for i in range(count)]
    braced = "{" + ", ".join(registers) + "}"
    names = "{" + ", ".join("%%r%d" % (4 + i) for i in range({1: 1, 2: 2, 3: 4}[axes])) + "}"
    load = "  ld.global.v4.b32 {%%r4, %%r5, %%r6, %%r7}, [%%rd5+%d];\n"
    code = HEAD + instruction("", 0x0D00000100000001)
    code += "  mul.wide.u32 %rd4, %r1, 64;\n  add.u64 %rd5, %rd2, %rd4;\n  mul.wide.u32 %rd6, %r1, 16;\n  add.u64 %rd7, %rd3, %rd6;\n"
    code += load % 0
    for i, r in enumerate(registers):
        code += "  ld.global.b%d %s, [%%rd5+%d];\n" % (8 * element, r, 32 + element * i)
    code += "  sust.b.%s%s.%s.%s [%%rd1, %s], %s;\n" % (shape, vector, t, mode, names, braced)
    code += "  bar.sync 0;\n" + load % 16
    code += "  suld.b.%s%s.%s.%s %s, [%%rd1, %s];\n" % (shape, vector, t, mode, braced, names)
    for i, r in enumerate(registers):
        code += "  st.global.b%d [%%rd7+%d], %s;\n" % (8 * element, element * i, r)
    inputs, values = [], []
    for p, q in zip(places, reads):
        value = bytes(rng.getrandbits(8) for _ in range(access))
        inputs += ordered(*p) + ordered(*q) + list(struct.unpack("<8I", value + bytes(32 - access)))
        values.append((p, value))
    for p, value in values:
        at = offset(*p)
        if at is not None:
            data[at:at + access] = value
    out = []
    for q in reads:
        at = offset(*q)
        got = bytes(access) if at is None else bytes(data[at:at + access])
        out += struct.unpack("<4I", got + b"\xa5" * (16 - access))
    write(name, surface.directives("surface") + [("block", str(n)), ("in", inputs), ("out", out)], code + "  ret;\n}\n")


def surfaces():
    for shape in SURFACES:
        for t in ("b8", "b16", "b32", "b64"):
            for mode in ("trap", "clamp", "zero"):
                surface_access("surface_%s_%s_%s" % (shape, t, mode), shape, t, "", mode)
    for t, vector in (("b32", ".v2"), ("b32", ".v4"), ("b64", ".v2"), ("b8", ".v4"), ("b16", ".v2")):
        surface_access("surface_2d_%s%s" % (t, vector.replace(".", "_")), "2d", t, vector, "zero")


def reductions():
    """Sixteen threads on four cells."""
    rng = random.Random(9)
    operations = (("add", "u32"), ("min", "u32"), ("max", "u32"), ("min", "s32"), ("max", "s32"), ("and", "b32"), ("or", "b32"),
                  ("add", "s32"), ("add", "u64"), ("min", "s64"), ("max", "u64"))
    for op, t in operations:
        w = int(t[1:])
        surface = Texture("u32", 1, (8, 2, 0), [], 11)
        cells = [int.from_bytes(struct.pack("<2I", *surface.words[8 + 2 * i:10 + 2 * i]), "little") & MASK[w] for i in range(4)]
        values = [rng.getrandbits(w) for _ in range(16)]

        def key(x):
            return x - (1 << w) if t[0] == "s" and x >> (w - 1) else x
        for lane, v in enumerate(values):
            c = cells[lane % 4]
            cells[lane % 4] = {"add": (c + v) & MASK[w], "min": min(c, v, key=key), "max": max(c, v, key=key), "and": c & v, "or": c | v}[op]
        register = "%rd8" if w == 64 else "%r8"
        code = HEAD + instruction("", 0x0D00000100000001)
        code += "  mul.wide.u32 %%rd4, %%r1, 8;\n  add.u64 %%rd5, %%rd2, %%rd4;\n  ld.global.b%d %s, [%%rd5];\n" % (w, register)
        code += "  and.b32 %r2, %r1, 3;\n  shl.b32 %r2, %r2, 3;\n  mov.u32 %r3, 1;\n"
        code += "  sured.b.%s.2d.%s.trap [%%rd1, {%%r2, %%r3}], %s;\n  bar.sync 0;\n" % (op, t, register)
        code += "  suld.b.2d.b%d.trap {%s}, [%%rd1, {%%r2, %%r3}];\n" % (w, register)
        code += "  add.u64 %%rd6, %%rd3, %%rd4;\n  st.global.b%d [%%rd6], %s;\n" % (w, register)
        out = []
        for lane in range(16):
            out += [cells[lane % 4] & MASK[32], cells[lane % 4] >> 32 if w == 64 else 0xA5A5A5A5]
        inputs = [x for v in values for x in (v & MASK[32], v >> 32)]
        write("surface_reduce_%s_%s" % (op, t), surface.directives("surface") + [("block", "16"), ("in", inputs), ("out", out)],
              code + "  ret;\n}\n", SM_90)


MAKERS = (fetches, formats, gathers, queries, surfaces, reductions)
