"""Methods of parts that are other ones for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def replaced(module: nn.Module, **methods: Callable) -> Iterator[None]:
    """Lets ``module.name`` be ``methods[name]`` meanwhile."""
    vars(module).update(methods)  # an attribute of the object hides the method of its class
    try:
        yield
    finally:
        for name in methods:
            delattr(module, name)
