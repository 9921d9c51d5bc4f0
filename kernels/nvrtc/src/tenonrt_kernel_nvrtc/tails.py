"""What follows a layer in its region: pointwise layers on the element that has just been computed."""

from __future__ import annotations

import msgspec
from tenonrt.contracts import Problem

from tenonrt_kernel_nvrtc.expressions import QUICK
from tenonrt_kernel_nvrtc.pointwise import chain


def refuses_operands(problem: Problem) -> str:
    """Why a tail is not computed: what it reads must lie as the result does, or be one number."""
    result = problem.types[problem.layer.outputs[0]]
    if problem.outputs != (problem.layers[-1].outputs[0],):
        return "an interior result is wanted outside of the region"
    own = {i for i in problem.layer.inputs if i >= 0}
    for number in range(len(problem.inputs)):
        type, given = problem.types[number], problem.inputs[number]
        scalar = given.role == "constant" and given.value is not None and type.size == 1
        if number not in own and not scalar and (type != result or given.role == "constant"):
            return f"its tail reads {type} beside {result}"
    return ""


def tail(problem: Problem, names: dict[str, str], half: bool = False) -> tuple[list[str], str]:
    """C lines of the layers after the first, on one element that is in y<number of the first's result>, and the last's
    value; ``names``: of what they read; half: whether that is how results are stored."""
    first = problem.layer.outputs[0]
    if len(problem.layers) == 1:
        return [], f"y{first}"
    followers = msgspec.structs.replace(problem, layers=problem.layers[1:])
    return chain(
        followers,
        {**names, f"x{first}": f"y{first}"},
        skip=frozenset(problem.layer.inputs),
        instead=QUICK if half else {},
    )
