"""Calls an operator of mmcv: fails if it was built for another torch, or lacks CUDA here."""

import sys

import torch
from mmcv.ops import get_compiling_cuda_version, nms
from torch.utils.cpp_extension import CUDA_HOME

nms(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.ones(1), iou_threshold=0.5)
if torch.cuda.is_available() and CUDA_HOME and get_compiling_cuda_version() == 'not available':
    sys.exit('mmcv was built without CUDA')
