"""Layers: the meaning that kernels are judged by must itself be consistent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Array, GraphError, LayerType, TensorInfo, TensorType, dtype_name, is_float, symbol
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.network import Network
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import Registry, using

from tenonrt_testing.examples import Example, disagreement, examples, owns_subgraphs, same_values
from tenonrt_testing.subjects import instance, report

GROUP = "tenonrt.layers"


@pytest.fixture
def layer_type(entry: Entry) -> LayerType:
    found: LayerType = instance(entry)
    return found


@pytest.fixture
def cases(entry: Entry, layer_type: LayerType) -> list[Example]:
    if owns_subgraphs(layer_type):
        pytest.skip(f"{entry.name} owns subgraphs, which a Case cannot hold")
    return examples(entry.name, layer_type)


def test_is_a_layer_type(layer_type: LayerType) -> None:
    """The entry point names a subclass of `LayerType` whose declarations are of the declared kinds.

    When this fails: the class lacks an abstract method, or a class attribute (inputs, shape_inputs, pattern) is not
    what `LayerType` says of it.
    """
    assert isinstance(layer_type, LayerType)
    labels = [label.rstrip("?*") for label in layer_type.inputs]
    assert all(label.isidentifier() for label in labels), layer_type.inputs
    assert len(set(labels)) == len(labels), layer_type.inputs
    assert not any(label.endswith("*") for label in layer_type.inputs[:-1]), "only the last input takes any number"
    assert layer_type.pattern in ("pointwise", "reduction", "contraction", "movement", "opaque")
    variadic = bool(layer_type.inputs) and layer_type.inputs[-1].endswith("*")
    assert all(i >= 0 and (variadic or i < len(layer_type.inputs)) for i in layer_type.shape_inputs)


def test_has_cases(cases: list[Example]) -> None:
    """`cases` gives at least one example, so that kernels of this layer can be tested.

    When this fails: yield `Case` values that cover the attributes, small and odd sizes included.
    """
    assert cases


def test_attributes_round_trip(cases: list[Example], entry: Entry) -> None:
    """Attributes are equal after being encoded and decoded, and can be hashed: plans, caches and workers need both.

    When this fails: an attribute is not a plain value. Use numbers, strings, booleans, None and tuples of them.
    """
    wrong = []
    for example in cases:
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(example.attrs))
        again = make_attrs(example.layer_type, entry.name, entry.name, decoded)
        if again != example.attrs or hash(again) != hash(example.attrs):
            wrong.append(f"{example.name}: {example.attrs} became {again}")
    report(wrong, "attributes changed on their way through msgspec")


def test_sample_draws_what_was_asked(cases: list[Example]) -> None:
    """`sample` returns an array of the declared type for every input, None for absent ones.

    When this fails: an overridden `sample` ignores a shape or an element type. Convert what it draws with
    `numpy_dtype(type.dtype)`.
    """
    wrong = []
    for example in cases:
        drawn = example.layer_type.sample(example.attrs, example.types, np.random.default_rng(1))
        for index, (type, array) in enumerate(zip(example.types, drawn, strict=True)):
            if (type is None) != (array is None):
                wrong.append(f"{example.name}, input {index}: asked for {type}, drew {array!r:.40}")
            elif type is not None and (why := disagreement([TensorInfo(type)], [array])):
                wrong.append(f"{example.name}, input {index}: {why}")
    report(wrong, "sample() draws other types than it was asked for")


def test_infer_agrees_with_reference(cases: list[Example]) -> None:
    """On every case `reference` gives arrays of the shapes and element types that `infer` announced.

    When this fails: one of the two is wrong about rounding, broadcasting or the element type, or the reference returns
    a NumPy scalar where an array of rank 0 is due (wrap it in `np.asarray`).
    """
    wrong = [f"{example.name}: {why}" for example in cases if (why := _contradiction(example, example.infer()))]
    report(wrong, "infer() and reference() disagree")


def test_reference_works_in_float64(cases: list[Example]) -> None:
    """Given float64, the reference computes in float64: the core judges kernels by it.

    When this fails: the reference converts to float32 somewhere. Follow the dtype of the inputs.
    """
    wrong = []
    for example in map(Example.widened, cases):
        try:
            infos = example.infer()
        except ValueError:
            continue  # a layer may be defined for narrower types only
        if why := _contradiction(example, infos):
            wrong.append(f"{example.name}: {why}")
    report(wrong, "in float64, infer() and reference() disagree")


def test_reference_is_pure(cases: list[Example]) -> None:
    """The reference leaves its inputs as they are and gives the same bits when called again.

    When this fails: it writes into an input (copy first), keeps state on the instance, or draws random numbers without
    `pure = False`.
    """
    wrong = []
    for example in cases:
        arrays = example.arrays()
        before = [None if a is None else a.copy() for a in arrays]
        first = [np.array(result) for result in example.run(arrays)]
        second = [np.asarray(result) for result in example.run(arrays)]
        kept = zip(arrays, before, strict=True)
        if not all(a is None or b is None or same_values([a], [b]) for a, b in kept):
            wrong.append(f"{example.name}: an input was changed")
        if example.layer_type.pure and not same_values(first, second):
            wrong.append(f"{example.name}: two calls gave different results")
    report(wrong, "reference() is not pure")


def test_symbolic_sizes_give_the_concrete_answer(cases: list[Example]) -> None:
    """Where `infer` accepts a symbol for a size, putting the size back gives what it inferred from the size itself.

    When this fails: a shape rule treats symbols differently from numbers. Use + - * // and `maximum`, `minimum` on
    dimensions as they come, without asking whether they are integers. Refusing with ValueError is allowed.
    """
    wrong = []
    for example in cases:
        expected = example.infer()
        for size in example.sizes():
            name = f"N{size}"
            try:
                found = example.resized({size: symbol(name, min(size, 1), 4 * size + 8)}).infer()
            except ValueError:
                continue
            types = [info.type.substitute({name: size}) for info in found]
            if not _same_types(types, expected):
                texts = [[str(t) for t in types], [str(info.type) for info in expected]]
                wrong.append(f"{example.name}, {size} as a symbol: {texts[0]} instead of {texts[1]}")
    report(wrong, "symbols change what is inferred")


def test_sizes_zero_and_one(cases: list[Example]) -> None:
    """With any size of a case made 0 or 1, `infer` refuses with ValueError or agrees with the reference.

    When this fails: an empty or single dimension is a special case that one of the two forgot (a maximum of nothing, a
    broadcast that looks like a match). Refuse what has no meaning in `infer`.
    """
    wrong = []
    for example in cases:
        wrong += [
            f"{example.name}, size {size} made {small}: {why}"
            for size in example.sizes()
            for small in sorted({0, 1} - {size})
            if (why := _refused_or_contradiction(example.resized({size: small})))
        ]
    report(wrong, "infer() accepts what reference() does not compute")


@given(data=st.data())
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_sizes(cases: list[Example], data: st.DataObject) -> None:
    """With random sizes put into a case, `infer` refuses with ValueError or agrees with the reference.

    When this fails: a rounding rule or a broadcast is right only for the sizes of the cases. The message shows the
    smallest example found.
    """
    if not cases:
        return
    example = data.draw(st.sampled_from(cases))
    sizes = {size: data.draw(st.integers(0, 9), label=f"{size} becomes") for size in example.sizes()}
    changed = example.resized(sizes)
    if why := _refused_or_contradiction(changed):
        pytest.fail(f"{example.name} with {[str(t) for t in changed.types]}: {why}", pytrace=False)


def test_bad_inputs_are_refused(cases: list[Example], entry: Entry, registry: Registry) -> None:
    """Other ranks and element types are refused with ValueError, or what is accepted is computed as inferred.

    When this fails: `infer` lets through what the reference cannot compute, or raises another exception than
    ValueError. Check ranks and element types first, and say what was found and what is expected.
    """
    wrong = []
    for example in cases:
        for changed, label in _spoilt(example):
            if why := _refused_or_contradiction(changed):
                wrong.append(f"{example.name}, {label}: {why}")
    report(wrong, "bad inputs are not refused with ValueError")


def test_missing_inputs_are_refused(cases: list[Example], entry: Entry, registry: Registry) -> None:
    """Without one of its required inputs a layer is a GraphError.

    When this fails: an input that is needed is declared optional (``"bias?"``), and `infer` does not refuse None.
    """
    for example in cases[:5]:
        for index, label in enumerate(example.layer_type.inputs):
            if not label.endswith(("?", "*")):
                with using(registry), pytest.raises(GraphError):
                    _add(Network(registry=registry), entry.name, example.with_input(index, None))


def test_absent_optional_inputs(cases: list[Example]) -> None:
    """Without an optional input `infer` refuses with ValueError or agrees with the reference.

    When this fails: the reference reads an optional input that is None, or `infer` does.
    """
    wrong = []
    for example in cases:
        for index, label in enumerate(example.layer_type.inputs):
            given = label.endswith("?") and example.inputs[index] is not None
            if given and (why := _refused_or_contradiction(example.with_input(index, None))):
                wrong.append(f"{example.name} without {label}: {why}")
    report(wrong, "optional inputs are not optional")


def test_pointwise_is_true(cases: list[Example]) -> None:
    """A layer of pattern "pointwise" commutes with slicing when its inputs have equal shapes.

    When this fails: an output element depends on other elements than those at its place. Declare another pattern:
    kernels compute pointwise layers in any order and in pieces.
    """
    if not cases or cases[0].layer_type.pattern != "pointwise":
        pytest.skip("the layer does not claim to be pointwise")
    wrong, tried = [], 0
    for example in cases:
        arrays = example.arrays()
        shapes = {a.shape for a in arrays if a is not None and a.ndim}
        if len(shapes) != 1 or [info.shape for info in example.infer()] != [*shapes] * len(example.infer()):
            continue
        tried += 1
        whole = example.run(arrays)
        for cut in _cuts(next(iter(shapes))):
            parts = example.run([a if a is None or not a.ndim else a[cut] for a in arrays])
            if not all(_close(part, result[cut]) for part, result in zip(parts, whole, strict=True)):
                wrong.append(f"{example.name}: slicing {cut} first gives another result")
    report(wrong, "the layer is not pointwise")
    if not tried:
        pytest.skip("no case has inputs and outputs of one shape")


def test_views_are_true(cases: list[Example]) -> None:
    """A declared `View` names the very elements that the reference computes.

    When this fails: the core would skip the layer and pass wrong data on. Check the order of elements (parts None) or
    the slices.
    """
    wrong, tried = [], 0
    for example in cases:
        outputs = example.infer()
        view = example.layer_type.view(example.attrs, example.infos, outputs)
        if view is not None:
            tried += 1
            arrays = example.arrays()
            if not _view_holds(view, [a for a in arrays if a is not None], example.run(arrays)):
                wrong.append(f"{example.name}: {view}")
    report(wrong, "a view gives other values than the reference")
    if not tried:
        pytest.skip("no case is a view")


def test_shape_arithmetic_is_true(cases: list[Example]) -> None:
    """With ``shape_arithmetic`` the reference gives the same values for object arrays of the same integers.

    When this fails: a NumPy function used by the reference behaves differently, or not at all, on object arrays.
    """
    if not cases or not cases[0].layer_type.shape_arithmetic:
        pytest.skip("the layer does not claim to compute shapes")
    wrong, computed = [], 0
    for example in map(_integral, cases):
        try:
            outputs = example.infer()
            arrays = example.arrays()
            objects = [None if a is None else a.astype(object) for a in arrays]
            found = example.run(objects)
        except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError):
            continue  # the core takes these to mean that the value is not known
        expected = example.run(arrays)
        computed += 1
        for info, value, result in zip(outputs, found, expected, strict=True):
            if info.dtype != "string" and not _equal_objects(np.asarray(value), result):
                wrong.append(f"{example.name}: {np.asarray(value).tolist()!r:.60} instead of {result.tolist()!r:.60}")
    report(wrong, "object arrays give other values")
    assert computed, "the reference works on object arrays in no case"


# what the rules are made of ----------------------------------------------------------------------------------------


def _contradiction(example: Example, infos: Sequence[TensorInfo]) -> str:
    """How the reference departs from what was inferred; an exception of the reference is reported too."""
    try:
        arrays = example.arrays()
    except ValueError:
        return ""  # sample() says that there are no valid inputs of these types
    try:
        return disagreement(infos, example.run(arrays))
    except (ValueError, IndexError) as error:
        if any(a is not None and not a.size for a in arrays):
            return ""  # values that nothing can hold: an index into an empty axis, the mean of no integers
        return f"infer() accepts {[str(t) for t in example.types]}, reference() raised {error!r}"
    except Exception as error:  # noqa: BLE001 - a reference may raise anything at all
        return f"infer() accepts {[str(t) for t in example.types]}, reference() raised {error!r}"


def _refused_or_contradiction(example: Example) -> str:
    try:
        infos = example.infer()
    except ValueError:
        return ""
    except Exception as error:  # noqa: BLE001 - the rule is that only ValueError is raised
        return f"infer() raised {error!r} instead of ValueError for {[str(t) for t in example.types]}"
    return _contradiction(example, infos)


def _spoilt(example: Example) -> Iterator[tuple[Example, str]]:
    for index, type in enumerate(example.inputs):
        if isinstance(type, TensorType):
            yield example.with_input(index, type.reshape((2, *type.shape))), f"input {index} with an axis more"
            if type.rank:
                yield example.with_input(index, type.reshape(type.shape[1:])), f"input {index} with an axis less"
            yield example.with_input(index, type.reshape(())), f"input {index} a scalar"
            for dtype in ("string", "bool", "complex64", "int8"):
                if dtype != type.dtype:
                    yield example.with_input(index, TensorType(type.shape, dtype)), f"input {index} of {dtype}"


def _add(network: Network, kind: str, example: Example) -> Any:
    tensors = [
        network.input(f"input{i}", value) if isinstance(value, TensorType) else value
        for i, value in enumerate(example.inputs)
    ]
    return network.add(kind, tensors, example.attrs)


def _same_types(found: Sequence[TensorType], expected: Sequence[TensorInfo]) -> bool:
    """Equal types; dimensions that depend on data carry symbols of their own and are compared by rank only."""
    pairs = zip(found, expected, strict=False)
    return len(found) == len(expected) and all(
        (t.shape, t.dtype) == (e.shape, e.dtype)
        or (not (t.static and e.type.static) and t.rank == e.rank and t.dtype == e.dtype)
        for t, e in pairs
    )


def _cuts(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    for axis, size in enumerate(shape):
        if size > 1:
            yield (*[slice(None)] * axis, slice(1, None))
            yield (*[slice(None)] * axis, slice(0, size // 2))


def _close(a: Array, b: Array) -> bool:
    """Equal up to the rounding by which vectorized functions differ between the body and the end of an array."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if is_float(dtype_name(a.dtype)) or a.dtype.kind == "c":
        tolerance = 1e-2 if a.dtype.itemsize < 4 else 1e-5
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        return bool(np.allclose(a.astype(wide), b.astype(wide), rtol=tolerance, atol=tolerance, equal_nan=True))
    return same_values([a], [b])


def _view_holds(view: Any, inputs: Sequence[Array], outputs: Sequence[Array]) -> bool:
    if view.parts is None:
        return same_values([outputs[0].reshape(-1)], [inputs[0].reshape(-1)])
    whole, parts = (inputs[0], outputs) if view.whole == "input" else (outputs[0], inputs)
    slices = [whole[tuple(slice(*bounds) for bounds in part)] for part in view.parts]
    return same_values(slices, parts)


def _integral(example: Example) -> Example:
    """The example on int64 where its inputs are of a floating-point type that may be replaced."""
    changed = example
    for index, value in enumerate(example.inputs):
        if isinstance(value, TensorType) and is_float(value.dtype):
            changed = changed.with_input(index, TensorType(value.shape, "int64"))
    try:
        changed.infer()
    except ValueError:
        return example
    return changed


def _equal_objects(objects: Array, result: Array) -> bool:
    return objects.shape == result.shape and _close(objects.astype(result.dtype), result)
