"""A network from Caffe and the same one from ONNX: the same problems are posed and the same regions chosen."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.offers import Offers
from tenonrt.graph.passes import run_passes
from tenonrt.plugins.hooks import Hooks

onnx = pytest.importorskip("onnx")


def layer(kind: str, name: str, bottoms: str, parameters: str = "", top: str = "") -> str:
    names = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {names} top: "{top or name}" {parameters} }}\n'


def convolution(name: str, bottom: str, outputs: int, window: int, stride: int = 1) -> str:
    filled = "weight_filler { type: 'xavier' } bias_filler { type: 'constant' value: 0.2 }"
    parameters = f"num_output: {outputs} kernel_size: {window} pad: {window // 2} stride: {stride} {filled}"
    return layer("Convolution", name, bottom, f"convolution_param {{ {parameters} }}") + layer(
        "ReLU", f"relu_{name}", name, top=name
    )


def pooling(name: str, bottom: str, parameters: str) -> str:
    return layer("Pooling", name, bottom, f"pooling_param {{ {parameters} }}")


# As GoogLeNet begins and ends: pooling over the end, two responses, branches that are joined, a dropout in place.
INCEPTION = "".join((
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }\n',
    convolution("c1", "data", 16, 7, 2), pooling("p1", "c1", "pool: MAX kernel_size: 3 stride: 2"),
    layer("LRN", "n1", "p1", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    convolution("c2", "n1", 32, 3), layer("LRN", "n2", "c2", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    convolution("b1", "n2", 16, 1), convolution("b2r", "n2", 16, 1), convolution("b2", "b2r", 32, 3),
    convolution("b3r", "n2", 16, 1), convolution("b3", "b3r", 16, 5),
    pooling("b4p", "n2", "pool: MAX kernel_size: 3 stride: 1 pad: 1"), convolution("b4", "b4p", 16, 1),
    layer("Concat", "joined", "b1 b2 b3 b4"), pooling("p2", "joined", "pool: AVE kernel_size: 8 stride: 1"),
    layer("Dropout", "dropped", "p2", top="p2"),
    layer("InnerProduct", "ip", "p2", "inner_product_param { num_output: 10 weight_filler { type: 'xavier' } }"),
    layer("Softmax", "prob", "ip"),
))  # fmt: skip


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The network from Caffe, and what was written of it from ONNX."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    as_onnx = import_module("networks.rewriting").as_onnx
    (tmp_path / "net.prototxt").write_text(INCEPTION)
    first = tenonrt.parse(tmp_path / "net.prototxt", options={"random_weights": 1})
    onnx.save(as_onnx(first), tmp_path / "net.onnx")
    return [first, tenonrt.parse(tmp_path / "net.onnx")]


def problems(network: Any) -> Counter[tuple[str, str, str]]:
    """What every kernel would be asked of the network when the passes are done, and with which tactics."""
    config = tenonrt.BuilderConfig()
    run_passes(network.graph, network.registry)
    offers = Offers(network.graph, network.registry, config, Hooks(network.registry))
    found = [offer for each in network.graph.layers for offer in offers.at(each)]
    return Counter((offer.posed.key, offer.entry.id, offer.tactic.key) for offer in found)


def test_the_same_problems_are_posed(both: list[Any]) -> None:
    caffe, onnx_ = map(problems, both)
    assert len(caffe) > 50
    assert caffe == onnx_


def test_the_same_regions_are_chosen(both: list[Any]) -> None:
    chosen, results = [], []
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    for network in both:
        engine = tenonrt.compile(network, optimization_level=0)
        won = {region.layers: region.problem for region in engine.report.regions if region.winner is not None}
        chosen.append([(step.kernel, step.tactic) for step in engine.report.steps])
        assert len(won) == len(chosen[-1])
        chosen[-1].append(tuple(sorted(won.values())))
        results.append(engine.create_context().execute({"data": x})["prob"])
    assert chosen[0] == chosen[1]
    np.testing.assert_array_equal(*results)
