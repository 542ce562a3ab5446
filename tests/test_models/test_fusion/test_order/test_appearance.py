"""Order rules by appearance against naive per-pair computations with numpy and OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from mmbanet.models.fusion import (
    ColorHistogram,
    LabGaussian,
    MeanColor,
    OcclusionSettings,
    explain_occlusion,
)
from mmbanet.models.fusion.order.lab_gaussian import rgb_to_lab
from mmbanet.structures import ClaimRegions

from ....conftest import DEVICES
from ..scenes import random_scene

LEAST_SHARE = 0.3


def mean_color(own, overlap):
    mean = own.mean(axis=0)
    lengths = np.linalg.norm(overlap, axis=1) * np.linalg.norm(mean)
    cosine = np.divide(overlap @ mean, lengths, out=np.zeros(len(overlap)), where=lengths > 0)
    return cosine.mean()


def lab(*rgb):
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.array(rgb) / 255
    ]
    x, y, z = (
        sum(w * v for w, v in zip(row, linear)) / white
        for row, white in (
            ((0.412453, 0.357580, 0.180423), 0.950456),
            ((0.212671, 0.715160, 0.072169), 1.0),
            ((0.019334, 0.119193, 0.950227), 1.088754),
        )
    )
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def lab_gaussian(own, overlap, noise=12.0):
    own, overlap = (np.array([lab(*colour) for colour in colours]) for colours in (own, overlap))
    covariance = np.cov(own.T, bias=True) + noise**2 * np.eye(3)
    offset = overlap - own.mean(axis=0)
    distance = np.einsum('pi,ij,pj->p', offset, np.linalg.inv(covariance), offset)
    # Features are in units of 16 Lab: the same density, shifted by a constant for all objects.
    log_det = np.linalg.slogdet(covariance / 16**2)[1]
    return -0.5 * (distance.mean() + log_det)


def color_histogram(own, overlap, bins=8, prior=8.0):
    edges = [np.linspace(0, 256, bins + 1)] * 3
    counts, _ = np.histogramdd(own, edges)
    probability = (counts + prior / bins**3) / (len(own) + prior)
    cells = (overlap // (256 // bins)).astype(int)
    return np.log(probability[tuple(cells.T)]).mean()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    ('rule', 'reference', 'exclusive'),
    [
        (MeanColor(), mean_color, False),
        (LabGaussian(least_share=LEAST_SHARE), lab_gaussian, True),
        (ColorHistogram(least_share=LEAST_SHARE), color_histogram, True),
    ],
)
def test_similarities_of_all_pairs(device, rule, reference, exclusive):
    compared = fallbacks = 0
    for seed in range(60):
        scene = random_scene(seed)
        masks, image = scene['masks'], scene['image'].astype(float)
        if len(masks) == 0:
            continue
        tensors = [torch.from_numpy(scene[name]).to(device) for name in ('masks', 'image')]
        regions = ClaimRegions.from_masks(tensors[0])
        similarity = rule.similarity(tensors[1], regions).cpu().numpy()
        alone = masks & (masks.sum(axis=0) == 1)
        for i, j in zip(*np.nonzero(np.einsum('ihw,jhw->ij', masks * 1, masks * 1))):
            own = masks[i]
            if exclusive and alone[i].sum() >= LEAST_SHARE * masks[i].sum():
                own = alone[i]
            elif exclusive:
                fallbacks += 1
            overlap = image[:, masks[i] & masks[j]].T
            if (masks[i] & masks[j] & (masks.sum(axis=0) > 1)).any() and i != j:
                compared += 1
                expected = reference(image[:, own].T, overlap)
                assert similarity[i, j] == pytest.approx(expected, rel=1e-6, abs=1e-6), seed
    assert compared > 300
    assert fallbacks > 50 or not exclusive


def test_lab_of_known_colours():
    # The published coordinates of sRGB's primaries, white and a dark grey (D65).
    expected = {
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (255, 255, 255): (100, 0, 0),
        (5, 5, 5): (1.37, 0, 0),
        (0, 0, 0): (0, 0, 0),
    }
    rgb = torch.tensor(list(expected), dtype=torch.float64).T
    np.testing.assert_allclose(rgb_to_lab(rgb).T, list(expected.values()), atol=0.03)


def test_lab_is_opencvs():
    rgb = np.random.default_rng(0).integers(0, 256, (3, 500))
    expected = cv2.cvtColor(np.float32(rgb.T[None]) / 255, cv2.COLOR_RGB2LAB)[0].T
    # OpenCV interpolates in a table.
    np.testing.assert_allclose(rgb_to_lab(torch.from_numpy(rgb).double()), expected, atol=0.3)


def test_what_lies_behind_does_not_spoil_exclusive_statistics():
    """A red tie on a person of two greys: the mask's mean is reddish, its rest is not."""
    image = torch.full((3, 1, 8), 90.0)
    image[:, 0, :3] = 140.0
    image[:, 0, 3:6] = torch.tensor([[200.0], [20.0], [20.0]])
    person = torch.ones(1, 8, dtype=torch.bool)
    tie = torch.zeros(1, 8, dtype=torch.bool)
    tie[0, 3:6] = True
    masks = torch.stack([person, tie])
    for rule in (MeanColor(), LabGaussian(), ColorHistogram()):
        settings = OcclusionSettings(order=rule)
        _, graph = explain_occlusion(masks, torch.tensor([0.9, 0.7]), image, settings=settings)
        assert graph.pairs.tolist() == [[1, 0]]
        assert graph.evidence[0] > (0.05 if isinstance(rule, MeanColor) else 1.0)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: LabGaussian(noise=0), 'noise must be positive, got 0'),
        (lambda: LabGaussian(least_share=2), r'least_share must be in 0\.\.1, got 2'),
        (lambda: ColorHistogram(bins=64), r'bins must be in 1\.\.32, got 64'),
        (lambda: ColorHistogram(prior=-1), 'prior must be positive, got -1'),
        (lambda: ColorHistogram(least_share=-1), r'least_share must be in 0\.\.1, got -1'),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
