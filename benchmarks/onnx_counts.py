"""Parameters and operations of an ONNX file, read off its graph.

torch's counter, fvcore and thop cannot look inside it. Counted is the same as of other networks: the
multiply-accumulates of convolutions and matrix products, from the shapes that ONNX infers for one image.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from benchmarks.results import Operations
from zoo.card import Member
from zoo.errors import InputError
from zoo.kinds import required_file
from zoo.onnx_file import required

COUNTER = "onnx"
"""What the counter is called beside torch, fvcore and thop."""


def count_onnx(member: Member) -> Operations:
    """Counts the network of an ONNX file.

    Initial values of more than one element count as parameters: weights, biases and folded statistics.
    Batch norms that are not folded have their running statistics among them.

    Args:
        member: One network of a card.

    Raises:
        CardError: There is no such file.
        InputError: Shapes inside it cannot be told, or it uses operators whose products are not known.
        MachineError: The extra `onnx` is not installed.
    """
    path = required_file(member)
    onnx = required("onnx")
    model = _for_one_image(onnx, path, member)
    graph = model.graph
    if graph.sparse_initializer or any(node.op_type in ("If", "Loop", "Scan") for node in graph.node):
        raise InputError(f"{path}: has control flow or sparse weights, whose operations are not counted")
    shapes = {
        value.name: [each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    } | {each.name: list(each.dims) for each in graph.initializer}
    weights = [each for each in graph.initializer if prod(each.dims) > 1]
    try:
        macs = sum(_macs(node, shapes) for node in graph.node)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise InputError(
            f"{path}: the shapes inside it cannot be told ({error}), so operations are not counted"
        ) from error
    parameters = sum(prod(each.dims) for each in weights)
    return Operations(
        size=member.size,
        parameters=parameters,
        buffers=0,
        weight_bytes=sum(
            prod(each.dims) * onnx.helper.tensor_dtype_to_np_dtype(each.data_type).itemsize
            for each in weights
        ),
        macs=macs,
        counters={COUNTER: macs},
    )


def _for_one_image(onnx: Any, path: Path, member: Member) -> Any:
    """The model with shapes inferred for batch 1 at the member's size."""
    try:
        model = onnx.load(path)
        sides = (1, 3, member.size, member.size)
        for each, side in zip(model.graph.input[0].type.tensor_type.shape.dim, sides, strict=True):
            each.dim_value = side
        # What was inferred for any batch would stand in the way of what holds for one.
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # The library fails in its own ways.
        raise InputError(
            f"{path}: its shapes cannot be inferred ({' '.join(str(error).split())[:200]})"
        ) from error


def _macs(node: Any, shapes: dict[str, list[int]]) -> int:
    """Multiply-accumulates of one operator; 0 of all that are no convolution or matrix product."""
    if node.op_type in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"):
        weight = shapes[node.input[3 if node.op_type == "QLinearConv" else 1]]
        positions = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
        return _known(positions[0], *positions[2:], *weight)
    if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return _known(*shapes[node.output[0]], shapes[node.input[0]][-1])
    if node.op_type == "Gemm":
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        return _known(*shapes[node.output[0]], shapes[node.input[0]][0 if transposed else 1])
    if node.op_type in ("Einsum", "Attention", "GRU", "LSTM", "RNN"):
        raise KeyError(f"operator {node.op_type}")
    return 0


def _known(*sides: int) -> int:
    if not all(sides):
        raise KeyError("an open dimension")
    return prod(sides)
