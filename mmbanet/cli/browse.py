"""A gallery to look at in a browser: ``mmbanet browse DATA_OR_RESULT --out DIR``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbanet.cli.arguments import check_empty
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

EPILOG = """
WHAT is a COCO panoptic data set, annotations/panoptic_NAME.json with its PNGs beside it or the
folder with annotations/ in it, or the folder that mmbanet predict wrote. DIR/index.html opens from
the disk, without a server: filter by class, sort by PQ of the image (with --truth) or by how many
segments lie in front of others, switch between photograph and map; a click or Enter shows an
image with who is in front of whom.

Who is in front is known of predictions of mmbanet's occlusion handling, of generated scenes, and
with --instances. An image without photograph is drawn over grey, what cannot be read is left out;
both are named, and the exit status is then 1. mmdet users know it as
tools/analysis_tools/browse_dataset.py and analyze_results.py.

  mmbanet browse data/coco/annotations/panoptic_val2017.json --out gallery
  mmbanet browse predictions --truth data/coco/annotations/panoptic_val2017.json --out gallery
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and writes the gallery."""
    parser = argparse.ArgumentParser(
        prog='mmbanet browse',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', type=Path, help='data set, or folder of predictions')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to, a new one')
    parser.add_argument('--images', type=Path, help='folder of the images, if not where expected')
    parser.add_argument('--truth', type=Path, help='panoptic JSON to compare predictions with')
    parser.add_argument(
        '--instances', type=Path, help="COCO's instances JSON, which says who is in front"
    )
    args = parser.parse_args(argv)
    check_empty(args.out)
    check_found('data set or folder', args.what)
    check_found('truth', args.truth)
    check_found('instances', args.instances)
    with quiet_imports():
        from mmbanet.cli.work.browse import run
    run(args)
