"""Predicts images into a folder."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.registry import DATASETS
from torch import nn
from tqdm import tqdm

from mmbanet.apis import PanopticInferencer, PanopticResult
from mmbanet.apis.image_sources import (
    Found,
    SourceImage,
    count_images,
    distinct,
    find_images,
    open_images,
)
from mmbanet.datasets import PanopticAnnotations
from mmbanet.datasets.annotation_files import read_json
from mmbanet.datasets.panoptic_files import folder_within, write_segment_map, write_whole
from mmbanet.engine.fingerprints import differences, prediction_fingerprint
from mmbanet.engine.work_folder import locked
from mmbanet.messages import counted
from mmbanet.visualization.panoptic import write_picture


def run(args: Namespace) -> None:
    """Predicts what the arguments name."""
    named = find_images(args.images)
    found = without_outputs(named, args.out)
    if len(found) < len(named) and not args.resume:
        raise ValueError(
            f'images are to be predicted that lie where {args.out} gets its maps and pictures, '
            'which could replace them: another --out (--resume leaves them out)'
        )
    found = distinct(found)
    rank, ranks = join_group()
    if ranks > 1 and any(isinstance(item.entry, int) for item in found):
        raise ValueError('a webcam has one reader: predict it without torchrun')
    device = args.device or get_device()
    if ranks > 1 and device == 'cuda':
        device = f'cuda:{os.environ["LOCAL_RANK"]}'
    inferencer = PanopticInferencer(
        args.config, args.checkpoint, device, cfg_options=args.cfg_options
    )
    with locked(args.out):
        predict_all(inferencer, found, args, rank, ranks)


def predict_all(
    inferencer: PanopticInferencer,
    found: Sequence[Found],
    args: Namespace,
    rank: int,
    ranks: int,
) -> None:
    """Predicts this process's images; the first one writes what is of all."""
    check_same_model(args.out, inferencer.model, rank)
    categories = categories_of(inferencer.model)
    work = Work(inferencer, args.out, args.batch_size, not args.no_pictures, rank, ranks)
    try:
        work.run(found)
    except KeyboardInterrupt:
        if ranks == 1:  # what is done is to be of use: a webcam ends in no other way
            write_coco(args.out, work.seen, categories)
        raise
    broken = sum_of_ranks(work.broken)
    if rank == 0:
        write_coco(args.out, work.seen, categories)
        for notice in of_other_images(args.out, work.seen):
            print(notice, file=sys.stderr)
        print(f'{counted(len(work.seen) - broken, "image")}: {args.out / "panoptic.json"}')
    if broken and rank == 0:
        sys.exit(
            f'mmbanet predict: {broken} of {counted(len(work.seen), "image")} could not be read, '
            'see above'
        )


def check_same_model(out: Path, model: nn.Module, rank: int) -> None:
    """Notes in the folder which model predicts.

    Raises:
        ValueError: The predictions there are another's.
    """
    record, fingerprint = out / 'model.json', prediction_fingerprint(model)
    if record.exists() and (out / 'segments').exists():
        changed = differences(read_json(str(record), 'record of mmbanet predict'), fingerprint)
        if changed:
            raise ValueError(
                f'{out} holds predictions of another model (changed: {", ".join(changed)}): '
                'another --out, or the same command as before'
            )
    elif rank == 0:
        text = json.dumps(fingerprint, indent=1) + '\n'
        write_whole(record, lambda partial: partial.write_text(text))


def without_outputs(found: Sequence[Found], out: Path) -> list[Found]:
    """What was not written by the command: DIR may lie in a folder of images."""
    written = [(out / folder).resolve() for folder in ('panoptic', 'pictures')]
    return [
        item
        for item in found
        if not isinstance(item.entry, Path)
        or not any(item.entry.resolve().is_relative_to(folder) for folder in written)
    ]


def join_group() -> tuple[int, int]:
    """Rank and number of processes, of which ``torchrun`` tells by the environment."""
    ranks = int(os.environ.get('WORLD_SIZE', '1'))
    if ranks > 1:
        # Nothing is exchanged before the end, for which the fastest waits as long as it takes.
        torch.distributed.init_process_group('gloo', timeout=timedelta(days=30))
    return (torch.distributed.get_rank(), ranks) if ranks > 1 else (0, 1)


def sum_of_ranks(number: int) -> int:
    """The sum over all processes, when each is done."""
    if not torch.distributed.is_initialized():
        return number
    total = torch.tensor(number)
    torch.distributed.all_reduce(total)
    return int(total)


class Work:
    """What is done, in the batches that the model takes.

    Args:
        inferencer: Of the model.
        out: Folder to write to.
        batch_size: Images in one pass.
        pictures: Whether to write pictures, too.
        rank: Every ``ranks``-th image from this one on is this process's.
        ranks: Number of processes.

    Attributes:
        seen: Source by name of all images so far, those of other processes too.
        broken: Number of this process's images that could not be read.
    """

    def __init__(
        self,
        inferencer: PanopticInferencer,
        out: Path,
        batch_size: int,
        pictures: bool,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.inferencer, self.out, self.pictures = inferencer, out, pictures
        self.batch_size, self.rank, self.ranks = batch_size, rank, ranks
        self.seen: dict[str, str] = {}
        self.broken = 0

    def run(self, found: Sequence[Found]) -> None:
        """Predicts this process's images that are not done yet.

        The next images are read, and the last results drawn and written, while the model works.
        """
        batch = []
        total = count_images(found)
        hidden = True if self.rank else None  # one bar is enough; None: if it is a terminal
        with (
            tqdm(total=total, desc='predict', unit='image', disable=hidden) as progress,
            _Beside() as beside,
        ):
            for item, image in beside.ahead(self._images(found), self.batch_size):
                if isinstance(image, Exception):
                    progress.write(f'left out: {image}', file=sys.stderr)
                    self.broken += 1
                elif image is not None:
                    batch.append((item, image))
                if len(batch) == self.batch_size:
                    self._predict(batch, beside)
                    batch = []
                progress.update()
            if batch:
                self._predict(batch, beside)

    def _images(
        self, found: Sequence[Found]
    ) -> Iterator[tuple[Found | SourceImage, np.ndarray | Exception | None]]:
        """All images: their pixels, why there are none, or None of what is not to be predicted."""
        for entry in found:
            try:
                for item in open_images([entry]):
                    is_mine = self._count(item.name, item.source)
                    if not is_mine or (self.out / 'segments' / f'{item.name}.json').exists():
                        yield item, None
                        continue
                    try:
                        yield item, item.read()
                    except (OSError, ValueError) as error:
                        yield item, error
            except ValueError as error:  # a video that is none
                if self._count(entry.name, str(entry.entry)):
                    yield entry, error

    def _count(self, name: str, source: str) -> bool:
        """Notes the next image; whether it is this process's."""
        self.seen[name] = source
        return (len(self.seen) - 1) % self.ranks == self.rank

    def _predict(self, batch: Sequence[tuple[SourceImage, np.ndarray]], beside: _Beside) -> None:
        results = self.inferencer.predict_batch([image for _, image in batch])
        for (item, image), result in zip(batch, results):
            beside.do(self._write, item, image, result)

    def _write(self, item: SourceImage, image: np.ndarray, result: PanopticResult) -> None:
        picture = self.inferencer.draw(result, image) if self.pictures else None
        write_prediction(self.out, item, result, picture)


class _Beside:
    """Two threads beside the model's, one that reads and one that writes, both in order.

    Leaving the context waits for what was begun; an error of the writer is raised by the next call.
    """

    _END = object()

    def __enter__(self) -> _Beside:
        self._reader, self._writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._writing: deque[Future] = deque()
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._writer.shutdown()
        while self._writing and kind is None:
            self._writing.popleft().result()

    def ahead(self, items: Iterator, number: int) -> Iterator:
        """The items, of which so many are asked for before they are needed."""
        pending = deque(self._reader.submit(next, items, self._END) for _ in range(number))
        while (item := pending.popleft().result()) is not self._END:
            pending.append(self._reader.submit(next, items, self._END))
            yield item

    def do(self, function: Callable, *args) -> None:
        """Calls a function, when those before are done; at most four wait."""
        self._writing.append(self._writer.submit(function, *args))
        while self._writing and (len(self._writing) > 4 or self._writing[0].done()):
            self._writing.popleft().result()


def write_prediction(
    out: Path, item: SourceImage, result: PanopticResult, picture: np.ndarray | None
) -> None:
    """Writes what is known of an image; the JSON comes last and means: done."""
    png, jpg, record = (
        out / folder / f'{item.name}{suffix}'
        for folder, suffix in (('panoptic', '.png'), ('pictures', '.jpg'), ('segments', '.json'))
    )
    folder_within(out, png.parent)
    write_whole(png, lambda partial: write_segment_map(partial, result.segment_ids))
    if picture is not None:
        folder_within(out, jpg.parent)
        write_picture(jpg, picture)
    height, width = result.segment_ids.shape
    facts = dict(
        file=item.source,
        height=height,
        width=width,
        segments=[dict(s, category_name=result.classes[s['category']]) for s in result],
    )
    folder_within(out, record.parent)
    write_whole(record, lambda partial: partial.write_text(json.dumps(facts, indent=1) + '\n'))


def categories_of(model: nn.Module) -> list[dict]:
    """COCO's categories in the order of labels.

    They are those of the panoptic annotations of the config's test set, where these are there,
    sound and of the model's classes; else the ids are the labels.
    """
    classes, things = model.dataset_meta['classes'], len(model.dataset_meta['thing_classes'])
    path = DATASETS.build(dict(model.cfg.test_dataloader.dataset, lazy_init=True)).ann_file
    with suppress(OSError, ValueError):
        annotations = PanopticAnnotations(path, may_be_unannotated=True)
        labels = annotations.labels(model.dataset_meta)
        return sorted(annotations.categories, key=lambda category: labels[category['id']])
    return [
        dict(id=label, name=name, supercategory='', isthing=int(label < things))
        for label, name in enumerate(classes)
    ]


def write_coco(out: Path, names: Iterable[str], categories: Sequence[dict]) -> None:
    """COCO's panoptic JSON of what is predicted; ids of images are their places from 1."""
    content = dict(images=[], annotations=[], categories=list(categories))
    for number, name in enumerate(names, start=1):
        record = out / 'segments' / f'{name}.json'
        if not record.exists():
            continue
        facts = read_json(str(record), 'record of mmbanet predict')
        try:
            size = dict(height=facts['height'], width=facts['width'])
            file_name = (Path(name).parent / Path(facts['file']).name).as_posix()
            image = dict(id=number, file_name=file_name, **size)
            segments = [
                dict(
                    id=s['id'],
                    category_id=categories[s['category']]['id'],
                    area=s['area'],
                    bbox=s['bbox'],
                    iscrowd=0,
                )
                for s in facts['segments']
            ]
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f'{record}: no record of mmbanet predict with this model ({error!r}); delete it, '
                'and --resume predicts its image again'
            ) from error
        content['images'].append(image)
        content['annotations'].append(
            dict(image_id=number, file_name=f'{name}.png', segments_info=segments)
        )
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / 'panoptic.json', lambda partial: partial.write_text(json.dumps(content)))


def of_other_images(out: Path, seen: Mapping[str, str]) -> Iterator[str]:
    """Says which predictions in the folder are not of the images that were asked for."""
    records = out / 'segments'
    names = [path.relative_to(records).as_posix() for path in records.rglob('*.json')]
    others = sorted({name.removesuffix('.json') for name in names} - seen.keys())
    if others:
        yield (
            f'not in panoptic.json: {counted(len(others), "prediction")} in {out} of images that '
            f'were not asked for, first {others[0]}; name them, too, for a JSON of all'
        )
    changed = []
    for name, source in seen.items():
        record = records / f'{name}.json'
        if record.exists():
            predicted = read_json(str(record), 'record of mmbanet predict')['file']
            if Path(predicted).resolve() != Path(source).resolve():
                changed.append(f'{predicted} in place of {source}')
    if changed:
        yield (
            f'not predicted: {counted(len(changed), "image")}, as {out} has the prediction of '
            f'another file of the name, first {changed[0]}; another --out predicts them'
        )
