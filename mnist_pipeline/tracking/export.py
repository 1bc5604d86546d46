"""A version as files that need nothing of this project: its ONNX model, labels and card, and a page around it."""

import hashlib
import json
import lzma
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnist_pipeline.config import check
from mnist_pipeline.text import percent
from mnist_pipeline.tracking import models, onnx_model, reload_check, store, versions
from mnist_pipeline.tracking.comparison import holdout_of
from mnist_pipeline.tracking.gate import RELOAD_TOLERANCE
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.training.evaluation import Evaluation, evaluate

README = """\
# {name}, version {version}

`{file}` maps raw `uint8` images `(N, {height}, {width})` to probabilities `(N, {classes})`, in the order of
`labels.json`; the normalisation is inside. {accuracy}`card.json` says where it comes from;
`sha256sum --check SHA256SUMS` says whether the files are whole.

```python
import json, numpy as np, onnxruntime
labels = json.load(open("labels.json"))
session = onnxruntime.InferenceSession("{file}")
images = np.zeros((1, {height}, {width}), np.uint8)  # yours
print(labels[session.run(None, {{"images": images}})[0][0].argmax()])
```

```js
import * as ort from "onnxruntime-node"; // in a browser: onnxruntime-web
const labels = (await import("./labels.json", {{ with: {{ type: "json" }} }})).default;
const session = await ort.InferenceSession.create("{file}");
const images = new ort.Tensor("uint8", new Uint8Array({height} * {width}), [1, {height}, {width}]); // yours
const {{ data }} = (await session.run({{ images }})).probabilities;
console.log(labels[data.indexOf(Math.max(...data))]);
```
"""
PAGE = """
`index.html` is a page to draw on, for any server of static files: `python3 -m http.server 8080`, then
http://127.0.0.1:8080.
It works without a network. What runs the model is onnxruntime-web's (NOTICE.md).
"""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path
    size: int  # bytes, and of the file before it was quantised
    full_size: int
    gap: float  # the largest difference of a probability from the registered model's
    accuracies: tuple[Evaluation, Evaluation] | None  # of the registered model and of the file, on the holdout
    note: str  # why they are not known

    def __str__(self) -> str:
        size = f"{self.size / 1e3:,.0f} kB"
        size += f", {self.full_size / self.size:.1f} times smaller" if self.size != self.full_size else ""
        lines = [f"{self.file}: {size}; its probabilities differ from the registered model's by {self.gap:.1e} at most"]
        if self.accuracies:
            registered, exported = self.accuracies
            lines.append(f"On the holdout: {exported}; the registered model {registered}")
        return "\n".join([*lines, *filter(None, [self.note])])


def check_folder(folder: Path) -> None:
    """Raise `FieldError` if `folder` is not a new or an empty one."""
    check(folder.absolute().parent.is_dir(), "to", folder, "a folder within one that exists")
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    check(is_free and not folder.is_symlink(), "to", folder, "a new or an empty folder")
    is_held = folder.exists() and (folder.is_mount() or folder.samefile(Path.cwd()))
    check(not is_held, "to", folder, "another folder than the current one or a volume's: they cannot be replaced")


def export(
    registry: Registry, version: int, folder: Path, *, dataset: str, int8: bool = False, pages: Sequence[Path] = ()
) -> Exported:
    """Write a version into `folder`, all of it or nothing; with the files of `pages`, a page that needs no server.

    The file is run in a process with onnxruntime alone before it is handed out, on the holdout of `dataset`, or if that
    is not at hand on random pixels. Raises `ValueError` if its probabilities are not the registered model's to 1e-5;
    those of a file quantised to `int8` may be further off.
    """
    check_folder(folder)
    network = models.load_network(registry.uri(version))
    schema, target = network.schema, folder.absolute()
    pixels, holdout, note = torch.randint(0, 256, (500, schema.height, schema.width), dtype=torch.uint8), None, ""
    try:
        holdout = holdout_of(registry, version, dataset, schema)
        pixels = holdout.pixels
    except (ValueError, OSError) as error:
        note = f"Compared on random pixels, as there is no holdout: {error}"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as beside:
        out = Path(beside) / "out"
        out.mkdir()
        file = models.onnx_file(registry.name, version, out)
        expected, found, full_size = network(pixels).numpy(), _probabilities(file, pixels), file.stat().st_size
        if not np.abs(found - expected).max() <= RELOAD_TOLERANCE:
            off = np.abs(found - expected).max()
            raise ValueError(f"{registry.uri(version)} is not exported: its {file.name} is off by {off:.1e}")
        if int8:
            file = onnx_model.quantize(file, file.with_stem("model-int8"))
            found = _probabilities(file, pixels)
            (out / onnx_model.FILE).unlink()
        accuracies = None
        if holdout:
            labels, classes = holdout.labels, schema.classes
            registered, exported = (evaluate(torch.from_numpy(each), labels, classes) for each in (expected, found))
            accuracies = registered, exported
        size = file.stat().st_size
        card = versions.card(registry, version) | schema.to_json() | {"file": file.name, "bytes": size, "int8": int8}
        _write_texts(out, card | {"exported_accuracy": accuracies[1].accuracy if accuracies else None}, bool(pages))
        for page in pages:
            _copy_page(page, out)
        sums = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in sorted(out.iterdir())]
        (out / "SHA256SUMS").write_text("".join(sums))
        check_folder(folder)  # still
        out.rename(target)  # an empty folder makes room
    gap = float(np.abs(found - expected).max())
    return Exported(folder / file.name, size, full_size, gap, accuracies, note)


def _probabilities(file: Path, pixels: torch.Tensor) -> np.ndarray:
    return reload_check.reloaded_probabilities(str(file), store.tracking_uri(), pixels.numpy())


def _write_texts(out: Path, card: dict[str, Any], with_page: bool) -> None:
    accuracy = card["exported_accuracy"]
    shown = {
        "name": card["name"],
        "version": card["version"],
        "file": card["file"],
        "height": card["height"],
        "width": card["width"],
        "classes": len(card["classes"]),
        "accuracy": f"It is right on {percent(accuracy)} of the holdout. " if accuracy else "",
    }
    (out / "README.md").write_text(README.format(**shown) + (PAGE if with_page else ""))
    (out / "labels.json").write_text(json.dumps(card["classes"]) + "\n")
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def _copy_page(page: Path, out: Path) -> None:
    """Copy the files of a page; what is packed with xz is unpacked."""
    for file in page.iterdir():
        if file.suffix == ".xz":
            with lzma.open(file) as packed, (out / file.stem).open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
        elif file.is_file() and file.name != "docs.html":
            shutil.copyfile(file, out / file.name)
