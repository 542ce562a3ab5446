"""Counts how often all goes well when something goes wrong: ``make reliability``.

Prints a row a line; ``make reliability ARGS='kill-while-saving --cases 5'`` runs one of them, with
five cases. ``--without PROTECTION`` shows what a row says without what it rests on.
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
from .table import as_entry, insert, line_of

DOCS = Path(__file__).resolve().parents[2] / 'docs' / 'reliability.md'


def main() -> int:
    """Runs rows; the exit status is 1 if a case of them has failed."""
    rows = all_rows()
    protections = {name for row in rows.values() for name in row.protections}
    parser = argparse.ArgumentParser(prog='make reliability', description=__doc__)
    parser.add_argument('rows', nargs='*', metavar='ROW', help=f'all, or: {", ".join(rows)}')
    parser.add_argument('--cases', type=int, help="cases of each, in place of a row's own number")
    parser.add_argument('--without', metavar='PROTECTION', help=', '.join(sorted(protections)))
    parser.add_argument('--docs', action='store_true', help=f'write the table into {DOCS.name}')
    parser.add_argument('--out', type=Path, metavar='JSON', help='write what was counted there')
    args = parser.parse_args()
    for name in args.rows:
        if name not in rows:
            parser.error(f'no such row: {name}; there are {", ".join(rows)}')
    chosen = [rows[name] for name in args.rows or rows]
    if args.without:
        chosen = [row for row in chosen if args.without in row.protections]
        if not chosen:
            parser.error(f'no row that was chosen rests on {args.without}')
    if args.docs and (args.without or args.cases):
        parser.error('--docs is for the whole, without --cases and --without')

    entries = {}
    for row in chosen:
        start = time.monotonic()
        without = taken_out(row.protections[args.without]) if args.without else nullcontext()
        with tempfile.TemporaryDirectory(prefix='reliability-') as folder, without:
            outcome = row.run(args.cases or row.cases, Path(folder))
        entry = as_entry(row, outcome, time.monotonic() - start)
        entries[row.name] = entry
        print(line_of(row.name, entry), flush=True)
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
