"""External delegates: libraries of the classic TFLite ABI that take part of a model off the CPU.

`tflite_plugin_create_delegate` and `..._destroy_delegate` (tensorflow/lite/delegates/external/
external_delegate_interface.h), loaded by both runtimes: TFLite's GPU delegate, Edge TPU, and others.
Five things go wrong, each with its own message: the file is missing, is no library of this machine,
has not the two functions, refuses to start, or fails to prepare a model. The first three are facts of the
file, and of the configuration that names it; the last two are of this moment, and the CPU is used.
"""

from __future__ import annotations

import ctypes
import errno
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, DelegateError

_FUNCTIONS = ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate")


def check_library(delegate: str) -> None:
    """Whether what `models.delegate` names is a delegate's library, when it names one.

    Raises:
        ConfigError: it is missing, no library of this machine, or no delegate.
    """
    if not delegate.startswith("/"):
        return
    try:
        _open(delegate)
    except DelegateError as error:
        raise ConfigError(f"models.delegate: {error}") from None


def exposed(delegate: str) -> str | None:
    """Who else could put code of theirs into the daemon by this library, in words; None: nobody.

    Looked at are the file, the folders on the way to it, and those on the way to what a link points at. A
    sticky folder, as /tmp, lets nobody replace another's file.
    """
    if not delegate.startswith("/"):
        return None
    path = Path(delegate)
    for part in dict.fromkeys((path.resolve(), *path.resolve().parents, *path.parents)):
        try:
            about = part.stat()
        except OSError:
            continue
        sticky = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_ISVTX
        if about.st_mode & stat.S_IWOTH and not sticky:
            return (
                f"models.delegate: any user can write {part}, and what it holds runs in the daemon: chmod o-w"
            )
    return None


def external(api: Any, path: str, options: Mapping[str, str]) -> Any:
    """The delegate in a library, for `Interpreter(experimental_delegates=[...])` of the module `api`.

    Raises:
        DelegateError: it can't be loaded, or refuses to start with these options.
    """
    _open(path)  # first: load_delegate itself leaves a traceback on stderr
    try:
        return api.load_delegate(path, dict(options))
    except ValueError as error:  # "Failed to load delegate from PATH\n<what the delegate said>"
        said = " ".join(str(error).splitlines()[1:]).strip()
        raise DelegateError(f"{path}: refused to start: {said or 'it did not say why'}") from None
    except (OSError, AttributeError) as error:  # it was there a moment ago
        raise DelegateError(f"{path}: {error}") from None


def _open(path: str) -> None:
    if not Path(path).is_file():
        raise DelegateError(f"{path}: expected a delegate's library, got: {_absence(path)}")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise DelegateError(f"{path}: expected a library of this machine, got: {said}") from None
    lacking = [name for name in _FUNCTIONS if not hasattr(library, name)]
    if lacking:
        raise DelegateError(f"{path}: expected a TFLite delegate, got a library without {lacking[0]}")


def _absence(path: str) -> str:
    try:
        Path(path).stat()
    except OSError as error:
        return error.strerror or errno.errorcode.get(error.errno or 0, "nothing")
    return "a folder or device"
