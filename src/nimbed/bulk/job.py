"""A job: plan, open, make the parts that are missing, and finish."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from tqdm.auto import tqdm

from nimbed._machine import cores_by_place
from nimbed.bulk.part import PartMaker
from nimbed.bulk.plan import make_plan
from nimbed.bulk.processes import Choice, Speed, choose
from nimbed.bulk.summary import Summary, skipped_in
from nimbed.bulk.workers import make_in_processes
from nimbed.bulk.workplace import Workplace
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nimbed import Encoder
    from nimbed._text.rows import BadRow, Row
    from nimbed.bulk.manifest import PartRecord
    from nimbed.bulk.part_files import PartFiles
    from nimbed.bulk.plan import Part, Plan
    from nimbed.bulk.previous import Previous
    from nimbed.bulk.request import Request


class Job:
    """From files to an output.

    Args:
        request: what is asked for.
        progress: whether progress is shown on standard error.

    Raises:
        InputError: an input cannot be read or has changed since the job was begun, or (if bad rows are errors) a row is
            bad; names file and line.
    """

    def __init__(self, request: Request, *, progress: bool = False) -> None:
        self._request = request
        self._progress = progress
        self._place = Workplace(request)
        self._plan = self._place.plan or self._new_plan()
        self._made: set[int] = set()

    def run(self, encoder: Encoder) -> Summary:
        """Embed what is missing, and make the output.

        Raises:
            NimbedError: what is complete by then is kept, and the next run goes on from it.
        """
        started = time.perf_counter()
        layout = self._request.layout(encoder)
        self._request.form.check(layout)
        key = self._request.key(layout)
        previous = self._place.previous(key, layout)
        maker = PartMaker(self._request, self._place.folder, encoder, layout, previous)
        try:
            self._place.open(key, self._plan)
            choice = self._make_all(maker, encoder, previous)
            self._refuse_changed()
            skipped = self._place.finish(layout)
        except BaseException:
            self._place.leave()
            raise
        records = self._place.manifest.parts
        own = [records[number] for number in self._made]
        return Summary(
            out=self._request.out,
            rows=sum(record.rows for record in records.values()),
            width=layout.width,
            computed=sum(record.rows - record.kept for record in own),
            kept=sum(record.kept for record in records.values()),
            before=0 if previous is None else previous.rows,
            truncated=sum(record.truncated for record in records.values()),
            skipped=skipped_in(records.values()),
            skipped_file=skipped,
            damaged=tuple(self._place.damaged),
            seconds=time.perf_counter() - started,
            processes=choice,
        )

    def _new_plan(self) -> Plan:
        request = self._request
        with tqdm(unit="row", desc="looking at the input", leave=False, disable=not self._progress) as bar:
            return make_plan(
                request.inputs,
                request.kind,
                request.columns,
                request.part_rows,
                strict=request.on_error == "raise",
                seen=bar.update,
            )

    def _make_all(self, maker: PartMaker, encoder: Encoder, previous: Previous | None) -> Choice:
        """Again where a part turns out to be damaged: those that were there are read only at the end."""
        with self._bar() as bar:
            make = partial(self._make, maker, encoder, previous, bar)
            choice = self._choose(make, encoder, previous)
            while True:
                make(self._numbers(), choice.processes)
                if self._place.verify(self._made):
                    return choice

    def _choose(
        self, make: Callable[[list[int], int], list[Speed]], encoder: Encoder, previous: Previous | None
    ) -> Choice:
        if self._request.processes != "auto":
            return Choice(processes=self._request.processes, reason="as it was asked for")
        spoiled = "the input can be read only once" if self._plan.once else None
        if previous is not None:
            spoiled = "an update has little to compute"
        missing = len(self._numbers())
        next_ones = lambda count: make(self._numbers()[:count], count)  # noqa: E731
        return choose(cores_by_place(), encoder.info.threads, missing, next_ones, spoiled)

    def _make(
        self,
        maker: PartMaker,
        encoder: Encoder,
        previous: Previous | None,
        bar: tqdm[NoReturn],
        numbers: list[int],
        processes: int,
    ) -> list[Speed]:
        """Parts, in several processes or in this one; returns how fast they were made."""
        if processes == 1 or len(numbers) < 2 or self._plan.once:
            started, before = time.perf_counter(), encoder.stats().tokens
            self._make_here(maker, numbers, bar)
            return [Speed(encoder.stats().tokens - before, time.perf_counter() - started)]
        speeds: list[Speed] = []

        def done(record: PartRecord, speed: Speed) -> None:
            self._name(record)
            speeds.append(speed)
            bar.update(record.read)

        make_in_processes(self._request, self._place.folder, self._plan, numbers, encoder, previous, done, processes)
        return speeds

    def _make_here(self, maker: PartMaker, numbers: list[int], bar: tqdm[NoReturn]) -> None:
        """One part after another; while a part goes to the disk the next is computed."""
        with ThreadPoolExecutor(1, thread_name_prefix="nimbed-bulk") as disk:
            on_its_way: Future[None] | None = None
            for number, part, rows in self._parts(numbers):
                files, record = maker.make(number, part, rows, bar.update)
                if on_its_way is not None:
                    on_its_way.result()
                on_its_way = disk.submit(partial(self._publish, files, record))
            if on_its_way is not None:
                on_its_way.result()

    def _publish(self, files: PartFiles, record: PartRecord) -> None:
        try:
            named = files.publish()
        except BaseException:
            files.discard()
            raise
        self._name(replace(record, files=named))

    def _name(self, record: PartRecord) -> None:
        self._place.manifest.add(record)
        self._made.add(record.part)

    def _bar(self) -> tqdm[NoReturn]:
        done = sum(record.read for record in self._place.manifest.parts.values())
        return tqdm(total=self._plan.rows, initial=done, unit="row", disable=not self._progress)

    def _numbers(self) -> list[int]:
        done = self._place.manifest.parts
        return [number for number in range(len(self._plan.parts)) if number not in done]

    def _parts(self, numbers: list[int]) -> Iterator[tuple[int, Part, Iterator[Row | BadRow]]]:
        """With their rows; of what can be read only once, all."""
        request, plan = self._request, self._plan
        if plan.once:
            for number, (part, rows) in enumerate(plan.stream(request.columns, request.part_rows)):
                yield number, part, rows
            return
        for number in numbers:
            yield number, plan.parts[number], plan.rows_of(plan.parts[number], request.columns)

    def _refuse_changed(self) -> None:
        """What was added to a file since then is left out; what was there must be as it was."""
        for file in self._plan.files:
            if not file.once and self._made and not file.only_grown():
                raise InputError(f"{file.path} was changed while it was read; begin anew with begin='restart'")
