"""What a model does well and badly, as one HTML page: ``mmbanet report CONFIG CHECKPOINT``."""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from mmengine.device import get_device
from tqdm import tqdm

from mmbanet.apis.image_sources import Frames
from mmbanet.apis.labelled_images import LabelledImage, Predictions
from mmbanet.apis.labelled_pictures import read_photo, views_of
from mmbanet.apis.panoptic_report import PanopticReport
from mmbanet.apis.tested_images import TestedImages
from mmbanet.datasets.panoptic_files import partial_folder
from mmbanet.engine.checkpoints import check_checkpoint
from mmbanet.engine.launch import read_config, replace_data_root
from mmbanet.visualization import class_palette
from mmbanet.visualization.report import Example, draw_view, report_page

SCORES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
OVERLAPS = (0.3, 0.5, 0.7)
COLUMNS = ('name', 'is_thing', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN')
EPILOG = """
WHAT is a config, whose test set is predicted, or the folder that mmbanet predict wrote, with
--truth. DIR gets

  index.html      the report: opens from the disk, without a server
  report.json     all of its numbers; qualities in percent
  classes.csv     PQ, SQ, RQ and counts of each class

The numbers are those of mmbanet.PanopticMetric. Who is in front and thresholds against PQ need the
model; each pair of thresholds costs a fusion of every image, without --score-thrs values none.
docs/report.md says what the sections mean. mmdet users know parts of it as
tools/analysis_tools/analyze_results.py, confusion_matrix.py and eval_metric.py.

  mmbanet report configs/banet/banet_r50_fpn_1x_coco.py banet.pth --out report
  mmbanet report predictions --truth data/coco/annotations/panoptic_val2017.json --out report
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the arguments and writes the report."""
    parser = argparse.ArgumentParser(
        prog='mmbanet report',
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('what', help='config, or folder of predictions')
    parser.add_argument('checkpoint', nargs='?', help='of the config: file or URL')
    parser.add_argument('--out', required=True, type=Path, help='folder to write to, a new one')
    parser.add_argument('--truth', type=Path, help='panoptic JSON that a folder is compared with')
    parser.add_argument('--images', type=Path, help='folder of the images, if they were moved')
    parser.add_argument(
        '--examples', type=int, default=6, help='worst and best images shown (default: 6 each)'
    )
    for name, values, what in (
        ('--score-thrs', SCORES, 'least scores to try (default: 0.3 to 0.8)'),
        ('--overlap-thrs', OVERLAPS, 'removal_thr (mask_overlap) to try (default: 0.3 0.5 0.7)'),
    ):
        parser.add_argument(name, nargs='*', type=float, default=values, metavar='THR', help=what)
    parser.add_argument('--device', help='such as cuda:0 (default: the GPU if there is one)')
    parser.add_argument('--data-root', help="folder of the data set, in place of the config's")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE ...')
    args = parser.parse_args(argv)
    if args.examples < 0:
        parser.error(f'--examples must be 0 at least, got {args.examples}')
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise FileExistsError(f'{args.out} is there and not empty: another --out')

    found = open_folder(args) if Path(args.what).is_dir() else open_model(args)
    report, faults, unknown = PanopticReport(found.truth, args.examples), 0, 0
    with partial_folder(args.out) as folder:
        with tqdm(desc='report', total=len(found), unit='image', disable=None) as progress:
            for image in images_of(found):
                progress.update()
                if isinstance(image, Exception):
                    progress.write(f'left out: {image}', file=sys.stderr)
                    faults += 1
                elif image.judgement is None:
                    unknown += 1
                else:
                    report.add(image)
        if not report.images:
            raise ValueError(f'{args.what}: none of its images is annotated in {truth_of(found)}')
        palette = class_palette(dict(classes=found.classes, palette=found.palette))
        frames, missing = Frames(), []
        examples = [
            [example(image, found, frames, palette, missing) for image in images]
            for images in report.worst_and_best()
        ]
        for error in missing:
            print(f'no photograph: {error}', file=sys.stderr)
        numbers = dict(report.numbers(), order=None, thresholds=None)
        if isinstance(found, TestedImages):
            numbers.update(found.numbers())
        numbers = without_nan(numbers)
        facts = facts_of(args, found, len(report.images), unknown, faults)
        title = f'Panoptic report: {Path(args.what).name}'
        write(folder, report_page(title, facts, numbers, *examples), dict(facts=facts, **numbers))
        folder.replace(args.out)
    print(
        f'{len(report.images)} images, PQ {numbers["quality"]["All"]["PQ"] or 0:.2f}: '
        f'{args.out / "index.html"}'
    )
    if faults or missing:
        sys.exit(
            f'mmbanet report: {faults + len(missing)} images or maps could not be read, see above'
        )


def open_folder(args: argparse.Namespace) -> Predictions:
    """What was predicted; an error tells what does not go with it."""
    if args.truth is None:
        raise ValueError(
            f'{args.what} is a folder of predictions: --truth names the panoptic JSON to compare '
            'them with'
        )
    for name in ('checkpoint', 'device', 'data_root', 'cfg_options'):
        if getattr(args, name) is not None:
            what = name.replace('_', '-')
            raise ValueError(f'{what} belongs to a config, but {args.what} is a folder')
    return Predictions(Path(args.what), args.images, args.truth)


def open_model(args: argparse.Namespace) -> TestedImages:
    """The test set of the config, which the model predicts."""
    if args.truth is not None or args.images is not None:
        raise ValueError(
            f'--truth and --images belong to a folder of predictions, which {args.what} is not: '
            "the config's test set has its own"
        )
    config = read_config(args.what)
    check_checkpoint(args.checkpoint)
    config.merge_from_dict(args.cfg_options or {})
    if args.data_root:
        replace_data_root(config, args.data_root)
    device = args.device or get_device()
    return TestedImages(config, args.checkpoint, device, args.score_thrs, args.overlap_thrs)


def images_of(found: Predictions | TestedImages):
    """Its images, and an error in the place of one that cannot be read."""
    if isinstance(found, TestedImages):
        yield from found
        return
    for image_id in found:
        try:
            yield found.load(image_id)
        except (OSError, ValueError) as error:
            yield error


def truth_of(found: Predictions | TestedImages) -> str:
    """The path of the annotations."""
    return found.truth.annotations.ann_file


def example(
    image: LabelledImage,
    found: Predictions | TestedImages,
    frames: Frames,
    palette: list[tuple[int, int, int]],
    missing: list[Exception],
) -> Example:
    """An image with its truth beside it; what cannot be read is drawn over grey."""
    try:
        photo = read_photo(image, frames)
    except (OSError, ValueError) as error:
        missing.append(error)
        photo = None
    _, views = views_of(image, found.is_thing)
    names = ('prediction', 'truth')
    pictures = [draw_view(photo, view, found.classes, palette) for view in views]
    return Example(image.name, image.judgement.pq, list(zip(names, pictures)))


def facts_of(
    args: argparse.Namespace,
    found: Predictions | TestedImages,
    judged: int,
    unknown: int,
    faults: int,
) -> list[str]:
    """What was reported on, and what was not."""
    of = f'{args.what}, {args.checkpoint}' if args.checkpoint else args.what
    annotated = len(found.truth.annotations.annotations)
    facts = [f'{judged} images of {truth_of(found)}, predicted by {of}.']
    if annotated > judged:
        facts.append(
            f'{annotated - judged} of its {annotated} annotated images have no prediction and do '
            'not count: the metric over all of them is another.'
        )
    if unknown:
        facts.append(f'{unknown} predicted images are not annotated and do not count.')
    if faults:
        facts.append(f'{faults} images could not be read and do not count.')
    return [*facts, *getattr(found, 'notes', ())]


def write(folder: Path, page: str, numbers: dict) -> None:
    """Writes the page, the JSON and the CSV."""
    (folder / 'index.html').write_text(page, 'utf-8')
    text = json.dumps(numbers, indent=1, allow_nan=False) + '\n'
    (folder / 'report.json').write_text(text)
    with (folder / 'classes.csv').open('w', newline='', encoding='utf-8', errors='replace') as file:
        rows = csv.writer(file)
        rows.writerow(('class', 'is_thing', *COLUMNS[2:]))
        rows.writerows([c[column] for column in COLUMNS] for c in numbers['classes'])


def without_nan(value: object) -> object:
    """JSON has no word for what is no number but null."""
    if isinstance(value, dict):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
