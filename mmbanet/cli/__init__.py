"""How the scripts in ``tools`` start and end, and their commands. Imports nothing heavy."""

from .tool import run_tool

__all__ = ['run_tool']
