"""The benchmark of the op runs, checks its plain PyTorch rival and writes what it prints."""

import json
import runpy
import sys

import pytest

from ..conftest import ROOT


@pytest.fixture
def benchmark_folder(monkeypatch):
    folder = ROOT / 'tools' / 'benchmarks'
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ('roi_rivals', 'timing'):
        sys.modules.pop(name, None)


def test_table_json_and_plot(benchmark_folder, tmp_path, monkeypatch, capsys):
    import roi_rivals

    cases = [roi_rivals.Case('tiny', 5, 7, 20, 30, 4, 6, 14)]
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
