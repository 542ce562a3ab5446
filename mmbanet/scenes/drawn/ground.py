"""The stuff of a scene: regions above each other, where they meet, and what lies in them."""

from dataclasses import dataclass

import cv2
import numpy as np

from .textures import STUFF_PAINTERS

#: Chance of a narrow strip before the last region, its height, and of a path or a pond in a meadow.
STRIP_CHANCE = 0.5
STRIP_HEIGHT = (0.05, 0.09)


@dataclass(frozen=True)
class Ground:
    """Regions from top to bottom. ``edges[i]`` is the mean y (px) at which region ``i`` ends."""

    setting: str
    names: tuple[str, ...]
    edges: tuple[float, ...]
    region: np.ndarray  # (size, size) uint8, index into ``names``

    @property
    def size(self) -> int:
        """Side of the image in pixels."""
        return len(self.region)

    def span(self, name: str) -> tuple[float, float]:
        """Mean y (px) at which the region begins and ends."""
        i = self.names.index(name)
        return (0.0, *self.edges)[i], self.edges[i]


def draw_ground(rng: np.random.Generator, size: int) -> Ground:
    """Draws one of the settings: street, meadow, lake (with a bank) or sea."""
    setting = str(rng.choice(['street', 'meadow', 'lake', 'sea'], p=[0.38, 0.27, 0.25, 0.1]))
    # Each region: name, range of its lower edge (of a strip: of its height) as a share of the
    # image, waviness of that edge.
    if setting == 'street':
        regions = [('wall', (0.46, 0.62), 0.004), ('road', (1, 1), 0)]
        if rng.random() < 0.5:
            regions.insert(0, ('sky', (0.12, 0.24), 0))
        strip = 'grass'
    elif setting == 'meadow':
        regions = [('sky', (0.26, 0.46), 0.03), ('grass', (1, 1), 0)]
        strip = 'wall'
    elif setting == 'lake':
        regions = [('sky', (0.22, 0.36), 0.006), ('water', (0.66, 0.8), 0.025)]
        regions.append(('grass', (1, 1), 0))
        strip = 'road'
    else:
        regions = [('sky', (0.25, 0.48), 0.004), ('water', (1, 1), 0)]
        strip = 'wall'
    if rng.random() < STRIP_CHANCE:
        regions.insert(len(regions) - 1, (strip, STRIP_HEIGHT, 0.004))

    y = np.arange(size)[:, None]
    region = np.zeros((size, size), np.uint8)
    edges = []
    for name, share, waviness in regions:
        edge = size * rng.uniform(*share) + (edges[-1] if name == strip else 0)
        region += y >= edge + size * waviness * _wave(rng, size)
        edges.append(edge)
    # The last region ends with the image, so that the sum above stays a valid index.
    names = tuple(name for name, _, _ in regions)
    region = np.minimum(region, len(names) - 1)
    if setting == 'meadow' and rng.random() < STRIP_CHANCE:
        names, edges = (*names, str(rng.choice(['road', 'water']))), [*edges, size]
        _cross(rng, region, edges[-3], names)
    return Ground(setting, names, tuple(edges), region)


def _cross(
    rng: np.random.Generator, region: np.ndarray, horizon: float, names: tuple[str, ...]
) -> None:
    """Draws a path from the lower edge to the horizon, or a pond, as the last of the regions."""
    size = len(region)
    if names[-1] == 'road':
        near, far = size * rng.uniform(0.1, 0.9, 2)
        width = size * rng.uniform(0.06, 0.12)
        corners = [(near - width, size), (near + width, size), (far + 2, horizon), (far, horizon)]
        cv2.fillPoly(region, [np.rint(corners).astype(np.int32)], len(names) - 1)
    else:
        centre = size * rng.uniform(0.2, 0.8), horizon + (size - horizon) * rng.uniform(0.3, 0.7)
        axes = size * rng.uniform(0.14, 0.3), size * rng.uniform(0.05, 0.1)
        centre, axes = (tuple(round(value) for value in pair) for pair in (centre, axes))
        cv2.ellipse(region, centre, axes, 0, 0, 360, len(names) - 1, cv2.FILLED)


def paint_ground(rng: np.random.Generator, ground: Ground) -> np.ndarray:
    """RGB (size, size, 3) float32 of the regions without any thing."""
    image = np.empty((ground.size, ground.size, 3), np.float32)
    for i, name in enumerate(ground.names):
        inside = ground.region == i
        image[inside] = STUFF_PAINTERS[name](rng, ground.size)[inside]
    return image


def _wave(rng: np.random.Generator, size: int) -> np.ndarray:
    """A smooth curve (size,) within -1..1: a few sines of falling height."""
    x = np.arange(size) / size
    curve = np.zeros(size)
    for k in (1, 2, 4):
        curve += np.sin(2 * np.pi * (k * rng.uniform(0.7, 1.3) * x + rng.uniform())) / k
    return curve / 1.75
