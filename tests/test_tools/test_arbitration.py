"""Instance against stuff at contested pixels: the rules by hand, and the comparison."""

import json
import sys

import pytest
import torch
from mmengine.config import Config

from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS, ROOT


@pytest.fixture
def tool(benchmark_folder):
    import arbitration

    return arbitration


@pytest.fixture
def rules(benchmark_folder):
    import arbitration_rules

    return arbitration_rules


def scene(rules, **changes):
    """An instance of class 0 in columns 2 to 7 of 12, of which 6 and 7 are called stuff 1."""
    columns = torch.arange(12).expand(8, 12)
    owner = torch.where((columns >= 2) & (columns < 8), 0, -1)
    semantics = torch.where((columns >= 2) & (columns < 6), 0, 1)
    fields = dict(
        where=(columns == 6) | (columns == 7),
        owner=owner,
        semantics=semantics,
        mask=torch.where(owner == 0, 0.7, 0.0),
        stuff=torch.full((8, 12), 0.6),
        thing=torch.where(owner == 0, 0.3, 0.0),
        lab=torch.where(columns < 6, 20.0, 80.0).expand(3, 8, 12),
        truth=semantics,
    )
    return rules.Contested(**dict(fields, **changes))


def taken(rules, rule, **changes):
    """The columns that stuff takes, all of them from top to bottom."""
    of = scene(rules, **changes)
    takes = of.where & rules.RULES[rule](of)
    assert (takes == takes[:1]).all()
    return takes[0].nonzero().flatten().tolist()


def test_who_gets_the_contested_pixels(rules):
    columns = torch.arange(12).expand(8, 12)
    assert taken(rules, 'things overwrite stuff (paper)') == []
    assert taken(rules, 'stuff overwrites things') == [6, 7]
    assert taken(rules, 'the likelier') == []
    unsure = dict(mask=torch.full((8, 12), 0.5))
    assert taken(rules, 'the likelier', **unsure) == [6, 7]
    # 0.6 * 0.3 = 0.18 against 0.3 * 0.7 = 0.21, and 0.6 * 0.5 against 0.3 * 0.5
    assert taken(rules, 'both likelihoods together') == []
    assert taken(rules, 'both likelihoods together', **unsure) == [6, 7]
    # The contour is at the right of column 7; two pixels are near it.
    wide = dict(where=(columns >= 4) & (columns < 8), **unsure)
    assert taken(rules, 'the likelier, next to contours', **wide) == [6, 7]
    assert taken(rules, 'the likelier', **wide) == [4, 5, 6, 7]
    # Columns 6 and 7 are as bright as the stuff; then as dark as the instance.
    assert taken(rules, 'colours around') == [6, 7]
    dark = torch.where(columns < 8, 20.0, 80.0).expand(3, 8, 12)
    assert taken(rules, 'colours around', lab=dark) == []
    assert taken(rules, 'colours around, and the likelier') == []
    assert taken(rules, 'colours around, and the likelier', **unsure) == [6, 7]
    assert taken(rules, 'oracle') == [6, 7]
    assert taken(rules, 'oracle', truth=torch.zeros(8, 12).long()) == []


def test_patches_without_surroundings_stay_the_instances(rules):
    everywhere = torch.ones(8, 12, dtype=torch.bool)
    alone = dict(where=everywhere, owner=torch.zeros(8, 12).long())
    alone['semantics'] = torch.ones(8, 12).long()
    assert taken(rules, 'colours around', **alone) == []


def test_pixels_that_are_given_rightly(tool, rules):
    of = scene(rules)
    labels = torch.tensor([0])
    nobody = torch.zeros(8, 12, dtype=torch.bool)
    assert tool.judge(of, of.where, labels).tolist() == [16, 16]
    assert tool.judge(of, nobody, labels).tolist() == [0, 16]
    unowned = dict(where=nobody, owner=torch.full((8, 12), -1))
    assert tool.judge(scene(rules, **unowned), nobody, torch.tensor([]).long()).tolist() == [0, 0]
    neither = scene(rules, truth=torch.full((8, 12), 2))
    assert tool.judge(neither, nobody, labels).tolist() == [0, 0]


@pytest.mark.slow
def test_every_rule(tool, checkpoint, tmp_path, monkeypatch, capsys):
    scenes = generate_scenes(tmp_path / 'scenes', train=0, val=4, size=64)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    cfg.test_dataloader.merge(dict(num_workers=0, persistent_workers=False))
    cfg.model.test_cfg.panoptic.merge(dict(score_thr=0.05, stuff_area_limit=1))
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'table.json'
    command = ['arbitration.py', tmp_path / 'config.py', checkpoint, '--data-root', scenes]
    monkeypatch.setattr(sys, 'argv', [str(part) for part in (*command, '--out', out)])
    tool.main()

    report = json.loads(out.read_text())
    assert report['images'] == 4
    assert 0 < report['contested'] < 100
    rows = report['rules']
    assert list(rows) == list(tool.RULES)
    assert rows['oracle']['right'] == 100
    assert rows['oracle']['PQ_St']['difference'] >= 0
    assert rows[tool.PAPER]['PQ'] == dict(rows[tool.PAPER]['PQ'], difference=0, low=0, high=0)
    printed = capsys.readouterr().out
    for rule, row in rows.items():
        assert f'| {rule} | {row["PQ"]["percent"]:.2f}' in printed


@pytest.mark.parametrize('data', ['scenes', 'camvid'])
def test_table_of_the_docs_is_what_was_measured(tool, data):
    written = ROOT / 'tools' / 'benchmarks' / 'results' / data / 'arbitration.json'
    table = tool.as_table(json.loads(written.read_text()))
    assert table in (ROOT / 'docs' / 'rivals.md').read_text()
