"""Every learning-free fusion on the detections and logits of one trained model.

    python tools/benchmarks/fusion_rules.py CONFIG CHECKPOINT [--out TABLE.json] [--cfg-options ...]

The model has logits of all classes. Its settings of test_cfg.panoptic are those of every fusion;
each rival has its own further ones. Prints a table of PQ, order accuracy where the config measures
it, milliseconds per image, and the peak memory in MB of the first images. mmdet's head takes logits
of full size: resizing them is part of its time and memory.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from memory import peak_extra_bytes
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmbanet.models.fusion import select_detections
from mmbanet.models.semantic.logits import merge_things
from mmbanet.models.semantic.resized_logits import ResizedLogits

MEMORY_IMAGES = 5
MMDET = "mmdet's heuristic"
COMMON = ('score_thr', 'nms', 'stuff_area_limit')
OURS = {
    'score order (Panoptic FPN)': dict(order=None),
    'mean colour (BANet)': dict(order=dict(type='mmbanet.MeanColor')),
    'contour': dict(order=dict(type='mmbanet.ContourContrast')),
}
RIVALS = {
    'UPSNet': ('upsnet', {}),
    'UPSNet, boxes only': ('upsnet', dict(outside='exclude')),
    'UPSNet, without unknown': ('upsnet', dict(unknown=False)),
    'UPSNet, boxes only, without unknown': ('upsnet', dict(outside='exclude', unknown=False)),
    'EfficientPS': ('efficientps', {}),
    'EfficientPS, boxes only': ('efficientps', dict(outside='exclude')),
    'EfficientPS, boxes only, masks x 4': (
        'efficientps',
        dict(outside='exclude', mask_logit_scale=4.0),
    ),
    'JSIS-Net': ('jsis', {}),
    'mask-wise': ('mask_wise', {}),
    'mask-wise, stuff as masks': ('mask_wise', dict(stuff='masks')),
}


def fusion_heads(cfg: Config) -> dict[str, nn.Module]:
    """The heads by name."""
    settings = cfg.model.test_cfg.panoptic
    common = {name: settings[name] for name in COMMON}
    counts = {
        name: cfg.model.panoptic_fusion_head[name]
        for name in ('num_things_classes', 'num_stuff_classes')
    }
    ours = {
        name: dict(type='mmbanet.OcclusionAwareFusionHead', test_cfg=settings, **counts, **order)
        for name, order in OURS.items()
    }
    rivals = {
        name: dict(
            type='mmbanet.LogitFusionHead', rule=rule, test_cfg=dict(common, **own), **counts
        )
        for name, (rule, own) in RIVALS.items()
    }
    limits = ConfigDict(
        mask_overlap=settings.removal_thr, stuff_area_limit=settings.stuff_area_limit
    )
    theirs = {MMDET: dict(type='HeuristicFusionHead', test_cfg=limits, **counts)}
    return {name: MODELS.build(head) for name, head in (theirs | ours | rivals).items()}


def fusion(name: str, head: nn.Module, settings: ConfigDict) -> Callable[..., list[PixelData]]:
    """A head's prediction from detections, logits, labels and images, one of each in a list."""

    def fuse(
        detections: list[InstanceData],
        logits: list[ResizedLogits],
        labels: list[Tensor],
        images: list[Tensor],
    ) -> list[PixelData]:
        if name == MMDET:
            (item,), (given,) = detections, logits
            chosen = select_detections(item, settings.score_thr, settings.nms)
            whole = given.rows @ given.logits.float() @ given.cols.T
            return head.predict([item[chosen]], [merge_things(whole, head.num_things_classes)])
        if head.needs_semantic_logits:
            return head.predict(detections, logits)
        return head.predict(detections, labels, images)

    return fuse


def main() -> None:
    """Runs the model once and all fusions on what it gives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--images', type=int, help='only the first so many')
    parser.add_argument('--out', help='JSON file of the table')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    heads = fusion_heads(cfg)
    model = MODELS.build(cfg.model).eval()
    load_checkpoint(model, args.checkpoint, map_location='cpu')
    capture = heads['JSIS-Net']
    model.panoptic_fusion_head = capture
    # The images are handed out to all.
    capture.needs_images = True
    original = capture.predict

    loader = Runner.build_dataloader(cfg.test_dataloader)
    device = next(model.parameters()).device.type
    evaluators, seconds, memory = {}, dict.fromkeys(heads, 0.0), dict.fromkeys(heads, 0)
    settings = cfg.model.test_cfg.panoptic
    fusions = {name: fusion(name, head, settings) for name, head in heads.items()}
    for name in heads:
        metrics = [
            deepcopy(metric)
            for metric in cfg.test_evaluator
            # Who is in front is no question to a fusion pixel by pixel.
            if name in OURS or metric['type'] != 'mmbanet.OcclusionMetric'
        ]
        evaluators[name] = Evaluator(metrics)
        evaluators[name].dataset_meta = loader.dataset.metainfo
    count = 0
    for batch in loader:
        if args.images is not None and count >= args.images:
            break
        given = []

        def keep(*inputs, given=given):
            given[:] = inputs
            return original(*inputs)

        capture.predict = keep
        with torch.no_grad():
            (sample,) = model.test_step(batch)
        capture.predict = original
        detections, semantics, images = given
        inputs = detections, semantics, [sample.pred_sem_seg.sem_seg], images
        for name, fuse in fusions.items():
            start = time.perf_counter()
            (result,) = fuse(*inputs)
            seconds[name] += time.perf_counter() - start
            if count < MEMORY_IMAGES:
                peak = peak_extra_bytes(lambda fuse=fuse, inputs=inputs: fuse(*inputs), device)
                memory[name] = max(memory[name], peak)
            sample.pred_panoptic_seg = result
            evaluators[name].process([deepcopy(sample)], batch)
        count += 1
    rows = {}
    for name, evaluator in evaluators.items():
        metrics = evaluator.evaluate(len(loader.dataset) if args.images is None else count)
        rows[name] = dict(
            {key: float(value) for key, value in metrics.items()},
            milliseconds=1000 * seconds[name] / count,
            peak_mb=memory[name] / 1e6,
        )
    for name, row in rows.items():
        print(f'{name:40}', {key: round(value, 2) for key, value in row.items()})
    if args.out:
        with open(args.out, 'w') as file:
            json.dump(rows, file, indent=1)
