"""Panoptic maps of images: ``mmbanet predict CONFIG CHECKPOINT IMAGES... --out DIR``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from mmengine.config import DictAction
from tqdm import tqdm

from mmbanet.apis import PanopticInferencer, read_image
from mmbanet.datasets.panoptic_files import write_segment_map
from mmbanet.visualization.panoptic import write_picture

EPILOG = """
IMAGES are files, folders (with all folders in them) and patterns such as 'photos/*.jpg'. DIR has

  panoptic.json       COCO's panoptic format, of all images; panopticapi reads it
  panoptic/*.png      its maps: id = R + 256 G + 256² B
  segments/*.json     per image: class, score, area, box and who is in front of whom, and why
  pictures/*.jpg      the map over the image (not with --no-pictures)

What cannot be read is named and left out; the exit status is then 1. mmdet users know it as
demo/image_demo.py.

  mmbanet predict configs/banet/banet_r50_fpn_1x_coco.py banet.pth photos --out predictions
"""
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and predicts."""
    parser = argparse.ArgumentParser(
        prog='mmbanet predict',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help="file, or mmdet:: and the name of one of mmdet's")
    parser.add_argument('checkpoint', help='file or URL')
    parser.add_argument('images', nargs='+', help='files, folders, patterns')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to')
    parser.add_argument('--device', default='cpu', help='such as cuda:0 (default: cpu)')
    parser.add_argument('--resume', action='store_true', help='leave out what is done there')
    parser.add_argument('--no-pictures', action='store_true', help='maps and JSON alone')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE ...')
    args = parser.parse_args(argv)

    images = find_images(args.images)
    done = args.out / 'segments'
    if done.exists() and not args.resume:
        raise FileExistsError(f'{args.out} holds predictions: --resume goes on, or another --out')
    inferencer = PanopticInferencer(
        args.config, args.checkpoint, args.device, cfg_options=args.cfg_options
    )
    left = {name: path for name, path in images.items() if not (done / f'{name}.json').exists()}
    broken = 0
    with tqdm(left.items(), desc='predict', unit='image', disable=None) as progress:
        for name, path in progress:
            try:
                predict_file(inferencer, path, args.out, name, pictures=not args.no_pictures)
            except ValueError as error:
                progress.write(f'left out: {error}', file=sys.stderr)
                broken += 1
    write_coco(args.out, images, inferencer.model.dataset_meta)
    print(f'{len(images) - broken} images: {args.out / "panoptic.json"}')
    if broken:
        sys.exit(f'mmbanet predict: {broken} of {len(images)} images could not be read, see above')


def find_images(given: Sequence[str]) -> dict[str, Path]:
    """Image files by the name of what is written of them, in the order of names.

    The name is the path below the folder that was given, without suffix.

    Raises:
        FileNotFoundError: A path or pattern that is not there, or has no images.
        ValueError: Two images of one name.
    """
    found = {}
    for text in given:
        paths = (
            [Path(match) for match in sorted(glob(text, recursive=True))]
            if has_magic(text) and not os.path.exists(text)
            else [Path(text)]
        )
        files = [file for path in paths for file in _files(path)]
        if not files:
            raise FileNotFoundError(f'no images: {text} (looked for {", ".join(SUFFIXES)})')
        for path, name in files:
            if name in found and found[name].resolve() != path.resolve():
                raise ValueError(f'two images of the name {name}: {found[name]} and {path}')
            found[name] = path
    return dict(sorted(found.items()))


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    if path.is_dir():
        for file in sorted(path.rglob('*')):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                yield file, file.relative_to(path).with_suffix('').as_posix()
    elif path.is_file():
        yield path, path.stem
    elif not has_magic(str(path)):
        raise FileNotFoundError(f'no such image or folder: {path.absolute()}')


def predict_file(
    inferencer: PanopticInferencer, path: Path, out: Path, name: str, *, pictures: bool
) -> None:
    """Predicts an image and writes what is known of it; the JSON comes last and means: done.

    Raises:
        ValueError: The file is no image.
    """
    image = read_image(path)
    result = inferencer.predict(image)
    png, picture, record = (
        out / folder / f'{name}{suffix}'
        for folder, suffix in (('panoptic', '.png'), ('pictures', '.jpg'), ('segments', '.json'))
    )
    png.parent.mkdir(parents=True, exist_ok=True)
    write_whole(png, lambda partial: write_segment_map(partial, result.segment_ids))
    if pictures:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_picture(picture, inferencer.draw(result, image))
    height, width = image.shape[:2]
    facts = dict(
        file=str(path),
        height=height,
        width=width,
        segments=[dict(s, category_name=result.classes[s['category']]) for s in result],
    )
    record.parent.mkdir(parents=True, exist_ok=True)
    write_whole(record, lambda partial: partial.write_text(json.dumps(facts, indent=1) + '\n'))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a file beside ``path`` and gives it that name when it is complete."""
    partial = path.with_name(f'.partial.{path.name}')
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_coco(out: Path, images: dict[str, Path], dataset_meta: dict) -> None:
    """COCO's panoptic JSON of what is predicted; ids of images are their places from 1."""
    classes, things = dataset_meta['classes'], len(dataset_meta['thing_classes'])
    content = dict(
        images=[],
        annotations=[],
        categories=[
            dict(id=label, name=name, supercategory='', isthing=int(label < things))
            for label, name in enumerate(classes)
        ],
    )
    for number, (name, path) in enumerate(images.items(), start=1):
        record = out / 'segments' / f'{name}.json'
        if not record.exists():
            continue
        facts = json.loads(record.read_text())
        size = dict(height=facts['height'], width=facts['width'])
        content['images'].append(dict(id=number, file_name=path.name, **size))
        content['annotations'].append(
            dict(
                image_id=number,
                file_name=f'{name}.png',
                segments_info=[
                    dict(
                        id=s['id'],
                        category_id=s['category'],
                        area=s['area'],
                        bbox=s['bbox'],
                        iscrowd=0,
                    )
                    for s in facts['segments']
                ],
            )
        )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / 'panoptic.json', lambda partial: partial.write_text(json.dumps(content)))
