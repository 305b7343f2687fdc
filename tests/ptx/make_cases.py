#!/usr/bin/env python3
"""make_cases.py FOLDER: writes case files for ptx_test, instructions with operands and the results that PTX defines.

The results come from exact integer and rational arithmetic in generate/, never from the engine.
"""
import pathlib
import sys

from generate import (approximate_cases, async_cases, atomic_cases, case_writer, compare_cases, convert_cases, float_cases, half_cases,
                      integer_cases, matrix_cases, memory_cases, narrow_cases, remaining_cases, texture_cases, video_cases)

MAKERS = (integer_cases.integer_arithmetic, integer_cases.carries, integer_cases.bits, integer_cases.packing,
          integer_cases.signed_carries, integer_cases.remaining,
          float_cases.float_arithmetic, convert_cases.conversions, compare_cases.comparisons, *half_cases.MAKERS,
          *matrix_cases.MAKERS, *narrow_cases.MAKERS, *atomic_cases.MAKERS, *memory_cases.MAKERS, *approximate_cases.MAKERS,
          *video_cases.MAKERS, *texture_cases.MAKERS, *async_cases.MAKERS, *remaining_cases.MAKERS)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in MAKERS:
        make()
    expected = {name + ".ptx" for name in case_writer.FILES}
    for path in folder.glob("*.ptx"):
        if path.name not in expected:
            path.unlink()
    for name, text in case_writer.FILES.items():
        (folder / (name + ".ptx")).write_text(text)


if __name__ == "__main__":
    main()
