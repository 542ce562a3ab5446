"""The benchmark of the panoptic metric runs, compares the results and writes what it prints."""

import json
import runpy
import sys

import pytest
from mmdet.evaluation.metrics import CocoPanopticMetric

from mmbanet.scenes import generate_scenes


@pytest.fixture
def run(tmp_path, monkeypatch, benchmark_folder):
    generate_scenes(tmp_path / 'scenes', train=0, val=4, size=64, seed=0, workers=1)

    def call(*options):
        arguments = ['--data-root', str(tmp_path / 'scenes'), '--split', 'val', '--rounds', '2']
        arguments += ['--out', str(tmp_path), *options]
        monkeypatch.setattr(sys, 'argv', ['panoptic_metric.py', *arguments])
        runpy.run_path(str(benchmark_folder / 'panoptic_metric.py'), run_name='__main__')
        return json.loads((tmp_path / 'panoptic_metric_cpu.json').read_text())

    return call


def test_table_and_json(run, capsys):
    report = run('--images', '3')
    printed = capsys.readouterr().out
    assert '3 images of 64x64' in printed
    assert '| mmbanet | ' in printed
    assert '| mmbanet with boundary and mIoU | ' in printed
    assert report['images'] == 3
    assert report['largest_difference'] < 1e-12
    assert set(report['seconds']) == set(report['results']) == set(report['bytes_kept_per_image'])
    ours, theirs = (report['results'][name] for name in ('mmbanet', 'mmdet'))
    assert ours == pytest.approx(theirs, abs=1e-10)
    assert 20 < ours['coco_panoptic/PQ'] < 99
    assert report['results']['mmbanet with boundary and mIoU']['coco_panoptic/mIoU_St'] > 50


def test_different_results_fail(run, monkeypatch):
    evaluate = CocoPanopticMetric.evaluate

    def wrong(self, size):
        scores = evaluate(self, size)
        return scores | {'coco_panoptic/SQ_st': scores['coco_panoptic/SQ_st'] + 1e-9}

    monkeypatch.setattr(CocoPanopticMetric, 'evaluate', wrong)
    with pytest.raises(SystemExit, match=r'^panoptic_metric\.py: the results differ'):
        run('--images', '2')


def test_missing_data_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run('--images', '5')
    assert 'panoptic_val.json has 4 images, not 5' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run('--split', 'test')
    assert (
        'panoptic_test.json not found: make it by tools/make_scenes.py' in capsys.readouterr().err
    )
