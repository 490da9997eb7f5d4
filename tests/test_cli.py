"""The command, run as a person runs it."""

from __future__ import annotations

import json
import os
import re
import sys
import threading

import numpy as np
import pytest

import nimbed
from nimbed import Encoder
from nimbed._files.npy import write_rows
from nimbed._files.user_paths import write_whole
from nimbed._loading.artefact import open_artefact
from nimbed.cli import main
from nimbed.errors import EncodeTimeoutError, InputError
from tests.support.cross_encoders import write_cross_encoder


def test_doctor(capsys, nimbed_home):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for word in (
        "cpu",
        "instructions",
        "threads",
        "openvino (20",
        "auto precision",
        str(nimbed_home),
        "quantize (installed)",
    ):
        assert word in said


def test_doctor_of_a_cross_encoder(capsys, tmp_path):
    assert main(["doctor", str(write_cross_encoder(tmp_path / "judge"))]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "model judge kind cross-encoder longest text" in said
    assert main(["doctor", str(tmp_path / "missing")]) == 1


def test_doctor_names_what_is_missing(capsys, monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "torch (not installed)" in said
    assert 'pip install "nimbed[torch]"' in said


@pytest.mark.parametrize(
    ("missing", "says"), [(None, "int8: the native engine's sums"), ("it was not compiled", "fp32: no VNNI")]
)
def test_doctor_says_the_precision_of_the_engine_that_auto_takes(missing, says, capsys, monkeypatch):
    from nimbed import _machine
    from nimbed._loading import auto

    monkeypatch.setattr(_machine, "cpu", lambda: _machine.Cpu(model="old", architecture="x86_64", features=("avx2",)))
    monkeypatch.setattr(auto, "native_missing", lambda: missing)
    assert main(["doctor"]) == 0
    assert f"auto precision   {says}" in capsys.readouterr().out


def test_embed_streams_to_numpy(tmp_path, capsys):
    texts = [f"text {n}" for n in range(1200)]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in enumerate(texts)))
    out = tmp_path / "out.npy"
    assert main(["embed", str(source), "-o", str(out), "--model", "any", "--backend", "fake"]) == 0
    assert "1200 x 384, 0 texts truncated" in capsys.readouterr().out
    with Encoder("any", backend="fake") as encoder:
        np.testing.assert_array_equal(np.load(out), encoder.encode(texts))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.npy"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a"}\n{"text": 3}\n', "line 2"),
        ('{"text": "a"}\nnot json\n', "line 2"),
        (None, "cannot be read"),
    ],
)
def test_embed_leaves_nothing_after_an_error(content, says, tmp_path, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    if content is not None:
        source.write_text(content)
    assert main(["embed", str(source), "-o", str(out), "--model", "any", "--backend", "fake"]) == 1
    assert says in capsys.readouterr().err
    assert not [p for p in tmp_path.iterdir() if p != source]


def test_embed_nothing(tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    out = tmp_path / "out.npy"
    assert main(["embed", str(tmp_path / "in.jsonl"), "-o", str(out), "--model", "any", "--backend", "fake"]) == 0
    assert np.load(out).shape == (0, 384)


def embed(source, out):
    return main(["embed", str(source), "-o", str(out), "--model", "any", "--backend", "fake"])


def test_embed_does_not_replace_what_it_reads(tmp_path, capsys):
    source = tmp_path / "texts.txt"
    source.write_text("one\ntwo\n")
    (tmp_path / "link.npy").symlink_to(source)
    for out in (source, tmp_path / "link.npy"):
        assert embed(source, out) != 0
        assert "is the file that is read" in capsys.readouterr().err
    assert source.read_text() == "one\ntwo\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_embed_reads_a_pipe_once(tmp_path):
    """As in ``nimbed embed <(cat texts.txt)``."""
    pipe, texts = tmp_path / "pipe", [f"text {n}" for n in range(700)]
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("\n".join(texts),))
    writer.start()
    assert embed(pipe, tmp_path / "out.npy") == 0
    writer.join()
    with Encoder("any", backend="fake") as encoder:
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), encoder.encode(texts))


@pytest.mark.parametrize(("now", "fails"), [("one\n", True), ("", True), ("one\ntwo\nthree\n", False)])
def test_a_file_that_changes_while_it_is_embedded(now, fails, tmp_path, capsys, monkeypatch):
    source, out = tmp_path / "in.txt", tmp_path / "out.npy"
    source.write_text("one\ntwo\n")

    def opened(*arguments, **options):
        source.write_text(now)
        return Encoder(*arguments, **options)

    monkeypatch.setattr("nimbed.Encoder", opened)
    assert embed(source, out) == fails
    if fails:
        assert re.search(r"in\.txt had 2 texts at first, then [01]: .*run again", capsys.readouterr().err)
        assert list(tmp_path.iterdir()) == [source]
    else:
        assert np.load(out).shape == (2, 384)


def test_two_runs_to_one_file_are_each_whole(tmp_path):
    out = tmp_path / "out.npy"
    mine, others = np.full((3, 4), 1, np.float32), np.full((5, 4), 2, np.float32)

    def blocks():
        yield mine[:1]
        assert write_rows(out, [others], 4) == 5
        np.testing.assert_array_equal(np.load(out), others)
        yield mine[1:]

    assert write_rows(out, blocks(), 4) == 3
    np.testing.assert_array_equal(np.load(out), mine)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    """The limit stands for the disk; memory that is mapped to a full one ends the process with SIGBUS."""
    import resource

    monkeypatch.setattr("mmap.mmap", None)
    (tmp_path / "in.txt").write_text("a text\n" * 200)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert embed(tmp_path / "in.txt", tmp_path / "out.npy") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search(r"nimbed: .*out\.npy.* cannot be written: ", capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["in.txt"]


def test_a_place_that_is_not_there_is_told_before_the_model_is_opened(tmp_path, capsys):
    (tmp_path / "in.txt").write_text("a text\n")
    assert main(["embed", f"{tmp_path}/in.txt", "-o", f"{tmp_path}/none/out.npy", "-m", "no/such/model"]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes and links")
def test_links_stay_and_devices_are_never_replaced(tmp_path, capsys):
    pipe, link, out = tmp_path / "pipe", tmp_path / "link.npy", tmp_path / "out.npy"
    os.mkfifo(pipe)
    link.symlink_to(out)
    assert write_rows(link, [np.ones((2, 4), np.float32)], 4) == 2
    assert link.is_symlink()
    assert np.load(out).shape == (2, 4)
    for place in (pipe, tmp_path):
        with pytest.raises(InputError, match="is no file"):
            write_rows(place, [], 4)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    read: list[str] = []
    reader.start()
    write_whole(pipe, "a report")
    reader.join()
    assert read == ["a report"]
    assert pipe.is_fifo()


def test_an_error_of_the_engine_is_not_the_disks(tmp_path):
    def blocks():
        yield np.zeros((1, 4), np.float32)
        raise EncodeTimeoutError("too late")

    with pytest.raises(EncodeTimeoutError, match="too late"):
        write_rows(tmp_path / "out.npy", blocks(), 4)
    assert list(tmp_path.iterdir()) == []


def test_quantize(tiny_onnx, tmp_path, capsys):
    out = tmp_path / "artefact"
    texts = tmp_path / "mine.txt"
    texts.write_text("one of my texts\nand another\n")
    assert main(["quantize", str(tiny_onnx), "-o", str(out), "--calibrate", str(texts), "--pooling", "cls"]) == 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert "cls pooling" in said
    assert "against fp32 on 256 held-out texts" in said
    manifest = json.loads((out / "nimbed.json").read_text())
    assert manifest["calibration"]["count"] == 2


def test_errors_are_one_line(capsys):
    assert main(["quantize", "./nowhere"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nimbed: ./nowhere: neither a folder nor a hub id")
    assert said.count("\n") == 1


def test_verify(tiny_onnx, tmp_path, capsys):
    folder = nimbed.quantize(tiny_onnx, tmp_path / "artefact", precision="fp32", progress=False).folder
    assert main(["verify", str(folder)]) == 0
    digest = open_artefact(folder).manifest.digest
    assert capsys.readouterr().out == f"{folder}: 3 files as they were built, digest {digest}\n"
    (folder / "model.bin").write_bytes(b"other")
    assert main(["verify", str(folder)]) == 1
    assert "model.bin has 5 bytes" in capsys.readouterr().err
