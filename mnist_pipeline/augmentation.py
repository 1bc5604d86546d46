"""Images redrawn as another hand might have drawn them."""

import math

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

# At strength 1, each drawn uniformly from ± its value
ROTATION = 12 * math.pi / 180  # radians
SCALE = 0.12
SHEAR = 0.15
SHIFT = 0.16  # of half the image's side: 2 pixels of MNIST's 28
# and the standard deviation of a smooth random field of displacements, in halves of the side
ELASTIC = 0.03
KNOTS = 7  # points of the field along a side, from which it is interpolated

CHUNK = 500  # images at once: what they need stays in the processor's cache


def distort(images: torch.Tensor, strength: float) -> torch.Tensor:
    """Redraw float32 `images` (N, H, W): each turned, scaled, sheared, shifted and bent by random amounts.

    The affine part and the elastic one (Simard, Steinkraus and Platt, 2003, "Best Practices for Convolutional Neural
    Networks Applied to Visual Document Analysis") are one look-up. The random numbers are torch's global ones.
    """
    return torch.cat([_distort(chunk, strength) for chunk in images.split(CHUNK)])


def _distort(images: torch.Tensor, strength: float) -> torch.Tensor:
    count, height, width = images.shape
    rotation, scale, shear, shift_x, shift_y = (
        strength * limit * (2 * torch.rand(count, device=images.device) - 1)
        for limit in (ROTATION, SCALE, SHEAR, SHIFT, SHIFT)
    )
    cos, sin = rotation.cos() / (1 + scale), rotation.sin() / (1 + scale)
    rows = [torch.stack([cos, shear * cos - sin, shift_x], 1), torch.stack([sin, cos + shear * sin, shift_y], 1)]
    grid = affine_grid(torch.stack(rows, 1), [count, 1, height, width], align_corners=False)
    knots = strength * ELASTIC * torch.randn(count, 2, KNOTS, KNOTS, device=images.device)
    field = interpolate(knots, size=(height, width), mode="bicubic", align_corners=False)
    grid += field.permute(0, 2, 3, 1)
    return grid_sample(images.unsqueeze(1), grid, align_corners=False).squeeze(1)
