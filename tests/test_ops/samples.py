"""Arguments for the operators, shared by the tests of correctness, gradients and registrations."""

import torch

from mmbanet.ops import bilinear_matrix

SCALES = (1.0, 0.5, 0.25, 0.3)
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last)


# The same values in other strides. Those named channels_last have that memory format.
LAYOUTS = {
    'contiguous': torch.Tensor.contiguous,
    'transposed': lambda tensor: tensor.transpose(2, 3).contiguous().transpose(2, 3),
    'strided': lambda tensor: torch.stack([tensor, tensor + 1], dim=-1)[..., 0],
    'channels_last': channels_last,
    'channels_last_slice': lambda tensor: channels_last(
        torch.cat([tensor + 1, tensor, tensor + 1], dim=1)
    ).chunk(3, dim=1)[1],
}


def random_case(seed, dtype=torch.float32, device='cpu'):
    """Keyword arguments of an operator: 1 to 20 RoIs of every kind on maps of up to 24 x 24.

    Sizes go from a fraction of a pixel to many times the map, positions from outside to outside,
    and every fourth RoI repeats another one, so that many overlap.
    """
    generator = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    num_rois, batch_size = integer(1, 20), integer(1, 3)
    height, width = integer(1, 24), integer(1, 24)
    scale = SCALES[integer(0, len(SCALES) - 1)]
    # In pixels of the map: centres reach beyond it, sides are log-uniform from 0.1 to 100.
    sides = 10 ** (3 * uniform(num_rois, 2) - 1)
    centres = (uniform(num_rois, 2) * 1.6 - 0.3) * torch.tensor([width, height])
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1) / scale
    if integer(0, 1):
        boxes = boxes.round()  # edges on pixels, and RoIs without extent
    images = torch.randint(0, batch_size, (num_rois, 1), generator=generator)
    rois = torch.cat([images, boxes], dim=1)
    rois[::4] = rois[integer(0, num_rois - 1)].clone()
    crops = torch.randn(num_rois, integer(1, 4), integer(1, 9), integer(1, 9), generator=generator)
    return {
        'input': crops.to(device, dtype),
        'rois': rois.to(device, torch.float64 if dtype == torch.float64 else torch.float32),
        'batch_size': batch_size,
        'output_size': (height, width),
        'spatial_scale': scale,
        'aligned': bool(integer(0, 1)),
    }


def small_case(dtype=torch.float64, device='cpu'):
    """Two images; RoIs that overlap, stick out, are tiny or cover nothing. Fit for gradcheck."""
    generator = torch.Generator().manual_seed(0)
    rois = torch.tensor(
        [
            [0, 2.0, 3.0, 17.0, 19.0],
            [0, 9.0, 7.0, 30.0, 14.5],
            [1, -8.0, -5.0, 12.0, 40.0],
            [1, 6.0, 6.0, 6.5, 7.0],
            [0, 4.0, 9.0, 4.0, 12.0],
        ],
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
        device=device,
    )
    crops = torch.randn(len(rois), 2, 3, 4, generator=generator, dtype=torch.float64)
    return {
        'input': crops.to(device, dtype),
        'rois': rois,
        'batch_size': 2,
        'output_size': (7, 9),
        'spatial_scale': 0.5,
        'aligned': True,
    }


def empty_cases(dtype=torch.float32, device='cpu'):
    """No RoIs, no channels, an empty map, and none of all."""
    case = small_case(dtype, device)
    no_rois = {**case, 'input': case['input'][:0], 'rois': case['rois'][:0]}
    return (
        no_rois,
        {**case, 'input': case['input'][:, :0]},
        {**case, 'output_size': (7, 0)},
        {**no_rois, 'batch_size': 0, 'output_size': (0, 0)},
    )


def crowded_case(dtype=torch.float32, device='cpu'):
    """Two large maps, each with 20 RoIs that overlap; ten RoIs have one and the same box.

    There is work for many threads, and sums whose last bits depend on the order of their terms.
    """
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 30
    rois = torch.cat([torch.arange(40)[:, None] % 2, corners, corners + 40], dim=1)
    rois[::4, 1:] = rois[0, 1:].clone()
    crops = torch.randn(40, 4, 7, 7, generator=generator)
    return {
        'input': crops.to(device, dtype),
        'rois': rois.to(device),
        'batch_size': 2,
        'output_size': (70, 70),
        'spatial_scale': 1.0,
        'aligned': True,
    }


def random_resize(seed, dtype=torch.float32, device='cpu'):
    """Keyword arguments of resized_argmax: maps of up to 24 x 24 to maps of up to 40 x 40."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    def matrix(size):
        new_size, kind = integer(1, 40), integer(0, 5)
        if kind == 0:
            return None
        if kind == 1:
            return bilinear_matrix(size, new_size)
        if kind == 2:  # two resizes with a crop between them
            between = integer(1, 60)
            crop = integer(1, between)
            return bilinear_matrix(crop, new_size) @ bilinear_matrix(size, between)[:crop]
        weights = torch.randn(new_size, size, generator=generator)
        if kind == 3:  # windows of up to 8 somewhere, some of them empty
            begin = torch.randint(-4, size + 1, (new_size, 1), generator=generator)
            width = torch.randint(0, 9, (new_size, 1), generator=generator)
            column = torch.arange(size)
            weights *= (column >= begin) & (column < begin + width)
        if kind == 4:  # few weights, far from each other
            weights *= torch.rand(new_size, size, generator=generator) < 0.1
        return weights

    channels = (1, 2, 7, 16, 31, 64, 133)[integer(0, 6)]
    logits = torch.randn(channels, integer(1, 24), integer(1, 24), generator=generator)
    matrices = {'rows': matrix(logits.shape[1]), 'cols': matrix(logits.shape[2])}
    return {
        'logits': logits.to(device, dtype),
        **{
            name: None if weights is None else weights.to(device)
            for name, weights in matrices.items()
        },
    }
