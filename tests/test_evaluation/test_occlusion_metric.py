"""The occlusion metric on hand-worked rectangles, and on generated scenes against a plain count."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import METRICS
from mmengine.structures import InstanceData, PixelData
from panopticapi.utils import id2rgb
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.datasets.image_files import EXIF_ORIENTATION
from mmbanet.models.fusion import explain_occlusion
from mmbanet.scenes import generate_scenes

SIZE = 20, 30
# name: label, y1, y2, x1, x2, colour. From front to back.
TIE = dict(label=1, box=(5, 9, 10, 13), colour=(200, 20, 20))
TWIN = dict(label=0, box=(2, 18, 16, 24), colour=(90, 90, 90))
PERSON = dict(label=0, box=(2, 18, 5, 20), colour=(95, 90, 90))
CATEGORIES = [
    dict(id=7, name='person', isthing=1),
    dict(id=9, name='tie', isthing=1),
    dict(id=30, name='sky', isthing=0),
]


def rectangle(y1, y2, x1, x2):
    mask = np.zeros(SIZE, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def write_truth(folder, things, image_id=1):
    """Annotation file and image of things from front to back on a sky."""
    sky = dict(label=2, box=(0, SIZE[0], 0, SIZE[1]), colour=(140, 190, 230))
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    segments = []
    for i, thing in enumerate([*things, sky]):
        rle = coco_mask.encode(np.asfortranarray(rectangle(*thing['box']), dtype=np.uint8))
        rle['counts'] = rle['counts'].decode()
        category = CATEGORIES[thing['label']]['id']
        segments.append(dict(id=100 + i, category_id=category, amodal_rle=rle))
    for thing in [sky, *reversed(things)]:
        image[rectangle(*thing['box'])] = thing['colour']
    annotation = dict(
        image_id=image_id,
        file_name=f'{image_id}.png',
        segments_info=segments[::-1],  # the order is depth_order's, not this one
        depth_order=[segment['id'] for segment in segments],
    )
    cv2.imwrite(str(folder / f'{image_id}.png'), image[..., ::-1])
    path = folder / 'panoptic.json'
    image = dict(id=image_id, file_name=f'{image_id}.png', height=SIZE[0], width=SIZE[1])
    content = dict(images=[image], annotations=[annotation], categories=CATEGORIES)
    path.write_text(json.dumps(content))
    return str(path)


def prediction(folder, things, preference=None, image_id=1, scores=None):
    """A data sample whose instances have the things' full masks and the given order."""
    masks = torch.from_numpy(np.stack([rectangle(*thing['box']) for thing in things]))
    scores = torch.linspace(0.9, 0.7, len(things)) if scores is None else torch.tensor(scores)
    order = scores.argsort(descending=True)
    wish = torch.zeros(len(things), len(things), dtype=torch.int8)
    for front, behind in preference or []:
        wish[front, behind], wish[behind, front] = 1, -1
    _, graph = explain_occlusion(
        masks[order], scores[order], torch.full((3, *SIZE), 50.0), preference=wish[order][:, order]
    )
    instances = InstanceData(
        masks=masks, scores=scores, labels=torch.tensor([thing['label'] for thing in things])
    )
    panoptic = PixelData(metainfo=dict(occlusion=graph, detections=order))
    return dict(
        img_id=image_id,
        img_path=str(folder / f'{image_id}.png'),
        pred_instances=instances.to_dict(),
        pred_panoptic_seg=panoptic.to_dict(),
    )


def evaluate(truth, *samples):
    """Scores on an annotation file, or with the given arguments of the metric."""
    truth = truth if isinstance(truth, dict) else dict(ann_file=truth)
    metric = METRICS.build(dict(type='mmbanet.OcclusionMetric', **truth))
    for sample in samples:
        metric.process({}, [sample])
    scores = metric.evaluate(len(samples))
    return {name.removeprefix('occlusion/'): value for name, value in scores.items()}


def test_each_kind_of_pair(tmp_path):
    things = [TIE, TWIN, PERSON]
    path = write_truth(tmp_path, things)
    scores = evaluate(path, prediction(tmp_path, things, [(0, 2), (1, 2)]))
    assert scores == dict(
        accuracy=100,
        pairs=2,
        accuracy_same_class=100,
        pairs_same_class=1,  # the twin and the person
        accuracy_small_on_large=100,
        pairs_small_on_large=1,  # the tie and the person
        accuracy_alike=100,
        pairs_alike=1,
        accuracy_any_overlap=100,
        pairs_any_overlap=2,
        recall=100,
    )
    scores = evaluate(path, prediction(tmp_path, things, [(0, 2), (2, 1)]))
    assert scores['accuracy'] == 50
    assert scores['accuracy_small_on_large'] == 100
    assert scores['accuracy_same_class'] == scores['accuracy_alike'] == 0
    scores = evaluate(path, prediction(tmp_path, things, [(2, 0), (2, 1)]))
    assert scores['accuracy'] == scores['accuracy_any_overlap'] == 0


def test_order_of_detections_and_scores_do_not_matter(tmp_path):
    path = write_truth(tmp_path, [TIE, TWIN, PERSON])
    shuffled = [PERSON, TIE, TWIN]
    sample = prediction(tmp_path, shuffled, [(1, 0), (0, 2)], scores=[0.7, 0.9, 0.8])
    scores = evaluate(path, sample)
    assert scores['accuracy'] == 50
    assert scores['accuracy_small_on_large'] == 100


def test_images_add_up(tmp_path):
    things = [TIE, TWIN, PERSON]
    path = write_truth(tmp_path, things)
    right = prediction(tmp_path, things, [(0, 2), (1, 2)])
    wrong = prediction(tmp_path, things, [(2, 0), (2, 1)])
    scores = evaluate(path, right, wrong, right)
    assert scores['pairs'] == 6
    assert scores['accuracy'] == pytest.approx(100 * 4 / 6)


def test_what_was_not_detected_lowers_the_recall_only(tmp_path):
    path = write_truth(tmp_path, [TIE, TWIN, PERSON])
    scores = evaluate(path, prediction(tmp_path, [TIE, PERSON], [(0, 1)]))
    assert (scores['accuracy'], scores['pairs'], scores['recall']) == (100, 1, 50)
    assert math.isnan(scores['accuracy_same_class'])
    assert scores['pairs_same_class'] == 0
    # Of another class, or too far from any thing: not matched.
    for other in (dict(TIE, label=0), dict(TIE, box=(5, 9, 10, 20))):
        scores = evaluate(path, prediction(tmp_path, [other, PERSON], [(0, 1)]))
        assert math.isnan(scores['accuracy'])
        assert scores['recall'] == 0


def test_a_leaking_mask_is_no_true_occlusion(tmp_path):
    # The person's true edge is at 20, the twin begins at 19; the prediction is off by 4 columns.
    twin = dict(TWIN, box=(2, 18, 19, 25))
    leaking = dict(PERSON, box=(2, 18, 5, 24))
    path = write_truth(tmp_path, [twin, PERSON])
    scores = evaluate(path, prediction(tmp_path, [twin, leaking], [(1, 0)]))
    assert math.isnan(scores['accuracy'])
    assert (scores['accuracy_any_overlap'], scores['pairs_any_overlap']) == (0, 1)
    assert math.isnan(scores['recall'])  # 1 of 6 columns: no occluded pair by rule 1


@pytest.mark.parametrize(
    ('edge', 'truly'),
    [(19, True), (20, False), (21, False)],  # 3 of 5, 6 and 7 columns of overlap are true
)
def test_an_overlap_must_be_true_for_the_most_part(tmp_path, edge, truly):
    # An occluded pair, 3 of the front's 10 columns; but the prediction of the one behind leaks.
    front, behind = dict(TWIN, box=(2, 18, 14, 24)), dict(PERSON, box=(2, 18, 5, 17))
    leaking = dict(behind, box=(2, 18, 5, edge))
    path = write_truth(tmp_path, [front, behind])
    scores = evaluate(path, prediction(tmp_path, [front, leaking], [(0, 1)]))
    assert (scores['pairs'], scores['recall']) == ((1, 100) if truly else (0, 0))
    assert (scores['accuracy_any_overlap'], scores['pairs_any_overlap']) == (100, 1)


@pytest.mark.parametrize(
    ('edge', 'pairs'),
    [(18, 0), (19, 1)],  # 2 and 3 of 10 columns
)
def test_a_pair_that_fusion_need_not_compare_is_not_judged(tmp_path, edge, pairs):
    front, behind = dict(TWIN, box=(2, 18, 16, 26)), dict(PERSON, box=(2, 18, 5, 20))
    path = write_truth(tmp_path, [front, behind])
    cut = dict(behind, box=(2, 18, 5, edge))
    scores = evaluate(path, prediction(tmp_path, [front, cut], [(0, 1)]))
    assert scores['pairs'] == scores['pairs_any_overlap'] == pairs
    assert scores['recall'] == 100 * pairs


@pytest.mark.parametrize(
    ('blue', 'cosine', 'alike'),
    [(60, 0.985, True), (50, 0.971, True), (49, 0.969, False), (45, 0.962, False)],
)
def test_colours_that_are_alike(tmp_path, blue, cosine, alike):
    length = math.sqrt(2 * 90**2 + blue**2) * math.sqrt(3 * 90**2)
    assert (2 * 90**2 + 90 * blue) / length == pytest.approx(cosine, abs=1e-3)
    things = [TWIN, dict(PERSON, colour=(90, 90, blue))]
    scores = evaluate(write_truth(tmp_path, things), prediction(tmp_path, things, [(0, 1)]))
    assert (scores['pairs'], scores['pairs_alike']) == (1, int(alike))


def test_a_thing_is_matched_by_one_object_only(tmp_path):
    things = [TIE, PERSON]
    path = write_truth(tmp_path, things)
    twice = prediction(tmp_path, [TIE, PERSON, PERSON], [(0, 1), (0, 2)])
    scores = evaluate(path, twice)
    assert (scores['pairs'], scores['pairs_any_overlap'], scores['recall']) == (1, 1, 100)


def test_generated_scenes_against_a_plain_count(tmp_path):
    root = generate_scenes(tmp_path / 'scenes', train=0, val=12, size=96, seed=3, workers=1)
    path = root / 'annotations' / 'panoptic_val.json'
    content = json.loads(path.read_text())
    labels = {c['id']: i for i, c in enumerate(content['categories']) if c['isthing']}
    names = {image['id']: image['file_name'] for image in content['images']}
    samples, right = [], []
    for annotation in content['annotations']:
        segments = {s['id']: s for s in annotation['segments_info']}
        things = [segments[i] for i in annotation['depth_order']]
        things = [s for s in things if s['category_id'] in labels]
        masks = np.stack([coco_mask.decode(s['amodal_rle']).astype(bool) for s in things])
        image = cv2.imread(str(root / 'val' / names[annotation['image_id']]))[..., ::-1]
        count = len(things)
        shuffle = np.random.default_rng(annotation['image_id']).permutation(count)
        _, graph = explain_occlusion(
            torch.from_numpy(masks[shuffle]),
            torch.linspace(0.9, 0.6, count),
            torch.from_numpy(image.transpose(2, 0, 1).copy()),
        )
        for i in range(count):
            for j in range(count):
                front, behind = shuffle[i], shuffle[j]
                shared = (masks[front] & masks[behind]).sum()
                least = min(masks[front].sum(), masks[behind].sum())
                if front < behind and shared > 0.2 * least:
                    right.append(bool(graph.in_front[i, j]))
        instances = InstanceData(
            masks=torch.from_numpy(masks[shuffle]),
            labels=torch.tensor([labels[things[k]['category_id']] for k in shuffle]),
        )
        panoptic = PixelData(metainfo=dict(occlusion=graph, detections=torch.arange(count)))
        samples.append(
            dict(
                img_id=annotation['image_id'],
                img_path=str(root / 'val' / names[annotation['image_id']]),
                pred_instances=instances.to_dict(),
                pred_panoptic_seg=panoptic.to_dict(),
            )
        )
    scores = evaluate(str(path), *samples)
    assert scores['pairs'] == len(right) > 20
    assert scores['recall'] == 100
    assert scores['accuracy'] == pytest.approx(100 * np.mean(right))
    assert scores['accuracy'] > 55  # full masks, the paper's appearance: better than a coin


def write_coco(folder, things, shown):
    """The same truth as COCO says it: instances that overlap, and a map of their indices, or -1."""
    path = write_truth(folder, things)
    content = json.loads((folder / 'panoptic.json').read_text())
    (folder / 'png').mkdir(exist_ok=True)
    ids = np.where(shown < 0, 100 + len(things), 100 + shown)
    Image.fromarray(id2rgb(ids)).save(folder / 'png' / '1.png')
    instances = []
    for segment in content['annotations'][0]['segments_info']:
        mask = segment.pop('amodal_rle')
        if segment['category_id'] != 30:
            instances.append(dict(segment, image_id=1, segmentation=mask))
    del content['annotations'][0]['depth_order']
    (folder / 'panoptic.json').write_text(json.dumps(content))
    content.update(annotations=instances, categories=CATEGORIES[:2])
    (folder / 'instances.json').write_text(json.dumps(content))
    return dict(
        ann_file=path,
        seg_prefix=str(folder / 'png'),
        instances_ann_file=str(folder / 'instances.json'),
    )


def test_coco_itself_says_who_is_in_front(tmp_path):
    things = [TIE, TWIN, PERSON]
    shown = np.full(SIZE, -1)
    for k, thing in reversed(list(enumerate(things))):
        shown[rectangle(*thing['box'])] = k
    for wish in ([(0, 2), (1, 2)], [(0, 2), (2, 1)], [(2, 0), (2, 1)]):
        by_depth = evaluate(write_truth(tmp_path, things), prediction(tmp_path, things, wish))
        sample = prediction(tmp_path, things, wish)
        assert evaluate(write_coco(tmp_path, things, shown), sample) == pytest.approx(
            by_depth, nan_ok=True
        )
    # Of the twin and the person, whose overlap is half of either's, nothing is known.
    shown[2:10, 16:20] = 2
    scores = evaluate(write_coco(tmp_path, things, shown), sample)
    assert (scores['pairs'], scores['pairs_any_overlap'], scores['recall']) == (1, 1, 100)
    assert scores['accuracy'] == 0


@pytest.mark.parametrize('name', ['seg_prefix', 'instances_ann_file'])
def test_half_of_coco_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match='instances_ann_file and seg_prefix must be given togeth'):
        evaluate({'ann_file': write_truth(tmp_path, [TIE, PERSON]), name: str(tmp_path)})


@pytest.mark.parametrize('saved', [False, True])
def test_no_instances(tmp_path, saved):
    """As the model gives them, or as mmdet has saved them."""
    path = write_truth(tmp_path, [TIE, PERSON])
    sample = prediction(tmp_path, [TIE, PERSON])
    for name in ('masks', 'labels', 'scores'):
        sample['pred_instances'][name] = sample['pred_instances'][name][:0]
    if saved:
        sample['pred_instances']['masks'] = []
    _, graph = explain_occlusion(
        torch.zeros(0, *SIZE, dtype=torch.bool), torch.zeros(0), torch.zeros(3, *SIZE)
    )
    sample['pred_panoptic_seg'].update(occlusion=graph, detections=torch.arange(0))
    scores = evaluate(path, sample)
    assert scores['pairs'] == scores['recall'] == 0
    assert math.isnan(scores['accuracy'])
    # A scene without things, too.
    assert math.isnan(evaluate(write_truth(tmp_path, []), sample)['recall'])


def test_an_image_without_segments(tmp_path):
    path = write_truth(tmp_path, [TIE, PERSON])
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    content['annotations'][0].update(segments_info=[], depth_order=[])
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    scores = evaluate(path, prediction(tmp_path, [TIE, PERSON], [(0, 1)]))
    assert scores['pairs'] == scores['pairs_any_overlap'] == 0
    assert math.isnan(scores['recall'])


@pytest.mark.parametrize('orientation', [3, 6])
def test_images_that_are_loaded_as_they_are_stored(tmp_path, orientation):
    """Turned by half, an image has the size of the annotation and other colours."""
    things = [TIE, TWIN, PERSON]
    path = write_truth(tmp_path, things)
    sample = prediction(tmp_path, things, [(0, 2), (1, 2)])
    expected = evaluate(path, sample)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    turned = str(tmp_path / 'turned.jpg')
    Image.open(sample['img_path']).save(turned, quality=100, exif=exif)
    sample['img_path'] = turned
    stored = dict(ann_file=path, color_type='color_ignore_orientation')
    assert evaluate(stored, sample) == expected
    if orientation == 6:
        with pytest.raises(ValueError, match=r'turned\.jpg: color_type.* 30x20 .* with 20x30'):
            evaluate(path, sample)


def test_images_without_annotation_keep_their_place(tmp_path):
    """By which MMEngine finds what pads a rank."""
    path = write_truth(tmp_path, [TIE, PERSON])
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    content['images'].append(dict(content['images'][0], id=2))
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    sample = prediction(tmp_path, [TIE, PERSON], [(0, 1)])
    metric = METRICS.build(dict(type='mmbanet.OcclusionMetric', ann_file=path))
    metric.process({}, [dict(sample, img_id=2), sample])
    assert len(metric.results) == 2
    assert metric.evaluate(2)['occlusion/pairs'] == 1


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'annotation file not found: .*nowhere.json'):
        evaluate(str(tmp_path / 'nowhere.json'))
    path = write_truth(tmp_path, [TIE, PERSON])
    sample = prediction(tmp_path, [TIE, PERSON], [(0, 1)])
    with pytest.raises(KeyError, match=r'image 5 is not in .*panoptic.json'):
        evaluate(path, dict(sample, img_id=5))
    with pytest.raises(TypeError, match=r'needs the fusion head mmbanet.OcclusionAwareFusionHead'):
        evaluate(path, dict(sample, pred_panoptic_seg={}))
    instances = dict(sample['pred_instances'], masks=sample['pred_instances']['masks'][..., 1:])
    with pytest.raises(ValueError, match=r'image 1: masks must have .* \(20, 30\), got \(20, 29\)'):
        evaluate(path, dict(sample, pred_instances=instances))
    with pytest.raises(FileNotFoundError, match='image not found: '):
        evaluate(path, dict(sample, img_path=str(tmp_path / 'gone.png')))
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    del content['annotations'][0]['depth_order']
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'image 1 .*no depth_order and amodal_rle'):
        evaluate(path, sample)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda a: a.update(depth_order=[100, 101, 7]), 'depth_order must hold the ids'),
        (lambda a: a.update(depth_order=[100, 101]), 'depth_order must hold the ids'),
        (lambda a: a.update(depth_order='front'), 'depth_order must hold the ids'),
        (lambda a: a['segments_info'][2].update(amodal_rle='rle'), 'segment 100: amodal_rle'),
        (lambda a: a['segments_info'][2]['amodal_rle'].update(counts='garbage'), 'segment 100'),
        (lambda a: a['segments_info'][2]['amodal_rle'].update(size=[9, 9]), 'segment 100'),
        (lambda a: a['segments_info'][2].update(id='100'), '"id" must be an integer'),
    ],
)
def test_malformed_depth_is_refused_with_the_files_name(tmp_path, change, message):
    path = write_truth(tmp_path, [TIE, PERSON])
    sample = prediction(tmp_path, [TIE, PERSON], [(0, 1)])
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    change(content['annotations'][0])
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf'panoptic\.json: image 1 .*{message}'):
        evaluate(path, sample)


def test_results_that_mmdet_has_saved(tmp_path):
    things = [TIE, TWIN, PERSON]
    path = write_truth(tmp_path, things)
    sample = prediction(tmp_path, things, [(0, 2), (2, 1)])
    saved = dict(sample, pred_instances=dict(sample['pred_instances']))
    masks = np.asfortranarray(sample['pred_instances']['masks'].numpy().transpose(1, 2, 0))
    saved['pred_instances']['masks'] = coco_mask.encode(masks.astype(np.uint8))
    panoptic = sample['pred_panoptic_seg']
    saved['pred_panoptic_seg'] = dict(panoptic, occlusion=tuple(panoptic['occlusion']))
    scores = evaluate(path, saved)
    assert scores == pytest.approx(evaluate(path, sample), nan_ok=True)
    assert scores['pairs'] > 0
