"""A classifier as an ONNX file, for programs without torch: written, checked before it is trusted, made smaller."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_pipeline.data.schema import Schema

if TYPE_CHECKING:
    import onnx

    from mnist_pipeline.training.model import MLP

FILE = "model.onnx"
INPUT, OUTPUT = "images", "probabilities"
MAX_BYTES = 256 * 2**20


def write(mlp: "MLP", schema: Schema, file: Path, **metadata: str) -> None:
    """Write the classifier around `mlp` by torch.onnx.export: raw uint8 images (N, H, W) in, probabilities out.

    The normalisation and test-time augmentation are part of the graph, N is free, and the metadata hold the schema.
    """
    import torch

    from mnist_pipeline.training.model import Classifier

    two = torch.zeros((2, schema.height, schema.width), dtype=torch.uint8)  # one would freeze N
    exported = torch.export.export(Classifier(mlp, schema).eval(), (two,), dynamic_shapes=({0: torch.export.Dim("N")},))
    program = torch.onnx.export(
        exported, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: "N"},)
    )
    assert program
    program.model.metadata_props.update(metadata | {"schema": json.dumps(schema.to_json())})
    program.save(file)


def check(file: Path) -> Schema:
    """Return the schema of an ONNX file. Raises `ValueError` if it is none that `write` or `quantize` could have made.

    Nothing of it is run: it may name neither other files nor operators of others, and has neither loops nor functions.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{file.name} has {file.stat().st_size:,} bytes, of {MAX_BYTES:,} at most")
    try:
        model = onnx.load_model_from_string(file.read_bytes())
        schema = Schema.from_json(json.loads({each.key: each.value for each in model.metadata_props}["schema"]))
    except (DecodeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} is not an ONNX model of this project: {type(error).__name__}") from None
    graph = model.graph
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    sparse = [tensor for each in attributes for tensor in (each.sparse_tensor, *each.sparse_tensors)]
    constants = [tensor for each in attributes for tensor in (each.t, *each.tensors)]
    found = [
        ("other files", any(each.external_data or each.data_location for each in (*graph.initializer, *constants))),
        ("operators of others", any(each.domain not in ("", "ai.onnx") for each in (*model.opset_import, *graph.node))),
        ("graphs within", any(each.HasField("g") or each.graphs for each in attributes)),
        ("functions", bool(model.functions or model.training_info)),
        ("sparse tensors", bool(graph.sparse_initializer) or any(each.ByteSize() for each in sparse)),
    ]
    names = [name for name, holds in found if holds]
    if names:
        raise ValueError(f"{file.name} is refused: it has {', '.join(names)}")
    shapes = [_shape(each) for each in (*graph.input, *graph.output)]
    expected = [
        (onnx.TensorProto.UINT8, (0, schema.height, schema.width)),
        (onnx.TensorProto.FLOAT, (0, len(schema.classes))),
    ]
    if shapes != expected:
        raise ValueError(f"{file.name} is refused: it does not map uint8 images of {schema} to probabilities")
    return schema


def quantize(file: Path, out: Path) -> Path:
    """Write `file` to `out` with its weights as int8, each output of a layer with a scale of its own; return `out`.

    The layers' inputs are quantised as they come (dynamic quantisation), so no images are needed for it.
    """
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a step that torch's export has done
    try:
        quantize_dynamic(file, out, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        root.setLevel(level)
    model = onnx.load_model(out)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load_model(file, load_external_data=False).metadata_props)
    onnx.save_model(model, out)
    return out


def _shape(value: "onnx.ValueInfoProto") -> tuple[int, tuple[Any, ...]]:
    """Return the type and the shape of an input or output; a length that is free is 0."""
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(each.dim_value for each in tensor.shape.dim)
