"""Smaller numbers: the same as sentence-transformers', ranges of cut vectors, what is refused, and retrieval."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sentence_transformers.util.quantization import quantize_embeddings

from nimbed import Encoder, SpecOverrides, quantize
from nimbed._dtypes import check_dtype, convert, load_ranges, ranges_of_cut, save_ranges
from nimbed._serving.postprocess import cut_to
from nimbed._vectors import l2_normalized
from nimbed.errors import ArtefactError, InputError

TEXTS = ["one", "two words", "a somewhat longer text, with punctuation!"]
VECTORS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 6), st.sampled_from([8, 16, 24])),
    elements=st.floats(-4, 4, width=32),
)


@pytest.fixture(scope="module")
def encoder(minilm_int8):
    with Encoder(minilm_int8, truncate="silent") as opened:
        yield opened


@given(VECTORS)
def test_int8_and_bits_are_those_of_sentence_transformers(vectors):
    ranges = np.stack([vectors[:-1].min(0), vectors[:-1].max(0)])
    width = ranges[1] - ranges[0]
    assume(((width == 0) | (width > 1e-30)).all())  # sentence-transformers divides by what is narrower
    ours = convert(vectors, "int8", ranges)
    assert ours.dtype == np.int8
    np.testing.assert_array_equal(ours, quantize_embeddings(vectors, "int8", ranges=ranges))
    bits = convert(vectors, "ubinary", None)
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, quantize_embeddings(vectors, "ubinary"))


@given(VECTORS)
def test_a_step_is_the_most_that_int8_loses_within_the_ranges(vectors):
    least, most = vectors.min(0), vectors.max(0)
    step = np.where(most == least, 0, (most - least) / 255)
    back = (convert(vectors, "int8", np.stack([least, most])).astype(np.float32) + 128) * step + least
    assert (np.abs(back - vectors) <= 1.01 * step + 1e-5).all()


@given(VECTORS, st.floats(1, 100))
def test_what_lies_beyond_the_ranges_is_clipped(vectors, beyond):
    ranges = np.stack([np.full(vectors.shape[1], -1, np.float32), np.ones(vectors.shape[1], np.float32)])
    far = np.sign(vectors) * np.float32(1 + beyond)
    codes = convert(far, "int8", ranges)
    np.testing.assert_array_equal(codes[far > 0], 127)
    np.testing.assert_array_equal(codes[far < 0], -128)


@given(VECTORS, st.integers(1, 24))
def test_no_calibration_vector_is_clipped_at_any_width(tmp_path_factory, vectors, dim):
    folder = tmp_path_factory.getbasetemp()
    unit = l2_normalized(vectors + np.float32(0.01))
    save_ranges(folder, unit)
    dim = min(dim, unit.shape[1])
    cut = cut_to(dim, unit, normalize=True)
    least, most = ranges_of_cut(load_ranges(folder, unit.shape[1]), dim, normalize=True)
    assert (cut >= least - 1e-5).all()
    assert (cut <= most + 1e-5).all()
    raw = ranges_of_cut(load_ranges(folder, unit.shape[1]), dim, normalize=False)
    np.testing.assert_array_equal(raw, [unit[:, :dim].min(0), unit[:, :dim].max(0)])


def test_shapes_and_types_of_every_call(encoder):
    kinds = {
        "float32": (np.float32, 384),
        "float16": (np.float16, 384),
        "int8": (np.int8, 384),
        "ubinary": (np.uint8, 48),
    }
    for dtype, (kind, width) in kinds.items():
        full = encoder.encode(TEXTS, dtype=dtype)
        assert (full.dtype, full.shape) == (kind, (3, width))
        np.testing.assert_array_equal(full, asyncio.run(encoder.aencode(TEXTS, dtype=dtype)))
        np.testing.assert_array_equal(full, np.concatenate(list(encoder.encode_iter(iter(TEXTS), dtype=dtype))))
        query = encoder.encode_query(TEXTS[1], dtype=dtype)
        assert (query.dtype, query.shape) == (kind, (width,))
        np.testing.assert_array_equal(query, full[1])
        assert encoder.encode([], dtype=dtype).shape == (0, width)
        assert encoder.encode([], dtype=dtype).dtype == kind


def test_the_cache_keeps_float32(minilm_int8):
    with Encoder(minilm_int8) as opened:
        before = opened.fingerprint
        opened.encode(TEXTS, dtype="int8")
        exact = opened.encode(TEXTS)
        assert exact.dtype == np.float32
        assert opened.stats().cache.hits == len(TEXTS)
        assert opened.fingerprint == before
        np.testing.assert_array_equal(opened.encode(TEXTS, dtype="float16"), exact.astype(np.float16))


def nearest(queries, documents):
    return np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]


def recall(found, wanted):
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(wanted, found, strict=True)])


@pytest.mark.parametrize("dim", [384, 128])
def test_retrieval_survives(minilm_int8, minilm_folder, peps, dim):
    texts = [peps[i] for i in np.random.default_rng(1).permutation(len(peps))[:260]]
    documents, queries = texts[:220], [text[: len(text) // 2] for text in texts[220:]]

    with Encoder(minilm_int8, truncate="silent", dim=dim) as opened:

        def found(dtype):
            rows = [opened.encode(t, role=r, dtype=dtype) for t, r in ((queries, "query"), (documents, "document"))]
            if dtype == "ubinary":
                rows = [np.unpackbits(r, axis=1).astype(np.float32) * 2 - 1 for r in rows]
            if dtype == "int8":
                least, most = opened._runtime.engine.ranges
                rows = [(r.astype(np.float32) + 128.5) * (most - least) / 255 + least for r in rows]
            return nearest(*(r.astype(np.float32) for r in rows))

        top = {dtype: found(dtype) for dtype in ("float32", "float16", "int8", "ubinary")}
        codes = opened.encode(texts, dtype="int8")
    with Encoder(minilm_folder, backend="torch", precision="fp32", truncate="silent", dim=dim) as oracle:
        exact = [oracle.encode(t, role=r) for t, r in ((queries, "query"), (documents, "document"))]
    # Of 128 bits half of the ten nearest are others, with vectors in fp32 too: int8 may lose little more.
    of_bits = recall(nearest(*(np.where(rows > 0, 1, -1) for rows in exact)), nearest(*exact))

    assert recall(top["float16"], top["float32"]) >= 0.99
    assert recall(top["int8"], top["float32"]) >= 0.95
    assert recall(top["ubinary"], top["float32"]) >= of_bits - 0.05
    # Ranges that fit: most codes are within, and they use the eight bits.
    assert np.mean((codes == -128) | (codes == 127)) < 0.02
    assert codes.std(axis=0).mean() > 25


def test_what_cannot_be_is_refused_before_anything_is_computed(minilm_folder, minilm_int8, minilm_fp32):
    with Encoder("any-name", backend="fake", dim=12) as fake:
        with pytest.raises(InputError, match="12 is no multiple of 8"):
            fake.encode(["a"], dtype="ubinary")
        with pytest.raises(InputError, match="dtype='int4' is not one of float32, float16, int8, ubinary"):
            fake.encode_iter(iter(["a"]), dtype="int4").__next__()
        with pytest.raises(InputError, match="quantize"):
            asyncio.run(fake.aencode(["a"], dtype="int8"))
        assert fake.stats().texts == 0
    for settings in ({"model": minilm_fp32}, {"model": minilm_folder, "backend": "torch"}):
        with Encoder(**settings) as opened, pytest.raises(InputError, match="calibration=texts"):
            opened.encode_query("a", dtype="int8")


def test_an_fp32_artefact_that_was_given_texts_has_ranges(tiny_folder, in_process, tmp_path):
    artefact = quantize(tiny_folder, tmp_path / "out", precision="fp32", calibration=TEXTS, progress=False)
    assert artefact.manifest.calibration["count"] == len(TEXTS)
    assert "ranges.npy" in artefact.manifest.files
    with Encoder(artefact) as opened:
        exact, codes = opened.encode(TEXTS), opened.encode(TEXTS, dtype="int8")
    ranges = load_ranges(artefact.folder, exact.shape[1])[:2]
    np.testing.assert_array_equal(codes, quantize_embeddings(exact, "int8", ranges=ranges))
    # Its graph does not normalize, and the ranges are those of its own vectors.
    with Encoder(artefact, spec=SpecOverrides(normalize=True)) as later, pytest.raises(InputError, match="range"):
        later.encode(TEXTS, dtype="int8")


def test_check_dtype_lets_pass_what_can_be():
    for dtype in ("float32", "float16", "ubinary"):
        check_dtype(dtype, 16, None)
    check_dtype("int8", 12, np.zeros((2, 12), np.float32))


GOOD = np.zeros((3, 8), np.float32)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"no array", GOOD[:2], GOOD[:, :7], GOOD.astype(np.float64), np.float32(1),
     np.full((3, 8), np.nan, np.float32), np.array(["a"]), np.full((3, 8), None)],
)  # fmt: skip
def test_ranges_that_are_none_are_refused_by_name(tmp_path, content):
    if isinstance(content, bytes):
        (tmp_path / "ranges.npy").write_bytes(content)
    else:
        np.save(tmp_path / "ranges.npy", content, allow_pickle=True)
    with pytest.raises(ArtefactError, match=r"ranges\.npy.*copy or build the artefact again"):
        load_ranges(tmp_path, 8)


def test_a_header_that_asks_for_more_than_there_is(tmp_path):
    np.save(tmp_path / "ranges.npy", GOOD)
    content = (tmp_path / "ranges.npy").read_bytes()
    for shape in (b"(99999999, 999999999), ", b"(" * 40, b"(3, 8), 'a': 1"):
        (tmp_path / "ranges.npy").write_bytes(content.replace(b"(3, 8), ", shape))
        with pytest.raises(ArtefactError, match=r"ranges\.npy"):
            load_ranges(tmp_path, 8)
