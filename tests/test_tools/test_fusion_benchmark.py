"""The benchmark of the fusion heads runs, checks itself and writes what it prints."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from mmcv.ops import nms

from ..conftest import DEVICES


def test_table_json_and_plot(benchmark_folder, tmp_path, monkeypatch, capsys):
    import fusion_inputs

    huge = 10**6
    cases = (
        fusion_inputs.Case(6, 60, 90, target=0.5),
        fusion_inputs.Case(2, 800, 40),
        fusion_inputs.Case(30, huge, huge),
    )
    monkeypatch.setattr(fusion_inputs, 'CASES', cases)
    arguments = ['fusion.py', '--seconds', '0.01', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(benchmark_folder / 'fusion.py'), run_name='__main__')

    printed = capsys.readouterr().out
    assert '| full size | 6 | 60x90 |' in printed
    assert '| stride 4 | 2 | 800x40 |' in printed
    assert 'skipped: 30 objects, 1000000x1000000: needs about' in printed
    assert printed.count(': 0.5)') == 4  # time and memory of the case with a target
    report = json.loads((tmp_path / 'fusion_cpu.json').read_text())
    assert [(row['logits'], row['objects']) for row in report['rows']] == [
        ('full size', 6),
        ('stride 4', 6),
        ('full size', 2),
        ('stride 4', 2),
    ]
    for row in report['rows']:
        assert all(row[unit][head] > 0 for unit in ('ms', 'bytes') for head in ('mmbanet', 'mmdet'))
    # From logits of stride 4, mmdet's head holds 54 channels of full size.
    assert report['rows'][1]['bytes']['mmdet'] > 54 * 60 * 90 * 4
    assert (tmp_path / 'fusion_cpu.png').stat().st_size > 1000


@pytest.mark.parametrize('device', DEVICES)
def test_peak_of_known_allocations(benchmark_folder, device):
    from memory import peak_extra_bytes

    before = torch.zeros(1 << 20, device=device)  # not counted, and may not hide what follows

    def allocate():
        first = torch.zeros(1 << 20, device=device)  # 4 MiB
        second = torch.empty(1 << 21, dtype=torch.uint8, device=device)  # 2 MiB: 6 at once
        del first
        third = torch.empty(3 << 20, dtype=torch.uint8, device=device)  # 3 MiB: 5 at once
        return second, third

    for _ in range(2):  # freed memory that is taken again counts again
        assert peak_extra_bytes(allocate, device) == 6 << 20
    assert peak_extra_bytes(lambda: before.view(-1), device) == 0
    # Temporaries inside an operator count: the boolean mask's indices, and the result.
    peak = peak_extra_bytes(lambda: before[torch.ones(1 << 20, device=device) > 0], device)
    assert peak >= (1 << 20) * (1 + 8 + 4)


def test_inputs_are_as_announced(benchmark_folder):
    import fusion_inputs as given

    case = given.Case(40, 200, 300)
    instances = given.random_instances(case, 'cpu')
    masks, boxes = instances.masks, instances.bboxes
    assert masks.shape == (40, 200, 300)
    assert masks.any((1, 2)).all()
    assert sorted(instances.scores.tolist()) == pytest.approx(np.linspace(0.61, 1, 40))
    assert len(nms(boxes, instances.scores, given.NMS_IOU)[1]) == 40
    rows, cols = masks.any(2).nonzero(), masks.any(1).nonzero()
    for k, box in enumerate(boxes.tolist()):
        y, x = rows[rows[:, 0] == k, 1], cols[cols[:, 0] == k, 1]
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    # Many small objects and a few large ones that overlap others.
    areas = masks.sum((1, 2)).double()
    assert areas.max() > 10 * areas.median()
    assert (masks.sum(0) > 1).double().mean() > 0.05
    logits = given.random_logits(case, 'cpu')
    assert logits.shape == (133, 50, 75)
    assert given.mmdet_channels(logits).shape == (54, 50, 75)
    assert given.full_size(logits, case).shape == (133, 200, 300)
    image = given.random_image(case, 'cpu')
    assert 0 <= image.min() < 50 < 200 < image.max() <= 255
