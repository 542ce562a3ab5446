"""The paper's figure 7 on any photo: ``python tools/benchmarks/patch_recovery.py --out DIR``.

Objects are cropped from the photo by RoIAlign and put back by RoIInlay and by its rivals. Prints
the mean PSNR of each operator and writes all of them to ``patch_recovery.json``, beside a picture
of the smallest and the largest objects, ``patch_recovery.png``.

PSNR is over the pixels that the box covers, against the photo, with a peak of 255. What an operator
returns is clipped to 0..255 first, as it would be to show it; RoIUpsample's sums would score lower
without.

The paper's settings: crops of 28x28 for objects that are smaller, crops of 28x28 and of 56x56 for
objects of more than 56x56 pixels. Objects in between get crops of 28x28.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import cv2
import torch
from matplotlib.axes import Axes
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmcv.ops import roi_align
from torch import Tensor

from mmbanet.ops import roi_inlay, roi_upsample

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the photo

OPERATORS = {
    'RoIUpsample': roi_upsample,
    'Avg RoIUpsample': partial(roi_upsample, reduction='mean'),
    'RoIInlay': roi_inlay,
}
# Sizes of objects and the sides of the crops that RoIAlign makes of them.
CROPS = {'small': (28,), 'medium': (28,), 'large': (28, 56)}
# Commodore Grace Hopper, U.S. Navy photograph in the public domain; it comes with matplotlib.
DEFAULT_PHOTO = 'grace_hopper.jpg'
DEFAULT_BOXES: list[Box] = [
    (290, 175, 316, 196),  # eye
    (82, 485, 105, 510),  # crest of the name tag
    (232, 576, 259, 600),  # button
    (152, 130, 378, 335),  # face
    (226, 26, 308, 84),  # eagle of the cap
    (322, 487, 454, 527),  # ribbons
]


@dataclass(frozen=True)
class Recovery:
    """What the operators make of one object.

    Attributes:
        box: The RoI.
        size: ``'small'``, ``'medium'`` or ``'large'``.
        crop: Side of RoIAlign's output.
        psnr: By operator, in dB.
    """

    box: Box
    size: str
    crop: int
    psnr: dict[str, float]


def main() -> None:
    """Measures every object and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--image', type=Path, metavar='PHOTO', help='(default: one of matplotlib)')
    objects = parser.add_mutually_exclusive_group()
    objects.add_argument(
        '--annotations', type=Path, metavar='JSON', help="COCO's, panoptic or instances"
    )
    objects.add_argument(
        '--boxes', type=parse_box, nargs='+', metavar='X1,Y1,X2,Y2', help='in pixels of the photo'
    )
    parser.add_argument('--show', type=int, default=1, help='rows of the picture for a size')
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    args = parser.parse_args()
    if args.image and not (args.annotations or args.boxes):
        parser.error('--image needs --annotations or --boxes')
    if args.annotations and not args.image:
        parser.error('--annotations needs --image')
    if args.show < 1:
        parser.error(f'--show must be at least 1, got {args.show}')
    path = args.image or Path(get_sample_data(DEFAULT_PHOTO, asfileobj=False))
    try:
        photo = read_photo(path)
        if args.annotations:
            boxes = annotated_boxes(args.annotations, path.name, photo)
        else:
            boxes = args.boxes or DEFAULT_BOXES
            check_boxes(boxes, photo)
        args.out.mkdir(parents=True, exist_ok=True)
        results = [measure(photo, box, crop) for box in boxes for crop in CROPS[size_of(box)]]
        stem = args.out / 'patch_recovery'
        stem.with_suffix('.json').write_text(report(path.name, results))
        draw(photo, results, args.show, stem.with_suffix('.png'))
    except (ValueError, OSError) as error:
        parser.exit(2, f'{parser.prog}: error: {error}\n')
    print_table(results)
    print(f'{stem}.json and .png')


def parse_box(text: str) -> Box:
    """Four numbers, separated by commas."""
    try:
        x1, y1, x2, y2 = map(float, text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'expected X1,Y1,X2,Y2, got {text!r}') from None
    return x1, y1, x2, y2


def read_photo(path: Path) -> Tensor:
    """RGB values 0..255 (1, 3, H, W).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an image.
    """
    if not path.is_file():
        raise FileNotFoundError(f'photo not found: {path}')
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise ValueError(f'not an image that OpenCV reads: {path}')
    channels = torch.from_numpy(pixels).permute(2, 0, 1).flip(0)
    # Contiguous, since mmcv's RoIAlign reads the channels-last layout wrongly.
    return channels[None].float().contiguous()


def annotated_boxes(path: Path, photo_name: str, photo: Tensor) -> list[Box]:
    """The boxes of the photo's things, but for crowds and for what is less than a pixel wide.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not in one of COCO's formats, or has no object of the photo.
    """
    if not path.is_file():
        raise FileNotFoundError(f'annotations not found: {path}')
    try:
        objects = list(_objects_of(json.loads(path.read_text()), photo_name))
        boxes = [_in_photo(map(float, thing['bbox']), photo) for thing in objects]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'not annotations in a format of COCO: {path} ({error!r})') from None
    boxes = [box for box in boxes if _is_valid(box, photo)]
    if not boxes:
        raise ValueError(f'no object of {photo_name} in {path}')
    return boxes


def _objects_of(coco: dict, photo_name: str) -> Iterator[dict]:
    """Entries with a ``bbox``, of an annotation file of instances or of segments."""
    images = {image['id'] for image in coco['images'] if image['file_name'] == photo_name}
    things = {category['id'] for category in coco['categories'] if category.get('isthing', 1)}
    for entry in coco['annotations']:
        if entry['image_id'] in images:
            for thing in entry.get('segments_info', [entry]):
                if thing['category_id'] in things and not thing['iscrowd']:
                    yield thing


def _in_photo(bbox: Iterable[float], photo: Tensor) -> Box:
    """The box of COCO's x, y, width, height, clipped to the photo."""
    x, y, width, height = bbox
    right, bottom = photo.shape[3], photo.shape[2]
    return max(x, 0), max(y, 0), min(x + width, right), min(y + height, bottom)


def check_boxes(boxes: list[Box], photo: Tensor) -> None:
    """Raises ValueError naming the first box that is not a box in the photo."""
    for box in boxes:
        if not _is_valid(box, photo):
            numbers = ','.join(f'{value:g}' for value in box)
            raise ValueError(
                '--boxes: expected x1,y1,x2,y2 at least 1 pixel wide and high in a photo of '
                f'{photo.shape[3]}x{photo.shape[2]}, got {numbers}'
            )


def _is_valid(box: Box, photo: Tensor) -> bool:
    x1, y1, x2, y2 = box
    inside = x1 >= 0 and y1 >= 0 and x2 <= photo.shape[3] and y2 <= photo.shape[2]
    return inside and x2 - x1 >= 1 and y2 - y1 >= 1


def area(box: Box) -> float:
    """Pixels in the box."""
    x1, y1, x2, y2 = box
    return (x2 - x1) * (y2 - y1)


def size_of(box: Box) -> str:
    """Small up to 28x28 pixels, large above 56x56."""
    if area(box) <= 28**2:
        return 'small'
    return 'medium' if area(box) <= 56**2 else 'large'


def cut(image: Tensor, box: Box) -> Tensor:
    """The pixels (3, h, w) of an image (1, 3, H, W) whose centres are in the box."""
    x1, y1, x2, y2 = (value - 0.5 for value in box)
    rows = slice(math.ceil(y1), math.floor(y2) + 1)
    columns = slice(math.ceil(x1), math.floor(x2) + 1)
    return image[0, :, rows, columns]


def recover(photo: Tensor, box: Box, crop: int) -> tuple[Tensor, dict[str, Tensor]]:
    """RoIAlign's crop (3, crop, crop), and by operator the patch (3, h, w) that it makes of it."""
    roi = torch.tensor([[0.0, *box]])
    crops = roi_align(photo, roi, crop, 1.0, 1, 'avg', True)
    maps = {name: run(crops, roi, 1, photo.shape[2:]) for name, run in OPERATORS.items()}
    return crops[0], {name: cut(image, box).clamp(0, 255) for name, image in maps.items()}


def measure(photo: Tensor, box: Box, crop: int) -> Recovery:
    """PSNR of each operator on one object."""
    patches = recover(photo, box, crop)[1]
    original = cut(photo, box)
    scores = {name: psnr(patch, original) for name, patch in patches.items()}
    return Recovery(box, size_of(box), crop, scores)


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB with a peak of 255; 100 if the two are equal."""
    error = (image - reference).double().square().mean().item()
    return 10 * math.log10(255**2 / max(error, 255**2 / 1e10))


def grouped(results: list[Recovery]) -> dict[tuple[str, int], list[Recovery]]:
    """By size of the objects and crop: the smallest small ones first, else the largest."""
    groups = {}
    for size, crops in CROPS.items():
        for crop in crops:
            group = [result for result in results if (result.size, result.crop) == (size, crop)]
            group.sort(key=lambda result: area(result.box), reverse=size != 'small')
            if group:
                groups[size, crop] = group
    return groups


def mean_psnr(group: list[Recovery]) -> dict[str, float]:
    """By operator, over objects."""
    return {name: mean(result.psnr[name] for result in group) for name in OPERATORS}


def report(photo_name: str, results: list[Recovery]) -> str:
    """JSON of the means and of every object."""
    means = [
        {'size': size, 'crop': crop, 'objects': len(group), 'psnr': mean_psnr(group)}
        for (size, crop), group in grouped(results).items()
    ]
    objects = [asdict(result) for result in results]
    return json.dumps({'photo': photo_name, 'mean': means, 'objects': objects}, indent=2) + '\n'


def print_table(results: list[Recovery]) -> None:
    """Mean PSNR by size of the objects and crop."""
    print('mean PSNR, dB'.ljust(32) + ''.join(f'{name:>17}' for name in OPERATORS))
    for (size, crop), group in grouped(results).items():
        objects = f'{len(group)} {size}'
        scores = ''.join(f'{score:17.1f}' for score in mean_psnr(group).values())
        print(f'{objects:<14}crop {crop}x{crop}'.ljust(32) + scores)


def draw(photo: Tensor, results: list[Recovery], rows: int, path: Path) -> None:
    """Picture of the photo with boxes and, row by row, what the operators make of the objects."""
    shown = [result for group in grouped(results).values() for result in group[:rows]]
    numbers = {box: i + 1 for i, box in enumerate(dict.fromkeys(result.box for result in shown))}
    height = 1.3 + 1.95 * len(shown)
    figure = Figure(figsize=(12, height))
    grid = figure.add_gridspec(
        len(shown),
        6,
        width_ratios=[2.2, 1, 1, 1, 1, 1],
        left=0.02,
        right=0.99,
        top=1 - 0.55 / height,
        bottom=0.65 / height,
        wspace=0.08,
        hspace=0.2,
    )
    _draw_photo(figure.add_subplot(grid[:, 0], anchor='N'), photo, numbers)
    for row, result in enumerate(shown):
        cells = [figure.add_subplot(grid[row, column]) for column in range(1, 6)]
        _draw_row(cells, photo, result, numbers[result.box])
        if row == 0:
            for cell, title in zip(cells, ('original', 'RoIAlign', *OPERATORS)):
                cell.set_title(title.replace(' ', '\n'), fontsize=13, fontweight='bold')
    note = 'PSNR over the pixels of the box, values clipped to 0..255, peak 255'
    figure.text(0.99, 0.12 / height, note, ha='right', fontsize=12)
    figure.savefig(path, dpi=90, pil_kwargs={'optimize': True})


def _draw_photo(axes: Axes, photo: Tensor, numbers: dict[Box, int]) -> None:
    _show(axes, photo[0])
    for (x1, y1, x2, y2), number in numbers.items():
        corner = (x1 - 0.5, y1 - 0.5)
        axes.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, color='yellow', linewidth=2))
        axes.annotate(
            str(number),
            corner,
            ha='right',
            va='bottom',
            fontsize=12,
            fontweight='bold',
            bbox=dict(boxstyle='square,pad=0.15', facecolor='yellow', edgecolor='none'),
        )


def _draw_row(cells: list[Axes], photo: Tensor, result: Recovery, number: int) -> None:
    original = cut(photo, result.box)
    crop, patches = recover(photo, result.box, result.crop)
    images = [original, crop, *patches.values()]
    notes = [
        f'{number}: {result.size}, {original.shape[2]}×{original.shape[1]}',  # noqa: RUF001
        f'{result.crop}×{result.crop}',  # noqa: RUF001
        *(f'{score:.1f} dB' for score in result.psnr.values()),
    ]
    best = max(result.psnr.values())
    weights = ['bold' if score == best else 'normal' for score in result.psnr.values()]
    for cell, image, note, weight in zip(cells, images, notes, ['normal', 'normal', *weights]):
        _show(cell, image)
        # A square frame for every shape of patch, so that the row's notes are on one line.
        side = max(image.shape[1:])
        cell.set_xlim((image.shape[2] - side) / 2 - 0.5, (image.shape[2] + side) / 2 - 0.5)
        cell.set_ylim((image.shape[1] + side) / 2 - 0.5, (image.shape[1] - side) / 2 - 0.5)
        cell.set_xlabel(note, fontsize=12, fontweight=weight)


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image.round().byte().permute(1, 2, 0).numpy())
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
