"""The pipeline end to end: fake backend for the rules, real weights for the truth."""

from __future__ import annotations

import json
import shutil
import warnings

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from nimbed import Encoder, Source, SpecOverrides
from nimbed._loading.auto import choose_backend
from nimbed.errors import BackendError, ClosedError, InputError, InputTypeError, ModelNotFoundError, TruncationError


@pytest.fixture(scope="module")
def fake():
    with Encoder("any-name", backend="fake") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def int8(minilm_int8):
    with Encoder(minilm_int8) as encoder:
        yield encoder


def test_empty_list(fake):
    vectors = fake.encode([])
    assert vectors.shape == (0, 384)
    assert vectors.dtype == np.float32


def test_query_is_one_vector(int8):
    vector = int8.encode_query("What is a PEP?")
    assert vector.shape == (384,)
    np.testing.assert_allclose(vector, int8.encode(["What is a PEP?"], role="query")[0], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("lone", "put it in a list"),
        (b"bytes", "not one bytes"),
        (None, "NoneType"),
        (3, "int"),
        ({"a": 1}, "dict"),
        ((t for t in "ab"), "encode_iter"),
        (["fine", None], "item 1 is NoneType"),
        (["fine", b"x"], "item 1 is bytes"),
        ([1.5], "item 0 is float"),
        ([["nested"]], "item 0 is list"),
    ],
)
def test_what_is_no_list_of_strings(fake, texts, says):
    with pytest.raises(InputTypeError, match=says) as caught:
        fake.encode(texts)
    assert isinstance(caught.value, TypeError)


async def test_async_checks_the_same(fake):
    with pytest.raises(TypeError, match="item 1 is int"):
        await fake.aencode(["fine", 2])


def test_lone_surrogate_names_the_item(int8):
    with pytest.raises(InputError, match=r"item 1 .*surrogates"):
        int8.encode(["fine", "broken \ud800"])


def test_strange_texts_are_embedded(int8):
    texts = ["", "   \n\t", "\0", "a\0b", "🙂" * 10_000, "x " * 500_000, "é́" * 50, "\u200b"]
    with pytest.warns(UserWarning, match="have more than max_length=256"):
        vectors = int8.encode(texts)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # To the tokenizer blanks are nothing, as they are to the model.
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=20))
@settings(max_examples=50, deadline=None)
def test_order_and_neighbours_do_not_matter(texts):
    with Encoder("any-name", backend="fake") as encoder:
        together = encoder.encode(texts)
        for index, text in enumerate(texts):
            np.testing.assert_allclose(together[index], encoder.encode([text])[0], atol=1e-6)


@pytest.mark.parametrize(("precision", "cosine"), [("int8", 0.9999), ("fp32", 0.999999)])
async def test_alone_or_in_a_batch_sync_or_async(precision, cosine, request, peps):
    texts = peps[:60]
    with Encoder(request.getfixturevalue(f"minilm_{precision}"), truncate="silent") as encoder:
        alone = np.concatenate([encoder.encode([text]) for text in texts])
        together = encoder.encode(texts)
        backwards = encoder.encode(texts[::-1])[::-1]
        awaited = await encoder.aencode(texts)
        streamed = np.concatenate(list(encoder.encode_iter(iter(texts))))
    for other in (together, backwards, awaited, streamed):
        assert (alone * other).sum(1).min() >= cosine


def test_roles_use_their_prompts():
    prompts = {"query": "find: ", "document": "text: "}
    with (
        Encoder("m", backend="fake", spec=SpecOverrides(prompts=prompts)) as prompted,
        Encoder("m", backend="fake") as plain,
    ):
        np.testing.assert_array_equal(prompted.encode(["a cat"]), plain.encode(["text: a cat"]))
        np.testing.assert_array_equal(prompted.encode_query("a cat"), plain.encode_query("find: a cat"))
        assert prompted.fingerprint != plain.fingerprint
        with pytest.raises(InputError, match="role='passage'"):
            plain.encode(["x"], role="passage")


def test_truncation_policies():
    long, short = "word " * 100, "a word"
    with Encoder("m", backend="fake", max_length=32) as encoder:
        with pytest.warns(UserWarning, match=r"2 of the texts \(first: item 1\).*the longest 502"):
            encoder.encode([short, long, long])
        assert encoder.stats().truncated == 2
        assert encoder.stats().texts == 3
    with Encoder("m", backend="fake", max_length=32, truncate="error") as encoder:
        with pytest.raises(TruncationError, match="item 1"):
            encoder.encode([short, long])
        assert encoder.encode([short]).shape == (1, 384)
    with warnings.catch_warnings(), Encoder("m", backend="fake", max_length=32, truncate="silent") as encoder:
        warnings.simplefilter("error")
        encoder.encode([long])
        assert encoder.stats().truncated == 1


def test_chunk_sees_the_end_of_a_long_text(int8, minilm_int8):
    filler = "The committee met on Tuesday and discussed the budget. " * 60
    end = "Penguins live in Antarctica and eat fish."
    query = int8.encode_query("Where do penguins live?")
    with pytest.warns(UserWarning, match="cut off"):
        lost = int8.encode([filler + end, filler])
    with Encoder(minilm_int8, truncate="chunk") as chunking:
        kept = chunking.encode([filler + end, filler])
        assert chunking.fingerprint != int8.fingerprint
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, atol=1e-5)
    assert (lost[0] @ query) == pytest.approx(lost[1] @ query, abs=1e-3)
    assert (kept[0] @ query) > (kept[1] @ query) + 0.02


def test_dim_cuts_then_normalizes(int8, minilm_int8):
    with Encoder(minilm_int8, dim=128) as small:
        vectors = small.encode(["a text"])
        full = int8.encode(["a text"])[:, :128]
        np.testing.assert_allclose(vectors, full / np.linalg.norm(full), atol=1e-6)
        assert small.encode([]).shape == (0, 128)
        assert small.fingerprint != int8.fingerprint
    with pytest.raises(InputError, match="dim=385"):
        Encoder(minilm_int8, dim=385)


def test_encode_iter_is_lazy_and_bounded(fake):
    taken = 0

    def texts():
        nonlocal taken
        for number in range(5000):
            taken += 1
            yield f"text {number}"

    blocks = fake.encode_iter(texts())
    assert taken == 0
    first = next(blocks)
    assert taken <= 2 * 512
    rows = len(first) + sum(len(block) for block in blocks)
    assert rows == taken == 5000


def test_encode_iter_names_the_bad_item(fake):
    with pytest.raises(InputTypeError, match="item 3 is int"):
        list(fake.encode_iter(["a", "b", "c", 4]))
    with pytest.raises(InputTypeError, match="not one str"):
        fake.encode_iter("abc")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"backend": "tensorrt"}, "backend='tensorrt' is not one of auto, fake, ipex, native, openvino, torch"),
        ({"precision": "int4"}, "precision='int4'"),
        ({"truncate": "maybe"}, "truncate='maybe'"),
        ({"max_length": 0}, "max_length=0"),
        ({"threads": True}, "threads=True"),
        ({"max_length": 100_000}, "more than the 512 tokens"),
        ({"dim": 1000}, "dim=1000 is more than the model's 384"),
    ],
)
def test_settings_are_checked(arguments, says):
    with pytest.raises(InputError, match=says):
        Encoder("m", **{"backend": "fake", **arguments})


@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "a b c"])
def test_missing_model(model):
    with pytest.raises(ModelNotFoundError, match="neither a folder nor a hub id"):
        Encoder(model)


def test_hub_model_offline_says_how_to_fetch_it():
    with pytest.raises(ModelNotFoundError, match="hf download owner/model"):
        Encoder("owner/model", source=Source(local_files_only=True))


def test_closed():
    encoder = Encoder("m", backend="fake")
    encoder.close()
    encoder.close()
    with pytest.raises(ClosedError):
        encoder.encode(["x"])


def test_info_says_what_and_why(int8, minilm_int8):
    info = int8.info
    engine, _ = choose_backend()
    assert (info.model, info.backend, info.precision) == ("model", engine, "int8")
    assert (info.pooling, info.normalize, info.dim, info.max_length) == ("mean", True, 384, 256)
    assert info.artefact == str(minilm_int8)
    assert info.quality["min_cosine"] > 0.97
    assert {"backend", "precision", "threads", "pooling", "max_length"} <= set(info.reasons)
    assert info.backend_version.startswith(f"{engine} ")
    assert info.instruction_set


def test_fingerprint_follows_what_changes_vectors(minilm_int8, int8, tmp_path):
    import shutil

    copy = shutil.copytree(minilm_int8, tmp_path / "elsewhere")
    with Encoder(copy, threads=1, truncate="silent") as same:
        assert same.fingerprint == int8.fingerprint
    for change in ({"max_length": 64}, {"spec": SpecOverrides(prompts={"query": "q: "})}):
        with Encoder(minilm_int8, **change) as other:
            assert other.fingerprint != int8.fingerprint


def test_normalize_is_the_users_to_choose(tiny_folder, minilm_int8):
    with Encoder(tiny_folder, backend="torch") as raw:
        plain = raw.encode(["a text"])
    with Encoder(tiny_folder, backend="torch", spec=SpecOverrides(normalize=True)) as normal:
        np.testing.assert_allclose(normal.encode(["a text"]), plain / np.linalg.norm(plain), atol=1e-6)
    with pytest.raises(InputError, match="normalizes in its graph"):
        Encoder(minilm_int8, spec=SpecOverrides(normalize=False))


def test_artefact_of_another_kind_is_refused(minilm_int8):
    with pytest.raises(InputError, match="is an int8 artefact, not fp32"):
        Encoder(minilm_int8, precision="fp32")
    with pytest.raises(InputError, match=f"is an artefact for {choose_backend()[0]}, not for backend='torch'"):
        Encoder(minilm_int8, backend="torch")
    with pytest.raises(InputError, match="built with mean pooling"):
        Encoder(minilm_int8, spec=SpecOverrides(pooling="cls"))
    for backend in ("auto", choose_backend()[0]):
        with pytest.raises(InputError, match=r"built from model\.safetensors, not from"):
            Encoder(minilm_int8, backend=backend, source=Source(file="other.safetensors"))
    with Encoder(minilm_int8, source=Source(file="model.safetensors")) as named:
        assert named.info.dim == 384


def test_a_token_beyond_the_table_is_a_backend_error(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    del config["vocab_size"]  # transformers has a default, with which opening can't compare
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["zzz"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with Encoder(folder, backend="torch") as encoder, pytest.raises(BackendError, match="PyTorch failed on 1 texts"):
        encoder.encode(["zzz"])


def test_stats_count(minilm_int8):
    with Encoder(minilm_int8) as encoder:
        encoder.encode(["one two three", "four"])
        stats = encoder.stats()
    assert (stats.texts, stats.tokens, stats.truncated) == (2, 8, 0)
    assert stats.padded_tokens >= stats.tokens
    assert 0 <= stats.padding_waste < 1
    with pytest.raises(AttributeError):
        stats.texts = 0


def test_encode_iter_counts_items_over_all_blocks(fake):
    texts = ["fine"] * 600 + ["broken \ud800"]
    with pytest.raises(InputError, match="item 600"):
        list(fake.encode_iter(texts))
    with Encoder("m", backend="fake", max_length=32) as short, pytest.warns(UserWarning, match="first: item 700"):
        list(short.encode_iter(["fine"] * 700 + ["word " * 50]))


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"layer_norm_eps": 0.1}])
def test_settings_of_the_network_change_key_and_fingerprint(change, tiny_folder, tmp_path):
    import json
    import shutil

    from nimbed._loading.build import make_request
    from tests.support.model_folders import candidate_of

    other = shutil.copytree(tiny_folder, tmp_path / tiny_folder.name)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, **change}))
    keys = {make_request(candidate_of(folder), "fp32", source=Source()).target for folder in (tiny_folder, other)}
    assert len(keys) == 2
    with Encoder(tiny_folder, backend="torch") as one, Encoder(other, backend="torch") as two:
        assert one.fingerprint != two.fingerprint


def test_truncation_side_and_case_change_the_fingerprint(tiny_folder, tmp_path):
    import json
    import shutil

    other = shutil.copytree(tiny_folder, tmp_path / "left")
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**config, "truncation_side": "left"}))
    with Encoder(tiny_folder, backend="torch") as right, Encoder(other, backend="torch") as left:
        assert right.fingerprint != left.fingerprint
