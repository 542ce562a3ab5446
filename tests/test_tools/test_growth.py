"""The benchmark of growth runs, and writes what it prints."""

import json
import runpy
import sys

import pytest


@pytest.mark.slow
def test_table_json_and_plot(benchmark_folder, tmp_path, monkeypatch, capsys):
    import growth_lines

    monkeypatch.setattr(growth_lines, 'IMAGES', 2)  # of the lines with processes
    lines = [
        line._replace(sizes=(4, 8)) if line.panel == 'images' else line
        for line in growth_lines.LINES
    ]
    monkeypatch.setattr(growth_lines, 'LINES', lines)
    monkeypatch.setattr(sys, 'argv', ['growth.py', '--short', '--out', str(tmp_path)])
    runpy.run_path(str(benchmark_folder / 'growth.py'), run_name='__main__')

    printed = capsys.readouterr().out
    report = json.loads((tmp_path / 'growth_cpu.json').read_text())
    assert [(line['panel'], line['what']) for line in report['lines']] == [
        ('objects', 'fusion'),
        ('pixels', 'fusion'),
        ('pixels', 'metric'),
        ('classes', 'fusion'),
        ('classes', 'metric'),
        ('images', 'loading'),
        ('images', 'metric'),
        ('processes', 'metric'),
        ('processes', 'predict'),
    ]
    for line in report['lines']:
        assert len(line['sizes']) == len(line['seconds']) == 2
        assert min(line['seconds']) > 0
        row = f'| {line["panel"]} | {line["what"]} | {line["sizes"][0]}: '
        assert row in printed
    assert (tmp_path / 'growth_cpu.png').stat().st_size > 1000


def test_exponent(benchmark_folder):
    from timing import growth

    assert growth([2, 4, 16], [3 * 2**1.5, 3 * 4**1.5, 3 * 16**1.5]) == pytest.approx(1.5)


def test_predictions_are_as_announced(benchmark_folder, tmp_path):
    """The metric counts something, and of things the moved segments are found again."""
    import growth_lines

    samples = growth_lines.make_samples(tmp_path, 3, (96, 144), 10)
    metric = growth_lines.PanopticMetric(str(tmp_path / 'panoptic.json'), str(tmp_path))
    for sample in samples:
        metric.process({}, [sample])
    assert metric.evaluate(3)['coco_panoptic/RQ_th'] == pytest.approx(100)
