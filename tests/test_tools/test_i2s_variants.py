"""The comparison of I2S heads on frozen features: what it trains, counts, prints and writes."""

import itertools
import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmbanet.models import I2SHead
from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS, ROOT

SIZES = dict(
    num_classes=5,
    instance_channels=8,
    semantic_channels=8,
    width=4,
    out_channels=8,
    norm_cfg=None,
)


@pytest.fixture
def tool(benchmark_folder):
    import i2s_variants

    return i2s_variants


@pytest.fixture
def run(tool, checkpoint, tmp_path, monkeypatch):
    """Runs the tool on 16 + 8 scenes for 4 iterations, and returns its report."""
    scenes = generate_scenes(tmp_path / 'scenes', train=16, val=8, size=64)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    cfg.model.test_cfg.panoptic.merge(dict(score_thr=0.05, stuff_area_limit=1))
    cfg.dump(tmp_path / 'config.py')

    def run(name, *arguments):
        out = tmp_path / name
        command = ['i2s_variants.py', tmp_path / 'config.py', checkpoint, '--data-root', scenes]
        command += ['--iterations', 4, '--out', out, *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()
        return json.loads(out.read_text())

    yield run
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_every_variant_twice(tool, run, monkeypatch, capsys):
    chosen = ('linear layer on F_S', tool.NO_INLAY, 'OCM', 'SIM + OCM', '- ReLU before the inlay')
    monkeypatch.setattr(
        tool, 'VARIANTS', {name: of for name, of in tool.VARIANTS.items() if name in chosen}
    )
    report = run('first.json', '--seeds', '0', '1')
    assert report['images'] == [16, 8]
    rows = report['variants']
    assert list(rows) == [tool.AS_TRAINED, *chosen]
    printed = capsys.readouterr().out
    for name, row in rows.items():
        for of in (row[kind][metric] for kind in row for metric in tool.METRICS):
            assert of['low'] <= of['difference'] <= of['high'] or name == tool.AS_TRAINED
            assert of['percent'] == pytest.approx(np.mean(of['seeds']))
        assert f'| {name} | {row["detections"]["mIoU_St"]["percent"]:.2f}' in printed
    # Without instances it does not matter which boxes there are; with them it does.
    for name in ('linear layer on F_S', tool.NO_INLAY):
        assert rows[name]['detections'] == rows[name]['annotated']
    assert rows['OCM']['detections'] != rows['OCM']['annotated']
    assert rows == run('second.json', '--seeds', '0', '1')['variants']


@pytest.fixture
def heads(benchmark_folder):
    import i2s_heads

    return i2s_heads


def small(heads, **settings):
    torch.manual_seed(0)
    head = heads.VariantHead(**SIZES, **settings)
    head.init_weights()
    return head.eval()


def logits_of(head, boxes=2):
    torch.manual_seed(1)
    semantic, instances = torch.randn(1, 8, 16, 16), torch.randn(boxes, 8, 7, 7)
    rois = torch.tensor([[0, 4.0, 4, 40, 40], [0, 20, 10, 60, 60]])[:boxes]
    return head(semantic, instances, rois, [(64, 64)])


def shipped_like(other):
    """The shipped head with another's weights."""
    head = I2SHead(**SIZES)
    head.load_state_dict(other.state_dict())
    return head.eval()


def test_heads_see_what_they_say(heads):
    plain = small(heads, ocm=heads.OCM)
    assert torch.equal(logits_of(plain), logits_of(shipped_like(plain)))
    blind = small(heads, ocm=None, in_sim=False)
    assert torch.equal(logits_of(blind), logits_of(blind, boxes=0))
    for settings in (dict(ocm=None), dict(ocm=heads.OCM, in_sim=False), dict(ocm=heads.OCM)):
        head = small(heads, **settings)
        assert not torch.equal(logits_of(head), logits_of(head, boxes=0))
    zero = small(heads, ocm=heads.OCM, zero=True)
    assert torch.equal(logits_of(zero), logits_of(zero, boxes=0))
    assert not torch.equal(logits_of(small(heads, ocm=heads.OCM, relu=True)), logits_of(plain))


def test_metrics_and_intervals_of_counts_by_hand(tool):
    """One stuff class, two images: IoU 1 of 2 and 3 of 4; a match of IoU 0.8, a missed one."""
    quality = np.array([[[0.8, 1, 0, 0]], [[0.0, 0, 0, 1]]])
    counts = tool.Counts(quality, np.array([[[1.0, 2]], [[3.0, 4]]]))
    times = np.array([[1, 1], [2, 0], [0, 2]])
    expected = [[100 * 4 / 6, 50, 75], [100 * 0.8 / 1.5, 80, 0]]
    np.testing.assert_allclose(counts.values(times), expected)
    better = tool.Counts(quality, np.array([[[2.0, 2]], [[3.0, 4]]]))

    def both(value):
        return dict.fromkeys(('detections', 'annotated'), value)

    rows = tool.summarize({tool.NO_INLAY: [both(counts)], 'other': [both(better), both(counts)]})
    found = rows['other']['annotated']['mIoU_St']
    assert found['seeds'] == pytest.approx([100 * 5 / 6, 100 * 4 / 6])
    assert found['difference'] == pytest.approx(100 / 12)
    # Of two images drawn, the second twice (no difference), or the first twice (half of 50).
    assert (found['low'], found['high']) == pytest.approx((0, 25))
    assert rows['other']['annotated']['PQ_St']['high'] == 0


def test_half_of_the_images_train_with_detections(tool):
    boxes = {'annotated': torch.zeros(4, 4), 'detections': torch.ones(3, 4)}
    item = tool.Frozen(None, None, boxes, boxes, None, None)
    torch.manual_seed(0)
    found = [tool.choose_boxes(item, tool.HALF, (0.5, 0.5))[0] for _ in range(40)]
    assert {len(of) for of in found} == {2, 3}
    assert 10 < sum(len(of) == 3 for of in found) < 30
    assert len(tool.choose_boxes(item, 'detections', (0.5, 0.5))[0]) == 3


def test_batches_are_the_seeds(tool):
    images = list(range(5))
    first, again, other = (list(tool.batches(images, 3, 5, seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(itertools.chain(*first)) == sorted(3 * images)


@pytest.mark.parametrize('data', ['scenes'])
def test_table_of_the_docs_is_what_was_measured(tool, data):
    written = ROOT / 'tools' / 'benchmarks' / 'results' / data / 'i2s_variants.json'
    table = tool.as_table(json.loads(written.read_text())['variants'])
    assert table in (ROOT / 'docs' / 'parts.md').read_text()
