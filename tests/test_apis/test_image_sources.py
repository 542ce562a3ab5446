"""Inputs: what is found, its names, and the pixels of each."""

import functools
import http.server
import threading

import cv2
import numpy as np
import pytest

from mmbanet.apis.image_sources import count_images, find_images, open_images


def grey(value: int) -> np.ndarray:
    return np.full((32, 48, 3), value, dtype=np.uint8)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'ride.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 32))
    assert writer.isOpened()
    for value in (20, 120, 220):
        writer.write(grey(value))
    writer.release()
    return path


def test_frames_of_a_video(video):
    found = find_images(video)
    assert count_images(found) == 3
    values = {item.name: item.read().mean() for item in open_images(found)}
    assert list(values) == ['ride/00000000', 'ride/00000001', 'ride/00000002']
    np.testing.assert_allclose(list(values.values()), [20, 120, 220], atol=3)


def test_folders_that_are_linked(tmp_path):
    """Of a folder that is there twice, or that leads back, each image once."""
    folder, elsewhere = tmp_path / 'photos', tmp_path / 'disk' / 'camera'
    for path in (folder / 'own', elsewhere):
        path.mkdir(parents=True)
        cv2.imwrite(str(path / 'a.png'), grey(9))
    for name, target in dict(all=folder, camera=elsewhere, again=folder / 'own').items():
        (folder / name).symlink_to(target)
    (elsewhere / 'back').symlink_to(folder)
    assert [item.name for item in find_images(folder)] == ['camera/a', 'own/a']


def test_a_video_that_is_none(tmp_path):
    (tmp_path / 'text.mp4').write_text('no video')
    with pytest.raises(ValueError, match=r'not a video or webcam that can be opened: .*text\.mp4'):
        list(open_images(find_images(tmp_path)))


@pytest.mark.parametrize('given', [1, '1'])
def test_frames_of_a_webcam(given, monkeypatch):
    class Capture:
        def __init__(self, index: int) -> None:
            assert index == 1
            self.number = 0
            self.released = False

        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            self.number += 1
            return True

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, grey(self.number)

        def release(self) -> None:
            self.released = True
            released.append(self)

    released = []
    monkeypatch.setattr(cv2, 'VideoCapture', Capture)
    found = find_images(given)
    assert count_images(found) is None
    frames = open_images(found)
    assert [next(frames).read()[0, 0, 0] for _ in range(3)] == [1, 2, 3]
    assert next(frames).name == 'webcam1/00000003'
    frames.close()
    assert len(released) == 1


def test_images_of_urls(tmp_path):
    cv2.imwrite(str(tmp_path / 'one.png'), grey(7))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}'
        there, missing = open_images(find_images([f'{url}/one.png?size=1', f'{url}/two.png']))
        assert there.name == 'one'
        np.testing.assert_array_equal(there.read(), grey(7))
        with pytest.raises(OSError, match=f'not read: {url}/two.png .*404'):
            missing.read()
        server.shutdown()


@pytest.mark.parametrize(
    ('url', 'error'),
    [
        ('http://127.0.0.1:1/my photo.jpg', 'InvalidURL'),
        ('http://127.0.0.1:1/süd.jpg', 'UnicodeEncodeError'),
        ('nothing://one.jpg', 'KeyError'),
    ],
)
def test_urls_that_cannot_be_read_are_named(url, error):
    (image,) = open_images(find_images(url))
    with pytest.raises(OSError, match=f'not read: {url} \\({error}: '):
        image.read()


def test_inputs_keep_their_order_and_arrays_are_numbered(tmp_path):
    for name in ('b.png', 'a.png'):
        cv2.imwrite(str(tmp_path / name), grey(3))
    found = find_images([tmp_path / 'b.png', grey(5), tmp_path / 'a.png', tmp_path / 'b.png'])
    images = list(open_images(found))
    assert [item.name for item in images] == ['b', '00000001', 'a', 'b']
    assert [item.read()[0, 0, 0] for item in images] == [3, 5, 3, 3]


@pytest.mark.parametrize('pattern', ['rides/**', 'rides/**/*.png', 'rides/*', 'rides/?/1.png'])
def test_files_of_a_pattern_are_named_below_its_fixed_folders(pattern, tmp_path, monkeypatch):
    for folder in ('a', 'b'):
        (tmp_path / 'rides' / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'rides' / folder / '1.png'), grey(3))
    monkeypatch.chdir(tmp_path)
    for given in (pattern, tmp_path / pattern):
        assert [item.name for item in find_images(given)] == ['a/1', 'b/1']
    monkeypatch.chdir('rides')
    assert [item.name for item in find_images('*/*.png')] == ['a/1', 'b/1']


@pytest.mark.parametrize(
    ('given', 'error'), [(1.5, TypeError), (None, TypeError), (grey(1)[..., 0], ValueError)]
)
def test_what_is_no_image(given, error):
    for inputs in (given, [given]):
        with pytest.raises(error, match='images must be'):
            find_images(inputs)


def test_a_link_that_leads_nowhere_is_found_and_cannot_be_read(tmp_path):
    (tmp_path / 'gone.jpg').symlink_to('nowhere')
    (image,) = open_images(find_images(tmp_path))
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        image.read()
