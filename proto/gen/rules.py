"""Rules: how one parameter of a generated function travels.

    rule      := direction [ "[" length "]" ] [ "?" ] | "address[" bytes "]" [ "?" ]
    direction := "in" | "out" | "inout" | "new" | "del"
    length    := number | parameter | "*" parameter
    bytes     := number | parameter
    "?"       the pointer or address may be null (a handle: may be null)

Without a rule the type decides: values go in; `const T*` is one T going in; `const char*` is a string; `T*` is one T coming out. What
types cannot say — void pointers, pointers to pointers, callbacks, arrays, handles that come out — needs a rule or a hand-written half.
So does a device address that goes in: the worker's driver shares its address space with others, and a client may send any number.
"""

import re

RULE = re.compile(r"(in|out|inout|new|del)(?:\[(\d+|\*?[A-Za-z_]\w*)\])?(\?)?")
ADDRESS_RULE = re.compile(r"(address)\[(\d+|[A-Za-z_]\w*)\](\?)?")
ADDRESS_TYPE = re.compile(r"CUdeviceptr(_v\d+)?")
SCALARS = {"char", "signed char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long", "unsigned long",
           "long long", "unsigned long long", "float", "double", "size_t", "uint32_t", "uint64_t", "int32_t", "int64_t"}
LOCALS = {"session", "command", "body", "reply", "result", "results", "args", "call", "per_thread", "entered", "raw", "wire", "std",
          "element"}


class Types:
    """The model's types with the notes of types.toml: what can travel, and as what."""

    def __init__(self, model, path, notes, lines, error):
        self.model, self.handles, self.local_scalars = model, notes.get("handles", {}), notes.get("local_scalars", {})
        self.structs = {}
        self.checked = set()  # Records whose addresses a hand-written function of the worker checks.
        for section in notes.keys() - {"handles", "local_scalars", "structs"}:
            raise error(f"{path}:1: unknown section [{section}]")
        for name in self.handles:
            if not model.is_handle(name):
                raise error(f"{path}:{lines['handles.' + name]}: {name} is no handle type of the model")
        for name, members in notes.get("structs", {}).items():
            where = f"{path}:{lines['structs.' + name]}"
            record = model.records.get(model.resolve(name))
            if record is None:
                raise error(f"{where}: {name} is no structure of the model")
            if id(record) in self.structs:
                raise error(f"{where}: {name} is the same structure as {self.structs[id(record)][0]}, which has a rule already")
            if members == "checked":
                self.checked.add(id(record))
                self.structs[id(record)] = (name, {})
                continue
            if not isinstance(members, dict):
                raise error(f"{where}: {name}: expected the rules of its members, or \"checked\"")
            known = {field["name"] for field in record["fields"]}
            for member, rule in members.items():
                if member not in known:
                    raise error(f"{where}: {name} has no member {member}")
                self.check_member(f"{where}: {name}.{member}", record, rule, error)
            self.structs[id(record)] = (name, members)

    def check_member(self, where, record, rule, error):
        match = ADDRESS_RULE.fullmatch(rule) if isinstance(rule, str) else None
        if rule != "null" and match is None:
            raise error(f"{where}: {rule!r} is neither \"address[bytes]\" nor \"null\"")
        if match and not match.group(2).isdigit() and match.group(2) not in self.numbers(record):
            raise error(f"{where}: length {match.group(2)}: there is no such number in the structure")

    def numbers(self, record):
        """Names of a record's numbers, those of unnamed records inside included."""
        for field in record["fields"]:
            if "record" in field and not field["name"]:
                yield from self.numbers(field["record"])
            elif "type" in field and self.is_scalar(field["type"]):
                yield field["name"]

    def is_address(self, type_text):
        """True for a device address, whatever the typedefs call it."""
        text = type_text.replace("const ", "").strip()
        while not ADDRESS_TYPE.fullmatch(text) and text in self.model.typedefs:
            text = self.model.typedefs[text].replace("const ", "").strip()
        return bool(ADDRESS_TYPE.fullmatch(text))

    def is_checked(self, type_text):
        return id(self.model.records.get(self.model.resolve(type_text))) in self.checked

    def unchecked(self, type_text):
        """The path of a device address in a structure that no rule covers, or ""."""
        record = self.model.records.get(self.model.resolve(re.sub(r"(\[\d*\])+$", "", type_text.strip()).strip()))
        return self.unchecked_member(record) if record is not None else ""

    def unchecked_member(self, record):
        if id(record) in self.checked:
            return ""
        _, members = self.structs.get(id(record), ("", {}))
        for field in record["fields"]:
            if field["name"] in members:
                continue
            if "record" in field:
                inner = self.unchecked_member(field["record"])
            elif self.is_address(re.sub(r"(\[\d*\])+$", "", field["type"]).strip()):
                return field["name"]
            else:
                inner = self.unchecked(field["type"])
                # Rules of a structure inside another would need a path to it; nothing has asked for one yet.
                if not inner and self.member_rules(field["type"]):
                    inner = "?"
            if inner:
                return ".".join(name for name in (field["name"], inner) if name not in ("", "?"))
        return ""

    def member_rules(self, type_text):
        """(member, rule) for each member of a structure that has one, in the order of the structure."""
        record = self.model.records.get(self.model.resolve(re.sub(r"(\[\d*\])+$", "", type_text.strip()).strip()))
        _, members = self.structs.get(id(record), ("", {}))
        return [(field["name"], members[field["name"]]) for field in record["fields"] if field["name"] in members] if members else []

    def obstacle(self, type_text):
        """Why a value of this type cannot travel as its bytes, or "" if it can."""
        text = type_text.replace("const ", "").strip()
        text = re.sub(r"(\[\d*\])+$", "", text).strip()
        if self.model.is_handle(text):
            return f"holds a handle ({text})"
        if text in self.local_scalars:
            return f"{text}: {self.local_scalars[text]}"
        resolved = self.model.resolve(text)
        if resolved in SCALARS or resolved in self.model.enums:
            return ""
        if "*" in resolved or "(" in resolved:
            return f"holds a pointer ({resolved})"
        record = self.model.records.get(resolved)
        if record is None:
            return f"has the unknown type {resolved}"
        return self.record_obstacle(record)

    def record_obstacle(self, record):
        _, members = self.structs.get(id(record), ("", {}))
        for field in record["fields"]:
            if field["name"] in members:
                continue
            inner = self.record_obstacle(field["record"]) if "record" in field else self.obstacle(field["type"])
            if inner:
                return f"{field['name']} {inner}" if field["name"] else inner
        return ""

    def size(self, text):
        """Bytes of a scalar."""
        resolved = self.model.resolve(text)
        return next((n for n, words in ((1, "char"), (2, "short"), (8, "long|double|size_t|64")) if re.search(words, resolved)), 4)

    def zero(self, text):
        """C++ expression of the type's zero."""
        return f"static_cast<{text}>(0)" if self.is_scalar(text) else f"{text}{{}}"

    def is_scalar(self, text):
        resolved = self.model.resolve(text)
        return resolved in SCALARS or resolved in self.model.enums


class Rule:
    def __init__(self, direction, length="", optional=False, text=""):
        self.direction, self.length, self.optional, self.text = direction, length, optional, text


class Parameter:
    """`form` is one of value, handle, stream, string, one, array; `element` the type without the pointer."""

    def __init__(self, name, type_, rule, form, element, handle=""):
        self.name, self.type, self.rule, self.form, self.element, self.handle = name, type_, rule, form, element, handle

    @property
    def goes(self):
        return self.rule.direction in ("in", "inout", "new", "del", "address")

    @property
    def comes(self):
        return self.rule.direction in ("out", "inout")


def parse(function, name, text):
    match = (RULE.fullmatch(text) or ADDRESS_RULE.fullmatch(text)) if isinstance(text, str) else None
    if match is None:
        raise function.error(f"{name}: {text!r} is no rule")
    return Rule(match.group(1), match.group(2) or "", bool(match.group(3)), text)


def default_rule(type_, pointee, types):
    if pointee is None or type_.startswith("const "):
        return Rule("in")
    return Rule("out") if not types.model.is_handle(pointee) else None


def parameter(function, types, name, type_, text):
    """One checked Parameter; lengths are checked by the caller, who knows the others."""
    pointee = None
    if type_.endswith("*"):
        pointee = re.sub(r"^const |\s*\*$", "", type_).strip()
        if pointee.endswith("*") or pointee.endswith("const") or "(" in pointee:
            raise function.error(f"{name}: {type_} is a pointer to pointers, which has no wire form; write it by hand")
    elif "(" in types.model.resolve(type_):
        raise function.error(f"{name}: {type_} is a callback, which has no wire form; write it by hand")
    elif "*" in types.model.resolve(type_) and not types.model.is_handle(type_):
        raise function.error(f"{name}: {type_} is a pointer without a rule; write it by hand")
    rule = parse(function, name, text) if text is not None else default_rule(type_, pointee, types)
    element = pointee or type_
    handle = ""
    if types.model.is_handle(element):
        handle = types.handles.get(element)
        if handle is None:
            raise function.error(f"{name}: {element} has no kind in types.toml")
        if rule is None or (pointee and rule.direction in ("out", "inout")):
            raise function.error(f"{name}: a handle that comes out is \"new\", or its function is written by hand")
    if rule.direction == "address" and not (pointee is None and types.is_address(type_)):
        raise function.error(f"{name}: {type_} is no device address")
    if rule.direction in ("new", "del"):
        if not handle:
            raise function.error(f"{name}: {rule.direction} needs a handle, and {type_} is none")
        if (rule.direction == "new") != bool(pointee) or rule.length or rule.optional:
            raise function.error(f"{name}: new is for one handle behind a pointer, del for one by value")
        return Parameter(name, type_, rule, "handle", element, handle)
    if pointee is None and rule.direction == "address":
        return Parameter(name, type_, rule, "value", type_)
    if pointee is None:
        if rule.direction != "in" or rule.length or (rule.optional and not handle):
            raise function.error(f"{name}: {type_} is a value and can only go in")
        if handle:
            return Parameter(name, type_, rule, "stream" if handle == "stream" else "handle", element, handle)
        if obstacle := types.obstacle(type_):
            raise function.error(f"{name}: {type_} {obstacle}")
        return Parameter(name, type_, rule, "value", element)
    return pointer(function, types, Parameter(name, type_, rule, "", element, handle))


def pointer(function, types, p):
    """Forms of a pointer: string, one element, array of elements."""
    if p.element == "char" and p.type.startswith("const ") and not p.rule.length:
        p.form = "string"
        return p
    if p.element == "void":
        if not p.rule.length:
            raise function.error(f"{p.name}: {p.type} needs a length in bytes, such as in[bytes], or a hand-written half")
        p.element = "unsigned char"
    elif p.handle:
        if not p.rule.length or p.rule.direction != "in":
            raise function.error(f"{p.name}: {p.type} needs a rule: new, or in[count]")
    elif obstacle := types.obstacle(p.element):
        raise function.error(f"{p.name}: {p.type} {obstacle}; cover it in types.toml [structs] or write it by hand")
    if p.type.startswith("const ") and p.comes:
        raise function.error(f"{p.name}: {p.type} is const and cannot come out")
    p.form = "array" if p.rule.length else "one"
    return p


def check_length(function, types, p, by_name):
    length = p.rule.length
    if length.isdigit() or not length:
        return
    other = by_name.get(length.lstrip("*"))
    if other is None:
        raise function.error(f"{p.name}: length {length}: there is no parameter {length.lstrip('*')}")
    if length.startswith("*"):
        if other.form != "one" or not types.is_scalar(other.element):
            raise function.error(f"{p.name}: length {length}: {other.name} does not point to a number")
        if not other.goes:
            raise function.error(f"{p.name}: length {length}: {other.name} only comes out, so nobody knows it before the call")
        if p.rule.direction == "in" and other.rule.direction != "in":
            raise function.error(f"{p.name}: length {length}: {other.name} changes during the call")
    elif other.form != "value" or not types.is_scalar(other.type):
        raise function.error(f"{p.name}: length {length}: {other.name} is no number that goes in")


def check_addresses(function, types, p):
    """No device address reaches a driver unseen. A handler that is written by hand looks for itself."""
    if not function.generated_handler:
        if p.rule.direction == "address":
            raise function.error(f"{p.name}: a rule for an address means nothing, as the handler is written by hand")
        return
    if p.goes and p.rule.direction != "address" and types.is_address(p.element):
        raise function.error(f"{p.name}: a device address that goes in needs a rule, such as address[bytes]" if p.form == "value" else
                             f"{p.name}: {p.type} holds device addresses; write it by hand")
    if p.goes and (member := types.unchecked(p.element)):
        raise function.error(f"{p.name}: {p.element} holds a device address ({member}); cover it in types.toml [structs] or write it by hand")


def parameters(function, entry, types):
    result = [parameter(function, types, p["name"], p["type"], entry.get(p["name"]))
              for p in function.signature["parameters"]]
    by_name = {p.name: p for p in result}
    for p in result:
        check_length(function, types, p, by_name)
        check_addresses(function, types, p)
        if function.kind == "async" and p.comes:
            raise function.error(f"{p.name} comes out, but an async function has no reply")
    for p in result:  # A parameter called like a local of the generated code.
        if p.name in LOCALS:
            for other in result:
                other.rule.length = re.sub(rf"^(\*?){p.name}$", rf"\1{p.name}_argument", other.rule.length)
            p.name += "_argument"
    return result
