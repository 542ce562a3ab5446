"""One picture of a panoptic map: names, void, errors by PQ's matching; mmdet's hook draws it."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData, PixelData

from mmbanet.structures.matching import (
    Segments,
    TrueSegments,
    count_overlaps,
    find_runs,
    match_segments,
    segment_iou,
)
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


def test_errors_are_those_that_pq_counts():
    """Of random maps with void and crowds, by the matching of the metric."""
    generator, wrong = np.random.default_rng(0), 0
    ids = np.array([CAT, OTHER_CAT, DOG, GRASS, VOID, 0, 1])  # 0 and 1: crowds of cats and dogs
    for _ in range(200):
        truth = np.repeat(generator.choice(ids, (6, 8)), 5, axis=1)
        found = np.where(generator.random(truth.shape) < 0.3, generator.permutation(truth), truth)
        swapped = generator.permutation(ids[:3])
        found = np.select([found == i for i in ids[:3]] + [found < 2], [*swapped, CAT], found)
        crowds = [0, 1]
        errors = find_errors(truth, found, len(CLASSES), crowds)

        listed = [i for i in np.unique(truth) if i != VOID]
        true_segments = TrueSegments(
            # COCO's 0 is void; mmdet's ids one up, since a crowd's may be 0 there.
            np.array([0, *(i + 1 for i in listed), 2**24]),
            np.array([-1, *(i % 1000 for i in listed), -1]),
            np.array([0, *((truth == i).sum() for i in listed), 0], dtype=float),
            np.array([False, *(i not in crowds for i in listed), False]),
            {int(i): listed.index(i) + 1 for i in listed if i in crowds},
        )
        values = np.unique(found)
        prediction = Segments(values, np.where(values == VOID, -1, values % 1000))
        runs = find_runs(np.where(truth == VOID, 0, truth + 1), found)
        overlaps = count_overlaps(true_segments, prediction, runs)
        iou = segment_iou(overlaps, true_segments.areas, overlaps)
        matches = match_segments(true_segments, prediction, overlaps, iou)
        missed = {i - 1 for i in true_segments.ids[matches.is_missed].tolist()}
        assert missed == {*errors.missed, *(pair[0] for pair in errors.confused)}
        is_confused = {pair[1] for pair in errors.confused}
        assert set(values[matches.is_false].tolist()) - is_confused == set(errors.false)
        wrong += len(missed)
    assert wrong > 100


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


def test_names_are_not_of_ascii_alone():
    """OpenCV writes a question mark for each byte, so that two words of a length are one."""

    def legend(name):
        panoptic = blocks(0, 0, 0, 0, 0)
        drawn = draw_panoptic(np.zeros((40, 100, 3), np.uint8), panoptic, [name], PALETTE[:1])
        assert (drawn[:40] < 20).all(axis=2).any()  # written in the segment, too
        return drawn[40:]

    words = [legend(name) for name in ('дорога', 'собака', 'Fußweg', 'Fusweg', 'a\nb')]
    for i, word in enumerate(words):
        assert (word < 100).all(axis=2).sum() > 10
        assert not any(np.array_equal(word, other) for other in words[:i])


def test_a_name_stands_in_the_middle_of_its_room():
    panoptic = blocks(GRASS, CAT, CAT, CAT, CAT, GRASS, width=25)
    image = np.full((40, 150, 3), 128, np.uint8)
    drawn = draw_panoptic(image, panoptic, ['cat', 'dog', ''], PALETTE, legend=False)
    outline = np.argwhere((drawn < 20).all(axis=2))
    assert np.abs(outline.mean(axis=0) - (20, 75)).max() < 4


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


@pytest.mark.parametrize('is_thing', [True, False])
def test_crowds_are_neither_missed_nor_false(visualizer, tmp_path, is_thing):
    if is_thing:  # else: a class of stuff, which is missed
        visualizer.dataset_meta['thing_classes'] = CLASSES[:2]
    truth = blocks(GRASS, CAT, 1, 1)  # dogs, no one of which is told apart
    sample = make_sample(blocks(GRASS, CAT, DOG, VOID), truth)
    visualizer.add_datasample('name', np.zeros((40, 80, 3), np.uint8), sample)
    red = (written(tmp_path)[:40] == ERROR_COLORS['unmatched']).all(axis=2)
    assert red.any() != is_thing


class Recorder:
    """In place of TensorBoard's writer and of WandB."""

    def __init__(self, *_):
        self.images = {}

    def add_image(self, name, image, step, dataformats):
        assert dataformats == 'HWC'
        self.images[name, step] = image

    def init(self, **_):
        """WandB's, which starts a run."""

    Image = staticmethod(np.asarray)

    def log(self, values, commit):
        self.images.update(values)

    def close(self):
        """TensorBoard's."""

    def join(self):
        """WandB's."""


@pytest.mark.parametrize('backend', ['TensorboardVisBackend', 'WandbVisBackend'])
def test_backends_get_the_picture(backend, tmp_path, monkeypatch):
    recorder = Recorder()
    module = SimpleNamespace(SummaryWriter=lambda *_: recorder)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    monkeypatch.setitem(sys.modules, 'wandb', recorder)
    visualizer = VISUALIZERS.build(
        dict(
            type='mmbanet.PanopticVisualizer',
            vis_backends=[dict(type=backend)],
            save_dir=str(tmp_path),
            name=f'{backend} {tmp_path}',
        )
    )
    visualizer.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    panoptic = blocks(GRASS, CAT, CAT, CAT)
    image = np.zeros((40, 80, 3), np.uint8)
    visualizer.add_datasample('val_img', image, make_sample(panoptic, panoptic), step=3)
    key = ('val_img', 3) if backend.startswith('T') else 'val_img'
    assert list(recorder.images) == [key]
    assert recorder.images[key].shape[1:] == (160, 3)


@pytest.mark.parametrize(
    ('options', 'width'), [(dict(draw_gt=False), 80), (dict(draw_pred=False), 80), ({}, 160)]
)
def test_only_what_is_asked_for_is_drawn(visualizer, tmp_path, options, width):
    image = np.zeros((40, 80, 3), np.uint8)
    panoptic = blocks(GRASS, CAT, CAT, CAT)
    out = tmp_path / 'new' / 'picture.png'
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

    runner = SimpleNamespace(iter=0, work_dir=str(tmp_path), timestamp='now')
    hook.after_val_iter(runner, 0, {}, [sample])
    assert written(tmp_path).shape[1] == 80
    hook = DetVisualizationHook(draw=True, interval=1, test_out_dir='tested')
    hook.after_test_iter(runner, 0, {}, [sample])
    assert cv2.imread(str(tmp_path / 'now' / 'tested' / 'image.jpg')).shape[1] == 80
