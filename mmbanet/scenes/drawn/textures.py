"""Textures: what stuff looks like, and the pattern that goes over a thing.

Stuff painters return RGB (size, size, 3) float32 in 0..255. Patterns return light, a factor of
about 1, and how much of a thing's second colour is mixed in, 0..1. Grain is sized in units of 1/128
of the image.
"""

import colorsys

import cv2
import numpy as np


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]
) -> np.ndarray:
    """Noise (H, W) of about unit variance whose grains are ``cell`` = (height, width) pixels."""
    grid = [max(2, round(n / max(c, 1.0)) + 1) for n, c in zip(shape, cell)]
    noise = rng.standard_normal(grid, dtype=np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)


def draw_color(rng: np.random.Generator, family: tuple[tuple[float, float, float], ...]):
    """A colour (3,) RGB 0..255 near one of the family's (hue in degrees, saturation, value)."""
    hue, saturation, value = family[rng.integers(len(family))]
    hue = (hue + rng.uniform(-7, 7)) % 360 / 360
    saturation = np.clip(saturation + rng.uniform(-0.05, 0.05), 0, 1)
    value = np.clip(value * rng.uniform(0.85, 1.1), 0, 1)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


# The families of a line meet: sky and water, grass and water in the shade, wall and road. There the
# neighbourhood, and the things that stand in it, tell the stuff.
_STUFF_FAMILIES = {
    'sky': ((208, 0.42, 0.82), (205, 0.25, 0.8), (215, 0.12, 0.72), (200, 0.05, 0.7)),
    'water': ((208, 0.42, 0.78), (205, 0.25, 0.74), (215, 0.12, 0.7), (110, 0.3, 0.42)),
    'grass': ((98, 0.5, 0.48), (80, 0.45, 0.5), (115, 0.4, 0.4), (45, 0.3, 0.5)),
    'wall': ((12, 0.4, 0.55), (35, 0.15, 0.55), (30, 0.08, 0.5), (220, 0.06, 0.5)),
    'road': ((220, 0.05, 0.42), (30, 0.08, 0.5), (220, 0.08, 0.52), (12, 0.3, 0.5)),
}


def _flat(rng: np.random.Generator, name: str, light: np.ndarray) -> np.ndarray:
    return draw_color(rng, _STUFF_FAMILIES[name]) * light[..., None]


def _sky(rng: np.random.Generator, size: int) -> np.ndarray:
    return _clouded(rng, size, 'sky')


def _clouded(rng: np.random.Generator, size: int, name: str) -> np.ndarray:
    u = size / 128
    fall = np.linspace(0.86, 1.08, size, dtype=np.float32)[:, None].repeat(size, 1)
    image = _flat(rng, name, fall)
    clouds = smooth_noise(rng, (size, size), (14 * u, 34 * u)) - rng.uniform(0.1, 0.9)
    clouds = np.clip(clouds, 0, 0.9)[..., None]
    return image + clouds * (np.float32(245) - image)


def _wall(rng: np.random.Generator, size: int) -> np.ndarray:
    return _laid(rng, size, 'wall') if rng.random() < 0.7 else _speckled(rng, size, 'wall')


def _laid(rng: np.random.Generator, size: int, name: str) -> np.ndarray:
    course = size / 128 * rng.uniform(6, 9)
    length = course * rng.uniform(1.9, 2.4)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row = np.floor(y / course)
    # Every other course is moved by half a brick.
    along = x / length + 0.5 * (row % 2)
    brick = np.floor(along)
    tones = rng.uniform(0.82, 1.14, (64, 64)).astype(np.float32)
    light = tones[row.astype(int) % 64, brick.astype(int) % 64]
    mortar = (y / course - row < 0.17) | (along - brick < 0.09)
    light = np.where(mortar, np.float32(1.2), light)
    return _flat(rng, name, light + 0.04 * smooth_noise(rng, (size, size), (2, 2)))


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
    if rng.random() < 0.35:  # smooth: it mirrors the sky
        return _clouded(rng, size, 'water')
    u = size / 128
    y = np.arange(size, dtype=np.float32)[:, None]
    bend = smooth_noise(rng, (size, size), (10 * u, 20 * u))
    waves = np.sin(2 * np.pi * y / (u * rng.uniform(6, 9)) + 1.6 * bend)
    glint = np.clip(smooth_noise(rng, (size, size), (1.5 * u, 9 * u)) - 0.9, 0, 1)
    return _flat(rng, 'water', 1 + 0.13 * waves + 0.3 * glint)


def _grass(rng: np.random.Generator, size: int) -> np.ndarray:
    u = size / 128
    blades = smooth_noise(rng, (size, size), (4 * u, 1.3 * u))
    patches = smooth_noise(rng, (size, size), (24 * u, 40 * u))
    return _flat(rng, 'grass', 1 + 0.2 * blades + 0.07 * patches)


def _speckled(rng: np.random.Generator, size: int, name: str) -> np.ndarray:
    u = size / 128
    return _flat(rng, name, 1 + 0.09 * smooth_noise(rng, (size, size), (1.2 * u, 1.2 * u)))


def _road(rng: np.random.Generator, size: int) -> np.ndarray:
    if rng.random() < 0.3:  # paved: as a wall
        return _laid(rng, size, 'road')
    image = _speckled(rng, size, 'road')
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    dashes = (np.abs(y - rng.uniform(0.78, 0.9)) < 0.012) & ((4 * x + rng.uniform()) % 1 < 0.55)
    if rng.random() < 0.5:
        image[dashes] = 190
    return image


#: name -> painter ``f(rng, size)``.
STUFF_PAINTERS = {'sky': _sky, 'wall': _wall, 'water': _water, 'grass': _grass, 'road': _road}


def _knit(rng, u, v):
    stripes = np.sin(2 * np.pi * v * rng.uniform(5, 9)) > rng.uniform(-0.3, 1.5)
    return 1 + 0.1 * smooth_noise(rng, u.shape, (3, 3)), stripes * rng.uniform(0, 0.8)


def _smooth(rng, u, v):
    return np.ones_like(u), np.zeros_like(u)


def _seams(rng, u, v):
    return 1 - 0.2 * (np.abs(u * 6 % 1 - 0.5) < 0.12), np.zeros_like(u)


def _mottle(rng, u, v):
    cell = u.shape[0] / 12
    light = np.clip(1 + 0.2 * smooth_noise(rng, u.shape, (cell, cell)), 0.45, 1.5)
    return light, np.clip(0.4 + 0.4 * smooth_noise(rng, u.shape, (3 * cell, 3 * cell)), 0, 1)


def _quarters(rng, u, v):
    return np.ones_like(u), ((u - 0.5) * (v - 0.36) > 0) * 1.0


def _diagonal(rng, u, v):
    return np.ones_like(u), (np.sin(2 * np.pi * (u * 0.8 + v * 2.6)) > 0) * 0.8


def _bars(rng, u, v):
    return np.ones_like(u), ((np.abs(v * 3 % 1 - 0.5) < 0.17) & (np.abs(u - 0.5) < 0.3)) * 1.0


def _sectors(rng, u, v):
    turn = rng.uniform(0, 2 * np.pi)
    return np.ones_like(u), (np.sin(3 * np.arctan2(v - 0.5, u - 0.5) + turn) > 0) * 0.8


#: name -> pattern ``f(rng, u, v)`` of a thing over its unit square.
PATTERNS = {
    'figure': _knit,
    'bus': _smooth,
    'boat': _seams,
    'boulder': _mottle,
    'kite': _quarters,
    'tie': _diagonal,
    'sign': _bars,
    'ball': _sectors,
}

# Paint and cloth of any thing: mostly dull and dark, as on photographs, now and then bright.
_CLOTH = (
    (225, 0.25, 0.25), (225, 0.25, 0.25), (0, 0.03, 0.3), (0, 0.03, 0.3), (30, 0.1, 0.5),
    (0, 0.03, 0.8), (215, 0.45, 0.5), (0, 0.6, 0.6), (28, 0.35, 0.45), (95, 0.3, 0.4),
    (45, 0.6, 0.75), (280, 0.35, 0.5), (180, 0.4, 0.5),
)  # fmt: skip
_SKIN = ((22, 0.4, 0.8), (20, 0.5, 0.55), (18, 0.5, 0.35))
_GLASS = ((215, 0.25, 0.28), (210, 0.15, 0.45))
_STONE = ((0, 0.03, 0.5), (26, 0.25, 0.5), (220, 0.12, 0.48), (80, 0.15, 0.42))

#: name -> for each of its colours a family (hue in degrees, saturation, value).
THING_FAMILIES = {
    'figure': (_CLOTH, _CLOTH, _SKIN),
    'bus': (_CLOTH, _CLOTH, _GLASS),
    'boat': (_CLOTH, _CLOTH, _CLOTH),
    'boulder': (_STONE, _STONE, _STONE),
    'kite': (_CLOTH, _CLOTH, _CLOTH),
    'tie': (_CLOTH, _CLOTH, _CLOTH),
    'sign': (_CLOTH, _CLOTH, _CLOTH),
    'ball': (_CLOTH, _CLOTH, _CLOTH),
}
