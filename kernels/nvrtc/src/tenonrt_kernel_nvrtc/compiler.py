"""NVRTC: CUDA C++ to machine code for one architecture. Needs the library, and no GPU.

NVIDIA, "NVRTC" (CUDA toolkit documentation): nvrtcCreateProgram, nvrtcCompileProgram, nvrtcGetCUBIN.
"""

from __future__ import annotations

import ctypes
from functools import cache

from tenonrt.contracts import UnsupportedError, load_library

LIBRARY = "TENONRT_NVRTC"  # an environment variable: the path of the library to use
_PATTERNS = ("nvidia/cu1?/lib/libnvrtc.so.1?", "nvidia/cuda_nvrtc/lib/libnvrtc.so.1?")
_TOOLKITS = ("/usr/local/cuda/lib64/libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


@cache
def library() -> ctypes.CDLL:
    """The library; `UnsupportedError` says how to get it."""
    found = load_library(LIBRARY, _PATTERNS, _TOOLKITS)
    if found is None:
        raise UnsupportedError(
            "NVRTC, which compiles CUDA kernels, is not installed: pip install nvidia-cuda-nvrtc, or set "
            f"{LIBRARY} to the path of libnvrtc.so"
        )
    return found


def compile_cubin(source: str, architecture: str) -> bytes:
    """Machine code for an architecture such as ``sm_90a``; `ValueError` carries the compiler's messages."""
    nvrtc, program = library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        options = [option.encode() for option in (f"--gpu-architecture={architecture}", "--std=c++17")]
        array = (ctypes.c_char_p * len(options))(*options)
        if nvrtc.nvrtcCompileProgram(program, len(options), array):
            raise ValueError(f"NVRTC refused generated code:\n{_log(nvrtc, program)}")
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _log(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> str:
    raw = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    return raw.rstrip(b"\0").decode(errors="replace")


def _text(size_of: ctypes._NamedFuncPointer, read: ctypes._NamedFuncPointer, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(read(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC returned status {status}")
