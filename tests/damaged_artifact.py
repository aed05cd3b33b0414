"""Artifacts that are cut or edited, for readers that must refuse them."""

import json

from safetensors.numpy import load, save

from golden.artifact import MAGIC, VERSION, _digest, to_bytes
from golden.presets import PRESETS
from golden.random_program import random_program
from golden.scheme import SCHEMES

MICRO = random_program(PRESETS["micro"], SCHEMES["w4a5-se"])
DATA = to_bytes(MICRO)
HEADER_END = 8 + int.from_bytes(DATA[:8], "little")
LENGTHS = (0, 1, 7, 8, 9, 100, HEADER_END, HEADER_END + 1, len(DATA) - 1)
"""Where a file may have been cut."""
EDITS = (
    (lambda m, _: m.update(version=VERSION + 1), f"has version {VERSION + 1}, this release"),
    (lambda m, _: m.pop("version"), "has version None"),
    (lambda m, _: m.update(magic="other"), f"is not a {MAGIC} file"),
    (lambda m, _: m.update(sha256="0" * 64), "its SHA-256 is not the recorded one"),
    (lambda m, _: m.pop("sha256"), "its SHA-256 is not the recorded one"),
    (lambda m, _: m["program"].update(logit_fraction=3), "its SHA-256 is not the recorded"),
    (lambda _, t: t.pop("program.front.table"), "its SHA-256 is not the recorded one"),
)
"""Changes of manifest and tensors, and what a reader says."""


def rewritten(change, *, signed: bool = False) -> bytes:
    """The artifact after ``change`` of manifest and tensors, its hash renewed if ``signed``."""
    manifest = json.loads(json.loads(DATA[8:HEADER_END])["__metadata__"]["manifest"])
    tensors = load(DATA)
    change(manifest, tensors)
    if signed:
        manifest.pop("sha256")
        manifest["sha256"] = _digest(manifest, tensors)
    return save(tensors, metadata={"manifest": json.dumps(manifest, sort_keys=True)})
