"""Which texts calibrate, which measure, and what is said of texts that cannot."""

from __future__ import annotations

import csv
import json
import os
from functools import partial
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed import Calibration, quantize
from nimbed._loading.artefact import open_artefact
from nimbed.cli import main
from nimbed.errors import InputError
from nimbed.quantization.calibration import choose, excerpt, read_texts


def test_calibration_on_the_users_texts(in_process, tiny_onnx, tmp_path, peps):
    made = quantize(
        tiny_onnx, tmp_path / "a", calibration=Calibration(texts=peps[:40], count=16, seed=1), progress=False
    )
    assert made.manifest.calibration["origin"] == "the user's texts"
    assert made.manifest.calibration["count"] == 16
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in peps[:40]))
    again = quantize(tiny_onnx, tmp_path / "b", calibration=Calibration(texts=file, count=16, seed=1), progress=False)
    assert again.manifest.calibration == made.manifest.calibration
    with pytest.raises(InputError, match="made from other inputs"):
        quantize(tiny_onnx, tmp_path / "a", calibration=peps[:5], progress=False)


def test_choice_is_stratified_and_seeded():
    texts = ["word " * n for n in np.random.default_rng(0).permutation(np.arange(1, 1001))]

    def tokenize(some):
        return [np.zeros(len(text.split()), np.int32) for text in some]

    first = choose(texts, tokenize, count=50, seed=3, origin="test")
    assert first.record == choose(texts, tokenize, count=50, seed=3, origin="test").record
    assert first.record != choose(texts, tokenize, count=50, seed=4, origin="test").record
    whole, excerpts = first.calibrate[:50], first.calibrate[50:]
    assert all(20 * i < n <= 20 * (i + 1) for i, n in enumerate(sorted(map(len, whole))))
    assert len(excerpts) == 50
    assert all(1 <= len(s) <= 160 / 5 for s in excerpts)
    parts = [whole, first.held_out[:128], first.ranking[:16]]
    assert [len(first.held_out), len(first.ranking)] == [2 * 128, 2 * 16]
    lengths = [{len(s) for s in part} for part in parts]
    assert [len(found) for found in lengths] == [50, 128, 16]
    assert len(set.union(*lengths)) == 50 + 128 + 16
    few = choose(texts[:3], tokenize, count=50, seed=0, origin="test")
    assert (few.record["count"], few.record["held_out"], few.record["held_out_shipped"]) == (3, 0, 0)
    assert sorted(map(len, few.held_out[:3])) == sorted(map(len, few.calibrate[:3]))


def counted(texts):
    return [np.zeros(len(text.split()), np.int32) for text in texts]


@pytest.mark.parametrize(
    ("longest", "held_out", "calibrating"),
    [(512, [], []), (1000, [], []), (1024, [1024], [1024]), (3000, [1024, 2048], [1024, 2048]),
     (32768, [1024, 2048, 4096], [1024, 2048])],
)  # fmt: skip
def test_where_a_network_takes_long_texts_some_calibrate_and_some_measure(longest, held_out, calibrating):
    texts = [f"w{n} " * int(size) for n, size in enumerate(np.random.default_rng(0).integers(20, 400, 500))]
    words = [set(text.split()) for text in texts]
    assert all(len(own) == 1 for own in words)
    choice = partial(choose, texts, count=50, seed=3, origin="test")
    short, chosen = choice(counted), choice(counted, longest=longest)
    assert [len(short.long), len(short.held_out)] == [0, 256]
    for wanted, made in ((calibrating, chosen.long), (held_out, chosen.held_out[128 : len(chosen.held_out) // 2])):
        assert len(made) == len(wanted)
        assert all(least <= len(sequence) < least + 400 for least, sequence in zip(wanted, made, strict=True))
    assert len(chosen.held_out) == 256 + 2 * len(held_out)
    assert [len(s) for s in chosen.held_out[:128]] == [len(s) for s in short.held_out[:128]]
    assert max(len(s) for s in chosen.held_out[len(chosen.held_out) // 2 :]) <= 160
    assert [len(s) for s in chosen.calibrate] == [len(s) for s in short.calibrate]
    if not held_out:
        assert chosen.record == short.record


@pytest.mark.parametrize(
    ("parts", "step", "joined"), [(0.5, 1, 3), (1, 1, 3), (2, 2, 2), (3.9, 4, 1), (8, 8, 0), (1000, 1000, 0)]
)
def test_a_large_network_is_measured_on_every_nth_text(parts, step, joined):
    mine, others = ([f"{whose}{n} " * size for n, size in enumerate(range(20, 320))] for whose in "mo")
    chosen = choose(mine, words_of, count=20, seed=3, origin="test", others=others, longest=4096)
    tokens = sum(map(len, chosen.held_out)) / parts
    few = chosen.within(tokens)
    whole, half = chosen.held_out[: len(chosen.held_out) // 2], len(few.held_out) // 2
    short, long = few.held_out[: half - joined], few.held_out[half - joined : half]
    assert [*map(len, long)] == [*map(len, whole[-3:])][:joined]  # the others are more than a fifth of all
    assert all(5 * len(sequence) > tokens for sequence in whole[-3:][joined:])
    assert [*map(list, short)] == [*map(list, whole[:-3:step])]
    for text, stretch in zip(few.held_out[:half], few.held_out[half:], strict=True):
        assert set(stretch) <= set(text)  # its own excerpt
    own = sum(1 for text in short if text[0] < 10_000)
    assert (few.record["held_out"], few.record["held_out_shipped"]) == (own, len(short) - own)
    assert few.record.keys() == chosen.record.keys()
    assert few.calibrate is chosen.calibrate


def words_of(texts):
    """A token a word: that of "m5" is 5, and that of "o5" is 10,005."""
    return [np.array([int(w[1:]) + 10_000 * (w[0] == "o") for w in text.split()], np.int32) for text in texts]


def test_where_the_calibration_texts_measure_fewer_of_them_do():
    chosen = choose(["a b", "c d e", "f"], counted, count=3, seed=0, origin="test")
    few = chosen.within(2)
    assert len(few.held_out) == 2
    assert (few.record["held_out"], few.record["held_out_shipped"]) == (0, 0)


def test_long_texts_are_of_the_side_that_they_are_on():
    texts = [chr(0x4E00 + n) * 100 for n in range(400)]

    def tokenize(some):
        return [np.array([ord(c) for c in text if c != "\n"], np.int32) for text in some]

    chosen = choose(texts, tokenize, count=100, seed=0, origin="test", longest=4096)
    half = len(chosen.held_out) // 2
    calibrating, measuring = (set(np.concatenate(some)) for some in (chosen.calibrate[:100], chosen.held_out[:128]))
    assert set(np.concatenate(chosen.long)) <= calibrating
    assert set(np.concatenate(chosen.held_out[128:half])) <= measuring
    assert not calibrating & measuring


def test_who_brings_long_texts_needs_no_longer_ones():
    texts = [f"w{n} " * (8 * n) for n in range(1, 601)]
    chosen = choose(texts, counted, count=50, seed=3, origin="test", longest=4096)
    assert max(map(len, chosen.calibrate)) > 2048
    assert chosen.long == []
    assert len(chosen.held_out) == 256


def test_others_measure_too_and_never_calibrate():
    """A user's own texts may be all alike, or very few: texts of another origin measure beside them."""

    def tokenize(some):
        return [np.array([len(text), *map(ord, text[:1])], np.int32) for text in some]

    def initials(sequences):
        return [chr(s[1]) for s in sequences]

    mine, others = ["m" * n for n in range(1, 301)], ["o" * n for n in range(1, 201)]
    chosen = choose(mine, tokenize, count=20, seed=0, origin="test", others=[*others, *mine[:9]])
    assert set(initials(chosen.calibrate)) == {"m"}
    assert initials(chosen.held_out[:128]).count("m") == chosen.record["held_out"] == 64
    assert initials(chosen.held_out[:128]).count("o") == chosen.record["held_out_shipped"] == 64
    assert set(initials(chosen.ranking)) == {"m", "o"}
    single = choose(mine[:1], tokenize, count=20, seed=0, origin="test", others=others)
    assert (single.record["count"], single.record["held_out"], single.record["held_out_shipped"]) == (1, 0, 128)


@given(text=st.text(), seed=st.integers(0, 99))
def test_an_excerpt_is_part_of_its_text(text, seed):
    stretch = excerpt(text, np.random.default_rng(seed))
    assert stretch in text
    assert bool(stretch) == bool(text)
    assert len(stretch) <= 160


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def test_shipped_texts_are_real_and_attributed():
    texts = read_texts(None)
    assert len(texts) == 384 + 160
    assert sum(map(len, texts)) > 200_000
    assert sum(map(is_chinese, texts)) == 160
    data = resources.files("nimbed.quantization") / "data"
    assert len((data / "calibration.jsonl.gz").read_bytes()) < 200_000
    notice = (data / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for words in ("public domain", "Copyright (c) 2017-2025 Rust 中文社区", "The above copyright notice and this"):
        assert words in notice


@pytest.mark.parametrize("seed", range(5))
def test_both_languages_calibrate_and_measure(seed):
    texts = read_texts(None)
    places = {text: place for place, text in enumerate(texts)}

    def tokenize(some):  # an excerpt has no place
        return [np.array([places.get(text, -1), *([0] * (len(text) // 4))], np.int32) for text in some]

    chosen = choose(texts, tokenize, count=128, seed=seed, origin="test")
    for whole in (chosen.calibrate[:128], chosen.held_out[:128], chosen.ranking[:16]):
        share = np.mean([is_chinese(texts[sequence[0]]) for sequence in whole])
        assert 0.1 < share < 0.6


def test_blank_and_repeated_texts_count_once(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("same\nsame\n\nother\nsame\n")
    assert read_texts(file) == ["same", "other"]
    table = tmp_path / "texts.csv"
    table.write_text("text,n\n ,1\n  ,2\n")
    with pytest.raises(InputError, match=r"texts\.csv holds no texts"):
        read_texts(table)


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        ([], "at least one text"),
        (["a", 3], "item 1 is int"),
        (Calibration(texts="no-such-file.jsonl"), "does not exist"),
    ],
)
def test_bad_calibration(calibration, says, tiny_onnx, tmp_path):
    with pytest.raises((InputError, TypeError), match=says):
        quantize(tiny_onnx, tmp_path / "out", calibration=calibration, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jsonl", b"", "holds no texts"),
        ("blank.txt", b" \n\n", "holds no texts"),
        ("wrong.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "line 2: no field \"text\", only 'body'"),
        ("wrong.csv", b"id,body\n1,a\n", 'line 1: no column "text"'),
        ("type.jsonl", b'{"text": 3}\n', 'line 1: "text" is int'),
        ("binary.txt", b"\x7fELF\x00\x00", "line 1: holds a NUL character"),
        ("mixed.txt", "é\n".encode() + "é\n".encode("latin-1"), "line 2: not UTF-8"),
        ("huge.txt", b"a" * 1_000_001, "line 1: more than 1000000 characters"),
        ("huge.jsonl", b'{"text": "' + b"a" * 1_000_001 + b'"}', "line 1: more than 1000000 characters"),
        ("table.parquet", b"PAR?", "cannot be read as Parquet"),
    ],
)
def test_bad_files_end_the_command_with_one_line(name, content, says, tiny_onnx, tmp_path, capsys):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    file = tmp_path / name
    file.write_bytes(content)
    assert main(["quantize", str(tiny_onnx), "-o", str(tmp_path / "out"), "--calibrate", str(file)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nimbed: ")]
    assert len(said) == 1
    assert str(file) in said[0]
    assert says in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_file_that_changes_between_its_hash_and_its_reading(tiny_onnx, tmp_path, monkeypatch):
    """The artefact's place in the cache is that of the first content."""
    from nimbed._loading import build

    file, started = tmp_path / "texts.txt", build._started
    file.write_text("one text\nanother\n")

    def changed(request):
        file.write_text("other texts\nby far\n")
        return started(request)

    monkeypatch.setattr(build, "_started", changed)
    with pytest.raises(InputError, match=r"texts\.txt was changed while the build began"):
        quantize(tiny_onnx, tmp_path / "out", calibration=Calibration(texts=file), progress=False)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_no_calibration_file(tiny_onnx, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is read twice, so it must be a file"):
        quantize(tiny_onnx, tmp_path / "out", calibration=Calibration(texts=tmp_path / "pipe"), progress=False)


def test_a_field_of_the_users_own(in_process, tiny_onnx, tmp_path, peps):
    file = tmp_path / "mine.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["n", "body"], *enumerate(peps[:40])])
    command = ["quantize", str(tiny_onnx), "--calibrate", str(file), "--text-field", "body", "--count", "16"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    made = open_artefact(tmp_path / "out").manifest.calibration
    assert (made["count"], made["held_out"], made["held_out_shipped"]) == (16, 22, 106)
