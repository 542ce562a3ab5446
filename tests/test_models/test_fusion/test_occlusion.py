import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmbanet.models.fusion import MeanColor, resolve_occlusion
from mmbanet.models.fusion.occlusion import order_objects
from mmbanet.structures import ClaimRegions

from . import reference
from .scenes import random_scene, to_tensors

RED, GREEN, BLUE, BLACK = (200, 20, 20), (20, 200, 20), (20, 20, 200), (0, 0, 0)


def strip(*colours):
    """An image of one row."""
    return torch.tensor(colours, dtype=torch.uint8).T[:, None]


def claims(*rows):
    """Masks of one row, written as '0110'."""
    return torch.tensor([[[c == '1' for c in row]] for row in rows])


def resolve(masks, scores, image, **kwargs):
    owner, keep = resolve_occlusion(masks, torch.tensor(scores), image, **kwargs)
    return owner[0].tolist(), keep.tolist()


def test_occluded_pair_goes_to_the_closer_appearance():
    # A red thing and a green one; the pixel that both claim is red.
    masks, image = claims('1110', '0011'), strip(RED, RED, RED, GREEN)
    assert resolve(masks, [0.7, 0.9], image) == ([0, 0, 0, 1], [True, True])
    assert resolve(masks, [0.9, 0.7], image) == ([0, 0, 0, 1], [True, True])


def test_other_overlapping_pair_goes_to_the_higher_score():
    # One pixel of five is exactly 20% of either, which is not more than 20%.
    masks, image = claims('111110000', '000011111'), strip(*[RED] * 5, *[GREEN] * 4)
    assert resolve(masks, [0.7, 0.9], image)[0] == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert resolve(masks, [0.7, 0.9], image, occlusion_thr=0.19)[0] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_twenty_percent_of_either_object_suffices():
    masks, image = claims('1111111111', '0000000011'), strip(*[RED] * 8, GREEN, GREEN)
    assert resolve(masks, [0.9, 0.7], image) == ([0] * 8 + [1] * 2, [True, True])


def test_equal_appearance_goes_to_the_higher_score_then_to_the_lower_index():
    masks, image = claims('1110', '0111'), strip(RED, RED, RED, RED)
    thresholds = dict(removal_thr=1.0)
    assert resolve(masks, [0.7, 0.9], image, **thresholds)[0] == [0, 1, 1, 1]
    assert resolve(masks, [0.9, 0.7], image, **thresholds)[0] == [0, 0, 0, 1]
    assert resolve(masks, [0.8, 0.8], image, **thresholds)[0] == [0, 0, 0, 1]


def test_shades_of_one_hue_are_equal_in_appearance():
    # Parallel vectors: in floating point, their cosines differ in the last digits.
    image = strip((10, 20, 31), (30, 60, 93), (70, 140, 217))
    for scores, middle in (([0.9, 0.8], 0), ([0.8, 0.9], 1)):
        assert resolve(claims('110', '011'), scores, image)[0] == [0, middle, 1]


@pytest.mark.parametrize('noise', [0.0, 1e-5])
def test_black_has_no_appearance(noise):
    # Object 0 is black on the whole: cosine 0 with all. Object 1 is red: 0 with black pixels.
    image = strip(BLACK, BLACK, RED) + noise * torch.tensor([[[1.0, -1, 1]]] * 3)
    assert resolve(claims('110', '011'), [0.7, 0.9], image)[0] == [0, 1, 1]
    assert resolve(claims('110', '011'), [0.9, 0.7], image)[0] == [0, 0, 1]


def test_contradictory_pair_of_the_lowest_score_is_set_aside():
    # By appearance alone: 0 over 1, 1 over 2, 2 over 0. The pair (1, 2) has the lowest score.
    order, accepted = order_objects(torch.tensor([[0, 1], [2, 0], [1, 2]]), 3)
    assert accepted.tolist() == [True, True, False]
    assert order.int().tolist() == [[0, 1, 0], [0, 0, 0], [1, 1, 0]]

    # Pixels: own pixels give the colours, then one pixel for each pair, in the winner's colour.
    masks = claims('111000101', '000111110', '110100100')
    cycle = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.int8)
    image = strip(*[RED] * 9)
    owner, _ = resolve(masks, [0.9, 0.8, 0.7], image, preference=cycle, removal_thr=1.0)
    expected = reference.resolve(
        masks.numpy(), [0.9, 0.8, 0.7], image.numpy(), removal_thr=1.0, preference=cycle.numpy()
    )
    assert expected.accepted == [True, True, False]
    assert owner == expected.owner[0].tolist()
    both = (masks[1] & masks[2])[0]
    assert both.any()
    assert all(o == 2 for o, b in zip(owner, both.tolist()) if b)  # set aside: not 1


def test_an_object_that_lost_more_than_half_is_removed():
    # 1 lies on 0 and on 2 and takes three of four pixels of 2, two of four of 0.
    masks = claims('11110000', '00111110', '00001111')
    image = strip(*[RED] * 8)
    owner, keep = resolve(masks, [0.8, 0.9, 0.7], image)
    assert owner == [0, 0, 1, 1, 1, 1, 1, -1]
    assert keep == [True, True, False]  # 0 lost half, which is not more than half


def test_pixels_of_removed_objects_pass_to_the_next_in_front():
    # 0 over 1 over 2; 1 keeps one of four pixels, and that one is also claimed by 2.
    masks, image = claims('11100', '11110', '00011'), strip(*[RED] * 5)
    wish = torch.tensor([[0, 1, 0], [-1, 0, 1], [0, -1, 0]], dtype=torch.int8)
    owner, keep = resolve(masks, [0.9, 0.8, 0.7], image, preference=wish)
    assert owner == [0, 0, 0, 2, 2]
    assert keep == [True, False, True]


@pytest.mark.parametrize(
    ('pairs', 'keep', 'tie'), [('all', [False, True, True], 1), ('occluded_first', [True] * 3, 0)]
)
def test_a_leak_turns_an_overlap_around_only_among_all_pairs(pairs, keep, tie):
    """By colour the tie 0 is in front of the person 1, and that of the bus 2.

    The bus leaks into 10% of the tie and is in front of it by score. That pair comes first of all,
    because of the bus's score, and the tie's pair with the person is the last: it closes a cycle.
    """
    masks = torch.zeros(3, 1, 60, dtype=torch.bool)
    masks[0, 0, 10:20] = True
    masks[1, 0, :40] = True
    masks[2, 0, [19, *range(30, 60)]] = True
    image = strip(*[RED] * 10, *[GREEN] * 10, *[RED] * 20, *[BLUE] * 20)
    owner, kept = resolve(masks, [0.7, 0.8, 0.95], image, pairs=pairs)
    assert kept == keep
    assert owner == [1] * 10 + [tie] * 10 + [1] * 20 + [2] * 20


def test_known_pairs_count_as_occluded_ones():
    # 1 is known to be in front of 0, by a leak of 10%; score and colour say 0 over 2 over 1.
    masks = claims('111111111100000000000', '000000000111111111100', '111000000111100000000')
    masks[2, 0, 0:3] = True
    image = strip(*[RED] * 21)
    known = torch.zeros(3, 3, dtype=torch.int8)
    known[1, 0], known[0, 1] = 1, -1
    for pairs in ('all', 'occluded_first'):
        owner, _ = resolve(masks, [0.9, 0.7, 0.8], image, preference=known, pairs=pairs)
        assert owner[9] == 1


@pytest.mark.parametrize(
    ('removal', 'keep', 'owner'),
    [
        ('joint', [True, False, False], [0, 0, 0, 0, -1, -1, -1, -1]),
        ('front_to_back', [True, False, True], [0, 0, 0, 0, 2, 2, 2, -1]),
    ],
)
def test_who_counts_for_removal(removal, keep, owner):
    # 1 takes two thirds of 2 and is itself removed by 0.
    masks = claims('11110000', '11111100', '00001110')
    found = resolve(masks, [0.9, 0.8, 0.7], strip(*[RED] * 8), removal=removal)
    assert found == (owner, keep)


def test_empty_masks_and_no_objects():
    image = strip(RED, RED)
    assert resolve(claims('00', '10'), [0.9, 0.8], image) == ([1, -1], [False, True])
    owner, keep = resolve_occlusion(torch.zeros(0, 1, 2, dtype=torch.bool), torch.zeros(0), image)
    assert owner.tolist() == [[-1, -1]]
    assert keep.tolist() == []


def test_inputs_stay_as_they_are_and_may_be_strided():
    scene = to_tensors(random_scene(7))
    before = {name: value.clone() for name, value in scene.items()}
    expected = resolve_occlusion(**scene)
    assert all(torch.equal(before[name], scene[name]) for name in scene)
    scene['masks'] = scene['masks'].permute(2, 1, 0).contiguous().permute(2, 1, 0)
    scene['image'] = scene['image'].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not scene['masks'].is_contiguous()
    got = resolve_occlusion(**scene)
    assert all(torch.equal(a, b) for a, b in zip(got, expected))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.integers(0, 10**6),
    st.sampled_from(['all', 'occluded_first']),
    st.sampled_from(['joint', 'front_to_back']),
)
def test_every_pixel_of_a_kept_object_is_owned_by_a_kept_claimant(seed, pairs, removal):
    scene = to_tensors(random_scene(seed)) | dict(pairs=pairs, removal=removal)
    owner, keep = resolve_occlusion(**scene)
    masks = scene['masks']
    owned = owner >= 0
    assert torch.equal(owned, masks[keep].any(0))
    y, x = owned.nonzero().unbind(1)
    assert masks[owner[y, x], y, x].all()
    assert keep[owner[y, x]].all()
    assert not keep[~masks.any(2).any(1)].any()
    again = resolve_occlusion(**scene)
    assert torch.equal(owner, again[0])
    assert torch.equal(keep, again[1])
    if removal == 'front_to_back':  # whoever is kept kept half of its pixels, removed ones do not
        areas, kept = masks.flatten(1).sum(1), torch.bincount(owner[owned], minlength=len(masks))
        assert (2 * kept >= areas)[keep].all()


# Up to three objects: from four on, pairs with the same higher score can close a cycle with each
# other's help, and then their order, which is the objects', decides which of them is set aside.
@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_objects_with_distinct_scores_does_not_matter(seed, random):
    scene = to_tensors(random_scene(seed, max_objects=3))
    count = len(scene['masks'])
    scene['scores'] = torch.tensor(random.sample([0.6, 0.7, 0.8], count))
    places = random.sample(range(count), count)
    owner, keep = resolve_occlusion(**scene)
    new_owner, new_keep = resolve_occlusion(
        scene['masks'][places], scene['scores'][places], scene['image']
    )
    back = torch.tensor([*places, -1], dtype=torch.long)
    assert torch.equal(back[new_owner], owner)
    assert torch.equal(keep[places], new_keep)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 10**6))
def test_regions_partition_the_image(seed):
    masks = to_tensors(random_scene(seed))['masks']
    regions = ClaimRegions.from_masks(masks)
    assert torch.equal(regions.members[regions.index].permute(2, 0, 1), masks)
    assert torch.equal(regions.size, torch.bincount(regions.index.flatten()))
    assert len(set(map(tuple, regions.members.tolist()))) == len(regions.size)


def valid():
    return dict(
        masks=torch.ones(2, 3, 4, dtype=torch.bool),
        scores=torch.tensor([0.5, 0.6]),
        image=torch.zeros(3, 3, 4),
    )


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        (dict(masks=torch.ones(2, 3, 4)), TypeError, 'masks must be a bool.*float32'),
        (dict(masks=torch.ones(3, 4).bool()), ValueError, r'masks .*\(K, H, W\), got \(3, 4\)'),
        (dict(scores=torch.tensor([1, 2])), TypeError, 'scores must be a floating.*int64'),
        (dict(scores=torch.zeros(3)), ValueError, r'scores .*\(2,\).*got \(3,\)'),
        (dict(scores=torch.tensor([0.5, torch.nan])), ValueError, 'scores must not be NaN'),
        (dict(image=np.zeros((3, 3, 4))), TypeError, 'image must be a tensor.*ndarray'),
        (dict(image=torch.zeros(3, 4, 4)), ValueError, r'\(3, 3, 4\).*got \(3, 4, 4\)'),
        (dict(image=torch.zeros(3, 4, 3)), ValueError, r'\(3, 3, 4\).*got \(3, 4, 3\)'),
        (dict(image=torch.full((3, 3, 4), -2.0)), ValueError, 'de-normalised'),
        (dict(image=torch.full((3, 3, 4), torch.nan)), ValueError, r'0\.\.255, got .*nan'),
        (dict(occlusion_thr=20), ValueError, r'occlusion_thr must be in 0\.\.1, got 20'),
        (dict(removal_thr='0.5'), TypeError, 'removal_thr must be a number'),
        (dict(pairs='first'), ValueError, r"pairs must be one of \('all', .*got 'first'"),
        (dict(removal='once'), ValueError, r"removal must be one of \('joint', .*got 'once'"),
        (dict(order='MeanColor'), TypeError, r'order must be order rules such as .*got str'),
        (dict(order=[MeanColor(), 3]), TypeError, r'order must be order rules such as .*got int'),
        (dict(image=None), TypeError, 'image must be a tensor.*NoneType'),
        (dict(preference=torch.zeros(2, 2)), TypeError, 'preference must be an int8.*float32'),
        (dict(preference=torch.zeros(3, 3).char()), ValueError, r'\(2, 2\), got \(3, 3\)'),
        (
            dict(preference=torch.tensor([[0, 2], [-2, 0]]).char()),
            ValueError,
            r'-1, 0 and 1 only, got \[-2, 0, 2\]',
        ),
        (
            dict(preference=torch.tensor([[0, 1], [1, 0]]).char()),
            ValueError,
            r'antisymmetric.*1 at \[0, 1\]',
        ),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    resolve_occlusion(**valid())
    with pytest.raises(error, match=message):
        resolve_occlusion(**{**valid(), **changes})
