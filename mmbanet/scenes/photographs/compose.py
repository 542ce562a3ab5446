"""One scene: a frame and cut-outs of other images, placed as the world would place them."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mmbanet.datasets.soft_edges import to_bytes

from .candidates import Candidate, Candidates
from .cutout import Cutout, cut_out, noise_level, support_below
from .paste import OWN, Layer, light_ratio, paste, resize_cutout
from .source import Photograph, PhotographSource

#: Cut-outs of a scene, and how often one is tried that fits nowhere.
COUNT = (2, 6)
TRIES = 40
#: Standard deviation of the base's jitter, as a share of the frame's height, and its limit.
JITTER = 0.03
MAX_MOVE = 0.12
#: How much nearer than its place says a thing may count: as if the ground were not quite even.
SLACK = 0.01
#: Limits of the change of size by perspective, and of that of things without.
SCALES = (0.6, 1.2)
FREE_SCALES = (0.85, 1.15)
#: Of the share of the smaller one that is to be covered where overlap is asked for.
OVERLAP = (0.12, 0.8)
#: How much lighter or darker the photograph of a cut-out may be than the frame.
LIGHTS = (0.55, 1.7)
#: Of two things that count as one and its double.
MAX_IOU = 0.6
#: Share of a cut-out that must lie in the frame.
MIN_INSIDE = 0.6
#: A thing must keep this share of its mask, and as many pixels, visible.
MIN_VISIBLE_SHARE = 0.25
MIN_VISIBLE_PIXELS = 36
#: Things of the frame with fewer pixels are covered, and not counted.
MIN_TARGET_PIXELS = 100


class Thing(NamedTuple):
    """A thing of the scene: of the frame, or a cut-out.

    Attributes:
        mask: (H, W) bool; all of a cut-out within the frame, what is seen of a thing
            of the frame.
        label: Position of its category.
        depth: The larger, the nearer; of a thing of the frame where it stands.
        layer: None for a thing of the frame.
        area: Pixels of the mask.
        left: First column of the mask.
        right: Last column + 1.
    """

    mask: np.ndarray
    label: int
    depth: float
    layer: Layer | None
    area: int
    left: int
    right: int


class Segment(NamedTuple):
    """A segment of a finished scene, before what is in front of it.

    Attributes:
        label: Position of its category.
        mask: (H, W) bool; of what is of the frame, what is seen of it there.
        crowd: Several things of the frame that were annotated as one.
    """

    label: int
    mask: np.ndarray
    crowd: bool = False


class PhotographScene(NamedTuple):
    """A finished scene.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        segments: Front to back: cut-outs, things of the frame, crowds, stuff.
        num_cutouts: How many of the first are cut-outs.
        num_things: How many of the first are things, without crowds.
        quality: Of the JPEG.
    """

    image: np.ndarray
    segments: list[Segment]
    num_cutouts: int
    num_things: int
    quality: int


class Composer:
    """Composes scenes of a source.

    Args:
        source: Of frames and cut-outs.
        overlap: Share of the cut-outs, 0..1, that are placed so that they cover a thing or are
            covered by one; the others go where they go.
        same_class: Share of those, 0..1, that are of the class of the thing that they overlap; as
            frequent as the classes are by default.
    """

    def __init__(
        self, source: PhotographSource, overlap: float = 0.8, same_class: float | None = None
    ) -> None:
        self.source = source
        self.candidates = Candidates(source)
        self.overlap = overlap
        self.same_class = same_class
        self.is_thing = np.array([*source.is_thing, *[True] * (256 - len(source.is_thing))])
        self._cutouts: dict[int, Cutout | None] = {}

    def compose(self, rng: np.random.Generator) -> PhotographScene:
        """Composes a scene; all that is random comes from ``rng``."""
        while True:
            index = int(rng.integers(len(self.source)))
            frame = self.source.load(index)
            things = self._place_all(rng, index, frame)
            if sum(thing.layer is not None for thing in things) >= COUNT[0]:
                return self._finish(rng, index, frame, things)

    def _place_all(self, rng: np.random.Generator, index: int, frame: Photograph) -> list[Thing]:
        """The things of the frame and the cut-outs among them."""
        things = self._frame_things(index, frame)
        for _ in range(int(rng.integers(COUNT[0], COUNT[1] + 1))):
            for _ in range(TRIES):
                thing = self._try(rng, index, frame, things)
                if thing is not None and _all_visible([*things, thing]):
                    things.append(thing)
                    break
        return things

    def _frame_things(self, index: int, frame: Photograph) -> list[Thing]:
        things = []
        for segment in self.source.annotations[index]['segments_info']:
            label = self.source.label_of[segment['category_id']]
            if not self.source.is_thing[label] or segment.get('iscrowd', 0):
                continue
            mask = frame.ids == segment['id']
            left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
            if width > 0:
                area = cv2.countNonZero(mask.view(np.uint8))
                base = (top + height) / len(mask)
                things.append(Thing(mask, label, base, None, area, left, left + width))
        return things

    def _try(
        self, rng: np.random.Generator, index: int, frame: Photograph, things: list[Thing]
    ) -> Thing | None:
        """A cut-out at a place of its own, or None where the place does not do."""
        targets = [thing for thing in things if thing.area >= MIN_TARGET_PIXELS]
        target = None
        if targets and rng.random() < self.overlap:
            # Large things come forward, as they do for whoever looks at the scene.
            weight = np.sqrt([thing.area for thing in targets])
            target = targets[rng.choice(len(targets), p=weight / weight.sum())]
        candidate = self._draw_candidate(rng, index, target)
        cutout = self._cut(candidate)
        if cutout is None:
            return None
        layer = self._place(rng, frame, candidate, cutout, target)
        if layer is None:
            return None
        mask = layer.mask(*frame.ids.shape)
        area = np.count_nonzero(mask)
        if area < max(MIN_INSIDE * np.count_nonzero(layer.alpha >= OWN), MIN_VISIBLE_PIXELS):
            return None
        left, _, width, _ = cv2.boundingRect(mask.view(np.uint8))
        thing = Thing(mask, candidate.label, layer.depth, layer, area, left, left + width)
        if target is not None:
            shared = np.count_nonzero(mask & target.mask)
            if not OVERLAP[0] <= shared / min(area, target.area) <= OVERLAP[1]:
                return None
        return thing if _plausible(thing, things) else None

    def _draw_candidate(
        self, rng: np.random.Generator, index: int, target: Thing | None
    ) -> Candidate:
        """A thing of another image; of the class of the target as often as asked for."""
        pool = self.candidates.by_label
        positions: list[int] | range = range(len(self.candidates.things))
        if target is not None and self.same_class is not None:
            if rng.random() < self.same_class:
                positions = pool.get(target.label) or positions
            else:
                others = [label for label in pool if label != target.label]
                if others:
                    positions = pool[others[rng.integers(len(others))]]
        best = None
        for _ in range(8):
            candidate = self.candidates.things[positions[rng.integers(len(positions))]]
            if candidate.index == index:
                continue
            # The own height in the image that is nearest to the target's.
            away = 0 if target is None else abs(candidate.base - target.depth)
            if best is None or away < best[0]:
                best = away, candidate
        return best[1] if best else self.candidates.things[positions[0]]

    def _cut(self, candidate: Candidate) -> Cutout | None:
        """The cut-out of a candidate; None if it is not fit to be one."""
        key = candidate.index, candidate.segment_id
        if key not in self._cutouts:
            photograph = self.source.load(candidate.index)
            self._cutouts[key] = cut_out(photograph, candidate, self.is_thing)
        return self._cutouts[key]

    def _place(
        self,
        rng: np.random.Generator,
        frame: Photograph,
        candidate: Candidate,
        cutout: Cutout,
        target: Thing | None,
    ) -> Layer | None:
        height, width = frame.ids.shape
        horizon = self.candidates.horizons.get(candidate.label)
        move = float(np.clip(rng.normal(0, JITTER), -MAX_MOVE, MAX_MOVE))
        base = candidate.base + move
        if target is not None:
            wanted = target.depth + abs(rng.normal(0, JITTER))
            base = float(np.clip(wanted, candidate.base - MAX_MOVE, candidate.base + MAX_MOVE))
        scale = rng.uniform(*FREE_SCALES)
        if horizon is not None and candidate.base > horizon + 0.02:
            scale = float(np.clip((base - horizon) / (candidate.base - horizon), *SCALES))
            scale *= rng.uniform(0.95, 1.05)
        scale *= height / cutout.frame_height
        color, alpha = resize_cutout(cutout, scale, bool(rng.random() < 0.5))
        x, y, w, h = cv2.boundingRect((alpha >= OWN).view(np.uint8))
        if w == 0:
            return None
        if target is None:
            center = rng.uniform(0.05, 0.95) * width
        else:
            reach = 0.5 * (w + target.right - target.left)
            center = 0.5 * (target.left + target.right) + rng.uniform(-0.9, 0.9) * reach
        foot = round(base * height)
        top, left = foot - y - h, round(center - x - 0.5 * w)
        stands = horizon is not None
        depth = base if stands else base + abs(rng.normal(0, 0.1))
        if foot > height or top + y < 0:
            return None
        support, below = support_below(frame, foot, left + x, left + x + w)
        if support != cutout.support and (stands or target is None):
            return None
        layer = Layer(
            color,
            alpha,
            top,
            left,
            candidate.label,
            float(depth),
            stands,
            cutout,
            scale,
            below if support == cutout.support else None,
        )
        ratio = light_ratio(layer, frame.image).mean()
        return layer if LIGHTS[0] <= ratio <= LIGHTS[1] else None

    def _finish(
        self, rng: np.random.Generator, index: int, frame: Photograph, things: list[Thing]
    ) -> PhotographScene:
        """Paints a scene, and lists its segments front to back."""
        cutouts = sorted(
            (thing for thing in things if thing.layer is not None), key=lambda t: -t.depth
        )
        in_frame = sorted(
            (thing for thing in things if thing.layer is None), key=lambda t: -t.depth
        )
        image = frame.image.astype(np.float32)
        noise = noise_level(frame.image)
        for thing in reversed(cutouts):
            paste(rng, image, thing.layer, noise)
        things = [Segment(thing.label, thing.mask) for thing in [*cutouts, *in_frame]]
        rest = []
        for part in self.source.annotations[index]['segments_info']:
            label, crowd = self.source.label_of[part['category_id']], bool(part.get('iscrowd', 0))
            if crowd or not self.source.is_thing[label]:
                rest.append(Segment(label, frame.ids == part['id'], crowd))
        return PhotographScene(
            to_bytes(image),
            things + sorted(rest, key=lambda segment: segment.label),
            len(cutouts),
            len(things),
            self.source.quality(index),
        )


def _plausible(thing: Thing, things: list[Thing]) -> bool:
    """Whether a cut-out may be in front of the things of the frame, and doubles no other."""
    for other in things:
        shared = np.count_nonzero(thing.mask & other.mask)
        if shared == 0:
            continue
        if other.layer is None and thing.depth < other.depth - SLACK:
            return False
        if shared > MAX_IOU * (thing.area + other.area - shared):
            return False
    return True


def _all_visible(things: list[Thing]) -> bool:
    """Whether enough is seen of every thing that was there to be seen."""
    taken = None
    for thing in sorted(things, key=lambda thing: (thing.layer is None, -thing.depth)):
        area = thing.area
        seen = area if taken is None else np.count_nonzero(thing.mask & ~taken)
        if seen < area and seen < max(MIN_VISIBLE_SHARE * area, MIN_VISIBLE_PIXELS):
            return False
        taken = thing.mask if taken is None else taken | thing.mask
    return True
