"""The model: GPT-2's architecture sized by one dial, or a checkpoint to fine-tune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from mixgen.encoding import tokenizer as tk
from mixgen.errors import RecipeError
from mixgen.seeding import stream
from mixgen.training.config import MixConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def build_model(config: MixConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A GPT-2 model with random weights, `depth` layers and `depth x aspect_ratio` wide.

    Args:
        config: The run's settings; `seed` names the weights.
        tokenizer: Gives the vocabulary and the special tokens.
    """
    width = -(-config.depth * config.aspect_ratio // config.head_dim) * config.head_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config.seed, "model"))
        model: PreTrainedModel = GPT2LMHeadModel._from_config(
            GPT2Config(
                vocab_size=-(-len(tokenizer) // 64) * 64,  # for GPUs' matrix units
                n_positions=config.max_seq_len,
                n_embd=width,
                n_layer=config.depth,
                n_head=width // config.head_dim,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ),
            attn_implementation=config.attn_implementation,
        )
    return model


def load_pretrained(config: MixConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The checkpoint `model_name_or_path` and its tokenizer, made ready for mixgen's conversations.

    Special tokens that the tokenizer lacks are added and the embeddings resized; the chat template
    becomes mixgen's. Dropout is off, and settings of generation but for the ids are the defaults.

    Raises:
        RecipeError: It is no causal language model that can be loaded, or its context is shorter
            than `max_seq_len`.
    """
    name = str(config.model_name_or_path)
    tokenizer = load_tokenizer(name, trust_remote_code=config.trust_remote_code)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            attn_implementation=config.attn_implementation,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(name, error) from error
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and context < config.max_seq_len:
        raise RecipeError(
            f"max_seq_len {config.max_seq_len} is above the {context} positions of {name!r}"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:  # type: ignore[operator]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(config.seed, "new embeddings"))
            model.resize_token_embeddings(len(tokenizer))
    model.generation_config = GenerationConfig()  # its penalties were for another language
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.pad_token_id = tokenizer.pad_token_id
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model, tokenizer


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, with mixgen's special tokens and chat template.

    Raises:
        RecipeError: It cannot be loaded, or is none of the fast ones.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(name, error) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise RecipeError(f"model_name_or_path {name!r} has no fast tokenizer (tokenizer.json)")
    add_chat_tokens(tokenizer)
    return tokenizer


def _not_loaded(name: str, error: Exception) -> RecipeError:
    reason = str(error).splitlines()[0]
    return RecipeError(f"model_name_or_path {name!r} cannot be loaded: {reason}")


def add_chat_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    """Gives a foreign tokenizer mixgen's special tokens and chat template."""
    tokenizer.add_special_tokens(tk.SPECIAL_ROLES)
    tokenizer.chat_template = tk.CHAT_TEMPLATE
