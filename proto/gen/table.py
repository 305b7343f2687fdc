"""The API table: driver.toml, types.toml and ids.lock, read and checked against the model.

Everything that a person can get wrong stops here with file:line. What the products ask for afterwards is complete: each function has a
class, each travelling parameter a Rule, each function a wire number.
"""

import re
import tomllib

import rules

CLASSES = ("local", "cached", "sync", "async", "custom", "unsupported")
SIDES = ("client", "server", "both")
WORDS = {"class", "side", "reason", "work"}
FIRST_INTERNAL_ID = 0x10000


class TableError(Exception):
    """A mistake in one of the table's files; the text begins with file:line."""


def keys_by_line(path):
    """Top-level and section keys of a TOML file with the lines on which they begin."""
    lines, section = {}, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := re.match(r"\[(\w+)\]", line):
            section = match.group(1) + "."
        elif match := re.match(r"(\w+)\s*=", line):
            lines.setdefault(section + match.group(1), number)
    return lines


def read_toml(path):
    try:
        return tomllib.loads(path.read_text()), keys_by_line(path)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise TableError(f"{path}:{line.group(1) if line else 1}: {error}") from None


def read_ids(path, known):
    """name → number. Numbers count up by one from line to line, so an inserted or changed line shows."""
    ids, expected = {}, 1
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        where = f"{path}:{number}"
        if len(words) != 2 or not words[1].isdigit():
            raise TableError(f"{where}: expected a name and a number")
        if words[0] not in known:
            raise TableError(f"{where}: {words[0]} is no function of the model")
        if words[0] in ids:
            raise TableError(f"{where}: {words[0]} already has number {ids[words[0]]}")
        if int(words[1]) != expected:
            raise TableError(f"{where}: {words[0]} has number {words[1]}, but the next free one is {expected}; "
                             "numbers are only appended")
        ids[words[0]] = expected
        expected += 1
    if expected > FIRST_INTERNAL_ID:
        raise TableError(f"{path}:1: numbers from {FIRST_INTERNAL_ID:#x} on belong to internal commands")
    return ids


class Function:
    """One line of the table, with the model's signature. `twin` is the per-thread variant's name or None."""

    def __init__(self, signature, where, entry, twin):
        self.name, self.signature, self.where, self.twin = signature["name"], signature, where, twin
        self.kind = entry.get("class")
        self.side = entry.get("side", "")
        self.reason = entry.get("reason", "")
        self.work = entry.get("work", "")  # The stream parameter whose stream gets work.
        self.parameters = []  # rules.Parameter, for sync and async only.
        self.id = 0

    def error(self, text):
        return TableError(f"{self.where}: {self.name}: {text}")

    @property
    def generated(self):
        """Its client half is generated from rules: also that of a function whose handler alone is written by hand."""
        return self.kind in ("sync", "async") or (self.kind == "custom" and self.side == "server")

    @property
    def generated_handler(self):
        return self.kind in ("sync", "async")

    @property
    def client_written(self):
        """Defined by hand as farwarp::client::custom::NAME."""
        return self.kind in ("local", "cached") or (self.kind == "custom" and self.side in ("client", "both"))

    @property
    def server_written(self):
        """Its handler is defined by hand in the server."""
        return self.kind == "custom" and self.side in ("server", "both")

    @property
    def travels(self):
        return self.generated or self.server_written


def check_words(function, entry):
    if function.kind not in CLASSES:
        raise function.error(f"class {function.kind!r} is none of {', '.join(CLASSES)}" if function.kind else "class is missing")
    if function.kind == "custom" and function.side not in SIDES:
        raise function.error(f"a custom function needs side = one of {', '.join(SIDES)}")
    if function.kind != "custom" and "side" in entry:
        raise function.error("only a custom function has a side")
    if (function.kind == "unsupported") != bool(function.reason):
        raise function.error("an unsupported function needs a reason, and no other has one")
    names = {p["name"] for p in function.signature["parameters"]}
    for word in entry.keys() - WORDS:
        if word not in names:
            raise function.error(f"has no parameter {word}")
        if not function.generated:
            raise function.error(f"a rule for {word} means nothing in class {function.kind}")


class Table:
    def __init__(self, model, folder):
        self.model = model
        self.path = folder / "driver.toml"
        self.types = rules.Types(model, folder / "types.toml", *read_toml(folder / "types.toml"), TableError)
        entries, lines = read_toml(self.path)
        plain = {f["name"] for f in model.functions if not f["per_thread"]}
        for name in entries:
            if name not in plain:
                hint = " (per-thread variants inherit the plain name's line)" if name in model.by_name else ""
                raise TableError(f"{self.path}:{lines.get(name, 1)}: {name} is no function of the model{hint}")
        ids_path = folder / "ids.lock"
        ids = read_ids(ids_path, plain)
        twins = {re.sub(r"_(ptsz|ptds)$", "", f["name"]): f["name"] for f in model.functions if f["per_thread"]}
        self.functions = []
        for signature in model.functions:
            name = signature["name"]
            if signature["per_thread"]:
                if re.sub(r"_(ptsz|ptds)$", "", name) not in plain:
                    raise TableError(f"{self.path}:1: {name} has no plain name to inherit from")
                continue
            if name not in entries:
                raise TableError(f"{self.path}:1: {name} has no line")
            if not isinstance(entries[name], dict):
                raise TableError(f"{self.path}:{lines[name]}: {name}: expected {{ class = … }}")
            self.functions.append(self.function(signature, entries[name], f"{self.path}:{lines.get(name, 1)}", twins.get(name)))
            if name not in ids:
                raise TableError(f"{self.path}:{lines[name]}: {name} has no number; append \"{name} {len(ids) + 1}\" to {ids_path}")
            self.functions[-1].id = ids[name]
        self.by_name = {f.name: f for f in self.functions}
        self.by_symbol = {**self.by_name, **{f.twin: f for f in self.functions if f.twin}}

    def function(self, signature, entry, where, twin):
        function = Function(signature, where, entry, twin)
        check_words(function, entry)
        if function.generated:
            function.parameters = rules.parameters(function, entry, self.types)
        if function.work and not any(p.name == function.work and p.form == "stream" for p in function.parameters):
            raise function.error(f"work names no stream that travels: {function.work}")
        return function
