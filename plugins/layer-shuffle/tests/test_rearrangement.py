from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import NHWC, Attributes, Format, TensorInfo, TensorType, View, symbol
from tenonrt_layer_shuffle.depth_to_space import DepthToSpaceAttributes, DepthToSpaceLayer
from tenonrt_layer_shuffle.identity import IdentityLayer
from tenonrt_layer_shuffle.reformat import ReformatAttributes, ReformatLayer
from tenonrt_layer_shuffle.space_to_depth import SpaceToDepthAttributes, SpaceToDepthLayer
from tenonrt_layer_shuffle.transpose import TransposeAttributes, TransposeLayer

N = symbol("N")
SHAPES = array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


def info(*shape):
    return TensorInfo(TensorType(shape))


@pytest.mark.parametrize(
    "layer", [TransposeLayer(), IdentityLayer(), ReformatLayer(), DepthToSpaceLayer(), SpaceToDepthLayer()]
)
def test_cases(check_cases, layer):
    check_cases(layer)


@pytest.mark.parametrize("permutation", [(), (0, 2, 3, 1), (3, 1, 0, 2)])
def test_transpose_equals_onnxruntime(oracle, permutation):
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    attributes = {"perm": permutation} if permutation else {}
    (result,) = TransposeLayer().reference(TransposeAttributes(permutation), [x], None)
    np.testing.assert_array_equal(result, oracle("Transpose", [x], **attributes)[0])


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.data())
def test_transpose_infer_agrees_with_reference(agrees, shape, data):
    permutation = tuple(data.draw(st.permutations(range(len(shape)))))
    agrees(TransposeLayer(), TransposeAttributes(permutation), [np.zeros(shape, np.float32)])
    agrees(TransposeLayer(), TransposeAttributes(), [np.zeros(shape, np.float32)])


def test_transpose_of_axes_of_length_one_is_a_view():
    layer = TransposeLayer()

    def view(permutation, *shape):
        return layer.view(TransposeAttributes(permutation), [info(*shape)], [])

    assert view((1, 0, 2), 1, 3, N) == View()
    assert view((1, 0), 2, 3) is None
    assert view((1, 0), N, 3) is None


def test_transpose_of_known_values():
    x = np.array([[N, 1], [2, 3]], object)
    (result,) = TransposeLayer().reference(TransposeAttributes(), [x], None)
    assert result.tolist() == [[N, 2], [1, 3]]


def test_transpose_refuses_what_is_no_permutation():
    for permutation, message in (
        ((0, 0), "twice"),
        ((0, 2), "expected one of the 2 axes"),
        ((0,), "has 1 axes, the input has 2"),
    ):
        with pytest.raises(ValueError, match=message):
            TransposeLayer().infer(TransposeAttributes(permutation), [info(2, 3)])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_equals_onnxruntime(oracle, mode):
    x = np.arange(2 * 12 * 3 * 5, dtype=np.float32).reshape(2, 12, 3, 5)
    (result,) = DepthToSpaceLayer().reference(DepthToSpaceAttributes(2, mode), [x], None)
    np.testing.assert_array_equal(result, oracle("DepthToSpace", [x], blocksize=2, mode=mode)[0])


def test_space_to_depth_equals_onnxruntime(oracle):
    x = np.arange(2 * 3 * 6 * 4, dtype=np.float32).reshape(2, 3, 6, 4)
    (result,) = SpaceToDepthLayer().reference(SpaceToDepthAttributes(2), [x], None)
    np.testing.assert_array_equal(result, oracle("SpaceToDepth", [x], blocksize=2)[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.lists(st.integers(0, 3), min_size=4, max_size=4), st.sampled_from(["DCR", "CRD"]))
def test_blocks_agree_with_reference_and_invert_each_other(agrees, block, sizes, mode):
    n, c, h, w = sizes
    x = np.arange(n * c * h * w * block**2, dtype=np.int32).reshape(n, c, h * block, w * block)
    (deep,) = agrees(SpaceToDepthLayer(), SpaceToDepthAttributes(block), [x])
    (flat,) = agrees(DepthToSpaceLayer(), DepthToSpaceAttributes(block, mode), [deep])
    if mode == "DCR":
        np.testing.assert_array_equal(flat, x)


def test_blocks_refuse_sizes_that_do_not_divide():
    with pytest.raises(ValueError, match="6 channels cannot be divided into blocks of 2 x 2"):
        DepthToSpaceLayer().infer(DepthToSpaceAttributes(2), [info(1, 6, 2, 2)])
    with pytest.raises(ValueError, match="4 x 5 pixels"):
        SpaceToDepthLayer().infer(SpaceToDepthAttributes(2), [info(1, 6, 4, 5)])
    with pytest.raises(ValueError, match=r"found float32\[4x5\]"):
        SpaceToDepthLayer().infer(SpaceToDepthAttributes(2), [info(4, 5)])
    assert SpaceToDepthLayer().infer(SpaceToDepthAttributes(2), [info(N, 3, 4 * N, 4)])[0].shape == (N, 12, 2 * N, 2)


def test_identity_and_reformat_keep_type_and_values(agrees):
    x = np.arange(6.0).reshape(1, 2, 3, 1)
    attrs = ReformatAttributes(target=NHWC)
    for layer, given_attrs in ((IdentityLayer(), Attributes()), (ReformatLayer(), attrs)):
        np.testing.assert_array_equal(agrees(layer, given_attrs, [x])[0], x)
    known = TensorInfo(TensorType((1,), "int64"), "host", np.array([N], object))
    assert IdentityLayer().infer(Attributes(), [known])[0].place == "host"


def test_reformat_refuses_formats_of_another_rank():
    with pytest.raises(ValueError, match="target format NHWC orders the axes"):
        ReformatLayer().infer(ReformatAttributes(target=NHWC), [info(2, 3)])
    with pytest.raises(ValueError, match=r"source format .* blocks the axes \[1\]"):
        ReformatLayer().infer(ReformatAttributes(source=Format(blocks=((1, 16),))), [info(2)])
