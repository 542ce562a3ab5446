"""The benchmarks of the ops run, check their rivals and write what they print."""

import json
import runpy
import sys

MS = ('forward_ms', 'backward_ms')


def test_table_json_and_plot(benchmark_folder, tmp_path, monkeypatch, capsys):
    import roi_rivals

    cases = [roi_rivals.Crops('tiny', 5, 7, 20, 30, 4, 6, 14)]
    monkeypatch.setattr(roi_rivals, 'CASES', cases)
    arguments = ['roi_inlay.py', '--seconds', '0.01', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(benchmark_folder / 'roi_inlay.py'), run_name='__main__')

    assert 'tiny' in capsys.readouterr().out
    report = json.loads((tmp_path / 'roi_inlay_cpu.json').read_text())
    (row,) = report['rows']
    assert {'roi_inlay', 'roi_upsample sum', 'grid_sample'} <= set(row['forward_ms'])
    assert all(ms > 0 for ms in [*row['forward_ms'].values(), *row['backward_ms'].values()])
    assert report['machine']['device']
    assert (tmp_path / 'roi_inlay_cpu.png').stat().st_size > 1000


def test_roi_align(benchmark_folder, tmp_path, monkeypatch, capsys):
    arguments = ['roi_align.py', '--seconds', '0.01', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    module = runpy.run_path(str(benchmark_folder / 'roi_align.py'))
    case = dict(channels=3, stride=32, boxes=4, crop=7, sampling_ratio=0)
    module['main'].__globals__['cases'] = lambda: [case]
    module['main']()

    assert '| 3 | 32 | 4 | 7 | adaptive |' in capsys.readouterr().out
    (row,) = json.loads((tmp_path / 'roi_align_cpu.json').read_text())['rows']
    assert all(row[direction].keys() == {'mmbanet', 'mmcv'} for direction in MS)
    assert all(ms > 0 for direction in MS for ms in row[direction].values())
