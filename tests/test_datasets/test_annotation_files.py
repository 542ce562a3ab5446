"""The fast parser reads what Python's reads, refuses what it refuses, and in its words."""

import json

import pytest

from mmbanet.datasets import annotation_files
from mmbanet.datasets.annotation_files import read_json
from mmbanet.datasets.segmentation import pack_polygons

POLYGONS = b'[[1, 2.5, 3, 4, 5, 6], [1, 2], [1, 2, 3, 4, 5, true], [1, 2, 3, 4, 5, 1%s]]' % (
    b'0' * 400
)
CONTENTS = {
    'polygons': b'{"annotations": [{"segmentation": %s, "id": 1}]}' % POLYGONS,
    'entries that are none': b'{"annotations": [3, [], null, {"segmentation": "x"}], "images": {}}',
    'other values': b'{"annotations": null, "a": 1, "b": 1.5, "c": "\\u00e9", "d": true, "e": {}}',
    'a key twice': b'{"a": 1, "a": 2, "annotations": [{"id": 1, "id": 2}]}',
    'large integers': b'{"a": 18446744073709551616, "b": [-9223372036854775809, -0, 1%s]}'
    % (b'0' * 99),
    'long fractions': b'{"a": [0.12345678901234567890123, 1e23, 8.5e-320, 1e-400, -0.0]}',
    'NaN': b'{"annotations": [{"area": NaN, "segmentation": [[1, 2, 3, 4, 5, 6]]}]}',
    'infinite': b'{"annotations": [{"area": 1e400, "id": -Infinity}]}',
    'half a surrogate': b'{"a": ["\\ud800"]}',
    'byte order mark': b'\xef\xbb\xbf{"a": "\xc3\xa9"}',
    'UTF-16': '{"a": "\u00e9"}'.encode('utf-16'),
    'Latin-1': b'{"info": {"by": "Andr\xe9"}}',
    'control character': b'{"a": "b\tc"}',
    'nested': b'{"a": %s%s}' % (b'[' * 9999, b']' * 9999),
    'cut off': b'{"annotations": [{"id": 1',
    'cut off in a text': b'{"annotations": [{"file_name": "a',
    'more behind it': b'{"a": 1} {}',
    'trailing comma': b'{"a": [1, 2,]}',
    'comment': b'{"a": 1} // one',
    'single quotes': b"{'a': 1}",
    'leading zero': b'{"a": [01]}',
    'no fraction': b'{"a": [1.]}',
    'list': b'[{"a": 1}]',
    'null': b'null',
}


@pytest.mark.parametrize('hook', [None, pack_polygons])
@pytest.mark.parametrize('name', CONTENTS)
def test_msgspec_and_python_agree(tmp_path, monkeypatch, name, hook):
    pytest.importorskip('msgspec')
    path = tmp_path / 'a.json'
    path.write_bytes(CONTENTS[name])

    def read():
        try:
            return repr(read_json(str(path), object_hook=hook))
        except ValueError as error:
            return str(error)

    found = read()
    monkeypatch.setattr(annotation_files, 'msgspec', None)
    assert found == read()


def test_msgspec_reads_what_coco_writes(tmp_path, monkeypatch):
    pytest.importorskip('msgspec')
    path = tmp_path / 'a.json'
    path.write_bytes(CONTENTS['polygons'])
    monkeypatch.setattr(json, 'loads', lambda *args, **kwargs: pytest.fail('the slow parser'))
    assert read_json(str(path), object_hook=pack_polygons)['annotations'][0]['id'] == 1
