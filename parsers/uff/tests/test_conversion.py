"""TensorFlow graphs written as UFF files and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import Network, Registry, UnsupportedError
from tenonrt_parser_uff.parser import UffParser
from tenonrt_parser_uff.schema import meta_graph
from tenonrt_parser_uff.tensorflow.rules import RULES
from tenonrt_parser_uff.writing import numbers
from tf_bytes import GraphDef
from tf_cases import CASES, LATER
from uff_bytes import ORDERS

UNKNOWN_TYPES = {"bool", "uint8", "float64"}


def convert(graph: GraphDef, folder: Path, registry: Registry, **options: Any) -> bytes:
    source, target = folder / "graph.pb", folder / "net.uff"
    source.write_bytes(graph.encode())
    tenonrt.convert(source, target, registry=registry, options=options)
    return target.read_bytes()


def read(content: bytes, registry: Registry) -> Network:
    network = Network(registry=registry)
    UffParser().parse_buffer(content, network)
    return network


Array = np.ndarray[Any, Any]
ALL = {name: (operation, [], *values) for name, (operation, *values) in CASES.items()}
ALL = {name: (op, [], given[0], given[1:], attrs, wanted) for name, (op, _, given, attrs, wanted) in ALL.items()}
ALL |= {f"later {name}": case for name, case in LATER.items()}


def add(graph: GraphDef, name: str) -> tuple[str, Array]:
    """The nodes of a case, and its input."""
    operation, before, x, behind, attrs, _ = ALL[name]
    p = name.replace(" ", "_")
    names = [graph.const(f"{p}/a{i}", value) for i, value in enumerate(before)]
    names += [graph.placeholder(f"{p}/x", list(np.shape(x)), np.asarray(x).dtype.name)]
    names += [graph.const(f"{p}/b{i}", value) for i, value in enumerate(behind)]
    graph.node(p, operation, names, **attrs)
    return p, np.asarray(x)


def writable(name: str) -> bool:
    _, before, x, behind, _, _ = ALL[name]
    return not UNKNOWN_TYPES & {np.asarray(value).dtype.name for value in (*before, x, *behind)}


@pytest.mark.filterwarnings("ignore:UFF has no operation for")
def test_operations_come_back(registry: Registry, run: Any, tmp_path: Path) -> None:
    """All in one file: those of UFF as such, the others as custom operations that fall back on TensorFlow's."""
    graph = GraphDef()
    added = {name: add(graph, name) for name in ALL if writable(name)}
    content = convert(graph, tmp_path, registry, outputs=[p for p, _ in added.values()])
    results = run(read(content, registry), **{f"{p}/x": x for p, x in added.values()})
    for name, (p, x) in added.items():
        expected = ALL[name][-1]
        expected = expected(x.astype(np.float64)) if callable(expected) else expected
        expected = expected[0] if isinstance(expected, list) else expected
        assert results[p].shape == np.shape(expected), name
        np.testing.assert_allclose(results[p], expected, 1e-5, 1e-5, err_msg=name)
    nodes = {node.id: node.operation for node in meta_graph().FromString(content).graphs[0].nodes}
    kept = {ALL[name][0] for name, (p, _) in added.items() if not nodes.get(p, "_").startswith("_")}
    assert set(RULES) <= kept, "a case of each operation that has a rule keeps to UFF's own operations"


@pytest.mark.parametrize("name", [name for name in ALL if not writable(name)])
def test_types_that_uff_does_not_have(name: str, registry: Registry, tmp_path: Path) -> None:
    graph = GraphDef()
    output, _ = add(graph, name)
    with pytest.raises(UnsupportedError, match="UFF has no element type"):
        convert(graph, tmp_path, registry, outputs=[output])


@pytest.mark.parametrize("order", ORDERS)
def test_orders(order: str) -> None:
    assert numbers(order) == ORDERS[order]


def test_names_and_outputs_are_kept(registry: Registry, tmp_path: Path) -> None:
    graph = GraphDef()
    graph.placeholder("image", [-1, 4])
    graph.const("dense/kernel", np.ones((4, 2), np.float32))
    graph.node("dense/kernel/read", "Identity", ["dense/kernel"])
    graph.node("dense/MatMul", "MatMul", ["image", "dense/kernel/read"])
    graph.node("out", "Identity", ["dense/MatMul"])
    file = meta_graph().FromString(convert(graph, tmp_path, registry))
    assert (file.version, file.descriptor_core_version, file.graphs[0].id) == (1, 1, "main")
    assert [d.id for d in file.descriptors] == ["tensorflow_extension"]
    nodes = {node.id: node for node in file.graphs[0].nodes}
    assert set(nodes) == {"image", "dense/kernel", "dense/MatMul", "out", "MarkOutput_0"}
    assert nodes["MarkOutput_0"].inputs == ["out"]
    assert list(nodes["image"].fields["shape"].i_list.val) == [-1, 4]
    assert nodes["dense/MatMul"].fields["inputs_orders"].ref == "orders_NC_CK"


def test_what_cannot_be_written_is_listed_and_nothing_is(registry: Registry, tmp_path: Path) -> None:
    graph = GraphDef()
    graph.placeholder("x", [4, 4], "uint8")
    graph.node("parts", "Unpack", ["x"], num=4, axis=0)
    graph.node("y", "Add", ["parts:1", "parts:2"])
    graph.node("noise", "RandomUniform", ["y"])
    with pytest.raises(UnsupportedError) as caught:
        convert(graph, tmp_path, registry)
    for part in ("no element type uint8", "nodes of UFF have one output", "export the graph for inference"):
        assert part in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.pb"]
