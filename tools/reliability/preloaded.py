"""What child processes are forked with: all that takes seconds to import."""

from importlib import import_module

from mmbanet.cli import quiet_imports

from .children import PRELOADED

with quiet_imports():
    for name in PRELOADED:
        import_module(name)
