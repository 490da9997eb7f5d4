"""Evaluation files: both formats are read, and what would give a wrong figure is refused by file and line."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from tests.conftest import shared_data

from nimbed.errors import InputError
from nimbed.evaluate import load_rerank, load_retrieval, load_sts

if TYPE_CHECKING:
    from pathlib import Path

CORPUS = [{"id": "a", "title": "Cats", "text": "They sit."}, {"id": "b", "text": "Prices rose."}]
QUERIES = [{"id": "q", "text": "Where do cats sit?"}, {"id": "r", "text": "Who rose?"}]
QRELS = "query_id\tcorpus_id\tscore\nq\ta\t1\nq\tb\t0\n"
PAIRS = "score\tsentence1\tsentence2\n5\tA cat sat.\tA cat was sitting.\n"
ITEM = {"query": "q", "positive": ["a"], "negative": ["b", "c"]}


def jsonl(records: list[object]) -> str:
    return "".join(f"{record if isinstance(record, str) else json.dumps(record)}\n" for record in records)


def folder(path: Path, **files: str | bytes | None) -> Path:
    """A good folder, but for the files that are named."""
    good: dict[str, str | bytes | None] = {"corpus": jsonl(CORPUS), "queries": jsonl(QUERIES), "qrels": QRELS, **files}
    for name, content in good.items():
        if content is not None:
            data = content if isinstance(content, bytes) else content.encode()
            (path / (f"{name}.tsv" if name == "qrels" else f"{name}.jsonl")).write_bytes(data)
    return path


def test_this_projects_format(tmp_path):
    loaded = load_retrieval(folder(tmp_path))
    assert loaded.name == tmp_path.name
    assert loaded.docs == {"a": "Cats They sit.", "b": "Prices rose."}
    assert loaded.queries == {"q": "Where do cats sit?"}  # r has no relevant document
    assert loaded.qrels == {"q": {"a": 1, "b": 0}}


def test_beir_format(tmp_path):
    def beir(records):
        return jsonl([{**{k: v for k, v in r.items() if k != "id"}, "_id": r["id"], "metadata": {}} for r in records])

    folder(tmp_path, corpus=beir(CORPUS), queries=beir(QUERIES), qrels=None)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\r\nq\ta\t1\r\n")
    loaded = load_retrieval(tmp_path)
    assert loaded.docs["a"] == "Cats They sit."
    assert loaded.qrels == {"q": {"a": 1}}


def test_compressed_files_are_read(tmp_path):
    for path in list(folder(tmp_path).iterdir()):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(load_retrieval(tmp_path).docs) == 2


BAD_RETRIEVAL = {
    "document unknown": ({"qrels": QRELS + "q\tz\t1\n"}, r"qrels\.tsv, line 4: document 'z' is not in .*corpus\.jsonl"),
    "query unknown": ({"qrels": QRELS + "z\ta\t1\n"}, r"qrels\.tsv, line 4: query 'z' is not in .*queries\.jsonl"),
    "judged twice": ({"qrels": QRELS + "q\ta\t2\n"}, r"qrels\.tsv, line 4: .*judged before"),
    "score a word": ({"qrels": QRELS + "r\ta\thigh\n"}, r"qrels\.tsv, line 4: score 'high' is not a number"),
    "score nan": ({"qrels": QRELS + "r\ta\tnan\n"}, r"qrels\.tsv, line 4: score 'nan' is not finite"),
    "column missing": ({"qrels": QRELS + "r\ta\n"}, r"qrels\.tsv, line 4: 2 columns where the header has 3"),
    "no header": ({"qrels": "q\ta\t1\n"}, r"qrels\.tsv, line 1: the header has no column query_id"),
    "qrels empty": ({"qrels": ""}, r"qrels\.tsv is empty"),
    "nothing relevant": ({"qrels": "query_id\tcorpus_id\tscore\nq\ta\t0\n"}, r"qrels\.tsv judges no document relevant"),
    "no judgements": ({"qrels": "query_id\tcorpus_id\tscore\n"}, r"qrels\.tsv judges no document relevant"),
    "no queries": ({"queries": "\n"}, r"queries\.jsonl holds no queries"),
    "no documents": ({"corpus": ""}, r"corpus\.jsonl holds no documents"),
    "query twice": ({"queries": jsonl([*QUERIES, QUERIES[0]])}, r"queries\.jsonl, line 3: id 'q' has come before"),
    "document twice": ({"corpus": jsonl([*CORPUS, CORPUS[1]])}, r"corpus\.jsonl, line 3: id 'b' has come before"),
    "query without text": ({"queries": jsonl([{"id": "q"}])}, r'queries\.jsonl, line 1: "text" is missing'),
    "query blank": ({"queries": jsonl([{"id": "q", "text": " "}])}, r"queries\.jsonl, line 1: \"text\" is ' '"),
    "document without text": ({"corpus": jsonl([{"id": "a"}])}, r'corpus\.jsonl, line 1: "text" is None'),
    "title a number": (
        {"corpus": jsonl([{"id": "a", "title": 3, "text": "t"}])},
        r'corpus\.jsonl, line 1: "title" is 3',
    ),
    "no id": ({"corpus": jsonl([{"text": "t"}])}, r"corpus\.jsonl, line 1: no id"),
    "not JSON": ({"corpus": jsonl([CORPUS[0], "{oops"])}, r"corpus\.jsonl, line 2: not JSON"),
    "not an object": ({"queries": jsonl([["q", "text"]])}, r"queries\.jsonl, line 1: a JSON list where an object"),
    "not UTF-8": ({"corpus": jsonl([CORPUS[0]]).encode() + b'{"id": "b", "text": "caf\xe9"}'}, r"line 2: not UTF-8"),
    "corpus missing": ({"corpus": None}, r"has no corpus\.jsonl \(nor with \.gz\)"),
    "queries missing": ({"queries": None}, r"has no queries\.jsonl"),
    "qrels missing": ({"qrels": None}, r"has no qrels\.tsv and no qrels/test\.tsv"),
}


@pytest.mark.parametrize(("files", "says"), BAD_RETRIEVAL.values(), ids=BAD_RETRIEVAL)
def test_a_bad_folder_is_refused_by_file_and_line(files, says, tmp_path):
    with pytest.raises(InputError, match=says):
        load_retrieval(folder(tmp_path, **files))


def test_a_file_is_no_folder_and_a_broken_gzip_is_named(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        load_retrieval(tmp_path / "nowhere")
    broken = tmp_path / "pairs.tsv.gz"
    broken.write_bytes(gzip.compress(PAIRS.encode() * 99)[:40])
    with pytest.raises(InputError, match=r"pairs\.tsv\.gz cannot be read"):
        load_sts(broken)


def test_sts_quotes_are_text(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS + '0\t"Quote\tand" more\n')
    loaded = load_sts(path)
    assert (list(loaded.first)[1], list(loaded.second)[1]) == ('"Quote', 'and" more')
    assert loaded.gold == [5.0, 0.0]
    assert loaded.name == f"{tmp_path.name}/pairs"


BAD_STS = {
    "empty": ("", "is empty; its first line must name score, sentence1, sentence2"),
    "header alone": ("score\tsentence1\tsentence2\n", "0 pairs with 0 different scores"),
    "constant": (PAIRS + "5\ta\tb\n", "2 pairs with 1 different scores"),
    "score": (PAIRS + "five\ta\tb\n", "line 3: score 'five' is not a number"),
    "sentence": (PAIRS + "3\ta\t \n", 'line 3: "sentence2" is'),
    "columns": (PAIRS + "3\ta\n", "line 3: 2 columns"),
    "header": ("gold\tsentence1\tsentence2\n1\ta\tb\n", "line 1: the header has no column score"),
}


@pytest.mark.parametrize(("content", "says"), BAD_STS.values(), ids=BAD_STS)
def test_bad_pairs_are_refused(content, says, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    with pytest.raises(InputError, match=says):
        load_sts(path)


BAD_RERANK = {
    "empty": ([], "holds no queries"),
    "both": ([ITEM, {**ITEM, "negative": ["c", "a"]}], "line 2: positive and negative at once: 'a'"),
    "repeated": ([{**ITEM, "negative": ["c", "c"]}], "line 1: twice in \"negative\": 'c'"),
    "no positive": ([{**ITEM, "positive": []}], 'line 1: "positive" must be a list'),
    "no negative": ([{"query": "q", "positive": ["a"]}], 'line 1: "negative" must be a list'),
    "not a text": ([{**ITEM, "positive": ["a", 3]}], 'line 1: item 2 of "positive" is 3'),
    "no query": ([{**ITEM, "query": ""}], "line 1: \"query\" is ''"),
    "not JSON": ([ITEM, "nothing"], "line 2: not JSON"),
}


@pytest.mark.parametrize(("records", "says"), BAD_RERANK.values(), ids=BAD_RERANK)
def test_bad_rerank_files_are_refused(records, says, tmp_path):
    path = tmp_path / "rerank.jsonl"
    path.write_text(jsonl(records))
    with pytest.raises(InputError, match=says):
        load_rerank(path)


@pytest.mark.parametrize("name", ["scifact", "medline", "chroma_chunks", "stard_reduced_zh", "xquad_zh"])
def test_real_retrieval_sets_load(name):
    folder = shared_data(name)
    counted = len((folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()) - 1
    loaded = load_retrieval(folder)
    assert sum(map(len, loaded.qrels.values())) == counted


def test_real_pairs_and_rerank_load():
    assert len(load_sts(shared_data("stsb_en_dev") / "pairs.tsv.gz").gold) == 1500
    assert len(load_rerank(shared_data("medquad_liveqa_rerank") / "rerank.jsonl.gz").items) == 30
