"""Reports on a model."""

from __future__ import annotations

import csv
import json
import math
import sys
from argparse import Namespace
from pathlib import Path

from mmengine.device import get_device
from tqdm import tqdm

from mmbanet.apis.image_sources import Frames
from mmbanet.apis.labelled_images import LabelledImage, Predictions
from mmbanet.apis.labelled_pictures import read_photo, views_of
from mmbanet.apis.panoptic_report import PanopticReport
from mmbanet.apis.tested_images import TestedImages
from mmbanet.datasets.panoptic_files import partial_folder
from mmbanet.engine.launch import override, read_config, replace_data_root
from mmbanet.messages import counted
from mmbanet.visualization import class_palette
from mmbanet.visualization.report import Example, draw_view, report_page

COLUMNS = ('name', 'is_thing', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN')


def run(args: Namespace) -> None:
    """Writes the report."""
    if Path(args.what).is_dir():
        found = Predictions(Path(args.what), args.images, args.truth)
    else:
        found = open_model(args)
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
        f'{counted(len(report.images), "image")}, PQ {numbers["quality"]["All"]["PQ"] or 0:.2f}: '
        f'{args.out / "index.html"}'
    )
    if faults or missing:
        sys.exit(
            f'mmbanet report: {counted(faults + len(missing), "image or map", "images or maps")} '
            'could not be read, see above'
        )


def open_model(args: Namespace) -> TestedImages:
    """The test set of the config, which the model predicts."""
    config = read_config(args.what)
    override(config, args.cfg_options)
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
    args: Namespace,
    found: Predictions | TestedImages,
    judged: int,
    unknown: int,
    faults: int,
) -> list[str]:
    """What was reported on, and what was not."""
    if isinstance(found, Predictions):
        source = f'whose predictions are in {args.what}'
    else:
        source = f'predicted by {", ".join(filter(None, (args.what, args.checkpoint)))}'
    annotated = len(found.truth.annotations.annotations)
    facts = [f'{counted(judged, "image")} of {truth_of(found)}, {source}.']
    if annotated > judged:
        facts.append(
            f'Without a prediction, and not counted: {annotated - judged} of its {annotated} '
            'annotated images; the metric over all of them is another.'
        )
    if unknown:
        facts.append(f'Not annotated, and not counted: {counted(unknown, "predicted image")}.')
    if faults:
        facts.append(f'Not read, and not counted: {counted(faults, "image")}.')
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
