"""Every example and benchmark runs, small, as its own process on the real model, as a reader would run it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nimbed._loading.auto import choose_backend

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: object, stdin: str | None = None) -> str:
    """What a script prints."""
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    return done.stdout


def need(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    need("psutil")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("quality")


@pytest.fixture
def data(tmp_path: Path, peps: list[str]) -> Path:
    """Sets of the benchmarks' format, from paragraphs: each query is the beginning of its document."""
    scifact, sts = tmp_path / "scifact", tmp_path / "stsb_en_dev"
    scifact.mkdir()
    sts.mkdir()
    docs = peps[:40]
    with gzip.open(scifact / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": f"d{i}", "title": "", "text": t}) + "\n" for i, t in enumerate(docs))
    with gzip.open(scifact / "queries.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": f"q{i}", "text": t[:120]}) + "\n" for i, t in enumerate(docs[:10]))
    rows = "".join(f"q{i}\td{i}\t1\n" for i in range(10))
    (scifact / "qrels.tsv").write_text("query_id\tcorpus_id\tscore\n" + rows)
    with gzip.open(sts / "pairs.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("score\tsentence1\tsentence2\n5\tA cat sat.\tA cat was sitting.\n0\tA cat sat.\tTax law\n")
    return tmp_path


def test_quickstart_ranks_the_answer_first(minilm_int8: Path) -> None:
    lines = run("examples/quickstart.py", minilm_int8).splitlines()
    assert "factory settings" in lines[0]
    assert any(line.startswith(f"{choose_backend()[0]} in int8") for line in lines)


def test_langchain_rag_fills_the_prompt(minilm_int8: Path) -> None:
    need("langchain_text_splitters")
    printed = run("examples/langchain_rag.py", minilm_int8)
    assert "[pep-0723.rst]" in printed
    assert "Question: " in printed


def test_llama_index_rag_retrieves(minilm_int8: Path) -> None:
    need("llama_index.core")
    scores = [line for line in run("examples/llama_index_rag.py", minilm_int8).splitlines() if line.startswith("0.")]
    assert len(scores) == 3
    assert "pep-0618.rst" in scores[0]


def test_rerank_puts_the_answer_first(minilm_int8: Path) -> None:
    lines = run("examples/rerank.py", minilm_int8).splitlines()
    assert "20 retrieved, ranked by a bi-encoder in int8" in lines[0]
    assert len(lines) == 4
    assert "script" in lines[1].lower()


def test_haystack_rag_fills_the_prompt_after_yaml(minilm_int8: Path) -> None:
    need("haystack")
    printed = run("examples/haystack_rag.py", minilm_int8)
    assert "[pep-0380.rst]" in printed
    assert "Question: " in printed


def test_quantize_and_compare_with_the_users_own_texts(
    minilm_fp32: Path, minilm_folder: Path, peps: list[str], tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in peps[::25]), encoding="utf-8")
    printed = run("examples/quantize_and_compare.py", minilm_folder, texts)
    assert "same ten neighbours" in printed
    assert float(printed.split("mean ")[1].split(",")[0]) > 0.98


def test_demo_answers_and_compares(minilm_int8: Path, minilm_folder: Path) -> None:
    need("langchain_huggingface", "llama_index.core", "psutil")
    small = ("--peps", 6, "--questions", 3, "--texts", 16, "--pairs", 1)
    printed = run("examples/demo.py", "--model", minilm_folder, *small)
    assert "LangChain: expected PEP in the top 3 for 3 of 3 questions" in printed
    assert "LlamaIndex: expected PEP in the top 3 for 3 of 3 questions" in printed
    assert "| documents a second |" in printed


def test_docker_script_embeds_lines(minilm_int8: Path) -> None:
    printed = run("examples/docker/embed.py", minilm_int8, stdin="first\nsecond\n")
    vectors = np.array([json.loads(line) for line in printed.splitlines()])
    assert vectors.shape == (2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_questions_name_shipped_peps() -> None:
    shipped = {int(path.stem.removeprefix("pep-")) for path in (ROOT / "examples" / "data" / "peps").glob("*.rst")}
    records = [json.loads(line) for line in (ROOT / "examples" / "questions.jsonl").read_text("utf-8").splitlines()]
    assert {record["pep"] for record in records} == shipped
    assert len({record["question"] for record in records}) == len(records) == 60


def test_quality_benchmark_runs_on_small_sets(native: None, minilm_folder: Path, data: Path) -> None:
    need("psutil", "scipy", "torch")
    run("benchmarks/quality.py", "--model", minilm_folder, "--data", data, "--out", data, "--quick")
    record = json.loads((data / "quality-quick.json").read_text())
    assert record["scores"]["native fp32"]["ndcg_10"] > 0.9
    assert record["fp32_against_torch"]["worst_cosine"] >= 0.99999


def test_quality_table_runs_with_the_rounding_of_other_cpus(
    minilm_int8: Path, minilm_fp32: Path, minilm_folder: Path, data: Path
) -> None:
    need("psutil")
    options = ("--model", minilm_folder, "--data", data, "--out", data, "--quick", "--rounding")
    printed = run("benchmarks/quality_table.py", *options)
    assert "| scifact | nDCG@10 | int8 |" in printed
    record = json.loads((data / "quality_table-quick.json").read_text())
    assert record["gates"]["scifact nDCG@10 within 1.0%"]
    assert any("lose no more than int8 throughout" in gate for gate in record["gates"])


def test_the_roof_script_runs(native: None, minilm_folder: Path, data: Path) -> None:
    run("benchmarks/native_roof.py", "--model", minilm_folder, "--out", data, "--quick", "--plot")
    record = json.loads((data / "native_roof-quick.json").read_text())
    assert record["networks"]["MiniLM"]["gops"] > 0
    assert {part["name"] for part in record["parts"]} >= {"output", "down", "attention, 256 tokens"}


def test_the_families_speed_script_runs(
    native: None, minilm_fp32: Path, minilm_folder: Path, data: Path, tmp_path: Path
) -> None:
    need("psutil", "sentence_transformers")
    folders = ("--model", minilm_folder, "--data", data, "--out", data, "--work", tmp_path)
    printed = run("benchmarks/family_speed.py", *folders, "--quick", "--only", "minilm-fp32")
    assert "| documents a second | nimbed OpenVINO fp32 |" in printed
    found = json.loads((data / "family_speed-quick.json").read_text())["cases"]["minilm-fp32"]
    assert found["closeness"]["nimbed native fp32"]["worst_cosine"] > 0.99999


@pytest.mark.parametrize("script", ["memory", "coldstart"])
def test_process_benchmarks_run(script: str, minilm_int8: Path, minilm_folder: Path, data: Path) -> None:
    need("psutil")
    run(f"benchmarks/{script}.py", "--model", minilm_folder, "--out", data, "--quick")
    assert json.loads((data / f"{script}-quick.json").read_text())["gates"]


def test_ndcg_is_that_of_trec_eval(quality: ModuleType) -> None:
    docs, query = np.eye(3, dtype=np.float32), np.array([[0.9, 0.5, 0.1]], np.float32)
    judged = quality.Retrieval(docs={"a": "", "b": "", "c": ""}, queries={"q": ""}, qrels={"q": {"a": 1, "c": 2}})
    # ranks: a (gain 1), b (0), c (2); ideal: c, a
    expected = (1 / np.log2(2) + 2 / np.log2(4)) / (2 / np.log2(2) + 1 / np.log2(3))
    assert quality.ndcg_at_10(docs, query, judged) == pytest.approx([expected])


def test_queries_without_judgement_do_not_count(quality: ModuleType) -> None:
    docs, queries = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)
    judged = quality.Retrieval(docs={"a": "", "b": ""}, queries={"q": "", "r": ""}, qrels={"q": {"a": 1}})
    assert quality.ndcg_at_10(docs, queries, judged).tolist() == [1]


def test_paired_difference(quality: ModuleType) -> None:
    difference, error = quality.paired(np.array([1.0, 0.5, 0.0]), np.array([0.5, 0.5, 0.5]))
    assert (difference, error) == pytest.approx((0, 0.5 / 3**0.5))


def test_the_comparison_does_not_measure_the_cache(
    minilm_int8: Path, minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("langchain_huggingface", "psutil")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    ours, _ = importlib.import_module("compare_huggingface").load(str(minilm_folder), "int8", 2)
    assert ours.encoder.stats().cache is None
    ours.encoder.close()
