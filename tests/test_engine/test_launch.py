"""Settings that tools share: where the data set lies, and what is written in the end."""

import argparse
import json
import warnings

import pytest
from mmdet.registry import TRANSFORMS
from mmengine.config import Config

from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import augment_tests, load_config, override, replace_data_root

from ..conftest import CONFIGS

ALL = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)


def text(cfg: Config) -> str:
    """Of the whole config, but for what the tools set."""
    content = cfg.to_dict()
    return json.dumps({key: content[key] for key in content.keys() - {'work_dir', 'launcher'}})


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_no_path_of_our_configs_under_the_old_root_is_left(path):
    old = Config.fromfile(path)
    cfg = load_config(argument_parser('').parse_args([str(path), '--data-root', '/disk/new']))
    names = ('coco', 'scenes', 'camvid', 'photo_scenes', 'custom', 'cityscapes')
    assert old.data_root in [f'data/{name}/' for name in names]
    moved = json.loads(text(cfg))
    assert old.data_root not in text(cfg)
    # Nothing else has changed.
    assert json.loads(text(cfg).replace('/disk/new/', old.data_root)) == json.loads(text(old))
    assert moved['data_root'] == moved['test_dataloader']['dataset']['data_root'] == '/disk/new/'


def test_paths_move_wherever_they_are():
    def dataset(root: str) -> dict:
        return dict(data_root=root, ann_file='a.json', data_prefix=dict(img='train/'))

    def config(root: str) -> Config:
        many = [dataset(f'{root}/one/'), dict(type='RepeatDataset', dataset=dataset(f'{root}/'))]
        return Config(
            dict(
                data_root=f'{root}/',
                model=dict(parts=[dict(semantic_model=dict(folder=f'{root}/semantic'))]),
                train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=many)),
                val_evaluator=[dict(ann_file=f'{root}/a.json'), dict(inner=(f'{root}/b/',))],
                tta_model=dict(module=dict(folder=root)),
                instances_ann_file=f'{root}/annotations/instances.json',
                untouched=['data/sets', 'my_data/set/a', 's3://data/set/a', '/data/set/a', 'set'],
                other=dataset('data/other/'),
            )
        )

    outputs = dict(
        work_dir='data/set/work',
        test_evaluator=dict(outfile_prefix='data/set/results', out_file_path='data/set/out.pkl'),
        vis_backends=[dict(type='LocalVisBackend', save_dir='data/set/pictures')],
    )
    for root in ('data/set', './data/set', 'data//set'):
        cfg = config(root)
        cfg.merge_from_dict(outputs)
        replace_data_root(cfg, 'new/place')
        expected = config('new/place')
        expected.merge_from_dict(outputs)
        assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize('settings', [{}, dict(data_root=''), dict(data_root='./')])
def test_a_config_without_a_root_is_refused(settings):
    with pytest.raises(ValueError, match='--data-root replaces data_root of the config'):
        replace_data_root(Config(dict(settings, path='a.json')), 'new')


def test_an_output_is_checked_before_the_work_begins(tmp_path):
    assert output_file(str(tmp_path / 'new' / 'folder' / 'a.json')).parent.is_dir()
    (tmp_path / 'file').touch()
    for path, message in [
        (tmp_path / 'file' / 'a.json', 'cannot create its folder: .*file'),
        (tmp_path / 'new', 'expected a file to be written, .*new is a folder'),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=message):
            output_file(str(path))


@pytest.mark.parametrize(
    ('key', 'right'),
    [
        ('train_cfg.max_itersx', 'max_iters'),
        ('modle.backbone.depth', 'model'),
        ('model.test_cfg.panoptic.score_th', 'score_thr'),
    ],
)
def test_a_misspelt_key_is_told(key, right):
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    with pytest.warns(UserWarning, match=f'{key} is not in the config .* for "{right}"'):
        override(cfg, {key: 3})
    assert cfg.get(key.split('.')[0]) is not None  # taken, as MMEngine takes it


def test_keys_that_are_there_and_new_ones_are_taken_in_silence():
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    options = {
        'model.backbone.depth': 34,
        'randomness.seed': 0,
        'load_from': 'x.pth',
        'val_cfg': None,
        'test_evaluator.0.type': 'mmbanet.PanopticMetric',
        'optim_wrapper.paramwise_cfg.dcn_offset_lr_mult': 0.1,
    }
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        override(cfg, options)
        override(cfg, None)
    assert cfg.model.backbone.depth == 34
    assert cfg.optim_wrapper.paramwise_cfg.dcn_offset_lr_mult == 0.1


@pytest.mark.parametrize('said', [{}, dict(meta_keys=('img_id', 'ori_shape'))])
def test_views_are_packed_with_what_a_test_needs_and_their_flips(said):
    """Of a config that leaves the keys to mmdet, all of mmdet's stay."""
    pack = dict(type='PackDetInputs', **said)
    cfg = Config(dict(model={}, test_dataloader=dict(dataset=dict(pipeline=[pack]))))
    augment_tests(cfg)
    (views,) = cfg.test_dataloader.dataset.pipeline
    packed = TRANSFORMS.build(views.transforms[-1][0]).meta_keys
    assert set(packed) == {*TRANSFORMS.build(pack).meta_keys, 'flip', 'flip_direction'}


@pytest.mark.parametrize(
    ('launcher', 'environment', 'message'),
    [
        ('pytorch', {}, '--launcher pytorch: not started by torchrun, which sets RANK'),
        ('slurm', {}, '--launcher slurm: not started by srun, which sets SLURM_PROCID'),
        ('mpi', {}, '--launcher mpi: not started by mpirun'),
        ('none', dict(WORLD_SIZE='2', RANK='1'), 'one of 2 processes .* add --launcher pytorch'),
    ],
)
def test_processes_and_launchers_that_do_not_fit(launcher, environment, message, monkeypatch):
    """Without a launcher, all ranks would train in one folder, and the first alone lock it."""
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'OMPI_COMM_WORLD_LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        load_config(argument_parser('').parse_args([str(ALL[0]), '--launcher', launcher]))
