"""A call on another thread, and what reaches this one meanwhile."""

from __future__ import annotations

import signal
import threading

import pytest

from nimbed.quantization.native.apart import apart


def test_what_it_returns_and_raises_is_its_own():
    assert apart(lambda: (threading.current_thread() is threading.main_thread(), 3)) == (False, 3)
    with pytest.raises(KeyError, match="said"):
        apart(lambda: {}["said"])


def test_a_signal_is_heard_while_it_computes():
    going_on = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def compute():
        signal.raise_signal(signal.SIGINT)  # whatever thread it comes to
        return going_on.wait(60)

    try:
        with pytest.raises(KeyboardInterrupt):
            apart(compute)
    finally:
        going_on.set()
        signal.signal(signal.SIGINT, before)
