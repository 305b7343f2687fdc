"""The API model as the other modules see it: loaded from JSON, with the questions they ask of it."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Model:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        raw = json.loads(self.path.read_text())
        self.raw = raw
        self.api, self.toolkit = raw["api"], raw["toolkit"]
        self.functions = raw["functions"]
        self.by_name = {function["name"]: function for function in self.functions}
        self.typedefs = {t["name"]: t["type"] for t in raw["types"] if t["kind"] == "typedef"}
        self.handles = {t["name"] for t in raw["types"] if t["kind"] == "handle"}
        self.records = {}
        self.enums = {}
        for entry in raw["types"]:
            if entry["kind"] in ("struct", "union"):
                self.records[f"{entry['kind']} {entry['tag']}"] = entry
                if entry.get("name"):
                    self.records[entry["name"]] = entry
            elif entry["kind"] == "enum":
                self.enums[f"enum {entry['tag']}"] = entry
                if entry.get("name"):
                    self.enums[entry["name"]] = entry

    def resolve(self, type_text):
        """Follows typedefs to a handle, record, enum, pointer or built-in type; const is dropped."""
        text = type_text.replace("const ", "").strip()
        while text in self.typedefs and text not in self.handles:
            text = self.typedefs[text].replace("const ", "").strip()
        return text

    def is_handle(self, type_text):
        text = type_text.replace("const ", "").strip()
        while text not in self.handles and text in self.typedefs:
            text = self.typedefs[text]
        return text in self.handles


def load(name):
    """`name` is a file of proto/cuda/model, such as cuda-13.0.json."""
    return Model(ROOT / "proto/cuda/model" / name)
