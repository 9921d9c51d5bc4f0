"""cuDNN's front end with its handle, imported when an engine is built: it imports PyTorch where that is installed."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from tenonrt.contracts import UnsupportedError

# Graphs are stated and built one at a time: they share the handle.
lock = Lock()


@cache
def cudnn() -> Any:
    """The module ``cudnn``; `UnsupportedError` says what is missing."""
    try:
        import cudnn as found
    except ImportError as error:
        raise UnsupportedError(
            f"cuDNN's front end cannot be used ({error}): pip install nvidia-cudnn-frontend nvidia-cudnn-cu13"
        ) from error
    return found


@cache
def handle() -> Any:
    """The handle of this process for the current GPU."""
    return cudnn().create_handle()


@cache
def missing() -> str:
    """Why nothing can be built here; empty when it can."""
    try:
        import cupy

        if not cupy.cuda.runtime.getDeviceCount():
            return "there is no GPU"
        handle()
    except UnsupportedError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - CuPy and cuDNN raise errors of many kinds where they find no driver
        return f"cuDNN cannot be used here: {error}"
    return ""
