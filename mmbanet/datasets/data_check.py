"""Everything that is wrong in a panoptic data set, where a loader tells the first thing only.

The rules are those of the loaders, which raise at their first error; what loaders cannot or need
not see is added here.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from mmbanet.messages import counted

from .data_image_check import Statistics, check_image
from .findings import Findings
from .instance_annotations import InstanceAnnotations
from .panoptic_annotations import PanopticAnnotations
from .panoptic_dataset import check_classes
from .panoptic_writer import IMAGE_SUFFIXES
from .segmentation import encode_segmentation

#: Two instances of one class with a larger IoU are taken for one that was annotated twice.
SAME_INSTANCE_IOU = 0.8


class Split(NamedTuple):
    """The files of a panoptic data set, or of its training or validation part.

    Attributes:
        ann_file: COCO's panoptic annotations.
        pngs: Folder of their PNGs.
        images: Folder of the images.
        instances: COCO's instance annotations of the same images, or None.
    """

    ann_file: Path
    pngs: Path
    images: Path
    instances: Path | None = None

    @classmethod
    def of(cls, ann_file: Path) -> Split:
        """Those of ``ROOT/annotations/panoptic_NAME.json``, in COCO's layout.

        PNGs lie in ``ROOT/annotations/panoptic_NAME``, images in ``ROOT/NAME``, instances, if
        there are any, in ``ROOT/annotations/instances_NAME.json``.
        """
        name = ann_file.stem.removeprefix('panoptic_')
        instances = ann_file.with_name(f'instances_{name}.json')
        return cls(
            ann_file,
            ann_file.with_suffix(''),
            ann_file.parent.parent / name,
            instances if instances.is_file() else None,
        )


def find_splits(data: Path) -> list[Split]:
    """The parts of a data set.

    Args:
        data: A panoptic JSON file, or the folder with ``annotations/panoptic_*.json`` in it.

    Raises:
        FileNotFoundError: Neither is there.
    """
    if data.is_file():
        return [Split.of(data)]
    files = sorted((data / 'annotations').glob('panoptic_*.json'))
    if not files:
        raise FileNotFoundError(
            f'no panoptic annotations: neither is {data.absolute()} a JSON file, nor has it '
            'annotations/panoptic_*.json; mmbanet convert makes them of other formats'
        )
    return [Split.of(file) for file in files]


def check_split(
    split: Split, findings: Findings, progress: Callable = tqdm
) -> tuple[PanopticAnnotations, Statistics] | None:
    """Looks at every image, PNG and annotation.

    Args:
        split: What to look at.
        findings: Gets all that is found.
        progress: Wraps what is iterated over, as tqdm does.

    Returns:
        What could be read; None where the annotation file as a whole could not.
    """
    file = None
    with findings.apart('file'):
        file = PanopticAnnotations(str(split.ann_file), notices=findings)
    if file is None:
        return None
    _check_classes(file, findings)
    statistics = Statistics()
    if _are_there(split, findings):
        _check_names(file, findings)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            look = partial(check_image, file, images=split.images, pngs=split.pngs)
            for counts, found in progress(pool.map(look, file.images), total=len(file.images)):
                statistics += counts
                findings.found += found
        _check_use(file, statistics, findings)
    if split.instances is not None:
        _check_instances(file, split.instances, findings)
    return file, statistics


def check_same_classes(files: Sequence[PanopticAnnotations], findings: Findings) -> None:
    """The parts of a data set must have the same categories."""
    for file in files[1:]:
        ours, theirs = (
            {(c['id'], c['name'], c['isthing']) for c in f.categories} for f in (file, files[0])
        )
        if ours != theirs:
            names = sorted({name for _, name, _ in ours ^ theirs})
            findings.refuse(
                'classes',
                f'{file.ann_file}: its categories are not those of {files[0].ann_file}; they '
                f'differ in {", ".join(names[:9])}',
            )


def check_unused_files(files: Mapping[Split, PanopticAnnotations], findings: Findings) -> None:
    """Images and PNGs that no entry names; parts of a data set can have their images together."""
    pngs = {split.pngs.resolve() for split in files}
    named = defaultdict(set)
    for split, file in files.items():
        for folder, entries in ((split.images, file.images), (split.pngs, file.annotations)):
            named[folder.resolve()].update(entry['file_name'] for entry in entries.values())
    used = {folder / name for folder, names in named.items() for name in names}
    for folder in named:
        found = {
            path
            for path in folder.rglob('*')
            if path.suffix.lower() in IMAGE_SUFFIXES
            and (folder in pngs or pngs.isdisjoint(path.parents))
        }
        unused = sorted(str(path.relative_to(folder)) for path in found - used)
        if unused:
            findings.say(
                'unused file',
                f'{folder}: {counted(len(unused), "image")} that no entry names; the first is '
                f'{unused[0]}',
            )


def _are_there(split: Split, findings: Findings) -> bool:
    missing = [path for path in (split.pngs, split.images) if not path.is_dir()]
    for path in missing:
        option = '--pngs' if path == split.pngs else '--images'
        findings.refuse('file', f'no folder {path.absolute()}; {option} says where it is')
    return not missing


def _check_classes(file: PanopticAnnotations, findings: Findings) -> None:
    with findings.apart('classes'):
        check_classes(file.metainfo)
    kinds = [category['isthing'] for category in file.categories]
    if kinds != sorted(kinds, reverse=True):
        findings.say(
            'class order',
            f"{file.ann_file}: stuff stands before things in its categories. mmbanet's data set "
            "goes by their names; mmdet's CocoPanopticDataset would train wrong labels",
        )


def _check_names(file: PanopticAnnotations, findings: Findings) -> None:
    """Files that two entries name."""
    for what, entries in (('image', file.images), ('PNG', file.annotations)):
        times = Counter(entry['file_name'] for entry in entries.values())
        for name, count in times.items():
            if count > 1:
                findings.refuse('name', f'{file.ann_file}: {count} entries name the {what} {name}')


def _check_use(file: PanopticAnnotations, statistics: Statistics, findings: Findings) -> None:
    if not statistics.thing_sizes:
        findings.say(
            'no thing', f'{file.ann_file}: no image has a thing, to train or to test instances with'
        )
    unused = [c['name'] for c in file.categories if c['name'] not in statistics.segments]
    if unused:
        findings.say(
            'unused class',
            f'{file.ann_file}: {counted(len(unused), "class", "classes")} of '
            f'{len(file.categories)} without a segment: {", ".join(unused[:9])}'
            f'{", ..." if len(unused) > 9 else ""}',
        )


def _check_instances(panoptic: PanopticAnnotations, path: Path, findings: Findings) -> None:
    instances = None
    with findings.apart('file'):
        instances = InstanceAnnotations(str(path), notices=findings)
    if instances is None:
        return
    instances.check_matches(panoptic)
    instances.say_hidden()
    for image_id, of_image in instances.instances.items():
        size = instances.images[image_id]['height'], instances.images[image_id]['width']
        found = [one for one in of_image if one.box and not one.is_crowd]
        if len(found) < 2:
            continue
        masks = [encode_segmentation(one.segmentation, *size) for one in found]
        iou = np.triu(coco_mask.iou(masks, masks, [False] * len(masks)), 1)
        for i, j in zip(*(iou > SAME_INSTANCE_IOU).nonzero()):
            if found[i].category_id == found[j].category_id:
                findings.say(
                    'overlap',
                    f'{instances.where(image_id)}: two instances of one class at x1, y1, x2, y2 = '
                    f'{found[i].box} have an IoU of {iou[i, j]:.2f}: perhaps one, annotated twice',
                )
