"""Headless Chromium as tests use it: DevTools' protocol over a pipe, which needs no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
EXECUTABLE = next((path for name in NAMES if (path := shutil.which(name))), None)
KEYS = dict(ArrowLeft=37, ArrowUp=38, ArrowRight=39, ArrowDown=40, End=35, Home=36, Escape=27)
TIMEOUT = 60.0
# The browser reads from 3 and writes to 4; copies first, since either may be the other's.
START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in enumerate(ends, start=3):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Chromium:
    """One page, to be used in a ``with``.

    Attributes:
        complaints: What the page said of errors.
    """

    def __init__(self, profile: Path, width: int = 1300, height: int = 900) -> None:
        self.complaints: list[str] = []
        self._rest, self._id, self._session = b'', 0, None
        (to_browser, self._write), (self._read, from_browser) = os.pipe(), os.pipe()
        flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
        flags += ['--remote-debugging-pipe', f'--user-data-dir={profile}', '--no-first-run']
        self._process = subprocess.Popen(
            [
                *(sys.executable, '-c', START, str(to_browser), str(from_browser), EXECUTABLE),
                *(*flags, f'--window-size={width},{height}'),
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self) -> Chromium:
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: Any) -> dict:
        """What a method of the protocol returns."""
        self._id += 1
        message = dict(id=self._id, method=method, params=parameters)
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self._id:
                assert 'error' not in answer, answer
                return answer['result']

    def open(self, path: Path) -> None:
        """Loads a file from the disk, without a server."""
        self.call('Page.navigate', url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def __call__(self, expression: str) -> Any:
        """The value of an expression in the page."""
        options = dict(returnByValue=True, awaitPromise=True)
        found = self.call('Runtime.evaluate', expression=expression, **options)
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    def wait(self, condition: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + TIMEOUT
        while not self(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it."""
        is_text = key == 'Enter' or len(key) == 1
        code = 13 if key == 'Enter' else KEYS.get(key, ord(key[0].upper()))
        event = dict(key=key, windowsVirtualKeyCode=code)
        if is_text:
            event['text'] = '\r' if key == 'Enter' else key
        down = 'keyDown' if is_text else 'rawKeyDown'
        self.call('Input.dispatchKeyEvent', type=down, **event)
        self.call('Input.dispatchKeyEvent', type='keyUp', **event)

    def screenshot(self, path: Path) -> None:
        """What is seen, as a PNG."""
        path.write_bytes(base64.b64decode(self.call('Page.captureScreenshot')['data']))

    def _receive(self) -> dict:
        while b'\0' not in self._rest:
            ready, _, _ = select.select([self._read], [], [], TIMEOUT)
            assert ready, 'Chromium does not answer'
            data = os.read(self._read, 1 << 16)
            assert data, 'Chromium has ended'
            self._rest += data
        text, self._rest = self._rest.split(b'\0', 1)
        message = json.loads(text)
        if message.get('method') == 'Runtime.exceptionThrown':
            self.complaints.append(str(message['params']['exceptionDetails']))
        if message.get('method') == 'Log.entryAdded':
            self.complaints.append(message['params']['entry']['text'])
        return message
