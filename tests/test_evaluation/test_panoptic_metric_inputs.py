"""What the panoptic metric does with odd data, other encodings and mistakes."""

import json
import math

import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from .panoptic_sets import (
    CATEGORIES,
    KEYS,
    META,
    NUM_CLASSES,
    build,
    evaluate,
    random_set,
    sample,
    samples_of,
    write_truth,
)


def test_no_predictions_no_annotations_no_images(tmp_path):
    truths, encoded = random_set(5, 5)
    paths = write_truth(tmp_path, truths)
    void = {i: np.full_like(pan, NUM_CLASSES) for i, pan in encoded.items()}
    options = dict(boundary=True, stuff_iou=True, classwise=True)

    def with_semantics(maps):
        semantics = {i: torch.from_numpy(pan % INSTANCE_OFFSET)[None] for i, pan in maps.items()}
        return [sample(i, maps[i], pred_sem_seg=dict(sem_seg=semantics[i])) for i in maps]

    scores = evaluate(paths, with_semantics(void), **options)
    assert {scores[key] for key in (*KEYS, 'BPQ', 'mIoU_St')} == {0.0}
    empty = {i: (np.zeros_like(ids), []) for i, (ids, _) in truths.items()}
    empty_paths = write_truth(tmp_path / 'empty', empty)
    # All that is predicted lies in void.
    for path, maps in ((empty_paths, encoded), (empty_paths, void), (paths, {})):
        scores = evaluate(path, with_semantics(maps), **options)
        assert all(math.isnan(scores[key]) for key in (*KEYS, 'BPQ', 'mIoU_St'))
        assert scores[f'PQ_{META["classes"][0]}'] == 0


def test_segment_ids_and_ignore_index(tmp_path):
    truths, encoded = random_set(6, 20)
    paths = write_truth(tmp_path, truths)
    expected = evaluate(paths, samples_of(encoded))
    by_id, ignoring = [], []
    for image_id, pan in encoded.items():
        codes, index = np.unique(pan, return_inverse=True)
        is_void = codes % INSTANCE_OFFSET == NUM_CLASSES
        ids = np.where(is_void, 0, 2**24 + np.arange(len(codes)))  # more than COCO's 24 bits
        info = [
            dict(id=int(i), category=int(code % INSTANCE_OFFSET))
            for i, code in zip(ids, codes)
            if i > 0
        ]
        segment_ids = torch.from_numpy(ids[index].reshape(pan.shape))[None]
        prediction = dict(segment_ids=segment_ids, segments_info=info)
        by_id.append(dict(sample(image_id, pan), pred_panoptic_seg=prediction))
        ignoring.append(sample(image_id, np.where(pan == NUM_CLASSES, 255, pan)))
        ignoring[-1]['pred_panoptic_seg']['ignore_index'] = 255
    assert evaluate(paths, by_id) == expected
    assert evaluate(paths, ignoring) == expected


def test_labels_go_by_name_whatever_the_order_in_the_file(tmp_path):
    truths, encoded = random_set(9, 20)
    expected = evaluate(write_truth(tmp_path, truths), samples_of(encoded), classwise=True)
    turned = write_truth(tmp_path, truths, CATEGORIES[::-1])
    assert evaluate(turned, samples_of(encoded), classwise=True) == expected


def test_listed_images_without_annotation_do_not_count(tmp_path):
    truths, encoded = random_set(10, 4)
    paths = write_truth(tmp_path, truths)
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    content['annotations'].pop()
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    samples = samples_of(encoded)
    assert evaluate(paths, samples) == evaluate(paths, samples[:-1])


def test_areas_that_cannot_be_are_those_of_the_png(tmp_path):
    truths, encoded = random_set(11, 20)
    for ids, segments in truths.values():
        for segment in segments:
            segment['area'] = int((ids == segment['id']).sum())
    expected = evaluate(write_truth(tmp_path, truths), samples_of(encoded))
    for wrong in (0, -5, math.nan, math.inf, None):
        for _, segments in truths.values():
            for segment in segments:
                segment['area'] = wrong
        assert evaluate(write_truth(tmp_path, truths), samples_of(encoded)) == expected


def test_backend_args(tmp_path):
    truths, encoded = random_set(12, 3)
    paths = write_truth(tmp_path, truths)
    expected = evaluate(paths, samples_of(encoded))
    for backend_args in (None, dict(backend='local')):
        assert evaluate(paths, samples_of(encoded), backend_args=backend_args) == expected
    with pytest.raises(
        ValueError, match=r's3://nowhere/a.json: .* cannot be read with backend_args'
    ):
        build(dict(paths, ann_file='s3://nowhere/a.json'))


def test_fusion_heads_results_are_read(tmp_path):
    """Samples as MMEngine hands them over, from the fusion head itself."""
    truths, encoded = random_set(7, 1)
    (image_id,) = truths
    paths = write_truth(tmp_path, truths)
    data = DetDataSample(metainfo=dict(img_id=image_id))
    data.pred_panoptic_seg = PixelData(
        metainfo=dict(segments_info=[]),
        sem_seg=torch.from_numpy(encoded[image_id])[None],
        segment_ids=torch.zeros(1, *encoded[image_id].shape, dtype=torch.int32),
    )
    evaluator = Evaluator(dict(type='mmbanet.PanopticMetric', **paths))
    evaluator.dataset_meta = META
    evaluator.process([data], {})
    scores = evaluator.evaluate(1)
    expected = evaluate(paths, samples_of(encoded))
    assert scores == pytest.approx(
        {f'coco_panoptic/{key}': value for key, value in expected.items()}, nan_ok=True
    )


def test_bad_input_is_refused(tmp_path):
    truths, encoded = random_set(8, 1)
    ((image_id, (ids, _)),) = truths.items()
    paths = write_truth(tmp_path, truths)
    good = sample(image_id, encoded[image_id])
    with pytest.raises(FileNotFoundError, match=r'annotation file not found: /.*nowhere.json'):
        build(dict(paths, ann_file='nowhere.json'))
    with pytest.raises(FileNotFoundError, match=r'seg_prefix is no folder: /.*nowhere'):
        build(dict(paths, seg_prefix='nowhere'))
    with pytest.raises(ValueError, match='boundary_dilation_ratio must be positive, got 0'):
        build(paths, boundary=True, boundary_dilation_ratio=0)
    with pytest.raises(ValueError, match='boundary_dilation_ratio must be positive, got nan'):
        build(paths, boundary=True, boundary_dilation_ratio=float('nan'))
    with pytest.raises(FileNotFoundError, match=r'no folder for image_counts: /.*none/counts.npz'):
        build(paths, image_counts=str(tmp_path / 'none' / 'counts.npz'))
    with pytest.raises(KeyError, match=r'image 5 is not in .*panoptic.json'):
        evaluate(paths, [dict(good, img_id=5)])

    def refused(message, error=ValueError, **prediction):
        with pytest.raises(error, match=f'image {image_id}: {message}'):
            evaluate(paths, [dict(good, pred_panoptic_seg=prediction)])

    sem_seg = good['pred_panoptic_seg']['sem_seg']
    refused(
        r'.* shape of the annotation, \(1, 14, 18\), got \(1, 14, 17\)', sem_seg=sem_seg[..., 1:]
    )
    refused(r'.* labels must be in 0..5, got values from 7 to 7', sem_seg=sem_seg * 0 + 3007)
    refused(r'.* labels must be in 0..5, got values from 999', sem_seg=sem_seg * 0 - 1)
    refused('pred_panoptic_seg must have sem_seg or segment_ids', KeyError, segments_info=[])
    ones = torch.ones_like(sem_seg)
    refused(r'.* does not list the segment_ids \[1\]', segment_ids=ones, segments_info=[])
    info = [dict(id=1, category=NUM_CLASSES)]
    refused('.* got values from 6 to 6', segment_ids=ones, segments_info=info)
    with pytest.raises(KeyError, match='stuff_iou needs pred_sem_seg'):
        evaluate(paths, [good], stuff_iou=True)
    for labels, message in ((sem_seg[0], 'shape of the ann'), (sem_seg * 0 + 7, 'from 7 to 7')):
        with pytest.raises(ValueError, match=f'image {image_id}: pred_sem_seg.*{message}'):
            evaluate(paths, [dict(good, pred_sem_seg=dict(sem_seg=labels))], stuff_iou=True)

    metric = build(paths)
    with pytest.raises(ValueError, match=r"missing: \['cat'\], unknown: \['class 0'\]"):
        metric.dataset_meta = dict(classes=[*META['classes'][1:], 'cat'])
    wrong = write_truth(
        tmp_path / 'wrong', {1: (ids, [dict(id=3, category_id=1, area=1, iscrowd=0)])}
    )
    with pytest.raises(ValueError, match=r'image 1 .*, segment 3: category_id 1 is not in'):
        build(wrong)
    png = tmp_path / 'png' / f'{image_id}.png'
    png.write_text('no picture')
    with pytest.raises(ValueError, match=r'/.*png: image .*: not readable as a PNG'):
        evaluate(paths, [good])
    png.unlink()
    with pytest.raises(FileNotFoundError, match=r'PNG of image .* not found: /.*.png'):
        evaluate(paths, [good])
