"""What the files beside ``tokenizer.json`` say of a tokenizer, as transformers 5 heeds them.

The class that it has for a network builds parts of a tokenizer anew from these words; where the folder names another
class, ``tokenizer.json`` stands, and only tokens are added. Words that change no id (``legacy``, ``trim_offsets``,
``never_split`` and the like) are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nimbed._files.json import Fields, read_json, shown
from nimbed.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Every file that has a say in a text's ids.
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE = ("additional_special_tokens", "extra_special_tokens")
TOKEN_FLAGS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
_PLAIN = ("PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True, kw_only=True)
class TokenizerClass:
    """A class of transformers that builds parts of a tokenizer anew.

    Attributes:
        model: the kind of ``tokenizer.json`` that it is for.
        tokens: its special tokens, where no file says others.
        frame: the words for the tokens before and behind a text; None where ``tokenizer.json`` has them.
        bert: whether its normalizer is BERT's.
        space: what ``add_prefix_space`` is where it is not said; None where that word is not heeded.
    """

    model: str
    tokens: Mapping[str, str]
    frame: tuple[str, str] | None = None
    bert: bool = False
    space: bool | None = None


_ANGLES = dict(zip(_NAMES, ("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"), strict=True))
_SQUARE = {f"{name.lower()}_token": f"[{name}]" for name in ("UNK", "SEP", "PAD", "CLS", "MASK")}
_END = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
_XLM = TokenizerClass(model="Unigram", tokens=_ANGLES, frame=("bos_token", "eos_token"), space=True)
_CLASSES = {
    "BertTokenizer": TokenizerClass(model="WordPiece", tokens=_SQUARE, frame=("cls_token", "sep_token"), bert=True),
    "CamembertTokenizer": _XLM,
    "MPNetTokenizer": TokenizerClass(
        model="WordPiece", tokens={**_ANGLES, "unk_token": "[UNK]"}, frame=("cls_token", "sep_token"), bert=True
    ),
    "Qwen2Tokenizer": TokenizerClass(model="BPE", tokens=_END, space=False),
    "RobertaTokenizer": TokenizerClass(model="BPE", tokens=_ANGLES, frame=("cls_token", "sep_token"), space=False),
    "XLMRobertaTokenizer": _XLM,
}
# The class that transformers has for a network.
OF_NETWORK = {
    **dict.fromkeys(
        ("bert", "convbert", "distilbert", "electra", "ernie", "megatron-bert", "nomic_bert"), "BertTokenizer"
    ),
    **dict.fromkeys(("ibert", "longformer", "roberta", "roberta-prelayernorm"), "RobertaTokenizer"),
    **dict.fromkeys(("jina_embeddings_v3", "xlm-roberta", "xlm-roberta-xl", "xmod"), "XLMRobertaTokenizer"),
    **dict.fromkeys(("qwen2", "qwen3"), "Qwen2Tokenizer"),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), "GemmaTokenizer"),
    **dict.fromkeys(("mt5", "t5", "umt5"), "T5Tokenizer"),
    "albert": "AlbertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "modernbert": "TokenizersBackend",
    "mpnet": "MPNetTokenizer",
}


class TokenizerWords:
    """The words of a folder's files."""

    def __init__(self, folder: Path) -> None:
        def fields(name: str) -> Fields:
            path = folder / name
            content = read_json(path, missing={})
            return content if isinstance(content, Fields) else Fields(content, str(path))

        self.folder = folder
        self.config, self._map, self.added = (fields(name) for name in FILES[1:])
        self._network = fields("config.json")

    @property
    def plain(self) -> bool:
        """Whether ``tokenizer.json`` stands as it is: the folder names another class than transformers has for it."""
        stated = self.config.text("tokenizer_class", default="").removesuffix("Fast")
        own = OF_NETWORK.get(self._network.text("model_type", default=""))
        return stated in {name.removesuffix("Fast") for name in _PLAIN} or bool(stated and own and stated != own)

    def kind(self, model: str) -> TokenizerClass | None:
        """The class that builds parts anew, or None; ``model`` is that of ``tokenizer.json``."""
        if self.plain:
            return None
        stated = self.config.text("tokenizer_class", default="") or self._network.text("tokenizer_class", default="")
        name = stated.removesuffix("Fast") or OF_NETWORK.get(self._network.text("model_type", default=""), "")
        kind = _CLASSES.get(name)
        return kind if kind is not None and kind.model == model else None

    def tokens(self, kind: TokenizerClass | None) -> dict[str, dict[str, Any]]:
        """The special tokens by the words for them, each with its flags."""
        given: dict[str, Any] = dict(kind.tokens) if kind is not None else {}
        given |= {name: self.config[name] for name in self.config if name.endswith("_token")}
        if self.decoder is None:
            given |= self._map
        more = [where.get(word) for where in (given, self.config) for word in _MORE]
        for at, listed in enumerate(more):
            tokens = listed if isinstance(listed, list) else []
            given |= listed if isinstance(listed, dict) else {f"{at} {n}": token for n, token in enumerate(tokens)}
        found = {name: _token(given[name]) for name in (*_NAMES, *given) if name in given}
        return {name: token for name, token in found.items() if token is not None}

    @property
    def decoder(self) -> Fields | None:
        """The tokens by their ids in ``tokenizer_config.json``."""
        return self.config.fields("added_tokens_decoder", default=None)

    def refusal(self, word: str, found: str) -> SpecError:
        """The error where ``tokenizer.json`` does something else than a word or token says; to be raised."""
        places = (self._map, self.config, self.added) if self.decoder is None else (self.config, self.added)
        place = next((fields for fields in places if word in fields), self.config)
        said = shown(place[word]) if word in place else "not said"
        folder = str(self.folder)
        return SpecError(
            f"{place.where}: {word}: {said}, but {self.folder / FILES[0]} {found}; make that file whole with "
            f"transformers: AutoTokenizer.from_pretrained({folder!r}).save_pretrained({folder!r})"
        )


def _token(value: object) -> dict[str, Any] | None:
    """A special token's content and flags; None where it is none (``add_bos_token`` is a flag)."""
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, dict) or not isinstance(value.get("content"), str) or not value["content"]:
        return None
    flags = {name: value[name] for name in TOKEN_FLAGS if isinstance(value.get(name), bool)}
    return {"normalized": False, **flags, "content": value["content"], "special": True}
