"""The partition of an image by who claims its pixels."""

import pytest
import torch

from mmbanet.structures import ClaimRegions, claim_regions


@pytest.mark.parametrize('seed', range(30))
def test_regions_are_the_sets_of_pixels_with_the_same_claims(seed):
    generator = torch.Generator().manual_seed(seed)
    count, density = 1 + seed % 7, torch.rand(1, generator=generator)
    masks = torch.rand(count, 6, 7, generator=generator) < density
    if seed % 3 == 0:
        masks[-1] = masks[0]  # takes regions whole
    if seed % 5 == 0:
        masks[0] = True
    rows, index, sizes = masks.flatten(1).T.unique(dim=0, return_inverse=True, return_counts=True)

    regions = ClaimRegions.from_masks(masks)
    assert len(regions.size) == len(rows)  # none is empty, no two are the same
    assert torch.equal(regions.members[regions.index.flatten()], rows[index])
    assert torch.equal(regions.size[regions.index.flatten()], sizes[index])
    assert regions.index.dtype == torch.int32

    chosen = torch.randperm(count, generator=generator)[: count // 2 + 1]
    some = ClaimRegions.from_masks(masks, chosen)
    expected = ClaimRegions.from_masks(masks[chosen])
    for name in ('index', 'members', 'size'):
        assert torch.equal(getattr(some, name), getattr(expected, name))


@pytest.mark.parametrize(
    ('count', 'density'), [(62, 0.1), (63, 0.05), (64, 0.3), (200, 0.02), (300, 0.5)]
)
def test_more_objects_than_a_number_has_bits(count, density):
    masks = torch.rand(count, 12, 13, generator=torch.Generator().manual_seed(count)) < density
    regions = ClaimRegions.from_masks(masks)
    assert torch.equal(regions.members[regions.index.flatten()], masks.flatten(1).T)
    assert len(regions.members.unique(dim=0)) == len(regions.size)
    assert torch.equal(regions.areas, masks.flatten(1).sum(1))


@pytest.mark.parametrize('seed', range(10))
def test_without_some_objects_it_is_as_if_their_masks_were_empty(seed):
    masks = torch.rand(5, 6, 7, generator=torch.Generator().manual_seed(seed)) < 0.4
    gone = torch.tensor([seed % 5, (seed + 2) % 5])
    found = ClaimRegions.from_masks(masks).without(gone)
    masks[gone] = False
    rows, index, sizes = masks.flatten(1).T.unique(dim=0, return_inverse=True, return_counts=True)
    assert len(found.size) == len(rows)
    assert torch.equal(found.members[found.index.flatten()], rows[index])
    assert torch.equal(found.size[found.index.flatten()], sizes[index])
    assert found.index.dtype == torch.int32
    assert torch.equal(found.overlaps, ClaimRegions.from_masks(masks).overlaps)


@pytest.mark.parametrize(('count', 'size'), [(0, (2, 3)), (2, (0, 3)), (2, (3, 0)), (0, (0, 0))])
def test_without_objects_or_pixels(count, size):
    regions = ClaimRegions.from_masks(torch.zeros(count, *size, dtype=torch.bool))
    pixels = size[0] * size[1]
    assert regions.index.shape == size
    assert regions.size.tolist() == [pixels] * (pixels > 0)
    assert regions.members.shape == (len(regions.size), count)
    assert regions.areas.tolist() == [0] * count
    assert regions.overlaps.tolist() == [[0] * count] * count


def test_too_large_regions_are_refused_before_their_sums_overflow():
    size = torch.tensor([2**26])
    index = torch.zeros(1, 1).int().expand(2**13, 2**13)
    regions = ClaimRegions(index, torch.ones(1, 1).bool(), size)
    with pytest.raises(ValueError, match='67108863 pixels of the same claims, got 67108864'):
        regions.pixel_sums(torch.zeros(3, 1, 1), lambda colours: colours)


@pytest.mark.parametrize('num_pixels', [0, 1, 50])
def test_sums_of_runs_are_sums_of_pixels(num_pixels):
    """What a GPU adds up, on the CPU; running sums overflow."""
    generator = torch.Generator().manual_seed(num_pixels)
    region = torch.randint(3, (num_pixels,), generator=generator, dtype=torch.int32)
    values = torch.randint(2**62, (2, num_pixels), generator=generator) >> 2
    expected = torch.zeros(2, 3, dtype=torch.int64).index_add_(1, region, values)
    found = torch.zeros(2, 3, dtype=torch.int64)
    claim_regions._add_runs(found, region, values)
    assert torch.equal(found, expected)
