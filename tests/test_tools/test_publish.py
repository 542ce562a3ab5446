"""A checkpoint is published without what training alone needs, under the name of its contents."""

import hashlib
import json

import pytest
import torch
import yaml
from mmengine.logging import HistoryBuffer
from torch.hub import HASH_REGEX

from mmbanet.apis import init_model

from ..conftest import CONFIGS

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
NAME = 'banet_r18_fpn_scenes_20261127_101112'


@pytest.fixture
def trained(checkpoint):
    """The small model's checkpoint, with all that MMEngine puts into one."""
    content = torch.load(checkpoint)
    weights = [weight.clone() for weight in content['state_dict'].values()]
    history = HistoryBuffer()
    history.update(1.0)
    content |= dict(
        meta=dict(
            dataset_meta=dict(classes=('a', 'b')),
            iter=500,
            epoch=0,
            seed=0,
            time='20261127_101112',
            hook_msgs=dict(last_ckpt='/home/somebody/iter_500.pth'),
        ),
        optimizer=dict(state=dict(enumerate(weights)), param_groups=[]),
        param_schedulers=[dict(last_step=500)],
        message_hub=dict(log_scalars={'train/loss': history}),
    )
    torch.save(content, checkpoint)
    return checkpoint


def test_published_checkpoint_is_the_model_and_little_else(call_tool, trained, tmp_path, capsys):
    out = tmp_path / 'published'
    metrics = tmp_path / 'metrics.json'
    metrics.write_text(json.dumps({'coco_panoptic/PQ': 48.24, 'coco_panoptic/AP_mask': 31.06}))
    call_tool(
        'publish.py', CONFIG, trained, '--out', out, '--metrics', metrics, '--url', 'https://x/'
    )

    (path,) = out.glob('*.pth')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'{NAME}-{digest[:8]}.pth'
    assert HASH_REGEX.search(path.name)[1] == digest[:8]
    assert sorted(file.name for file in out.iterdir()) == [path.name, f'{path.stem}.yml']
    assert path.stat().st_size < 0.6 * trained.stat().st_size
    assert b'somebody' not in path.read_bytes()

    content = torch.load(path, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'}
    assert content['meta']['dataset_meta'] == dict(classes=('a', 'b'))
    before = torch.load(trained, weights_only=False)['state_dict']
    assert all(torch.equal(weight, before[name]) for name, weight in content['state_dict'].items())
    init_model(CONFIG, path)  # refuses what is missing

    (entry,) = yaml.safe_load(path.with_suffix('.yml').read_text())
    assert entry['Name'] == 'banet_r18_fpn_scenes'
    assert entry['In Collection'] == 'BANet'
    assert entry['Metadata'] == dict(Iterations=500)
    assert entry['Weights'] == f'https://x/{path.name}'
    assert entry['Results'] == [
        dict(Task='Panoptic Segmentation', Dataset='scenes', Metrics=dict(PQ=48.2)),
        dict(Task='Instance Segmentation', Dataset='scenes', Metrics={'mask AP': 31.1}),
    ]
    assert path.name in capsys.readouterr().out


def test_the_same_checkpoint_gets_the_same_name(call_tool, trained, tmp_path):
    for folder in ('first', 'second'):
        call_tool('publish.py', CONFIG, trained, '--out', tmp_path / folder)
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ('first', 'second'))
    assert [path.name for path in first] == [path.name for path in second]
    (entry,) = yaml.safe_load(first[1].read_text())
    assert entry['Results'] == []


def test_a_collection_is_that_of_the_metafile_or_the_model(tools_folder, small_cfg):
    import publish

    assert publish.collection_of(small_cfg, str(CONFIG)) == 'BANet'
    path = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'
    cfg = small_cfg.copy()
    cfg.model.type = 'PanopticFPN'
    assert publish.collection_of(cfg, str(path)) == 'PanopticFPN'


def test_a_checkpoint_of_another_model_is_refused(call_tool, trained, tmp_path):
    content = torch.load(trained, weights_only=False)
    content['state_dict'].popitem()
    torch.save(content, trained)
    with pytest.raises(SystemExit, match='is a checkpoint of another model'):
        call_tool('publish.py', CONFIG, trained, '--out', tmp_path / 'published')
    with pytest.raises(SystemExit, match='checkpoint not found'):
        call_tool('publish.py', CONFIG, tmp_path / 'none.pth', '--out', tmp_path / 'published')
    assert not (tmp_path / 'published').exists()


class Surprise:
    """What a pickle can do."""

    def __reduce__(self):
        return print, ('run',)


def test_a_checkpoint_that_holds_code_is_not_run(call_tool, trained, tmp_path, capsys):
    content = torch.load(trained, weights_only=False)
    torch.save(content | dict(surprise=Surprise()), trained)
    with pytest.raises(SystemExit, match='holds more than data'):
        call_tool('publish.py', CONFIG, trained, '--out', tmp_path / 'published')
    assert 'run' not in capsys.readouterr().out.split()
    assert not (tmp_path / 'published').exists()
