"""The rules of fusion by logits on rows of some pixels, with numbers worked out by hand.

Things are 0 and 1, stuff 2 and 3, void 4. A mask has one cell: its logit holds in all of its box.
"""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from mmbanet.models import LogitFusionHead

S0, S1, VOID = 's0', 's1', '-'
LN3, LN9 = math.log(3), math.log(9)  # logits of probabilities 3/4 and 9/10


def instance(label, first, last, logit, score=0.9, mask=None):
    """With its box from pixel ``first`` to ``last``; the mask is ``logit > 0`` if not given."""
    pixels = range(first, last + 1) if mask is None else mask
    return label, (first, last + 1), logit, score, pixels if mask or logit > 0 else ()


def row(*instances):
    width = 10
    masks = torch.zeros(len(instances), 1, width, dtype=torch.bool)
    for mask, item in zip(masks, instances):
        mask[0, list(item[4])] = True
    boxes = [(item[1][0], 0, item[1][1], 1) for item in instances]
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        labels=torch.tensor([item[0] for item in instances], dtype=torch.int64),
        scores=torch.tensor([item[3] for item in instances], dtype=torch.float32),
        masks=masks,
        mask_logits=torch.tensor([item[2] for item in instances]).float().view(-1, 1, 1),
    )


def fused(rule, instances, pixels, stuff_area_limit=0, **settings):
    """Of each pixel, whose logits (4,) are given, the instance or the stuff."""
    cfg = dict(score_thr=0.0, nms=None, stuff_area_limit=stuff_area_limit, **settings)
    detections = row(*instances)
    detections.masks = detections.masks[..., : len(pixels)]
    logits = torch.tensor(pixels, dtype=torch.float32).T[:, None]
    found = LogitFusionHead(rule, 2, 2, test_cfg=cfg).predict([detections], [logits])[0]
    names = {0: VOID}
    for segment in found.segments_info:
        stuff = {2: S0, 3: S1}.get(segment['category'])
        names[segment['id']] = segment['detection'] if stuff is None else stuff
    return [names[i] for i in found.segment_ids[0, 0].tolist()]


class TestUPSNet:
    pixels = (
        (1, -5, 2, 0),  # instance 1 + 2 = 3, stuff 2, unknown 1 - 1 = 0
        (-1, -5, 2, 0),  # instance -1 + 2 = 1, stuff 2, unknown -1 - -1 = 0
        (-5, 3, 2, 1),  # outside of the box: instance 0, stuff 2, unknown 3 - 0 = 3
        (-5, -4, -2, -1),  # outside of the box: instance 0, stuff -1, unknown -4 - 0 = -4
    )

    @pytest.mark.parametrize(
        ('settings', 'expected'),
        [
            ({}, [0, S0, VOID, 0]),
            (dict(unknown=False), [0, S0, S0, 0]),
            (dict(outside='exclude'), [0, S0, VOID, S1]),
            (dict(outside='exclude', unknown=False), [0, S0, S0, S1]),
        ],
    )
    def test_logits_compete(self, settings, expected):
        settings = dict(settings, region_class=False)
        assert fused('upsnet', [instance(0, 0, 1, 2.0)], self.pixels, **settings) == expected

    def test_of_one_class_the_larger_mask_logit_wins_whatever_the_score(self):
        """Their masks do not touch, so none is removed; both boxes hold the middle pixel."""
        two = [instance(0, 0, 1, 2.0, 0.9, [0]), instance(0, 1, 2, 3.0, 0.5, [2])]
        # 1 + 2 and 1 + 3 against stuff 0 and unknown 1 - 1
        assert fused('upsnet', two, [(1, 0, 0, 0)] * 3) == [0, 1, 1]

    def test_taken_by_its_own_class(self):
        """Of the second, all is taken; the third has nobody of its class before it."""
        three = [instance(0, 0, 3, 1.0), instance(0, 2, 3, 9.0), instance(1, 3, 3, 5.0)]
        # 0 + 1, 0 + 5 against stuff -1 and unknown 0 - 0
        assert fused('upsnet', three, [(0, 0, -1, -1)] * 4) == [0, 0, 0, 2]

    @pytest.mark.parametrize(('taken', 'expected'), [(3, 1), (4, 0)])
    def test_taken_share_of_three_tenths_is_allowed(self, taken, expected):
        two = [instance(0, 0, taken - 1, 1.0), instance(0, 0, 9, 2.0)]
        # 0 + 1 or 0 + 2 against stuff -1; where the one has no box, 0; unknown is 0 - 0
        assert fused('upsnet', two, [(0, 0, -1, -1)] * 10)[0] == expected

    @pytest.mark.parametrize(
        ('most_likely', 'expected'),
        [
            ((3, 3, 2, 0), [S1] * 4),  # half is stuff 1
            ((3, 3, 1, 0, 2), [0] * 5),  # stuff 1 is the most, but two fifths
            ((1, 1, 1, 3), [0] * 4),  # most is another thing
            ((2, 2, 2), [S0] * 3),
        ],
    )
    def test_class_of_a_region(self, most_likely, expected):
        pixels = [[3.0 * (c == best) for c in range(4)] for best in most_likely]
        one = [instance(0, 0, len(pixels) - 1, 10.0)]  # at least 0 + 10, stuff has 3
        assert fused('upsnet', one, pixels) == expected
        assert fused('upsnet', one, pixels, region_class=False) == [0] * len(pixels)


class TestEfficientPS:
    @pytest.mark.parametrize(
        ('mask', 'semantic', 'stuff', 'expected'),
        [
            (LN3, LN3, 3.2, 0),  # (3/4 + 3/4) (1.0986 + 1.0986) = 3.2958
            (LN3, LN3, 3.4, S0),
            (LN3, -LN3, -0.1, 0),  # 3/4 + 1/4 times 0
            (LN3, -LN3, 0.1, S0),
            (-LN3, -LN3, -1.0, S0),  # (1/4 + 1/4) (-2.1972) = -1.0986
            (-LN3, -LN3, -1.2, 0),
        ],
    )
    def test_product(self, mask, semantic, stuff, expected):
        one = [instance(0, 0, 0, mask, mask=[0])]
        assert fused('efficientps', one, [(semantic, -9, stuff, -9)]) == [expected]

    @pytest.mark.parametrize(
        ('outside', 'expected'), [('zero', [0, S0, 0]), ('exclude', [0, S0, VOID])]
    )
    def test_outside_of_the_box(self, outside, expected):
        """The value is 0 there, or none: then the most likely class decides; things are void."""
        # (0.73 + 0.73) 2 = 2.9 against stuff 0; then 0 against 1 and -1
        pixels = [(1, 0, 0, 0), (0, 0, 1, 0), (-2, -0.5, -1, -3)]
        one = [instance(0, 0, 0, 1.0)]
        assert fused('efficientps', one, pixels, outside=outside) == expected

    def test_factor_of_the_mask_logit(self):
        one = [instance(0, 0, 0, LN3 / 4)]
        pixels = [(LN3, -9, 3.2, -9)]  # 1.0986 / 4 gives (0.568 + 0.75) 1.373 = 1.81
        assert fused('efficientps', one, pixels) == [S0]
        assert fused('efficientps', one, pixels, mask_logit_scale=4.0) == [0]

    @pytest.mark.parametrize(('last', 'expected'), [(3, 1), (2, 0)])
    def test_more_than_half_taken_by_any_class(self, last, expected):
        """Two pixels of four are allowed, two of three are not."""
        two = [instance(0, 0, 1, 1.0), instance(1, 0, last, 3.0)]
        # (0.73 + 0.5) 1 = 1.23 and (0.95 + 0.5) 3 = 4.36 against stuff -1
        assert fused('efficientps', two, [(0, 0, -1, -1)] * 4)[0] == expected


class TestJSIS:
    def test_the_surest_mask_wins_whatever_the_score(self):
        two = [instance(0, 0, 2, 1.0, 0.9), instance(1, 1, 3, 2.0, 0.5)]
        assert fused('jsis', two, [(0, 0, 1, 0)] * 5) == [0, 1, 1, 1, S0]

    def test_only_masks_claim(self):
        two = [instance(0, 0, 2, 1.0, 0.9), instance(1, 0, 2, 2.0, 0.5, mask=[2])]
        assert fused('jsis', two, [(0, 0, 1, 0)] * 3) == [0, 0, 1]

    def test_things_are_struck_out_of_semantics(self):
        assert fused('jsis', [], [(9, 0, 2, 1), (0, 9, 1, 2)]) == [S0, S1]

    def test_small_stuff_goes_to_the_next_likely_before_instances_are_laid(self):
        pixels = [(0, 0, 2, 1)] * 4 + [(0, 0, 1, 2)]  # four pixels of stuff 0, one of stuff 1
        assert fused('jsis', [], pixels, stuff_area_limit=2) == [S0] * 5
        assert fused('jsis', [], pixels, stuff_area_limit=5) == [VOID] * 5
        # One pixel of stuff 0 is left behind the instance, and stays.
        three = [instance(0, 0, 2, 1.0)]
        assert fused('jsis', three, pixels, stuff_area_limit=4) == [0, 0, 0, S0, S0]


class TestMaskWise:
    stuff = ((-9, -9, 1, 0),)

    def test_order_of_score_times_quality_squared(self):
        """0.8 * 0.75^2 = 0.45 is less than 0.6 * 0.9^2 = 0.486."""
        two = [instance(0, 0, 4, LN3, 0.8), instance(1, 3, 9, LN9, 0.6)]
        assert fused('mask_wise', two, self.stuff * 10) == [0] * 3 + [1] * 7
        # Without quality, in the order of scores.
        assert fused('mask_wise', two, self.stuff * 10, beta=0) == [0] * 5 + [1] * 5

    def test_least_confidence(self):
        """0.4 * 0.75^2 = 0.225 and 0.5 * 0.75^2 = 0.28."""
        two = [instance(0, 2, 3, LN3, 0.5), instance(0, 0, 1, LN3, 0.4)]
        assert fused('mask_wise', two, self.stuff * 5) == [S0, S0, 0, 0, S0]

    @pytest.mark.parametrize(('first', 'expected'), [(3, [1] * 3), (2, [S0] * 3)])
    def test_taken_share(self, first, expected):
        """Two of five pixels taken are allowed, three of six are not."""
        two = [instance(0, 0, 4, LN9, 0.9), instance(0, first, 7, LN9, 0.8)]
        assert fused('mask_wise', two, self.stuff * 8)[5:] == expected

    def test_stuff_as_masks(self):
        """Stuff 0 has 0.8^2 = 0.64 on four pixels, the instance 0.45, stuff 1 has 0.6^2 = 0.36.

        The instance finds two of its five pixels taken, which is allowed. Stuff 1 finds three of
        its four taken, which is not.
        """
        stuff_0 = tuple(math.log(p) for p in (0.05, 0.05, 0.8, 0.1))
        stuff_1 = tuple(math.log(p) for p in (0.05, 0.05, 0.3, 0.6))
        pixels = [stuff_0] * 4 + [stuff_1] * 4
        one = [instance(0, 2, 6, LN3, 0.8)]
        found = fused('mask_wise', one, pixels, stuff='masks')
        assert found == [S0] * 4 + [0] * 3 + [VOID]
        assert fused('mask_wise', one, pixels) == [S0] * 2 + [0] * 5 + [S1]
