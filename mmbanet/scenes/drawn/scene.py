"""One scene: an image, its regions and things with their full masks, and who owns each pixel."""

from dataclasses import dataclass

import cv2
import numpy as np

from .ground import Ground, draw_ground, paint_ground
from .layout import Thing, arrange
from .textures import PATTERNS, smooth_noise

#: A thing with fewer visible pixels, or with a smaller share of itself visible, is left out.
MIN_VISIBLE_PIXELS = 25
MIN_VISIBLE_SHARE = 0.15
#: A region with a smaller share of the image visible makes the scene be drawn again.
_MIN_STUFF_SHARE = 0.02


@dataclass(frozen=True)
class Layer:
    """A segment before anything in front of it is laid over it."""

    name: str
    mask: np.ndarray  # (size, size) bool, amodal


@dataclass(frozen=True)
class Scene:
    """A finished scene."""

    image: np.ndarray  # (size, size, 3) uint8 RGB
    layers: tuple[Layer, ...]  # front to back: the things, then the regions of stuff

    @property
    def owner(self) -> np.ndarray:
        """(size, size) index of the front-most layer that claims the pixel."""
        return compose([layer.mask for layer in self.layers])


def compose(masks: list[np.ndarray]) -> np.ndarray:
    """Index of the front-most mask at each pixel, (H, W) int64; masks (H, W) bool front to back."""
    return np.argmax(np.stack(masks), axis=0)


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draws one scene of ``size`` x ``size`` pixels; all that is random comes from ``rng``."""
    while True:
        ground = draw_ground(rng, size)
        things = _drop_hidden(arrange(rng, ground))
        layers = [Layer(thing.name, thing.mask) for thing in things]
        layers += [Layer(name, ground.region == i) for i, name in enumerate(ground.names)]
        visible = np.bincount(compose([layer.mask for layer in layers]).ravel())
        if (
            len(visible) == len(layers)
            and visible[len(things) :].min() >= _MIN_STUFF_SHARE * size * size
        ):
            return Scene(_paint(rng, ground, things), tuple(layers))


def _drop_hidden(things: list[Thing]) -> list[Thing]:
    """Leaves out what cannot be seen; things front to back.

    From front to back is enough: what lies behind a thing never hides it.
    """
    kept = []
    covered = None
    for thing in things:
        mask = thing.mask
        seen = int((mask if covered is None else mask & ~covered).sum())
        if seen < max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_SHARE * mask.sum()):
            continue
        kept.append(thing)
        covered = mask if covered is None else covered | mask
    return kept


def _paint(rng: np.random.Generator, ground: Ground, things: list[Thing]) -> np.ndarray:
    image = paint_ground(rng, ground)
    for thing in reversed(things):
        _paint_thing(rng, image, thing)
    # One light and one lens for the whole scene; in some there is little contrast.
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.35, 0.6) * len(image) / 128)
    contrast = np.float32(rng.uniform(0.5, 0.75) if rng.random() < 0.2 else rng.uniform(0.9, 1.1))
    image = (image - 110) * contrast + np.float32(rng.uniform(90, 125))
    image *= rng.uniform(0.95, 1.05, 3).astype(np.float32)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 4.5))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _paint_thing(rng: np.random.Generator, image: np.ndarray, thing: Thing) -> None:
    """Lays one thing, with a soft shadow around it, over what is there."""
    size = len(image)
    coverage = thing.coverage
    soft = size / 128
    shadow = cv2.GaussianBlur(coverage, (0, 0), 2 * soft)
    image *= (1 - 0.3 * shadow)[..., None]

    rows, cols = np.flatnonzero(coverage.any(1)), np.flatnonzero(coverage.any(0))
    y, x = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    yy, xx = np.mgrid[y, x].astype(np.float32)
    u, v = thing.pose.to_unit(xx, yy)
    light, second = PATTERNS[thing.name](rng, u, v)
    tone = thing.tone[y, x]
    light = light * thing.shade[y, x]
    # Light falls from one side, and the rim is darker than the middle.
    slope = rng.uniform(-0.45, 0.45, 2)
    light *= 1 + slope[0] * (u - 0.5) + slope[1] * (v - 0.5)
    rim = cv2.erode(coverage, np.ones((3, 3), np.uint8))[y, x]
    light *= 0.72 + 0.28 * cv2.GaussianBlur(rim, (0, 0), 0.7 * soft)
    light *= 1 + 0.07 * smooth_noise(rng, u.shape, (3 * soft, 3 * soft))
    alpha = coverage[y, x, None]
    # The pattern is on the first tone: jacket, body, sail.
    second = (second * (tone == 0))[..., None]
    hue = (1 - second) * thing.colors[tone] + second * thing.colors[1]
    color = np.clip(light[..., None] * hue, 0, 255)
    image[y, x] += alpha * (color - image[y, x])
