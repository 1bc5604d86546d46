"""Two versions of a model on the same holdout, and the images on which they differ."""

from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from mnist_pipeline.data import mnist
from mnist_pipeline.data.schema import Schema
from mnist_pipeline.data.source import DATASETS, DataSource
from mnist_pipeline.data.splits import Examples, load_splits
from mnist_pipeline.interval import interval_text
from mnist_pipeline.text import counted
from mnist_pipeline.tracking import models
from mnist_pipeline.tracking.gate import discordant, mcnemar, won_and_lost
from mnist_pipeline.tracking.registry import Registry
from mnist_pipeline.tracking.versions import VersionSummary, versions
from mnist_pipeline.training import plots
from mnist_pipeline.training.evaluation import Evaluation, evaluate

MAX_SHOWN = 30  # images won, and as many lost


@dataclass(frozen=True)
class Comparison:
    """What the two versions, the old one first, make of the same images."""

    examples: Examples
    evaluations: tuple[Evaluation, Evaluation]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """What was found, for each of the two."""
        values = {
            "accuracy": [interval_text(each.correct, each.total) for each in self.evaluations],
            "loss": [f"{each.loss:.4f}" for each in self.evaluations],
            "calibration error": [f"{each.calibration_error:.4f}" for each in self.evaluations],
        }
        return [(name, old, new) for name, (old, new) in values.items()]

    @property
    def difference(self) -> str:
        """Whose mistakes the other does not make, and whether that may be chance."""
        old, new = (each.probabilities for each in self.evaluations)
        wins, losses = discordant(new, old, self.examples.labels)
        p_value = f"McNemar's p of the second being worse is {mcnemar(wins, losses):#.2g}"
        return f"Only the second is right on {counted(wins, 'image')}, only the first on {losses:,}: {p_value}"

    def contact_sheet(self) -> Figure | None:
        """Draw the images that only one of the two gets right, the most confident mistakes first."""
        old, new = (each.probabilities for each in self.evaluations)
        won, lost = (rows[:MAX_SHOWN] for rows in won_and_lost(new, old, self.examples.labels))
        rows = [*won.tolist(), *lost.tolist()]
        if not rows:
            return None
        names, labels = plots.shorten(self.evaluations[0].classes), self.examples.labels
        titles = [f"{names[labels[row]]}: {names[old[row].argmax()]} → {names[new[row].argmax()]}" for row in rows]
        title = "label: first version → second version (blue: the second is right, red: the first)"
        return plots.contact_sheet(title, self.examples.pixels[rows].numpy(), titles, wins=len(won))


def compare(registry: Registry, old: VersionSummary, new: VersionSummary, dataset: str) -> tuple[Comparison, str]:
    """Score both versions on the holdout of `dataset`, a name or a folder; return that, and what is to be known of it.

    If only its name is given, the folder is the one that `new` was trained on. Raises `ValueError` or `OSError` if a
    model cannot be loaded, the data cannot be read, or they have other classes or sizes than the models.
    """
    networks = [models.load_network(registry.uri(each.number)) for each in (old, new)]
    if networks[0].schema != networks[1].schema:
        raise ValueError(f"they know different classes or sizes: {networks[0].schema}; {networks[1].schema}")
    schema = networks[0].schema
    examples = _holdout(_source(new, dataset), schema)
    note = f"On the holdout of {len(examples):,} images"
    if new.params.get("holdout_sha256", new.params.get("exam_sha256")) != examples.sha256:
        note += f", as it is now: it is not the one that version {new.number} was scored on"
    first, second = (evaluate(each(examples.pixels), examples.labels, schema.classes) for each in networks)
    return Comparison(examples, (first, second)), note


def holdout_of(registry: Registry, number: int, dataset: str, schema: Schema) -> Examples:
    """Return the holdout of the data that version `number` was trained on. Raises as `compare` does."""
    (version,) = (each for each in versions(registry) if each.number == number)
    return _holdout(_source(version, dataset), schema)


def _source(version: VersionSummary, dataset: str) -> DataSource:
    """Return where the data of `version` are: in `dataset`, if that is a path, or where its run says they were.

    A name is a folder's only if the data are no longer where they were: an export may be called like its dataset.
    """
    folder = version.folder if version.folder and version.folder.is_dir() else None
    if dataset not in DATASETS and Path(dataset).is_dir() and ("/" in dataset or not folder):
        return DataSource(dataset=dataset, name="compared")
    name = version.params.get("dataset", dataset)  # the model may have taken another one
    if name in DATASETS and not (folder and any(folder.glob("*ubyte*"))):
        return DataSource(dataset=name, data_dir=folder)
    if folder is None:
        where = f"they were in {version.folder}" if version.folder else f"version {version.number} does not say where"
        raise ValueError(f"the data are not there: {where}; name their folder as the dataset")
    return DataSource(dataset=str(folder), name="compared")


def _holdout(source: DataSource, schema: Schema) -> Examples:
    """Read the holdout of `source` as images of `schema`."""
    splits = load_splits(source, mnist.download(source))
    if splits.schema != schema and not source.is_named and schema.height == schema.width:
        splits = load_splits(replace(source, image_size=schema.height), source.folder)
    if splits.schema != schema:
        raise ValueError(f"the data in {source.folder} have {splits.schema}, and the models know {schema}")
    return splits.holdout
