"""A scheduler's run as a mapping that can be kept and written: `state_dict`, and `load_state_dict` to go on from it."""

from typing import Any

import torch

from kdpm2 import _check, state
from kdpm2.noise import checked_seeds, kind_named, name_of
from kdpm2.run import Anchor
from kdpm2.schedulers._noising import Noising


class Stoppable(Noising):
    """How a run is stopped, and goes on."""

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, for `load_state_dict`. It does not include the loop's sample: keep that as well.

        Returns:
            A mapping of numbers, texts, lists, None, tensors and mappings of these. `kdpm2.state.save` writes it to a
            file.
        """
        run = self._run
        return {
            "digest": state.digest(run.table),
            "stage": run.stage,
            "begin_index": self._begin_at,
            "seeds": checked_seeds("seeds", self._seeds),
            "anchor": None if run.anchor is None else run.anchor.tensor.clone(),
            "kind": None if run.noise is None else name_of(type(run.noise)),
            "noise": None if run.noise is None else run.noise.state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue, bit for bit, where the run stood when `state_dict` was called.

        Args:
            state_dict: What `state_dict` returned. This scheduler must have the same configuration, and the same call
                of `set_timesteps` must come first.

        Raises:
            TypeError: If it is no such mapping.
            ValueError: If it belongs to a run with other steps. The scheduler is then unchanged.
        """
        known = {"digest", "stage", "begin_index", "seeds", "anchor", "kind", "noise"}
        if not isinstance(state_dict, dict) or state_dict.keys() != known:
            raise TypeError(f"state_dict must be what state_dict() returned, got {_check.shown(state_dict)}")
        state.check_digest(state_dict, self._run.table)
        last = len(self._run.table) - 1
        stage, begin = (
            None if state_dict[name] is None else _check.integer(name, state_dict[name], 0, last)
            for name in ("stage", "begin_index")
        )
        seeds, held, said = checked_seeds("seeds", state_dict["seeds"]), state_dict["anchor"], state_dict["noise"]
        anchor = None if held is None else Anchor(held, shared=True)
        noise = None
        if said is not None:
            noise = kind_named(state_dict["kind"]).of_state(
                said, torch.empty(0, device="cpu") if held is None else held
            )
        self._begin_at, self._seeds = begin, seeds
        self._run = self._run._replace(stage=stage, anchor=anchor, noise=noise)
