"""The report of a run: one HTML file that needs nothing else, neither the network nor scripts."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mnist_pipeline.config import RECIPES, TrainConfig
from mnist_pipeline.data.splits import Examples, Splits
from mnist_pipeline.data.validation import Finding
from mnist_pipeline.text import percent, printable
from mnist_pipeline.tracking.gate import won_and_lost
from mnist_pipeline.tracking.ledger import LedgerEntry
from mnist_pipeline.tracking.registry import ModelVersion
from mnist_pipeline.training.evaluation import Evaluation, coverage
from mnist_pipeline.training.loop import Epoch

TEMPLATE = "report.html"  # beside this file
MAX_TILES = 12  # images of one kind
PROVENANCE = (
    "git_commit",
    "git_dirty",
    "python",
    "torch",
    "mlflow",
    "prefect",
    "machine",
    "mlflow.user",
    "fingerprint",
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a training brings to its report; the decision comes last, if there is one."""

    config: TrainConfig
    findings: Sequence[Finding]
    epochs: Sequence[Epoch]
    best_epoch: int | None
    stopped: str  # why it ended early, or nothing
    figures: Mapping[str, bytes]  # PNG
    test: Evaluation
    holdout: Evaluation
    model: ModelVersion
    entry: LedgerEntry | None = None
    champion: Evaluation | None = None  # of the champion before, on the holdout


@dataclass(frozen=True)
class Tile:
    """A small image, as the URI of its PNG, and what is written below it."""

    image: str
    lines: tuple[str, ...]


def render(report: Report, splits: Splits, *, run_id: str, tags: Mapping[str, str]) -> str:
    """Return the report as HTML; `tags` are the run's. Names from the data are text in it, whatever they contain."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here, as prediction does without

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # what is not UTF-8 has no place
        trim_blocks=True,
        lstrip_blocks=True,
    )
    won, lost = _differences(report, splits.holdout)
    page = environment.get_template(TEMPLATE).render(
        report=report,
        splits=splits,
        sets={"test": report.test, "holdout": report.holdout},
        settings=_settings(report.config),
        figures={name: _png_uri(content) for name, content in report.figures.items()},
        mistakes=_mistakes(report.test, splits.test),
        coverage=coverage(report.holdout.probabilities, splits.holdout.labels),
        won=won,
        lost=lost,
        provenance={name: tags[name] for name in PROVENANCE if name in tags} | {"run": run_id},
        time=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")  # no line begins with it


def _settings(config: TrainConfig) -> list[tuple[str, Any, Any]]:
    """Return each field of `config` with its value and, if it differs, that of its recipe; those that differ first."""
    preset = asdict(RECIPES[config.recipe])
    rows = [(name, value, None if value == preset[name] else preset[name]) for name, value in asdict(config).items()]
    return sorted(rows, key=lambda row: row[2] is None)


def _mistakes(evaluation: Evaluation, part: Examples) -> list[Tile]:
    """Return the most confident mistakes."""
    names, (confidence, predicted) = evaluation.classes, evaluation.probabilities.max(dim=1)
    wrong = (predicted != part.labels).nonzero().ravel()
    worst = wrong[confidence[wrong].argsort(descending=True)]
    return _tiles(
        part,
        worst,
        lambda row: (names[part.labels[row]], f"→ {names[predicted[row]]}", percent(float(confidence[row]), 1)),
    )


def _differences(report: Report, holdout: Examples) -> tuple[list[Tile], list[Tile]]:
    """Return the images that only the new version gets right, and those that only the old one does."""
    if report.champion is None:
        return [], []
    new, old = report.holdout.probabilities, report.champion.probabilities
    names, answers = report.holdout.classes, [("old", old.argmax(dim=1)), ("new", new.argmax(dim=1))]

    def caption(row: int) -> tuple[str, ...]:
        return names[holdout.labels[row]], *(f"{which}: {names[answer[row]]}" for which, answer in answers)

    won, lost = won_and_lost(new, old, holdout.labels)
    return _tiles(holdout, won, caption), _tiles(holdout, lost, caption)


def _tiles(part: Examples, rows: torch.Tensor, caption: Callable[[int], tuple[str, ...]]) -> list[Tile]:
    """Return the first of the images of `part` that are in `rows`, each with its caption."""
    tiles = []
    for row in rows[:MAX_TILES].tolist():
        png = io.BytesIO()
        Image.fromarray(part.pixels[row].numpy()).save(png, "PNG")
        tiles.append(Tile(_png_uri(png.getvalue()), caption(row)))
    return tiles


def _png_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
