"""How fast is it here? Contenders take turns on the same texts, beside the roof of the machine.

Data goes one way: ``contenders`` (words -> what is opened), ``workloads`` (which texts), ``network`` and ``operations``
(how much arithmetic they are), ``agreement`` (do the vectors agree at all), ``measure`` (by the clock), ``roof`` (what
the CPU could do), ``ring`` and ``parts`` (whose turn it is, on what), ``run`` (all of it), ``report`` and ``plot``
(what is read).
"""

from __future__ import annotations

from nimbed.bench.contenders import Contender, Embeds, own_contenders
from nimbed.bench.plot import save_plots
from nimbed.bench.report import BenchReport, Figure
from nimbed.bench.run import PARTS, bench
from nimbed.bench.workloads import Texts, shipped_texts

__all__ = [
    "PARTS",
    "BenchReport",
    "Contender",
    "Embeds",
    "Figure",
    "Texts",
    "bench",
    "own_contenders",
    "save_plots",
    "shipped_texts",
]
