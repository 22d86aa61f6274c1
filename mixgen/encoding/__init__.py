"""Examples to rows of token ids: tokenizer, renderer, packing."""
