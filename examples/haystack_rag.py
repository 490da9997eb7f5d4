"""Retrieval for an LLM with Haystack: index documents, store the pipeline as YAML, and fill a prompt with the answers.

pip install "nimbed[haystack]"
python examples/haystack_rag.py [model folder, artefact folder or hub id]
"""

from __future__ import annotations

import sys
from pathlib import Path

from haystack import Document, Pipeline
from haystack.components.builders import PromptBuilder
from haystack.components.preprocessors import DocumentSplitter
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from quickstart import default_model

from nimbed.haystack import NimbedDocumentEmbedder, NimbedTextEmbedder

PEPS = [Path(__file__).parent / "data" / "peps" / f"pep-{number}.rst" for number in ("0380", "0618", "0723")]
QUESTION = "How can a generator delegate part of its operations to another generator?"

PROMPT = """Answer the question from these extracts alone, and name your source.
{% for document in documents %}
[{{ document.meta["source"] }}]
{{ document.content }}
{% endfor %}
Question: {{ question }}
"""


def indexing(model: str, store: InMemoryDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("splitter", DocumentSplitter(split_by="word", split_length=100, split_overlap=10))
    # The name of the source is embedded with each piece. "chunk" averages over windows instead of cutting long pieces.
    embedder = NimbedDocumentEmbedder(model, truncate="chunk", meta_fields_to_embed=["source"])
    pipeline.add_component("embedder", embedder)
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("splitter.documents", "embedder.documents")
    pipeline.connect("embedder.documents", "writer.documents")
    return pipeline


def asking(model: str, store: InMemoryDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("embedder", NimbedTextEmbedder(model, truncate="chunk"))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2))
    pipeline.add_component("prompt", PromptBuilder(PROMPT, required_variables=["documents", "question"]))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "prompt.documents")
    return pipeline


def main(model: str) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = [Document(content=path.read_text(encoding="utf-8"), meta={"source": path.name}) for path in PEPS]
    written = indexing(model, store).run({"splitter": {"documents": documents}})["writer"]["documents_written"]

    # The pipeline is stored as text and loaded again; Haystack wants modules other than its own to be allowed.
    stored = asking(model, store).dumps()
    pipeline = Pipeline.loads(stored, allowed_modules=["nimbed.*"])
    found = pipeline.run({"embedder": {"text": QUESTION}, "prompt": {"question": QUESTION}})
    print(f"{written} pieces indexed. This is what an LLM would be asked:\n")
    print(found["prompt"]["prompt"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else default_model())
