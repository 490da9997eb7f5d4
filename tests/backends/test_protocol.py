"""Every engine has what the protocol says, with the same parameters; what is opened cannot be changed by a user."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from nimbed.backends import fake, native, openvino, torch
from nimbed.backends.fake import SPEC
from nimbed.backends.protocol import Backend, OpenRequest, Session

BACKENDS = [fake.FakeBackend, native.NativeBackend, openvino.OpenVinoBackend, torch.TorchBackend]
SESSIONS = [fake.FakeSession, native.NativeSession, openvino.OpenVinoSession, torch.TorchSession]


def members(protocol) -> dict[str, object]:
    return {name: member for name, member in vars(protocol).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("protocol", "made"),
    [*((Backend, backend) for backend in BACKENDS), *((Session, session) for session in SESSIONS)],
    ids=lambda kind: kind.__name__,
)
def test_methods_take_what_the_protocol_says(protocol, made):
    for name, member in members(protocol).items():
        if inspect.isfunction(member):
            theirs = inspect.signature(getattr(made, name), eval_str=False)
            assert list(theirs.parameters) == list(inspect.signature(member).parameters), name


@pytest.mark.parametrize("session", SESSIONS, ids=lambda kind: kind.__name__)
def test_sessions_say_whether_any_thread_may_use_them(session):
    assert isinstance(session.any_thread, bool)


def test_a_request_is_fixed():
    request = OpenRequest(folder=Path(), spec=SPEC, precision="fp32", threads=1)
    assert (request.tuning, request.code, request.network) == (None, None, None)
    with pytest.raises(FrozenInstanceError):
        request.threads = 2
