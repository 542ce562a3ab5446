"""Images of which is known who is in front: composed or drawn scenes, COCO, COCO amodal, KINS.

Whatever the source, an item of it is an image (3, H, W) uint8 RGB with its :class:`OrderedThings`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mmbanet.datasets import (
    CocoaAnnotations,
    CocoOrder,
    KinsAnnotations,
    OrderedThings,
    PanopticAnnotations,
)
from mmbanet.datasets.image_files import check_loaded_size
from mmbanet.datasets.ordered_things import order_by_rank, owner_of
from mmbanet.scenes.data_set import SPLITS
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.source import PhotographSource
from mmbanet.scenes.photographs.writer import front_most, known_pairs
from mmbanet.scenes.true_depth import TrueDepth, check_depth

COMPOSED = 700  # scenes, where nothing is said


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of the data, which :func:`open_data` opens."""
    sources = parser.add_mutually_exclusive_group(required=True)
    for name, meaning in (
        ('--photographs', 'COCO panoptic data set: scenes are composed of its photographs'),
        ('--generated', 'scenes on disk, of tools/make_scenes.py'),
        ('--coco', 'COCO panoptic data set with instances_*.json'),
    ):
        sources.add_argument(name, type=Path, metavar='ROOT', help=meaning)
    sources.add_argument('--cocoa', type=Path, metavar='JSON', help='COCO amodal annotations')
    sources.add_argument('--kins', type=Path, metavar='JSON', help='KINS annotations of 2020')
    parser.add_argument('--images', type=Path, help='folder of images (--cocoa and --kins)')
    parser.add_argument('--split', choices=SPLITS, default='val', help='of a ROOT')
    parser.add_argument(
        '--scenes', type=int, help=f'at most so many images (default: {COMPOSED} composed, or all)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of composed scenes and the mask head')


def open_data(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Sequence:
    """The images that the arguments name."""
    if args.scenes is not None and args.scenes < 1:
        parser.error(f'--scenes must be 1 or more, got {args.scenes}')
    if args.photographs:
        return Composed(args.photographs, args.split, args.scenes or COMPOSED, args.seed)
    if args.generated:
        file = _find(args.generated, 'panoptic', args.split)
        data = Annotated(Scenes(file), args.generated / args.split)
    elif args.coco:
        panoptic = _find(args.coco, 'panoptic', args.split)
        instances = _find(args.coco, 'instances', args.split)
        name = panoptic.stem.removeprefix('panoptic_')
        truth = CocoOrder(str(panoptic), str(panoptic.with_suffix('')), str(instances))
        data = Annotated(truth, args.coco / name)
    elif args.images is None:
        parser.error('--images, the folder of the images, is needed with --cocoa and --kins')
    else:
        truth = CocoaAnnotations(str(args.cocoa)) if args.cocoa else KinsAnnotations(str(args.kins))
        data = Annotated(truth, args.images)
    data.number = min(data.number, args.scenes or data.number)
    return data


class Composed:
    """Scenes composed of photographs, the same as ``make_scenes.py`` writes of this seed."""

    def __init__(self, root: Path, split: str, number: int, seed: int) -> None:
        # All cut-outs overlap something: scenes are here for their pairs.
        self.composer = Composer(PhotographSource(root, split), overlap=1.0)
        self.split, self.number, self.seed = split, number, seed

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, OrderedThings]:
        return compose(self.composer, self.seed, self.split, index)


def compose(composer: Composer, seed: int, split: str, index: int) -> tuple[Tensor, OrderedThings]:
    """A scene, its image as the JPEG leaves it; the order of pairs that the composer made."""
    scene = composer.compose(np.random.default_rng([seed, SPLITS.index(split), index]))
    options = [cv2.IMWRITE_JPEG_QUALITY, scene.quality]
    _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(scene.image[..., ::-1]), options)
    things = scene.segments[: scene.num_things]
    masks = np.stack([thing.mask for thing in things])
    order = np.zeros((len(things), len(things)), dtype=np.int8)
    for front, behind in known_pairs(scene):
        order[front, behind], order[behind, front] = 1, -1
    categories = np.array([thing.label for thing in things])
    owner = front_most(list(masks))
    return _rgb(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)), OrderedThings(
        f'{index:012d}.jpg', categories, masks, owner, order
    )


class Annotated:
    """Images on disk.

    Args:
        truth: By the image's number.
        folder: Of the images.

    Raises:
        FileNotFoundError: The folder, or later an image, is missing.
    """

    def __init__(self, truth: Sequence[OrderedThings], folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f'folder of images not found: {folder.absolute()}')
        self.truth, self.folder, self.number = truth, folder, len(truth)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> tuple[Tensor, OrderedThings]:
        things = self.truth[index]
        path = self.folder / things.file_name
        image = cv2.imread(str(path))
        if image is None:
            raise FileNotFoundError(f'image not found or not readable: {path.absolute()}')
        check_loaded_size(str(path), image.shape[:2], things.owner.shape, f'image {index}')
        return _rgb(image), things


class Scenes:
    """The things of scenes on disk, which know their depth."""

    def __init__(self, file: Path) -> None:
        self.annotations = PanopticAnnotations(str(file))
        check_depth(self.annotations)
        self.image_ids = list(self.annotations.annotations)
        categories = [c['id'] for c in self.annotations.categories if c['isthing']]
        self.labels = {category: label for label, category in enumerate(categories)}

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> OrderedThings:
        image_id = self.image_ids[index]
        depth = TrueDepth.from_annotation(self.annotations, image_id, self.labels)
        order = order_by_rank(depth.amodal, np.arange(len(depth.labels)))
        pairs = self.annotations.annotations[image_id].get('occluded_pairs')
        if pairs is not None:  # of composed scenes, more is not known
            order *= self._listed(image_id, pairs)
        name = self.annotations.images[image_id]['file_name']
        return OrderedThings(name, depth.labels, depth.amodal, owner_of(depth.visible), order)

    def _listed(self, image_id: int, pairs: list[list[int]]) -> np.ndarray:
        """(K, K) bool: which of the things from front to back the pairs of segment ids name."""
        annotation = self.annotations.annotations[image_id]
        label_of = {s['id']: self.labels.get(s['category_id']) for s in annotation['segments_info']}
        things = [i for i in annotation['depth_order'] if label_of[i] is not None]
        place = {segment_id: k for k, segment_id in enumerate(things)}
        listed = np.zeros((len(things), len(things)), dtype=bool)
        for front, behind in pairs:
            listed[place[front], place[behind]] = listed[place[behind], place[front]] = True
        return listed


def _find(root: Path, kind: str, split: str) -> Path:
    found = sorted((root / 'annotations').glob(f'{kind}_{split}*.json'))
    if len(found) != 1:
        raise FileNotFoundError(
            f'{(root / "annotations").absolute()}: expected one {kind}_{split}*.json, got '
            f'{[path.name for path in found]}'
        )
    return found[0]


def _rgb(image: np.ndarray) -> Tensor:
    """OpenCV's image (H, W, 3) as (3, H, W) RGB."""
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
