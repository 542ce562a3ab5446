"""BANet: bidirectional learning and occlusion handling for panoptic segmentation (CVPR 2020)."""

from importlib import import_module

__version__ = '0.1.0'

_APIS = ('PanopticInferencer', 'PanopticResult', 'init_model', 'predict', 'read_image')
_MODULES = dict.fromkeys(_APIS, 'mmbanet.apis') | dict(
    PanopticTTAModel='mmbanet.models', PanopticVisualizer='mmbanet.visualization'
)


def __getattr__(name: str) -> object:
    """Names whose imports take seconds, when one is asked for."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
