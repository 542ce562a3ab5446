"""Annotated things of known depth: their masks, and which predicted objects they match."""

import cv2
import numpy as np

from mmbanet.datasets import PanopticAnnotations
from mmbanet.scenes import generate_scenes, true_depth
from mmbanet.scenes.true_depth import TrueDepth


def columns(start, stop):
    mask = np.zeros((4, 20), dtype=bool)
    mask[:, start:stop] = True
    return mask


def test_objects_match_the_full_or_the_visible_mask():
    amodal = np.stack([columns(0, 14), columns(4, 20)])
    visible = np.stack([amodal[0], amodal[1] & ~amodal[0]])
    truth = TrueDepth(np.array([0, 1]), amodal, visible)
    labels = np.array([1, 0])
    # The visible mask is 6 of 16 columns: an IoU of less than half with the full one.
    assert truth.match(np.stack([visible[1], amodal[0]]), labels) == {0: 1, 1: 0}
    assert truth.match(np.stack([amodal[1], amodal[0]]), labels) == {0: 1, 1: 0}


def test_objects_match_by_more_than_half_one_to_one_and_by_class():
    masks = np.stack([columns(0, 14), columns(15, 20)])
    truth = TrueDepth(np.array([0, 1]), masks, masks)
    assert truth.match(columns(0, 8)[None], np.array([0])) == {0: 0}
    assert truth.match(columns(0, 7)[None], np.array([0])) == {}
    assert truth.match(masks, np.array([1, 1])) == {1: 1}
    assert truth.match(masks[[0, 0, 1]], np.array([0, 0, 1])) == {0: 0, 2: 1}


def test_shared_pixels_are_counted_in_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    masks = rng.random((9, 37, 41)) < 0.4
    labels = np.zeros(9, dtype=np.int64)
    truth = TrueDepth(labels, masks, masks & ~masks[::-1])
    flat = masks.reshape(9, -1).astype(int)
    shared = flat @ flat.T
    least = np.minimum(shared.diagonal()[:, None], shared.diagonal())
    expected = {
        (i, j) for i in range(9) for j in range(i + 1, 9) if shared[i, j] > 0.4 * least[i, j]
    }
    assert 5 < len(expected) < 31
    whole = truth.occluded_pairs(0.4)
    monkeypatch.setattr(true_depth, 'PIXEL_BLOCK', 100)
    assert whole == truth.occluded_pairs(0.4) == expected
    assert truth.match(masks[::-1], labels) == {k: 8 - k for k in range(9)}


def test_visible_masks_are_what_the_png_shows(tmp_path):
    root = generate_scenes(tmp_path / 'scenes', train=0, val=3, size=96, seed=1, workers=1)
    annotations = PanopticAnnotations(str(root / 'annotations' / 'panoptic_val.json'))
    labels = {c['id']: i for i, c in enumerate(annotations.categories) if c['isthing']}
    for image_id, annotation in annotations.annotations.items():
        bgr = cv2.imread(str(root / 'annotations' / 'panoptic_val' / annotation['file_name']))
        ids = bgr.astype(int) @ [65536, 256, 1]
        truth = TrueDepth.from_annotation(annotations, image_id, labels)
        things = {s['id'] for s in annotation['segments_info'] if s['category_id'] in labels}
        ordered = [i for i in annotation['depth_order'] if i in things]
        assert len(truth.labels) == len(ordered)
        for visible, segment_id in zip(truth.visible, ordered):
            assert np.array_equal(visible, ids == segment_id)
