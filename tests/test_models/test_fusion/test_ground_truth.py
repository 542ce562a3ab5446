"""The ground truth of a real image through the fusion head, scored by the official panopticapi."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.structures import InstanceData
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import id2rgb, rgb2id
from PIL import Image

from mmbanet.models.fusion import OcclusionAwareFusionHead

from ...conftest import COCO_SAMPLE

pytestmark = pytest.mark.skipif(
    not COCO_SAMPLE.is_dir(), reason=f'needs the COCO sample in {COCO_SAMPLE}'
)
PANOPTIC = COCO_SAMPLE / 'annotations' / 'panoptic_val2017'
# The paper's settings, all of them.
TEST_CFG = dict(
    score_thr=0.6,
    nms=dict(type='nms', iou_threshold=0.5),
    occlusion_thr=0.2,
    removal_thr=0.5,
    stuff_area_limit=4096,
)


@pytest.fixture(scope='module')
def annotations():
    return json.loads(PANOPTIC.with_suffix('.json').read_text())


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert('RGB'))


def perfect_predictions(annotations):
    """Instances of score 1, one-hot logits, RGB and the true map; crowds only in the logits."""
    (annotation,) = annotations['annotations']
    labels = {category['id']: i for i, category in enumerate(annotations['categories'])}
    things = {category['id'] for category in annotations['categories'] if category['isthing']}
    truth = torch.from_numpy(rgb2id(read(PANOPTIC / annotation['file_name'])).astype(np.int64))
    logits = torch.zeros(len(labels), *truth.shape)
    masks, boxes, classes = [], [], []
    for segment in annotation['segments_info']:
        mask = truth == segment['id']
        logits[labels[segment['category_id']]][mask] = 1
        # A crowd is not one object: no detection for it, and it is ignored in scoring.
        if segment['category_id'] in things and not segment['iscrowd']:
            x, y, w, h = segment['bbox']
            masks.append(mask)
            boxes.append([x, y, x + w, y + h])
            classes.append(labels[segment['category_id']])
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.ones(len(masks)),
        labels=torch.tensor(classes),
        masks=torch.stack(masks),
    )
    image = read(COCO_SAMPLE / 'val2017' / annotation['file_name'].replace('.png', '.jpg'))
    return instances, logits, torch.from_numpy(image).permute(2, 0, 1), truth


def official_pq(panoptic, annotations, folder):
    """PQ of all, of things and of stuff, in percent, of mmdet's encoding written as COCO's."""
    (annotation,) = annotations['annotations']
    categories = {category['id']: category for category in annotations['categories']}
    ids = list(categories)
    panoptic = np.where(panoptic % INSTANCE_OFFSET == len(ids), 0, panoptic)
    segments = [
        dict(id=int(i), category_id=ids[i % INSTANCE_OFFSET]) for i in np.unique(panoptic) if i
    ]
    Image.fromarray(id2rgb(panoptic)).save(folder / annotation['file_name'])
    predicted = dict(file_name=annotation['file_name'], segments_info=segments)
    stat = pq_compute_single_core(0, [(annotation, predicted)], PANOPTIC, folder, categories)
    return [100 * stat.pq_average(categories, isthing)[0]['pq'] for isthing in (None, True, False)]


@pytest.mark.parametrize('order', [dict(type='mmbanet.MeanColor'), None])
def test_ground_truth_scores_100(annotations, order, tmp_path):
    instances, logits, image, truth = perfect_predictions(annotations)
    head = OcclusionAwareFusionHead(80, 53, order, test_cfg=TEST_CFG)
    (result,) = head.predict([instances], [logits], [image])
    panoptic = result.sem_seg[0].numpy()
    assert official_pq(panoptic, annotations, tmp_path) == [100.0, 100.0, 100.0]
    # Unlabelled pixels and the crowd are void, and nothing else is.
    (annotation,) = annotations['annotations']
    crowds = [segment['id'] for segment in annotation['segments_info'] if segment['iscrowd']]
    assert crowds
    assert np.array_equal(panoptic == head.num_classes, np.isin(truth, [0, *crowds]))


def test_a_wrong_prediction_scores_less(annotations, tmp_path):
    instances, logits, image, _ = perfect_predictions(annotations)
    head = OcclusionAwareFusionHead(80, 53, test_cfg=TEST_CFG)
    (result,) = head.predict([instances[2:]], [logits], [image])
    scores = official_pq(result.sem_seg[0].numpy(), annotations, tmp_path)
    assert scores[2] == 100.0
    assert scores[1] < 100.0
