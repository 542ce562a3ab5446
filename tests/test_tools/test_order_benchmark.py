"""The benchmark of order rules: true pairs, rules asked in turn, statistics, files."""

import itertools
import json
import runpy
import sys
from math import comb
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from pycocotools import mask as coco_mask

from mmbanet.datasets import OrderedThings, PanopticAnnotations
from mmbanet.models.fusion import ContourContrast, MeanColor, OrderRule
from mmbanet.scenes import compose_scenes, generate_scenes
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.scenes.photographs.source import PhotographSource
from mmbanet.scenes.true_depth import TrueDepth
from mmbanet.structures import ClaimRegions


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Any COCO panoptic set will do."""
    return generate_scenes(
        tmp_path_factory.mktemp('photographs') / 'set', train=0, val=30, seed=1, workers=2
    )


def test_tables_json_and_plot(photographs, benchmark_folder, tmp_path, monkeypatch, capsys):
    arguments = ['order.py', '--photographs', str(photographs), '--scenes', '12', '--seed', '3']
    monkeypatch.setattr(sys, 'argv', [*arguments, '--out', str(tmp_path)])
    runpy.run_path(str(benchmark_folder / 'order.py'), run_name='__main__')
    printed = capsys.readouterr().out
    text = (tmp_path / 'order.json').read_text()
    assert str(photographs) not in text
    report = json.loads(text)
    assert (tmp_path / 'order.png').stat().st_size > 10_000
    assert (tmp_path / 'order_examples.png').stat().st_size > 10_000
    assert 'lime: front, magenta: behind' in printed
    assert report['mask_head'] == SimulatedMaskHead()._asdict()
    assert (report['seed'], report['scenes'], report['split']) == (3, 12, 'val')
    assert report['data'] == 'photographs'
    assert report['model'] is None
    for masks in ('true', 'head'):
        result = report['masks'][masks]
        assert f'{masks} masks, {result["pairs"]} pairs of 12 scenes' in printed
        assert result['pairs'] > 10
        assert len(result['mcnemar']) == comb(len(result['rules']), 2)
        for name, row in result['rules'].items():
            assert f'| {name} | {row["all"]["percent"]:.1f} (' in printed
            for parts in (('same class', 'other class'), ('inside', 'crossing')):
                groups = [row[part] for part in parts if row[part]['pairs']]
                assert sum(group['pairs'] for group in groups) == result['pairs']
                total = sum(group['percent'] * group['pairs'] for group in groups)
                assert total / result['pairs'] == pytest.approx(row['all']['percent'], abs=0.02)
            assert sum(part['pairs'] for part in row['size']) == result['pairs']
            # What is not decided counts half.
            told, of_told = row['decided'] / 100, row['of_decided'].get('percent', 0)
            expected = told * of_told + (1 - told) * 50
            assert row['all']['percent'] == pytest.approx(expected, abs=0.02)
        for fact in ('size', 'share', 'contrast'):
            medians = [part['median'] for part in result['rules']['contour'][fact]]
            assert medians == sorted(medians)
            assert f'{fact} {medians[0]:.3g}' in printed
        shown = result['rules']['contour']['decided']
        assert shown < result['rules']['contour, all it finds']['decided']


def test_pairs_are_those_whose_order_the_pixels_show(photographs, benchmark_folder):
    import order_inputs

    composer = Composer(PhotographSource(photographs, 'val'), overlap=1.0)
    pairs = 0
    for index in range(10):
        drawn = composer.compose(np.random.default_rng([4, 1, index]))
        scene = order_inputs.load_scene(composer, None, 4, 'val', index)
        again = order_inputs.load_scene(composer, SimulatedMaskHead(), 4, 'val', index)
        assert torch.equal(scene.image, again.image)
        # JPEG changes little.
        difference = scene.image.permute(1, 2, 0).numpy().astype(int) - drawn.image
        assert abs(difference).mean() < 8
        expected = []
        masks = scene.masks.numpy()
        for front, behind in itertools.combinations(range(len(masks)), 2):
            both = masks[front] & masks[behind]
            smaller = min(masks[front].sum(), masks[behind].sum())
            hidden = both & masks[:front].any(axis=0)
            if (
                front < drawn.num_cutouts
                and both.sum() > 0.2 * smaller
                and smaller >= 30
                and hidden.sum() < 0.5 * both.sum()
            ):
                expected.append([front, behind])
        assert scene.pairs.tolist() == expected
        for (front, behind), fact in zip(expected, scene.facts):
            labels = [drawn.segments[k].label for k in (front, behind)]
            assert fact['same_class'] == (labels[0] == labels[1])
            assert fact['inside'] == (fact['share'] >= 0.9)
            assert 0.2 < fact['share'] <= 1
            assert fact['scene'] == index
        pairs += len(expected)
    assert pairs > 10


def test_rules_are_asked_in_turn(photographs, benchmark_folder):
    import order_inputs

    class Odd(OrderRule):
        """Knows the pairs whose second is odd."""

        asked = 0

        def evidence(self, image, regions, pairs):
            self.asked += 1
            return torch.where(pairs[:, 1] % 2 == 1, 7.0, 0.0).double()

    masks = torch.rand(4, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    image = torch.randint(0, 256, (3, 9, 9), generator=torch.Generator().manual_seed(1))
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3]])
    scene = order_inputs.Scene(image, masks, pairs, [])
    colour = MeanColor().evidence(image, ClaimRegions.from_masks(masks), pairs)
    assert (colour != 0).all()
    odd = Odd()
    found = order_inputs.ask({'both': [odd, MeanColor()], 'odd': [odd]}, scene)
    assert found['both'].tolist() == [7, colour[1], colour[2], 7]
    assert found['odd'].tolist() == [7, 0, 0, 7]
    assert odd.asked == 1


def test_contours_are_looked_at_once(photographs, benchmark_folder, monkeypatch):
    import order_inputs
    import order_rules

    composer = Composer(PhotographSource(photographs, 'val'), overlap=1.0)
    scenes = [order_inputs.load_scene(composer, None, 4, 'val', i) for i in range(3)]
    strengths, calls = ContourContrast.strengths, []
    monkeypatch.setattr(
        ContourContrast, 'strengths', lambda *given: calls.append(1) or strengths(*given)
    )
    # The combined rule looks at contours for itself.
    configs = {name: row for name, row in order_rules.RULES.items() if 'combined' not in name}
    rows = order_inputs.build_rows(configs)
    found = [order_inputs.ask(rows, scene) for scene in scenes]
    assert len(calls) == len(scenes)
    for scene, evidence in zip(scenes, found):
        regions = ClaimRegions.from_masks(scene.masks)
        for name, rule in (
            ('contour', ContourContrast()),
            ('contour, all it finds', ContourContrast(least_strength=0, least_difference=0)),
        ):
            expected = rule.evidence(scene.image, regions, scene.pairs)
            assert evidence[name].tolist() == expected.tolist()


def strip(*spans):
    masks = np.zeros((len(spans), 1, 20), dtype=bool)
    for mask, (start, stop) in zip(masks, spans):
        mask[0, start:stop] = True
    return masks


def test_detections_are_matched_one_to_one(benchmark_folder):
    import order_inputs

    masks = strip((0, 10), (5, 15), (16, 20))
    owner = np.full((1, 20), -1)
    owner[0, :10], owner[0, 10:15] = 0, 1
    things = OrderedThings('', np.zeros(3), masks, owner, np.zeros((3, 3)))
    # The first thing and a worse double; the second as it is seen; half of the third; none.
    detections = strip((0, 9), (0, 10), (10, 15), (16, 18), (15, 16))
    assert order_inputs.match(detections, things) == {0: 1, 1: 2, 2: 3}
    assert order_inputs.match(strip((16, 17)), things) == {}
    assert order_inputs.match(strip(), things) == {}
    # Larger IoUs choose first, in whatever order detections come.
    assert order_inputs.match(strip((0, 12), (0, 11)), things) == {0: 1}


@pytest.fixture
def perfect_detector(photographs, monkeypatch):
    """A model that sees every thing in full, but for the front-most of images of odd numbers."""
    file = PanopticAnnotations(str(photographs / 'annotations' / 'panoptic_val.json'))
    labels = {c['id']: i for i, c in enumerate(file.categories) if c['isthing']}
    known = {}
    for number, image_id in enumerate(file.annotations):
        path = photographs / 'val' / file.images[image_id]['file_name']
        masks = TrueDepth.from_annotation(file, image_id, labels).amodal[number % 2 :]
        known[cv2.imread(str(path)).tobytes()] = masks[::-1].copy()

    def predict(model, image):
        assert model == ('config.py', 'model.pth')
        masks = known[image.tobytes()]
        count = len(masks)
        # Its fusion takes the detections from front to back, and orders them so.
        ahead = torch.ones((count, count), dtype=torch.bool).triu(1)
        fused = dict(
            occlusion=SimpleNamespace(in_front=ahead), detections=torch.arange(count).flip(0)
        )
        return DetDataSample(
            pred_panoptic_seg=PixelData(metainfo=fused),
            pred_instances=InstanceData(
                masks=torch.from_numpy(masks),
                scores=torch.linspace(0.9, 0.7, len(masks)),  # from back to front
                bboxes=torch.arange(4 * len(masks)).view(-1, 4) * 100.0,  # no duplicates
            ),
        )

    monkeypatch.setattr('mmbanet.apis.predict', predict)
    monkeypatch.setattr('mmbanet.apis.init_model', lambda *given: given)


@pytest.mark.usefixtures('perfect_detector')
def test_own_detections_of_a_model(photographs, benchmark_folder, tmp_path, monkeypatch, capsys):
    arguments = ['order.py', '--generated', str(photographs), '--scenes', '20']
    arguments += ['--model', 'config.py', 'model.pth', '--score-thr', '0.5']
    monkeypatch.setattr(sys, 'argv', [*arguments, '--out', str(tmp_path)])
    runpy.run_path(str(benchmark_folder / 'order.py'), run_name='__main__')
    report = json.loads((tmp_path / 'order.json').read_text())
    assert report['data'] == 'generated'
    assert report['model']['score_thr'] == 0.5
    true, detections = (report['masks'][kind] for kind in ('true', 'detections'))

    # By hand: the pairs of which both are detected.
    file = PanopticAnnotations(str(photographs / 'annotations' / 'panoptic_val.json'))
    labels = {c['id']: i for i, c in enumerate(file.categories) if c['isthing']}
    pairs = []
    for number, image_id in enumerate(list(file.annotations)[:20]):
        depth = TrueDepth.from_annotation(file, image_id, labels)
        for front, behind in itertools.combinations(range(len(depth.labels)), 2):
            both = depth.amodal[front] & depth.amodal[behind]
            smaller = min(depth.amodal[front].sum(), depth.amodal[behind].sum())
            seen = (both & depth.visible[front]).sum()
            if smaller >= 30 and both.sum() > 0.2 * smaller and 2 * seen > both.sum():
                pairs.append(front > 0 or number % 2 == 0)
    assert 10 < sum(pairs) < len(pairs)
    assert (true['pairs'], detections['pairs']) == (len(pairs), sum(pairs))
    assert detections['recall']['percent'] == pytest.approx(100 * np.mean(pairs), abs=0.01)
    assert f'{detections["recall"]["percent"]}% of the pairs' in capsys.readouterr().out
    # The scores put the one behind in front.
    assert detections['rules']['score order']['all']['percent'] == 0
    assert detections['rules']["the model's own fusion"]['all']['percent'] == 100
    assert not {'score order', "the model's own fusion"} & set(true['rules'])


@pytest.mark.usefixtures('perfect_detector')
def test_a_model_that_sees_nothing(photographs, benchmark_folder, tmp_path, monkeypatch, capsys):
    arguments = ['order.py', '--generated', str(photographs), '--scenes', '4']
    arguments += ['--model', 'config.py', 'model.pth', '--score-thr', '0.95']
    monkeypatch.setattr(sys, 'argv', [*arguments, '--out', str(tmp_path)])
    runpy.run_path(str(benchmark_folder / 'order.py'), run_name='__main__')
    assert 'no occluded pair of detections masks in 4 images: left out' in capsys.readouterr().out
    assert set(json.loads((tmp_path / 'order.json').read_text())['masks']) == {'true', 'head'}


def opened(*arguments):
    import argparse

    from order_data import add_arguments, open_data

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return open_data(parser, parser.parse_args([str(argument) for argument in arguments]))


def test_coco_says_what_the_depth_says(photographs, benchmark_folder):
    coco = opened('--coco', photographs)
    scenes = opened('--generated', photographs)
    assert len(coco) == len(scenes) == 30
    pairs = 0
    for number in range(len(coco)):
        (image, things), (same, deep) = coco[number], scenes[number]
        assert torch.equal(image, same)
        assert things.file_name == deep.file_name
        if not things.pairs:
            continue
        visible = deep.owner == np.arange(len(deep.masks))[:, None, None]
        shared = (things.masks[:, None] & visible).sum((2, 3))
        rank = (shared / (things.masks[:, None] | visible).sum((2, 3))).argmax(axis=1)
        for front, behind in things.pairs:
            assert rank[front] < rank[behind]
            pairs += 1
    assert pairs > 3


def test_scenes_of_photographs_on_disk_are_those_composed(photographs, benchmark_folder, tmp_path):
    root = compose_scenes(
        tmp_path / 'set', photographs, train=0, val=5, seed=6, overlap=1.0, workers=1
    )
    composed = opened('--photographs', photographs, '--seed', 6, '--scenes', 5)
    for (image, things), (same, deep) in zip(composed, opened('--generated', root)):
        assert torch.equal(image, same)
        assert things.pairs
        # On disk, things that are not seen at all are left out.
        place = [k for k, mask in enumerate(things.masks) if (things.owner[mask] == k).any()]
        assert (things.masks[place] == deep.masks).all()
        assert (things.order[np.ix_(place, place)] == deep.order).all()


def test_amodal_annotations(benchmark_folder, tmp_path, monkeypatch, capsys):
    size, shapes = (60, 80), [(10, 20, 40, 55), (30, 10, 70, 50)]  # x1, y1, x2, y2; front first
    image = np.full((*size, 3), 90, dtype=np.uint8)
    for colour, (x1, y1, x2, y2) in zip(((0, 0, 200), (200, 0, 0)), shapes):
        image[y1:y2, x1:x2] = colour
    x1, y1, x2, y2 = shapes[0]
    image[y1:y2, x1:x2] = (0, 0, 200)
    cv2.imwrite(str(tmp_path / '1.png'), image)
    images = [dict(id=1, file_name='1.png', height=size[0], width=size[1])]
    polygons = [[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in shapes]
    behind = np.zeros(size, dtype=np.uint8, order='F')
    behind[10:50, 30:70] = 1
    behind[20:55, 10:40] = 0
    rle = coco_mask.encode(behind)
    rle['counts'] = rle['counts'].decode()
    regions = [
        dict(segmentation=polygon, order=place + 1, isStuff=0, name=name)
        for place, (polygon, name) in enumerate(zip(polygons, ('box', 'bag')))
    ]
    regions[1]['visible_mask'] = rle
    cocoa = dict(images=images, annotations=[dict(image_id=1, id=1, regions=regions)])
    kins = dict(
        images=images,
        categories=[dict(id=1, name='box'), dict(id=2, name='bag')],
        annotations=[
            dict(image_id=1, category_id=2 - k, a_segm=[polygons[k]], i_segm=seen, oco_id=1)
            | dict(ico_id=k + 1)
            for k, seen in ((1, rle), (0, [polygons[0]]))
        ],
    )
    for kind, content in (('cocoa', cocoa), ('kins', kins)):
        (tmp_path / f'{kind}.json').write_text(json.dumps(content))
        arguments = ['order.py', f'--{kind}', str(tmp_path / f'{kind}.json')]
        arguments += ['--images', str(tmp_path), '--out', str(tmp_path)]
        monkeypatch.setattr(sys, 'argv', arguments)
        runpy.run_path(str(benchmark_folder / 'order.py'), run_name='__main__')
        report = json.loads((tmp_path / 'order.json').read_text())
        assert (report['data'], report['scenes']) == (kind, 1)
        result = report['masks']['true']
        assert result['pairs'] == result['rules']['contour']['other class']['pairs'] == 1
        assert result['rules']['contour']['all']['percent'] == 100
    with pytest.raises(SystemExit):
        opened('--kins', tmp_path / 'kins.json')
    assert '--images, the folder of the images, is needed' in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r'folder of images not found: /.*/no$'):
        opened('--kins', tmp_path / 'kins.json', '--images', tmp_path / 'no')
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'panoptic_val.json').write_text('{}')
    with pytest.raises(FileNotFoundError, match=r'expected one instances_val\*.json, got \[\]'):
        opened('--coco', tmp_path)
    (tmp_path / '1.png').unlink()
    data = opened('--cocoa', tmp_path / 'cocoa.json', '--images', tmp_path)
    with pytest.raises(FileNotFoundError, match=r'image not found or not readable: /.*1.png$'):
        data[0]


def test_statistics(benchmark_folder):
    from order_statistics import mcnemar, share

    # 400 independent images: the interval is that of a binomial share.
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.8
    found = share(right, np.arange(400))
    percent = 100 * right.mean()
    assert found['percent'] == pytest.approx(percent, abs=0.005)
    margin = 196 * np.sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found['low'] == pytest.approx(percent - margin, abs=0.5)
    assert found['high'] == pytest.approx(percent + margin, abs=0.5)
    # The same answer four times in an image says no more than once, be the images numbered or not.
    often = share(np.repeat(right, 4), np.repeat(np.arange(400) * 3, 4))
    assert {**often, 'pairs': 400} == found
    assert share(right[:0], right[:0]) == dict(pairs=0)

    first = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], bool)
    second = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1, 0], bool)
    # Of 6 pairs that differ 5 speak for the first: twice the binomial tail, (6 + 1) / 64.
    assert mcnemar(first, second) == dict(only_first=5, only_second=1, p=pytest.approx(14 / 64))
    assert mcnemar(first, first) == dict(only_first=0, only_second=0, p=1.0)


@pytest.mark.parametrize(
    ('arguments', 'error'),
    [
        (['--photographs', 'nowhere'], 'photographs not found'),
        (['--scenes', '0'], '--scenes must be 1 or more'),
    ],
)
def test_mistakes_are_named(
    photographs, benchmark_folder, tmp_path, monkeypatch, capsys, arguments, error
):
    given = ['order.py', '--photographs', str(photographs), '--out', str(tmp_path), *arguments]
    monkeypatch.setattr(sys, 'argv', given)
    with pytest.raises((SystemExit, FileNotFoundError)) as raised:
        runpy.run_path(str(benchmark_folder / 'order.py'), run_name='order_under_test')['main']()
    assert error in str(raised.value) + capsys.readouterr().err
