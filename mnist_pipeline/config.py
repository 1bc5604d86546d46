"""What is trained, and on which data: small frozen dataclasses with visible defaults, and the named recipes."""

import dataclasses
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]  # the project's root: the data, mlflow.db and mlartifacts/ stand here

Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "one-cycle"]
Device = Literal["auto", "cpu", "cuda"]
Switch = Literal["off", "on"]
Pruner = Literal["median", "halving", "none"]
DatasetName = Literal["mnist", "fashion-mnist", "kmnist"]
Pictures = Literal["like-mnist", "resized"]
RecipeName = Literal["reference", "fast", "accurate", "best"]

DATASETS: tuple[DatasetName, ...] = ("mnist", "fashion-mnist", "kmnist")
DIGITS = tuple("0123456789")
CHAMPION = "models:/mnist-mlp@champion"
PREDICTIONS = (".parquet", ".csv")  # what files of predictions end in


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The reference recipe, and all that decides which weights come out: same config, same data, same model.

    Raises `ValueError` where a value makes no sense.
    """

    recipe: RecipeName = "reference"
    """Where the defaults of the others come from."""
    epochs: int = 10
    """Passes over the training images."""
    lr: float = 0.001
    """Learning rate; of the one-cycle schedule, the highest."""
    schedule: Schedule = "constant"
    """How the learning rate goes over the steps."""
    batch_size: int = 64
    """Images a step; the last short batch of an epoch is dropped."""
    hidden: tuple[int, ...] = (100, 100)
    """Units of each hidden layer; none makes the single-layer perceptron."""
    optimizer: Optimizer = "adam"
    """How a gradient becomes a step."""
    dropout: float = 0.0
    """Share of hidden units silenced at each training step."""
    batch_norm: bool = False
    """Normalise each hidden layer's inputs over the batch."""
    label_smoothing: float = 0.0
    """Share of each target that is spread evenly over all classes."""
    distortion: float = 0.0
    """Strength of the random distortions by which each epoch's images are redrawn; 1 turns them by up to 12°."""
    turned: bool = False
    """Answer with the mean over an image as it is and turned by 6° to either side: better, in three times the time."""
    seed: int = 0
    """Of the initial weights, the shuffling, the dropout and the distortions."""
    threads: int = 0
    """CPU threads; 0 chooses by the size of a step."""
    device: Device = "auto"
    """Where to train; auto takes a CUDA card where there is one."""
    bfloat16: bool = False
    """Multiply matrices in bfloat16 where the processor has instructions for it: large networks in half the time."""
    compile: bool = False
    """Compile the whole step into one graph: pays from 100 epochs on, 20 with its cache filled, or on a CUDA card."""

    def __post_init__(self) -> None:
        _check(type(self) is RECIPES[self.recipe], "recipe", self.recipe, f"made with {type(self).__name__}()")
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(math.isfinite(self.lr) and self.lr > 0, "lr", self.lr, "a positive number")
        _check(self.batch_size >= 1, "batch-size", self.batch_size, "at least 1")
        _check(all(units >= 1 for units in self.hidden), "hidden", _words(self.hidden), "at least 1 unit a layer")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        _check(0 <= self.label_smoothing < 1, "label-smoothing", self.label_smoothing, "at least 0 and below 1")
        _check(0 <= self.distortion <= 3, "distortion", self.distortion, "between 0 and 3")
        _check(0 <= self.seed < 2**63, "seed", self.seed, "at least 0 and below 2**63")
        _check(self.threads >= 0, "threads", self.threads, "at least 0")
        _check(not self.batch_norm or self.batch_size >= 2, "batch-size", self.batch_size, "at least 2 with batch norm")

    def __str__(self) -> str:
        """Name a run: what sets it apart from others at a glance."""
        hidden = "-".join(map(str, self.hidden)) or "no hidden layer"
        return f"{self.recipe}, {hidden}, {self.epochs} epoch{'s'[: self.epochs - 1]}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Fast(TrainConfig):
    """Better than the reference in a sixth of its time: large steps, taken safely by batch norm and one cycle."""

    recipe: RecipeName = "fast"
    epochs: int = 3
    lr: float = 0.01
    schedule: Schedule = "one-cycle"
    batch_size: int = 256
    batch_norm: bool = True


@dataclass(frozen=True, kw_only=True)
class Accurate(TrainConfig):
    """As far as a plain MLP gets in three minutes on two cores: wide, deep, never shown an image twice."""

    recipe: RecipeName = "accurate"
    epochs: int = 50
    lr: float = 0.004
    schedule: Schedule = "one-cycle"
    batch_size: int = 512
    hidden: tuple[int, ...] = (800, 800, 400)
    optimizer: Optimizer = "adamw"
    batch_norm: bool = True
    label_smoothing: float = 0.05
    distortion: float = 1.0
    turned: bool = True


@dataclass(frozen=True, kw_only=True)
class Best(Accurate):
    """The same, wider and for three times as many epochs: a quarter of an hour on two cores."""

    recipe: RecipeName = "best"
    epochs: int = 150
    hidden: tuple[int, ...] = (1200, 1200, 600)


RECIPES: dict[RecipeName, type[TrainConfig]] = {
    "reference": TrainConfig,
    "fast": Fast,
    "accurate": Accurate,
    "best": Best,
}


def config_from(fields: Mapping[str, Any]) -> TrainConfig:
    """Make the config that `fields` describe; what they leave out comes from the recipe that they name."""
    return RECIPES[fields.get("recipe", "reference")](**fields)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a new version has to show before it takes the champion's place, all of it on the exam.

    Raises `ValueError` where a value makes no sense.
    """

    floor: float = 0.97
    """Least accuracy, whatever the champion's."""
    significance: float = 0.05
    """Level of the tests against the champion: how often a version that is no worse may be turned down for chance."""
    margin: float = 0.005
    """Loss of accuracy that would still be bearable; a larger one must be ruled out at that level."""
    recall_margin: float = 0.02
    """How far any class's recall may fall."""
    calibration_margin: float = 0.02
    """How far the calibration error may rise."""

    def __post_init__(self) -> None:
        _check(0 <= self.floor <= 1, "floor", self.floor, "between 0 and 1")
        _check(0 < self.significance < 1, "significance", self.significance, "above 0 and below 1")
        for field in ("margin", "recall_margin", "calibration_margin"):
            _check(0 <= getattr(self, field) <= 1, field.replace("_", "-"), getattr(self, field), "between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where a search looks: the choices for each field of a config, or its lowest and highest value.

    Raises `ValueError` where a value makes no sense.
    """

    layers: tuple[int, ...] = (1, 2, 3)
    """Numbers of hidden layers."""
    units: tuple[int, ...] = (64, 128, 256, 512)
    """Units of a hidden layer."""
    lr: tuple[float, float] = (0.0003, 0.03)
    """Lowest and highest learning rate; drawn by its logarithm."""
    schedule: tuple[Schedule, ...] = ("constant", "one-cycle")
    """How the learning rate goes over the steps."""
    batch_size: tuple[int, ...] = (64, 128, 256, 512)
    """Images a step."""
    dropout: tuple[float, float] = (0.0, 0.4)
    """Lowest and highest dropout."""
    batch_norm: tuple[Switch, ...] = ("off", "on")
    """Whether hidden layers are normalised."""
    optimizer: tuple[Optimizer, ...] = ("nesterov", "adam", "adamw")
    """How a gradient becomes a step."""
    distortion: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest strength of the distortions."""

    def __post_init__(self) -> None:
        for name in ("layers", "units", "schedule", "batch_size", "batch_norm", "optimizer"):
            _check(len(getattr(self, name)) > 0, name.replace("_", "-"), "nothing", "one choice or more")
        for name in ("lr", "dropout", "distortion"):
            low, high = getattr(self, name)
            _check(low <= high, name, f"{low} {high}", "the lowest value, then the highest")
        _check(min(self.layers) >= 0, "layers", min(self.layers), "at least 0")
        _check(min(self.units) >= 1, "units", min(self.units), "at least 1")
        _check(min(self.batch_size) >= 2, "batch-size", min(self.batch_size), "at least 2")
        _check(self.lr[0] > 0, "lr", self.lr[0], "a positive number")
        _check(self.dropout[0] >= 0 and self.dropout[1] < 1, "dropout", self.dropout, "at least 0 and below 1")
        _check(self.distortion[0] >= 0 and self.distortion[1] <= 3, "distortion", self.distortion, "between 0 and 3")


@dataclass(frozen=True)
class Schema:
    """What a model takes and gives. It comes from the data, and lies beside the model."""

    classes: tuple[str, ...] = DIGITS
    height: int = 28
    width: int = 28
    pictures: Pictures = "like-mnist"  # how a picture becomes an image of that size

    def to_json(self) -> dict[str, Any]:
        """Give it as it lies beside the model."""
        return dataclasses.asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Schema":
        """Make it of what `to_json` gave."""
        return cls(**{**fields, "classes": tuple(fields["classes"])})

    def __str__(self) -> str:
        names = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
        return f"{len(self.classes)} classes ({names}) of images {self.height}×{self.width}"


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Which images to train on, where they are kept and where they come from.

    Raises `ValueError` where a value makes no sense. Paths are made absolute: who reads them may stand elsewhere.
    """

    dataset: str = "mnist"
    """mnist, which ships with the package; fashion-mnist or kmnist, downloaded; or a folder: IDX files, or a folder \
of images for each class."""
    extra: Path | None = None
    """Folder of more labelled images, of the same classes, for the training split alone."""
    side: int | None = None
    """Pixels, in height and width, to which a folder's images are resized; else their own, or 28 where they differ."""
    name: str = ""
    """Of the dataset, and so of its registered model, NAME-mlp; unless it is given, the folder's."""
    data_dir: Path | None = None
    """Where torchvision reads the files, put there if missing or damaged; else MNIST_data at the project's root."""
    mirror: str | None = None
    """URL of a folder with the four files, tried before the others."""

    def __post_init__(self) -> None:
        known = ", ".join(DATASETS)
        if not self.is_named:
            _check(Path(self.dataset).is_dir(), "dataset", self.dataset, f"{known} or a folder that there is")
            _check(
                bool(self.name) or slug(self.dataset) not in ("", *DATASETS),
                "name",
                "left out",
                f"given for a folder called {Path(self.dataset).name}",
            )
            object.__setattr__(self, "dataset", str(Path(self.dataset).absolute()))
        if self.extra is not None:
            _check(self.extra.is_dir(), "extra", self.extra, "a folder that there is")
            object.__setattr__(self, "extra", self.extra.absolute())
        _check(re.fullmatch(r"[\w.-]*", self.name) is not None, "name", self.name, "of letters, digits, . _ and -")
        object.__setattr__(self, "name", self.name or slug(self.dataset))
        _check(self.side is None or 4 <= self.side <= 128, "side", self.side, "between 4 and 128")
        _check(self.side is None or not self.is_named, "side", self.side, f"left out for {self.dataset}")
        _check(
            self.mirror is None or self.mirror.startswith(("http://", "https://", "file://")),
            "mirror",
            self.mirror,
            "a URL that begins with http://, https:// or file://",
        )

    @property
    def is_named(self) -> bool:
        return self.dataset in DATASETS

    @property
    def folder(self) -> Path:
        """The folder given as the dataset, or the one that torchvision reads."""
        return (self.data_dir or ROOT / "MNIST_data") if self.is_named else Path(self.dataset)

    @property
    def model_name(self) -> str:
        """The registered model's."""
        return f"{self.name}-mlp"


def slug(dataset: str) -> str:
    """Name a dataset that is given by its path: after its folder, in letters, digits and dashes."""
    return re.sub(r"[\W_]+", "-", Path(dataset).absolute().name.lower()).strip("-")


def model_name(dataset: str) -> str:
    """Name the registered model of a dataset, given by its name or its folder, which may be gone."""
    is_name = dataset in DATASETS or (re.fullmatch(r"[\w.-]+", dataset) and not Path(dataset).is_dir())
    return f"{dataset if is_name else slug(dataset)}-mlp"


def space_from(file: Path) -> Space:
    """Read a space from a TOML file; what it leaves out keeps its default. Raises `ValueError` where it makes none."""
    try:
        fields = tomllib.loads(file.read_text())
        return Space(**{name: tuple(values) for name, values in fields.items()})
    except (tomllib.TOMLDecodeError, TypeError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(Space))
        raise ValueError(f"--space {file}: {error}; it may name {known}, each a list") from None


def check_out(out: Path) -> None:
    """Raise `ValueError` where no predictions can be written to `out`."""
    _check(out.suffix.lower() in PREDICTIONS, "out", out, "a name that ends in .parquet or .csv")
    _check(out.parent.is_dir(), "out", out, "in a folder that there is")
    _check(not out.is_dir(), "out", out, "a file rather than a folder")


def _check(holds: bool, field: str, value: object, wanted: str) -> None:
    if not holds:
        raise ValueError(f"--{field} must be {wanted}, not {value}")


def _words(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))
