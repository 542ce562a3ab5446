"""All rows, in the order of the table. A new one is a module with ``ROW``, named here."""

from importlib import import_module

from mmbanet.cli import quiet_imports

from .row import Row

_MODULES = (
    'kill_while_saving',
    'kill_and_resume',
    'corrupt_checkpoint',
    'malformed_annotations',
    'broken_images',
    'two_ranks',
    'full_disk',
    'ctrl_c',
    'hostile_files',
    'numbers',
    'memory',
    'gpu_script',
)


def all_rows() -> dict[str, Row]:
    """Rows by name."""
    with quiet_imports():
        rows = [import_module(f'.{module}', __package__).ROW for module in _MODULES]
    return {row.name: row for row in rows}
