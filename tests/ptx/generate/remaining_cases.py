"""Forms that no other file comes to: conversions of like to like, addresses, vectors of small elements, hints, and what
threads do together in other spellings."""
import random

from generate.case_writer import MASK, REG, SM_80, SM_90, WIDTH, table, write
from generate.atomic_cases import vector_case
from generate.compare_cases import compare_floats
from generate.convert_cases import float_to_float
from generate.float_values import *
from generate.matrix_cases import wmma_case

SM_100 = ("8.8", "sm_100")
HEAD = """.visible .entry test(.param .u64 in, .param .u64 out)
{
  .reg .b64 %rd<40>;
  .reg .b32 %r<40>;
  .reg .b16 %h<40>;
  .reg .f32 %f<20>;
  .reg .f64 %fd<20>;
  .reg .pred %p<12>;
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  mov.u32 %r1, %tid.x;
"""


def number_forms():
    f16, bf16 = floats(16), floats(BF16)
    less = lambda a, b: int(compare_floats("lt", flushed(a, 16), flushed(b, 16), 16))
    pairs = [(a, b) for a in f16[::2] for b in f16[::3]][:400]
    table("set_bf16_f16", pairs, [("set.ne.bf16.f16 {d}, {a}, {b};", "bf16", ("f16", "f16"),
                                   lambda a, b: 0x3F80 * int(compare_floats("ne", a, b, 16)))], SM_90)
    packed = [(a | b << 16, b | a << 16) for a, b in pairs]
    table("setp_ftz_f16x2", packed, [
        ("setp.lt.ftz.f16x2 {d}|%p5, {a}, {b};", "pred", ("f16x2", "f16x2"), lambda a, b: less(a & 0xFFFF, b & 0xFFFF)),
        ("setp.lt.ftz.f16x2 %p5|{d}, {a}, {b};", "pred", ("f16x2", "f16x2"), lambda a, b: less(a >> 16, b >> 16))], SM_90)
    table("cvt_from_bf16", [(x,) for x in bf16], [
        ("cvt%s.%s.bf16 {d}, {a};" % (mode and "." + mode, to), to, ("bf16",),
         lambda a, to=to, mode=mode: float_to_float(a, BF16, BF16 if to == "bf16" else WIDTH[to], mode or "rn"))
        for to in ("f32", "f64") for mode in ("rn", "rz", "rm", "rp")], SM_90)
    table("cvt_like_f32", [(x,) for x in floats(32)], [("cvt.f32.f32 {d}, {a};", "f32", ("f32",), lambda a: float_to_float(a, 32, 32, "rn"))])
    table("cvt_like_f64", [(x,) for x in floats(64)], [("cvt.f64.f64 {d}, {a};", "f64", ("f64",), lambda a: float_to_float(a, 64, 64, "rn"))])
    table("cvt_like_f16", [(x,) for x in f16], [("cvt.f16.f16 {d}, {a};", "f16", ("f16",), lambda a: float_to_float(a, 16, 16, "rn"))])
    table("cvt_f16_f64_modes", [(x,) for x in floats(64)], [
        ("cvt.%s.f16.f64 {d}, {a};" % m, "f16", ("f64",), lambda a, m=m: float_to_float(a, 64, 16, m)) for m in ("rz", "rm", "rp")])


def addresses():
    """Each lane goes through the generic address of a variable of each space, and asks where it is."""
    text = ".global .align 8 .u32 far[2] = {0x600, 0x601};\n.const .align 8 .u32 fixed[2] = {0x700, 0x701};\n" + HEAD
    text += "  .shared .align 8 .u32 near[2];\n  .local .align 8 .u32 own[2];\n"
    text += "  mov.u32 %r3, 0x800;\n  st.shared.u32 [near], %r3;\n  mov.u32 %r3, 0x900;\n  st.local.u32 [own], %r3;\n"
    out = []

    def put(register, value):
        nonlocal text
        text += "  st.global.u32 [%%rd2+%d], %s;\n" % (4 * len(out), register)
        out.append(value)

    for space, name, value in (("global", "far", 0x600), ("const", "fixed", 0x700), ("shared", "near", 0x800), ("local", "own", 0x900)):
        text += "  mov.u64 %%rd5, %s;\n  cvta.%s.u64 %%rd6, %%rd5;\n  ld.u32 %%r4, [%%rd6];\n" % (name, space)
        put("%r4", value)
        text += "  cvta.to.%s.u64 %%rd7, %%rd6;\n  ld.%s.u32 %%r4, [%%rd7];\n" % (space, space)
        put("%r4", value)
        for other in ("global", "shared", "local", "shared::cta", "shared::cluster") if space != "const" else ():
            text += "  isspacep.%s %%p1, %%rd6;\n  selp.u32 %%r4, 1, 0, %%p1;\n" % other
            put("%r4", int(other.split("::")[0] == space))
    write("address_spaces", [("out", out)], text + "  ret;\n}\n", SM_90)


def elements_cases():
    """Vectors of every element type, loaded from global memory and parameters, stored in shared memory."""
    rng = random.Random(17)
    types = ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64")
    data = [rng.getrandbits(8) for _ in range(64)]
    word = lambda at: int.from_bytes(bytes(data[at:at + 4]), "little")
    forms = [(t, n) for t in types for n in (1, 2, 4) if n * WIDTH[t] <= 128]
    for source in ("global", "global.nc", "call", "const"):
        text = ""
        initial = ", ".join(str(x) for x in data)
        if source == "const":
            text = ".const .align 16 .b8 table[64] = {%s};\n" % initial
        text += HEAD + "  .shared .align 16 .b8 row[64];\n  mov.u32 %r2, row;\n"
        if source == "call":
            # A kernel's own parameters are two words: what a function is given lies in parameters too.
            text = (".func (.param .b32 result) sum(.param .align 16 .b8 row[64])\n{\n  .reg .b32 %r<4>;\n  ld.param.b32 %r1, [row];\n"
                    "  ld.param.b32 %r2, [row+60];\n  xor.b32 %r3, %r1, %r2;\n  st.param.b32 [result], %r3;\n  ret;\n}\n") + text
            text += "  {\n  .param .align 16 .b8 row0[64];\n  .param .b32 result0;\n"
            for k in range(16):
                text += "  mov.b32 %%r10, 0x%08x;\n  st.param.b32 [row0+%d], %%r10;\n" % (word(4 * k), 4 * k)
            text += "  call (result0), sum, (row0);\n  ld.param.b32 %r11, [result0];\n  st.global.b32 [%rd2], %r11;\n  }\n"
            write("elements_call", [("out", [word(0) ^ word(60)])], text + "  ret;\n}\n")
            continue
        out = []
        for number, (t, n) in enumerate(forms):
            kind = REG[t] if WIDTH[t] != 8 else "h"
            names = ["%%%s%d" % (kind, 3 + k) for k in range(n)]
            brace = "{" + ", ".join(names) + "}" if n > 1 else names[0]
            vector = ".v%d" % n if n > 1 else ""
            at = (16 * number) % 64 if n > 1 else (8 * number) % 64
            address = "table+%d" % at if source == "const" else "%%rd1+%d" % at
            text += "  ld.%s%s.%s %s, [%s];\n" % (source, vector, t, brace, address)
            back = "{" + ", ".join(reversed(names)) + "}" if n > 1 else names[0]
            text += "  st.shared%s.%s [%%r2], %s;\n" % (vector, t, back)
            size = WIDTH[t] // 8
            row = b"".join(bytes(data[at + k * size:at + (k + 1) * size]) for k in reversed(range(n)))
            row += bytes(-len(row) % 4)
            for k in range(0, len(row), 4):
                left = n * size - k
                load, mask = ("b32", 4) if left >= 4 else ("u16", 2) if left >= 2 else ("u8", 1)
                text += "  ld.shared.%s %%r20, [%%r2+%d];\n  st.global.b32 [%%rd2+%d], %%r20;\n" % (load, k, 4 * len(out))
                out.append(int.from_bytes(row[k:k + mask], "little"))
        inputs = [word(4 * k) for k in range(16)]
        write("elements_" + source.replace(".", "_"), [("in", inputs), ("out", out)], text + "  ret;\n}\n", SM_90)


def parameters():
    """Elements of the kernel's parameters, two addresses, against what shifts and masks make of these."""
    text, out = HEAD, []
    for t in ("b8", "u8", "s8", "b16", "u16", "s16", "b32", "u32", "s32", "f32", "b64", "u64", "s64", "f64"):
        for n in (1, 2, 4):
            w = WIDTH[t]
            if n * w > 128:
                continue
            kind = REG[t] if w != 8 else "r"
            names = ["%%%s%d" % (kind, 5 + j) for j in range(n)]
            text += "  ld.param%s.%s %s, [in];\n" % (".v%d" % n if n > 1 else "", t, "{" + ", ".join(names) + "}" if n > 1 else names[0])
            text += "  mov.u64 %rd20, 0;\n  mov.u64 %rd23, 0;\n"
            for j, name in enumerate(names):
                text += {"h": "  cvt.u64.u16 %%rd21, %s;\n", "r": "  cvt.u64.u32 %%rd21, %s;\n", "rd": "  mov.b64 %%rd21, %s;\n",
                         "f": "  mov.b32 %%r30, %s;\n  cvt.u64.u32 %%rd21, %%r30;\n", "fd": "  mov.b64 %%rd21, %s;\n"}[kind] % name
                if w == 8:
                    # A signed byte fills its register with its sign.
                    if t == "s8":
                        text += "  cvt.s32.s8 %%r29, %s;\n  setp.ne.s32 %%p2, %%r29, %s;\n  @%%p2 trap;\n" % (name, name)
                    text += "  and.b64 %rd21, %rd21, 255;\n"
                half = "%rd20" if w * j < 64 else "%rd23"
                text += "  shl.b64 %%rd21, %%rd21, %d;\n  or.b64 %s, %s, %%rd21;\n" % (w * j % 64, half, half)
            text += "  and.b64 %%rd22, %%rd1, 0x%x;\n  xor.b64 %%rd20, %%rd20, %%rd22;\n" % ((1 << min(64, n * w)) - 1)
            if n * w == 128:
                text += "  xor.b64 %rd23, %rd23, %rd2;\n  or.b64 %rd20, %rd20, %rd23;\n"
            text += "  cvt.u32.u64 %%r31, %%rd20;\n  st.global.u32 [%%rd2+%d], %%r31;\n" % (4 * len(out))
            out.append(0)
    write("parameter_elements", [("in", [1, 2, 3, 4]), ("out", out)], text + "  ret;\n}\n")


def wide_spaces():
    """128 bits through generic, local and constant addresses."""
    rng = random.Random(5)
    value = [rng.getrandbits(32) for _ in range(4)]
    other = [rng.getrandbits(32) for _ in range(4)]
    text = ".const .align 16 .b32 fixed[4] = {%s};\n" % ", ".join("0x%x" % x for x in value) + HEAD
    text += "  .reg .b128 %q<10>;\n  .local .align 16 .b8 own[16];\n  ld.const.b128 %q1, [fixed];\n  st.local.b128 [own], %q1;\n"
    text += "  ld.local.b128 %q2, [own];\n  st.b128 [%rd2], %q2;\n  ld.b128 %q3, [%rd1];\n  st.b128 [%rd2+16], %q3;\n"
    text += "  atom.exch.b128 %q4, [%rd2+16], %q1;\n  st.b128 [%rd2+32], %q4;\n"
    text += "  atom.cas.b128 %q5, [%rd2], %q1, %q3;\n  st.b128 [%rd2+48], %q5;\n"
    write("memory_wide_spaces", [("in", other), ("out", other + value + other + value)], text + "  ret;\n}\n", SM_90)


def hints():
    """What steers caches and schedulers changes nothing that a program can see."""
    text = HEAD + "  mul.wide.u32 %rd3, %r1, 4;\n  add.u64 %rd4, %rd1, %rd3;\n  add.u64 %rd5, %rd2, %rd3;\n"
    text += "  createpolicy.fractional.L2::evict_last.b64 %rd6, 1.0;\n"
    text += "  prefetch.global.L2 [%rd4];\n  prefetchu.L1 [%rd4];\n  applypriority.global.L2::evict_normal [%rd1], 128;\n"
    loads = ("ld.global.nc.u32 %r5, [%rd4];", "ldu.global.u32 %r5, [%rd4];", "ld.global.cs.u32 %r5, [%rd4];",
             "ld.global.L2::cache_hint.u32 %r5, [%rd4], %rd6;")
    stores = ("st.global.wt.u32 [%%rd5+%d], %%r5;", "st.global.L2::cache_hint.u32 [%%rd5+%d], %%r5, %%rd6;")
    fences = ("fence.acquire.gpu;", "fence.release.gpu;", "fence.proxy.alias;", "fence.proxy.tensormap::generic.release.gpu;",
              "nanosleep.u32 20;", "griddepcontrol.wait;", "griddepcontrol.launch_dependents;", "pmevent 3;")
    data = [7 * k + 3 for k in range(32)]
    out = []
    for number, load in enumerate(loads * 2):
        text += "  %s\n  add.u32 %%r5, %%r5, %d;\n  %s\n" % (load, number, fences[number % len(fences)])
        text += "  " + stores[number % 2] % (128 * number) + "\n"
        out += [x + number for x in data]
    text += "  ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r10, %r11, %r12, %r13}, [%rd1];\n  add.u32 %r10, %r10, %r11;\n"
    text += "  add.u32 %%r12, %%r12, %%r13;\n  add.u32 %%r10, %%r10, %%r12;\n  st.global.u32 [%%rd5+%d], %%r10;\n" % (128 * len(loads) * 2)
    out += [sum(data[:4])] * 32
    write("hints", [("block", "32"), ("in", data), ("out", out)], text + "  ret;\n}\n", ("8.3", "sm_90"))
    # What is thrown away may be anything; what lies beside it stays.
    text = ".global .align 128 .b8 spare[256];\n" + HEAD
    text += "  mov.u64 %rd5, spare;\n  mov.u32 %r5, 77;\n  st.global.u32 [%rd5+128], %r5;\n  discard.global.L2 [%rd5], 128;\n"
    text += "  st.global.u32 [%rd5], %r5;\n  ld.global.u32 %r6, [%rd5+128];\n  ld.global.u32 %r7, [%rd5];\n"
    text += "  st.global.u32 [%rd2], %r6;\n  st.global.u32 [%rd2+4], %r7;\n"
    write("hint_discard", [("out", [77, 77])], text + "  ret;\n}\n")
    text = HEAD + "  setmaxnreg.inc.sync.aligned.u32 64;\n  setmaxnreg.dec.sync.aligned.u32 32;\n  mul.wide.u32 %rd3, %r1, 4;\n"
    text += "  add.u64 %rd3, %rd2, %rd3;\n  st.global.u32 [%rd3], %r1;\n"
    write("hint_registers", [("block", "128"), ("out", list(range(128)))], text + "  ret;\n}\n", ("8.0", "sm_90a"))


def together():
    rng = random.Random(3)
    values = [rng.choice([5, 6, 5 << 32, 6 << 32, 1 << 63]) for _ in range(32)]
    text = HEAD + "  mul.wide.u32 %rd3, %r1, 8;\n  add.u64 %rd4, %rd1, %rd3;\n  mul.wide.u32 %rd3, %r1, 4;\n  add.u64 %rd5, %rd2, %rd3;\n"
    text += "  ld.global.b64 %rd6, [%rd4];\n  match.any.sync.b64 %r5, %rd6, -1;\n  st.global.u32 [%rd5], %r5;\n"
    text += "  mov.u32 %r6, 0;\n  elect.sync %r7|%p1, -1;\n  @%p1 mov.u32 %r6, 1;\n  st.global.u32 [%rd5+128], %r6;\n  st.global.u32 [%rd5+256], %r7;\n"
    # Only the upper half elects: its lowest lane is 16, whom PTX does not promise, so that only their number is told.
    text += "  mov.u32 %r6, 9;\n  setp.lt.u32 %p2, %r1, 16;\n  @%p2 bra done;\n  mov.u32 %r6, 0;\n  elect.sync _|%p1, 0xffff0000;\n"
    text += "  @%p1 mov.u32 %r6, 1;\n  redux.sync.add.u32 %r6, %r6, 0xffff0000;\ndone:\n  st.global.u32 [%rd5+384], %r6;\n"
    out = [sum(1 << k for k in range(32) if values[k] == v) for v in values] + [1] + [0] * 31 + [0] * 32 + [9] * 16 + [1] * 16
    write("warp_match_elect", [("block", "32"), ("in", [w for v in values for w in (v & MASK[32], v >> 32)]), ("out", out)],
          text + "  ret;\n}\n", ("8.0", "sm_90"))
    text = HEAD + "  .shared .align 4 .b8 words[128];\n  mov.u32 %r2, words;\n  and.b32 %r3, %r1, 31;\n  shl.b32 %r4, %r3, 2;\n  add.u32 %r2, %r2, %r4;\n"
    text += "  shr.u32 %r5, %r1, 5;\n  setp.eq.u32 %p1, %r5, 0;\n  @%p1 bra first;\n"
    text += "  barrier.sync.aligned 1, 64;\n  ld.shared.u32 %r6, [%r2];\n  mul.wide.u32 %rd3, %r3, 4;\n  add.u64 %rd3, %rd2, %rd3;\n  st.global.u32 [%rd3], %r6;\n  ret;\n"
    text += "first:\n  mad.lo.u32 %r6, %r1, 3, 1;\n  st.shared.u32 [%r2], %r6;\n  barrier.arrive 1, 64;\n"
    write("barrier_spellings", [("block", "64"), ("out", [3 * k + 1 for k in range(32)])], text + "  ret;\n}\n")
    text = HEAD + "  mov.u32 %r5, 1;\n  st.global.u32 [%rd2], %r5;\n  brkpt;\n  st.global.u32 [%rd2+4], %r5;\n  ret;\n}\n"
    write("fault_breakpoint", [("fault", "trap"), ("out", [1])], text)
    # st.bulk: the middle of a row of ones becomes zero.
    text = HEAD + "  .shared .align 16 .b8 row[64];\n  mov.u32 %r2, row;\n  mov.u32 %r3, -1;\n  shl.b32 %r4, %r1, 2;\n  add.u32 %r5, %r2, %r4;\n"
    text += "  st.shared.u32 [%r5], %r3;\n  bar.sync 0;\n  setp.eq.u32 %p1, %r1, 0;\n  mov.u64 %rd6, row;\n  @%p1 st.bulk.shared::cta [%rd6+8], 32, 0;\n"
    text += "  bar.sync 0;\n  ld.shared.u32 %r6, [%r5];\n  mul.wide.u32 %rd3, %r1, 4;\n  add.u64 %rd3, %rd2, %rd3;\n  st.global.u32 [%rd3], %r6;\n"
    write("store_bulk", [("block", "16"), ("out", [MASK[32]] * 2 + [0] * 8 + [MASK[32]] * 6)], text + "  ret;\n}\n", SM_100)


def matrix_spellings():
    plain = (0, 1, 0, 1)
    for shape in ("m16n16k16", "m32n8k16", "m8n32k16"):
        for td, tc in (("f32", "f32"), ("f16", "f16"), ("f32", "f16"), ("f16", "f32")):
            wmma_case("%s_generic_%s_%s" % (shape, td, tc), shape, (td, "f16", "f16", tc), plain, space="")
        wmma_case(shape + "_shared_row", shape, ("f32", "f16", "f16", "f32"), (0, 0, 0, 1), space="shared")
        wmma_case(shape + "_generic_s8", shape, ("s32", "s8", "s8", "s32"), plain, space="")
    for b in (0, 1):
        wmma_case("m16n16k8_shared_%d" % b, "m16n16k8", ("f32", "tf32", "tf32", "f32"), (0, b, 0, 1), space="shared")
        wmma_case("m8n8k4_shared_%d" % b, "m8n8k4", ("f64",) * 4, (0, b, 0, 1), space="shared")
    wmma_case("m16n16k8_generic", "m16n16k8", ("f32", "tf32", "tf32", "f32"), plain, space="")
    wmma_case("m8n8k4_generic", "m8n8k4", ("f64",) * 4, plain, space="")
    for t in ("s4", "u4"):
        wmma_case("m8n8k32_generic_" + t, "m8n8k32", ("s32", t, t, "s32"), plain, space="")
    wmma_case("m8n8k128_generic", "m8n8k128", ("s32", "b1", "b1", "s32"), plain, ".xor.popc", space="", logic=lambda x, y: x ^ y)


def atomic_spellings():
    for reduce in (False, True):
        for t in ("f16", "bf16", "f16x2", "bf16x2"):
            vector_case("%s_%s_generic" % ("red" if reduce else "atom", t), "add", t, 1, "", SM_90, reduce)


MAKERS = (number_forms, addresses, elements_cases, parameters, wide_spaces, hints, together, matrix_spellings, atomic_spellings)
