"""What child processes are forked with: all that takes seconds to import."""

from mmbanet.cli import quiet_imports

with quiet_imports():
    import mmbanet.apis
    import mmbanet.datasets
    import mmbanet.engine
    import mmbanet.evaluation
    import mmbanet.models  # noqa: F401
