"""What people use in nimbed's place, each opened as its own documentation does, with the same threads and lengths.

Each is a contender of `nimbed.bench`: a label, and a way to open it here or in another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nimbed._types import Float32Array, Role

MAX_LENGTH = 256  # tokens, where a bench says nothing else
BATCH = 32  # what sentence-transformers, HuggingFaceEmbeddings and most scripts use


class Embedding:
    """A function as a contender embeds; on an event loop in a thread, as LangChain's default does."""

    def __init__(self, embed: Callable[[Sequence[str], Role], Any]) -> None:
        self._embed = embed

    def encode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        return np.asarray(self._embed(texts, role), np.float32)

    async def aencode(self, texts: Sequence[str], *, role: Role = "document") -> Float32Array:
        return await asyncio.to_thread(self.encode, texts, role=role)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A contender; ``folder`` is the model's, ``threads`` its share of the cores."""

    label: str
    folder: str
    threads: int

    @contextlib.contextmanager
    def open(self, max_length: int | None) -> Iterator[Embedding]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield Embedding(self.load(max_length or MAX_LENGTH))

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        raise NotImplementedError

    def set_torch(self) -> None:
        """PyTorch's threads are one setting for the whole process."""
        import torch
        import transformers

        torch.set_num_threads(self.threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()


@dataclass(frozen=True, kw_only=True)
class Transformers(Peer):
    """The loop of the model's own page: batches in the order given, mean pooling, normalization."""

    dtype: str = "float32"

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        import torch
        from transformers import AutoModel, AutoTokenizer

        self.set_torch()
        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModel.from_pretrained(self.folder, dtype=getattr(torch, self.dtype)).eval()

        def embed(texts: Sequence[str], role: Role) -> Float32Array:  # noqa: ARG001
            rows = []
            for some in batches(texts):
                inputs = tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
                with torch.inference_mode():
                    hidden = model(**inputs).last_hidden_state.float()
                    mask = inputs["attention_mask"][..., None].float()
                    pooled = (hidden * mask).sum(1) / mask.sum(1)
                rows.append(torch.nn.functional.normalize(pooled, dim=-1).numpy())
            return np.concatenate(rows)

        return embed


@dataclass(frozen=True, kw_only=True)
class SentenceTransformers(Peer):
    """With its defaults."""

    dtype: str = "float32"

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        import torch
        from sentence_transformers import SentenceTransformer

        self.set_torch()
        network = {"dtype": getattr(torch, self.dtype)}
        model = SentenceTransformer(self.folder, device="cpu", model_kwargs=network)
        model.max_seq_length = max_length

        def embed(texts: Sequence[str], role: Role) -> Float32Array:  # noqa: ARG001
            return model.encode(list(texts), batch_size=BATCH, normalize_embeddings=True)

        return embed


@dataclass(frozen=True, kw_only=True)
class CrossEncoder(Peer):
    """sentence-transformers' in fp32, with its defaults: the scores of texts with one question, ``[B]``."""

    question: str

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        import sentence_transformers

        self.set_torch()
        model = sentence_transformers.CrossEncoder(self.folder, max_length=max_length, device="cpu")

        def score(texts: Sequence[str], role: Role) -> Float32Array:  # noqa: ARG001
            return model.predict([(self.question, text) for text in texts], batch_size=BATCH)

        return score


class LangChain(Peer):
    """HuggingFaceEmbeddings with its defaults."""

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        from langchain_huggingface import HuggingFaceEmbeddings

        self.set_torch()
        embeddings = HuggingFaceEmbeddings(model=self.folder, model_kwargs={"device": "cpu"})
        embeddings._client.max_seq_length = max_length  # noqa: SLF001 (it offers no other way)

        def embed(texts: Sequence[str], role: Role) -> Any:  # noqa: ANN401 (lists)
            return [embeddings.embed_query(t) for t in texts] if role == "query" else embeddings.embed_documents(texts)

        return embed


class LlamaIndex(Peer):
    """HuggingFaceEmbedding with its defaults (batches of 10)."""

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        self.set_torch()
        model = HuggingFaceEmbedding(model_name=self.folder, max_length=max_length, device="cpu")

        def embed(texts: Sequence[str], role: Role) -> Any:  # noqa: ANN401 (lists)
            if role == "query":
                return [model.get_query_embedding(text) for text in texts]
            return model.get_text_embedding_batch(list(texts))

        return embed


class SentenceTransformersOpenVino(Peer):
    """sentence-transformers with its OpenVINO backend and its own static int8 quantization."""

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        from sentence_transformers import SentenceTransformer

        self.set_torch()
        files = {"file_name": "openvino/openvino_model_qint8_quantized.xml", "ov_config": self._properties()}
        model = SentenceTransformer(self.folder, backend="openvino", model_kwargs=files)
        model.max_seq_length = max_length

        def embed(texts: Sequence[str], role: Role) -> Float32Array:  # noqa: ARG001
            return model.encode(list(texts), batch_size=BATCH, normalize_embeddings=True)

        return embed

    def _properties(self) -> dict[str, Any]:
        return {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}


class OnnxRuntime(Peer):
    """ONNX Runtime on a dynamically quantized graph, sorted by length; mean pooling, normalization."""

    def load(self, max_length: int) -> Callable[[Sequence[str], Role], Any]:
        import onnxruntime
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(Path(self.folder) / "tokenizer.json"))
        tokenizer.enable_truncation(max_length)
        tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        path = Path(self.folder) / "onnx" / "model_int8.onnx"
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def embed(texts: Sequence[str], role: Role) -> Float32Array:  # noqa: ARG001
            order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
            rows = [pooled(session, tokenizer.encode_batch(some)) for some in batches([texts[n] for n in order])]
            return np.concatenate(rows)[np.argsort(order)]

        return embed


def pooled(session: Any, encodings: Sequence[Any]) -> Float32Array:  # noqa: ANN401 (an ONNX Runtime session)
    """Mean over tokens, then L2 norm 1: ``[B, H]``."""
    ids = np.array([e.ids for e in encodings], np.int64)
    mask = np.array([e.attention_mask for e in encodings], np.int64)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], inputs)
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Of 32, in the order given."""
    for start in range(0, len(texts), BATCH):
        yield list(texts[start : start + BATCH])
