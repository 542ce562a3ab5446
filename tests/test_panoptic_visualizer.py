"""One picture of a panoptic map: names, void, errors by PQ's matching; mmdet's hook draws it."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData, PixelData

from mmbanet.visualization import PanopticVisualizer, draw_panoptic, find_errors
from mmbanet.visualization.picture import ERROR_COLORS

CLASSES = ('cat', 'dog', 'grass')  # two things, one stuff
PALETTE = [(200, 50, 50), (50, 200, 50), (50, 50, 200)]
CAT, OTHER_CAT, DOG, GRASS, VOID = 1000, 2000, 1001, 2, 3


def blocks(*columns, height=40, width=20):
    """A map of columns."""
    return np.repeat(np.repeat([columns], height, axis=0), width, axis=1)


@pytest.mark.parametrize(
    ('truth', 'found', 'missed', 'false', 'confused'),
    [
        (blocks(CAT, GRASS), blocks(CAT, GRASS), [], [], []),
        # Another number of the same instance is the same.
        (blocks(CAT, GRASS), blocks(OTHER_CAT, GRASS), [], [], []),
        (blocks(CAT, GRASS), blocks(DOG, GRASS), [], [], [(CAT, DOG)]),
        # IoU of exactly a half matches nothing.
        (blocks(CAT, CAT, GRASS), blocks(CAT, GRASS, GRASS), [GRASS, CAT], [GRASS, CAT], []),
        (blocks(CAT, CAT, CAT, GRASS), blocks(CAT, CAT, CAT, CAT), [GRASS], [], []),
        (blocks(CAT, CAT, CAT), blocks(CAT, CAT, OTHER_CAT), [], [OTHER_CAT], []),
        # What the truth says nothing of counts neither as false nor in a union.
        (blocks(VOID, VOID, GRASS), blocks(CAT, CAT, GRASS), [], [], []),
        (blocks(CAT, VOID, VOID), blocks(CAT, CAT, CAT), [], [], []),
        (blocks(CAT, GRASS), blocks(VOID, VOID), [GRASS, CAT], [], []),
    ],
)
def test_errors_by_hand(truth, found, missed, false, confused):
    errors = find_errors(truth, found, len(CLASSES))
    assert errors == (sorted(missed), sorted(false), confused)


def test_names_legend_and_void():
    image = np.full((40, 120, 3), 100, np.uint8)
    panoptic = blocks(GRASS, GRASS, GRASS, VOID, VOID, CAT)
    panoptic[:3, :3] = DOG
    plain = draw_panoptic(image, panoptic, CLASSES, PALETTE, legend=False)
    assert plain.shape == image.shape
    with_legend = draw_panoptic(image, panoptic, CLASSES, PALETTE)
    assert (with_legend[:40] == plain).all()
    assert len(with_legend) > 40
    for label in range(3):  # each class has a swatch
        assert (with_legend[40:] == PALETTE[label]).all(axis=2).sum() >= 100
    # "grass" is written in its segment, in white over black, and nothing where there is no room.
    assert (plain[4:38, 4:56] < 20).all(axis=2).any()
    unnamed = np.full((40, 120), GRASS)
    assert (draw_panoptic(image, unnamed, CLASSES, PALETTE, legend=False) < 20).all(axis=2).any()
    assert not (plain[:3, :2] < 20).all(axis=2).any()
    # Void is stripes of two greys.
    assert len(np.unique(plain[5:35, 64:96].reshape(-1, 3), axis=0)) == 2


def test_marks_are_contours():
    image = np.zeros((40, 80, 3), np.uint8)
    panoptic = blocks(GRASS, CAT, CAT, GRASS)
    marks = {CAT: ERROR_COLORS['unmatched']}
    picture = draw_panoptic(image, panoptic, CLASSES, PALETTE, marks, legend=False)
    red = (picture == ERROR_COLORS['unmatched']).all(axis=2)
    assert red[:, 20].all()
    assert red[:, 59].all()
    assert not red[5:35, 25:55].any()
    assert not red[:, :15].any()


def make_sample(found, truth=None):
    sample = DetDataSample()
    sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(found)[None])
    if truth is not None:
        ids = [segment for segment in np.unique(truth) if segment >= 1000]
        masks = np.stack([truth == segment for segment in ids]).astype(np.uint8)
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(truth % 1000)[None])
        sample.gt_instances = InstanceData(
            labels=torch.tensor([segment % 1000 for segment in ids]),
            masks=BitmapMasks(masks, *truth.shape),
        )
    return sample


@pytest.fixture
def visualizer(tmp_path):
    config = dict(
        type='mmbanet.PanopticVisualizer',
        vis_backends=[dict(type='LocalVisBackend')],
        save_dir=str(tmp_path),
        name=f'panoptic {tmp_path}',
    )
    made = VISUALIZERS.build(config)
    assert isinstance(made, PanopticVisualizer)
    made.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    return made


def written(tmp_path):
    (path,) = tmp_path.rglob('*.png')
    return cv2.imread(str(path))[..., ::-1]


def test_truth_stands_beside_the_prediction_with_errors_marked(visualizer, tmp_path):
    image = np.zeros((40, 80, 3), np.uint8)
    truth, found = blocks(GRASS, CAT, CAT, CAT), blocks(GRASS, DOG, DOG, DOG)
    found[30:, :8] = CAT
    visualizer.add_datasample('name', image, make_sample(found, truth), step=7)
    picture = written(tmp_path)
    assert picture.shape[1] == 160
    left, right = picture[:40, :80], picture[:40, 80:]
    for side in (left, right):
        assert (side[5:35, 20] == ERROR_COLORS['wrong_class']).all()
    assert (right[31:39, 7] == ERROR_COLORS['unmatched']).all()
    assert not (left[:, :10] == ERROR_COLORS['unmatched']).all(axis=2).any()


@pytest.mark.parametrize(
    ('options', 'width'), [(dict(draw_gt=False), 80), (dict(draw_pred=False), 80), ({}, 160)]
)
def test_only_what_is_asked_for_is_drawn(visualizer, tmp_path, options, width):
    image = np.zeros((40, 80, 3), np.uint8)
    panoptic = blocks(GRASS, CAT, CAT, CAT)
    out = tmp_path / 'picture.png'
    visualizer.add_datasample(
        'name', image, make_sample(panoptic, panoptic), out_file=str(out), **options
    )
    assert written(tmp_path).shape[1] == width


def test_truth_of_another_size_is_left_out(visualizer, tmp_path):
    truth = blocks(GRASS, CAT, height=20)
    sample = make_sample(blocks(GRASS, CAT, CAT, CAT), truth)
    visualizer.add_datasample('name', np.zeros((40, 80, 3), np.uint8), sample)
    assert written(tmp_path).shape[1] == 80


def test_without_classes_it_says_so(visualizer):
    visualizer.dataset_meta = {}
    sample = make_sample(blocks(GRASS))
    with pytest.raises(ValueError, match='dataset_meta must have classes'):
        visualizer.add_datasample('name', np.zeros((40, 20, 3), np.uint8), sample)


def test_samples_without_panoptic_maps_are_mmdets(visualizer, tmp_path):
    sample = DetDataSample(
        pred_instances=InstanceData(
            bboxes=torch.tensor([[2.0, 2, 30, 30]]),
            labels=torch.tensor([0]),
            scores=torch.tensor([0.9]),
        )
    )
    visualizer.add_datasample('name', np.zeros((40, 80, 3), np.uint8), sample)
    assert written(tmp_path).any()


def test_mmdets_hook_draws_with_it(visualizer, tmp_path, monkeypatch):
    path = tmp_path / 'image.jpg'
    cv2.imwrite(str(path), np.zeros((40, 80, 3), np.uint8))
    sample = make_sample(blocks(GRASS, CAT, CAT, CAT))
    sample.set_metainfo(dict(img_path=str(path)))
    monkeypatch.setattr(PanopticVisualizer, 'get_current_instance', lambda: visualizer)
    monkeypatch.setattr(
        'mmengine.visualization.Visualizer.get_current_instance', lambda: visualizer
    )
    hook = DetVisualizationHook(draw=True, interval=1)

    class Runner:
        iter = 0

    hook.after_val_iter(Runner(), 0, {}, [sample])
    assert written(tmp_path).shape[1] == 80
