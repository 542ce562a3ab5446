"""Values at the edges of what overlap handling accepts."""

import pytest
import torch

from mmbanet.models.fusion.checks import check_image, check_preference


@pytest.mark.parametrize('value', [-1.0, 0.0, 255.0, 256.0])
def test_images_in_range(value):
    image = torch.full((3, 2, 2), 128.0)
    image[1, 0, 1] = value
    check_image(image, (2, 2))


@pytest.mark.parametrize('value', [-300.0, -1.1, 256.1, 257.0, 300.0, 1e5, torch.inf, torch.nan])
def test_one_value_out_of_range_is_refused(value):
    image = torch.full((3, 2, 2), 128.0)
    image[1, 0, 1] = value
    with pytest.raises(ValueError, match=r'image must be RGB in 0\.\.255, got values from'):
        check_image(image, (2, 2))


def test_an_integer_image_of_more_than_8_bits_is_refused():
    with pytest.raises(ValueError, match='got values from 0 to 300'):
        check_image(torch.tensor([0, 255, 300], dtype=torch.int16).view(3, 1, 1), (1, 1))


@pytest.mark.parametrize('value', [-128, -127, -2, 2, 127])
def test_preferences_other_than_0_and_1_are_refused(value):
    # -128 is its own negative in int8, and its own absolute value.
    opposite = value if value == -128 else -value
    preference = torch.tensor([[0, value], [opposite, 0]], dtype=torch.int8)
    assert torch.equal(preference, -preference.T)
    with pytest.raises(ValueError, match='preference must hold -1, 0 and 1 only, got'):
        check_preference(preference, 2)
