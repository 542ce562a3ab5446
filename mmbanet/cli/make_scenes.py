"""Scenes in COCO's panoptic format: drawn ones, or composed of photographs.

Photographs are those of a COCO panoptic data set (``--photographs ROOT``).

  mmbanet make-scenes --out data/scenes
  mmbanet make-scenes --photographs data/coco --out data/photo_scenes --train 2000 --val 500
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and generates."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument('--out', required=True, help='folder of the data set')
    parser.add_argument('--train', type=int, help='training images (default: 1000)')
    parser.add_argument('--val', type=int, help='validation images (default: 200)')
    parser.add_argument(
        '--size', type=int, help='longer side in pixels (default: 128, or as the photographs)'
    )
    parser.add_argument('--seed', type=int, help='(default: 0)')
    parser.add_argument('--workers', type=int, help='processes (default: all cores)')
    parser.add_argument('--overwrite', action='store_true', help='replace other scenes there')
    photos = parser.add_argument_group('of photographs')
    photos.add_argument('--photographs', metavar='ROOT', help='a COCO panoptic data set')
    photos.add_argument('--overlap', type=float, help='share placed to overlap (default: 0.8)')
    photos.add_argument('--same-class', type=float, help='share of those of one class')
    photos.add_argument(
        '--instance-masks', help='visible, things_on_top (default, as in COCO) or amodal'
    )
    args = vars(parser.parse_args(argv))
    only_photos = {'overlap', 'same_class', 'instance_masks'} & args.keys()
    if 'photographs' not in args and only_photos:
        parser.error(f'--{min(only_photos).replace("_", "-")} needs --photographs')
    check_found('folder of photographs', args.get('photographs'))
    with quiet_imports():
        from mmbanet.scenes import compose_scenes, generate_scenes
    make = compose_scenes if 'photographs' in args else generate_scenes
    try:
        root = make(args.pop('out'), **args)
    except BrokenExecutor as error:
        raise OSError(f'a worker was ended from outside: {error}') from error
    print(f'scenes are in {root}')
