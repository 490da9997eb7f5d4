"""``.npy`` files."""

from __future__ import annotations

import numpy as np
import pytest

from nimbed.bulk.layout import Block, Layout
from nimbed.bulk.npy_format import NpyFormat
from nimbed.errors import InputError

FORM, LAYOUT = NpyFormat(), Layout(width=2, dtype="float16")


def test_parts_are_joined(tmp_path):
    values = np.arange(6, dtype=np.float16).reshape(3, 2)
    for name, some in (("a", values[:1]), ("b", values[1:])):
        part = FORM.open_part(tmp_path / name, LAYOUT)
        part.write(Block([], [], some))
        part.close()
    FORM.join([tmp_path / "a", tmp_path / "b"], tmp_path / "out.npy", LAYOUT)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), values)
    np.testing.assert_array_equal(FORM.read_output(tmp_path / "out.npy", LAYOUT), values)
    with pytest.raises(InputError, match=r"holds float16 \(3, 2\), not float32"):
        FORM.read_output(tmp_path / "out.npy", Layout(width=2))
    (tmp_path / "out.npy").write_bytes(b"no such file")
    with pytest.raises(InputError, match="cannot be read"):
        FORM.read_output(tmp_path / "out.npy", LAYOUT)


@pytest.mark.parametrize("more", [{"own_ids": True}, {"with_text": True}])
def test_it_holds_vectors_alone(more):
    with pytest.raises(InputError, match="vectors alone"):
        FORM.check(Layout(width=2, **more))
