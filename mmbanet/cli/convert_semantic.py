"""Semantic label images to COCO panoptic annotations, connected components as instances."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmbanet.datasets.class_map import ClassMap
from mmbanet.datasets.semantic_conversion import convert_semantic

EPILOG = """
Touching things of one class become one instance: semantic labels cannot part them.

The label images are PNGs with the images' stems; by default in the layout of the SegNet tutorial:
ROOT/train, ROOT/trainannot, ROOT/val, ROOT/valannot. The class map names the things and the stuff
and says which values of the label images they are; examples/camvid/classes.json is one.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and converts."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument('--classes', required=True, help='class map, a JSON or YAML file')
    parser.add_argument('--out', type=Path, help='folder to write to (default: ROOT)')
    parser.add_argument(
        '--splits', nargs='+', default=['train', 'val'], help='(default: train, val)'
    )
    parser.add_argument('--images', default='{split}', help='folder of images below ROOT')
    parser.add_argument('--labels', default='{split}annot', help='folder of label images')
    parser.add_argument(
        '--min-area',
        type=int,
        default=100,
        help='smaller things become void (default: 100 pixels)',
    )
    parser.add_argument('--connectivity', type=int, choices=[4, 8], default=8)
    parser.add_argument('--overwrite', action='store_true', help='replace annotations there')
    args = vars(parser.parse_args(argv))
    root, out, classes = (args.pop(name) for name in ('root', 'out', 'classes'))
    out = convert_semantic(root, out or root, ClassMap.from_file(classes), **args)
    print(f'annotations are in {out / "annotations"}')
    print(
        'warning: instances are connected components; touching things of one class are one',
        file=sys.stderr,
    )
