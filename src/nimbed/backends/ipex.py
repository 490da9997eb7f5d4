"""Intel Extension for PyTorch on the CPU: int8 artefacts, model folders in fp32 and bf16, and others' TorchScript.

Upstream has ended it (see its notice in the table of backends); this module can be deleted together with its record
there.
It runs in an environment of its own, see ``docs/ipex.md``. The number of threads is PyTorch's own setting, which is one
for the whole process.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver, QConfig, QConfigMapping

from nimbed import _machine
from nimbed._types import TokenBatch
from nimbed.backends.protocol import Bulk
from nimbed.backends.shapes import ShapePolicy
from nimbed.backends.torch_parts import DTYPES, SentenceHead, first_line, input_names, load_model, weights_of
from nimbed.errors import BackendError, InputError, NimbedError, OutOfMemoryError

try:
    import intel_extension_for_pytorch as ipex
except (AttributeError, OSError, SystemExit) as err:
    # It ends the process on CPUs without AVX2, and stumbles over any other release of PyTorch.
    raise BackendError(f"IPEX cannot be imported beside torch {torch.__version__} on this machine: {err}") from err

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nimbed._types import Float32Array, Int32Array, ModelSpec
    from nimbed.backends.protocol import OpenRequest

# 512 tokens a thread, as for OpenVINO: larger batches leave the L2 cache.
_TOKENS_PER_THREAD = 512
# As for OpenVINO, but of every linear layer: 8 of 384.
_INPUTS_PER_OUTLIER = 48


def open_backend(request: OpenRequest) -> IpexBackend:
    """Load the TorchScript file that the request allows, or trace the model folder's weights."""
    return IpexBackend(request)


class IpexBackend:
    """A traced and frozen network; it is specialised anew for each (rows, length), so lengths have buckets."""

    def __init__(self, request: OpenRequest) -> None:
        torch.set_num_threads(request.threads)
        self.reasons = _reasons(request)
        self.shapes = ShapePolicy.bucketed(
            max_length=request.spec.max_length,
            token_budget=_TOKENS_PER_THREAD * request.threads,
            positions=request.spec.positions,
        )
        self._network = _read_script(request.code) if request.code else _trace_weights(request)
        self._head = SentenceHead(request.folder, request.spec)

    @property
    def version(self) -> str:
        """The extension's and PyTorch's versions."""
        return f"ipex {ipex.__version__}, torch {torch.__version__}"

    def session(self) -> IpexSession:
        """A session; all share the network."""
        return IpexSession(self._network, self._head, self.shapes)

    def bulk(self) -> Bulk:
        """One more session: PyTorch has one pool of threads for the whole process."""
        return Bulk(sessions=[self.session()], shapes=self.shapes)

    def close(self) -> None:
        """Drop the network."""
        del self._network


class IpexSession:
    """Runs one padded batch at a time without gradients."""

    any_thread = False

    def __init__(self, network: Any, head: SentenceHead, shapes: ShapePolicy) -> None:  # noqa: ANN401 (a ScriptModule)
        self._network = network
        self._head = head
        self._shapes = shapes
        self._names = _argument_names(network)

    def expect(self) -> None:
        """Nothing sleeps here that would have to be woken."""

    def run(self, batch: TokenBatch) -> Float32Array:
        """Sentence vectors, float32 ``[B, dim]``, or scores ``[B, 1]``."""
        length = self._shapes.pad_to(int(batch.lengths.max()), rows=len(batch))
        inputs = _tensors(batch, length)
        try:
            with torch.no_grad():
                output = _first(self._network(**{name: inputs[name] for name in self._names}))
                vectors = self._head(output, inputs["attention_mask"])
        except RuntimeError as err:
            kind = OutOfMemoryError if "alloc" in str(err) else BackendError
            raise kind(f"IPEX failed on {len(batch)} x {length} tokens: {err}") from err
        result: Float32Array = vectors.numpy().copy()
        return result


def quantize(folder: Path, network: Path, spec: ModelSpec, sequences: Iterable[Int32Array], target: Path) -> None:
    """Write a model folder's network (that of these weights) in static int8 as TorchScript, calibrated on these ids.

    That is its linear layers over tokens, less their outlier channels. Weights have ranges by output channel,
    activations by tensor: the extremes that the sequences show. Attention stays in fp32, since
    ``scaled_dot_product_attention`` is nothing that the extension quantizes.

    Raises:
        BackendError: the weights cannot be read, or the extension fails on this network.
    """
    names = input_names(spec)
    plain = _Plain(_loaded(folder, network, spec, "fp32"), names)
    rows = [tuple(_of_one(sequence)[name] for name in names) for sequence in sequences]
    try:
        with torch.no_grad():
            _split_outliers(plain, rows)
            prepared = ipex.quantization.prepare(
                plain, _ranges(), example_inputs=rows[0], inplace=True, bn_folding=False
            )
            for row in rows:
                prepared(*row)
            _freeze(ipex.quantization.convert(prepared, inplace=True), rows[0]).save(str(target))
    except Exception as err:  # PyTorch's and the extension's own
        raise BackendError(f"IPEX cannot quantize {folder}: {first_line(err)}") from err


def _ranges() -> QConfigMapping:
    """The extension's default, but for the extremes: its histograms cut the rare large values of short texts."""
    weights = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    activations = MinMaxObserver.with_args(dtype=torch.quint8)
    return QConfigMapping().set_global(QConfig(activation=activations, weight=weights))


def _split_outliers(network: torch.nn.Module, rows: list[tuple[torch.Tensor, ...]]) -> None:
    """Split each linear layer of the network in place, by the input channels that are largest on these inputs."""
    largest: dict[str, torch.Tensor] = {}

    def watch(name: str, x: torch.Tensor) -> None:
        seen = x.abs().flatten(0, -2).amax(0) if x.dim() > 2 else torch.full_like(x[0], torch.inf)
        largest[name] = torch.maximum(largest.get(name, seen), seen)

    linear = {name: layer for name, layer in network.named_modules() if isinstance(layer, torch.nn.Linear)}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: watch(name, inputs[0]))
        for name, layer in linear.items()
    ]
    for row in rows:
        network(*row)
    for hook in hooks:
        hook.remove()
    for name, values in largest.items():
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, _Split(linear[name], values))


class _Split(torch.nn.Module):
    """``int8(x * mask) + fp32(x[channels])``, as in LLM.int8() (Dettmers et al. 2022, sec. 3.2).

    One scale for all channels would leave those that are not outliers few of the 256 levels: without the split the mean
    cosine of all-MiniLM-L6-v2 falls from 0.999 to 0.992. A layer over one vector a text (a pooler, a classifier) is
    all outliers: cheap, and a score hangs on its rounding.
    """

    def __init__(self, layer: torch.nn.Linear, largest: torch.Tensor) -> None:
        super().__init__()
        count = len(largest) if largest.isinf().all() else max(1, len(largest) // _INPUTS_PER_OUTLIER)
        self.register_buffer("channels", largest.topk(count).indices.sort().values)
        self.register_buffer("mask", torch.ones_like(largest).index_fill(0, self.channels, 0))
        self.register_buffer("apart", layer.weight.detach()[:, self.channels].contiguous())
        self.bias, self.rest = layer.bias, None
        if count < len(largest):
            self.rest = layer
            self.rest.weight = torch.nn.Parameter(layer.weight.detach() * self.mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # einsum, unlike matmul, is nothing that the extension quantizes.
        product = torch.einsum("...i,oi->...o", x.index_select(-1, self.channels), self.apart)
        if self.rest is not None:
            return self.rest(x * self.mask) + product
        return product if self.bias is None else product + self.bias


class _Plain(torch.nn.Module):
    """A network with positional arguments and the one output that the head wants, for tracing."""

    def __init__(self, network: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names
        self.eval()

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:  # noqa: ANN401
        given = (input_ids, attention_mask, token_type_ids)
        return self.network(**dict(zip(self.names, given, strict=False)))[0]


def _reasons(request: OpenRequest) -> dict[str, str]:
    cpu = _machine.cpu()
    if request.precision != "int8" or cpu.fast_int8:
        return {}
    return {
        "arithmetic": f"with {cpu.instruction_set} instructions IPEX adds int8 products in 16 bits, which cuts large "
        "sums off: vectors are somewhat further from fp32 than on CPUs with VNNI or AMX"
    }


def _trace_weights(request: OpenRequest) -> Any:  # noqa: ANN401 (a ScriptModule)
    if request.precision not in DTYPES:
        raise InputError(
            f'precision={request.precision!r}: of weights, backend="ipex" makes fp32 and bf16; int8 is an artefact: '
            'nimbed.quantize(model, out, backend="ipex")'
        )
    if request.precision == "bf16" and not _machine.cpu().bf16:
        raise InputError('precision="bf16": this CPU has no bf16 instructions; use "fp32"')
    names = input_names(request.spec)
    network = _Plain(_loaded(request.folder, weights_of(request), request.spec, request.precision), names)
    example = _of_one(torch.arange(1, 9, dtype=torch.int32).numpy())
    try:
        with torch.no_grad():
            fast = ipex.optimize(network, dtype=DTYPES[request.precision], inplace=True)
            return _freeze(fast, tuple(example[name] for name in names))
    except Exception as err:  # PyTorch's and the extension's own
        raise BackendError(f"IPEX cannot trace {request.folder}: {first_line(err)}") from err


def _loaded(folder: Path, network: Path, spec: ModelSpec, precision: str) -> torch.nn.Module:
    try:
        model = load_model(folder, network, spec.task)
    except NimbedError:
        raise
    except Exception as err:  # transformers raises classes of its own
        raise BackendError(f"IPEX cannot open {folder}: {first_line(err)}") from err
    model.config.return_dict = False
    loaded: torch.nn.Module = model.to(DTYPES[precision])
    return loaded


def _read_script(path: Path) -> Any:  # noqa: ANN401 (a ScriptModule)
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as err:
        raise BackendError(f"IPEX cannot open {path}: {first_line(err)}") from err
    known = TokenBatch.from_sequences([]).padded(1)
    if unknown := [name for name in _argument_names(network) if name not in known]:
        raise BackendError(f"{path} takes {', '.join(unknown)}; nimbed gives {', '.join(known)}")
    return network


def _freeze(network: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> Any:  # noqa: ANN401 (a ScriptModule)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # of constants that are constant
        return torch.jit.freeze(torch.jit.trace(network, example, check_trace=False, strict=False).eval())


def _argument_names(network: Any) -> list[str]:  # noqa: ANN401 (a ScriptModule)
    return [argument.name for argument in network.forward.schema.arguments[1:]]


def _first(output: Any) -> torch.Tensor:  # noqa: ANN401 (what a traced network gives: a tensor, a tuple, a dictionary)
    """The token vectors, or the logits."""
    if isinstance(output, dict):
        output = output.get("last_hidden_state", output.get("logits"))
    tensor: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return tensor


def _of_one(sequence: Int32Array) -> dict[str, torch.Tensor]:
    return _tensors(TokenBatch.from_sequences([sequence]), len(sequence))


def _tensors(batch: TokenBatch, length: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch.padded(length).items()}
