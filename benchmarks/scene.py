"""A sheet of paper, the light on it and the camera before it."""

import io

import numpy as np
from PIL import Image

SHAPES = ((1000, 1000), (866, 1155), (1155, 866))  # a megapixel


class Scene:
    """A picture in the making; values are from 0 to 1."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = height, width = SHAPES[rng.integers(3)]
        self.rows, self.columns = np.ogrid[0:height, 0:width]
        self.paper = np.full(self.shape, rng.uniform(0.75, 0.97), np.float32)
        self.light = np.ones(self.shape, np.float32)
        self.tint = (1.0, 1.0, 1.0)
        self.noise, self.blur, self.quality = 0.015, 0.8, 85

    def ink(self, digit: np.ndarray, *, size: tuple[float, float] = (0.4, 0.8), pen: float = 0.5) -> np.ndarray:
        """Return how much ink is where, with a digit of MNIST's at about the middle; `pen`: higher is thinner."""
        rng = self.rng
        side = round(rng.uniform(*size) * min(self.shape))
        drawn = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
        drawn = drawn.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC)
        alpha = np.clip((np.asarray(drawn, np.float32) / 255 - pen) / 0.2 + 0.5, 0, 1)
        field = np.zeros(self.shape, np.float32)
        top, left = (round((length - side) * rng.uniform(0.3, 0.7)) for length in self.shape)
        field[top : top + side, left : left + side] = alpha
        self.box = (top, left, side)
        return field

    def cover(self, alpha: np.ndarray, tone: float | np.ndarray) -> None:
        """Lay a tone over the paper where `alpha` is 1."""
        self.paper = self.paper * (1 - alpha) + tone * alpha

    def write(self, digit: np.ndarray, tone: tuple[float, float] = (0.05, 0.35), **ink: float) -> None:
        self.cover(self.ink(digit, **ink), self.rng.uniform(*tone))

    def cloud(self, cells: int) -> np.ndarray:
        """Return smooth noise of mean 0 and deviation 1."""
        height, width = self.shape
        coarse = Image.fromarray(self.rng.standard_normal((cells, cells), np.float32))
        return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))

    def lines(self, angle: float, spacing: float, thickness: float, tone: float) -> None:
        """Print parallel lines; `angle` in degrees, 0 is level."""
        radians = np.radians(angle)
        across = self.rows * np.cos(radians) + self.columns * np.sin(radians) + self.rng.uniform(0, spacing)
        self.paper = np.where(across % spacing < thickness, self.paper * tone, self.paper).astype(np.float32)

    def half(self, share: tuple[float, float], softness: float) -> np.ndarray:
        """Return 1 on one side of a straight edge that lies at some share of the picture, and 0 on the other."""
        angle = self.rng.uniform(0, 2 * np.pi)
        rows, columns = self.rows - self.shape[0] / 2, self.columns - self.shape[1] / 2
        across = (rows * np.sin(angle) + columns * np.cos(angle)) / min(self.shape)
        return np.clip((across - self.rng.uniform(*share)) * min(self.shape) / softness + 0.5, 0, 1).astype(np.float32)

    def spot(self, centre: tuple[float, float], radii: tuple[float, float], softness: float) -> np.ndarray:
        """Return 1 within an ellipse; all in shares of the picture."""
        rows = (self.rows / self.shape[0] - centre[0]) / radii[0]
        columns = (self.columns / self.shape[1] - centre[1]) / radii[1]
        return np.clip((1 - np.hypot(rows, columns)) / softness + 0.5, 0, 1).astype(np.float32)

    def tilt(self, degrees: float) -> None:
        """Look at the paper from aside: a perspective, with what lies beside the paper as its border."""
        rng, (height, width) = self.rng, self.shape
        lean = np.sin(np.radians(degrees)) * 0.5
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], float)
        middle = corners.mean(axis=0)
        angle = rng.uniform(0, 2 * np.pi)
        away = (corners - middle) @ (np.cos(angle), np.sin(angle)) / np.hypot(*middle)
        seen = middle + (corners - middle) * (1 - lean * away)[:, None]
        equations = [
            row
            for (x, y), (u, v) in zip(seen, corners, strict=True)
            for row in ((x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y))
        ]
        coefficients = np.linalg.solve(np.array(equations), corners.ravel())
        image = Image.fromarray(self.paper)
        fill = float(np.median(self.paper))
        flat = image.transform(
            image.size, Image.Transform.PERSPECTIVE, [*coefficients], Image.Resampling.BILINEAR, fillcolor=fill
        )
        self.paper = np.asarray(flat)

    def photograph(self) -> bytes:
        """Return the picture as a JPEG."""
        seen = self.paper * self.light
        if self.blur:
            height, width = self.shape
            small = (round(width / (1 + self.blur)), round(height / (1 + self.blur)))
            image = Image.fromarray(seen.astype(np.float32)).resize(small, Image.Resampling.BILINEAR)
            seen = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
        seen = seen + self.noise * self.rng.standard_normal(self.shape, np.float32)
        colour = (seen[..., None] * np.array(self.tint, np.float32) * 255).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(colour).save(file, "JPEG", quality=self.quality)
        return file.getvalue()
