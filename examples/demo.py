"""nimbed from end to end on real text: quantize a model, index 30 PEPs with LangChain and LlamaIndex, ask questions.

Then it embeds the same texts with HuggingFaceEmbeddings, to compare the speed. It exits with 1 if retrieval is broken.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quickstart import default_model

from nimbed import quantize

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
BENCHMARKS = HERE.parent / "benchmarks"
TOP = 3
# If fewer questions are answered within the first three, something is wrong; it is not that a question is hard.
MIN_SHARE_FOUND = 0.75


@dataclass(frozen=True)
class Pep:
    """One document."""

    number: int
    title: str
    text: str


@dataclass(frozen=True)
class Answer:
    """A passage that a framework found, and its cosine with the question."""

    pep: int
    title: str
    passage: str
    score: float


@dataclass(frozen=True)
class Index:
    """The passages of all documents, and how to search them: question -> the best answers."""

    framework: str
    passages: list[str]
    search: Callable[[str], list[Answer]]


def main() -> int:
    options = arguments()
    artefact = build(options.model)
    peps = load_peps(options.peps)
    questions = load_questions({pep.number for pep in peps})[: options.questions]
    heading(f"2. Index {len(peps)} PEPs, {sum(len(pep.text) for pep in peps) / 1000:.0f} thousand characters")
    indexes = [with_langchain(artefact, peps), with_llama_index(artefact, peps)]
    found = ask(indexes, questions)
    heading("4. Speed beside HuggingFaceEmbeddings")
    compare(options, indexes[0].passages)
    heading("Result")
    for index in indexes:
        score = f"{found[index.framework]} of {len(questions)} questions"
        print(f"  {index.framework}: expected PEP in the top {TOP} for {score}")
    broken = [name for name, count in found.items() if count < MIN_SHARE_FOUND * len(questions)]
    if broken:
        print(f"  Retrieval is broken in {', '.join(broken)}.")
    return 1 if broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=default_model(), help="model folder or hub id")
    parser.add_argument("--peps", type=int, default=30, help="how many documents")
    parser.add_argument("--questions", type=int, default=12, help="how many questions")
    parser.add_argument("--texts", type=int, default=192, help="how many texts to compare the speed on")
    parser.add_argument("--pairs", type=int, default=3, help="how often each of the two is measured, alternating")
    return parser.parse_args()


def build(model: str) -> Path:
    """The int8 artefact; if it was built before, it comes from the cache."""
    heading(f"1. Quantize {Path(model).name if Path(model).is_dir() else model} to int8")
    started = time.perf_counter()
    artefact = quantize(model)
    quality = artefact.manifest.quality or {}
    megabytes = sum(file.bytes for file in artefact.manifest.files.values()) / 1e6
    print(f"  {artefact.folder.name}: {megabytes:.0f} MB, in {time.perf_counter() - started:.1f} s")
    if quality:
        print(
            f"  cosine with fp32 on {quality['texts']} texts it was not calibrated on: "
            f"mean {quality['mean_cosine']:.4f}, worst {quality['min_cosine']:.4f}"
        )
    return artefact.folder


def load_peps(count: int) -> list[Pep]:
    """Files as in the PEP repository. Number and title come from the header; the body is indexed."""
    peps = []
    for path in sorted((HERE / "data" / "peps").glob("pep-*.rst"))[:count]:
        header, body = path.read_text(encoding="utf-8").split("\n\n", 1)
        fields = dict(re.findall(r"^(PEP|Title): +(.+)$", header, flags=re.MULTILINE))
        peps.append(Pep(int(fields["PEP"]), fields["Title"], body.strip()))
    return peps


def load_questions(peps: set[int]) -> list[tuple[str, int]]:
    """Questions about these PEPs, each with the PEP that answers it."""
    lines = (HERE / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["question"], record["pep"]) for record in records if record["pep"] in peps]


def with_langchain(model: Path, peps: list[Pep]) -> Index:
    from langchain_core.documents import Document
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from nimbed.langchain import NimbedEmbeddings

    documents = [Document(pep.text, metadata={"pep": pep.number, "title": pep.title}) for pep in peps]
    chunks = RecursiveCharacterTextSplitter(chunk_size=600, chunk_overlap=60).split_documents(documents)
    store = InMemoryVectorStore(NimbedEmbeddings(model=str(model)))
    timed("LangChain", len(chunks), lambda: store.add_documents(chunks))

    def search(question: str) -> list[Answer]:
        found = store.similarity_search_with_score(question, k=TOP)
        return [Answer(d.metadata["pep"], d.metadata["title"], d.page_content, score) for d, score in found]

    return Index("LangChain", [chunk.page_content for chunk in chunks], search)


def with_llama_index(model: Path, peps: list[Pep]) -> Index:
    from llama_index.core import Document, Settings, VectorStoreIndex
    from llama_index.core.node_parser import SentenceSplitter

    from nimbed.llama_index import NimbedEmbedding

    Settings.embed_model = NimbedEmbedding(model_name=str(model))
    documents = [Document(text=pep.text, metadata={"pep": pep.number, "title": pep.title}) for pep in peps]
    nodes = SentenceSplitter(chunk_size=160, chunk_overlap=16).get_nodes_from_documents(documents)
    retriever = timed("LlamaIndex", len(nodes), lambda: VectorStoreIndex(nodes)).as_retriever(similarity_top_k=TOP)

    def search(question: str) -> list[Answer]:
        found = retriever.retrieve(question)
        return [Answer(n.metadata["pep"], n.metadata["title"], n.text, n.score or 0.0) for n in found]

    return Index("LlamaIndex", [node.get_content() for node in nodes], search)


def timed(framework: str, passages: int, call: Callable[[], object]) -> object:
    """Run it, print how long it took, and print its warnings: some passages are longer than the model reads."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - started
    print(f"  {framework}: {passages} passages in {seconds:.1f} s, {passages / seconds:.0f} a second")
    for warning in caught:
        print(textwrap.fill(f"({warning.message})", 110, initial_indent="    ", subsequent_indent="    "))
    return result


def ask(indexes: list[Index], questions: list[tuple[str, int]]) -> dict[str, int]:
    """Print the answers. Returns, for each framework, how often the expected PEP was among them."""
    heading(f"3. Ask {len(questions)} questions (* marks the PEP that answers it)")
    found = {index.framework: 0 for index in indexes}
    for number, (question, expected) in enumerate(questions, start=1):
        print(f"\n  {number}. {question}")
        for index in indexes:
            answers = index.search(question)
            found[index.framework] += any(answer.pep == expected for answer in answers)
            print(f"     {index.framework}")
            for answer in answers:
                show(answer, is_expected=answer.pep == expected)
    return found


def show(answer: Answer, *, is_expected: bool) -> None:
    """Print one line: score, number, title and the beginning of the passage."""
    mark = "*" if is_expected else " "
    title = textwrap.shorten(answer.title, 40, placeholder=" ...")
    text = re.sub(r"^[=~-]+$", "", answer.passage, flags=re.MULTILINE)  # the lines under reStructuredText's headings
    excerpt = textwrap.shorten(text, 64, placeholder=" ...")
    print(f"     {mark} {answer.score:.3f}  PEP {answer.pep:<4} {title:<40}  {excerpt}")


def compare(options: argparse.Namespace, passages: list[str]) -> None:
    """Run the benchmark itself, with fewer texts."""
    sys.path.insert(0, str(BENCHMARKS))
    import _common
    import compare_huggingface

    queries = _common.spread(_common.questions(), 40)
    texts = _common.spread(passages, options.texts)
    result = compare_huggingface.compare(options.model, texts, queries, pairs=options.pairs)
    compare_huggingface.report(result)
    _common.print_conditions(result.conditions)


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


if __name__ == "__main__":
    sys.exit(main())
