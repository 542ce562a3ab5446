"""Writes a gallery."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from mmbanet.apis.image_sources import Frames
from mmbanet.apis.labelled_images import LabelledImage, open_labelled
from mmbanet.apis.labelled_pictures import read_photo, views_of
from mmbanet.datasets.panoptic_files import partial_folder
from mmbanet.messages import counted
from mmbanet.visualization import class_palette
from mmbanet.visualization.gallery import Gallery


def run(args: Namespace) -> None:
    """Writes the gallery."""
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
    print(f'{counted(drawn, "image")}: {args.out / "index.html"}')
    if faults:
        sys.exit(
            f'mmbanet browse: {counted(faults, "image or map", "images or maps")} could not be '
            'read, see above'
        )


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
