"""What the order rules are compared on: pairs of composed scenes of which the order is known.

Shapes: K things of a scene, M pairs, H x W pixels.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from mmbanet.models.fusion import OrderRule
from mmbanet.models.fusion.order.lab_gaussian import rgb_to_lab
from mmbanet.scenes.data_set import SPLITS
from mmbanet.scenes.photographs.compose import Composer, PhotographScene
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.scenes.photographs.writer import front_most, known_pairs
from mmbanet.structures import ClaimRegions

OCCLUSION_THR = 0.2  # as in fusion: share of either that is an occluded pair
MIN_PIXELS = 30  # of either mask
MIN_SEEN = 0.5  # of what both truly cover, the share in which one of the two is seen
INSIDE = 0.9  # of the smaller mask within the other
MASKS = ('true', 'head')


class Scene(NamedTuple):
    """A scene as the rules see it.

    Attributes:
        image: (3, H, W) uint8 RGB, as the JPEG leaves it.
        masks: (K, H, W) bool, of true or of simulated masks.
        pairs: (M, 2) int64, (front, behind).
        facts: Of each pair: see :func:`describe`.
    """

    image: Tensor
    masks: Tensor
    pairs: Tensor
    facts: list[dict]


def load_scene(
    composer: Composer, head: SimulatedMaskHead | None, seed: int, split: str, index: int
) -> Scene:
    """Composes the scene of this number, the same as :func:`compose_scenes` does of this seed.

    Args:
        composer: Of scenes.
        head: That the masks are looked at through; None for true masks.
        seed: Of the scenes and of the head.
        split: ``train`` or ``val``.
        index: From 0.
    """
    number = [seed, SPLITS.index(split), index]
    scene = composer.compose(np.random.default_rng(number))
    options = [cv2.IMWRITE_JPEG_QUALITY, scene.quality]
    _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(scene.image[..., ::-1]), options)
    image = torch.from_numpy(cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1].copy())
    image = image.permute(2, 0, 1)
    true = np.stack([thing.mask for thing in scene.segments[: scene.num_things]])
    masks = true
    if head is not None:
        rngs = [np.random.default_rng([*number, 1, k]) for k in range(len(true))]
        masks = np.stack([head.predict(mask, rng) for mask, rng in zip(true, rngs)])
    owner = front_most(list(true))
    pairs, facts = [], []
    for front, behind in known_pairs(scene):
        fact = describe(scene, owner, true, masks, image, front, behind)
        if fact is not None:
            pairs.append((front, behind))
            facts.append(fact | {'scene': index})
    pairs = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return Scene(image, torch.from_numpy(masks), pairs, facts)


def describe(
    scene: PhotographScene,
    owner: np.ndarray,
    true: np.ndarray,
    masks: np.ndarray,
    image: Tensor,
    front: int,
    behind: int,
) -> dict | None:
    """What the breakdowns need to know of a pair; None if it is none.

    Returns:
        ``same_class`` and ``inside`` (bool), ``size`` (square root of the smaller mask's pixels),
        ``share`` (of the smaller mask that both claim) and ``contrast`` (Delta E of the mean
        colours of what is seen of both).
    """
    shared = np.count_nonzero(masks[front] & masks[behind])
    areas = [np.count_nonzero(masks[k]) for k in (front, behind)]
    both = true[front] & true[behind]
    seen = np.count_nonzero(both & (owner == front))
    if (
        min(areas) < MIN_PIXELS
        or shared <= OCCLUSION_THR * min(areas)
        or seen <= MIN_SEEN * np.count_nonzero(both)
    ):
        return None
    means = []
    for k in (front, behind):
        visible = torch.from_numpy(owner == k)
        pixels = visible if visible.any() else torch.from_numpy(true[k])
        means.append(rgb_to_lab(image[:, pixels].double()).mean(dim=1))
    labels = [scene.segments[k].label for k in (front, behind)]
    return dict(
        same_class=labels[0] == labels[1],
        inside=shared >= INSIDE * min(areas),
        size=float(np.sqrt(min(areas))),
        share=shared / min(areas),
        contrast=float((means[0] - means[1]).norm()),
    )


def ask(rules: list[OrderRule], scene: Scene, regions: ClaimRegions) -> np.ndarray:
    """(M,) float64: the evidence for the truth of the first rule that tells, 0 where none does."""
    evidence = torch.zeros(len(scene.pairs), dtype=torch.float64)
    for rule in rules:
        open_ = (evidence == 0).nonzero().squeeze(1)
        if len(open_):
            evidence[open_] = rule.evidence(scene.image, regions, scene.pairs[open_])
    return evidence.numpy()
