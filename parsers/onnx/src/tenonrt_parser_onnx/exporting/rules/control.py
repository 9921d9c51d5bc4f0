"""Layers that own graphs."""

from __future__ import annotations

from collections.abc import Callable

from tenonrt_parser_onnx.exporting.node import Writer


def _if(w: Writer) -> None:
    w.node("If", w.inputs, then_branch=w.graphs[0], else_branch=w.graphs[1])


def _loop(w: Writer) -> None:
    w.node("Loop", w.inputs, body=w.graphs[0])


def _scan(w: Writer) -> None:
    a = w.attrs
    w.node(
        "Scan", w.inputs, since=19, body=w.graphs[0], num_scan_inputs=a.num_scan_inputs,
        scan_input_axes=a.scan_input_axes or None, scan_input_directions=a.scan_input_directions or None,
        scan_output_axes=a.scan_output_axes or None, scan_output_directions=a.scan_output_directions or None,
    )  # fmt: skip


RULES: dict[str, Callable[[Writer], None]] = {"If": _if, "Loop": _loop, "Scan": _scan}
