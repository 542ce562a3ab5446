"""Hooks of the training and test loops."""

from .class_count_hook import ClassCountHook
from .finite_loss_hook import FiniteLossHook

__all__ = ['ClassCountHook', 'FiniteLossHook']
