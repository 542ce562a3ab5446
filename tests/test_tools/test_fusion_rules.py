"""The comparisons of fusion rules, of their quality on one model's output and of their cost."""

import json
import runpy
import sys

import pytest
import torch
from mmengine.config import Config

from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS, ROOT


@pytest.fixture
def tool(benchmark_folder):
    import fusion_rules

    return fusion_rules


@pytest.fixture
def run(tool, checkpoint, tmp_path, monkeypatch):
    """Runs the tool on two training scenes and two others, and returns its report."""
    scenes = generate_scenes(tmp_path / 'scenes', train=2, val=2, size=64)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.merge(dict(batch_size=1, num_workers=0, persistent_workers=False))
    cfg.model.test_cfg.panoptic.score_thr = 0.05  # an untrained model is sure of nothing

    def run(*arguments, **changes):
        cfg.merge_from_dict(changes)
        cfg.dump(tmp_path / 'config.py')
        out = tmp_path / 'table.json'
        command = ['fusion_rules.py', tmp_path / 'config.py', checkpoint, '--data-root', scenes]
        command += ['--work-dir', tmp_path / 'work', '--out', out, *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()
        assert out.with_suffix('.png').stat().st_size > 0
        return json.loads(out.read_text())

    return run


@pytest.mark.slow
def test_every_fusion_on_the_same_masks(tool, run, tmp_path, capsys):
    import fusion_heads as heads

    report = run('--learn', '1')
    rows = report['fusions']
    assert set(rows) == {tool.MMDET, *tool.OURS, *heads.RIVALS, *tool.LEARNED}
    assert report['learned_iterations'] == 1
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert f'\n| {name} | {row["coco_panoptic/PQ"]:.2f} |' in printed
        difference = row['coco_panoptic/PQ'] - rows[tool.SCORE_ORDER]['coco_panoptic/PQ']
        assert row['difference']['difference'] == pytest.approx(difference)
        assert row['milliseconds'] > 0
        assert row['peak_mb'] >= 0
        says_who_is_in_front = name in tool.OURS or name in tool.LEARNED
        assert ('occlusion/pairs' in row) == says_who_is_in_front
    assert rows[tool.SCORE_ORDER]['difference'] == dict(difference=0, low=0, high=0)
    # The same rule from two sides: logits resized as a whole and merged, and labels.
    theirs, ours = rows[tool.MMDET], rows[tool.SCORE_ORDER]
    assert theirs['coco_panoptic/PQ'] == pytest.approx(ours['coco_panoptic/PQ'], abs=0.5)
    assert max(row['peak_mb'] for row in rows.values()) > 0
    # Only the head was trained: the checkpoint below is the one given.
    below, above = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (tmp_path / 'model.pth', tmp_path / 'work' / 'ocfusion' / 'iter_1.pth')
    )
    assert all(torch.equal(value, above[name]) for name, value in below.items())
    assert any(name.startswith('panoptic_fusion_head.classifier') for name in above)


@pytest.mark.slow
def test_what_cannot_learn_is_left_out(tool, run, capsys):
    changes = {'train_dataloader.dataset.instances_ann_file': None}
    rows = run('--learn', '1', '--images', '1', **changes)['fusions']
    learned = {row for row, (name, _) in tool.LEARNED.items() if name == 'oanet_predicted'}
    assert set(rows) & set(tool.LEARNED) == learned
    printed = capsys.readouterr().out
    for name in ('oanet_truth', 'ocfusion'):
        assert f'{name} is left out: annotated masks do not overlap' in printed


def test_order_is_loaded_where_nothing_drops_instances(benchmark_folder):
    from fusion_learning import ordered

    pipeline = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py').train_pipeline
    steps = ordered(pipeline, 0.3)
    kinds = [step['type'].removeprefix('mmbanet.') for step in steps]
    assert kinds[1:] == [  # behind the image
        'LoadPanopticAnnotations',
        'LoadInstanceOrder',
        'Resize',
        'RandomFlip',
        'PackOrderedInputs',
    ]
    assert steps[2]['overlap_thr'] == 0.3


def test_fewer_than_one_iteration_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run('--learn', '0')
    assert '--learn and --images must be at least 1' in capsys.readouterr().err


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


@pytest.mark.parametrize('data', ['scenes', 'camvid'])
def test_table_of_the_docs_is_what_was_measured(tool, data):
    written = ROOT / 'tools' / 'benchmarks' / 'results' / data / 'fusion_rules.json'
    table = tool.as_table(json.loads(written.read_text())['fusions'])
    assert table in (ROOT / 'docs' / 'rivals.md').read_text()
