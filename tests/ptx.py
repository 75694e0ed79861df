"""What Triton makes of the kernel for a GPU, which need not be there: prints the PTX of every case, as JSON."""

import json

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kdpm2.update import _kernel

RESULTS, NUMBERS = ("out", "input_out", "denoised_out"), ("sample", "model_output", "uncond", "anchor", "noise")
FROM_TABLE = ("seeds", "draws", "rows", "stages", "guidances")
CASES = {
    "row": {*RESULTS[1:2], *NUMBERS[2:3], *FROM_TABLE},
    "table": {*NUMBERS[4:]},
}
"""Which arguments are None."""


def ptx(absent: set[str], dtype: str) -> str:
    """The code for an A100, where all pointers are multiples of 16 and so is the number of elements."""
    names: list[str] = _kernel.stage.arg_names
    compiled_in = {"DRAW_EACH": 1, "STAGE_EACH": 1, "LANES": 4, "BLOCK": 512, **dict.fromkeys(absent)}
    types = {
        **dict.fromkeys(names, "fp32"),
        **dict.fromkeys(RESULTS + NUMBERS, f"*{dtype}"),
        **dict.fromkeys(FROM_TABLE, "*i64"),
        **dict.fromkeys(("rows", "guidances"), "*fp32"),
        **dict.fromkeys(("elements", "programs"), "i32"),
        **dict.fromkeys(compiled_in, "constexpr"),
    }
    aligned = [i for i, name in enumerate(names) if types[name].startswith("*") or name == "elements"]
    source = ASTSource(_kernel.stage, types, compiled_in, attrs={(i,): [["tt.divisibility", 16]] for i in aligned})
    options = {"num_warps": 4, "enable_fp_fusion": False}
    made: str = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
    return made


if __name__ == "__main__":
    print(json.dumps({f"{case} {dtype}": ptx(CASES[case], dtype) for case in CASES for dtype in ("fp32", "bf16")}))
