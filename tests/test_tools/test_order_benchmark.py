"""The benchmark of order rules: true pairs, rules asked in turn, statistics, files."""

import itertools
import json
import runpy
import sys
from math import comb

import numpy as np
import pytest
import torch

from mmbanet.models.fusion import MeanColor, OrderRule
from mmbanet.scenes import generate_scenes
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.scenes.photographs.source import PhotographSource


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

        def evidence(self, image, regions, pairs):
            return torch.where(pairs[:, 1] % 2 == 1, 7.0, 0.0).double()

    masks = torch.rand(4, 9, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    image = torch.randint(0, 256, (3, 9, 9), generator=torch.Generator().manual_seed(1))
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 3]])
    regions = order_inputs.ClaimRegions.from_masks(masks)
    scene = order_inputs.Scene(image, masks, pairs, [])
    colour = MeanColor().evidence(image, regions, pairs)
    assert (colour != 0).all()
    evidence = order_inputs.ask([Odd(), MeanColor()], scene, regions)
    assert evidence.tolist() == [7, colour[1], colour[2], 7]
    assert order_inputs.ask([Odd()], scene, regions).tolist() == [7, 0, 0, 7]


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
