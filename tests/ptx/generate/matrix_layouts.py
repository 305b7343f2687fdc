"""Fragments of mma as the PTX document gives them, shape by shape: element i of a lane to (row, column)."""


def group(lane):
    return lane >> 2


def member(lane):
    return lane & 3


def a_m8n8k4_f16(col):
    def place(lane, i):
        low = 0 if lane < 16 else 4
        return (i % 4 + low, lane % 4) if col else (lane % 4 + low, i)
    return place


def b_m8n8k4_f16(col):
    def place(lane, i):
        low = 0 if lane < 16 else 4
        return (i, lane % 4 + low) if col else (lane % 4, i + low)
    return place


def c_m8n8k4_f16(lane, i):
    return lane % 4 if lane < 16 else lane % 4 + 4, i


def c_m8n8k4_f32(lane, i):
    x = (lane & 1) + (i & 2)
    return x if lane < 16 else x + 4, (i & 4) + (lane & 2) + (i & 1)


def upper(lane, first_half):
    return group(lane) if first_half else group(lane) + 8


C16 = lambda l, i: (upper(l, i < 2), member(l) * 2 + (i & 1))
C8 = lambda l, i: (group(l), member(l) * 2 + (i & 1))

# (shape, width of an element) -> (elements of A, place of A, elements of B, place of B, elements of C, place of C)
LAYOUTS = {
    ("m8n8k4", 64): (1, lambda l, i: (group(l), member(l)), 1, lambda l, i: (member(l), group(l)), 2, C8),
    ("m16n8k4", 64): (2, lambda l, i: (upper(l, i == 0), member(l)), 1, lambda l, i: (member(l), group(l)), 4, C16),
    ("m16n8k8", 64): (4, lambda l, i: (upper(l, i in (0, 2)), member(l) if i < 2 else member(l) + 4),
                      2, lambda l, i: (member(l) if i == 0 else member(l) + 4, group(l)), 4, C16),
    ("m16n8k16", 64): (8, lambda l, i: (upper(l, i % 2 == 0), i * 2 + member(l) if i % 2 == 0 else i * 2 - 2 + member(l)),
                       4, lambda l, i: (member(l) + i * 4, group(l)), 4, C16),
    ("m16n8k8", 16): (4, lambda l, i: (upper(l, i < 2), member(l) * 2 + (i & 1)),
                      2, lambda l, i: (member(l) * 2 + i, group(l)), 4, C16),
    ("m16n8k16", 16): (8, lambda l, i: (upper(l, i < 2 or 4 <= i < 6), member(l) * 2 + (i & 1) + (0 if i < 4 else 8)),
                       4, lambda l, i: (member(l) * 2 + (i & 1) + (0 if i < 2 else 8), group(l)), 4, C16),
    ("m16n8k4", 32): (2, lambda l, i: (upper(l, i == 0), member(l)), 1, lambda l, i: (member(l), group(l)), 4, C16),
    ("m16n8k8", 32): (4, lambda l, i: (upper(l, i in (0, 2)), member(l) + (0 if i < 2 else 4)),
                      2, lambda l, i: (member(l) + (0 if i == 0 else 4), group(l)), 4, C16),
    ("m8n8k16", 8): (4, lambda l, i: (group(l), member(l) * 4 + i), 4, lambda l, i: (member(l) * 4 + i, group(l)), 2, C8),
    ("m16n8k16", 8): (8, lambda l, i: (upper(l, i < 4), member(l) * 4 + (i & 3)),
                      4, lambda l, i: (member(l) * 4 + i, group(l)), 4, C16),
    ("m16n8k32", 8): (16, lambda l, i: (upper(l, i < 4 or 8 <= i < 12), member(l) * 4 + (i & 3) + (0 if i < 8 else 16)),
                      8, lambda l, i: (member(l) * 4 + (i & 3) + (0 if i < 4 else 16), group(l)), 4, C16),
    ("m8n8k32", 4): (8, lambda l, i: (group(l), member(l) * 8 + i), 8, lambda l, i: (member(l) * 8 + i, group(l)), 2, C8),
    ("m16n8k32", 4): (16, lambda l, i: (upper(l, i < 8), member(l) * 8 + (i & 7)),
                      8, lambda l, i: (member(l) * 8 + i, group(l)), 4, C16),
    ("m16n8k64", 4): (32, lambda l, i: (upper(l, i < 8 or 16 <= i < 24), member(l) * 8 + (i & 7) + (0 if i < 16 else 32)),
                      16, lambda l, i: (member(l) * 8 + (i & 7) + (0 if i < 8 else 32), group(l)), 4, C16),
    ("m8n8k128", 1): (32, lambda l, i: (group(l), member(l) * 32 + i), 32, lambda l, i: (member(l) * 32 + i, group(l)), 2, C8),
    ("m16n8k128", 1): (64, lambda l, i: (upper(l, i < 32), member(l) * 32 + (i & 31)),
                       32, lambda l, i: (member(l) * 32 + i, group(l)), 4, C16),
    ("m16n8k256", 1): (128, lambda l, i: (upper(l, i < 32 or 64 <= i < 96), member(l) * 32 + (i & 31) + (0 if i < 64 else 128)),
                       64, lambda l, i: (member(l) * 32 + (i & 31) + (0 if i < 32 else 128), group(l)), 4, C16),
}
