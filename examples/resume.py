"""A run that is cut and resumed: what a snapshot holds goes on bit for bit, in another process too."""

import tempfile

import torch

import kdpm2
from kdpm2 import noise_schedule, spacing, zoo
from kdpm2.batching import BatchedSolver
from kdpm2.table import dpm2

STEPS, SEEDS = 10, (1, 2, 3)
DENOISER = kdpm2.denoiser_of(zoo.digits(), labels=[7])
SCHEDULE = noise_schedule.discrete(beta_schedule="scaled_linear")  # what the digits model was trained on


def started() -> BatchedSolver:
    """Three digits that are wanted."""
    solver = BatchedSolver((1, 8, 8))
    table = dpm2(SCHEDULE, spacing.steps(SCHEDULE, STEPS, sigma_curve="karras"), "v_prediction")
    for seed in SEEDS:
        solver.admit(table, seed=seed)
    return solver


@torch.no_grad()
def work(solver: BatchedSolver, stages: int | None = None) -> dict[int, torch.Tensor]:
    """Make so many stages, or all that are left; the samples that are then done."""
    done: dict[int, torch.Tensor] = {}
    while len(solver) and stages != 0:
        _, x, _, timestep = solver.next_inputs()
        done.update(solver.advance(DENOISER.predict(x, timestep)))
        stages = None if stages is None else stages - 1
    return done


def main() -> None:
    """Cut a run in the middle of its steps, and compare what comes of it with a run that was left alone."""
    uncut = work(started())
    with tempfile.TemporaryDirectory() as folder:
        solver = started()
        work(solver, stages=8)
        solver.snapshot(folder)
        del solver  # as if the process had ended here
        resumed = work(BatchedSolver.restore(folder))
    same = all(torch.equal(uncut[number], resumed[number]) for number in uncut)
    print(f"{len(resumed)} samples, cut after 8 of {2 * STEPS - 1} stages: {'the same' if same else 'other'}")


if __name__ == "__main__":
    main()
