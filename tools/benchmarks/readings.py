"""Where the paper can be read in two ways: both readings, on the same predictions.

Each checkpoint's model runs once over the test set of its config; every reading then fuses the same
detections and the same semantic map. The readings are of ``pairs`` and ``removal``, and of the
detections that are fused without occlusion handling (OH).

    python tools/benchmarks/readings.py CONFIG CHECKPOINT [...] [--data-root DIR] [--out FILE.json]
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import json
import statistics

from mmengine.config import Config
from occlusion_rules import compare
from timing import machine

from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import load_config
from mmbanet.messages import check_found

COLUMNS = {
    'coco_panoptic/PQ': 'PQ',
    'coco_panoptic/PQ_th': 'PQ_Th',
    'coco_panoptic/PQ_st': 'PQ_St',
    'occlusion/accuracy': 'ordered rightly, %',
}


def main() -> None:
    """Parses the arguments, compares the readings, prints the table and writes the JSON."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        'checkpoints', nargs='+', help='checkpoint files, such as one for each seed'
    )
    parser.add_argument('--out', type=output_file, help='JSON file for all metrics')
    args = parser.parse_args()
    for checkpoint in args.checkpoints:
        check_found('checkpoint', checkpoint)
    scores = {}
    for checkpoint in args.checkpoints:
        cfg = load_config(args)
        cfg.load_from = checkpoint
        for name, score in compare(cfg, readings(cfg)).items():
            scores.setdefault(name, []).append(score)
    print('\n' + as_table(scores))
    if args.out:
        report = dict(config=args.config, machine=machine('cpu'), readings=scores)
        args.out.write_text(json.dumps(report, indent=2) + '\n')


def readings(cfg: Config) -> dict[str, dict]:
    """Settings of the fusion head, by the name of the row."""
    settings = {
        f'pairs={pairs}, removal={removal}': dict(test_cfg=dict(pairs=pairs, removal=removal))
        for pairs in ('all', 'occluded_first')
        for removal in ('joint', 'front_to_back')
    }
    settings['without OH, selection as with OH'] = dict(order=None)
    # Kirillov et al.'s code: confident masks, whose duplicates fall to the overlap test alone.
    confident = dict(score_thr=0.5, nms=None)
    settings["without OH, panopticapi's selection"] = dict(order=None, test_cfg=confident)
    # mmdet's heuristic head takes whatever the RoI head hands over.
    everything = dict(score_thr=cfg.model.test_cfg.rcnn.score_thr, nms=None)
    settings["without OH, mmdet's selection"] = dict(order=None, test_cfg=everything)
    return settings


def as_table(scores: dict[str, list[dict[str, float]]]) -> str:
    """A Markdown table, a line for each reading: mean and standard deviation over checkpoints."""
    lines = [
        '| reading | ' + ' | '.join(COLUMNS.values()) + ' |',
        '|---' * (len(COLUMNS) + 1) + '|',
    ]
    for name, runs in scores.items():
        cells = []
        for key in COLUMNS:
            values = [run[key] for run in runs]
            spread = f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else ''
            cells.append(f'{statistics.mean(values):.2f}{spread}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
