"""Who gets a pixel that an instance claims and that semantics call stuff.

Shapes: K instances, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from model_outputs import Outputs
from torch import Tensor

from mmbanet.models.fusion.logit_rules.boxes import box_window, resize_into_box
from mmbanet.models.fusion.order.lab_gaussian import rgb_to_lab

NEAR = 2  # pixels from the contour of an instance
AROUND = 5  # pixels around a patch, whose colours it is compared with


class Contested(NamedTuple):
    """An image after occlusion handling.

    Attributes:
        where: (H, W) bool, pixels that an instance owns and semantics call stuff.
        owner: (H, W) int64, the instance that owns a pixel, -1 for none.
        semantics: (H, W) int64, the likeliest class.
        mask: (H, W), the owner's mask probability; 0 without one.
        stuff: (H, W), the likeliest class's probability.
        thing: (H, W), the probability of the owner's class; 0 without one.
        lab: (3, H, W), colours in CIELAB.
        truth: (H, W) int64, the annotated class, -1 for void.
    """

    where: Tensor
    owner: Tensor
    semantics: Tensor
    mask: Tensor
    stuff: Tensor
    thing: Tensor
    lab: Tensor
    truth: Tensor


def contested(
    given: Outputs, chosen: Tensor, owner: Tensor, truth: Tensor, num_things: int
) -> Contested:
    """What is contested, and what is known there.

    Args:
        given: Of the model.
        chosen: (K,) int64, the detections that are fused.
        owner: (H, W) int64, which of them owns a pixel, -1 for none.
        truth: (H, W) int64, the annotated class, -1 for void.
        num_things: Classes of things, the first labels.
    """
    logits, size = given.logits, tuple(owner.shape)
    # Of a small model's few classes the whole map does no harm.
    probabilities = (logits.rows @ logits.logits.float() @ logits.cols.T).softmax(dim=0)
    stuff, semantics = probabilities.max(dim=0)
    mask = torch.zeros(size)
    thing = torch.zeros(size)
    detections = given.detections[chosen]
    boxes = zip(detections.bboxes, detections.mask_logits, detections.labels.tolist())
    for k, (box, cells, label) in enumerate(boxes):
        window = box_window(box, size)
        own = owner[window] == k
        mask[window][own] = resize_into_box(cells.float().sigmoid(), box, window)[own]
        thing[window][own] = probabilities[label][window][own]
    lab = rgb_to_lab(given.image.flatten(1)).view(3, *size)
    where = (owner >= 0) & (semantics >= num_things)
    return Contested(where, owner, semantics, mask, stuff, thing, lab, truth)


def likelier(of: Contested) -> Tensor:
    """The stuff is likelier than the mask."""
    return of.stuff > of.mask


def likelier_together(of: Contested) -> Tensor:
    """Both predictions, taken as independent, are likelier to come from the stuff."""
    return of.stuff * (1 - of.mask) > of.thing * of.mask


def near_contour(of: Contested) -> Tensor:
    """As :func:`likelier`, but of the pixels next to the instance's contour alone."""
    near = torch.zeros_like(of.where)
    for k in of.owner[of.where].unique().tolist():
        own = (of.owner == k).numpy().astype(np.uint8)
        # The image's border is no contour.
        distance = cv2.distanceTransform(
            cv2.copyMakeBorder(own, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_C, 3
        )[1:-1, 1:-1]
        near |= torch.from_numpy((own > 0) & (distance <= NEAR))
    return near & likelier(of)


def alike(of: Contested) -> Tensor:
    """The patch has more of the colours of the stuff around it than of its instance.

    A patch is a connected component of contested pixels of one instance and one stuff class; one
    that has no such stuff, or nothing else of the instance, around it stays the instance's.
    """
    takes = torch.zeros_like(of.where)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * AROUND + 1, 2 * AROUND + 1))
    pairs = torch.stack([of.owner[of.where], of.semantics[of.where]], dim=1).unique(dim=0)
    for k, label in pairs.tolist():
        mine = of.where & (of.owner == k) & (of.semantics == label)
        count, patches = cv2.connectedComponents(mine.numpy().astype(np.uint8), connectivity=4)
        for patch in range(1, count):
            inside = patches == patch
            nearby = torch.from_numpy(cv2.dilate(inside.astype(np.uint8), around) > 0)
            inside = torch.from_numpy(inside)
            sides = (of.owner == k) & ~of.where, (of.owner < 0) & (of.semantics == label)
            sides = [side & nearby for side in sides]
            if all(side.any() for side in sides):
                colour, instance, stuff = (
                    of.lab[:, region].mean(dim=1) for region in (inside, *sides)
                )
                if (colour - stuff).norm() < (colour - instance).norm():
                    takes |= inside
    return takes


def right(of: Contested) -> Tensor:
    """The annotation says that the stuff is right."""
    return of.semantics == of.truth


# Each says, as (H, W) bool, which contested pixels stuff takes.
RULES = {
    'things overwrite stuff (paper)': lambda of: torch.zeros_like(of.where),
    'stuff overwrites things': lambda of: torch.ones_like(of.where),
    'the likelier': likelier,
    'the likelier, next to contours': near_contour,
    'both likelihoods together': likelier_together,
    'colours around': alike,
    'colours around, and the likelier': lambda of: alike(of) & likelier(of),
    'oracle': right,
}
