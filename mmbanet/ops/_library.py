"""Loads the compiled operators. They may be missing: importing this package works all the same."""

import importlib

# The compiled library links against torch's, which must be in the process before it.
import torch  # noqa: F401

_load_error = None
try:
    importlib.import_module('mmbanet._ops')
except ImportError as error:
    _load_error = error
else:
    from . import _registrations  # noqa: F401


def require_operators() -> None:
    """Raises ImportError with the cause and the remedy if the compiled operators are missing."""
    if _load_error is not None:
        raise ImportError(
            'The compiled operators of mmbanet could not be loaded: they were not built, or were '
            'built for another version of torch or Python. Build them with\n'
            '    pip install --no-build-isolation -e .\n'
            f'in a checkout of mmbanet. The cause was: {_load_error}'
        ) from _load_error
