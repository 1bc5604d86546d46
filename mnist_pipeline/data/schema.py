"""What a model takes and returns: the size of its images, and the names of its classes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Preprocessing = Literal["like-mnist", "resized"]

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Schema:
    """What a model takes and returns. It comes from the data, and is kept with the model."""

    classes: tuple[str, ...] = DIGITS
    height: int = 28
    width: int = 28
    preprocessing: Preprocessing = "like-mnist"  # how a picture becomes an image of that size

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return dataclasses.asdict(self) | {"classes": list(self.classes)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Schema":
        """Return the schema that `to_json` wrote. Version 0.1 called the preprocessing `pictures`."""
        preprocessing = fields.get("preprocessing") or fields["pictures"]
        return cls(tuple(fields["classes"]), fields["height"], fields["width"], preprocessing)

    def __str__(self) -> str:
        names = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
        return f"{len(self.classes)} classes ({names}) of images {self.height}×{self.width}"


def normalize(pixels: "torch.Tensor") -> "torch.Tensor":
    """Map uint8 pixels to float32 in [0, 1]."""
    return pixels.float().div_(255)  # in place: 150 MB less for the training images
