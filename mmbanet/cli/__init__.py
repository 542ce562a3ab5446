"""How the scripts in ``tools`` start and end, and the commands.

Imports nothing heavy: a command's module reads its arguments, and only then imports what does the
work, of ``mmbanet.cli.work`` or of the package.
"""

from .tool import quiet_imports, run_tool

__all__ = ['quiet_imports', 'run_tool']
