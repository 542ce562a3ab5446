"""Detectors."""

from .banet import BANet

__all__ = ['BANet']
