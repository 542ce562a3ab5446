"""The benchmark of the fusion heads runs, checks itself and writes what it prints."""

import json
import runpy
import sys

import numpy as np
import pytest
import torch
from mmcv.ops import nms

from mmbanet.ops import roi_inlay

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
    assert report['copy_bandwidth_gb_per_s'] > 0
    floors = [row['floor_ms'] for row in report['rows']]
    # Masks, an image in float32, the map in int64, and 133 logits in float32.
    full, small = ((6 + 12 + 8) * 60 * 90 + 532 * size for size in (60 * 90, 15 * 23))
    assert floors[0] / floors[1] == pytest.approx(full / small)
    for row in report['rows']:
        assert all(row[unit][head] > 0 for unit in ('ms', 'bytes') for head in ('mmbanet', 'mmdet'))
    # From logits of stride 4, mmdet's head holds 54 channels of full size.
    assert report['rows'][1]['bytes']['mmdet'] > 54 * 60 * 90 * 4
    assert (tmp_path / 'fusion_cpu.png').stat().st_size > 1000


def test_numbers_of_objects_can_be_chosen(benchmark_folder, tmp_path, monkeypatch):
    module = runpy.run_path(str(benchmark_folder / 'fusion.py'))
    measured = []

    def measure(case, *_):
        measured.append(case)
        return []

    for name, stub in (('measure', measure), ('check', lambda _: None), ('plot', lambda *_: None)):
        monkeypatch.setitem(module['main'].__globals__, name, stub)
    arguments = ['fusion.py', '--objects', '1', '30', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    module['main']()

    assert [(case.objects, *case.size) for case in measured] == [(1, 800, 1333), (30, 800, 1333)]


MB = 1 << 20


def known_tensors(device):
    """Each over 32 MB: glibc always gives such blocks back, and smaller ones only at first."""
    first = torch.ones(80 * MB, dtype=torch.uint8, device=device)
    second = torch.ones(40 * MB, dtype=torch.uint8, device=device)  # 120 at once
    del first
    third = torch.ones(60 * MB, dtype=torch.uint8, device=device)  # 100 at once
    return second, third


@pytest.mark.parametrize('device', DEVICES)
def test_peak_of_known_allocations(benchmark_folder, device):
    from memory import peak_extra_bytes

    before = torch.ones(5 * MB, device=device)  # not counted, and may not hide what follows
    peak_extra_bytes(lambda: known_tensors(device), device)  # a first call loads code
    # Freed memory that is taken again counts again; the system may add to what is resident.
    peaks = [peak_extra_bytes(lambda: known_tensors(device), device) for _ in range(4)]
    assert min(peaks) == pytest.approx(120 * MB, abs=2 * MB)
    assert peak_extra_bytes(lambda: before.view(-1), device) < MB


def test_peak_counts_what_is_not_pytorchs(benchmark_folder):
    """NumPy's memory, small objects of C++ and the pages that the operators take themselves."""
    from memory import peak_extra_bytes

    crops, rois = torch.ones(1, 16, 7, 7), torch.tensor([[0.0, 0.0, 0.0, 999.0, 999.0]])
    functions = {
        'numpy': lambda: np.ones(60 * MB, dtype=np.uint8),
        'small': lambda: [torch.ones(MB // 64) for _ in range(15 * 64)],
        'pages': lambda: roi_inlay(crops, rois, 1, (1000, 983)),
    }
    for name, function in functions.items():
        function()
        peak = peak_extra_bytes(function, 'cpu')
        assert peak == pytest.approx(60 * MB, abs=6 * MB), name


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
