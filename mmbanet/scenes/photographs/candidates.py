"""Which things of a data set are good cut-outs, by the annotation file alone.

Whether a thing is whole cannot be seen from its annotation. What hints at it, for one of which
nothing is known but its box and area:

* it does not touch the border of the image, which may cut it;
* it is neither tiny (no edge to look at) nor as large as the frame;
* its shape is one of its class: the aspect ratio of its box is near the class's median, and it
  fills its box like most of its class. Things that are several in one mask are too wide for that.

The rest is looked at in the pixels, see :mod:`.cutout`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .source import PhotographSource

#: Pixels that must lie between a thing and the border of its image.
BORDER = 2
#: The shorter side of the box in pixels, and the area as a share of the image's.
MIN_SIDE = 12
AREA_SHARE = (0.001, 0.12)
#: Natural logarithm of the aspect ratio, away from the class's median.
MAX_ASPECT_DEVIATION = 0.45
#: Quantile of the class's area / box area under which a thing is left out.
MIN_FILL_QUANTILE = 0.25
#: Things of a class that its perspective is learned from, and the least correlation of height and
#: base that counts as perspective.
MIN_EXAMPLES = 20
MIN_CORRELATION = 0.5


class Candidate(NamedTuple):
    """A thing that may be cut out.

    Attributes:
        index: Of its image.
        segment_id: In the image's map.
        label: Position of its category.
        base: Its lower end, as a share of the image's height.
        height: As a share of the image's height.
    """

    index: int
    segment_id: int
    label: int
    base: float
    height: float


class Candidates:
    """The candidates of a data set and what it says about the perspective of its classes.

    Args:
        source: Where they come from.

    Attributes:
        things: All of them.
        by_label: From a label to their positions in ``things``.
        horizons: From a label to the height of the horizon, as a share of the image's
            height, for classes whose things are the larger the lower they stand.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, source: PhotographSource) -> None:
        found, shapes = [], []
        for index, annotation in enumerate(source.annotations):
            height, width = source.images[index]['height'], source.images[index]['width']
            scale = source.size(index)[0] / height
            for segment in annotation['segments_info']:
                label = source.label_of[segment['category_id']]
                x, y, w, h = segment['bbox']
                if (
                    not source.is_thing[label]
                    or segment.get('iscrowd', 0)
                    or min(x, y, width - x - w, height - y - h) < BORDER
                    or min(w, h) * scale < MIN_SIDE
                    or not AREA_SHARE[0] <= segment['area'] / (height * width) <= AREA_SHARE[1]
                ):
                    continue
                found.append(Candidate(index, segment['id'], label, (y + h) / height, h / height))
                shapes.append((np.log(w / h), segment['area'] / (w * h)))
        self.horizons = _fit_horizons(found)
        usual = _usual_shapes(np.array([c.label for c in found]), np.reshape(shapes, (-1, 2)))
        self.things = [candidate for candidate, ok in zip(found, usual) if ok]
        if not self.things:
            raise ValueError(
                f'{source.file}: none of its things can be cut out: they touch the border of '
                f'their image, are under {MIN_SIDE} pixels wide or high, or not within '
                f'{AREA_SHARE} of the image in area'
            )
        self.by_label: dict[int, list[int]] = {}
        for position, candidate in enumerate(self.things):
            self.by_label.setdefault(candidate.label, []).append(position)


def _usual_shapes(labels: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """(N,) bool: things whose (log aspect ratio, fill) is usual for their class."""
    usual = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mine = labels == label
        aspect, fill = shapes[mine].T
        usual[mine] = (abs(aspect - np.median(aspect)) <= MAX_ASPECT_DEVIATION) & (
            fill >= np.quantile(fill, MIN_FILL_QUANTILE)
        )
    return usual


def _fit_horizons(found: list[Candidate]) -> dict[int, float]:
    """Where things of a class would have no height: a line through their bases and heights."""
    horizons = {}
    for label in sorted({candidate.label for candidate in found}):
        base, height = np.array([(c.base, c.height) for c in found if c.label == label]).T
        if len(base) < MIN_EXAMPLES or min(base.std(), height.std()) < 1e-6:
            continue
        if np.corrcoef(base, height)[0, 1] >= MIN_CORRELATION:
            slope, offset = np.polyfit(base, height, 1)
            horizons[label] = float(-offset / slope)
    return horizons
