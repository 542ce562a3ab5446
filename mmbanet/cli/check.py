"""What is wrong in a COCO panoptic data set: ``mmbanet check DATA``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbanet.cli.arguments import count, output_file
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

EPILOG = """
DATA is a panoptic JSON file, or the folder with annotations/panoptic_NAME.json in it. PNGs are
expected in annotations/panoptic_NAME/, images in NAME/, instance annotations, which are optional,
in annotations/instances_NAME.json; the options say otherwise, of a single JSON file.

An error is what mmbanet refuses to train or test with, or what makes its figures wrong; a warning
is worth a look. The exit status is 1 if there are errors. --fix writes copies of the JSON files
with what follows from PNGs and images without a guess: areas, boxes, sizes, missing iscrowd,
entries that stand there twice; what is checked then are the copies.

With --config, classes are compared with those of the config, and the sizes of things with its
anchors. mmdet users know parts of it as
tools/analysis_tools/browse_dataset.py and optimize_anchors.py.

  mmbanet check data/mine
  mmbanet check data/mine/annotations/panoptic_train.json --fix data/mine/mended
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments, checks and prints."""
    parser = argparse.ArgumentParser(
        prog='mmbanet check',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('data', type=Path, help='panoptic JSON, or folder of the data set')
    parser.add_argument('--images', type=Path, help='folder of the images')
    parser.add_argument('--pngs', type=Path, help='folder of the PNGs')
    parser.add_argument('--instances', type=Path, help="COCO's instance annotations")
    parser.add_argument('--config', help='config that the data set is for')
    parser.add_argument('--fix', type=Path, metavar='DIR', help='write mended JSON files there')
    parser.add_argument('--json', type=output_file, metavar='FILE', help='also write all findings')
    parser.add_argument('--examples', type=count, default=3, help='of each finding (default: 3)')
    args = parser.parse_args(argv)
    check_found('data set', args.data)
    check_found('config', args.config)
    with quiet_imports():
        from mmbanet.cli.work.check import run
    run(args)
