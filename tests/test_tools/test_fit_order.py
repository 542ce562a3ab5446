"""The fit of CombinedOrder's weights: the loss's minimum, scenes held out, the written file."""

import runpy
import sys

import numpy as np
import pytest

from mmbanet.models.fusion.order.combined_weights import WEIGHTS
from mmbanet.scenes import generate_scenes


def test_the_weights_minimise_the_loss(benchmark_folder):
    import fit_order

    rng = np.random.default_rng(0)
    values = rng.normal([0.5, 0.1, 0.0], [1.0, 3.0, 0.2], (400, 3))
    weights = fit_order.fit(values)

    def loss(weights):
        prior = fit_order.RIDGE / 2 * np.square(weights * values.std(axis=0)).sum()
        return np.log1p(np.exp(-values @ weights)).mean() + prior

    for direction in np.eye(3):
        for step in (-1e-3, 1e-3):
            assert loss(weights + step * direction) > loss(weights)
    np.testing.assert_allclose(fit_order.fit(values * [1, 10, 0.1]), weights * [1, 0.1, 10])


def test_a_scene_does_not_vote_for_itself(benchmark_folder):
    """A pair that contradicts all others is not learned from where it is judged."""
    import fit_order

    values = np.ones((10, 1)) + np.arange(10)[:, None] / 100
    values[3] = -5.0
    right = fit_order.cross_validate(values, np.arange(10))
    held_with_it = [3, 8]  # five folds of ten scenes
    assert right[held_with_it].tolist() == [0, 1]


def test_it_writes_the_weights_and_where_they_come_from(
    benchmark_folder, tmp_path, monkeypatch, capsys
):
    photographs = generate_scenes(tmp_path / 'set', train=30, val=0, seed=1)
    arguments = ['fit_order.py', '--photographs', str(photographs)]
    monkeypatch.setattr(
        sys, 'argv', [*arguments, '--scenes', '10', '--out', str(tmp_path / 'weights.py')]
    )
    runpy.run_path(str(benchmark_folder / 'fit_order.py'), run_name='__main__')
    text = (tmp_path / 'weights.py').read_text()
    assert 'of 10 scenes composed of the training images of set' in text
    assert '--scenes 10 --seed 0' in text
    found = runpy.run_path(str(tmp_path / 'weights.py'))['WEIGHTS']
    assert {kind: list(table) for kind, table in found.items()} == {
        kind: list(table) for kind, table in WEIGHTS.items()
    }
    assert '| contour alone | ' in capsys.readouterr().out
    monkeypatch.setattr(sys, 'argv', [*arguments, '--scenes', '2'])
    with pytest.raises(SystemExit):
        runpy.run_path(str(benchmark_folder / 'fit_order.py'), run_name='__main__')
