"""A picture with a face, as the tests of face detectors take it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

ASTRONAUT = Path(__file__).parents[1] / "detectors" / "golden" / "astronaut.png"


def astronaut():
    """uint8 [3, 192, 192] with one face."""
    return torch.from_numpy(np.array(Image.open(ASTRONAUT))).permute(2, 0, 1).contiguous()


def mirrored():
    """The same, seen in a mirror."""
    return astronaut().flip(-1)


def two_faces():
    """uint8 [3, 192, 384]: both side by side."""
    return torch.cat([astronaut(), mirrored()], dim=-1)


def noise(height=192, width=192):
    """uint8 [3, height, width] without a face."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
