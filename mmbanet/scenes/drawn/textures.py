"""Textures: what stuff looks like, and the light and dark pattern that goes over a thing.

Stuff painters return RGB (size, size, 3) float32 in 0..255. Patterns return a factor of about 1 and
leave a colour's direction alone. Grain is sized in units of 1/128 of the image.
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


# Some families meet (overcast sky and grey water, pale wall and road): there the neighbourhood,
# and the things that stand in it, tell the stuff.
_STUFF_FAMILIES = {
    'sky': ((208, 0.42, 0.92), (205, 0.25, 0.9), (215, 0.12, 0.8)),
    'wall': ((12, 0.45, 0.6), (22, 0.35, 0.66), (35, 0.12, 0.6)),
    'water': ((200, 0.6, 0.6), (188, 0.5, 0.55), (210, 0.25, 0.62)),
    'grass': ((98, 0.55, 0.5), (80, 0.5, 0.55), (115, 0.45, 0.45)),
    'road': ((220, 0.05, 0.4), (30, 0.08, 0.48), (220, 0.08, 0.52)),
}


def _flat(rng: np.random.Generator, name: str, light: np.ndarray) -> np.ndarray:
    return draw_color(rng, _STUFF_FAMILIES[name]) * light[..., None]


def _sky(rng: np.random.Generator, size: int) -> np.ndarray:
    u = size / 128
    fall = np.linspace(0.86, 1.08, size, dtype=np.float32)[:, None].repeat(size, 1)
    image = _flat(rng, 'sky', fall)
    clouds = smooth_noise(rng, (size, size), (14 * u, 34 * u)) - rng.uniform(0.1, 0.9)
    clouds = np.clip(clouds, 0, 0.9)[..., None]
    return image + clouds * (np.float32(245) - image)


def _wall(rng: np.random.Generator, size: int) -> np.ndarray:
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
    light = np.where(mortar, np.float32(1.4), light)
    return _flat(rng, 'wall', light + 0.04 * smooth_noise(rng, (size, size), (2, 2)))


def _water(rng: np.random.Generator, size: int) -> np.ndarray:
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


def _road(rng: np.random.Generator, size: int) -> np.ndarray:
    u = size / 128
    speckle = smooth_noise(rng, (size, size), (1.2 * u, 1.2 * u))
    image = _flat(rng, 'road', 1 + 0.09 * speckle)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    dashes = (np.abs(y - rng.uniform(0.78, 0.9)) < 0.012) & ((4 * x + rng.uniform()) % 1 < 0.55)
    image[dashes] = 215
    return image


#: name -> painter ``f(rng, size)``.
STUFF_PAINTERS = {'sky': _sky, 'wall': _wall, 'water': _water, 'grass': _grass, 'road': _road}


def _knit(rng, u, v):
    return 1 + 0.16 * np.sign(np.sin(2 * np.pi * v * 9))


def _smooth(rng, u, v):
    return np.ones_like(u)


def _seams(rng, u, v):
    return 1 - 0.2 * (np.abs(u * 6 % 1 - 0.5) < 0.12)


def _mottle(rng, u, v):
    cell = u.shape[0] / 12
    return np.clip(1 + 0.24 * smooth_noise(rng, u.shape, (cell, cell)), 0.45, 1.5)


def _quarters(rng, u, v):
    return 1 + 0.26 * np.sign((u - 0.5) * (v - 0.36))


def _diagonal(rng, u, v):
    return 1 + 0.25 * np.sign(np.sin(2 * np.pi * (u * 0.8 + v * 2.6)))


def _bars(rng, u, v):
    return np.where((np.abs(v * 3 % 1 - 0.5) < 0.17) & (np.abs(u - 0.5) < 0.3), 0.45, 1.05)


def _sectors(rng, u, v):
    turn = rng.uniform(0, 2 * np.pi)
    return 1 + 0.25 * np.sign(np.sin(3 * np.arctan2(v - 0.5, u - 0.5) + turn))


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

#: name -> colours (hue in degrees, saturation, value) of a thing; several, since things of one
#: class overlap each other too.
THING_FAMILIES = {
    'figure': ((348, 0.7, 0.8), (282, 0.55, 0.75), (228, 0.65, 0.8), (172, 0.6, 0.66)),
    'bus': ((47, 0.78, 0.92), (20, 0.78, 0.9), (78, 0.62, 0.78), (200, 0.1, 0.9)),
    'boat': ((38, 0.08, 0.93), (8, 0.7, 0.85), (30, 0.6, 0.68), (55, 0.5, 0.9)),
    'boulder': ((0, 0.03, 0.6), (26, 0.36, 0.55), (220, 0.22, 0.55), (330, 0.2, 0.55)),
    'kite': ((312, 0.7, 0.95), (84, 0.75, 0.9), (26, 0.88, 0.95), (0, 0.8, 0.9)),
    'tie': ((54, 0.85, 1.0), (0, 0.02, 0.97), (184, 0.65, 0.95), (14, 0.85, 0.95)),
    'sign': ((142, 0.7, 0.62), (216, 0.78, 0.8), (0, 0.02, 1.0), (290, 0.6, 0.7)),
    'ball': ((330, 0.55, 1.0), (28, 0.8, 1.0), (58, 0.75, 1.0), (188, 0.65, 0.95)),
}
