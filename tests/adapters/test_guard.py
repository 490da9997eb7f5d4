from __future__ import annotations

import doctest
import importlib
import json
import stat
import uuid
from pathlib import Path

import pytest

from nimbed import Encoder, SpecOverrides
from nimbed.errors import FingerprintError, InputError, InputTypeError, NimbedError
from nimbed.guard import FILE_NAME, guard, stamp
from nimbed.langchain import NimbedEmbeddings
from nimbed.llama_index import NimbedEmbedding


def fake(**options):
    return Encoder("any-name", backend="fake", **options)


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def faiss_index(folder, passages):
    from langchain_community.vectorstores import FAISS

    embeddings = NimbedEmbeddings(model="any-name", backend="fake")
    FAISS.from_texts(passages, embeddings).save_local(str(folder))

    def search(other):
        store = FAISS.load_local(str(folder), other, allow_dangerous_deserialization=True)
        return store.similarity_search(passages[2], k=1)[0].page_content

    return embeddings, search


def llama_index(folder, passages):
    from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage

    embedding = NimbedEmbedding("any-name", backend="fake")
    index = VectorStoreIndex.from_documents([Document(text=p) for p in passages], embed_model=embedding)
    index.storage_context.persist(persist_dir=str(folder))

    def search(other):
        storage = StorageContext.from_defaults(persist_dir=str(folder))
        loaded = load_index_from_storage(storage, embed_model=other)
        return loaded.as_retriever(similarity_top_k=1).retrieve(passages[2])[0].text

    return embedding, search


@pytest.mark.filterwarnings("ignore:`langchain-community` is being sunset:DeprecationWarning")
@pytest.mark.parametrize("make", [faiss_index, llama_index])
def test_index_folders(make, tmp_path, passages):
    folder = tmp_path / "index"
    embeddings, search = make(folder, passages)
    assert guard(embeddings, folder) is True
    assert guard(embeddings, str(folder)) is False
    assert search(embeddings) == passages[2]
    with pytest.raises(FingerprintError, match="max_length is 512 there and 9 here"):
        guard(fake(max_length=9), folder)
    assert read(folder / FILE_NAME) == stamp(embeddings)


def chroma(client, name, embeddings):
    from langchain_chroma import Chroma

    return Chroma(
        client=client, collection_name=name, embedding_function=embeddings, collection_metadata=stamp(embeddings)
    )


def test_chroma_collection(passages, tmp_path):
    import chromadb
    from chromadb.config import Settings

    embeddings, name = NimbedEmbeddings(model="any-name", backend="fake", text_instruction=""), f"c{uuid.uuid4().hex}"
    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    chroma(client, name, embeddings).add_texts(passages)
    assert guard(embeddings, client.get_collection(name).metadata) is False
    assert client.get_collection(name).metadata == stamp(embeddings)
    # Asking for the collection with other metadata does not change what it has.
    other = NimbedEmbeddings(model="any-name", backend="fake", text_instruction="p: ")
    store = chroma(client, name, other)
    with pytest.raises(FingerprintError, match='prompt_document is "" there and "p: " here'):
        guard(other, client.get_collection(name).metadata)
    collection = client.get_collection(name)
    metadata = dict(collection.metadata)
    assert guard(other, metadata, compatible=True) is True
    collection.modify(metadata=metadata)
    assert guard(other, client.get_collection(name).metadata) is False
    assert store.similarity_search(passages[2], k=1)[0].page_content == passages[2]


def test_chroma_collection_without_metadata():
    import chromadb
    from chromadb.config import Settings

    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    collection = client.create_collection(f"c{uuid.uuid4().hex}")
    with pytest.raises(InputTypeError, match=r"not NoneType.*stamp\(embeddings\)"):
        guard(fake(), collection.metadata)


def test_all_that_embed_are_one(tmp_path):
    adapters = [NimbedEmbeddings(model="any-name", backend="fake"), NimbedEmbedding("any-name", backend="fake")]
    assert guard(fake(), tmp_path) is True
    assert [guard(each, tmp_path) for each in adapters] == [False, False]
    assert stamp(adapters[0]) == stamp(adapters[1]) == stamp(fake())


def test_stamp_is_flat_and_says_what_the_vectors_are():
    said = stamp(fake(dim=8, max_length=9, spec=SpecOverrides(prompts={"query": "query: "})))
    assert {type(value) for value in said.values()} <= {str, int, bool}
    assert all(key.startswith("nimbed_") for key in said)
    assert said["nimbed_fingerprint"]
    wanted = {"model": "any-name", "backend": "fake", "precision": "fp32", "pooling": "mean", "normalize": True}
    wanted |= {"dim": 8, "max_length": 9, "windows": False, "prompt_query": "query: "}
    assert {name: said[f"nimbed_{name}"] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dim": 8}, "dim is 384 there and 8 here"),
        ({"max_length": 9}, "max_length is 512 there and 9 here"),
        ({"truncate": "chunk"}, "windows is False there and True here"),
        ({"spec": SpecOverrides(prompts={"query": "q: "})}, 'prompt_query is not set there and "q: " here'),
        ({"dim": 8, "max_length": 9}, "dim is 384 there and 8 here; max_length is 512 there and 9 here"),
    ],
)
def test_other_options_are_refused(options, reason, tmp_path):
    metadata = {"title": "mine"}
    old, other = fake(), fake(**options)
    for index in (metadata, tmp_path):
        guard(old, index)
        with pytest.raises(FingerprintError) as caught:
            guard(other, index)
        said = str(caught.value)
        assert reason in said
        assert old.fingerprint in said
        assert other.fingerprint in said
        assert "compatible=True" in said
        assert guard(old, index) is False
    assert str(tmp_path / FILE_NAME) in said
    assert metadata == {"title": "mine", **stamp(old)}


def test_options_that_change_no_vector_pass(tmp_path):
    guard(fake(), tmp_path)
    for options in ({"truncate": "silent"}, {"truncate": "error"}, {"threads": 1}, {"cache": None}):
        assert guard(fake(**options), tmp_path) is False


def test_another_precision_is_refused(in_process, tiny_onnx, tmp_path):
    int8, fp32 = (Encoder(tiny_onnx, precision=p) for p in ("int8", "fp32"))
    guard(int8, tmp_path)
    with pytest.raises(FingerprintError, match='precision is "int8" there and "fp32" here'):
        guard(fp32, tmp_path)
    assert guard(fp32, tmp_path, compatible=True) is True
    assert guard(fp32, tmp_path) is False


def test_files_that_no_setting_tells_apart(tmp_path):
    metadata = {**stamp(fake()), "nimbed_fingerprint": "0" * 32}
    with pytest.raises(FingerprintError, match="no setting differs, so the model's files"):
        guard(fake(), metadata)


def refusal(**there):
    """What is said of an index whose stamp has these facts in place of ours; None is a fact that it lacks."""
    values = {**stamp(fake()), "nimbed_fingerprint": "0" * 32, **{f"nimbed_{n}": v for n, v in there.items()}}
    with pytest.raises(FingerprintError) as caught:
        guard(fake(), {name: value for name, value in values.items() if value is not None})
    return str(caught.value)


def test_another_engine_is_not_another_model():
    version = fake().info.backend_version
    said = refusal(backend_version="0", digest="that of an older recipe")
    assert f"the engine changed (fake 0 -> {version})" in said
    assert "differ by their rounding: accept them with guard(..., compatible=True)" in said
    assert "another" not in said
    assert "differ in their last bits" in refusal(backend_version="0")
    assert "differ in their last bits" in refusal(instruction_set="another")


def test_a_stamp_of_before_there_were_digests_says_what_it_knows():
    said = refusal(backend_version="0", weights=None, digest=None)
    assert "the engine changed (fake 0 -> " in said
    assert "differ by their rounding" in said
    assert "digest" not in said
    assert "not set" not in said
    assert "no setting differs" in refusal(weights=None, digest=None)


@pytest.mark.parametrize(
    ("there", "part"),
    [
        ({"weights": "others"}, "another model, or other weights of it"),
        ({"model": "b", "weights": None, "digest": None}, 'another model, or other weights of it; model is "b" there'),
        ({"precision": "int8", "digest": "x"}, 'another precision; precision is "int8" there and "fp32" here'),
        ({"prompt_query": "q: "}, 'another prompt; prompt_query is "q: " there and not set here'),
        ({"backend_version": "0", "weights": "others"}, "another model, or other weights of it; the engine changed"),
        ({"digest": "x"}, "the artefact was built again, from the same weights"),
    ],
)
def test_what_changed_is_said_first(there, part):
    said = refusal(**there)
    assert part in said
    assert "Open the model with the settings of the index" in said


def test_the_same_weights_by_another_name_are_the_same_model():
    said = refusal(model="a copy", backend_version="0")
    assert "another model" not in said
    assert "a copy" not in said


def test_the_users_word_is_kept(tmp_path):
    first, second, third, fourth = (fake(dim=dim) for dim in (8, 9, 10, 11))
    guard(first, tmp_path)
    assert [guard(e, tmp_path, compatible=True) for e in (first, second, second, third)] == [False, True, False, True]
    assert [guard(e, tmp_path) for e in (first, second, third)] == [False] * 3
    with pytest.raises(FingerprintError, match="dim is 8 there and 11 here"):
        guard(fourth, tmp_path)
    accepted = f"{second.fingerprint},{third.fingerprint}"
    assert read(tmp_path / FILE_NAME) == {**stamp(first), "nimbed_accepted": accepted}


def test_the_first_use_is_stamped_also_with_the_users_word():
    metadata = {}
    assert guard(fake(), metadata, compatible=True) is True
    assert metadata == stamp(fake())


def test_files_as_indexes(tmp_path):
    own, index = tmp_path / "stamp.json", tmp_path / "vectors.faiss"
    index.write_bytes(b"vectors")
    for path, file in ((own, own), (index, tmp_path / f"vectors.faiss.{FILE_NAME}")):
        assert guard(fake(), path) is True
        assert read(file) == stamp(fake())
        assert guard(fake(), path) is False
        with pytest.raises(FingerprintError):
            guard(fake(dim=8), path)
    assert index.read_bytes() == b"vectors"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stamp.json", "vectors.faiss", f"vectors.faiss.{FILE_NAME}"]


@pytest.mark.parametrize("path", ["missing", "missing/index.faiss", "missing/stamp.json"])
def test_a_path_that_is_not_there_is_not_made(path, tmp_path):
    with pytest.raises(InputError, match=r"no such index; save the index first"):
        guard(fake(), tmp_path / path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b'{"nimbed_fingerprint": "ab', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a JSON object is wanted, not list"),
        (b"{}", "nimbed_fingerprint is missing"),
        (b'{"title": "an index of another kind"}', "nimbed_fingerprint is missing"),
        (b'{"nimbed_dim": 8}', "nimbed_fingerprint is missing"),
        (b'{"nimbed_fingerprint": 5}', "not a fingerprint"),
        (b'{"nimbed_fingerprint": ""}', "not a fingerprint"),
    ],
)
@pytest.mark.parametrize("compatible", [False, True])
def test_damaged_stamps(content, reason, compatible, tmp_path):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(FingerprintError, match=f"{FILE_NAME} is damaged.*{reason}.*[Rr]estore it"):
        guard(fake(), tmp_path, compatible=compatible)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_damaged_metadata():
    with pytest.raises(FingerprintError, match=r"metadata is damaged.*missing"):
        guard(fake(), {"nimbed_dim": 8})


def test_other_keys_of_a_stamp_stay(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps({**stamp(fake()), "note": "é"}))
    guard(fake(dim=8), tmp_path, compatible=True)
    assert read(tmp_path / FILE_NAME)["note"] == "é"


def test_a_write_that_fails_leaves_the_old_stamp(tmp_path, monkeypatch):
    guard(fake(), tmp_path)

    def fail(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        guard(fake(dim=8), tmp_path, compatible=True)
    assert read(tmp_path / FILE_NAME) == stamp(fake())
    assert [p.name for p in tmp_path.iterdir()] == [FILE_NAME]


def test_a_stamp_that_cannot_be_read(tmp_path):
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(InputError, match=r"cannot be read .*cannot be checked"):
        guard(fake(), tmp_path)


def test_a_stamp_may_be_read_by_those_who_read_the_index(tmp_path):
    guard(fake(), tmp_path)
    (tmp_path / "beside").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (FILE_NAME, "beside")}
    assert len(modes) == 1


@pytest.mark.parametrize("embeddings", [None, "any-name", object()])
def test_what_does_not_embed_is_refused(embeddings, tmp_path):
    with pytest.raises(InputTypeError, match="embeddings must be an Encoder"):
        guard(embeddings, tmp_path)
    with pytest.raises(InputTypeError, match="embeddings must be an Encoder"):
        stamp(embeddings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("index", [None, 5, b"index", ("nimbed_dim", 8)])
def test_what_is_no_index_is_refused(index):
    with pytest.raises(InputTypeError, match="index must be a path or a mapping"):
        guard(fake(), index)


def test_error_is_a_value_error():
    assert issubclass(FingerprintError, NimbedError)
    assert issubclass(FingerprintError, ValueError)


def test_docstring_examples():
    result = doctest.testmod(importlib.import_module("nimbed.guard"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0
