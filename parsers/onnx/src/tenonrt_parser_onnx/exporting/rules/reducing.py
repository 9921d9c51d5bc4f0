"""Reductions, searches along an axis, and normalizers."""

from __future__ import annotations

from collections.abc import Callable

from tenonrt_parser_onnx.exporting.node import Writer, flag

_REDUCTIONS = {
    "sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin", "mean": "ReduceMean",
    "l1": "ReduceL1", "l2": "ReduceL2", "log_sum": "ReduceLogSum", "log_sum_exp": "ReduceLogSumExp",
    "sum_square": "ReduceSumSquare",
}  # fmt: skip


def _reduce(w: Writer) -> None:
    axes = w.attrs.axes
    inputs = [w.input(0)] if axes is None else [w.input(0), w.constant(axes)]
    none = None if axes is None or axes else 1
    w.node(_REDUCTIONS[w.attrs.operation], inputs, keepdims=flag(w.attrs.keep_dims), noop_with_empty_axes=none)


def _reduce_along(w: Writer) -> None:
    w.node(_REDUCTIONS[w.attrs.operation], w.inputs, keepdims=flag(w.attrs.keep_dims),
           noop_with_empty_axes=flag(w.attrs.empty_is_none))  # fmt: skip


def _arg_reduce(w: Writer) -> None:
    operator = {"max": "ArgMax", "min": "ArgMin"}[w.attrs.operation]
    w.node(operator, w.inputs, axis=w.attrs.axis, keepdims=flag(w.attrs.keep_dims),
           select_last_index=flag(w.attrs.select_last))  # fmt: skip


def cumulative(operator: str) -> Callable[[Writer], None]:
    """Running totals."""
    return lambda w: w.node(
        operator, w.inputs, exclusive=flag(w.attrs.exclusive), reverse=flag(w.attrs.reverse)
    )  # fmt: skip


def top_k(w: Writer) -> None:
    """The number of elements as a vector, which the layer takes as a scalar too."""
    tensor = w.tensor(1)
    if tensor.type.rank == 1:
        k = w.input(1)
    elif tensor.constant is not None:
        k = w.constant(tensor.constant.reshape(1))
    else:
        k = w.part("Reshape", [w.input(1), w.constant([1])])
    a = w.attrs
    w.node("TopK", [w.input(0), k], axis=a.axis, largest=flag(a.largest), sorted=flag(a.sorted))


def _softmax(w: Writer) -> None:
    w.node("LogSoftmax" if w.attrs.log else "Softmax", w.inputs, axis=w.attrs.axis)


RULES: dict[str, Callable[[Writer], None]] = {
    "ArgReduce": _arg_reduce,
    "CumulativeProduct": cumulative("CumProd"),
    "CumulativeSum": cumulative("CumSum"),
    "Hardmax": lambda w: w.node("Hardmax", w.inputs, axis=w.attrs.axis),
    "Reduce": _reduce,
    "ReduceAlong": _reduce_along,
    "Softmax": _softmax,
    "TopK": top_k,
}
