"""The weights of CombinedOrder: a logistic regression on scenes composed of photographs.

    python tools/benchmarks/fit_order.py --photographs ROOT

composes scenes of the *training* images of a COCO panoptic data set, looks at them through the
simulated mask head, asks the rules about every occluded pair and writes the weights, with where
they come from, as the module that ``mmbanet/models/fusion/order/combined_weights.py`` is. It prints
what each feature is worth, by cross-validation over scenes.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import hashlib
from pathlib import Path

import numpy as np
import torch
from mmengine.utils import ProgressBar
from order_inputs import load_scene

from mmbanet.models.fusion import CombinedOrder
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.scenes.photographs.source import PhotographSource
from mmbanet.structures import ClaimRegions

GROUND = ('ground', 'ground_low')
FOLDS = 5
# Strength of the prior of weights around 0, for features of standard deviation 1.
RIDGE = 1e-3
STEPS = 30
OUT = Path('work_dirs/benchmarks/combined_weights.py')


def main() -> None:
    """Composes, fits, prints the table and writes the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--photographs', type=Path, required=True, help='COCO panoptic data set')
    parser.add_argument('--scenes', type=int, default=2000, help='how many to compose')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=OUT, help='the file of the weights')
    args = parser.parse_args()
    if args.scenes < FOLDS:
        parser.error(f'--scenes must be {FOLDS} or more, got {args.scenes}')

    features, scenes, same = collect(args.photographs, args.scenes, args.seed)
    names = list(features)
    without = [name for name in names if name not in GROUND]
    print(
        f'\n{len(scenes)} pairs; % ordered rightly in {FOLDS}-fold cross-validation over scenes\n'
    )
    print('| features | all | same class |\n|---|---|---|')
    rows = {'all': names, 'without ground': without, 'contour alone': ['contour']}
    rows |= {f'all but {name}': [n for n in names if n != name] for name in names}
    rows |= {f'contour, {name}': ['contour', name] for name in names[1:]}
    for row, chosen in rows.items():
        right = cross_validate(matrix(features, chosen), scenes)
        print(f'| {row} | {100 * right.mean():.2f} | {100 * right[same].mean():.2f} |')
    weights = {
        kind: dict(zip(chosen, fit(matrix(features, chosen)).round(4).tolist()))
        for kind, chosen in (('ground', names), ('no_ground', without))
    }
    digest = hashlib.sha256(matrix(features, names).round(6).tobytes()).hexdigest()[:16]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        as_module(
            weights, args.photographs.resolve().name, args.scenes, args.seed, len(scenes), digest
        )
    )
    print(f'\n{args.out}')


@torch.no_grad()
def collect(
    photographs: Path, scenes: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """By feature (N,), in favour of the truth; the scene of each pair; and if of one class."""
    composer = Composer(PhotographSource(photographs, 'train'), overlap=1.0)
    features, numbers, same = {}, [], []
    progress = ProgressBar(scenes)
    for index in range(scenes):
        scene = load_scene(composer, SimulatedMaskHead(), seed, 'train', index)
        if len(scene.pairs):
            regions = ClaimRegions.from_masks(scene.masks)
            found = CombinedOrder.features(scene.image, regions, scene.pairs)
            for name, values in found.items():
                features.setdefault(name, []).append(values.numpy())
            numbers += [index] * len(scene.pairs)
            same += [fact['same_class'] for fact in scene.facts]
        progress.update()
    features = {name: np.concatenate(parts) for name, parts in features.items()}
    return features, np.array(numbers), np.array(same)


def matrix(features: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """(N, F) of the named features."""
    return np.stack([features[name] for name in names], axis=1)


def fit(values: np.ndarray) -> np.ndarray:
    """(F,) weights that make the truth, of which the features (N, F) speak, most likely.

    Newton's method on the logistic loss of the truth; there is no other class: a pair that is
    turned round is the same pair.
    """
    scale = values.std(axis=0).clip(1e-9)
    scaled = values / scale
    weights = np.zeros(scaled.shape[1])
    for _ in range(STEPS):
        wrong = 1 / (1 + np.exp(scaled @ weights))
        gradient = RIDGE * weights - (scaled * wrong[:, None]).mean(axis=0)
        curvature = (scaled * (wrong * (1 - wrong))[:, None]).T @ scaled / len(scaled)
        weights -= np.linalg.solve(curvature + RIDGE * np.eye(len(weights)), gradient)
    return weights / scale


def cross_validate(values: np.ndarray, scenes: np.ndarray) -> np.ndarray:
    """(N,) whether each pair is ordered rightly by weights that saw none of its scene."""
    evidence = np.zeros(len(values))
    for fold in range(FOLDS):
        held = scenes % FOLDS == fold
        evidence[held] = values[held] @ fit(values[~held])
    return np.where(evidence == 0, 0.5, evidence > 0)


def as_module(weights: dict, data_set: str, scenes: int, seed: int, pairs: int, digest: str) -> str:
    """The Python file of the weights."""
    lines = [
        '"""Weights of CombinedOrder, as tools/benchmarks/fit_order.py wrote them.',
        '',
        f'{pairs} pairs of {scenes} scenes composed of the training images of {data_set} (a COCO',
        'panoptic data set), masks through the simulated mask head:',
        '',
        '    python tools/benchmarks/fit_order.py --photographs ROOT '
        f'--scenes {scenes} --seed {seed}',
        '',
        f'SHA-256 of their features begins with {digest}.',
        '"""',
        '',
        'WEIGHTS = {',
    ]
    for kind, table in weights.items():
        lines += [
            f"    '{kind}': {{",
            *(f"        '{k}': {v}," for k, v in table.items()),
            '    },',
        ]
    return '\n'.join([*lines, '}', ''])
