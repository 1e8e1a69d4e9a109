"""Waits while it is imported, for nothing."""

import time


def wait_for_nobody():
    time.sleep(60)


wait_for_nobody()
