"""Occlusion handling by brute force: pixel by pixel, pair by pair, in exact arithmetic.

Written from the rules alone, in plain Python: sets of pixels, fractions for shares of areas, 50
digits for cosines. It shares neither code nor ideas (regions, matrices, tolerances) with mmbanet.
"""

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

# At 50 digits, two sums that are equal differ by less than this.
EQUAL = Decimal('1e-40')


class Resolution(NamedTuple):
    """What the rules say of K objects, and which of the rules were needed."""

    owner: np.ndarray  # (H, W) index of the object that owns the pixel, -1 for none
    keep: np.ndarray  # (K,) bool
    pairs: list  # (front, behind) as each pair alone is decided, in the order they are taken
    rules: list  # what decided each of them
    accepted: list  # whether each of them agrees with those before it
    closest: Decimal  # the smallest difference in similarity that decided a pair; infinite: none
    facts: dict  # how often each rule was needed


def resolve(
    masks,
    scores,
    image,
    occlusion_thr=0.2,
    removal_thr=0.5,
    preference=None,
    pairs='all',
    removal='joint',
):
    """The Resolution of masks (K, H, W), scores (K,) and image (3, H, W), numpy arrays."""
    readings = pairs == 'occluded_first', removal == 'front_to_back'
    with localcontext() as context:
        context.prec = 50
        return _resolve(masks, scores, image, occlusion_thr, removal_thr, preference, *readings)


def _resolve(
    masks, scores, image, occlusion_thr, removal_thr, preference, occluded_first, front_to_back
):
    count = len(masks)
    # A Decimal holds a float exactly, and so does a Fraction hold a share.
    colours = {
        (y, x): tuple(Decimal(float(value)) for value in image[:, y, x])
        for y, x in product(*map(range, image.shape[1:]))
    }
    pixels = [{pixel for pixel in colours if masks[k][pixel]} for k in range(count)]
    scores = [float(score) for score in scores]
    facts = dict(pairs=0, occluded=0, appearance_ties=0, score_ties=0, set_aside=0, removed=0)

    # Rules 1 and 2: who is in front in each pair.
    similarity = _similarity(colours, pixels)
    verdicts, leaks, closest = {}, set(), Decimal('inf')
    for i, j in combinations(range(count), 2):
        overlap = pixels[i] & pixels[j]
        if not overlap:
            continue
        facts['pairs'] += 1
        share = max(Fraction(len(overlap), len(pixels[k])) for k in (i, j))
        front, rule = None, 'score'
        if preference is not None and preference[i][j] != 0:
            front, rule = (i if preference[i][j] == 1 else j), 'preference'
        elif share > Fraction(str(occlusion_thr)):
            facts['occluded'] += 1
            difference = similarity(overlap, i) - similarity(overlap, j)
            if abs(difference) > EQUAL:
                front, rule = (i if difference > 0 else j), 'MeanColor'
                closest = min(closest, abs(difference))
            else:
                facts['appearance_ties'] += 1
        else:
            leaks.add((i, j))
        if front is None:
            facts['score_ties'] += scores[i] == scores[j]
            front = j if scores[j] > scores[i] else i
        verdicts[i, j] = (front, j if front == i else i), rule

    # Rule 3: the pairs in descending score, without those that close a cycle.
    behind_of = [set() for _ in range(count)]
    taken = sorted(verdicts, key=lambda pair: -max(scores[pair[0]], scores[pair[1]]))
    if occluded_first:
        taken = [pair for pair in taken if pair not in leaks] + [
            pair for pair in taken if pair in leaks
        ]
    pairs, rules = [verdicts[pair][0] for pair in taken], [verdicts[pair][1] for pair in taken]
    accepted = []
    for front, behind in pairs:
        accepted.append(front not in _reached(behind, behind_of))
        if accepted[-1]:
            behind_of[front].add(behind)
    facts['set_aside'] = accepted.count(False)

    # Rules 4 and 5: owners, removal, owners of what is kept.
    below = [_reached(k, behind_of) for k in range(count)]

    @cache
    def front_most(claimants):
        first = [k for k in claimants if claimants <= below[k]]
        assert len(first) == min(len(claimants), 1)
        return first[0] if first else -1

    def owners(objects):
        claimants = {pixel: [] for pixel in colours}
        for k in objects:
            for pixel in pixels[k]:
                claimants[pixel].append(k)
        return {pixel: front_most(frozenset(them)) for pixel, them in claimants.items()}

    first_owner = owners(range(count))

    def lost_to_any(k):
        return [pixel for pixel in pixels[k] if first_owner[pixel] != k]

    def lost_to_kept(k):
        in_front = [j for j in range(count) if k in below[j] and j != k and pixels[j] & pixels[k]]
        return pixels[k] & set().union(*(pixels[j] for j in in_front if kept(j)))

    @cache
    def kept(k):
        lost = lost_to_kept(k) if front_to_back else lost_to_any(k)
        return bool(pixels[k]) and Fraction(len(lost), len(pixels[k])) <= Fraction(str(removal_thr))

    keep = np.array([kept(k) for k in range(count)], dtype=bool)
    facts['removed'] = sum(bool(mask) for mask in pixels) - int(keep.sum())
    owner = owners(keep.nonzero()[0].tolist())
    owner = np.array(list(owner.values())).reshape(image.shape[1:])
    return Resolution(owner, keep, pairs, rules, accepted, closest, facts)


def _similarity(colours, pixels):
    """A function of an overlap and an object: the overlap's mean cosine to the object's mean."""
    means = [
        tuple(sum(colours[pixel][c] for pixel in mask) / len(mask) for c in range(3))
        if mask
        else None
        for mask in pixels
    ]
    cosine_of = cache(cosine)

    def similarity(overlap, k):
        return sum(cosine_of(colours[pixel], means[k]) for pixel in overlap) / len(overlap)

    return similarity


def _reached(start, behind_of):
    """The objects behind ``start``, directly or through others, and itself."""
    seen, todo = {start}, [start]
    while todo:
        new = behind_of[todo.pop()] - seen
        seen |= new
        todo.extend(new)
    return seen


def cosine(a, b):
    """Of two RGB vectors; 0 if either is black."""
    lengths = sum(v * v for v in a).sqrt() * sum(v * v for v in b).sqrt()
    return sum(v * w for v, w in zip(a, b)) / lengths if lengths else Decimal(0)
