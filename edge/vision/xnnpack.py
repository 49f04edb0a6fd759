"""XNNPACK for quantised models in tflite-runtime 2.14, which leaves them to slower kernels of its own.

Measured there 2.6 to 2.8 times faster for static int8 (deploy/measure_runtimes.py); nothing for dynamic
range, which that version's XNNPACK does not know. Python has no switch for it, but the library exports
the delegate's C API (tensorflow/lite/delegates/xnnpack/xnnpack_delegate.h of that version). That is no
promise of the package's, so only the version that it was tried with is trusted, and the known answer has
the last word.
"""

from __future__ import annotations

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.errors import DelegateError

_VERSION = "2.14.0"
_LIBRARY = "_pywrap_tensorflow_interpreter_wrapper.so"
_SIGNED, _UNSIGNED, _DYNAMIC = 1, 2, 8  # TFLITE_XNNPACK_DELEGATE_FLAG_QS8, _QU8, _DYNAMIC_FULLY_CONNECTED


class _Options(ctypes.Structure):
    """The first two of TfLiteXNNPackDelegateOptions; zero is every other one's default."""

    _fields_ = (("threads", ctypes.c_int32), ("flags", ctypes.c_uint32), ("others", ctypes.c_byte * 120))


class Xnnpack:
    """The delegate, as `Interpreter` takes one.

    It is never deleted: an interpreter must not outlive it, and a door's lives as long as the process.
    """

    def __init__(self, api: Any, threads: int) -> None:
        """`api`: tflite-runtime's `interpreter` module. Raises DelegateError."""
        try:
            version = metadata.version("tflite-runtime")
        except metadata.PackageNotFoundError:
            version = "none"
        if version != _VERSION:
            raise DelegateError(f"XNNPACK: expected tflite-runtime {_VERSION}, got {version}")
        try:
            library = ctypes.CDLL(str(Path(api.__file__).with_name(_LIBRARY)))
            create = library.TfLiteXNNPackDelegateCreate
        except (OSError, AttributeError) as error:
            raise DelegateError(f"XNNPACK: {error}") from None
        create.argtypes, create.restype = [ctypes.POINTER(_Options)], ctypes.c_void_p
        self._pointer = create(_Options(threads, _SIGNED | _UNSIGNED | _DYNAMIC))
        if not self._pointer:
            raise DelegateError("XNNPACK: expected a delegate, got none")

    def _get_native_delegate_pointer(self) -> Any:
        return self._pointer
