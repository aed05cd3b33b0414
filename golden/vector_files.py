"""Files of golden vectors: an uncompressed ``.npz`` with a JSON manifest inside.

The same stream gives the same bytes; a file of another version or of another artifact is refused
with the command that writes it anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from golden.artifact import file_digest, narrowest
from golden.errors import InputError
from golden.fixed_point import Integers
from golden.vectors import Stimulus, Trace

MAGIC = "scanwright-golden-vectors"
VERSION = 2
FILE_NAME = "vectors.npz"
_MANIFEST = "manifest.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip entry; a clock would change the bytes


def _digest(manifest: dict[str, Any], arrays: dict[str, bytes]) -> str:
    state = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode())
    for name in sorted(arrays):
        state.update(f"{name} {len(arrays[name])}".encode())
        state.update(arrays[name])
    return state.hexdigest()


def _npy(values: Integers) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, narrowest(values), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def to_bytes(result: Trace, stimulus: Stimulus, artifact_digest: str) -> bytes:
    """Return the vector file of ``result``; the same arguments give the same bytes."""
    named = {
        "tokens": result.tokens,
        "last": result.last,
        "context": result.context,
        "final.window": result.window,
        "final.state": result.state,
        **{f"probe.{name}": values for name, values in result.probes.items()},
    }
    arrays = {name: _npy(values) for name, values in named.items()}
    manifest: dict[str, Any] = {
        "magic": MAGIC,
        "version": VERSION,
        "artifact_sha256": artifact_digest,
        "tokens": len(result.tokens) if result.tokens.ndim == 1 else int(result.last.sum()),
        "seed": stimulus.seed,
        "contexts": stimulus.contexts,
        "text": stimulus.text,
    }
    if not stimulus.reset_at_last:  # what every stream is for unless it says otherwise
        manifest["reset_at_last"] = False
    manifest["sha256"] = _digest(manifest, arrays)
    members = {_MANIFEST: json.dumps(manifest, sort_keys=True, indent=1).encode()}
    members |= {f"{name}.npy": content for name, content in arrays.items()}
    buffer = io.BytesIO()
    # Stored, not deflated: the bytes must not depend on the zlib at hand.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    return buffer.getvalue()


def _command(path: Path, artifact: Path, manifest: dict[str, Any]) -> str:
    """Return the command that writes ``path`` anew."""
    words = ["--artifact", str(artifact), "--out", str(path.parent)]
    if manifest.get("text") is not None:
        words += ["--text", manifest["text"]]
    else:
        words += [
            "--tokens",
            str(manifest.get("tokens", 8)),
            "--seed",
            str(manifest.get("seed", 0)),
            "--contexts",
            str(manifest.get("contexts", 1)),
        ]
    return f"python -m golden.regenerate {shlex.join(words)}"


def _read(path: Path, remedy: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(members.pop(_MANIFEST))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise InputError(f"{path} is no vector file or is corrupt; write it anew: {remedy}") from (
            error
        )
    if not isinstance(manifest, dict) or manifest.get("magic") != MAGIC:
        raise InputError(f"{path} is not a {MAGIC} file; write it anew: {remedy}")
    return manifest, {name.removesuffix(".npy"): content for name, content in members.items()}


def load_vectors(path: Path, artifact: Path) -> Trace:
    """Read the vectors that belong to the program stored in ``artifact``.

    Raises
    ------
    InputError
        If a file is missing, the vectors are corrupt, of another version, or of another artifact;
        the message ends with the command that writes them anew.
    """
    if not artifact.is_file():
        raise InputError(f"no artifact at {artifact}; vectors are read beside their artifact")
    if not path.is_file():
        raise InputError(f"no vectors at {path}; write them: {_command(path, artifact, {})}")
    manifest, arrays = _read(path, _command(path, artifact, {}))
    remedy = _command(path, artifact, manifest)
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path} has version {manifest.get('version')}, this release reads {VERSION}; "
            f"write it anew: {remedy}"
        )
    expected = manifest.pop("sha256", None)
    if _digest(manifest, arrays) != expected:
        raise InputError(f"{path} is corrupt, its SHA-256 differs; write it anew: {remedy}")
    if manifest.get("artifact_sha256") != file_digest(artifact):
        raise InputError(f"{path} belongs to another artifact than {artifact}; renew it: {remedy}")
    values = {
        name: np.lib.format.read_array(io.BytesIO(content), allow_pickle=False).astype(np.int64)
        for name, content in arrays.items()
    }
    prefix = "probe."
    return Trace(
        tokens=values["tokens"],
        last=values["last"],
        context=values["context"],
        probes={n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)},
        window=values["final.window"],
        state=values["final.state"],
    )
