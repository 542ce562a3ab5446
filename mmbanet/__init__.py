"""BANet: bidirectional learning and occlusion handling for panoptic segmentation (CVPR 2020)."""

from importlib import import_module

__version__ = '0.1.0'

_APIS = ('PanopticInferencer', 'PanopticResult', 'init_model', 'predict', 'read_image')


def __getattr__(name: str) -> object:
    """The names of ``mmbanet.apis``, whose imports take seconds, when one is asked for."""
    if name not in _APIS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module('mmbanet.apis'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_APIS})
