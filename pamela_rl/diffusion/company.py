"""People who train at the same time on one base model: each goes their own way, and calls of the denoiser are made together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor

from pamela_rl.diffusion.adapter_bank import Adapter, AdapterBank, Matrices
from pamela_rl.types import Conditioning

_PAUSE = ("pause",)
DenoiseTogether = Callable[[Sequence[Adapter | None], Tensor, Tensor, Conditioning], tuple[Tensor, Matrices | None]]


@dataclass(frozen=True)
class _Request:
    """What someone waits for.

    Attributes:
        key: Requests of one key are served together.
        inputs: Of this person.
        serve: Takes the inputs of all K slots, in order, and returns what each gets; run under the modes of one of them, which
            are everybody's.
    """

    key: tuple[Any, ...]
    inputs: Any
    serve: Callable[[Sequence[Any]], Sequence[Any]]


_NOTHING = _Request((), None, lambda slots: slots)


class _Modes:
    """Torch's modes that belong to a thread: gradients, and autocast of every kind of device. They are each person's own."""

    def __init__(self) -> None:
        self._gradients = torch.is_grad_enabled()
        kinds = {"cpu", getattr(torch.accelerator.current_accelerator(), "type", "cpu")}
        self._autocast = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]

    def restore(self) -> None:
        """Set them again."""
        torch.set_grad_enabled(self._gradients)
        for kind, enabled, dtype in self._autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)


class Seat:
    """One of K slots of a company, and the person in it.

    Attributes:
        slot: Its number, from 0; rows of this person are the slot's block of every call.
        request: What the person waits for.
        answer: To it.
        error: Raised in the person's code instead.
    """

    def __init__(self, slot: int):
        self.slot = slot
        self.request = _NOTHING
        self.answer: Any = None
        self.error: BaseException | None = None
        self._person: greenlet | None = None

    def denoise(
        self,
        adapter: Adapter | None,
        call: DenoiseTogether,
        latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning,
        kind: Hashable,
    ) -> tuple[Tensor, Matrices | None]:
        """Call the denoiser together with all who ask for the same.

        Args:
            adapter: Of this person; None is the base model.
            call: Takes everybody's adapters and rows, and returns the prediction and the matrices it used.
            latents: Of this person, ``(b, …)``.
            timesteps: ``(b,)``.
            conditioning: One row a sample.
            kind: What else must be equal for calls to be made together.
        """
        device = latents.device.type
        key = (
            "denoise", kind, torch.is_grad_enabled(), adapter is not None, latents.shape, latents.dtype,
            torch.is_autocast_enabled(device), torch.get_autocast_dtype(device),
        )  # fmt: skip

        def serve(slots: Sequence[Any]) -> Sequence[Any]:
            present = next(slot for slot in slots if slot is not None)
            rows = [(None, *present[1:]) if slot is None else slot for slot in slots]  # an empty slot keeps the shape
            adapters, samples, times, told = zip(*rows, strict=True)
            output, matrices = call(adapters, torch.cat(samples), torch.cat(times), Conditioning.cat(told))
            return [(part, matrices) for part in output.chunk(len(slots))]

        answer: tuple[Tensor, Matrices | None] = self._ask(
            _Request(key, (adapter, latents, timesteps, conditioning), serve)
        )
        return answer

    def backward(self, loss: Tensor, bank: AdapterBank, matrices: Matrices | None) -> None:
        """Propagate the losses of all whose last call was the same one, each to their own adapter."""

        def serve(slots: Sequence[Any]) -> Sequence[Any]:
            with bank.on(matrices):  # gradient checkpointing goes forward again
                torch.autograd.backward([slot for slot in slots if slot is not None])
            return [None] * len(slots)

        self._ask(_Request(("backward", id(matrices)), loss, serve))

    def pause(self) -> None:
        """Wait until all others pause, too, so that everybody begins an iteration at once."""
        self._ask(_Request(_PAUSE, None, lambda slots: [None] * len(slots)))

    def start(self, work: Callable[[], None]) -> None:
        """Seat somebody: run ``work`` until it waits for the others, or ends."""
        self.request, self.error = _NOTHING, None
        self._person = greenlet(lambda job: work())
        self.resume()

    @property
    def taken(self) -> bool:
        """Whether somebody sits there."""
        return self._person is not None and not self._person.dead

    def resume(self, job: Callable[[], None] | None = None) -> None:
        """Let the person go on until they wait again; with a ``job``, do that under their modes and nothing else."""
        assert self._person is not None
        modes = _Modes()
        try:
            self._person.switch(job)
        finally:
            modes.restore()

    def _ask(self, request: _Request) -> Any:
        assert self._person is not None
        company = self._person.parent
        assert company is not None
        self.request, modes = request, _Modes()
        while True:
            job = company.switch()
            modes.restore()
            if job is None:
                break
            job()
        self.request = _NOTHING
        error, self.error = self.error, None
        if error is not None:
            raise error
        answer, self.answer = self.answer, None
        return answer


class Company:
    """K slots, and people who take them one after another.

    Everybody's work is ordinary code on a stack of its own (a greenlet), all in one thread. Where it calls the denoiser or
    goes back through it, it waits until all others have come to such a place; then equal requests become one call, in which
    each slot has its fixed block of rows. An empty slot's block is filled, so that calls have one shape from the first to the
    last, and what a person gets depends on their slot and on K, not on who else is there.

    Args:
        slots: K.
    """

    def __init__(self, slots: int):
        self.seats = [Seat(slot) for slot in range(slots)]

    def run(
        self, next_work: Callable[[Seat], Callable[[], None] | None], stopped: Callable[[], BaseException | None]
    ) -> None:
        """Work until nobody is left.

        Args:
            next_work: Gives a free seat its next person's work, or None if there is none; what the work raises is its own
                to catch.
            stopped: Asked between calls; an error that it returns is raised wherever people wait, and nobody enters any more.
        """
        while True:
            error = stopped()
            for seat in self.seats:
                if seat.taken and error is not None:
                    seat.error = error
                    seat.resume()
            if error is None and all(seat.request.key == _PAUSE for seat in self._waiting()):
                self._seat_people(next_work)
            waiting = self._waiting()
            if not waiting:
                return
            self._serve(waiting)

    def _seat_people(self, next_work: Callable[[Seat], Callable[[], None] | None]) -> None:
        """Fill free seats; people enter where everybody begins an iteration."""
        for seat in self.seats:
            while not seat.taken:
                work = next_work(seat)
                if work is None:
                    break
                seat.start(work)

    def _waiting(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.taken]

    def _serve(self, waiting: Sequence[Seat]) -> None:
        keys = dict.fromkeys(seat.request.key for seat in waiting)
        for key in keys:
            if key == _PAUSE and len(keys) > 1:
                continue
            group = [seat for seat in waiting if seat.request.key == key]
            self._serve_group(group)
            for seat in group:
                seat.resume()

    def _serve_group(self, group: Sequence[Seat]) -> None:
        inputs: list[Any] = [None] * len(self.seats)
        for seat in group:
            inputs[seat.slot] = seat.request.inputs

        def job() -> None:
            try:
                answers = leader.request.serve(inputs)
            except BaseException as error:  # everybody's
                for seat in group:
                    seat.error = error
                return
            for seat in group:
                seat.answer = answers[seat.slot]

        leader = group[0]
        leader.resume(job)
