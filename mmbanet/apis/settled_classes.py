"""The classes of a config that leaves them to its annotations: ``classes_from_annotations = True``.

``configs/banet/banet_r50_fpn_1x_custom.py`` is one. Training, testing and prediction all come
through :func:`settle_classes`.
"""

from __future__ import annotations

import os.path as osp
import warnings
from collections.abc import Iterator
from os import PathLike

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmbanet.datasets import PanopticAnnotations
from mmbanet.datasets.panoptic_dataset import check_classes
from mmbanet.engine.checkpoints import use_safe_loaders
from mmbanet.engine.class_count_hook import head_class_counts
from mmbanet.engine.launch import replace_data_root
from mmbanet.engine.load_fitting_hook import renamed_classes
from mmbanet.messages import check_found

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def settle_classes(cfg: Config, checkpoint: str | PathLike | None = None) -> None:
    """Puts the classes, and all that follows from them, into a config; in place.

    They are those that the checkpoint was trained with, if it says so, else those of the training
    annotations, without these of the test annotations. What follows: the class counts of all heads,
    classes and colours of the data sets. All data are where ``data_root`` says; instance
    annotations are left out where there are none. A config with classes of its own stays as it is.

    Args:
        cfg: To be settled; once it is, it needs the annotations no more.
        checkpoint: File or URL, of a model that is to be tested or used.

    Raises:
        FileNotFoundError: No such checkpoint, or neither it nor annotation files name the classes.
        ValueError: An annotation file is not as it must be.
    """
    if not cfg.get('classes_from_annotations'):
        return
    _follow_data_root(cfg)
    metainfo = _trained_classes(checkpoint) or _annotated_classes(cfg)
    things, stuff = len(metainfo['thing_classes']), len(metainfo['stuff_classes'])
    for name, part in _parts('', cfg.model):
        is_fusion = name.endswith('panoptic_fusion_head')  # which often leaves COCO's counts unsaid
        has = (lambda key: True) if is_fusion else part.__contains__
        part.update(head_class_counts(name, has, things, stuff))
    for data_set in data_sets(cfg):
        data_set.metainfo = metainfo
        instances = data_set.get('instances_ann_file')
        if instances and not osp.exists(osp.join(data_set.data_root, instances)):
            data_set.instances_ann_file = None  # of which the data set says what is lost
    cfg.merge_from_dict(
        dict(num_things_classes=things, num_stuff_classes=stuff, classes_from_annotations=False)
    )


def warn_of_other_classes(checkpoint: str | PathLike, content: dict, metainfo: dict) -> None:
    """Warns where a model predicts other classes than it was trained with, or in another order.

    Args:
        checkpoint: File or URL.
        content: What it holds.
        metainfo: Of the data set that names what is predicted.
    """
    if renamed := renamed_classes(content, metainfo):
        warnings.warn(f'{checkpoint} was trained with other classes: {renamed}', stacklevel=3)


def _follow_data_root(cfg: Config) -> None:
    """Moves the data where ``data_root`` says, which can be set alone."""
    new, old = cfg.data_root, next(data_sets(cfg)).data_root
    if osp.normpath(new) != osp.normpath(old):
        cfg.data_root = old
        replace_data_root(cfg, new)


def _trained_classes(checkpoint: str | PathLike | None) -> dict | None:
    if checkpoint is None:
        return None
    check_found('checkpoint', checkpoint)
    use_safe_loaders()
    content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location='cpu')
    metainfo = content.get('meta', {}).get('dataset_meta') or {}
    keys = ('classes', 'thing_classes', 'stuff_classes', 'palette')
    return {key: metainfo[key] for key in keys} if set(keys) <= metainfo.keys() else None


def _annotated_classes(cfg: Config) -> dict:
    files = [osp.join(data_set.data_root, data_set.ann_file) for data_set in data_sets(cfg)]
    for file in files:
        if osp.exists(file):
            metainfo = PanopticAnnotations(file).metainfo
            check_classes(metainfo)
            return metainfo
    raise FileNotFoundError(
        f'annotation file not found: {osp.abspath(files[0])}, which names the classes. Put the '
        'data set there, or say where it is: data_root in the config, or --data-root of '
        'tools/train.py, test.py and mmbanet report; mmbanet convert makes it of other formats'
    )


def data_sets(cfg: Config) -> Iterator[dict]:
    """Those that have files, of training first; also what a ``RepeatDataset`` and the like wrap."""
    for loader in filter(cfg.get, LOADERS):
        for _, part in _parts('', cfg[loader].dataset):
            if 'ann_file' in part:
                yield part


def _parts(name: str, part: dict | list) -> Iterator[tuple[str, dict]]:
    """All parts of a config by the names that, in a model, the modules will have."""
    if isinstance(part, dict):
        yield name, part
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        if isinstance(value, (dict, list)):
            yield from _parts(f'{name}.{key}'.lstrip('.'), value)
