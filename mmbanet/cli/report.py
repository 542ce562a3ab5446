"""What a model does well and badly, as one HTML page: ``mmbanet report CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbanet.cli.arguments import CfgOptions, check_empty, count, share
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

SCORES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
OVERLAPS = (0.3, 0.5, 0.7)
EPILOG = """
WHAT is a config, whose test set is predicted, or the folder that mmbanet predict wrote, with
--truth. DIR gets

  index.html      the report: opens from the disk, without a server
  report.json     all of its numbers; qualities in percent
  classes.csv     PQ, SQ, RQ and counts of each class

The numbers are those of mmbanet.PanopticMetric. Who is in front and thresholds against PQ need the
model; each pair of thresholds costs a fusion of every image, without --score-thrs values none.
docs/report.md says what the sections mean. mmdet users know parts of it as
tools/analysis_tools/analyze_results.py, confusion_matrix.py and eval_metric.py.

  mmbanet report configs/banet/banet_r50_fpn_1x_coco.py banet.pth --out report
  mmbanet report predictions --truth data/coco/annotations/panoptic_val2017.json --out report
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and writes the report."""
    parser = argparse.ArgumentParser(
        prog='mmbanet report',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', help='config, or folder of predictions')
    parser.add_argument('checkpoint', nargs='?', help='of the config: file or URL')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to, a new one')
    parser.add_argument('--truth', type=Path, help='panoptic JSON that a folder is compared with')
    parser.add_argument('--images', type=Path, help='folder of the images, if they were moved')
    parser.add_argument(
        '--examples', type=count, default=6, help='worst and best images shown (default: 6 each)'
    )
    for name, values, what in (
        ('--score-thrs', SCORES, 'least scores to try (default: 0.3 to 0.8)'),
        ('--overlap-thrs', OVERLAPS, 'removal_thr (mask_overlap) to try (default: 0.3 0.5 0.7)'),
    ):
        parser.add_argument(name, nargs='*', type=share, default=values, metavar='THR', help=what)
    parser.add_argument('--device', help='such as cuda:0 (default: the GPU if there is one)')
    parser.add_argument('--data-root', help="folder of the data set, in place of the config's")
    parser.add_argument('--cfg-options', action=CfgOptions, help='overrides of the config')
    args = parser.parse_args(argv)
    check_empty(args.out)
    check_what(args)
    with quiet_imports():
        from mmbanet.cli.work.report import run
    run(args)


def check_what(args: argparse.Namespace) -> None:
    """Raises an error for what is not there, or does not go together."""
    check_found('config or folder', args.what)
    if not Path(args.what).is_dir():
        if args.truth is not None or args.images is not None:
            raise ValueError(
                f'--truth and --images belong to a folder of predictions, which {args.what} is '
                "not: the config's test set has its own"
            )
        check_found('checkpoint', args.checkpoint)
        return
    if args.truth is None:
        raise ValueError(
            f'{args.what} is a folder of predictions: --truth names the panoptic JSON to compare '
            'them with'
        )
    for name in ('checkpoint', 'device', 'data_root', 'cfg_options'):
        if getattr(args, name) is not None:
            what = name.replace('_', '-')
            raise ValueError(f'{what} belongs to a config, but {args.what} is a folder')
    check_found('truth', args.truth)
