"""Every pipeline of diffusers with our schedulers: the table of the page on clients.

`python docs/every_pipeline.py outcomes CHECKOUT OUT.json` with a checkout of diffusers, of the installed version or
near it. The small components and inputs are those of diffusers' own pipeline tests. Tokenizers and text encoders that
these would download are replaced: the words of a prompt count, whatever their numbers. Each pipeline runs with its own
scheduler, with diffusers' KDPM2 and with ours, made by `from_config`, ancestral and not. What comes of that is one of
OUTCOMES.

`python docs/every_pipeline.py limit CHECKOUT OUT.json` is for flow models, which diffusers' KDPM2 does not know. The
pipeline's own scheduler, which is Euler's, makes a picture in FINE steps. Ours without noise, and its own, make it in
COARSE steps. Both get nearer to the fine picture as they take more steps, if they follow the same equation.
"""

import importlib
import inspect
import json
import signal
import sys
import unittest
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
import transformers

import kdpm2

TOLERANCE = 1e-3  # of the largest value
SECONDS = 120  # for one pipeline
COARSE, FINE = 12, 96
NAMES = ("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler")
OUTCOMES = {
    "same": "the same pictures as with diffusers' KDPM2",
    "ours alone": "runs with ours and not with diffusers' KDPM2, which refuses or is of another kind of model",
    "differs": "both run and differ",
    "refused": "ours refuses, and says why",
    "fails": "the pipeline cannot work with a scheduler of two stages a step",
    "not run": "it needs files or packages that are not at hand, or has no scheduler",
}


class Tokenizer:
    """Numbers for words."""

    model_max_length, pad_token_id, bos_token_id, eos_token_id, unk_token_id = 77, 1, 0, 2, 3
    padding_side, pad_token, eos_token, bos_token = "right", "<pad>", "</s>", "<s>"
    vocab_size = 1000
    added_tokens_encoder: dict[str, int] = {}  # noqa: RUF012

    def __call__(self, text: Any = None, *_: Any, max_length: int | None = None, **options: Any) -> Any:
        """Numbers, padded, in the form that is asked for."""
        texts = [text] if isinstance(text, str) else list(text)
        longest = max_length if options.get("padding") == "max_length" and max_length else 16
        rows = [[zlib.crc32(word.encode()) % 900 + 10 for word in str(each).split()][: longest - 1] for each in texts]
        ids = torch.tensor([[*row, 2] + [1] * (longest - 1 - len(row)) for row in rows])
        mask = (ids != 1).long()
        held: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if options.get("return_tensors") is None:
            held = {name: value.tolist() for name, value in held.items()}
            held = {name: value[0] for name, value in held.items()} if isinstance(text, str) else held
        if options.get("return_length"):
            held["length"] = mask.sum(1)
        return transformers.BatchEncoding(held)

    def apply_chat_template(self, messages: Any, *_: Any, tokenize: bool = True, **options: Any) -> Any:
        """Numbers of a conversation, or its text."""
        text = json.dumps(messages, default=str)
        return self(text, **options) if tokenize else text

    def batch_decode(self, ids: Any, *_: Any, **__: Any) -> list[str]:
        """Some words for each row."""
        return ["words"] * len(ids)

    def decode(self, *_: Any, **__: Any) -> str:
        """Some words."""
        return "words"

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """One number for each token."""
        return 5 if isinstance(tokens, str) else [5 for _ in tokens]

    def tokenize(self, text: str) -> list[str]:
        """The words."""
        return text.split()

    def add_tokens(self, *_: Any, **__: Any) -> int:
        """None are added."""
        return 0


def _t5() -> Any:
    return transformers.T5Config(vocab_size=1000, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)


def _loaded(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """A stand-in of what a test would download."""
    name = cls.__name__
    if "Tokenizer" in name:
        made = Tokenizer()
        made.model_max_length = kwargs.get("model_max_length", 77)
        return made
    if name == "AutoConfig":
        return _t5()
    if name in ("T5EncoderModel", "UMT5EncoderModel"):
        return transformers.T5EncoderModel(_t5()).eval()
    if name == "BertModel":
        return transformers.BertModel(transformers.BertConfig(
            vocab_size=1000, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37
        )).eval()  # fmt: skip
    raise OSError(f"{name} would be downloaded")


def _classes_that_load() -> Iterator[Any]:
    for name in dir(transformers):
        if name.endswith(("Tokenizer", "TokenizerFast")) or name in (
            "AutoConfig", "T5EncoderModel", "UMT5EncoderModel", "BertModel", "SiglipVisionModel", "LlamaForCausalLM",
        ):  # fmt: skip
            try:
                found = getattr(transformers, name)
                loads = isinstance(found, type) and hasattr(found, "from_pretrained")
            except ImportError:  # what needs a package that is not here
                continue
            if loads:
                yield found


def cases(checkout: Path) -> Iterator[tuple[str, Any]]:
    """The test classes that have a pipeline and small components for it."""
    sys.path.insert(0, str(checkout))
    for path in sorted(checkout.glob("tests/pipelines/**/test_*.py")):
        if "def get_dummy_components" not in path.read_text():
            continue
        name = ".".join(path.relative_to(checkout).with_suffix("").parts)
        try:
            module = importlib.import_module(name)
        except BaseException as error:  # pytest's skips are no exceptions
            yield f"{name}: {_said(error)}", None
            continue
        for cls in vars(module).values():
            if not isinstance(cls, type) or cls.__module__ != name:
                continue
            pipeline = getattr(cls, "pipeline_class", None)
            if isinstance(pipeline, type) and hasattr(cls, "get_dummy_components"):
                yield pipeline.__name__, cls


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def picture(test: Any, scheduler: Any, steps: int | None = None) -> tuple[np.ndarray[Any, Any], Any]:
    """What the pipeline makes with this scheduler, a function of its own one, and that one."""
    torch.manual_seed(0)
    components = test.get_dummy_components()
    own = components.get("scheduler")
    if own is None:
        raise LookupError("it has no scheduler")
    components["scheduler"] = scheduler(own)
    pipeline = type(test).pipeline_class(**components)
    pipeline.set_progress_bar_config(disable=True)
    parameters = inspect.signature(test.get_dummy_inputs).parameters
    inputs = test.get_dummy_inputs("cpu") if "device" in parameters else test.get_dummy_inputs()
    if steps is not None:
        inputs["num_inference_steps"] = steps
    torch.manual_seed(1)  # for pipelines that pass no generator to a step
    with torch.no_grad():
        made = pipeline(**inputs)[0]
    while isinstance(made, (list, tuple)):
        made = made[0]
    return np.asarray(made, dtype=np.float64) if not isinstance(made, torch.Tensor) else made.double().numpy(), own


def outcome(test: Any, name: str) -> tuple[str, str]:
    """Which of OUTCOMES a pipeline has with one of our classes, and what was said."""
    used: list[Any] = []

    def ours(own: Any) -> Any:
        used.append(getattr(kdpm2, name).from_config(own.config))
        return used[-1]

    try:
        made, own = picture(test, ours)
    except Exception as error:
        inside = error.__traceback__
        while inside is not None and inside.tb_next is not None:
            inside = inside.tb_next
        where = inside.tb_frame.f_code.co_filename if inside is not None else ""
        return ("refused" if "kdpm2" in where and isinstance(error, ValueError) else "fails"), _said(error)
    if not np.isfinite(made).all():
        return "fails", "not finite"
    theirs = getattr(diffusers, name)
    said = ""
    if used[0]._is_flow or used[0].config.sigma_data is not None:
        said = "diffusers' KDPM2 knows no such models"
    else:
        known = inspect.signature(theirs.__init__).parameters
        model = {option: value for option, value in used[0].config.items() if option in known}
        ways = {"": lambda own: theirs.from_config(own.config), "with the model's betas": lambda own: theirs(**model)}
        for how, way in ways.items():
            try:
                expected, _ = picture(test, way)
            except Exception as error:
                return "ours alone", _said(error)
            if not np.isfinite(expected).all():
                return "ours alone", "diffusers' is not finite"
            off = float(np.abs(made - expected).max() / max(float(np.abs(expected).max()), 1e-9))
            if off <= TOLERANCE:
                return "same", how
            said = f"{type(own).__name__}: {off:.1e}"
        if "scale_model_input" not in inspect.getsource(sys.modules[type(test).pipeline_class.__module__]):
            return "ours alone", "the pipeline never scales the network's input, and diffusers' KDPM2 needs it"
        return "differs", said
    return "ours alone", said


def outcomes(test: Any) -> dict[str, list[str]]:
    """What comes of a pipeline with both of our classes."""
    if not np.isfinite(picture(test, lambda own: own)[0]).all():
        raise ValueError("what it makes with its own scheduler is not finite")
    signal.alarm(SECONDS)
    return {name: list(outcome(test, name)) for name in NAMES}


def limit(test: Any) -> dict[str, list[str]]:
    """How far from the fine picture ours is, and the pipeline's own scheduler, in parts of the largest value."""
    own = test.get_dummy_components().get("scheduler")
    if "FlowMatch" not in type(own).__name__ and not getattr(own, "config", {}).get("use_flow_sigmas"):
        raise LookupError("its scheduler is of no flow")
    fine, _ = picture(test, lambda own: own, FINE)
    ours = kdpm2.KDPM2DiscreteScheduler.from_config(own.config)
    made = {"ours": picture(test, lambda _: ours, COARSE)[0], "own": picture(test, lambda own: own, COARSE)[0]}
    scale = float(np.abs(fine).max())
    off = {who: float(np.abs(each - fine).max()) / scale for who, each in made.items()}
    said = f"{off['ours']:.1e}, {type(own).__name__} {off['own']:.1e}"
    return {"limit": ["the same" if off["ours"] <= max(off["own"], TOLERANCE) else "differs", said]}


def _late(*_: Any) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def main(what: str, checkout: str, out: str) -> None:
    """Run all that OUT.json does not have yet, and write what came of each as they are done."""
    measured = {"outcomes": outcomes, "limit": limit}[what]
    signal.signal(signal.SIGALRM, _late)
    torch.set_num_threads(1)
    written = Path(out)
    rows: dict[str, dict[str, list[str]]] = json.loads(written.read_text()) if written.exists() else {}
    for cls in list(_classes_that_load()):
        patch.object(cls, "from_pretrained", classmethod(_loaded)).start()
    for pipeline, cls in cases(Path(checkout)):
        if cls is None:
            rows[pipeline] = {"own": ["not run", pipeline]}
            continue
        key = f"{pipeline} ({cls.__module__.rsplit('.', 1)[1]})"
        if key in rows:
            continue
        test = cls("__init__") if issubclass(cls, unittest.TestCase) else cls()
        signal.alarm(SECONDS)
        try:
            rows[key] = measured(test)
        except BaseException as error:
            rows[key] = {"own": ["not run", _said(error)]}
        finally:
            signal.alarm(0)
        print(key, rows[key], flush=True)
        written.write_text(json.dumps(rows, indent=1))
    print(Counter(each[0] for row in rows.values() for each in row.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
