"""Random affine and elastic distortions of images, and rotation."""

import functools
import math

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

# At strength 1, each is drawn uniformly from ± its value
ROTATION = 12 * math.pi / 180  # radians
SCALE = 0.12
SHEAR = 0.15
SHIFT = 0.16  # of half the image's size: 2 pixels of MNIST's 28
# the standard deviation of a smooth random field of displacements, in halves of the size
ELASTIC = 0.03
KNOTS = 7  # control points along a side, from which the field is interpolated

CHUNK = 500  # images at once: they stay in the processor's cache


def augment(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Distort float32 `images` (N, H, W): rotate, scale, shear, shift and bend each by random amounts.

    The affine part and the elastic one (Simard, Steinkraus and Platt, 2003, "Best Practices for Convolutional Neural
    Networks Applied to Visual Document Analysis") are one interpolation. Random numbers are torch's global ones.
    """
    return torch.cat([_augment(chunk, strength) for chunk in images.split(CHUNK)])


def _augment(images: torch.Tensor, strength: float) -> torch.Tensor:
    count, height, width = images.shape
    rotation, scale, shear, shift_x, shift_y = (
        strength * limit * (2 * torch.rand(count, device=images.device) - 1)
        for limit in (ROTATION, SCALE, SHEAR, SHIFT, SHIFT)
    )
    cos, sin = rotation.cos() / (1 + scale), rotation.sin() / (1 + scale)
    affine = torch.stack([cos, shear * cos - sin, shift_x, sin, cos + shear * sin, shift_y], 1).view(count, 2, 3)
    knots = strength * ELASTIC * torch.randn(count, 2, KNOTS**2, device=images.device)
    # Sampling positions are linear in all of these: one product, ten times as fast as affine_grid and interpolate
    positions = torch.cat([affine, knots], 2) @ _basis(height, width, images.device)  # (N, 2, H·W)
    return _sample(images, positions.view(count, 2, height, width).permute(0, 2, 3, 1))


def rotate(images: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Rotate float32 `images` (N, H, W) about their centre, anticlockwise by `degrees`, a single number."""
    height, width = images.shape[1:]
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    zero = torch.zeros_like(cos)
    positions = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero]).view(1, 2, 3)
    grid = affine_grid(positions, [1, 1, height, width], align_corners=False).expand(images.shape[0], -1, -1, -1)
    return _sample(images, grid)


def _sample(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Sample `images` (N, H, W) at the positions in `grid` (N, H, W, 2): x and y, each in [-1, 1]."""
    return grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)


@functools.cache
def _basis(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return what each pixel's position depends on (3 + knots, H·W): its x, its y, 1, and each knot's weight there."""
    x, y = (torch.arange(1 - length, length, 2) / length for length in (width, height))
    plane = torch.stack([x.expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)])
    knots = torch.eye(KNOTS**2).view(-1, 1, KNOTS, KNOTS)
    weights = interpolate(knots, size=(height, width), mode="bicubic", align_corners=False)
    return torch.cat([plane.flatten(1), weights.flatten(1)]).to(device)
