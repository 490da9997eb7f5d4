"""``tokenizer.json`` with the words of the files beside it laid over: applied as they stand, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nimbed._files.json import read_json
from nimbed._model_folder.tokenizer_settings import FILES, TOKEN_FLAGS, TokenizerWords
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from nimbed._model_folder.tokenizer_settings import TokenizerClass

    Flags = dict[str, Any]

# The fields of a BertNormalizer, by the words for them.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}

# Gemma's tokenizers have it for pictures; the networks that read text alone have no row for it.
_OF_PICTURES = ("<image_soft_token>",)


def lay_over(tokenizer: Any, folder: Path) -> Any:  # noqa: ANN401 (tokenizers has no types)
    """The tokenizer as all files of a model folder describe it together.

    Raises:
        SpecError: they contradict each other, or the network has no row for one of the tokens.
    """
    words = TokenizerWords(folder)
    kind = words.kind(type(tokenizer.model).__name__)
    if not words.plain:
        _lay_normalizer(tokenizer, words, kind)
    if kind is not None and kind.space is not None:
        unsaid = kind.space and "add_prefix_space" not in words.config  # null is no
        _lay_space(tokenizer, words.config.flag("add_prefix_space", default=unsaid))
    _lay_tokens(tokenizer, words, kind)
    _check_frame(tokenizer, words, kind)
    if (tokenizer.truncation or {}).get("direction") == "left" and words.config.get("truncation_side") is None:
        raise words.refusal("truncation_side", "cuts texts on the left")
    tokenizer = _with_rows(tokenizer, folder)
    if words.config.flag("split_special_tokens", default=False):  # a special token that a text holds is text
        tokenizer = _without(tokenizer, folder, lambda token: bool(token["special"]), "split_special_tokens: true")
    inputs = words.config.get("model_input_names")
    return _of_one_segment(tokenizer) if isinstance(inputs, list) and "token_type_ids" not in inputs else tokenizer


def _lay_normalizer(tokenizer: Any, words: TokenizerWords, kind: TokenizerClass | None) -> None:  # noqa: ANN401
    """``do_lower_case``, ``strip_accents`` and ``tokenize_chinese_chars``."""
    heeded = tuple(_NORMALIZER) if kind is not None and kind.bert else ("do_lower_case",) if kind is None else ()
    given = {word: words.config.flag(word, default=None) for word in heeded if word in words.config}
    if kind is not None and type(tokenizer.normalizer).__name__ == "BertNormalizer":
        for word in heeded:  # what is not said is as the class has it
            null = None if word == "strip_accents" else word not in words.config
            value = given.get(word)
            setattr(tokenizer.normalizer, _NORMALIZER[word], null if value is None else value)
        return
    lower, accent, chinese = (_normalized(tokenizer, text) for text in ("A", "é", "中"))
    does = {"do_lower_case": lower == "a", "strip_accents": accent == "e", "tokenize_chinese_chars": chinese == " 中 "}
    for word, value in given.items():
        if value not in {None, does[word]}:
            raise words.refusal(word, f"has a normalizer that {'does' if does[word] else 'does not do'} this")


def _normalized(tokenizer: Any, text: str) -> str:  # noqa: ANN401
    return text if tokenizer.normalizer is None else str(tokenizer.normalizer.normalize_str(text))


def _lay_space(tokenizer: Any, wanted: bool) -> None:  # noqa: ANN401
    for part in _parts(tokenizer.pre_tokenizer):
        if type(part).__name__ == "ByteLevel":
            part.add_prefix_space = wanted
        elif type(part).__name__ == "Metaspace":
            part.prepend_scheme = "always" if wanted else "never"


def _parts(steps: Any) -> Iterator[Any]:  # noqa: ANN401
    """The steps of a sequence, or the one step there is."""
    if type(steps).__name__ == "Sequence":
        yield from (steps[at] for at in range(len(json.loads(steps.__getstate__())["pretokenizers"])))
    elif steps is not None:
        yield steps


def _lay_tokens(tokenizer: Any, words: TokenizerWords, kind: TokenizerClass | None) -> None:  # noqa: ANN401
    """Tokens that ``tokenizer.json`` lacks, or has with other flags, in the order in which transformers adds them."""
    from tokenizers import AddedToken

    has = {token.content: _flags(token) for token in tokenizer.get_added_tokens_decoder().values()}
    named = {token["content"]: token for token in words.tokens(None).values()}
    usual = {token["content"]: token for token in words.tokens(kind).values()}
    stated = dict(_stated(words, has, named))
    if kind is not None and words.decoder is not None and (lost := [t for t in has if t not in {*stated, *usual}]):
        raise words.refusal("added_tokens_decoder", f"has {lost[0]!r} as a token beside these")
    wanted = {content: token for content, (_, token) in stated.items() if has.get(content) != token}
    # A class's own names are tokens where the vocabulary has them.
    known = [content for content in usual if content in named or tokenizer.token_to_id(content) is not None]
    wanted |= {content: usual[content] for content in known if content not in {*has, *stated}}
    tokenizer.add_tokens([AddedToken(**token) for token in wanted.values()])
    for content, (number, _) in stated.items():
        if (found := tokenizer.token_to_id(content)) != number:
            word = content if words.decoder is None else "added_tokens_decoder"
            raise words.refusal(word, f"makes {content!r} the token {found}, not {number}")
    if kind is not None and kind.bert and "unk_token" in words.tokens(None):
        tokenizer.model.unk_token = words.tokens(None)["unk_token"]["content"]


def _stated(
    words: TokenizerWords, has: Mapping[str, object], special: Mapping[str, object]
) -> Iterator[tuple[str, tuple[int, Flags]]]:
    """Content, id and flags of the tokens that are listed with their ids, by these."""
    if words.decoder is None:
        for number, content in sorted((words.added.whole(content), content) for content in words.added):
            if content not in has:
                flags = {**dict.fromkeys(TOKEN_FLAGS, False), "normalized": content not in special}
                yield content, (number, {**flags, "content": content, "special": content in special})
        return
    for key in sorted((key for key in words.decoder if key.isdecimal()), key=int):
        fields = words.decoder.fields(key)
        content, own = fields.text("content"), fields.flag("special", default=False)
        flags = {name: fields.flag(name, default=name == "normalized" and not own) for name in TOKEN_FLAGS[1:-1]}
        yield content, (int(key), {"content": content, **flags, "special": own})


def _flags(token: Any) -> Flags:  # noqa: ANN401
    return {name: getattr(token, name) for name in TOKEN_FLAGS}


def _check_frame(tokenizer: Any, words: TokenizerWords, kind: TokenizerClass | None) -> None:  # noqa: ANN401
    """The tokens around a text are those that the class puts there, and those that ``add_eos_token`` asks for."""
    before, after = frame_of(tokenizer)
    tokens = {name: token["content"] for name, token in words.tokens(kind).items()}
    if kind is not None and kind.frame is not None:
        for ids, name in zip((before, after), kind.frame, strict=True):
            if ids != [tokenizer.token_to_id(tokens[name])]:
                raise words.refusal(name, f"puts {_shown(tokenizer, ids)} there, not {tokens[name]!r}")
    for ids, name in ((before, "bos_token"), (after, "eos_token")):
        asked = words.config.get(f"add_{name}") is True and name in tokens
        if asked and tokenizer.token_to_id(tokens[name]) not in ids:
            raise words.refusal(f"add_{name}", f"puts {_shown(tokenizer, ids)} there, not {tokens[name]!r}")


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:  # noqa: ANN401
    return " ".join(repr(tokenizer.id_to_token(one)) for one in ids) or "nothing"


def _with_rows(tokenizer: Any, folder: Path) -> Any:  # noqa: ANN401
    """Every token has a row in the network's table: engines differ in what they do where one has none."""
    config = read_json(folder / "config.json")
    rows = config.whole("vocab_size", default=None)
    found = tokenizer.get_vocab(with_added_tokens=True).items()
    beyond = [] if rows is None else sorted((number, token) for token, number in found if number >= rows)
    if beyond and all(token in _OF_PICTURES for _, token in beyond):
        return _without(tokenizer, folder, lambda token: token["content"] in _OF_PICTURES, f"vocab_size: {rows}")
    if beyond:
        number, token = beyond[-1]
        raise SpecError(
            f"{folder / FILES[0]}: {token!r} is the token {number}, but {folder / 'config.json'}: vocab_size: {rows}: "
            "the network has no such row; add it with transformers (model.resize_token_embeddings), or remove the token"
        )
    return tokenizer


def _without(tokenizer: Any, folder: Path, drops: Callable[[Flags], bool], word: str) -> Any:  # noqa: ANN401
    """The tokenizer without some of the added tokens, which are text then.

    Raises:
        SpecError: others would have other numbers without them; ``word`` is what asks for it.
    """
    content = json.loads(tokenizer.to_str())
    kept = [token for token in content["added_tokens"] if not drops(token)]
    content["added_tokens"] = kept
    left = type(tokenizer).from_str(json.dumps(content))
    for token in kept:
        if (number := left.token_to_id(token["content"])) != token["id"]:
            raise SpecError(
                f"{folder / FILES[0]}: without the tokens that {word} leaves no place for, {token['content']!r} would "
                f"be the token {number}, not {token['id']}; write those tokens last, or leave that word out"
            )
    return left


def _of_one_segment(tokenizer: Any) -> Any:  # noqa: ANN401
    """``model_input_names`` without ``token_type_ids``: a pair's texts are of one segment."""
    if tokenizer.post_processor is None:
        return tokenizer
    state = json.loads(tokenizer.post_processor.__getstate__())
    if state["type"] == "Sequence":
        wanted = {**state, "processors": [_with_one_segment(one) for one in state["processors"]]}
    else:
        wanted = _with_one_segment(state)
    if wanted == state:
        return tokenizer
    return type(tokenizer).from_str(json.dumps({**json.loads(tokenizer.to_str()), "post_processor": wanted}))


def _with_one_segment(frame: dict[str, Any]) -> dict[str, Any]:
    """The tokens around a text and a pair, all of segment 0; BERT's own frame has no place for that."""
    if frame["type"] == "BertProcessing":
        tokens = {
            name: {"id": name, "ids": [number], "tokens": [name]} for name, number in (frame["cls"], frame["sep"])
        }
        cls, sep = ({"SpecialToken": {"id": frame[one][0], "type_id": 0}} for one in ("cls", "sep"))
        first, second = ({"Sequence": {"id": one, "type_id": 0}} for one in "AB")
        return {"type": "TemplateProcessing", "single": [cls, first, sep], "pair": [cls, first, sep, second, sep],
                "special_tokens": tokens}  # fmt: skip
    if "pair" not in frame:
        return frame
    pair = [{name: {**kind, "type_id": 0} for name, kind in piece.items()} for piece in frame["pair"]]
    return {**frame, "pair": pair}


def frame_of(tokenizer: Any) -> tuple[list[int], list[int]]:  # noqa: ANN401
    """The ids of the special tokens before and behind a text.

    Raises:
        SpecError: no text can be found that has a token between them.
    """
    if not tokenizer.num_special_tokens_to_add(False):
        return [], []
    padding = tokenizer.padding  # which the file may ask for, and which may be more than there is memory for
    tokenizer.no_padding()
    try:
        for probe in ("a", *(tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size()))):
            found = tokenizer.encode(probe)
            ids, owners = found.ids, found.sequence_ids
            if 0 in owners:
                return ids[: owners.index(0)], ids[len(owners) - owners[::-1].index(0) :]
    finally:
        if padding is not None:
            tokenizer.enable_padding(**padding)
    raise SpecError(f"{FILES[0]}: no text has a token beside the special ones; fetch the file again")
