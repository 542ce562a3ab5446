"""The command ``mmbanet``: what the package does for a user, each by a word."""

import sys
from pathlib import Path

from .tool import run_tool

# The module of each, what it does, and what to do after an interruption.
COMMANDS = {
    'predict': ('panoptic maps of images', 'the same command with --resume goes on'),
    'browse': ('a gallery of a data set or of predictions', 'nothing was kept, start it again'),
    'check': ('what is wrong in a data set', 'nothing was written'),
    'convert': ('other annotations to COCO panoptic', 'nothing half-written was kept'),
    'report': ('what a model does well and badly', 'nothing was kept, start it again'),
    'export': ("a model's network as ONNX", 'nothing was written, start it again'),
    'make-scenes': ('scenes with known occlusion', 'nothing was kept, start it again'),
    'mask-overlap': ("how much a data set's instance masks overlap", 'nothing was written'),
}


def main() -> None:
    """Runs the command that the first argument names with the others."""
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in COMMANDS:
        module = Path(__file__).with_name(f'{name.replace("-", "_")}.py')
        sys.argv = [f'mmbanet {name}', *sys.argv[2:]]
        run_tool(str(module), COMMANDS[name][1], sys.argv[0])
        return
    lines = [f'  {command:<18}{what}' for command, (what, _) in COMMANDS.items()]
    usage = '\n'.join(['usage: mmbanet COMMAND ...; mmbanet COMMAND --help says more', '', *lines])
    if name not in ('-h', '--help'):
        sys.exit(f'mmbanet: no such command: {name}\n{usage}')
    print(usage)
