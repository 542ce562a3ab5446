"""Fine-tuning: takes of a checkpoint what fits the model, and says what does not."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

SHOWN = 12  # names of each kind


class LoadFittingHook(Hook):
    """Completes a checkpoint of another model, or of other classes, by the model's own weights.

    Of a weight that the checkpoint lacks or has in another shape, the model keeps its own, as
    initialised. Classifiers of as many classes with other names fit, and are taken over: it says
    so. ``tools/train.py`` registers it where the config has ``load_from``; it is not for tests and
    resumed trainings, for which a checkpoint must be the model's.

    Raises:
        ValueError: Nothing fits.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Changes ``checkpoint['state_dict']``, and logs what was left out."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        given = checkpoint.get('state_dict', checkpoint)
        own = model.state_dict()
        given = {name.removeprefix('module.'): value for name, value in given.items()}
        fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
        path = runner._load_from
        if not fitting:
            raise ValueError(f'{path}: a checkpoint of another model, no weight of it fits')
        other = [
            f'{k} {tuple(given[k].shape)}, here {tuple(own[k].shape)}'
            for k in own
            if k in given and k not in fitting
        ]
        lines = [f'{path}: {len(fitting)} of the {len(own)} weights are taken over']
        for what, names in (
            ('of another shape, kept as initialised', other),
            ('not in the checkpoint, kept as initialised', _by_part(own.keys() - given.keys())),
            ('not in the model, left out', _by_part(given.keys() - own.keys())),
        ):
            if names:
                more = f'; and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
                lines.append(f'  {what}: {"; ".join(names[:SHOWN])}{more}')
        metainfo = runner.train_dataloader.dataset.metainfo
        if renamed := renamed_classes(checkpoint, metainfo):
            lines.append(f'  as many classes, of other names, which keep their weights: {renamed}')
        level = logging.INFO if len(lines) == 1 else logging.WARNING
        print_log('\n'.join(lines), logger='current', level=level)
        checkpoint['state_dict'] = {**own, **fitting}


def renamed_classes(checkpoint: dict, metainfo: dict) -> str:
    """The classes of a checkpoint that have another name in a data set's metainfo.

    Of all classes, of things and of stuff, where there are as many: a head's classes are the same
    number then.
    """
    trained = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    kinds = [
        [part.get(kind, ()) for part in (trained, metainfo)]
        for kind in ('classes', 'thing_classes', 'stuff_classes')
    ]
    pairs = [
        f'{old} is now {new}'
        for theirs, ours in kinds
        if len(theirs) == len(ours)
        for old, new in zip(theirs, ours)
        if old != new
    ]
    pairs = list(dict.fromkeys(pairs))
    more = f'; and {len(pairs) - SHOWN} more' if len(pairs) > SHOWN else ''
    return '; '.join(pairs[:SHOWN]) + more


def _by_part(names: Iterable[str]) -> list[str]:
    """Names by their first two parts, with the number of each."""
    parts = Counter('.'.join(name.split('.')[:2]) for name in sorted(names))
    return [f'{part} ({count})' for part, count in parts.items()]
