#!/usr/bin/env python3
"""Extracts the facts of a CUDA toolkit's public headers into the API model that Farwarp is generated from.

    proto/gen/extract.py --include /usr/local/cuda/include --toolkit 13.0

writes proto/cuda/model/cuda-13.0.json (driver API) and cudart-13.0.json (runtime API): names, types, layouts, enum values,
prototypes, and the version that introduced each entry point. No text of the headers is kept. Developers run it once per toolkit
(it needs libclang: Debian python3-clang-19); building needs only the committed model.

Any diagnostic of libclang is fatal: with a missing resource directory it would go on and silently turn uint64_t into int.
"""

import argparse
import json
import pathlib
import re
import sys

from clang.cindex import Config, CursorKind, Index, TranslationUnit, TypeKind

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = {
    "api": "driver",
    "source": "#define __CUDA_API_VERSION_INTERNAL\n#include <cuda.h>\n#include <cudaProfiler.h>\n#include <cudaTypedefs.h>\n"
              "#include <cudaProfilerTypedefs.h>\n",
    "headers": {"cuda.h", "cudaProfiler.h"},
    "typedefs": {"cudaTypedefs.h", "cudaProfilerTypedefs.h"},
    "macros": re.compile(r"(CU|CUDA)_[A-Z0-9_]+$"),
    "file": "cuda-{}.json",
}
RUNTIME = {
    "api": "runtime",
    "source": "#define __CUDA_API_VERSION_INTERNAL\n#include <cuda_runtime_api.h>\n#include <cuda_profiler_api.h>\n",
    "headers": {"cuda_runtime_api.h", "cuda_profiler_api.h", "driver_types.h", "vector_types.h", "texture_types.h",
                "surface_types.h", "library_types.h", "cuda_device_runtime_api.h"},
    "typedefs": set(),
    "macros": re.compile(r"(cuda[A-Z]|CUDA_|CUDART_)[A-Za-z0-9_]+$"),
    "file": "cudart-{}.json",
}


def parse(source, include, resource):
    arguments = ["-x", "c", "-std=c11", "-I", str(include), "-resource-dir", str(resource)]
    unit = Index.create().parse("model.c", args=arguments, unsaved_files=[("model.c", source)],
                                options=TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD)
    problems = [str(d) for d in unit.diagnostics]
    if problems:
        sys.exit("extract: libclang is not happy; nothing written:\n" + "\n".join(problems))
    return unit


def file_name(cursor):
    return pathlib.Path(cursor.location.file.name).name if cursor.location.file else ""


def spelling(type_):
    """The type as C text. Records and enums without a tag are named by their typedef."""
    return re.sub(r"\s+", " ", type_.spelling).strip()


def nested_record(field, record):
    """The record that a field defines in place, if it does."""
    declaration = field.type.get_declaration()
    if declaration.kind not in (CursorKind.STRUCT_DECL, CursorKind.UNION_DECL):
        return None
    inside = file_name(declaration) == file_name(record) and \
        record.extent.start.offset < declaration.extent.start.offset < record.extent.end.offset
    return declaration if inside else None


def fields_of(record):
    """Members in order; a nested record without a name of its own is described in place."""
    result = []
    for field in record.type.get_fields():
        entry = {"name": "" if "(" in field.spelling else field.spelling, "offset": field.get_field_offsetof() // 8}
        if nested := nested_record(field, record):
            entry["record"] = {"tag": tag_of(nested), **record_of(nested)}
        else:
            entry["type"] = spelling(field.type)
        if field.is_bitfield():
            sys.exit(f"extract: bit field {record.spelling}::{field.spelling} is not in the model's vocabulary")
        result.append(entry)
    return result


def record_of(cursor):
    return {"kind": "union" if cursor.kind == CursorKind.UNION_DECL else "struct", "bytes": cursor.type.get_size(),
            "align": cursor.type.get_align(), "fields": fields_of(cursor)}


def tag_of(cursor):
    return "" if cursor.is_anonymous() or " " in cursor.spelling or "(" in cursor.spelling else cursor.spelling


def enum_of(cursor):
    values = [[c.spelling, c.enum_value] for c in cursor.get_children() if c.kind == CursorKind.ENUM_CONSTANT_DECL]
    return {"kind": "enum", "underlying": spelling(cursor.enum_type), "values": values}


def typedef_of(cursor):
    """A typedef, told apart by what it names: handle, record, enum, or plain type."""
    type_ = cursor.underlying_typedef_type
    entry = {"kind": "typedef", "name": cursor.spelling, "type": spelling(type_)}
    if type_.kind == TypeKind.POINTER:
        declaration = type_.get_pointee().get_declaration()
        if declaration.kind == CursorKind.STRUCT_DECL and declaration.get_definition() is None:
            entry = {"kind": "handle", "name": cursor.spelling, "tag": declaration.spelling}
    return entry


def constants_of(unit, config):
    """Object-like macros that are integers, in source order."""
    result, seen = [], set()
    for cursor in unit.cursor.get_children():
        if cursor.kind != CursorKind.MACRO_DEFINITION or file_name(cursor) not in config["headers"]:
            continue
        name, tokens = cursor.spelling, [t.spelling for t in cursor.get_tokens()][1:]
        if not config["macros"].match(name) or name in seen or not tokens:
            continue
        text = "".join(tokens)
        if re.fullmatch(r"\(*(0x[0-9A-Fa-f]+|\d+)[uUlL]*\)*", text):
            result.append({"name": name, "value": int(re.sub(r"[()uUlL]", "", text), 0)})
            seen.add(name)
        elif match := re.fullmatch(r"\(+(?:\(?([A-Za-z_ ]+\*?)\)?)\)?(0x[0-9A-Fa-f]+|\d+)\)+", text):
            result.append({"name": name, "value": int(match.group(2), 0), "type": match.group(1).strip()})
            seen.add(name)
    return result


def declarations_of(unit, config):
    types, functions, seen = [], [], set()
    for cursor in unit.cursor.get_children():
        if file_name(cursor) not in config["headers"]:
            continue
        if cursor.kind in (CursorKind.STRUCT_DECL, CursorKind.UNION_DECL, CursorKind.ENUM_DECL):
            if not cursor.is_definition():
                continue
            described = enum_of(cursor) if cursor.kind == CursorKind.ENUM_DECL else record_of(cursor)
            types.append({"tag": tag_of(cursor), "usr": cursor.get_usr(), **described})
        elif cursor.kind == CursorKind.TYPEDEF_DECL:
            declaration = cursor.underlying_typedef_type.get_declaration()
            if declaration.kind in (CursorKind.STRUCT_DECL, CursorKind.UNION_DECL, CursorKind.ENUM_DECL) and types and \
                    types[-1].get("usr") == declaration.get_usr() and not types[-1]["tag"]:
                types[-1]["name"] = cursor.spelling
            else:
                types.append(typedef_of(cursor))
        elif cursor.kind == CursorKind.FUNCTION_DECL and cursor.spelling not in seen:
            seen.add(cursor.spelling)
            parameters = [{"name": p.spelling, "type": spelling(p.type)} for p in cursor.get_arguments()]
            functions.append({"name": cursor.spelling, "result": spelling(cursor.result_type), "parameters": parameters})
    for entry in types:
        entry.pop("usr", None)
    return types, functions


def split_name(name):
    """cuMemcpyHtoD_v2_ptds → (cuMemcpyHtoD, 2, ptds)."""
    base, kind = re.fullmatch(r"(.*?)(?:_(ptsz|ptds))?", name).groups()
    base, version = re.fullmatch(r"(.*?)(?:_v(\d+))?", base).groups()
    return base, int(version or 1), kind or ""


def add_versions(unit, config, functions):
    """Pairs each entry point with the version in which its ABI appeared (PFN_ typedefs), by order and by prototype."""
    introduced = {}
    for cursor in unit.cursor.get_children():
        if cursor.kind == CursorKind.TYPEDEF_DECL and file_name(cursor) in config["typedefs"]:
            match = re.fullmatch(r"PFN_(cu\w+?)_v(\d{4,5})(?:_(ptsz|ptds))?", cursor.spelling)
            if match:
                prototype = cursor.underlying_typedef_type.get_pointee().get_canonical()
                introduced.setdefault((match.group(1), match.group(3) or ""), []).append((int(match.group(2)), prototype))
    prototypes = {c.spelling: c.type.get_canonical() for c in unit.cursor.get_children() if c.kind == CursorKind.FUNCTION_DECL}
    groups = {}
    for function in functions:
        base, abi, kind = split_name(function["name"])
        function.update(base=base, per_thread=kind)
        groups.setdefault((base, kind), []).append((abi, function))
    for key, members in groups.items():
        versions = sorted(introduced.get(key, []), key=lambda pair: pair[0])
        if len(versions) != len(members):
            sys.exit(f"extract: {key}: {len(members)} entry points, {len(versions)} versions")
        for (_, function), (version, prototype) in zip(sorted(members, key=lambda m: m[0]), versions):
            if prototypes[function["name"]].spelling != prototype.spelling:
                sys.exit(f"extract: {function['name']} does not match PFN_…_v{version}")
            function["version"] = version


def extract(config, include, resource, toolkit):
    unit = parse(config["source"], include, resource)
    types, functions = declarations_of(unit, config)
    if config["typedefs"]:
        add_versions(unit, config, functions)
    model = {"api": config["api"], "toolkit": toolkit, "constants": constants_of(unit, config), "types": types,
             "functions": functions}
    path = ROOT / "proto/cuda/model" / config["file"].format(toolkit)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as out:
        out.write("{\n")
        for key, value in model.items():
            last = key == "functions"
            if isinstance(value, list):
                out.write(f' "{key}": [\n' + ",\n".join("  " + json.dumps(v) for v in value) + "\n ]" + ("\n" if last else ",\n"))
            else:
                out.write(f' "{key}": {json.dumps(value)},\n')
        out.write("}\n")
    print(f"{path.relative_to(ROOT)}: {len(types)} types, {len(functions)} functions, {len(model['constants'])} constants")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", type=pathlib.Path, default="/usr/local/cuda/include")
    parser.add_argument("--toolkit", default="13.0")
    parser.add_argument("--libclang", default="/usr/lib/llvm-19/lib/libclang-19.so.19")
    parser.add_argument("--resource-dir", type=pathlib.Path, default="/usr/lib/llvm-19/lib/clang/19")
    arguments = parser.parse_args()
    Config.set_library_file(arguments.libclang)
    for config in (DRIVER, RUNTIME):
        extract(config, arguments.include, arguments.resource_dir, arguments.toolkit)


if __name__ == "__main__":
    main()
