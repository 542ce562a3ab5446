"""What the order rules are compared on: pairs of masks of which the order is known.

Shapes: K masks, N detections, M pairs, H x W pixels.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from order_data import compose
from torch import Tensor, nn

from mmbanet.apis import predict
from mmbanet.datasets import OrderedThings
from mmbanet.models.fusion import ContourContrast, OrderRule, select_detections
from mmbanet.models.fusion.order.lab_gaussian import rgb_to_lab
from mmbanet.registry import MODELS
from mmbanet.scenes.data_set import SPLITS
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead
from mmbanet.structures import ClaimRegions

OCCLUSION_THR = 0.2  # as in fusion: share of either that is an occluded pair
MIN_PIXELS = 30  # of either mask
MIN_SEEN = 0.5  # of what both truly cover, the share in which the front is seen
INSIDE = 0.9  # of the smaller mask within the other
MIN_IOU = 0.5  # of a detection and the thing that it shows, with all or what is seen of it
NMS = dict(type='nms', iou_threshold=0.5)  # of detections of any class, as before fusion


class Scene(NamedTuple):
    """An image as the rules see it.

    Attributes:
        image: (3, H, W) uint8 RGB.
        masks: (K, H, W) bool: true ones, through a simulated mask head, or detections.
        pairs: (M, 2) int64, (front, behind).
        facts: Of each pair: see :func:`describe`.
        scores: (K,) of detections.
        own: (M,) of the model that detects, in its own panoptic map: 1 where the front is in front,
            -1 where it is behind, 0 where they do not overlap there; None: it does not say.
    """

    image: Tensor
    masks: Tensor
    pairs: Tensor
    facts: list[dict]
    scores: Tensor | None = None
    own: Tensor | None = None


def load_scene(
    composer: Composer, head: SimulatedMaskHead | None, seed: int, split: str, index: int
) -> Scene:
    """A composed scene, see :func:`look`."""
    image, things = compose(composer, seed, split, index)
    return look(image, things, head, (seed, SPLITS.index(split), index))


def look(
    image: Tensor, things: OrderedThings, head: SimulatedMaskHead | None, number: tuple[int, ...]
) -> Scene:
    """The things of an image through a mask head.

    Args:
        image: (3, H, W) uint8 RGB.
        things: Of the image.
        head: None for true masks.
        number: Seeds the head; its last is that of the image.
    """
    masks = things.masks
    if head is not None:
        rngs = [np.random.default_rng([*number, 1, k]) for k in range(len(masks))]
        seen = [head.predict(mask, rng) for mask, rng in zip(masks, rngs)]
        masks = np.array(seen, dtype=bool).reshape(masks.shape)
    places = {k: k for k in range(len(masks))}
    return _scene(image, things, masks, places, number[-1])


@torch.no_grad()
def detect(
    image: Tensor, things: OrderedThings, model: nn.Module, score_thr: float, number: int
) -> Scene:
    """The things of an image as a model detects them.

    A detection is that of the thing with which it has the largest IoU, if that is ``MIN_IOU`` or
    more, one to one, largest first.

    Args:
        image: (3, H, W) uint8 RGB.
        things: Of the image.
        model: Of :func:`mmbanet.apis.init_model`.
        score_thr: Detections score more than this.
        number: Of the image.

    Raises:
        TypeError: The model predicts no masks.
    """
    bgr = image.permute(1, 2, 0).numpy()[..., ::-1]
    sample = predict(model, np.ascontiguousarray(bgr))
    instances = sample.pred_instances
    if 'masks' not in instances:
        raise TypeError('--model must predict instance masks, got one that predicts none')
    chosen = select_detections(instances, score_thr, NMS)
    masks = instances.masks[chosen].numpy().astype(bool)
    scene = _scene(image, things, masks, match(masks, things), number)
    own = own_order(sample, chosen[scene.pairs])
    return scene._replace(scores=instances.scores[chosen], own=own)


def own_order(sample: DetDataSample, pairs: Tensor) -> Tensor | None:
    """See :attr:`Scene.own`, of pairs (M, 2) of all detections."""
    panoptic = sample.get('pred_panoptic_seg', {})
    graph = panoptic.get('occlusion')
    if graph is None:
        return None
    count = len(sample.pred_instances)
    ahead = torch.zeros((count, count))
    fused = panoptic.get('detections')
    ahead[fused[:, None], fused] = graph.in_front.float()
    return (ahead - ahead.T)[pairs[:, 0], pairs[:, 1]]


def match(masks: np.ndarray, things: OrderedThings) -> dict[int, int]:
    """The detection (of masks (N, H, W)) of each thing that has one, see :func:`detect`."""
    visible = things.owner == np.arange(len(things.masks))[:, None, None]
    iou = np.maximum(_iou(things.masks, masks), _iou(visible, masks))
    found, taken = {}, set()
    for place in np.argsort(-iou, axis=None, kind='stable'):
        thing, detection = (int(i) for i in np.unravel_index(place, iou.shape))
        if iou[thing, detection] < MIN_IOU:
            break
        if thing not in found and detection not in taken:
            found[thing] = detection
            taken.add(detection)
    return found


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(A, B) of masks (A, H, W) and (B, H, W)."""
    size = first.shape[1] * first.shape[2]
    first, second = (m.reshape(len(m), size).astype(np.float32) for m in (first, second))
    shared = first @ second.T
    union = first.sum(axis=1)[:, None] + second.sum(axis=1) - shared
    return shared / np.maximum(union, 1)


def _scene(
    image: Tensor, things: OrderedThings, masks: np.ndarray, places: dict[int, int], number: int
) -> Scene:
    """The pairs of things that have a place among the masks."""
    pairs, facts = [], []
    for pair in things.pairs:
        if not all(thing in places for thing in pair):
            continue
        claimed = [places[thing] for thing in pair]
        fact = describe(image, things, pair, *masks[claimed])
        if fact is not None:
            pairs.append(claimed)
            facts.append(fact | {'scene': number, 'pair': pair})
    pairs = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return Scene(image, torch.from_numpy(masks), pairs, facts)


def describe(
    image: Tensor,
    things: OrderedThings,
    pair: tuple[int, int],
    front: np.ndarray,
    behind: np.ndarray,
) -> dict | None:
    """What the breakdowns need to know of a pair; None if it is none.

    Args:
        image: (3, H, W) uint8 RGB.
        things: Of the image.
        pair: Two of them, (front, behind).
        front: (H, W) bool, the mask of the first as the rules see it.
        behind: (H, W) bool, of the second.

    Returns:
        ``same_class`` and ``inside`` (bool), ``size`` (square root of the smaller mask's pixels),
        ``share`` (of the smaller mask that both claim) and ``contrast`` (Delta E of the mean
        colours of what is seen of both).
    """
    shared = np.count_nonzero(front & behind)
    smaller = min(np.count_nonzero(front), np.count_nonzero(behind))
    both = things.masks[pair[0]] & things.masks[pair[1]]
    seen = np.count_nonzero(both & (things.owner == pair[0]))
    if (
        smaller < MIN_PIXELS
        or shared <= OCCLUSION_THR * smaller
        or seen <= MIN_SEEN * np.count_nonzero(both)
    ):
        return None
    means = []
    for k in pair:
        visible = things.owner == k
        pixels = torch.from_numpy(visible if visible.any() else things.masks[k])
        means.append(rgb_to_lab(image[:, pixels].double()).mean(dim=1))
    categories = things.categories[list(pair)]
    return dict(
        same_class=bool(categories[0] == categories[1]),
        inside=shared >= INSIDE * smaller,
        size=float(np.sqrt(smaller)),
        share=shared / smaller,
        contrast=float((means[0] - means[1]).norm()),
    )


class Contour(ContourContrast):
    """Rules that differ in what they decide share the strengths of contours."""

    last = None, None, None

    def strengths(self, image: Tensor, regions: ClaimRegions, contours: Tensor) -> Tensor:
        """See :meth:`ContourContrast.strengths`; remembers those of the last contours."""
        of, asked, _ = Contour.last
        if of is not regions or not torch.equal(asked, contours):
            Contour.last = regions, contours, super().strengths(image, regions, contours)
        return Contour.last[2]


def build_rows(configs: dict[str, list[dict]]) -> dict[str, list[OrderRule]]:
    """The rules of each row; those of several rows are the same object."""
    built = {}
    for config in itertools.chain(*configs.values()):
        options = dict(config)
        is_contour = options.pop('type') == 'mmbanet.ContourContrast'
        built[str(config)] = Contour(**options) if is_contour else MODELS.build(config)
    return {name: [built[str(config)] for config in row] for name, row in configs.items()}


def ask(rows: dict[str, list[OrderRule]], scene: Scene) -> dict[str, np.ndarray]:
    """The evidence (M,) float64 for the truth of each row, 0 where it cannot tell.

    A row is a list of rules, of which the next is asked where those before cannot tell. A rule that
    stands in several rows is asked once.
    """
    regions = ClaimRegions.from_masks(scene.masks)
    rules = dict.fromkeys(rule for row in rows.values() for rule in row)
    found = {rule: rule.evidence(scene.image, regions, scene.pairs) for rule in rules}
    evidence = {}
    for name, row in rows.items():
        told = torch.zeros(len(scene.pairs), dtype=torch.float64)
        for rule in row:
            told = torch.where(told == 0, found[rule], told)
        evidence[name] = told.numpy()
    return evidence
