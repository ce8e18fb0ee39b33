"""Makes torch_sequences.npz: what torch's recurrent and transformer layers answer with the weights of `weights.py`.

    python tests/golden/torch_sequences.py          # needs torch (2.14.1 made the file in the repository)

For each layer: its answers to sequences of unequal length, and the norm of the gradient of every weight, of the loss
that is the sum of the answers times fixed numbers, in float64.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from weights import weight

BATCH, LENGTH, WIDTH, FEATURES, HEADS = 3, 7, 6, 8, 2
LENGTHS = np.array([7, 4, 1])


def sequences(name, length=LENGTH, width=WIDTH):
    return weight(f"{name}_sequences", (length, width, BATCH)).transpose(2, 0, 1).copy()


def of_module(module, name, call):
    """{name_answer…, name_gradient_names, name_gradient_norms}; call: module -> {name: tensor}."""
    module = module.double()
    state = {key: torch.from_numpy(weight(key, tuple(x.shape))) for key, x in module.state_dict().items()}
    module.load_state_dict(state)
    answers = call(module)
    loss = sum((x * torch.from_numpy(weight(f"{key}_factor", tuple(x.shape)))).sum() for key, x in answers.items())
    loss.backward()
    norms = {key: float(p.grad.norm()) for key, p in module.named_parameters()}
    return {f"{name}_{key}": x.detach().float().numpy() for key, x in answers.items()} | {
        f"{name}_gradient_names": np.array(list(norms)),
        f"{name}_gradient_norms": np.array(list(norms.values())),
    }


def recurrent(module):
    x = torch.from_numpy(sequences("recurrent")).double()
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(LENGTHS), batch_first=True)
    answer, state = module(packed)
    answer, _ = nn.utils.rnn.pad_packed_sequence(answer, batch_first=True)
    states = state if isinstance(state, tuple) else (state,)
    return {"answer": answer, **{f"state{i}": each for i, each in enumerate(states)}}


def padding(lengths, length):
    """True where a position is padding, as torch's masks have it."""
    return torch.from_numpy(np.arange(length)[None] >= lengths[:, None])


def transformer_layers():
    source = torch.from_numpy(sequences("source", width=FEATURES)).double()
    target = torch.from_numpy(sequences("target", 5, FEATURES)).double()
    absent = padding(LENGTHS, LENGTH)
    causal = nn.Transformer.generate_square_subsequent_mask(5).double()
    made = of_module(
        nn.MultiheadAttention(FEATURES, HEADS, batch_first=True),
        "attention",
        lambda module: {"answer": module(target, source, source, key_padding_mask=absent, need_weights=False)[0]},
    )
    for norm in ("pre", "post"):
        options = {"dropout": 0.0, "batch_first": True, "norm_first": norm == "pre"}
        made |= of_module(
            nn.TransformerEncoderLayer(FEATURES, HEADS, 12, activation="relu", **options),
            f"encoder_{norm}",
            lambda module: {"answer": module(source, src_key_padding_mask=absent)},
        )
        made |= of_module(
            nn.TransformerDecoderLayer(FEATURES, HEADS, 12, activation="gelu", **options),
            f"decoder_{norm}",
            lambda module: {"answer": module(target, source, tgt_mask=causal, memory_key_padding_mask=absent)},
        )
    return made


def main():
    golden = {}
    for name, make in {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}.items():
        for bidirectional in (False, True):
            module = make(WIDTH, FEATURES, num_layers=2, bidirectional=bidirectional, batch_first=True)
            golden |= of_module(module, f"{name}{2 if bidirectional else 1}", recurrent)
    golden |= transformer_layers()
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **golden)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
