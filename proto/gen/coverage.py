"""docs/cuda-coverage.md: what becomes of each entry point, for readers."""

MEANING = [
    ("local", "answered in the application's process"),
    ("cached", "answered in the application's process from facts fetched once"),
    ("async", "sent without waiting; a failure is reported by a later call"),
    ("sync", "one round trip"),
    ("custom", "taken apart by hand-written code; sends what it needs"),
    ("unsupported", "returns `CUDA_ERROR_NOT_SUPPORTED` and says why once in the log"),
]


def page(table):
    functions = table.functions
    symbols = sum(2 if f.twin else 1 for f in functions)
    supported = [f for f in functions if f.kind != "unsupported"]
    lines = ["# CUDA driver API coverage", "",
             "Generated from `proto/cuda/driver.toml` by `proto/gen/generate.py coverage`; do not edit.", "",
             f"`libcuda.so.1` exports all {symbols} entry points of CUDA {table.model.toolkit}: {len(functions)} functions, "
             f"{symbols - len(functions)} of them with a per-thread-stream variant. "
             f"{len(supported)} functions ({sum(2 if f.twin else 1 for f in supported)} entry points) are supported.", "",
             "| class | functions | meaning |", "|---|---|---|"]
    lines += [f"| {kind} | {sum(f.kind == kind for f in functions)} | {text} |" for kind, text in MEANING]
    lines += ["", "## Supported", "", "`+` marks functions that also have a `_ptsz` or `_ptds` variant.", "", "| function | since | class |",
              "|---|---|---|"]
    version = lambda f: f"{f.signature['version'] // 1000}.{f.signature['version'] % 1000 // 10}"  # noqa: E731
    lines += [f"| {f.name}{' +' if f.twin else ''} | {version(f)} | {f.kind} |" for f in sorted(supported, key=lambda f: f.name)]
    lines += ["", "## Not supported", "", "| reason | functions |", "|---|---|"]
    reasons = {}
    for f in functions:
        if f.kind == "unsupported":
            reasons.setdefault(f.reason, []).append(f.name)
    lines += [f"| {reason} | {', '.join(sorted(names))} |" for reason, names in sorted(reasons.items())]
    return "\n".join(lines) + "\n"
