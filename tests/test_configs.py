"""Every config builds; derived ones differ from their base only where they say so."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

from mmbanet.datasets.cityscapes_conversion import CATEGORIES
from mmbanet.engine.class_count_hook import check_class_counts
from mmbanet.models import S2IRoIExtractor

from .conftest import CONFIGS, is_large, make_sample

# Those of other models: test_models/test_model_families.py; the oracles: test_models/test_oracles.
ALL = sorted(
    path for folder in ('banet', 'ablation', 'aunet') for path in (CONFIGS / folder).glob('*.py')
)
# Tables 2 and 6: with I2S, OCM, S2I, DFM; order rules; lambda_s, lambda_i of section 4.3.
ROWS = {
    'ablation/banet_{}_baseline_{}': (False, False, False, False, [], 0.5, None),
    'ablation/banet_{}_sim_{}': (True, False, False, False, [], 0.2, 0.3),
    'ablation/banet_{}_sim_roi_upsample_{}': (True, False, False, False, [], 0.2, 0.3),
    'ablation/banet_{}_sim_ocm_{}': (True, True, False, False, [], 0.2, 0.3),
    'ablation/banet_{}_sim_ocm_s2i_{}': (True, True, True, False, [], 0.2, 0.3),
    'ablation/banet_{}_sim_ocm_s2i_dfm_{}': (True, True, True, True, [], 0.1, 0.2),
    'banet/banet_{}_{}': (True, True, True, False, ['MeanColor'], 0.2, 0.3),
    'banet/banet_{}_dfm_{}': (True, True, True, True, ['MeanColor'], 0.1, 0.2),
}
SIZES = [('r50_fpn', '1x_coco'), ('r18_fpn', 'scenes')]


def is_literal(node: ast.expr) -> bool:
    """Whether it names nothing but ``dict``."""
    return all(name.id == 'dict' for name in ast.walk(node) if isinstance(name, ast.Name))


def literals(path: str, node: ast.expr) -> Iterator[tuple[str, str]]:
    """The dotted path and the source of what a config says itself, in dicts and lists of dicts."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        for argument in node.args:
            yield from literals(path, argument)
        for item in node.keywords:
            yield from literals(f'{path}.{item.arg}' if item.arg else path, item.value)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            name = '' if key is None else f'.{ast.literal_eval(key) if is_literal(key) else "*"}'
            yield from literals(path + name, value)
    elif isinstance(node, ast.DictComp):
        yield from literals(f'{path}.*', node.value)
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)) and not is_plain(node):
        for element in node.elts:
            # A step of a pipeline is one value: its keys mean nothing without its type.
            if is_literal(element):
                yield f'{path}[]', ast.unparse(element)
            else:
                yield from literals(f'{path}[]', element)
    elif is_literal(node) and path.rpartition('.')[2] != '_delete_':
        yield path, ast.unparse(node)


def is_plain(node: ast.List | ast.Tuple | ast.Set) -> bool:
    """Whether it is numbers and strings alone."""
    return all(isinstance(element, (ast.Constant, ast.UnaryOp)) for element in node.elts)


def restated(folder: Path) -> list[str]:
    """Values that two files say of the same thing: of paths of which one ends with the other."""
    said = defaultdict(lambda: defaultdict(set))  # files by last key and value, then by path
    for file in folder.rglob('*.py'):
        for line in ast.parse(file.read_text()).body:
            if isinstance(line, ast.Assign) and line.targets[0].id != '_base_':
                for path, value in literals(line.targets[0].id, line.value):
                    said[path.rpartition('.')[2], value][path].add(file.name)
    return [
        f'{path} = {value}: {sorted(files | others)}'
        for (_, value), paths in said.items()
        for path, files in paths.items()
        for other, others in paths.items()
        if f'.{path}'.endswith(f'.{other}') and len(files | others) > 1
    ]


def test_no_value_stands_in_two_configs():
    assert not restated(CONFIGS)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        ('model = dict(i2s_head=dict(ocm=None))',) * 2,
        ('num_classes = 80', 'model = dict(bbox_head=dict(num_classes=80))'),
        ("model = {'head': dict(_base_.head, weight=0.5)}", 'model = dict(head=dict(weight=0.5))'),
        (
            "pipeline = [dict(type='Flip', prob=0.5)]",
            "pipeline = [*x, dict(type='Flip', prob=0.5)]",
        ),
        ('hooks = [dict(a, interval=20)]', 'hooks = [dict(b, interval=20), c]'),
    ],
)
def test_restated_values_are_found(tmp_path, first, second):
    (tmp_path / 'first.py').write_text(first)
    (tmp_path / 'second.py').write_text('other = dict(type="X")')
    assert not restated(tmp_path)
    (tmp_path / 'second.py').write_text(second)
    assert restated(tmp_path)


def build(cfg: Config):
    """The model, without downloads."""
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_trains_one_step(path):
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(
        {
            'model.train_cfg.rpn_proposal.max_per_img': 50,
            'model.train_cfg.rcnn.sampler.num': 16,
            'model.roi_head.bbox_head.fc_out_channels': 32,
        }
    )
    if is_large(path):  # a narrow backbone
        cfg.model.backbone.merge(dict(base_channels=8, stem_channels=8))
        cfg.model.neck.in_channels = [32, 64, 128, 256]
    model = build(cfg).train()
    things, classes = cfg.num_things_classes, cfg.num_things_classes + cfg.num_stuff_classes
    sample = make_sample(96, 96, num_things_classes=things, num_classes=classes)
    batch = dict(inputs=[torch.randint(0, 256, (3, 96, 96)).byte()], data_samples=[sample])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = model.train_step(batch, OptimWrapper(optimizer))
    assert set(losses) >= {'loss', 'loss_seg', 'loss_mask', 'loss_bbox', 'loss_rpn_bbox'}
    assert ('loss_i2s' in losses) == model.with_i2s
    assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    changed = {name for name, value in model.named_parameters() if (value != before[name]).any()}
    heads = {name.split('.')[0] for name in changed}
    expected = {'backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'}
    assert heads == expected | ({'i2s_head'} if model.with_i2s else set())


@pytest.mark.parametrize('size', SIZES, ids=lambda size: size[1])
@pytest.mark.parametrize(('name', 'parts'), ROWS.items(), ids=lambda x: x if str(x) == x else '')
def test_rows_of_the_tables_have_the_parts_that_they_name(name, parts, size):
    cfg = Config.fromfile(CONFIGS / f'{name.format(*size)}.py')
    model = build(cfg)
    assert parts == (
        model.with_i2s,
        model.with_i2s and model.i2s_head.ocm is not None,
        model.with_s2i,
        'conv_cfg' in cfg.model.semantic_head,
        [rule.name for rule in model.panoptic_fusion_head.order or ()],
        cfg.model.semantic_head.loss_seg.loss_weight,
        cfg.model.i2s_head.get('loss_i2s', dict(loss_weight=0.3))['loss_weight']
        if model.with_i2s
        else None,
    )
    if model.with_i2s:
        upsample = 'upsample' in name
        assert type(model.i2s_head.inlay).__name__ == ('RoIUpsample' if upsample else 'RoIInlay')
    extractors = model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor
    assert all(isinstance(part, S2IRoIExtractor) == model.with_s2i for part in extractors)
    full = Config.fromfile(CONFIGS / 'banet' / f'banet_{"_".join(size)}.py')
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == full[key], key


def test_largest_model():
    """Section 4.3: DCN-101, 3x schedule in proportion to 1x, multi-scale."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_dcn101_fpn_dfm_3x_coco.py')
    assert cfg.train_cfg.max_iters == 270000
    warmup, steps = cfg.param_scheduler
    assert (warmup.end, steps.end, steps.milestones) == (500, 270000, [3 * 60000, 3 * 80000])
    (resize,) = (step for step in cfg.train_dataloader.dataset.pipeline if 'Resize' in step.type)
    assert resize.scales == [(1333, side) for side in (640, 672, 704, 736, 768, 800)]
    backbone = build(cfg).backbone
    assert type(backbone.layer4[0].conv2).__name__ == 'DeformConv2dPack'
    assert [len(getattr(backbone, f'layer{i}')) for i in (1, 2, 3, 4)] == [3, 4, 23, 3]


def test_paper_settings():
    """Section 4.3 and DESIGN's reading of it, against numbers typed from the paper."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001
    )
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor * 0.02, warmup.end) == (pytest.approx(0.002), 500)
    assert (steps.milestones, steps.gamma) == ([60000, 80000], 0.1)
    assert cfg.train_cfg.max_iters == 90000
    model = cfg.model
    assert model.semantic_head.loss_seg.loss_weight == 0.2
    assert model.i2s_head.loss_i2s.loss_weight == 0.3
    assert model.train_cfg.i2s.gt_share == (0.6, 1.0)
    panoptic = model.test_cfg.panoptic
    assert (panoptic.score_thr, panoptic.nms.iou_threshold) == (0.6, 0.5)
    assert (panoptic.occlusion_thr, panoptic.removal_thr) == (0.2, 0.5)
    assert panoptic.stuff_area_limit == 4096

    assert model.panoptic_fusion_head.type == 'mmbanet.OcclusionAwareFusionHead'
    assert 'order' not in model.panoptic_fusion_head  # by default: the paper's rule
    for branch in ('bbox', 'mask'):
        assert model.roi_head[f'{branch}_roi_extractor'].type == 'mmbanet.S2IRoIExtractor'
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps['Resize'] == dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    assert {'RandomCrop', 'RandomFlip'} <= set(steps)
    assert cfg.auto_scale_lr.base_batch_size == 16 == 8 * cfg.train_dataloader.batch_size

    built = MODELS.build(model | dict(backbone=model.backbone | dict(init_cfg=None)))
    assert built.roi_head.mask_head.num_convs == 3
    assert built.semantic_head.conv_logits.in_channels == 512
    assert built.i2s_head.ocm.pool_sizes == (1, 2, 4, 8)
    assert built.i2s_head.ocm.project_instances.out_channels == 10

    dfm = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_dfm_1x_coco.py').model
    assert dfm.semantic_head.conv_cfg.type == 'mmbanet.DeformConv2dPack'
    assert dfm.semantic_head.loss_seg.loss_weight == 0.1
    assert dfm.i2s_head.loss_i2s.loss_weight == 0.2


def test_cityscapes_settings():
    """Panoptic FPN, section 5, against numbers typed from the paper; classes as converted."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_cityscapes.py')
    warmup, steps = cfg.param_scheduler
    assert (cfg.train_cfg.max_iters, steps.end, steps.milestones) == (65000, 65000, [40000, 55000])
    assert (cfg.optim_wrapper.optimizer.lr, warmup.end) == (0.01, 500)
    assert cfg.auto_scale_lr.base_batch_size == 32 == 8 * cfg.train_dataloader.batch_size
    by_type = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert by_type['RandomResize'].ratio_range == (0.5, 2.0)
    assert by_type['RandomCrop'].crop_size == (1024, 512)  # width, height
    assert cfg.train_dataloader.dataset.instances_ann_file is None
    metainfo = cfg.test_dataloader.dataset.metainfo
    things = [category for category in CATEGORIES if category['isthing']]
    stuff = [category for category in CATEGORIES if not category['isthing']]
    assert metainfo.thing_classes == [category['name'] for category in things]
    assert metainfo.stuff_classes == [category['name'] for category in stuff]
    assert metainfo.palette == [tuple(category['color']) for category in things + stuff]
    assert (cfg.num_things_classes, cfg.num_stuff_classes) == (8, 11)
    check_class_counts(build(cfg), 8, 11)
