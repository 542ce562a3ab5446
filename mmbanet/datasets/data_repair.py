"""Mends in panoptic annotations what follows from the PNGs and images without a guess."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .annotation_files import read_json, read_segment_ids
from .data_check import Split
from .image_files import image_size
from .panoptic_files import segment_info, write_whole


def repair(split: Split, out: Path, progress: Callable = tqdm) -> Counter:
    """Writes a mended copy of the annotation file.

    * ``area`` and ``bbox`` become those of the PNG, ``iscrowd`` 0 where it is missing.
    * ``height`` and ``width`` become those on which image and PNG agree.
    * An entry that another one repeats to the letter is left out.

    Args:
        split: What to mend.
        out: File to write, a new one.
        progress: Wraps what is iterated over, as tqdm does.

    Returns:
        How many of each were mended.

    Raises:
        FileExistsError: ``out`` is there.
        FileNotFoundError, ValueError: The annotation file cannot be read at all.
    """
    if out.exists():
        raise FileExistsError(f'{out} exists; a mended file is always a new one')
    content, mended = read_json(str(split.ann_file)), Counter()
    lists = {key: _distinct(content, key, mended) for key in ('images', 'annotations')}
    _distinct(content, 'categories', mended)
    images = {
        entry['id']: entry
        for entry in lists['images']
        if isinstance(entry, dict) and isinstance(entry.get('id'), int | str)
    }
    for annotation in progress(lists['annotations']):
        if not isinstance(annotation, dict):
            continue
        segments = [s for s in _distinct(annotation, 'segments_info', mended) if type(s) is dict]
        for segment in segments:
            if segment.get('iscrowd') is None:
                segment['iscrowd'] = 0
                mended['iscrowd'] += 1
        image_id = annotation.get('image_id')
        image = images.get(image_id) if isinstance(image_id, int | str) else None
        if image is not None:
            _mend_by_png(split, image, annotation, segments, mended)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda partial: partial.write_text(json.dumps(content)))
    return mended


def _distinct(entry: dict, key: str, mended: Counter) -> list:
    """A list without what stands in it once more."""
    listed = entry.get(key)
    if not isinstance(listed, list):
        return []
    distinct = {json.dumps(item, sort_keys=True): item for item in reversed(listed)}
    mended[f'repeated {key}'] += len(listed) - len(distinct)
    entry[key] = list(reversed(distinct.values()))
    return entry[key]


def _mend_by_png(
    split: Split, image: dict, annotation: dict, segments: list[dict], mended: Counter
) -> None:
    try:
        png = split.pngs / annotation['file_name']
        size = image_size(png, False)
        if image_size(split.images / image['file_name'], True) != size:
            return  # which of them is right?
        ids = read_segment_ids(str(png), size, '')
    except (KeyError, TypeError, OSError, ValueError):
        return  # nothing to go by; the check says what is wrong
    if (image.get('height'), image.get('width')) != size:
        image['height'], image['width'] = size
        mended['height and width'] += 1
    there = np.unique(ids[ids > 0]).tolist()
    for segment in segments:
        if segment.get('id') not in there:
            continue
        true = segment_info(segment['id'], 0, ids == segment['id'])
        for key in ('area', 'bbox'):
            if segment.get(key) != true[key]:
                segment[key] = true[key]
                mended[key] += 1
