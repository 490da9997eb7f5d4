"""What a fingerprint hashes: all that can change a vector, and nothing else.

Not the path, the threads or the model's name. Indexes are stamped with fingerprints, and another one orphans them: so
the keys are written out here, not taken from attributes, and a test holds the fingerprints of fixed inputs. Whoever
must hash something else, or in another form, raises ``VERSION``; version 1 is what was hashed before there was a
number, and so it has none in its canonical form.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._types import Activation, DenseSpec, Pooling, Precision, Task

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FingerprintInputs:
    """The record that is hashed.

    Attributes:
        artefact: digest of the files that the vectors are computed from.
        backend: the engine, ``backend_version`` its version.
        precision: of the arithmetic.
        instruction_set: the best that the CPU has for int8; "any" of an engine with the same bits on every CPU.
        dim: width of the vectors.
        max_length: tokens that a text keeps.
        windows: whether longer texts are embedded window by window. ("warn", "error" and "silent" give equal vectors.)
        truncation_side: of a text that loses tokens.
        pooling: how token vectors become one.
        normalize: whether vectors have L2 norm 1.
        prompts: by role.
        lowercase: whether texts are lowercased before the tokenizer has them.
        dense: layers behind the pooling.
        task: whether vectors come out, or scores.
        activation: behind a score's logit.
        centered: whether vectors lost their mean before they were cut. (What is not there is not hashed, so that a
            fingerprint from before there was such a thing still holds; the same for what follows.)
        adapters: for a task, by role.
        template: around a pair; its instruction is one of the prompts.
        answers: tokens whose logits are a score.
        version: of this record.
    """

    artefact: str
    backend: str
    backend_version: str
    precision: Precision
    instruction_set: str
    dim: int
    max_length: int
    windows: bool
    truncation_side: str
    pooling: Pooling
    normalize: bool
    prompts: Mapping[str, str]
    lowercase: bool
    dense: tuple[DenseSpec, ...]
    task: Task
    activation: Activation
    centered: bool = False
    adapters: Mapping[str, str] = field(default_factory=dict)
    template: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()
    version: int = VERSION

    def fingerprint(self) -> str:
        """The hash, 32 hexadecimal digits."""
        return hashlib.blake2b(self.canonical().encode(), digest_size=16).hexdigest()

    def of_vectors(self, dim: int) -> FingerprintInputs:
        """Those of a vector of full width, whatever the prompt before its text."""
        return replace(self, dim=dim, prompts={}, centered=False)

    def canonical(self) -> str:
        """JSON with sorted keys, the same wherever the inputs are."""
        content = {
            "artefact": self.artefact,
            "backend": self.backend,
            "backend_version": self.backend_version,
            "precision": self.precision,
            "instruction_set": self.instruction_set,
            "dim": self.dim,
            "max_length": self.max_length,
            "windows": self.windows,
            "side": self.truncation_side,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "prompts": dict(self.prompts),
            "lowercase": self.lowercase,
            "dense": [_dense(layer) for layer in self.dense],
            "head": [self.task, self.activation],
            **({"centered": True} if self.centered else {}),
            **({"adapters": dict(self.adapters)} if self.adapters else {}),
            **({"template": list(self.template)} if self.template else {}),
            **({"answers": list(self.answers)} if self.answers else {}),
            **({} if self.version == 1 else {"version": self.version}),
        }
        return json.dumps(content, sort_keys=True)


def _dense(layer: DenseSpec) -> dict[str, object]:
    return {
        "weights": layer.weights,
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "bias": layer.bias,
        "activation": layer.activation,
    }
