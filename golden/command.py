"""What every command line of the project shares: one-line errors, and output that is whole.

A command prints one line and ends with exit code 2 when its input is at fault; any other exception
is a defect and keeps its traceback. Files and directories appear under their name only when they
are complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from golden.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# The operating system's errors that a path on the command line can cause.
PATH_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def run(application: typer.Typer, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit: 0 on success, 2 with one line on stderr on bad input.

    Parameters
    ----------
    application
        The command or commands.
    arguments
        Words after the program's name; those of the process if not given.
    """
    command = typer.main.get_command(application)
    try:
        # Outside of its standalone mode Typer raises its usage errors and returns exit codes.
        code = command.main(args=arguments, standalone_mode=False)
    except TyperException as error:
        _fail(error.format_message(), error.exit_code)
    except InputError as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except PATH_ERRORS as error:
        _fail(_describe(error), EXIT_BAD_INPUT)
    except (Abort, KeyboardInterrupt):
        _fail("interrupted", EXIT_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    """Print ``message`` as one line on stderr and exit."""
    line = " ".join(message.split()) or "invalid command line; see --help"
    sys.stderr.write(f"error: {line}\n")
    sys.exit(code)


def _describe(error: OSError) -> str:
    """Return the path and the reason, without Python's ``[Errno n]``."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}"


def _sibling(path: Path) -> Path:
    """Return an unused hidden name beside ``path``, on the same file system as a rename needs."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")


def atomic_write(path: str | Path, data: bytes) -> bool:
    """Write a file that is whole or not there, and leave it alone if it already holds ``data``.

    Parameters
    ----------
    path
        File to write; missing parent directories are made.
    data
        Its whole content.

    Returns
    -------
    bool
        Whether the file was written; ``False`` keeps its modification time, so that later steps
        of a build need not run again.
    """
    target = Path(path)
    if target.is_file() and target.read_bytes() == data:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling(target)
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def atomic_directory(path: str | Path, *, marker: str = "manifest.json") -> Iterator[Path]:
    """Fill a directory under a temporary name; it takes ``path`` when the body ends well.

    Parameters
    ----------
    path
        Directory to make; missing parent directories are made. An earlier output there is
        replaced as a whole.
    marker
        File by which an earlier output is known. A directory that has other content and not this
        file is somebody's work and is refused, not replaced.

    Yields
    ------
    Path
        The temporary directory, empty. If the body raises it is removed and ``path`` is as before.

    Raises
    ------
    InputError
        If ``path`` is a file, or a directory that holds something else than an earlier output.
    """
    target = Path(path).absolute()
    if target.exists() and not target.is_dir():
        raise InputError(f"{path} is a file; name a directory that is new or an earlier output")
    if target.is_dir() and any(target.iterdir()) and not (target / marker).is_file():
        raise InputError(
            f"{path} is not empty and holds no {marker}; name a new directory or delete this one"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _sibling(target)
    partial.mkdir()
    try:
        yield partial
        _take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, target: Path) -> None:
    """Rename ``partial`` to ``target``, whose earlier directory is restored if that fails."""
    if not target.exists():
        partial.rename(target)
        return
    earlier = _sibling(target)
    target.rename(earlier)
    try:
        partial.rename(target)
    except OSError:
        earlier.rename(target)
        raise
    shutil.rmtree(earlier)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal, the identity that manifests record."""
    return hashlib.sha256(data).hexdigest()
