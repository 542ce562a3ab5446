"""What is drawn of a labelled image: its photograph, its map, and the truth with errors marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmbanet.structures import encode_ids
from mmbanet.visualization.gallery import View
from mmbanet.visualization.picture import ERROR_COLORS

from .image_sources import Frames
from .inference import read_image
from .labelled_images import LabelledImage


def read_photo(image: LabelledImage, frames: Frames) -> np.ndarray:
    """(H, W, 3) uint8 RGB, of the size of the map.

    Raises:
        OSError, ValueError: There is none.
    """
    if image.frame is not None:
        photo = frames.read(image.path, image.frame)
    elif not image.path.is_file():
        raise FileNotFoundError(f'{image.path.absolute()} is not there; --images names its folder')
    else:
        photo = read_image(image.path)
    if photo.shape[:2] != image.ids.shape:
        raise ValueError(
            f'{image.path}: has {photo.shape[:2]} pixels (height, width), its map {image.ids.shape}'
        )
    return photo[..., ::-1]


def views_of(image: LabelledImage, is_thing: Sequence[bool]) -> tuple[dict[int, int], list[View]]:
    """The ids of the segments in mmdet's encoding, and the maps: the image's, and its truth if any.

    Errors are marked as in :data:`~mmbanet.visualization.picture.ERROR_COLORS`.
    """
    label_of = {segment['id']: segment['label'] for segment in image.segments}
    codes, panoptic = _encode(image.ids, label_of, is_thing)
    views, judgement = [View('map', panoptic, {})], image.judgement
    if judgement is None:
        return codes, views
    kinds = [dict.fromkeys(ids, 'unmatched') for ids in (judgement.missed, judgement.false)]
    for pair in judgement.confused:
        for kind, segment_id in zip(kinds, pair):
            kind[segment_id] = 'wrong_class'
    true_codes, truth = _encode(judgement.ids, judgement.labels, is_thing)
    views.append(View('truth', truth, {}))
    for view, kind, of_view in zip(views, reversed(kinds), (codes, true_codes)):
        view.marks.update((of_view[i], ERROR_COLORS[error]) for i, error in kind.items())
    return codes, views


def _encode(
    ids: np.ndarray, label_of: dict[int, int], is_thing: Sequence[bool]
) -> tuple[dict[int, int], np.ndarray]:
    """The id of each segment in mmdet's encoding, and the map in it."""
    codes = {}
    for number, (segment_id, label) in enumerate(label_of.items(), start=1):
        code = encode_ids(label, number if is_thing[label] else 0)
        # The format forbids two segments of one stuff class, but some files have them.
        codes[segment_id] = encode_ids(label, number) if code in codes.values() else code
    values, inverse = np.unique(ids, return_inverse=True)
    table = np.array([codes.get(i, len(is_thing)) for i in values.tolist()], dtype=np.int32)
    return codes, table[inverse].reshape(ids.shape)
