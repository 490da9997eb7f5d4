"""What is IPEX's own, beside the contract; most of it runs in the environment of ``make test-ipex`` alone."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import shared_data

from nimbed import Encoder, Source, quantize
from nimbed._loading.artefact import file_records, open_artefact
from nimbed._loading.manifest import Manifest, SourceRecord, write_manifest
from nimbed.backends.table import SCRIPT
from nimbed.cli import main
from nimbed.errors import BackendError, InputError, MissingExtraError
from nimbed.spec import read_spec

TEXTS = ["A cat sat on the mat.", "Prices rose in May, and fell in June.", "Where is the cat?", "模式匹配"]


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture
def without_ipex(monkeypatch):
    monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", None)
    monkeypatch.delitem(sys.modules, "nimbed.backends.ipex", raising=False)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory, minilm_folder):
    """A folder as the Intel/*-int8-static models are: TorchScript under the name of pickled weights."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(30522, 384)

        def forward(self, input_ids, attention_mask, token_type_ids):
            return {"last_hidden_state": self.table(input_ids) * attention_mask[..., None] + token_type_ids[..., None]}

    folder = tmp_path_factory.mktemp("ipex") / "some-model-rag-int8-static"
    shutil.copytree(minilm_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "onnx", "openvino"))
    torch.manual_seed(0)
    example = torch.ones(1, 4, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # later releases of torch: TorchScript ends too
        network = torch.jit.trace(Network().eval(), (example, example, example), strict=False)
        network.save(str(folder / "pytorch_model.bin"))
    (folder / "inc_config.json").write_text(json.dumps({"quantization": {"is_static": True}}))
    return folder


@pytest.fixture
def foreign(tmp_path, minilm_folder):
    """An artefact that is whole, and that nimbed did not write: its maker wrote the manifest too."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    shutil.copyfile(minilm_folder / "tokenizer.json", folder / "tokenizer.json")
    (folder / SCRIPT).write_bytes(b"code of somebody's")
    manifest = Manifest(
        engine="ipex",
        precision="int8",
        source=SourceRecord(id="some/model", revision=None, file="model.safetensors", sha256=""),
        spec=read_spec(minilm_folder),
        key="",
        files=file_records(folder),
    )
    write_manifest(folder, manifest)
    open_artefact(folder)
    return folder


# Wherever the tests run


def test_without_ipex_the_message_says_what_happened_to_it(without_ipex, minilm_folder):
    with pytest.raises(
        MissingExtraError, match=r"upstream has ended .*security.*OpenVINO.*make ipex-env.*nimbed\[ipex\]"
    ):
        Encoder(minilm_folder, backend="ipex", precision="fp32")


def test_a_machine_that_ipex_refuses(without_ipex, minilm_folder, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "intel_extension_for_pytorch")
    (tmp_path / "intel_extension_for_pytorch.py").write_text("import sys; sys.exit('only with AVX2')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match=r"IPEX cannot be imported .* only with AVX2"):
        Encoder(minilm_folder, backend="ipex", precision="fp32")


def test_a_build_without_ipex_says_so_too(minilm_folder, tmp_path):
    import importlib.util

    if importlib.util.find_spec("intel_extension_for_pytorch") is not None:
        pytest.skip("IPEX is installed here")
    with pytest.raises(ImportError, match="upstream has ended"):
        quantize(minilm_folder, tmp_path / "out", backend="ipex", progress=False)
    assert not (tmp_path / "out").exists()


def test_doctor_says_what_happened_to_ipex(capsys):
    assert main(["doctor"]) == 0
    assert "upstream has ended Intel Extension for PyTorch" in capsys.readouterr().out


def test_a_foreign_artefact_needs_permission(foreign, without_ipex):
    with pytest.raises(InputError, match=r"model\.pt is TorchScript, which is code.*Source\(allow_code=True\)"):
        Encoder(foreign, backend="ipex")
    with pytest.raises(MissingExtraError):  # it got as far as the engine
        Encoder(foreign, backend="ipex", source=Source(allow_code=True))


def test_a_torchscript_folder_needs_permission(scripted, without_ipex, capsys, tmp_path):
    with pytest.raises(InputError, match=r"pytorch_model\.bin is TorchScript, which is code"):
        Encoder(scripted, backend="ipex")
    (tmp_path / "in.txt").write_text("a text\n")
    command = [
        "embed",
        str(tmp_path / "in.txt"),
        "-o",
        str(tmp_path / "out.npy"),
        "-m",
        str(scripted),
        "--backend",
        "ipex",
    ]
    assert main(command) == 1
    assert "--allow-code" in capsys.readouterr().err
    assert main([*command, "--allow-code"]) == 1
    assert "upstream has ended" in capsys.readouterr().err
    with pytest.raises(InputError, match="int8 TorchScript"):
        Encoder(scripted, backend="ipex", precision="fp32", source=Source(allow_code=True))


def test_a_permission_is_not_kept_in_a_file():
    from nimbed.llama_index import NimbedEmbedding

    embedding = NimbedEmbedding("any", backend="fake", allow_code=True)
    assert embedding.allow_code
    assert not NimbedEmbedding.from_dict(embedding.to_dict()).allow_code


def test_only_int8_is_built_for_ipex(minilm_folder):
    with pytest.raises(InputError, match="needs no artefact"):
        quantize(minilm_folder, backend="ipex", precision="fp32")
    with pytest.raises(InputError, match="has no artefacts"):
        quantize(minilm_folder, backend="torch")


# In the environment of IPEX


def test_fp32_agrees_with_torch(ipex, minilm_folder, peps):
    texts = [*TEXTS, *peps[:200:8]]
    with Encoder(minilm_folder, backend="torch", precision="fp32", truncate="silent") as oracle:
        expected = oracle.encode(texts)
    with Encoder(minilm_folder, backend="ipex", precision="fp32", truncate="silent") as encoder:
        assert cosines(encoder.encode(texts), expected).min() >= 0.99999


def test_int8_is_near_fp32_and_found_by_its_model(minilm_ipex_int8, minilm_folder, peps):
    with Encoder(minilm_folder, backend="ipex", precision="fp32", truncate="silent") as encoder:
        expected = encoder.encode(peps[:200:8])
    with Encoder(minilm_folder, backend="ipex", precision="int8", truncate="silent") as encoder:
        assert Path(encoder.info.artefact) == minilm_ipex_int8
        assert encoder.info.quality["mean_cosine"] >= 0.998
        assert cosines(encoder.encode(peps[:200:8]), expected).mean() >= 0.998
        assert encoder.encode(TEXTS, dtype="int8").dtype == np.int8


def test_a_copy_of_an_artefact_is_still_ours(minilm_ipex_int8, tmp_path):
    copy = shutil.copytree(minilm_ipex_int8, tmp_path / "copy")
    with Encoder(copy, backend="ipex") as encoder, Encoder(minilm_ipex_int8, backend="ipex") as first:
        assert encoder.fingerprint == first.fingerprint


def test_an_artefact_of_another_machine_needs_permission(minilm_ipex_int8, tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "another home"))
    with pytest.raises(InputError, match="allow_code=True"):
        Encoder(minilm_ipex_int8, backend="ipex")
    with Encoder(minilm_ipex_int8, backend="ipex", source=Source(allow_code=True)) as encoder:
        assert encoder.encode(TEXTS).shape == (4, 384)


def test_a_torchscript_folder_runs_when_it_is_allowed(ipex, scripted):
    with Encoder(scripted, backend="ipex", source=Source(allow_code=True)) as encoder:
        assert encoder.info.precision == "int8"
        together = encoder.encode(TEXTS)
        alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert cosines(together, alone).min() > 0.99999


@pytest.mark.filterwarnings("ignore:.optimum.intel.ipex. is deprecated:FutureWarning")
def test_a_folder_that_optimum_intel_saved(ipex, minilm_folder, tmp_path):
    from optimum.intel import IPEXModel

    folder = shutil.copytree(
        minilm_folder, tmp_path / "saved", ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "onnx", "openvino")
    )
    IPEXModel.from_pretrained(minilm_folder).save_pretrained(folder)
    assert (folder / "pytorch_model.bin").is_file()
    assert not (folder / "model.safetensors").exists()
    with (
        Encoder(folder, backend="ipex", precision="fp32") as saved,
        Encoder(minilm_folder, backend="ipex", precision="fp32") as original,
    ):
        np.testing.assert_allclose(saved.encode(TEXTS), original.encode(TEXTS), atol=1e-5)


def test_langchain_finds_the_passage(minilm_ipex_int8):
    from langchain_core.vectorstores import InMemoryVectorStore

    from nimbed.langchain import NimbedEmbeddings

    store = InMemoryVectorStore(NimbedEmbeddings(model=minilm_ipex_int8, backend="ipex"))
    store.add_texts(TEXTS[:2])
    assert store.similarity_search("What happened to the prices?", k=1)[0].page_content == TEXTS[1]


async def test_llama_index_finds_the_passage(minilm_ipex_int8):
    from llama_index.core import Document, VectorStoreIndex

    from nimbed.llama_index import NimbedEmbedding

    embedding = NimbedEmbedding(minilm_ipex_int8, backend="ipex")
    index = VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS[:2]], embed_model=embedding)
    retriever = index.as_retriever(similarity_top_k=1)
    assert retriever.retrieve("What happened to the prices?")[0].text == TEXTS[1]
    assert (await retriever.aretrieve("Where is the cat?"))[0].text == TEXTS[0]


@pytest.mark.quality
def test_scifact_in_int8_is_within_a_few_thousandths_of_fp32(minilm_ipex_int8, minilm_folder):
    from nimbed.evaluate import load_retrieval
    from nimbed.evaluate.metrics import retrieval_scores

    scifact = load_retrieval(shared_data("scifact"))
    found = {}
    for precision in ("fp32", "int8"):
        with Encoder(
            minilm_folder, backend="ipex", precision=precision, max_length=256, truncate="silent", cache=None
        ) as encoder:
            documents = encoder.encode(list(scifact.docs.values()))
            queries = encoder.encode(list(scifact.queries.values()), role="query")
        found[precision] = float(retrieval_scores(documents, queries, scifact)["nDCG@10"].mean())
    print(f"SciFact nDCG@10 with IPEX: {found}")  # noqa: T201 (the figure of docs/ipex.md, with pytest -s)
    assert found["int8"] >= (1 - 0.0155) * found["fp32"]
