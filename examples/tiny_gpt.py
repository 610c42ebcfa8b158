# A small GPT with two heads: the next character, and the one after it (Gloeckle et al. 2024)
import torch
from sklearn import datasets
from torch import nn

from mtofront.problems import Problem, Split, Task


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, letters, context, width, layers, heads):
        super().__init__()
        self.letter = nn.Embedding(letters, width)
        self.place = nn.Parameter(0.02 * torch.randn(context, width))
        self.layers = nn.Sequential(*[Layer(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.next, self.after = nn.Linear(width, letters), nn.Linear(width, letters)

    def forward(self, text):
        z = self.norm(self.layers(self.letter(text) + self.place))
        return self.next(z), self.after(z)


def per_letter(logits, letters):  # (B, L, V) and (B, L)
    return nn.functional.cross_entropy(logits.flatten(0, 1), letters.flatten())


def make(context=32, width=32, layers=2, heads=4, windows=800):
    loaders = datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer
    text = "".join(load().DESCR for load in (*loaders, datasets.load_digits)).lower()
    letters = sorted(set(text))
    codes = torch.tensor([letters.index(letter) for letter in text])
    codes = codes[: (len(codes) // (context + 2)) * (context + 2)].view(-1, context + 2)[:windows]
    place = torch.arange(len(codes))  # whole windows, so that no letter is in two splits
    parts = codes[place % 5 < 3], codes[place % 5 == 3], codes[place % 5 == 4]
    splits = [Split(rows[:, :-2], (rows[:, 1:-1], rows[:, 2:])) for rows in parts]
    tasks = Task("next", per_letter), Task("after", per_letter)
    shape = len(letters), context, width, layers, heads
    return Problem("tiny_gpt", tasks, *splits, model=lambda: GPT(*shape))
