"""Which images to train on, and where they are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnist_pipeline.config import MODEL, NO_OTHER_FIELDS, ROOT, check
from mnist_pipeline.text import is_utf8, printable

DatasetName = Literal["mnist", "fashion-mnist", "kmnist"]
NAME = "of letters, digits, . _ and -, and begin with a letter or a digit"
MAX_NAME = 100  # letters: it is part of others, of which some stores take no more than 250
DATASETS: tuple[DatasetName, ...] = ("mnist", "fashion-mnist", "kmnist")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Which images to train on, where they are kept and where they come from.

    Paths are made absolute, as their readers may run in another folder. Raises `FieldError` if a value makes no sense.
    """

    __pydantic_config__ = NO_OTHER_FIELDS

    dataset: str = "mnist"
    """Dataset: mnist, which ships with the package; fashion-mnist or kmnist, downloaded; or a folder, with IDX files \
or with a folder of images for each class."""
    extra: Path | None = None
    """Folder of more labelled images, of the same classes, for the training split alone."""
    relabel: Path | None = None
    """CSV file with other labels for some images, or none for those to leave out, as inspect_flow.py writes it."""
    image_size: int | None = None
    """Height and width to resize a folder's images to; by default their own, or 28 if they differ."""
    name: str = ""
    """Name of the dataset, and so of its registered model, NAME-mlp; by default the folder's."""
    data_dir: Path | None = None
    """Folder that torchvision reads the files from, by default MNIST_data at the project's root."""
    mirror: str | None = None
    """URL of a folder with the four files, tried before the others."""

    def __post_init__(self) -> None:
        for name in ("dataset", "extra", "relabel"):  # they are logged
            check(is_utf8(path := str(getattr(self, name))), name, printable(path), "a path in UTF-8")
        known = ", ".join(DATASETS)
        check(self.dataset != "", "dataset", "nothing", f"{known} or an existing folder")
        if not self.is_named:
            check(Path(self.dataset).is_dir(), "dataset", self.dataset, f"{known} or an existing folder")
            has_name = bool(self.name) or slug(self.dataset) not in ("", *DATASETS)
            check(has_name, "name", "left out", f"given for a folder called {Path(self.dataset).name}")
            object.__setattr__(self, "dataset", str(Path(self.dataset).absolute()))
        if self.extra is not None:
            check(self.extra.is_dir(), "extra", self.extra, "an existing folder")
            object.__setattr__(self, "extra", self.extra.absolute())
        if self.relabel is not None:
            check(self.relabel.is_file(), "relabel", self.relabel, "an existing file")
            object.__setattr__(self, "relabel", self.relabel.absolute())
        check(re.fullmatch(r"(\w[\w.-]*)?", self.name) is not None, "name", self.name, NAME)
        is_own = not self.is_named or self.name in ("", self.dataset)
        check(is_own, "name", self.name, f"left out for {self.dataset}: it is that of a folder given as the dataset")
        object.__setattr__(self, "name", self.name or slug(self.dataset))
        is_free = not self.name.endswith("-monitoring")
        check(is_free, "name", self.name, "one that does not end in -monitoring, as experiments of monitoring do")
        check(len(self.name) <= MAX_NAME, "name", self.name, f"at most {MAX_NAME} letters long")
        size = self.image_size
        check(size is None or 4 <= size <= 128, "image_size", size, "between 4 and 128")
        check(size is None or not self.is_named, "image_size", size, f"left out for {self.dataset}")
        is_url = self.mirror is None or self.mirror.startswith(("http://", "https://", "file://"))
        check(is_url, "mirror", self.mirror, "a URL that begins with http://, https:// or file://")

    @property
    def is_named(self) -> bool:
        return self.dataset in DATASETS

    @property
    def folder(self) -> Path:
        """The folder given as the dataset, or the one that torchvision reads."""
        return (self.data_dir or ROOT / "MNIST_data") if self.is_named else Path(self.dataset)

    @property
    def model_name(self) -> str:
        """The name of the registered model."""
        return _model_of(self.name)


def slug(dataset: str) -> str:
    """Return a name for a dataset that is given by its path: its folder's, in letters, digits and dashes."""
    return re.sub(r"[\W_]+", "-", Path(dataset).absolute().name.lower()).strip("-")


def dataset_name(dataset: str) -> str:
    """Return the name of a dataset, given by its name or its folder, which may be gone."""
    is_name = dataset in DATASETS or (re.fullmatch(r"[\w.-]+", dataset) and not Path(dataset).is_dir())
    return dataset if is_name else slug(dataset)


def model_name(dataset: str) -> str:
    """Return the registered model's name for a dataset, given by its name or its folder, which may be gone."""
    return _model_of(dataset_name(dataset))


def dataset_of(model: str) -> str:
    """Return the name of the dataset that a registered model is of."""
    return "mnist" if model == MODEL else model.removesuffix("-mlp")


def _model_of(name: str) -> str:
    return MODEL if name == "mnist" else f"{name}-mlp"
