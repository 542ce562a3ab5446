"""Devices and operators over which the tests of this folder run."""

import functools

import pytest
import torch

from mmbanet.ops import roi_inlay, roi_upsample

OPERATORS = {
    'inlay': roi_inlay,
    'upsample_sum': functools.partial(roi_upsample, reduction='sum'),
    'upsample_mean': functools.partial(roi_upsample, reduction='mean'),
}


@pytest.fixture(
    params=[
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
        ),
    ]
)
def device(request):
    """A device that the operators support."""
    return request.param


@pytest.fixture(params=OPERATORS)
def operator(request):
    """Each operator as a function of (input, rois, batch_size, output_size, ...)."""
    return OPERATORS[request.param]
