"""A static HTML page of panoptic maps: pictures beside it, all facts in it, no server.

Shapes: H x W pixels; maps in mmdet's encoding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .panoptic import write_picture
from .picture import draw_panoptic

# Longer side in pixels: small images are enlarged, or names would not fit.
SMALLEST, LARGEST, THUMBNAIL = 640, 1280, 256
# Where numbers and arrows go is found on a map of this size.
COARSE = 256
PLACE_OF_FACTS = '__FACTS__'
Marks = dict[int, tuple[int, int, int]]


class View(NamedTuple):
    """A map to be drawn over the image (H, W), with the contours of :func:`draw_panoptic`."""

    name: str
    panoptic: np.ndarray
    marks: Marks


class Gallery:
    """Writes pictures image by image, and the page in the end.

    Args:
        folder: Empty, gets ``index.html`` and ``pictures``.
        title: Of the page.
        classes: Names.
        palette: RGB of each class.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
    ) -> None:
        self.folder, self.title, self.classes, self.palette = folder, title, classes, palette
        self._images: list[dict] = []
        (folder / 'pictures').mkdir()

    def add(
        self,
        name: str,
        photo: np.ndarray | None,
        views: Sequence[View],
        segments: Sequence[dict],
        pairs: Sequence[tuple[int, int, str]] | None,
        pq: float | None,
        missed: Sequence[int],
    ) -> None:
        """Draws an image.

        Args:
            name: To be shown.
            photo: (H, W, 3) uint8 RGB; None: there is none, maps are drawn over grey.
            views: Its maps, that of ``segments`` first.
            segments: ``id`` in the first view's map, ``label``, ``score`` (or None) and ``error``,
                a text, or None.
            pairs: Ids of who is in front and who is behind, and why; None where that is unknown.
            pq: 0..1, None or nan where there is none.
            missed: Labels of true segments that are missed.
        """
        number = f'{len(self._images) + 1:06}'
        height, width = views[0].panoptic.shape
        longer = max(height, width)
        for suffix, side in (('', min(max(longer, SMALLEST), LARGEST)), ('_small', THUMBNAIL)):
            size = [max(1, round(v * side / longer)) for v in (width, height)]
            if photo is None:
                resized = np.full((*size[::-1], 3), 128, np.uint8)
            else:
                kind = cv2.INTER_AREA if side < longer else cv2.INTER_CUBIC
                resized = cv2.resize(photo, size, interpolation=kind)
            self._write(f'{number}_photo{suffix}', resized)
            for view in views:
                panoptic = _shrink(view.panoptic, size)
                drawn = draw_panoptic(
                    resized, panoptic, self.classes, self.palette, view.marks, legend=False
                )
                self._write(f'{number}_{view.name}{suffix}', drawn)
        place_of = {segment['id']: i for i, segment in enumerate(segments)}
        anchors = _anchors(views[0].panoptic, list(place_of))
        areas = dict(zip(*(v.tolist() for v in np.unique(views[0].panoptic, return_counts=True))))
        self._images.append(
            dict(
                name=name,
                file=number,
                views=['photo', *(view.name for view in views)],
                size=[width, height],
                pq=_rounded(pq and 100 * pq, 1),
                segments=[
                    dict(
                        label=segment['label'],
                        score=_rounded(segment['score'], 3),
                        area=round(areas[segment['id']] / (height * width), 5),
                        at=anchor,
                        error=segment['error'],
                    )
                    for segment, anchor in zip(segments, anchors)
                ],
                pairs=pairs and [[place_of[front], place_of[b], why] for front, b, why in pairs],
                missed=list(missed),
            )
        )

    def _write(self, name: str, picture: np.ndarray) -> None:
        write_picture(self.folder / 'pictures' / f'{name}.jpg', picture)

    def close(self) -> None:
        """Writes the page."""
        facts = dict(
            title=self.title,
            classes=[
                dict(name=name, color='#' + bytes(color).hex())
                for name, color in zip(self.classes, self.palette)
            ],
            images=self._images,
        )
        # In a script element, "<" could end it or begin a comment. In ASCII alone, since names of
        # files that are not in UTF-8 have no other form.
        text = json.dumps(facts, separators=(',', ':'), allow_nan=False).replace('<', '\\u003c')
        template = files(__package__).joinpath('gallery.html').read_text('utf-8')
        page = template.replace(PLACE_OF_FACTS, text)
        (self.folder / 'index.html').write_text(page, 'utf-8')


def _rounded(value: float | None, digits: int) -> float | None:
    """None where there is no value, which JSON has no other word for."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _shrink(panoptic: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """At another width and height, by nearest neighbours."""
    return cv2.resize(panoptic.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)


def _anchors(panoptic: np.ndarray, ids: Sequence[int]) -> list[list[float]]:
    """Of each segment the pixel that is deepest inside: x and y in 0..1."""
    height, width = panoptic.shape
    scale = min(1, COARSE / max(height, width))
    coarse = _shrink(panoptic, [max(1, round(v * scale)) for v in (width, height)])
    anchors = []
    for segment in ids:
        mask = coarse == segment
        if not mask.any():  # too small for the coarse map
            mask = panoptic == segment
        depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(depth[1:-1, 1:-1].argmax()), mask.shape)
        anchors.append([round((x + 0.5) / mask.shape[1], 4), round((y + 0.5) / mask.shape[0], 4)])
    return anchors
