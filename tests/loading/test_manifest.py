"""The manifest is read as it was written, or refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.artefacts import QUALITY, SPEC, made, refused, rewrite

from nimbed._loading.artefact import file_records, open_artefact
from nimbed._loading.describe import describe
from nimbed._loading.manifest import FORMAT, MANIFEST, FileRecord, Manifest, SourceRecord, read_manifest, write_manifest
from nimbed._types import DenseSpec
from nimbed.errors import ArtefactError


def test_a_newer_format_says_to_upgrade(place):
    refused(made(place, format=FORMAT + 1), MANIFEST, "newer", "pip install -U nimbed")


def test_an_older_format_says_how_to_build_it_again(place):
    command = f"nimbed quantize some/model -o {place} --backend openvino --precision int8 --revision abc"
    refused(made(place, format=FORMAT - 1), MANIFEST, "older", f"build it again: {command}")


def test_an_older_format_needs_no_checksum_that_is_known(place):
    values = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))
    (place / MANIFEST).write_text(json.dumps({**values, "format": FORMAT - 1, "checksum": "another kind"}))
    refused(place, "older", "nimbed quantize some/model")


def test_an_older_artefact_in_the_hubs_cache_is_built_elsewhere(tmp_path):
    place = tmp_path / "snapshots" / "0123"
    place.mkdir(parents=True)
    refused(made(place, format=FORMAT - 1), "nimbed quantize some/model -o model-openvino-int8 --backend")


@pytest.mark.parametrize(
    "content", ["[]", "null", '"text"', "{}", '{"format": "1"}', '{"format": 0}', '{"format": true}', '{"name": "x"}']
)
def test_a_foreign_manifest(place, content):
    (place / MANIFEST).write_text(content)
    refused(place, str(place / MANIFEST), "no nimbed artefact")


@pytest.mark.parametrize("content", [b"", b'{"format": 1,', b"\xff\xfe{}", b"\0" * 30, b"[" * 200_000])
def test_a_manifest_that_is_no_json(place, content):
    (made(place) / MANIFEST).write_bytes(content)
    refused(place, str(place / MANIFEST), "cannot be read")


@pytest.mark.parametrize("key", ["engine", "precision", "source", "spec", "key", "files"])
def test_an_incomplete_manifest(place, key):
    refused(rewrite(made(place), **{key: ...}), str(place / MANIFEST), key, "incomplete")


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", {"id": "a"}), ("source", 3), ("spec", []), ("spec", {"dim": 3}), ("files", ["model.xml"]),
     ("files", {"model.xml": {"bytes": 6}}), ("files", {"model.xml": None}), ("engine", "tensorrt"), ("forced", 1),
     ("precision", "int4"), ("versions", {"torch": 2}), ("quality", {}), ("quality", {**QUALITY, "missed": ["x"]}),
     ("quality", {**QUALITY, "min_cosine": None}), ("repair", {"before": {}}), ("more", 1), ("key", None)],
)  # fmt: skip
def test_a_manifest_with_parts_of_another_form(place, key, value):
    refused(rewrite(made(place), **{key: value}), str(place / MANIFEST), key)


@pytest.mark.parametrize(
    "change",
    [{"dim": 0}, {"dim": -8}, {"dim": 2**60}, {"dim": "8"}, {"dim": True}, {"max_length": 1e400}, {"pooling": "median"},
     {"prompts": {"query": 3}}, {"dense": [3]}, {"dense": 0}, {"positions": -1}, {"more": 1}],
)  # fmt: skip
def test_a_spec_that_cannot_be(place, change):
    spec = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))["spec"]
    refused(rewrite(place, spec={**spec, **change}), "spec")


@given(data=st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_of_the_manifest_is_found(place, data):
    """80 of 3,000 changed vectors before it had a checksum: a pooling, a prompt, a length."""
    manifest = open_artefact(made(place)).manifest
    content = bytearray((place / MANIFEST).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (place / MANIFEST).write_bytes(content)
    try:
        assert read_manifest(place) == manifest
    except ArtefactError as err:
        assert str(place / MANIFEST) in str(err)  # noqa: PT017 (either is right)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_maker_writes_gives_errors_of_ours_alone(place, data):
    values = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))
    within = values
    while isinstance(within, dict) and within:
        key = data.draw(st.sampled_from(sorted(within)))
        if not isinstance(within[key], dict) or data.draw(st.booleans()):
            within[key] = data.draw(ANYTHING)
            break
        within = within[key]
    rewrite(place, **values)
    with suppress(ArtefactError):
        describe(open_artefact(place))


@pytest.mark.parametrize(
    "name", ["../model.xml", "/etc/passwd", "a/../../b", "a\\b", "C:b", "", ".", "a//b", "a/", "a\0b", "nimbed.json"]
)
def test_a_name_that_leads_out(place, name):
    files = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))["files"]
    refused(rewrite(place, files={**files, name: files["model.xml"]}), "no name within the folder", repr(name))


def test_every_file_that_an_engine_reads_is_listed(place):
    refused(rewrite(made(place), files={}), "not listed")
    for name in ("model.bin", "model.xml", "tokenizer.json"):
        records = {n: vars(r) for n, r in file_records(made(place)).items() if n != name}
        refused(rewrite(place, files=records), name, "not listed")


def test_no_manifest(place):
    refused(place, str(place / MANIFEST), "missing")


REPAIR = {
    "before": {"min_cosine": 0.8},
    "accuracy_control": "none",
    "fp32_layers": ["a", "b"],
    "latency_ratio": None,
    "latency": "not measured",
}


@given(
    prompts=st.dictionaries(st.text(), st.text(), max_size=3),
    key=st.text(),
    seed=st.integers(),
    forced=st.booleans(),
    repair=st.none() | st.just(REPAIR),
)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read_whatever_the_words(place, prompts, key, seed, forced, repair):
    calibration = {"origin": "a file", "sha256": "0" * 64, "texts": 3, "seed": seed}
    spec = replace(SPEC, prompts=prompts)
    made(place, spec=spec, key=key, calibration=calibration, forced=forced, repair=repair, quality=None)
    read = read_manifest(place)
    assert (read.spec, read.key, read.calibration, read.forced) == (spec, key, calibration, forced)
    assert (read.quality, read.source.revision) == (None, "abc")
    assert read.repair == repair


def test_the_file_is_for_people_too(place):
    text = (made(place) / MANIFEST).read_text(encoding="utf-8")
    assert '"query": "为: "' in text
    assert text.startswith('{\n  "engine": "openvino"')
    assert text.endswith("}\n")


def test_other_bytes_under_the_right_checksum_are_another_digest():
    record = FileRecord(bytes=3, sha256="a" * 64, crc32=7)
    manifest = Manifest(
        engine="native",
        precision="int8",
        source=SourceRecord(id="m", revision=None, file="f", sha256="b" * 64),
        spec=SPEC,
        key="k",
        files={"one": record, "two": record},
    )
    turned = replace(
        manifest, files={"two": record, "one": record}, key="other", source=replace(manifest.source, id="n")
    )
    assert turned.digest == manifest.digest  # what it is called, and the files' order, are no content
    for change in ({"bytes": 4}, {"sha256": "c" * 64}, {"crc32": 8}):
        assert replace(manifest, files={"one": record, "two": replace(record, **change)}).digest != manifest.digest
    assert replace(manifest, files={"one": record, "zwei": record}).digest != manifest.digest


def test_dense_layers_that_torchscript_runs_beside_itself_are_listed(place):
    (made(place) / "model.pt").write_bytes(b"x")
    layer = DenseSpec(weights="2_Dense/model.safetensors", in_features=8, out_features=8, bias=True, activation="tanh")
    made(place, engine="ipex", spec=replace(SPEC, dense=(layer,)))
    with pytest.raises(ArtefactError, match=r"2_Dense/model\.safetensors is not listed, and ipex reads it"):
        read_manifest(place)


@pytest.mark.parametrize(("field", "number"), [("bytes", -1), ("crc32", -1)])
def test_a_size_below_0_is_refused(place, field, number):
    files = json.loads((made(place) / MANIFEST).read_text(encoding="utf-8"))["files"]
    refused(rewrite(place, files={**files, "model.bin": {**files["model.bin"], field: number}}), "model.bin", "below 0")


def test_the_manifest_alone_is_read_without_the_files(place):
    manifest = open_artefact(made(place)).manifest
    for name in manifest.files:
        (place / name).unlink()
    assert read_manifest(place) == manifest


def test_a_manifest_that_is_written_anew_replaces_the_old_one(place):
    manifest = read_manifest(made(place))
    write_manifest(place, replace(manifest, forced=True))
    assert read_manifest(place) == replace(manifest, forced=True)
