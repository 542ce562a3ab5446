#!/usr/bin/env python3
"""Prints the tests of the packages that have changed since the branch left main, a path a line.

What git calls changed, staged or new counts, too. ``mmbanet/models/fusion/head.py`` has its tests
in ``tests/test_models/test_fusion``; a package without a folder of tests has them in that of the
next one above it. Nothing printed: nothing has changed that has tests.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folders whose tests are not named after the folders in them.
ONE_PLACE = {
    'ops': 'tests/test_ops',
    'configs': 'tests/test_configs.py',
    'examples': 'tests/test_examples.py',
    'docs': 'tests/test_docs.py',
    '.github': 'tests/test_project.py',
}


def git(*arguments: str) -> list[str]:
    """Lines that git prints; none where it fails."""
    result = subprocess.run(['git', *arguments], cwd=ROOT, capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else []


def changed_files() -> list[str]:
    """Relative paths, deleted ones included."""
    bases = (git('merge-base', 'HEAD', name) for name in ('origin/HEAD', 'origin/main', 'main'))
    base = next((found[0] for found in bases if found), 'HEAD')
    return [
        *git('diff', '--name-only', '--no-renames', base),
        *git('ls-files', '--others', '--exclude-standard'),
    ]


def tests_of(changed: str) -> str | None:
    """Folder or file of the tests of a changed file; None if it has none of its own."""
    path = Path(changed)
    if path.parts[0] == 'tests':
        place = path if path.name.startswith('test_') else path.parent
        return str(place) if (ROOT / place).exists() else None
    if changed == 'docs/architecture.md':
        return 'tests/test_architecture.py'
    if path.parts[0] in ONE_PLACE:
        return ONE_PLACE[path.parts[0]]
    if path.suffix in ('.md', '.yml', '.cff'):
        return 'tests/test_docs.py' if path.suffix == '.md' else 'tests/test_project.py'
    if path.parts[0] not in ('mmbanet', 'tools'):
        return None
    place = Path('tests', *(['test_tools'] if path.parts[0] == 'tools' else []))
    for name in path.with_suffix('').parts[1:]:
        inner = place / f'test_{name}'
        if not (ROOT / inner).is_dir():
            file = inner.with_suffix('.py')
            # Otherwise a module between packages would run the tests of all of them.
            among_packages = len(place.parts) <= 2 and any(ROOT.glob(f'{place}/test_*/'))
            return str(file if among_packages and (ROOT / file).exists() else place)
        place = inner
    return str(place)


def main() -> None:
    """Prints the paths, none inside another."""
    places = sorted({place for place in map(tests_of, changed_files()) if place})
    for place in places:
        if not any(Path(other) in Path(place).parents for other in places):
            print(place)


if __name__ == '__main__':
    main()
