"""Files that were made to do harm: nothing of them runs, and nothing leads elsewhere unsaid."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmbanet.datasets import annotation_files, file_check, panoptic_files
from mmbanet.datasets.class_map import ClassMap
from mmbanet.datasets.image_files import read_image
from mmbanet.evaluation import panoptic_truth
from mmbanet.visualization.gallery import Gallery, View

from .broken_images import Bench, bomb
from .children import one_line, run_tool
from .malformed_annotations import (
    JPG,
    PANOPTIC,
    PLACES,
    PNG,
    SIZE,
    annotation,
    edit,
    heard,
    image,
    write_broken,
)
from .row import Outcome, Row, chosen, count
from .small import CONFIG, arguments

SHELL_NAMES = ('$(touch PWNED)', '`touch PWNED`', '; touch PWNED;', '| touch PWNED', '-rf', 'a\nb')
MARKUP = '</script><img src=x onerror="alert(1)"><script>alert(1)</script>'
LEAST_MEMORY = 4 << 30  # bytes that a bomb must not ask for


class Payload:
    """What unpickling calls: it makes a file.

    Args:
        marker: The file.
    """

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.marker}',)


class Files(Bench):
    """What the tools say of files that were made to do harm."""

    @property
    def marker(self) -> Path:
        """A file that is there if something was executed."""
        return self.folder / 'EXECUTED'

    def checkpoint_with(self, change: Callable[[dict], None]) -> Path:
        """A checkpoint of the model with something else in it."""
        content = torch.load(self.checkpoint, weights_only=False)
        change(content)
        self.number += 1
        path = self.folder / f'hostile_{self.number}.pth'
        torch.save(content, path)
        return path

    def judged(self, status: int, child: Any, tool: str, path: Path) -> str | None:
        """What is wrong after a tool has met a payload."""
        if self.marker.exists():
            self.marker.unlink()
            return 'executed'
        return one_line(status, child, tool, path.name)

    def payload(self, tool: str, *given: object) -> str | None:
        """A pickle in a checkpoint, where a tool loads one; CHECKPOINT in what it is given."""
        path = self.checkpoint_with(lambda content: content.update(note=Payload(self.marker)))
        given = [str(part).replace('CHECKPOINT', str(path)) for part in given]
        status, child = run_tool(tool, *given, folder=self.folder / f'run_{self.number}')
        return self.judged(status, child, tool if '.py' in tool else f'mmbanet {tool}', path)

    def code_in_config(self) -> str | None:
        """Python in the config that a checkpoint carries, at ``--resume``."""
        code = f'import os\nos.system("touch {self.marker}")\n'
        path = self.checkpoint_with(lambda content: content['meta'].update(config=code, cfg=code))
        work_dir = self.folder / f'run_{self.number}'
        given = arguments(self.scenes, work_dir)
        _, child = run_tool('train.py', *given, '--resume', path, folder=work_dir)
        if self.marker.exists():
            self.marker.unlink()
            return 'executed'
        return f'a traceback: {child.last_line()}' if 'Traceback' in child.text() else None

    def array(self) -> str | None:
        """An array of objects as a class map."""
        init_default_scope('mmdet')
        folder = self.folder / 'maps'
        folder.mkdir()
        np.save(folder / 'a.npy', np.array([Payload(self.marker)]), allow_pickle=True)
        config = dict(type='mmbanet.SemanticPredictionFolder', folder=str(folder), suffix='.npy')
        meta = dict(img_path='a.jpg', ori_shape=(8, 8), img_shape=(8, 8))
        error = refusal(lambda: MODELS.build(config).predict(torch.zeros(1), [meta], True))
        return self.unless(error, 'a.npy')

    def yaml_tag(self) -> str | None:
        """A call in a class map."""
        path = self.folder / 'classes.yaml'
        path.write_text(f'things: !!python/object/apply:os.system ["touch {self.marker}"]\n')
        return self.unless(refusal(lambda: ClassMap.from_file(path)), path.name)

    def unless(self, error: str, *parts: str) -> str | None:
        """What is wrong with an error that must name parts, and nothing executed."""
        if self.marker.exists():
            self.marker.unlink()
            return 'executed'
        missing = [part for part in parts if part not in error]
        return f'does not say {missing}: {error}' if missing else None

    def elsewhere(self, place: str, name: str, how: str) -> str | None:
        """A file outside of the data set, by a link or a name; read, if it is said."""
        root = write_broken(self.folder / 'set', lambda *_: None)
        outside = (self.folder / f'outside{Path(name).suffix}').absolute()
        (root / name).rename(outside)
        part, key = (image, JPG) if name == JPG else (annotation, PNG)
        if how == 'link':
            (root / name).symlink_to(outside)
        else:
            up = os.path.relpath(outside, (root / key).parent)
            content = json.loads((root / 'annotations' / PANOPTIC).read_text())
            edit(part, file_name=str(outside) if how == 'absolute' else up)(content, {}, root)
            (root / 'annotations' / PANOPTIC).write_text(json.dumps(content))
        opens, uses = PLACES[place]
        init_default_scope('mmdet')
        with heard() as messages:
            uses(opens(root, False))
        said = any(outside.name in message and 'outside' in message for message in messages)
        return None if said else 'nothing is said'

    def shell(self) -> str | None:
        """Names with a shell's characters, in prediction and its gallery."""
        photos, out = self.folder / 'photos', self.folder / 'shell'
        photos.mkdir()
        for name in SHELL_NAMES:
            shutil.copy(sorted((self.scenes / 'val').iterdir())[0], photos / f'{name}.jpg')
        given = (CONFIG, self.checkpoint, photos, '--out', out)
        status, child = run_tool('predict', *given, folder=photos)
        if status:
            return f'ended with status {status}: {child.last_line()}'
        status, child = run_tool('browse', out, '--out', self.folder / 'pages', folder=photos)
        if status:
            return f'browse ended with status {status}: {child.last_line()}'
        if list(self.folder.rglob('PWNED')):
            return 'executed'
        names = {path.stem for path in (out / 'panoptic').iterdir()}
        return None if names == set(SHELL_NAMES) else f'written: {sorted(names)}'

    def markup(self) -> str | None:
        """HTML in names of classes and images, in a gallery."""
        folder = self.folder / 'gallery'
        folder.mkdir()
        gallery = Gallery(folder, MARKUP, [MARKUP, 'sky'], [(1, 2, 3), (4, 5, 6)])
        ids = np.zeros((8, 8), dtype=np.int64)
        segment = dict(id=0, label=0, score=None, error=MARKUP)
        gallery.add(MARKUP, None, [View('map', ids, {})], [segment], [(0, 0, MARKUP)], None, [0])
        gallery.close()
        page = (folder / 'index.html').read_text()
        if '<img src=x' in page or page.count('</script>') != page.count('<script'):
            return 'markup of a name is in the page'
        inner = re.findall(r'\.(innerHTML|outerHTML|insertAdjacentHTML|write)\b', page)
        return f'the page makes markup of text: {inner}' if inner else None

    def markup_in_pages(self) -> str | None:
        """HTML in names of classes and files, in the pages that the commands write."""
        name = '<img src=x onerror=alert(1)>'
        root = write_broken(
            self.folder / 'set', lambda panoptic, *_: panoptic['categories'][0].update(name=MARKUP)
        )
        found, truth = self.folder / 'markup', root / 'annotations' / PANOPTIC
        content = json.loads(truth.read_text())
        content['images'], content['annotations'] = (
            content['images'][:1],
            content['annotations'][:1],
        )
        (found / 'segments').mkdir(parents=True)
        (found / 'panoptic').mkdir()
        shutil.copy(root / PNG, found / 'panoptic' / f'{name}.png')
        (root / JPG).rename(root / 'train' / f'{name}.jpg')
        for part, suffix in ((image(content), 'jpg'), (annotation(content), 'png')):
            part['file_name'] = f'{name}.{suffix}'
        (found / 'panoptic.json').write_text(json.dumps(content))
        labels = {category['id']: i for i, category in enumerate(content['categories'])}
        segments = [
            dict(id=s['id'], category=labels[s['category_id']], score=0.9)
            for s in annotation(content)['segments_info']
        ]
        facts = dict(file=str(root / 'train' / f'{name}.jpg'), height=SIZE[0], width=SIZE[1])
        record = found / 'segments' / f'{name}.json'
        record.write_text(json.dumps(dict(facts, segments=segments)))
        (truth.with_suffix('') / f'{name}.png').write_bytes((root / PNG).read_bytes())
        truth.write_text(json.dumps(content))
        for command in ('browse', 'report'):
            out = self.folder / f'markup_{command}'
            given = (found, '--truth', truth, '--out', out)
            status, child = run_tool(command, *given, folder=self.folder / 'markup_run')
            if status:
                return f'{command} ended with status {status}: {child.last_line()}'
            if '<img src=x' in (out / 'index.html').read_text():
                return f'markup of a name is in the page of {command}'
        return None

    def planted_links(self) -> str | None:
        """Links in the folder that is written to."""
        out, outside = self.folder / 'planted', self.folder / 'victim'
        photo = sorted((self.scenes / 'val').iterdir())[0]
        problems = []
        for name in ('panoptic', 'segments', 'pictures'):
            for folder in (out, outside):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            (out / name).symlink_to(outside)
            given = (CONFIG, self.checkpoint, photo, '--out', out, '--resume')
            status, child = run_tool('predict', *given, folder=self.folder / 'planted_run')
            problems.append(one_line(status, child, 'mmbanet predict', f'{name} leads to'))
            if list(outside.iterdir()):
                problems.append(f'written through {name}')
        return next(filter(None, problems), None)

    def planted_files(self) -> str | None:
        """Links in place of the files that are written to."""
        victim = self.folder / 'victim.txt'
        victim.write_text('mine')
        out = self.folder / 'written'
        out.mkdir()
        for name in ('.partial.a.txt', 'a.txt'):
            (out / name).symlink_to(victim)
        panoptic_files.write_whole(out / 'a.txt', lambda partial: partial.write_text('theirs'))
        is_whole = (out / 'a.txt').read_text() == 'theirs' and not (out / 'a.txt').is_symlink()
        return None if victim.read_text() == 'mine' and is_whole else 'a link was followed'

    def pattern(self) -> str | None:
        """A pattern of images that leads out of the folder that is written to."""
        deep = self.folder / 'deep'
        (deep / 'way' / 'photos').mkdir(parents=True)
        images = f'{deep}/way/ph*/../../../scenes/val/*.jpg'
        given = (CONFIG, self.checkpoint, images, '--out', deep / 'out')
        status, child = run_tool('predict', *given, folder=self.folder / 'deep_run')
        if (deep / 'scenes').exists():
            return 'written outside'
        return one_line(status, child, 'mmbanet predict', 'outside of')

    def forged_record(self, field: str, value: object) -> str | None:
        """What a prediction is said to be, forged."""
        out = self.folder / 'forged'
        if not out.exists():
            given = (CONFIG, self.checkpoint, self.scenes / 'val', '--out', out, '--no-pictures')
            status, child = run_tool('predict', *given, folder=self.folder / 'forged_run')
            if status:
                return child.last_line()
        record = sorted((out / 'segments').iterdir())[0]
        before = record.read_text()
        content = json.loads(before)
        for part in (content, *content['segments']) if value is not None else ():
            if field in part:
                part[field] = value
        record.write_text(json.dumps(content) if value is not None else '[' * 200_000)
        pages = self.folder / f'forged_{self.number}'
        self.number += 1
        status, child = run_tool('browse', out, '--out', pages, folder=self.folder / 'forged_run')
        record.write_text(before)
        if 'Traceback' in child.text() or status != 1:
            return f'ended with status {status}: {child.last_line()}'
        return None if record.name in child.text() else f'does not name it: {child.text()}'

    def png_bomb(self) -> str | None:
        """A map of ids that is far larger than its image."""

        def change(panoptic: dict, instances: dict, root: Path) -> None:
            (root / PNG).write_bytes(bomb(20_000, 20_000))

        opens, _ = PLACES['training']
        root = write_broken(self.folder / 'set', change)
        init_default_scope('mmdet')
        return self.unless(small_memory(lambda: refusal(lambda: opens(root, False))), '1.png')

    def image_bomb(self) -> str | None:
        """A photograph of a few bytes that claims to have 900 million pixels."""
        path = self.folder / 'bomb.png'
        path.write_bytes(bomb(30_000, 30_000))
        error = small_memory(lambda: refusal(lambda: read_image(path)))
        return self.unless(error, 'bomb.png', 'decompression bomb')

    def forged_scenes(self) -> str | None:
        """A record of generated scenes that names files elsewhere, with ``--overwrite``."""
        mine = self.folder / 'mine.txt'
        mine.write_text('mine')
        root = self.folder / 'forged_scenes'
        root.mkdir()
        (root / 'theirs.txt').write_text('theirs')
        record = dict(version=1, seed=0, train=1, val=1, files={'../mine.txt': 'x'})
        (root / 'scenes.json').write_text(json.dumps(record))
        given = ('--out', root, '--train', 1, '--val', 1, '--overwrite')
        status, child = run_tool('make-scenes', *given, folder=self.folder / 'forged_scenes_run')
        if not mine.exists() or not (root / 'theirs.txt').exists():
            return 'deleted what it did not make'
        return one_line(status, child, 'mmbanet make-scenes', 'forged_scenes')


def refusal(call: Callable[[], object]) -> str:
    """What a call raises, as one of the package's own errors."""
    try:
        call()
    except (ValueError, OSError) as error:
        return str(error)
    return 'not refused'


def small_memory(call: Callable[[], str]) -> str:
    """A call that may not ask for more than a few gigabytes beyond what is taken."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + LEAST_MEMORY, limits[1])
    )
    try:
        return call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def run(cases: int | str, folder: Path) -> Outcome:
    """Each file once."""
    files = Files(folder)
    trained = arguments(files.scenes, folder / 'trained')
    config, *options = trained
    photo = sorted((files.scenes / 'val').iterdir())[0]
    loads = {
        'train --resume': ('train.py', *trained, '--resume', 'CHECKPOINT'),
        'load_from': ('train.py', *trained, 'load_from=CHECKPOINT'),
        'init_cfg': (
            'train.py',
            *trained,
            'model.neck.init_cfg.type=Pretrained',
            'model.neck.init_cfg.checkpoint=CHECKPOINT',
        ),
        'test': ('test.py', config, 'CHECKPOINT', *options),
        'predict': ('predict', config, 'CHECKPOINT', photo, '--out', folder / 'predicted'),
    }
    named = [
        *((f'pickle, {name}', partial(files.payload, *given)) for name, given in loads.items()),
        ('code in the config of a checkpoint', files.code_in_config),
        ('objects in an array', files.array),
        ('call in YAML', files.yaml_tag),
        *(
            (f'{how}: {name}, {place}', partial(files.elsewhere, place, name, how))
            for place, name in (('training', JPG), ('training', PNG), ('metrics', PNG))
            for how in ('link', 'absolute', 'parent')
        ),
        ("a shell's characters", files.shell),
        ('markup in a gallery', files.markup),
        ('markup in pages', files.markup_in_pages),
        ('linked folders of an output', files.planted_links),
        ('linked files of an output', files.planted_files),
        ('a pattern that leads out', files.pattern),
        *(
            (f'forged record: {field} {value!r}', partial(files.forged_record, field, value))
            for field, value in (
                ('category', 10**6),
                ('category', -1),
                ('score', MARKUP),
                ('segments', 5),
                ('depth', None),
            )
        ),
        ('a bomb as a map of ids', files.png_bomb),
        ('a bomb as a photograph', files.image_bomb),
        ('forged scenes', files.forged_scenes),
    ]
    return count(chosen(named, cases))


@contextlib.contextmanager
def _paths_unchecked() -> Iterator[None]:
    """Nothing is said of files from elsewhere, and links in outputs are followed."""

    def follow(out: Path, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    with (
        mock.patch.object(file_check, 'say_outside'),
        mock.patch.object(panoptic_truth, 'say_outside'),
        mock.patch.object(panoptic_files, 'folder_within', follow),
    ):
        yield


@contextlib.contextmanager
def _bombs_decoded() -> Iterator[None]:
    """No header is compared with a size before decoding."""
    with (
        mock.patch.object(Image, 'MAX_IMAGE_PIXELS', None),
        mock.patch.object(annotation_files, 'check_png_header'),
        mock.patch.object(file_check, 'check_png_header'),
    ):
        yield


@contextlib.contextmanager
def _unpickled() -> Iterator[None]:
    """Checkpoints are unpickled, whatever is in them."""
    load = torch.load

    def unpickle(*given: object, **options: object) -> object:
        return load(*given, **dict(options, weights_only=False))

    with mock.patch.object(torch, 'load', unpickle):
        yield


@contextlib.contextmanager
def _unsafe_yaml() -> Iterator[None]:
    """YAML as MMEngine reads it."""
    with mock.patch.object(yaml, 'safe_load', yaml.unsafe_load):
        yield


ROW = Row(
    'hostile-files',
    'nothing of a file is executed, nothing written outside of the output folder, nothing read '
    'outside of the data set without saying so',
    31,
    run,
    {
        'weights-only': _unpickled,
        'paths': _paths_unchecked,
        'headers': _bombs_decoded,
        'plain-yaml': _unsafe_yaml,
    },
)
