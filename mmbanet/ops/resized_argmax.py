"""The class of every output pixel from low-resolution logits, for now in plain PyTorch."""

import torch
import torch.nn.functional as F


def bilinear_matrix(size, new_size, device=None):
    """(new_size, size): bilinear interpolation along one axis."""
    eye = torch.eye(size, device=device)[None, None]
    return F.interpolate(eye, size=(new_size, size), mode='bilinear', align_corners=False)[0, 0]


def resized_argmax(logits, rows=None, cols=None):
    """(H, W) int32: argmax over c of rows @ logits[c] @ cols.T; None is the identity."""
    x = logits.float()
    if rows is not None:
        x = rows @ x
    if cols is not None:
        x = x @ cols.T
    return x.max(dim=0).indices.int()
