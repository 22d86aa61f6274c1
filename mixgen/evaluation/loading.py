"""A trained model and its tokenizer, from a directory or the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mixgen.encoding.tokenizer import SPECIAL_TOKENS
from mixgen.errors import RecipeError, nearest_path
from mixgen.training.checkpoint import CHECKPOINT

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_checkpoint(
    path: str | Path, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model that can be tried on tasks, and its tokenizer.

    Args:
        path: A directory that a run or a checkpoint of it was saved in, or a name on the Hub.
        trust_remote_code: Whether to run code that comes with it.

    Raises:
        RecipeError: There is none, weights are missing, have no place or are not finite, the
            tokenizer is another model's, or it was not trained on mixgen's conversations.
    """
    where = Path(path)
    if where.is_file():
        raise RecipeError(f"{path} is a file, not a directory")
    if where.is_dir() and not (where / "config.json").is_file():
        models = [one for one in where.glob("*/") if (one / "config.json").is_file()]
        more = f"; did you mean {max(models, key=_step)}?" if models else ""
        raise RecipeError(f"{path} holds no model (no config.json){more}")
    if not where.exists():
        hint = nearest_path(where, [at.parent for at in where.parent.glob("*/config.json")])
        is_no_name = where.is_absolute() or len(where.parts) > 2 or where.parts[:1] == ("outputs",)
        if hint or is_no_name:  # else it is a name on the Hub
            raise RecipeError(f"there is no checkpoint {path}{hint}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # the libraries raise what their parsers do
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"{path} cannot be loaded: {reason[:300]}") from error
    model: PreTrainedModel = loaded[0]
    wrong = {
        "missing_keys": "lacks weights",  # which the library fills with random numbers
        "unexpected_keys": "holds weights that its config.json has no place for",
    }
    for key, what in wrong.items():
        if names := sorted(loaded[1][key]):
            more = f" and {len(names) - 1:,} more" if names[1:] else ""
            raise RecipeError(f"{path} {what}: {names[0]}{more}")
    vocabulary = tokenizer.get_vocab()
    embeddings: int = model.get_input_embeddings().weight.shape[0]  # type: ignore[assignment,index]
    if (largest := max(vocabulary.values(), default=0)) >= embeddings:
        raise RecipeError(
            f"{path} has a tokenizer of another model: it has token {largest:,}, and "
            f"the model {embeddings:,} embeddings"
        )
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing or not tokenizer.chat_template:
        what = f"its tokenizer lacks {missing[0]}" if missing else "it has no chat template"
        raise RecipeError(
            f"{path} was not trained on mixgen's conversations ({what}): train it first, "
            f"run_train.py --model_name_or_path={path}"
        )
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise RecipeError(f"{path} holds weights that are not finite: its training has diverged")
    return model, tokenizer


def _step(folder: Path) -> int:
    """Of a checkpoint's folder; another one comes before all of them."""
    match = CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else -1
