"""A gallery to look at in a browser: ``mmbanet browse DATA_OR_RESULT --out DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmbanet.apis import read_image
from mmbanet.apis.image_sources import Frames
from mmbanet.apis.labelled_images import LabelledImage, open_labelled
from mmbanet.datasets.panoptic_files import partial_folder
from mmbanet.structures import encode_ids
from mmbanet.visualization import class_palette
from mmbanet.visualization.gallery import Gallery, View
from mmbanet.visualization.picture import ERROR_COLORS

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


def read_photo(image: LabelledImage, frames: Frames) -> np.ndarray:
    """(H, W, 3) uint8 RGB, of the size of the map.

    Raises:
        OSError, ValueError: There is none.
    """
    if image.frame is not None:
        photo = frames.read(image.path, image.frame)
    elif not image.path.is_file():
        raise FileNotFoundError(f'{image.path.absolute()} is not there; --images names its folder')
    else:
        photo = read_image(image.path)
    if photo.shape[:2] != image.ids.shape:
        raise ValueError(
            f'{image.path}: has {photo.shape[:2]} pixels (height, width), its map {image.ids.shape}'
        )
    return photo[..., ::-1]


def add(
    gallery: Gallery, image: LabelledImage, photo: np.ndarray | None, is_thing: Sequence[bool]
) -> None:
    """Puts an image into the gallery, with what is wrong in it where there is truth."""
    label_of = {segment['id']: segment['label'] for segment in image.segments}
    codes, panoptic = _encode(image.ids, label_of, is_thing)
    judgement, errors, missed = image.judgement, {}, []
    views = [View('map', panoptic, {})]
    if judgement is not None:
        errors = dict.fromkeys(judgement.false, 'false')
        kinds = dict.fromkeys(judgement.missed, 'unmatched')
        for true_id, found_id in judgement.confused:
            name = gallery.classes[judgement.labels[true_id]]
            errors[found_id] = f'wrong class, is {name}'
            kinds[true_id] = 'wrong_class'
        missed = [judgement.labels[i] for i, kind in kinds.items() if kind == 'unmatched']
        for found_id, error in errors.items():
            kind = 'unmatched' if error == 'false' else 'wrong_class'
            views[0].marks[codes[found_id]] = ERROR_COLORS[kind]
        true_codes, truth = _encode(judgement.ids, judgement.labels, is_thing)
        marks = {true_codes[i]: ERROR_COLORS[kind] for i, kind in kinds.items()}
        views.append(View('truth', truth, marks))
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


def _encode(
    ids: np.ndarray, label_of: dict[int, int], is_thing: Sequence[bool]
) -> tuple[dict[int, int], np.ndarray]:
    """The id of each segment in mmdet's encoding, and the map in it."""
    codes = {}
    for number, (segment_id, label) in enumerate(label_of.items(), start=1):
        code = encode_ids(label, number if is_thing[label] else 0)
        # The format forbids two segments of one stuff class, but some files have them.
        codes[segment_id] = encode_ids(label, number) if code in codes.values() else code
    values, inverse = np.unique(ids, return_inverse=True)
    table = np.array([codes.get(i, len(is_thing)) for i in values.tolist()], dtype=np.int32)
    return codes, table[inverse].reshape(ids.shape)
