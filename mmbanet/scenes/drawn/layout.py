"""Which things a scene has, where they stand, and what is in front of what."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .ground import Ground
from .shapes import OUTLINES, Pose, draw_parts
from .textures import THING_FAMILIES, draw_color

MAX_THINGS = 7
#: Share of images without any thing.
EMPTY_SHARE = 0.02
#: Chance that a thing takes the colours of one that it overlaps: two riders in one team's clothes.
ALIKE_CHANCE = 0.87
#: Sizes at the upper and at the lower edge of the ground that things stand on.
PERSPECTIVE = (0.75, 1.15)
#: Two boxes never overlap more than this IoU: a detector's NMS at 0.5 would drop one of them.
MAX_BOX_IOU = 0.45

#: name -> ranges of the width (in 1/128 of the image) and of height / width.
_SIZES = {
    'figure': ((32, 44), (1.75, 2.1)),
    'bus': ((56, 78), (0.56, 0.68)),
    'boat': ((40, 60), (0.85, 1.05)),
    'boulder': ((36, 62), (0.66, 0.85)),
    'kite': ((20, 30), (1.15, 1.4)),
    'tie': ((9, 12), (1.9, 2.3)),
    'sign': ((12, 16), (0.8, 1.1)),
    'ball': ((10.5, 15), (1.0, 1.0)),
}

#: setting -> the region that each large class belongs to, and the chances of 0, 1, 2, ... of them.
_POPULATION = {
    'street': {'bus': ('road', (0.1, 0.5, 0.4)), 'figure': ('road', (0.1, 0.3, 0.4, 0.2))},
    'meadow': {
        'figure': ('grass', (0.1, 0.35, 0.35, 0.2)),
        'boulder': ('grass', (0.2, 0.45, 0.35)),
        'kite': ('sky', (0.4, 0.4, 0.2)),
    },
    'lake': {
        'boat': ('water', (0.05, 0.4, 0.4, 0.15)),
        'figure': ('grass', (0.3, 0.45, 0.25)),
        'boulder': ('grass', (0.6, 0.4)),
        'kite': ('sky', (0.6, 0.4)),
    },
    'sea': {'boat': ('water', (0, 0.25, 0.45, 0.3)), 'kite': ('sky', (0.3, 0.4, 0.3))},
}

#: (small class, class it lies in front of, chance, settings, where its centre lies on the host).
_MOUNTED = (
    ('tie', 'figure', 0.25, ('street', 'meadow', 'lake'), ((0.4, 0.6), (0.34, 0.56))),
    ('sign', 'bus', 0.3, ('street',), ((0.15, 0.85), (0.3, 0.7))),
    ('ball', 'boulder', 0.25, ('meadow', 'lake'), ((0.2, 0.8), (0.3, 0.8))),
    ('ball', 'figure', 0.1, ('street', 'meadow', 'lake'), ((0.3, 0.7), (0.3, 0.85))),
    ('ball', 'bus', 0.1, ('street',), ((0.15, 0.85), (0.3, 0.7))),
    ('ball', 'boat', 0.15, ('lake', 'sea'), ((0.35, 0.65), (0.4, 0.8))),
)
#: (small class, region it stands on by itself, chance).
_ALONE = (('sign', 'wall', 0.2), ('ball', 'grass', 0.1))


@dataclass(frozen=True)
class Thing:
    """One thing, drawn whole: nothing that lies in front of it is taken away."""

    name: str
    pose: Pose
    colors: np.ndarray  # (3, 3) RGB 0..255, of the parts' tones
    depth: float  # larger is nearer
    coverage: np.ndarray  # (size, size) float32, 0..1
    shade: np.ndarray  # (size, size) float32, brightness of the parts
    tone: np.ndarray  # (size, size) uint8, which of the colours

    @property
    def mask(self) -> np.ndarray:
        """Amodal mask (size, size) bool, cut at the image's border."""
        return self.coverage >= 0.5


def arrange(rng: np.random.Generator, ground: Ground) -> list[Thing]:
    """Draws the things of a scene, front to back."""
    if rng.random() < EMPTY_SHARE:
        return []
    things: list[Thing] = []
    for name, region in _plan(rng, ground):
        pose = _place(rng, ground, name, region, things)
        if pose is not None:
            # Nearer things mostly stand lower; the jitter keeps y from telling the order for sure.
            depth = pose.base / ground.size + rng.uniform(-0.06, 0.06)
            if region == 'sky':
                depth = rng.uniform(0.2, 0.9)
            things.append(_build(rng, ground, name, pose, depth, things))
    for name, host_name, chance, settings, spot in _MOUNTED:
        for host in [thing for thing in things if thing.name == host_name]:
            if ground.setting not in settings or rng.random() > chance:
                continue
            small = _mount(rng, ground, name, host, spot, things)
            if small is not None and len(things) < MAX_THINGS:
                things.append(small)
    return sorted(things, key=lambda thing: -thing.depth)


def _plan(rng: np.random.Generator, ground: Ground) -> list[tuple[str, str]]:
    """(class, region) of everything that stands by itself, in the order of placing."""
    plan = []
    for name, (region, chances) in _POPULATION[ground.setting].items():
        plan += [(name, region)] * int(rng.choice(len(chances), p=chances))
    plan = [plan[i] for i in rng.permutation(len(plan))][: MAX_THINGS - 2]
    for name, region, chance in _ALONE:
        if region in ground.names and rng.random() < chance:
            plan.append((name, region))
    return plan or [next((n, r) for n, (r, _) in _POPULATION[ground.setting].items())]


def _draw_size(rng: np.random.Generator, ground: Ground, name: str) -> tuple[float, float]:
    width, aspect = _SIZES[name]
    w = ground.size / 128 * rng.uniform(*width)
    return w, w * rng.uniform(*aspect)


def _draw_angle(rng: np.random.Generator, name: str) -> float:
    return rng.uniform(-0.4, 0.4) if name in ('kite', 'tie') else rng.uniform(-0.05, 0.05)


def _place(
    rng: np.random.Generator, ground: Ground, name: str, region: str, things: list[Thing]
) -> 'Pose | None':
    """Finds a pose on the region, mostly beside something that it will partly cover."""
    size = ground.size
    top, bottom = ground.span(region)
    for _ in range(12):
        w, h = _draw_size(rng, ground, name)
        if region in ('sky', 'wall'):
            cy = rng.uniform(top + 0.55 * h, max(bottom - 0.35 * h, top + 0.6 * h))
        else:
            base = rng.uniform(top + 0.25 * (bottom - top), bottom + 0.06 * size)
            far, near = PERSPECTIVE
            scale = far + (near - far) * (base - top) / max(bottom - top, 1)
            w, h = scale * w, scale * h
            cy = base - h / 2
        cx = rng.uniform(0.1, 0.9) * size
        if things and rng.random() < 0.7:
            near = things[rng.integers(len(things))].pose
            cx = near.cx + rng.choice([-1, 1]) * rng.uniform(0.25, 0.8) * (w + near.w) / 2
        pose = Pose(cx, cy, w, h, _draw_angle(rng, name), bool(rng.random() < 0.5))
        inside = 0.05 * size < cx < 0.95 * size
        if inside and all(_box_iou(pose.box, t.pose.box) < MAX_BOX_IOU for t in things):
            return pose
    return None


def _mount(
    rng: np.random.Generator,
    ground: Ground,
    name: str,
    host: Thing,
    spot: tuple[tuple[float, float], tuple[float, float]],
    things: list[Thing],
) -> 'Thing | None':
    """A small thing just in front of its host and inside the host's outline."""
    depth = np.nextafter(host.depth, np.inf)
    for _ in range(8):
        point = np.array([[rng.uniform(*spot[0]), rng.uniform(*spot[1])]])
        cx, cy = host.pose.to_pixels(point)[0]
        w, h = _draw_size(rng, ground, name)
        angle = host.pose.angle + (0 if name == 'sign' else rng.uniform(-0.12, 0.12))
        small = _build(rng, ground, name, Pose(cx, cy, w, h, angle), depth, things, host)
        if small.mask.any() and not (small.mask & ~host.mask).any():
            return small
    return None


def _build(
    rng: np.random.Generator,
    ground: Ground,
    name: str,
    pose: Pose,
    depth: float,
    things: Iterable[Thing],
    host: 'Thing | None' = None,
) -> Thing:
    # A tie has other colours than its figure.
    near = [t for t in things if host is None and _box_iou(pose.box, t.pose.box) > 0.02]
    colors = _draw_colors(rng, name, near)
    coverage, shade, tone = draw_parts(OUTLINES[name](rng), pose, ground.size)
    return Thing(name, pose, colors, float(depth), coverage, shade, tone)


def _draw_colors(rng: np.random.Generator, name: str, others: list[Thing]) -> np.ndarray:
    """Colours of the class's families, or now and then those of another thing, nearly."""
    if others and rng.random() < ALIKE_CHANCE:
        alike = others[rng.integers(len(others))].colors * rng.uniform(0.985, 1.015, 3)
        return np.clip(alike * rng.uniform(0.86, 1.14), 0, 255).astype(np.float32)
    return np.stack([draw_color(rng, family) for family in THING_FAMILIES[name]])


def _box_iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return overlap / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap)
