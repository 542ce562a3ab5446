"""The contour rule against a naive computation per point with OpenCV, and what it must keep to."""

import cv2
import numpy as np
import pytest
import torch

from mmbanet.models.fusion import ContourContrast
from mmbanet.structures import ClaimRegions

from ....conftest import DEVICES

DECIDING = ContourContrast(least_strength=0, least_difference=0)
PAIR = torch.tensor([[0, 1]])
BACKGROUND, RED, BLUE = (120, 120, 120), (200, 40, 40), (40, 60, 200)


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def paint(masks, colours, noise=0, seed=0):
    """(3, H, W) uint8: the masks over a background, the first in front."""
    image = np.empty((*masks[0].shape, 3))
    image[:] = BACKGROUND
    for mask, colour in zip(reversed(masks), reversed(colours)):
        image[mask] = colour
    image += np.random.default_rng(seed).normal(0, noise, image.shape)
    return torch.from_numpy(image.clip(0, 255).round().astype(np.uint8)).permute(2, 0, 1)


def ask(rule, image, masks, pairs=PAIR):
    regions = ClaimRegions.from_masks(torch.as_tensor(np.stack(masks)).to(image.device))
    return rule.evidence(image, regions, pairs.to(image.device))


def strength(image, own, other, depth=2, reach=2, texture=10.0, detail=60.0, most=64):
    """The strength of the contour of ``own`` in ``other``, point by point; nan if it has none."""
    lab = cv2.cvtColor(np.float32(image.permute(1, 2, 0).numpy()) / 255, cv2.COLOR_RGB2LAB)
    height, width = own.shape
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    padded = cv2.copyMakeBorder(np.uint8(own), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    core = cv2.erode(padded, cross)[1:-1, 1:-1] > 0
    points = np.argwhere(own & other & ~core)
    if len(points) > most:
        points = points[[-(-i * len(points) // most) for i in range(most)]]
    step = max(np.sqrt(own.sum()) / detail, 1)
    contrasts = []
    for point in points:
        normal = np.zeros(2)
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                offset = np.rint(np.array([dy, dx]) * step).astype(int)
                y, x = (point + offset).clip(0, [height - 1, width - 1])
                normal += own[y, x] * offset
        if not normal.any():
            continue
        normal /= np.linalg.norm(normal)
        tangent = np.array([normal[1], -normal[0]])
        sides = []
        for sign in (1, -1):
            colours = []
            for line in range(depth):
                for along in range(-reach, reach + 1):
                    across = sign * (line + 0.5) * step - 0.5
                    y, x = point + np.rint(across * normal + along * step * tangent).astype(int)
                    if 0 <= y < height and 0 <= x < width and other[y, x]:
                        colours.append(lab[y, x].astype(float))
            sides.append(np.array(colours))
        if min(map(len, sides)) >= 3:
            distance = ((sides[0].mean(axis=0) - sides[1].mean(axis=0)) ** 2).sum()
            variance = sum(side.var(axis=0).sum() for side in sides)
            contrasts.append(np.sqrt(distance / (1 + variance / texture**2)))
    return np.expm1(np.mean(np.log1p(contrasts))) if contrasts else np.nan


def random_blobs(seed, size=(70, 90)):
    """Two star-shaped masks somewhere, also across the image's border, and an image of blobs."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = rng.uniform(6, 40) * rng.uniform(0.6, 1.3, 12)
        centre = rng.uniform(0.1, 0.9, 2) * size
        corners = centre + radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        mask = np.zeros(size, dtype=np.uint8)
        cv2.fillPoly(mask, [np.int32(corners[:, ::-1])], 1)
        masks.append(mask > 0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3)).astype(np.float32), (0, 0), 2)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return torch.from_numpy(image).permute(2, 0, 1), masks


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    'settings',
    [{}, dict(depth=3, reach=1, texture=5.0, detail=15.0, max_points=20)],
    ids=['default', 'other settings'],
)
def test_strength_is_that_of_a_naive_computation(device, settings):
    rule = ContourContrast(**settings)
    names = {'max_points': 'most'}
    settings = {names.get(name, name): value for name, value in settings.items()}
    found = without = 0
    for seed in range(25):
        image, masks = random_blobs(seed)
        regions = ClaimRegions.from_masks(torch.from_numpy(np.stack(masks)).to(device))
        contours = torch.tensor([[0, 1], [1, 0]], device=device)
        computed = rule.strengths(image.to(device), regions, contours).cpu()
        expected = [strength(image, *masks, **settings), strength(image, *masks[::-1], **settings)]
        # OpenCV's Lab comes from a table.
        np.testing.assert_allclose(computed, expected, rtol=0.02, atol=0.2)
        found += int(np.isfinite(expected).sum())
        without += int(np.isnan(expected).sum())
    assert found >= 20
    assert without >= 5


@pytest.mark.parametrize('noise', [0, 8])
def test_the_occluder_is_in_front_whichever_comes_first(noise):
    red, blue = disc(80, 100, 40, 40, 24), disc(80, 100, 44, 62, 22)
    for front, behind, colours in ((red, blue, (RED, BLUE)), (blue, red, (BLUE, RED))):
        image = paint([front, behind], colours, noise)
        for rule in (DECIDING, ContourContrast()):
            evidence = ask(rule, image, [front, behind])
            assert evidence > 8
            assert torch.equal(ask(rule, image, [behind, front]), -evidence)


def test_two_of_one_colour_are_told_apart_by_an_outline():
    """Appearance cannot order them: a dark line along the contour that is seen does."""
    front, behind = disc(80, 100, 40, 40, 24), disc(80, 100, 44, 62, 22)
    rim = front & ~disc(80, 100, 40, 40, 22)
    image = paint([rim, front, behind], [(10, 10, 10), RED, RED])
    assert ask(ContourContrast(), image, [front, behind]) > 8


def test_without_an_edge_it_tells_nothing():
    masks = [disc(60, 80, 30, 30, 18), disc(60, 80, 30, 48, 18)]
    image = paint([masks[0] | masks[1]], [RED])
    assert ask(DECIDING, image, masks) == 0
    faint = paint(masks, [RED, (206, 46, 46)])
    evidence = ask(DECIDING, faint, masks).item()
    assert 0 < evidence < 4
    assert ask(ContourContrast(), faint, masks) == 0
    # The other contour has the strength 0: both limits are of the same number here.
    for limit in ('least_strength', 'least_difference'):
        for value, expected in ((0.99 * evidence, evidence), (1.01 * evidence, 0)):
            limits = dict(least_strength=0, least_difference=0) | {limit: value}
            assert ask(ContourContrast(**limits), faint, masks) == expected


def test_inside_pairs_are_ordered_by_the_only_contour():
    """A tie on a person is in front where its contour is seen, and hidden where it is not."""
    person, tie = disc(80, 80, 40, 40, 34), disc(80, 80, 40, 40, 10)
    shown = paint([tie, person], [RED, BLUE])
    hidden = paint([person], [BLUE])
    assert ask(ContourContrast(), shown, [tie, person]) > 8
    assert ask(ContourContrast(), shown, [person, tie]) < -8
    # A fragment of the person is no tie, nor is it hidden by the person.
    assert ask(DECIDING, hidden, [tie, person]) == -DECIDING.unseen
    assert ask(ContourContrast(), hidden, [tie, person]) == 0


def test_coinciding_contours_and_no_contours_tell_nothing():
    mask = disc(60, 60, 30, 30, 20)
    image = torch.randint(0, 256, (3, 60, 60), generator=torch.Generator().manual_seed(0))
    for other in (mask, ~mask, np.zeros_like(mask), np.ones_like(mask) & False):
        assert ask(DECIDING, image, [mask, other]) == 0
    everything = np.ones_like(mask)
    assert ask(DECIDING, image, [everything, everything]) == 0
    assert ask(DECIDING, image, [mask, mask, everything], torch.tensor([[1, 1]])) == 0


def test_the_border_of_the_image_is_no_contour():
    """Both reach out of the image; the picture's edge must not speak for either."""
    left, right = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    left[:, :35], right[:, 25:] = True, True
    for front, behind, colours in ((left, right, (RED, BLUE)), (right, left, (BLUE, RED))):
        image = paint([front, behind], colours)
        regions = ClaimRegions.from_masks(torch.from_numpy(np.stack([front, behind])))
        own, other = DECIDING.strengths(image, regions, torch.tensor([[0, 1], [1, 0]]))
        assert own > 50
        assert other == 0


@pytest.mark.parametrize('device', DEVICES)
def test_moving_the_scene_changes_nothing(device):
    for seed in range(8):
        image, masks = random_blobs(seed, (60, 60))
        masks = [mask & disc(60, 60, 30, 30, 24) for mask in masks]
        moved, shifted = torch.zeros(3, 100, 110, dtype=torch.uint8), np.zeros((2, 100, 110), bool)
        moved[:, 23:83, 41:101] = image
        shifted[:, 23:83, 41:101] = masks
        evidence = ask(DECIDING, image.to(device), masks)
        assert torch.equal(ask(DECIDING, moved.to(device), list(shifted)), evidence)


def test_resolution_matters_little():
    """The same scene at three resolutions, the contour blurred as a lens blurs it."""
    evidence = []
    for scale in (2, 4, 8):
        size = 120 * scale, 160 * scale
        front = disc(*size, 60 * scale, 66 * scale, 38 * scale)
        behind = disc(*size, 64 * scale, 100 * scale, 36 * scale)
        image = paint([front, behind], [RED, BLUE]).permute(1, 2, 0).numpy()
        image = cv2.GaussianBlur(image, (0, 0), 0.6 * scale)
        image = torch.from_numpy(image).permute(2, 0, 1)
        evidence.append(ask(DECIDING, image, [front, behind]).item())
    np.testing.assert_allclose(evidence[1:], evidence[0], rtol=0.06)


@pytest.mark.parametrize('device', DEVICES)
def test_only_the_pair_counts_and_any_number_of_pairs_may_be_asked_at_once(device, monkeypatch):
    from mmbanet.models.fusion.order import contour_contrast

    image, first = random_blobs(1)
    masks = [*first, *random_blobs(2)[1], *random_blobs(3)[1]]
    pairs = torch.combinations(torch.arange(6))
    image = image.to(device)
    together = ask(DECIDING, image, masks, pairs)
    assert (together != 0).sum() >= 4
    alone = [ask(DECIDING, image, [masks[i], masks[j]]) for i, j in pairs]
    assert torch.equal(together, torch.cat(alone))
    monkeypatch.setattr(contour_contrast, 'BLOCK', 1)
    assert torch.equal(ask(DECIDING, image, masks, pairs), together)
    assert ask(DECIDING, image, masks, pairs[:0]).shape == (0,)


def test_empty_images_and_float_images():
    masks = np.zeros((2, 0, 7), bool)
    assert ask(DECIDING, torch.zeros(3, 0, 7), masks) == 0
    image, masks = random_blobs(4)
    assert torch.equal(ask(DECIDING, image, masks), ask(DECIDING, image.double(), masks))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(least_strength=-1), 'least_strength must be 0 or more, got -1'),
        (dict(least_difference=-1), 'least_difference must be 0 or more, got -1'),
        (dict(unseen=float('nan')), 'unseen must be 0 or more, got nan'),
        (dict(texture=0), 'texture must be positive, got 0'),
        (dict(detail=-2), 'detail must be positive, got -2'),
        (dict(depth=0), 'depth must be 1 or more, got 0'),
        (dict(reach=-1), 'reach must be 0 or more, got -1'),
        (dict(max_points=0), 'max_points must be 1 or more, got 0'),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ContourContrast(**settings)
