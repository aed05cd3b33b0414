"""Text that a language model makes up, for another to be trained on (Liu et al. 2023, LLM-QAT)."""

from __future__ import annotations

import numpy as np
import torch

from model.corpus import SEPARATOR
from model.mamba import MambaLanguageModel

__all__ = ["sample_text"]


@torch.no_grad()
def sample_text(model: MambaLanguageModel, *, rows: int, length: int, seed: int) -> np.ndarray:
    """Return a stream (rows length,) of tokens drawn from the model's own prediction.

    Every row begins from the zero state with a separator, as documents do in training; the stream
    is the rows one after the other. The sampling is at temperature 1, so that the text is as
    varied as the model thinks text to be.
    """
    device = model.lm_head.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    state = model.initial_state(rows)
    token = torch.full((rows,), SEPARATOR[0], device=device)  # b
    stream = torch.empty(rows, length, dtype=torch.int32, device=device)
    for position in range(length):
        probabilities = model.step(token, state).float().softmax(-1)  # b v
        token = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        stream[:, position] = token
    return stream.flatten().cpu().numpy()
