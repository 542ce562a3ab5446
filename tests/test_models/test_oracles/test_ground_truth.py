"""What the oracles read, from files through the shipped test pipeline and from samples."""

import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

from mmbanet.models.oracles import GroundTruth
from mmbanet.scenes.drawn.classes import CATEGORIES

from ...conftest import CONFIGS
from .scenes import GROUND, SIZE, SKY, make_sample, write_dataset

CPU = torch.device('cpu')


@pytest.fixture
def sample(tmp_path):
    """The image of files, resized by the test pipeline to 128 pixels of width."""
    write_dataset(tmp_path)
    cfg = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'scenes_panoptic.py')
    dataset = DATASETS.build(dict(cfg.val_dataloader.dataset, data_root=str(tmp_path)))
    return DetDataPreprocessor(pad_size_divisor=32)(pseudo_collate([dataset[0]]))['data_samples'][0]


def test_annotation_of_files(sample):
    truth = GroundTruth.from_sample(sample, CPU)
    # Pixels of the network's input, twice those of the image; the crowd is no thing.
    assert sample.img_shape == (64, 128)
    assert truth.boxes.tolist() == [[40, 32, 80, 60], [88, 8, 104, 40]]
    labels = {category['name']: label for label, category in enumerate(CATEGORIES)}
    assert truth.labels.tolist() == [labels['bus'], labels['figure']]
    bus, figure = torch.zeros(2, 32, 64, dtype=torch.bool)
    bus[16:30, 20:40] = True
    figure[4:20, 44:52] = True
    assert torch.equal(truth.masks, torch.stack([bus, figure]))
    expected = torch.full((32, 64), 255)
    expected[:16] = labels['wall']
    expected[16:, :20] = labels['ball']
    expected[bus], expected[figure] = labels['bus'], labels['figure']
    assert torch.equal(truth.semantics, expected)


def test_boxes_follow_both_scales():
    boxes = make_sample().gt_instances.bboxes
    truth = GroundTruth.from_sample(make_sample(scale=(0.5, 0.25)), CPU)
    assert torch.equal(truth.boxes, boxes * torch.tensor([0.5, 0.25, 0.5, 0.25]))


def test_resized():
    truth = GroundTruth.from_sample(make_sample(), CPU)
    half = truth.resized((64, 96))
    assert torch.equal(half.masks, truth.masks[:, 1::2, 1::2])
    assert torch.equal(half.semantics, truth.semantics[1::2, 1::2])
    assert torch.equal(half.boxes, truth.boxes)
    assert truth.resized(torch.Size(SIZE)) is truth


def test_image_without_things():
    truth = GroundTruth.from_sample(make_sample(things=()), CPU)
    assert truth.boxes.shape == (0, 4)
    assert truth.masks.shape == (0, *SIZE)
    assert truth.semantics.unique().tolist() == [SKY, GROUND, 255]
    assert truth.resized((64, 96)).masks.shape == (0, 64, 96)


def test_missing_annotation():
    sample = make_sample()
    del sample.gt_sem_seg, sample.gt_instances.masks
    message = r'image 7: .* missing gt_instances.masks, gt_sem_seg; .*LoadPanopticAnnotations'
    with pytest.raises(ValueError, match=message):
        GroundTruth.from_sample(sample, CPU)
    del sample.gt_instances
    with pytest.raises(ValueError, match=r'missing gt_instances\.bboxes, gt_instances.labels'):
        GroundTruth.from_sample(sample, CPU)


def test_annotation_that_was_resized():
    sample = make_sample()
    sample.gt_instances.masks = sample.gt_instances.masks.resize((64, 96))
    message = r'image 7: the annotated masks must .* \(128, 192\), got \(64, 96\); .*after Resize'
    with pytest.raises(ValueError, match=message):
        GroundTruth.from_sample(sample, CPU)
