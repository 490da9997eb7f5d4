"""Retrieval for an LLM with LlamaIndex: read documents, index them, and retrieve the answers to a question.

pip install "nimbed[llama-index]"
python examples/llama_index_rag.py [model folder, artefact folder or hub id]
"""

from __future__ import annotations

import sys
from pathlib import Path

from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from quickstart import default_model

from nimbed.llama_index import NimbedEmbedding

PEPS = [Path(__file__).parent / "data" / "peps" / f"pep-{number}.rst" for number in ("0380", "0618", "0723")]
QUESTION = "What happens when the iterables given to zip differ in length?"


def main(model: str) -> None:
    Settings.embed_model = NimbedEmbedding(model_name=model)
    Settings.node_parser = SentenceSplitter(chunk_size=160, chunk_overlap=16)

    documents = SimpleDirectoryReader(input_files=PEPS).load_data()
    index = VectorStoreIndex.from_documents(documents)

    # With an LLM at hand: index.as_query_engine(llm=llm).query(QUESTION)
    print(f"{len(index.index_struct.nodes_dict)} nodes indexed. {QUESTION}\n")
    for found in index.as_retriever(similarity_top_k=3).retrieve(QUESTION):
        print(f"{found.score:.3f}  {found.metadata['file_name']}")
        print("       " + found.text.strip().replace("\n", "\n       ") + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else default_model())
