"""What is the native engine's own, beside the contract: what it opens, and whose errors come out."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.support.building import build_here

from nimbed._loading.artefact import open_artefact
from nimbed._model_folder.safetensors import read_tensors, write_tensors
from nimbed._types import TokenBatch
from nimbed.backends import native, open_backend
from nimbed.backends.large_pages import in_large_pages
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.table import ENCODER_FILE
from nimbed.errors import BackendError, OutOfMemoryError

pytestmark = pytest.mark.usefixtures("native")
BATCH = TokenBatch.from_sequences([np.array([101, 7, 102], np.int32), np.array([101, 102], np.int32)])


@pytest.fixture(scope="module")
def artefact(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("native") / "out"
    return build_here(tiny_folder, out, backend="native", force=True).folder


@pytest.fixture
def request_for(artefact):
    spec = open_artefact(artefact).manifest.spec
    return lambda folder, **changes: replace(
        OpenRequest(folder=folder, spec=spec, precision="int8", threads=2), **changes
    )


def test_fp32_is_read_from_the_model_folder(tiny_folder, artefact, request_for):
    backend = open_backend("native", request_for(tiny_folder, precision="fp32"))
    assert backend.version == open_backend("native", request_for(artefact)).version
    exact = backend.session().run(BATCH)
    expected = open_backend("torch", request_for(tiny_folder, precision="fp32")).session().run(BATCH)
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    for other in (backend.session(), *backend.bulk().sessions):
        np.testing.assert_array_equal(other.run(BATCH), exact)


@pytest.mark.parametrize("there", [True, False])
def test_large_weights_are_copied_where_that_is_of_use(there, artefact, request_for, monkeypatch):
    expected = open_backend("native", request_for(artefact)).session().run(BATCH)
    copied = []
    monkeypatch.setattr(native, "_LARGE_WEIGHTS", 1000)
    monkeypatch.setattr(native, "offered", lambda: there)
    monkeypatch.setattr(native, "in_large_pages", lambda arrays: copied.append(arrays) or in_large_pages(arrays))
    np.testing.assert_array_equal(open_backend("native", request_for(artefact)).session().run(BATCH), expected)
    assert len(copied) == there
    for arrays in copied:
        assert "layers.0.up.weights" in arrays
        assert not {"words", "positions", "types"} & set(arrays)


def test_any_length_and_any_number_of_rows(artefact, request_for):
    backend = open_backend("native", request_for(artefact))
    assert backend.shapes.lengths == ()
    assert backend.shapes.token_budget == 2 * backend.bulk().shapes.token_budget
    assert "kernels" in backend.reasons["arithmetic"]
    one, bulk = backend.session(), backend.bulk().sessions[0]
    np.testing.assert_array_equal(one.run(BATCH), bulk.run(BATCH))
    np.testing.assert_array_equal(one.run(BATCH), backend.session().run(BATCH))


def damaged(artefact, folder, change):
    """A copy of the artefact whose settings or arrays are changed."""
    shutil.copytree(artefact, folder)
    arrays, metadata = read_tensors(artefact / ENCODER_FILE)
    arrays, metadata = {name: np.array(values) for name, values in arrays.items()}, dict(metadata)
    change(arrays, metadata)
    write_tensors(folder / ENCODER_FILE, arrays, metadata)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda _, metadata: metadata.clear(),
        lambda _, metadata: metadata.update(nimbed="[]"),
        lambda _, metadata: metadata.update(nimbed="{}"),
        lambda arrays, _: arrays.pop("words"),
        lambda arrays, _: arrays.update(words=arrays["words"][:-64].copy()),
    ],
    ids=["no settings", "settings no object", "settings empty", "an array missing", "an array too short"],
)
def test_a_file_that_does_not_fit_is_refused(change, artefact, request_for, tmp_path):
    folder = damaged(artefact, tmp_path / "damaged", change)
    with pytest.raises(BackendError, match=r"cannot open .*encoder\.safetensors: .*build the artefact again"):
        open_backend("native", request_for(folder))


def test_a_file_that_is_missing_is_named(request_for, tmp_path):
    with pytest.raises(BackendError, match=r"encoder\.safetensors"):
        open_backend("native", request_for(tmp_path))


def test_memory_that_cannot_be_had_is_an_error_of_its_own(artefact, request_for, monkeypatch):
    from nimbed.backends import native

    def lacking(path):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(native, "read_tensors", lacking)
    with pytest.raises(OutOfMemoryError, match="no memory to open"):
        open_backend("native", request_for(artefact))


@pytest.mark.parametrize(
    ("raised", "error"), [(MemoryError(), OutOfMemoryError), (ValueError("id 9 of 8"), BackendError)]
)
def test_errors_of_a_run_come_out_as_nimbeds(raised, error):
    from nimbed.backends.native import NativeSession

    class Failing:
        def run(self, ids, offsets, type_ids):
            raise raised

    with pytest.raises(error, match="2 texts") as caught:
        NativeSession({"document": Failing()}).run(BATCH)
    assert type(caught.value) is error


def test_a_token_without_a_row_is_refused(artefact, request_for):
    session = open_backend("native", request_for(artefact)).session()
    with pytest.raises(BackendError, match="refused 1 texts"):
        session.run(TokenBatch.from_sequences([np.array([10**6], np.int32)]))


def test_a_large_table_of_words_stays_in_its_file(artefact, monkeypatch):
    from nimbed.backends import native

    arrays = read_tensors(artefact / ENCODER_FILE)[0]
    size = arrays["words"].nbytes
    monkeypatch.setattr(native, "_LARGE_TABLE", size)
    assert native._stays_mapped(arrays)
    assert not native._stays_mapped({"words": arrays["words"].copy()})
    assert not native._stays_mapped({})
    monkeypatch.setattr(native, "_LARGE_TABLE", size + 1)
    assert not native._stays_mapped(arrays)
