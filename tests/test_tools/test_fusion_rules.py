"""The comparisons of fusion rules, of their quality on one model's output and of their cost."""

import json
import runpy
import sys

import pytest
from mmengine.config import Config

from mmbanet.engine.launch import replace_data_root
from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS


@pytest.mark.slow
def test_every_fusion_on_the_same_masks(
    benchmark_folder, checkpoint, tmp_path, monkeypatch, capsys
):
    scenes = generate_scenes(tmp_path / 'scenes', train=0, val=2, size=64)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    replace_data_root(cfg, str(scenes))
    cfg.test_dataloader.merge(dict(num_workers=0, persistent_workers=False))
    cfg.model.test_cfg.panoptic.score_thr = 0.05  # an untrained model is sure of nothing
    cfg.test_evaluator = cfg.test_evaluator[:1]
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'table.json'
    arguments = [str(tmp_path / 'config.py'), str(checkpoint), '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['fusion_rules.py', *arguments])
    module = runpy.run_path(str(benchmark_folder / 'fusion_rules.py'))
    module['main']()

    rows = json.loads(out.read_text())
    assert set(rows) == {module['MMDET'], *module['OURS'], *module['RIVALS']}
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert f'\n{name} ' in printed
        assert row['milliseconds'] > 0
        assert row['peak_mb'] >= 0
    # The same rule from two sides: logits resized as a whole and merged, and labels.
    theirs, ours = rows[module['MMDET']], rows['score order (Panoptic FPN)']
    assert theirs['coco_panoptic/PQ'] == pytest.approx(ours['coco_panoptic/PQ'], abs=0.5)
    assert max(row['peak_mb'] for row in rows.values()) > 0


@pytest.mark.slow
def test_cost_of_every_rule(benchmark_folder, tmp_path, monkeypatch, capsys):
    import fusion_inputs

    arguments = ['fusion_rules_cost.py', '--seconds', '0.01', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', arguments)
    module = runpy.run_path(str(benchmark_folder / 'fusion_rules_cost.py'))
    cases = (fusion_inputs.Case(6, 60, 90), fusion_inputs.Case(1, 40, 30))
    module['main'].__globals__['CASES'] = cases
    module['main']()

    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / 'fusion_rules_cost_cpu.json').read_text())['rows']
    for case in cases:
        of_case = {row['fusion']: row for row in rows if row['objects'] == case.objects}
        assert {module['MMDET'], module['MMDET_ALONE'], 'UPSNet', 'JSIS-Net'} <= set(of_case)
        assert of_case[module['MMDET']]['ratio'] == of_case[module['MMDET_ALONE']]['ratio_alone']
        for name, row in of_case.items():
            assert f'| {case.objects} | {case.height}x{case.width} | {name} |' in printed
            assert row['ms'] > 0
