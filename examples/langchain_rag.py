"""Retrieval for an LLM with LangChain: split documents, index them, and fill a prompt with the answers to a question.

pip install "nimbed[langchain]" langchain-text-splitters
python examples/langchain_rag.py [model folder, artefact folder or hub id]
"""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter
from quickstart import default_model

from nimbed.langchain import NimbedEmbeddings

PEPS = [Path(__file__).parent / "data" / "peps" / f"pep-{number}.rst" for number in ("0380", "0618", "0723")]
QUESTION = "What is the format of the comment block that declares the dependencies of a script?"

PROMPT = ChatPromptTemplate.from_template(
    "Answer the question from these extracts alone, and name your source.\n\n{context}\n\nQuestion: {question}"
)


def load(path: Path) -> Document:
    return Document(path.read_text(encoding="utf-8"), metadata={"source": path.name})


def as_context(documents: list[Document]) -> str:
    return "\n\n".join(f"[{document.metadata['source']}]\n{document.page_content}" for document in documents)


def main(model: str) -> None:
    splitter = RecursiveCharacterTextSplitter(chunk_size=600, chunk_overlap=60)
    chunks = splitter.split_documents([load(path) for path in PEPS])
    # Some chunks have more tokens than the model reads. "chunk" averages over windows instead of cutting them.
    embeddings = NimbedEmbeddings(model=model, truncate="chunk")
    store = InMemoryVectorStore.from_documents(chunks, embeddings)
    retriever = store.as_retriever(search_kwargs={"k": 2})

    # With an LLM at hand: chain = {...} | PROMPT | llm | StrOutputParser()
    chain = {"context": retriever | as_context, "question": RunnablePassthrough()} | PROMPT
    print(f"{len(chunks)} chunks indexed. This is what an LLM would be asked:\n")
    print(chain.invoke(QUESTION).to_string())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else default_model())
