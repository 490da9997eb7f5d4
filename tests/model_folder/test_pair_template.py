"""A reranker's template is read as Jinja renders it, or refused."""

from __future__ import annotations

import json

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tests.support.qwen3_rerankers import CHAT_TEMPLATE

from nimbed._model_folder.pair_template import QWEN3_INSTRUCTION, QWEN3_RERANKER, needed_template, pair_template
from nimbed.errors import SpecError

CONTENT = {role: f'messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first' for role in
           ("system", "query", "document")}  # fmt: skip
QUERY, DOCUMENT = ("{{ " + CONTENT[role] + " }}" for role in ("query", "document"))
PLAIN = f"Q: {QUERY}\nD: {DOCUMENT}"
GENERAL = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}{% endfor %}"
TEMPLATES = {
    "published": CHAT_TEMPLATE,
    "plain": PLAIN,
    "its end": f"{PLAIN} \n\n",
    "no default": "{{ " + CONTENT["system"] + " }} | " + PLAIN,
    "in place": "A {{" + CONTENT["system"] + " | default('mine') }}\n " + PLAIN + "B",
    "single quotes": PLAIN.replace('"', "'"),
    "comments": f"{{# one #}}\n  {{#- two -#}}  \n{PLAIN}{{# three #}}\nend",
    "space is taken": "start  \n{%- set a = " + CONTENT["query"] + " %}\n\n {{- a -}} \n " + DOCUMENT + "\n",
    "on one line": "{% set a = " + CONTENT["query"] + " %} {% set b = " + CONTENT["document"] + " %} {{ a }} {{ b }} x",
    "a line that a tag began": "{% set a = "
    + CONTENT["query"]
    + " -%}\n  {% set b = "
    + CONTENT["document"]
    + " %}{{a}}{{b}}",
    "returns": f"Q: {QUERY}\r\n\r\nD: {DOCUMENT}\r\n {{# c #}}\r\nend\r",
    "indented": "x\n   {% set a = " + CONTENT["query"] + " -%}\n\n  {{ a }} {{ " + CONTENT["document"] + " -}}  \n y",
}


def rendered(source, **contents):
    """As transformers does."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": role, "content": content} for role, content in contents.items()]
    return environment.from_string(source).render(messages=messages, add_generation_prompt=False)


def write(folder, *, file=None, config=None):
    if file is not None:
        (folder / "chat_template.jinja").write_text(file)
    (folder / "tokenizer_config.json").write_text(json.dumps({} if config is None else {"chat_template": config}))
    return folder


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("in_file", [True, False])
def test_the_texts_are_those_that_jinja_renders(source, in_file, tmp_path):
    texts, default = pair_template(write(tmp_path, **{"file" if in_file else "config": source}), "any")
    words = {"query": " who? ", "document": "\n{{ it }}\n"}
    *start, query, document, behind = texts
    before = [*start, default] if start else []
    joined = "".join([*before, query, words["query"], document, words["document"], behind])
    if default or not start:
        assert joined == rendered(source, **words)
    if start:
        asked = "".join([*start, "mine", query, words["query"], document, words["document"], behind])
        assert asked == rendered(source, system="mine", **words)


def test_the_published_one_is_the_cards(tmp_path):
    assert pair_template(write(tmp_path, config=CHAT_TEMPLATE), "any") == (QWEN3_RERANKER, QWEN3_INSTRUCTION)


@pytest.mark.parametrize("config", [None, GENERAL, [{"name": "tools", "template": PLAIN}], 3])
def test_where_there_is_none_the_name_or_the_user_says_it(config, tmp_path):
    write(tmp_path, config=config)
    for name in ("any", "Qwen3-Reranker", "Qwen3-Embedding-0.6B", "my-Qwen3-Reranker-0.6B-lora"):
        assert pair_template(tmp_path, name) == ((), "")
    for name in ("Qwen/Qwen3-Reranker-8B", "Qwen3-Reranker-0.6B", "tomaarsen/Qwen3-Reranker-0.6B-seq-cls"):
        assert pair_template(tmp_path, name) == (QWEN3_RERANKER, QWEN3_INSTRUCTION)
    assert pair_template(tmp_path, "any", asked=True) == (QWEN3_RERANKER, QWEN3_INSTRUCTION)


def test_the_file_goes_before_the_key_and_the_default_before_others(tmp_path):
    listed = [{"name": "tools", "template": GENERAL}, {"name": "default", "template": PLAIN}]
    assert pair_template(write(tmp_path, config=listed), "any")[0] == ("Q: ", "\nD: ", "")
    assert pair_template(write(tmp_path, file=CHAT_TEMPLATE, config=listed), "any")[0] == QWEN3_RERANKER


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (PLAIN + "{% if add_generation_prompt %}A{% endif %}", "it has {% if add_generation_prompt %}"),
        (PLAIN + "{{ eos_token }}", "it has {{ eos_token }}"),
        (PLAIN.replace("| first", "| first | default('x')", 1), "it has {{ messages"),
        (PLAIN + "{{ " + CONTENT["query"].replace('"query"', '"tool"') + " }}", "it has {{ messages"),
        (f"{DOCUMENT}{QUERY}", "the order of its roles is document, query"),
        (f"{QUERY}{DOCUMENT}{QUERY}", "the order of its roles is query, document, query"),
        ("{% set a = " + CONTENT["query"] + " | upper %}{{ a }}" + DOCUMENT, "it has {% set a"),
    ],
)
def test_what_is_not_read_is_refused(source, says, tmp_path):
    with pytest.raises(SpecError) as caught:
        pair_template(write(tmp_path, config=source), "Qwen3-Reranker-0.6B")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'tokenizer_config.json'}: chat_template: ")
    assert says in message


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"chat_template\.jinja cannot be read: .*; fetch it again"):
        pair_template(tmp_path, "any")


def test_the_instruction_is_the_folders_default_prompt_or_the_templates(tmp_path):
    write(tmp_path, config=CHAT_TEMPLATE)
    assert needed_template(tmp_path, "any") == (QWEN3_RERANKER, {"instruction": QWEN3_INSTRUCTION})
    sentence = tmp_path / "config_sentence_transformers.json"
    sentence.write_text(json.dumps({"prompts": {"web": "mine"}}))
    assert needed_template(tmp_path, "any")[1] == {"instruction": QWEN3_INSTRUCTION}
    sentence.write_text(json.dumps({"prompts": {"web": "mine"}, "default_prompt_name": "web"}))
    assert needed_template(tmp_path, "any")[1] == {"instruction": "mine"}
    assert needed_template(write(tmp_path, config=PLAIN), "any") == (("Q: ", "\nD: ", ""), {})
    sentence.write_text(json.dumps({"prompts": {"web": "mine"}, "default_prompt_name": "query"}))
    with pytest.raises(SpecError, match=r"config_sentence_transformers\.json.*query"):
        needed_template(tmp_path, "any")
    with pytest.raises(SpecError, match=r"tokenizer_config\.json: chat_template: there is none with a place"):
        needed_template(write(tmp_path), "any")
