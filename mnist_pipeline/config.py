"""What is trained and how it is judged: small frozen dataclasses with visible defaults, and the named recipes."""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CODE = Path(__file__).resolve().parents[1]  # the checkout, or site-packages
# The data, mlflow.db and mlartifacts/ are kept here: in the checkout, or in the current folder if there is none.
ROOT = Path(os.environ.get("MNIST_PIPELINE_HOME") or ("" if CODE.name.endswith("-packages") else CODE)).absolute()

OptimizerName = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "one-cycle"]
Device = Literal["auto", "cpu", "cuda"]
ClassWeights = Literal["none", "balanced"]
Pruner = Literal["median", "halving", "none"]
RecipeName = Literal["reference", "fast", "accurate", "best"]

NO_OTHER_FIELDS: Any = {"extra": "forbid"}  # pydantic's, for what comes as JSON, and so for the schema of a deployment

MNIST_FLOOR = 0.97  # accuracy, a little below the tutorial's 97.44 %
MODEL = "mnist-mlp"  # the registered model of MNIST
CHAMPION = f"models:/{MODEL}@champion"
PREDICTION_SUFFIXES = (".parquet", ".csv")


class FieldError(ValueError):
    """A field has a value that makes no sense. The message begins with the field's name."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)  # both, so that the error survives pickling
        self.field, self.problem = field, problem

    def __str__(self) -> str:
        return f"{self.field} {self.problem}"


def check(holds: bool, field: str, value: object, wanted: str) -> None:
    """Raise `FieldError` unless `holds`, as `field` must be what is `wanted`, and is `value`."""
    if not holds:
        raise FieldError(field, f"must be {wanted}, not {value}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that defines a training; the defaults are the reference recipe. The string under a field is its help.

    Raises `FieldError` if a value makes no sense.
    """

    __pydantic_config__ = NO_OTHER_FIELDS

    recipe: RecipeName = "reference"
    """The recipe that the other options take their defaults from."""
    epochs: int = 10
    """Passes over the training images."""
    lr: float = 0.001
    """Learning rate; with the one-cycle schedule, its maximum."""
    schedule: Schedule = "constant"
    """How the learning rate changes from step to step."""
    batch_size: int = 64
    """Images per step; the last short batch of an epoch is dropped."""
    hidden: tuple[int, ...] = (100, 100)
    """Units of each hidden layer; none makes a single-layer perceptron."""
    optimizer: OptimizerName = "adam"
    """Optimizer, with torch's default settings."""
    dropout: float = 0.0
    """Share of hidden units that dropout zeroes."""
    batch_norm: bool = False
    """Use batch normalisation before each hidden layer's ReLU."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes."""
    class_weights: ClassWeights = "none"
    """How each class weighs in the loss; balanced gives each class the same total weight."""
    augmentation: float = 0.0
    """Strength of the random affine and elastic distortions, drawn anew each epoch; 1 rotates by up to 12°."""
    tta: bool = False
    """Test-time augmentation: average over each image and its rotations by ±6°. More accurate, three times slower."""
    validation: float = 0.0
    """Share of the training split that is cut off, to stop by (see patience) and to fit the temperature on."""
    patience: int = 0
    """Stop after this many epochs without a lower validation loss (one cycle runs to its end), and keep the best \
epoch's weights; 0 keeps the last one's."""
    seed: int = 0
    """Seed of the initial weights, the shuffling, the dropout and the augmentation."""
    threads: int = 0
    """CPU threads; 0 chooses by the cost of a step."""
    device: Device = "auto"
    """Device to train on; auto takes a CUDA card if there is one."""
    compile: bool = False
    """Compile the training step: pays from 100 epochs on (20 once its cache is filled), and on a CUDA card."""

    def __post_init__(self) -> None:
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(math.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a positive number")
        check(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        check(all(n >= 1 for n in self.hidden), "hidden", " ".join(map(str, self.hidden)), "at least 1 unit a layer")
        check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and below 1")
        check(0 <= self.augmentation <= 3, "augmentation", self.augmentation, "between 0 and 3")
        check(0 <= self.validation <= 0.5, "validation", self.validation, "between 0 and 0.5")
        check(self.patience >= 0, "patience", self.patience, "at least 0")
        if self.patience and not self.validation:
            raise FieldError("patience", "needs a validation part to watch: set validation, to 0.1 or so")
        check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")
        check(0 <= self.threads <= 256, "threads", self.threads, "between 0 and 256")  # torch dies of 100,000
        check(not self.batch_norm or self.batch_size >= 2, "batch_size", self.batch_size, "at least 2 with batch norm")

    def __str__(self) -> str:
        """Return a name for a run: what differs from its recipe, then the recipe."""
        preset = RECIPES[self.recipe]
        names = [field.name for field in dataclasses.fields(self)]
        changed = {name: value for name in names if (value := getattr(self, name)) != getattr(preset, name)}
        if "hidden" in changed:
            changed["hidden"] = "-".join(map(str, self.hidden)) or "none"
        return ", ".join([*(f"{name.replace('_', ' ')} {value}" for name, value in changed.items()), self.recipe])


REFERENCE = TrainConfig()  # the tutorial's

# Better than the reference in a sixth of its time: large steps, made safe by batch norm and one cycle.
FAST = TrainConfig(recipe="fast", epochs=3, lr=0.01, schedule="one-cycle", batch_size=256, batch_norm=True)

# As far as a plain MLP gets in three minutes on two cores: wide, deep, and never shown the same image twice.
ACCURATE = TrainConfig(
    recipe="accurate",
    epochs=50,
    lr=0.004,
    schedule="one-cycle",
    batch_size=512,
    hidden=(800, 800, 400),
    optimizer="adamw",
    batch_norm=True,
    label_smoothing=0.05,
    augmentation=1.0,
    tta=True,
    validation=0.05,  # for the temperature: label smoothing and test-time augmentation make it doubt too much
)

# Wider, and three times as many epochs: a quarter of an hour on two cores.
BEST = dataclasses.replace(ACCURATE, recipe="best", epochs=150, hidden=(1200, 1200, 600))

RECIPES: dict[RecipeName, TrainConfig] = {"reference": REFERENCE, "fast": FAST, "accurate": ACCURATE, "best": BEST}


def with_recipe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config: what `fields` leave out comes from the recipe that they name. Unchecked."""
    preset = RECIPES.get(str(fields.get("recipe")), REFERENCE)  # type: ignore[call-overload]
    return dataclasses.asdict(preset) | dict(fields)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a challenger must show on the holdout before it replaces the champion.

    Raises `FieldError` if a value makes no sense.
    """

    __pydantic_config__ = NO_OTHER_FIELDS

    floor: float | None = None
    """Minimum accuracy, whatever the champion's; by default 0.97 for MNIST, and for all else significantly more than \
always answering with the most frequent class has."""
    significance: float = 0.05
    """Level of the tests: how often an equally good version may be rejected, or mere guessing accepted, by chance."""
    margin: float = 0.005
    """Largest acceptable loss of accuracy; a larger one must be ruled out at that level."""
    recall_margin: float = 0.02
    """How far any class's recall may fall."""
    calibration_margin: float = 0.02
    """How far the calibration error may rise."""

    def __post_init__(self) -> None:
        check(self.floor is None or 0 <= self.floor <= 1, "floor", self.floor, "between 0 and 1")
        check(0 < self.significance < 1, "significance", self.significance, "above 0 and below 1")
        for field in ("margin", "recall_margin", "calibration_margin"):
            check(0 <= getattr(self, field) <= 1, field, getattr(self, field), "between 0 and 1")

    @property
    def limits(self) -> dict[str, float]:
        """What is set, by the fields' names."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Search:
    """How long a search looks, how, and where its trials run. Raises `FieldError` if a value makes no sense."""

    __pydantic_config__ = NO_OTHER_FIELDS

    trials: int = 20
    """Configs to try in all."""
    epochs: int = 10
    """Epochs of each trial, and of the best config's training."""
    seed: int = 0
    """Seed of the search and of each training."""
    pruner: Pruner = "median"
    """How hopeless trials are stopped early."""
    study: str = ""
    """Name of the study, by default a new one."""
    resume: bool = False
    """Resume the study, by default the latest."""
    workers: int = 0
    """Processes of the local Dask cluster; 0 is one per core."""
    dask_address: str = ""
    """Scheduler of an existing Dask cluster, such as tcp://host:8786, to use in place of a local one."""

    def __post_init__(self) -> None:
        check(self.trials >= 1, "trials", self.trials, "at least 1")
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(0 <= self.seed < 2**31, "seed", self.seed, "at least 0 and below 2**31")
        check(0 <= self.workers <= 256, "workers", self.workers, "between 0 and 256")


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """How the labels of a dataset are inspected, and where. Raises `FieldError` if a value makes no sense."""

    __pydantic_config__ = NO_OTHER_FIELDS

    folds: int = 5
    """Parts of the images; each is predicted by a network that learnt from the others."""
    workers: int = 1
    """Processes that train the folds: 1 trains them in turn, in this one, which is quicker unless each takes half a \
minute; 0 is one per core."""
    dask_address: str = ""
    """Scheduler of an existing Dask cluster, such as tcp://host:8786, to train the folds on."""

    def __post_init__(self) -> None:
        check(2 <= self.folds <= 100, "folds", self.folds, "between 2 and 100")
        check(0 <= self.workers <= 256, "workers", self.workers, "between 0 and 256")

    @property
    def in_turn(self) -> bool:
        return self.workers == 1 and not self.dask_address


def check_min_confidence(min_confidence: float) -> None:
    """Raise `FieldError` if it is no probability."""
    check(0 <= min_confidence <= 1, "min_confidence", min_confidence, "between 0 and 1")


def check_predictions_file(out: Path) -> None:
    """Raise `FieldError` if no predictions can be written to `out`."""
    check(out.suffix.lower() in PREDICTION_SUFFIXES, "out", out, "a name that ends in .parquet or .csv")
    check(out.parent.is_dir(), "out", out, "in an existing folder")
    check(out.is_file() or not out.exists(), "out", out, "a file")  # neither a folder nor a pipe
