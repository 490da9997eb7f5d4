"""The table of backends: what each engine is, reads and can. Everything that asks about an engine asks here.

Importing it imports no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from nimbed._model_folder.network_file import GRAPHS, WEIGHTS

if TYPE_CHECKING:
    from nimbed._model_folder.network_file import NetworkForms
    from nimbed._types import Precision

# IPEX's network.
SCRIPT = "model.pt"
# The native engine's part of an artefact.
ENCODER_FILE = "encoder.safetensors"


@dataclass(frozen=True, kw_only=True)
class BackendRecord:
    """One engine.

    Attributes:
        name: what the user calls it.
        module: has ``open_backend``; imported when the engine is opened.
        precisions: of its arithmetic, from artefacts and model folders.
        networks: the forms of a network that it reads, or that its artefacts are built from.
        package: the distribution that the engine is, or None for what nimbed holds itself.
        imports: the packages that it cannot do without, by the names under which they are imported.
        remedy: what to do where it cannot be imported.
        notice: what a user must know before it is installed; it goes before the remedy.
        built: the precisions that it runs artefacts in. In the others it reads the model folder itself.
        builder: the module that makes its part of an artefact; empty where it has none.
        files: what it reads of an artefact besides the tokenizer; the first of them as long as it is open.
        compared: the precisions in which ``nimbed bench MODEL`` runs it.
        compiled: whether it is nimbed's own extension.
        portable: whether its vectors have the same bits on every CPU.
        described: whether it runs only networks that :mod:`nimbed._model_folder.networks` describes.
        scripts: whether it runs TorchScript as it stands.
        adapters: whether it adds a model's adapters for tasks to its weights.
    """

    name: str
    module: str
    precisions: tuple[Precision, ...]
    networks: NetworkForms = GRAPHS
    package: str | None = None
    imports: tuple[str, ...] = ()
    remedy: str = ""
    notice: str | None = None
    built: tuple[Precision, ...] = ()
    builder: str = ""
    files: tuple[str, ...] = ()
    compared: tuple[Precision, ...] = ()
    compiled: bool = False
    portable: bool = False
    described: bool = False
    scripts: bool = False
    adapters: bool = False

    @property
    def installed(self) -> bool:
        """Whether the packages that it cannot do without are there."""
        return all(find_spec(name) is not None for name in self.imports)


_RECORDS = (
    BackendRecord(
        name="fake",
        module="nimbed.backends.fake",
        precisions=("fp32", "int8", "bf16"),
        adapters=True,
    ),
    BackendRecord(
        name="ipex",
        module="nimbed.backends.ipex",
        precisions=("int8", "fp32", "bf16"),
        networks=WEIGHTS,
        package="intel-extension-for-pytorch",
        imports=("intel_extension_for_pytorch",),
        notice=(
            "upstream has ended Intel Extension for PyTorch (IPEX): 2.8.0 is its last release, its repository is "
            "archived with a notice of known security issues, and no fix is to be expected. nimbed's native engine and "
            "OpenVINO replace it. It runs only beside torch 2.8.0, in an environment of its own: make ipex-env in a "
            'checkout, or pip install -c constraints-ipex.txt "nimbed[ipex]"'
        ),
        built=("int8",),
        builder="nimbed.quantization.ipex",
        files=(SCRIPT,),
        scripts=True,
    ),
    BackendRecord(
        name="native",
        module="nimbed.backends.native",
        precisions=("int8", "fp32"),
        networks=WEIGHTS,
        remedy=(
            "it is compiled when nimbed is installed from source where a C++ compiler is: "
            "pip install --force-reinstall --no-deps --no-binary nimbed nimbed"
        ),
        built=("int8",),
        builder="nimbed.quantization.native.build",
        files=(ENCODER_FILE,),
        compared=("int8", "fp32"),
        compiled=True,
        portable=True,
        adapters=True,
        described=True,
    ),
    BackendRecord(
        name="openvino",
        module="nimbed.backends.openvino",
        precisions=("int8", "fp32"),
        package="openvino",
        imports=("openvino",),
        remedy='pip install "nimbed[openvino]"',
        built=("int8", "fp32"),
        builder="nimbed.quantization.openvino.build",
        files=("model.bin", "model.xml"),
        compared=("int8", "fp32"),
    ),
    BackendRecord(
        name="torch",
        module="nimbed.backends.torch",
        precisions=("fp32", "bf16"),
        networks=WEIGHTS,
        package="torch",
        imports=("torch", "transformers"),
        remedy='pip install "nimbed[torch]"',
        compared=("fp32",),
    ),
)
BACKENDS: Final = {record.name: record for record in _RECORDS}
# Those that run artefacts.
BUILT: Final = {name: record for name, record in BACKENDS.items() if record.built}
