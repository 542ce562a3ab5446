"""Occlusion handling by brute force: pixel by pixel, pair by pair, in exact arithmetic.

Written from the rules alone, in plain Python: sets of pixels, fractions for shares of areas, 50
digits for cosines. It shares neither code nor ideas (regions, matrices, tolerances) with mmbanet.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations, product

import numpy as np


def resolve(masks, scores, image, occlusion_thr=0.2, removal_thr=0.5, preference=None):
    """(owner, keep, facts); masks (K, H, W), scores (K,) and image (3, H, W) as numpy arrays."""
    with localcontext() as context:
        context.prec = 50
        return _resolve(masks, scores, image, occlusion_thr, removal_thr, preference)


def _resolve(masks, scores, image, occlusion_thr, removal_thr, preference):
    height, width = image.shape[1:]
    count = len(masks)
    pixels = [
        {(y, x) for y, x in product(range(height), range(width)) if masks[k][y][x]}
        for k in range(count)
    ]
    colours = {
        (y, x): [Decimal(float(image[c][y][x])) for c in range(3)]
        for y, x in product(range(height), range(width))
    }
    means = [
        [sum(colours[p][c] for p in pixels[k]) / max(len(pixels[k]), 1) for c in range(3)]
        for k in range(count)
    ]
    scores = [float(score) for score in scores]
    facts = dict(pairs=0, occluded=0, appearance_ties=0, score_ties=0, set_aside=0, removed=0)

    def similarity(overlap, k):
        return sum(cosine(colours[p], means[k]) for p in overlap) / len(overlap)

    # Rules 1 and 2: who is in front in each pair.
    verdicts = {}
    for i, j in combinations(range(count), 2):
        overlap = pixels[i] & pixels[j]
        if not overlap:
            continue
        facts['pairs'] += 1
        share = max(Fraction(len(overlap), len(pixels[k])) for k in (i, j))
        front = None
        if preference is not None and preference[i][j] != 0:
            front = i if preference[i][j] == 1 else j
        elif share > Fraction(str(occlusion_thr)):
            facts['occluded'] += 1
            difference = similarity(overlap, i) - similarity(overlap, j)
            if abs(difference) > Decimal('1e-40'):
                front = i if difference > 0 else j
            else:
                facts['appearance_ties'] += 1
        if front is None:
            facts['score_ties'] += scores[i] == scores[j]
            front = j if scores[j] > scores[i] else i
        verdicts[i, j] = (front, j if front == i else i)

    # Rule 3: the pairs in descending score, without those that close a cycle.
    behind_of = {k: set() for k in range(count)}

    def leads_to(start, goal):
        seen, todo = set(), [start]
        while todo:
            k = todo.pop()
            if k == goal:
                return True
            if k not in seen:
                seen.add(k)
                todo.extend(behind_of[k])
        return False

    for pair in sorted(verdicts, key=lambda pair: -max(scores[pair[0]], scores[pair[1]])):
        front, behind = verdicts[pair]
        if leads_to(behind, front):
            facts['set_aside'] += 1
        else:
            behind_of[front].add(behind)

    # Rules 4 and 5: owners, removal, owners again.
    def owner_of(pixel, remaining):
        claimants = [k for k in remaining if pixel in pixels[k]]
        first = [k for k in claimants if not any(leads_to(o, k) for o in claimants if o != k)]
        assert len(first) == min(len(claimants), 1)
        return first[0] if first else -1

    owner = {pixel: owner_of(pixel, range(count)) for pixel in colours}
    keep = []
    for k in range(count):
        lost = sum(owner[pixel] != k for pixel in pixels[k])
        removed = bool(pixels[k]) and Fraction(lost, len(pixels[k])) > Fraction(str(removal_thr))
        facts['removed'] += removed
        keep.append(bool(pixels[k]) and not removed)
    remaining = [k for k in range(count) if keep[k]]
    result = np.array([[owner_of((y, x), remaining) for x in range(width)] for y in range(height)])
    return result, np.array(keep, dtype=bool), facts


def cosine(a, b):
    """Of two RGB vectors; 0 if either is black."""
    lengths = sum(v * v for v in a).sqrt() * sum(v * v for v in b).sqrt()
    return sum(v * w for v, w in zip(a, b)) / lengths if lengths else Decimal(0)
