"""Counts how often all goes well when something goes wrong: ``make reliability``.

Prints a row a line; ``make reliability ARGS='kill-while-saving --cases 5'`` runs one of them, with
five cases. ``--without PROTECTION`` shows what a row says without what it rests on, ``--without
each`` without each in turn.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from .children import taken_out
from .rows import all_rows
from .table import as_entry, insert, line_of, without

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'reliability.md'


def main() -> int:
    """Runs rows; the exit status is 1 if a case of them has failed."""
    rows = all_rows()
    protections = {name for row in rows.values() for name in row.protections}
    parser = argparse.ArgumentParser(prog='make reliability', description=__doc__)
    parser.add_argument('rows', nargs='*', metavar='ROW', help=f'all, or: {", ".join(rows)}')
    parser.add_argument(
        '--cases',
        type=lambda text: int(text) if text.isdigit() else text,
        metavar='NUMBER | TEXT',
        help="cases of each, in place of a row's own number; or those with a text in their names",
    )
    parser.add_argument(
        '--without', metavar='PROTECTION', help=f'each, or: {", ".join(sorted(protections))}'
    )
    parser.add_argument('--docs', action='store_true', help=f'write the tables into {DOCS.name}')
    parser.add_argument('--out', type=Path, metavar='JSON', help='write what was counted there')
    args = parser.parse_args()
    for name in args.rows:
        if name not in rows:
            parser.error(f'no such row: {name}; there are {", ".join(rows)}')
    chosen = [rows[name] for name in args.rows or rows]
    runs = {f'`{row.name}`': (row, nullcontext()) for row in chosen}
    if args.without:
        runs = {
            without(row, name): (row, taken_out(protection))
            for row in chosen
            for name, protection in row.protections.items()
            if args.without in (name, 'each')
        }
        if not runs:
            parser.error(f'no row that was chosen rests on {args.without}')
    if args.docs and args.cases:
        parser.error('--docs is for all cases of a row, without --cases')

    entries = {}
    for name, (row, context) in runs.items():
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix='reliability-') as folder, context:
            outcome = row.run(args.cases or row.cases, Path(folder))
        entry = as_entry(outcome, time.monotonic() - start)
        entries[name] = entry
        print(line_of(name, entry), flush=True)
        for failure in outcome.failures:
            print(f'  {failure}', flush=True)
        if args.docs:  # after each, so that nothing is lost
            insert(DOCS, rows, entries)
        if args.out:
            args.out.write_text(json.dumps(entries, indent=1) + '\n')
    return int(any(entry['good'] < entry['cases'] for entry in entries.values()))


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
