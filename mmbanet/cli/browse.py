"""A gallery to look at in a browser: ``mmbanet browse DATA_OR_RESULT --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmbanet.apis.image_sources import Frames
from mmbanet.apis.labelled_images import LabelledImage, open_labelled
from mmbanet.apis.labelled_pictures import read_photo, views_of
from mmbanet.datasets.panoptic_files import partial_folder
from mmbanet.visualization import class_palette
from mmbanet.visualization.gallery import Gallery

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
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise FileExistsError(f'{args.out} is there and not empty: another --out')

    found = open_labelled(args.what, args.images, args.truth, args.instances)
    palette = class_palette(dict(classes=found.classes, palette=found.palette))
    frames, faults, judged, drawn = Frames(), 0, 0, 0
    with partial_folder(args.out) as folder:
        gallery = Gallery(folder, found.name, found.classes, palette)
        with tqdm(found, desc='browse', unit='image', disable=None) as progress:
            for image_id in progress:
                try:
                    image = found.load(image_id)
                except (OSError, ValueError) as error:
                    progress.write(f'left out: {error}', file=sys.stderr)
                    faults += 1
                    continue
                try:
                    photo = read_photo(image, frames)
                except (OSError, ValueError) as error:
                    progress.write(f'no photograph: {error}', file=sys.stderr)
                    photo = None
                    faults += 1
                add(gallery, image, photo, found.is_thing)
                judged += image.judgement is not None
                drawn += 1
        if args.truth is not None and not judged:
            raise ValueError(
                f'{args.truth}: none of its images is among the predictions; the file_name of an '
                'image must be the end of the path that was predicted'
            )
        if not drawn:
            raise ValueError(f'{args.what}: none of its images could be read, see above')
        gallery.close()
        folder.replace(args.out)
    print(f'{drawn} images: {args.out / "index.html"}')
    if faults:
        sys.exit(f'mmbanet browse: {faults} images or maps could not be read, see above')


def add(
    gallery: Gallery, image: LabelledImage, photo: np.ndarray | None, is_thing: Sequence[bool]
) -> None:
    """Puts an image into the gallery, with what is wrong in it where there is truth."""
    codes, views = views_of(image, is_thing)
    judgement, errors, missed = image.judgement, {}, []
    if judgement is not None:
        errors = dict.fromkeys(judgement.false, 'false')
        confused = dict(judgement.confused)
        for true_id, found_id in confused.items():
            errors[found_id] = f'wrong class, is {gallery.classes[judgement.labels[true_id]]}'
        missed = [judgement.labels[i] for i in judgement.missed if i not in confused]
    gallery.add(
        image.name,
        photo,
        views,
        [
            dict(segment, id=codes[segment['id']], error=errors.get(segment['id']))
            for segment in image.segments
        ],
        image.pairs and [(codes[pair.front], codes[pair.behind], pair.why) for pair in image.pairs],
        judgement and judgement.pq,
        missed,
    )
