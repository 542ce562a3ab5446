"""Panoptic maps of images: ``mmbanet predict CONFIG CHECKPOINT IMAGES... --out DIR``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from mmbanet.cli.arguments import CfgOptions, check_folder
from mmbanet.cli.tool import quiet_imports
from mmbanet.messages import check_found

EPILOG = """
IMAGES are files, folders (with all folders in them), patterns such as 'photos/*.jpg', URLs, videos
and webcams (0 is the first; Ctrl-C ends it). DIR has

  panoptic.json       COCO's panoptic format, of all images; panopticapi reads it. Ids of categories
                      are those of the config's annotation file if that is there, else labels
  panoptic/*.png      its maps: id = R + 256 G + 256² B
  segments/*.json     per image: class, score, area, box and who is in front of whom, and why
  pictures/*.jpg      the map over the image (not with --no-pictures)
  model.json          hashes of weights and settings: --resume refuses another model

What cannot be read is named and left out; the exit status is then 1. mmdet users know it as
demo/image_demo.py. Under torchrun each process predicts its share, and one writes panoptic.json.

  mmbanet predict configs/banet/banet_r50_fpn_1x_coco.py banet.pth photos --out predictions
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and predicts."""
    parser = argparse.ArgumentParser(
        prog='mmbanet predict',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='file, or mmdet::NAME or mmbanet::NAME of what comes along')
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('images', nargs='+', help='files, folders, patterns, URLs, webcams')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to')
    parser.add_argument('--device', help='such as cuda:0 (default: the GPU if there is one)')
    parser.add_argument('--batch-size', type=int, default=1, help='images in one pass (default: 1)')
    parser.add_argument('--resume', action='store_true', help='leave out what is done there')
    parser.add_argument('--no-pictures', action='store_true', help='maps and JSON alone')
    parser.add_argument('--cfg-options', action=CfgOptions, help='overrides of the config')
    args = parser.parse_args(argv)

    if args.batch_size < 1:
        parser.error(f'--batch-size must be 1 at least, got {args.batch_size}')
    check_found('config', args.config)
    check_found('checkpoint', args.checkpoint)
    for images in args.images:
        if not (images.isdecimal() or has_magic(images)):
            check_found('image or folder', images)
    check_folder(args.out)
    if (args.out / 'segments').exists() and not args.resume:
        raise FileExistsError(f'{args.out} holds predictions: --resume goes on, or another --out')
    with quiet_imports():
        from mmbanet.cli.work.predict import run
    run(args)
