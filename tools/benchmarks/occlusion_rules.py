"""What order rules are worth in fusion: PQ of the same predictions, fused by every rule.

The model runs once over the test set of its config; every rule then fuses the same detections and
the same semantic map, and is scored by the metrics of the config: PQ and, on data that say who is
in front, the occlusion metric. Any config with ``mmbanet.OcclusionAwareFusionHead`` will do. How
many pairs a rule orders rightly, by kind of pair and with intervals, order.py measures.

    python tools/benchmarks/occlusion_rules.py CONFIG CHECKPOINT [--data-root DIR] [--out FILE.json]
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import json

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from order_rules import RULES, SCORE
from timing import machine
from torch import nn

from mmbanet.apis import init_model
from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import load_config
from mmbanet.models.detectors.input_images import rgb_images
from mmbanet.models.fusion import OcclusionAwareFusionHead
from mmbanet.registry import MODELS

# Settings of the fusion head, by the name of the row.
SETTINGS = {SCORE: dict(order=None)} | {name: dict(order=rules) for name, rules in RULES.items()}
COLUMNS = {
    'coco_panoptic/PQ': 'PQ',
    'coco_panoptic/PQ_th': 'PQ_Th',
    'coco_panoptic/PQ_st': 'PQ_St',
    'occlusion/accuracy': 'ordered rightly, %',
    'occlusion/accuracy_same_class': 'same class',
    'occlusion/accuracy_small_on_large': 'small on large',
    'occlusion/accuracy_alike': 'alike',
}


def main() -> None:
    """Parses the arguments, compares the rules, prints the table and writes the JSON."""
    parser = argument_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=output_file, help='JSON file for all metrics')
    args = parser.parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    scores = compare(cfg, SETTINGS)
    print('\n' + as_table(scores))
    if args.out:
        report = dict(
            config=args.config,
            data_root=cfg.data_root,
            machine=machine('cuda' if torch.cuda.is_available() else 'cpu'),
            rules=scores,
        )
        args.out.write_text(json.dumps(report, indent=2) + '\n')


def compare(cfg: Config, settings: dict[str, dict]) -> dict[str, dict[str, float]]:
    """Metrics of each setting of the fusion head, on the predictions of one run over the test set.

    Args:
        cfg: With ``load_from``.
        settings: By name, what differs from the config's fusion head; in ``test_cfg`` from its.
    """
    MMLogger.get_instance('mmengine', log_level='WARNING')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = init_model(cfg, cfg.load_from, device)
    head = getattr(model, 'panoptic_fusion_head', None)
    if not isinstance(head, OcclusionAwareFusionHead):
        raise TypeError(
            "the model must have panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead'"
            f', ...), got {type(head).__name__}'
        )
    heads = {name: build_head(cfg, **changes) for name, changes in settings.items()}
    loader = Runner.build_dataloader(cfg.test_dataloader)
    evaluators = {name: Evaluator(cfg.test_evaluator) for name in heads}
    for evaluator in evaluators.values():
        evaluator.dataset_meta = loader.dataset.metainfo

    progress = ProgressBar(len(loader))
    for batch in loader:
        with torch.no_grad():
            batch = model.data_preprocessor(batch)
            samples = model(**batch, mode='predict')
        metas = [sample.metainfo for sample in samples]
        images = rgb_images(batch['inputs'], model.data_preprocessor, metas, rescale=True)
        for name, head in heads.items():
            panoptic = head.predict(
                [sample.pred_instances for sample in samples],
                [sample.pred_sem_seg.sem_seg for sample in samples],
                images,
            )
            for sample, result in zip(samples, panoptic):
                sample.pred_panoptic_seg = result
            evaluators[name].process(samples, batch)
        progress.update()
    return {name: evaluators[name].evaluate(len(loader.dataset)) for name in heads}


def build_head(cfg: Config, test_cfg: dict | None = None, **changes) -> nn.Module:
    """The config's fusion head with other settings."""
    test_cfg = dict(cfg.model.test_cfg.panoptic, **test_cfg or {})
    return MODELS.build(dict(cfg.model.panoptic_fusion_head, **changes, test_cfg=test_cfg))


def as_table(scores: dict[str, dict[str, float]]) -> str:
    """A Markdown table, a line for each rule."""
    lines = [
        '| rule | ' + ' | '.join(COLUMNS.values()) + ' |',
        '|---' * (len(COLUMNS) + 1) + '|',
    ]
    for name, score in scores.items():
        values = (f'{score[key]:.1f}' if key in score else '' for key in COLUMNS)
        lines.append(f'| {name} | ' + ' | '.join(values) + ' |')
    return '\n'.join(lines)
