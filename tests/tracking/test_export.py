"""A version leaves as files that need nothing of this project, and only if they do what the registered model does."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from prefect.logging import disable_run_logger

from flows.train_flow import Trained
from mnist_pipeline.config import CODE, FieldError
from mnist_pipeline.data.splits import Splits
from mnist_pipeline.tracking import onnx_model, reload_check, store
from mnist_pipeline.tracking.export import export
from mnist_pipeline.tracking.models import onnx_file
from mnist_pipeline.tracking.registry import Registry
from tasks.gate import reload

PAGES = [CODE / "serving" / name for name in ("page", "static_page")]


@pytest.fixture(scope="module")
def exported(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "digits"
    export(Registry(trained.model.name), trained.model.number, folder, dataset="mnist", int8=True, pages=PAGES)
    return folder


@pytest.fixture
def file(trained: Trained, tmp_path: Path) -> Path:
    return onnx_file(trained.model.name, trained.model.number, tmp_path)


def test_the_onnx_file_gives_the_registered_models_probabilities_with_onnxruntime_alone(
    file: Path, trained: Trained, splits: Splits
) -> None:
    for count in (1, 1234):  # of images: it is free
        pixels = splits.holdout.pixels[:count].numpy()
        found = reload_check.reloaded_probabilities(str(file), store.tracking_uri(), pixels)
        assert np.abs(found - trained.holdout.probabilities[:count].numpy()).max() < 1e-5
    assert onnx_model.check(file) == splits.schema


def test_a_champions_int8_export_is_smaller_about_as_accurate_and_whole(exported: Path, trained: Trained) -> None:
    names = {each.name for each in exported.iterdir()}
    assert {"model-int8.onnx", "labels.json", "card.json", "README.md", "index.html", "backend.js"} <= names
    card = json.loads((exported / "card.json").read_text())
    assert card["bytes"] < 130_000  # of 370,000
    assert abs(card["exported_accuracy"] - trained.holdout.accuracy) < 0.005
    lines = (exported / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    assert sums == {name: hashlib.sha256((exported / name).read_bytes()).hexdigest() for name in names - {"SHA256SUMS"}}


def test_the_runtime_of_the_page_is_the_packages_own(exported: Path) -> None:
    notice = (exported / "NOTICE.md").read_text()
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        assert f"`{name}` | `{hashlib.sha256((exported / name).read_bytes()).hexdigest()}`" in notice


def test_an_export_is_written_into_no_folder_that_holds_something(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FieldError, match="a new or an empty folder"):
        export(Registry(trained.model.name), trained.model.number, tmp_path, dataset="mnist")
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def other_file(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def loop(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))


def function(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="")


def sparse(model: onnx.ModelProto) -> None:
    """A constant whose values are another file's."""
    attribute = model.graph.node[0].attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.external_data.add(key="location", value="/etc/passwd")


def other_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


@pytest.mark.parametrize("change", [other_file, operator, loop, function, sparse, other_output])
def test_a_hostile_onnx_file_is_refused_before_anything_of_it_is_run(file: Path, change: object) -> None:
    model = onnx.load(file)
    change(model)  # type: ignore[operator]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"model\.onnx is refused: it "):
        onnx_model.check(file)


def test_a_file_that_is_no_onnx_or_huge_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    for content in (b"", b"\x80\x04not a model", b"\xff" * 1000):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="is not an ONNX model of this project"):
            onnx_model.check(file)
    with file.open("wb") as opened:
        opened.truncate(onnx_model.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="bytes, of"):
        onnx_model.check(file)


def test_a_version_with_another_onnx_file_than_its_own_is_not_promoted(
    file: Path, trained: Trained, splits: Splits, caplog: pytest.LogCaptureFixture
) -> None:
    model_id = store.logged_model_id(store.client().get_model_version(trained.model.name, str(trained.model.number)))
    assert model_id
    whole = file.read_bytes()
    try:
        file.write_bytes(b"not a model")
        store.client().log_model_artifact(model_id, str(file))
        with disable_run_logger():  # the task logs why
            assert reload.fn(trained.model, splits.holdout, trained.holdout) == float("inf")
    finally:
        file.write_bytes(whole)
        store.client().log_model_artifact(model_id, str(file))
