"""Work in blocks of pixels and of regions gives what work in one piece gives."""

import pytest
import torch

from mmbanet.models.fusion import (
    ColorHistogram,
    LabGaussian,
    MeanColor,
    OcclusionSettings,
    explain_occlusion,
)
from mmbanet.structures import ClaimRegions, claim_regions

from ...conftest import DEVICES
from . import reference
from .scenes import crowded_scene, to_tensors

PIXELS, MEMBERS = 7, 50
SEEDS = range(6000, 6040)
RULES = [MeanColor(), LabGaussian(), ColorHistogram()]


@pytest.fixture
def tiny_blocks(monkeypatch):
    """A function that makes the blocks tiny from then on."""

    def apply():
        monkeypatch.setattr(claim_regions, 'PIXEL_BLOCK', dict(cpu=PIXELS, cuda=PIXELS))
        monkeypatch.setattr(claim_regions, 'MEMBER_BLOCK', MEMBERS)

    return apply


def is_cut_by_tiny_blocks(masks):
    members = ClaimRegions.from_masks(masks).members
    return masks[0:1].numel() > 2 * PIXELS and members.numel() > 2 * MEMBERS


def assert_same_graphs(found, expected):
    for name, value in expected._asdict().items():
        other = getattr(found, name)
        if name == 'evidence':  # float64 sums in another order
            torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-9)
        elif name == 'rules':
            assert other == value
        else:
            assert torch.equal(other, value), name


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.name)
def test_any_block_size_gives_the_same_result(tiny_blocks, rule, device):
    settings = OcclusionSettings(order=rule)
    scenes = [to_tensors(crowded_scene(seed), device) for seed in SEEDS]
    whole = [explain_occlusion(**scene, settings=settings) for scene in scenes]
    tiny_blocks()
    assert sum(is_cut_by_tiny_blocks(scene['masks']) for scene in scenes) > 20
    for scene, (owner, graph) in zip(scenes, whole):
        found_owner, found_graph = explain_occlusion(**scene, settings=settings)
        assert torch.equal(found_owner, owner)
        assert_same_graphs(found_graph, graph)


def test_tiny_blocks_agree_with_brute_force(tiny_blocks):
    tiny_blocks()
    for seed in SEEDS:
        scene = crowded_scene(seed)
        expected = reference.resolve(**scene)
        owner, graph = explain_occlusion(**to_tensors(scene))
        assert owner.tolist() == expected.owner.tolist(), seed
        assert graph.pairs.tolist() == [list(pair) for pair in expected.pairs]
        assert graph.rules == expected.rules
        assert graph.keep.tolist() == expected.keep.tolist()


def test_sums_in_tiny_blocks(tiny_blocks):
    """Each of the three sums alone, against one product over all pixels."""
    tiny_blocks()
    generator = torch.Generator().manual_seed(4)
    masks = torch.rand(12, 9, 11, generator=generator) < 0.4
    image = torch.randint(256, (3, 9, 11), generator=generator)
    cut = ClaimRegions.from_masks(masks)
    assert is_cut_by_tiny_blocks(masks)
    one_hot = torch.nn.functional.one_hot(cut.index.flatten().long()).double()
    pixels, claims = image.flatten(1).double().T, masks.flatten(1).double()

    sums = cut.pixel_sums(image, lambda colours: colours)
    assert torch.equal(sums, one_hot.T @ pixels)
    where = torch.rand(len(sums), generator=generator) < 0.5
    some = cut.pixel_sums(image, lambda colours: colours, where)
    assert torch.equal(some, sums * where[:, None])
    assert torch.equal(cut.object_sums(sums), claims @ pixels)
    inside = where[cut.index.flatten().long()]
    assert torch.equal(cut.object_sums(sums, where), (claims * inside) @ pixels)
    weights = torch.randint(9, (12, 3), generator=generator).double()
    pairs = cut.pair_sums(lambda rows: sums[rows] @ weights.T)
    others = ~torch.eye(12, dtype=torch.bool)
    assert torch.equal(pairs[others], ((claims * (weights @ pixels.T)) @ claims.T)[others])
    assert torch.equal(cut.overlaps, claims @ claims.T)
