"""Annotations of other formats to COCO panoptic: ``mmbanet convert KIND ...``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmbanet.cli.arguments import share
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

EPILOG = """
All kinds write annotations/panoptic_SPLIT.json with annotations/panoptic_SPLIT/*.png, and name the
folder of the images SPLIT; where things may overlap, annotations/instances_SPLIT.json has their
whole masks. configs/banet/banet_r50_fpn_1x_custom.py trains on it as it is, mmbanet check says
whether it is sound. mmdet users know it as tools/dataset_converters.

  mmbanet convert labelme data/mine --classes classes.json --val-share 0.2
  mmbanet convert KIND --help
"""
SEMANTIC = """
The connected components of things are the instances. Touching things of one class become one:
semantic labels cannot part them.

The label images are PNGs with the images' stems; by default in the layout of the SegNet tutorial:
ROOT/train, ROOT/trainannot, ROOT/val, ROOT/valannot. The class map names the things and the stuff
and says which values of the label images they are; examples/camvid/classes.json is one.

  mmbanet convert semantic data/camvid --classes examples/camvid/classes.json
"""
INSTANCES = """
COCO's instance annotations and semantic label images (PNGs with the images' stems) of the same
images. Things lie on stuff; where instances overlap, a pixel goes to one whose class the label
image has there, among these to the smallest. The class map says which values of the label images
are stuff; things in it are categories of the JSON file.

  mmbanet convert instances instances.json --images photos --labels semantics \\
      --classes classes.json --split train --out data/mine
"""
LABELME = """
Labelme's JSON files beside their images, in ROOT/train and ROOT/val, or, with --val-share, in ROOT.
Polygons, rectangles, circles and masks; shapes of one group are one thing; stuff lies below things,
else what was drawn later lies in front. The class map: {"things": ["car"], "stuff": ["road"]}; with
"cars": ["car", "van"] several labels are one class, and "void": ["ego"] leaves labels out.

  mmbanet convert labelme data/mine --classes classes.json --val-share 0.2
"""
CVAT = """
CVAT's export "CVAT for images 1.1": ROOT/train.xml and ROOT/val.xml with images in ROOT/train and
ROOT/val, or, with --val-share, ROOT/annotations.xml and ROOT/images, as the export is unpacked.
Polygons, boxes, ellipses and masks; shapes of one group are one thing; a higher z_order lies in
front, within one stuff lies below things. The class map is as of labelme.

  mmbanet convert cvat data/mine --classes classes.json --val-share 0.2
"""
CITYSCAPES = """
ROOT has leftImg8bit and gtFine, as the official archives are unpacked. Classes are the 19 of the
evaluation with their train ids; cityscapesscripts is not needed.

  mmbanet convert cityscapes data/cityscapes
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and converts."""
    parser = argparse.ArgumentParser(
        prog='mmbanet convert',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest='kind', metavar='KIND', required=True)
    add_semantic(add_kind(kinds, 'semantic', 'semantic label images', SEMANTIC))
    add_instances(add_kind(kinds, 'instances', 'instances JSON and label images', INSTANCES))
    for kind, what in (('labelme', LABELME), ('cvat', CVAT)):
        of_tool = add_kind(kinds, kind, f'annotations made with {kind}', what)
        add_root(of_tool).add_argument(
            '--val-share', type=share, help='share of the images for validation, such as 0.2'
        )
        add_classes(of_tool)
        where = 'folder of JSON files' if kind == 'labelme' else 'XML file'
        of_tool.add_argument('--annotations', help=f'{where} below ROOT; {{split}} is the split')
        if kind == 'cvat':
            of_tool.add_argument('--images', help='folder of images below ROOT')
    add_root(add_kind(kinds, 'cityscapes', "Cityscapes' official files", CITYSCAPES))

    args = parser.parse_args(argv)
    check_found('folder', getattr(args, 'root', None))
    check_found('annotation file', getattr(args, 'ann_file', None))
    check_found('class map', getattr(args, 'classes', None))
    with quiet_imports():
        from mmbanet.cli.work.convert import run
    run(args)


def add_kind(
    kinds: argparse._SubParsersAction, name: str, what: str, epilog: str
) -> argparse.ArgumentParser:
    """A parser of one kind."""
    parser = kinds.add_parser(
        name,
        help=what,
        description=f'{what[0].upper()}{what[1:]} to COCO panoptic.',
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--overwrite', action='store_true', help='replace annotations there')
    return parser


def add_root(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Arguments of what lies in one folder; returns the group of those that split it."""
    parser.add_argument('root', type=Path, help='folder of the data set')
    parser.add_argument('--out', type=Path, help='folder to write to (default: ROOT)')
    split_by = parser.add_mutually_exclusive_group()
    split_by.add_argument(
        '--splits', nargs='+', default=['train', 'val'], help='(default: train val)'
    )
    return split_by


def add_classes(parser: argparse.ArgumentParser) -> None:
    """The class map."""
    parser.add_argument('--classes', required=True, help='class map, a JSON or YAML file')


def add_semantic(parser: argparse.ArgumentParser) -> None:
    """Arguments of semantic label images."""
    add_root(parser)
    add_classes(parser)
    parser.add_argument('--images', default='{split}', help='folder of images below ROOT')
    parser.add_argument('--labels', default='{split}annot', help='folder of label images')
    parser.add_argument(
        '--min-area',
        type=int,
        default=100,
        help='smaller things become void (default: 100 pixels)',
    )
    parser.add_argument('--connectivity', type=int, choices=[4, 8], default=8)


def add_instances(parser: argparse.ArgumentParser) -> None:
    """Arguments of instance annotations with label images."""
    parser.add_argument('ann_file', type=Path, help="COCO's instance annotations")
    add_classes(parser)
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument('--labels', type=Path, required=True, help='folder of the label images')
    parser.add_argument('--split', default='train', help='name of what is written (default: train)')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
