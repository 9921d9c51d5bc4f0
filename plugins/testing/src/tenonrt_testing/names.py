"""How the entry points of each group are named."""

from __future__ import annotations

import re

from tenonrt.graph.passes import PHASES

_KIND = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_WORD = r"[a-z][a-z0-9_-]*"
_PATTERNS = ("pointwise", "reduction", "contraction", "movement", "opaque")
_RULES = {
    "tenonrt.layers": (_KIND, "a layer kind: Convolution, or acme.RoiAlign"),
    "tenonrt.kernels": (
        rf"({_WORD}|\*)/({_KIND}|@({'|'.join(_PATTERNS)})|\*)\.{_WORD}",
        "<device>/<kind, @pattern or *>.<implementation>: cpu/Softmax.acme",
    ),
    "tenonrt.mappings": (r"[a-z][a-z0-9_]*:[^:]*:[^:]+", "<format>:<domain>:<type>: onnx:acme:Swish6"),
    "tenonrt.parsers": (_WORD, "a format's name in lower case: onnx"),
    "tenonrt.exporters": (
        rf"{_WORD}-{_WORD}",
        "<source>-<format>, the source a parser's name or network: network-onnx",
    ),
    "tenonrt.devices": (_WORD, "a device's name in lower case: cuda"),
    "tenonrt.passes": (rf"({'|'.join(PHASES)})\.{_WORD}", f"<phase>.<name>, the phase one of {', '.join(PHASES)}"),
    "tenonrt.calibrators": (_WORD, "a method's name in lower case: entropy"),
    "tenonrt.runners": (_WORD, "a runtime's name in lower case: onnxruntime"),
    "tenonrt.commands": (_WORD, "a verb in lower case"),
    "tenonrt.hooks": (_WORD, "the plugin's name in lower case"),
    "tenonrt.replaces": (r"tenonrt\.\w+/.+", "<group>/<name> of what is replaced: tenonrt.layers/Softmax"),
    "tenonrt.fixtures": (_WORD, "the name of the parser whose files it offers: onnx"),
}


def misnamed(group: str, name: str) -> str:
    """Why a name cannot be an entry point of a group, or that nobody reads the group; empty when all is well."""
    if group not in _RULES:
        ours = group.startswith("tenonrt.")
        return f"there is no group {group}; there are {', '.join(sorted(_RULES))}" if ours else ""
    pattern, meaning = _RULES[group]
    return "" if re.fullmatch(pattern, name) else f"{name!r} in {group} is not {meaning}"
