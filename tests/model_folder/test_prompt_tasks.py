"""Tasks that a model is told in its prompts: whose prompts they change, and what a model does not know."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.model_folders import write

from nimbed import Encoder, SpecOverrides
from nimbed._model_folder.families import FAMILIES, find
from nimbed._model_folder.prompt_tasks import instruction_of, with_task
from nimbed.backends import fake
from nimbed.errors import InputError
from nimbed.spec import read_spec, spec_from_dict

FILE = "config_sentence_transformers.json"
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
MINE = "Find the clause of the contract that answers: who pays?"
QWEN3 = {"query": f"Instruct: {WEB_SEARCH}\nQuery:", "document": ""}
HARRIER = {
    "web_search_query": f"Instruct: {WEB_SEARCH}\nQuery: ",
    "sts_query": "Instruct: Retrieve semantically similar text\nQuery: ",
    "bitext_query": "Instruct: Retrieve parallel sentences\nQuery: ",
}
SEARCH, UNTITLED = "task: search result | query: ", "title: none | text: "
GEMMA = {
    "query": SEARCH,
    "document": UNTITLED,
    "Clustering": "task: clustering | query: ",
    "InstructionRetrieval": "task: code retrieval | query: ",
    "Retrieval-query": SEARCH,
    "Retrieval-document": UNTITLED,
    "STS": "task: sentence similarity | query: ",
}
MORE = {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}


def model(place, name="a-model", prompts=None):
    files = {} if prompts is None else {FILE: {"prompts": prompts}}
    return write(place / name, files={**MORE, **files})


def told(folder, task=None, **prompts):
    spec = read_spec(folder, overrides=SpecOverrides(task=task, prompts=prompts))
    return spec.prompt("query"), spec.prompt("document"), spec.prompt_task


@pytest.mark.parametrize(
    ("name", "prompts", "space"),
    [
        ("Qwen3-Embedding-0.6B", QWEN3, ""),
        ("Qwen3-Embedding-4B", None, ""),
        ("of-no-family", QWEN3, ""),
        ("harrier-oss-v1-270m", HARRIER, " "),
        ("multilingual-e5-large-instruct", None, " "),
    ],
)
def test_words_stand_in_the_querys_own_prompt(tmp_path, name, prompts, space):
    folder = model(tmp_path, name, prompts)
    assert told(folder) == (f"Instruct: {WEB_SEARCH}\nQuery:{space}", "", WEB_SEARCH)
    assert told(folder, MINE) == (f"Instruct: {MINE}\nQuery:{space}", "", MINE)
    assert told(folder, WEB_SEARCH) == told(folder)


def test_the_folders_own_words_go_before_the_familys(tmp_path):
    own = {"query": "Instruct: Find a law\n\tthat applies\nQuery: ", "document": "D: "}
    folder = model(tmp_path, "Qwen3-Embedding-0.6B", own)
    assert told(folder) == (own["query"], "D: ", "Find a law\n\tthat applies")
    assert told(folder, MINE) == (f"Instruct: {MINE}\nQuery: ", "D: ", MINE)


@pytest.mark.parametrize("task", ["sts_query", "bitext_query", "web_search_query"])
def test_a_name_goes_before_words(tmp_path, task):
    for name in ("harrier-oss-v1-0.6b", "fine-tuned"):
        query = HARRIER[task]
        assert told(model(tmp_path, name, HARRIER), task) == (query, "", instruction_of(query))


@pytest.mark.parametrize("prompts", [GEMMA, None], ids=["folder", "family"])
@pytest.mark.parametrize(
    ("task", "query", "document"),
    [
        (None, SEARCH, UNTITLED),
        ("Retrieval", SEARCH, UNTITLED),
        ("Reranking", SEARCH, UNTITLED),
        ("InstructionRetrieval", "task: code retrieval | query: ", UNTITLED),
        ("BitextMining", SEARCH, SEARCH),
        ("Clustering", "task: clustering | query: ", "task: clustering | query: "),
        ("Classification", "task: classification | query: ", "task: classification | query: "),
        ("MultilabelClassification", "task: classification | query: ", "task: classification | query: "),
        ("STS", "task: sentence similarity | query: ", "task: sentence similarity | query: "),
        ("PairClassification", "task: sentence similarity | query: ", "task: sentence similarity | query: "),
        ("Summarization", "task: summarization | query: ", "task: summarization | query: "),
    ],
)
def test_tasks_of_embeddinggemma(tmp_path, prompts, task, query, document):
    folder = model(tmp_path, "embeddinggemma-300m", prompts)
    assert told(folder, task) == (query, document, task or "Retrieval")


def test_a_folder_of_no_family_has_the_tasks_that_it_names(tmp_path):
    folder = model(tmp_path, prompts={**GEMMA, "Clustering": "C: "})
    assert told(folder) == (SEARCH, UNTITLED, "Retrieval")
    assert told(folder, "Clustering") == ("C: ", "C: ", "Clustering")
    with pytest.raises(InputError, match=r"the model knows Clustering, InstructionRetrieval, Retrieval, STS$"):
        told(folder, "Summarization")


def test_a_prompt_for_one_role_leaves_the_other_its_own(tmp_path):
    folder = model(tmp_path, prompts={"passage": "P: ", "law-query": "L: ", "law": "both? ", "art.passage": "A: "})
    assert told(folder, "law") == ("L: ", "both? ", "law")
    assert told(folder, "art") == ("", "A: ", "art")


@pytest.mark.parametrize(
    ("name", "prompts", "task", "says"),
    [
        ("bert", None, "retrieval", "the model has no adapters for tasks, no prompts by the names of tasks and no"),
        ("e5-small", None, MINE, "no instruction in its query's prompt; leave it out, or give the prompts"),
        ("embeddinggemma-300m", None, "clustering", "knows BitextMining, Classification, Clustering, Instr.*zation$"),
        ("embeddinggemma-300m", GEMMA, "query", "there is no prompt for this task; the model knows BitextMining"),
        ("embeddinggemma-300m", GEMMA, MINE, "there is no prompt for this task; the model knows BitextMining"),
        ("harrier-oss-v1-270m", HARRIER, "sts", "knows bitext_query, sts_query, web_search_query; an instruction is"),
        ("Qwen3-Embedding-0.6B", QWEN3, "Clustering", "knows no tasks by name; an instruction is a sentence, such as"),
        ("Qwen3-Embedding-0.6B", QWEN3, "", "an instruction is one line"),
        ("Qwen3-Embedding-0.6B", QWEN3, " \t", "an instruction is one line"),
        ("Qwen3-Embedding-0.6B", QWEN3, "Find it\nQuery: no", "an instruction is one line"),
        ("Qwen3-Embedding-0.6B", QWEN3, "Find it\u2028", "an instruction is one line"),
        ("Qwen3-Embedding-0.6B", QWEN3, "Find it \ud800", "an instruction is one line"),
        ("Qwen3-Embedding-0.6B", {"query": "Q: "}, MINE, "no instruction in its query's prompt"),
    ],
)
def test_tasks_that_a_model_does_not_have(tmp_path, name, prompts, task, says):
    with pytest.raises(InputError, match=says) as caught:
        told(model(tmp_path, name, prompts), task)
    assert str(caught.value).startswith(f"SpecOverrides(task={task!r}): ")


def test_words_in_a_script_without_spaces(tmp_path):
    task = "查找回答该问题的段落"
    assert told(model(tmp_path, prompts=QWEN3), task) == (f"Instruct: {task}\nQuery:", "", task)


def test_the_users_prompts_go_before_but_not_before_all_of_a_task(tmp_path):
    folder = model(tmp_path, prompts={**QWEN3, "Clustering": "C: "})
    assert told(folder, query="Q: ") == ("Q: ", "", "")
    assert told(folder, query=f"Instruct: {MINE}\nQuery: ") == (f"Instruct: {MINE}\nQuery: ", "", MINE)
    assert told(folder, "Clustering", document="D: ") == ("C: ", "D: ", "Clustering")
    for task, given_prompts in ((MINE, {"query": "Q: "}), ("Clustering", {"query": "", "document": ""})):
        with pytest.raises(InputError, match="the prompts that are given leave nothing of it"):
            told(folder, task, **given_prompts)


def test_where_a_task_comes_from(tmp_path):
    folder = model(tmp_path, "Qwen3-Embedding-0.6B", QWEN3)
    assert read_spec(folder).origins["task"] == read_spec(folder).origins["prompt query"] == FILE
    chosen = read_spec(folder, overrides=SpecOverrides(task=MINE))
    assert chosen.origins["task"] == "set by the user"
    assert chosen.origins["prompt query"] == "that of the task"
    assert "task" not in read_spec(model(tmp_path)).origins
    assert spec_from_dict(json.loads(json.dumps(asdict(chosen)))) == chosen
    assert spec_from_dict(json.loads(json.dumps(asdict(chosen)))).prompt_task == MINE


def test_what_was_built_for_a_task_of_both_roles_takes_no_task_of_one(tmp_path):
    gemma = find("embeddinggemma-300m").tasks
    built = read_spec(model(tmp_path, prompts=GEMMA), overrides=SpecOverrides(task="Clustering"))
    assert with_task(built, None, gemma).prompt_task == "Clustering"
    assert with_task(built, "STS", gemma).prompt("document") == GEMMA["STS"]
    with pytest.raises(InputError, match="built for 'Clustering', which changed the documents' prompt too; build an"):
        with_task(built, "InstructionRetrieval", gemma)


def fingerprint(folder, **options):
    with Encoder(folder, backend="fake", spec=SpecOverrides(**options)) as encoder:
        return encoder.fingerprint, encoder.info.task


@pytest.mark.parametrize(
    ("prompts", "tasks"), [(QWEN3, [MINE, f"{MINE} ", "查找"]), (GEMMA, ["Clustering", "STS", "InstructionRetrieval"])]
)
def test_a_task_is_part_of_the_fingerprint(tmp_path, prompts, tasks):
    folder = model(tmp_path, prompts=prompts)
    found = [fingerprint(folder), *(fingerprint(folder, task=task) for task in tasks)]
    assert [task for _, task in found[1:]] == tasks
    assert len({one for one, _ in found}) == len(found)
    assert fingerprint(folder, task=found[0][1]) == found[0]


def test_prompts_are_what_is_hashed(tmp_path):
    """So that vectors of today keep their fingerprint: the model's own task, said or not, is the same prompt."""
    folder = model(tmp_path, prompts=QWEN3)
    assert fingerprint(folder, task=MINE) == fingerprint(folder, prompts={"query": f"Instruct: {MINE}\nQuery:"})


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.sampled_from(["", " "]))
def test_any_words_of_one_line_are_told_as_they_are(words, space):
    spec = replace(fake.SPEC, prompts={"query": f"Instruct: x y\nQuery:{space}"})
    try:
        chosen = with_task(spec, words, {})
    except InputError:
        assert words.splitlines() != [words] or (words.isascii() and " " not in words)
    else:
        assert chosen.prompt("query") == f"Instruct: {words}\nQuery:{space}"
        assert chosen.prompt_task == instruction_of(chosen.prompt("query")) == words


def test_each_familys_own_words_are_found():
    assert {one.name: instruction_of(one.query) for one in FAMILIES if instruction_of(one.query)} == dict.fromkeys(
        ("e5-instruct", "qwen3-embedding", "harrier"), WEB_SEARCH
    )
