"""Time and memory of every rule of fusion: ``python tools/benchmarks/fusion_rules_cost.py``.

Prints a Markdown table and writes it as JSON. All fuse the same objects, from logits of stride 4.
Of mmdet's heuristic there are two rows: with the resize of its logits to full size, which it needs,
and of its head alone, with logits that are resized already. All take turns, so that the ratios
survive a noisy machine.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
from collections.abc import Callable

import fusion_inputs as given
import torch
from fusion_heads import COMMON, MMDET, RIVALS
from fusion_inputs import STUFF, THINGS, Case
from harness import make_report, parse_arguments, write_report
from memory import peak_extra_bytes
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from timing import time_side_by_side

from mmbanet.models.fusion import (
    LogitFusionHead,
    OcclusionAwareFusionHead,
    SpatialRankingHead,
)

SETTINGS = dict(
    score_thr=0.6,
    nms=dict(type='nms', iou_threshold=given.NMS_IOU),
    stuff_area_limit=4096,
    removal_thr=0.5,
    occlusion_thr=0.2,
)
MMDET_ALONE = f'{MMDET}, logits of full size'
CASES = (Case(30, 800, 1333), Case(10, 427, 640))


def main() -> None:
    """Measures every case and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seconds', type=float, default=30, help='for a case')
    args = parse_arguments(parser)

    rows = []
    print(f'| objects | size | fusion | ms | of {MMDET} | of it, resized before | MB |')
    print('|---' * 7 + '|')
    for case in CASES:
        functions = fusions(case, args.device)
        ms = time_side_by_side(functions, args.device, args.seconds)
        for name, function in functions.items():
            row = dict(
                objects=case.objects,
                height=case.height,
                width=case.width,
                fusion=name,
                ms=ms[name],
                ratio=ms[name] / ms[MMDET],
                ratio_alone=ms[name] / ms[MMDET_ALONE],
                bytes=peak_extra_bytes(function, args.device),
            )
            rows.append(row)
            print(
                f'| {case.objects} | {case.height}x{case.width} | {name} | {row["ms"]:.0f} | '
                f'{row["ratio"]:.2f} | {row["ratio_alone"]:.2f} | {row["bytes"] / 1e6:.0f} |',
                flush=True,
            )
    path = write_report(
        make_report(args.device, rows=rows), args.out, f'fusion_rules_cost_{args.device}'
    )
    print(path)


@torch.no_grad()
def fusions(case: Case, device: str) -> dict[str, Callable]:
    """All of them by name, as functions without arguments."""
    instances, image = given.random_instances(case, device), given.random_image(case, device)
    instances.mask_logits = given.mask_logits(instances)
    logits = given.random_logits(case, device)
    small = given.mmdet_channels(logits)
    large = given.full_size(small, case)
    cfg = ConfigDict(
        mask_overlap=SETTINGS['removal_thr'], stuff_area_limit=SETTINGS['stuff_area_limit']
    )
    theirs = HeuristicFusionHead(THINGS, STUFF, cfg)
    ours = {
        'score order': OcclusionAwareFusionHead(THINGS, STUFF, None, test_cfg=SETTINGS),
        'mean colour (BANet)': OcclusionAwareFusionHead(THINGS, STUFF, test_cfg=SETTINGS),
        'OANet': SpatialRankingHead(THINGS, STUFF, test_cfg=SETTINGS).to(device),
    }
    common = {name: SETTINGS[name] for name in COMMON}
    rivals = {
        name: LogitFusionHead(rule, THINGS, STUFF, test_cfg=common | own)
        for name, (rule, own) in RIVALS.items()
    }
    return {
        MMDET: lambda: theirs.predict([instances], [given.full_size(small, case)]),
        MMDET_ALONE: lambda: theirs.predict([instances], [large]),
    } | {
        name: lambda head=head: head.predict([instances], [logits], [image])
        for name, head in (ours | rivals).items()
    }
