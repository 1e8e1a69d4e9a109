"""Loads at once in the first process; each later one waits until the file `release` in the folder START exists."""

import os
import time

from tests.apps.busy import app

folder = os.environ["START"]
try:
    os.close(os.open(os.path.join(folder, "started"), os.O_CREAT | os.O_EXCL))
except FileExistsError:
    deadline = time.monotonic() + 30
    while not os.path.exists(os.path.join(folder, "release")) and time.monotonic() < deadline:
        time.sleep(0.005)
